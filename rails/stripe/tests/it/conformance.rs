//! The whole conformance kit of rails, in both modes, with contracts of every age.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use async_trait::async_trait;
use hmac::{Hmac, Mac};
use serde_json::Value;
use sha2::Sha256;
use tradepost::{
    clock::Timestamp,
    ids::{AgentId, HoldId},
    money::Money,
    policy::Span,
    rail::{
        Action, ChargebackStage, Cursor, Holdings, Instruction, Observation, Observations, Order, Outcome, Push,
        RailError, RailProfile, SettlementRail,
    },
    testkit::rail::{Fault, Harness, Parties, Unplayable, run},
};
use tradepost_stripe::{HoldMode, StripeConfig, StripeRail};
use uuid::Uuid;

use crate::{
    double::{Double, Ending, Trouble},
    people::{DoubleClock, People, WEBHOOK_SECRETS, config, rail},
};

/// How old the contracts are: whether the rail may trust that Stripe still has its keys.
#[derive(Clone, Copy, PartialEq)]
pub enum Contracts {
    /// Made now.
    New,
    /// Their ids say nothing of time, so that the rail always looks first.
    Ageless,
}

pub struct DoubleHarness {
    pub double: Double,
    people: People,
    hold: HoldMode,
    contracts: Contracts,
    made: AtomicU64,
    next: Mutex<Next>,
    /// Whether the next `execute` finds nobody.
    unreachable: Arc<AtomicBool>,
}

/// What the kit is about to try.
#[derive(Clone, Copy, PartialEq)]
enum Next {
    Fund,
    Settle,
    Payout,
    /// Something that is paid is taken or given back.
    Undo,
}

impl DoubleHarness {
    pub async fn new(hold: HoldMode, contracts: Contracts) -> Self {
        Self {
            double: Double::start().await,
            people: People::default(),
            hold,
            contracts,
            made: AtomicU64::new(0),
            next: Mutex::new(Next::Fund),
            unreachable: Arc::default(),
        }
    }

    fn id(&self) -> Uuid {
        let number = self.made.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        match self.contracts {
            Contracts::New => {
                let millis = u64::try_from(self.double.lock().world.now).unwrap() * 1000;
                let mut tail = [0; 10];
                tail[2..].copy_from_slice(&number);
                uuid::Builder::from_unix_timestamp_millis(millis, &tail).into_uuid()
            }
            Contracts::Ageless => {
                let mut bytes = [7; 16];
                bytes[8..].copy_from_slice(&number);
                uuid::Builder::from_custom_bytes(bytes).into_uuid()
            }
        }
    }
}

#[async_trait]
impl Harness for DoubleHarness {
    async fn rail(&self) -> Arc<dyn SettlementRail> {
        // Nobody listens on port 1.
        let nowhere = StripeConfig { api_base: "http://127.0.0.1:1".into(), ..config(&self.double, self.hold) };
        let clock = Arc::new(DoubleClock(self.double.clone()));
        let nowhere = StripeRail::new(nowhere, self.people.clone(), clock).unwrap();
        let rail = rail(&self.double, &self.people, self.hold);
        Arc::new(Reached { rail, nowhere, unreachable: self.unreachable.clone() })
    }

    async fn contract(&self) -> Parties {
        *self.next.lock().unwrap() = Next::Fund;
        let contract = self.id();
        let buyer = self.people.buyer(&self.double, self.id());
        let worker = self.people.worker(&self.double, self.id());
        Parties { contract, buyer, worker, destination: None }
    }

    async fn earn(&self, _worker: AgentId, amount: Money) {
        *self.next.lock().unwrap() = Next::Payout;
        self.double.lock().world.top_up(amount.minor());
    }

