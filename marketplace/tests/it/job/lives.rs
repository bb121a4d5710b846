//! Whole random lives: whatever anybody does in whatever order, whatever the rail answers, no money is
//! lost, invented or sent twice. Everything is recomputed here in whole numbers, without the engine's
//! own arithmetic.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;
use tradepost::store::Kept as _;
use tradepost::{
    actor::Actor,
    error::Rejection,
    ids::InstructionId,
    job::{CancelCause, HoldState, JobCommand, JobEvent, JobStatus, Verdict},
    ledger::{Account, RevenueKind, escrow},
    policy::{EscrowAt, Policy, Span},
    rail::{Action, Custody, Instruction, Landing, Order, Outcome, Party},
};

use crate::support::*;

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    /// Somebody gives a command: which, and who tries it.
    Command(u8, Who),
    /// Time passes and due timers fire, or they do not yet.
    Wait(u32, bool),
    /// The rail answers one of its open instructions.
    Answer(u8, Reply),
    /// The rail repeats what it said of an instruction that is over.
    Repeat(u8),
    /// The rail gives the hold up.
    Expire,
}

#[derive(Clone, Copy, Debug)]
enum Who {
    Rightful,
    Buyer,
    Worker,
    Stranger,
    Operator,
}

#[derive(Clone, Copy, Debug)]
enum Reply {
    Outside(u8),
    Held,
    Declined,
    Pending,
    NeedsAction,
    Lie,
}

fn step() -> impl Strategy<Value = Step> {
    let who = prop_oneof![
        8 => Just(Who::Rightful),
        1 => Just(Who::Buyer),
        1 => Just(Who::Worker),
        1 => Just(Who::Stranger),
        1 => Just(Who::Operator),
    ];
    let reply = prop_oneof![
        6 => any::<u8>().prop_map(Reply::Outside),
        2 => Just(Reply::Held),
        3 => Just(Reply::Declined),
        1 => Just(Reply::Pending),
        1 => Just(Reply::NeedsAction),
        1 => Just(Reply::Lie),
    ];
    let span = prop_oneof![Just(0u32), 1..400u32, 1..100_000u32, 1..700_000u32];
    prop_oneof![
        10 => (0u8..13, who).prop_map(|(command, who)| Step::Command(command, who)),
        3 => (span, any::<bool>()).prop_map(|(seconds, fire)| Step::Wait(seconds, fire)),
        8 => (any::<u8>(), reply).prop_map(|(which, reply)| Step::Answer(which, reply)),
        1 => any::<u8>().prop_map(Step::Repeat),
        1 => Just(Step::Expire),
    ]
}

/// What a policy charges, in ten-thousandths, written down a second time.
struct Charges {
    fee: i64,
    on_top: bool,
    /// To the worker and to the platform when the buyer cancels in this status.
    cancelling: fn(JobStatus) -> (i64, i64),
}

fn setting(which: u8, tier: u8) -> (Policy, &'static str, Charges) {
    let free: fn(JobStatus) -> (i64, i64) = |_| (0, 0);
    match which % 3 {
        0 => {
            let tiers = [("bronze", 1200), ("silver", 1000), ("gold", 800), ("platinum", 600)];
            let (tier, fee) = tiers[usize::from(tier) % 4];
            let cancelling: fn(JobStatus) -> (i64, i64) = |status| match status {
                JobStatus::Accepted => (0, 500),
                JobStatus::InProgress => (2500, 0),
                _ => (0, 0),
            };
            (without_tier_limits(first_come(voxpact())), tier, Charges { fee, on_top: false, cancelling })
        }
        1 => (just_pay(), "everybody", Charges { fee: 300, on_top: true, cancelling: free }),
        _ => (half_to_even(agent_market()), "everybody", Charges { fee: 1000, on_top: false, cancelling: free }),
    }
}

/// The policy, rounding as [`share`] does.
fn half_to_even(mut policy: Policy) -> Policy {
    policy.fees.rounding = tradepost::money::Rounding::HalfEven;
    policy
}

