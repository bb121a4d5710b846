//! The background work, as plain async functions that the embedder spawns.

use std::{collections::BTreeMap, time::Duration};

use futures::{FutureExt as _, StreamExt, future::join_all, stream::FuturesUnordered};

use super::{Marketplace, command::Call};
use crate::{
    actor::Actor,
    agent::AgentCommand,
    agreement::AgreementCommand,
    clock::Timestamp,
    error::{Error, Rejection},
    ids::RailId,
    job::JobCommand,
    rail::SettlementRail,
    store::{Claim, InstructionRecord, Kind, OfKind as _, Record, Stored},
};

/// The kinds that come due by themselves; instructions are worked on apart.
const TIMED: &[Kind] = &[Kind::Job, Kind::Agent, Kind::Agreement];
/// How many records one round claims of a kind.
const BATCH: u32 = 64;
/// How many answers of one rail, or of arbiters, one round waits for at once.
pub(super) const AT_ONCE: usize = 16;
/// How many batches of instructions [`Marketplace::run`] works on at once: so many hang with a rail that hangs
/// before another rail's have to wait.
const BATCHES: usize = 16;

/// What [`Marketplace::run`] does side by side, so that a slow part keeps nothing else waiting; instructions
/// and webhooks have loops of their own.
#[derive(Clone, Copy)]
enum Duty<'m> {
    Rail(&'m dyn SettlementRail),
    Timers,
    Trust,
    /// What was listed by an older version is listed anew.
    Search,
    Notices,
    Disputes,
    Validation,
}

/// What one round of work did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Worked {
    /// Rails that had news.
    pub observed: usize,
    /// Instructions worked on.
    pub instructions: usize,
    /// Jobs and agents whose timers were due.
    pub timers: usize,
    /// Disputes worked on.
    pub disputes: usize,
    /// Events read for what they say about agents' trust.
    pub trust: usize,
    /// Events told to those they concern, and pages of those they concern.
    pub told: usize,
    /// Jobs and agents that an older version or policy had listed, listed anew.
    pub listed: usize,
}

impl std::fmt::Display for Duty<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Rail(rail) => write!(f, "observing rail {}", rail.profile().id),
            Self::Timers => f.write_str("timers"),
            Self::Trust => f.write_str("trust"),
            Self::Search => f.write_str("search"),
            Self::Notices => f.write_str("notices"),
            Self::Disputes => f.write_str("disputes"),
            Self::Validation => f.write_str("validation"),
        }
    }
}

impl Worked {
    /// Whether there was nothing to do.
    pub const fn is_idle(&self) -> bool {
        self.observed == 0
            && self.instructions == 0
            && self.timers == 0
            && self.disputes == 0
            && self.trust == 0
            && self.told == 0
            && self.listed == 0
    }
}

impl Marketplace {
    /// One round: what rails report, instructions that are due, timers that are due, trust, notices that follow
    /// from what happened, disputes. Any number of processes may do this at once. It waits for rails and for the
    /// arbiter, which [`Marketplace::run`] does apart. Webhooks are sent by [`Marketplace::deliver_due`], since receivers may be
    /// slow, and deliveries of work are validated by [`Marketplace::validate`].
    ///
    /// # Errors
    /// The store's failure. A rail that does not answer is no failure, nor is one record that cannot
    /// be worked on: it is logged, and tried again later.
    pub async fn work(&self) -> Result<Worked, Error> {
        self.refresh_policy().await?;
        let observed = self.observe_rails().await;
        let (instructions, timers) = (self.settle_due().await?, self.fire_due().await?);
        let (trust, told) = (self.keep_trust().await?, self.tell().await?);
        let disputes = self.arbitrate().await?;
        // Money does not wait for what is found by words.
        let listed = self.relist().await.unwrap_or_else(|error| {
            tracing::error!(%error, "what an older version or policy listed cannot be listed anew");
            0
        });
        Ok(Worked { observed, instructions, timers, disputes, trust, told, listed })
    }

    /// Works until nothing is due any more, for tests and scripts.
    ///
    /// # Errors
    /// See [`Marketplace::work`].
    pub async fn run_until_idle(&self) -> Result<(), Error> {
        loop {
            let idle = self.work().await?.is_idle();
            if self.validate().await? + self.deliver_due().await? == 0 && idle {
                return Ok(());
            }
        }
    }

    /// Works for ever: spawn this once or more, in any number of processes. Failures of the store are
    /// logged and tried again. A slow arbiter keeps nothing but disputes waiting, slow validators nothing
    /// but deliveries, a rail that hangs nothing but its own money.
    pub async fn run(&self, idle: Duration) {
        let mut apart = Vec::new();
        for rail in self.rails_outside() {
            apart.push(self.again(Duty::Rail(rail), idle));
        }
        for duty in [Duty::Timers, Duty::Trust, Duty::Search, Duty::Notices, Duty::Disputes, Duty::Validation] {
            apart.push(self.again(duty, idle));
        }
        futures::future::join3(join_all(apart), self.run_settlement(idle), self.run_deliveries(idle)).await;
    }

    /// Does rounds of one duty for ever, with a pause after each in which there was nothing to do.
    async fn again(&self, duty: Duty<'_>, idle: Duration) {
        loop {
            match self.is_idle_at(duty).await {
                Ok(false) => {}
                Ok(true) => tokio::time::sleep(idle).await,
                Err(error) => {
                    tracing::error!(%duty, %error, "a round of work failed");
                    tokio::time::sleep(idle).await;
                }
            }
        }
    }

