//! Taking in what rails report.

use std::sync::Arc;

use futures::future::join_all;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{
    Marketplace,
    command::{ATTEMPTS, Call},
    settlement::{Answer, fenced},
    transact::{Attempt, is_repaid},
};
use crate::{
    actor::Actor,
    agreement::AgreementCommand,
    error::{Error, Rejection},
    ids::{AgentId, HoldId, InstructionId, JobId, Place, RailId, WalletId, derive},
    job::JobCommand,
    ledger::{Account, Movement, TransferKind, available},
    money::Money,
    policy::{Range, Switch},
    rail::{
        Capability, Chargeback, Cursor, Custody, EscrowNews, Leg, Observation, ObservationBody, Outcome, Push,
        SettlementRail,
    },
    store::{
        Commit, CommitError, InstructionState, Journal, Key, Kind, ObservationEvent, Observed, OfKind as _, Record,
        Write,
    },
    text,
    wallet::{Wallet, WalletCommand, WalletEvent, withheld},
};

/// A deposit's reference, in characters.
const REFERENCE: Range<u32> = Range { min: 1, max: 200 };

impl Attempt<'_> {
    /// Adds the observation that a commit follows from, if it does from one.
    ///
    /// # Errors
    /// [`Rejection::ReferenceReused`] if one of this name was taken in before.
    pub(super) async fn take_in(&self, commit: &mut Commit, observed: Option<&Write>) -> Result<(), Error> {
        let Some(write) = observed else { return Ok(()) };
        let observed = write.record.key();
        if self.find::<Observed>(observed.id).await?.is_some() {
            return Err(Rejection::ReferenceReused { reference: observed.id.to_string() }.into());
        }
        commit.writes.push(write.clone());
        Ok(())
    }
}

impl Marketplace {
    /// Takes in a message that the outside world pushed to the embedder's server; how many
    /// observations it held. For one that says too little by itself the rail is asked what happened.
    ///
    /// # Errors
    /// A forged push, a rail without pushes or out of reach, or the store's failure. Answer the sender with an error
    /// then, so that it sends again.
    pub async fn receive(&self, rail: RailId, push: &Push) -> Result<usize, Error> {
        let settlement_rail = self.rail(Some(rail))?;
        let observations = settlement_rail.receive(push)?;
        let count = observations.len();
        for observation in observations {
            self.take_in(Call::by(&Actor::Rail(rail)), rail, observation).await?;
        }
        match count {
            // It is true and says too little by itself.
            0 => self.observe_rail(&**settlement_rail).await,
            count => Ok(count),
        }
    }

    /// The rails that can have news: those that the ledger is not.
    pub(super) fn rails_outside(&self) -> impl Iterator<Item = &dyn SettlementRail> {
        self.inner.rails.iter().map(|rail| &**rail).filter(|rail| rail.profile().custody != Custody::Internal)
    }

    /// Asks every rail side by side what happened since it was asked last; how much news there was.
    pub(super) async fn observe_rails(&self) -> usize {
        let mut asked = Vec::new();
        for rail in self.rails_outside() {
            asked.push(async move { (rail.profile().id, self.observe_rail(rail).await) });
        }
        let mut sum = 0;
        for (rail, seen) in join_all(asked).await {
            match seen {
                Ok(count) => sum += count,
                // A rail that cannot be read does not keep us from the others, nor from other work.
                Err(error) => tracing::warn!(%rail, %error, "a rail cannot be observed"),
            }
        }
        sum
    }

    pub(super) async fn observe_rail(&self, rail: &dyn SettlementRail) -> Result<usize, Error> {
        let id = rail.profile().id;
        let (market, reader) = (self.inner.market, format!("rail/{id}"));
        let stands = self.inner.store.cursor(market, &reader).await?;
        let observations = rail.observe(&Cursor(stands.clone().unwrap_or_default())).await?;
        let actor = Actor::Rail(id);
        for observation in observations.items {
            self.take_in(Call::by(&actor), id, observation).await?;
        }
        if stands.as_deref() == Some(&observations.next.0) {
            return Ok(0); // whatever was repeated has been taken in before
        }
        // Another process may have moved the cursor meanwhile; taking in twice is harmless.
        let moved = self.inner.store.move_cursor(market, &reader, stands.as_deref(), &observations.next.0).await?;
        Ok(moved.into())
    }

