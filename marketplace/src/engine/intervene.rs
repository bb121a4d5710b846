//! What parties and operators do about money that is stuck: a party answers what the rail asked for; an
//! operator has the rail asked again, establishes an outcome, or takes a refused observation off the list.

use async_trait::async_trait;
use uuid::Uuid;

use super::{
    Marketplace,
    command::Call,
    settlement::{after, fenced},
    transact::{Attempt, Operation},
};
use crate::{
    actor::Actor,
    error::{Error, Rejection},
    ids::InstructionId,
    policy::Range,
    rail::{Outcome, Party},
    store::{
        Commit, CommitError, InstructionEvent, InstructionRecord, InstructionState, Journal, Kept as _, KeyUse,
        ObservationEvent, Observed, Stored,
    },
    text,
};

/// What can be dismissed.
const REFUSED: &str = "refused observation";
/// The longest answer of a party, in characters: room for a batch of signatures.
const ANSWER: Range<u32> = Range { min: 1, max: 65_536 };

/// What an operator says of an instruction, and how.
pub(super) struct Word<'a> {
    pub(super) event: InstructionEvent,
    pub(super) call: Call<'a>,
    pub(super) key: Option<(String, [u8; 32])>,
}

impl Word<'_> {
    /// The key, with the commit's instruction as what is answered.
    pub(super) fn key_use(&self, commit: &Commit) -> Option<KeyUse> {
        let (key, fingerprint) = self.key.clone()?;
        let answer = commit.writes.last()?.record.clone();
        Some(KeyUse { key, fingerprint, answer })
    }
}

impl Marketplace {
    /// Takes in what the rail asked a party for, and goes on at once.
    pub(super) async fn answer_action(&self, call: Call<'_>, id: InstructionId, answer: String) -> Result<(), Error> {
        const COMMAND: &str = "answer";
        let key = self.key_use(&(COMMAND, id, &answer), call)?;
        text::prose(COMMAND, &answer, ANSWER)?;
        let (record, version) = self.instruction_in(call, id).await?;
        let InstructionState::NeedsAction(action) = &record.state else {
            return self.not_now(COMMAND, &record, key, call).await;
        };
        let asked = match action.who {
            Party::Buyer(agent) | Party::Worker(agent) => call.actor.agent() == Some(agent),
            Party::Platform => matches!(call.actor, Actor::Operator(_)),
        };
        self.may(COMMAND, asked, "the party that the rail asked", call.actor)?;
        let mut next = InstructionRecord { problem: None, failures: 0, ..(*record).clone() };
        next.instruction.answer = Some(answer);
        self.go_on(next, version, InstructionEvent::Answered {}, call, key).await
    }

    /// Has the rail asked again about an instruction.
    pub(super) async fn look_again(&self, call: Call<'_>, id: InstructionId, reason: String) -> Result<(), Error> {
        const COMMAND: &str = "look_again";
        let key = self.key_use(&(COMMAND, id, &reason), call)?;
        text::prose("reason", &reason, text::WHY)?;
        self.may(COMMAND, matches!(call.actor, Actor::Operator(_)), "an operator", call.actor)?;
        let (record, version) = self.instruction_in(call, id).await?;
        let state = match &record.state {
            InstructionState::Done(_) | InstructionState::Declined(_) => {
                return self.not_now(COMMAND, &record, key, call).await;
            }
            InstructionState::Queued => InstructionState::Unknown,
            // The rail has had an effect, if not the one asked for: it is asked, never told again.
            InstructionState::Mismatch { .. } => InstructionState::Pending { reference: "a mismatch".into() },
            state => state.clone(),
        };
        let next = InstructionRecord { state, failures: 0, ..(*record).clone() };
        self.go_on(next, version, InstructionEvent::AskedAgain { reason }, call, key).await
    }

    /// Ends an instruction with the outcome that an operator has established outside.
    pub(super) async fn resolve(
        &self,
        call: Call<'_>,
        id: InstructionId,
        outcome: Outcome,
        reason: String,
    ) -> Result<(), Error> {
        const COMMAND: &str = "resolve";
        let key = self.key_use(&(COMMAND, id, &outcome, &reason), call)?;
        text::prose("reason", &reason, text::WHY)?;
        self.may(COMMAND, matches!(call.actor, Actor::Operator(_)), "an operator", call.actor)?;
        let (record, version) = self.instruction_in(call, id).await?;
        let ended = matches!(record.state, InstructionState::Done(_) | InstructionState::Declined(_));
        if ended || !outcome.is_final() {
            return self.not_now(COMMAND, &record, key, call).await;
        }
        if let Outcome::Done(receipt) = &outcome {
            record.instruction.check(receipt).map_err(Rejection::from)?;
        }
        let next = after(&record, &outcome, self.now());
        let word = Word { event: InstructionEvent::Resolved { reason }, call, key };
        for follow in self.tell_contract(&record, version, next, outcome, Some(word)).await? {
            self.work_on(follow).await?;
        }
        Ok(())
    }

