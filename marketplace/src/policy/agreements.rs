//! Usage agreements, and what owners let their agents do without asking.

use serde::{Deserialize, Serialize};

use super::{
    Choice, Presence, Range, Span,
    check::{AMOUNT_LIMIT, At, Checked},
};

/// The most calls that one record of usage may be allowed: they are written in one transaction.
const CALLS_LIMIT: u32 = 10_000;

/// Usage agreements: a quantity of units at a price, paid as used (PG-02, PG-03, PG-07, PG-09).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgreementPolicy {
    /// How many units may be agreed (PG-02).
    pub quantity: Range<i64>,
    /// The length of a unit's name in characters (PG-02).
    pub unit: Range<u32>,
    /// A unit's price, in minor units (PG-02).
    pub unit_price: Range<i64>,
    /// Prices are multiples of this many minor units (PG-02: cents, 10 000 micro-units).
    pub unit_price_step: i64,
    /// What quantity times price may come to, in minor units.
    pub total: Range<i64>,
    /// How long a proposal waits for an answer (PG-03).
    pub proposal: Choice<Span>,
    /// The length of a reason or of suggested terms, in characters (PG-03).
    pub reason: Range<u32>,
    /// How long the buyer may take to activate an accepted proposal (PG-04).
    pub activation_within: Span,
    /// How long units may be used, counted from the proposal.
    pub term: Choice<Span>,
    /// How long a close can be challenged (PG-09: 24 h).
    pub challenge_window: Choice<Span>,
    /// Whether every agreement names who signs its receipts; where none does, what is recorded counts
    /// (PG-19).
    pub receipts: Presence,
    /// How many calls one record of usage may hold (PG-07).
    pub calls: u32,
    /// The document of settlement terms, in bytes of JSON.
    pub document_bytes: u32,
    /// Disputes about what was used; none when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disputes: Option<AgreementDisputes>,
    /// A fee for the infrastructure, paid apart from the escrow, in minor units; waived when absent
    /// (PG-06).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub infrastructure_fee: Option<i64>,
    /// Whether wallet addresses are screened before activation (PG-16). Where parties hold wallets of their own,
    /// nothing is proposed on a rail that does not ([`Capability::Screen`](crate::rail::Capability::Screen)).
    pub screening: Screening,
}

/// Disputes about what was used: an operator may rule. Where a contract between the parties holds the
/// money, its own challenge window is the time for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgreementDisputes {
    /// How long an operator may take; then what counts without a ruling stands.
    pub ruling_within: Span,
}

/// Whether addresses are screened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Screening {
    /// A hit, or a screen that cannot be reached, blocks (PG-16).
    Required,
    /// Nobody is screened.
    Off,
}

/// What owners let their agents do without asking (PG-12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalPolicy {
    /// The amount from which an owner is asked, in minor units, unless the owner says otherwise;
    /// never when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_threshold: Option<i64>,
    /// How many allowed counterparties an owner may list.
    pub counterparties: u32,
    /// How long a request waits for its owner; silence refuses.
    pub expires_after: Span,
    /// The length of a reason for rejecting, in characters.
    pub reason: Range<u32>,
}

impl AgreementPolicy {
    pub(super) fn check(&self, at: &At) -> Checked {
        at.field("quantity").range(self.quantity, 1, AMOUNT_LIMIT)?;
        at.field("unit").range(self.unit, 1, 1000)?;
        at.field("unit_price").amounts(self.unit_price)?;
        at.field("unit_price_step").within(self.unit_price_step, 1, self.unit_price.max)?;
        if self.unit_price.min % self.unit_price_step != 0 {
            let allowed = format!("allowed are multiples of unit_price_step, {}", self.unit_price_step);
            return Err(at.field("unit_price.min").refuse(self.unit_price.min, allowed));
        }
        at.field("total").amounts(self.total)?;
        let least = self.quantity.min.saturating_mul(self.unit_price.min);
        if least > self.total.max {
            let allowed = format!("allowed is at least the smallest agreement, {least}");
            return Err(at.field("total.max").refuse(self.total.max, allowed));
        }
        at.field("proposal").spans(self.proposal)?;
        at.field("reason").length(self.reason)?;
        at.field("activation_within").span(self.activation_within)?;
        at.field("term").spans(self.term)?;
        at.field("challenge_window").spans(self.challenge_window)?;
        at.field("calls").within(self.calls, 1, CALLS_LIMIT)?;
        at.field("document_bytes").size(self.document_bytes)?;
        self.disputes.map_or(Ok(()), |disputes| at.field("disputes.ruling_within").span(disputes.ruling_within))?;
        self.infrastructure_fee.map_or(Ok(()), |fee| at.field("infrastructure_fee").amount(fee))
    }
}

impl ApprovalPolicy {
    pub(super) fn check(&self, at: &At) -> Checked {
        if let Some(threshold) = self.default_threshold {
            at.field("default_threshold").charge(threshold)?;
        }
        at.field("counterparties").count(self.counterparties)?;
        at.field("expires_after").span(self.expires_after)?;
        at.field("reason").length(self.reason)
    }
}
