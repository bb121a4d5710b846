//! The auditor: it sees every commit, claim and answer of a world and keeps books of its own.
//!
//! It never calls `decide`, nor the crate's fee or division code. Each commit is checked as it passes
//! ([`job`]), and every few hundred steps its books are held against what the store says and what
//! truly happened outside ([`full`]).

mod agreement;
mod bid;
mod budget;
mod dispute;
pub(super) mod full;
mod job;
mod notice;
mod returns;
mod sums;
mod wallet;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rustc_hash::FxHashMap;

use self::{dispute::Said, notice::Post, sums::Shares};
use super::{Place, plan::Tiers, trace::Trace};
use crate::{
    bid::Bid,
    dispute::DisputeEvent,
    error::{Error, Rejection},
    ids::{AgentId, AgreementId, BidId, DisputeId, InstructionId, JobId, RailId},
    job::Job,
    ledger::{Account, LedgerError, Limit, Transfer},
    policy::{Consensus, Policy, PolicyVersion},
    rail::Custody,
    store::{
        Claim, Commit, CommitError, Event, EventBody, InstructionRecord, InstructionState, Key, Kind, Observed, Record,
        Stored,
    },
    testkit::OutsideWorld,
    validation::{Check, Opinion, Verdict},
};

/// The auditor of one world.
pub(super) struct Auditor {
    places: Vec<Place>,
    tiers: Tiers,
    /// What no later policy changes: the rules of wallets and of spending limits.
    terms: Policy,
    records: FxHashMap<Key, Kept>,
    balances: FxHashMap<Account, i128>,
    /// How many entries each account has.
    entries: FxHashMap<Account, u64>,
    events: Vec<Event>,
    /// What went over a rail's account, and for which contract.
    crossings: Vec<(uuid::Uuid, Transfer)>,
    /// How many events the reader has seen, and how many it has acknowledged.
    seen: usize,
    keys: HashMap<String, UsedKey>,
    policies: BTreeMap<PolicyVersion, Policy>,
    pub(super) bids: BTreeMap<JobId, BTreeMap<BidId, Bid>>,
    pub(super) jobs: Vec<JobId>,
    pub(super) open: BTreeSet<JobId>,
    instructions: Vec<InstructionId>,
    /// Instructions whose last word is not spoken; a mismatch stays here.
    pub(super) unfinished: BTreeSet<InstructionId>,
    /// The contracts that a rail has ever lied about.
    lied: BTreeSet<uuid::Uuid>,
    /// Disputes that are not over, and what the arbiter said of them.
    quarrels: BTreeSet<DisputeId>,
    /// Agreements that are not over.
    metered: BTreeSet<AgreementId>,
    post: Post,
    /// What divided holds gave, less what has gone back since.
    got: FxHashMap<JobId, Shares>,
    said: HashMap<DisputeId, Vec<Said>>,
    /// The number of the commit that last changed what an agent owes.
    owed_since: FxHashMap<AgentId, u64>,
    commits: u64,
    /// How many commits there were when the task began that commits now.
    began: u64,
    /// How many there were when the world itself last began something.
    quiet: u64,
    faults_injected: u64,
    tasks: HashMap<usize, Task>,
    problems: Vec<String>,
}

struct Kept {
    record: Record,
    version: u64,
    /// The number of the commit that wrote it.
    at: u64,
}

struct UsedKey {
    answer: Record,
    /// The number of the commit that used it.
    commit: u64,
    /// What was commanded, as the world itself describes it.
    body: String,
}

/// What the auditor knows of a task under way.
#[derive(Clone, Debug)]
struct Task {
    body: String,
    key: Option<String>,
    began: u64,
    commits: u64,
    faults_before: u64,
}

impl Auditor {
    pub(super) fn new(places: Vec<Place>, tiers: Tiers, terms: Policy) -> Self {
        Self {
            places,
            tiers,
            terms,
            records: FxHashMap::default(),
            balances: FxHashMap::default(),
            entries: FxHashMap::default(),
            events: Vec::new(),
            crossings: Vec::new(),
            seen: 0,
            keys: HashMap::new(),
            policies: BTreeMap::new(),
            bids: BTreeMap::new(),
            jobs: Vec::new(),
            open: BTreeSet::new(),
            instructions: Vec::new(),
            unfinished: BTreeSet::new(),
            lied: BTreeSet::new(),
            quarrels: BTreeSet::new(),
            metered: BTreeSet::new(),
            post: Post::default(),
            got: FxHashMap::default(),
            said: HashMap::new(),
            owed_since: FxHashMap::default(),
            commits: 0,
            began: 0,
            quiet: 0,
            faults_injected: 0,
            tasks: HashMap::new(),
            problems: Vec::new(),
        }
    }