    async fn arrange(&self, fault: Fault) -> Result<(), Unplayable> {
        let cannot = |why: &str| Err(Unplayable(why.into()));
        // A contract whose hold is filled is about to be divided.
        let mut next = self.next.lock().unwrap();
        if *next == Next::Fund && self.double.lock().world.charges.last().is_some_and(|c| self.is_newest(c)) {
            *next = Next::Settle;
        }
        if *next == Next::Settle && self.is_paid() {
            *next = Next::Undo;
        }
        let taking_a_while = "a transfer happens at once or not";
        let trouble = match (fault, *next) {
            (Fault::NotSent, _) => {
                self.unreachable.store(true, Ordering::Relaxed);
                return Ok(());
            }
            (Fault::Busy, _) => Trouble::Busy,
            (Fault::LostBefore, _) => Trouble::LostBefore,
            (Fault::LostAfter, _) => Trouble::LostAfter,
            (Fault::Declined, Next::Fund) => Trouble::Declined,
            (Fault::Declined, Next::Settle) => return cannot("Stripe refuses to divide only what is there no more"),
            (Fault::Declined, Next::Payout) => return cannot("a payout that Stripe refuses waits, it is not declined"),
            (Fault::PendingThenDone, Next::Fund) => Trouble::Processing(Ending::Done),
            (Fault::PendingThenDeclined, Next::Fund) => Trouble::Processing(Ending::Declined),
            (Fault::PendingThenDone | Fault::PendingThenDeclined, _) => return cannot(taking_a_while),
            (Fault::NeedsAction, Next::Fund) => Trouble::NeedsAction,
            (Fault::NeedsAction, _) => return cannot("nobody is asked for a transfer"),
            (Fault::OtherInstruction, _) => return cannot("objects are found by the instruction they name"),
            (Fault::OtherAmount | Fault::OtherLegs | Fault::OtherCurrency, Next::Settle)
                if self.hold != HoldMode::Charge =>
            {
                return cannot("the first request of a division is the capture, which names no legs");
            }
            (Fault::Declined, Next::Undo) => Trouble::Declined,
            (Fault::OtherLegs, Next::Fund | Next::Payout | Next::Undo) => return cannot("it has no legs"),
            (Fault::OtherAmount | Fault::OtherLegs, _) => Trouble::OtherAmount,
            (Fault::OtherCurrency, _) => Trouble::OtherCurrency,
        };
        self.double.arrange(trouble);
        Ok(())
    }

    async fn act(&self, action: &Action) -> String {
        self.double.lock().world.confirm(&action.payload);
        "confirmed".into()
    }

    async fn advance(&self) {
        self.double.lock().world.pass(1);
    }

    async fn times(&self, instruction: &Instruction) -> u32 {
        let id = instruction.id.to_string();
        let state = self.double.lock();
        let ours = |object: &&Value| object["metadata"]["tradepost_instruction"].as_str() == Some(&id);
        let world = &state.world;
        let times = match &instruction.order {
            Order::Fund { .. } => world.charges.iter().filter(ours).count(),
            Order::Payout { .. } => world.transfers.iter().filter(ours).count(),
            Order::Reverse { .. } => world.reversals.iter().filter(ours).count(),
            Order::Refund { .. } => world.refunds.iter().filter(ours).count(),
            Order::Settle { legs, .. } => {
                let moved: Vec<&Value> = world.transfers.iter().chain(&world.refunds).filter(ours).collect();
                let mark = |leg| format!("held_{leg}_{}", instruction.id.0.simple());
                let of_leg = |leg: usize| {
                    let objects = moved
                        .iter()
                        .filter(|o| o["metadata"]["tradepost_leg"].as_str() == Some(&*leg.to_string()))
                        .count();
                    objects + world.charges.iter().filter(|c| !c["metadata"][mark(leg)].is_null()).count()
                };
                let settled = |i: &&Value| {
                    let cancelled = i["cancellation_reason"] == "requested_by_customer"
                        && i["metadata"]["tradepost_hold"] == instruction.contract.to_string();
                    i["metadata"]["tradepost_settled_by"].as_str() == Some(&id) || cancelled
                };
                let captured = world.intents.iter().filter(settled).count();
                (0..legs.len()).map(of_leg).max().unwrap_or_default().max(captured)
            }
        };
        times.try_into().unwrap()
    }

    async fn deposit(&self, _amount: Money) -> Result<AgentId, Unplayable> {
        Err(Unplayable("Stripe tells of no deposits".into()))
    }

    async fn pushes(&self) -> Result<Vec<Push>, Unplayable> {
        let state = self.double.lock();
        Ok(state.world.events.iter().map(|event| push(event, state.world.now, WEBHOOK_SECRETS[1])).collect())
    }

    async fn expire(&self, hold: HoldId) -> Result<(), Unplayable> {
        let world = &mut self.double.lock().world;
        let of_hold = |i: &&Value| i["metadata"]["tradepost_hold"] == hold.to_string();
        let id = world.intents.iter().find(of_hold).unwrap()["id"].as_str().unwrap().to_owned();
        world.expire(&id);
        Ok(())
    }

