//! A payer's cards (VP-34). Raw card data never comes here: the payer enters it in stripe.js.

use std::fmt;

use serde::Deserialize;
use stripe_core::{
    customer::{UpdateCustomer, UpdateCustomerInvoiceSettings},
    setup_intent::{CreateSetupIntent, CreateSetupIntentUsage},
};
use stripe_payment::payment_method::{DetachPaymentMethod, ListPaymentMethod, ListPaymentMethodType};
use stripe_shared::SetupIntentAllowedPaymentMethodTypes;
use tradepost::ids::AgentId;

use crate::{
    directory::Fact,
    error::{StripeError, StripeErrorKind},
    http::Sending,
    marks,
    object::{List, Named},
    rail::{PAGE, StripeRail},
};

/// The cards of payers. Made by [`StripeRail::cards`].
#[derive(Clone, Copy, Debug)]
pub struct Cards<'a> {
    rail: &'a StripeRail,
}

/// A saved card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// What Stripe calls it: `pm_…`.
    pub id: String,
    /// Whose network: `visa`.
    pub brand: String,
    /// The last four digits.
    pub last4: String,
    /// The month it expires in, 1 to 12.
    pub exp_month: u32,
    /// The year it expires in.
    pub exp_year: u32,
    /// Whether the payer's jobs are charged to it.
    pub is_default: bool,
}

/// A card about to be saved. Its `Debug` does not show the client secret.
#[derive(Clone, PartialEq, Eq)]
pub struct CardSetup {
    /// What Stripe calls it: `seti_…`.
    pub id: String,
    /// What the payer's browser confirms it with (`stripe.confirmCardSetup`). For the payer only.
    pub client_secret: String,
}

impl fmt::Debug for CardSetup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CardSetup").field("id", &self.id).finish_non_exhaustive()
    }
}

impl StripeRail {
    /// The cards of payers.
    pub const fn cards(&self) -> Cards<'_> {
        Cards { rail: self }
    }
}

impl Cards<'_> {
    /// Begins to save a card. When the payer has confirmed it, it is in the [list](Self::list); the
    /// embedder then [chooses](Self::choose) it.
    ///
    /// # Errors
    /// [`StripeError`]
    pub async fn set_up(&self, payer: AgentId) -> Result<CardSetup, StripeError> {
        #[derive(Deserialize)]
        struct Setup {
            id: String,
            client_secret: String,
        }
        let (customer, _) = self.rail.customer(payer).await?;
        let request = CreateSetupIntent::new()
            .customer(customer)
            .usage(CreateSetupIntentUsage::OffSession)
            .allowed_payment_method_types([SetupIntentAllowedPaymentMethodTypes::Card])
            .metadata([(marks::AGENT.into(), payer.to_string())]);
        let made = self.rail.inner.http.send::<Setup>(&request, Sending::default()).await?.object;
        Ok(CardSetup { id: made.id, client_secret: made.client_secret })
    }

    /// A payer's cards, newest first, at most a hundred.
    ///
    /// # Errors
    /// [`StripeError`]
    pub async fn list(&self, payer: AgentId) -> Result<Vec<Card>, StripeError> {
        #[derive(Deserialize)]
        struct Method {
            id: String,
            card: Option<Face>,
        }
        #[derive(Deserialize)]
        struct Face {
            brand: String,
            last4: String,
            exp_month: u32,
            exp_year: u32,
        }
        let known = self.rail.known(payer).await?;
        let Some(customer) = known.customer else { return Ok(Vec::new()) };
        let request = ListPaymentMethod::new().customer(customer).type_(ListPaymentMethodType::Card).limit(PAGE);
        let page: List<Method> = self.rail.inner.http.get(&request).await?;
        let card = |method: Method| {
            let Face { brand, last4, exp_month, exp_year } = method.card?;
            let is_default = known.card.as_ref() == Some(&method.id);
            Some(Card { id: method.id, brand, last4, exp_month, exp_year, is_default })
        };
        Ok(page.data.into_iter().filter_map(card).collect())
    }

    /// Charges the payer's jobs to this card from now on. Payments under way stay with theirs.
    ///
    /// # Errors
    /// [`StripeErrorKind::Unknown`] when the card is not one of the payer's, or any [`StripeError`].
    pub async fn choose(&self, payer: AgentId, card: &str) -> Result<(), StripeError> {
        let card = self.owned(payer, card).await?.id;
        let (customer, _) = self.rail.customer(payer).await?;
        let mut settings = UpdateCustomerInvoiceSettings::new();
        settings.default_payment_method = Some(card.clone());
        let request = UpdateCustomer::new(customer).invoice_settings(settings);
        self.rail.inner.http.send::<Named>(&request, Sending::default()).await?;
        self.rail.remember(payer, Fact::Card(Some(card))).await
    }

    /// Forgets a card. Without another one chosen, the payer's next job asks for a card.
    ///
    /// # Errors
    /// [`StripeErrorKind::Unknown`] when the card is not one of the payer's, or any [`StripeError`].
    pub async fn detach(&self, payer: AgentId, card: &str) -> Result<(), StripeError> {
        let card = self.owned(payer, card).await?;
        if card.is_default {
            self.rail.remember(payer, Fact::Card(None)).await?;
        }
        self.rail.inner.http.send::<Named>(&DetachPaymentMethod::new(card.id), Sending::default()).await?;
        Ok(())
    }

    /// A payer's card by its name: what a client sends is looked for, never sent on.
    async fn owned(&self, payer: AgentId, card: &str) -> Result<Card, StripeError> {
        let cards = self.list(payer).await?;
        let not_theirs = || StripeError::new(StripeErrorKind::Unknown, format!("{payer} has no such card"));
        cards.into_iter().find(|known| known.id == card).ok_or_else(not_theirs)
    }
}
