//! What the auditor checks of wallets: where money leaves to, what it costs, that it leaves once, and what
//! comes in.

use super::Auditor;
use crate::{
    actor::Actor,
    clock::Timestamp,
    hold::{Contest, ContestStage},
    ids::{AgentId, InstructionId},
    ledger::{Account, RevenueKind},
    policy::Switch,
    rail::{Custody, Landing, LegReceipt, ObservationBody, Order, Party, RailProfile},
    store::{Commit, EventBody, InstructionState, ObservationEvent, Observed, Record},
    wallet::{Payout, PayoutPurpose, SavedAddress, Wallet, WalletEvent},
};

/// From, to, how much.
type Moved = (Account, Account, i128);

impl Auditor {
    pub(super) fn wallet_written(&mut self, before: Option<&Wallet>, wallet: &Wallet, commit: &Commit) {
        let blank = Wallet::new(wallet.agent);
        let before = before.unwrap_or(&blank);
        let mut found = Vec::new();
        let Some(rail) = self.places.iter().map(|place| place.profile.clone()).find(holds_wallets) else {
            return self.problem(format!("a wallet where no rail holds money: {wallet:?}"));
        };
        let pinned = before.id == wallet.id
            && before.agent == wallet.agent
            && (before.emergency.is_none() || before.emergency == wallet.emergency);
        if !pinned {
            found.push("what is for ever was changed".to_owned());
        }
        let mut expected = before.clone();
        expected.emergency.clone_from(&wallet.emergency);
        if became_ready(wallet.agent, commit) {
            expected.ready_at = Some(commit.at);
        }
        let mut due: Vec<Moved> = Vec::new();
        let events = commit.events.iter().filter(|event| event.subject.id == wallet.id.0);
        for (event, actor) in events.filter_map(|event| Some((of_wallet(&event.body)?, &event.actor))) {
            let fine = self.wallet_event(before, &mut expected, event, actor, &rail, commit, &mut due);
            if !fine {
                found.push(format!("{event:?} by {actor} may not be so"));
            }
        }
        if expected != *wallet {
            found.push(format!("it was to become {expected:?}"));
        }
        let (available, pending) = (Account::Available(wallet.agent), Account::Pending(wallet.agent));
        // What a contract moves in the same commit is audited with the contract.
        let own = |(debit, credit, _): &Moved| {
            commit.contract == wallet.id.0
                || (*debit == available && [pending, Account::Debt(wallet.agent)].contains(credit))
        };
        let mut moved: Vec<Moved> = commit
            .movement
            .transfers()
            .iter()
            .map(|transfer| (transfer.debit(), transfer.credit(), i128::from(transfer.amount().minor())))
            .filter(|(debit, credit, _)| !matches!((debit, credit), (Account::Cost(_), _) | (_, Account::Cost(_))))
            .filter(own)
            .collect();
        due.retain(|(_, _, minor)| *minor != 0);
        moved.sort_unstable();
        due.sort_unstable();
        let deposit = commit.events.iter().any(|event| matches!(event.body, EventBody::Observation(_)));
        if moved != due && !deposit {
            found.push(format!("{moved:?} was moved, due is {due:?}"));
        }
        // What waits leaves when the account is there: none of the other rules holds here while nobody interferes.
        let (alone, paid) = (self.commits == self.began + 1, wallet.instructions > before.instructions);
        let could = self.balance(available) >= i128::from(rail.amounts.min.max(1))
            && self.balance(Account::Debt(wallet.agent)) == 0
            && before.payouts.len() < Wallet::PAYOUTS as usize;
        if alone && could && !paid && (became_ready(wallet.agent, commit) || kept_too_late(before, commit)) {
            found.push("what waits for an account that is ready was not paid out".to_owned());
        }
        for problem in found {
            self.problem(format!("wallet of {}: {problem}; before {before:?}, after {wallet:?}", wallet.agent));
        }
    }

