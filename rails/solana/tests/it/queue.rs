//! Whose turn it is: what cannot be paid waits, is declined or taken back, and keeps nobody else waiting (JP-26).

use solana_instruction::error::InstructionError;
use solana_keypair::Keypair;
use solana_pubkey::Pubkey;
use solana_signer::Signer as _;
use solana_transaction_error::TransactionError;
use spl_token_interface::{ID as TOKEN, instruction as token};
use tradepost::rail::{Instruction, Outcome, RailErrorKind, SettlementRail};
use tradepost_solana::{Incident, SolanaRail, Spent};

use crate::{
    front::Fault,
    withdrawals::{declined_as, funded, is_done, written_down},
    world::{SOL, World},
};

/// JP-26: the receiver closes its token account between the check and the block: it is made anew, once.
#[tokio::test]
async fn an_account_that_is_closed_meanwhile_is_made_again() {
    let (world, rail) = funded(47).await;
    let receiver = Keypair::new();
    world.send(&[world.create_account(&receiver.pubkey())], &[]).await;
    let other = Keypair::new().pubkey();
    let payouts = [world.payout(receiver.pubkey(), 2_000_000), world.payout(other, 1_000_000)];
    for payout in &payouts {
        rail.execute(payout).await.unwrap();
    }
    world.front().node().hold_next = 8;
    assert_eq!(rail.work().await.unwrap().sent, 1);
    let account = world.account_of(&receiver.pubkey());
    let close = token::close_account(&TOKEN, &account, &receiver.pubkey(), &receiver.pubkey(), &[]).unwrap();
    world.send(&[close], &[&receiver]).await;
    world.settle(&rail).await;
    assert!(is_done(&rail, &payouts[0]).await && is_done(&rail, &payouts[1]).await);
    assert_eq!((world.tokens(&receiver.pubkey()).await, world.tokens(&other).await), (2_000_000, 1_000_000));
    assert!(rail.spent(payouts[0].id).await.unwrap().unwrap().rent > 0);
    let told = world.incidents();
    assert!(matches!(told[..], [Incident::WithdrawalFailed { failures: 1, .. }]), "{told:?}");
}

/// Of two withdrawals in a transaction one goes bad on its way: it is declined, and the other is paid.
pub async fn one_goes_bad(world: &World, rail: &SolanaRail) -> Instruction {
    let (bad, good) = (Keypair::new().pubkey(), Keypair::new().pubkey());
    let issuer = world.issuer.pubkey();
    world.send(&[world.create_account(&bad)], &[]).await;
    let payouts = [world.payout(bad, 2_000_000), world.payout(good, 1_000_000)];
    for payout in &payouts {
        rail.execute(payout).await.unwrap();
    }
    world.front().node().hold_next = 8;
    assert_eq!(rail.work().await.unwrap().sent, 1);
    let freeze = token::freeze_account(&TOKEN, &world.account_of(&bad), &world.mint, &issuer, &[]).unwrap();
    world.send(&[freeze], &[]).await;
    world.settle(rail).await;
    assert_eq!(declined_as(rail, &payouts[0]).await, "account_frozen");
    assert!(is_done(rail, &payouts[1]).await);
    assert_eq!((world.tokens(&bad).await, world.tokens(&good).await), (0, 1_000_000));
    let [declined, _] = payouts;
    declined
}

/// JP-26: what is declined stays so, however often it is asked for.
#[tokio::test]
async fn a_frozen_receiver_does_not_stop_the_others() {
    let (world, rail) = funded(48).await;
    let declined = one_goes_bad(&world, &rail).await;
    assert_eq!(rail.execute(&declined).await.unwrap(), rail.lookup(&declined).await.unwrap().unwrap());
}

