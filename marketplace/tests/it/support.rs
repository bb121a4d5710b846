//! What the tests share: policies, rails, people, and a desk on which one job is decided without an
//! engine.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
};

use chrono::{DateTime, TimeDelta};
use tradepost::{
    actor::Actor,
    clock::Timestamp,
    error::Rejection,
    ids::{AgentId, DisputeId, IdSource, JobId, OwnerId, RailId},
    job::{
        Candidate, Context, Decision, Delivery, Job, JobCommand, JobEvent, JobOrder, JobStatus, Purse, Spendable,
        decide,
    },
    ledger::{Account, LedgerError, Limit, Movement, TransferKind},
    money::{Currency, Money, Rate},
    policy::{Award, OpenJobPolicy, Policy, PolicyVersion, Range, Span},
    rail::{
        Capability, Chargeback, ChargebackStage, Custody, Decline, Instruction, Landing, Leg, LegReceipt, Order,
        Outcome, RailProfile, Receipt,
    },
    trust::ClientReputation,
};
use uuid::Uuid;

// ---- policies: the one place that says what the measured systems publish ----

/// VP-12 to VP-23, VP-39: euros, fee by tier out of the payout, a buyer who reviews.
pub(crate) fn voxpact() -> Policy {
    Policy::voxpact().unwrap()
}

/// JP-10, JP-12: micro-dollars, 3 % on top, accepted beforehand, five minutes of review. Here a job
/// without a worker goes to whoever accepts first, so that every kind of job meets every custody.
pub(crate) fn just_pay() -> Policy {
    first_come(Policy::justpayai().unwrap())
}

/// AM-04 to AM-07: credits, the first to accept, escrow then, 10 % out of the payout, no review.
pub(crate) fn agent_market() -> Policy {
    Policy::agentmarket().unwrap()
}

/// The policy, with open jobs that go to whoever accepts first.
pub(crate) fn first_come(policy: Policy) -> Policy {
    let open_jobs = OpenJobPolicy { description: None, required_capabilities: 10, award: Award::FirstCome };
    Policy { open_jobs: Some(open_jobs), ..policy }
}

/// The policy, with tiers that limit nothing (VP-42): for what is not about them.
pub(crate) fn without_tier_limits(mut policy: Policy) -> Policy {
    for tier in &mut policy.trust.tiers {
        (tier.job_amount_max, tier.active_jobs_max) = (None, None);
    }
    policy
}

pub(crate) fn rate(share: &str) -> Rate {
    share.parse().unwrap()
}

// ---- rails ----

pub(crate) const RAIL: RailId = RailId::new("rail");
/// How long a hold lives where a rail holds it (VP-39).
pub(crate) const HOLD_LIVES: Span = Span::hours(7 * 24);
pub(crate) const CUSTODIES: [Custody; 4] =
    [Custody::Internal, Custody::Pooled, Custody::PerHold, Custody::NonCustodial];

pub(crate) fn rail(custody: Custody, currency: Currency) -> RailProfile {
    RailProfile {
        id: RAIL,
        currency,
        custody,
        capabilities: match custody {
            Custody::Internal | Custody::Pooled => Vec::new(),
            Custody::PerHold => vec![Capability::Split],
            Custody::NonCustodial => vec![Capability::Split, Capability::Screen],
        },
        amounts: Range { min: 1, max: 1_000_000_000_000 },
        hold_expiry: custody.is_per_hold().then_some(HOLD_LIVES),
        reversible_for: None,
    }
}

/// A receipt that says what was asked for.
pub(crate) fn receipt(instruction: &Instruction, landing: Landing) -> Receipt {
    let legs = match &instruction.order {
        Order::Settle { legs, .. } => legs.as_slice(),
        Order::Fund { .. } | Order::Payout { .. } | Order::Reverse { .. } | Order::Refund { .. } => &[],
    };
    let leg = |leg: &Leg| LegReceipt { to: leg.to, amount: leg.amount, landing, reference: "leg".into() };
    Receipt {
        instruction: instruction.id,
        reference: format!("effect-{}", instruction.id),
        amount: instruction.order.amount(),
        legs: legs.iter().map(leg).collect(),
        cost: None,
        hold_expires_at: None,
    }
}

