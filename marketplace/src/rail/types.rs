//! What is said to a rail and what it answers.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    agreement::receipt::SignedReceipt,
    clock::Timestamp,
    ids::{AgentId, HoldId, InstructionId, RailId},
    money::{Currency, Money, Rate},
    policy::{Range, Span},
};

/// What a rail is and can do. The engine refuses before commit what the profile does not allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RailProfile {
    /// Its name, unique in an engine.
    pub id: RailId,
    /// The one currency it moves.
    pub currency: Currency,
    /// Who holds the money while a job runs.
    pub custody: Custody,
    /// What it can do beyond what its custody requires.
    pub capabilities: Vec<Capability>,
    /// The amounts of one instruction, in minor units.
    pub amounts: Range<i64>,
    /// How long a hold lives before the rail gives it up by itself; `None` for ever.
    pub hold_expiry: Option<Span>,
    /// How long a settled payment may still be reversed from outside; `None` for never.
    pub reversible_for: Option<Span>,
}

impl RailProfile {
    /// Whether it can do this.
    pub fn can(&self, capability: Capability) -> bool {
        self.capabilities.contains(&capability)
    }
}

/// Who holds the money while a job runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Custody {
    /// Nobody outside: the ledger is the money. The rail is never asked.
    Internal,
    /// The platform's treasury; wallets and holds are entries in the ledger. The rail sees deposits
    /// and payouts.
    Pooled,
    /// The rail, hold by hold, in the platform's name: it funds, settles and pays out.
    PerHold,
    /// A contract that the parties signed: the platform can only relay.
    ///
    /// A hold names its payee and what else the payer signs for ([`HoldTerms`]). Dividing it needs the
    /// parties: the rail answers [`Outcome::NeedsAction`] with what one of them has to sign, and relays the
    /// answer; a party may also act outside by itself. What the parties did without having been asked comes
    /// as [`ObservationBody::HoldSettled`].
    NonCustodial,
}

impl Custody {
    /// Whether each hold is funded and settled outside; otherwise holds are entries in the ledger.
    pub const fn is_per_hold(self) -> bool {
        matches!(self, Self::PerHold | Self::NonCustodial)
    }
}

/// What a rail may be able to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Capability {
    /// Settle a hold in more than one leg.
    Split,
    /// Pay an agent's money out to its own account.
    Payout,
    /// Report deposits.
    Deposit,
    /// Accept signed pushes.
    Push,
    /// Undo what a divided hold gave: take a share back from its party, and give the payer some back.
    Reverse,
    /// A contract between the parties counts receipts, closes, and pays what was earned, by their word or by
    /// time alone. The rail tells of it ([`ObservationBody::Escrow`]); the engine follows.
    Close,
    /// Take a fee from the payer apart from the hold, by a permit of its own (PG-06), and tell what became
    /// of it.
    SeparateFee,
    /// Look the parties' wallets up before they sign, and decline for one that is listed; ask nobody to sign
    /// while that cannot be found out (PG-16).
    Screen,
}

/// A durable wish: what the outside world is to do. Its id is the idempotency key there.
///
/// Its `Debug` does not show the answer: that is the party's and the rail's alone.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instruction {
    /// Its id; the same for every attempt.
    pub id: InstructionId,
    /// The contract (or wallet) that wants it.
    pub contract: Uuid,
    /// What is to be done.
    pub order: Order,
    /// What a party did when the rail last asked it to act: a signature, a confirmed challenge. A rail
    /// that asks several times, or several parties one after the other, keeps the earlier answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
}

