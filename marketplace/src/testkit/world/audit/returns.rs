//! What the auditor checks of money that goes back after it came in: chargebacks, and refunds of what was
//! paid out.

use super::{Auditor, of_job, sums::Shares};
use crate::{
    hold::{ContestStage, HoldEvent},
    job::{HoldState, Job, JobEvent},
    ledger::{Account, RevenueKind},
    policy::{LossBearer, Policy},
    rail::{Landing, LegReceipt, Order, Party},
    store::{Commit, InstructionState, Record},
};

/// What goes back by a commit, and from whom by the contract's own rates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Back {
    amount: i128,
    worker: i128,
    platform: i128,
    buyer: i128,
    /// What nobody got.
    beyond: i128,
}

impl Back {
    /// First the payer who was given it already, then worker and platform in proportion.
    fn of(amount: i128, got: Shares) -> Self {
        let buyer = amount.min(got.buyer);
        let both = got.worker + got.platform;
        let shared = (amount - buyer).min(both);
        let worker = if both == 0 { 0 } else { shared * got.worker / both };
        Self { amount, worker, platform: shared - worker, buyer, beyond: amount - buyer - shared }
    }
}

impl Auditor {
    /// What a job's hold has given, as far as it can go back; `given` was divided by this commit.
    pub(super) fn note_got(&mut self, before: Option<&Job>, job: &Job, given: Shares, commit: &Commit) {
        let settled = job.hold.state == HoldState::Settled;
        let was = before.is_some_and(|before| before.hold.state == HoldState::Settled);
        if !settled || was {
            return;
        }
        let mut got = match self.holds_apart(job.rail) {
            false => Shares { buyer: 0, ..given },
            true => Shares::default(),
        };
        for write in &commit.writes {
            let Record::Instruction(record) = &write.record else { continue };
            let (Order::Settle { .. }, InstructionState::Done(receipt)) = (&record.instruction.order, &record.state)
            else {
                continue;
            };
            for LegReceipt { to, amount, landing, .. } in &receipt.legs {
                let minor = i128::from(amount.minor());
                match to {
                    Party::Worker(_) => got.worker += minor,
                    Party::Platform => got.platform += minor,
                    Party::Buyer(_) if *landing == Landing::Held => got.buyer += minor,
                    Party::Buyer(_) => {}
                }
            }
            // What was kept for the worker's debt came to the platform, and was the worker's all the same.
            let kept = before.and_then(|before| before.hold.repaid).map_or(0, |repaid| i128::from(repaid.minor()));
            got.worker += kept;
            got.platform -= kept;
        }
        self.got.insert(job.id, got);
    }

