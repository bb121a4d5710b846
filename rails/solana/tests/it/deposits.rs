//! Deposits: found once, for the right agent, from whoever sent them (JP-24).

use std::sync::Arc;

use async_trait::async_trait;
use solana_address_lookup_table_interface::instruction::{create_lookup_table, extend_lookup_table};
use solana_commitment_config::CommitmentConfig;
use solana_keypair::Keypair;
use solana_message::{AddressLookupTableAccount, VersionedMessage, v0};
use solana_program_pack::Pack;
use solana_pubkey::Pubkey;
use solana_signature::Signature;
use solana_signer::Signer as _;
use solana_transaction::versioned::VersionedTransaction;
use spl_associated_token_account_interface::{
    address::get_associated_token_address_with_program_id,
    instruction::{create_associated_token_account_idempotent, recover_nested},
};
use spl_token_interface::{ID as TOKEN, instruction as token, state::Mint};
use tradepost::{
    ids::AgentId,
    rail::{Cursor, Observation, ObservationBody, RailErrorKind, SettlementRail},
};
use tradepost_solana::{
    DepositAddress, Finality, Incident, Key, SeedSigner, Signer, SignerError, SolanaConfig, SolanaRail, WatchOnly,
};

use crate::{front::Fault, world::World};

const TOKEN_2022: Pubkey = solana_pubkey::pubkey!("TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb");

/// A rail, an agent with a deposit address, and somebody with 100 USDC.
struct Scene {
    world: World,
    rail: SolanaRail,
    agent: AgentId,
    address: DepositAddress,
    someone: Keypair,
}

impl Scene {
    async fn new(seed: u64) -> Self {
        let world = World::simulated(seed).await;
        let rail = world.rail().await;
        let agent = world.agent();
        let address = rail.deposit_address(agent).await.unwrap();
        let someone = Keypair::new();
        world.issue(&someone.pubkey(), 100_000_000).await;
        world.send(&[world.create_account(&address.wallet)], &[]).await;
        Self { world, rail, agent, address, someone }
    }

    /// Somebody sends this much, as one transfer.
    async fn send(&self, minor: u64) -> Signature {
        let pay = self.world.transfer(&self.someone.pubkey(), &self.address.wallet, minor);
        self.world.send(&[pay], &[&self.someone]).await
    }

    /// The key of the deposit address.
    fn key(&self) -> Keypair {
        self.world.key(self.address.number.get())
    }

    async fn deposits(&self) -> Vec<(String, AgentId, i64, String)> {
        told(&self.world.read(&self.rail, &Cursor::default()).await.0)
    }
}

fn told(items: &[Observation]) -> Vec<(String, AgentId, i64, String)> {
    let deposit = |item: &Observation| match &item.body {
        ObservationBody::Deposit { agent, amount, source } => (item.id.clone(), *agent, amount.minor(), source.clone()),
        other => panic!("{other:?} is no deposit"),
    };
    items.iter().map(deposit).collect()
}

/// JP-24: the address that wallets show for the phrase `abandon … about` at `m/44'/501'/0'/0'`.
#[tokio::test]
async fn keys_are_those_that_any_wallet_derives() {
    let seed = "5eb00bbddcf069084889a8ab9155568165f5c453ccb85e70811aaed6f6da5fc1\
                9a5ac40b389cd370d086206dec8aa6c43daea6690f20ad3d8d48b2d2ce9e38e4";
    let seed: Vec<u8> = (0..64).map(|i| u8::from_str_radix(&seed[2 * i..2 * i + 2], 16).unwrap()).collect();
    let signer = SeedSigner::new(&seed).unwrap();
    let treasury = signer.address(Key::Treasury).await.unwrap();
    assert_eq!(treasury.to_string(), "HAgk14JpMQLgt6rVgv7cBQFJWFto5Dqxi472uT3DKpqk");
    let past = Key::Deposit((1 << 31).try_into().unwrap());
    assert_eq!(signer.address(past).await, Err(SignerError::NoSuchKey { account: 1 << 31 }));
}

