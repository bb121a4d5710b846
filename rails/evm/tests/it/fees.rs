//! PG-06: the infrastructure fee, by a permit of its own.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use alloy_primitives::{Bytes, U256};
use alloy_sol_types::SolCall;
use serde_json::{Value, json};
use tradepost::{
    agreement::{AgreementStatus, FeeStatus},
    ids::{AgentId, AgreementId, HoldId, InstructionId},
    ledger::{Account, RevenueKind},
    money::{Currency, Money},
    policy::Policy,
    rail::{
        Cursor, EscrowNews, HoldTerms, Instruction, ObservationBody, Order, Outcome, RailMemory, SettlementRail,
        VolatileMemory,
    },
    store::{StoreError, StoreErrorKind},
};
use tradepost_evm::{Answer, Ask, EvmRail, Incident, InfraFee, InfraFeeState};

use crate::{
    nodes::{approve, wallet_contract},
    stage::{self, Market, Stage, key},
};

const FEE: i64 = 250_000;

async fn market() -> Market {
    market_with(|rail| rail).await
}

async fn market_with(with: impl FnOnce(EvmRail) -> EvmRail) -> Market {
    let mut policy = Policy::paegents().unwrap();
    policy.agreements.as_mut().unwrap().infrastructure_fee = Some(FEE);
    Market::open_with(Stage::new().await, policy, with).await
}

async fn fee(m: &Market, id: AgreementId) -> InfraFee {
    m.rail.infra_fee(id.into()).await.unwrap().unwrap()
}

async fn collected(m: &Market, id: AgreementId) {
    let ended = |one: &tradepost::agreement::Agreement| {
        one.infrastructure_fee.is_some_and(|fee| fee.status == FeeStatus::Collected)
    };
    m.until_agreement(id, ended).await;
    let state = fee(m, id).await.state;
    assert!(matches!(state, InfraFeeState::Collected { .. }), "{state:?}");
    assert!(m.told(id).await.contains(&"escrow.fee_collected"));
}

async fn revenue(m: &Market) -> i64 {
    m.market.balance(Account::Revenue(RevenueKind::Infrastructure), None).await.unwrap().minor()
}

/// PG-06: signed beside the activation, taken once the escrow is funded, booked; apart from the hold.
#[tokio::test]
async fn pg_06_the_fee_is_a_second_permit_with_a_status_of_its_own() {
    for choice in ["eip3009", "erc2612_permit"] {
        let m = market().await;
        let id = m.agree_on_units(100).await;
        let (who, instruction, ask) = m.asked(id).await.unwrap();
        assert!(matches!(fee(&m, id).await.state, InfraFeeState::Pending { .. }));
        // The activation's own signature is not enough.
        let mut answer = ask.sign(choice, &key("the buyer")).unwrap();
        let Answer::Signed { fee: permit, .. } = &mut answer else { panic!("{answer:?}") };
        let permit = permit.take().unwrap();
        let refused = m.market.agent(who).answer(instruction, answer.to_text()).await;
        assert_eq!(m.stage.balance(m.stage.config.escrow).await, 0, "{refused:?}");
        let Answer::Signed { fee, .. } = &mut answer else { panic!("{answer:?}") };
        *fee = Some(permit);
        m.answer(who, instruction, &answer).await;
        assert!(matches!(self::fee(&m, id).await.state, InfraFeeState::Submitting { sent: None }));
        m.until_agreement(id, |one| one.status == AgreementStatus::Active).await;
        collected(&m, id).await;
        assert_eq!(m.stage.balance(m.rail.relayer()).await, u128::try_from(FEE).unwrap());
        assert_eq!(m.stage.balance(m.wallet(m.buyer)).await, 100_000_000 - 5_000_000 - 250_000);
        assert_eq!((revenue(&m).await, m.told(id).await.contains(&"escrow.fee_failed")), (FEE, false));
        m.agrees().await;
    }
}

