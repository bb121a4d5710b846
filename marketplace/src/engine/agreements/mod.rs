//! Usage agreements in the engine: the path of their commands, and what can be read of them.

mod session;

use std::sync::Arc;

use async_trait::async_trait;

use super::{
    Marketplace, Role,
    command::{Call, json},
    parties::Beginning,
    transact::{Attempt, Operation, is_repaid},
};
use crate::{
    actor::Actor,
    agreement::{Agreement, AgreementCommand, AgreementStatus, Context, chain::CallProof, decide},
    error::{Error, Rejection},
    hold::{Recall, Spendable},
    ids::AgreementId,
    ledger::{Account, LedgerError},
    policy::{Policy, PolicyVersion},
    store::{
        Commit, Document, Kept as _, Key, Kind, LoggedEvent, OfKind as _, Query, StoreError, StoreErrorKind, Write,
    },
};

/// The most agreements that one call lists.
const PAGE: u32 = 50;

impl Marketplace {
    /// An agreement as it is now.
    ///
    /// # Errors
    /// [`Rejection::NotFound`], or the store's failure.
    pub async fn agreement(&self, id: AgreementId) -> Result<Arc<Agreement>, Error> {
        let stored = self.inner.store.load(self.inner.market, Key { kind: Kind::Agreement, id: id.0 }).await?;
        let found = stored.and_then(|stored| Agreement::of(stored.record));
        found.ok_or_else(|| Rejection::NotFound { what: "agreement", id: id.to_string() }.into())
    }

    /// An agent's agreements as buyer or as seller (who is the worker), newest first, in any of the given
    /// statuses (empty for all), leaving out the newest `offset`; at most 50.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn agreements(
        &self,
        role: Role,
        statuses: &[AgreementStatus],
        offset: u32,
    ) -> Result<Vec<Arc<Agreement>>, Error> {
        let statuses = statuses.iter().map(|status| status.as_str()).collect();
        let query =
            Query { kind: Kind::Agreement, party: Some(role.party()), statuses, before: None, offset, limit: PAGE };
        let found = self.inner.store.find(self.inner.market, &query).await?;
        Ok(found.into_iter().filter_map(|stored| Agreement::of(stored.record)).collect())
    }

    /// The document of settlement terms that the parties agreed to, byte for byte: its SHA-256 is in the
    /// agreement's terms.
    ///
    /// # Errors
    /// [`Rejection::NotFound`], or the store's failure.
    pub async fn agreement_document(&self, id: AgreementId) -> Result<String, Error> {
        let text = self.inner.store.document(self.inner.market, id.0, DOCUMENT).await?;
        text.ok_or_else(|| Rejection::NotFound { what: "document of agreement", id: id.to_string() }.into())
    }

    /// The calls that were recorded as the `part`-th record of usage, counted from 1 up to
    /// [`Usage::parts`](crate::agreement::Usage::parts). One after the other they are the agreement's chain,
    /// which [`chain::verify`](crate::agreement::chain::verify) checks (PG-19).
    ///
    /// # Errors
    /// [`Rejection::NotFound`], or the store's failure.
    pub async fn usage(&self, id: AgreementId, part: u32) -> Result<Vec<CallProof>, Error> {
        let text = self.inner.store.document(self.inner.market, id.0, &part_name(part)).await?;
        let missing = || Rejection::NotFound { what: "record of usage", id: format!("{id}: {part}") };
        let text = text.ok_or_else(missing)?;
        let unreadable =
            |e| StoreError::new(StoreErrorKind::Corrupt, "a record of usage is no list of calls").caused_by(e);
        Ok(serde_json::from_str(&text).map_err(|e: serde_json::Error| unreadable(e))?)
    }

    /// What happened to an agreement, oldest first, with who did it and when.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn agreement_history(&self, id: AgreementId) -> Result<Vec<LoggedEvent>, Error> {
        Ok(self.inner.store.events_of(self.inner.market, Key { kind: Kind::Agreement, id: id.0 }).await?)
    }

    /// Carries out a command to an agreement: `None` proposes one.
    pub(super) async fn command_agreement(
        &self,
        id: Option<AgreementId>,
        command: AgreementCommand,
        call: Call<'_>,
    ) -> Result<Arc<Agreement>, Error> {
        self.command_agreement_with(id, command, call, None).await
    }

    /// Carries out a command to an agreement, writing down in the same commit what the rail reported.
    pub(super) async fn command_agreement_with(
        &self,
        id: Option<AgreementId>,
        command: AgreementCommand,
        call: Call<'_>,
        observed: Option<Write>,
    ) -> Result<Arc<Agreement>, Error> {
        let mut given = Given { id, command: command.clone(), observed };
        self.transact(call, &(id, &command), &mut given).await
    }
}

