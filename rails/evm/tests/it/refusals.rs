//! Bad input: nodes, contracts, wallets, lists. Each refusal names what did not match.

use std::sync::Arc;

use alloy_primitives::{Address, Bytes};
use async_trait::async_trait;
use serde_json::{Value, json};
use tradepost::{
    ids::{AgentId, HoldId, InstructionId},
    money::{Currency, Money},
    rail::{HoldTerms, Instruction, Order, Outcome, RailErrorKind, SettlementRail, VolatileMemory},
};
use tradepost_evm::{Ask, EvmConfig, EvmError, EvmRail, Incident, SanctionsOracle, Screen, ScreenError};

use crate::stage::{Stage, key};

async fn connect(stage: &Stage, change: impl FnOnce(&mut EvmConfig)) -> Result<EvmRail, EvmError> {
    let mut config = stage.config.clone();
    change(&mut config);
    EvmRail::connect(config, stage.wire.client(), Arc::new(stage.relayer.clone()), Arc::new(VolatileMemory::default()))
        .await
}

#[tokio::test]
async fn another_chain_another_contract_or_another_token_is_refused() {
    let stage = Stage::new().await;
    let wrong = connect(&stage, |config| config.chain_id = 8453).await.map(drop);
    assert!(matches!(wrong, Err(EvmError::WrongChain { found: 31_337, configured: 8453 })), "{wrong:?}");
    let nobody = Address::repeat_byte(9);
    let no_token = connect(&stage, |config| config.token = nobody).await.map(drop);
    assert!(matches!(&no_token, Err(EvmError::WrongContract { what: "the token", address, .. }) if *address == nobody));
    let swapped = connect(&stage, |config| std::mem::swap(&mut config.token, &mut config.escrow)).await.map(drop);
    assert!(matches!(swapped, Err(EvmError::WrongContract { .. })), "{swapped:?}");
    let renamed = connect(&stage, |config| config.token_name = "USD Coin".into()).await.map(drop);
    assert!(matches!(renamed, Err(EvmError::WrongContract { .. })), "{renamed:?}");
    let cents = connect(&stage, |config| config.currency = Currency::EUR).await.map(drop);
    assert!(matches!(cents, Err(EvmError::WrongContract { what: "the token", .. })), "{cents:?}");
}

#[tokio::test]
async fn pg_17_addresses_that_cannot_be_parties_are_refused() {
    let stage = Stage::new().await;
    let rail = connect(&stage, |_| ()).await.unwrap();
    let agent = AgentId(uuid::Uuid::from_u128(1));
    for wallet in [Address::ZERO, stage.config.escrow, stage.config.token, rail.relayer()] {
        let refused = rail.link_wallet(agent, wallet).await;
        assert!(matches!(refused, Err(EvmError::Wallet { address, .. }) if address == wallet), "{refused:?}");
    }
    assert_eq!(rail.wallet(agent).await.unwrap(), None);
    assert_eq!(declined(rail.execute(&fund(1, Some(2))).await.unwrap()), "no_wallet");
    assert_eq!(declined(rail.execute(&fund(3, None)).await.unwrap()), "no_payee");
    rail.link_wallet(AgentId(uuid::Uuid::from_u128(5)), key("one").address()).await.unwrap();
    rail.link_wallet(AgentId(uuid::Uuid::from_u128(6)), key("one").address()).await.unwrap();
    assert_eq!(declined(rail.execute(&fund(5, Some(6))).await.unwrap()), "same_wallet");
}

/// PG-02: who names an account in the contract takes part with that one, linked or not; with one that is not the
/// linked one, or no wallet at all, nobody is asked to sign.
#[tokio::test]
async fn pg_02_the_accounts_that_a_contract_names_are_the_parties_wallets() {
    let stage = Stage::new().await;
    let rail = connect(&stage, |_| ()).await.unwrap();
    let named = |number: u128, payer: &str, payee: &str| {
        let mut fund = fund(number, Some(number + 1));
        let Order::Fund { terms, .. } = &mut fund.order else { panic!("{fund:?}") };
        (terms.payer_account, terms.payee_account) = (Some(payer.into()), Some(payee.into()));
        fund
    };
    let (one, two) = (key("one").address(), key("two").address());
    let (checked, plain) = (one.to_checksum(None), two.to_string().to_lowercase());
    let Outcome::NeedsAction(action) = rail.execute(&named(1, &checked, &plain)).await.unwrap() else {
        panic!("nobody is asked")
    };
    let ask = Ask::parse(&action.payload).unwrap();
    assert_eq!((ask.signer, ask.choices[0].terms.buyer, ask.choices[0].terms.seller), (one, one, two));
    let flipped = |c: char| if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
    let slip = format!("0x{}", checked[2..].chars().map(flipped).collect::<String>());
    let zero = Address::ZERO.to_string();
    for (number, account) in [(10, slip.as_str()), (20, zero.as_str()), (30, "0x12"), (40, "acct_1"), (50, &plain[2..])]
    {
        for (number, payer, payee) in [(number, account, plain.as_str()), (number + 5, plain.as_str(), account)] {
            let outcome = rail.execute(&named(number, payer, payee)).await.unwrap();
            assert_eq!(declined(outcome), "bad_account", "{account}");
        }
    }
    for number in [60, 61] {
        rail.link_wallet(AgentId(uuid::Uuid::from_u128(number)), key(&number.to_string()).address()).await.unwrap();
    }
    let [payer, payee] = ["60", "61"].map(|name| key(name).address().to_checksum(None));
    assert_eq!(declined(rail.execute(&named(60, &payer, &plain)).await.unwrap()), "another_wallet");
    let linked = named(60, &payer, &payee);
    let other = Instruction { id: InstructionId::derive(linked.contract, 1), ..linked };
    assert!(matches!(rail.execute(&other).await.unwrap(), Outcome::NeedsAction(_)));
}

