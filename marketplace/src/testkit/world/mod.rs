//! A whole marketplace, its users, its faults and its time, from one number.
//!
//! [`play`] builds a marketplace of the real engine on the store it is given, with a policy, a custody
//! and faults drawn from the seed, and lets its users play for so many steps: commands that are legal
//! and commands that are not, repeated keys, hostile sizes, jumps of time, several processes whose
//! tasks interleave at every call, processes that die at any commit or rail call, rails that lose
//! answers and lie, policies that change. There are jobs with and without offers, disputes with an
//! arbiter that is wrong, unsure, slow or broken, people who rule, validators, reviews, wallets that are
//! emptied, panicked and limited, banks that take payments back, usage agreements with receipts, and
//! receivers of webhooks that fail or hang. An auditor that shares no rule with the engine checks every
//! commit and every answer. In the end the world heals, everything has to settle, trust has to be what
//! the log says, and everybody has to have been told what concerns them, once.
//!
//! In memory the same seed plays the same way, bit for bit: [`Report::digest`] covers every command,
//! answer, commit and event, and what truly happened outside. On a database the seed draws the same
//! users, faults and times; where one task has several calls under way at once, which of them comes
//! first may differ. Sending webhooks looks at the runtime's time, too: where a machine stands still for
//! a tenth of a second, only a runtime whose time is paused plays a world with notices the same way.

mod audit;
mod deed;
mod heal;
mod judge;
mod metered;
mod offers;
mod plan;
mod player;
mod post;
mod purse;
mod quarrel;
mod stage;
mod trace;
mod wrap;

use std::{fmt, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta};
use futures::{Stream, StreamExt as _};
use rand::{Rng, SeedableRng, rngs::StdRng};

use self::{
    audit::{Auditor, full},
    judge::{Checker, Judge},
    metered::Meter,
    plan::{Plan, SeededIds, Tiers},
    player::{Answer, Memory, Task},
    post::{FLAKY, HEALTHY, Postman, SILENT},
    stage::{Stage, Turn},
    wrap::{WorldRail, WorldStore},
};
use crate::{
    clock::ManualClock,
    engine::{Marketplace, NoticeParts},
    error::Error,
    ids::{AgentId, RailId},
    notice::{Notice, Target},
    policy::{Policy, Span},
    rail::{CreditsRail, Custody, RailProfile, SettlementRail},
    secret::Pepper,
    store::Store,
    testkit::{OutsideWorld, ScriptedRail},
};

/// How long a claim lives in a world.
const LEASE: Span = Span::seconds(60);
/// Every so many steps, all books are audited.
const AUDIT: u64 = 400;
/// How long a notice is waited for that has to come.
const PATIENCE: Duration = Duration::from_secs(20);
/// The name of the market's further rail.
const FURTHER: RailId = RailId::new("further");

/// Which world to play, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup {
    /// Everything follows from it.
    pub seed: u64,
    /// How many commands and rounds of work are played.
    pub steps: u64,
    /// Whether every line of the trace is printed to standard error.
    pub telling: Telling,
    /// What receivers of webhooks do that never answer.
    pub hanging: Hanging,
}

/// What those do that never answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hanging {
    /// They are given up at once, as after a time-out.
    #[default]
    Briefly,
    /// They hang until the engine gives them up. Only for a runtime whose time is paused, where waiting
    /// takes no time.
    ForEver,
}

/// Whether a world tells what happens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Telling {
    /// It is silent.
    #[default]
    Silent,
    /// It prints every command, answer, commit and event to standard error.
    Aloud,
}

/// What a world went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Commands and rounds of work.
    pub steps: u64,
    /// Commands, of which some were refused.
    pub commands: u64,
    /// Commands that a rule refused.
    pub refused: u64,
    /// Processes that died.
    pub crashes: u64,
    /// Calls that the store failed, or whose answer was lost.
    pub store_faults: u64,
    /// Calls that a rail failed, or whose answer was lost.
    pub rail_faults: u64,
    /// Commits that came second.
    pub conflicts: u64,
    /// Webhooks that were on their way to a receiver.
    pub webhooks: u64,
    /// Everything that happened, as one number.
    pub digest: u64,
}

