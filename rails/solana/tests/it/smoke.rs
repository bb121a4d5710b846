//! x
use crate::world::*;
use tradepost::rail::*;
use tradepost_solana::*;
use solana_keypair::Keypair;
use solana_signer::Signer as _;

#[tokio::test]
async fn smoke() {
    let world = World::simulated(1).await;
    let rail = world.rail().await;
    let agent = world.agent();
    let address = rail.deposit_address(agent).await.unwrap();
    let someone = Keypair::new();
    world.issue(&someone.pubkey(), 50_000_000).await;
    world.send(&[world.create_account(&address.wallet), world.transfer(&someone.pubkey(), &address.wallet, 20_000_000)], &[&someone]).await;
    let (items, _) = world.read(&rail, &Cursor::default()).await;
    println!("{items:?}");
    assert_eq!(items.len(), 1);
    println!("{:?}", rail.holdings().await.unwrap());
    world.settle(&rail).await;
    println!("{:?}", rail.holdings().await.unwrap());
    let to = Keypair::new();
    let payout = world.payout(to.pubkey(), 7_000_000);
    println!("{:?}", rail.execute(&payout).await.unwrap());
    world.settle(&rail).await;
    println!("{:?}", rail.lookup(&payout).await.unwrap());
    println!("{:?}", rail.spent(payout.id).await.unwrap());
    println!("{:?} {:?}", world.incidents(), world.front().requests());
    assert_eq!(world.tokens(&to.pubkey()).await, 7_000_000);
}