/// PG-06: a permit that somebody else used first is no obstacle; the allowance is there.
#[tokio::test]
async fn pg_06_a_permit_that_was_used_by_somebody_else_is_as_good() {
    let m = market().await;
    let id = m.agree_on_units(100).await;
    let (who, instruction, ask) = m.asked(id).await.unwrap();
    let answer = ask.sign("eip3009", &key("the buyer")).unwrap();
    let Answer::Signed { fee: Some(signature), .. } = &answer else { panic!("{answer:?}") };
    let permit = ask.choices[0].fee.clone().unwrap();
    m.answer(who, instruction, &answer).await;
    m.stage.use_permit(&permit, signature).await;
    m.until_agreement(id, |one| one.status == AgreementStatus::Active).await;
    collected(&m, id).await;
    assert_eq!(revenue(&m).await, FEE);
    m.agrees().await;
}

/// Two agreements whose permits have the same nonce, so that one of them can be used: its fee is collected, the
/// other one's is asked for again.
async fn one_is_spent(m: &Market) -> AgreementId {
    let [first, second] = [m.agree_on_units(100).await, m.agree_on_units(100).await];
    let asks = [m.asked(first).await.unwrap(), m.asked(second).await.unwrap()];
    for (who, instruction, ask) in asks {
        let answer = ask.sign("eip3009", &key("the buyer")).unwrap();
        m.answer(who, instruction, &answer).await;
    }
    for id in [first, second] {
        m.until_agreement(id, |one| one.status == AgreementStatus::Active).await;
    }
    let mut left = Vec::new();
    for _ in 0..40 {
        m.market.work().await.unwrap();
        m.stage.mine(1).await;
        left.clear();
        for id in [first, second] {
            if !matches!(fee(m, id).await.state, InfraFeeState::Collected { .. }) {
                left.push(id);
            }
        }
        if let [one] = left.as_slice()
            && matches!(fee(m, *one).await.state, InfraFeeState::Pending { .. })
        {
            return *one;
        }
    }
    panic!("one permit is spent: {left:?}");
}

/// PG-06: what was signed is good for nothing any more: the agreement goes on, and the payer is asked again.
#[tokio::test]
async fn pg_06_a_spent_permit_is_asked_for_again_and_an_allowance_does_as_well() {
    let m = market().await;
    let one = one_is_spent(&m).await;
    let state = fee(&m, one).await.state;
    let InfraFeeState::Pending { permit, direct } = state else { panic!("{state:?}") };
    let forged = m.rail.pay_infra_fee(one.into(), permit.sign(&key("the worker")).unwrap()).await;
    assert!(forged.is_err(), "{forged:?}");
    m.stage.send(direct.from, direct.to, direct.data.to_vec()).await;
    collected(&m, one).await;
    assert_eq!(revenue(&m).await, 2 * FEE);
    m.agrees().await;
}

/// PG-06: a fee that nobody signs for holds up no other fee of its payer, and takes nothing of another's permit.
#[tokio::test]
async fn pg_06_a_fee_that_waits_for_its_payer_holds_up_no_other() {
    let m = market().await;
    let waits = one_is_spent(&m).await;
    let third = m.agree_on_units(100).await;
    let (who, instruction, ask) = m.asked(third).await.unwrap();
    m.answer(who, instruction, &ask.sign("eip3009", &key("the buyer")).unwrap()).await;
    collected(&m, third).await;
    m.stage.mine(4).await;
    m.market.work().await.unwrap();
    assert!(matches!(fee(&m, waits).await.state, InfraFeeState::Pending { .. }));
    assert_eq!(revenue(&m).await, 2 * FEE);
}