    pub(super) async fn record_deposit(
        &self,
        call: Call<'_>,
        rail: RailId,
        observation: Observation,
    ) -> Result<(), Error> {
        const COMMAND: &str = "record_deposit";
        self.key_use(&(), call)?; // the reference is the key; this checks who and how
        self.may(COMMAND, matches!(call.actor, Actor::Operator(_)), "an operator", call.actor)?;
        text::line("reference", &observation.id, REFERENCE)?;
        if self.rail(Some(rail))?.profile().custody != Custody::Internal {
            return Err(Rejection::WrongRail { command: COMMAND, rail, needed: Custody::Internal }.into());
        }
        if let ObservationBody::Deposit { agent, amount, .. } = &observation.body {
            self.check_deposit(*amount)?;
            self.check_known(*agent).await?;
        }
        self.take_in(call, rail, observation).await
    }

    /// Takes in one observation, once however often it comes.
    async fn take_in(&self, call: Call<'_>, rail: RailId, observation: Observation) -> Result<(), Error> {
        match observation.body.clone() {
            ObservationBody::Outcome { instruction, outcome } => {
                self.outcome_arrived(call, rail, observation, instruction, outcome).await
            }
            ObservationBody::Deposit { agent, amount, source } => {
                match self.take_deposit(call, rail, &observation, agent, amount, source).await {
                    Ok(()) => self.activate_by_deposit(call, agent, amount).await,
                    Err(Error::Rejected(rejection)) if matches!(call.actor, Actor::Rail(_)) => {
                        self.refuse(call, rail, observation, rejection.to_string()).await
                    }
                    Err(error) => Err(error),
                }
            }
            ObservationBody::HoldExpired { hold } => {
                self.about_hold(call, rail, observation, hold, HoldNews::Expired).await
            }
            ObservationBody::HoldSettled { hold, reference, legs } => {
                self.about_hold(call, rail, observation, hold, HoldNews::Settled { reference, legs }).await
            }
            ObservationBody::Escrow { hold, news } => {
                self.about_hold(call, rail, observation, hold, HoldNews::Escrow(Box::new(news))).await
            }
            ObservationBody::Chargeback(chargeback) => {
                let (hold, news) = (chargeback.hold, HoldNews::Chargeback(Box::new(chargeback)));
                self.about_hold(call, rail, observation, hold, news).await
            }
            ObservationBody::AccountReady { agent } => self.account_ready(call, rail, observation, agent).await,
        }
    }

    /// Has an agent's wallet take in that its account takes money: what waits there is paid out in the same
    /// commit, if its rules allow.
    async fn account_ready(
        &self,
        call: Call<'_>,
        rail: RailId,
        observation: Observation,
        agent: AgentId,
    ) -> Result<(), Error> {
        if self.taken_before(rail, &observation).await? {
            return Ok(());
        }
        let record = self.observed(rail, observation.clone(), ObservationEvent::Taken {});
        let write = Some(Write { record, expected: 0, claimed_until: None });
        match self.command_wallet_with(agent, WalletCommand::RecordAccountReady, call, write).await {
            Err(Error::Rejected(rejection)) => self.refuse(call, rail, observation, rejection.to_string()).await,
            taken => taken.map(drop),
        }
    }

