//! One command's writes, as plain data.

use serde::{Deserialize, Serialize, de::Error as _};
use uuid::Uuid;

use super::{InstructionRecord, InstructionState, Key, Kind, Record, StoreError};
use crate::{
    actor::Actor,
    adjustment::AdjustmentEvent,
    agent::AgentEvent,
    agreement::AgreementEvent,
    bid::BidEvent,
    clock::Timestamp,
    dispute::DisputeEvent,
    ids::{AgentId, MarketId, RailId},
    job::JobEvent,
    ledger::{LedgerError, Movement},
    money::Money,
    notice::EndpointEvent,
    rail::Instruction,
    report::ReportEvent,
    review::ReviewEvent,
    search::Entry,
    spending::BudgetEvent,
    trust::ReputationEvent,
    wallet::WalletEvent,
};

/// Everything one command writes.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The market.
    pub market: MarketId,
    /// The moment of the decision.
    pub at: Timestamp,
    /// The contract or wallet that the movement belongs to, and the version that makes it.
    pub contract: Uuid,
    /// The version of the contract that this commit makes.
    pub version: u64,
    /// The idempotency key, if the caller gave one.
    pub key: Option<KeyUse>,
    /// The records, each guarded by the version it was decided on. No record twice.
    pub writes: Vec<Write>,
    /// What happened, in order.
    pub events: Vec<Event>,
    /// What moves in the ledger.
    pub movement: Movement,
    /// What is kept beside the records.
    pub documents: Vec<Document>,
    /// What records are listed under from now on, where that changes.
    pub tags: Vec<Tagging>,
    /// What records are found by from now on, where that changes.
    pub listings: Vec<Listing>,
    /// Records that the decision relies on, each with the version it must still have before this commit: if
    /// one was changed meanwhile, the commit is a conflict.
    pub guards: Vec<(Key, u64)>,
}

/// What a record is listed under from now on, in place of everything before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tagging {
    /// The record, which the same commit writes.
    pub subject: Key,
    /// Its tags; none for a record that is listed no more.
    pub tags: Vec<String>,
}

/// What a record is found by from now on, in place of everything before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The record.
    pub subject: Key,
    /// Its entry; none for a record that is found no more.
    pub entry: Option<Entry>,
}

/// A record to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The record.
    pub record: Record,
    /// The version it must have now; 0 when it must not exist. It gets the next one.
    pub expected: u64,
    /// Until when the writer keeps it for itself, as if it had claimed it.
    pub claimed_until: Option<Timestamp>,
}

/// An idempotency key and what it is used for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyUse {
    /// The key, scoped to its actor by the engine.
    pub key: String,
    /// What was commanded, as a SHA-256 digest.
    pub fingerprint: [u8; 32],
    /// What is answered.
    pub answer: Record,
}

/// What an idempotency key was used for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// What was commanded, as a SHA-256 digest.
    pub fingerprint: [u8; 32],
    /// What was answered.
    pub answer: Record,
}

/// A text kept beside a record, written once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The record's id.
    pub subject: Uuid,
    /// What it is to the record: `task`, `delivery/1`.
    pub name: String,
    /// The text, most often JSON.
    pub body: String,
}

/// Something that happened, with who and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// The record it happened to.
    pub subject: Key,
    /// The version of the record that it made.
    pub version: u64,
    /// When.
    pub at: Timestamp,
    /// Who did it.
    pub actor: Actor,
    /// What happened.
    #[serde(flatten)]
    pub body: EventBody,
}

