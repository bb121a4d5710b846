//! Withdrawals: paid once, whatever the network, the node and the process do (JP-26).

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use futures::future::join_all;
use serde_json::Value;
use solana_instruction::error::InstructionError;
use solana_keypair::Keypair;
use solana_pubkey::Pubkey;
use solana_signature::Signature;
use solana_signer::Signer as _;
use solana_transaction_error::TransactionError;
use spl_token_interface::{
    ID as TOKEN,
    instruction::{self as token, AuthorityType},
};
use tradepost::rail::{Instruction, Order, Outcome, RailErrorKind, SettlementRail};
use tradepost_solana::{
    AddressError, AddressWarning, Finality, Incident, Key, SeedSigner, Signer, SignerError, SolanaConfig, SolanaRail,
    Spent,
};

use crate::{
    front::Fault,
    world::{SOL, World},
};

/// A rail whose treasury holds 1000 USDC.
async fn funded(seed: u64) -> (World, SolanaRail) {
    let world = World::simulated(seed).await;
    let rail = world.rail().await;
    world.issue(&rail.treasury(), 1_000_000_000).await;
    (world, rail)
}

pub async fn declined_as(rail: &SolanaRail, payout: &Instruction) -> String {
    match rail.lookup(payout).await.unwrap() {
        Some(Outcome::Declined(decline)) => decline.code,
        other => panic!("{other:?} is no decline"),
    }
}

pub async fn is_done(rail: &SolanaRail, payout: &Instruction) -> bool {
    match rail.lookup(payout).await.unwrap() {
        Some(Outcome::Done(receipt)) => payout.check(&receipt).is_ok(),
        _ => false,
    }
}

/// The transactions that are written down as being on their way: signatures and bytes.
pub async fn written_down(world: &World) -> Vec<(String, String)> {
    let text = world.memory.get("outgoing").await.unwrap().unwrap_or_else(|| "{}".into());
    let note: Value = serde_json::from_str(&text).unwrap();
    let text = |batch: &Value, field: &str| batch[field].as_str().unwrap().to_owned();
    let batches = note["batches"].as_array().cloned().unwrap_or_default();
    batches.iter().map(|batch| (text(batch, "signature"), text(batch, "bytes"))).collect()
}

/// JP-26: the bytes are written down before they are sent, and the same bytes are sent until they land.
#[tokio::test]
async fn what_is_sent_was_written_down_and_is_sent_again_unchanged() {
    let (world, rail) = funded(40).await;
    let wallet = Keypair::new().pubkey();
    let payout = world.payout(wallet, 5_000_000);
    rail.execute(&payout).await.unwrap();
    assert_eq!(written_down(&world).await, [], "accepted, not signed");
    world.front().next(Some("sendTransaction"), Fault::LoseRequest);
    assert_eq!(rail.work().await.unwrap().sent, 1);
    let first = written_down(&world).await;
    assert_eq!(first.len(), 1);
    // Another process takes over, and its first send is lost as well.
    let rail = world.rail().await;
    world.front().next(Some("sendTransaction"), Fault::LoseAnswer);
    rail.work().await.unwrap();
    assert_eq!(written_down(&world).await, first);
    world.settle(&rail).await;
    assert!(is_done(&rail, &payout).await);
    let Some(Outcome::Done(receipt)) = rail.lookup(&payout).await.unwrap() else { panic!("not done") };
    assert!(receipt.reference.starts_with(&first[0].0), "{}", receipt.reference);
    assert_eq!(world.tokens(&wallet).await, 5_000_000);
}

/// JP-26: signed anew only once the finalized height is past the last one that could take the old bytes.
#[tokio::test]
async fn a_new_signature_only_when_the_old_one_can_never_land() {
    let (world, rail) = funded(41).await;
    let wallet = Keypair::new().pubkey();
    let payout = world.payout(wallet, 5_000_000);
    rail.execute(&payout).await.unwrap();
    world.front().node().lose = 1000;
    let mut signatures = BTreeSet::new();
    let mut blocks = 0;
    while signatures.len() < 2 {
        rail.work().await.unwrap();
        signatures.extend(written_down(&world).await.into_iter().map(|(signature, _)| signature));
        world.block().await;
        blocks += 1;
        assert!(blocks < 100, "it is never signed anew");
    }
    let valid_for = world.front().node().valid_for;
    assert!(blocks > valid_for, "signed anew after {blocks} blocks, the first was good for {valid_for}");
    world.front().node().lose = 0;
    world.settle(&rail).await;
    assert!(is_done(&rail, &payout).await);
    assert_eq!(world.tokens(&wallet).await, 5_000_000);
}