/// PG-06: a transfer from the payer's allowance that fails on chain is tried again.
#[tokio::test]
async fn pg_06_an_allowance_is_tried_again_after_a_failure_on_chain() {
    let m = market().await;
    let one = one_is_spent(&m).await;
    let state = fee(&m, one).await.state;
    let InfraFeeState::Pending { direct, .. } = state else { panic!("{state:?}") };
    m.stage.send(direct.from, direct.to, direct.data.to_vec()).await;
    m.stage.automine(stage::Automine::Off).await;
    m.rail.work().await.unwrap();
    // In the same block, before it, the payer moves its money away.
    let (buyer, worker) = (m.wallet(m.buyer), m.wallet(m.worker));
    let all = U256::from(m.stage.balance(buyer).await);
    let away = stage::transferCall { to: worker, amount: all };
    m.stage.submit(buyer, m.stage.config.token, away.abi_encode()).await;
    m.stage.mine(1).await;
    m.stage.automine(stage::Automine::On).await;
    for _ in 0..6 {
        m.stage.mine(1).await;
        m.market.work().await.unwrap();
    }
    assert_eq!((m.stage.balance(buyer).await, revenue(&m).await), (0, FEE));
    let back = stage::transferCall { to: buyer, amount: all };
    m.stage.send(worker, m.stage.config.token, back.abi_encode()).await;
    collected(&m, one).await;
    assert_eq!(m.stage.balance(m.rail.relayer()).await, 2 * u128::try_from(FEE).unwrap());
}

/// PG-06: a payer that allowed more than the fee pays it once, whatever the node shows of the transfer meanwhile: no
/// receipts at all, or that it failed. A transfer that is lost from sight is an incident, told once.
#[tokio::test]
async fn pg_06_a_transfer_that_the_node_does_not_show_is_not_made_twice() {
    for shown in [json!(null), json!("0x0")] {
        let incidents: Arc<Mutex<Vec<Incident>>> = Arc::default();
        let heard = incidents.clone();
        let m = market_with(|rail| rail.on_incident(move |one| heard.lock().unwrap().push(one.clone()))).await;
        let id = m.agree_on_units(100).await;
        let (who, instruction, ask) = m.asked(id).await.unwrap();
        let allow = stage::approveCall { spender: m.rail.relayer(), amount: U256::from(10 * FEE) };
        m.stage.send(m.wallet(m.buyer), m.stage.config.token, allow.abi_encode()).await;
        m.answer(who, instruction, &ask.sign("eip3009", &key("the buyer")).unwrap()).await;
        m.until_agreement(id, |one| one.status == AgreementStatus::Active).await;
        let lie = shown.clone();
        m.stage.wire.lie("eth_getTransactionReceipt", move |_, answer| match lie.is_null() {
            true => *answer = Value::Null,
            false if answer.is_object() => answer["status"] = lie.clone(),
            false => {}
        });
        for _ in 0..16 {
            m.rail.work().await.unwrap();
            m.stage.mine(1).await;
        }
        assert_eq!(m.stage.balance(m.rail.relayer()).await, u128::try_from(FEE).unwrap(), "{shown}");
        let told = incidents.lock().unwrap().clone();
        match shown.is_null() {
            true => assert!(
                matches!(told.as_slice(), [Incident::LostFee { hold, .. }] if *hold == HoldId::from(id)),
                "{told:?}"
            ),
            false => assert!(told.is_empty(), "{told:?}"),
        }
        m.stage.wire.calm();
        collected(&m, id).await;
        assert_eq!(m.stage.balance(m.rail.relayer()).await, u128::try_from(FEE).unwrap(), "{shown}");
        assert_eq!(revenue(&m).await, FEE);
        m.agrees().await;
    }
}

type Doing = Pin<Box<dyn Future<Output = ()> + Send>>;
type Meanwhile = Box<dyn Fn() -> Doing + Send + Sync>;

/// A memory that does something at one of the looks at a key, or when it is written.
struct While {
    memory: Arc<VolatileMemory>,
    key: &'static str,
    /// After that many looks, or when it is written; never, if it is 0.
    on: Arc<AtomicU32>,
    at: At,
}

enum At {
    /// Happens once, after a look.
    Look(Meanwhile),
    /// Happens once, before it is written.
    Write(Meanwhile),
    /// It cannot be written.
    Gone,
}