/// JP-26: the issuer froze the treasury, or it is short of something: withdrawals wait, and it is told which.
#[tokio::test]
async fn a_treasury_in_trouble_is_told_and_waited_for() {
    let (mut world, rail) = funded(49).await;
    let issuer = world.issuer.pubkey();
    let payout = world.payout(Keypair::new().pubkey(), 5_000_000);
    rail.execute(&payout).await.unwrap();
    let account = world.account_of(&rail.treasury());
    let freeze = token::freeze_account(&TOKEN, &account, &world.mint, &issuer, &[]).unwrap();
    world.send(&[freeze], &[]).await;
    assert_eq!(rail.work().await.unwrap().sent, 0);
    assert_eq!(world.incidents(), [Incident::TreasuryFrozen { account }]);
    // A node that cannot be reached, or has no time, is another matter.
    for (fault, busy) in [(Fault::LoseRequest, false), (Fault::Busy, true)] {
        world.front().next(None, fault);
        let error = rail.work().await.unwrap_err();
        assert_eq!(matches!(error.kind(), RailErrorKind::Busy(_)), busy, "{error}");
        assert_eq!(matches!(error.kind(), RailErrorKind::NotSent), !busy, "{error}");
        assert_eq!(world.incidents(), []);
    }
    let thaw = token::thaw_account(&TOKEN, &account, &world.mint, &issuer, &[]).unwrap();
    world.send(&[thaw], &[]).await;
    // More than there is waits; what fits goes by.
    let large = world.payout(Keypair::new().pubkey(), 2_000_000_000);
    rail.execute(&large).await.unwrap();
    for _ in 0..20 {
        rail.work().await.unwrap();
        world.block().await;
    }
    assert!(is_done(&rail, &payout).await);
    assert!(matches!(rail.lookup(&large).await.unwrap(), Some(Outcome::Pending { .. })));
    let told = world.incidents();
    let needed = large.order.amount();
    assert!(told.iter().all(|told| matches!(told, Incident::LowToken { needed: n, .. } if *n == needed)), "{told:?}");
    world.issue(&rail.treasury(), 2_000_000_000).await;
    world.settle(&rail).await;
    assert!(is_done(&rail, &large).await);
    // No SOL for the rent of a new account.
    world.config.low_sol = 60 * SOL;
    let rail = world.rail().await;
    world.incidents();
    rail.work().await.unwrap();
    let told = world.incidents();
    assert!(matches!(told[..], [Incident::LowSol { floor, .. }] if floor == 60 * SOL), "{told:?}");
}

/// JP-26: any number of withdrawals that are more than the treasury has wait, and those behind them are paid, also one
/// that failed before.
#[tokio::test]
async fn jp_26_what_the_treasury_cannot_pay_stops_nobody() {
    let (world, rail) = funded(63).await;
    let receiver = Keypair::new();
    world.send(&[world.create_account(&receiver.pubkey())], &[]).await;
    let failed = world.payout(receiver.pubkey(), 2_000_000);
    rail.execute(&failed).await.unwrap();
    world.front().node().hold_next = 8;
    assert_eq!(rail.work().await.unwrap().sent, 1);
    let account = world.account_of(&receiver.pubkey());
    let close = token::close_account(&TOKEN, &account, &receiver.pubkey(), &receiver.pubkey(), &[]).unwrap();
    world.send(&[close], &[&receiver]).await;
    let large: Vec<Instruction> = (0..25).map(|i| world.payout(Keypair::new().pubkey(), 2_000_000_000 + i)).collect();
    let small: Vec<Instruction> = (0..12).map(|_| world.payout(Keypair::new().pubkey(), 1_000_000)).collect();
    for payout in large.iter().chain(&small) {
        rail.execute(payout).await.unwrap();
    }
    for _ in 0..40 {
        rail.work().await.unwrap();
        world.block().await;
    }
    for payout in small.iter().chain([&failed]) {
        assert!(is_done(&rail, payout).await);
    }
    for payout in &large {
        assert!(matches!(rail.lookup(payout).await.unwrap(), Some(Outcome::Pending { .. })));
    }
    let needed = large[0].order.amount();
    let told = world.incidents();
    assert!(told.iter().all(|told| match told {
        Incident::LowToken { needed: n, .. } => *n == needed,
        other => matches!(other, Incident::WithdrawalFailed { failures: 1, .. }),
    }));
}

/// JP-26: with too little SOL for the rent of new accounts, withdrawals to those that exist go by.
#[tokio::test]
async fn jp_26_new_accounts_that_cannot_be_paid_for_stop_nobody() {
    let (world, rail) = funded(64).await;
    let there = Keypair::new().pubkey();
    world.send(&[world.create_account(&there)], &[]).await;
    let all = world.rpc.get_balance(&rail.treasury()).await.unwrap();
    let (treasury, issuer) = (world.key(0), world.issuer.pubkey());
    let drain = solana_system_interface::instruction::transfer(&treasury.pubkey(), &issuer, all - 1_000_000);
    world.send(&[drain], &[&treasury]).await;
    let new: Vec<Instruction> = (0..25).map(|_| world.payout(Keypair::new().pubkey(), 1_000_000)).collect();
    let old = world.payout(there, 1_000_000);
    for payout in new.iter().chain([&old]) {
        rail.execute(payout).await.unwrap();
    }
    for _ in 0..10 {
        rail.work().await.unwrap();
        world.block().await;
    }
    assert!(is_done(&rail, &old).await);
    assert!(world.incidents().iter().all(|told| matches!(told, Incident::LowSol { .. })));
    world.airdrop(&rail.treasury(), SOL).await;
    world.settle(&rail).await;
    for payout in &new {
        assert!(is_done(&rail, payout).await);
    }
}