/// JP-24: one address per agent, for ever, in every process; the key of each is the seed's.
#[tokio::test]
async fn an_agent_has_one_address_and_no_two_share_one() {
    let scene = Scene::new(20).await;
    assert_eq!(scene.key().pubkey(), scene.address.wallet);
    let (first, second) = (scene.world.rail().await, scene.world.rail().await);
    assert_eq!(first.deposit_address(scene.agent).await.unwrap(), scene.address);
    let agents: Vec<AgentId> = (0..300).map(|_| scene.world.agent()).collect();
    let both = futures::future::join_all(agents.iter().enumerate().map(|(i, agent)| {
        let rail = if i % 2 == 0 { &first } else { &second };
        rail.deposit_address(*agent)
    }));
    let mut wallets: Vec<Pubkey> = both.await.into_iter().map(|address| address.unwrap().wallet).collect();
    for (agent, wallet) in agents.iter().zip(&wallets) {
        assert_eq!(scene.rail.deposit_address(*agent).await.unwrap().wallet, *wallet);
    }
    wallets.sort_unstable();
    wallets.dedup();
    assert_eq!(wallets.len(), 300);
}

/// JP-24: once per signature and instruction; several in one transaction, checked or not, and what the
/// issuer mints, with the owner of the money as the source.
#[tokio::test]
async fn every_transfer_of_a_transaction_is_a_deposit_of_its_own() {
    let scene = Scene::new(21).await;
    let (world, from, to) = (&scene.world, scene.someone.pubkey(), scene.address.wallet);
    let (source, target) = (world.account_of(&from), world.account_of(&to));
    let plain = token::transfer(&TOKEN, &source, &target, &from, &[], 2_000_000).unwrap();
    let nothing = token::transfer(&TOKEN, &source, &target, &from, &[], 0).unwrap();
    let mint = token::mint_to(&TOKEN, &world.mint, &target, &world.issuer.pubkey(), &[], 4_000_000).unwrap();
    let all = [world.transfer(&from, &to, 1_000_000), plain, nothing, mint, world.transfer(&from, &to, 1)];
    let signature = world.send(&all, &[&scene.someone]).await;
    // A delegate moves somebody's money: the source is whose money it was.
    let delegate = Keypair::new();
    let allow = token::approve(&TOKEN, &source, &delegate.pubkey(), &from, &[], 5_000_000).unwrap();
    world.send(&[allow], &[&scene.someone]).await;
    let move_it =
        token::transfer_checked(&TOKEN, &source, &world.mint, &target, &delegate.pubkey(), &[], 5_000_000, 6).unwrap();
    let delegated = world.send(&[move_it], &[&delegate]).await;
    let (agent, someone, issuer) = (scene.agent, from.to_string(), world.issuer.pubkey().to_string());
    let expected = [
        (format!("{signature}:0"), agent, 1_000_000, someone.clone()),
        (format!("{signature}:1"), agent, 2_000_000, someone.clone()),
        (format!("{signature}:3"), agent, 4_000_000, issuer),
        (format!("{signature}:4"), agent, 1, someone.clone()),
        (format!("{delegated}:0"), agent, 5_000_000, someone),
    ];
    assert_eq!(scene.deposits().await, expected);
    assert_eq!(scene.deposits().await, expected, "asked again, the same again");
    assert_eq!(scene.rail.holdings().await.unwrap().total.minor(), 12_000_001);
}

