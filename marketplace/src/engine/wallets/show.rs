//! What a wallet shows, put together from the books.

use std::sync::Arc;

use crate::{
    actor::Actor,
    agreement::{Agreement, AgreementStatus},
    clock::Timestamp,
    engine::{JobsOf, Marketplace, Role, command::Call, transact::Attempt},
    error::{Error, Rejection},
    hold::Paid,
    ids::{AgentId, WalletId},
    job::{HoldState, Job, JobStatus},
    ledger::{Account, Entry, TransferKind, escrow},
    money::Money,
    policy::Bearer,
    spending::Allowance,
    store::{InstructionRecord, Kept, Key, Kind, LoggedEvent, OfKind as _, Query},
    wallet::{Balances, Earnings, EarningsLine, HistoryKind, HistoryLine, Wallet, in_history, spent},
};

/// How many entries or jobs are read at once.
const PAGE: u32 = 500;

impl Marketplace {
    /// An agent's wallet: balances, addresses, what is on its way out, and warnings (JP-23, AM-08). What
    /// is escrowed is added up from the agent's open jobs and agreements, a request to the store for each 500.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn wallet(&self, agent: AgentId) -> Result<Balances, Error> {
        let key = Key { kind: Kind::Wallet, id: WalletId::of(agent).0 };
        let stored = self.inner.store.load(self.inner.market, key).await?;
        let wallet = stored.and_then(|stored| Wallet::of(stored.record)).unwrap_or_else(|| Wallet::new(agent).into());
        let pending = self.balance(Account::Pending(agent), None).await?;
        let (available, debt) = (self.available(agent).await?, self.owed_in(&*self.inner.store, agent).await?);
        let figures = [available, self.escrowed(agent).await?, pending, debt];
        Ok(Balances::new(&wallet, figures, self.now())?)
    }

    /// What happened to an agent's wallet, oldest first, with who did it and when. Deposits are told by
    /// the log as a whole, each under its own name.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn wallet_events(&self, agent: AgentId) -> Result<Vec<LoggedEvent>, Error> {
        let key = Key { kind: Kind::Wallet, id: WalletId::of(agent).0 };
        Ok(self.inner.store.events_of(self.inner.market, key).await?)
    }

    /// An agent's transactions, oldest first (JP-28): up to `limit` entries of its available balance with
    /// a number above `after`, each lock followed by what was spent of it, once it was.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn wallet_history(&self, agent: AgentId, after: i64, limit: u32) -> Result<Vec<HistoryLine>, Error> {
        let mut lines = Vec::new();
        for entry in self.history(Account::Available(agent), after, limit).await? {
            let Entry { number, at, amount, contract, .. } = entry;
            lines.push(HistoryLine { number, at, kind: in_history(&entry), amount, contract });
            let (TransferKind::EscrowLock, Account::Escrow(hold)) = (entry.kind, entry.counterparty) else { continue };
            let of_hold = self.history(Account::Escrow(hold), 0, PAGE).await?;
            if let Some((at, amount)) = spent(&of_hold)? {
                lines.push(HistoryLine { number, at, kind: HistoryKind::Spent, amount, contract });
            }
        }
        Ok(lines)
    }

    /// What an agent has earned as a worker: up to 50 jobs, newest first, leaving out the newest `offset`,
    /// and the totals of all (VP-36). The totals are added up from the agent's completed jobs.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn earnings(&self, agent: AgentId, offset: u32, limit: u32) -> Result<Earnings, Error> {
        let none = Money::zero(self.currency());
        let mut earnings = Earnings { total_earned: none, total_jobs: 0, jobs: Vec::new() };
        let statuses = vec![JobStatus::Completed.as_str()];
        self.each(1, agent, statuses, |job: &Job| {
            if let Some(paid) = job.paid()? {
                earnings.total_earned = earnings.total_earned.plus(paid.worker)?;
            }
            earnings.total_jobs += 1;
            Ok(())
        })
        .await?;
        let statuses = vec![JobStatus::Completed];
        let of = JobsOf { role: Role::Worker(agent), statuses, offset, limit };
        for job in self.jobs(of).await? {
            let Some(Paid { worker: net, platform, .. }) = job.paid().map_err(Rejection::from)? else { continue };
            let fee = match job.terms.bearer {
                Bearer::Buyer => none,
                Bearer::Worker => platform,
            };
            let (id, gross) = (job.id, net.plus(fee).map_err(Rejection::from)?);
            earnings.jobs.extend(self.completed_at(&job).await?.map(|at| EarningsLine {
                job: id,
                gross,
                fee,
                net,
                at,
            }));
        }
        Ok(earnings)
    }

    /// When a job's hold was divided.
    async fn completed_at(&self, job: &Job) -> Result<Option<Timestamp>, Error> {
        let entries = self.history(escrow(job.id), 0, PAGE).await?;
        Ok(entries.iter().find(|entry| entry.amount.minor() < 0).map(|entry| entry.at))
    }

    /// What rails were asked to pay out of an agent's wallet, newest first, with what became of it.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn payouts(&self, agent: AgentId) -> Result<Vec<Arc<InstructionRecord>>, Error> {
        self.instructions_of(WalletId::of(agent).0).await
    }

    /// How much an agent may spend in the present period and what it has spent of it; `None` where the
    /// policy knows no spending limits (VP-08). An agent without a limit is not counted.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn spending(&self, agent: AgentId) -> Result<Option<Allowance>, Error> {
        let on = Attempt::new(self, Call::by(&Actor::Timer));
        let found = on.allowance(agent).await?;
        Ok(found.map(|(Allowance { budget, policy }, _)| Allowance { budget: budget.at(on.now, &policy), policy }))
    }

    /// What is reserved for the contracts under way that an agent pays for.
    async fn escrowed(&self, agent: AgentId) -> Result<Money, Error> {
        let open = JobStatus::ALL.into_iter().filter(|status| !status.is_final());
        let mut sum = Money::zero(self.currency());
        self.each(0, agent, open.map(JobStatus::as_str).collect(), |job: &Job| {
            if job.hold.state == HoldState::Held {
                sum = sum.plus(job.terms.total()?)?;
            }
            Ok(())
        })
        .await?;
        let open = AgreementStatus::ALL.into_iter().filter(|status| !status.is_final());
        self.each(0, agent, open.map(AgreementStatus::as_str).collect(), |agreement: &Agreement| {
            if agreement.hold.state == HoldState::Held {
                sum = sum.plus(agreement.terms.deposit)?;
            }
            Ok(())
        })
        .await?;
        Ok(sum)
    }

    /// Sees each contract of an agent's, on this side of it, that is in one of the statuses.
    async fn each<C: Kept>(
        &self,
        place: usize,
        agent: AgentId,
        statuses: Vec<&'static str>,
        mut see: impl FnMut(&C) -> Result<(), Rejection> + Send,
    ) -> Result<(), Error> {
        let query =
            Query { kind: C::KIND, party: Some((place, agent.0)), statuses, before: None, offset: 0, limit: PAGE };
        let mut next = Some(query);
        while let Some(query) = next {
            let page = self.inner.store.find(self.inner.market, &query).await?;
            next = query.after(&page);
            page.into_iter().filter_map(|stored| C::of(stored.record)).try_for_each(|contract| see(&contract))?;
        }
        Ok(())
    }
}