    /// Has a hold's contract take in what happened to its hold without an instruction.
    async fn about_hold(
        &self,
        call: Call<'_>,
        rail: RailId,
        observation: Observation,
        hold: HoldId,
        news: HoldNews,
    ) -> Result<(), Error> {
        let record = self.observed(rail, observation.clone(), ObservationEvent::Taken {});
        let write = Some(Write { record, expected: 0, claimed_until: None });
        let taken = match self.contract_of(hold).await? {
            Some(Record::Agreement(agreement)) => {
                self.command_agreement_with(Some(agreement.id), news.into_agreement(), call, write).await.map(drop)
            }
            _ => match news.into_job() {
                Some(command) => self.command_job_with(Some(JobId(hold.0)), command, call, write).await.map(drop),
                // A job follows its instructions and its hold's end; what its parties do before is theirs.
                None => {
                    let taken = ObservationEvent::Taken {};
                    return self.write_observed(call, rail, observation, Movement::new(), taken).await.map(drop);
                }
            },
        };
        let Err(Error::Rejected(rejection)) = taken else { return taken };
        match self.taken_before(rail, &observation).await? {
            true => Ok(()),
            // A rail that reuses an id for something else is told apart there.
            false => self.refuse(call, rail, observation, rejection.to_string()).await,
        }
    }

    /// Whether this very observation was taken in or refused before.
    async fn taken_before(&self, rail: RailId, observation: &Observation) -> Result<bool, Error> {
        let key = Key { kind: Kind::Observation, id: observed_id(rail, &observation.id) };
        let before = self.inner.store.load(self.inner.market, key).await?;
        Ok(before
            .and_then(|stored| Observed::of(stored.record))
            .is_some_and(|before| before.observation == *observation))
    }

    /// Credits a deposit, if the rail may report one: less what the agent owes, and the first one from
    /// outside says where a panic goes, for ever (JP-24).
    async fn take_deposit(
        &self,
        call: Call<'_>,
        rail: RailId,
        observation: &Observation,
        agent: AgentId,
        amount: Money,
        source: String,
    ) -> Result<(), Error> {
        let profile = self.rail(Some(rail))?.profile();
        let outside = profile.custody != Custody::Internal;
        if outside && !profile.can(Capability::Deposit) {
            return Err(Rejection::Unsupported { rail, capability: Capability::Deposit }.into());
        }
        let switched_off = self.policy().1.wallet.is_some_and(|wallet| wallet.deposits == Switch::Off);
        if outside && switched_off {
            return Err(Rejection::NotOffered { what: "deposits" }.into());
        }
        self.check_deposit(amount)?;
        self.check_known(agent).await?;
        for _ in 0..ATTEMPTS {
            let on = Attempt::new(self, call);
            let repaid = withheld(amount, on.owed(agent).await?).map_err(Rejection::from)?;
            let mut movement = Movement::new();
            movement
                .transfer(Account::Rail(rail), available(agent), amount, TransferKind::Deposit)
                .and_then(|()| {
                    movement.transfer(available(agent), Account::Debt(agent), repaid, TransferKind::DebtRepaid)
                })
                .map_err(Rejection::from)?;
            let event = ObservationEvent::Deposited { agent, amount, source: source.clone() };
            let record = self.observed(rail, observation.clone(), event.clone());
            let mut commit = self.observed_commit(record, 0, movement, event, call);
            if outside {
                let known = on.find::<Wallet>(WalletId::of(agent).0).await?;
                let (wallet, version) = known.unwrap_or_else(|| (Wallet::new(agent).into(), 0));
                if let Some(wallet) = wallet.after_deposit(&source, on.now) {
                    let event = WalletEvent::EmergencySet { agent, address: source.clone() };
                    commit.write(wallet, version, call.actor, [event]);
                }
            }
            if self.write_taken(call, rail, observation.clone(), commit).await? {
                return Ok(());
            }
        }
        Err(Error::Contention { command: "deposit", attempts: ATTEMPTS })
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
        call: Call<'_>,
        rail: RailId,
        observation: Observation,
        id: InstructionId,
        outcome: Outcome,
    ) -> Result<(), Error> {
        let (record, version) = match self.instruction(id).await {
            Ok(found) if found.0.rail == rail => found,
            Ok(_) => return self.refuse(call, rail, observation, format!("instruction {id} is another rail's")).await,
            Err(Error::Rejected(rejection)) => {
                return self.refuse(call, rail, observation, rejection.to_string()).await;
            }
            Err(error) => return Err(error),
        };
        if said_before(&record.state, &outcome) {
            return Ok(());
        }
        if matches!(record.state, InstructionState::Done(_) | InstructionState::Declined(_)) {
            return self.refuse(call, rail, observation, contradicts(id, &record.state)).await;
        }
        for follow in self.record_answer(record, version, Answer::Outcome(outcome)).await? {
            self.work_on(follow).await?;
        }
        Ok(())
    }

