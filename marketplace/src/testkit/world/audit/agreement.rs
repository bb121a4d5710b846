//! What the auditor checks of usage agreements: their life, every unit that counts, and who gets what.

use super::{
    Auditor,
    sums::{Shares, share},
};
use crate::{
    actor::Actor,
    agreement::{
        Agreement, AgreementEvent, AgreementStatus, AgreementTerms, ExpiryCause, SettlementStatus,
        chain::{self, CallProof},
    },
    clock::Timestamp,
    hold::{HoldEvent, HoldState},
    ids::{AgreementId, JobId},
    ledger::{Account, RevenueKind},
    money::{Rate, Rounding},
    policy::{Bearer, FeeRate, Policy},
    rail::{Order, Party},
    store::{Commit, Event, EventBody, InstructionState, Key, Kind, Record},
    testkit::world::metered::Meter,
};

impl Auditor {
    /// The agreements that are not over, oldest id first.
    pub(in crate::testkit::world) fn agreements(&self) -> impl Iterator<Item = &Agreement> {
        self.metered.iter().filter_map(|id| self.agreement(*id))
    }

    pub(super) fn agreement(&self, id: AgreementId) -> Option<&Agreement> {
        match self.records.get(&Key { kind: Kind::Agreement, id: id.0 }).map(|kept| &kept.record) {
            Some(Record::Agreement(agreement)) => Some(agreement),
            _ => None,
        }
    }

    /// The agreements with money on the way, but for what a rail lied about.
    pub(in crate::testkit::world) fn left_metered(&self) -> Vec<String> {
        let under_way = |agreement: &&Agreement| {
            matches!(agreement.hold.state, HoldState::Funding(_) | HoldState::Settling(_))
                && !self.lied_to(JobId(agreement.id.0))
        };
        self.agreements().filter(under_way).map(|agreement| format!("{agreement:?}")).collect()
    }

    pub(super) fn agreement_written(&mut self, before: Option<&Agreement>, agreement: &Agreement, commit: &Commit) {
        let Some(policy) = self.policies.get(&agreement.policy).cloned() else {
            return self.problem(format!("agreement {} is pinned to a policy that nobody set", agreement.id));
        };
        let mut found = Vec::new();
        if !may_become(before.map(|before| before.status), agreement.status) {
            found.push("that does not follow".to_owned());
        }
        match before {
            None => self.check_proposal(agreement, &policy, &mut found),
            Some(before) => check_pinned(before, agreement, &mut found),
        }
        for event in commit.events.iter().filter(|event| event.subject.id == agreement.id.0) {
            let EventBody::Agreement(told) = &event.body else { continue };
            if !self.may_be(before, agreement, told, event, &policy, commit) {
                found.push(format!("{told:?} by {} may not be so", event.actor));
            }
        }
        self.check_use(before, agreement, commit, &mut found);
        self.check_deposit(before, agreement, commit, &mut found);
        for problem in found {
            let id = agreement.id;
            self.problem(format!(
                "agreement {id}: {problem}; before {before:?}, after {agreement:?}, {:?}",
                commit.events
            ));
        }
        match agreement.status.is_final() && matches!(agreement.hold.state, HoldState::Empty | HoldState::Settled) {
            true => _ = self.metered.remove(&agreement.id),
            false => _ = self.metered.insert(agreement.id),
        }
    }

    /// What is to be reserved follows from the pinned policy.
    fn check_proposal(&self, agreement: &Agreement, policy: &Policy, found: &mut Vec<String>) {
        let AgreementTerms { quantity, unit_price, rate, deposit, bearer, .. } = &agreement.terms;
        let total = i128::from(*quantity) * i128::from(unit_price.minor());
        let tier = self.tiers.of(agreement.seller).unwrap_or_else(|| policy.initial_tier().into());
        let due = match &policy.fees.rate {
            FeeRate::Flat(rate) => *rate,
            FeeRate::ByTier(rates) => rates.get(&tier).copied().unwrap_or(Rate::ZERO),
        };
        let fee = match bearer {
            Bearer::Buyer => share(total, *rate, Rounding::Down),
            Bearer::Worker => 0,
        };
        let right = *rate == due && *bearer == policy.fees.bearer && i128::from(deposit.minor()) == total + fee;
        if !right || total <= 0 || agreement.buyer == agreement.seller {
            found.push(format!("{total} at {due} was to be reserved"));
        }
    }

