//! The auditor's books against the store's and against the truth outside.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::Auditor;
use crate::{
    clock::Timestamp,
    engine::{Marketplace, Reconciliation, Unsettled},
    error::Error,
    ids::{AgentId, AgreementId, JobId, MarketId},
    job::HoldState,
    ledger::{Account, Finding, Transfer, TransferKind, TrialBalance},
    rail::{Landing, LegReceipt, Order, Party, RailProfile},
    store::{InstructionState, Kept as _, Key, LoggedEvent, Store, StoreError},
    testkit::world::{Place, stage::Stage},
};

/// The name under which the auditor reads the log.
const READER: &str = "auditor";

/// Holds the auditor's books against the store's, while nothing is under way. `acknowledges` says
/// whether the reader lives long enough to remember what it has read.
pub(in crate::testkit::world) async fn books(
    stage: &Stage,
    market: &Marketplace,
    acknowledges: bool,
) -> Result<(), Error> {
    let (balances, findings) = (market.trial_balance().await?, market.verify().await?);
    let mut reader = market.subscribe(READER).await?;
    let mut read = Vec::new();
    loop {
        let page = reader.next(97).await?;
        if page.is_empty() {
            break;
        }
        read.extend(page);
    }
    let acknowledged = acknowledges && reader.acknowledge().await?;
    let mut act = stage.act();
    act.auditor.check_balances(&balances, &findings);
    act.auditor.check_log(&read, acknowledged);
    act.auditor.check_effects();
    Ok(())
}

/// Reads everything that the store keeps and compares it with what was written.
pub(in crate::testkit::world) async fn store(
    stage: &Stage,
    store: &Arc<dyn Store>,
    market: MarketId,
) -> Result<(), StoreError> {
    let (keys, accounts) = {
        let auditor = &stage.act().auditor;
        let mut keys: Vec<_> = auditor.records.keys().copied().collect();
        keys.sort_unstable();
        let mut accounts: Vec<_> = auditor.entries.iter().map(|(account, count)| (*account, *count)).collect();
        accounts.sort_unstable();
        (keys, accounts)
    };
    for key in keys {
        let (found, events) = (store.load(market, key).await?, store.events_of(market, key).await?);
        let mut act = stage.act();
        act.auditor.loaded(key, found.as_ref());
        let versions_rise = events
            .windows(2)
            .all(|pair| pair[0].position < pair[1].position && pair[0].event.version <= pair[1].event.version);
        let last = events.last().map_or(0, |logged| logged.event.version);
        if !versions_rise || found.is_none_or(|stored| stored.version < last) {
            act.auditor.problem(format!("the events of {key:?} are out of order: {events:?}"));
        }
    }
    for (account, count) in accounts {
        let (mut entries, mut sum, mut after) = (0, 0, 0);
        loop {
            let page = store.history(market, account, after, 200).await?;
            let Some(last) = page.last() else { break };
            let rising = page.windows(2).all(|pair| pair[0].number < pair[1].number);
            if page[0].number <= after || !rising {
                stage.act().auditor.problem(format!("the history of {account} is out of order"));
            }
            after = last.number;
            entries += page.len() as u64;
            sum += page.iter().map(|entry| i128::from(entry.amount.minor())).sum::<i128>();
        }
        let mut act = stage.act();
        let kept = act.auditor.balance(account);
        if entries != count || sum != kept {
            act.auditor.problem(format!("{account} has {entries} entries of {sum}, written were {count} of {kept}"));
        }
    }
    Ok(())
}

impl Auditor {
    fn check_balances(&mut self, balances: &[TrialBalance], findings: &[Finding]) {
        for finding in findings {
            self.problem(format!("verify found {finding:?}"));
        }
        let mut moved = 0;
        for balance in balances {
            if balance.sum() != 0 {
                self.problem(format!("the accounts sum up to {}", balance.sum()));
            }
            moved += balance.accounts.len();
            for (account, money) in &balance.accounts {
                let kept = self.balance(*account);
                if kept != i128::from(money.minor()) {
                    self.problem(format!("{account} holds {money}, written was {kept}"));
                }
            }
        }
        if moved != self.balances.len() || balances.len() > 1 {
            self.problem(format!("{moved} accounts moved, written were {}", self.balances.len()));
        }
    }

    /// The reader goes on where it last acknowledged, and sees every event once and in order.
    fn check_log(&mut self, read: &[LoggedEvent], acknowledged: bool) {
        let expected = &self.events[self.seen..];
        let rising = read.windows(2).all(|pair| pair[0].position < pair[1].position);
        let same = read.len() == expected.len() && read.iter().zip(expected).all(|(read, event)| read.event == *event);
        let (count, due) = (read.len(), expected.len());
        if !same || !rising {
            let first = read.iter().zip(expected).find(|(read, event)| read.event != **event);
            let first = format!("{first:?}");
            self.problem(format!("the reader saw {count} events, written were {due}; the first that differ: {first}"));
        }
        if acknowledged {
            self.seen = self.events.len();
        }
    }