    pub(super) fn problem(&mut self, problem: impl Into<String>) {
        self.problems.push(problem.into());
    }

    /// What was found wrong so far, first things first.
    pub(super) fn problems(&self) -> &[String] {
        &self.problems
    }

    pub(super) fn fault_injected(&mut self) {
        self.faults_injected += 1;
    }

    /// What no rule could take in and nobody has dealt with, oldest id first.
    pub(super) fn refused(&self) -> Vec<&Observed> {
        let mut refused: Vec<&Observed> = self
            .records
            .values()
            .filter_map(|kept| match &kept.record {
                Record::Observation(observed) if observed.refused.is_some() && observed.dismissed.is_none() => {
                    Some(&**observed)
                }
                _ => None,
            })
            .collect();
        refused.sort_unstable_by_key(|observed| observed.id);
        refused
    }

    pub(super) fn job(&self, id: JobId) -> Option<&Job> {
        match self.records.get(&Key { kind: Kind::Job, id: id.0 }).map(|kept| &kept.record) {
            Some(Record::Job(job)) => Some(job),
            _ => None,
        }
    }

    pub(super) fn policy(&self, version: PolicyVersion) -> Option<&Policy> {
        self.policies.get(&version)
    }

    pub(super) fn instruction(&self, id: InstructionId) -> Option<&InstructionRecord> {
        match self.records.get(&Key { kind: Kind::Instruction, id: id.0 }).map(|kept| &kept.record) {
            Some(Record::Instruction(record)) => Some(record),
            _ => None,
        }
    }

    /// The world that a rail leads to.
    fn outside(&self, rail: RailId) -> Option<&OutsideWorld> {
        self.places.iter().find(|place| place.profile.id == rail)?.outside.as_ref()
    }

    /// Whether a rail's money goes from party to party and passes nobody else.
    fn passes_by(&self, rail: RailId) -> bool {
        self.places.iter().any(|place| place.profile.id == rail && place.profile.custody == Custody::NonCustodial)
    }

    /// Whether a rail keeps each contract's money apart.
    fn holds_apart(&self, rail: RailId) -> bool {
        self.places.iter().any(|place| place.profile.id == rail && place.profile.custody.is_per_hold())
    }

    pub(super) fn balance(&self, account: Account) -> i128 {
        self.balances.get(&account).copied().unwrap_or_default()
    }

    // ---- what the wrapped store tells

    /// Reads see the newest version, always.
    pub(super) fn loaded(&mut self, key: Key, found: Option<&Stored>) {
        let (version, record) = match self.records.get(&key) {
            Some(kept) => (kept.version, Some(&kept.record)),
            None => (0, None),
        };
        if found.map_or(0, |stored| stored.version) != version || found.map(|stored| &stored.record) != record {
            self.problem(format!("{key:?} was loaded as {found:?}, last written was version {version}: {record:?}"));
        }
    }

    /// A claim raises the version by one, of records that are due only.
    pub(super) fn claimed(&mut self, claim: &Claim, claimed: &[Stored]) {
        for stored in claimed {
            let key = stored.record.key();
            if stored.record.due_at().is_none_or(|due| due > claim.now) {
                self.problem(format!("{key:?} was claimed before it is due"));
            }
            match self.records.get_mut(&key) {
                Some(kept) if kept.version + 1 == stored.version && kept.record == stored.record => kept.version += 1,
                _ => self.problem(format!("{key:?} was claimed as version {}, which does not follow", stored.version)),
            }
        }
    }

    pub(super) fn policy_added(&mut self, version: PolicyVersion, policy: &Policy) {
        match self.policies.get(&version) {
            Some(known) if known != policy => self.problem(format!("policy {} changed", version.0)),
            _ => drop(self.policies.insert(version, policy.clone())),
        }
    }