    /// Whether an event may be: who, when, and how much by the auditor's own arithmetic.
    fn may_be(
        &self,
        before: Option<&Agreement>,
        agreement: &Agreement,
        told: &AgreementEvent,
        event: &Event,
        policy: &Policy,
        commit: &Commit,
    ) -> bool {
        let actor = &event.actor;
        let (buyer, seller) = (actor.agent() == Some(agreement.buyer), actor.agent() == Some(agreement.seller));
        let (operator, timer) = (actor.operator().is_some(), *actor == Actor::Timer);
        let rail = *actor == Actor::Rail(agreement.rail);
        let over = |at: Option<Timestamp>| at.is_some_and(|at| at <= commit.at);
        let Some(before) = before else { return matches!(told, AgreementEvent::Proposed { .. }) && buyer };
        let final_at = final_at(before);
        match told {
            AgreementEvent::Proposed { .. } => false,
            AgreementEvent::Accepted { .. } | AgreementEvent::Rejected { .. } => {
                seller && !over(before.timers.answer_by)
            }
            AgreementEvent::Cancelled { .. } => buyer && !over(before.timers.answer_by),
            AgreementEvent::ActivationSubmitted { .. } => buyer && !over(before.timers.activate_by),
            AgreementEvent::Activated { deposit, .. } => {
                (buyer || rail) && *deposit == agreement.terms.deposit && agreement.hold.state == HoldState::Held
            }
            AgreementEvent::UsageRecorded { units, total, .. } => {
                (seller || operator)
                    && !over(before.timers.expires_at)
                    && !over(final_at)
                    && !over(before.timers.hold_until)
                    && *units > 0
                    && before.usage.units + units == *total
            }
            AgreementEvent::ReceiptSubmitted { units, .. } => {
                let known = before.receipt.as_ref().map_or(0, |receipt| receipt.units);
                (buyer || seller || operator) && !over(final_at) && !over(before.timers.hold_until) && *units > known
            }
            AgreementEvent::CloseInitiated { final_at: at, .. } => {
                let window = agreement.terms.challenge_window.delta();
                let latest = before.terms.expiry + window;
                match timer {
                    true => over(before.timers.expires_at) && *at == latest,
                    false => (buyer || seller) && !over(final_at) && *at == latest.min(commit.at + window),
                }
            }
            AgreementEvent::Disputed { .. } => {
                (buyer || seller) && before.status == AgreementStatus::Active && !over(final_at)
            }
            AgreementEvent::Ruled { earned, .. } => {
                let most = i128::from(before.terms.quantity) * i128::from(before.terms.unit_price.minor());
                operator
                    && before.status == AgreementStatus::Disputed
                    && !over(final_at)
                    && (0..=most).contains(&i128::from(earned.minor()))
            }
            AgreementEvent::CloseFinalized { earned, .. } => {
                let units = match &before.terms.receipt_signer {
                    Some(_) => before.receipt.as_ref().map_or(0, |receipt| receipt.units),
                    None => before.usage.units,
                };
                let admitted = units.max(before.usage.units);
                let ruled = commit.events.iter().find_map(|event| match &event.body {
                    EventBody::Agreement(AgreementEvent::Ruled { earned, .. }) => Some(*earned),
                    _ => None,
                });
                let worth = |units: i64| i128::from(units) * i128::from(before.terms.unit_price.minor());
                let minor = i128::from(earned.minor());
                let by_time = over(final_at) || over(before.timers.hold_until);
                match ruled {
                    Some(ruled) => ruled == *earned,
                    // The buyer admits what is recorded at any time; both are right when they are the same.
                    None if buyer && minor == worth(admitted) => true,
                    None => by_time && minor == worth(units) && (timer || buyer || seller),
                }
            }
            AgreementEvent::Completed { .. } => true, // with the event before
            AgreementEvent::Expired { cause, .. } => match cause {
                ExpiryCause::Unanswered => timer && over(before.timers.answer_by),
                ExpiryCause::NotActivated => timer && over(before.timers.activate_by),
                ExpiryCause::NothingUsed => true, // with the event before
                ExpiryCause::HoldExpired | ExpiryCause::Chargeback => rail,
            },
            AgreementEvent::ActionRequired { .. }
            | AgreementEvent::ActivationFailed { .. }
            | AgreementEvent::SettlementFailed { .. }
            | AgreementEvent::EscrowLost { .. }
            | AgreementEvent::EscrowReturned { .. }
            | AgreementEvent::FeeFailed { .. }
            | AgreementEvent::Frozen {}
            | AgreementEvent::Unfrozen {} => rail,
            AgreementEvent::Hold(HoldEvent::DebtRepaid { .. }) => rail || buyer || seller || operator || timer,
            AgreementEvent::Hold(_) => rail,
            AgreementEvent::ClaimCompleted { .. }
            | AgreementEvent::WithdrawCompleted { .. }
            | AgreementEvent::FeeCollected { .. } => rail || policy.agreements.is_some(),
        }
    }