impl Instruction {
    /// Compares a receipt with what was asked for: instruction, amount, currency and every leg.
    ///
    /// # Errors
    /// [`ReceiptMismatch`] for the first difference. A receipt that differs is an incident, not a success.
    pub fn check(&self, receipt: &Receipt) -> Result<(), ReceiptMismatch> {
        let differs = |field, asked: String, answered: String| ReceiptMismatch { field, asked, answered };
        if receipt.instruction != self.id {
            return Err(differs("instruction", self.id.to_string(), receipt.instruction.to_string()));
        }
        if receipt.reference.is_empty() {
            return Err(differs("reference", "a reference".into(), "none".into()));
        }
        if receipt.amount != self.order.amount() {
            return Err(differs("amount", self.order.amount().to_string(), receipt.amount.to_string()));
        }
        let asked = if let Order::Settle { legs, .. } = &self.order { legs.as_slice() } else { &[] };
        let answered: Vec<Leg> = receipt.legs.iter().map(|leg| Leg { to: leg.to, amount: leg.amount }).collect();
        if asked != answered {
            return Err(differs("legs", format!("{asked:?}"), format!("{answered:?}")));
        }
        match receipt.cost {
            Some(cost) if cost.currency() != receipt.amount.currency() => {
                Err(differs("cost", format!("an amount of {}", receipt.amount.currency()), cost.to_string()))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Instruction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instruction")
            .field("id", &self.id)
            .field("contract", &self.contract)
            .field("order", &self.order)
            .field("answer", &self.answer.as_ref().map(|_| Hidden))
            .finish()
    }
}

/// Stands in `Debug` for what must not be read in a log.
struct Hidden;

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// A receipt that does not say what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the receipt's {field} is {answered}, asked for was {asked}")]
pub struct ReceiptMismatch {
    /// What differs.
    pub field: &'static str,
    /// What was asked for.
    pub asked: String,
    /// What the rail answered.
    pub answered: String,
}

/// What an instruction asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "do")]
pub enum Order {
    /// Take `amount` from the payer and hold it.
    Fund {
        /// The hold to fill.
        hold: HoldId,
        /// Who pays.
        payer: AgentId,
        /// How much.
        amount: Money,
        /// What the payer signs for besides, where a contract between the parties holds it.
        #[serde(default)]
        terms: Box<HoldTerms>,
    },
    /// Divide a hold. The legs add up to what it holds.
    ///
    /// The legs stand or fall together: declined means that none of them moved. Where the outside
    /// world moves them one by one, the rail repeats the one that fails until it lands and answers
    /// pending meanwhile, or lands it as [`Landing::Held`].
    Settle {
        /// The hold to empty.
        hold: HoldId,
        /// The reference of the receipt that funded it.
        funding: String,
        /// Who gets what.
        legs: Vec<Leg>,
    },
    /// Send an agent's money to its own account.
    Payout {
        /// Whose money.
        agent: AgentId,
        /// Where to, in the rail's own notation; `None` for the account the rail knows.
        destination: Option<String>,
        /// How much.
        amount: Money,
    },
    /// Take back what a leg of a settled hold gave, or a part of it, into the platform's name. All of
    /// the amount or declined: a party's account that holds less is left alone.
    Reverse {
        /// The hold that was divided.
        hold: HoldId,
        /// The reference of the leg's receipt.
        leg: String,
        /// Whose account it is taken from.
        agent: AgentId,
        /// How much, in the rates of the contract.
        amount: Money,
    },
    /// Give the payer of a settled hold some of the payment back, out of what the rail holds in the
    /// platform's name.
    Refund {
        /// The hold that was divided.
        hold: HoldId,
        /// The reference of the receipt that funded it.
        funding: String,
        /// Who paid.
        payer: AgentId,
        /// How much, in the rates of the contract.
        amount: Money,
    },
}

impl Order {
    /// The money the instruction moves in all. A sum of legs that does not fit counts as the most
    /// that does; the ledger has refused such legs before.
    pub fn amount(&self) -> Money {
        match self {
            Self::Fund { amount, .. }
            | Self::Payout { amount, .. }
            | Self::Reverse { amount, .. }
            | Self::Refund { amount, .. } => *amount,
            Self::Settle { legs, .. } => {
                let minor = legs.iter().fold(0i64, |sum, leg| sum.saturating_add(leg.amount.minor()));
                Money::new(minor, legs.first().map_or(Currency::EUR, |leg| leg.amount.currency()))
            }
        }
    }
}

/// What the payer of a hold signs for besides its amount, where a contract between the parties holds it
/// ([`Custody::NonCustodial`]). Other rails do not look at it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HoldTerms {
    /// Who may earn it. Such a rail refuses a hold without one.
    pub payee: Option<AgentId>,
    /// The payer's own account, as the contract names it, in the rail's notation (an address); `None` for the one
    /// that the rail knows (PG-02).
    pub payer_account: Option<String>,
    /// The payee's.
    pub payee_account: Option<String>,
    /// The most that the platform's leg may be of what leaves for payee and platform together.
    pub fee_ceiling: Rate,
    /// How many units are agreed; a job is one.
    pub quantity: u64,
    /// What one unit costs; `None` for the hold's amount divided by the quantity.
    pub unit_price: Option<Money>,
    /// When the contract gives up; `None` for the rail's own time.
    pub expires_at: Option<Timestamp>,
    /// How long a close can be challenged; `None` for the rail's own.
    pub challenge_window: Option<Span>,
    /// Who signs cumulative receipts, in the rail's notation (an address); `None` for nobody.
    pub receipt_signer: Option<String>,
    /// SHA-256 of what was agreed, in lower-case hex; `None` for nothing beyond this.
    pub document: Option<String>,
    /// A fee that the payer pays the platform apart from the hold, by a permit of its own (PG-06).
    pub infrastructure_fee: Option<Money>,
}

impl Default for HoldTerms {
    /// One unit, no fee, nobody named, the rail's own times.
    fn default() -> Self {
        Self {
            payee: None,
            payer_account: None,
            payee_account: None,
            fee_ceiling: Rate::ZERO,
            quantity: 1,
            unit_price: None,
            expires_at: None,
            challenge_window: None,
            receipt_signer: None,
            document: None,
            infrastructure_fee: None,
        }
    }
}

/// One share of a settled hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Leg {
    /// Who gets it.
    pub to: Party,
    /// How much; more than nothing.
    pub amount: Money,
}