/// JP-24: a transfer that another program makes is a deposit like any other: here the money that was sent to the token
/// account as if it were a wallet, and was brought back.
#[tokio::test]
async fn transfers_through_other_programs_are_found() {
    let scene = Scene::new(22).await;
    let (world, wallet) = (&scene.world, scene.address.wallet);
    let nested = world.account_of(&scene.address.token_account);
    let issuer = world.issuer.pubkey();
    let create = create_associated_token_account_idempotent(&issuer, &scene.address.token_account, &world.mint, &TOKEN);
    let mint = token::mint_to(&TOKEN, &world.mint, &nested, &issuer, &[], 3_000_000).unwrap();
    world.send(&[create, mint], &[]).await;
    assert_eq!(scene.deposits().await, [], "it is not at the address yet");
    let recover = recover_nested(&wallet, &world.mint, &world.mint, &TOKEN);
    let signature = world.send(&[recover], &[&scene.key()]).await;
    let found = scene.deposits().await;
    assert_eq!(found.len(), 1);
    assert!(found[0].0.starts_with(&format!("{signature}:0.")), "{found:?}");
    assert_eq!((found[0].1, found[0].2), (scene.agent, 3_000_000));
}

/// JP-24: an address that a transaction names by a lookup table, as wallets make them.
#[tokio::test]
async fn addresses_out_of_lookup_tables_are_found() {
    let scene = Scene::new(30).await;
    let (world, issuer, from) = (&scene.world, scene.world.issuer.pubkey(), scene.someone.pubkey());
    let (create, table) = create_lookup_table(issuer, issuer, 0);
    let addresses = vec![world.mint, scene.address.token_account];
    let extend = extend_lookup_table(table, issuer, Some(issuer), addresses.clone());
    world.send(&[create, extend], &[]).await;
    let pay = world.transfer(&from, &scene.address.wallet, 3_000_000);
    let (blockhash, _) = world.rpc.get_latest_blockhash_with_commitment(CommitmentConfig::confirmed()).await.unwrap();
    let table = AddressLookupTableAccount { key: table, addresses };
    let message = v0::Message::try_compile(&issuer, &[pay], &[table], blockhash).unwrap();
    assert!(!message.account_keys.contains(&scene.address.token_account));
    let message = VersionedMessage::V0(message);
    let transaction = VersionedTransaction::try_new(message, &[&world.issuer, &scene.someone]).unwrap();
    let signature = world.rpc.send_transaction(&transaction).await.unwrap();
    world.finalized(&signature).await;
    let expected = (format!("{signature}:0"), scene.agent, 3_000_000, from.to_string());
    assert_eq!(scene.deposits().await, [expected]);
}

/// JP-24: at the configured finality, not before. Whatever the node, the default waits for finalized blocks.
#[tokio::test]
async fn a_deposit_counts_once_its_block_does() {
    let scene = Scene::new(31).await;
    let mut config = scene.world.config.clone();
    config.finality = Finality::Confirmed;
    let sooner = scene.world.rail_of(config).await;
    let (_, end) = scene.world.read(&scene.rail, &Cursor::default()).await;
    let pay = scene.world.transfer(&scene.someone.pubkey(), &scene.address.wallet, 4_000_000);
    scene.world.front().node().run_now(&[pay], &[&scene.world.issuer, &scene.someone]);
    let mut after = Vec::new();
    for _ in 0..5 {
        scene.world.block().await;
        let mut found = [0, 0];
        for (rail, found) in [&scene.rail, &sooner].into_iter().zip(&mut found) {
            *found = scene.world.read(rail, &end).await.0.len();
        }
        after.push(found);
    }
    // The simulated node confirms a block with the next one, and finalizes it two later.
    assert_eq!(after, [[0, 0], [0, 1], [0, 1], [1, 1], [1, 1]]);
}