    /// Every recorded unit has its place in the chain, every receipt is the meter's.
    fn check_use(&self, before: Option<&Agreement>, agreement: &Agreement, commit: &Commit, found: &mut Vec<String>) {
        let Some(before) = before else { return };
        if agreement.usage != before.usage {
            let name = format!("usage/{}", agreement.usage.parts);
            let document = commit.documents.iter().find(|doc| doc.subject == agreement.id.0 && doc.name == name);
            let proofs = document.and_then(|document| serde_json::from_str::<Vec<CallProof>>(&document.body).ok());
            let proven = proofs.and_then(|proofs| chain::verify(agreement.id, before.head(), &proofs).ok());
            let right = proven.is_some_and(|proven| {
                proven.head == agreement.head() && before.usage.units + proven.units == agreement.usage.units
            });
            if !right || agreement.usage.units > agreement.terms.quantity {
                found.push(format!("{proven:?} was recorded"));
            }
        }
        if agreement.receipt != before.receipt {
            let right = agreement.receipt.as_ref().is_some_and(|receipt| {
                receipt.signature == Meter::sign(agreement, receipt.units, receipt.proof)
                    && receipt.units <= agreement.terms.quantity
            });
            if !right || agreement.terms.receipt_signer.is_none() {
                found.push("its receipt is nobody's".into());
            }
        }
    }

    /// Every unit that this commit reserves for the agreement and gives away for it.
    fn check_deposit(
        &self,
        before: Option<&Agreement>,
        agreement: &Agreement,
        commit: &Commit,
        found: &mut Vec<String>,
    ) {
        let hold = Account::Escrow(agreement.id.into());
        let (per_hold, rail) = (self.holds_apart(agreement.rail), Account::Rail(agreement.rail));
        let (to_seller, to_buyer, payer) = match per_hold {
            true => (Account::Pending(agreement.seller), Account::Clearing(agreement.rail), rail),
            false => {
                let buyer = Account::Available(agreement.buyer);
                (Account::Available(agreement.seller), buyer, buyer)
            }
        };
        let (mut taken, mut given, mut lost, mut repaid) = (0, Shares::default(), 0, 0);
        for transfer in commit.movement.transfers() {
            let minor = i128::from(transfer.amount().minor());
            if transfer.credit() == hold {
                taken += minor;
                if transfer.debit() != payer {
                    found.push(format!("{} paid for it", transfer.debit()));
                }
            }
            if transfer.debit() == hold {
                match transfer.credit() {
                    Account::Revenue(RevenueKind::Fees) => given.platform += minor,
                    account if account == to_seller => given.worker += minor,
                    account if account == to_buyer => given.buyer += minor,
                    // The seller's all the same.
                    account if account == Account::Debt(agreement.seller) => {
                        given.worker += minor;
                        repaid += minor;
                    }
                    account if account == rail => lost += minor,
                    account => found.push(format!("{account} was given {minor}")),
                }
            }
        }
        let deposit = i128::from(agreement.terms.deposit.minor());
        let events: Vec<&AgreementEvent> = commit
            .events
            .iter()
            .filter(|event| event.subject.id == agreement.id.0)
            .filter_map(|event| match &event.body {
                EventBody::Agreement(event) => Some(event),
                _ => None,
            })
            .collect();
        let told = |is: fn(&AgreementEvent) -> bool| events.iter().any(|event| is(event));
        let funding = before.is_some_and(|before| matches!(before.hold.state, HoldState::Funding(_)));
        let lost_at_once = funding && told(|event| matches!(event, AgreementEvent::EscrowLost { .. }));
        let returned = told(|event| matches!(event, AgreementEvent::EscrowReturned { .. }));
        let arrives = lost_at_once || returned || told(|event| matches!(event, AgreementEvent::Activated { .. }));
        if taken != if arrives { deposit } else { 0 } {
            found.push(format!("{taken} was taken, to be reserved were {deposit}"));
        }
        let ended = events.iter().find_map(|event| match event {
            AgreementEvent::CloseFinalized { earned, .. } => Some(i128::from(earned.minor())),
            _ => None,
        });
        let held = before.is_some_and(|before| before.hold.state == HoldState::Held);
        let expired =
            held && told(|event| matches!(event, AgreementEvent::Expired { cause: ExpiryCause::HoldExpired, .. }));
        let due = match ended {
            Some(earned) => {
                let platform = share(earned, agreement.terms.rate, Rounding::Down);
                let worker = if agreement.terms.bearer == Bearer::Buyer { earned } else { earned - platform };
                Shares { worker, platform, buyer: deposit - worker - platform }
            }
            None if returned => Shares { buyer: deposit, ..Shares::default() },
            None => Shares::default(),
        };
        let due_lost = if lost_at_once || expired { deposit } else { 0 };
        if given != due || lost != due_lost {
            found.push(format!("{given:?} was given and {lost} lost, due are {due:?} and {due_lost}"));
        }
        self.check_withheld((agreement.seller, agreement.rail), commit, given.worker, repaid, found);
        let left = if agreement.hold.state == HoldState::Held { deposit } else { 0 };
        if self.balance(hold) != left {
            found.push(format!("{} is reserved, due is {left}", self.balance(hold)));
        }
        let asked = Shares { worker: due.worker - repaid, platform: due.platform + repaid, ..due };
        self.check_orders(agreement, commit, deposit, asked, found);
    }

