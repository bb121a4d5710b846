//! What the people of a world do about money that is theirs already: save addresses, take it out, panic,
//! limit what is spent; and what banks and operators take back.

use rand::{Rng, seq::IndexedRandom};

use super::{World, deed::Deed, player::Task};
use crate::{
    actor::Actor,
    engine::Marketplace,
    ids::{AgentId, JobId},
    job::{HoldState, JobCommand, JobStatus},
    ledger::Account,
    money::Money,
    rail::{ChargebackStage, Custody},
    wallet::WalletCommand,
};

impl World {
    /// Something about a wallet. Often it is the one that somebody is at already.
    pub(super) fn purse(&mut self, market: Marketplace, task: &mut Task) -> (String, Option<String>) {
        let agent = match self.memory.at_wallet {
            Some(agent) if self.rng.random() => agent,
            _ => self.agent(),
        };
        self.memory.at_wallet = Some(agent);
        if self.plan.custody == Custody::PerHold && self.rng.random_range(0..3) == 0 {
            self.account_ready(agent);
        }
        let own = Actor::Agent(agent);
        let clerk = Actor::Operator("Olga".into());
        let currency = self.plan.policy.currency;
        let has = i64::try_from(self.stage.act().auditor.balance(Account::Available(agent))).unwrap_or(i64::MAX);
        let (actor, deed) = match self.rng.random_range(0..20) {
            0..4 => {
                let address = match self.rng.random_range(0..12) {
                    0 => "somewhere else".to_owned(),
                    1 => "x".repeat(201),
                    number => format!("{agent}-{}", number % 3),
                };
                (own, Deed::Wallet(agent, WalletCommand::SetAddress { address }))
            }
            4..11 => {
                let minor = match self.rng.random_range(0..10) {
                    0 => *[0, -1, i64::MAX].choose(&mut self.rng).unwrap_or(&0),
                    1 => has.saturating_add(1),
                    2 => has,
                    _ => self.rng.random_range(0..=has.max(1)),
                };
                (own, Deed::Wallet(agent, WalletCommand::Withdraw { amount: Money::new(minor, currency) }))
            }
            11..13 => (own, Deed::Wallet(agent, WalletCommand::Panic)),
            13 => (clerk, Deed::Wallet(agent, WalletCommand::Panic)),
            14..16 => (own, Deed::Wallet(agent, WalletCommand::PayOut)),
            _ => {
                let most = self.plan.policy.jobs.amount.min.max(10) * 120;
                let limit = match self.rng.random_range(0..8) {
                    0 => None,
                    1 => Some(-1),
                    _ => Some(self.rng.random_range(0..most)),
                };
                (clerk, Deed::Limit(agent, limit.map(|minor| Money::new(minor, currency))))
            }
        };
        self.act_on(market, actor, deed, task)
    }

    /// A rail tells that somebody's account is ready: most often of one for whom a share is on its way.
    fn account_ready(&mut self, anybody: AgentId) {
        let awaiting: Vec<AgentId> = {
            let auditor = &self.stage.act().auditor;
            let awaits = |agent: &&AgentId| auditor.balance(Account::Pending(**agent)) > 0;
            self.plan.agents.iter().filter(awaits).copied().collect()
        };
        self.outside(0).account_ready(awaiting.choose(&mut self.rng).copied().unwrap_or(anybody));
    }

    /// An operator gives back what was paid out, or a payer's bank takes it, or decides.
    pub(super) fn take_back(&mut self, market: Marketplace, task: &mut Task) -> (String, Option<String>) {
        let jobs: Vec<(JobId, Money)> = {
            let auditor = &self.stage.act().auditor;
            let last = auditor.jobs.iter().rev().take(80).filter_map(|id| auditor.job(*id));
            let paid = last.filter(|job| matches!(job.hold.state, HoldState::Held | HoldState::Settled));
            paid.map(|job| (job.id, job.terms.amount)).collect()
        };
        let Some((job, amount)) = jobs.choose(&mut self.rng).copied() else { return self.command(market, task) };
        if self.plan.custody == Custody::PerHold && self.rng.random() {
            self.bank(job);
            return self.command(market, task);
        }
        let done = self.stage.act().auditor.job(job).is_some_and(|job| job.status == JobStatus::Completed);
        if !done && self.rng.random_range(0..4) > 0 {
            return self.command(market, task);
        }
        let amount = match self.rng.random_range(0..6) {
            0..2 => None,
            2 => Some(Money::new(amount.minor().saturating_mul(2), amount.currency())),
            _ => Some(Money::new(self.rng.random_range(0..=amount.minor()), amount.currency())),
        };
        let command = JobCommand::RefundPaid { amount, reason: "it was too much".into() };
        self.act_on(market, Actor::Operator("Olga".into()), Deed::Job(job, command), task)
    }

    /// A payer's bank takes a payment back, or decides about one that it took.
    fn bank(&mut self, job: JobId) {
        let outside = self.outside(0);
        let place = self.rng.random_range(0..self.memory.contested.len() + 1);
        match self.memory.contested.get(place).copied() {
            Some(contested) => {
                let stage = if self.rng.random() { ChargebackStage::Won } else { ChargebackStage::Lost };
                outside.charge_back(contested.into(), stage);
                self.memory.contested.remove(place);
            }
            None => {
                if outside.charge_back(job.into(), ChargebackStage::Opened { evidence_due: None }) {
                    self.memory.contested.push(job);
                }
            }
        }
    }

    /// The banks decide about everything that they took back.
    pub(super) fn banks_decide(&mut self) {
        for job in std::mem::take(&mut self.memory.contested) {
            let stage = if self.rng.random() { ChargebackStage::Won } else { ChargebackStage::Lost };
            self.outside(0).charge_back(job.into(), stage);
        }
    }
}
