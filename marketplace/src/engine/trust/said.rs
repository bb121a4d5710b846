//! What the events of the log say about agents.

use std::sync::Arc;

use super::Marketplace;
use crate::{
    agent::AgentEvent,
    clock::Timestamp,
    dispute::{Award, DisputeEnding},
    error::{Error, Rejection},
    hold::HoldEvent,
    ids::{AgentId, JobId, OwnerId},
    job::{CancelCause, Job, JobEvent},
    money::Money,
    policy::PolicyVersion,
    rail::{Leg, Party as RailParty},
    report::ReportEvent,
    review::{Review, ReviewEvent},
    store::{EventBody, Key, Kind, LoggedEvent, Position},
    trust::{Contract, Fact, Happening, Party, Ruling, Settled, Side},
};

/// What an event says: facts, in the words of one policy.
pub(super) struct Said {
    pub(super) facts: Vec<Fact>,
    pub(super) policy: PolicyVersion,
}

impl Marketplace {
    /// What an event says, if it says anything.
    pub(super) async fn said_by(&self, logged: &LoggedEvent) -> Result<Option<Said>, Error> {
        let (event, at) = (&logged.event, logged.event.at);
        match &event.body {
            EventBody::Job(JobEvent::Disputed { by, .. }) => {
                let job = self.job(JobId(event.subject.id)).await?;
                let facts = match self.contract(&job, None).await? {
                    Some(contract) => vec![Fact::filed(at, contract, *by)],
                    None => Vec::new(),
                };
                Ok(Some(Said { facts, policy: job.policy }))
            }
            EventBody::Job(
                JobEvent::Completed { .. }
                | JobEvent::Cancelled { .. }
                | JobEvent::Refunded { .. }
                | JobEvent::PaymentReceived { .. }
                | JobEvent::SettledOutside { .. },
            ) => self.ended(logged).await,
            EventBody::Job(JobEvent::Hold(
                HoldEvent::ChargebackLost { .. } | HoldEvent::RefundedAfterPayout { .. },
            )) => self.went_back(logged).await,
            EventBody::Review(ReviewEvent::Given { job, by, rating, settled: true, .. }) => {
                let (job, ending) = self.ending(*job, logged.position).await?;
                let Some(contract) = self.contract(&job, ending.as_ref()).await? else { return Ok(None) };
                Ok(Some(Said { facts: vec![Fact::rated(at, contract, *by, *rating)], policy: job.policy }))
            }
            EventBody::Agent(AgentEvent::Verified { policy, .. }) => {
                let fact = Fact::of(at, Happening::Verified { agent: AgentId(event.subject.id) });
                Ok(Some(Said { facts: vec![fact], policy: *policy }))
            }
            EventBody::Report(ReportEvent::Made { about, reporter, policy, .. }) => {
                let (target, reporter) = (self.party(*about).await?, self.party(*reporter).await?);
                let fact = Fact::of(at, Happening::Reported { target, reporter });
                Ok(Some(Said { facts: vec![fact], policy: *policy }))
            }
            EventBody::Report(ReportEvent::Dismissed { about, reporter, policy, .. }) => {
                let reporter = self.party(*reporter).await?.owner;
                let fact = Fact::of(at, Happening::ReportDismissed { target: *about, reporter });
                Ok(Some(Said { facts: vec![fact], policy: *policy }))
            }
            _ => Ok(None),
        }
    }

    /// What the end of a job says, if this event is the one that divided its money.
    async fn ended(&self, logged: &LoggedEvent) -> Result<Option<Said>, Error> {
        let (job, ending) = self.ending(JobId(logged.event.subject.id), logged.position).await?;
        let Some(ending) = ending else { return Ok(None) };
        // A rail has funded it: then the rail's receipt is what divides it.
        let by_receipt = matches!(logged.event.body, EventBody::Job(JobEvent::PaymentReceived { .. }));
        let outside = matches!(logged.event.body, EventBody::Job(JobEvent::SettledOutside { .. }));
        if ending.divided_before.is_some() || (by_receipt == job.hold.funding.is_empty() && !outside) {
            return Ok(None);
        }
        let Some(contract) = self.contract(&job, Some(&ending)).await? else { return Ok(None) };
        let at = logged.event.at;
        let mut facts = Vec::new();
        match (ending.how, ending.filed_by) {
            (How::Completed, _) => facts.push(Fact::completed(at, contract)),
            (How::WorkerFault, _) => facts.push(Fact::worker_fault(at, contract)),
            (How::Ruled(ruling), Some(filed_by)) => facts.push(Fact::ruled(at, contract, filed_by, ruling)),
            (How::Ruled(_) | How::Neither, _) => {}
        }
        for by in [Side::Buyer, Side::Worker].into_iter().filter(|_| by_receipt || outside) {
            // One that was given after the money was divided has counted by itself.
            if let Some(Given { rating, settled: false, .. }) = self.rated_before(job.id, by, logged.position).await? {
                facts.push(Fact::rated(at, contract, by, rating));
            }
        }
        Ok(Some(Said { facts, policy: job.policy }))
    }

