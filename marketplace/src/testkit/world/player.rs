//! What the people of a world do: mostly what a person would, sometimes what nobody should.

use std::collections::HashSet;

use rand::{Rng, seq::IndexedRandom};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{
    World,
    deed::{Deed, End, ended, give},
    heal::party,
    plan::altered,
    stage::Play,
    wrap::WorldTransaction,
};
use crate::{
    actor::Actor,
    engine::Marketplace,
    error::Error,
    ids::{AgentId, InstructionId, JobId, RailId},
    job::{Delivery, HoldState, JobCommand, JobOrder, JobStatus, OpenOrder},
    money::{Currency, Money},
    policy::{EscrowAt, Policy, PolicyVersion, Span},
    rail::{Cursor, Custody, Decline, Outcome, Push, Receipt},
    store::{InstructionRecord, InstructionState, Observed, Record},
    testkit::OutsideWorld,
    validation::Verdict,
};

/// How many jobs are open at once, about.
const OPEN: usize = 24;
/// How many keyed commands are remembered to be repeated.
const REMEMBERED: usize = 40;

/// Something under way in one of the processes.
pub(super) struct Task {
    pub(super) number: usize,
    pub(super) process: usize,
    pub(super) play: Play<Answer>,
    /// The policy it sets, if it sets one.
    pub(super) policy: Option<Policy>,
    /// Whether it hands in a push that nobody signed.
    pub(super) forged: bool,
}

/// What a task came to.
#[derive(Debug)]
pub(super) enum Answer {
    Kept(Result<Record, Error>),
    Done(Result<usize, Error>),
    Policy(Result<PolicyVersion, Error>),
}

impl Answer {
    pub(super) const fn error(&self) -> Option<&Error> {
        match self {
            Self::Kept(Err(error)) | Self::Done(Err(error)) | Self::Policy(Err(error)) => Some(error),
            _ => None,
        }
    }

    pub(super) const fn as_record(&self) -> Result<Option<&Record>, &Error> {
        match self {
            Self::Kept(Ok(record)) => Ok(Some(record)),
            Self::Done(Ok(_)) | Self::Policy(Ok(_)) => Ok(None),
            Self::Kept(Err(error)) | Self::Done(Err(error)) | Self::Policy(Err(error)) => Err(error),
        }
    }
}

/// What the world's people remember.
#[derive(Default)]
pub(super) struct Memory {
    keyed: Vec<Keyed>,
    keys: u64,
    deposits: u64,
    /// The observations that no rule can take in, by id.
    pub(super) hostile_deposits: HashSet<String>,
    /// The instructions whose outcome an operator has established.
    pub(super) put_right: HashSet<InstructionId>,
    /// Whose wallet somebody was at last.
    pub(super) at_wallet: Option<AgentId>,
    /// The jobs whose payment a bank took back and has not decided about.
    pub(super) contested: Vec<JobId>,
}

#[derive(Clone)]
struct Keyed {
    key: String,
    actor: Actor,
    deed: Deed,
}

impl World {
    /// Gives every agent money to begin with.
    pub(super) async fn endow(&mut self) -> Result<(), Error> {
        for agent in self.plan.agents.clone() {
            let minor = self.plan.policy.jobs.amount.min.max(10) * 3_000;
            self.bring_in(agent, minor).await?;
        }
        Ok(())
    }

    async fn bring_in(&mut self, agent: AgentId, minor: i64) -> Result<(), Error> {
        let amount = Money::new(minor, self.plan.policy.currency);
        self.memory.deposits += 1;
        match self.plan.custody {
            Custody::Internal => {
                let reference = format!("deposit {}", self.memory.deposits);
                let rail = self.places[0].profile.id;
                self.processes[0].operator("bank").record_deposit(rail, reference, agent, amount).await
            }
            Custody::Pooled => {
                self.outside(0).deposit(agent, amount, "somewhere");
                Ok(())
            }
            Custody::PerHold | Custody::NonCustodial => Ok(()),
        }
    }

