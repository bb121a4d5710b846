//! Taking in what rails report.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{Marketplace, command::Call, settlement::Answer};
use crate::{
    actor::Actor,
    error::{Error, Rejection},
    ids::{InstructionId, JobId, RailId},
    job::JobCommand,
    ledger::{Account, LedgerError, Movement, TransferKind, available},
    money::Money,
    policy::Range,
    rail::{Cursor, Custody, Observation, ObservationBody, Outcome, Push, SettlementRail},
    store::{Commit, CommitError, Event, EventBody, Key, Kind, ObservationEvent, Observed, Record, Write},
    text,
};

/// A deposit's reference, in characters.
const REFERENCE: Range<u32> = Range { min: 1, max: 200 };

impl Marketplace {
    /// Takes in a message that the outside world pushed to the embedder's server; how many
    /// observations it held.
    ///
    /// # Errors
    /// A forged push, a rail without pushes, or the store's failure. Answer the sender with an error
    /// then, so that it sends again.
    pub async fn receive(&self, rail: RailId, push: &Push) -> Result<usize, Error> {
        let observations = self.rail(Some(rail))?.receive(push)?;
        let count = observations.len();
        for observation in observations {
            self.take_in(&Actor::Rail(rail), rail, observation).await?;
        }
        Ok(count)
    }

    /// Asks every rail what happened since it was asked last; how many observations there were.
    pub(super) async fn observe_rails(&self) -> Result<usize, Error> {
        let mut count = 0;
        for rail in &self.inner.rails {
            if rail.profile().custody != Custody::Internal {
                count += self.observe_rail(&**rail).await?;
            }
        }
        Ok(count)
    }

    async fn observe_rail(&self, rail: &dyn SettlementRail) -> Result<usize, Error> {
        let id = rail.profile().id;
        let (market, reader) = (self.inner.market, format!("rail/{id}"));
        let stands = self.inner.store.cursor(market, &reader).await?;
        let observations = rail.observe(&Cursor(stands.clone().unwrap_or_default())).await?;
        let count = observations.items.len();
        for observation in observations.items {
            self.take_in(&Actor::Rail(id), id, observation).await?;
        }
        // Another process may have moved the cursor meanwhile; taking in twice is harmless.
        if stands.as_deref() != Some(&observations.next.0) {
            self.inner.store.move_cursor(market, &reader, stands.as_deref(), &observations.next.0).await?;
        }
        Ok(count)
    }

    pub(super) async fn record_deposit(
        &self,
        actor: &Actor,
        rail: RailId,
        observation: Observation,
    ) -> Result<(), Error> {
        const COMMAND: &str = "record_deposit";
        if !matches!(actor, Actor::Operator(_)) {
            return Err(Rejection::WrongActor { command: COMMAND, allowed: "an operator", actor: actor.clone() }.into());
        }
        text::line("reference", &observation.id, REFERENCE)?;
        if self.rail(Some(rail))?.profile().custody != Custody::Internal {
            return Err(Rejection::WrongRail { command: COMMAND, rail, needed: Custody::Internal }.into());
        }
        if let ObservationBody::Deposit { amount, .. } = &observation.body {
            self.check_deposit(*amount)?;
        }
        self.take_in(actor, rail, observation).await
    }

    /// Takes in one observation, once however often it comes.
    async fn take_in(&self, actor: &Actor, rail: RailId, observation: Observation) -> Result<(), Error> {
        match observation.body.clone() {
            ObservationBody::Outcome { instruction, outcome } => {
                self.outcome_arrived(rail, observation, instruction, outcome).await
            }
            ObservationBody::Deposit { agent, amount, source } => match self.check_deposit(amount) {
                Ok(()) => {
                    let mut movement = Movement::new();
                    let booked =
                        movement.transfer(Account::Rail(rail), available(agent), amount, TransferKind::Deposit);
                    booked.map_err(Rejection::from)?;
                    let event = ObservationEvent::Deposited { agent, amount, source };
                    self.write_observed(actor, rail, observation, movement, event).await
                }
                Err(rejection) => self.refuse(actor, rail, observation, &rejection).await,
            },
            ObservationBody::HoldExpired { hold } => {
                let call = Call { actor, key: None, within: None };
                match self.command_job(Some(JobId(hold.0)), JobCommand::RecordHoldExpired, call).await {
                    Ok(_) => Ok(()),
                    Err(Error::Rejected(rejection)) => self.refuse(actor, rail, observation, &rejection).await,
                    Err(error) => Err(error),
                }
            }
        }
    }