#[async_trait::async_trait]
impl RailMemory for While {
    async fn get(&self, key: &str) -> Result<Option<String>, StoreError> {
        let seen = self.memory.get(key).await;
        if let At::Look(meanwhile) = &self.at
            && key.starts_with(self.key)
            && self.on.load(Ordering::SeqCst) > 0
            && self.on.fetch_sub(1, Ordering::SeqCst) == 1
        {
            meanwhile().await;
        }
        seen
    }

    async fn swap(&self, key: &str, from: Option<&str>, to: &str) -> Result<bool, StoreError> {
        if key.starts_with(self.key) && self.on.load(Ordering::SeqCst) > 0 {
            match &self.at {
                At::Look(_) => {}
                At::Gone => return Err(StoreError::new(StoreErrorKind::Unavailable, "it is gone")),
                At::Write(meanwhile) => {
                    self.on.store(0, Ordering::SeqCst);
                    meanwhile().await;
                }
            }
        }
        self.memory.swap(key, from, to).await
    }
}

/// An order for a hold of a dollar with a fee besides, whose parties' wallets are linked and filled.
async fn with_fee(stage: &Stage, rail: &EvmRail) -> Instruction {
    let [payer, payee] = [1, 2].map(|number| AgentId(uuid::Uuid::from_u128(number)));
    rail.link_wallet(payer, key("payer").address()).await.unwrap();
    rail.link_wallet(payee, key("payee").address()).await.unwrap();
    stage.mint(key("payer").address(), 2_000_000).await;
    let contract = uuid::Uuid::from_u128(3);
    let infrastructure_fee = Some(Money::new(FEE, Currency::USDC));
    let terms = Box::new(HoldTerms { payee: Some(payee), infrastructure_fee, ..HoldTerms::default() });
    let order = Order::Fund { hold: HoldId(contract), payer, amount: Money::new(1_000_000, Currency::USDC), terms };
    Instruction { id: InstructionId::derive(contract, 0), contract, order, answer: None }
}

/// PG-06: of two processes one has not seen what the other does meanwhile: it takes the fee from the payer's
/// allowance, which reaches for several; or the payer signs a permit, and it takes it by that. It is taken once.
#[tokio::test]
async fn pg_06_two_processes_take_one_fee() {
    for signs in [false, true] {
        let stage = Stage::new().await;
        let memory = Arc::new(VolatileMemory::default());
        let one = Arc::new(stage.rail(memory.clone()).await);
        let mut fund = with_fee(&stage, &one).await;
        let hold = HoldId(fund.contract);
        let Outcome::NeedsAction(action) = one.execute(&fund).await.unwrap() else { panic!("nobody is asked") };
        let ask = Ask::parse(&action.payload).unwrap();
        let direct = ask.choices.iter().find_map(|choice| choice.direct.clone()).unwrap();
        for (spender, amount) in [(stage.config.escrow, 1_000_000), (one.relayer(), 10 * FEE)] {
            let allow = stage::approveCall { spender, amount: U256::from(amount) };
            stage.send(direct.from, stage.config.token, allow.abi_encode()).await;
        }
        fund.answer = Some(Answer::Sent.to_text());
        one.execute(&fund).await.unwrap();
        stage.send(direct.from, direct.to, direct.data.to_vec()).await;
        stage.mine(3).await;
        // Its first look is at how far the fee is, the second is when it sends the transfer.
        let looks = Arc::new(AtomicU32::new(2));
        let other = one.clone();
        let meanwhile = move || -> Doing {
            let other = other.clone();
            Box::pin(async move {
                if signs {
                    let fee = other.infra_fee(hold).await.unwrap().unwrap();
                    let InfraFeeState::Pending { permit, .. } = fee.state else { panic!("{fee:?}") };
                    other.pay_infra_fee(hold, permit.sign(&key("payer")).unwrap()).await.unwrap();
                }
                other.work().await.unwrap();
            })
        };
        let at = At::Look(Box::new(meanwhile));
        let two = While { memory: memory.clone(), key: "lost/fee/take/", on: looks.clone(), at };
        let two = stage.rail(Arc::new(two)).await;
        two.work().await.unwrap();
        assert_eq!(looks.load(Ordering::SeqCst), 0, "the other process worked in between");
        for _ in 0..8 {
            stage.mine(1).await;
            two.work().await.unwrap();
        }
        let state = two.infra_fee(hold).await.unwrap().unwrap().state;
        assert!(matches!(state, InfraFeeState::Collected { .. }), "{signs}: {state:?}");
        assert_eq!(stage.balance(two.relayer()).await, u128::try_from(FEE).unwrap(), "{signs}");
    }
}

