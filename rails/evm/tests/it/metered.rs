//! Metered use, as the rail sees it: receipts, a close, its challenge window, claim and withdrawal.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use alloy_primitives::{B256, U64, U256, keccak256};
use serde_json::{Value, json};
use tradepost::{
    ids::{AgentId, HoldId, InstructionId},
    money::{Currency, Money},
    rail::{
        Cursor, EscrowNews, HoldTerms, Instruction, Leg, Observation, ObservationBody, Order, Outcome, Party,
        SettlementRail,
    },
};
use tradepost_evm::{Act, Ask, EvmError, EvmRail, Incident, Mode, Role, Way, sign::SignatureProblem};

use crate::{
    nodes::Forgetful,
    stage::{Stage, key},
};

struct Metered {
    stage: Stage,
    rail: EvmRail,
    hold: HoldId,
    parties: (AgentId, AgentId),
    memory: Arc<Forgetful>,
}

impl Metered {
    /// 100 units at 0.05 dollars, funded.
    async fn new() -> Self {
        let stage = Stage::new().await;
        let memory: Arc<Forgetful> = Arc::default();
        let rail = stage.rail(memory.clone()).await;
        let parties = (AgentId(uuid::Uuid::from_u128(1)), AgentId(uuid::Uuid::from_u128(2)));
        rail.link_wallet(parties.0, key("buyer").address()).await.unwrap();
        rail.link_wallet(parties.1, key("seller").address()).await.unwrap();
        stage.mint(key("buyer").address(), 5_000_000).await;
        let contract = uuid::Uuid::from_u128(3);
        let terms = HoldTerms {
            payee: Some(parties.1),
            quantity: 100,
            unit_price: Some(usdc(50_000)),
            receipt_signer: Some(key("meter").address().to_string()),
            ..HoldTerms::default()
        };
        let hold = HoldId(contract);
        let order = Order::Fund { hold, payer: parties.0, amount: usdc(5_000_000), terms: Box::new(terms) };
        let mut fund = Instruction { id: InstructionId::derive(contract, 0), contract, order, answer: None };
        let Outcome::NeedsAction(action) = rail.execute(&fund).await.unwrap() else { panic!("nobody is asked") };
        let ask = Ask::parse(&action.payload).unwrap();
        // PG-04: the intent that existing clients sign, with a permit.
        fund.answer = Some(ask.sign("erc2612_permit", &key("buyer")).unwrap().to_text());
        assert!(matches!(rail.execute(&fund).await.unwrap(), Outcome::Pending { .. }));
        stage.mine(3).await;
        assert!(matches!(rail.lookup(&fund).await.unwrap(), Some(Outcome::Done(_))));
        Self { stage, rail, hold, parties, memory }
    }

    /// Signs and has it relayed.
    async fn sponsored(&self, act: Act, who: &str) -> Result<(), EvmError> {
        let options = self.rail.options(self.hold, act).await?;
        let signature = options.sign.sign(&key(who)).unwrap();
        self.rail.relay(self.hold, act, options.nonce, options.deadline, signature).await?;
        self.stage.mine(1).await;
        Ok(())
    }
}

fn usdc(minor: i64) -> Money {
    Money::new(minor, Currency::USDC)
}

fn receipt(units: u64) -> Act {
    Act::SubmitReceipt { units, proof: B256::repeat_byte(u8::try_from(units).unwrap()) }
}