/// Ten-thousandths of an amount, half to even.
fn share(amount: i64, parts: i64) -> i64 {
    let exact = i128::from(amount) * i128::from(parts);
    let (down, rest) = (exact / 10_000, exact % 10_000);
    let up = rest > 5000 || (rest == 5000 && down % 2 == 1);
    i64::try_from(down).unwrap() + i64::from(up)
}

/// A rail that keeps its own count of what it holds, and what everybody should have by now.
struct World {
    desk: Desk,
    charges: Charges,
    amount: i64,
    holds: i128,
    costs: i128,
    open: Vec<Instruction>,
    over: Vec<(Instruction, Outcome)>,
    seen: HashSet<InstructionId>,
    lost_hold: bool,
}

impl World {
    fn new(which: u8, custody: Custody, tier: u8, amount: i64, open_task: bool, validated: bool) -> Self {
        let (policy, tier, charges) = setting(which, tier);
        let mut desk = Desk::new(policy, custody);
        desk.tier = tier.into();
        let range = desk.policy.jobs.amount;
        let amount = range.min + amount % (range.max - range.min).min(1_000_000_000);
        let mut order = order(desk.money(amount));
        // A contract between the parties cannot take money for a payee who is not known yet.
        let payable = custody != Custody::NonCustodial || desk.policy.jobs.escrow == EscrowAt::Acceptance;
        if open_task && payable {
            order.worker = None;
        }
        if validated && desk.policy.validation.is_some() {
            order.validation = Some(serde_json::json!({}));
        }
        let holds = if custody.is_per_hold() { 0 } else { i128::from(WEALTH) };
        desk.must(by(buyer()), post(order));
        let mut world = Self {
            desk,
            charges,
            amount,
            holds,
            costs: 0,
            open: Vec::new(),
            over: Vec::new(),
            seen: HashSet::new(),
            lost_hold: false,
        };
        world.take_instructions();
        world
    }

    fn fee(&self) -> i64 {
        share(self.amount, self.charges.fee)
    }

    fn total(&self) -> i64 {
        self.amount + if self.charges.on_top { self.fee() } else { 0 }
    }

    /// New instructions go to the rail: each once, and each about all of the job's money.
    fn take_instructions(&mut self) {
        let total = self.total();
        for (instruction, _) in &self.desk.instructions {
            if self.seen.insert(instruction.id) {
                assert_eq!(instruction.order.amount(), self.desk.money(total), "all of it, and no more");
                if let Order::Settle { legs, .. } = &instruction.order {
                    assert!(legs.iter().all(|leg| leg.amount.is_positive()));
                }
                self.open.push(instruction.clone());
            }
        }
        assert!(self.open.len() <= 1, "two instructions of one job are never under way together");
    }

    fn step(&mut self, step: &Step) {
        let before = self.desk.clone();
        match step {
            Step::Command(which, who) => self.command(*which, *who),
            Step::Wait(seconds, fire) => {
                self.desk.wait(Span::seconds(*seconds));
                if *fire {
                    self.tick();
                }
            }
            Step::Answer(which, reply) => self.answer(*which, *reply),
            Step::Repeat(which) => {
                let count = self.over.len().max(1);
                let Some((instruction, answer)) = self.over.get(usize::from(*which) % count).cloned() else { return };
                let refused = self.desk.give(Actor::Rail(RAIL), outcome(&instruction, answer));
                assert!(matches!(refused, Err(Rejection::WrongHold { .. })), "what is over is heard once");
            }
            Step::Expire => {
                let state = self.desk.job().hold.state;
                let held = matches!(state, HoldState::Held | HoldState::Settling(_));
                match self.desk.give(Actor::Rail(RAIL), JobCommand::RecordHoldExpired) {
                    // Told before the funding is: it counts once that arrives.
                    Ok(_) if matches!(state, HoldState::Funding(_)) => assert!(self.desk.job().hold.expired),
                    Ok(_) => {
                        assert!(held && self.desk.rail.custody.is_per_hold());
                        self.holds -= i128::from(self.total());
                        self.lost_hold = true;
                        // The rail declines whatever it was being asked to divide.
                        self.over.extend(self.open.drain(..).map(|instruction| (instruction, declined())));
                    }
                    Err(_) => assert!(!held || !self.desk.rail.custody.is_per_hold()),
                }
            }
        }
        if before.job().status.is_final() {
            assert_eq!(self.desk.status(), before.status(), "an end is an end");
        }
        self.take_instructions();
        self.check();
    }