    /// Every unit that this commit takes back.
    pub(super) fn check_returns(
        &mut self,
        before: Option<&Job>,
        job: &Job,
        commit: &Commit,
        policy: &Policy,
        found: &mut Vec<String>,
    ) {
        let contested = Account::Contested(job.rail);
        let moved = |debit: &dyn Fn(Account) -> bool, credit: &dyn Fn(Account) -> bool| -> i128 {
            let transfers = commit.movement.transfers().iter();
            let fits = transfers.filter(|transfer| debit(transfer.debit()) && credit(transfer.credit()));
            fits.map(|transfer| i128::from(transfer.amount().minor())).sum()
        };
        let rail = Account::Rail(job.rail);
        let (mut opened, mut won, mut lost, mut refunded) = (0, 0, Back::default(), Back::default());
        let held = before.is_some_and(|before| matches!(before.hold.state, HoldState::Held | HoldState::Funding(_)));
        let refused = before.and_then(|before| refused_shares(before, commit));
        let declined = refused.is_some();
        let mut got = refused.or_else(|| self.got.get(&job.id).copied()).unwrap_or_default();
        let mut borne = 0;
        for event in commit.events.iter().filter(|event| event.subject.id == job.id.0).filter_map(of_job) {
            match event {
                JobEvent::Hold(HoldEvent::ChargebackOpened { amount, .. }) => opened += i128::from(amount.minor()),
                JobEvent::Hold(HoldEvent::ChargebackWon { amount, .. }) => won += i128::from(amount.minor()),
                JobEvent::Hold(HoldEvent::ChargebackLost { amount, worker, platform, buyer, .. }) => {
                    let amount = i128::from(amount.minor());
                    let back = match held {
                        true => Back { amount, ..Back::default() }, // it is still in the hold
                        false => Back::of(amount, got),
                    };
                    let bears = self.bears(policy);
                    let told = (i128::from(worker.minor()), i128::from(platform.minor()), i128::from(buyer.minor()));
                    let due = match held {
                        true => told, // checked with the hold
                        // Shares that nobody got yet shrink, whoever bears what was paid.
                        false if declined => (back.worker, back.platform, back.buyer),
                        false if bears => (back.worker, back.platform + back.beyond, back.buyer),
                        false => (0, back.amount - back.buyer, back.buyer),
                    };
                    if told != due {
                        found.push(format!("{amount} went back, told was {told:?}, due is {due:?} of {got:?}"));
                    }
                    lost.add(back);
                    got.take(back);
                }
                JobEvent::Hold(HoldEvent::RefundedAfterPayout { amount, worker, .. }) => {
                    let back = Back::of(i128::from(amount.minor()), Shares { buyer: 0, ..got });
                    let due = if self.bears(policy) { back.worker } else { 0 };
                    if back.beyond > 0 || i128::from(worker.minor()) != due {
                        found.push(format!("{amount} of {got:?} was given back, the worker gave {worker}"));
                    }
                    refunded.add(back);
                    got.take(back);
                }
                JobEvent::Hold(HoldEvent::Owed { borne: minor, .. }) => borne += i128::from(minor.minor()),
                JobEvent::Hold(HoldEvent::Kept { amount, .. }) => got.buyer += i128::from(amount.minor()),
                _ => {}
            }
        }
        self.got.insert(job.id, got);
        let taken = moved(&|debit| debit == contested, &|credit| credit == rail);
        let returned = moved(&|debit| debit == rail, &|credit| credit == contested);
        // One that is lost before it was known waits, untold, for the division that is under way.
        let known = |reference: &str| {
            before.is_some_and(|before| before.returns.chargebacks.iter().any(|contest| contest.reference == reference))
        };
        let waits = job.returns.chargebacks.iter();
        let waits = waits.filter(|contest| contest.stage == ContestStage::Lost && !known(&contest.reference));
        let opened = opened + waits.map(|contest| i128::from(contest.amount.minor())).sum::<i128>();
        if returned != won || (taken != opened && taken != opened + won + lost.amount) {
            found.push(format!("{taken} was contested and {returned} came back, told were {opened} and {won}"));
        }
        let into = moved(&|debit| debit != rail, &|credit| credit == contested);
        if into != lost.amount {
            found.push(format!("{into} was found for a loss of {}", lost.amount));
        }
        if refunded.amount > 0 && !self.holds_apart(job.rail) {
            let to_buyer = moved(&|_| true, &|credit| credit == Account::Available(job.buyer));
            if to_buyer != refunded.amount {
                found.push(format!("{to_buyer} was given back, due is {}", refunded.amount));
            }
        }
        if (lost.amount > 0 || refunded.amount > 0) && !held {
            let (mut due, mut worker) = (lost, lost.worker + refunded.worker);
            due.add(refunded);
            let losses = moved(&|debit| debit == Account::Revenue(RevenueKind::Losses), &|_| true);
            let expected = match self.bears(policy) || declined {
                true => due.beyond + borne,
                false => {
                    worker = 0;
                    due.beyond + due.worker
                }
            };
            if losses != expected || borne > worker || borne > self.backstop(policy).min(worker) {
                found.push(format!("the platform bore {losses}, due is {expected} with {borne} for the worker"));
            }
        }
    }

    /// What is left of shares that the rail would not divide, after what was lost.
    pub(super) fn shrunk(&self, before: Option<&Job>, job: &Job, commit: &Commit) -> Option<Shares> {
        let mut shares = refused_shares(before?, commit)?;
        for event in commit.events.iter().filter(|event| event.subject.id == job.id.0).filter_map(of_job) {
            if let JobEvent::Hold(HoldEvent::ChargebackLost { amount, .. }) = event {
                shares.take(Back::of(amount.minor().into(), shares));
            }
        }
        Some(shares)
    }

    /// Whether the worker bears its part.
    fn bears(&self, policy: &Policy) -> bool {
        policy.reversals.is_some_and(|reversals| matches!(reversals.borne_by, LossBearer::Worker { .. }))
    }

    fn backstop(&self, policy: &Policy) -> i128 {
        match policy.reversals.map(|reversals| reversals.borne_by) {
            Some(LossBearer::Worker { backstop }) => backstop.into(),
            Some(LossBearer::Platform) | None => i128::MAX,
        }
    }
}

/// What the parties were to get of a hold that the rail would not divide: nobody has got it yet.
pub(super) fn refused_shares(before: &Job, commit: &Commit) -> Option<Shares> {
    let legs = commit.writes.iter().find_map(|write| match &write.record {
        Record::Instruction(record) if matches!(record.state, InstructionState::Declined(_)) => {
            match &record.instruction.order {
                Order::Settle { legs, .. } => Some(legs),
                _ => None,
            }
        }
        _ => None,
    })?;
    let mut shares = Shares::default();
    for leg in legs {
        let minor = i128::from(leg.amount.minor());
        match leg.to {
            Party::Worker(_) => shares.worker += minor,
            Party::Platform => shares.platform += minor,
            Party::Buyer(_) => shares.buyer += minor,
        }
    }
    let kept = before.hold.repaid.map_or(0, |repaid| i128::from(repaid.minor()));
    Some(Shares { worker: shares.worker + kept, platform: shares.platform - kept, ..shares })
}

impl Back {
    const fn add(&mut self, other: Self) {
        self.amount += other.amount;
        self.worker += other.worker;
        self.platform += other.platform;
        self.buyer += other.buyer;
        self.beyond += other.beyond;
    }
}

impl Shares {
    const fn take(&mut self, back: Back) {
        self.worker -= back.worker;
        self.platform -= back.platform;
        self.buyer -= back.buyer;
    }
}
