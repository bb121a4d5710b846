//! Wallets and budgets in the engine: the path of their commands, and what they show.
//!
//! Two races are closed by versions. Whatever decides where money goes is the wallet's own record, so a
//! withdrawal that meets a panic or a changed address is decided anew on what is there then. A balance
//! has no version: a decision on one that was spent from meanwhile is refused by the ledger, and made
//! anew as well.

mod session;
mod show;

use std::sync::Arc;

use async_trait::async_trait;

use super::{
    Marketplace,
    command::Call,
    transact::{Attempt, Operation},
};
use crate::{
    actor::Actor,
    agent::{Agent, AgentCommand},
    clock::Timestamp,
    error::{Error, Rejection},
    hold::Spendable,
    ids::{AgentId, BudgetId, WalletId},
    job::{Job, JobCommand},
    ledger::{Account, LedgerError},
    money::Money,
    policy::SpendingPolicy,
    rail::{Custody, Landing, Outcome, Party, SettlementRail},
    spending::{Allowance, Budget, Counted, SpendingLimit},
    store::{Commit, InstructionRecord, Journal, Kept as _, Key, Kind, OfKind as _, Query, Record, Write},
    wallet::{Context, Wallet, WalletCommand, decide},
};

/// How many jobs one page holds that are counted.
const PAGE: u32 = 500;

/// A command to a wallet, and what the rail reported if it follows from that.
struct WalletOperation<'a> {
    agent: AgentId,
    command: &'a WalletCommand,
    observed: Option<Write>,
}

#[async_trait]
impl Operation for WalletOperation<'_> {
    fn name(&self) -> &'static str {
        self.command.name()
    }

    async fn attempt(&mut self, on: &Attempt<'_>) -> Result<Commit, Error> {
        on.market.authorize(on.actor, self.name(), None)?;
        let mut commit = on.command_wallet(on.actor, self.agent, self.command).await?;
        on.take_in(&mut commit, self.observed.as_ref()).await?;
        Ok(commit)
    }

    fn is_stale(&self, error: &LedgerError) -> bool {
        let own = [Account::Available(self.agent), Account::Debt(self.agent)];
        matches!(error, LedgerError::Overdraft { account, .. } if own.contains(account))
    }
}

/// Another spending limit.
struct Limiting {
    agent: AgentId,
    limit: Option<Money>,
    step: Step,
}

/// A first limit is set in two commits: from the first one on nothing is reserved past the budget, so that the
/// second has all of what was reserved before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Counts,
    Sets,
}

#[async_trait]
impl Operation for Limiting {
    fn name(&self) -> &'static str {
        "set_spending_limit"
    }

    async fn attempt(&mut self, on: &Attempt<'_>) -> Result<Commit, Error> {
        let Self { agent, limit, step } = *self;
        let (known, _) = on.standing(agent).await?;
        let owner = matches!((on.actor, &known), (Actor::Owner(owner), Some(agent)) if agent.owner == *owner);
        let may = owner || matches!(on.actor, Actor::Operator(_));
        on.market.may(self.name(), may, "the agent's owner or an operator", on.actor)?;
        let (allowance, version) =
            on.allowance(agent).await?.ok_or(Rejection::NotOffered { what: "spending limits" })?;
        let counts = allowance.counts(on.now);
        let Allowance { budget, policy } = allowance;
        let budget = budget.at(on.now, &policy);
        let mut commit = on.commit(budget.key(), version);
        let wanted = limit.map_or(SpendingLimit::Unlimited, SpendingLimit::Most);
        if step == Step::Counts {
            budget.with_limit(wanted, None)?; // what is refused changes nothing
            // Another may have set a limit meanwhile: what that one counted stays.
            let counting = if counts { budget } else { budget.counting(on.now) };
            commit.write_silently(counting, version);
            return Ok(commit);
        }
        let counted = match budget.most(&policy) {
            Some(_) => None,
            None => {
                let amount = on.market.reserved_since(on.journal, agent, &budget).await?;
                Some(Counted { at: on.now, amount })
            }
        };
        let (budget, event) = budget.with_limit(wanted, counted)?;
        commit.write(budget, version, on.actor, [event]);
        Ok(commit)
    }
}

