//! What withdrawals cost: fees in lamports, and compute units against those of their instructions.

use std::fmt;

use solana_client::rpc_config::RpcTransactionConfig;
use solana_commitment_config::CommitmentConfig;
use solana_signature::Signature;
use solana_signer::Signer as _;
use solana_system_interface::instruction::advance_nonce_account;
use solana_transaction_status_client_types::{UiTransactionEncoding, option_serializer::OptionSerializer};
use tradepost::rail::{Outcome, SettlementRail};
use tradepost_solana::{DurableNonces, SolanaRail};

use crate::world::World;

/// What was measured.
#[derive(Clone, Copy, Debug, Default)]
pub struct Costs {
    /// One withdrawal to a wallet that has a token account: lamports.
    pub single: u64,
    /// Ten of them in ten transactions, and in one: lamports.
    pub ten_single: u64,
    pub ten_batched: u64,
    /// Compute units of the ten in one, and of ten transfers made alone.
    pub batch_units: u64,
    pub alone_units: u64,
    /// Compute units of a withdrawal that makes the token account, and of its two instructions alone.
    pub creating_units: u64,
    pub creating_alone_units: u64,
    /// One on a durable nonce: lamports, compute units, and those of its two instructions alone.
    pub nonce: u64,
    pub nonce_units: u64,
    pub nonce_alone_units: u64,
    /// The rent of a token account, in lamports.
    pub rent: u64,
}

impl fmt::Display for Costs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "one withdrawal                 {:>9} lamports", self.single)?;
        writeln!(f, "ten, one by one                {:>9} lamports", self.ten_single)?;
        writeln!(f, "ten, in one transaction        {:>9} lamports", self.ten_batched)?;
        writeln!(f, "rent of a new token account    {:>9} lamports", self.rent)?;
        writeln!(f, "ten transfers in one           {:>9} units", self.batch_units)?;
        writeln!(f, "  the same alone, summed       {:>9} units", self.alone_units)?;
        writeln!(f, "withdrawal to a new account    {:>9} units", self.creating_units)?;
        writeln!(f, "  its instructions, summed     {:>9} units", self.creating_alone_units)?;
        writeln!(f, "one withdrawal on a nonce      {:>9} lamports", self.nonce)?;
        writeln!(f, "                               {:>9} units", self.nonce_units)?;
        write!(f, "  its instructions, summed     {:>9} units", self.nonce_alone_units)
    }
}

pub async fn measure(world: &mut World) -> Costs {
    let mut costs = Costs::default();
    let rail = world.rail().await;
    world.issue(&rail.treasury(), 1_000_000_000).await;
    costs.rent = world.rpc.get_minimum_balance_for_rent_exemption(165).await.unwrap();

    // Each instruction alone, as somebody else would make it. Finding an account's address takes more
    // units for some wallets than for others, so it is the same wallet that is measured twice.
    let someone = world.keypair();
    world.issue(&someone.pubkey(), 1_000_000).await;
    let receiver = world.keypair();
    let created = world.send(&[world.create_account(&receiver.pubkey())], &[]).await;
    let wallets: Vec<_> = (0..10).map(|_| world.keypair().pubkey()).collect();
    for five in wallets.chunks(5) {
        let create: Vec<_> = five.iter().map(|wallet| world.create_account(wallet)).collect();
        world.send(&create, &[]).await;
    }
    let moved = world.send(&[world.transfer(&someone.pubkey(), &wallets[0], 1)], &[&someone]).await;
    let transfer = units(world, &moved).await;
    costs.alone_units = 10 * transfer;

    (costs.single, _) = pay(world, &rail, &wallets[..1]).await;
    for (batch, fees) in [(1, &mut costs.ten_single), (10, &mut costs.ten_batched)] {
        world.config.batch = batch;
        (*fees, costs.batch_units) = pay(world, &world.rail().await, &wallets).await;
    }

    let (wallet, account) = (receiver.pubkey(), world.account_of(&receiver.pubkey()));
    let close = spl_token_interface::instruction::close_account;
    let close = close(&spl_token_interface::ID, &account, &wallet, &wallet, &[]).unwrap();
    world.send(&[close], &[&receiver]).await;
    (_, costs.creating_units) = pay(world, &rail, &[wallet]).await;
    costs.creating_alone_units = units(world, &created).await + transfer;

    world.config.durable_nonces = Some(DurableNonces { lanes: 1, call_off_after: 1_000 });
    let rail = world.rail().await;
    rail.work().await.unwrap();
    world.settle(&rail).await;
    (costs.nonce, costs.nonce_units) = pay(world, &rail, &wallets[..1]).await;
    let advance = advance_nonce_account(&rail.nonce_accounts()[0], &rail.treasury());
    let advanced = world.send(&[advance], &[&world.key(0)]).await;
    costs.nonce_alone_units = units(world, &advanced).await + transfer;
    costs
}

/// Pays each wallet once; the fees of all, and the units of the last transaction.
async fn pay(world: &World, rail: &SolanaRail, wallets: &[solana_pubkey::Pubkey]) -> (u64, u64) {
    let payouts: Vec<_> = wallets.iter().map(|wallet| world.payout(wallet, 1_000_000)).collect();
    for payout in &payouts {
        rail.execute(payout).await.unwrap();
    }
    world.settle(rail).await;
    let (mut fees, mut last) = (0, String::new());
    for payout in &payouts {
        fees += rail.spent(payout.id).await.unwrap().unwrap().fee;
        let Some(Outcome::Done(receipt)) = rail.lookup(payout).await.unwrap() else { panic!("not done") };
        last = receipt.reference;
    }
    let signature = last.split(':').next().unwrap().parse().unwrap();
    (fees, units(world, &signature).await)
}

async fn units(world: &World, signature: &Signature) -> u64 {
    let config = RpcTransactionConfig {
        encoding: Some(UiTransactionEncoding::Base64),
        commitment: Some(CommitmentConfig::finalized()),
        max_supported_transaction_version: Some(0),
    };
    let found = world.rpc.get_transaction_with_config(signature, config).await.unwrap();
    match found.transaction.meta.unwrap().compute_units_consumed {
        OptionSerializer::Some(units) => units,
        other => panic!("the node does not tell the units: {other:?}"),
    }
}

/// JP-26: at most 1.05 times the signatures' fee, ten batched at most half of ten single, compute units at most 1.1
/// times those of the instructions.
#[cfg(test)]
#[tokio::test]
async fn withdrawals_cost_what_they_must() {
    let costs = measure(&mut World::simulated(70).await).await;
    println!("{costs}");
    assert!(costs.single * 100 <= 5_000 * 105, "{costs}");
    assert!(costs.ten_batched * 2 <= costs.ten_single, "{costs}");
    assert!(costs.batch_units * 10 <= costs.alone_units * 11, "{costs}");
    assert!(costs.creating_units * 10 <= costs.creating_alone_units * 11, "{costs}");
    assert!(costs.nonce * 100 <= 5_000 * 105, "{costs}");
    assert!(costs.nonce_units * 10 <= costs.nonce_alone_units * 11, "{costs}");
}