/// JP-26: the issuer freezes the treasury, and that is not final yet: withdrawals wait, none is at fault.
#[tokio::test]
async fn jp_26_a_treasury_that_was_just_frozen_declines_nothing() {
    let (world, rail) = funded(65).await;
    let payouts: Vec<Instruction> = (0..5).map(|_| world.payout(Keypair::new().pubkey(), 1_000_000)).collect();
    for payout in &payouts {
        rail.execute(payout).await.unwrap();
    }
    let account = world.account_of(&rail.treasury());
    let issuer = world.issuer.pubkey();
    let freeze = token::freeze_account(&TOKEN, &account, &world.mint, &issuer, &[]).unwrap();
    world.front().node().run_now(&[freeze], &[&world.issuer]);
    world.block().await;
    for _ in 0..10 {
        assert_eq!(rail.work().await.unwrap().sent, 0);
    }
    assert_eq!(world.incidents(), [], "whose account is frozen is not known yet");
    for _ in 0..5 {
        world.block().await;
    }
    rail.work().await.unwrap();
    assert_eq!(world.incidents(), [Incident::TreasuryFrozen { account }]);
    let thaw = token::thaw_account(&TOKEN, &account, &world.mint, &issuer, &[]).unwrap();
    world.send(&[thaw], &[]).await;
    world.settle(&rail).await;
    for payout in &payouts {
        assert!(is_done(&rail, payout).await);
    }
}

/// JP-26: the receiver has just closed its token account, which is not final yet: it is made anew.
#[tokio::test]
async fn jp_26_an_account_that_was_just_closed_is_made_again() {
    let (world, rail) = funded(66).await;
    let receiver = Keypair::new();
    world.send(&[world.create_account(&receiver.pubkey())], &[]).await;
    let account = world.account_of(&receiver.pubkey());
    let payouts = [world.payout(receiver.pubkey(), 2_000_000), world.payout(Keypair::new().pubkey(), 1_000_000)];
    for payout in &payouts {
        rail.execute(payout).await.unwrap();
    }
    let close = token::close_account(&TOKEN, &account, &receiver.pubkey(), &receiver.pubkey(), &[]).unwrap();
    world.front().node().run_now(&[close], &[&world.issuer, &receiver]);
    world.block().await;
    let before = world.rpc.get_balance(&rail.treasury()).await.unwrap();
    world.settle(&rail).await;
    let mut spent = 0;
    for payout in &payouts {
        assert!(is_done(&rail, payout).await);
        let Spent { fee, rent } = rail.spent(payout.id).await.unwrap().unwrap();
        assert!(rent > 0);
        spent += fee + rent;
    }
    assert_eq!(world.tokens(&receiver.pubkey()).await, 2_000_000);
    assert_eq!(before - world.rpc.get_balance(&rail.treasury()).await.unwrap(), spent);
    let told = world.incidents();
    assert!(matches!(told[..], [Incident::WithdrawalFailed { failures: 1, .. }]), "{told:?}");
}

/// JP-26: a node that says of everything that it would fail declines nothing in a hurry.
#[tokio::test]
async fn jp_26_a_simulation_that_fails_counts_once_and_is_slept_on() {
    let (world, rail) = funded(68).await;
    let payouts: Vec<Instruction> = (0..5).map(|_| world.payout(Keypair::new().pubkey(), 1_000_000)).collect();
    for payout in &payouts {
        rail.execute(payout).await.unwrap();
    }
    let error = InstructionError::InvalidAccountData;
    world.front().node().simulates = Some(TransactionError::InstructionError(0, error));
    for round in 0..20 {
        rail.work().await.unwrap();
        let told = world.incidents();
        assert_eq!(told.len(), usize::from(round < 5), "{told:?}");
        assert!(told.iter().all(|told| matches!(told, Incident::WithdrawalFailed { failures: 1, .. })), "{told:?}");
    }
    world.front().node().simulates = None;
    world.settle(&rail).await;
    for payout in &payouts {
        assert!(is_done(&rail, payout).await);
    }
}