    fn command(&mut self, which: u8, who: Who) {
        let parties = |actor: Actor| (actor, None);
        let worker = self.desk.job().worker.unwrap_or_else(worker);
        let ((rightful, verdict), command) = match which {
            0 => (parties(by(buyer())), JobCommand::RetryPayment),
            1 => (parties(by(worker)), JobCommand::Accept),
            2 => (parties(by(worker)), JobCommand::Start),
            3 => (parties(by(worker)), deliver()),
            4 => ((operator(), Some(Verdict::Passed)), JobCommand::RecordValidation { verdict: Verdict::Failed }),
            5 => (parties(by(buyer())), JobCommand::Approve),
            6 => (parties(by(buyer())), revise()),
            7 => (parties(by(buyer())), cancel()),
            8 => (parties(by(worker)), withdraw()),
            9 => (parties(by(worker)), refund()),
            10 => (parties(operator()), freeze()),
            11 => (parties(operator()), JobCommand::Unfreeze),
            _ => (parties(Actor::Timer), JobCommand::Tick),
        };
        let command = match verdict {
            Some(verdict) => JobCommand::RecordValidation { verdict },
            None => command,
        };
        let actor = match who {
            Who::Rightful => rightful,
            Who::Buyer => by(buyer()),
            Who::Worker => by(worker),
            Who::Stranger => by(stranger()),
            Who::Operator => operator(),
        };
        let before = self.desk.clone();
        if self.desk.give(actor, command).is_err() {
            assert_eq!(self.desk.job(), before.job(), "what is refused writes nothing");
            assert_eq!(self.desk.books, before.books);
            assert_eq!(self.desk.instructions.len(), before.instructions.len());
        }
    }

    fn tick(&mut self) {
        let due = self.desk.job().due_at().is_some_and(|at| at <= self.desk.now);
        match self.desk.tick() {
            Ok(_) => assert!(due && self.desk.job().status.is_final(), "every timer ends a job"),
            Err(rejection) => assert!(!due && matches!(rejection, Rejection::NothingDue { .. }), "{rejection}"),
        }
    }

    fn answer(&mut self, which: u8, reply: Reply) {
        let count = self.open.len();
        if count == 0 {
            return;
        }
        let index = usize::from(which) % count;
        let instruction = self.open[index].clone();
        let answer = self.reply(&instruction, reply);
        let books = self.desk.books.clone();
        let heard = self.desk.give(Actor::Rail(RAIL), outcome(&instruction, answer.clone()));
        if let Reply::Lie = reply {
            assert!(matches!(heard, Err(Rejection::Receipt(_))));
            assert_eq!(self.desk.books, books, "a lie books nothing");
            return;
        }
        heard.unwrap_or_else(|rejection| panic!("the rail's {answer:?} was refused: {rejection}"));
        match &answer {
            Outcome::Pending { .. } | Outcome::NeedsAction(_) => assert_eq!(self.desk.books, books),
            Outcome::Declined(_) => {
                assert_eq!(self.desk.books, books);
                self.over.push((self.open.remove(index), answer));
            }
            Outcome::Done(receipt) => {
                let cost = receipt.cost.map_or(0, |cost| i128::from(cost.minor()));
                self.costs += cost;
                self.holds -= cost;
                match &instruction.order {
                    Order::Fund { .. } if self.desk.job().hold.expired => self.lost_hold = true,
                    Order::Fund { amount, .. } => self.holds += i128::from(amount.minor()),
                    Order::Settle { .. } => {
                        let left = receipt.legs.iter().filter(|leg| leg.landing == Landing::Outside);
                        self.holds -= left.map(|leg| i128::from(leg.amount.minor())).sum::<i128>();
                    }
                    Order::Payout { .. } => panic!("a job pays nobody out"),
                }
                self.over.push((self.open.remove(index), answer));
            }
        }
    }

