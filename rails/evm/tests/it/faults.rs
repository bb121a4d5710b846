//! Whole lives under faults, each from a seed: reorgs of 1 to 64 blocks, nonces that somebody else uses,
//! transactions dropped and replaced, requests and answers lost, restarts. Nothing is lost, nothing happens
//! twice, and what the rail says is what the chain has.
//!
//! `EVM_SEEDS=5000 cargo test --release -p tradepost-evm --test it seeded` runs as many, `EVM_SEEDS=1000..2000` those,
//! `EVM_SEEDS=17..18` one.

use std::{collections::BTreeSet, fmt, sync::Arc};

use alloy_signer_local::PrivateKeySigner;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tradepost::{
    ids::{AgentId, HoldId, InstructionId},
    money::{Currency, Money, Rate},
    policy::Span,
    rail::{
        Cursor, HoldTerms, Instruction, Leg, ObservationBody, Order, Outcome, Party, SettlementRail, VolatileMemory,
    },
};
use tradepost_evm::{Ask, EvmConfig, EvmRail, Incident};

use crate::stage::{Automine, Fault, Stage, key};

const DEPTH: u64 = 64;
const HOLDS: usize = 3;
const DEPOSIT: i64 = 1_000_003;

struct Life {
    buyer: PrivateKeySigner,
    seller: PrivateKeySigner,
    parties: (AgentId, AgentId),
    shares: [i64; 3],
    fund: Instruction,
    settle: Option<Instruction>,
    ends: Vec<(InstructionId, Outcome)>,
    /// What the rail said last of what has no end yet.
    last: String,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seeded_lives_lose_nothing_and_repeat_nothing() {
    let seeds = seeds(&std::env::var("EVM_SEEDS").unwrap_or_else(|_| "25".into()));
    let (mut ran, mut broken, mut tried) = (0u64, 0u64, Tried::default());
    // A node each, for anvil loses logs of a chain that went back to a snapshot. The next one starts meanwhile.
    let mut next = tokio::spawn(Stage::new());
    for seed in seeds {
        // A node that has undone a block while it made another may have lost what its own logs say: that life says
        // nothing about the rail, and is lived again on another node.
        for attempt in 1.. {
            let mut stage = std::mem::replace(&mut next, tokio::spawn(Stage::new())).await.unwrap();
            stage.config.confirmations = DEPTH;
            let stage = Arc::new(stage);
            match tokio::spawn(play(stage.clone(), seed)).await {
                Ok(met) => {
                    tried.add(met);
                    break;
                }
                Err(died) if attempt < 3 => match stage.contradiction().await {
                    Some(what) => println!("seed {seed}: the node is broken: {what}"),
                    None => std::panic::resume_unwind(died.into_panic()),
                },
                Err(died) => std::panic::resume_unwind(died.into_panic()),
            }
            broken += 1;
        }
        ran += 1;
        if ran.is_multiple_of(100) {
            println!("{ran} seeds up to {seed}, {broken} broken nodes: {tried}");
        }
    }
    drop(next.await.unwrap()); // its node ends with it
    println!("{ran} seeds, {broken} broken nodes: {tried}");
    assert!(ran > 0 && (tried.divided > 0 || ran == 1));
    assert!(ran < 500 || tried.is_everything(), "not everything was tried: {tried}");
}

/// What the lives met, counted.
#[derive(Default)]
struct Tried {
    divided: u64,
    reorgs: u64,
    depths: BTreeSet<u64>,
    dropped: u64,
    replaced: u64,
    foreign: u64,
    lost: u64,
    restarts: u64,
}

impl Tried {
    fn add(&mut self, other: Self) {
        let Self { divided, reorgs, mut depths, dropped, replaced, foreign, lost, restarts } = other;
        self.divided += divided;
        self.reorgs += reorgs;
        self.depths.append(&mut depths);
        self.dropped += dropped;
        self.replaced += replaced;
        self.foreign += foreign;
        self.lost += lost;
        self.restarts += restarts;
    }

    fn is_everything(&self) -> bool {
        let each = [self.divided, self.reorgs, self.dropped, self.replaced, self.foreign, self.lost, self.restarts];
        each.into_iter().all(|times| times > 0) && self.depths.len() as u64 == DEPTH
    }
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { divided, reorgs, depths, dropped, replaced, foreign, lost, restarts } = self;
        let depths = depths.len();
        write!(f, "{divided} deposits divided, {reorgs} reorgs of {depths} depths, ")?;
        write!(f, "{dropped} transactions dropped, {replaced} replaced, {foreign} nonces used by others, ")?;
        write!(f, "{lost} requests or answers lost, {restarts} restarts")
    }
}

/// `25` for the first 25, `10..20` for those.
pub fn seeds(text: &str) -> std::ops::Range<u64> {
    let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("{text:?} is no number of a seed"));
    text.split_once("..").map_or_else(|| 0..number(text), |(from, to)| number(from)..number(to))
}

