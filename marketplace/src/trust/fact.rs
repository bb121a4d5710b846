//! Facts that say something about agents, and which of them count.

use serde::{Deserialize, Serialize};

use crate::{
    clock::Timestamp,
    ids::{AgentId, JobId, OwnerId},
    money::Money,
    policy::{Range, RatingBounds, TrustEvent},
};

/// Something that happened and may say something about the agents it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// When.
    pub at: Timestamp,
    /// What.
    pub happening: Happening,
    /// When it counted, if it counts no more from `at` on: the contract's money went back to its payer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted_at: Option<Timestamp>,
}

/// What happened. A contract ends once: it completes, is ruled upon, or fails by its worker's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Happening {
    /// A contract was completed without a ruling.
    Completed {
        /// Which.
        contract: Contract,
    },
    /// The worker gave a contract back, or let its time run out.
    WorkerFault {
        /// Which.
        contract: Contract,
    },
    /// A party opened a dispute, whatever comes of it (JP-33).
    Filed {
        /// The contract.
        contract: Contract,
        /// Who.
        by: Side,
    },
    /// A dispute was ruled and the contract settled accordingly.
    Ruled {
        /// The contract.
        contract: Contract,
        /// Who had opened the dispute.
        filed_by: Side,
        /// For whom.
        ruling: Ruling,
    },
    /// One party of a completed contract rated the other (VP-29, JP-15).
    Rated {
        /// The contract.
        contract: Contract,
        /// Who rated; the other side is rated.
        by: Side,
        /// How, on the policy's scale of ratings.
        rating: u8,
    },
    /// The platform has verified an agent.
    Verified {
        /// Whom.
        agent: AgentId,
    },
    /// The platform has taken a verification back.
    Unverified {
        /// Whose.
        agent: AgentId,
    },
    /// An agent was reported (JP-29).
    Reported {
        /// Who.
        target: Party,
        /// By whom.
        reporter: Party,
    },
    /// An operator has dismissed what an owner reported (JP-29).
    ReportDismissed {
        /// Who was reported.
        target: AgentId,
        /// Whose report it was.
        reporter: OwnerId,
    },
}

/// What trust has to know about a contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contract {
    /// Its id.
    pub id: JobId,
    /// Who paid.
    pub buyer: Party,
    /// Who worked.
    pub worker: Party,
    /// How its money was divided; absent while it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled: Option<Settled>,
}

/// An agent and the owner behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Party {
    /// The agent.
    pub agent: AgentId,
    /// Its owner.
    pub owner: OwnerId,
}

/// How a contract's money was divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// What had been reserved.
    pub amount: Money,
    /// What of it the worker got.
    pub to_worker: Money,
}

/// A side of a contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Who pays.
    Buyer,
    /// Who works.
    Worker,
}

impl Side {
    /// The side opposite.
    pub const fn other(self) -> Self {
        match self {
            Self::Buyer => Self::Worker,
            Self::Worker => Self::Buyer,
        }
    }
}

/// For whom a dispute was ruled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ruling {
    /// The buyer got everything back.
    Buyer,
    /// The worker got what was agreed.
    Worker,
    /// Both got a part; nobody has lost.
    Split,
}

/// What a fact says about one agent: the reason in its history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Evidence {
    /// A job it worked on was completed.
    JobCompleted,
    /// A job it paid for was completed.
    JobBought,
    /// It gave back a job, or let its time run out.
    WorkerFault,
    /// A job that it paid for was given back or ran out of time.
    WorkerFailed,
    /// It opened a dispute.
    DisputeFiled {
        /// Its side of the contract.
        side: Side,
    },
    /// A dispute it was part of was ruled.
    Dispute {
        /// Its side of the contract.
        side: Side,
        /// Whether it had opened the dispute.
        stance: Stance,
        /// What came of it.
        outcome: Outcome,
    },
    /// The other party rated it.
    Rated {
        /// How.
        rating: u8,
    },
    /// The platform verified it.
    Verified,
    /// The platform took its verification back.
    Unverified,
    /// It was reported.
    Reported {
        /// By whose agent.
        by: OwnerId,
    },
    /// A report on it was dismissed.
    ReportDismissed {
        /// By whose agent it was made.
        by: OwnerId,
    },
    /// Nothing but time: evidence faded, or reports expired.
    TimePassed,
    /// What a contract had brought counts no more: its money went back to its payer.
    MoneyWentBack,
}

/// Who had opened a dispute, as seen by one party.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stance {
    /// The party itself.
    Claimant,
    /// The other side.
    Respondent,
}

/// What came of a dispute, for one party.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The ruling was for it.
    Won,
    /// Both sides got a part.
    Split,
    /// The ruling was against it.
    Lost,
}

