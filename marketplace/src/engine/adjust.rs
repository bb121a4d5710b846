//! Operators' adjustments of the ledger.

use std::sync::Arc;

use async_trait::async_trait;

use super::{
    Marketplace, Session,
    command::Call,
    reconcile::every,
    transact::{Attempt, Operation},
};
use crate::{
    adjustment::{Adjusted, Adjustment, AdjustmentCommand, Before, Booking, MovementId, decide},
    error::Error,
    ledger::Account,
    store::{Commit, Kept as _, Kind, OfKind as _},
};

impl Session<'_> {
    /// Moves money by hand, as an operator, where no rule can: a gift, a loss that the platform bears, a
    /// difference that `reconcile` found. The accounts' limits hold, every rail must be known, and what is
    /// reserved for a contract is left alone.
    ///
    /// # Errors
    /// [`Error`]; [`Rejection::HoldMoved`](crate::error::Rejection::HoldMoved) for a hold's account.
    pub async fn adjust(self, bookings: Vec<Booking>, reason: impl Into<String>) -> Result<Arc<Adjustment>, Error> {
        self.market.adjust(self.call(), Adjusted::Booked(bookings), reason.into()).await
    }

    /// Undoes a movement, as an operator: every transfer the other way round, with its own amount, once. An
    /// account's history names the movement of each entry.
    ///
    /// # Errors
    /// [`Error`]; [`Rejection::AlreadyReversed`](crate::error::Rejection::AlreadyReversed), or an overdraft
    /// where the money is gone meanwhile.
    pub async fn reverse(self, movement: MovementId, reason: impl Into<String>) -> Result<Arc<Adjustment>, Error> {
        self.market.adjust(self.call(), Adjusted::Reversed(movement), reason.into()).await
    }
}

impl Marketplace {
    /// Every adjustment there is, newest first.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn adjustments(&self) -> Result<Vec<Arc<Adjustment>>, Error> {
        let records = every(&*self.inner.store, self.inner.market, Kind::Adjustment, Vec::new()).await?;
        Ok(records.into_iter().filter_map(Adjustment::of).collect())
    }

    async fn adjust(&self, call: Call<'_>, what: Adjusted, reason: String) -> Result<Arc<Adjustment>, Error> {
        let mut operation = Adjusting { what, reason: &reason };
        let command = (operation.name(), operation.what.clone(), &reason);
        self.transact::<Adjustment>(call, &command, &mut operation).await
    }
}

struct Adjusting<'a> {
    what: Adjusted,
    reason: &'a str,
}

#[async_trait]
impl Operation for Adjusting<'_> {
    fn name(&self) -> &'static str {
        match self.what {
            Adjusted::Booked(_) => "adjust",
            Adjusted::Reversed(_) => "reverse",
        }
    }

    async fn attempt(&mut self, on: &Attempt<'_>) -> Result<Commit, Error> {
        on.market.authorize(on.actor, self.name(), None)?;
        let command = match &self.what {
            Adjusted::Booked(bookings) => {
                for account in bookings.iter().flat_map(|booking| [booking.debit, booking.credit]) {
                    check_account(on.market, account).await?;
                }
                AdjustmentCommand::Book { id: on.fresh(), bookings: bookings.clone() }
            }
            Adjusted::Reversed(movement) => {
                let before = match on.find::<Adjustment>(movement.reversal()).await? {
                    Some(_) => Before::Reversed,
                    None => Before::Never,
                };
                // Committed once and never changed: it need not be read in the embedder's transaction.
                let (store, market) = (&on.market.inner.store, on.market.inner.market);
                let transfers = store.movement(market, movement.contract, movement.version).await?;
                AdjustmentCommand::Reverse { movement: *movement, transfers, before }
            }
        };
        let decision = decide(command, self.reason, on.actor, on.now, on.market.currency())?;
        let mut commit = on.commit(decision.adjustment.key(), 0);
        commit.write(decision.adjustment, 0, on.actor, [decision.event]);
        commit.movement = decision.movement;
        Ok(commit)
    }
}

/// Money is not moved to a name that was mistyped.
async fn check_account(market: &Marketplace, account: Account) -> Result<(), Error> {
    match account {
        Account::Available(agent) | Account::Pending(agent) | Account::Debt(agent) => market.check_known(agent).await,
        Account::Rail(rail) | Account::Treasury(rail) | Account::Clearing(rail) | Account::Cost(rail) => {
            market.rail(Some(rail))?;
            Ok(())
        }
        Account::Escrow(_) | Account::Revenue(_) => Ok(()),
    }
}