/// PG-08, PG-09, PG-10, PG-19: a later receipt in the window supersedes; then each takes what is its own.
#[tokio::test]
async fn pg_09_a_close_a_superseding_receipt_a_claim_and_a_withdrawal() {
    let m = Metered::new().await;
    m.sponsored(receipt(10), "meter").await.unwrap();
    assert_eq!(m.rail.escrow(m.hold).await.unwrap().earned, usdc(500_000));
    m.sponsored(Act::Close { by: Role::Buyer }, "buyer").await.unwrap();
    let closing = m.rail.escrow(m.hold).await.unwrap();
    assert_eq!(closing.state, "closing");
    assert!(closing.final_at.is_some());
    m.sponsored(receipt(30), "meter").await.unwrap();
    // PG-11: nothing is claimed before the window's end, and the options say so.
    let early = m.rail.options(m.hold, Act::Claim).await.unwrap();
    assert_eq!(early.recommended, None);
    assert!(matches!(&early.sponsored, Way::Not { why } if why.contains("NotFinal")), "{early:?}");
    m.stage.pass(24 * 3600).await;
    let ready = m.rail.options(m.hold, Act::Claim).await.unwrap();
    assert_eq!((ready.recommended, &ready.sponsored), (Some(Mode::Sponsored), &Way::Possible));
    assert!(matches!(&ready.direct, Way::Not { why } if why.contains("gas")), "the seller has no coin: {ready:?}");
    m.sponsored(Act::Claim, "seller").await.unwrap();
    m.sponsored(Act::Withdraw, "buyer").await.unwrap();
    assert_eq!(m.stage.balance(key("seller").address()).await, 1_500_000);
    assert_eq!(m.stage.balance(key("buyer").address()).await, 3_500_000);
    assert_eq!(m.rail.escrow(m.hold).await.unwrap().state, "settled");
    m.stage.mine(3).await;
    let told = story(&m.rail).await;
    let legs = vec![
        Leg { to: Party::Worker(m.parties.1), amount: usdc(1_500_000) },
        Leg { to: Party::Buyer(m.parties.0), amount: usdc(3_500_000) },
    ];
    let settled = told.iter().find_map(|body| match body {
        ObservationBody::HoldSettled { hold, legs, .. } if *hold == m.hold => Some(legs.clone()),
        _ => None,
    });
    assert_eq!(settled, Some(legs));
    assert_eq!(m.rail.holdings().await.unwrap().total, usdc(0));
}

/// PG-08, PG-09: a node forgets the state of old blocks, not their logs. A platform that was away for longer than that
/// is told how it went, a page at a time.
#[tokio::test]
async fn pg_09_what_happened_while_the_platform_was_away_is_told() {
    let m = Metered::new().await;
    m.stage.mine(300).await;
    m.sponsored(Act::Release { cumulative: 100_000 }, "buyer").await.unwrap();
    m.sponsored(receipt(30), "meter").await.unwrap();
    m.sponsored(Act::Close { by: Role::Seller }, "seller").await.unwrap();
    let height = m.stage.height().await;
    m.stage.pass(24 * 3600).await;
    m.sponsored(Act::Claim, "seller").await.unwrap();
    m.sponsored(Act::Withdraw, "buyer").await.unwrap();
    m.stage.mine(400).await;
    let call = json!([{ "to": m.stage.config.escrow, "data": "0x" }, U64::from(height)]);
    let forgotten = m.stage.rpc.request::<_, Value>("eth_call", call).await.unwrap_err().to_string();
    assert!(forgotten.contains("BlockOutOfRange"), "{forgotten}");
    let mut config = m.stage.config.clone();
    config.blocks_at_once = 40;
    let told = story(&m.stage.rail_as(config, m.memory.clone()).await).await;
    let mut names = Vec::new();
    for body in &told {
        names.push(match body {
            ObservationBody::Outcome { .. } => "funded".into(),
            ObservationBody::HoldSettled { legs, .. } => {
                let minor: Vec<i64> = legs.iter().map(|leg| leg.amount.minor()).collect();
                format!("settled {minor:?}")
            }
            ObservationBody::Escrow { news: EscrowNews::Receipt(receipt), .. } => format!("receipt {}", receipt.units),
            ObservationBody::Escrow { news: EscrowNews::Closing { .. }, .. } => "closing".into(),
            ObservationBody::Escrow { news: EscrowNews::Paid { amount, .. }, .. } => format!("paid {}", amount.minor()),
            other => panic!("{other:?}"),
        });
    }
    let paid = ["paid 100000", "paid 1400000", "paid 3500000"];
    let expected = [["funded", "receipt 30", "closing", "settled [1500000, 3500000]"].as_slice(), &paid].concat();
    assert_eq!(names, expected);
}