    /// The next thing that somebody does.
    pub(super) fn propose(&mut self) -> Task {
        self.tasks += 1;
        let number = self.tasks;
        let process = self.rng.random_range(0..self.processes.len());
        let market = self.processes[process].clone();
        let mut task = Task { number, process, play: Box::pin(std::future::pending()), policy: None, forged: false };
        let (body, key) = match self.rng.random_range(0..1000) {
            0..150 => {
                task.play =
                    Box::pin(async move { Answer::Done(market.work().await.map(|worked| worked.instructions)) });
                ("work".to_owned(), None)
            }
            150..175 => self.push(market, &mut task),
            175..210 => self.answer(market, &mut task),
            210..225 => self.look_again(market, &mut task),
            225..232 => self.set_policy(market, &mut task),
            232..245 => self.deposit(market, &mut task),
            245..248 => self.put_right(market, &mut task),
            248..250 => self.dismiss(market, &mut task),
            250..310 if !self.memory.keyed.is_empty() => self.repeat(market, &mut task),
            310..400 => self.offer(market, &mut task),
            400..480 => self.quarrel(market, &mut task),
            480..540 => self.purse(market, &mut task),
            540..565 => self.take_back(market, &mut task),
            565..630 if self.plan.policy.agreements.is_some() => self.meter(market, &mut task),
            660..680 if self.plan.policy.validation.is_some() => {
                task.play = Box::pin(async move { Answer::Done(market.validate().await) });
                ("validate".to_owned(), None)
            }
            630..660 if self.plan.listens => {
                task.play = Box::pin(async move { Answer::Done(market.deliver_due().await) });
                ("deliver".to_owned(), None)
            }
            _ => self.command(market, &mut task),
        };
        let mut act = self.stage.act();
        act.trace.line(format_args!("task {number} in process {process}: {key:?} {body}"));
        act.auditor.begins(number, body, key);
        task
    }

    /// Messages of the outside world: old ones, new ones, forged ones.
    fn push(&mut self, market: Marketplace, task: &mut Task) -> (String, Option<String>) {
        let place = self.places[self.rng.random_range(0..self.places.len())].clone();
        let end: usize = place.outside.as_ref().map_or(0, |outside| outside.end().0.parse().unwrap_or(0));
        let from = Cursor(self.rng.random_range(end.saturating_sub(20)..=end).to_string());
        let sent = self.rail_to(&place).and_then(|rail| rail.pushes(&from).ok());
        let mut pushes: Vec<Push> = sent.map_or(Vec::new(), |(pushes, _)| pushes);
        task.forged = !pushes.is_empty() && self.rng.random_range(0..8) == 0;
        if task.forged {
            pushes.truncate(1);
            let byte = self.rng.random_range(0..pushes[0].body.len());
            pushes[0].body[byte] ^= 1;
        }
        let id = place.profile.id;
        let body = format!("{} pushes after {}, forged: {}", pushes.len(), from.0, task.forged);
        task.play = Box::pin(async move {
            let mut count = 0;
            for push in pushes {
                match market.receive(id, &push).await {
                    Ok(more) => count += more,
                    Err(error) => return Answer::Done(Err(error)),
                }
            }
            Answer::Done(Ok(count))
        });
        (body, None)
    }

    /// Somebody does what a rail asked for; now and then it is somebody else.
    fn answer(&mut self, market: Marketplace, task: &mut Task) -> (String, Option<String>) {
        let asked: Vec<(InstructionId, Actor)> = {
            let auditor = &self.stage.act().auditor;
            let open = auditor.unfinished.iter().filter_map(|id| auditor.instruction(*id));
            open.filter_map(|record| match &record.state {
                InstructionState::NeedsAction(action) => Some((record.instruction.id, party(action.who))),
                _ => None,
            })
            .collect()
        };
        let Some((id, actor)) = asked.choose(&mut self.rng).cloned() else { return self.command(market, task) };
        let actor = if self.rng.random_range(0..10) == 0 { self.anybody() } else { actor };
        self.report.commands += 1;
        let body = format!("{actor} answers {id}");
        task.play = Box::pin(async move { Answer::Done(market.by(actor).answer(id, "confirmed").await.map(|()| 1)) });
        (body, None)
    }

