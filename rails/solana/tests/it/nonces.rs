//! Withdrawals on durable nonces: good until they land or are called off, and paid once all the same (JP-26).

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use solana_account::Account;
use solana_keypair::Keypair;
use solana_pubkey::Pubkey;
use solana_signature::Signature;
use solana_signer::Signer as _;
use solana_system_interface::instruction as system;
use spl_token_interface::ID as TOKEN;
use tokio::sync::Notify;
use tradepost::rail::{Instruction, SettlementRail, VolatileMemory};
use tradepost_solana::{DurableNonces, Incident, Key, SeedSigner, Signer, SignerError, SolanaRail};

use crate::{
    queue::one_goes_bad,
    withdrawals::{declined_as, is_done, written_down},
    world::World,
};

/// How many lamports a nonce account has to have.
const RENT: u64 = 1_447_680;

/// A rail whose treasury holds 1000 USDC, and whose lanes are open.
async fn on_nonces(seed: u64, lanes: u8, call_off_after: u64) -> (World, SolanaRail) {
    let mut world = World::simulated(seed).await;
    world.config.durable_nonces = Some(DurableNonces { lanes, call_off_after });
    let rail = world.rail().await;
    world.issue(&rail.treasury(), 1_000_000_000).await;
    open(&world, &rail).await;
    (world, rail)
}

async fn open(world: &World, rail: &SolanaRail) {
    assert_eq!(rail.work().await.unwrap().sent, 1, "the accounts are made by one transaction");
    world.settle(rail).await;
}

async fn accepted(world: &World, rail: &SolanaRail, minor: i64) -> (Instruction, Pubkey) {
    let wallet = Keypair::new().pubkey();
    let payout = world.payout(wallet, minor);
    rail.execute(&payout).await.unwrap();
    (payout, wallet)
}

async fn signatures(world: &World) -> Vec<String> {
    written_down(world).await.into_iter().map(|(signature, _)| signature).collect()
}

/// JP-26: nothing gets through for three times as long as a blockhash lives; what lands then is what was signed first.
#[tokio::test]
async fn a_withdrawal_outlives_its_blockhash() {
    let (world, rail) = on_nonces(80, 2, 1_000).await;
    let (payout, wallet) = accepted(&world, &rail, 5_000_000).await;
    world.front().node().lose = 1000;
    assert_eq!(rail.work().await.unwrap().sent, 1);
    let first = written_down(&world).await;
    let valid_for = world.front().node().valid_for;
    for _ in 0..3 * valid_for {
        rail.work().await.unwrap();
        world.block().await;
        assert_eq!(written_down(&world).await, first);
    }
    world.front().node().lose = 0;
    world.settle(&rail).await;
    assert!(is_done(&rail, &payout).await);
    assert_eq!(world.tokens(&wallet).await, 5_000_000);
    let signature: Signature = first[0].0.parse().unwrap();
    world.finalized(&signature).await;
    assert_eq!(world.incidents(), []);
}

/// JP-26: the nonce accounts follow from the treasury's address alone, are the treasury's, and cost a rent each, once:
/// a rail that has lost its memory finds them again.
#[tokio::test]
async fn lanes_are_found_again_by_the_seed_alone() {
    let (mut world, rail) = on_nonces(81, 16, 1_000).await;
    let accounts = rail.nonce_accounts();
    let system = solana_system_interface::program::ID;
    let derived =
        |i: usize| Pubkey::create_with_seed(&rail.treasury(), &format!("tradepost-nonce-{i}"), &system).unwrap();
    assert_eq!(accounts, (0..16).map(derived).collect::<Vec<_>>());
    while world.rpc.get_multiple_accounts(&accounts).await.unwrap().iter().any(Option::is_none) {
        rail.work().await.unwrap();
        world.block().await;
    }
    world.settle(&rail).await;
    for account in &accounts {
        assert_eq!(world.rpc.get_balance(account).await.unwrap(), RENT);
    }
    let before = world.rpc.get_balance(&rail.treasury()).await.unwrap();
    world.memory = Arc::new(VolatileMemory::default());
    let rail = world.rail().await;
    let (payout, _) = accepted(&world, &rail, 5_000_000).await;
    world.settle(&rail).await;
    assert!(is_done(&rail, &payout).await);
    let spent = rail.spent(payout.id).await.unwrap().unwrap();
    assert_eq!(spent.fee, 5_000, "a nonce adds no signature");
    let after = world.rpc.get_balance(&rail.treasury()).await.unwrap();
    assert_eq!(before - after, spent.fee + spent.rent, "no account is made twice");
    assert_eq!(world.incidents(), []);
}