/// A node that keeps back a part of what happened to one agreement: an operator is told, everything else goes on, and
/// once it tells all of it the agreement's end is told.
#[tokio::test]
async fn logs_that_do_not_come_to_the_deposit_keep_nobody_else_waiting() {
    let m = Metered::new().await;
    let (incidents, other): (Arc<Mutex<Vec<Incident>>>, _) = (Arc::default(), HoldId(uuid::Uuid::from_u128(4)));
    let heard = incidents.clone();
    let rail = m.stage.rail(m.memory.clone()).await;
    let rail = rail.on_incident(move |incident| heard.lock().unwrap().push(incident.clone()));
    m.sponsored(Act::Release { cumulative: 1_000_000 }, "buyer").await.unwrap();
    m.sponsored(Act::Waive, "seller").await.unwrap();
    m.sponsored(Act::Withdraw, "buyer").await.unwrap();
    let kept = ["SellerPaid(uint256,uint256,uint256)", "Finalized(uint256,address,uint256)"];
    let kept = kept.map(|event| json!(keccak256(event)));
    m.stage.wire.lie("eth_getLogs", move |_, logs| {
        logs.as_array_mut().unwrap().retain(|log| !kept.contains(&log["topics"][0]));
    });
    m.stage.mint(key("buyer").address(), 1_000_000).await;
    let terms = HoldTerms { payee: Some(m.parties.1), ..HoldTerms::default() };
    let order = Order::Fund { hold: other, payer: m.parties.0, amount: usdc(1_000_000), terms: Box::new(terms) };
    let mut fund = Instruction { id: InstructionId::derive(other.0, 0), contract: other.0, order, answer: None };
    let Outcome::NeedsAction(action) = rail.execute(&fund).await.unwrap() else { panic!("nobody is asked") };
    fund.answer = Some(Ask::parse(&action.payload).unwrap().sign("eip3009", &key("buyer")).unwrap().to_text());
    rail.execute(&fund).await.unwrap();
    m.stage.mine(3).await;
    assert!(matches!(rail.lookup(&fund).await.unwrap(), Some(Outcome::Done(_))));
    let settled = |told: &[ObservationBody]| {
        told.iter().find_map(|body| match body {
            ObservationBody::HoldSettled { hold, legs, .. } if *hold == m.hold => {
                Some(legs.iter().map(|leg| leg.amount.minor()).collect::<Vec<_>>())
            }
            _ => None,
        })
    };
    assert_eq!(settled(&story(&rail).await), None);
    let told = incidents.lock().unwrap().clone();
    assert!(matches!(told[..], [Incident::DoesNotAddUp { hold, .. }] if hold == m.hold), "told once: {told:?}");
    m.stage.wire.calm();
    m.stage.pass(3_600).await;
    assert_eq!(settled(&story(&rail).await), Some(vec![1_000_000, 4_000_000]));
}