/// A party to a contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Party {
    /// Who pays.
    Buyer(AgentId),
    /// Who works.
    Worker(AgentId),
    /// Who runs the marketplace.
    Platform,
}

/// What became of an instruction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It took effect. Final.
    Done(Receipt),
    /// It is under way; ask again with `lookup`.
    Pending {
        /// What the outside world calls it.
        reference: String,
    },
    /// It waits for a party. The party acts outside, or its answer is put into the instruction and
    /// `execute` is called again. A rail does not wait for ever: it declines in the end.
    NeedsAction(Action),
    /// It had no effect and never will. Final.
    Declined(Decline),
}

impl Outcome {
    /// Whether it can still change.
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Done(_) | Self::Declined(_))
    }
}

/// Proof that an instruction took effect, as the outside world has it (PG-14).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The instruction it answers.
    pub instruction: InstructionId,
    /// What the outside world calls the effect: a charge, a transaction.
    pub reference: String,
    /// What was moved in all.
    pub amount: Money,
    /// For a settled hold: each leg, in the order asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub legs: Vec<LegReceipt>,
    /// What the rail charged the platform for it, already taken from the holdings and in their
    /// currency: its fee, and what an exchange lost. Less than nothing when an exchange brought more
    /// than the fee. Fees that are paid in another coin (gas) are not counted here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Money>,
    /// For a funded hold: when the rail will give it up by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_expires_at: Option<Timestamp>,
}

/// What became of one leg.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegReceipt {
    /// Who it went to.
    pub to: Party,
    /// How much.
    pub amount: Money,
    /// Where it is now.
    pub landing: Landing,
    /// What the outside world calls it.
    pub reference: String,
}

/// Where a settled leg is.
///
/// The platform's share stays with a custodial rail (`Held`). A non-custodial rail never answers
/// `Held`: what a contract owes a party is that party's own already, whether it has claimed it or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Landing {
    /// It left the rail for the party's own account.
    Outside,
    /// The rail still holds it, in the party's name: it has no account yet that can take it. It
    /// leaves by a later [`Order::Payout`], when the rail tells [`ObservationBody::AccountReady`].
    Held,
}

/// What a party has to do before an instruction can go on. Its `Debug` does not show the payload.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Action {
    /// Who has to act.
    pub who: Party,
    /// What has to be done, in the rail's words: `confirm_card`, `sign_release`.
    pub kind: String,
    /// What the party needs for it: a client secret, a message to sign, a transaction to send by
    /// itself. Shown to that party only.
    pub payload: String,
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Action").field("who", &self.who).field("kind", &self.kind).field("payload", &Hidden).finish()
    }
}

/// Why an instruction had no effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Decline {
    /// The rail's own code: `insufficient_funds`.
    pub code: String,
    /// For people.
    pub message: String,
}

/// Where the engine has read a rail up to. The rail chooses its form; the empty one is the beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(pub String);

/// A page of observations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observations {
    /// What was seen, oldest first.
    pub items: Vec<Observation>,
    /// Where to go on.
    pub next: Cursor,
}

/// Something that happened outside. The engine takes each id in once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// Unique at this rail: the same event has the same id whenever and however it is seen.
    pub id: String,
    /// What happened.
    pub body: ObservationBody,
}