async fn play(stage: Arc<Stage>, seed: u64) -> Tried {
    let (mut rng, mut tried, stage) = (StdRng::seed_from_u64(seed), Tried::default(), &*stage);
    let mut config = stage.config.clone();
    config.first_block = stage.height().await;
    config.signing_window = Span::seconds(if rng.random_bool(0.3) { 200 } else { 3_000 });
    let memory: Arc<VolatileMemory> = Arc::default();
    let mut rail = reading(stage, &config, &memory).await;
    let mut lives = Vec::new();
    for number in 0..HOLDS {
        lives.push(begin(stage, &rail, seed, number, &mut rng).await);
    }
    stage.mine(DEPTH + 6).await;
    for _ in 0..60 {
        match rng.random_range(0..20) {
            0 => {
                rail = reading(stage, &config, &memory).await;
                tried.restarts += 1;
            }
            fate @ (1 | 2) => {
                let fault = if fate == 1 { Fault::Lost } else { Fault::Unanswered };
                stage.wire.plan("eth_sendRawTransaction", fault);
                tried.lost += 1;
            }
            3 => {
                tried.lost += 1;
                let method =
                    ["eth_getLogs", "eth_getBlockByNumber", "eth_call", "eth_estimateGas"][rng.random_range(0..4)];
                let fault = if rng.random_bool(0.5) { Fault::Lost } else { Fault::Unanswered };
                stage.wire.plan(method, fault);
                let _ = rail.work().await;
                stage.wire.calm();
            }
            4 => {
                let depth = rng.random_range(1..=DEPTH);
                stage.reorg(depth).await;
                tried.reorgs += 1;
                tried.depths.insert(depth);
            }
            5 => stage.automine(Automine::Off).await,
            6 => stage.automine(Automine::On).await,
            7 => {
                tried.dropped += stage.waiting().await;
                stage.drop_all().await;
            }
            8 => {
                stage.submit(rail.relayer(), rail.relayer(), Vec::new()).await;
                tried.foreign += 1;
            }
            9 => stage.mine(rng.random_range(1..=DEPTH)).await,
            10 => drop(rail.observe(&Cursor::default()).await),
            _ => {
                let life = rng.random_range(0..HOLDS);
                step(&rail, &mut lives[life], &mut rng).await;
            }
        }
    }
    stage.wire.calm();
    stage.automine(Automine::On).await;
    for _ in 0..200 {
        let mut open = false;
        for life in &mut lives {
            step(&rail, life, &mut rng).await;
            open |= life.open();
        }
        if !open {
            break;
        }
        stage.pass(5).await;
    }
    tried.divided += check(stage, &rail, &lives, seed).await;
    tried.replaced += stage.wire.replaced();
    tried
}

/// No reorg is deeper than what counts, so there is nothing to tell an operator.
async fn reading(stage: &Stage, config: &EvmConfig, memory: &Arc<VolatileMemory>) -> EvmRail {
    stage.rail_as(config.clone(), memory.clone()).await.on_incident(|incident| match incident {
        Incident::DeepReorg { .. } => panic!("{incident}"),
        other => println!("{other}"),
    })
}

impl Life {
    fn open(&self) -> bool {
        let over = |one: &Instruction| self.ends.iter().any(|(id, _)| *id == one.id);
        !over(&self.fund) || self.settle.as_ref().is_some_and(|settle| !over(settle))
    }

    fn done(&self, id: InstructionId) -> bool {
        self.ends.iter().any(|(one, outcome)| *one == id && matches!(outcome, Outcome::Done(_)))
    }
}

async fn begin(stage: &Stage, rail: &EvmRail, seed: u64, number: usize, rng: &mut StdRng) -> Life {
    let name = |who: &str| key(&format!("{who} {seed} {number}"));
    let (buyer, seller) = (name("buyer"), name("seller"));
    let id = |place: u128| uuid::Uuid::from_u128(u128::from(seed) << 32 | (number as u128) << 8 | place);
    let parties = (AgentId(id(1)), AgentId(id(2)));
    rail.link_wallet(parties.0, buyer.address()).await.unwrap();
    rail.link_wallet(parties.1, seller.address()).await.unwrap();
    stage.mint(buyer.address(), u128::try_from(DEPOSIT).unwrap()).await;
    let seller_share = if rng.random_bool(0.2) { 0 } else { rng.random_range(1..=DEPOSIT) };
    let fee = if seller_share == 0 { 0 } else { rng.random_range(0..=(DEPOSIT - seller_share).min(seller_share / 4)) };
    let contract = id(3);
    let terms =
        HoldTerms { payee: Some(parties.1), fee_ceiling: "0.2".parse::<Rate>().unwrap(), ..HoldTerms::default() };
    let order = Order::Fund { hold: HoldId(contract), payer: parties.0, amount: usdc(DEPOSIT), terms: Box::new(terms) };
    let fund = Instruction { id: InstructionId::derive(contract, 0), contract, order, answer: None };
    let shares = [seller_share, fee, DEPOSIT - seller_share - fee];
    Life { buyer, seller, parties, shares, fund, settle: None, ends: Vec::new(), last: String::new() }
}

