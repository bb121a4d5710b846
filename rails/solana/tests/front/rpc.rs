//! The JSON-RPC methods, with the parameters and the answers of Solana's own node.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use solana_commitment_config::CommitmentLevel;
use solana_pubkey::Pubkey;
use solana_signature::Signature;
use solana_transaction::versioned::VersionedTransaction;
use solana_transaction_status_client_types::{
    EncodedTransaction, EncodedTransactionWithStatusMeta, TransactionBinaryEncoding, UiTransactionStatusMeta,
};

use super::node::{Block, Node};

type Answer = Result<Value, (i64, String)>;

const BAD_PARAMETERS: i64 = -32602;

/// What a node answers to a method.
pub(super) fn answer(node: &mut Node, method: &str, params: &Value) -> Answer {
    match method {
        "getGenesisHash" => Ok(json!(node.genesis().to_string())),
        "getFirstAvailableBlock" => Ok(json!(node.oldest)),
        "getSlot" => Ok(json!(node.seen(commitment(&params[0])).slot)),
        "getEpochInfo" => {
            let Block { slot, height, .. } = node.seen(commitment(&params[0]));
            Ok(json!({
                "absoluteSlot": slot, "blockHeight": height, "epoch": 0, "slotIndex": slot,
                "slotsInEpoch": 432_000, "transactionCount": null,
            }))
        }
        "getMinimumBalanceForRentExemption" => {
            let bytes = params[0].as_u64().ok_or_else(|| bad("bytes"))?;
            Ok(json!(node.svm.minimum_balance_for_rent_exemption(bytes as usize)))
        }
        "getLatestBlockhash" => {
            let block = node.seen(commitment(&params[0]));
            let value = json!({
                "blockhash": block.hash.to_string(), "lastValidBlockHeight": block.height + node.valid_for,
            });
            Ok(with_context(block.slot, value))
        }
        "getBalance" => {
            let slot = node.seen(commitment(&params[1])).slot;
            let lamports = node.account(&pubkey(&params[0])?, slot).map_or(0, |account| account.lamports);
            Ok(with_context(slot, json!(lamports)))
        }
        "getMultipleAccounts" => {
            let found = accounts(node, params);
            if node.hurries {
                node.tick();
            }
            found
        }
        "getBlocksWithLimit" => blocks(node, params),
        "getBlock" => block(node, params),
        "getTransaction" => transaction(node, params),
        "getSignatureStatuses" => statuses(node, params),
        "simulateTransaction" => simulate(node, params),
        "sendTransaction" => {
            let transaction = decode(&params[0])?;
            node.take(transaction).map(|signature| json!(signature.to_string())).map_err(|what| (-32003, what))
        }
        "requestAirdrop" => {
            let to = pubkey(&params[0])?;
            Ok(json!(node.airdrop(&to, params[1].as_u64().ok_or_else(|| bad("lamports"))?).to_string()))
        }
        _ => Err((-32601, format!("Method not found: {method}"))),
    }
}

/// Makes an answer say that one unit more (or less) was moved: of a transaction, or of all in a block.
pub(super) fn lie(mut result: Value) -> Value {
    if let Some(transactions) = result["transactions"].as_array_mut() {
        transactions.iter_mut().for_each(|one| *one = lie(one.take()));
        return result;
    }
    let Ok(mut transaction) = decode(&result["transaction"][0]) else { return result };
    let solana_message::VersionedMessage::Legacy(message) = &mut transaction.message else { return result };
    for instruction in &mut message.instructions {
        // A checked transfer: its amount follows, least byte first.
        if instruction.data.first() == Some(&12) && instruction.data.len() == 10 {
            instruction.data[1] ^= 1;
        }
    }
    result["transaction"][0] = json!(BASE64_STANDARD.encode(bincode::serialize(&transaction).unwrap()));
    result
}