    /// What has counted of a job and counts no more, if with this event all that worker and platform were paid has
    /// gone back. What needed nobody to be paid (a worker's fault, a ruling for the buyer) counts on.
    async fn went_back(&self, logged: &LoggedEvent) -> Result<Option<Said>, Error> {
        let (job, ending) = self.ending(JobId(logged.event.subject.id), logged.position).await?;
        let Some(ending) = ending.filter(|ending| ending.went_back == Some(logged.position)) else { return Ok(None) };
        let counted_at = if job.hold.funding.is_empty() { Some(ending.at) } else { ending.divided_before };
        let Some(counted_at) = counted_at else { return Ok(None) }; // nothing has counted yet, and nothing will
        let as_it_was = Ending { went_back: None, ..ending };
        let Some(contract) = self.contract(&job, Some(&as_it_was)).await? else { return Ok(None) };
        let mut facts = Vec::new();
        match (as_it_was.how, as_it_was.filed_by) {
            (How::Completed, _) => facts.push(Fact::completed(counted_at, contract)),
            (How::Ruled(ruling @ (Ruling::Worker | Ruling::Split)), Some(filed_by)) => {
                facts.push(Fact::ruled(counted_at, contract, filed_by, ruling));
            }
            (How::Ruled(_) | How::WorkerFault | How::Neither, _) => {}
        }
        for by in [Side::Buyer, Side::Worker] {
            if let Some(Given { at, rating, .. }) = self.rated_before(job.id, by, logged.position).await? {
                facts.push(Fact::rated(at.max(counted_at), contract, by, rating));
            }
        }
        let facts = facts.into_iter().map(|fact| fact.taken_back(logged.event.at)).collect();
        Ok(Some(Said { facts, policy: job.policy }))
    }

    /// The rating that a side has given by a place in the log.
    async fn rated_before(&self, job: JobId, by: Side, place: Position) -> Result<Option<Given>, Error> {
        let review = Key { kind: Kind::Review, id: Review::id_of(job, by) };
        let events = self.inner.store.events_of(self.inner.market, review).await?;
        Ok(events.into_iter().filter(|given| given.position < place).find_map(|given| match given.event.body {
            EventBody::Review(ReviewEvent::Given { rating, settled, .. }) => {
                Some(Given { at: given.event.at, rating, settled })
            }
            _ => None,
        }))
    }

    /// How a job had ended by a place in the log.
    async fn ending(&self, job: JobId, place: Position) -> Result<(Arc<Job>, Option<Ending>), Error> {
        let (job, events) = (self.job(job).await?, self.job_history(job).await?);
        let mut ending = None;
        let (mut filed_by, mut ruling, mut divided_before) = (None, None, None);
        let none = Money::zero(job.terms.amount.currency());
        let (mut given_back, mut went_back) = (none, None);
        for logged in events.into_iter().filter(|logged| logged.position <= place) {
            let at = logged.event.at;
            let EventBody::Job(event) = logged.event.body else { continue };
            if matches!(event, JobEvent::PaymentReceived { .. } | JobEvent::SettledOutside { .. })
                && logged.position < place
            {
                divided_before = divided_before.or(Some(at));
            }
            let (how, amount, to_worker, to_platform) = match event {
                JobEvent::Disputed { by, .. } => {
                    (filed_by, ruling) = (Some(by), None);
                    continue;
                }
                JobEvent::DisputeEnded { ending, .. } => {
                    ruling = Some(ending);
                    continue;
                }
                JobEvent::Hold(HoldEvent::ChargebackLost { amount, buyer, .. }) => {
                    given_back = given_back.plus(amount).and_then(|sum| sum.minus(buyer)).map_err(Rejection::from)?;
                    went_back = went_back.or(all_of(ending.as_ref(), given_back).then_some(logged.position));
                    continue;
                }
                JobEvent::Hold(HoldEvent::RefundedAfterPayout { amount, .. }) => {
                    given_back = given_back.plus(amount).map_err(Rejection::from)?;
                    went_back = went_back.or(all_of(ending.as_ref(), given_back).then_some(logged.position));
                    continue;
                }
                JobEvent::Completed { net, fee, .. } => {
                    (how_ruled(ruling.as_ref()).unwrap_or(How::Completed), job.terms.total(), net, fee)
                }
                JobEvent::Refunded { amount, .. } => {
                    (how_ruled(ruling.as_ref()).unwrap_or(How::Neither), Ok(amount), none, none)
                }
                JobEvent::Cancelled { cause, refunded, cancellation_fee, compensation, .. } => {
                    let fault =
                        matches!(cause, CancelCause::Worker | CancelCause::Stale | CancelCause::DeadlineExpired);
                    let amount = refunded.plus(cancellation_fee).and_then(|sum| sum.plus(compensation));
                    (if fault { How::WorkerFault } else { How::Neither }, amount, compensation, cancellation_fee)
                }
                JobEvent::SettledOutside { legs, .. } => {
                    let to_worker = leg(&legs, |to| matches!(to, RailParty::Worker(_)), none);
                    let how = if to_worker.is_positive() { How::Completed } else { How::Neither };
                    (how, job.terms.total(), to_worker, leg(&legs, |to| *to == RailParty::Platform, none))
                }
                _ => continue,
            };
            let settled = Settled { amount: amount.map_err(Rejection::from)?, to_worker };
            let paid = to_worker.plus(to_platform).map_err(Rejection::from)?;
            ending = Some(Ending { at, how, filed_by, settled, paid, divided_before: None, went_back: None });
        }
        Ok((job, ending.map(|ending| Ending { divided_before, went_back, ..ending })))
    }