impl Report {
    /// This report and another together; the digests are combined.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            steps: self.steps + other.steps,
            commands: self.commands + other.commands,
            refused: self.refused + other.refused,
            crashes: self.crashes + other.crashes,
            store_faults: self.store_faults + other.store_faults,
            rail_faults: self.rail_faults + other.rail_faults,
            conflicts: self.conflicts + other.conflicts,
            webhooks: self.webhooks + other.webhooks,
            digest: self.digest ^ other.digest.rotate_left(1),
        }
    }
}

/// A world in which something went wrong that must not.
#[derive(Clone, Debug, thiserror::Error)]
pub struct Failure {
    /// The world.
    pub seed: u64,
    /// After how many steps it was found.
    pub steps: u64,
    /// What was found, first things first.
    pub problems: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, steps, problems } = self;
        write!(f, "seed {seed} failed after {steps} steps; replay it with --seeds {seed} --steps {steps} --tell")?;
        problems.iter().take(5).try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

/// Plays a world on a store. The store may hold other worlds: each has a market of its own.
///
/// # Errors
/// [`Failure`], which names the seed and what was found.
pub async fn play(setup: Setup, store: Arc<dyn Store>) -> Result<Report, Failure> {
    let mut world = World::new(setup, store);
    let played = world.live().await;
    if let Err(error) = played {
        world.stage.act().auditor.problem(format!("the world itself failed: {error}"));
    }
    let act = world.stage.act();
    let problems = act.auditor.problems().to_vec();
    let counts = act.counts;
    match problems.is_empty() {
        true => Ok(Report {
            crashes: counts.crashes,
            store_faults: counts.store_faults,
            rail_faults: counts.rail_faults,
            conflicts: counts.conflicts,
            webhooks: counts.webhooks,
            digest: act.trace.digest(),
            ..world.report
        }),
        false => Err(Failure { seed: setup.seed, steps: world.report.steps, problems }),
    }
}

/// A rail of the market's, and the world that it leads to; none where the ledger is the money.
#[derive(Clone)]
struct Place {
    profile: RailProfile,
    outside: Option<OutsideWorld>,
}

struct World {
    setup: Setup,
    plan: Plan,
    rng: StdRng,
    stage: Stage,
    store: Arc<dyn Store>,
    clock: Arc<ManualClock>,
    ids: Arc<SeededIds>,
    tiers: Tiers,
    /// The market's rails; the first is what a job moves on when its order names none.
    places: Vec<Place>,
    processes: Vec<Marketplace>,
    /// The policy that a process starts with.
    policy: Policy,
    memory: Memory,
    report: Report,
    tasks: usize,
}

impl World {
    fn new(setup: Setup, store: Arc<dyn Store>) -> Self {
        let plan = Plan::draw(setup.seed);
        let currency = plan.policy.currency;
        let place = |(seed, custody)| match custody {
            Custody::Internal => Place { profile: CreditsRail::new(currency).profile().clone(), outside: None },
            _ => {
                let outside = OutsideWorld::new(currency, seed);
                outside.seeded(seed, plan.chances);
                outside.disorder(plan.disorder);
                let hold_expiry = plan.hold_expiry.filter(|_| custody.is_per_hold());
                let profile = RailProfile { hold_expiry, ..ScriptedRail::profile_of(custody, currency) };
                Place { profile, outside: Some(outside) }
            }
        };
        let mut places: Vec<Place> =
            (setup.seed..).zip([plan.custody].into_iter().chain(plan.further)).map(place).collect();
        if let Some(further) = places.get_mut(1) {
            further.profile.id = FURTHER;
        }
        let tiers = Tiers::default();
        let auditor = Auditor::new(places.clone(), tiers.clone(), plan.policy.clone());
        let stage = Stage::new(setup.seed, plan.faults, auditor);
        stage.act().trace.told = setup.telling == Telling::Aloud;
        let start = DateTime::from_timestamp_secs(1_800_000_000).unwrap_or_default();
        Self {
            rng: StdRng::seed_from_u64(setup.seed),
            stage,
            store,
            clock: Arc::new(ManualClock::at(start)),
            ids: Arc::new(SeededIds::new(setup.seed)),
            tiers,
            places,
            processes: Vec::new(),
            policy: plan.policy.clone(),
            memory: Memory::default(),
            report: Report::default(),
            tasks: 0,
            setup,
            plan,
        }
    }