/// JP-26: somebody has sent lamports to where the account is to be: it is made all the same.
#[tokio::test]
async fn an_address_that_was_paid_to_before_is_made_a_lane() {
    let mut world = World::simulated(82).await;
    world.config.durable_nonces = Some(DurableNonces { lanes: 2, call_off_after: 1_000 });
    let rail = world.rail().await;
    world.issue(&rail.treasury(), 1_000_000_000).await;
    world.airdrop(&rail.nonce_accounts()[0], 900_000).await;
    world.airdrop(&rail.nonce_accounts()[1], 2 * RENT).await;
    open(&world, &rail).await;
    assert_eq!(world.rpc.get_balance(&rail.nonce_accounts()[0]).await.unwrap(), RENT);
    let (payout, _) = accepted(&world, &rail, 5_000_000).await;
    world.settle(&rail).await;
    assert!(is_done(&rail, &payout).await);
}

/// JP-26: as many transactions at once as there are lanes, also in one block; a lane carries one at a time.
#[tokio::test]
async fn lanes_carry_one_transaction_each() {
    let (mut world, _) = on_nonces(83, 3, 1_000).await;
    world.config.batch = 1;
    let rail = world.rail().await;
    let wallet = Keypair::new().pubkey();
    let twins: Vec<Instruction> = (0..5).map(|_| world.payout(wallet, 3_000_000)).collect();
    for twin in &twins {
        rail.execute(twin).await.unwrap();
    }
    let mut sent = Vec::new();
    for _ in 0..5 {
        sent.push(rail.work().await.unwrap().sent);
    }
    assert_eq!(sent, [1, 1, 1, 0, 0]);
    world.settle(&rail).await;
    for twin in &twins {
        assert!(is_done(&rail, twin).await);
    }
    assert_eq!(world.tokens(&wallet).await, 15_000_000);
}

/// JP-26: a nonce that was used is offered by a node that lags. The same withdrawal signed on it would be the same
/// bytes as the one before, and take that one's effect for its own.
#[tokio::test]
async fn a_nonce_that_was_used_is_not_signed_on_again() {
    let (world, rail) = on_nonces(84, 1, 1_000).await;
    let wallet = Keypair::new().pubkey();
    let twins = [world.payout(wallet, 3_000_000), world.payout(wallet, 3_000_000)];
    let before = world.front().node().slot();
    rail.execute(&twins[0]).await.unwrap();
    world.settle(&rail).await;
    assert!(is_done(&rail, &twins[0]).await);
    rail.execute(&twins[1]).await.unwrap();
    let lag = world.front().node().slot() - before;
    world.front().node().lag = usize::try_from(lag).unwrap();
    for _ in 0..3 {
        assert_eq!(rail.work().await.unwrap().sent, 0, "the node is of before the first one landed");
    }
    world.front().node().lag = 0;
    world.settle(&rail).await;
    assert!(is_done(&rail, &twins[1]).await);
    assert_eq!(world.tokens(&wallet).await, 6_000_000);
}

/// JP-26: what does not land is called off, and signed anew only after that is final. The first bytes, which the
/// network had kept all the while, come too late.
#[tokio::test]
async fn what_does_not_land_is_called_off_and_signed_anew_once() {
    let (world, rail) = on_nonces(85, 1, 10).await;
    world.front().node().hold_next = 80;
    let (payout, wallet) = accepted(&world, &rail, 5_000_000).await;
    rail.work().await.unwrap();
    let first = signatures(&world).await;
    world.settle(&rail).await;
    assert!(is_done(&rail, &payout).await);
    assert!(!world.front().node().is_settled(), "the first bytes are still under way");
    for _ in 0..100 {
        world.block().await;
    }
    assert!(world.front().node().is_settled());
    assert_eq!(world.tokens(&wallet).await, 5_000_000);
    let told = world.incidents();
    assert!(
        matches!(&told[..], [Incident::CalledOff { signature, .. }] if first == [signature.to_string()]),
        "{told:?}"
    );
}