    fn look_again(&mut self, market: Marketplace, task: &mut Task) -> (String, Option<String>) {
        let open: Vec<InstructionId> = self.stage.act().auditor.unfinished.iter().copied().collect();
        let Some(id) = open.choose(&mut self.rng).copied() else { return self.command(market, task) };
        let actor = if self.rng.random_range(0..6) == 0 { self.anybody() } else { operator() };
        self.report.commands += 1;
        let body = format!("{actor} looks again at {id}");
        task.play =
            Box::pin(async move { Answer::Done(market.by(actor).look_again(id, "it takes long").await.map(|()| 1)) });
        (body, None)
    }

    /// An operator finds out what truly became of an instruction that the rail has lied about.
    fn put_right(&mut self, market: Marketplace, task: &mut Task) -> (String, Option<String>) {
        // What a liar calls it is true: the money is found by that name, and a hold divided.
        let lied: Vec<(InstructionRecord, String)> = {
            let auditor = &self.stage.act().auditor;
            let open = auditor.unfinished.iter().filter_map(|id| auditor.instruction(*id));
            let lie = |record: &InstructionRecord| match &record.state {
                InstructionState::Mismatch { outcome } => match &**outcome {
                    Outcome::Done(receipt) => Some((record.clone(), receipt.reference.clone())),
                    _ => None,
                },
                _ => None,
            };
            open.filter_map(lie).collect()
        };
        let Some((record, reference)) = lied.choose(&mut self.rng).cloned() else { return self.command(market, task) };
        let Some(outside) =
            self.places.iter().find(|place| place.profile.id == record.rail).and_then(|p| p.outside.clone())
        else {
            return self.command(market, task);
        };
        let instruction = record.instruction.id;
        let truth = outside.effects(instruction);
        let outcome = match truth.times {
            0 => Outcome::Declined(Decline { code: "by_hand".into(), message: "nothing has moved".into() }),
            _ => Outcome::Done(Receipt {
                instruction,
                reference,
                amount: record.instruction.order.amount(),
                legs: truth.legs,
                cost: None,
                hold_expires_at: None,
            }),
        };
        let actor = if self.rng.random_range(0..6) == 0 { self.anybody() } else { operator() };
        self.memory.put_right.insert(instruction);
        self.report.commands += 1;
        let body = format!("{actor} resolves {instruction} as {outcome:?}");
        let within = self.within();
        task.play = Box::pin(async move {
            let session = market.by(actor);
            let resolved = match &within {
                Some((transaction, _)) => session.within(transaction).resolve(instruction, outcome, "it is so").await,
                None => session.resolve(instruction, outcome, "it is so").await,
            };
            Answer::Done(ended(within, resolved.map(|()| 1)).await.map(|ended| ended.unwrap_or(0)))
        });
        (body, None)
    }

    /// An operator has dealt with what no rule could take in.
    fn dismiss(&mut self, market: Marketplace, task: &mut Task) -> (String, Option<String>) {
        let refused: Vec<Observed> = self.stage.act().auditor.refused().into_iter().cloned().collect();
        let expected: Vec<Uuid> = refused
            .iter()
            .filter(|observed| self.expected(&observed.observation))
            .map(|observed| observed.id)
            .collect();
        let Some(id) = expected.choose(&mut self.rng).copied() else { return self.command(market, task) };
        let actor = if self.rng.random_range(0..6) == 0 { self.anybody() } else { operator() };
        self.report.commands += 1;
        let body = format!("{actor} dismisses {id}");
        task.play = Box::pin(async move { Answer::Done(market.by(actor).dismiss(id, "dealt with").await.map(|()| 1)) });
        (body, None)
    }

    /// Now and then a command is given in an embedder's own transaction, which may be rolled back.
    fn within(&mut self) -> Option<(WorldTransaction, End)> {
        let end = match self.rng.random_range(0..24) {
            0 => End::RolledBack,
            1..3 => End::Committed,
            _ => return None,
        };
        Some((WorldTransaction::new(self.own_store()), end))
    }

    pub(super) fn outside(&self, place: usize) -> OutsideWorld {
        self.places[place].outside.clone().expect("the custody says that there is a world outside")
    }