/// JP-24: another mint, the other token program, a transfer to itself and one that fails bring nothing in.
#[tokio::test]
async fn look_alikes_self_transfers_and_failures_are_no_deposits() {
    let scene = Scene::new(23).await;
    let (world, wallet, issuer) = (&scene.world, scene.address.wallet, scene.world.issuer.pubkey());
    // Another mint, by either token program.
    for program in [TOKEN, TOKEN_2022] {
        let mint = Keypair::new();
        let rent = world.rpc.get_minimum_balance_for_rent_exemption(Mint::LEN).await.unwrap();
        let create = solana_system_interface::instruction::create_account(
            &issuer,
            &mint.pubkey(),
            rent,
            Mint::LEN as u64,
            &program,
        );
        let mut begin = token::initialize_mint2(&TOKEN, &mint.pubkey(), &issuer, None, 6).unwrap();
        let account = get_associated_token_address_with_program_id(&wallet, &mint.pubkey(), &program);
        let open = create_associated_token_account_idempotent(&issuer, &wallet, &mint.pubkey(), &program);
        let mut issue = token::mint_to(&TOKEN, &mint.pubkey(), &account, &issuer, &[], 9_000_000).unwrap();
        (begin.program_id, issue.program_id) = (program, program);
        world.send(&[create, begin, open, issue], &[&mint]).await;
    }
    // To itself, and a transaction that fails in the end.
    scene.send(2_000_000).await;
    let (pay, too_much) = (
        world.transfer(&scene.someone.pubkey(), &wallet, 1),
        world.transfer(&scene.someone.pubkey(), &wallet, 1 << 40),
    );
    let failed = world.front().node().run_now(&[pay, too_much], &[&world.issuer, &scene.someone]);
    world.block().await;
    assert!(world.front().node().is_failed(&failed), "it is in a block, and failed");
    world.send(&[world.transfer(&wallet, &wallet, 1_000_000)], &[&scene.key()]).await;
    let found = scene.deposits().await;
    assert_eq!(found.iter().map(|deposit| deposit.2).collect::<Vec<_>>(), [2_000_000]);
    assert_eq!(scene.rail.holdings().await.unwrap().total.minor(), 2_000_000);
    assert_eq!(world.incidents(), [], "all of it is understood");
}

/// JP-24: a gap after downtime is caught up, over skipped slots, in pages of any size; what is read twice is told twice
/// with the same ids.
#[tokio::test]
async fn a_gap_is_caught_up() {
    let scene = Scene::new(24).await;
    scene.world.front().node().skip = 300;
    let mut sent = Vec::new();
    for minor in 1..=12 {
        sent.push((format!("{}:0", scene.send(minor).await), minor as i64));
        for _ in 0..15 {
            scene.world.block().await;
        }
    }
    for blocks_per_poll in [1, 7, 1000] {
        let mut config = scene.world.config.clone();
        config.blocks_per_poll = blocks_per_poll;
        let rail = scene.world.rail_of(config).await;
        let (items, end) = scene.world.read(&rail, &Cursor::default()).await;
        let found: Vec<_> = told(&items).into_iter().map(|(id, _, minor, _)| (id, minor)).collect();
        assert_eq!(found, sent);
        let later = scene.send(77).await;
        let (items, _) = scene.world.read(&rail, &end).await;
        assert_eq!(told(&items)[0].0, format!("{later}:0"));
        assert_eq!(items.len(), 1);
        sent.push((format!("{later}:0"), 77));
    }
}

/// JP-24: a node that is behind, that has forgotten, or that is of another chain stops the reading; it cannot make it
/// skip anything.
#[tokio::test]
async fn a_node_that_lags_or_forgets_hides_nothing() {
    let scene = Scene::new(25).await;
    let (_, end) = scene.world.read(&scene.rail, &Cursor::default()).await;
    let signature = scene.send(5_000_000).await;
    scene.world.front().node().lag = 15;
    assert_eq!(scene.rail.observe(&end).await.unwrap().items, []);
    scene.world.front().node().lag = 0;
    // The blocks right after the cursor are gone: the rest must not be read as if they had been empty.
    let slot = scene.world.front().node().slot();
    scene.world.front().node().oldest = slot - 4;
    let error = scene.rail.observe(&end).await.unwrap_err();
    assert_eq!(error.kind(), RailErrorKind::NotSent, "{error}");
    scene.world.front().node().oldest = 0;
    let (_, hash) = end.0.split_once(' ').unwrap();
    let other = end.0.replace(hash, &Pubkey::new_unique().to_string());
    assert!(scene.rail.observe(&Cursor(other)).await.is_err(), "another chain's block");
    assert_eq!(scene.rail.observe(&Cursor("nonsense".into())).await.unwrap_err().kind(), RailErrorKind::Refused);
    let (items, _) = scene.world.read(&scene.rail, &end).await;
    assert_eq!(told(&items)[0].0, format!("{signature}:0"));
}

