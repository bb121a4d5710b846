//! Taking money from a payer's card.

use stripe_core::payment_intent::{
    CancelPaymentIntent, CancelPaymentIntentCancellationReason, CreatePaymentIntent, CreatePaymentIntentOffSession,
    ListPaymentIntent, RetrievePaymentIntent,
};
use stripe_shared::{
    ApiErrorsCode, PaymentIntentAllowedPaymentMethodTypes, PaymentIntentCaptureMethod, PaymentIntentSetupFutureUsage,
    PaymentIntentStatus as Status,
};
use tradepost::{
    clock::Timestamp,
    ids::{AgentId, HoldId, InstructionId},
    money::Money,
    rail::{Action, Decline, Instruction, Order, Outcome, Party, RailError, RailErrorKind, Receipt},
};
use uuid::Uuid;

use crate::{
    config::HoldMode,
    error::{StripeError, StripeErrorKind},
    marks,
    object::{Charge, Intent, List, PaymentError, money},
    rail::{PAGE, PAGES, StripeRail, too_long},
};

/// How many keys an instruction uses for one request, each after the one before moved nothing.
pub(crate) const GENERATIONS: u32 = 8;
/// Where it is said what a charge did to the balance.
const FEE: &str = "latest_charge.balance_transaction";

impl StripeRail {
    pub(crate) async fn fund(
        &self,
        instruction: &Instruction,
        hold: HoldId,
        payer: AgentId,
        amount: Money,
    ) -> Result<Outcome, RailError> {
        if let Some(decline) = self.out_of_range(amount) {
            return Ok(Outcome::Declined(decline));
        }
        let looks_first = instruction.answer.is_some() || !marks::keys_are_kept(instruction, self.now());
        if looks_first && let Some(found) = self.find_fund(instruction, payer, amount).await? {
            return Ok(found);
        }
        let (customer, known) = self.customer(payer).await?;
        let mut card = known.card;
        for generation in 0..GENERATIONS {
            let request = self.payment(instruction, hold, amount, &customer, card.as_deref())?;
            let key = marks::key(instruction, "fund", generation);
            match self.inner.http.post::<Intent>(&request, &key).await {
                Ok(reply) if reply.replayed => return self.fresh(instruction, &reply.object.id).await,
                Ok(reply) => return self.outcome_of(instruction, reply.object).await,
                Err(error) if error.kind() == StripeErrorKind::Declined => {
                    let Some(intent) = error.intent() else { return Err(error.into()) };
                    return self.fresh(instruction, &intent.id).await;
                }
                Err(error) if error.is_about_the_card() => card = None,
                Err(error) => {
                    let spent = error.kind() == StripeErrorKind::Broken && error.is_replayed();
                    if !spent && error.kind() != StripeErrorKind::KeyReused {
                        return Err(error.into());
                    }
                    match self.find_fund(instruction, payer, amount).await? {
                        Some(found) => return Ok(found),
                        None if spent => {}
                        None => return Err(error.into()),
                    }
                }
            }
        }
        Err(no_generation_left())
    }

    /// What became of a payment. A payment that can end only in one way is ended.
    pub(crate) async fn find_fund(
        &self,
        instruction: &Instruction,
        payer: AgentId,
        amount: Money,
    ) -> Result<Option<Outcome>, RailError> {
        // Limits that changed meanwhile say nothing about what was asked for before.
        let not_asked_for = || Ok(self.out_of_range(amount).map(Outcome::Declined));
        let Some(customer) = self.known(payer).await?.customer else { return not_asked_for() };
        let mut found = self.intents(instruction, &customer).await?;
        if found.iter().any(|intent| !marks::same_order(&intent.metadata, instruction)) {
            return Err(another_order());
        }
        if found.iter().filter(|intent| intent.paid().is_some()).count() > 1 {
            let message = format!("{} was paid more than once", instruction.id);
            return Err(RailError::new(RailErrorKind::Refused, message));
        }
        let index = found.iter().position(|intent| intent.paid().is_some()).unwrap_or_default();
        match found.is_empty() {
            true => not_asked_for(),
            false => self.outcome_of(instruction, found.swap_remove(index)).await.map(Some),
        }
    }

