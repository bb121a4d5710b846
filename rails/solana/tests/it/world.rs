//! A cluster with a token of its own, people who hold it, and the rail beside them. Everything here
//! speaks to the cluster over its ordinary RPC, so that it can be the simulated node or a validator.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use solana_client::{nonblocking::rpc_client::RpcClient, rpc_config::RpcSendTransactionConfig};
use solana_commitment_config::CommitmentConfig;
use solana_derivation_path::DerivationPath;
use solana_instruction::Instruction;
use solana_keypair::{Keypair, seed_derivable::keypair_from_seed_and_derivation_path};
use solana_message::Message;
use solana_program_pack::Pack;
use solana_pubkey::Pubkey;
use solana_signature::Signature;
use solana_signer::Signer as _;
use solana_transaction::Transaction;
use spl_associated_token_account_interface::{
    address::get_associated_token_address, instruction::create_associated_token_account_idempotent,
};
use spl_token_interface::{ID as TOKEN, instruction as token, state::Mint};
use tradepost::{
    ids::{AgentId, InstructionId},
    money::{Currency, Money},
    rail::{Cursor, Instruction as Order_, Observation, Order, RailError, RailMemory, SettlementRail, VolatileMemory},
    testkit::eventually,
};
use tradepost_solana::{Incident, SeedSigner, SolanaConfig, SolanaRail};
use uuid::Uuid;

use crate::front::Front;

/// Asks again when the connection breaks: what is asked here may be asked any number of times.
macro_rules! steady {
    ($ask:expr) => {{
        let mut left = 20;
        loop {
            match $ask.await {
                Ok(answer) => break answer,
                Err(error) if left == 0 => panic!("{error}"),
                Err(_) => left -= 1,
            }
        }
    }};
}

pub const SOL: u64 = 1_000_000_000;
/// How often something is waited for.
const PATIENCE: u32 = 400;

/// Where the transactions go.
pub enum Cluster {
    Simulated(Front),
    Validator,
}

pub struct World {
    pub cluster: Cluster,
    pub rpc: Arc<RpcClient>,
    /// Issues and freezes the token, and pays for what others do.
    pub issuer: Keypair,
    pub mint: Pubkey,
    pub memory: Arc<dyn RailMemory>,
    pub seed: [u8; 64],
    pub config: SolanaConfig,
    pub incidents: Arc<Mutex<Vec<Incident>>>,
    ids: Mutex<u64>,
    keys: Mutex<StdRng>,
}

impl World {
    /// A simulated cluster.
    pub async fn simulated(seed: u64) -> Self {
        let front = Front::start(seed).await;
        let url = front.url().to_owned();
        Self::begin(Cluster::Simulated(front), url, seed, StdRng::seed_from_u64(seed ^ 0x6e7)).await
    }

    /// A validator that runs already, and may have seen other tests.
    pub async fn validator(url: &str) -> Self {
        Self::begin(Cluster::Validator, url.to_owned(), std::process::id().into(), StdRng::from_os_rng()).await
    }

    async fn begin(cluster: Cluster, url: String, seed: u64, mut keys: StdRng) -> Self {
        let timeout = Duration::from_secs(10);
        let rpc = RpcClient::new_with_timeout_and_commitment(url, timeout, CommitmentConfig::finalized());
        let rpc = Arc::new(rpc);
        let genesis = rpc.get_genesis_hash().await.unwrap();
        let first_slot = rpc.get_slot().await.unwrap();
        let mint = Keypair::new_from_array(keys.random());
        let mut bytes = [7; 64];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let mut config = SolanaConfig::local(mint.pubkey(), genesis, first_slot);
        config.low_sol = 0;
        let world = Self {
            cluster,
            rpc,
            issuer: Keypair::new_from_array(keys.random()),
            mint: mint.pubkey(),
            memory: Arc::new(VolatileMemory::default()),
            seed: bytes,
            config,
            incidents: Arc::default(),
            ids: Mutex::new(seed << 20),
            keys: Mutex::new(keys),
        };
        world.airdrop(&world.issuer.pubkey(), 100 * SOL).await;
        let rent = world.rpc.get_minimum_balance_for_rent_exemption(Mint::LEN).await.unwrap();
        let issuer = world.issuer.pubkey();
        let create =
            solana_system_interface::instruction::create_account(&issuer, &world.mint, rent, Mint::LEN as u64, &TOKEN);
        let begin = token::initialize_mint2(&TOKEN, &world.mint, &issuer, Some(&issuer), 6).unwrap();
        world.send(&[create, begin], &[&mint]).await;
        let treasury = world.rail().await.treasury();
        world.airdrop(&treasury, 50 * SOL).await;
        world
    }