    /// Nobody is paid twice, whatever the books say.
    fn check_effects(&mut self) {
        let mut settled = HashMap::new();
        let mut problems = Vec::new();
        for id in &self.instructions {
            let Some(record) = self.instruction(*id) else { continue };
            let times = self.outside(record.rail).map_or(0, |outside| outside.effects(*id).times);
            if times > 1 {
                problems.push(format!("instruction {id} took effect {times} times"));
            }
            let what = match record.instruction.order {
                _ if times == 0 => continue,
                Order::Fund { .. } => "funded",
                Order::Settle { .. } => "divided",
                Order::Payout { .. } | Order::Reverse { .. } | Order::Refund { .. } => continue,
            };
            if let Some(other) = settled.insert((record.instruction.contract, what), *id) {
                problems.push(format!("a job was {what} by instruction {other} and again by {id}"));
            }
        }
        for books in self.places.iter().filter_map(|place| Some(place.outside.as_ref()?.books())) {
            if books.came_in != books.in_holds + books.free + books.went_out + books.costs {
                problems.push(format!("the world outside lost money: {books:?}"));
            }
        }
        self.problems.extend(problems);
    }

    /// Nothing may be left open at the end but what a lie explains.
    pub(in crate::testkit::world) fn check_settled(&mut self, unsettled: &[Unsettled]) {
        for open in unsettled {
            let what = match open {
                Unsettled::Instruction(record) if lied(&record.state) => continue,
                Unsettled::Instruction(record) => format!("{record:?}"),
                Unsettled::Refused(observed) => format!("{observed:?}"),
            };
            self.problem(format!("left open: {} {what}", open.why()));
        }
        let mut waiting = self.lied_payouts();
        for record in self.instructions.iter().filter_map(|id| self.instruction(*id)).filter(|r| lied(&r.state)) {
            let contract = record.instruction.contract;
            let hold = self.job(JobId(contract)).map(|job| job.hold.state);
            let hold = hold.or_else(|| self.agreement(AgreementId(contract)).map(|agreement| agreement.hold.state));
            if let (Order::Settle { legs, .. }, Some(HoldState::Settling(_))) = (&record.instruction.order, hold) {
                let agents = legs.iter().filter(|leg| leg.to != Party::Platform);
                waiting += agents.map(|leg| i128::from(leg.amount.minor())).sum::<i128>();
            }
            match &record.instruction.order {
                Order::Refund { amount, .. } => waiting += i128::from(amount.minor()),
                Order::Reverse { amount, .. } => waiting -= i128::from(amount.minor()),
                _ => {}
            }
        }
        let on_the_way: i128 = self
            .balances
            .iter()
            .filter(|(account, _)| matches!(account, Account::Pending(_) | Account::Clearing(_)))
            .map(|(_, balance)| *balance)
            .sum();
        if on_the_way != waiting {
            self.problem(format!("{on_the_way} is on its way, explained are {waiting}"));
        }
    }

    /// At the end the books are the truth outside, but for what a lie explains.
    pub(in crate::testkit::world) fn check_place(&mut self, place: &Place, books: &Reconciliation) {
        let Place { profile, outside: Some(outside) } = place else { return };
        let mut truth = self.by_the_books(profile);
        let mut held = -self.balance(Account::Rail(profile.id));
        for record in self.instructions.iter().filter_map(|id| self.instruction(*id)) {
            let effects = outside.effects(record.instruction.id);
            if record.rail != profile.id || !lied(&record.state) || effects.times == 0 {
                continue;
            }
            // What a liar did is not in the books; it explains the difference to the unit.
            match &record.instruction.order {
                // Nobody could say so of a hold that nobody knew of.
                Order::Fund { hold, .. } if outside.hold(*hold).is_none() => {}
                Order::Fund { payer, amount, .. } => {
                    *truth.entry(Some(*payer)).or_default() -= i128::from(amount.minor());
                    held += i128::from(amount.minor());
                }
                Order::Settle { .. } => {
                    for LegReceipt { to, amount, landing, .. } in effects.legs {
                        if landing == Landing::Outside {
                            let agent =
                                if let Party::Buyer(agent) | Party::Worker(agent) = to { Some(agent) } else { None };
                            *truth.entry(agent).or_default() += i128::from(amount.minor());
                            held -= i128::from(amount.minor());
                        }
                    }
                }
                Order::Payout { agent, amount, .. } | Order::Refund { payer: agent, amount, .. } => {
                    *truth.entry(Some(*agent)).or_default() += i128::from(amount.minor());
                    held -= i128::from(amount.minor());
                }
                Order::Reverse { agent, amount, .. } => {
                    *truth.entry(Some(*agent)).or_default() -= i128::from(amount.minor());
                    held += i128::from(amount.minor());
                }
            }
        }
        let booked_costs = -self.balance(Account::Cost(profile.id));
        held -= outside.books().costs - booked_costs; // costs of lying receipts
        if i128::from(books.held.minor()) != held {
            self.problem(format!("the rail holds {}, explained are {held}: {books:?}", books.held));
        }
        let mut real: BTreeMap<Option<AgentId>, i128> =
            outside.everybody_outside().into_iter().map(|(agent, minor)| (Some(agent), minor)).collect();
        real.insert(None, outside.platform_outside());
        truth.retain(|_, minor| *minor != 0);
        real.retain(|_, minor| *minor != 0);
        if truth != real {
            self.problem(format!("outside everybody has {real:?}, by the books {truth:?}"));
        }
    }