impl Attempt<'_> {
    /// A command to a wallet, as a commit about it.
    pub(in crate::engine) async fn command_wallet(
        &self,
        actor: &Actor,
        agent: AgentId,
        command: &WalletCommand,
    ) -> Result<Commit, Error> {
        let before = self.wallet(agent).await?;
        let mut commit = self.commit(before.0.key(), before.1);
        self.command_wallet_in(&mut commit, before, actor, command).await?;
        Ok(commit)
    }

    /// Tells the workers' wallets of the shares that a rail keeps, in the commit that books them there. The wallet
    /// is written even if nothing follows: whoever takes in at the same moment that the account is ready has to
    /// decide on this share too. What the payer's bank may still take is not hurried out.
    pub(in crate::engine) async fn tell_of_kept(
        &self,
        commit: &mut Commit,
        record: &InstructionRecord,
        outcome: &Outcome,
    ) -> Result<(), Error> {
        let Outcome::Done(receipt) = outcome else { return Ok(()) };
        if commit.writes.iter().any(|write| is_contested(&write.record)) {
            return Ok(());
        }
        for leg in receipt.legs.iter().filter(|leg| leg.landing == Landing::Held) {
            let Party::Worker(agent) = leg.to else { continue };
            let (before, command) =
                (self.wallet(agent).await?, WalletCommand::RecordKept { asked_at: record.given_at });
            match self.command_wallet_in(commit, before, &Actor::Rail(record.rail), &command).await {
                Ok(()) => {}
                // That the share is there is true whatever a wallet's rules say.
                Err(Error::Rejected(rejection)) => {
                    tracing::warn!(%agent, %rejection, "what a rail kept waits for `pay_out`");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// An agent's wallet and its version, new if there is none.
    async fn wallet(&self, agent: AgentId) -> Result<(Arc<Wallet>, u64), Error> {
        let found = self.find::<Wallet>(WalletId::of(agent).0).await?;
        Ok(found.unwrap_or_else(|| (Arc::new(Wallet::new(agent)), 0)))
    }

    /// Has a wallet decide on a command, after whatever moves in the commit already, and adds what follows.
    async fn command_wallet_in(
        &self,
        commit: &mut Commit,
        (wallet, version): (Arc<Wallet>, u64),
        actor: &Actor,
        command: &WalletCommand,
    ) -> Result<(), Error> {
        let (market, agent) = (self.market, wallet.agent);
        let rail = market.wallet_rail()?.profile();
        let (known, guard) = self.standing(agent).await?;
        let after = |account, balance| commit.movement.balance_after(account, balance).map_err(Rejection::from);
        let available = after(Account::Available(agent), self.available(agent).await?)?;
        let repaid = after(Account::Debt(agent), Money::zero(market.currency()))?;
        let debt = self.owed(agent).await?.minus(repaid).map_err(Rejection::from)?;
        let (_, policy) = market.policy();
        let (owner, standing) = known.map_or((None, None), |agent| (Some(agent.owner), Some(agent.status)));
        let context = Context { now: self.now, actor, owner, standing, policy: &policy, rail, available, debt };
        let decision = decide(&wallet, command, &context)?;
        commit.movement.append(decision.movement).map_err(Rejection::from)?;
        commit.write(decision.wallet, version, actor, decision.events);
        if let Some(instruction) = decision.instruction {
            commit.instruct(wallet.key(), rail.id, instruction, self.now, self.claimed_until);
        }
        commit.guards.extend(guard);
        Ok(())
    }

    /// What an agent may spend.
    pub(in crate::engine) async fn available(&self, agent: AgentId) -> Result<Money, Error> {
        self.market.balance_in(self.journal, Account::Available(agent)).await
    }

    /// What an agent owes; nothing or more.
    pub(in crate::engine) async fn owed(&self, agent: AgentId) -> Result<Money, Error> {
        self.market.owed_in(self.journal, agent).await
    }

    /// What a contract's parties may spend. Where nobody works yet, the payer stands in.
    pub(in crate::engine) async fn spendable(
        &self,
        buyer: AgentId,
        worker: Option<AgentId>,
    ) -> Result<Spendable, Error> {
        let available = self.available(buyer).await?.minor();
        let worker = match worker {
            Some(worker) => self.available(worker).await?.minor(),
            None => available,
        };
        Ok(Spendable { buyer: available, worker })
    }

    /// Where agents are kept here: the agent, and the version that says how it stands.
    async fn standing(&self, agent: AgentId) -> Result<(Option<Arc<Agent>>, Option<(Key, u64)>), Error> {
        if self.market.inner.agents.is_none() {
            return Ok((None, None));
        }
        let (agent, version) = self.load::<Agent>("agent", agent.0).await?;
        let guard = (agent.key(), version);
        Ok((Some(agent), Some(guard)))
    }

    /// An agent's budget, new if there is none, with the rules of the newest policy; `None` where that
    /// knows no spending limits.
    pub(in crate::engine) async fn allowance(&self, agent: AgentId) -> Result<Option<(Allowance, u64)>, Error> {
        let Some(policy) = self.market.policy().1.spending else { return Ok(None) };
        let found = self.find::<Budget>(BudgetId::of(agent).0).await?;
        Ok(Some(match found {
            Some((budget, version)) => (Allowance { budget: (*budget).clone(), policy }, version),
            None => (self.market.unlimited(agent, self.now, policy), 0),
        }))
    }
}

impl Marketplace {
    /// The one rail that holds money in the platform's name, where wallets lie.
    pub(super) fn wallet_rail(&self) -> Result<&Arc<dyn SettlementRail>, Rejection> {
        let holds = |rail: &&Arc<dyn SettlementRail>| rail.profile().custody != Custody::NonCustodial;
        self.inner.rails.iter().find(holds).ok_or(Rejection::NotOffered { what: "wallets: its rails hold no money" })
    }

    /// What an account holds, as the store or an embedder's open transaction has it.
    async fn balance_in(&self, journal: &dyn Journal, account: Account) -> Result<Money, Error> {
        Ok(journal.balance(self.inner.market, account, self.currency(), None).await?)
    }

    /// What an agent owes; nothing or more.
    async fn owed_in(&self, journal: &dyn Journal, agent: AgentId) -> Result<Money, Error> {
        let balance = self.balance_in(journal, Account::Debt(agent)).await?;
        Ok(Money::zero(balance.currency()).minus(balance).map_err(Rejection::from)?)
    }

    /// The budget of an agent about which nothing is written down.
    fn unlimited(&self, agent: AgentId, now: Timestamp, policy: SpendingPolicy) -> Allowance {
        let none = Money::zero(self.currency());
        Allowance { budget: Budget::new(agent, now, &policy, none), policy }
    }

    /// What an agent's jobs of a budget's period have reserved, as far as no budget was charged with it.
    async fn reserved_since(&self, journal: &dyn Journal, agent: AgentId, budget: &Budget) -> Result<Money, Error> {
        let party = Some((0, agent.0));
        let query = Query { kind: Kind::Job, party, statuses: Vec::new(), before: None, offset: 0, limit: PAGE };
        let (mut sum, mut next) = (Money::zero(self.currency()), Some(query));
        while let Some(query) = next {
            let page = journal.find(self.inner.market, &query).await?;
            next = query.after(&page);
            for job in page.into_iter().filter_map(|stored| Job::of(stored.record)) {
                if job.posted_at < budget.since {
                    return Ok(sum);
                }
                if job.is_counted() {
                    sum = sum.plus(job.reserved().map_err(Rejection::from)?).map_err(Rejection::from)?;
                }
            }
        }
        Ok(sum)
    }

    /// Carries out a command to a wallet.
    async fn command_wallet_of(
        &self,
        agent: AgentId,
        command: WalletCommand,
        call: Call<'_>,
    ) -> Result<Arc<Wallet>, Error> {
        self.command_wallet_with(agent, command, call, None).await
    }

    /// Carries out a command to a wallet, writing down in the same commit what the rail reported.
    pub(super) async fn command_wallet_with(
        &self,
        agent: AgentId,
        command: WalletCommand,
        call: Call<'_>,
        observed: Option<Write>,
    ) -> Result<Arc<Wallet>, Error> {
        let mut operation = WalletOperation { agent, command: &command, observed };
        self.transact(call, &(agent, &command), &mut operation).await
    }

    async fn limit_spending(&self, agent: AgentId, limit: Option<Money>, call: Call<'_>) -> Result<Arc<Budget>, Error> {
        let told = ("set_spending_limit", agent, limit);
        let on = Attempt::new(self, call);
        let given_before = match self.key_use(&told, call)? {
            Some((key, _)) => on.journal.key(self.inner.market, &key).await?.is_some(),
            None => false,
        };
        let begins = limit.is_some() && !given_before;
        if begins && on.allowance(agent).await?.is_some_and(|(allowance, _)| !allowance.counts(on.now)) {
            let mut counting = Limiting { agent, limit, step: Step::Counts };
            self.transact::<Budget>(Call { key: None, ..call }, &told, &mut counting).await?;
        }
        self.transact(call, &told, &mut Limiting { agent, limit, step: Step::Sets }).await
    }

    /// What an agent could take out of its wallet, or is taking out, and what it owes, where the command
    /// asks for it (VP-09).
    pub(super) async fn left_behind(
        &self,
        journal: &dyn Journal,
        agent: Option<&Agent>,
        command: &AgentCommand,
    ) -> Result<(Option<Money>, Option<Money>), Error> {
        let Some(agent) = agent.filter(|_| *command == AgentCommand::Delete) else { return Ok((None, None)) };
        let offered = self.policy().1.wallet.is_some_and(|wallet| wallet.withdrawals.is_some());
        // Earnings that such a rail could not pay are paid out later.
        let leaves = offered || self.wallet_rail().is_ok_and(|rail| rail.profile().custody == Custody::PerHold);
        let available = self.balance_in(journal, Account::Available(agent.id)).await?;
        let pending = self.balance_in(journal, Account::Pending(agent.id)).await?;
        let holds = available.plus(pending).map_err(Rejection::from)?;
        let owes = self.owed_in(journal, agent.id).await?;
        let some = |money: Money| money.is_positive().then_some(money);
        Ok((some(holds).filter(|_| leaves), some(owes)))
    }
}

/// Whether a contract's payer's bank has its money and has not decided.
fn is_contested(contract: &Record) -> bool {
    match contract {
        Record::Job(job) => job.returns.is_contested(),
        Record::Agreement(agreement) => agreement.returns.is_contested(),
        _ => false,
    }
}

/// Whether a job's command may charge its buyer's budget, or give something back to it.
pub(super) fn touches_budget(job: Option<&Job>, command: &JobCommand) -> bool {
    match (job, command) {
        (Some(job), _) if job.hold.charged.is_some() => true,
        (_, JobCommand::Post { .. } | JobCommand::Hire { .. } | JobCommand::Accept | JobCommand::RetryPayment) => true,
        // What was counted when the limit was set may come back.
        (Some(job), command) => command.may_give_back() && job.is_counted(),
        (None, _) => false,
    }
}