/// PG-19: what was earned is what the contract says, whatever a node keeps back.
#[tokio::test]
async fn pg_19_a_receipt_that_a_node_keeps_back_is_paid() {
    let m = Metered::new().await;
    m.sponsored(receipt(30), "meter").await.unwrap();
    m.sponsored(Act::Close { by: Role::Buyer }, "buyer").await.unwrap();
    let kept = json!(keccak256("ReceiptSubmitted(uint256,uint256,uint256,bytes32)"));
    m.stage.wire.lie("eth_getLogs", move |_, logs| {
        logs.as_array_mut().unwrap().retain(|log| log["topics"][0] != kept);
    });
    m.stage.pass(24 * 3600).await;
    let ends = |told: &[ObservationBody]| {
        let end = |body: &&ObservationBody| {
            matches!(body, ObservationBody::HoldSettled { .. } | ObservationBody::HoldExpired { .. })
        };
        told.iter().filter(end).cloned().collect::<Vec<_>>()
    };
    assert_eq!(ends(&story(&m.rail).await), [], "it does not add up to what the contract says");
    m.stage.wire.calm();
    m.stage.pass(600).await;
    let told = ends(&story(&m.rail).await);
    let [ObservationBody::HoldSettled { legs, .. }] = &told[..] else { panic!("{told:?}") };
    assert_eq!(legs.iter().map(|leg| leg.amount.minor()).collect::<Vec<_>>(), [1_500_000, 3_500_000]);
}

impl Metered {
    /// What the holds' ends were told to be, by a rail that reads so many blocks at once.
    async fn ends(&self, blocks: u64) -> Vec<Vec<i64>> {
        let mut config = self.stage.config.clone();
        config.blocks_at_once = blocks;
        let told = observed(&self.stage.rail_as(config, self.memory.clone()).await).await;
        // What is told twice has one id.
        let told: HashMap<String, ObservationBody> = told.into_iter().map(|item| (item.id, item.body)).collect();
        let end = |body: &ObservationBody| match body {
            ObservationBody::HoldSettled { legs, .. } => Some(legs.iter().map(|leg| leg.amount.minor()).collect()),
            ObservationBody::HoldExpired { .. } => Some(Vec::new()),
            _ => None,
        };
        told.values().filter_map(end).collect()
    }

    async fn ends_with_a_claim(&self) {
        self.sponsored(Act::Close { by: Role::Buyer }, "buyer").await.unwrap();
        self.stage.pass(24 * 3600).await;
        self.sponsored(Act::Claim, "seller").await.unwrap();
        self.stage.mine(4).await;
    }
}

/// Who dies between noting where a hold stands and publishing the page is repeated by whoever comes after, in pages of
/// another size, and nothing counts twice.
#[tokio::test]
async fn a_page_that_was_noted_and_not_published_is_read_again() {
    let m = Metered::new().await;
    for cumulative in [1_000_000, 1_100_000] {
        m.sponsored(Act::Release { cumulative }, "buyer").await.unwrap();
    }
    m.sponsored(receipt(30), "meter").await.unwrap();
    m.stage.mine(3).await;
    m.memory.forget(Some("page/"));
    m.rail.work().await.unwrap_err();
    m.memory.forget(None);
    m.ends_with_a_claim().await;
    assert_eq!(m.ends(2).await, [[1_500_000, 3_500_000]]);
}

/// Two processes read at once, each in pages of its own size.
#[tokio::test]
async fn two_processes_read_one_story() {
    let m = Metered::new().await;
    m.stage.mine(20).await;
    m.sponsored(Act::Release { cumulative: 1_000_000 }, "buyer").await.unwrap();
    m.stage.mine(20).await;
    m.sponsored(receipt(30), "meter").await.unwrap();
    m.ends_with_a_claim().await;
    let (one, other) = tokio::join!(m.ends(3), m.ends(11));
    assert_eq!(one, [[1_500_000, 3_500_000]]);
    assert_eq!(one, other);
    assert_eq!(m.rail.holdings().await.unwrap().total, usdc(0));
}

/// What a deep reorg undid is not of where a hold stands any more.
#[tokio::test]
async fn what_a_deep_reorg_undid_is_forgotten() {
    let m = Metered::new().await;
    let buyer = key("buyer").address();
    let release = m.rail.options(m.hold, Act::Release { cumulative: 1_000_000 }).await.unwrap().call.unwrap();
    m.stage.send(buyer, release.to, release.data.to_vec()).await;
    m.stage.mine(4).await;
    m.rail.work().await.unwrap();
    m.stage.reorg(5).await;
    m.stage.mine(4).await;
    assert_eq!(m.stage.balance(key("seller").address()).await, 0, "it is undone");
    m.rail.work().await.unwrap();
    m.sponsored(Act::Close { by: Role::Buyer }, "buyer").await.unwrap();
    m.stage.pass(24 * 3600).await;
    assert_eq!(m.ends(1_000).await, [Vec::<i64>::new()]);
}