/// JP-26: it landed, but the node is behind or has forgotten: nothing is signed anew by such a node's word.
#[tokio::test]
async fn a_node_that_does_not_know_is_not_believed() {
    let (world, rail) = funded(42).await;
    let wallet = Keypair::new().pubkey();
    let payout = world.payout(wallet, 5_000_000);
    rail.execute(&payout).await.unwrap();
    rail.work().await.unwrap();
    let first = written_down(&world).await;
    for _ in 0..60 {
        world.block().await;
    }
    assert_eq!(world.tokens(&wallet).await, 5_000_000, "it landed");
    let slot = world.front().node().slot();
    world.front().node().oldest = slot - 2;
    for _ in 0..10 {
        rail.work().await.unwrap();
        assert_eq!(written_down(&world).await, first);
    }
    let signature: Signature = first[0].0.parse().unwrap();
    let told = world.incidents();
    assert!(
        told.iter().all(|told| matches!(told, Incident::HistoryGone { signature: of, .. } if *of == signature)),
        "{told:?}"
    );
    assert!(!told.is_empty());
    world.front().node().oldest = 0;
    world.front().node().lag = 40;
    rail.work().await.unwrap();
    world.front().node().lag = 0;
    world.settle(&rail).await;
    assert!(is_done(&rail, &payout).await);
    assert_eq!(world.tokens(&wallet).await, 5_000_000);
}

/// JP-26: it landed where the node has a hole in its history, which reaches back to before: nothing is signed anew,
/// wherever the hole is.
#[tokio::test]
async fn jp_26_a_hole_in_the_history_proves_nothing() {
    let (world, rail) = funded(60).await;
    let wallet = Keypair::new().pubkey();
    let payout = world.payout(wallet, 5_000_000);
    rail.execute(&payout).await.unwrap();
    rail.work().await.unwrap();
    let first = written_down(&world).await;
    for _ in 0..60 {
        world.block().await;
    }
    assert_eq!(world.tokens(&wallet).await, 5_000_000, "it landed");
    let slot = world.front().node().slot_of(&first[0].0.parse().unwrap());
    let valid_for = world.front().node().valid_for;
    for hole in [slot..slot + 1, slot - 5..slot + 1, slot..slot + 5, slot..slot + valid_for + 5, slot..slot + 50] {
        world.front().node().hole = hole.clone();
        rail.work().await.unwrap();
        assert_eq!(written_down(&world).await, first, "{hole:?}");
        let told = world.incidents();
        assert!(matches!(told[..], [Incident::HistoryGone { .. }]), "{hole:?}: {told:?}");
    }
    world.front().node().hole = 0..0;
    world.settle(&rail).await;
    assert!(is_done(&rail, &payout).await);
    assert_eq!(world.tokens(&wallet).await, 5_000_000);
}

/// JP-26: a hole that begins after a blockhash's end is no reason to wait.
#[tokio::test]
async fn jp_26_a_hole_after_the_end_does_not_matter() {
    let (world, rail) = funded(61).await;
    let payout = world.payout(Keypair::new().pubkey(), 5_000_000);
    rail.execute(&payout).await.unwrap();
    world.front().node().lose = 1000;
    rail.work().await.unwrap();
    let slot = world.front().node().slot();
    for _ in 0..80 {
        world.block().await;
    }
    world.front().node().lose = 0;
    let valid_for = world.front().node().valid_for;
    world.front().node().hole = slot + valid_for + 1..slot + 70;
    world.settle(&rail).await;
    assert!(is_done(&rail, &payout).await);
    assert_eq!(world.incidents(), []);
}

/// JP-26: where withdrawals count once confirmed, what can still land is judged by finalized blocks all the same.
#[tokio::test]
async fn jp_26_expiry_is_judged_by_finalized_blocks() {
    let (mut world, _) = funded(62).await;
    world.config.finality = Finality::Confirmed;
    let rail = world.rail().await;
    let payout = world.payout(Keypair::new().pubkey(), 5_000_000);
    rail.execute(&payout).await.unwrap();
    world.front().node().lose = 1000;
    rail.work().await.unwrap();
    let first = written_down(&world).await;
    let last_height = {
        let node = world.front().node();
        node.height() + node.valid_for - 1
    };
    while world.front().node().height() < last_height + 3 {
        world.block().await;
        rail.work().await.unwrap();
        assert_eq!(written_down(&world).await, first, "a height of {last_height} is not past by finality");
    }
    for _ in 0..2 {
        world.block().await;
        rail.work().await.unwrap();
    }
    assert_ne!(written_down(&world).await, first);
}