/// JP-26: a withdrawal above the limit waits for an operator, who approves it or says why not.
#[tokio::test]
async fn a_large_one_waits_for_an_operator() {
    let (mut world, _) = funded(50).await;
    world.config.approval_above = Some(10_000_000);
    let rail = world.rail().await;
    let wallets: Vec<Pubkey> = (0..3).map(|_| Keypair::new().pubkey()).collect();
    let mut payouts: Vec<Instruction> = [10_000_000, 10_000_001, 20_000_000]
        .into_iter()
        .zip(&wallets)
        .map(|(minor, wallet)| world.payout(wallet, minor))
        .collect();
    for payout in &payouts {
        rail.execute(payout).await.unwrap();
    }
    for _ in 0..20 {
        rail.work().await.unwrap();
        world.block().await;
    }
    assert!(is_done(&rail, &payouts[0]).await);
    for payout in &payouts[1..] {
        assert!(matches!(rail.lookup(payout).await.unwrap(), Some(Outcome::NeedsAction(_))));
    }
    payouts[1].answer = Some("approve".into());
    payouts[2].answer = Some("this is not the worker we know".into());
    for payout in &payouts[1..] {
        rail.execute(payout).await.unwrap();
    }
    world.settle(&rail).await;
    assert!(is_done(&rail, &payouts[1]).await);
    assert_eq!(declined_as(&rail, &payouts[2]).await, "refused_by_operator");
    assert_eq!(world.tokens(&wallets[2]).await, 0);
}

/// JP-26: one transaction that cannot be followed keeps no other waiting.
#[tokio::test]
async fn jp_26_one_failure_stops_no_other() {
    let (mut world, _) = funded(71).await;
    world.config.batch = 1;
    let rail = world.rail().await;
    let payouts = [1_000_000, 2_000_000, 3_000_000].map(|minor| world.payout(Keypair::new().pubkey(), minor));
    for payout in &payouts[..2] {
        rail.execute(payout).await.unwrap();
        assert_eq!(rail.work().await.unwrap().sent, 1);
        world.block().await;
    }
    for _ in 0..5 {
        world.block().await;
    }
    rail.execute(&payouts[2]).await.unwrap();
    // The node has lost what the first one did.
    world.front().next(Some("getTransaction"), Fault::LoseEffects);
    let error = rail.work().await.unwrap_err();
    assert_eq!(error.kind(), RailErrorKind::NotSent, "{error}");
    assert!(is_done(&rail, &payouts[1]).await);
    assert_eq!(written_down(&world).await.len(), 2, "the first one still, and the third");
    world.settle(&rail).await;
    for payout in &payouts {
        assert!(is_done(&rail, payout).await);
    }
}

/// JP-26: an operator takes back what was not signed yet, wherever it waits, and it is never paid; what was signed is
/// not taken back.
#[tokio::test]
async fn jp_26_what_was_not_signed_can_be_cancelled() {
    let (mut world, _) = funded(72).await;
    world.config.approval_above = Some(2_000_000_000);
    let rail = world.rail().await;
    let [large, held, fresh, paid] =
        [1_500_000_000, 2_500_000_000, 1_000_000, 2_000_000].map(|minor| world.payout(Keypair::new().pubkey(), minor));
    for payout in [&large, &held] {
        rail.execute(payout).await.unwrap();
    }
    rail.work().await.unwrap();
    for payout in [&large, &held, &fresh] {
        for _ in 0..2 {
            rail.cancel(payout, "it takes too long").await.unwrap();
            assert_eq!(declined_as(&rail, payout).await, "cancelled");
        }
        assert!(matches!(rail.execute(payout).await.unwrap(), Outcome::Declined(_)));
    }
    let mut other = large.clone();
    other.order = held.order.clone();
    assert_eq!(rail.cancel(&other, "another order").await.unwrap_err().kind(), RailErrorKind::Refused);
    rail.execute(&paid).await.unwrap();
    assert_eq!(rail.work().await.unwrap().sent, 1);
    assert_eq!(rail.cancel(&paid, "too late").await.unwrap_err().kind(), RailErrorKind::Refused);
    world.issue(&rail.treasury(), 5_000_000_000).await;
    world.settle(&rail).await;
    assert!(is_done(&rail, &paid).await);
    assert_eq!(rail.cancel(&paid, "too late").await.unwrap_err().kind(), RailErrorKind::Refused);
    assert_eq!(world.tokens(&rail.treasury()).await, 5_998_000_000);
}