    /// What trust has to know of a job, if it has a worker.
    async fn contract(&self, job: &Job, ending: Option<&Ending>) -> Result<Option<Contract>, Error> {
        let Some(worker) = job.worker else { return Ok(None) };
        let (buyer, worker) = (self.party(job.buyer).await?, self.party(worker).await?);
        Ok(Some(Contract { id: job.id, buyer, worker, settled: ending.map(Ending::settled) }))
    }

    /// An agent and who is behind it: where agents are the embedder's own, each is its own owner.
    pub(super) async fn party(&self, agent: AgentId) -> Result<Party, Error> {
        let own = Party { agent, owner: OwnerId(agent.0) };
        if self.inner.agents.is_none() {
            return Ok(own);
        }
        match self.registered(agent).await {
            Ok(known) => Ok(Party { agent, owner: known.owner }),
            Err(Error::Rejected(Rejection::NotFound { .. })) => Ok(own),
            Err(error) => Err(error),
        }
    }
}

/// How a job ended, as far as trust is concerned.
struct Ending {
    /// When.
    at: Timestamp,
    how: How,
    filed_by: Option<Side>,
    settled: Settled,
    /// What worker and platform got.
    paid: Money,
    /// When a rail divided its money before: what arrives now is a refund.
    divided_before: Option<Timestamp>,
    /// Where in the log all that worker and platform got had gone back.
    went_back: Option<Position>,
}

impl Ending {
    /// How the money was divided; nothing is left to the worker of what has all gone back.
    fn settled(&self) -> Settled {
        let Settled { amount, to_worker } = self.settled;
        let none = Money::zero(to_worker.currency());
        Settled { amount, to_worker: if self.went_back.is_some() { none } else { to_worker } }
    }
}

/// Whether as much was given back as worker and platform got.
fn all_of(ending: Option<&Ending>, given_back: Money) -> bool {
    ending.is_some_and(|ending| ending.paid.is_positive() && given_back.minor() >= ending.paid.minor())
}

/// A rating that was given.
struct Given {
    at: Timestamp,
    rating: u8,
    /// Whether the money was divided by then.
    settled: bool,
}

#[derive(Clone, Copy)]
enum How {
    Completed,
    WorkerFault,
    Ruled(Ruling),
    /// In a way that says nothing about anybody.
    Neither,
}

/// What a dispute's end says. Who agrees has not lost; who pays in full for it has got the work.
fn how_ruled(ending: Option<&DisputeEnding>) -> Option<How> {
    let ruling = |award: &Award| match award {
        Award::Buyer => Ruling::Buyer,
        Award::Worker => Ruling::Worker,
        Award::Split { .. } => Ruling::Split,
    };
    match ending? {
        DisputeEnding::Ruled { award } => Some(How::Ruled(ruling(award))),
        DisputeEnding::Agreed { award } | DisputeEnding::Lapsed { award } => Some(match award {
            Award::Buyer => How::Neither,
            Award::Worker => How::Completed,
            Award::Split { .. } => How::Ruled(Ruling::Split),
        }),
        DisputeEnding::Withdrawn => None,
    }
}

fn leg(legs: &[Leg], is: fn(&RailParty) -> bool, none: Money) -> Money {
    legs.iter().find(|leg| is(&leg.to)).map_or(none, |leg| leg.amount)
}