/// PG-06: of two processes that read the same blocks one sees the fee end and dies before it can tell, the other
/// does not see it and publishes: the end is told all the same, and once.
#[tokio::test]
async fn pg_06_a_fee_that_ended_is_told_by_whoever_publishes_next() {
    let stage = Stage::new().await;
    let memory = Arc::new(VolatileMemory::default());
    let [dies, meanwhile, hidden] = [(); 3].map(|()| Arc::new(AtomicU32::new(0)));
    let one = While { memory: memory.clone(), key: "page/", on: dies.clone(), at: At::Gone };
    let one = Arc::new(stage.rail(Arc::new(one)).await);
    let works = move || -> Doing {
        let one = one.clone();
        Box::pin(async move { assert!(one.work().await.is_err(), "it dies before it can tell") })
    };
    let at = At::Write(Box::new(works));
    let two = While { memory: memory.clone(), key: "chain", on: meanwhile.clone(), at };
    let two = stage.rail(Arc::new(two)).await;
    let mut fund = with_fee(&stage, &two).await;
    let hold = HoldId(fund.contract);
    let allow = stage::approveCall { spender: two.relayer(), amount: U256::from(FEE) };
    stage.send(key("payer").address(), stage.config.token, allow.abi_encode()).await;
    let Outcome::NeedsAction(action) = two.execute(&fund).await.unwrap() else { panic!("nobody is asked") };
    fund.answer = Some(Ask::parse(&action.payload).unwrap().sign("eip3009", &key("payer")).unwrap().to_text());
    two.execute(&fund).await.unwrap();
    stage.mine(3).await;
    two.work().await.unwrap();
    // The fee's transfer is sent. Its receipt is not there until the other process looks.
    hidden.store(1, Ordering::SeqCst);
    let (hides, works) = (hidden.clone(), meanwhile.clone());
    stage.wire.lie("eth_getTransactionReceipt", move |_, answer| {
        if hides.load(Ordering::SeqCst) > 0 && works.load(Ordering::SeqCst) > 0 {
            *answer = Value::Null;
        }
    });
    dies.store(1, Ordering::SeqCst);
    meanwhile.store(1, Ordering::SeqCst);
    stage.mine(3).await;
    two.work().await.unwrap();
    assert_eq!(meanwhile.load(Ordering::SeqCst), 0, "the other process worked in between");
    let state = two.infra_fee(hold).await.unwrap().unwrap().state;
    assert!(matches!(state, InfraFeeState::Collected { .. }), "{state:?}");
    let (mut at, mut told) = (Cursor::default(), Vec::new());
    for _ in 0..8 {
        let page = two.observe(&at).await.unwrap();
        told.extend(page.items);
        at = page.next;
        stage.mine(1).await;
    }
    let is_end =
        |body: &ObservationBody| matches!(body, ObservationBody::Escrow { news: EscrowNews::FeeCollected { .. }, .. });
    assert_eq!(told.iter().filter(|item| is_end(&item.body)).count(), 1, "{told:?}");
}

/// PG-06, PG-04: the fee's permit counts on from the nonce that the payer was shown; that it is used meanwhile is no
/// reason to refuse the funding.
#[tokio::test]
async fn pg_06_a_nonce_that_is_used_meanwhile_refuses_no_funding() {
    let m = market().await;
    let id = m.agree_on_units(100).await;
    let (who, instruction, ask) = m.asked(id).await.unwrap();
    let answer = ask.sign("eip3009", &key("the buyer")).unwrap();
    let Answer::Signed { fee: Some(signature), .. } = &answer else { panic!("{answer:?}") };
    m.stage.use_permit(&ask.choices[0].fee.clone().unwrap(), signature).await;
    m.answer(who, instruction, &answer).await;
    collected(&m, id).await;
    m.agrees().await;
}