/// JP-24: before the first block is read nothing says what it has to follow, so it is read from a node that has it, of
/// the configured cluster.
#[tokio::test]
async fn the_reading_begins_where_it_should() {
    let scene = Scene::new(32).await;
    let signature = scene.send(5_000_000).await;
    for _ in 0..10 {
        scene.world.block().await;
    }
    let slot = scene.world.front().node().slot();
    scene.world.front().node().oldest = slot - 5;
    let error = scene.rail.observe(&Cursor::default()).await.unwrap_err();
    assert_eq!(error.kind(), RailErrorKind::NotSent, "{error}");
    scene.world.front().node().oldest = 0;
    scene.world.front().node().other_genesis = Some(SolanaConfig::mainnet(0).genesis);
    let error = scene.rail.observe(&Cursor::default()).await.unwrap_err();
    assert_eq!(error.kind(), RailErrorKind::Refused, "{error}");
    scene.world.front().node().other_genesis = None;
    let expected = (format!("{signature}:0"), scene.agent, 5_000_000, scene.someone.pubkey().to_string());
    assert_eq!(scene.deposits().await, [expected]);
}

/// JP-24: what a page of blocks breaks off at is asked for again, and what was read before it is kept.
#[tokio::test]
async fn a_broken_connection_loses_nothing() {
    let scene = Scene::new(26).await;
    let mut sent = Vec::new();
    for minor in 1..=5 {
        sent.push(format!("{}:0", scene.send(minor).await));
    }
    for fault in [Fault::LoseRequest, Fault::LoseAnswer, Fault::Busy, Fault::Twice, Fault::Reorder] {
        let (mut at, mut ids) = (Cursor::default(), Vec::new());
        for round in 0..200 {
            if round % 2 == 0 {
                scene.world.front().next(Some("getBlock"), fault);
            }
            match scene.rail.observe(&at).await {
                Ok(page) if page.next == at => break,
                Ok(page) => {
                    ids.extend(page.items.into_iter().map(|item| item.id));
                    at = page.next;
                }
                Err(error) => assert_ne!(error.kind(), RailErrorKind::Refused, "{error}"),
            }
        }
        scene.world.front().calm();
        assert_eq!(ids, sent, "{fault:?}");
    }
}

/// Addresses without keys, made from their numbers: what matters here is how many.
struct Numbered(Pubkey);

#[async_trait]
impl Signer for Numbered {
    async fn address(&self, key: Key) -> Result<Pubkey, SignerError> {
        let mut bytes = [9; 32];
        bytes[..4].copy_from_slice(&key.account().to_le_bytes());
        Ok(if key == Key::Treasury { self.0 } else { Pubkey::new_from_array(bytes) })
    }

    async fn sign(&self, _key: Key, _message: &[u8]) -> Result<Signature, SignerError> {
        Err(SignerError::WatchOnly)
    }
}

/// JP-24: a poll costs two requests and one for each new block, however many addresses there are.
#[tokio::test]
async fn ten_thousand_idle_addresses_cost_no_request() {
    let scene = Scene::new(27).await;
    let signer = Arc::new(Numbered(scene.rail.treasury()));
    let world = &scene.world;
    let connect = || SolanaRail::connect(world.config.clone(), world.rpc.clone(), signer.clone(), world.memory.clone());
    let rail = connect().await.unwrap();
    for _ in 0..10_000 {
        rail.deposit_address(world.agent()).await.unwrap();
    }
    let rail = connect().await.unwrap();
    let (_, end) = world.read(&rail, &Cursor::default()).await;
    world.front().requests();
    assert_eq!(rail.observe(&end).await.unwrap().next, end);
    assert_eq!(world.front().requests().values().sum::<u64>(), 1, "nothing new: one request");
    for _ in 0..10 {
        world.block().await;
    }
    rail.observe(&end).await.unwrap();
    let requests = world.front().requests();
    assert_eq!(requests["getBlock"], 10);
    assert_eq!(requests.values().sum::<u64>(), 12, "{requests:?}");
    rail.holdings().await.unwrap();
    assert_eq!(
        world.front().requests()["getMultipleAccounts"],
        10_001u64.div_ceil(100) + 1,
        "holdings are asked for rarely"
    );
}

