//! A marketplace on the stage: its people have keys, and sign what they are asked for.

use std::{collections::HashMap, sync::Arc};

use alloy_primitives::Address;
use alloy_signer_local::PrivateKeySigner;
use async_trait::async_trait;
use serde_json::json;
use tradepost::{
    agreement::{Agreement, Proposal, receipt::ReceiptSigner},
    clock::{Clock, SystemClock},
    engine::Marketplace,
    ids::{AgentId, AgreementId, HoldId, JobId},
    job::{Delivery, Job, JobOrder},
    ledger::Account,
    money::Money,
    policy::Policy,
    rail::{Party, StoreMemory},
    store::{InstructionState, MemoryStore, Store},
};
use tradepost_evm::{Act, Answer, Ask, EvmError, EvmRail, EvmReceipts, Screen, ScreenError, Sent};

use super::{Stage, key};

/// How many rounds anything may take.
const PATIENCE: u32 = 60;

/// How a party does something (PG-10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// It signs, the platform relays.
    Signature,
    /// It sends the transaction and pays for it.
    OwnTransaction,
}

/// A list with nobody on it (PG-16 wants one to be asked).
struct NobodyListed;

#[async_trait]
impl Screen for NobodyListed {
    async fn is_listed(&self, _wallet: Address) -> Result<bool, ScreenError> {
        Ok(false)
    }
}

pub struct Market {
    pub stage: Stage,
    pub market: Marketplace,
    pub rail: Arc<EvmRail>,
    pub buyer: AgentId,
    pub worker: AgentId,
    pub keys: HashMap<AgentId, PrivateKeySigner>,
    store: MemoryStore,
    policy: Policy,
    clock: Arc<dyn Clock>,
}

async fn build(
    stage: &Stage,
    store: &MemoryStore,
    policy: &Policy,
    clock: &Arc<dyn Clock>,
    with: impl FnOnce(EvmRail) -> EvmRail,
) -> (Marketplace, Arc<EvmRail>) {
    let market = store.open_market("stage").await.unwrap();
    let memory = StoreMemory::new(Arc::new(store.clone()), market, stage.config.id);
    let rail = Arc::new(with(stage.rail(Arc::new(memory)).await.with_screen(NobodyListed)));
    let receipts = EvmReceipts::new(stage.config.settlement_domain());
    let builder = Marketplace::builder("stage", store.clone(), policy.clone()).clock(clock.clone());
    (builder.rail(rail.clone()).receipts(receipts).build().await.unwrap(), rail)
}

impl Market {
    pub async fn open(stage: Stage, policy: Policy) -> Self {
        Self::open_with(stage, policy, |rail| rail).await
    }

    pub async fn open_with(stage: Stage, policy: Policy, with: impl FnOnce(EvmRail) -> EvmRail) -> Self {
        Self::open_at(stage, policy, Arc::new(SystemClock), with).await
    }

    pub async fn open_at(
        stage: Stage,
        policy: Policy,
        clock: Arc<dyn Clock>,
        with: impl FnOnce(EvmRail) -> EvmRail,
    ) -> Self {
        let store = MemoryStore::default();
        let (market, rail) = build(&stage, &store, &policy, &clock, with).await;
        let [buyer, worker] = [1, 2].map(|number| AgentId(uuid::Uuid::from_u128(number)));
        let keys = HashMap::from([(buyer, key("the buyer")), (worker, key("the worker"))]);
        for (agent, key) in &keys {
            rail.link_wallet(*agent, key.address()).await.unwrap();
        }
        stage.mint(keys[&buyer].address(), 100_000_000).await;
        Self { stage, market, rail, buyer, worker, keys, store, policy, clock }
    }

    /// Another process goes on with the same store.
    pub async fn restart(&mut self) {
        let built = build(&self.stage, &self.store, &self.policy, &self.clock, |rail| rail).await;
        (self.market, self.rail) = built;
    }

    pub fn wallet(&self, agent: AgentId) -> Address {
        self.keys[&agent].address()
    }

    /// Posted by the buyer and accepted by the worker; its payment waits for the buyer.
    pub async fn agree(&self, minor: i64) -> JobId {
        let order = JobOrder {
            task: json!({ "text": "Guten Tag" }).as_object().unwrap().clone(),
            worker: Some(self.worker),
            ..JobOrder::new("Translate a page", Money::new(minor, self.market.currency()))
        };
        let job = self.market.agent(self.buyer).post_job(order).await.unwrap();
        self.market.agent(self.worker).accept(job.id).await.unwrap();
        job.id
    }

    pub async fn deliver(&self, job: JobId) {
        let output = json!({ "text": "Good day" }).as_object().unwrap().clone();
        self.market.agent(self.worker).deliver(job, Delivery { content_type: None, output }).await.unwrap();
    }