    /// Keeps an outcome that came too late to be recorded, if what was recorded says otherwise.
    pub(super) async fn contradiction(&self, id: InstructionId, rail: RailId, outcome: &Outcome) -> Result<(), Error> {
        let (record, _) = self.instruction(id).await?;
        if !record.state.is_final() || said_before(&record.state, outcome) {
            return Ok(()); // whoever works on it asks the rail
        }
        let reference = if let Outcome::Done(receipt) = outcome { &receipt.reference } else { "declined" };
        let body = ObservationBody::Outcome { instruction: id, outcome: outcome.clone() };
        let observation = Observation { id: format!("answer/{id}/{reference}"), body };
        let actor = Actor::Rail(rail);
        self.refuse(Call::by(&actor), rail, observation, contradicts(id, &record.state)).await
    }

    /// Keeps what no rule could take in, for an operator.
    async fn refuse(
        &self,
        call: Call<'_>,
        rail: RailId,
        observation: Observation,
        reason: String,
    ) -> Result<(), Error> {
        tracing::error!(%rail, observation = observation.id, %reason, "a rail reported what no rule can take in");
        let event = ObservationEvent::Refused { reason };
        self.write_observed(call, rail, observation, Movement::new(), event).await.map(drop)
    }

    async fn write_observed(
        &self,
        call: Call<'_>,
        rail: RailId,
        observation: Observation,
        movement: Movement,
        event: ObservationEvent,
    ) -> Result<bool, Error> {
        let record = self.observed(rail, observation.clone(), event.clone());
        let commit = self.observed_commit(record, 0, movement, event, call);
        self.write_taken(call, rail, observation, commit).await
    }

    /// Writes what follows from an observation, once; `false` if something else that the commit was made
    /// on has changed.
    async fn write_taken(
        &self,
        call: Call<'_>,
        rail: RailId,
        observation: Observation,
        commit: Commit,
    ) -> Result<bool, Error> {
        let journal: &dyn Journal = call.within.unwrap_or(&*self.inner.store);
        let key = commit.writes[0].record.key();
        match journal.commit(commit).await {
            Ok(()) => {
                self.inner.committed.notify_waiters();
                Ok(true)
            }
            Err(CommitError::Ledger(error)) if is_repaid(&error) => Ok(false),
            Err(CommitError::Conflict(_)) => match journal.load(self.inner.market, key).await?.map(|s| s.record) {
                None => Ok(false),
                Some(Record::Observation(before)) if before.observation == observation => Ok(true), // taken in before
                // A rail that reuses an id is kept for an operator, or it could never be read on.
                _ if matches!(call.actor, Actor::Rail(_)) => {
                    let reason = format!("{:?} was reported before with something else in it", observation.id);
                    let id = format!("{}#{}", observation.id, digest(&observation.body));
                    self.keep_refused(call, rail, Observation { id, ..observation }, reason).await.map(|()| true)
                }
                _ => Err(Rejection::ReferenceReused { reference: observation.id }.into()),
            },
            Err(CommitError::Store(error)) => Err(error.into()),
            // A wallet that overflows: kept for an operator, or the rail could never be read on.
            Err(CommitError::Ledger(error)) if matches!(call.actor, Actor::Rail(_)) => {
                self.keep_refused(call, rail, observation, error.to_string()).await.map(|()| true)
            }
            Err(CommitError::Ledger(error)) => Err(Rejection::from(error).into()),
            Err(CommitError::Replayed(_) | CommitError::KeyReused(_)) => unreachable!("the commit has no key"),
        }
    }