    /// A commit was tried.
    pub(super) fn committed(
        &mut self,
        task: Option<usize>,
        commit: &Commit,
        result: &Result<(), CommitError>,
        trace: &mut Trace,
    ) {
        let written = commit.writes.iter().map(|write| (write.record.key(), write.expected));
        let mut relied_on = written.chain(commit.guards.iter().copied());
        let clash = relied_on.find(|(key, version)| self.version(*key) != *version).map(|(key, _)| key);
        let known_key = commit.key.as_ref().is_some_and(|used| self.keys.contains_key(&used.key));
        trace.line(format_args!("  commit {:?} {:?}: {}", commit.contract, clash, named(result)));
        match result {
            Ok(()) if known_key => self.problem("a used key was committed again"),
            Ok(()) if clash.is_some() => self.problem(format!("{clash:?} was written over")),
            Ok(()) => self.written(task, commit, trace),
            Err(CommitError::Conflict(key)) if clash.is_none() => {
                self.problem(format!("a conflict on {key:?}, which is as it was expected"));
            }
            Err(CommitError::Replayed(_) | CommitError::KeyReused(_)) if !known_key => {
                self.problem("a new key was called a used one");
            }
            Err(CommitError::Ledger(LedgerError::Overdraft { .. })) if self.affordable(commit) => {
                self.problem(format!("an overdraft was seen where there is none: {:?}", commit.movement));
            }
            Err(CommitError::Store(error)) => self.problem(format!("the store failed by itself: {error}")),
            Err(_) => {}
        }
    }

    fn version(&self, key: Key) -> u64 {
        self.records.get(&key).map_or(0, |kept| kept.version)
    }

    fn affordable(&self, commit: &Commit) -> bool {
        let mut after: BTreeMap<Account, i128> = BTreeMap::new();
        for transfer in commit.movement.transfers() {
            *after.entry(transfer.debit()).or_default() -= i128::from(transfer.amount().minor());
            *after.entry(transfer.credit()).or_default() += i128::from(transfer.amount().minor());
        }
        after.into_iter().all(|(account, delta)| within_limit(account, self.balance(account) + delta))
    }

    fn written(&mut self, task: Option<usize>, commit: &Commit, trace: &mut Trace) {
        self.commits += 1;
        let task = task.and_then(|task| self.tasks.get_mut(&task));
        let mut body = String::new();
        self.began = self.quiet;
        if let Some(task) = task {
            task.commits += 1;
            self.began = task.began;
            body.clone_from(&task.body);
        }
        if let Some(used) = &commit.key {
            let used_key = UsedKey { answer: used.answer.clone(), commit: self.commits, body };
            self.keys.insert(used.key.clone(), used_key);
        }
        self.post(commit);
        self.log(commit, trace);
        for write in &commit.writes {
            let before = self.records.get(&write.record.key()).map(|kept| kept.record.clone());
            match (before, &write.record) {
                (None, Record::Job(job)) => self.job_written(None, job, commit),
                (Some(Record::Job(before)), Record::Job(job)) => self.job_written(Some(&before), job, commit),
                (before, Record::Instruction(record)) => {
                    let before = before.as_ref().and_then(|before| match before {
                        Record::Instruction(before) => Some(&**before),
                        _ => None,
                    });
                    self.instruction_written(before, record);
                }
                (None, Record::Observation(observed)) => self.deposit_written(observed, commit),
                (None, Record::Adjustment(_)) => {}
                (None, Record::Wallet(wallet)) => self.wallet_written(None, wallet, commit),
                (Some(Record::Wallet(before)), Record::Wallet(wallet)) => {
                    self.wallet_written(Some(&before), wallet, commit);
                }
                (None, Record::Budget(budget)) => self.budget_written(None, budget, commit),
                (Some(Record::Budget(before)), Record::Budget(budget)) => {
                    self.budget_written(Some(&before), budget, commit);
                }
                (Some(Record::Observation(before)), Record::Observation(now)) => {
                    let same = Observed { dismissed: None, ..(**now).clone() } == *before;
                    if !same || before.refused.is_none() || now.dismissed.is_none() {
                        self.problem(format!("{before:?} became {now:?}"));
                    }
                }
                (None, Record::Dispute(dispute)) => self.dispute_written(None, dispute, commit),
                (Some(Record::Dispute(before)), Record::Dispute(dispute)) => {
                    self.dispute_written(Some(&before), dispute, commit);
                }
                (_, Record::Review(_) | Record::Report(_) | Record::Reputation(_)) => {} // no money is in them
                (_, Record::Bid(_)) => {} // once all of the commit is there
                (_, Record::Check(check)) => self.check_written(check),
                (_, Record::Endpoint(_)) => {}
                (None, Record::Notice(notice)) => self.notice_written(None, notice),
                (Some(Record::Notice(before)), Record::Notice(notice)) => self.notice_written(Some(&before), notice),
                (None, Record::Delivery(delivery)) => self.delivery_written(None, delivery),
                (Some(Record::Delivery(before)), Record::Delivery(delivery)) => {
                    self.delivery_written(Some(&before), delivery);
                }
                (None, Record::Agreement(agreement)) => self.agreement_written(None, agreement, commit),
                (Some(Record::Agreement(before)), Record::Agreement(agreement)) => {
                    self.agreement_written(Some(&before), agreement, commit);
                }
                // The world's people are the embedder's own.
                (_, Record::Agent(_) | Record::Owner(_)) => {}
                (Some(_), record) => self.problem(format!("{:?} became another kind of thing", record.key())),
            }
            let kept = Kept { record: write.record.clone(), version: write.expected + 1, at: self.commits };
            self.records.insert(write.record.key(), kept);
        }
        self.bids_written(commit);
        self.owe(commit);
        for transfer in commit.movement.transfers() {
            if let (Account::Debt(agent), _) | (_, Account::Debt(agent)) = (transfer.debit(), transfer.credit()) {
                self.owed_since.insert(agent, self.commits);
            }
        }
    }