/// JP-26: the status comes from a node that is behind the one that told the height: it proves nothing.
#[tokio::test]
async fn a_status_from_before_the_height_proves_nothing() {
    let (world, rail) = funded(43).await;
    let payout = world.payout(Keypair::new().pubkey(), 5_000_000);
    rail.execute(&payout).await.unwrap();
    rail.work().await.unwrap();
    let first = written_down(&world).await;
    for _ in 0..60 {
        world.block().await;
    }
    // Behind a balancer: statuses come from a node 58 blocks behind, all else from one that is not.
    world.front().node().status_lag = 61;
    for _ in 0..5 {
        rail.work().await.unwrap();
        assert_eq!(written_down(&world).await, first);
    }
    world.front().node().status_lag = 0;
    world.settle(&rail).await;
    assert!(is_done(&rail, &payout).await);
}

/// JP-26: behind the address that was connected to is a node of another cluster by now. That it knows nothing of a
/// transaction proves nothing.
#[tokio::test]
async fn another_clusters_node_is_not_believed() {
    let (world, rail) = funded(55).await;
    let wallet = Keypair::new().pubkey();
    let payout = world.payout(wallet, 5_000_000);
    rail.execute(&payout).await.unwrap();
    world.front().node().lose = 1000;
    rail.work().await.unwrap();
    let first = written_down(&world).await;
    for _ in 0..60 {
        world.block().await;
    }
    world.front().node().other_genesis = Some(SolanaConfig::mainnet(0).genesis);
    assert_eq!(rail.work().await.unwrap_err().kind(), RailErrorKind::Refused);
    assert_eq!(written_down(&world).await, first);
    assert_eq!(world.try_rail().await.err().map(|error| error.kind()), Some(RailErrorKind::Refused));
    world.front().node().other_genesis = None;
    world.front().node().lose = 0;
    world.settle(&rail).await;
    assert!(is_done(&rail, &payout).await);
    assert_eq!(world.tokens(&wallet).await, 5_000_000);
}

/// A keeper of keys that signs something else.
struct Forgetful(SeedSigner);

#[async_trait]
impl Signer for Forgetful {
    async fn address(&self, key: Key) -> Result<Pubkey, SignerError> {
        self.0.address(key).await
    }

    async fn sign(&self, key: Key, _message: &[u8]) -> Result<Signature, SignerError> {
        self.0.sign(key, b"another message").await
    }
}

/// JP-26: a signature that does not hold is neither written down nor sent.
#[tokio::test]
async fn a_signer_is_checked() {
    let (world, good) = funded(56).await;
    let signer = Arc::new(Forgetful(SeedSigner::new(&world.seed).unwrap()));
    let rail = SolanaRail::connect(world.config.clone(), world.rpc.clone(), signer, world.memory.clone());
    let rail = rail.await.unwrap();
    let payout = world.payout(Keypair::new().pubkey(), 5_000_000);
    rail.execute(&payout).await.unwrap();
    assert_eq!(rail.work().await.unwrap_err().kind(), RailErrorKind::NotSent);
    assert_eq!(written_down(&world).await, []);
    world.settle(&good).await;
    assert!(is_done(&good, &payout).await);
}

/// JP-26: two withdrawals of one amount to one wallet would be the same bytes under one blockhash.
#[tokio::test]
async fn twins_are_two_transactions() {
    let (mut world, _) = funded(44).await;
    world.config.batch = 1;
    let (one, two) = (world.rail().await, world.rail().await);
    let wallet = Keypair::new().pubkey();
    let twins = [world.payout(wallet, 3_000_000), world.payout(wallet, 3_000_000)];
    for twin in &twins {
        one.execute(twin).await.unwrap();
    }
    assert_eq!(one.work().await.unwrap().sent, 1);
    assert_eq!(two.work().await.unwrap().sent, 0, "there is no new block yet");
    world.settle(&one).await;
    assert!(is_done(&one, &twins[0]).await && is_done(&two, &twins[1]).await);
    assert_eq!(world.tokens(&wallet).await, 6_000_000);
}