    fn payment(
        &self,
        instruction: &Instruction,
        hold: HoldId,
        amount: Money,
        customer: &str,
        card: Option<&str>,
    ) -> Result<CreatePaymentIntent, StripeError> {
        let mut marks = marks::of(instruction);
        marks.insert(marks::HOLD.into(), hold.to_string());
        let asked = self.inner.config.presented(amount)?;
        if self.inner.config.presentment.is_some() {
            marks.insert(marks::WORTH.into(), amount.minor().to_string());
            marks.insert(marks::PRESENTED.into(), asked.to_string());
        }
        let mut request = CreatePaymentIntent::new(asked, self.inner.charged_in.clone())
            .customer(customer)
            .allowed_payment_method_types([PaymentIntentAllowedPaymentMethodTypes::Card])
            .transfer_group(marks::hold_group(hold))
            .metadata(marks)
            .expand([FEE.into()]);
        if let HoldMode::Authorise { .. } = self.inner.config.hold {
            request = request.capture_method(PaymentIntentCaptureMethod::Manual);
        }
        Ok(match card {
            Some(card) => {
                request.payment_method(card).confirm(true).off_session(CreatePaymentIntentOffSession::Bool(true))
            }
            // Nobody to charge yet: the payer is asked for a card, which is kept for the next time.
            None => request.setup_future_usage(PaymentIntentSetupFutureUsage::OffSession),
        })
    }

    /// Every payment that was made for an instruction.
    async fn intents(&self, instruction: &Instruction, customer: &str) -> Result<Vec<Intent>, StripeError> {
        let (mut found, mut after) = (Vec::new(), None::<String>);
        for _ in 0..PAGES {
            let mut request = ListPaymentIntent::new().customer(customer).limit(PAGE).expand([format!("data.{FEE}")]);
            if let Some(since) = marks::since(instruction, self.now()) {
                request = request.created(since);
            }
            if let Some(after) = after {
                request = request.starting_after(after);
            }
            let page: List<Intent> = self.inner.http.get(&request).await?;
            after = page.data.last().map(|intent| intent.id.clone()).filter(|_| page.has_more);
            found.extend(page.data.into_iter().filter(|i| marks::instruction(&i.metadata) == Some(instruction.id)));
            if after.is_none() {
                return Ok(found);
            }
        }
        Err(too_long("payments"))
    }

    pub(crate) async fn intent(&self, id: &str) -> Result<Intent, StripeError> {
        self.inner.http.get(&RetrievePaymentIntent::new(id).expand([FEE.into()])).await
    }

    /// A payment as it is now.
    async fn fresh(&self, instruction: &Instruction, id: &str) -> Result<Outcome, RailError> {
        let intent = self.read_after_effect(id).await?;
        if !marks::same_order(&intent.metadata, instruction) {
            return Err(another_order());
        }
        self.outcome_of(instruction, intent).await
    }

    /// Reads a payment that exists: not being able to says nothing about it.
    async fn read_after_effect(&self, id: &str) -> Result<Intent, RailError> {
        self.intent(id).await.map_err(unknown)
    }

    async fn outcome_of(&self, instruction: &Instruction, intent: Intent) -> Result<Outcome, RailError> {
        let Order::Fund { payer, .. } = instruction.order else { return Err(another_order()) };
        let act = |kind: &str, intent: &Intent| {
            let payload = intent.client_secret.clone().unwrap_or_default();
            Outcome::NeedsAction(Action { who: Party::Buyer(payer), kind: kind.into(), payload })
        };
        if intent.paid().is_some() {
            return self.taken(&intent);
        }
        let in_time =
            self.now().timestamp() - intent.created <= i64::from(self.inner.config.action_within.as_seconds());
        let error = intent.last_payment_error.as_ref();
        match intent.status() {
            Status::RequiresAction | Status::RequiresConfirmation if in_time => Ok(act(CONFIRM_CARD, &intent)),
            Status::RequiresPaymentMethod if in_time && error.is_none() => Ok(act(ADD_CARD, &intent)),
            Status::RequiresPaymentMethod if in_time && error.is_some_and(wants_the_cardholder) => {
                Ok(act(CONFIRM_CARD, &intent))
            }
            Status::RequiresAction | Status::RequiresConfirmation | Status::RequiresPaymentMethod => {
                self.call_off(&intent).await
            }
            Status::Canceled => Ok(Outcome::Declined(decline(&intent))),
            Status::Succeeded | Status::RequiresCapture | Status::Processing | Status::Unknown(_) => {
                Ok(Outcome::Pending { reference: intent.id })
            }
            _ => Ok(Outcome::Pending { reference: intent.id }), // a status from the future
        }
    }