    async fn charge_back(&self, hold: HoldId, stage: ChargebackStage) -> Result<(), Unplayable> {
        let world = &mut self.double.lock().world;
        let of_hold = |c: &&Value| c["metadata"]["tradepost_hold"] == hold.to_string() && c["captured"] == true;
        let charge = world.charges.iter().find(of_hold).map(|c| c["id"].as_str().unwrap().to_owned());
        let charge = charge.ok_or_else(|| Unplayable("what is only reserved is not taken back".into()))?;
        let played = match stage {
            ChargebackStage::Opened { .. } => world.dispute(&charge),
            ChargebackStage::Won | ChargebackStage::Lost => world.decide(&charge, stage == ChargebackStage::Won),
        };
        played.then_some(()).ok_or_else(|| Unplayable("there is nothing to take back".into()))
    }
}

impl DoubleHarness {
    /// Whether the hold that was made last is divided.
    fn is_paid(&self) -> bool {
        let world = &self.double.lock().world;
        let charge = world.charges.last().map(|c| c["id"].clone());
        world.transfers.iter().any(|t| Some(&t["source_transaction"]) == charge.as_ref())
    }

    /// Whether a charge belongs to the contract that was made last.
    fn is_newest(&self, charge: &Value) -> bool {
        let newest = self.made.load(Ordering::Relaxed) - 3;
        let hold: Uuid = charge["metadata"]["tradepost_hold"].as_str().unwrap().parse().unwrap();
        hold.as_bytes()[9..] == newest.to_be_bytes()[1..]
    }
}

/// An event as Stripe pushes it.
pub fn push(event: &Value, now: i64, secret: &str) -> Push {
    let body = serde_json::to_vec(event).unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("{now}.").as_bytes());
    mac.update(&body);
    let signature = hex::encode(mac.finalize().into_bytes());
    let header = format!("t={now},v1={},v1={signature},v0=00", "0".repeat(64));
    let received_at = Timestamp::from_timestamp(now, 0).unwrap();
    Push { headers: vec![("stripe-signature".into(), header)], body, received_at }
}

/// A rail whose way to Stripe may be cut for one call.
struct Reached {
    rail: StripeRail,
    nowhere: StripeRail,
    unreachable: Arc<AtomicBool>,
}

#[async_trait]
impl SettlementRail for Reached {
    fn profile(&self) -> &RailProfile {
        self.rail.profile()
    }

    async fn execute(&self, instruction: &Instruction) -> Result<Outcome, RailError> {
        match self.unreachable.swap(false, Ordering::Relaxed) {
            true => self.nowhere.execute(instruction).await,
            false => self.rail.execute(instruction).await,
        }
    }

    async fn lookup(&self, instruction: &Instruction) -> Result<Option<Outcome>, RailError> {
        self.rail.lookup(instruction).await
    }

    async fn observe(&self, after: &Cursor) -> Result<Observations, RailError> {
        self.rail.observe(after).await
    }

    fn receive(&self, push: &Push) -> Result<Vec<Observation>, RailError> {
        self.rail.receive(push)
    }

    async fn holdings(&self) -> Result<Holdings, RailError> {
        self.rail.holdings().await
    }
}

pub const AUTHORISE: HoldMode = HoldMode::Authorise { lives: Span::hours(7 * 24) };

async fn keeps_the_contract(hold: HoldMode, contracts: Contracts, cases: usize) {
    let harness = DoubleHarness::new(hold, contracts).await;
    let report = run(&harness).await;
    report.assert_kept();
    println!("{report}");
    assert_eq!(report.ran(), cases, "the cases that apply are counted:\n{report}");
}

#[tokio::test]
async fn charging_keeps_the_contract() {
    keeps_the_contract(HoldMode::Charge, Contracts::New, 80).await;
}

#[tokio::test]
async fn charging_keeps_the_contract_when_no_key_can_be_trusted() {
    keeps_the_contract(HoldMode::Charge, Contracts::Ageless, 80).await;
}

#[tokio::test]
async fn authorising_keeps_the_contract() {
    keeps_the_contract(AUTHORISE, Contracts::New, 76).await;
}

#[tokio::test]
async fn authorising_keeps_the_contract_when_no_key_can_be_trusted() {
    keeps_the_contract(AUTHORISE, Contracts::Ageless, 76).await;
}