/// All that is told, from the beginning.
async fn story(rail: &EvmRail) -> Vec<ObservationBody> {
    observed(rail).await.into_iter().map(|item| item.body).collect()
}

async fn observed(rail: &EvmRail) -> Vec<Observation> {
    let (mut at, mut told) = (Cursor::default(), Vec::new());
    for _ in 0..60 {
        let page = rail.observe(&at).await.unwrap();
        told.extend(page.items);
        at = page.next;
    }
    told
}

/// Receipts out of order, over quantity, by another signer; signatures used twice.
#[tokio::test]
async fn pg_19_bad_receipts_and_signatures_are_refused_with_what_does_not_match() {
    let m = Metered::new().await;
    m.sponsored(receipt(20), "meter").await.unwrap();
    let reverted = |answer: Result<(), EvmError>| match answer {
        Err(EvmError::Reverted(revert)) => revert.name,
        other => panic!("{other:?}"),
    };
    assert_eq!(reverted(m.sponsored(receipt(19), "meter").await), "ReceiptNotNewer");
    assert_eq!(reverted(m.sponsored(receipt(101), "meter").await), "OverQuantity");
    let forged = m.sponsored(receipt(30), "seller").await;
    let expected = key("meter").address();
    assert!(
        matches!(&forged, Err(EvmError::Signature { what: "UsageReceipt", problem: SignatureProblem::WrongSigner { expected: wanted, .. } }) if *wanted == expected),
        "{forged:?}"
    );
    let options = m.rail.options(m.hold, Act::Close { by: Role::Seller }).await.unwrap();
    let good = options.sign.sign(&key("seller")).unwrap();
    // Another chain, another contract, another deadline: another message, so another signer's.
    for change in [0, 1, 2] {
        let mut other = options.sign.clone();
        match change {
            0 => other.domain.chain_id = 1,
            1 => other.domain.verifying_contract = m.stage.config.token,
            _ => other.domain.name = "MeteringEscrowV2".into(),
        }
        let signature = other.sign(&key("seller")).unwrap();
        let close = Act::Close { by: Role::Seller };
        let answer = m.rail.relay(m.hold, close, options.nonce, options.deadline, signature).await;
        let told = matches!(&answer, Err(EvmError::Signature { problem: SignatureProblem::WrongSigner { .. }, .. }));
        assert!(told, "{answer:?}");
    }
    let close = Act::Close { by: Role::Seller };
    let order = U256::from_str_radix("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141", 16).unwrap();
    let mut twin = good.to_vec();
    let high = order - U256::from_be_slice(&good[32..64]);
    twin[32..64].copy_from_slice(&high.to_be_bytes::<32>());
    twin[64] = if good[64] == 27 { 28 } else { 27 };
    let answer = m.rail.relay(m.hold, close, options.nonce, options.deadline, twin.into()).await;
    let told = matches!(&answer, Err(EvmError::Signature { problem: SignatureProblem::Malleable, .. }));
    assert!(told, "{answer:?}");
    let first = m.rail.relay(m.hold, close, options.nonce, options.deadline, good.clone()).await.unwrap();
    let again = m.rail.relay(m.hold, close, options.nonce, options.deadline, good).await.unwrap();
    let hash = |sent| match sent {
        tradepost_evm::Sent::UnderWay { transaction, .. }
        | tradepost_evm::Sent::Mined { transaction, .. }
        | tradepost_evm::Sent::Lost { transaction } => transaction,
    };
    assert_eq!(hash(first), hash(again), "replayed, it is the same");
    m.stage.mine(1).await;
    m.stage.pass(700).await;
    let expired = m.rail.options(m.hold, Act::Waive).await.unwrap();
    let late = {
        let mut late = expired.sign.clone();
        let tradepost_evm::sign::Message::WaiveIntent(waive) = &mut late.message else { panic!("{late:?}") };
        waive.deadline = U256::from(1);
        late.sign(&key("seller")).unwrap()
    };
    let answer = m.rail.relay(m.hold, Act::Waive, expired.nonce, 1, late).await.map(drop);
    assert_eq!(reverted(answer), "SignatureExpired");
}