    /// Ends a payment that failed, so that nobody can complete it later.
    async fn call_off(&self, intent: &Intent) -> Result<Outcome, RailError> {
        let request =
            CancelPaymentIntent::new(&*intent.id).cancellation_reason(CancelPaymentIntentCancellationReason::Abandoned);
        let key = format!("{}-call-off", intent.id);
        match self.inner.http.post::<Intent>(&request, &key).await {
            Ok(_) => Ok(Outcome::Declined(decline(intent))),
            // The cardholder was faster, or it is called off already.
            Err(error) if error.kind() == StripeErrorKind::Invalid => {
                let now = self.read_after_effect(&intent.id).await?;
                match now.status() {
                    Status::Canceled => Ok(Outcome::Declined(decline(&now))),
                    _ if now.paid().is_some() => self.taken(&now),
                    _ => Ok(Outcome::Pending { reference: now.id }),
                }
            }
            Err(error) => Err(unknown(error)),
        }
    }

    /// The receipt of a payment, as soon as Stripe's fee is known.
    fn taken(&self, intent: &Intent) -> Result<Outcome, RailError> {
        let Some(charge) = intent.paid() else { return Ok(Outcome::Pending { reference: intent.id.clone() }) };
        let amount = self.worth(charge.amount, &charge.currency, &charge.metadata);
        let (reference, cost) = match self.inner.config.hold {
            HoldMode::Charge => match self.cost(charge, amount) {
                Some(cost) => (charge.id.clone(), Some(cost)),
                None => return Ok(Outcome::Pending { reference: intent.id.clone() }),
            },
            HoldMode::Authorise { .. } => (intent.id.clone(), None),
        };
        let hold_expires_at = match self.inner.config.hold {
            HoldMode::Charge => None,
            HoldMode::Authorise { .. } => charge.capture_before().and_then(|at| Timestamp::from_timestamp(at, 0)),
        };
        Ok(Outcome::Done(Receipt {
            instruction: marks::instruction(&intent.metadata).unwrap_or(InstructionId(Uuid::nil())),
            reference,
            amount,
            legs: Vec::new(),
            cost: cost.filter(|cost| !cost.is_zero()),
            hold_expires_at,
        }))
    }

    /// What a charge cost: its fee, and what the exchange lost of the amount. None while it is not known.
    pub(crate) fn cost(&self, charge: &Charge, amount: Money) -> Option<Money> {
        let booked = charge.balance_transaction.as_ref()?.object()?;
        let net = money(booked.net, &booked.currency, self.inner.config.currency);
        // A balance in another currency is a mismatch, which the engine sees by the currency of the cost.
        Some(amount.minus(net).unwrap_or(net))
    }

    /// Why Stripe would never take such an amount.
    fn out_of_range(&self, amount: Money) -> Option<Decline> {
        let config = &self.inner.config;
        let code = match amount.minor() {
            minor if minor < config.least => ApiErrorsCode::AmountTooSmall,
            minor if minor > config.most => ApiErrorsCode::AmountTooLarge,
            _ => return None,
        };
        let limits = [config.least, config.most].map(|minor| Money::new(minor, config.currency));
        let message = format!("{amount} is not between {} and {}", limits[0], limits[1]);
        Some(Decline { code: code.as_str().into(), message })
    }
}

/// The payer confirms the charge with stripe.js (3-D Secure), with the card it pays with.
pub const CONFIRM_CARD: &str = "confirm_card";
/// The payer has no card that can be charged: it pays with one in stripe.js.
pub const ADD_CARD: &str = "add_card";

/// Whether a payment failed only because the cardholder was not there.
fn wants_the_cardholder(error: &PaymentError) -> bool {
    let required = |code: &Option<String>| code.as_deref() == Some(ApiErrorsCode::AuthenticationRequired.as_str());
    required(&error.code) || required(&error.decline_code)
}

fn decline(intent: &Intent) -> Decline {
    let (code, message) = match &intent.last_payment_error {
        Some(error) if wants_the_cardholder(error) => (None, None),
        Some(error) => (error.decline_code.clone().or_else(|| error.code.clone()), error.message.clone()),
        None => (None, None),
    };
    Decline {
        code: code.unwrap_or_else(|| "not_confirmed".into()),
        message: message.unwrap_or_else(|| "The payment was not confirmed in time.".into()),
    }
}

pub(crate) fn another_order() -> RailError {
    RailError::new(RailErrorKind::Refused, "this id belongs to another order")
}

pub(crate) fn no_generation_left() -> RailError {
    let message = format!("Stripe failed {GENERATIONS} times and moved nothing; wait until it forgets the keys");
    RailError::new(RailErrorKind::Refused, message)
}

/// An error after something may have been done: whatever it says of its own request, the instruction
/// has to be looked up.
pub(crate) fn unknown(error: StripeError) -> RailError {
    RailError::new(RailErrorKind::Unknown, error.to_string()).caused_by(error)
}