/// A kind of record a line, with the events that happen to it.
macro_rules! events {
    ($($(#[$doc:meta])* $kind:ident($event:ty)),+ $(,)?) => {
        /// What happened, by the kind of record it happened to.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(untagged)]
        pub enum EventBody {
            $($(#[$doc])* $kind($event),)+
        }

        impl EventBody {
            /// The event's name: `job.created`.
            pub const fn name(&self) -> &'static str {
                match self {
                    $(Self::$kind(event) => event.name(),)+
                }
            }

            /// The form of each kind's events.
            pub(crate) fn schemas() -> Vec<(Kind, schemars::Schema)> {
                vec![$((Kind::$kind, schemars::schema_for!($event))),+]
            }

            /// Reads the form in a database.
            ///
            /// # Errors
            /// When the text is not an event of this kind of record.
            pub fn from_json(kind: Kind, text: &str) -> Result<Self, serde_json::Error> {
                match kind {
                    $(Kind::$kind => serde_json::from_str(text).map(Self::$kind),)+
                    Kind::Owner | Kind::Check | Kind::Delivery | Kind::Notice => {
                        Err(serde_json::Error::custom("this kind of record has no events of its own"))
                    }
                }
            }
        }

        $(
            impl From<$event> for EventBody {
                fn from(event: $event) -> Self {
                    Self::$kind(event)
                }
            }
        )+
    };
}

events! {
    /// To a job.
    Job(JobEvent),
    /// To an instruction.
    Instruction(InstructionEvent),
    /// To what a rail reported.
    Observation(ObservationEvent),
    /// To an agent.
    Agent(AgentEvent),
    /// To the ledger, by an operator's hand.
    Adjustment(AdjustmentEvent),
    /// To a bid.
    Bid(BidEvent),
    /// To a wallet.
    Wallet(WalletEvent),
    /// To a budget.
    Budget(BudgetEvent),
    /// To a dispute.
    Dispute(DisputeEvent),
    /// To a review.
    Review(ReviewEvent),
    /// To a report.
    Report(ReportEvent),
    /// To an agent's trust.
    Reputation(ReputationEvent),
    /// To a usage agreement.
    Agreement(AgreementEvent),
    /// To an address that notices are sent to.
    Endpoint(EndpointEvent),
}

/// What happened to an instruction that its contract does not hear of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "type")]
#[non_exhaustive]
pub enum InstructionEvent {
    /// The rail's answer is not what was asked for; nothing was booked, an operator decides.
    #[serde(rename = "instruction.mismatch")]
    Mismatch {
        /// What does not fit.
        reason: String,
    },
    /// An operator has the rail asked again.
    #[serde(rename = "instruction.asked_again")]
    AskedAgain {
        /// Why.
        reason: String,
    },
    /// An operator has established outside what became of it.
    #[serde(rename = "instruction.resolved")]
    Resolved {
        /// Why.
        reason: String,
    },
    /// A party did what the rail asked for.
    #[serde(rename = "instruction.answered")]
    Answered {},
}

/// What became of something a rail reported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "type")]
#[non_exhaustive]
pub enum ObservationEvent {
    /// Money came in and is in the agent's wallet (JP-24).
    #[serde(rename = "wallet.deposited")]
    Deposited {
        /// Whose.
        agent: AgentId,
        /// How much.
        amount: Money,
        /// Where from.
        source: String,
    },
    /// A rule took it in; what followed is told by the contract's own events.
    #[serde(rename = "observation.taken")]
    Taken {},
    /// No rule could take it in; an operator decides.
    #[serde(rename = "observation.refused")]
    Refused {
        /// Which rule refused, in words.
        reason: String,
    },
    /// An operator has dealt with one that was refused.
    #[serde(rename = "observation.dismissed")]
    Dismissed {
        /// How.
        reason: String,
    },
}

impl InstructionEvent {
    /// The event's name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Mismatch { .. } => "instruction.mismatch",
            Self::AskedAgain { .. } => "instruction.asked_again",
            Self::Resolved { .. } => "instruction.resolved",
            Self::Answered {} => "instruction.answered",
        }
    }
}

impl ObservationEvent {
    /// The event's name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Deposited { .. } => "wallet.deposited",
            Self::Taken {} => "observation.taken",
            Self::Dismissed { .. } => "observation.dismissed",
            Self::Refused { .. } => "observation.refused",
        }
    }
}

impl Commit {
    /// A commit that takes its subject (a contract, a wallet) from version `expected` to the next; 0 when
    /// it is new. Everything else is added to it.
    pub fn new(market: MarketId, at: Timestamp, subject: Key, expected: u64) -> Self {
        Self {
            market,
            at,
            contract: subject.id,
            version: expected + 1,
            key: None,
            writes: Vec::new(),
            events: Vec::new(),
            movement: Movement::new(),
            documents: Vec::new(),
            tags: Vec::new(),
            listings: Vec::new(),
            guards: Vec::new(),
        }
    }

    /// Writes a record, and what happened to it, over the version it was decided on.
    pub fn write<E: Into<EventBody>>(
        &mut self,
        record: impl Into<Record>,
        expected: u64,
        actor: &Actor,
        events: impl IntoIterator<Item = E>,
    ) {
        let record = record.into();
        let (subject, at) = (record.key(), self.at);
        let event = |body: E| Event { subject, version: expected + 1, at, actor: actor.clone(), body: body.into() };
        self.events.extend(events.into_iter().map(event));
        self.writes.push(Write { record, expected, claimed_until: None });
    }

    /// Writes a record of a kind without events of its own.
    pub fn write_silently(&mut self, record: impl Into<Record>, expected: u64) {
        self.writes.push(Write { record: record.into(), expected, claimed_until: None });
    }

    /// Writes a new instruction of a contract's, to be worked on from `run_at` on and kept for the writer
    /// until `claimed_until`.
    pub fn instruct(
        &mut self,
        contract: Key,
        rail: RailId,
        instruction: Instruction,
        run_at: Timestamp,
        claimed_until: Option<Timestamp>,
    ) {
        let record = InstructionRecord {
            instruction,
            contract,
            rail,
            given_at: self.at,
            run_at,
            state: InstructionState::Queued,
            failures: 0,
            problem: None,
        };
        self.writes.push(Write { record: record.into(), expected: 0, claimed_until });
    }
}

/// Why a commit was not written.
#[derive(Debug)]
pub enum CommitError {
    /// A record has another version than the decision was made on: decide again.
    Conflict(Key),
    /// The key was used before for the same command: this was the answer.
    Replayed(Record),
    /// The key was used before for another command.
    KeyReused(String),
    /// An account's limit does not allow it.
    Ledger(LedgerError),
    /// The store failed.
    Store(StoreError),
}

impl From<StoreError> for CommitError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<LedgerError> for CommitError {
    fn from(error: LedgerError) -> Self {
        Self::Ledger(error)
    }
}