    /// The name of the market.
    fn name(&self) -> String {
        format!("world-{}-{}", self.setup.seed, self.setup.steps)
    }

    async fn start_process(&self) -> Result<Marketplace, Error> {
        let mut builder = Marketplace::builder(self.name(), self.own_store(), self.policy.clone())
            .clock(self.clock.clone())
            .ids(self.ids.clone())
            .tiers(self.tiers.clone())
            .receipts(Meter)
            .lease(LEASE);
        if self.plan.listens {
            let (stage, clock, hanging) = (self.stage.clone(), self.clock.clone(), self.setup.hanging);
            builder =
                builder.notices(NoticeParts::new(Pepper::new([7; 32])).courier(Postman { stage, clock, hanging }));
        }
        for place in &self.places {
            let stage = self.stage.clone();
            builder = match self.rail_to(place) {
                None => builder.rail(WorldRail { inner: CreditsRail::new(self.policy.currency), stage }),
                Some(inner) => builder.rail(WorldRail { inner, stage }),
            };
        }
        if self.policy.validation.is_some() {
            for name in ["Vera", "Viktor"] {
                builder = builder.validator(Checker { name, stage: self.stage.clone() });
            }
        }
        if self.plan.arbiter {
            builder = builder.arbiter(Judge { stage: self.stage.clone() });
        }
        builder.build().await
    }

    /// The store as a process has it.
    fn own_store(&self) -> WorldStore {
        WorldStore { inner: self.store.clone(), stage: self.stage.clone() }
    }

    /// The way to a place, where there is a world outside.
    fn rail_to(&self, place: &Place) -> Option<ScriptedRail> {
        let outside = place.outside.clone()?;
        Some(ScriptedRail::new(place.profile.clone(), outside, self.clock.clone()))
    }

    async fn live(&mut self) -> Result<(), Error> {
        for _ in 0..self.plan.processes {
            let process = self.start_process().await?;
            self.processes.push(process);
        }
        self.subscribe().await?;
        self.endow().await?;
        let listener = self.start_process().await?;
        let listens = self.plan.agents[0];
        let mut stream = match self.plan.listens {
            true => Some(Box::pin(listener.follow(listens, None, Duration::from_millis(10)).await?)),
            false => None,
        };
        let mut audited = 0;
        while self.report.steps < self.setup.steps && self.sound() {
            self.pass_time();
            self.round().await?;
            if self.report.steps - audited >= AUDIT {
                audited = self.report.steps;
                let acknowledges = self.rng.random();
                full::books(&self.stage, &self.processes[0], acknowledges).await?;
                if let Some(stream) = &mut stream {
                    self.listen(stream, listens).await?;
                }
            }
        }
        if self.sound() {
            self.heal().await?;
        }
        if let Some(stream) = &mut stream
            && self.sound()
        {
            self.listen(stream, listens).await?;
            // What it has beyond that nobody was to hear; the world makes no further call.
            if let Ok(Some(more)) = tokio::time::timeout(Duration::from_millis(1), stream.next()).await {
                self.stage.act().auditor.heard(&*more?);
            }
            self.stage.act().auditor.check_post(Some(listens));
        }
        for outside in self.places.iter().filter_map(|place| place.outside.as_ref()) {
            let books = outside.books();
            self.stage.act().trace.line(format_args!("outside {books:?} {:?}", outside.everybody_outside()));
        }
        Ok(())
    }

    /// Every agent has a receiver that is healthy, some have others that are not.
    async fn subscribe(&mut self) -> Result<(), Error> {
        if !self.plan.listens {
            return Ok(());
        }
        let Some(style) = self.policy.webhooks.as_ref().map(|webhooks| webhooks.signature.clone()) else {
            return Ok(());
        };
        for agent in self.plan.agents.clone() {
            let target = Target { agent, job: None };
            let market = self.processes[0].clone();
            let added = market.agent(agent).add_endpoint(target, format!("{HEALTHY}{agent}"), Vec::new()).await?;
            let secret = added.secret.ok_or(Error::Configuration { reason: "no secret was shown".into() })?;
            self.stage.act().auditor.subscribed(agent, added.endpoint.id, style.clone(), secret);
            for place in [FLAKY, SILENT] {
                if self.rng.random_range(0..3) == 0 {
                    market.agent(agent).add_endpoint(target, format!("{place}{agent}"), Vec::new()).await?;
                }
            }
        }
        Ok(())
    }

