//! Usage agreements: each rule alone, whole random lives, and the same through the engine on every store.

mod bad_input;
mod engine;
mod lives;
mod proofs;
mod returns;
mod rules;
mod story;
mod table;

use ed25519_dalek::{Signer as _, SigningKey};
use tradepost::{
    actor::Actor,
    agreement::{
        Agreement, AgreementCommand, AgreementEvent, AgreementStatus, Context, Decision, Proposal,
        chain::{Call, CallProof, Hash},
        decide,
        receipt::{ReceiptSigner, ReceiptVerifiers, SignedReceipt, message},
    },
    clock::Timestamp,
    error::Rejection,
    hold::{HoldState, Spendable},
    ids::{AgentId, AgreementId},
    ledger::{Account, Movement, TransferKind},
    money::Money,
    policy::{AgreementPolicy, Bearer, FeeRate, Policy, PolicyVersion, Span},
    rail::{Custody, Instruction, Outcome, RailProfile},
};
use uuid::Uuid;

use crate::support::*;

pub(crate) const UNIT_PRICE: i64 = 100_000;
pub(crate) const QUANTITY: i64 = 100;
pub(crate) const DEPOSIT: i64 = UNIT_PRICE * QUANTITY;
pub(crate) const WINDOW: Span = Span::hours(24);
pub(crate) const TERM: Span = Span::hours(30 * 24);

/// PG-02 to PG-19: cents of USDC, a window of a day, no fee.
pub(crate) fn paegents() -> Policy {
    Policy::paegents().unwrap()
}

/// The same, with a fee of a share of what is earned.
pub(crate) fn with_fee(share: &str, bearer: Bearer) -> Policy {
    let mut policy = paegents();
    policy.fees.rate = FeeRate::Flat(rate(share));
    policy.fees.bearer = bearer;
    policy
}

pub(crate) fn section(policy: &mut Policy) -> &mut AgreementPolicy {
    policy.agreements.as_mut().unwrap()
}

/// A meter that signs receipts.
pub(crate) fn meter(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

pub(crate) fn signer_of(meter: &SigningKey) -> ReceiptSigner {
    let key = hex::encode(meter.verifying_key().to_bytes());
    ReceiptSigner { scheme: "ed25519".into(), key }
}

pub(crate) fn receipt_of(meter: &SigningKey, agreement: AgreementId, units: i64, proof: Hash) -> SignedReceipt {
    let signature = hex::encode(meter.sign(&message(agreement, units, proof)).to_bytes());
    SignedReceipt { units, proof, signature }
}

pub(crate) fn proposal(money: impl Fn(i64) -> Money) -> Proposal {
    Proposal {
        seller: worker(),
        service: Some("svc_abc123".into()),
        quantity: QUANTITY,
        unit: "api_calls".into(),
        unit_price: money(UNIT_PRICE),
        rail: None,
        answer_within: None,
        term: None,
        challenge_window: None,
        receipt_signer: None,
        account: None,
        document: serde_json::Map::new(),
    }
}

/// So many calls of one unit each.
pub(crate) fn calls(count: i64) -> Vec<Call> {
    (0..count).map(|number| Call { units: 1, digest: Hash::of(&number.to_be_bytes()) }).collect()
}

pub(crate) fn used(units: i64) -> AgreementCommand {
    let calls = vec![Call { units, digest: Hash::of(b"asked and answered") }];
    AgreementCommand::RecordUsage { calls, after: None }
}

pub(crate) fn accept() -> AgreementCommand {
    AgreementCommand::Accept { account: None }
}

pub(crate) fn hand_in(receipt: SignedReceipt) -> AgreementCommand {
    AgreementCommand::SubmitReceipt { receipt: Box::new(receipt) }
}

pub(crate) fn disputed() -> AgreementCommand {
    AgreementCommand::Dispute { reason: "half of it timed out".into() }
}

pub(crate) fn heard(instruction: &Instruction, outcome: Outcome) -> AgreementCommand {
    AgreementCommand::RecordOutcome { instruction: Box::new(instruction.clone()), outcome: Box::new(outcome) }
}

/// One agreement, decided without an engine: the policy, the rail, the time, the books.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) policy: Policy,
    pub(crate) rail: RailProfile,
    pub(crate) now: Timestamp,
    pub(crate) agreement: Option<Agreement>,
    pub(crate) books: Books,
    pub(crate) events: Vec<AgreementEvent>,
    pub(crate) instructions: Vec<(Instruction, Timestamp)>,
    pub(crate) chain: Vec<CallProof>,
}

impl Desk {
    pub(crate) fn new(policy: Policy, custody: Custody) -> Self {
        let rail = rail(custody, policy.currency);
        let mut desk = Self {
            policy,
            rail,
            now: start(),
            agreement: None,
            books: Books::default(),
            events: Vec::new(),
            instructions: Vec::new(),
            chain: Vec::new(),
        };
        if !custody.is_per_hold() {
            let mut movement = Movement::new();
            let wealth = desk.money(WEALTH);
            movement.transfer(Account::Rail(RAIL), Account::Available(buyer()), wealth, TransferKind::Deposit).unwrap();
            desk.books.apply(&movement).unwrap();
        }
        desk
    }

    pub(crate) fn money(&self, minor: i64) -> Money {
        Money::new(minor, self.policy.currency)
    }

