//! PG-06: the infrastructure fee, by a permit of its own.

use alloy_primitives::{Bytes, U256};
use alloy_sol_types::SolCall;
use tradepost::{
    agreement::{AgreementStatus, FeeStatus},
    ids::AgreementId,
    ledger::{Account, RevenueKind},
    policy::Policy,
};
use tradepost_evm::{Answer, InfraFee, InfraFeeState};

use crate::stage::{self, Market, Stage, key};

const FEE: i64 = 250_000;

async fn market() -> Market {
    let mut policy = Policy::paegents().unwrap();
    policy.agreements.as_mut().unwrap().infrastructure_fee = Some(FEE);
    Market::open(Stage::new().await, policy).await
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

/// PG-06: what was signed is good for nothing any more: the agreement goes on, and the payer is asked again.
#[tokio::test]
async fn pg_06_a_spent_permit_is_asked_for_again_and_an_allowance_does_as_well() {
    let m = market().await;
    let [first, second] = [m.agree_on_units(100).await, m.agree_on_units(100).await];
    // Both permits have the same nonce, so that one of them can be used.
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
            if !matches!(fee(&m, id).await.state, InfraFeeState::Collected { .. }) {
                left.push(id);
            }
        }
        if let [one] = left.as_slice()
            && matches!(fee(&m, *one).await.state, InfraFeeState::Pending { .. })
        {
            break;
        }
    }
    let [one] = left.as_slice() else { panic!("one permit is spent: {left:?}") };
    let state = fee(&m, *one).await.state;
    let InfraFeeState::Pending { permit, direct } = state else { panic!("{state:?}") };
    let forged = m.rail.pay_infra_fee((*one).into(), permit.sign(&key("the worker")).unwrap()).await;
    assert!(forged.is_err(), "{forged:?}");
    m.stage.send(direct.from, direct.to, direct.data.to_vec()).await;
    collected(&m, *one).await;
    assert_eq!(revenue(&m).await, 2 * FEE);
    m.agrees().await;
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
    m.stage.pass(u64::try_from(expiry - m.stage.time().await).unwrap() + 10).await;
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