    fn reply(&self, instruction: &Instruction, reply: Reply) -> Outcome {
        let landing = match reply {
            // A contract never keeps a share in somebody's name.
            Reply::Held if self.desk.rail.custody == Custody::PerHold => Landing::Held,
            _ => Landing::Outside,
        };
        let mut receipt = receipt(instruction, landing);
        match reply {
            Reply::Outside(cost) => {
                receipt.cost = (cost % 3 == 0).then(|| self.desk.money(i64::from(cost)));
                Outcome::Done(receipt)
            }
            Reply::Held => Outcome::Done(receipt),
            Reply::Declined => declined(),
            Reply::Pending => Outcome::Pending { reference: "soon".into() },
            Reply::NeedsAction => Outcome::NeedsAction(Action {
                who: Party::Buyer(buyer()),
                kind: "confirm_card".into(),
                payload: "secret".into(),
            }),
            Reply::Lie => {
                receipt.amount = self.desk.money(receipt.amount.minor() - 1);
                Outcome::Done(receipt)
            }
        }
    }

    /// What must hold after every step.
    fn check(&self) {
        let (job, books) = (self.desk.job(), &self.desk.books);
        assert_eq!(books.sum(), 0, "nothing is lost or invented");
        assert_eq!(books.of(Account::Rail(RAIL)), -self.holds, "the books are what the rail holds");
        assert_eq!(books.of(Account::Cost(RAIL)), -self.costs);
        let reserved = match job.hold.state {
            HoldState::Held => i128::from(self.total()),
            HoldState::Empty | HoldState::Funding(_) | HoldState::Settling(_) | HoldState::Settled => 0,
        };
        assert_eq!(books.of(escrow(job.id)), reserved, "escrow holds all of it or nothing");
        if job.status.is_final() {
            assert_ne!(job.hold.state, HoldState::Held, "an ended job reserves nothing");
            assert_eq!((job.due_at(), job.frozen), (None, None));
        }
        assert_eq!(job.frozen.is_some(), job.status == JobStatus::Frozen);
        let waiting: Vec<_> = self.open.iter().map(|instruction| instruction.id).collect();
        match job.hold.state {
            HoldState::Funding(id) | HoldState::Settling(id) => assert_eq!(waiting, [id]),
            HoldState::Empty | HoldState::Held | HoldState::Settled => assert!(waiting.is_empty()),
        }
        if job.terms.rate.is_some() {
            assert_eq!(job.terms.fee, self.desk.money(self.fee()));
            assert_eq!(job.terms.total(), Ok(self.desk.money(self.total())));
        }
        self.check_shares();
    }

    /// Who has been given what, by how the job ended.
    fn check_shares(&self) {
        let mut ends = self.desk.events.iter().filter(|event| {
            let ends = [JobStatus::Completed, JobStatus::Cancelled, JobStatus::Refunded];
            ends_with(event).is_some_and(|status| ends.contains(&status))
        });
        let end = ends.next();
        assert!(ends.next().is_none(), "a job ends once");
        assert_eq!(end.and_then(ends_with), Some(self.desk.status()).filter(|status| status.is_final()));
        let (worker_gets, fee_kept, cancelling_kept) = match end {
            _ if self.lost_hold => (0, 0, 0),
            Some(JobEvent::Completed { .. }) => {
                (self.total() - self.fee(), self.fee(), 0) // holds for both bearers
            }
            Some(JobEvent::Cancelled { cause: CancelCause::Buyer, .. }) if self.was_held() => {
                let (to_worker, to_platform) = (self.charges.cancelling)(self.status_before_the_end());
                (share(self.amount, to_worker), 0, share(self.amount, to_platform))
            }
            _ => (0, 0, 0),
        };
        let books = &self.desk.books;
        let worker = self.desk.job().worker;
        assert_eq!(worker.map_or(0, |worker| self.given_to(worker)), i128::from(worker_gets));
        assert_eq!(books.of(Account::Revenue(RevenueKind::Fees)), i128::from(fee_kept));
        assert_eq!(books.of(Account::Revenue(RevenueKind::Cancellations)), i128::from(cancelling_kept));
        if self.desk.job().hold.state == HoldState::Settled && !self.lost_hold {
            let back = i128::from(self.total() - worker_gets - fee_kept - cancelling_kept);
            let paid = if self.desk.rail.custody.is_per_hold() { 0 } else { i128::from(WEALTH - self.total()) };
            assert_eq!(self.given_to(buyer()) - paid, back, "the rest is the buyer's");
        }
    }