    /// The rail, as after a restart of its process.
    pub async fn rail(&self) -> SolanaRail {
        self.rail_of(self.config.clone()).await
    }

    pub async fn rail_of(&self, config: SolanaConfig) -> SolanaRail {
        steady!(self.connect(config.clone()))
    }

    /// The rail, if the node answers.
    pub async fn try_rail(&self) -> Result<SolanaRail, RailError> {
        self.connect(self.config.clone()).await
    }

    async fn connect(&self, config: SolanaConfig) -> Result<SolanaRail, RailError> {
        let signer = Arc::new(SeedSigner::new(&self.seed).unwrap());
        let incidents = self.incidents.clone();
        let rail = SolanaRail::connect(config, self.rpc.clone(), signer, self.memory.clone()).await?;
        Ok(rail.on_incident(move |incident| incidents.lock().unwrap().push(incident.clone())))
    }

    pub fn front(&self) -> &Front {
        match &self.cluster {
            Cluster::Simulated(front) => front,
            Cluster::Validator => panic!("this needs the simulated cluster"),
        }
    }

    /// The incidents told since this was asked last.
    pub fn incidents(&self) -> Vec<Incident> {
        std::mem::take(&mut self.incidents.lock().unwrap())
    }

    /// One block more.
    pub async fn block(&self) {
        match &self.cluster {
            Cluster::Simulated(front) => front.node().tick(),
            Cluster::Validator => {
                let processed = CommitmentConfig::processed();
                let slot = async || self.rpc.get_slot_with_commitment(processed).await.unwrap_or_default();
                let before = slot().await;
                let moves = async || (slot().await > before).then_some(());
                eventually(moves).await.expect("the validator goes on");
            }
        }
    }

    /// Carries out instructions and waits until that is final.
    pub async fn send(&self, instructions: &[Instruction], signers: &[&Keypair]) -> Signature {
        let confirmed = CommitmentConfig::confirmed();
        let (blockhash, _) = steady!(self.rpc.get_latest_blockhash_with_commitment(confirmed));
        let message = Message::new_with_blockhash(instructions, Some(&self.issuer.pubkey()), &blockhash);
        let mut transaction = Transaction::new_unsigned(message);
        let all: Vec<&Keypair> = std::iter::once(&self.issuer).chain(signers.iter().copied()).collect();
        transaction.sign(&all, blockhash);
        let config = RpcSendTransactionConfig { skip_preflight: true, ..RpcSendTransactionConfig::default() };
        let signature = steady!(self.rpc.send_transaction_with_config(&transaction, config));
        self.finalized(&signature).await;
        signature
    }

    pub async fn finalized(&self, signature: &Signature) {
        for _ in 0..PATIENCE {
            let status = steady!(self.rpc.get_signature_statuses(&[*signature])).value.remove(0);
            if let Some(status) = status.filter(|s| s.satisfies_commitment(CommitmentConfig::finalized())) {
                assert_eq!(status.err, None, "{signature}");
                return;
            }
            self.block().await;
        }
        panic!("{signature} does not come to its end");
    }

