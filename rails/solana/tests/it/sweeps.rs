//! Sweeps: deposits reach the treasury, and what cannot be swept keeps no others there (JP-24).

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::future::join_all;
use solana_instruction::error::InstructionError;
use solana_pubkey::Pubkey;
use solana_signature::Signature;
use solana_signer::Signer as _;
use solana_transaction_error::TransactionError;
use spl_token_interface::{ID as TOKEN, instruction as token};
use tradepost::rail::{RailErrorKind, SettlementRail};
use tradepost_solana::{Incident, Key, SeedSigner, Signer, SignerError, SolanaRail};

use crate::{withdrawals::funded, world::World};

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