/// Why a fact does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Ignored {
    /// It is about others.
    #[error("the fact is not about this agent")]
    NotConcerned,
    /// Both sides belong to one owner.
    #[error("trust: both sides belong to owner {owner}; only contracts between different owners count")]
    SameOwner {
        /// Whose.
        owner: OwnerId,
    },
    /// The contract's money is not divided yet.
    #[error("trust: contract {contract} is not settled; only settled contracts count")]
    NotSettled {
        /// Which.
        contract: JobId,
    },
    /// No money was at stake, or none reached the worker of a contract that is said to be done.
    #[error("trust: {found} moved under contract {contract}; only contracts settled for money count")]
    NoMoney {
        /// Which.
        contract: JobId,
        /// The amount that would have to be more than nothing.
        found: Money,
    },
    /// The agent is verified already.
    #[error("trust: agent {agent} was verified before")]
    VerifiedBefore {
        /// Which.
        agent: AgentId,
    },
    /// A payer that has its money back would gain by that.
    #[error("trust: the payer of contract {contract} has its money back; what counted against it stays")]
    PayerGains {
        /// Which.
        contract: JobId,
    },
    /// A rating is outside the policy's scale.
    #[error("trust: rating {rating}; allowed are {} to {}", .allowed.min, .allowed.max)]
    RatingOutOfRange {
        /// The rating.
        rating: u8,
        /// What the policy allows.
        allowed: Range<u8>,
    },
    /// The policy has no reviews.
    #[error("trust: a rating under a policy without reviews")]
    NoReviews,
}

/// Whether a happening may count for or against anybody: **only contracts settled for money between
/// different owners do**. Work that is said to be done or worth something must have paid its worker;
/// failed work must have had money reserved. A reputation that costs nothing is bought.
///
/// What the platform itself says (verifying, dismissing) always counts. A report has no contract and a
/// dispute is opened before money is divided, so only the owners are looked at.
///
/// # Errors
/// [`Ignored::SameOwner`], [`Ignored::NotSettled`] or [`Ignored::NoMoney`].
pub fn counts(happening: &Happening) -> Result<(), Ignored> {
    let (contract, worker_was_paid) = match happening {
        Happening::Verified { .. } | Happening::Unverified { .. } | Happening::ReportDismissed { .. } => return Ok(()),
        Happening::Reported { target, reporter } => return different_owners(target, reporter),
        Happening::Filed { contract, .. } => return different_owners(&contract.buyer, &contract.worker),
        Happening::WorkerFault { contract } | Happening::Ruled { contract, ruling: Ruling::Buyer, .. } => {
            (contract, false)
        }
        Happening::Completed { contract } | Happening::Rated { contract, .. } | Happening::Ruled { contract, .. } => {
            (contract, true)
        }
    };
    different_owners(&contract.buyer, &contract.worker)?;
    let settled = contract.settled.ok_or(Ignored::NotSettled { contract: contract.id })?;
    let decisive = if worker_was_paid { settled.to_worker } else { settled.amount };
    match settled.amount.is_positive() && decisive.is_positive() {
        true => Ok(()),
        false => Err(Ignored::NoMoney { contract: contract.id, found: decisive }),
    }
}

pub(crate) fn different_owners(one: &Party, other: &Party) -> Result<(), Ignored> {
    match one.owner == other.owner || one.agent == other.agent {
        true => Err(Ignored::SameOwner { owner: one.owner }),
        false => Ok(()),
    }
}

impl Fact {
    /// Something happened.
    pub const fn of(at: Timestamp, happening: Happening) -> Self {
        Self { at, happening, counted_at: None }
    }

    /// This fact counts no more from a moment on, since the contract's money went back.
    pub const fn taken_back(self, at: Timestamp) -> Self {
        Self { at, happening: self.happening, counted_at: Some(self.at) }
    }

    /// A contract was completed.
    pub const fn completed(at: Timestamp, contract: Contract) -> Self {
        Self::of(at, Happening::Completed { contract })
    }

    /// A contract failed by its worker's fault.
    pub const fn worker_fault(at: Timestamp, contract: Contract) -> Self {
        Self::of(at, Happening::WorkerFault { contract })
    }

    /// A dispute was opened.
    pub const fn filed(at: Timestamp, contract: Contract, by: Side) -> Self {
        Self::of(at, Happening::Filed { contract, by })
    }

    /// A dispute was ruled.
    pub const fn ruled(at: Timestamp, contract: Contract, filed_by: Side, ruling: Ruling) -> Self {
        Self::of(at, Happening::Ruled { contract, filed_by, ruling })
    }

    /// One party rated the other.
    pub const fn rated(at: Timestamp, contract: Contract, by: Side, rating: u8) -> Self {
        Self::of(at, Happening::Rated { contract, by, rating })
    }

    /// Whether it is about money that this agent paid.
    pub(super) fn paid_by(&self, agent: AgentId) -> Option<JobId> {
        let contract = self.happening.contract()?;
        (contract.side_of(agent) == Some(Side::Buyer)).then_some(contract.id)
    }