    /// What several validators come to, by the auditor's own counting (VP-18).
    fn check_written(&mut self, check: &Check) {
        let Some(report) = check.report.as_ref().filter(|report| !report.answers.is_empty()) else { return };
        let Some(terms) = self.job(check.job).and_then(|job| self.policies.get(&job.policy)?.validation) else {
            return self.problem(format!("{check:?} where nothing is validated"));
        };
        let opinions = || report.answers.iter().filter_map(|answer| answer.said.as_ref().ok());
        let sure = |opinion: &&Opinion| opinion.confidence.share() >= terms.threshold.share();
        let (passed, asked) = (opinions().filter(sure).count(), terms.validators as usize);
        let failed = opinions().count() - passed;
        let needed = match terms.consensus {
            Consensus::All => asked,
            Consensus::Majority => asked / 2 + 1,
            Consensus::Any => 1,
        };
        let due = match () {
            () if passed >= needed => Verdict::Passed,
            () if asked - failed >= needed => Verdict::Unavailable,
            () => Verdict::Failed,
        };
        if report.verdict != due {
            self.problem(format!("{check:?} came to {:?}, due is {due:?}", report.verdict));
        }
    }

    /// Books the movement, and checks every limit afterwards.
    fn post(&mut self, commit: &Commit) {
        for transfer in commit.movement.transfers() {
            let minor = i128::from(transfer.amount().minor());
            if minor <= 0 || transfer.debit() == transfer.credit() {
                self.problem(format!("a transfer that moves nothing: {transfer:?}"));
            }
            *self.balances.entry(transfer.debit()).or_default() -= minor;
            *self.balances.entry(transfer.credit()).or_default() += minor;
            *self.entries.entry(transfer.debit()).or_default() += 1;
            *self.entries.entry(transfer.credit()).or_default() += 1;
            if matches!((transfer.debit(), transfer.credit()), (Account::Rail(_), _) | (_, Account::Rail(_))) {
                self.crossings.push((commit.contract, *transfer));
            }
        }
        for transfer in commit.movement.transfers() {
            for account in [transfer.debit(), transfer.credit()] {
                let balance = self.balance(account);
                if !within_limit(account, balance) {
                    self.problem(format!("{account} is past its limit: {balance}"));
                }
            }
        }
    }

    fn log(&mut self, commit: &Commit, trace: &mut Trace) {
        for event in &commit.events {
            trace.line(format_args!("  event {event:?}"));
            let made = commit.writes.iter().find(|write| write.record.key() == event.subject);
            if made.is_none_or(|write| write.expected + 1 != event.version) || event.at != commit.at {
                self.problem(format!("{} does not belong to its commit", event.body.name()));
            }
        }
        for transfer in commit.movement.transfers() {
            trace.line(format_args!("  {} -> {} {}", transfer.debit(), transfer.credit(), transfer.amount().minor()));
        }
        self.events.extend_from_slice(&commit.events);
    }

