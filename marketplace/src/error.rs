//! What can go wrong: a command is refused by a rule ([`Rejection`]), or the machinery failed
//! ([`Error`]).

use crate::{
    actor::Actor,
    adjustment::MovementId,
    agent::AgentStatus,
    agreement::{AgreementStatus, chain::Hash},
    bid::BidStatus,
    clock::Timestamp,
    dispute::DisputeStatus,
    ids::{AgentId, BidId, JobId, RailId},
    job::JobStatus,
    ledger::{Account, LedgerError},
    money::{Currency, Money, MoneyError, Rate},
    policy::{PolicyError, Span},
    rail::{Capability, Custody, RailError, ReceiptMismatch},
    store::{Key, StoreError},
};

/// Why a rule refused a command. Nothing was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// There is no such thing in this marketplace.
    #[error("there is no {what} {id}")]
    NotFound {
        /// What was looked for.
        what: &'static str,
        /// Its id.
        id: String,
    },
    /// The command is not this actor's to give.
    #[error("{command}: only {allowed} may, not {actor}")]
    WrongActor {
        /// The command.
        command: &'static str,
        /// Who may.
        allowed: &'static str,
        /// Who tried.
        actor: Actor,
    },
    /// The embedder's authorizer said no.
    #[error("{command}: refused by the platform: {reason}")]
    NotAuthorized {
        /// The command.
        command: &'static str,
        /// What the authorizer said.
        reason: String,
    },
    /// The job is not in a status that allows this.
    #[error("{command}: the job is {status}; allowed in {allowed:?}")]
    WrongStatus {
        /// The command.
        command: &'static str,
        /// The job's status.
        status: JobStatus,
        /// The statuses that allow it, under the job's policy.
        allowed: Vec<JobStatus>,
    },
    /// Two parties of a contract must be two agents.
    #[error("agent {agent} cannot be both buyer and worker of job {job}")]
    SameParty {
        /// The agent.
        agent: AgentId,
        /// The job.
        job: JobId,
    },
    /// The agreement is not in a status that allows this.
    #[error("{command}: the agreement is {status}; allowed in {allowed:?}")]
    WrongAgreementStatus {
        /// The command.
        command: &'static str,
        /// The agreement's status.
        status: AgreementStatus,
        /// The statuses that allow it.
        allowed: Vec<AgreementStatus>,
    },
    /// Nobody makes an agreement with itself.
    #[error("agent {agent} cannot be both buyer and seller")]
    SelfDealing {
        /// The agent.
        agent: AgentId,
    },
    /// More units than were agreed (PG-07).
    #[error("{units} units in all; agreed are {quantity}")]
    OverQuantity {
        /// Units in all, this record or receipt included.
        units: i64,
        /// The quantity agreed.
        quantity: i64,
    },
    /// Calls were recorded meanwhile, so that another call is the last (PG-19).
    #[error("the last call recorded is {actual}, not {expected}")]
    ChainMoved {
        /// The last call that was expected.
        expected: Hash,
        /// The last call.
        actual: Hash,
    },
    /// A receipt says no more than what counts already (PG-19).
    #[error("the receipt is of {units} units, one of {counted} counts already")]
    ReceiptNotNewer {
        /// The receipt's units.
        units: i64,
        /// The units that count.
        counted: i64,
    },
    /// A receipt is not the receipt signer's.
    #[error("the receipt's signature does not hold: {reason}")]
    BadReceipt {
        /// What does not fit.
        reason: String,
    },
    /// Nobody could sign receipts as named.
    #[error("receipt_signer: {reason}")]
    BadReceiptSigner {
        /// What does not fit.
        reason: String,
    },
    /// The challenge window runs already (PG-09).
    #[error("{command}: the agreement is being closed, it is final at {final_at}")]
    AlreadyClosing {
        /// The command.
        command: &'static str,
        /// When it is final.
        final_at: Timestamp,
    },
    /// It is not final yet (PG-09).
    #[error("the agreement is final at {final_at}")]
    NotFinal {
        /// When.
        final_at: Timestamp,
    },
    /// The marketplace does not offer this: its policy has no such section.
    #[error("this marketplace does not offer {what}")]
    NotOffered {
        /// What.
        what: &'static str,
    },
    /// The buyer's wallet holds too little for a worker's acceptance (AM-06). How much it holds is the
    /// buyer's alone.
    #[error("the buyer cannot pay {needed} at present")]
    BuyerCannotPay {
        /// What is needed.
        needed: Money,
    },
    /// The buyer would spend more than its owner allows in a period (VP-08: `monthly_limit_exceeded`).
    #[error("{spent} of {limit} are spent, {needed} more is needed; the count begins anew at {resets_at}")]
    SpendingLimit {
        /// How much may be spent in a period.
        limit: Money,
        /// How much was.
        spent: Money,
        /// How much is needed.
        needed: Money,
        /// When the next period begins.
        resets_at: Timestamp,
    },
    /// An agent is not deleted while its wallet holds money that it could take out (VP-09).
    #[error("agent {agent} cannot be deleted: its wallet holds {holds}, to be taken out before")]
    WalletNotEmpty {
        /// The agent.
        agent: AgentId,
        /// What its wallet holds, or has on its way out.
        holds: Money,
    },
    /// An agent does not delete itself while it owes the platform something.
    #[error("agent {agent} cannot be deleted: it owes {owes}")]
    OwesMoney {
        /// The agent.
        agent: AgentId,
        /// How much it owes.
        owes: Money,
    },
    /// The agent is not in a status that allows this.
    #[error("{command}: agent {agent} is {status}; allowed in {allowed:?}")]
    WrongAgentStatus {
        /// The command.
        command: &'static str,
        /// The agent.
        agent: AgentId,
        /// Its status.
        status: AgentStatus,
        /// The statuses that allow it, under the newest policy.
        allowed: Vec<AgentStatus>,
    },
    /// A contract of the agent's is not over (VP-09).
    #[error("agent {agent} cannot be deleted: {} {} is not over", contract.kind.as_str(), contract.id)]
    ContractActive {
        /// The agent.
        agent: AgentId,
        /// One of its jobs or agreements.
        contract: Key,
    },
    /// The dispute is not in a status that allows this.
    #[error("{command}: the dispute is {status}; allowed in {allowed:?}")]
    WrongDisputeStatus {
        /// The command.
        command: &'static str,
        /// The dispute's status.
        status: DisputeStatus,
        /// The statuses that allow it.
        allowed: Vec<DisputeStatus>,
    },
    /// A word is none of those that the policy has.
    #[error("{field}: {actual:?}; allowed are {allowed:?}")]
    NotOneOf {
        /// The field.
        field: &'static str,
        /// What came, at most 64 characters of it.
        actual: String,
        /// The words there are.
        allowed: Vec<String>,
    },
    /// The agent disputes too much for now (JP-14).
    #[error(
        "{command}: {filed} disputes filed and {completed} jobs completed without; not from {limit} disputes at a rate of {rate} on"
    )]
    TooManyDisputes {
        /// The command.
        command: &'static str,
        /// How many disputes the agent has filed as a buyer.
        filed: u64,
        /// How many of its jobs were completed without.
        completed: u64,
        /// From how many disputes on it is restricted.
        limit: u32,
        /// And from which rate on.
        rate: Rate,
    },
    /// The policy does not allow to divide the money so, or the share is nobody's.
    #[error("{command}: a share of {to_worker} for the worker; allowed is {allowed}")]
    Share {
        /// The command.
        command: &'static str,
        /// The worker's share.
        to_worker: Rate,
        /// What is allowed.
        allowed: String,
    },
    /// A rating is outside the policy's scale.
    #[error("rating {actual}; allowed are {min} to {max}")]
    Rating {
        /// The worst.
        min: u8,
        /// The best.
        max: u8,
        /// What came.
        actual: u8,
    },
    /// What is to be accepted is not what the other party offers.
    #[error("the other party does not offer that")]
    NoSuchOffer,
    /// It was done before, and can be done once.
    #[error("{what} before, and once is all")]
    DoneBefore {
        /// What was done.
        what: &'static str,
    },
    /// Another operator has taken the dispute up.
    #[error("{command}: operator {handler:?} has taken it up")]
    TakenUp {
        /// The command.
        command: &'static str,
        /// Who.
        handler: String,
    },
    /// A token is not the one that was given out last, or was used before.
    #[error("{command}: the token does not fit")]
    WrongToken {
        /// The command.
        command: &'static str,
    },
    /// An API key is nobody's.
    #[error("the API key is nobody's")]
    WrongKey,
    /// The agent has as many keys as allowed (JP-03).
    #[error("the agent has {max} keys, as many as allowed")]
    TooManyKeys {
        /// How many are allowed.
        max: u32,
    },
    /// An agent keeps at least one key (JP-03).
    #[error("the agent's last key cannot be revoked, only replaced")]
    LastKey,
    /// It was done a short while ago (VP-05).
    #[error("{command}: possible again at {next}")]
    TooSoon {
        /// The command.
        command: &'static str,
        /// When it is possible again.
        next: Timestamp,
    },
    /// What is reserved for a contract moves by the contract's own rules.
    #[error("{command}: {account} is a hold, which moves by its contract's rules only")]
    HoldMoved {
        /// The command.
        command: &'static str,
        /// The hold's account.
        account: Account,
    },
    /// A movement is undone once.
    #[error("movement {movement} was reversed before")]
    AlreadyReversed {
        /// Which.
        movement: MovementId,
    },
    /// Something must be given.
    #[error("{field} must be given")]
    Missing {
        /// What.
        field: &'static str,
    },
    /// A number is outside its range.
    #[error("{field}: {actual}; allowed are {min} to {max}")]
    Count {
        /// The field.
        field: &'static str,
        /// The least.
        min: u32,
        /// The most.
        max: u32,
        /// What came.
        actual: u32,
    },
    /// The hired agent is being run by another call under the same key, or was when its process ended
    /// (AM-09): it comes to an end by itself.
    #[error("job {job} is {status}: it is being run, or its deadline gives the buyer everything back")]
    StillRunning {
        /// The job.
        job: JobId,
        /// Its status.
        status: JobStatus,
    },
    /// A list is too long.
    #[error("{field}: {actual} entries; allowed are at most {max}")]
    TooMany {
        /// The list.
        field: &'static str,
        /// The most.
        max: u32,
        /// What came.
        actual: usize,
    },
    /// A text is not of the form it must have.
    #[error("{field} must be {form}")]
    Form {
        /// The field.
        field: &'static str,
        /// The form.
        form: &'static str,
    },
    /// The owner is known by another e-mail address.
    #[error("the owner is known by another e-mail address")]
    OtherEmail,
    /// The webhook did not answer its `webhook.ping` as it must (VP-01).
    #[error("the webhook does not answer: {reason}")]
    WebhookSilent {
        /// What happened.
        reason: String,
    },
    /// The same reference was used before for something else.
    #[error("reference {reference:?} was used before for something else")]
    ReferenceReused {
        /// The reference.
        reference: String,
    },
    /// The policy lets nobody find a job that names no worker.
    #[error("the order names no worker, and the policy has no open jobs")]
    WorkerMissing,
    /// Nobody can make the job an offer (any more): it has its worker, goes to whoever is first, or is over.
    #[error("{command}: job {job} is not open for offers")]
    NotOpen {
        /// The command.
        command: &'static str,
        /// The job.
        job: JobId,
    },
    /// The job goes to an offer that is accepted, not to whoever is first.
    #[error("job {job} goes to an agent whose offer its buyer accepts")]
    ByOffer {
        /// The job.
        job: JobId,
    },
    /// Another offer was accepted before (VP-25).
    #[error("bid {bid} on job {job} was accepted before")]
    AlreadyChosen {
        /// The job.
        job: JobId,
        /// The bid that was accepted.
        bid: BidId,
    },
    /// The bid is not in a status that allows this.
    #[error("{command}: the bid is {status}")]
    WrongBidStatus {
        /// The command.
        command: &'static str,
        /// The bid's status.
        status: BidStatus,
    },
    /// The job has as many active bids as allowed (VP-24).
    #[error("the job has {max} active bids, as many as allowed")]
    TooManyBids {
        /// How many are allowed.
        max: u32,
    },
    /// As many offers have followed the bid as allowed (VP-26).
    #[error("{max} offers have followed the bid, as many as allowed")]
    NoOffersLeft {
        /// How many are allowed.
        max: u32,
    },
    /// A party can accept only what the other offered last (VP-26).
    #[error("the last offer is one's own; the other party may accept it")]
    OwnOffer,
    /// The offer that is accepted is not the one that stands.
    #[error("the offer that stands is {stands}, not {accepted}")]
    OfferChanged {
        /// What was to be accepted.
        accepted: Money,
        /// What was offered last.
        stands: Money,
    },
    /// The job requires what the agent's profile does not list (VP-13, AM-04).
    #[error("the job requires {capability:?}, which the agent does not list")]
    CapabilityMissing {
        /// What is missing.
        capability: String,
    },
    /// The job asks for a higher tier of trust.
    #[error("the job asks for tier {min}, the agent's is {tier}")]
    TierTooLow {
        /// The agent's tier.
        tier: String,
        /// The lowest that may.
        min: String,
    },
    /// The bid is under the job's reserve, which only its buyer knows (VP-13).
    #[error("a bid of {actual} is under the job's reserve")]
    UnderReserve {
        /// The bid's price.
        actual: Money,
    },
    /// The worker's tier allows no job as large (VP-42).
    #[error("a worker of tier {tier} may take on jobs of at most {max}, not {actual}")]
    TierAmount {
        /// The worker's tier.
        tier: String,
        /// The most.
        max: Money,
        /// The job's amount.
        actual: Money,
    },
    /// The worker's tier allows no more jobs at once (VP-42).
    #[error("a worker of tier {tier} may work on {max} jobs at once, and works on {actual}")]
    TierJobs {
        /// The worker's tier.
        tier: String,
        /// The most.
        max: u32,
        /// How many there are.
        actual: u32,
    },
    /// A tier was named that the policy does not know.
    #[error("tier {tier:?} is none of the policy's: {known:?}")]
    UnknownTier {
        /// The tier named.
        tier: String,
        /// The tiers there are.
        known: Vec<String>,
    },
    /// A text is too short or too long.
    #[error("{field}: {actual} {unit}; allowed are {min} to {max}")]
    Length {
        /// The field.
        field: &'static str,
        /// What is counted.
        unit: &'static str,
        /// The least.
        min: u32,
        /// The most.
        max: u32,
        /// What came.
        actual: usize,
    },
    /// A text holds a character that no store, log or screen should have to deal with.
    #[error("{field}: the character U+{character:04X} is not allowed")]
    Character {
        /// The field.
        field: &'static str,
        /// The character's number.
        character: u32,
    },
    /// Something is no JSON Schema, or none that can be held against anything at a bounded cost (JP-06).
    #[error("{field} is not a schema that can be used: {reason}")]
    BadSchema {
        /// The field.
        field: &'static str,
        /// Why not.
        reason: String,
    },
    /// A value is not what its JSON Schema says (JP-06).
    #[error("{field}{place} is not what its schema says: {reason}")]
    NotToSchema {
        /// The field.
        field: &'static str,
        /// Where in it, as a JSON pointer.
        place: String,
        /// Which keyword says so, without the value.
        reason: String,
    },
    /// An amount is outside its range.
    #[error("{field}: {actual} minor units of {currency}; allowed are {min} to {max}")]
    Amount {
        /// The field.
        field: &'static str,
        /// The currency.
        currency: Currency,
        /// The least, in minor units.
        min: i64,
        /// The most, in minor units.
        max: i64,
        /// What came, in minor units.
        actual: i64,
    },
    /// A number is outside its range.
    #[error("{field}: {actual}; allowed are {min} to {max}")]
    Number {
        /// The field.
        field: &'static str,
        /// The least.
        min: i64,
        /// The most.
        max: i64,
        /// What came.
        actual: i64,
    },
    /// An amount is no multiple of the step that the policy counts in.
    #[error("{field}: {actual} minor units; allowed are multiples of {of}")]
    NotMultiple {
        /// The field.
        field: &'static str,
        /// The step, in minor units.
        of: i64,
        /// What came, in minor units.
        actual: i64,
    },
    /// A length of time is outside its range.
    #[error("{field}: {actual}; allowed are {min} to {max}")]
    Time {
        /// The field.
        field: &'static str,
        /// The least.
        min: Span,
        /// The most.
        max: Span,
        /// What came.
        actual: Span,
    },
    /// The deadline has passed.
    #[error("{command}: the deadline was {deadline}, now is {now}")]
    TooLate {
        /// The command.
        command: &'static str,
        /// The deadline.
        deadline: Timestamp,
        /// The present.
        now: Timestamp,
    },
    /// No timer of the record is due.
    #[error("nothing is due; next at {next:?}")]
    NothingDue {
        /// When something is.
        next: Option<Timestamp>,
    },
    /// The buyer has asked for changes as often as allowed (VP-22).
    #[error("{asked} revisions were asked for; allowed are {max}")]
    NoRevisionsLeft {
        /// How often they were.
        asked: u32,
        /// How often they may be.
        max: u32,
    },
    /// A payment is under way, or was made.
    #[error("{command}: the contract's money is {state}")]
    WrongHold {
        /// The command.
        command: &'static str,
        /// What the money is.
        state: &'static str,
    },
    /// An instruction is not in a state that allows this.
    #[error("{command}: the instruction is {state}")]
    WrongInstruction {
        /// The command.
        command: &'static str,
        /// The instruction's state.
        state: &'static str,
    },
    /// A subscription is not in a state that allows this.
    #[error("{command}: the endpoint is {state}")]
    WrongEndpoint {
        /// The command.
        command: &'static str,
        /// The subscription's state.
        state: &'static str,
    },
    /// A delivery is not in a state that allows this.
    #[error("{command}: the delivery is {state}")]
    WrongDelivery {
        /// The command.
        command: &'static str,
        /// The delivery's state.
        state: &'static str,
    },
    /// The command is for rails of another custody.
    #[error("{command}: rail {rail} is not of {needed:?} custody")]
    WrongRail {
        /// The command.
        command: &'static str,
        /// The rail.
        rail: RailId,
        /// The custody needed.
        needed: Custody,
    },
    /// The rail cannot do what the contract would need.
    #[error("rail {rail} cannot {capability:?}")]
    Unsupported {
        /// The rail.
        rail: RailId,
        /// What it lacks.
        capability: Capability,
    },
    /// The order names a rail that the marketplace does not have.
    #[error("this marketplace has no rail {rail}; it has {known:?}")]
    UnknownRail {
        /// The rail named.
        rail: RailId,
        /// The rails there are.
        known: Vec<RailId>,
    },
    /// A receipt does not say what was asked for.
    #[error(transparent)]
    Receipt(#[from] ReceiptMismatch),
    /// Amounts do not fit or do not mix.
    #[error(transparent)]
    Money(#[from] MoneyError),
    /// The ledger refuses, most often because a wallet holds too little (AM-06).
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The idempotency key was used before with another command.
    #[error("idempotency key {key:?} was used before for another command")]
    KeyReused {
        /// The key.
        key: String,
    },
}

/// Why a call to the engine failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A rule refused; nothing was written.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The store failed; see its kind for whether something was written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A rail failed where its answer was needed at once.
    #[error(transparent)]
    Rail(#[from] RailError),
    /// The policy is not one.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// Others changed the same record again and again; nothing was written.
    #[error("{command}: others changed the same record {attempts} times in a row")]
    Contention {
        /// The command.
        command: &'static str,
        /// How often it was decided anew.
        attempts: u32,
    },
    /// A part that the embedder supplied failed.
    #[error("{part} failed: {reason}")]
    Part {
        /// Which part.
        part: &'static str,
        /// What it said.
        reason: String,
    },
    /// The engine is built without a rail on which contracts are still under way: nobody could divide
    /// their money. Build it with that rail until they are over.
    #[error("the marketplace cannot be built without rail {rail}: {open} contracts are under way on it")]
    RailMissing {
        /// The rail.
        rail: RailId,
        /// How many contracts are not over, or have money on its way.
        open: usize,
    },
    /// A hired agent did not do its work (AM-09). The buyer has everything back.
    #[error("job {job} was not done: {reason}")]
    Execution {
        /// The job.
        job: JobId,
        /// What happened.
        reason: String,
    },
    /// The engine is put together wrongly.
    #[error("the marketplace cannot be built: {reason}")]
    Configuration {
        /// What does not fit.
        reason: String,
    },
}

impl Error {
    /// Whether nothing was written and the same call may simply be repeated.
    pub fn may_repeat(&self) -> bool {
        match self {
            Self::Contention { .. } | Self::Part { .. } => true,
            Self::Store(error) => error.may_repeat(),
            Self::Rail(error) => error.may_repeat(),
            Self::Rejected(_)
            | Self::Policy(_)
            | Self::RailMissing { .. }
            | Self::Execution { .. }
            | Self::Configuration { .. } => false,
        }
    }

    /// The rule that refused, if one did.
    pub const fn rejection(&self) -> Option<&Rejection> {
        match self {
            Self::Rejected(rejection) => Some(rejection),
            _ => None,
        }
    }
}