    fn check_deposit(&self, amount: Money) -> Result<(), Rejection> {
        Money::zero(self.currency()).plus(amount)?;
        match amount.is_positive() {
            true => Ok(()),
            false => {
                let (currency, actual) = (amount.currency(), amount.minor());
                Err(Rejection::Amount { field: "deposit", currency, min: 1, max: i64::MAX, actual })
            }
        }
    }

    async fn outcome_arrived(
        &self,
        rail: RailId,
        observation: Observation,
        id: InstructionId,
        outcome: Outcome,
    ) -> Result<(), Error> {
        let (record, version) = match self.instruction(id).await {
            Ok(found) => found,
            Err(Error::Rejected(rejection)) => {
                return self.refuse(&Actor::Rail(rail), rail, observation, &rejection).await;
            }
            Err(error) => return Err(error),
        };
        if record.rail != rail {
            let reason = Rejection::NotFound { what: "instruction", id: id.to_string() };
            return self.refuse(&Actor::Rail(rail), rail, observation, &reason).await;
        }
        if record.state.is_final() {
            return Ok(()); // said before
        }
        for follow in self.record_answer(record, version, Answer::Outcome(outcome)).await? {
            self.work_on(follow).await?;
        }
        Ok(())
    }

    /// Keeps what no rule could take in, for an operator.
    async fn refuse(
        &self,
        actor: &Actor,
        rail: RailId,
        observation: Observation,
        reason: &Rejection,
    ) -> Result<(), Error> {
        tracing::error!(%rail, observation = observation.id, %reason, "a rail reported what no rule can take in");
        let event = ObservationEvent::Refused { reason: reason.to_string() };
        self.write_observed(actor, rail, observation, Movement::new(), event).await
    }

    async fn write_observed(
        &self,
        actor: &Actor,
        rail: RailId,
        observation: Observation,
        movement: Movement,
        event: ObservationEvent,
    ) -> Result<(), Error> {
        let (at, id) = (self.now(), observed_id(rail, &observation.id));
        let refused = match &event {
            ObservationEvent::Refused { reason } => Some(reason.clone()),
            ObservationEvent::Deposited { .. } => None,
        };
        let record = Record::Observed(Arc::new(Observed { id, rail, observation, at, refused }));
        let subject = Key { kind: Kind::Observation, id };
        let body = EventBody::Observation(event);
        let commit = Commit {
            market: self.inner.market,
            at,
            contract: id,
            version: 1,
            key: None,
            writes: vec![Write { record, expected: 0, claimed_until: None }],
            events: vec![Event { subject, version: 1, at, actor: actor.clone(), body }],
            movement,
            documents: Vec::new(),
        };
        match self.inner.store.commit(commit).await {
            Ok(()) => {
                self.inner.committed.notify_waiters();
                Ok(())
            }
            Err(CommitError::Conflict(_)) => Ok(()), // taken in before
            Err(CommitError::Store(error)) => Err(error.into()),
            Err(CommitError::Ledger(error)) => Err(Rejection::from(error).into()),
            Err(CommitError::Replayed(_) | CommitError::KeyReused(_)) => {
                Err(Rejection::from(LedgerError::TooManyTransfers { limit: 0 }).into())
            }
        }
    }
}

/// The record id of an observation: the same observation has the same one.
fn observed_id(rail: RailId, observation: &str) -> Uuid {
    let digest = Sha256::new().chain_update(rail.as_str()).chain_update([0]).chain_update(observation).finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}