pub(crate) fn done(instruction: &Instruction) -> Outcome {
    Outcome::Done(receipt(instruction, Landing::Outside))
}

pub(crate) fn declined() -> Outcome {
    Outcome::Declined(Decline { code: "insufficient_funds".into(), message: "no".into() })
}

// ---- people and moments ----

pub(crate) fn agent(number: u128) -> AgentId {
    AgentId(Uuid::from_u128(number))
}

pub(crate) fn buyer() -> AgentId {
    agent(0xB)
}

pub(crate) fn worker() -> AgentId {
    agent(0xA)
}

pub(crate) fn stranger() -> AgentId {
    agent(0xC)
}

pub(crate) fn by(agent: AgentId) -> Actor {
    Actor::Agent(agent)
}

pub(crate) fn operator() -> Actor {
    Actor::Operator("Ada".into())
}

pub(crate) fn owner() -> Actor {
    Actor::Owner(OwnerId(buyer().0))
}

pub(crate) fn start() -> Timestamp {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

/// Ids counted from 1, time-ordered.
#[derive(Default)]
pub(crate) struct CountedIds(AtomicU64);

impl IdSource for CountedIds {
    fn next(&self, _now: Timestamp) -> Uuid {
        Uuid::from_u128((1 << 64) + u128::from(self.0.fetch_add(1, Ordering::SeqCst)))
    }
}

// ---- orders and commands ----

pub(crate) fn order(amount: Money) -> JobOrder {
    JobOrder {
        title: "Translate a page".into(),
        task: serde_json::Map::new(),
        amount,
        worker: Some(worker()),
        rail: None,
        deadline: None,
        validation: None,
        schemas: None,
        open: None,
    }
}

pub(crate) fn post(order: JobOrder) -> JobCommand {
    JobCommand::Post { id: JobId(Uuid::from_u128(7)), order: Box::new(order) }
}

pub(crate) fn deliver() -> JobCommand {
    JobCommand::Deliver { delivery: Box::default() }
}

pub(crate) fn deliver_this(delivery: Delivery) -> JobCommand {
    JobCommand::Deliver { delivery: Box::new(delivery) }
}

pub(crate) fn cancel() -> JobCommand {
    JobCommand::Cancel { reason: "no longer needed".into() }
}

pub(crate) fn withdraw() -> JobCommand {
    JobCommand::Withdraw { reason: "no time".into() }
}

pub(crate) fn refund() -> JobCommand {
    JobCommand::Refund { reason: "cannot be done".into() }
}

pub(crate) fn refund_paid(amount: Option<Money>) -> JobCommand {
    JobCommand::RefundPaid { amount, reason: "it never worked".into() }
}

/// The payer's bank, about the desk's job.
pub(crate) fn charged_back(desk: &Desk, minor: i64, stage: ChargebackStage) -> JobCommand {
    let (hold, reference, amount) = (desk.job().id.into(), "dispute-1".into(), desk.money(minor));
    let chargeback = Chargeback { hold, reference, amount, cost: desk.money(0), stage };
    JobCommand::RecordChargeback { chargeback: Box::new(chargeback) }
}

pub(crate) fn freeze() -> JobCommand {
    JobCommand::Freeze { reason: "looks like fraud".into() }
}

pub(crate) fn dispute() -> JobCommand {
    JobCommand::Dispute { dispute: DisputeId(Uuid::from_u128(8)) }
}

pub(crate) fn revise() -> JobCommand {
    JobCommand::RequestRevision { feedback: "the second half is missing".into() }
}

pub(crate) fn outcome(instruction: &Instruction, outcome: Outcome) -> JobCommand {
    JobCommand::RecordOutcome { instruction: Box::new(instruction.clone()), outcome: Box::new(outcome) }
}

// ---- the books, kept a second time ----

/// What a movement makes of accounts, with the limits applied, written without the ledger's own
/// `changes`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Books(HashMap<Account, i128>);

impl Books {
    pub(crate) fn of(&self, account: Account) -> i128 {
        self.0.get(&account).copied().unwrap_or(0)
    }

    /// An agent's money leaves by a way that no job knows of.
    pub(crate) fn spend(&mut self, agent: AgentId, minor: i64) {
        *self.0.entry(Account::Available(agent)).or_default() -= i128::from(minor);
        *self.0.entry(Account::Rail(RailId::new("elsewhere"))).or_default() += i128::from(minor);
    }

    /// An agent owes from before.
    pub(crate) fn owe(&mut self, agent: AgentId, minor: i64) {
        *self.0.entry(Account::Debt(agent)).or_default() -= i128::from(minor);
        *self.0.entry(Account::Rail(RailId::new("elsewhere"))).or_default() += i128::from(minor);
    }

    pub(crate) fn sum(&self) -> i128 {
        self.0.values().sum()
    }

    /// Whether every account is back at nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.values().all(|balance| *balance == 0)
    }

    /// Applies a movement, or refuses it whole when an account would pass its limit.
    pub(crate) fn apply(&mut self, movement: &Movement) -> Result<(), LedgerError> {
        let mut after = self.0.clone();
        for transfer in movement.transfers() {
            *after.entry(transfer.debit()).or_default() -= i128::from(transfer.amount().minor());
            *after.entry(transfer.credit()).or_default() += i128::from(transfer.amount().minor());
        }
        for (account, balance) in &after {
            let past = match account.limit() {
                Limit::NotNegative => *balance < 0,
                Limit::NotPositive => *balance > 0,
                Limit::None => false,
            };
            if past {
                let currency = movement.transfers()[0].amount().currency();
                let amount = |minor: i128| Money::new(i64::try_from(minor).unwrap(), currency);
                let before = self.of(*account);
                let (needed, available) = (amount((before - balance).abs()), amount(before));
                return Err(LedgerError::Overdraft { account: *account, needed, available });
            }
        }
        self.0 = after;
        Ok(())
    }
}