fn accounts(node: &Node, params: &Value) -> Answer {
    let keys = params[0].as_array().ok_or_else(|| bad("accounts"))?;
    if keys.len() > 100 {
        return Err(bad("Too many inputs provided; max 100"));
    }
    let slot = node.seen(commitment(&params[1])).slot;
    let account = |key: &Value| {
        let found = node.account(&pubkey(key)?, slot).filter(|account| account.lamports > 0);
        Ok(found.map_or(Value::Null, |account| {
            json!({
                "lamports": account.lamports, "owner": account.owner.to_string(), "executable": account.executable,
                "data": [BASE64_STANDARD.encode(&account.data), "base64"], "rentEpoch": 0,
                "space": account.data.len(),
            })
        }))
    };
    let found: Vec<Value> = keys.iter().map(account).collect::<Result<_, _>>()?;
    Ok(with_context(slot, json!(found)))
}

fn blocks(node: &Node, params: &Value) -> Answer {
    let from = params[0].as_u64().ok_or_else(|| bad("start slot"))?;
    let limit = params[1].as_u64().ok_or_else(|| bad("limit"))?;
    let last = node.seen(commitment(&params[2])).slot;
    let slots = node.blocks.iter().map(|block| block.slot);
    let slots = slots.filter(|slot| (from..=last).contains(slot) && node.has(*slot));
    Ok(json!(slots.take(limit as usize).collect::<Vec<_>>()))
}

fn block(node: &Node, params: &Value) -> Answer {
    let slot = params[0].as_u64().ok_or_else(|| bad("slot"))?;
    if slot < node.oldest {
        return Err((-32001, format!("Block {slot} cleaned up, does not exist on node.")));
    }
    if slot > node.seen(commitment(&params[1])).slot {
        return Err((-32004, format!("Block not available for slot {slot}")));
    }
    let Some(block) = node.block(slot).filter(|_| node.has(slot)) else {
        return Err((-32007, format!("Slot {slot} was skipped, or missing due to ledger jump to recent snapshot")));
    };
    let mut answer = json!({
        "blockhash": block.hash.to_string(), "previousBlockhash": block.previous.to_string(),
        "parentSlot": block.parent, "blockHeight": block.height, "blockTime": null,
    });
    let is_newer = |tx: &VersionedTransaction| node.newer == Some(tx.signatures[0]);
    let most = params[1]["maxSupportedTransactionVersion"].as_u64();
    match params[1]["transactionDetails"].as_str() {
        Some("none") => {}
        Some("signatures") => {
            let signatures = block.transactions.iter().map(|(tx, _)| tx.signatures[0].to_string());
            answer["signatures"] = signatures.collect();
        }
        _ if most < Some(1) && block.transactions.iter().any(|(tx, _)| is_newer(tx)) => {
            return Err((-32015, "Transaction version (1) is not supported by the requesting client.".into()));
        }
        _ => {
            let encoded = |(tx, meta): &(VersionedTransaction, UiTransactionStatusMeta)| {
                let mut encoded = encode(tx, meta);
                if is_newer(tx) {
                    (encoded["version"], encoded["transaction"][0]) =
                        (json!(1), json!(BASE64_STANDARD.encode([129; 99])));
                }
                encoded
            };
            answer["transactions"] = block.transactions.iter().map(encoded).collect();
        }
    }
    Ok(answer)
}

fn transaction(node: &Node, params: &Value) -> Answer {
    let signature = signature(&params[0])?;
    let seen = node.seen(commitment(&params[1])).slot;
    let Some((slot, _)) = node.landed.get(&signature).filter(|(slot, _)| *slot <= seen && node.has(*slot)) else {
        return Ok(Value::Null);
    };
    let block = node.block(*slot).ok_or((-32007, "skipped".to_owned()))?;
    let found = block.transactions.iter().find(|(tx, _)| tx.signatures[0] == signature);
    let (tx, meta) = found.ok_or((-32011, "Transaction history is not available".to_owned()))?;
    let mut answer = encode(tx, meta);
    answer["slot"] = json!(slot);
    answer["blockTime"] = Value::Null;
    Ok(answer)
}