    /// Refuses what an instruction's state does not allow, unless it was done before under this key.
    async fn not_now(
        &self,
        command: &'static str,
        record: &InstructionRecord,
        key: Option<(String, [u8; 32])>,
        call: Call<'_>,
    ) -> Result<(), Error> {
        let journal: &dyn Journal = call.within.unwrap_or(&*self.inner.store);
        let before = match &key {
            Some((key, _)) => journal.key(self.inner.market, key).await?,
            None => None,
        };
        match (before, key) {
            (Some(before), Some((_, fingerprint))) if before.fingerprint == fingerprint => Ok(()),
            (Some(_), Some((key, _))) => Err(Rejection::KeyReused { key }.into()),
            _ => Err(Rejection::WrongInstruction { command, state: record.state.as_str() }.into()),
        }
    }

    /// Takes a refused observation off the list of what is unsettled.
    pub(super) async fn dismiss(&self, call: Call<'_>, id: Uuid, reason: String) -> Result<(), Error> {
        let mut operation = Dismissal { id, reason: &reason };
        self.transact::<Observed>(call, &(operation.name(), id, &reason), &mut operation).await.map(drop)
    }

    /// Refuses an actor whose command it is not.
    pub(super) fn may(
        &self,
        command: &'static str,
        allowed: bool,
        who: &'static str,
        actor: &Actor,
    ) -> Result<(), Rejection> {
        if !allowed {
            return Err(Rejection::WrongActor { command, allowed: who, actor: actor.clone() });
        }
        self.authorize(actor, command, None)
    }
    /// Writes an instruction, claimed, and works on it; in an embedder's transaction the workers do.
    async fn go_on(
        &self,
        next: InstructionRecord,
        version: u64,
        event: InstructionEvent,
        call: Call<'_>,
        key: Option<(String, [u8; 32])>,
    ) -> Result<(), Error> {
        let now = self.now();
        let next = InstructionRecord { run_at: now, ..next };
        let claimed_until = call.within.is_none().then(|| now + self.inner.lease.delta());
        let mut commit = self.instruction_commit(next, version, vec![event], call.actor, now, claimed_until);
        let record = commit.writes[0].record.clone();
        commit.key = key.map(|(key, fingerprint)| KeyUse { key, fingerprint, answer: record.clone() });
        match call.within.unwrap_or(&*self.inner.store).commit(commit).await {
            Ok(()) if call.within.is_some() => Ok(()),
            Ok(()) => self.work_on(Stored { record, version: version + 1, claims: 1 }).await,
            Err(CommitError::Conflict(_)) => Err(Error::Contention { command: "instruction", attempts: 1 }),
            Err(CommitError::KeyReused(key)) => Err(Rejection::KeyReused { key }.into()),
            Err(error) => fenced(error),
        }
    }
}

/// An operator's word that a refused observation is dealt with.
struct Dismissal<'a> {
    id: Uuid,
    reason: &'a str,
}

#[async_trait]
impl Operation for Dismissal<'_> {
    fn name(&self) -> &'static str {
        "dismiss"
    }

    async fn attempt(&mut self, on: &Attempt<'_>) -> Result<Commit, Error> {
        text::prose("reason", self.reason, text::WHY)?;
        on.market.may(self.name(), matches!(on.actor, Actor::Operator(_)), "an operator", on.actor)?;
        let (observed, version) = on.load::<Observed>(REFUSED, self.id).await?;
        if observed.refused.is_none() || observed.dismissed.is_some() {
            return Err(Rejection::NotFound { what: REFUSED, id: self.id.to_string() }.into());
        }
        let dismissed = Some(self.reason.to_owned());
        let mut commit = on.commit(observed.key(), version);
        let event = ObservationEvent::Dismissed { reason: self.reason.to_owned() };
        commit.write(Observed { dismissed, ..(*observed).clone() }, version, on.actor, [event]);
        Ok(commit)
    }
}