// ---- the desk ----

/// One job, decided without an engine: the policy, the rail, the time, the books.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) policy: Policy,
    pub(crate) rail: RailProfile,
    pub(crate) tier: String,
    pub(crate) client: ClientReputation,
    pub(crate) now: Timestamp,
    pub(crate) job: Option<Job>,
    pub(crate) books: Books,
    pub(crate) events: Vec<JobEvent>,
    /// Every instruction ever given, with the moment it may be carried out.
    pub(crate) instructions: Vec<(Instruction, Timestamp)>,
    /// Every transfer there ever was, by kind.
    pub(crate) moved: HashMap<TransferKind, i128>,
}

impl Desk {
    /// A desk of this policy on a rail of this custody. The buyer has money where wallets pay.
    pub(crate) fn new(policy: Policy, custody: Custody) -> Self {
        let rail = rail(custody, policy.currency);
        let tier = policy.initial_tier().to_owned();
        let mut desk = Self {
            policy,
            rail,
            tier,
            client: ClientReputation::default(),
            now: start(),
            job: None,
            books: Books::default(),
            events: Vec::new(),
            instructions: Vec::new(),
            moved: HashMap::new(),
        };
        if !custody.is_per_hold() {
            desk.deposit(WEALTH);
        }
        desk
    }

    pub(crate) fn deposit(&mut self, minor: i64) {
        self.deposit_to(buyer(), minor);
    }

    pub(crate) fn deposit_to(&mut self, agent: AgentId, minor: i64) {
        let mut movement = Movement::new();
        let amount = self.money(minor);
        movement.transfer(Account::Rail(RAIL), Account::Available(agent), amount, TransferKind::Deposit).unwrap();
        self.books.apply(&movement).unwrap();
    }

    pub(crate) fn money(&self, minor: i64) -> Money {
        Money::new(minor, self.policy.currency)
    }

    pub(crate) fn job(&self) -> &Job {
        self.job.as_ref().unwrap()
    }

    pub(crate) fn status(&self) -> JobStatus {
        self.job().status
    }

    pub(crate) fn last_instruction(&self) -> Instruction {
        self.instructions.last().unwrap().0.clone()
    }

    /// What the job's agents may spend.
    fn spendable(&self) -> Spendable {
        let of = |agent: AgentId| i64::try_from(self.books.of(Account::Available(agent))).unwrap();
        Spendable { buyer: of(buyer()), worker: of(worker()) }
    }