    fn instruction_written(&mut self, before: Option<&InstructionRecord>, record: &InstructionRecord) {
        let id = record.instruction.id;
        match before {
            None => self.instructions.push(id),
            Some(before) => {
                let same = before.instruction.order == record.instruction.order
                    && before.instruction.contract == record.instruction.contract
                    && before.contract == record.contract
                    && before.rail == record.rail
                    && before.given_at == record.given_at;
                let over = matches!(before.state, InstructionState::Done(_) | InstructionState::Declined(_));
                if !same || over {
                    self.problem(format!("instruction {id} was changed: {before:?} became {record:?}"));
                }
            }
        }
        let Some(outside) = self.outside(record.rail) else {
            return self.problem(format!("instruction {id} was given to nobody"));
        };
        let truth = outside.effects(id);
        let told = match &record.state {
            InstructionState::Done(_) => truth.times == 1 && truth.amount == Some(record.instruction.order.amount()),
            InstructionState::Declined(_) => truth.times == 0,
            _ => truth.times <= 1,
        };
        if !told {
            self.problem(format!("instruction {id} is {:?} in the books, truly {truth:?}", record.state));
        }
        if matches!(record.state, InstructionState::Mismatch { .. }) {
            self.lied.insert(record.instruction.contract);
        }
        match record.state {
            InstructionState::Done(_) | InstructionState::Declined(_) => self.unfinished.remove(&id),
            _ => self.unfinished.insert(id),
        };
    }

    // ---- what the world tells of its tasks

    pub(super) fn begins(&mut self, task: usize, body: String, key: Option<String>) {
        let (began, faults_before) = (self.commits, self.faults_injected);
        self.tasks.insert(task, Task { body, key, began, commits: 0, faults_before });
    }

    /// The world itself begins something, while no task is under way.
    pub(super) fn world_begins(&mut self) {
        self.quiet = self.commits;
    }

    pub(super) fn died(&mut self, task: usize) {
        self.tasks.remove(&task);
    }

    /// A command was answered.
    pub(super) fn answered(&mut self, number: usize, answer: Result<Option<&Record>, &Error>) {
        let Some(task) = self.tasks.remove(&number) else { return };
        let before = task.key.as_ref().and_then(|key| self.keys.get(key)).filter(|used| used.commit <= task.began);
        let problem = match answer {
            Ok(None) => None,
            Ok(Some(record)) => match task.key.as_ref().map(|key| self.keys.get(key)) {
                None => (task.commits == 0).then(|| "an answer without a commit".to_owned()),
                Some(None) => Some("a key that was answered is not there".into()),
                Some(Some(used)) => {
                    let ours = used.answer.key() == record.key();
                    let replayed = task.commits == 0;
                    let same = used.answer == *record;
                    match (ours, replayed, same, used.body == task.body) {
                        (true, true, true, true) | (true, false, _, true) => None,
                        _ => Some(format!("a repeated key was answered {record:?}, first {:?}", used.answer)),
                    }
                }
            },
            Err(Error::Rejected(rejection)) => {
                let reused = matches!(rejection, Rejection::KeyReused { .. });
                let known = task.key.as_ref().and_then(|key| self.keys.get(key));
                match (reused, before, known) {
                    _ if task.commits > 0 => Some(format!("a refused command wrote: {rejection}")),
                    (true, _, Some(used)) if used.body != task.body => None,
                    (true, ..) => Some("a key was refused that is new or has the same body".into()),
                    (false, Some(used), _) if used.body == task.body => {
                        Some(format!("a repeated command was refused: {rejection}"))
                    }
                    (false, ..) => None,
                }
            }
            Err(Error::Contention { .. }) => None,
            Err(Error::Store(_)) if self.faults_injected > task.faults_before => None,
            Err(error) => Some(format!("failed: {error}")),
        };
        if let Some(problem) = problem {
            self.problem(format!("{}: {problem}", task.body));
        }
    }
}

fn within_limit(account: Account, balance: i128) -> bool {
    match account.limit() {
        Limit::NotNegative => balance >= 0,
        Limit::NotPositive => balance <= 0,
        Limit::None => true,
    }
}

fn named(result: &Result<(), CommitError>) -> &'static str {
    match result {
        Ok(()) => "written",
        Err(CommitError::Conflict(_)) => "conflict",
        Err(CommitError::Replayed(_)) => "replayed",
        Err(CommitError::KeyReused(_)) => "key reused",
        Err(CommitError::Ledger(_)) => "refused by the ledger",
        Err(CommitError::Store(_)) => "failed",
    }
}

/// A job's event, if it is one.
const fn of_job(event: &Event) -> Option<&crate::job::JobEvent> {
    match &event.body {
        EventBody::Job(event) => Some(event),
        _ => None,
    }
}

/// A dispute's event, if it is one.
const fn of_dispute(event: &Event) -> Option<&DisputeEvent> {
    match &event.body {
        EventBody::Dispute(event) => Some(event),
        _ => None,
    }
}