    fn set_policy(&mut self, market: Marketplace, task: &mut Task) -> (String, Option<String>) {
        let Some(policy) = altered(&self.policy, &mut self.rng) else { return self.command(market, task) };
        task.policy = Some(policy.clone());
        let body = format!("policy {:?} {:?}", policy.fees, policy.jobs);
        task.play = Box::pin(async move { Answer::Policy(market.set_policy(policy).await) });
        (body, None)
    }

    /// Money comes in, also twice, also none or more than fits.
    fn deposit(&mut self, market: Marketplace, task: &mut Task) -> (String, Option<String>) {
        let agent = self.agent();
        let hostile = self.rng.random_range(0..12) == 0;
        let minor = match hostile {
            true => *[0, -1, i64::MAX].choose(&mut self.rng).unwrap_or(&0),
            false => self.rng.random_range(1..self.plan.policy.jobs.amount.min.max(10) * 300),
        };
        let amount = Money::new(minor, self.plan.policy.currency);
        match self.plan.custody {
            Custody::Internal => {
                let last = self.memory.deposits;
                let again = self.rng.random_range(0..4) == 0;
                self.memory.deposits += u64::from(!again);
                let reference = format!("deposit {}", if again { last } else { last + 1 });
                let id = self.places[0].profile.id;
                self.report.commands += 1;
                let body = format!("{reference} of {minor} for {agent}");
                task.play = Box::pin(async move {
                    Answer::Done(market.operator("bank").record_deposit(id, reference, agent, amount).await.map(|()| 1))
                });
                (body, None)
            }
            Custody::Pooled if hostile && minor != i64::MAX => {
                let outside = self.outside(0);
                self.memory.hostile_deposits.insert(format!("event-{}", outside.end().0));
                outside.deposit(agent, Money::new(0, amount.currency()), "a joker");
                self.command(market, task)
            }
            Custody::Pooled => {
                if !hostile {
                    self.outside(0).deposit(agent, amount, "somewhere");
                }
                self.command(market, task)
            }
            Custody::PerHold | Custody::NonCustodial => self.command(market, task),
        }
    }

    /// A keyed command once more: the same, or another one under its key.
    fn repeat(&mut self, market: Marketplace, task: &mut Task) -> (String, Option<String>) {
        let Some(mut keyed) = self.memory.keyed.choose(&mut self.rng).cloned() else {
            return self.command(market, task);
        };
        if self.rng.random_range(0..4) == 0 {
            match &mut keyed.deed {
                Deed::Job(_, JobCommand::Cancel { reason } | JobCommand::Refund { reason }) => reason.push('!'),
                Deed::Post(JobCommand::Post { order, .. }) => order.title.push('!'),
                deed => {
                    let id = self.stage.act().auditor.jobs.first().copied().unwrap_or(JobId(Uuid::nil()));
                    *deed = Deed::Job(id, JobCommand::Cancel { reason: "instead".into() });
                }
            }
        }
        self.issue(market, keyed.actor, Some(keyed.key), keyed.deed, task)
    }

    /// A command to a job, or a new job.
    pub(super) fn command(&mut self, market: Marketplace, task: &mut Task) -> (String, Option<String>) {
        let open = self.stage.act().auditor.open.len();
        let posts = open < 4 || self.rng.random_range(0..OPEN * 4) > open * 4 + 2 || self.rng.random_range(0..60) == 0;
        let (actor, deed) = if posts {
            let buyer = self.agent();
            let order = Box::new(self.order(buyer));
            (Actor::Agent(buyer), Deed::Post(JobCommand::Post { id: JobId(Uuid::nil()), order }))
        } else {
            let job = self.some_job();
            let (actor, command) = self.move_of(job);
            (actor, Deed::Job(job, command))
        };
        self.act_on(market, actor, deed, task)
    }

    /// What somebody does, or now and then somebody else, with a key or without.
    pub(super) fn act_on(
        &mut self,
        market: Marketplace,
        actor: Actor,
        deed: Deed,
        task: &mut Task,
    ) -> (String, Option<String>) {
        let actor = if self.rng.random_range(0..14) == 0 { self.anybody() } else { actor };
        let key = (self.rng.random_range(0..3) == 0).then(|| {
            self.memory.keys += 1;
            let key = format!("key-{}", self.memory.keys);
            let keyed = Keyed { key: key.clone(), actor: actor.clone(), deed: deed.clone() };
            let place = self.memory.keys as usize % REMEMBERED;
            match self.memory.keyed.get_mut(place) {
                Some(old) => *old = keyed,
                None => self.memory.keyed.push(keyed),
            }
            key
        });
        self.issue(market, actor, key, deed, task)
    }