    fn owed(&self) -> Option<Money> {
        let owed = i64::try_from(-self.books.of(Account::Debt(worker()))).unwrap();
        Some(self.money(owed)).filter(|owed| owed.is_positive())
    }

    /// Decides without writing.
    pub(crate) fn ask(&self, actor: &Actor, command: &JobCommand) -> Result<Decision, Rejection> {
        let context = Context {
            now: self.now,
            actor,
            policy: &self.policy,
            version: PolicyVersion(1),
            rail: &self.rail,
            worker: Candidate { tier: &self.tier, active_jobs: 0, capabilities: None },
            purse: Purse { spendable: self.spendable(), owed: self.owed(), ..Purse::default() },
            client: self.client,
        };
        decide(self.job.as_ref(), command, &context)
    }

    /// Decides and writes, or writes nothing.
    pub(crate) fn give(&mut self, actor: Actor, command: JobCommand) -> Result<Vec<JobEvent>, Rejection> {
        let decision = self.ask(&actor, &command)?;
        self.book(&decision.movement)?;
        self.job = Some(decision.job);
        self.events.extend(decision.events.clone());
        self.instructions.extend(decision.instructions);
        Ok(decision.events)
    }

    /// Books a movement, or refuses it whole.
    pub(crate) fn book(&mut self, movement: &Movement) -> Result<(), LedgerError> {
        self.books.apply(movement)?;
        for transfer in movement.transfers() {
            *self.moved.entry(transfer.kind()).or_default() += i128::from(transfer.amount().minor());
        }
        Ok(())
    }

    /// Gives a command that must be legal.
    pub(crate) fn must(&mut self, actor: Actor, command: JobCommand) -> &mut Self {
        let name = command.name();
        if let Err(rejection) = self.give(actor, command) {
            panic!("{name}: {rejection}");
        }
        self
    }

    /// A job of `minor` units for the worker, as far as posting brings it.
    pub(crate) fn posted(mut self, minor: i64) -> Self {
        let order = order(self.money(minor));
        self.must(by(buyer()), post(order));
        self
    }

    /// A job of `minor` units, its money reserved.
    pub(crate) fn funded(self, minor: i64) -> Self {
        let mut desk = self.posted(minor);
        desk.settle_rail();
        desk
    }

    /// The rail does what it was asked last, if it is still to be done.
    pub(crate) fn settle_rail(&mut self) -> &mut Self {
        use tradepost::job::HoldState::{Funding, Settling};
        if let Funding(id) | Settling(id) = self.job().hold.state {
            let instruction = self.instructions.iter().find(|(i, _)| i.id == id).unwrap().0.clone();
            self.must(Actor::Rail(RAIL), outcome(&instruction, done(&instruction)));
        }
        self
    }

    pub(crate) fn wait(&mut self, span: Span) -> &mut Self {
        self.now += span.delta();
        self
    }

    pub(crate) fn wait_until(&mut self, at: Timestamp) -> &mut Self {
        self.now = at;
        self
    }

    pub(crate) fn tick(&mut self) -> Result<Vec<JobEvent>, Rejection> {
        self.give(Actor::Timer, JobCommand::Tick)
    }

    /// A moment's neighbour: the engine counts microseconds.
    pub(crate) fn just_before(at: Timestamp) -> Timestamp {
        at - TimeDelta::microseconds(1)
    }

    /// What an agent has got in all: in its wallet, on its way, and outside since the desk opened.
    pub(crate) fn got(&self, agent: AgentId) -> i128 {
        let outside = self.outside(agent);
        self.books.of(Account::Available(agent)) + self.books.of(Account::Pending(agent)) + outside
    }

    /// What receipts say has left the rail for an agent's own account.
    fn outside(&self, agent: AgentId) -> i128 {
        let mut sum = 0;
        for event in &self.events {
            let JobEvent::PaymentReceived { legs, .. } = event else { continue };
            for leg in legs {
                if matches!(leg.to, tradepost::rail::Party::Buyer(a) | tradepost::rail::Party::Worker(a) if a == agent)
                {
                    sum += i128::from(leg.amount.minor());
                }
            }
        }
        sum
    }
}

/// What the buyer's wallet holds at first where wallets pay.
pub(crate) const WEALTH: i64 = 1_000_000_000_000;
