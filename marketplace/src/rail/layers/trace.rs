//! Saying what was asked of a rail and what came of it.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use tracing::{Instrument, Span, debug_span, field};

use crate::{
    clock::Clock,
    rail::{
        Cursor, Holdings, Instruction, Observation, Observations, Order, Outcome, Push, RailError, RailErrorKind,
        RailProfile, SettlementRail,
    },
};

/// A span for each request, with instruction, order, amount, outcome and how long it took, at debug
/// level; errors are events at warning level inside it. Neither payloads for a party nor its answers,
/// nor anything of a push, are ever written.
pub struct Trace<R> {
    rail: R,
    clock: Arc<dyn Clock>,
}

impl<R: fmt::Debug> fmt::Debug for Trace<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace").field("rail", &self.rail).finish_non_exhaustive()
    }
}

impl<R: SettlementRail> Trace<R> {
    /// `rail`, traced with times from `clock`.
    pub fn new(rail: R, clock: Arc<dyn Clock>) -> Self {
        Self { rail, clock }
    }

    fn about(&self, request: &'static str, instruction: &Instruction) -> Span {
        debug_span!(
            "rail",
            rail = %self.profile().id,
            request,
            instruction = %instruction.id,
            order = kind(&instruction.order),
            amount = %instruction.order.amount(),
            outcome = field::Empty,
            micros = field::Empty,
        )
    }

    fn of_the_rail(&self, request: &'static str) -> Span {
        debug_span!("rail", rail = %self.profile().id, request, outcome = field::Empty, micros = field::Empty)
    }

    async fn traced<T>(
        &self,
        span: Span,
        word: fn(&T) -> &'static str,
        answer: impl Future<Output = Result<T, RailError>>,
    ) -> Result<T, RailError> {
        let started = self.clock.now();
        let answer = answer.instrument(span.clone()).await;
        span.record("micros", (self.clock.now() - started).num_microseconds());
        record(&span, word, &answer);
        answer
    }
}

fn record<T>(span: &Span, word: fn(&T) -> &'static str, answer: &Result<T, RailError>) {
    span.record("outcome", answer.as_ref().map_or_else(|error| error_word(error.kind()), word));
    match answer {
        Ok(_) => span.in_scope(|| tracing::debug!("the rail answered")),
        Err(error) => span.in_scope(|| tracing::warn!(%error, "the rail failed")),
    }
}

const fn kind(order: &Order) -> &'static str {
    match order {
        Order::Fund { .. } => "fund",
        Order::Settle { .. } => "settle",
        Order::Payout { .. } => "payout",
        Order::Reverse { .. } => "reverse",
        Order::Refund { .. } => "refund",
    }
}

const fn outcome_word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Done(_) => "done",
        Outcome::Pending { .. } => "pending",
        Outcome::NeedsAction(_) => "needs_action",
        Outcome::Declined(_) => "declined",
    }
}

const fn error_word(kind: RailErrorKind) -> &'static str {
    match kind {
        RailErrorKind::NotSent => "not_sent",
        RailErrorKind::Busy(_) => "busy",
        RailErrorKind::Unknown => "unknown",
        RailErrorKind::Refused => "refused",
        RailErrorKind::Unsupported => "unsupported",
        RailErrorKind::Forged => "forged",
    }
}

#[async_trait]
impl<R: SettlementRail> SettlementRail for Trace<R> {
    fn profile(&self) -> &RailProfile {
        self.rail.profile()
    }

    async fn execute(&self, instruction: &Instruction) -> Result<Outcome, RailError> {
        self.traced(self.about("execute", instruction), outcome_word, self.rail.execute(instruction)).await
    }

    async fn lookup(&self, instruction: &Instruction) -> Result<Option<Outcome>, RailError> {
        let word = |found: &Option<Outcome>| found.as_ref().map_or("never_happened", outcome_word);
        self.traced(self.about("lookup", instruction), word, self.rail.lookup(instruction)).await
    }

    async fn observe(&self, after: &Cursor) -> Result<Observations, RailError> {
        self.traced(self.of_the_rail("observe"), |_| "observed", self.rail.observe(after)).await
    }

    fn receive(&self, push: &Push) -> Result<Vec<Observation>, RailError> {
        let (span, started) = (self.of_the_rail("receive"), self.clock.now());
        let answer = span.in_scope(|| self.rail.receive(push));
        span.record("micros", (self.clock.now() - started).num_microseconds());
        record(&span, |_| "received", &answer);
        answer
    }

    async fn holdings(&self) -> Result<Holdings, RailError> {
        self.traced(self.of_the_rail("holdings"), |_| "told", self.rail.holdings()).await
    }
}