/// PG-06, PG-10: a wallet contract signs no permit of the token's: it funds without, and allows the fee instead.
#[tokio::test]
async fn pg_06_a_wallet_contract_funds_by_signature_and_allows_the_fee() {
    let m = market().await;
    let id = m.agree_on_units(100).await;
    wallet_contract(&m.stage, "the buyer").await;
    let (who, instruction, ask) = m.asked(id).await.unwrap();
    for message in &ask.choices[0].sign {
        approve(&m.stage, "the buyer", message.digest()).await;
    }
    let signatures = ask.choices[0].sign.iter().map(|_| Bytes::from_static(b"approved")).collect();
    m.answer(who, instruction, &Answer::Signed { choice: "eip3009".into(), signatures, fee: None }).await;
    m.until_agreement(id, |one| one.status == AgreementStatus::Active).await;
    let state = fee(&m, id).await.state;
    let InfraFeeState::Pending { direct, .. } = state else { panic!("{state:?}") };
    m.stage.send(direct.from, direct.to, direct.data.to_vec()).await;
    collected(&m, id).await;
    m.agrees().await;
}

/// Trouble with one fee keeps no other hold from being read.
#[tokio::test]
async fn pg_06_an_error_about_a_fee_stops_no_hold() {
    let m = market().await;
    let allowance =
        format!("0x{}", alloy_primitives::hex::encode(&alloy_primitives::keccak256("allowance(address,address)")[..4]));
    m.stage.wire.lie("eth_call", move |params, answer| {
        if params[0]["data"].as_str().is_some_and(|data| data.starts_with(&allowance)) {
            *answer = json!("0x");
        }
    });
    let mut agreed = Vec::new();
    for _ in 0..2 {
        let id = m.agree_on_units(100).await;
        let (who, instruction, ask) = m.asked(id).await.unwrap();
        m.answer(who, instruction, &ask.sign("eip3009", &key("the buyer")).unwrap()).await;
        m.until_agreement(id, |one| one.status == AgreementStatus::Active).await;
        agreed.push(id);
    }
    assert_eq!(revenue(&m).await, 0);
    m.stage.wire.calm();
    collected(&m, agreed[0]).await;
}

/// PG-06: a payer who takes its money elsewhere does not pay; the agreement stands, and the fee has failed.
#[tokio::test]
async fn pg_06_a_fee_that_is_not_paid_fails_and_the_agreement_stands() {
    let m = market().await;
    let id = m.agree_on_units(100).await;
    let (who, instruction, ask) = m.asked(id).await.unwrap();
    m.answer(who, instruction, &ask.sign("eip3009", &key("the buyer")).unwrap()).await;
    m.stage.mine(1).await;
    let rest = stage::transferCall { to: m.wallet(m.worker), amount: U256::from(95_000_000) };
    m.stage.send(m.wallet(m.buyer), m.stage.config.token, rest.abi_encode()).await;
    m.until_agreement(id, |one| one.status == AgreementStatus::Active).await;
    let expiry = m.market.agreement(id).await.unwrap().terms.expiry.timestamp();
    m.stage.pass(u64::try_from(expiry - m.stage.time().await).unwrap() + 700).await;
    let failed = |one: &tradepost::agreement::Agreement| {
        one.infrastructure_fee.is_some_and(|fee| fee.status == FeeStatus::Failed)
    };
    m.until_agreement(id, failed).await;
    assert!(m.told(id).await.contains(&"escrow.fee_failed"));
    assert!(matches!(fee(&m, id).await.state, InfraFeeState::Failed { .. }));
    assert_eq!((revenue(&m).await, m.stage.balance(m.rail.relayer()).await), (0, 0));
    let late = m.rail.pay_infra_fee(id.into(), Bytes::new()).await;
    assert!(late.is_err(), "{late:?}");
    m.agrees().await;
}