    /// Does one round of a duty; whether there was nothing to do.
    async fn is_idle_at(&self, duty: Duty<'_>) -> Result<bool, Error> {
        Ok(match duty {
            Duty::Rail(rail) => self.observe_rail(rail).await? == 0,
            Duty::Timers => {
                self.refresh_policy().await?;
                self.fire_due().await? == 0
            }
            Duty::Trust => self.keep_trust().await? == 0,
            Duty::Search => self.relist().await? == 0,
            Duty::Notices => self.tell().await? == 0,
            Duty::Disputes => self.arbitrate().await? == 0,
            Duty::Validation => self.validate().await? == 0,
        })
    }

    /// Works on instructions for ever. A batch that waits for its rail does not keep the next from beginning.
    async fn run_settlement(&self, idle: Duration) {
        let mut under_way = FuturesUnordered::new();
        loop {
            let pause = match self.claim(Kind::Instruction).await {
                Ok((claimed, _)) if claimed.is_empty() => idle,
                Ok((claimed, until)) => {
                    under_way.push(self.settle(claimed, until));
                    Duration::ZERO
                }
                Err(error) => {
                    tracing::error!(%error, "instructions cannot be claimed");
                    idle
                }
            };
            let has_room = under_way.len() < BATCHES;
            tokio::select! {
                Some(()) = under_way.next() => {}
                () = tokio::time::sleep(pause), if has_room => {}
            }
        }
    }

    /// Works on the instructions that are due; how many there were.
    pub(crate) async fn settle_due(&self) -> Result<usize, Error> {
        let (claimed, until) = self.claim(Kind::Instruction).await?;
        let count = claimed.len();
        self.settle(claimed, until).await;
        Ok(count)
    }

    /// Works on claimed instructions, those of each rail apart.
    async fn settle(&self, claimed: Vec<Stored>, until: Timestamp) {
        let mut rails: BTreeMap<Option<RailId>, Vec<Stored>> = BTreeMap::new();
        for stored in claimed {
            let rail = InstructionRecord::of(stored.record.clone()).map(|instruction| instruction.rail);
            rails.entry(rail).or_default().push(stored);
        }
        let mut each = Vec::new();
        for of in rails.into_values() {
            each.push(self.settle_for_one_rail(of, until).boxed());
        }
        join_all(each).await;
    }

    async fn settle_for_one_rail(&self, claimed: Vec<Stored>, until: Timestamp) {
        let work = |stored: Stored| async move {
            let instruction = stored.record.key().id;
            // Late in a slow batch the claim may have run out: then it is somebody else's.
            if self.now() < until
                && let Err(error) = self.work_on(stored).await
            {
                tracing::error!(%instruction, %error, "an instruction cannot be worked on");
            }
        };
        futures::stream::iter(claimed).for_each_concurrent(AT_ONCE, work).await;
    }

    /// Fires the timers that are due; how many there were.
    pub(crate) async fn fire_due(&self) -> Result<usize, Error> {
        let mut count = 0;
        for &kind in TIMED {
            let (claimed, _) = self.claim(kind).await?;
            count += claimed.len();
            let fire = |stored: Stored| async move {
                let key = stored.record.key();
                if let Err(error) = self.fire(stored).await {
                    tracing::error!(kind = key.kind.as_str(), id = %key.id, %error, "a timer cannot fire");
                }
            };
            futures::stream::iter(claimed).for_each_concurrent(AT_ONCE, fire).await;
        }
        Ok(count)
    }

    /// Does what a record is due for. That somebody acted between the claim and this is no failure.
    async fn fire(&self, stored: Stored) -> Result<(), Error> {
        let timer = Call::by(&Actor::Timer);
        match stored.record {
            Record::Job(job) => {
                let id = job.id;
                match job.has_bids_to_close() {
                    true => drop(self.close_bids(job).await?),
                    false => self.inner.recent.put(job, stored.version),
                }
                match self.command_job(Some(id), JobCommand::Tick, timer).await {
                    Ok(_) | Err(Error::Rejected(Rejection::NothingDue { .. })) => Ok(()),
                    Err(error) => Err(error),
                }
            }
            // A deletion that a process began and did not end.
            Record::Agent(agent) if self.inner.agents.is_some() => {
                match self.command_agent(Some(agent.id), AgentCommand::Close, timer).await {
                    Ok(_) | Err(Error::Rejected(Rejection::WrongAgentStatus { .. })) => Ok(()),
                    Err(error) => Err(error),
                }
            }
            Record::Agreement(agreement) => {
                match self.command_agreement(Some(agreement.id), AgreementCommand::Tick, timer).await {
                    Ok(_) | Err(Error::Rejected(Rejection::NothingDue { .. })) => Ok(()),
                    Err(error) => Err(error),
                }
            }
            _ => Ok(()), // no other kind is timed
        }
    }

    /// Claims what is due of a kind, and until when.
    pub(super) async fn claim(&self, kind: Kind) -> Result<(Vec<Stored>, Timestamp), Error> {
        let now = self.now();
        let claim = Claim { kind, now, until: now + self.inner.lease.delta(), limit: BATCH, except: Vec::new() };
        Ok((self.inner.store.claim(self.inner.market, &claim).await?, claim.until))
    }
}
