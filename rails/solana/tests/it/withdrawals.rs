//! Withdrawals: paid once, whatever the network, the node and the process do (JP-26).

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use futures::future::join_all;
use serde_json::Value;
use solana_keypair::Keypair;
use solana_pubkey::Pubkey;
use solana_signature::Signature;
use solana_signer::Signer as _;
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
pub async fn funded(seed: u64) -> (World, SolanaRail) {
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