impl Attempt<'_> {
    /// Has an agreement decide on a command in an actor's name, and adds what follows from it to the
    /// commit: the agreement as it will be, its events, what moves, its instructions and documents.
    ///
    /// # Errors
    /// Whatever the agreement's rules refuse.
    pub(super) async fn command_agreement_as(
        &self,
        actor: &Actor,
        commit: &mut Commit,
        before: Option<(&Agreement, u64)>,
        command: &AgreementCommand,
    ) -> Result<Arc<Agreement>, Error> {
        let market = self.market;
        market.authorize(actor, command.name(), None)?;
        let (version, policy): (PolicyVersion, Arc<Policy>) = match before {
            Some((agreement, _)) => (agreement.policy, market.pinned(agreement.policy).await?),
            None => market.policy(),
        };
        let (beginning, rail) = match (before, command) {
            (None, AgreementCommand::Propose { proposal, .. }) => {
                let (agents, worker) = ([actor.agent(), Some(proposal.seller)], Some(proposal.seller));
                (Beginning { agents, worker, takes_on: false }, proposal.rail)
            }
            (Some((agreement, _)), AgreementCommand::Accept { .. }) => {
                (Beginning { agents: [actor.agent(), None], ..Beginning::default() }, Some(agreement.rail))
            }
            (before, _) => (Beginning::default(), before.map(|(agreement, _)| agreement.rail)),
        };
        let parties = market.parties(self.journal, command.name(), beginning, &policy).await?;
        let agreement = before.map(|(agreement, _)| agreement);
        let spendable = match agreement.filter(|agreement| agreement.returns.may_take_back(command.recall())) {
            Some(agreement) => self.spendable(agreement.buyer, Some(agreement.seller)).await?,
            None => Spendable::default(),
        };
        let rail = market.rail(rail)?.profile();
        let decided = |owed| {
            let (verifiers, now, seller_tier) = (&market.inner.verifiers, self.now, parties.candidate().tier);
            let policy = &*policy;
            let context = Context { now, actor, policy, version, rail, seller_tier, verifiers, owed, spendable };
            decide(agreement, command, &context)
        };
        let mut decision = decided(None)?;
        if decision.pays_the_seller() {
            let owed = self.owed(decision.agreement.seller).await?;
            if owed.is_positive() {
                decision = decided(Some(owed))?;
            }
        }
        let (agreement, version) = (Arc::new(decision.agreement), before.map_or(0, |(_, version)| version));
        commit.write(agreement.clone(), version, actor, decision.events);
        for (instruction, run_at) in decision.instructions {
            let claimed_until = self.claimed_until.filter(|_| run_at <= self.now);
            commit.instruct(agreement.key(), agreement.rail, instruction, run_at, claimed_until);
        }
        commit.movement.append(decision.movement).map_err(Rejection::from)?;
        commit.documents.extend(document(&agreement, command, &decision.proofs)?);
        parties.guard(commit);
        Ok(agreement)
    }
}

/// A command that somebody gave to an agreement.
struct Given {
    id: Option<AgreementId>,
    command: AgreementCommand,
    observed: Option<Write>,
}

#[async_trait]
impl Operation for Given {
    fn name(&self) -> &'static str {
        self.command.name()
    }

    async fn attempt(&mut self, on: &Attempt<'_>) -> Result<Commit, Error> {
        let (subject, before) = match (&mut self.command, self.id) {
            (AgreementCommand::Propose { id, .. }, _) => {
                *id = AgreementId(on.fresh());
                (*id, None)
            }
            (_, Some(id)) => (id, Some(on.load::<Agreement>("agreement", id.0).await?)),
            (_, None) => return Err(Rejection::NotFound { what: "agreement", id: String::new() }.into()),
        };
        let before = before.as_ref().map(|(agreement, version)| (&**agreement, *version));
        let key = Key { kind: Kind::Agreement, id: subject.0 };
        let mut commit = on.commit(key, before.map_or(0, |(_, version)| version));
        on.command_agreement_as(on.actor, &mut commit, before, &self.command).await?;
        on.take_in(&mut commit, self.observed.as_ref()).await?;
        Ok(commit)
    }

    /// More of a debt was to be repaid than is owed by now, or a wallet that money is taken back from was
    /// spent from.
    fn is_stale(&self, error: &LedgerError) -> bool {
        let recalls = self.command.recall() != Recall::Never;
        is_repaid(error) || recalls && matches!(error, LedgerError::Overdraft { account: Account::Available(_), .. })
    }
}

/// The settlement terms as proposed, whose hash the agreement carries.
const DOCUMENT: &str = "document";

fn part_name(part: u32) -> String {
    format!("usage/{part}")
}

/// What is kept beside the agreement: its settlement terms, each record of usage.
fn document(
    agreement: &Agreement,
    command: &AgreementCommand,
    proofs: &[CallProof],
) -> Result<Option<Document>, Error> {
    let (name, body) = match command {
        AgreementCommand::Propose { proposal, .. } => (DOCUMENT.into(), json(&proposal.document)?),
        AgreementCommand::RecordUsage { .. } => (part_name(agreement.usage.parts), json(&proofs)?),
        _ => return Ok(None),
    };
    Ok(Some(Document { subject: agreement.id.0, name, body }))
}