/// JP-26: it lands while it is called off, whichever of the two the chain takes first: it counts, once.
#[tokio::test]
async fn what_lands_while_it_is_called_off_counts_once() {
    let mut called_off = 0;
    for hold in 8..30 {
        let (world, rail) = on_nonces(8_600 + u64::from(hold), 1, 10).await;
        world.front().node().hold_next = hold;
        let (payout, wallet) = accepted(&world, &rail, 5_000_000).await;
        world.settle(&rail).await;
        assert!(is_done(&rail, &payout).await, "held for {hold} blocks");
        assert_eq!(world.tokens(&wallet).await, 5_000_000, "held for {hold} blocks");
        for told in world.incidents() {
            assert!(matches!(told, Incident::CalledOff { .. } | Incident::NonceFailed { .. }), "{told:?}");
            called_off += 1;
        }
    }
    assert!(called_off > 0, "none was called off");
}

/// JP-26: a nonce that somebody else advances is gone like any other: the lookup proves that the bytes never landed.
#[tokio::test]
async fn a_nonce_advanced_by_hand_is_proof_enough() {
    let (world, rail) = on_nonces(87, 1, 1_000).await;
    let (payout, wallet) = accepted(&world, &rail, 5_000_000).await;
    world.front().node().lose = 1000;
    rail.work().await.unwrap();
    let first = signatures(&world).await;
    world.front().node().lose = 0;
    let by_hand = system::advance_nonce_account(&rail.nonce_accounts()[0], &rail.treasury());
    world.front().node().run_now(&[by_hand], &[&world.issuer, &world.key(0)]);
    world.block().await;
    // Gone, but not finally so: the bytes are the same.
    rail.work().await.unwrap();
    assert_eq!(signatures(&world).await, first);
    // Final; a node that has forgotten when they were signed proves nothing.
    for _ in 0..5 {
        world.block().await;
    }
    let slot = world.front().node().slot();
    world.front().node().oldest = slot - 2;
    rail.work().await.unwrap();
    assert_eq!(signatures(&world).await, first);
    let told = world.incidents();
    assert!(
        matches!(&told[..], [Incident::HistoryGone { signature, .. }] if first == [signature.to_string()]),
        "{told:?}"
    );
    world.front().node().oldest = 0;
    // A status from before the nonce was gone proves nothing either.
    world.front().node().status_lag = 10;
    rail.work().await.unwrap();
    assert_eq!(signatures(&world).await, first);
    world.front().node().status_lag = 0;
    world.settle(&rail).await;
    assert!(is_done(&rail, &payout).await);
    assert_eq!(world.tokens(&wallet).await, 5_000_000);
}

/// JP-26: a nonce is gone because its transaction landed, where the node has a hole in its history: it is not signed
/// anew.
#[tokio::test]
async fn jp_26_a_nonce_that_went_in_a_hole_proves_nothing() {
    let (world, rail) = on_nonces(96, 1, 1_000).await;
    let (payout, wallet) = accepted(&world, &rail, 5_000_000).await;
    rail.work().await.unwrap();
    let first = signatures(&world).await;
    for _ in 0..10 {
        world.block().await;
    }
    let slot = world.front().node().slot_of(&first[0].parse().unwrap());
    for hole in [slot..slot + 1, slot - 2..slot + 3] {
        world.front().node().hole = hole.clone();
        rail.work().await.unwrap();
        assert_eq!(signatures(&world).await, first, "{hole:?}");
        let told = world.incidents();
        assert!(matches!(told[..], [Incident::HistoryGone { .. }]), "{hole:?}: {told:?}");
    }
    world.front().node().hole = 0..0;
    world.settle(&rail).await;
    assert!(is_done(&rail, &payout).await);
    assert_eq!(world.tokens(&wallet).await, 5_000_000);
}