    /// Proposed by the buyer and accepted by the worker: so many units at 0.05 dollars, counted by the meter. Its
    /// payment waits for the buyer.
    pub async fn agree_on_units(&self, quantity: i64) -> AgreementId {
        let meter = ReceiptSigner { scheme: "eip712".into(), key: key("the meter").address().to_string() };
        let proposal = json!({ "seller": self.worker, "quantity": quantity, "unit": "api_calls",
            "unit_price": Money::new(50_000, self.market.currency()), "receipt_signer": meter });
        let proposal: Proposal = serde_json::from_value(proposal).unwrap();
        let id = self.market.agent(self.buyer).propose_agreement(proposal).await.unwrap().id;
        self.market.agent(self.worker).accept_agreement(id, None).await.unwrap();
        self.market.agent(self.buyer).activate_agreement(id).await.unwrap();
        id
    }

    /// Has a party, the meter or the arbiter do something: by a signature that the platform relays, or by its own
    /// transaction.
    pub async fn act(&self, hold: impl Into<HoldId>, act: Act, who: &str, by: By) -> Result<(), EvmError> {
        let (hold, key) = (hold.into(), key(who));
        self.stage.enrich(key.address()).await;
        let options = self.rail.options(hold, act).await?;
        match (by, options.call) {
            (By::OwnTransaction, Some(call)) => {
                self.stage.send(call.from, call.to, call.data.to_vec()).await;
            }
            // A receipt is handed in by the worker, who has it from the meter.
            (By::OwnTransaction, None) => {
                let (signature, sender) = (options.sign.sign(&key).unwrap(), self.wallet(self.worker));
                let given =
                    self.rail.signed_call(hold, act, options.nonce, options.deadline, signature, sender).await?;
                self.stage.send(given.from, given.to, given.data.to_vec()).await;
            }
            (By::Signature, _) => {
                let signature = options.sign.sign(&key).unwrap();
                let sent = self.rail.relay(hold, act, options.nonce, options.deadline, signature).await?;
                assert!(matches!(sent, Sent::UnderWay { .. }), "{sent:?}");
                self.stage.mine(1).await;
            }
        }
        Ok(())
    }

    /// What the rail asks whom at the moment.
    pub async fn asked(&self, job: impl Into<HoldId>) -> Option<(AgentId, tradepost::ids::InstructionId, Ask)> {
        let given = self.market.instructions(job).await.unwrap();
        given.iter().find_map(|record| match &record.state {
            InstructionState::NeedsAction(action) => {
                let (Party::Buyer(who) | Party::Worker(who)) = action.who else { return None };
                Some((who, record.instruction.id, Ask::parse(&action.payload).unwrap()))
            }
            _ => None,
        })
    }

    /// Whoever is asked signs, until nobody is.
    pub async fn sign(&self, job: impl Into<HoldId>) {
        let job = job.into();
        for _ in 0..PATIENCE {
            let Some((who, instruction, ask)) = self.asked(job).await else { return };
            let choice = ask.choices[0].name.clone();
            let answer = ask.sign(&choice, &self.keys[&who]).unwrap();
            self.answer(who, instruction, &answer).await;
        }
        panic!("there is no end of asking");
    }

    pub async fn answer(&self, who: AgentId, instruction: tradepost::ids::InstructionId, answer: &Answer) {
        self.market.agent(who).answer(instruction, answer.to_text()).await.unwrap();
    }

    /// Blocks come, and the workers work, until it is so.
    pub async fn until(&self, job: JobId, so: impl Fn(&Job) -> bool) -> Arc<Job> {
        for _ in 0..PATIENCE {
            self.market.work().await.unwrap();
            let found = self.market.job(job).await.unwrap();
            if so(&found) {
                return found;
            }
            self.stage.mine(1).await;
        }
        panic!("it never was so: {:#?}", self.market.job(job).await.unwrap());
    }

    /// The same for an agreement.
    pub async fn until_agreement(&self, id: AgreementId, so: impl Fn(&Agreement) -> bool) -> Arc<Agreement> {
        for _ in 0..PATIENCE {
            self.market.work().await.unwrap();
            let found = self.market.agreement(id).await.unwrap();
            if so(&found) {
                return found;
            }
            self.stage.mine(1).await;
        }
        panic!("it never was so: {:#?}", self.market.agreement(id).await.unwrap());
    }

    /// What happened to an agreement, by the events' names.
    pub async fn told(&self, id: AgreementId) -> Vec<&'static str> {
        let history = self.market.agreement_history(id).await.unwrap();
        history.iter().map(|logged| logged.event.body.name()).collect()
    }

    /// PG-17: the books and the chain agree, and nothing is left open.
    pub async fn agrees(&self) {
        let compared = self.market.reconcile(self.stage.config.id).await.unwrap();
        assert_eq!(compared.differences, Vec::new(), "{compared:?}");
        assert_eq!(self.market.verify().await.unwrap(), Vec::new());
        let contract = self.stage.balance(self.stage.config.escrow).await;
        let held = u128::try_from(compared.held.minor()).unwrap();
        assert!(contract >= held, "the contract has {contract}, promised are {held}");
        let worker = self.market.balance(Account::Pending(self.worker), None).await.unwrap();
        assert!(worker.is_zero(), "{worker} is on its way to the worker");
        let unsettled = self.market.unsettled().await.unwrap();
        assert_eq!(unsettled.iter().map(|one| one.why()).collect::<Vec<_>>(), Vec::<String>::new());
    }
}
