//! The rail under the conformance kit of rails, on anvil.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
};

use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_signer_local::PrivateKeySigner;
use alloy_sol_types::SolCall;
use async_trait::async_trait;
use serde_json::{Value, json};
use tradepost::{
    ids::{AgentId, HoldId, InstructionId},
    money::Money,
    rail::{Action, Instruction, Push, SettlementRail, VolatileMemory},
    testkit::rail::{self as kit, Fault, Harness, Parties, Unplayable},
};
use tradepost_evm::{Answer, Ask, sign::Message};

use crate::stage::{self, Automine, Stage, key};

struct Kit {
    stage: Stage,
    memory: Arc<VolatileMemory>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    people: u128,
    keys: HashMap<Address, PrivateKeySigner>,
    /// What was signed for an instruction: the signatures, the agreements, and the nonces used.
    signed: HashMap<InstructionId, Signed>,
    refuse_next: bool,
    /// Blocks come only when the kit lets them; how many more advances that takes.
    hold_blocks: Option<u32>,
    sabotage: bool,
    newest: Option<Ask>,
}

#[derive(Clone, Default)]
struct Signed {
    signatures: Vec<Bytes>,
    agreements: HashSet<B256>,
}

impl Kit {
    async fn new(stage: Stage) -> Self {
        Self { stage, memory: Arc::default(), state: Mutex::default() }
    }

    fn somebody(&self) -> (AgentId, PrivateKeySigner) {
        let mut state = self.state.lock().unwrap();
        state.people += 1;
        let key = key(&format!("somebody {}", state.people));
        state.keys.insert(key.address(), key.clone());
        (AgentId(uuid::Uuid::from_u128(state.people)), key)
    }
}

#[async_trait]
impl Harness for Kit {
    async fn rail(&self) -> Arc<dyn SettlementRail> {
        Arc::new(self.stage.rail(self.memory.clone()).await)
    }

    async fn contract(&self) -> Parties {
        let rail = self.stage.rail(self.memory.clone()).await;
        let ((buyer, buyers), (worker, workers)) = (self.somebody(), self.somebody());
        rail.link_wallet(buyer, buyers.address()).await.unwrap();
        rail.link_wallet(worker, workers.address()).await.unwrap();
        self.stage.mint(buyers.address(), 1_000_000_000).await;
        let contract = uuid::Uuid::from_u128(u128::from_be_bytes(*buyer.0.as_bytes()) << 64 | 7);
        Parties { contract, buyer, worker, destination: None }
    }

    async fn earn(&self, _worker: AgentId, _amount: Money) {
        unreachable!("the rail pays nobody out");
    }

    async fn arrange(&self, fault: Fault) -> Result<(), Unplayable> {
        let no = |why: &str| Err(Unplayable(why.into()));
        let (wire, mut state) = (&self.stage.wire, self.state.lock().unwrap());
        match fault {
            Fault::NotSent => wire.plan("eth_getBlockByNumber", stage::Fault::Lost),
            Fault::LostBefore => wire.plan("eth_sendRawTransaction", stage::Fault::Lost),
            Fault::LostAfter => wire.plan("eth_sendRawTransaction", stage::Fault::Unanswered),
            Fault::Declined => state.refuse_next = true,
            Fault::PendingThenDone => state.hold_blocks = Some(3),
            Fault::PendingThenDeclined => {
                state.hold_blocks = Some(1);
                state.sabotage = true;
            }
            Fault::NeedsAction => {}
            Fault::Busy => return no("a node that is busy is one that does not answer"),
            Fault::OtherAmount | Fault::OtherCurrency | Fault::OtherInstruction | Fault::OtherLegs => {
                return no("an agreement's id is the hash of its terms: the chain cannot say other ones");
            }
        }
        Ok(())
    }

    async fn act(&self, action: &Action) -> String {
        let ask = Ask::parse(&action.payload).unwrap();
        let (key, refuses, holds_blocks) = {
            let mut state = self.state.lock().unwrap();
            let refuses = std::mem::take(&mut state.refuse_next);
            state.newest = Some(ask.clone());
            (state.keys[&ask.signer].clone(), refuses, state.hold_blocks.is_some())
        };
        if refuses {
            return Answer::Refused { reason: "not today".into() }.to_text();
        }
        if holds_blocks {
            self.stage.automine(Automine::Off).await;
        }
        let answer = ask.sign(&ask.choices[0].name, &key).unwrap();
        let Answer::Signed { signatures, .. } = &answer else { unreachable!() };
        let mut state = self.state.lock().unwrap();
        let signed = state.signed.entry(ask.instruction).or_default();
        signed.signatures.extend(signatures.iter().cloned());
        signed.agreements.extend(ask.choices.iter().map(|choice| choice.agreement));
        answer.to_text()
    }