/// JP-26: a transaction that fails has used its nonce up: nothing of it took effect, and the lane goes on.
#[tokio::test]
async fn a_failure_advances_the_nonce_too() {
    let (world, rail) = on_nonces(88, 1, 1_000).await;
    one_goes_bad(&world, &rail).await;
    let (next, _) = accepted(&world, &rail, 3_000_000).await;
    world.settle(&rail).await;
    assert!(is_done(&rail, &next).await);
}

/// JP-26: an account whose authority was given away is told and left alone; the other lane goes on, and this one does
/// when it is back.
#[tokio::test]
async fn a_lane_that_is_not_the_treasurys_is_told() {
    let (world, rail) = on_nonces(89, 2, 1_000).await;
    let (account, other) = (rail.nonce_accounts()[0], Keypair::new());
    let give = system::authorize_nonce_account(&account, &rail.treasury(), &other.pubkey());
    world.send(&[give], &[&world.key(0)]).await;
    let (first, _) = accepted(&world, &rail, 5_000_000).await;
    world.settle(&rail).await;
    assert!(is_done(&rail, &first).await);
    let told = world.incidents();
    assert!(!told.is_empty());
    assert!(told.iter().all(|told| *told == Incident::NonceUnusable { lane: 0, account }), "{told:?}");
    let give_back = system::authorize_nonce_account(&account, &other.pubkey(), &rail.treasury());
    world.send(&[give_back], &[&other]).await;
    rail.work().await.unwrap();
    assert_eq!(world.incidents(), []);
    // An account that was closed is made again.
    let rent = system::withdraw_nonce_account(&account, &rail.treasury(), &other.pubkey(), RENT);
    world.send(&[rent], &[&world.key(0)]).await;
    assert_eq!(world.rpc.get_balance(&account).await.unwrap(), 0);
    open(&world, &rail).await;
    assert_eq!(world.rpc.get_balance(&account).await.unwrap(), RENT);
}

/// JP-26: switched off with a transaction under way: that one is followed to its end, the next goes by a blockhash.
#[tokio::test]
async fn nonces_can_be_switched_off_and_on_with_money_under_way() {
    let (mut world, rail) = on_nonces(90, 2, 1_000).await;
    let (first, wallet) = accepted(&world, &rail, 5_000_000).await;
    world.front().node().lose = 1000;
    rail.work().await.unwrap();
    let on = world.config.durable_nonces.take();
    let rail = world.rail().await;
    let (second, _) = accepted(&world, &rail, 6_000_000).await;
    assert_eq!(rail.work().await.unwrap().in_flight, 2);
    world.config.durable_nonces = on;
    let rail = world.rail().await;
    let (third, _) = accepted(&world, &rail, 7_000_000).await;
    assert_eq!(rail.work().await.unwrap().in_flight, 3);
    world.front().node().lose = 0;
    // The hand that had sent the first one is needed no more: a rail without lanes sends it again.
    world.config.durable_nonces = None;
    let rail = world.rail().await;
    world.settle(&rail).await;
    for payout in [&first, &second, &third] {
        assert!(is_done(&rail, payout).await);
    }
    assert_eq!(world.tokens(&wallet).await, 5_000_000);
}