/// PG-10: what a wallet signed and nobody has used, it takes back: by its own transaction or by a signature.
#[tokio::test]
async fn pg_10_what_was_signed_is_taken_back_before_it_is_used() {
    let m = Metered::new().await;
    let buyer = key("buyer").address();
    for by_signature in [true, false] {
        let act = Act::Release { cumulative: 1_000_000 };
        let release = m.rail.options(m.hold, act).await.unwrap();
        let signed = release.sign.sign(&key("buyer")).unwrap();
        m.stage.enrich(buyer).await;
        let revocation = m.rail.revocation(buyer, release.nonce).await.unwrap();
        assert_eq!((revocation.signer, revocation.recommended), (buyer, Some(Mode::Sponsored)));
        if by_signature {
            let (nonce, deadline) = (revocation.nonce, revocation.deadline);
            let wrong = revocation.sign.sign(&key("seller")).unwrap();
            let refused = m.rail.relay_revocation(buyer, release.nonce, nonce, deadline, wrong).await.map(drop);
            let told = matches!(&refused, Err(EvmError::Signature { what: "RevokeNoncesIntent", .. }));
            assert!(told, "{refused:?}");
            let good = revocation.sign.sign(&key("buyer")).unwrap();
            m.rail.relay_revocation(buyer, release.nonce, nonce, deadline, good).await.unwrap();
            m.stage.mine(1).await;
        } else {
            let call = revocation.call.unwrap();
            m.stage.send(call.from, call.to, call.data.to_vec()).await;
        }
        let late = m.rail.relay(m.hold, act, release.nonce, release.deadline, signed).await.map(drop);
        assert!(
            matches!(&late, Err(EvmError::Reverted(revert)) if revert.name == "NonceAlreadyUsed"),
            "{by_signature}: {late:?}"
        );
    }
    m.sponsored(Act::Release { cumulative: 1_000_000 }, "buyer").await.unwrap();
    assert_eq!(m.stage.balance(key("seller").address()).await, 1_000_000, "what is signed anew counts");
}

/// PG-08: the state, what was earned, claimed, withdrawn, can be claimed and withdrawn, and the window's end, at each
/// step of a life.
#[tokio::test]
async fn pg_08_the_escrow_says_where_everything_is_at_each_step() {
    let m = Metered::new().await;
    let stands = async || {
        let s = m.rail.escrow(m.hold).await.unwrap();
        let [earned, claimed, withdrawn, claimable, withdrawable] =
            [s.earned, s.claimed, s.withdrawn, s.claimable, s.withdrawable].map(Money::minor);
        (s.state, [earned, claimed, withdrawn, claimable, withdrawable], s.final_at)
    };
    let (state, amounts, by_expiry) = stands().await;
    assert_eq!((state.as_str(), amounts), ("open", [0; 5]));
    m.sponsored(receipt(40), "meter").await.unwrap();
    m.sponsored(Act::Release { cumulative: 500_000 }, "buyer").await.unwrap();
    assert_eq!(stands().await.1, [2_000_000, 500_000, 0, 0, 0], "what was released is of what was earned");
    m.sponsored(Act::Close { by: Role::Seller }, "seller").await.unwrap();
    let (state, _, window) = stands().await;
    assert_eq!(state, "closing");
    let left = window.unwrap().timestamp() - m.stage.time().await;
    assert!((24 * 3600 - 60..=24 * 3600).contains(&left), "a block or more was made since: {left}");
    assert!(window < by_expiry);
    m.stage.pass(24 * 3600).await;
    let (state, amounts, _) = stands().await;
    assert_eq!((state.as_str(), amounts), ("finalized", [2_000_000, 500_000, 0, 1_500_000, 3_000_000]));
    m.sponsored(Act::Withdraw, "buyer").await.unwrap();
    assert_eq!(stands().await.1, [2_000_000, 500_000, 3_000_000, 1_500_000, 0]);
    m.sponsored(Act::Claim, "seller").await.unwrap();
    let (state, amounts, _) = stands().await;
    assert_eq!((state.as_str(), amounts), ("settled", [2_000_000, 2_000_000, 3_000_000, 0, 0]));
}