    pub async fn airdrop(&self, to: &Pubkey, lamports: u64) {
        let signature = steady!(self.rpc.request_airdrop(to, lamports));
        self.finalized(&signature).await;
    }

    /// The key of an account of the seed (0 is the treasury's), derived as any wallet would.
    pub fn key(&self, account: u32) -> Keypair {
        let path = DerivationPath::from_absolute_path_str(&format!("m/44'/501'/{account}'/0'")).unwrap();
        keypair_from_seed_and_derivation_path(&self.seed, Some(path)).unwrap()
    }

    pub fn account_of(&self, wallet: &Pubkey) -> Pubkey {
        get_associated_token_address(wallet, &self.mint)
    }

    pub fn create_account(&self, wallet: &Pubkey) -> Instruction {
        create_associated_token_account_idempotent(&self.issuer.pubkey(), wallet, &self.mint, &TOKEN)
    }

    /// Issues tokens to a wallet.
    pub async fn issue(&self, wallet: &Pubkey, minor: u64) -> Signature {
        let issuer = self.issuer.pubkey();
        let mint = token::mint_to(&TOKEN, &self.mint, &self.account_of(wallet), &issuer, &[], minor).unwrap();
        self.send(&[self.create_account(wallet), mint], &[]).await
    }

    /// A checked transfer between two wallets' token accounts.
    pub fn transfer(&self, from: &Pubkey, to: &Pubkey, minor: u64) -> Instruction {
        let (source, target) = (self.account_of(from), self.account_of(to));
        token::transfer_checked(&TOKEN, &source, &self.mint, &target, from, &[], minor, 6).unwrap()
    }

    /// What a wallet has, by the last block there is.
    pub async fn tokens(&self, wallet: &Pubkey) -> u64 {
        let account = self.account_of(wallet);
        if let Cluster::Simulated(front) = &self.cluster {
            return front.node().tokens(&account);
        }
        let processed = CommitmentConfig::processed();
        let found = steady!(self.rpc.get_account_with_commitment(&account, processed)).value;
        found.map_or(0, |found| token_account(&found.data).amount)
    }

    /// Somebody new: on the simulated cluster the same one in every run.
    pub fn keypair(&self) -> Keypair {
        Keypair::new_from_array(self.keys.lock().unwrap().random())
    }

    pub fn id(&self) -> Uuid {
        let mut ids = self.ids.lock().unwrap();
        *ids += 1;
        Uuid::from_u64_pair(0x7000, *ids)
    }

    pub fn agent(&self) -> AgentId {
        AgentId(self.id())
    }

    pub fn payout(&self, to: impl ToString, minor: i64) -> Order_ {
        let contract = self.id();
        let amount = Money::new(minor, Currency::USDC);
        let order = Order::Payout { agent: self.agent(), destination: Some(to.to_string()), amount };
        Order_ { id: InstructionId::derive(contract, 0), contract, order, answer: None }
    }

    /// Reads deposits from a cursor to the end.
    pub async fn read(&self, rail: &SolanaRail, from: &Cursor) -> (Vec<Observation>, Cursor) {
        let (mut items, mut at) = (Vec::new(), from.clone());
        for _ in 0..PATIENCE {
            let page = rail.observe(&at).await.unwrap();
            items.extend(page.items);
            if page.next == at {
                return (items, at);
            }
            at = page.next;
        }
        panic!("the reading has no end");
    }

    /// Works, block by block, until nothing waits.
    pub async fn settle(&self, rail: &SolanaRail) {
        for _ in 0..PATIENCE {
            let worked = rail.work().await.unwrap();
            if worked.waiting == 0 && worked.in_flight == 0 && worked.sent == 0 {
                return;
            }
            self.block().await;
        }
        panic!("it does not come to rest");
    }
}

pub fn token_account(data: &[u8]) -> spl_token_interface::state::Account {
    spl_token_interface::state::Account::unpack(data).unwrap()
}