/// JP-26: any number of processes may work on one queue.
#[tokio::test]
async fn four_processes_pay_each_once() {
    let (world, _) = funded(45).await;
    let mut rails = Vec::new();
    for _ in 0..4 {
        rails.push(world.rail().await);
    }
    let wallets: Vec<Pubkey> = (0..40).map(|_| Keypair::new().pubkey()).collect();
    let payouts: Vec<Instruction> = wallets.iter().map(|wallet| world.payout(wallet, 1_000_000)).collect();
    let accepted = join_all(payouts.iter().enumerate().map(|(i, payout)| rails[i % 4].execute(payout))).await;
    assert!(accepted.iter().all(|answer| matches!(answer, Ok(Outcome::Pending { .. }))), "{accepted:?}");
    for _ in 0..60 {
        for result in join_all(rails.iter().map(SolanaRail::work)).await {
            result.unwrap();
        }
        world.block().await;
    }
    for (wallet, payout) in wallets.iter().zip(&payouts) {
        assert!(is_done(&rails[0], payout).await);
        assert_eq!(world.tokens(wallet).await, 1_000_000);
    }
}

/// JP-26: fees per withdrawal are the signature's, rent is booked apart; ten in one transaction share it.
#[tokio::test]
async fn ten_at_once_cost_one_signature() {
    let (world, rail) = funded(46).await;
    let payouts: Vec<Instruction> = (0..10).map(|_| world.payout(Keypair::new().pubkey(), 1_000_000)).collect();
    for payout in &payouts {
        rail.execute(payout).await.unwrap();
    }
    world.settle(&rail).await;
    let mut all = Spent::default();
    for payout in &payouts {
        let spent = rail.spent(payout.id).await.unwrap().unwrap();
        (all.fee, all.rent) = (all.fee + spent.fee, all.rent + spent.rent);
    }
    let rent = world.rpc.get_minimum_balance_for_rent_exemption(165).await.unwrap();
    assert_eq!(all.rent, 10 * rent);
    assert!(all.fee <= 10 * 5_000 / 2, "{} lamports for ten", all.fee);
    let left = world.rpc.get_balance(&rail.treasury()).await.unwrap();
    assert_eq!(left, 50 * SOL - all.fee - all.rent, "what was spent is what is told");
}

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

