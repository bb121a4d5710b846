//! What receivers may be shown beside an event's own fields. A policy's table reads these by name, and is
//! held against them: a field more here is a field more to tell.

use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use crate::{
    agreement::{ActivationStatus, Agreement, AgreementStatus, SettlementStatus},
    clock::Timestamp,
    ids::{AgentId, AgreementId, JobId},
    job::{Job, JobStatus},
    money::Money,
    rail::{Leg, Party},
    store::Kind,
    trust::ClientReputation,
};

/// A job, as it is when it is told of.
#[derive(Serialize, JsonSchema)]
pub(crate) struct JobView {
    id: JobId,
    buyer: AgentId,
    worker: Option<AgentId>,
    status: JobStatus,
    /// What the work costs.
    amount: Option<Money>,
    /// The platform's fee when the job completes. What it took in fact is `own.fee`.
    fee: Option<Money>,
    net: Option<Money>,
    total: Option<Money>,
    deadline: Option<Timestamp>,
    release_at: Option<Timestamp>,
    posted_at: Timestamp,
    requires: Option<Vec<String>>,
    category: Option<String>,
    closes_at: Option<Timestamp>,
    /// What the rail calls the payment that funded it.
    payment: Option<String>,
}

impl JobView {
    /// What its parties may see.
    pub(super) fn of(job: &Job) -> Self {
        Self {
            worker: job.worker,
            amount: Some(job.terms.amount),
            fee: Some(job.terms.fee),
            net: job.terms.net().ok(),
            total: job.terms.total().ok(),
            deadline: job.timers.deadline,
            release_at: job.timers.release_at,
            payment: Some(job.hold.funding.clone()).filter(|reference| !reference.is_empty()),
            ..Self::public(job)
        }
    }

    /// What everybody may see.
    pub(super) fn public(job: &Job) -> Self {
        let open = job.open.as_ref();
        Self {
            id: job.id,
            buyer: job.buyer,
            worker: None,
            status: job.status,
            amount: None,
            fee: None,
            net: None,
            total: None,
            deadline: None,
            release_at: None,
            posted_at: job.posted_at,
            requires: open.map(|open| open.requires.clone()),
            category: open.and_then(|open| open.category.clone()),
            closes_at: open.and_then(|open| open.closes_at),
            payment: None,
        }
    }
}

/// A usage agreement, as it is when it is told of; for its parties.
#[derive(Serialize, JsonSchema)]
pub(crate) struct AgreementView {
    id: AgreementId,
    buyer: AgentId,
    seller: AgentId,
    status: AgreementStatus,
    activation: Option<ActivationStatus>,
    settlement: Option<SettlementStatus>,
    service: Option<String>,
    unit: String,
    quantity: i64,
    unit_price: Money,
    deposit: Money,
    /// Units recorded or received, whichever is more.
    units: i64,
    earned: Option<Money>,
    proposed_at: Timestamp,
    expires_at: Timestamp,
    final_at: Option<Timestamp>,
}

impl AgreementView {
    pub(super) fn of(agreement: &Agreement) -> Self {
        let terms = &agreement.terms;
        Self {
            id: agreement.id,
            buyer: agreement.buyer,
            seller: agreement.seller,
            status: agreement.status,
            activation: agreement.activation,
            settlement: agreement.settlement,
            service: terms.service.clone(),
            unit: terms.unit.clone(),
            quantity: terms.quantity,
            unit_price: terms.unit_price,
            deposit: terms.deposit,
            units: agreement.admitted_units(),
            earned: agreement.earned,
            proposed_at: agreement.proposed_at,
            expires_at: terms.expiry,
            final_at: agreement.final_at(),
        }
    }
}

/// What of a settled payment is the receiver's.
#[derive(Serialize, JsonSchema)]
pub(crate) struct OwnView {
    /// Its share.
    amount: Money,
    /// What the platform took beside it, for the worker: without what repaid a debt.
    fee: Option<Money>,
}

impl OwnView {
    /// The share of an agent in what a payment was divided into; `None` without one.
    pub(super) fn of(legs: &[Leg], job: &Job, agent: AgentId) -> Option<Self> {
        let own = |leg: &&Leg| matches!(leg.to, Party::Buyer(id) | Party::Worker(id) if id == agent);
        let Leg { to, amount } = *legs.iter().find(own)?;
        let none = Money::zero(amount.currency());
        let fee = || {
            let taken = legs.iter().find(|leg| leg.to == Party::Platform).map_or(none, |leg| leg.amount);
            taken.minus(job.hold.repaid.unwrap_or(none)).ok()
        };
        Some(Self { amount, fee: matches!(to, Party::Worker(_)).then(fee).flatten() })
    }
}

/// What a job's buyer is like to work for, for everybody to see (JP-33).
#[derive(Serialize, JsonSchema)]
pub(crate) struct ClientView {
    score: Decimal,
    /// Jobs it paid for that were completed without a dispute of its own.
    completed: u64,
    disputes_filed: u64,
    dispute_rate: Decimal,
    /// Whether it may not post or dispute for now (JP-14).
    restricted: bool,
}

impl ClientView {
    pub(crate) fn of(client: ClientReputation, score: Decimal, restricted: bool) -> Self {
        let (completed, disputes_filed, dispute_rate) = (client.completed, client.filed, client.dispute_rate());
        Self { score, completed, disputes_filed, dispute_rate, restricted }
    }
}

/// The record that something happened to.
#[derive(Serialize, JsonSchema)]
pub(crate) struct SubjectView {
    pub(super) id: Uuid,
    pub(super) kind: Kind,
}

/// Who did it, where an agent did.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ActorView {
    pub(super) agent: AgentId,
}