    fn issue(
        &mut self,
        market: Marketplace,
        actor: Actor,
        key: Option<String>,
        deed: Deed,
        task: &mut Task,
    ) -> (String, Option<String>) {
        self.report.commands += 1;
        let scoped = key.as_ref().map(|key| format!("{actor}/{key}"));
        let body = format!("{actor} {deed:?}");
        let within = self.within();
        task.play = Box::pin(async move {
            let session = market.by(actor);
            let session = match key {
                Some(key) => session.keyed(key),
                None => session,
            };
            let session = match &within {
                Some((transaction, _)) => session.within(transaction),
                None => session,
            };
            let given = give(session, deed).await;
            match ended(within, given).await {
                Ok(Some(record)) => Answer::Kept(Ok(record)),
                Ok(None) => Answer::Done(Ok(0)), // it never was
                Err(error) => Answer::Kept(Err(error)),
            }
        });
        (body, scoped)
    }

    pub(super) fn agent(&mut self) -> AgentId {
        let place = self.rng.random_range(0..self.plan.agents.len());
        self.plan.agents[place]
    }

    pub(super) fn anybody(&mut self) -> Actor {
        match self.rng.random_range(0..12) {
            0 => operator(),
            1 => Actor::Timer,
            2 => Actor::Rail(self.places[0].profile.id),
            3 => Actor::Operator("\u{202e}".into()),
            _ => Actor::Agent(self.agent()),
        }
    }

    /// Most often a job that is not over.
    fn some_job(&mut self) -> JobId {
        let unknown = JobId(Uuid::from_u128(self.rng.random_range(0..9)));
        let draw = self.rng.random_range(0..100);
        let auditor = &self.stage.act().auditor;
        let from = match draw {
            0 => return unknown,
            1..4 => self.rng.random_range(0..auditor.jobs.len().max(1)),
            _ => {
                let place = self.rng.random_range(0..auditor.open.len().max(1));
                return auditor.open.iter().nth(place).copied().unwrap_or(unknown);
            }
        };
        auditor.jobs.get(from).copied().unwrap_or(unknown)
    }

    fn order(&mut self, buyer: AgentId) -> JobOrder {
        let policy = &self.plan.policy.jobs;
        let (min, currency) = (policy.amount.min, self.plan.policy.currency);
        let most = min.saturating_mul(60) + 500;
        let worker = self.rng.random_range(0..5) > 0;
        let mut order = JobOrder {
            title: "Fetch and carry".into(),
            task: Map::from_iter([("size".to_owned(), Value::from(self.rng.random_range(0..99)))]),
            amount: Money::new(self.rng.random_range(min..most), currency),
            worker: worker.then(|| self.agent()).filter(|worker| *worker != buyer),
            rail: self.places.get(1).map(|further| further.profile.id).filter(|_| self.rng.random()),
            deadline: None,
            validation: (self.rng.random_range(0..4) == 0).then(|| Value::from("it is there")),
            schemas: None,
            open: None,
        };
        if order.worker.is_none() {
            order.open = Some(self.wanted());
        }
        if self.rng.random_range(0..16) == 0 {
            let policy = &self.plan.policy.jobs;
            match self.rng.random_range(0..10) {
                0 => order.amount = Money::new(0, currency),
                1 => order.amount = Money::new(i64::MIN, currency),
                2 => order.amount = Money::new(i64::MAX, currency),
                3 => order.amount = Money::new(policy.amount.min - 1, currency),
                4 => order.amount = Money::new(policy.amount.max, currency),
                5 => order.amount = Money::new(1_000, another(currency)),
                6 => order.title = "x".repeat(policy.title.max as usize + 1),
                7 => order.title = "right\u{202e}left".into(),
                8 => order.worker = Some(buyer),
                _ => {
                    order.rail = Some(RailId::new("nowhere"));
                    order.deadline = Some(Span::MAX);
                }
            }
        }
        order
    }