/// JP-24: a process without keys sees what another handed out, and can neither hand out nor move anything.
#[tokio::test]
async fn a_process_that_only_watches() {
    let scene = Scene::new(28).await;
    let (world, treasury) = (&scene.world, scene.rail.treasury());
    let watch = SolanaRail::connect(
        world.config.clone(),
        world.rpc.clone(),
        Arc::new(WatchOnly { treasury }),
        world.memory.clone(),
    );
    let watch = watch.await.unwrap();
    let late = world.agent();
    let address = scene.rail.deposit_address(late).await.unwrap();
    world.issue(&address.wallet, 6_000_000).await;
    let (items, _) = world.read(&watch, &Cursor::default()).await;
    assert_eq!(told(&items)[0].1, late);
    assert_eq!(watch.holdings().await.unwrap().total.minor(), 6_000_000);
    let refused = watch.deposit_address(world.agent()).await.unwrap_err();
    assert_eq!(refused.kind(), RailErrorKind::Refused);
    assert_eq!(watch.work().await.unwrap_err().kind(), RailErrorKind::Refused, "a sweep needs keys");
    assert_eq!(world.tokens(&treasury).await, 0);
}

/// JP-24: what this version cannot read is told to an operator, and never credited by guess.
#[tokio::test]
async fn movements_that_are_not_understood_are_told() {
    let scene = Scene::new(29).await;
    scene.send(2_000_000).await;
    // The node says that the transfer moved one unit more than the balances did.
    for _ in 0..64 {
        scene.world.front().next(Some("getBlock"), Fault::LieAmount);
    }
    let found = scene.deposits().await;
    scene.world.front().calm();
    assert_eq!(found, []);
    let told = scene.world.incidents();
    let account = scene.address.token_account;
    assert!(
        matches!(told[..], [Incident::Unexplained { account: at, moved: 2_000_000, read: 2_000_001, .. }] if at == account),
        "{told:?}"
    );
}

/// JP-24: the money comes out of a token account that lives within the transaction only, as some programs make them:
/// the source is who ordered the transfer.
#[tokio::test]
async fn jp_24_the_source_is_a_wallet_also_where_its_account_is_gone() {
    let scene = Scene::new(33).await;
    let (world, from) = (&scene.world, scene.someone.pubkey());
    let (passing, rent) = (Keypair::new(), world.rpc.get_minimum_balance_for_rent_exemption(165).await.unwrap());
    let create = solana_system_interface::instruction::create_account(
        &world.issuer.pubkey(),
        &passing.pubkey(),
        rent,
        165,
        &TOKEN,
    );
    let open = token::initialize_account3(&TOKEN, &passing.pubkey(), &world.mint, &from).unwrap();
    let (source, target) = (world.account_of(&from), world.account_of(&scene.address.wallet));
    let mut all = vec![create, open];
    all.push(token::transfer(&TOKEN, &source, &passing.pubkey(), &from, &[], 3_000_000).unwrap());
    all.push(token::transfer(&TOKEN, &passing.pubkey(), &target, &from, &[], 1_000_000).unwrap());
    let checked =
        token::transfer_checked(&TOKEN, &passing.pubkey(), &world.mint, &target, &from, &[], 2_000_000, 6).unwrap();
    all.push(checked);
    all.push(token::close_account(&TOKEN, &passing.pubkey(), &from, &from, &[]).unwrap());
    let signature = world.send(&all, &[&passing, &scene.someone]).await;
    let (agent, from) = (scene.agent, from.to_string());
    let expected = [
        (format!("{signature}:3"), agent, 1_000_000, from.clone()),
        (format!("{signature}:4"), agent, 2_000_000, from),
    ];
    assert_eq!(scene.deposits().await, expected);
}