fn statuses(node: &Node, params: &Value) -> Answer {
    let signatures = params[0].as_array().ok_or_else(|| bad("signatures"))?;
    let seen = |commitment| node.seen_behind(commitment, node.lag + node.status_lag);
    let last = seen(CommitmentLevel::Processed);
    let (confirmed, finalized) = (seen(CommitmentLevel::Confirmed).slot, seen(CommitmentLevel::Finalized).slot);
    let status = |text: &Value| {
        let found = node.landed.get(&signature(text)?).filter(|(slot, _)| *slot <= last.slot && node.has(*slot));
        Ok(found.map_or(Value::Null, |(slot, error)| {
            let height = node.block(*slot).map_or(0, |block| block.height);
            let (word, confirmations) = match *slot {
                slot if slot <= finalized => ("finalized", Value::Null),
                slot if slot <= confirmed => ("confirmed", json!(last.height - height)),
                _ => ("processed", json!(last.height - height)),
            };
            let status = error.clone().map_or(Ok(()), Err);
            json!({
                "slot": slot, "confirmations": confirmations, "err": error, "status": status,
                "confirmationStatus": word,
            })
        }))
    };
    let found: Vec<Value> = signatures.iter().map(status).collect::<Result<_, _>>()?;
    Ok(with_context(last.slot, json!(found)))
}

fn simulate(node: &Node, params: &Value) -> Answer {
    let mut transaction = decode(&params[0])?;
    let slot = node.seen(commitment(&params[1])).slot;
    if params[1]["replaceRecentBlockhash"] == true {
        transaction.message.set_recent_blockhash(node.blocks.last().unwrap().hash);
    }
    let (error, meta) = match node.svm.simulate_transaction(transaction) {
        Ok(run) => (node.simulates.clone(), run.meta),
        Err(failed) => (Some(failed.err), failed.meta),
    };
    let value = json!({
        "err": error, "logs": meta.logs, "unitsConsumed": meta.compute_units_consumed,
        "accounts": null, "returnData": null, "innerInstructions": null, "replacementBlockhash": null,
    });
    Ok(with_context(slot, value))
}

fn encode(transaction: &VersionedTransaction, meta: &UiTransactionStatusMeta) -> Value {
    let bytes = BASE64_STANDARD.encode(bincode::serialize(transaction).unwrap());
    let transaction_version = transaction.version();
    let transaction = EncodedTransaction::Binary(bytes, TransactionBinaryEncoding::Base64);
    let version = Some(transaction_version);
    json!(EncodedTransactionWithStatusMeta { transaction, meta: Some(meta.clone()), version })
}

fn decode(text: &Value) -> Result<VersionedTransaction, (i64, String)> {
    let bytes = text.as_str().and_then(|text| BASE64_STANDARD.decode(text).ok()).ok_or_else(|| bad("transaction"))?;
    if bytes.len() > 1232 {
        return Err(bad("base64 encoded transaction too large"));
    }
    bincode::deserialize(&bytes).map_err(|_| bad("transaction"))
}

fn commitment(config: &Value) -> CommitmentLevel {
    match config["commitment"].as_str() {
        Some("processed") => CommitmentLevel::Processed,
        Some("confirmed") => CommitmentLevel::Confirmed,
        _ => CommitmentLevel::Finalized,
    }
}

fn with_context(slot: u64, value: Value) -> Value {
    json!({ "context": { "slot": slot, "apiVersion": "3.1.12" }, "value": value })
}

fn pubkey(text: &Value) -> Result<Pubkey, (i64, String)> {
    text.as_str().and_then(|text| text.parse().ok()).ok_or_else(|| bad("Invalid param: pubkey"))
}

fn signature(text: &Value) -> Result<Signature, (i64, String)> {
    text.as_str().and_then(|text| text.parse().ok()).ok_or_else(|| bad("Invalid param: signature"))
}

fn bad(what: &str) -> (i64, String) {
    (BAD_PARAMETERS, what.into())
}