/// PG-11: who signs, the nonce, both ways with the reason where one is closed, what we would take, and a deadline.
#[tokio::test]
async fn pg_11_the_options_of_every_act_say_who_how_and_why_not() {
    let m = Metered::new().await;
    let [buyer, seller, meter] = ["buyer", "seller", "meter"].map(|name| key(name).address());
    m.stage.enrich(buyer).await;
    let no = |way: &Way, part: &str| matches!(way, Way::Not { why } if why.contains(part));
    let mut nonces = Vec::new();
    // The act, who signs, and why it cannot be done; empty where it can.
    for (act, signer, why) in [
        (Act::Close { by: Role::Buyer }, buyer, ""),
        (Act::Close { by: Role::Seller }, seller, ""),
        (Act::Close { by: Role::Arbiter }, alloy_primitives::Address::ZERO, "NotAParty"),
        (Act::Waive, seller, ""),
        (Act::Release { cumulative: 1_000_000 }, buyer, ""),
        (Act::Release { cumulative: 5_000_001 }, buyer, "AboveDeposit"),
        (Act::Claim, seller, "NotFinal"),
        (Act::Withdraw, buyer, "NotFinal"),
    ] {
        let options = m.rail.options(m.hold, act).await.unwrap();
        assert_eq!(options.signer, signer, "{act:?}");
        assert_eq!(i64::try_from(options.deadline).unwrap(), m.stage.time().await + 600, "{act:?}");
        assert!(!nonces.contains(&options.nonce), "{act:?}: a number of its own");
        nonces.push(options.nonce);
        let recommended = match why {
            "" => Some(Mode::Sponsored),
            _ => None,
        };
        assert_eq!(options.recommended, recommended, "{act:?}: {options:?}");
        match (why, signer == buyer) {
            ("", true) => assert_eq!((&options.direct, &options.sponsored), (&Way::Possible, &Way::Possible)),
            ("", false) => assert!(no(&options.direct, "gas") && options.sponsored == Way::Possible, "{options:?}"),
            (why, _) => assert!(no(&options.direct, why) && no(&options.sponsored, why), "{act:?}: {options:?}"),
        }
    }
    let counted = m.rail.options(m.hold, receipt(10)).await.unwrap();
    assert_eq!((counted.signer, counted.recommended), (meter, Some(Mode::Sponsored)));
    assert!(no(&counted.direct, "receipt signer"), "{counted:?}");
    // A platform that has spent what it may sponsors nothing; who can pay for gas does it alone.
    let mut config = m.stage.config.clone();
    config.gas.daily_budget = 1;
    let poor = m.stage.rail_as(config, m.memory.clone()).await;
    let alone = poor.options(m.hold, Act::Close { by: Role::Buyer }).await.unwrap();
    assert_eq!(alone.recommended, Some(Mode::Direct));
    assert!(no(&alone.sponsored, "budget"), "{alone:?}");
    let nobody = poor.options(m.hold, Act::Waive).await.unwrap();
    assert_eq!(nobody.recommended, None, "{nobody:?}");
}