/// JP-24: a transaction of a version that is not known yet stops nobody's deposits; what it moved at an address is told.
#[tokio::test]
async fn jp_24_transactions_of_a_later_version_stop_nobody() {
    let scene = Scene::new(34).await;
    let newer = scene.send(3_000_000).await;
    scene.world.front().node().newer = Some(newer);
    let after = scene.send(2_000_000).await;
    let found = scene.deposits().await;
    assert_eq!(found.iter().map(|deposit| deposit.0.clone()).collect::<Vec<_>>(), [format!("{after}:0")]);
    let account = scene.address.token_account;
    let told = scene.world.incidents();
    assert_eq!(told, [Incident::Unexplained { signature: newer, account, moved: 3_000_000, read: 0 }]);
    // One that has nothing to do with the platform is nobody's business.
    let issued = scene.world.issue(&scene.someone.pubkey(), 1).await;
    scene.world.front().node().newer = Some(issued);
    assert_eq!(scene.deposits().await.len(), 2);
    assert_eq!(scene.world.incidents(), []);
}

/// JP-24: what was read before a block that the node lacks is told; and a node that has lost what transactions did can
/// stop the reading, and cannot make it skip any.
#[tokio::test]
async fn jp_24_what_was_read_before_a_bad_block_is_kept() {
    let scene = Scene::new(35).await;
    let first = scene.send(1_000_000).await;
    let slot = scene.world.front().node().slot();
    let second = scene.send(2_000_000).await;
    for _ in 0..5 {
        scene.world.block().await;
    }
    scene.world.front().node().hole = slot + 1..slot + 3;
    let page = scene.rail.observe(&Cursor::default()).await.unwrap();
    assert_eq!(page.items.iter().map(|item| item.id.clone()).collect::<Vec<_>>(), [format!("{first}:0")]);
    assert_eq!(scene.rail.observe(&page.next).await.unwrap_err().kind(), RailErrorKind::NotSent);
    scene.world.front().node().hole = 0..0;
    for _ in 0..8 {
        scene.world.front().next(Some("getBlock"), Fault::LoseEffects);
    }
    let mut at = page.next;
    let error = loop {
        match scene.rail.observe(&at).await {
            Ok(page) => {
                assert_eq!(page.items, []);
                assert_ne!(page.next, at, "it is at the end");
                at = page.next;
            }
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), RailErrorKind::NotSent, "{error}");
    scene.world.front().calm();
    let (items, _) = scene.world.read(&scene.rail, &at).await;
    assert_eq!(told(&items)[0].0, format!("{second}:0"));
}

/// JP-24: holdings are told while every block brings a sweep, and what is on its way is counted once.
#[tokio::test]
async fn jp_24_holdings_are_told_while_sweeps_go_on() {
    let scene = Scene::new(36).await;
    let (world, treasury) = (&scene.world, scene.rail.treasury());
    world.issue(&treasury, 100_000_000).await;
    let mut addresses = Vec::new();
    for _ in 0..250 {
        addresses.push(scene.rail.deposit_address(world.agent()).await.unwrap());
    }
    // Of the first addresses and of the last ones.
    let swept: Vec<_> = addresses[..8].iter().zip(&addresses[242..]).flat_map(|(a, b)| [a, b]).collect();
    for address in &swept {
        world.issue(&address.wallet, 1_000_000).await;
    }
    for (blocks, address) in (0..).zip(&swept) {
        let sweep = world.transfer(&address.wallet, &treasury, 1_000_000);
        world.front().node().run_in(blocks, &[sweep], &[&world.key(0), &world.key(address.number.get())]);
    }
    world.front().node().hurries = true;
    let mut rounds = 0;
    while !world.front().node().is_settled() {
        assert_eq!(scene.rail.holdings().await.unwrap().total.minor(), 116_000_000);
        rounds += 1;
    }
    assert!(rounds > 2, "{rounds}");
    assert_eq!(world.tokens(&treasury).await, 116_000_000);
}