    /// What an open job says, as far as its policy asks for it.
    fn wanted(&mut self) -> OpenOrder {
        let described = self.plan.policy.open_jobs.is_some_and(|open| open.description.is_some());
        OpenOrder {
            description: described.then(|| "from here to there and back".into()),
            category: self.rng.random::<bool>().then(|| "errands".into()),
            requires: if self.rng.random() { vec!["carrying".into()] } else { Vec::new() },
            ..OpenOrder::default()
        }
    }

    /// What a job's people would do next, or something else.
    fn move_of(&mut self, id: JobId) -> (Actor, JobCommand) {
        let job = self.stage.act().auditor.job(id).cloned();
        let Some(job) = job else { return (self.anybody(), JobCommand::Accept) };
        let buyer = Actor::Agent(job.buyer);
        let worker = job.worker.map_or_else(|| Actor::Agent(self.agent()), Actor::Agent);
        let reason = || "as agreed".to_owned();
        let deliver = || JobCommand::Deliver { delivery: Box::default() };
        match self.rng.random_range(0..100) {
            0..3 => return (operator(), JobCommand::Freeze { reason: reason() }),
            3..8 => return (buyer, JobCommand::Cancel { reason: reason() }),
            8..10 => return (worker, JobCommand::Withdraw { reason: reason() }),
            10..12 => return (worker, JobCommand::Refund { reason: "\u{0007}".into() }),
            12..15 => return (worker, JobCommand::Refund { reason: reason() }),
            15..24 => {
                let command = self.any_command();
                let actor = if self.rng.random() { buyer } else { worker };
                return (actor, command);
            }
            _ => {}
        }
        let late = self.plan.policy.jobs.escrow == EscrowAt::Acceptance;
        match job.status {
            JobStatus::PendingPayment if job.hold.state == HoldState::Empty && !late => {
                (buyer, JobCommand::RetryPayment)
            }
            JobStatus::PendingPayment | JobStatus::Funded => (worker, JobCommand::Accept),
            JobStatus::Accepted if self.rng.random_range(0..3) == 0 => (worker, JobCommand::Start),
            JobStatus::Accepted | JobStatus::InProgress | JobStatus::RevisionRequested => (worker, deliver()),
            JobStatus::Validating => {
                let verdict = *[Verdict::Passed, Verdict::Failed, Verdict::Unavailable]
                    .choose(&mut self.rng)
                    .unwrap_or(&Verdict::Passed);
                (operator(), JobCommand::RecordValidation { report: Box::new(verdict.into()) })
            }
            JobStatus::Delivered if self.rng.random_range(0..4) == 0 => {
                (buyer, JobCommand::RequestRevision { feedback: "A little to the left.".into() })
            }
            JobStatus::Delivered | JobStatus::Disputed => (buyer, JobCommand::Approve),
            JobStatus::Frozen => (operator(), JobCommand::Unfreeze),
            JobStatus::Completed | JobStatus::Cancelled | JobStatus::Refunded => (worker, self.any_command()),
        }
    }

    fn any_command(&mut self) -> JobCommand {
        let reason = || "for no reason".to_owned();
        match self.rng.random_range(0..12) {
            0 => JobCommand::RetryPayment,
            1 => JobCommand::Accept,
            2 => JobCommand::Start,
            3 => JobCommand::Deliver {
                delivery: Box::new(Delivery { content_type: Some("text/\nplain".into()), output: Map::new() }),
            },
            4 => JobCommand::RecordValidation { report: Box::new(Verdict::Passed.into()) },
            5 => JobCommand::Approve,
            6 => JobCommand::RequestRevision { feedback: "short".into() },
            7 => JobCommand::Cancel { reason: "x".repeat(1001) },
            8 => JobCommand::Withdraw { reason: reason() },
            9 => JobCommand::Refund { reason: reason() },
            10 => JobCommand::Freeze { reason: reason() },
            _ => JobCommand::Unfreeze,
        }
    }
}

pub(super) fn operator() -> Actor {
    Actor::Operator("Olga".into())
}

fn another(currency: Currency) -> Currency {
    if currency == Currency::EUR { Currency::USDC } else { Currency::EUR }
}