/// PG-16: a hit blocks, and so does a list that cannot be read.
#[tokio::test]
async fn pg_16_wallets_are_screened_and_an_oracle_that_cannot_be_reached_blocks() {
    let stage = Stage::new().await;
    let oracle = Address::repeat_byte(0x40);
    // Answers true for whoever's address is in its storage: calldata word 1 -> sload -> return.
    let code = Bytes::from(alloy_primitives::hex!("6004355460005260206000f3").to_vec());
    let rail = |with: Address| {
        let rail = connect(&stage, |_| ());
        let screen = SanctionsOracle::new(stage.wire.client(), with);
        async move { rail.await.unwrap().with_screen(screen).on_incident(|i| assert!(matches!(i, Incident::Listed { .. }))) }
    };
    for number in [1, 2] {
        let linking = rail(oracle).await;
        linking.link_wallet(AgentId(uuid::Uuid::from_u128(number)), key(&number.to_string()).address()).await.unwrap();
    }
    let parties = |rail: EvmRail| async move {
        for number in [1, 2] {
            rail.link_wallet(AgentId(uuid::Uuid::from_u128(number)), key(&number.to_string()).address()).await.unwrap();
        }
        rail
    };
    let blind = parties(rail(oracle).await).await;
    let error = blind.execute(&fund(1, Some(2))).await.unwrap_err();
    assert_eq!(error.kind(), RailErrorKind::NotSent, "no oracle, no payment: {error}");
    assert!(blind.activation(HoldId(uuid::Uuid::from_u128(100))).await.unwrap().is_none(), "nobody was asked to sign");
    let _: Value = stage.ask("anvil_setCode", json!([oracle, code])).await;
    let clean = parties(rail(oracle).await).await;
    assert!(matches!(clean.execute(&fund(1, Some(2))).await.unwrap(), Outcome::NeedsAction(_)));
    let slot = alloy_primitives::B256::left_padding_from(key("2").address().as_slice());
    let one = alloy_primitives::B256::with_last_byte(1);
    let _: Value = stage.ask("anvil_setStorageAt", json!([oracle, slot, one])).await;
    let listed = parties(rail(oracle).await).await;
    let Outcome::Declined(decline) = listed.execute(&fund(1, Some(2))).await.unwrap() else { panic!("not declined") };
    assert_eq!(decline.code, "wallet_listed");
}

struct Offline;

#[async_trait]
impl Screen for Offline {
    async fn is_listed(&self, _wallet: Address) -> Result<bool, ScreenError> {
        Err(ScreenError("the list is offline".into()))
    }
}

#[tokio::test]
async fn pg_16_any_screen_that_fails_blocks() {
    let stage = Stage::new().await;
    let rail = connect(&stage, |_| ()).await.unwrap().with_screen(Offline);
    for number in [1, 2] {
        rail.link_wallet(AgentId(uuid::Uuid::from_u128(number)), key(&number.to_string()).address()).await.unwrap();
    }
    let error = rail.execute(&fund(1, Some(2))).await.unwrap_err();
    assert!(error.to_string().contains("offline"), "{error}");
}

fn declined(outcome: Outcome) -> String {
    let Outcome::Declined(decline) = outcome else { panic!("{outcome:?}") };
    decline.code
}

fn fund(payer: u128, payee: Option<u128>) -> Instruction {
    let contract = uuid::Uuid::from_u128(payer * 100);
    let [payer, payee] = [Some(payer), payee].map(|one| one.map(|one| AgentId(uuid::Uuid::from_u128(one))));
    let terms = HoldTerms { payee, ..HoldTerms::default() };
    let amount = Money::new(1_000_000, Currency::USDC);
    let order = Order::Fund { hold: HoldId(contract), payer: payer.unwrap(), amount, terms: Box::new(terms) };
    Instruction { id: InstructionId::derive(contract, 0), contract, order, answer: None }
}