    /// In the wallet, on the way, and outside.
    fn given_to(&self, agent: tradepost::ids::AgentId) -> i128 {
        let books = &self.desk.books;
        let mut sum = books.of(Account::Available(agent)) + books.of(Account::Pending(agent));
        for (_, answer) in &self.over {
            let Outcome::Done(receipt) = answer else { continue };
            let outside = receipt.legs.iter().filter(|leg| leg.landing == Landing::Outside);
            let his = outside.filter(|leg| leg.to == Party::Buyer(agent) || leg.to == Party::Worker(agent));
            sum += his.map(|leg| i128::from(leg.amount.minor())).sum::<i128>();
        }
        sum
    }

    fn was_held(&self) -> bool {
        self.desk.events.iter().any(|event| matches!(event, JobEvent::Funded { .. }))
    }

    /// The status that the log says the job had when it ended.
    fn status_before_the_end(&self) -> JobStatus {
        let mut status = JobStatus::PendingPayment;
        for event in &self.desk.events {
            status = match event {
                JobEvent::Funded { .. } => JobStatus::Funded,
                JobEvent::Accepted { .. } => JobStatus::Accepted,
                JobEvent::Started {} => JobStatus::InProgress,
                _ => status,
            };
        }
        status
    }

    /// Everybody lets the job come to its end, and the rail answers everything.
    fn finish(&mut self) {
        for _ in 0..20 {
            if self.desk.status() == JobStatus::Frozen {
                self.desk.must(operator(), JobCommand::Unfreeze);
            }
            if let Some(due) = self.desk.job().due_at() {
                self.desk.now = self.desk.now.max(due);
                self.tick();
            } else {
                self.act_without_a_clock();
            }
            self.take_instructions();
            self.answer(0, Reply::Outside(1));
            self.take_instructions();
            self.check();
        }
        let job = self.desk.job();
        assert!(job.status.is_final(), "a job left alone ends: {:?}", job.status);
        assert!(matches!(job.hold.state, HoldState::Settled | HoldState::Empty), "{:?}", job.hold.state);
        assert_eq!(self.desk.books.of(Account::Clearing(RAIL)), 0);
        let kinds: HashMap<_, _> = self.desk.events.iter().map(|event| (event.name(), ())).collect();
        assert!(kinds.contains_key("job.created"));
    }
}

impl World {
    /// Where no clock runs, the buyer has a way out.
    fn act_without_a_clock(&mut self) {
        match self.desk.status() {
            // Deadlines count from an acceptance that never came.
            JobStatus::Funded => drop(self.desk.give(by(buyer()), cancel()).unwrap()),
            status => assert!(status.is_final(), "{status}: nobody will ever do anything about it"),
        }
    }
}

/// The final status that an event tells of.
fn ends_with(event: &JobEvent) -> Option<JobStatus> {
    match event {
        JobEvent::Completed { .. } => Some(JobStatus::Completed),
        JobEvent::Cancelled { .. } => Some(JobStatus::Cancelled),
        JobEvent::Refunded { .. } => Some(JobStatus::Refunded),
        _ => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn no_life_loses_invents_or_repeats_money(
        which in 0u8..3,
        custody in prop::sample::select(CUSTODIES.to_vec()),
        tier in any::<u8>(),
        amount in prop_oneof![0i64..2000, 0i64..1_000_000_000],
        (open_task, validated) in (any::<bool>(), any::<bool>()),
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let mut world = World::new(which, custody, tier, amount, open_task, validated);
        world.check();
        for step in &steps {
            world.step(step);
        }
        world.finish();
    }
}