    /// What this says about one agent, if it is about that agent and counts.
    pub(super) fn evidence(&self, agent: AgentId) -> Result<Evidence, Ignored> {
        let side = self.happening.contract().map(|contract| contract.side_of(agent));
        let evidence = match (&self.happening, side.flatten()) {
            (Happening::Completed { .. }, Some(Side::Worker)) => Evidence::JobCompleted,
            (Happening::Completed { .. }, Some(Side::Buyer)) => Evidence::JobBought,
            (Happening::WorkerFault { .. }, Some(Side::Worker)) => Evidence::WorkerFault,
            (Happening::WorkerFault { .. }, Some(Side::Buyer)) => Evidence::WorkerFailed,
            (Happening::Filed { by, .. }, Some(side)) if *by == side => Evidence::DisputeFiled { side },
            (Happening::Ruled { filed_by, ruling, .. }, Some(side)) => Evidence::Dispute {
                side,
                stance: if *filed_by == side { Stance::Claimant } else { Stance::Respondent },
                outcome: ruling.outcome_for(side),
            },
            (Happening::Rated { by, rating, .. }, Some(side)) if *by != side => Evidence::Rated { rating: *rating },
            (Happening::Verified { agent: whom }, _) if *whom == agent => Evidence::Verified,
            (Happening::Unverified { agent: whom }, _) if *whom == agent => Evidence::Unverified,
            (Happening::Reported { target, reporter }, _) if target.agent == agent => {
                Evidence::Reported { by: reporter.owner }
            }
            (Happening::ReportDismissed { target, reporter }, _) if *target == agent => {
                Evidence::ReportDismissed { by: *reporter }
            }
            _ => return Err(Ignored::NotConcerned),
        };
        counts(&self.happening)?;
        Ok(evidence)
    }
}

impl Happening {
    /// The contract it is about, if it is about one.
    pub const fn contract(&self) -> Option<&Contract> {
        match self {
            Self::Completed { contract }
            | Self::WorkerFault { contract }
            | Self::Filed { contract, .. }
            | Self::Ruled { contract, .. }
            | Self::Rated { contract, .. } => Some(contract),
            Self::Verified { .. } | Self::Unverified { .. } | Self::Reported { .. } | Self::ReportDismissed { .. } => {
                None
            }
        }
    }
}

impl Contract {
    fn side_of(&self, agent: AgentId) -> Option<Side> {
        match agent {
            _ if agent == self.worker.agent => Some(Side::Worker),
            _ if agent == self.buyer.agent => Some(Side::Buyer),
            _ => None,
        }
    }
}

impl Ruling {
    const fn outcome_for(self, side: Side) -> Outcome {
        match (self, side) {
            (Self::Split, _) => Outcome::Split,
            (Self::Buyer, Side::Buyer) | (Self::Worker, Side::Worker) => Outcome::Won,
            (Self::Buyer, Side::Worker) | (Self::Worker, Side::Buyer) => Outcome::Lost,
        }
    }
}

impl Evidence {
    /// The word used in histories.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::JobCompleted => "job_completed",
            Self::JobBought => "job_bought",
            Self::WorkerFault => "worker_fault",
            Self::WorkerFailed => "worker_failed",
            Self::DisputeFiled { .. } => "dispute_filed",
            Self::Dispute { outcome: Outcome::Won, .. } => "dispute_won",
            Self::Dispute { outcome: Outcome::Split, .. } => "dispute_split",
            Self::Dispute { outcome: Outcome::Lost, .. } => "dispute_lost",
            Self::Rated { .. } => "rated",
            Self::Verified => "verified",
            Self::Unverified => "unverified",
            Self::Reported { .. } => "reported",
            Self::ReportDismissed { .. } => "report_dismissed",
            Self::TimePassed => "time_passed",
            Self::MoneyWentBack => "money_went_back",
        }
    }

    /// The event that a policy gives a weight to, if it is one.
    pub fn event(&self, ratings: RatingBounds) -> Option<TrustEvent> {
        match self {
            Self::WorkerFault => Some(TrustEvent::WorkerFault),
            Self::Dispute { outcome: Outcome::Lost, .. } => Some(TrustEvent::DisputeLost),
            Self::Rated { rating } if *rating >= ratings.good => Some(TrustEvent::GoodRating),
            Self::Rated { rating } if *rating <= ratings.bad => Some(TrustEvent::BadRating),
            _ => self.completes_work().then_some(TrustEvent::JobCompleted),
        }
    }

    /// Whether a job that the agent worked on was completed, be it by a ruling.
    pub(super) const fn completes_work(&self) -> bool {
        matches!(self, Self::JobCompleted | Self::Dispute { side: Side::Worker, outcome: Outcome::Won, .. })
    }
}