    /// Writes a refused observation down, unless it is there already.
    async fn keep_refused(
        &self,
        call: Call<'_>,
        rail: RailId,
        observation: Observation,
        reason: String,
    ) -> Result<(), Error> {
        let event = ObservationEvent::Refused { reason };
        let record = self.observed(rail, observation, event.clone());
        let commit = self.observed_commit(record, 0, Movement::new(), event, call);
        call.within.unwrap_or(&*self.inner.store).commit(commit).await.or_else(fenced)
    }

    fn observed(&self, rail: RailId, observation: Observation, event: ObservationEvent) -> Record {
        let refused = match event {
            ObservationEvent::Refused { reason } => Some(reason),
            ObservationEvent::Deposited { .. } | ObservationEvent::Taken {} | ObservationEvent::Dismissed { .. } => {
                None
            }
        };
        let (at, id) = (self.now(), observed_id(rail, &observation.id));
        Record::Observation(Arc::new(Observed { id, rail, observation, at, refused, dismissed: None }))
    }

    fn observed_commit(
        &self,
        record: Record,
        version: u64,
        movement: Movement,
        event: ObservationEvent,
        call: Call<'_>,
    ) -> Commit {
        let mut commit = Commit::new(self.inner.market, self.now(), record.key(), version);
        commit.write(record, version, call.actor, [event]);
        commit.movement = movement;
        commit
    }
}

/// What a rail tells of a hold without an instruction's having caused it.
enum HoldNews {
    /// The rail gave it up.
    Expired,
    /// The parties divided it.
    Settled { reference: String, legs: Vec<Leg> },
    /// The payer's bank took it back, or has decided about that.
    Chargeback(Box<Chargeback>),
    /// Something was done about it in the contract between the parties.
    Escrow(Box<EscrowNews>),
}

impl HoldNews {
    fn into_job(self) -> Option<JobCommand> {
        match self {
            Self::Expired => Some(JobCommand::RecordHoldExpired),
            Self::Settled { reference, legs } => Some(JobCommand::RecordHoldSettled { reference, legs }),
            Self::Chargeback(chargeback) => Some(JobCommand::RecordChargeback { chargeback }),
            Self::Escrow(_) => None,
        }
    }

    fn into_agreement(self) -> AgreementCommand {
        match self {
            Self::Expired => AgreementCommand::RecordHoldExpired,
            Self::Settled { reference, legs } => AgreementCommand::RecordHoldSettled { reference, legs },
            Self::Chargeback(chargeback) => AgreementCommand::RecordChargeback { chargeback },
            Self::Escrow(news) => AgreementCommand::RecordEscrow { news },
        }
    }
}

/// Whether an outcome is what an instruction's state says already, or an earlier stage told late.
fn said_before(state: &InstructionState, outcome: &Outcome) -> bool {
    match (state, outcome) {
        // What it cost may become known later; what moved may not.
        (InstructionState::Done(before), Outcome::Done(now)) => {
            (&before.reference, before.amount, &before.legs) == (&now.reference, now.amount, &now.legs)
        }
        (InstructionState::Declined(_), Outcome::Declined(_)) => true,
        (InstructionState::Mismatch { outcome: before }, now) => **before == *now || !now.is_final(),
        (state, now) => state.is_final() && !now.is_final(),
    }
}

fn contradicts(id: InstructionId, state: &InstructionState) -> String {
    format!("instruction {id} is {} already; now the rail says otherwise", state.as_str())
}

/// A short digest of what was observed.
fn digest(body: &ObservationBody) -> String {
    let text = serde_json::to_vec(body).unwrap_or_default();
    Sha256::digest(text)[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The record id of an observation: the same observation has the same one.
fn observed_id(rail: RailId, observation: &str) -> Uuid {
    derive(Place::Anywhere, &[rail.as_str().as_bytes(), &[0], observation.as_bytes()])
}