    /// Hears everything that its agent was to hear by now, and leaves off there: a stream that nobody polls in
    /// the middle of a call would have the stage for itself for ever.
    async fn listen<S>(&self, stream: &mut S, agent: AgentId) -> Result<(), Error>
    where
        S: Stream<Item = Result<Arc<Notice>, Error>> + Unpin,
    {
        let due = self.stage.act().auditor.owed_to(agent);
        while self.stage.act().auditor.followed() < due {
            match tokio::time::timeout(PATIENCE, stream.next()).await {
                Ok(Some(notice)) => self.stage.act().auditor.heard(&*notice?),
                Ok(None) | Err(_) => {
                    let mut act = self.stage.act();
                    let heard = act.auditor.followed();
                    act.auditor
                        .problem(format!("{agent} was to hear {due} notices by now and hears no more than {heard}"));
                    break;
                }
            }
        }
        Ok(())
    }

    fn sound(&self) -> bool {
        self.stage.act().auditor.problems().is_empty()
    }

    /// Most often a moment, sometimes to the edge of what is due next, rarely days. Meanwhile trust
    /// comes and goes.
    fn pass_time(&mut self) {
        let step = match self.rng.random_range(0..100) {
            0..82 => TimeDelta::milliseconds(self.rng.random_range(0..3000)),
            82..92 => TimeDelta::seconds(self.rng.random_range(0..90)),
            92..98 => {
                let due = self.stage.act().auditor.next_due();
                let edge = TimeDelta::microseconds(self.rng.random_range(-1..=1));
                due.map_or(TimeDelta::zero(), |(due, _)| due - self.now() + edge).min(TimeDelta::days(2))
            }
            _ => TimeDelta::seconds(self.rng.random_range(0..200_000)),
        };
        self.clock.advance(step);
        if self.rng.random_range(0..40) == 0 {
            let agent = self.plan.agents[self.rng.random_range(0..self.plan.agents.len())];
            let tiers = &self.policy.trust.tiers;
            self.tiers.set(agent, tiers[self.rng.random_range(0..tiers.len())].name.clone());
        }
    }

    /// A handful of tasks, interleaved until each is over or its process dead.
    async fn round(&mut self) -> Result<(), Error> {
        let left = self.setup.steps - self.report.steps;
        let crowd = self.rng.random_range(1..=self.plan.crowd).min(usize::try_from(left).unwrap_or(usize::MAX));
        let mut tasks: Vec<Task> = (0..crowd).map(|_| self.propose()).collect();
        self.report.steps += crowd as u64;
        while !tasks.is_empty() {
            let chosen = self.rng.random_range(0..tasks.len());
            let Task { number, process, play, .. } = &mut tasks[chosen];
            match self.stage.turn(*number, play).await {
                Turn::Paused => {
                    if self.rng.random_range(0..1000) < self.plan.faults.lease_lost {
                        self.clock.advance(LEASE.delta() + TimeDelta::seconds(1));
                    }
                }
                Turn::Over(answer) => {
                    let task = tasks.swap_remove(chosen);
                    self.heard(task, answer);
                }
                Turn::Died => {
                    let dead = *process;
                    {
                        let mut act = self.stage.act();
                        act.trace.line(format_args!("process {dead} died in task {number}"));
                        for task in tasks.iter().filter(|task| task.process == dead) {
                            act.auditor.died(task.number);
                        }
                    }
                    tasks.retain(|task| task.process != dead);
                    self.processes[dead] = self.start_process().await?;
                }
            }
        }
        Ok(())
    }

    fn heard(&mut self, task: Task, answer: Answer) {
        let mut act = self.stage.act();
        act.trace.line(format_args!("answer {} {answer:?}", task.number));
        self.report.refused += u64::from(matches!(answer.error(), Some(Error::Rejected(_))));
        if let Answer::Policy(Ok(_)) = &answer
            && let Some(policy) = task.policy
        {
            self.policy = policy;
        }
        match (&answer, task.forged) {
            (Answer::Done(Err(Error::Rail(_))), true) => act.auditor.died(task.number),
            (Answer::Done(Ok(_)), true) => act.auditor.problem("a forged push was taken in"),
            _ => act.auditor.answered(task.number, answer.as_record()),
        }
    }
}