/// JP-26: what is booked as rent is what was paid: nothing where the account exists by then, the rest where somebody
/// has sent lamports to it, and once for two withdrawals to one wallet.
#[tokio::test]
async fn jp_26_rent_is_booked_as_it_was_paid() {
    let (world, rail) = funded(67).await;
    let (twice, sent) = (Keypair::new().pubkey(), Keypair::new().pubkey());
    let rent = world.rpc.get_minimum_balance_for_rent_exemption(165).await.unwrap();
    world.airdrop(&world.account_of(&sent), 900_000).await;
    let payouts = [world.payout(twice, 1_000_000), world.payout(twice, 2_000_000), world.payout(sent, 1_000_000)];
    for payout in &payouts {
        rail.execute(payout).await.unwrap();
    }
    world.settle(&rail).await;
    let mut rents = Vec::new();
    for payout in &payouts {
        rents.push(rail.spent(payout.id).await.unwrap().unwrap().rent);
    }
    assert_eq!(rents, [rent, 0, rent - 900_000]);
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

/// JP-26: what is no address to pay to is declined, each by a reason of its own; what is only odd is a warning.
#[tokio::test]
async fn addresses_that_money_must_not_go_to() {
    let (mut world, rail) = funded(51).await;
    let issuer = world.issuer.pubkey();
    let (frozen, given, owner) = (Keypair::new().pubkey(), Keypair::new(), Keypair::new().pubkey());
    for wallet in [&frozen, &given.pubkey()] {
        world.send(&[world.create_account(wallet)], &[]).await;
    }
    let freeze = token::freeze_account(&TOKEN, &world.account_of(&frozen), &world.mint, &issuer, &[]).unwrap();
    let give = token::set_authority(
        &TOKEN,
        &world.account_of(&given.pubkey()),
        Some(&owner),
        AuthorityType::AccountOwner,
        &given.pubkey(),
        &[],
    );
    world.send(&[freeze, give.unwrap()], &[&given]).await;
    let nobody = world.account_of(&Keypair::new().pubkey());
    // Handed out by another process.
    let deposit = world.rail().await.deposit_address(world.agent()).await.unwrap().wallet;
    let bad = [
        (String::new(), "not_base58"),
        ("0x52908400098527886E0F7030069857D2E4169EE7".into(), "not_base58"),
        ("EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGkGwyTDt1".into(), "not_base58"),
        (nobody.to_string(), "off_curve"),
        (world.account_of(&frozen).to_string(), "token_account"),
        (world.mint.to_string(), "token_account"),
        (TOKEN.to_string(), "not_a_wallet"),
        (rail.treasury().to_string(), "treasury"),
        (world.account_of(&rail.treasury()).to_string(), "treasury"),
        (deposit.to_string(), "deposit_address"),
        (frozen.to_string(), "account_frozen"),
        (given.pubkey().to_string(), "given_away"),
    ];
    for (address, code) in &bad {
        let payout = world.payout(address, 5_000_000);
        let answer = rail.execute(&payout).await.unwrap();
        assert!(matches!(&answer, Outcome::Declined(decline) if decline.code == *code), "{address}: {answer:?}");
        assert!(rail.check_address(address).await.unwrap().is_err());
    }
    let mut nowhere = world.payout("", 5_000_000);
    if let Order::Payout { destination, .. } = &mut nowhere.order {
        *destination = None;
    }
    let missing = rail.execute(&nowhere).await.unwrap();
    assert!(matches!(missing, Outcome::Declined(decline) if decline.code == "missing_address"));
    assert_eq!(rail.work().await.unwrap().waiting, 0);
    assert!(matches!(
        rail.check_address(&nobody.to_string()).await.unwrap(),
        Err(AddressError::OffCurve { address }) if address == nobody
    ));
    // What is only odd is a warning.
    let unused = Keypair::new().pubkey();
    let checked = rail.check_address(&unused.to_string()).await.unwrap().unwrap();
    assert_eq!(checked.warnings, [AddressWarning::Unused]);
    world.config.shared_addresses = vec![issuer];
    let checked = world.rail().await.check_address(&issuer.to_string()).await.unwrap().unwrap();
    assert_eq!(checked.warnings, [AddressWarning::Shared]);
    // A withdrawal to it is told once, and paid.
    world.incidents();
    let (rail, payout) = (world.rail().await, world.payout(issuer, 5_000_000));
    for _ in 0..2 {
        assert!(matches!(rail.execute(&payout).await.unwrap(), Outcome::Pending { .. }));
    }
    assert_eq!(world.incidents(), [Incident::SharedAddress { instruction: payout.id, address: issuer }]);
    world.settle(&rail).await;
    assert!(is_done(&rail, &payout).await);
}

/// JP-26: amounts outside the profile, orders of other custodies, other clusters and other mints are refused.
#[tokio::test]
async fn what_is_not_this_rails_is_refused() {
    let (world, rail) = funded(52).await;
    let wallet = Keypair::new().pubkey();
    for minor in [0, -1, world.config.amounts.max + 1] {
        let payout = world.payout(wallet, minor);
        assert_eq!(rail.execute(&payout).await.unwrap_err().kind(), RailErrorKind::Refused);
        assert_eq!(rail.lookup(&payout).await.unwrap(), None);
    }
    let signer = Arc::new(SeedSigner::new(&world.seed).unwrap());
    let mut other_cluster = world.config.clone();
    other_cluster.genesis = SolanaConfig::mainnet(0).genesis;
    let mut no_mint = world.config.clone();
    no_mint.mint = world.issuer.pubkey();
    let mut other_decimals = world.config.clone();
    other_decimals.currency = tradepost::money::Currency::EUR;
    for config in [other_cluster, no_mint, other_decimals] {
        let refused = SolanaRail::connect(config, world.rpc.clone(), signer.clone(), world.memory.clone()).await;
        assert_eq!(refused.err().map(|error| error.kind()), Some(RailErrorKind::Refused));
    }
}

/// JP-26: with a bid for compute units, the limit is what the simulation took and the share that is configured.
#[tokio::test]
async fn a_bid_is_paid_for_what_is_used_only() {
    let (mut world, _) = funded(53).await;
    world.config.priority_fee = 1_000_000; // one lamport a unit
    let wallet = Keypair::new().pubkey();
    world.send(&[world.create_account(&wallet)], &[]).await;
    let mut bids = Vec::new();
    for spare in [0, 10, 100] {
        world.config.spare_units = spare;
        let rail = world.rail().await;
        let payout = world.payout(wallet, 5_000_000);
        rail.execute(&payout).await.unwrap();
        world.settle(&rail).await;
        assert!(is_done(&rail, &payout).await);
        bids.push(rail.spent(payout.id).await.unwrap().unwrap().fee - 5_000);
    }
    let used = bids[0];
    assert!((1..1_000).contains(&used), "{used} units");
    assert_eq!(bids, [used, used * 110 / 100, used * 2]);
}

/// Sweeps: batched, the treasury pays, dust stays, holdings do not change (JP-24).
#[tokio::test]
async fn deposits_are_swept_into_the_treasury() {
    let world = World::simulated(54).await;
    let rail = world.rail().await;
    let mut wallets = Vec::new();
    for minor in [5_000_000, 999_999, 1_000_000, 3_000_000, 1, 2_000_000, 7_000_000, 1_500_000, 4_000_000] {
        let wallet = rail.deposit_address(world.agent()).await.unwrap().wallet;
        world.issue(&wallet, minor).await;
        wallets.push((wallet, minor));
    }
    let issuer = world.issuer.pubkey();
    let freeze = token::freeze_account(&TOKEN, &world.account_of(&wallets[5].0), &world.mint, &issuer, &[]).unwrap();
    world.send(&[freeze], &[]).await;
    let all: u64 = wallets.iter().map(|(_, minor)| minor).sum();
    for _ in 0..40 {
        rail.work().await.unwrap();
        world.block().await;
        assert_eq!(rail.holdings().await.unwrap().total.minor().unsigned_abs(), all, "swept or not, it is held");
    }
    let left: Vec<u64> = join_all(wallets.iter().map(|(wallet, _)| world.tokens(wallet))).await;
    assert_eq!(left, [0, 999_999, 0, 0, 1, 2_000_000, 0, 0, 0]);
    assert_eq!(world.tokens(&rail.treasury()).await, all - 999_999 - 1 - 2_000_000);
    let requests = world.front().requests();
    let account = world.account_of(&wallets[5].0);
    assert!(requests["sendTransaction"] > 0);
    let told = world.incidents();
    assert!(!told.is_empty());
    assert!(told.iter().all(|told| matches!(told, Incident::DepositFrozen { account: at, .. } if *at == account)));
    for (wallet, minor) in &wallets {
        assert_eq!(world.rpc.get_multiple_accounts(&[*wallet]).await.unwrap(), [None], "{minor}: it never had SOL");
    }
}

/// JP-24: somebody sent lamports to where the treasury's token account is to be: it is made all the same.
#[tokio::test]
async fn jp_24_a_treasury_account_that_was_paid_to_before_is_made() {
    let world = World::simulated(57).await;
    let rail = world.rail().await;
    world.airdrop(&world.account_of(&rail.treasury()), 1_000_000).await;
    let deposit = rail.deposit_address(world.agent()).await.unwrap().wallet;
    world.issue(&deposit, 5_000_000).await;
    world.settle(&rail).await;
    assert_eq!(world.tokens(&rail.treasury()).await, 5_000_000);
    assert_eq!(world.incidents(), []);
}

/// The treasury holds less than it should; a sweep that would fail is told, and made later.
#[tokio::test]
async fn jp_24_a_low_treasury_and_a_failing_sweep_are_told() {
    let (mut world, _) = funded(58).await;
    world.config.low_token = 1_004_000_000;
    let rail = world.rail().await;
    let deposit = rail.deposit_address(world.agent()).await.unwrap().wallet;
    world.issue(&deposit, 5_000_000).await;
    let error = TransactionError::InstructionError(0, InstructionError::InvalidAccountData);
    world.front().node().simulates = Some(error.clone());
    rail.work().await.unwrap();
    let (held, needed) = (world.payout("", 1_000_000_000), world.payout("", 1_004_000_000));
    let low = Incident::LowToken { held: held.order.amount(), needed: needed.order.amount() };
    assert_eq!(world.incidents(), [low, Incident::SweepFailed { addresses: 1, reason: error.to_string() }]);
    world.front().node().simulates = None;
    world.settle(&rail).await;
    world.incidents();
    rail.work().await.unwrap();
    assert_eq!(world.incidents(), [], "the treasury has 1005");
}

/// What is logged, as text.
#[derive(Default)]
struct Log(Mutex<String>);

impl tracing::Subscriber for Log {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        if event.metadata().target().starts_with("tradepost") {
            let mut text = self.0.lock().unwrap();
            event.record(&mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
                text.push_str(&format!("{field}={value:?} "));
            });
        }
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

/// A node's address may carry an API key: it is in no log.
#[tokio::test]
async fn jp_26_the_nodes_address_is_not_logged() {
    let (world, _) = funded(59).await;
    let url = format!("{}/?api-key=SECRET", world.front().url());
    let rpc = Arc::new(solana_client::nonblocking::rpc_client::RpcClient::new(url));
    let signer = Arc::new(SeedSigner::new(&world.seed).unwrap());
    let rail = SolanaRail::connect(world.config.clone(), rpc, signer, world.memory.clone()).await.unwrap();
    rail.execute(&world.payout(Keypair::new().pubkey(), 1_000_000)).await.unwrap();
    world.front().next(Some("sendTransaction"), Fault::LoseRequest);
    let log = Arc::new(Log::default());
    let guard = tracing::subscriber::set_default(log.clone());
    assert_eq!(rail.work().await.unwrap().sent, 1);
    drop(guard);
    let text = log.0.lock().unwrap();
    assert!(text.contains("did not take"), "{text}");
    assert!(!text.contains("SECRET"), "{text}");
}

/// A keeper of keys that refuses some.
struct Strict {
    keys: SeedSigner,
    refuses: Mutex<Vec<u32>>,
}

#[async_trait]
impl Signer for Strict {
    async fn address(&self, key: Key) -> Result<Pubkey, SignerError> {
        self.keys.address(key).await
    }

    async fn sign(&self, key: Key, message: &[u8]) -> Result<Signature, SignerError> {
        if self.refuses.lock().unwrap().contains(&key.account()) {
            return Err(SignerError::Failed { reason: "it may not sign".into() });
        }
        self.keys.sign(key, message).await
    }
}

/// JP-24: keys that their keeper refuses keep nobody else's deposits from being swept; they are tried again.
#[tokio::test]
async fn jp_24_a_refused_key_stops_no_other_sweep() {
    let world = World::simulated(69).await;
    let keys = SeedSigner::new(&world.seed).unwrap();
    let signer = Arc::new(Strict { keys, refuses: Mutex::new(vec![1, 2, 4]) });
    let rail = SolanaRail::connect(world.config.clone(), world.rpc.clone(), signer.clone(), world.memory.clone());
    let rail = rail.await.unwrap();
    let mut wallets = Vec::new();
    for _ in 0..5 {
        let wallet = rail.deposit_address(world.agent()).await.unwrap().wallet;
        world.issue(&wallet, 5_000_000).await;
        wallets.push(wallet);
    }
    let rounds = async || {
        for _ in 0..20 {
            drop(rail.work().await);
            world.block().await;
        }
        join_all(wallets.iter().map(|wallet| world.tokens(wallet))).await
    };
    let some = 5_000_000;
    assert_eq!(rounds().await, [some, some, 0, some, 0]);
    assert_eq!(rail.work().await.unwrap_err().kind(), RailErrorKind::NotSent, "it is told");
    *signer.refuses.lock().unwrap() = vec![4];
    assert_eq!(rounds().await, [0, 0, 0, some, 0]);
    signer.refuses.lock().unwrap().clear();
    assert_eq!(rounds().await, [0; 5]);
}

/// JP-24: an address that a sweep would fail by keeps no others waiting.
#[tokio::test]
async fn jp_24_an_address_that_cannot_be_swept_stops_no_other() {
    let (world, rail) = funded(70).await;
    let mut wallets = Vec::new();
    for _ in 0..4 {
        let wallet = rail.deposit_address(world.agent()).await.unwrap().wallet;
        world.issue(&wallet, 5_000_000).await;
        wallets.push(wallet);
    }
    let freeze =
        token::freeze_account(&TOKEN, &world.account_of(&wallets[1]), &world.mint, &world.issuer.pubkey(), &[]);
    world.front().node().run_now(&[freeze.unwrap()], &[&world.issuer]);
    world.block().await;
    assert_eq!(rail.work().await.unwrap().sent, 0, "that it is frozen is not final yet");
    assert_eq!(rail.work().await.unwrap().sent, 1);
    world.settle(&rail).await;
    assert_eq!(join_all(wallets.iter().map(|wallet| world.tokens(wallet))).await, [0, 5_000_000, 0, 0]);
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