    /// New instructions ask for exactly what the books say.
    fn check_orders(
        &self,
        agreement: &Agreement,
        commit: &Commit,
        deposit: i128,
        due: Shares,
        found: &mut Vec<String>,
    ) {
        for write in &commit.writes {
            let Record::Instruction(record) = &write.record else { continue };
            if write.expected > 0 || record.instruction.contract != agreement.id.0 {
                continue;
            }
            let order = &record.instruction.order;
            let right = match order {
                Order::Fund { payer, amount, .. } => *payer == agreement.buyer && i128::from(amount.minor()) == deposit,
                Order::Settle { legs, .. } => {
                    let mut asked = Shares::default();
                    for leg in legs {
                        let minor = i128::from(leg.amount.minor());
                        match leg.to {
                            Party::Worker(agent) if agent == agreement.seller => asked.worker += minor,
                            Party::Buyer(agent) if agent == agreement.buyer => asked.buyer += minor,
                            Party::Platform => asked.platform += minor,
                            _ => found.push(format!("a share for {:?}", leg.to)),
                        }
                    }
                    let again = commit.writes.iter().any(|other| match &other.record {
                        Record::Instruction(other) => {
                            matches!(other.state, InstructionState::Declined(_)) && other.instruction.order == *order
                        }
                        _ => false,
                    });
                    asked == due || again
                }
                _ => false,
            };
            if !right {
                found.push(format!("asked for {order:?}, due is {due:?}"));
            }
        }
    }
}

/// What was agreed stays.
fn check_pinned(before: &Agreement, agreement: &Agreement, found: &mut Vec<String>) {
    let mut terms = before.terms.clone();
    terms.seller_account.clone_from(&agreement.terms.seller_account);
    let same = before.id == agreement.id
        && (before.buyer, before.seller) == (agreement.buyer, agreement.seller)
        && before.policy == agreement.policy
        && before.rail == agreement.rail
        && before.proposed_at == agreement.proposed_at
        && terms == agreement.terms
        && before.usage.units <= agreement.usage.units;
    if !same {
        found.push("what was agreed was changed".into());
    }
}

/// When time alone ends it.
fn final_at(agreement: &Agreement) -> Option<Timestamp> {
    match agreement.settlement {
        Some(SettlementStatus::Open) => Some(agreement.terms.expiry + agreement.terms.challenge_window.delta()),
        Some(SettlementStatus::Closing) => agreement.timers.final_at,
        _ => None,
    }
}

/// Where an agreement may go from where it is, in one commit.
fn may_become(from: Option<AgreementStatus>, to: AgreementStatus) -> bool {
    use AgreementStatus::{Accepted, Active, Cancelled, Completed, Disputed, Expired, Proposed, Rejected};
    let Some(from) = from else { return to == Proposed };
    match from {
        _ if from == to => true,
        Proposed => matches!(to, Accepted | Rejected | Cancelled | Expired),
        Accepted => matches!(to, Active | Expired),
        Active => matches!(to, Completed | Disputed | Expired),
        Disputed => matches!(to, Completed | Expired),
        Rejected | Cancelled | Completed | Expired => false,
    }
}