    /// Whether an event may be; what the wallet becomes by it, and what moves.
    #[expect(clippy::too_many_arguments, reason = "one event and everything it is judged by")]
    fn wallet_event(
        &self,
        before: &Wallet,
        wallet: &mut Wallet,
        event: &WalletEvent,
        actor: &Actor,
        rail: &RailProfile,
        commit: &Commit,
        due: &mut Vec<Moved>,
    ) -> bool {
        let agent = wallet.agent;
        let own = *actor == Actor::Agent(agent);
        let terms = self.terms.wallet.and_then(|wallet| wallet.withdrawals);
        let (available, pending) = (Account::Available(agent), Account::Pending(agent));
        match event {
            WalletEvent::EmergencySet { address, .. } => {
                before.emergency.is_none() && wallet.emergency.as_ref().is_some_and(|saved| saved.address == *address)
            }
            WalletEvent::AddressSet { address, .. } => {
                wallet.address = Some(saved(address, commit.at));
                own && before.address.is_none()
            }
            WalletEvent::AddressChanged { address, before: old, cools_until, .. } => {
                wallet.address = Some(saved(address, commit.at));
                wallet.cools_until = Some(*cools_until);
                own && before.address.as_ref().is_some_and(|saved| saved.address == *old && old != address)
                    && terms.is_some_and(|terms| commit.at + terms.address_cool_down.delta() == *cools_until)
            }
            WalletEvent::PayoutRequested { instruction, purpose, amount, fee, to, .. } => {
                let (minor, cost) = (i128::from(amount.minor()), i128::from(fee.minor()));
                let repaid: i128 = commit
                    .movement
                    .transfers()
                    .iter()
                    .filter(|t| t.debit() == available && t.credit() == Account::Debt(agent))
                    .map(|t| i128::from(t.amount().minor()))
                    .sum();
                due.push((available, Account::Debt(agent), repaid));
                due.push((available, pending, minor));
                let payouts = &mut wallet.payouts;
                let (to_whom, asked_at) = (to.clone(), commit.at);
                payouts.push(Payout {
                    instruction: *instruction,
                    purpose: *purpose,
                    amount: *amount,
                    fee: *fee,
                    to: to_whom,
                    asked_at,
                });
                wallet.instructions += 1;
                let asked = commit.writes.iter().find_map(|write| match &write.record {
                    Record::Instruction(record) if record.instruction.id == *instruction && write.expected == 0 => {
                        Some(&record.instruction.order)
                    }
                    _ => None,
                });
                let orders = matches!(asked, Some(Order::Payout { agent: whose, destination, amount: net })
                    if *whose == agent && destination == to && i128::from(net.minor()) == minor - cost);
                let has = self.balance(available) + minor;
                let owes = -self.balance(Account::Debt(agent));
                // A debt comes first, as far as there is money for it.
                let stood = self.owed_since.get(&agent).is_none_or(|since| *since <= self.began);
                let repays = owes == 0 || (!stood) || has == 0;
                let most = has.min(i128::from(rail.amounts.max));
                let alone = self.commits == self.began + 1;
                let fits = match purpose {
                    PayoutPurpose::Withdrawal => terms.is_some_and(|terms| {
                        own && *to == before.address.as_ref().map(|saved| saved.address.clone())
                            && before.cools_until.is_none_or(|until| until <= commit.at)
                            && minor >= i128::from(terms.min)
                            && cost == i128::from(terms.fee)
                    }),
                    PayoutPurpose::Panic => terms.is_some_and(|terms| {
                        (own || actor.operator().is_some())
                            && terms.panic == Switch::On
                            && *to == before.emergency.as_ref().map(|saved| saved.address.clone())
                            && cost == 0
                            && (minor == most || !alone)
                    }),
                    PayoutPurpose::Earnings => {
                        let by_itself = *actor == Actor::Rail(rail.id)
                            && (became_ready(agent, commit) || kept_too_late(before, commit));
                        (own || actor.operator().is_some() || by_itself)
                            && to.is_none()
                            && cost == 0
                            && (minor == most || !alone)
                    }
                };
                orders && repays && fits && *instruction == wallet_instruction(before)
            }
            WalletEvent::ActionRequired { instruction, .. } => {
                *actor == Actor::Rail(rail.id) && before.payouts.iter().any(|p| p.instruction == *instruction)
            }
            WalletEvent::PaidOut { instruction, amount, fee, .. } => {
                let Some(payout) = take(wallet, *instruction) else { return false };
                let (gave, cost) = (i128::from(payout.amount.minor()), i128::from(payout.fee.minor()));
                due.push((pending, Account::Rail(rail.id), gave - cost));
                due.push((pending, Account::Revenue(RevenueKind::Withdrawals), cost));
                *actor == Actor::Rail(rail.id)
                    && *fee == payout.fee
                    && i128::from(amount.minor()) == gave - cost
                    && became(commit, *instruction, |state| matches!(state, InstructionState::Done(_)))
            }
            WalletEvent::PayoutFailed { instruction, amount, .. } => {
                let Some(payout) = take(wallet, *instruction) else { return false };
                due.push((pending, available, i128::from(payout.amount.minor())));
                *actor == Actor::Rail(rail.id)
                    && *amount == payout.amount
                    && became(commit, *instruction, |state| matches!(state, InstructionState::Declined(_)))
            }
        }
    }