    pub(crate) fn agreement(&self) -> &Agreement {
        self.agreement.as_ref().unwrap()
    }

    pub(crate) fn id(&self) -> AgreementId {
        self.agreement().id
    }

    pub(crate) fn status(&self) -> AgreementStatus {
        self.agreement().status
    }

    /// Decides without writing.
    pub(crate) fn ask(&self, actor: &Actor, command: &AgreementCommand) -> Result<Decision, Rejection> {
        let verifiers = ReceiptVerifiers::new();
        let owed = i64::try_from(-self.books.of(Account::Debt(worker()))).unwrap();
        let spendable = |agent| i64::try_from(self.books.of(Account::Available(agent))).unwrap();
        let context = Context {
            now: self.now,
            actor,
            policy: &self.policy,
            version: PolicyVersion(1),
            rail: &self.rail,
            seller_tier: self.policy.initial_tier(),
            verifiers: &verifiers,
            owed: Some(self.money(owed)).filter(|owed| owed.is_positive()),
            spendable: Spendable { buyer: spendable(buyer()), worker: spendable(worker()) },
        };
        decide(self.agreement.as_ref(), command, &context)
    }

    /// Decides and writes, or writes nothing.
    pub(crate) fn give(&mut self, actor: Actor, command: AgreementCommand) -> Result<Vec<AgreementEvent>, Rejection> {
        let decision = self.ask(&actor, &command)?;
        self.books.apply(&decision.movement)?;
        self.agreement = Some(decision.agreement);
        self.events.extend(decision.events.clone());
        self.instructions.extend(decision.instructions);
        self.chain.extend(decision.proofs);
        Ok(decision.events)
    }

    /// Gives a command that must be legal.
    pub(crate) fn must(&mut self, actor: Actor, command: AgreementCommand) -> &mut Self {
        let name = command.name();
        if let Err(rejection) = self.give(actor, command) {
            panic!("{name}: {rejection}");
        }
        self
    }

    /// Gives a command that must be refused; why it was.
    pub(crate) fn refused(&self, actor: Actor, command: AgreementCommand) -> Rejection {
        self.ask(&actor, &command).unwrap_err()
    }

    pub(crate) fn propose(mut self, proposal: Proposal) -> Self {
        let id = AgreementId(Uuid::from_u128(9));
        self.must(by(buyer()), AgreementCommand::Propose { id, proposal: Box::new(proposal) });
        self
    }

    pub(crate) fn proposed(self) -> Self {
        let proposal = proposal(|minor| self.money(minor));
        self.propose(proposal)
    }

    pub(crate) fn accepted(self) -> Self {
        let mut desk = self.proposed();
        desk.must(by(worker()), accept());
        desk
    }

    pub(crate) fn active(self) -> Self {
        let mut desk = self.accepted();
        desk.must(by(buyer()), AgreementCommand::Activate).settle_rail();
        desk
    }

    /// Active, with a meter that signs receipts.
    pub(crate) fn metered(self, meter: &SigningKey) -> Self {
        let mut proposal = proposal(|minor| self.money(minor));
        proposal.receipt_signer = Some(signer_of(meter));
        let mut desk = self.propose(proposal);
        desk.must(by(worker()), accept()).must(by(buyer()), AgreementCommand::Activate).settle_rail();
        desk
    }

    pub(crate) fn last_instruction(&self) -> Instruction {
        self.instructions.last().unwrap().0.clone()
    }

    /// The rail does what it was asked last, if it is still to be done.
    pub(crate) fn settle_rail(&mut self) -> &mut Self {
        if let HoldState::Funding(id) | HoldState::Settling(id) = self.agreement().hold.state {
            let instruction = self.instructions.iter().find(|(i, _)| i.id == id).unwrap().0.clone();
            self.must(Actor::Rail(RAIL), heard(&instruction, done(&instruction)));
        }
        self
    }

    pub(crate) fn wait(&mut self, span: Span) -> &mut Self {
        self.now += span.delta();
        self
    }

    pub(crate) fn tick(&mut self) -> Result<Vec<AgreementEvent>, Rejection> {
        self.give(Actor::Timer, AgreementCommand::Tick)
    }

    /// Fires timers until none is due.
    pub(crate) fn tick_all(&mut self) -> &mut Self {
        for _ in 0..10 {
            match self.tick() {
                Ok(_) => {}
                Err(Rejection::NothingDue { .. }) => return self,
                Err(rejection) => panic!("tick: {rejection}"),
            }
        }
        panic!("timers without end");
    }

    pub(crate) fn names(&self) -> Vec<&'static str> {
        self.events.iter().map(AgreementEvent::name).collect()
    }

    /// What an agent has in its wallet, on its way and outside.
    pub(crate) fn got(&self, agent: AgentId) -> i128 {
        let mut sum = self.books.of(Account::Available(agent)) + self.books.of(Account::Pending(agent));
        if self.rail.custody.is_per_hold() {
            for event in &self.events {
                match event {
                    AgreementEvent::ClaimCompleted { amount, .. } if agent == worker() => {
                        sum += i128::from(amount.minor());
                    }
                    AgreementEvent::WithdrawCompleted { amount, .. } if agent == buyer() => {
                        sum += i128::from(amount.minor());
                    }
                    _ => {}
                }
            }
        }
        sum
    }
}