    /// What everybody (`None` is the platform) has outside, as the movements over the rail's account
    /// say.
    fn by_the_books(&self, profile: &RailProfile) -> BTreeMap<Option<AgentId>, i128> {
        let mut outside = BTreeMap::new();
        let rail = Account::Rail(profile.id);
        let over = |transfer: &Transfer| transfer.debit() == rail || transfer.credit() == rail;
        for (contract, transfer) in self.crossings.iter().filter(|(_, transfer)| over(transfer)) {
            let (buyer, worker) = self.parties(*contract);
            let (agent, sign) = match (transfer.debit(), transfer.credit()) {
                (debit, Account::Available(agent)) if debit == rail => (Some(agent), -1),
                // What the worker had got was fetched back.
                (debit, Account::Clearing(_)) if debit == rail => (worker, -1),
                (debit, _) if debit == rail => (buyer, -1),
                // The rail gave the whole hold back to its payer, whoever was to have a share.
                _ if transfer.kind() == TransferKind::Reversal => (buyer, 1),
                (Account::Pending(agent), _) => (Some(agent), 1),
                (Account::Clearing(_) | Account::Escrow(_) | Account::Contested(_), _) => (buyer, 1),
                (Account::Treasury(_), _) => (None, 1),
                _ => continue, // a cost
            };
            *outside.entry(agent).or_default() += sign * i128::from(transfer.amount().minor());
        }
        outside
    }

    /// Who pays for a contract and who works for it.
    fn parties(&self, contract: uuid::Uuid) -> (Option<AgentId>, Option<AgentId>) {
        match (self.job(JobId(contract)), self.agreement(AgreementId(contract))) {
            (Some(job), _) => (Some(job.buyer), job.worker),
            (None, Some(agreement)) => (Some(agreement.buyer), Some(agreement.seller)),
            (None, None) => (None, None),
        }
    }

    /// Whether a rail has ever lied about a contract.
    pub(in crate::testkit::world) fn ever_lied_to(&self, contract: uuid::Uuid) -> bool {
        self.lied.contains(&contract)
    }

    /// Whether a job's money is at a rail that lied about it.
    pub(in crate::testkit::world) fn lied_to(&self, job: JobId) -> bool {
        self.unfinished.iter().filter_map(|id| self.instruction(*id)).any(|record| {
            record.instruction.contract == job.0 && matches!(record.state, InstructionState::Mismatch { .. })
        })
    }

    /// When something is due next, and what: a timer, an instruction, a webhook.
    pub(in crate::testkit::world) fn next_due(&self) -> Option<(Timestamp, Key)> {
        let due = |key: Key, at: Option<Timestamp>| at.map(|at| (at, key));
        let jobs = self.open.iter().filter_map(|id| self.job(*id)).filter_map(|job| due(job.key(), job.due_at()));
        let instructions = self.unfinished.iter().filter_map(|id| self.instruction(*id));
        let instructions = instructions.filter_map(|record| due(record.key(), record.due_at()));
        let disputes = self.disputes().filter_map(|dispute| due(dispute.key(), dispute.due_at()));
        let agreements = self.agreements().filter_map(|agreement| due(agreement.key(), agreement.due_at()));
        jobs.chain(instructions).chain(disputes).chain(agreements).chain(self.to_be_sent()).min()
    }
}

/// Whether the rail's answer was another than what was asked for.
const fn lied(state: &InstructionState) -> bool {
    matches!(state, InstructionState::Mismatch { .. })
}