/// JP-26: an account that cannot be read proves nothing of what was signed on its nonce. It is told, and nothing is
/// signed anew before it can be read again.
#[tokio::test]
async fn a_nonce_account_that_cannot_be_read_proves_nothing() {
    let (world, rail) = on_nonces(93, 1, 10).await;
    let (payout, wallet) = accepted(&world, &rail, 5_000_000).await;
    world.front().node().hold_next = 150;
    rail.work().await.unwrap();
    let first = written_down(&world).await;
    let account = rail.nonce_accounts()[0];
    let good = world.rpc.get_multiple_accounts(&[account]).await.unwrap().remove(0).unwrap();
    let garbled = Account { data: vec![9; good.data.len()], ..good.clone() };
    let anothers = Account { owner: TOKEN, ..good.clone() };
    for bad in [garbled, anothers] {
        world.front().node().put(account, bad);
        for _ in 0..30 {
            world.block().await;
            rail.work().await.unwrap();
            assert_eq!(written_down(&world).await, first);
        }
        let told = world.incidents();
        assert!(!told.is_empty());
        assert!(told.iter().all(|told| *told == Incident::NonceUnusable { lane: 0, account }), "{told:?}");
    }
    world.front().node().put(account, good);
    world.settle(&rail).await;
    assert!(is_done(&rail, &payout).await);
    for _ in 0..150 {
        world.block().await;
    }
    assert!(world.front().node().is_settled(), "the first bytes came too late");
    assert_eq!(world.tokens(&wallet).await, 5_000_000);
}

/// A keeper of keys that takes its time, as one that asks a person does.
struct Slow {
    keys: SeedSigner,
    waits: AtomicBool,
    asked: Notify,
    go: Notify,
}

impl Slow {
    async fn rail(world: &World) -> (SolanaRail, Arc<Self>) {
        let keys = SeedSigner::new(&world.seed).unwrap();
        let slow = Self { keys, waits: AtomicBool::default(), asked: Notify::new(), go: Notify::new() };
        let slow = Arc::new(slow);
        let memory = world.memory.clone();
        let rail = SolanaRail::connect(world.config.clone(), world.rpc.clone(), slow.clone(), memory).await.unwrap();
        let incidents = world.incidents.clone();
        (rail.on_incident(move |incident| incidents.lock().unwrap().push(incident.clone())), slow)
    }
}

#[async_trait]
impl Signer for Slow {
    async fn address(&self, key: Key) -> Result<Pubkey, SignerError> {
        self.keys.address(key).await
    }

    async fn sign(&self, key: Key, message: &[u8]) -> Result<Signature, SignerError> {
        if self.waits.load(Ordering::Relaxed) {
            self.asked.notify_one();
            self.go.notified().await;
        }
        self.keys.sign(key, message).await
    }
}

/// A round whose first signature takes three times as long as a blockhash lives, and what happens meanwhile; how many
/// transactions were sent.
async fn slowly<T>(world: &World, rail: &SolanaRail, slow: &Slow, meanwhile: impl Future<Output = T>) -> (usize, T) {
    slow.waits.store(true, Ordering::Relaxed);
    let valid_for = world.front().node().valid_for;
    let before = signatures(world).await;
    let (worked, made) = futures::join!(rail.work(), async {
        tokio::time::timeout(Duration::from_secs(60), slow.asked.notified()).await.expect("nothing is to be signed");
        for _ in 0..3 * valid_for {
            world.block().await;
        }
        // What is on its way is written down once it is signed, not before.
        assert_eq!(signatures(world).await, before);
        let made = meanwhile.await;
        slow.waits.store(false, Ordering::Relaxed);
        slow.go.notify_one();
        made
    });
    (worked.unwrap().sent, made)
}

/// JP-26: signing takes longer than a blockhash lives, and other withdrawals are accepted meanwhile.
#[tokio::test]
async fn a_signer_may_take_its_time() {
    let (world, _) = on_nonces(91, 1, 1_000).await;
    let (rail, slow) = Slow::rail(&world).await;
    let (first, wallet) = accepted(&world, &rail, 5_000_000).await;
    let (sent, (second, _)) = slowly(&world, &rail, &slow, accepted(&world, &rail, 6_000_000)).await;
    assert_eq!(sent, 1);
    world.settle(&rail).await;
    assert!(is_done(&rail, &first).await && is_done(&rail, &second).await);
    assert_eq!(world.tokens(&wallet).await, 5_000_000);
}