    /// Money came in once, and a debt is repaid from it first.
    pub(super) fn deposit_written(&mut self, observed: &Observed, commit: &Commit) {
        let told = commit.events.iter().find_map(|event| match &event.body {
            EventBody::Observation(ObservationEvent::Deposited { agent, amount, .. }) => Some((*agent, *amount)),
            _ => None,
        });
        let Some((agent, amount)) = told else { return };
        let minor = i128::from(amount.minor());
        let repaid: i128 = commit
            .movement
            .transfers()
            .iter()
            .filter(|transfer| transfer.credit() == Account::Debt(agent))
            .map(|transfer| i128::from(transfer.amount().minor()))
            .sum();
        let owed = repaid - self.balance(Account::Debt(agent));
        let stood = self.owed_since.get(&agent).is_none_or(|since| *since <= self.began);
        let mut due = vec![
            (Account::Rail(observed.rail), Account::Available(agent), minor),
            (Account::Available(agent), Account::Debt(agent), repaid),
        ];
        due.retain(|(_, _, minor)| *minor > 0);
        let moved: Vec<Moved> = commit
            .movement
            .transfers()
            .iter()
            .map(|transfer| (transfer.debit(), transfer.credit(), i128::from(transfer.amount().minor())))
            .collect();
        if minor <= 0 || moved != due || repaid > owed.min(minor) || (stood && repaid != owed.min(minor)) {
            self.problem(format!("a deposit of {minor} moved {moved:?}, with a debt of {owed}"));
        }
    }

    /// What waits in wallets for payouts that a rail has lied about.
    pub(super) fn lied_payouts(&self) -> i128 {
        let lied = |id| self.instruction(id).is_some_and(|r| matches!(r.state, InstructionState::Mismatch { .. }));
        let wallets = self.records.values().filter_map(|kept| match &kept.record {
            Record::Wallet(wallet) => Some(wallet),
            _ => None,
        });
        let payouts = wallets.flat_map(|wallet| &wallet.payouts).filter(|payout| lied(payout.instruction));
        payouts.map(|payout| i128::from(payout.amount.minor())).sum()
    }

    /// The wallets that money is on its way out of.
    pub(in crate::testkit::world) fn paying(&self) -> Vec<AgentId> {
        let wallets = self.records.values().filter_map(|kept| match &kept.record {
            Record::Wallet(wallet) => Some(wallet),
            _ => None,
        });
        let lied = |id| self.instruction(id).is_some_and(|r| matches!(r.state, InstructionState::Mismatch { .. }));
        let mut paying: Vec<AgentId> = wallets
            .filter(|wallet| wallet.payouts.iter().any(|payout| !lied(payout.instruction)))
            .map(|wallet| wallet.agent)
            .collect();
        paying.sort_unstable();
        paying
    }
}

/// Whether a rail tells in this commit that an agent's account takes money.
fn became_ready(whose: AgentId, commit: &Commit) -> bool {
    commit.writes.iter().any(|write| match &write.record {
        Record::Observation(observed) => observed.observation.body == ObservationBody::AccountReady { agent: whose },
        _ => false,
    })
}

/// Whether a share is kept in this commit that was asked for before the account was ready, and is nobody else's.
fn kept_too_late(wallet: &Wallet, commit: &Commit) -> bool {
    let open = |contest: &Contest| matches!(contest.stage, ContestStage::Open { .. });
    let contested = commit.writes.iter().any(|write| match &write.record {
        Record::Job(job) => job.returns.chargebacks.iter().any(open),
        Record::Agreement(agreement) => agreement.returns.chargebacks.iter().any(open),
        _ => false,
    });
    if contested {
        return false;
    }
    let of_wallet = |leg: &LegReceipt| leg.to == Party::Worker(wallet.agent) && leg.landing == Landing::Held;
    commit.writes.iter().any(|write| match &write.record {
        Record::Instruction(record) => match &record.state {
            InstructionState::Done(receipt) if receipt.legs.iter().any(of_wallet) => {
                wallet.ready_at.is_some_and(|ready_at| ready_at >= record.given_at)
            }
            _ => false,
        },
        _ => false,
    })
}

fn holds_wallets(rail: &RailProfile) -> bool {
    rail.custody != Custody::NonCustodial
}

fn wallet_instruction(before: &Wallet) -> InstructionId {
    InstructionId::derive(before.id.0, before.instructions)
}

fn saved(address: &str, since: Timestamp) -> SavedAddress {
    SavedAddress { address: address.into(), since }
}

fn take(wallet: &mut Wallet, instruction: InstructionId) -> Option<Payout> {
    let place = wallet.payouts.iter().position(|payout| payout.instruction == instruction)?;
    Some(wallet.payouts.remove(place))
}

/// Whether the commit leaves an instruction so.
fn became(commit: &Commit, id: InstructionId, is: impl Fn(&InstructionState) -> bool) -> bool {
    commit.writes.iter().any(|write| match &write.record {
        Record::Instruction(record) => record.instruction.id == id && is(&record.state),
        _ => false,
    })
}

const fn of_wallet(body: &EventBody) -> Option<&WalletEvent> {
    match body {
        EventBody::Wallet(event) => Some(event),
        _ => None,
    }
}