/// What happened outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ObservationBody {
    /// Money came in for an agent.
    Deposit {
        /// Whose wallet.
        agent: AgentId,
        /// How much.
        amount: Money,
        /// Where from, in the rail's notation.
        source: String,
    },
    /// An instruction has an outcome.
    Outcome {
        /// The instruction.
        instruction: InstructionId,
        /// What became of it.
        outcome: Outcome,
    },
    /// The rail gave a hold up by itself: the money is back with its payer.
    HoldExpired {
        /// The hold.
        hold: HoldId,
    },
    /// The parties divided a hold by themselves, otherwise than the rail was asked to or without its being
    /// asked. Only where a contract between them holds it; told after the outcome that funded it.
    HoldSettled {
        /// The hold.
        hold: HoldId,
        /// What the outside world calls it.
        reference: String,
        /// Who got what; they add up to what was held.
        legs: Vec<Leg>,
    },
    /// The payer's bank took the money of a hold back, or has decided who keeps it.
    Chargeback(Chargeback),
    /// What was done about a hold in the contract between its parties. Told after the outcome that funded it.
    Escrow {
        /// The hold.
        hold: HoldId,
        /// What.
        news: EscrowNews,
    },
    /// An agent's own account takes money, so that what landed as [`Landing::Held`] can leave for it. It may be
    /// told late, and again each time it is seen: a payout waits until the account takes it.
    AccountReady {
        /// Whose account.
        agent: AgentId,
    },
}

/// What was done about a hold in the contract between its parties ([`Capability::Close`],
/// [`Capability::SeparateFee`]). None of it divides the hold: that is an outcome,
/// [`ObservationBody::HoldSettled`] or [`ObservationBody::HoldExpired`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EscrowNews {
    /// The contract took a cumulative receipt (PG-19).
    Receipt(SignedReceipt),
    /// The challenge window began (PG-09).
    Closing {
        /// Who closed.
        by: Party,
        /// When it ends.
        final_at: Timestamp,
    },
    /// A share reached its party's own account (PG-09).
    Paid {
        /// Whose.
        to: Party,
        /// How much.
        amount: Money,
        /// What the outside world calls it.
        reference: String,
    },
    /// The separate fee is the platform's (PG-06).
    FeeCollected {
        /// How much.
        amount: Money,
        /// What the outside world calls it.
        reference: String,
    },
    /// The separate fee was not paid, and will not be (PG-06).
    FeeFailed {
        /// How much.
        amount: Money,
        /// Why.
        decline: Decline,
    },
}

/// A payer's bank takes money back, whatever has become of the hold (a chargeback).
///
/// The money leaves the rail when it is opened, and comes back when it is won. Each stage is told once;
/// an end may be told before the beginning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chargeback {
    /// The hold that the payment filled.
    pub hold: HoldId,
    /// What the rail calls the chargeback; the same for all its stages.
    pub reference: String,
    /// How much of the hold is taken back, in the rates of the contract.
    pub amount: Money,
    /// What this stage cost beyond the amount, in the currency of the holdings: the rail's fee, and what
    /// an exchange lost. Less than nothing when the rail gave some back.
    pub cost: Money,
    /// How far it is.
    pub stage: ChargebackStage,
}

/// How far a chargeback is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChargebackStage {
    /// The money is gone, and may be won back by evidence.
    Opened {
        /// Until when evidence is taken.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        evidence_due: Option<Timestamp>,
    },
    /// The money is back.
    Won,
    /// The payer keeps it. Final.
    Lost,
}

/// A message that the outside world sent to us over HTTP. Its `Debug` shows neither headers nor body:
/// they carry signatures and people's data, and nobody has checked yet who sent them.
#[derive(Clone)]
pub struct Push {
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, byte for byte.
    pub body: Vec<u8>,
    /// When it arrived.
    pub received_at: Timestamp,
}

impl Push {
    /// The first header of this name (in lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

impl fmt::Debug for Push {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Push").field("bytes", &self.body.len()).field("received_at", &self.received_at).finish()
    }
}

/// What a rail holds for us: every hold that was funded and not settled (also one that is only
/// authorised), every share that landed as [`Landing::Held`], and every deposit that was observed
/// (also one that is not swept yet), less payouts and costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holdings {
    /// In all.
    pub total: Money,
    /// Hold by hold, where the rail can tell.
    pub holds: Vec<(HoldId, Money)>,
}
