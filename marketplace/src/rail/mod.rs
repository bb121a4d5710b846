//! Settlement rails: ways of moving money between the ledger and the world.

mod credits;
mod error;
pub mod layers;
mod memory;
mod types;

pub use credits::CreditsRail;
pub use error::{RailError, RailErrorKind};
pub use memory::{RailMemory, StoreMemory, VolatileMemory};
pub use types::{
    Action, Capability, Chargeback, ChargebackStage, Cursor, Custody, Decline, EscrowNews, HoldTerms, Holdings,
    Instruction, Landing, Leg, LegReceipt, Observation, ObservationBody, Observations, Order, Outcome, Party, Push,
    RailProfile, Receipt, ReceiptMismatch,
};

use std::sync::Arc;

use async_trait::async_trait;

/// A way of moving money.
///
/// # The contract
///
/// Every implementation keeps all of this, and the conformance kit (`testkit::rail`) checks it:
///
/// 1. **Idempotent by instruction id.** [`execute`](Self::execute) may be called any number of times
///    with the same instruction, also at once and also after a restart of this process; it takes
///    effect exactly once and every call that answers gives the same outcome or a later one. The
///    same id with another order is [`RailErrorKind::Refused`].
/// 2. **Honest about the unknown.** An error of kind [`RailErrorKind::NotSent`] or
///    [`RailErrorKind::Refused`] means that nothing happened and nothing will. When that cannot be
///    proved the kind is [`RailErrorKind::Unknown`], and [`lookup`](Self::lookup) finds out: once
///    an outcome was given, it never answers `None` again.
/// 3. **Outcomes are final or not, and say so.** [`Outcome::Done`] and [`Outcome::Declined`] never
///    change. [`Outcome::Pending`] and [`Outcome::NeedsAction`] lead to one of them. Where the world
///    can still undo an effect (a chain's last blocks), the rail answers pending until it is final
///    by the finality it is configured for.
/// 4. **Amounts are echoed.** A receipt carries the amount, currency and instruction as the outside
///    world has them, not as they were asked for. The engine compares.
/// 5. **Nothing else begins to move money.** No other method has an effect on anybody's balance, but for
///    [`lookup`](Self::lookup), which may carry to its end an effect that has begun.
///
/// A wrapper (see [`layers`]) keeps all five. Implementations are shared between tasks; dropping a
/// future in the middle is the same as losing its answer.
#[async_trait]
pub trait SettlementRail: Send + Sync + 'static {
    /// What this rail is and can do. Constant for the life of the value.
    fn profile(&self) -> &RailProfile;

    /// Carries out an instruction, or finds that it was carried out before.
    ///
    /// # Errors
    /// See [`RailError`]; only kinds that prove nothing happened let the engine try again blindly.
    async fn execute(&self, instruction: &Instruction) -> Result<Outcome, RailError>;

    /// What became of an instruction; `None` proves that it never had and never will have an effect
    /// unless [`execute`](Self::execute) is called again.
    ///
    /// # Errors
    /// See [`RailError`]. An error says nothing about the instruction.
    async fn lookup(&self, instruction: &Instruction) -> Result<Option<Outcome>, RailError>;

    /// What happened outside since `after`: deposits, outcomes, expired holds, chargebacks, accounts. Repeating a call with
    /// the same cursor gives the same observations again, with the same ids, and perhaps more.
    ///
    /// # Errors
    /// See [`RailError`]; nothing is lost, the same cursor is asked again.
    async fn observe(&self, after: &Cursor) -> Result<Observations, RailError>;

    /// Reads a signed message that the outside world pushed to us. A message that is true and says too
    /// little by itself is answered with nothing: the engine then asks [`observe`](Self::observe).
    ///
    /// # Errors
    /// [`RailErrorKind::Forged`] when the signature or its age does not hold,
    /// [`RailErrorKind::Unsupported`] when the rail takes no pushes.
    fn receive(&self, push: &Push) -> Result<Vec<Observation>, RailError>;

    /// What the rail holds for us at this moment, for `reconcile`.
    ///
    /// # Errors
    /// See [`RailError`].
    async fn holdings(&self) -> Result<Holdings, RailError>;
}

#[async_trait]
impl<R: SettlementRail + ?Sized> SettlementRail for Arc<R> {
    fn profile(&self) -> &RailProfile {
        (**self).profile()
    }

    async fn execute(&self, instruction: &Instruction) -> Result<Outcome, RailError> {
        (**self).execute(instruction).await
    }

    async fn lookup(&self, instruction: &Instruction) -> Result<Option<Outcome>, RailError> {
        (**self).lookup(instruction).await
    }

    async fn observe(&self, after: &Cursor) -> Result<Observations, RailError> {
        (**self).observe(after).await
    }

    fn receive(&self, push: &Push) -> Result<Vec<Observation>, RailError> {
        (**self).receive(push)
    }

    async fn holdings(&self) -> Result<Holdings, RailError> {
        (**self).holdings().await
    }
}