/// The same of all else that is signed: further lanes, sweeps (JP-24), and what calls a withdrawal off. How long signing
/// takes does not count as time on the way.
#[tokio::test]
async fn all_else_may_take_its_time_too() {
    let (mut world, _) = on_nonces(94, 1, 10).await;
    world.config.durable_nonces = Some(DurableNonces { lanes: 2, call_off_after: 10 });
    let (rail, slow) = Slow::rail(&world).await;
    assert_eq!(slowly(&world, &rail, &slow, async {}).await.0, 1);
    world.settle(&rail).await;
    assert_eq!(world.rpc.get_balance(&rail.nonce_accounts()[1]).await.unwrap(), RENT);

    let deposit = rail.deposit_address(world.agent()).await.unwrap().wallet;
    world.issue(&deposit, 5_000_000).await;
    assert_eq!(slowly(&world, &rail, &slow, async {}).await.0, 1);
    world.settle(&rail).await;
    assert_eq!(world.tokens(&rail.treasury()).await, 1_005_000_000);
    assert_eq!(world.incidents(), []);

    world.front().node().hold_next = 200;
    let (payout, wallet) = accepted(&world, &rail, 5_000_000).await;
    rail.work().await.unwrap();
    for _ in 0..20 {
        world.block().await;
    }
    assert_eq!(slowly(&world, &rail, &slow, async {}).await.0, 1);
    world.settle(&rail).await;
    assert!(is_done(&rail, &payout).await);
    assert_eq!(world.tokens(&wallet).await, 5_000_000);
    let told = world.incidents();
    assert!(matches!(told[..], [Incident::CalledOff { .. }]), "{told:?}");
}

/// JP-26: cancelled while it is being signed: what was signed is not sent.
#[tokio::test]
async fn jp_26_cancelled_while_it_is_signed() {
    let (world, _) = on_nonces(97, 1, 1_000).await;
    let (rail, slow) = Slow::rail(&world).await;
    let (payout, wallet) = accepted(&world, &rail, 5_000_000).await;
    let cancelled = rail.cancel(&payout, "it takes too long");
    let (sent, cancelled) = slowly(&world, &rail, &slow, cancelled).await;
    cancelled.unwrap();
    assert_eq!(sent, 0);
    assert_eq!(declined_as(&rail, &payout).await, "cancelled");
    world.settle(&rail).await;
    assert_eq!(world.tokens(&wallet).await, 0);
}

/// JP-26: the first lanes have to be signed within a blockhash's life: what comes later is told, and neither written
/// down nor sent.
#[tokio::test]
async fn the_first_lanes_need_a_quick_signer() {
    let mut world = World::simulated(95).await;
    world.config.durable_nonces = Some(DurableNonces { lanes: 2, call_off_after: 1_000 });
    let (rail, slow) = Slow::rail(&world).await;
    assert_eq!(slowly(&world, &rail, &slow, async {}).await.0, 0);
    let told = world.incidents();
    assert!(matches!(told[..], [Incident::SignedTooLate { last_height, height }] if height >= last_height), "{told:?}");
    assert_eq!(signatures(&world).await, Vec::<String>::new());
    open(&world, &rail).await;
}

/// JP-26: four processes on three lanes.
#[tokio::test]
async fn any_number_of_processes_share_the_lanes() {
    let (world, _) = on_nonces(92, 3, 15).await;
    let mut rails = Vec::new();
    for _ in 0..4 {
        rails.push(world.rail().await);
    }
    let wallets: Vec<Pubkey> = (0..30).map(|_| Keypair::new().pubkey()).collect();
    let payouts: Vec<Instruction> = wallets.iter().map(|wallet| world.payout(wallet, 1_000_000)).collect();
    for (i, payout) in payouts.iter().enumerate() {
        rails[i % 4].execute(payout).await.unwrap();
    }
    world.front().node().dawdle = 25;
    let mut seen = BTreeSet::new();
    for _ in 0..200 {
        for result in futures::future::join_all(rails.iter().map(SolanaRail::work)).await {
            result.unwrap();
        }
        seen.extend(signatures(&world).await);
        world.block().await;
    }
    world.front().node().dawdle = 0;
    world.settle(&rails[0]).await;
    for (wallet, payout) in wallets.iter().zip(&payouts) {
        assert!(is_done(&rails[0], payout).await);
        assert_eq!(world.tokens(wallet).await, 1_000_000);
    }
    assert!(seen.len() > 3, "{seen:?}");
}