    async fn advance(&self) {
        let (release, sabotage) = {
            let mut state = self.state.lock().unwrap();
            match &mut state.hold_blocks {
                Some(0) => {
                    state.hold_blocks = None;
                    (true, std::mem::take(&mut state.sabotage))
                }
                Some(left) => {
                    *left -= 1;
                    return;
                }
                None => (false, false),
            }
        };
        if sabotage {
            self.sabotage().await;
        } else {
            self.stage.pass(20).await;
        }
        if release {
            self.stage.automine(Automine::On).await;
        }
    }

    /// Every transaction that did something for one of the instruction's agreements with a signature given for it.
    async fn times(&self, instruction: &Instruction) -> u32 {
        let signed = self.state.lock().unwrap().signed.get(&instruction.id).cloned().unwrap_or_default();
        let mut transactions = HashSet::new();
        for agreement in &signed.agreements {
            let filter =
                json!([{ "address": self.stage.config.escrow, "fromBlock": "0x0", "topics": [null, agreement] }]);
            let logs: Vec<Value> = self.stage.ask("eth_getLogs", filter).await;
            for log in logs {
                let hash = log["transactionHash"].clone();
                let found: Value = self.stage.ask("eth_getTransactionByHash", json!([hash])).await;
                let input = found["input"].as_str().unwrap().to_owned();
                if signed.signatures.iter().any(|signature| input.contains(&alloy_primitives::hex::encode(signature))) {
                    transactions.insert(hash.as_str().unwrap().to_owned());
                }
            }
        }
        u32::try_from(transactions.len()).unwrap()
    }

    async fn deposit(&self, _amount: Money) -> Result<AgentId, Unplayable> {
        Err(Unplayable("nobody has a balance with the rail".into()))
    }

    async fn expire(&self, _hold: HoldId) -> Result<(), Unplayable> {
        self.stage.pass(u64::from(self.stage.config.hold_lives.as_seconds()) + 1).await;
        Ok(())
    }

    async fn pushes(&self) -> Result<Vec<Push>, Unplayable> {
        Err(Unplayable("nobody pushes".into()))
    }
}

impl Kit {
    /// The payer makes what is on its way impossible, in the same block but before it: it moves its money away,
    /// or revokes what it signed.
    async fn sabotage(&self) {
        let ask = self.state.lock().unwrap().newest.clone().unwrap();
        let mut bystander = None;
        for message in &ask.choices[0].sign {
            let data = match &message.message {
                Message::ReceiveWithAuthorization(_) => {
                    let amount = U256::from(self.stage.balance(ask.signer).await);
                    bystander = Some(amount);
                    let data = stage::transferCall { to: Address::repeat_byte(7), amount }.abi_encode();
                    (self.stage.config.token, data)
                }
                Message::ReleaseIntent(release) => (self.stage.config.escrow, revoke(release.nonce)),
                Message::WaiveIntent(waive) => (self.stage.config.escrow, revoke(waive.nonce)),
                _ => continue,
            };
            self.stage.submit(ask.signer, data.0, data.1).await;
        }
        self.stage.pass(20).await;
        if let Some(amount) = bystander {
            self.stage.automine(Automine::On).await;
            self.stage.mint(ask.signer, amount.to()).await;
        }
    }
}

fn revoke(nonce: U256) -> Vec<u8> {
    let (word, mask) = (nonce >> 8, U256::from(1) << (nonce & U256::from(255)).to::<usize>());
    stage::revokeNoncesCall { word, mask }.abi_encode()
}

/// PG-04, PG-05, PG-17: the contract of rails, kept on a chain.
#[tokio::test]
async fn the_conformance_kit() {
    let mut stage = Stage::new().await;
    stage.config.confirmations = 1;
    let report = kit::run(&Kit::new(stage).await).await;
    println!("{report}");
    report.assert_kept();
    assert_eq!(report.ran(), 35, "{report}");
}