/// What the engine would do next.
async fn step(rail: &EvmRail, life: &mut Life, rng: &mut StdRng) {
    let over = |life: &Life, id| life.ends.iter().any(|(one, _)| *one == id);
    if over(life, life.fund.id) && life.settle.is_none() && life.done(life.fund.id) {
        let (contract, hold) = (life.fund.contract, HoldId(life.fund.contract));
        let to = [Party::Worker(life.parties.1), Party::Platform, Party::Buyer(life.parties.0)];
        let legs = to.into_iter().zip(life.shares).filter(|(_, minor)| *minor > 0);
        let legs = legs.map(|(to, minor)| Leg { to, amount: usdc(minor) }).collect();
        let order = Order::Settle { hold, funding: String::new(), legs };
        life.settle = Some(Instruction { id: InstructionId::derive(contract, 1), contract, order, answer: None });
    }
    let current = match &life.settle {
        Some(settle) if over(life, settle.id) => return,
        Some(settle) => settle.clone(),
        None if over(life, life.fund.id) => return,
        None => life.fund.clone(),
    };
    let known = if rng.random_bool(0.5) || current.answer.is_some() {
        None
    } else {
        rail.lookup(&current).await.ok().flatten()
    };
    let asked = match known {
        None => rail.execute(&current).await,
        Some(outcome) => Ok(outcome),
    };
    life.last = format!("{asked:?}");
    let answer = match asked.ok() {
        Some(Outcome::NeedsAction(action)) => {
            let ask = Ask::parse(&action.payload).unwrap();
            let key = if ask.signer == life.buyer.address() { &life.buyer } else { &life.seller };
            Some(ask.sign(&ask.choices[0].name, key).unwrap().to_text())
        }
        Some(outcome) if outcome.is_final() => {
            life.ends.push((current.id, outcome));
            None
        }
        _ => None,
    };
    match &mut life.settle {
        Some(settle) => settle.answer = answer,
        None => life.fund.answer = answer,
    }
}

async fn check(stage: &Stage, rail: &EvmRail, lives: &[Life], seed: u64) -> u64 {
    let (mut held, mut divided, mut fees_due) = (0, 0, 0);
    for (number, life) in lives.iter().enumerate() {
        let what = format!("seed {seed}, hold {number}");
        assert!(!life.open(), "{what}: no end: {:?}, last {}", life.ends, life.last);
        for (id, outcome) in &life.ends {
            let instruction = if *id == life.fund.id { &life.fund } else { life.settle.as_ref().unwrap() };
            assert_eq!(rail.lookup(instruction).await.unwrap().as_ref(), Some(outcome), "{what}: the end stands");
            if let Outcome::Done(receipt) = outcome {
                instruction.check(receipt).unwrap();
            }
        }
        let funded = life.done(life.fund.id);
        let settled = life.settle.as_ref().is_some_and(|settle| life.done(settle.id));
        let (buyer, seller) = (stage.balance(life.buyer.address()).await, stage.balance(life.seller.address()).await);
        let expected = |minor: i64| u128::try_from(minor).unwrap();
        match (funded, settled) {
            (false, _) => assert_eq!((buyer, seller), (expected(DEPOSIT), 0), "{what}: declined, but money moved"),
            (true, false) => {
                assert_eq!((buyer, seller), (0, 0), "{what}: not divided, but money left");
                held += DEPOSIT;
            }
            (true, true) => {
                assert_eq!(seller, expected(life.shares[0]), "{what}: the seller's share");
                // Where nobody but the seller signed, the rest is the buyer's in the contract, to be withdrawn.
                let back = if life.shares[0] == 0 { 0 } else { life.shares[2] };
                assert_eq!(buyer, expected(back), "{what}: the buyer's share");
                fees_due += expected(life.shares[1]);
                divided += 1;
            }
        }
    }
    assert_eq!(stage.fees_owed().await, fees_due, "seed {seed}: the fees");
    assert_eq!(rail.holdings().await.unwrap().total, usdc(held), "seed {seed}: what is held");
    story(rail, lives, seed).await;
    divided
}

/// What is told in the end is what happened, once.
async fn story(rail: &EvmRail, lives: &[Life], seed: u64) {
    let (mut at, mut told) = (Cursor::default(), Vec::new());
    loop {
        let page = rail.observe(&at).await.unwrap();
        if page.next == at {
            break;
        }
        told.extend(page.items);
        at = page.next;
    }
    for life in lives {
        for (id, outcome) in life.ends.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Done(_))) {
            let same: Vec<_> = told
                .iter()
                .filter(|item| matches!(&item.body, ObservationBody::Outcome { instruction, .. } if instruction == id))
                .collect();
            assert!(!same.is_empty(), "seed {seed}: {id} is not told");
            for item in same {
                let body = ObservationBody::Outcome { instruction: *id, outcome: outcome.clone() };
                assert_eq!(item.body, body, "seed {seed}: told otherwise");
            }
        }
    }
}

fn usdc(minor: i64) -> Money {
    Money::new(minor, Currency::USDC)
}
