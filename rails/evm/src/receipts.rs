//! Receipts that the contract counts, for the engine to check (PG-19).

use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_sol_types::SolCall;
use tradepost::agreement::{
    Agreement,
    chain::Hash,
    receipt::{ReceiptVerifier, SignedReceipt},
};

use crate::{
    abi::{Escrow, UsageReceipt},
    hold::agreement_id,
    sign::{Domain, Signable},
};

/// Checks receipts as the contract does: an address's EIP-712 signature over `UsageReceipt`, under the domain
/// that everything but activations is signed under. The agreement has to be funded, for what is signed names
/// its id on chain. A receipt signer that is a wallet contract is asked on chain only.
#[derive(Clone, Debug)]
pub struct EvmReceipts {
    domain: Domain,
}

impl EvmReceipts {
    /// For the contract of [`EvmConfig::settlement_domain`](crate::EvmConfig::settlement_domain).
    pub const fn new(domain: Domain) -> Self {
        Self { domain }
    }

    /// What the receipt signer of an agreement signs; `None` before it is funded.
    pub fn message(&self, agreement: &Agreement, units: i64, proof: Hash) -> Option<Signable> {
        let id: B256 = agreement.hold.funding.parse().ok()?;
        let units = U256::from(u64::try_from(units).ok()?);
        let receipt = UsageReceipt { agreementId: id.into(), units, proof: proof.0.into() };
        Some(Signable::new(self.domain.clone(), receipt))
    }
}

impl ReceiptVerifier for EvmReceipts {
    fn scheme(&self) -> &str {
        "eip712"
    }

    fn check_key(&self, key: &str) -> Result<(), String> {
        match key.parse::<Address>() {
            Ok(Address::ZERO) => Err("the zero address signs nothing".into()),
            Ok(_) => Ok(()),
            Err(_) => Err("a receipt signer is an address of 40 hexadecimal digits".into()),
        }
    }

    fn verify(&self, agreement: &Agreement, key: &str, receipt: &SignedReceipt) -> Result<(), String> {
        let signer: Address = key.parse().map_err(|_| "the key is no address")?;
        let signature: Bytes = receipt.signature.parse().map_err(|_| "the signature is not hexadecimal")?;
        let message = self.message(agreement, receipt.units, receipt.proof);
        let message = message.ok_or("the agreement is not funded on chain, or the units are negative")?;
        message.check(&signature, signer).map_err(|problem| problem.to_string())
    }
}

/// The signature of a receipt in the calldata that handed it in; `None` where it came by way of another contract.
pub(crate) fn signature_in(input: &[u8], agreement: B256, units: U256, proof: B256) -> Option<Bytes> {
    let is_it = |call: &Escrow::submitReceiptCall| {
        call.units == units && call.proof == proof && agreement_id(&call.terms) == agreement
    };
    if let Ok(call) = Escrow::submitReceiptCall::abi_decode(input) {
        return is_it(&call).then_some(call.signature);
    }
    let batch = Escrow::batchCall::abi_decode(input).ok()?;
    let mut calls = batch.calls.iter().filter_map(|call| Escrow::submitReceiptCall::abi_decode(call).ok());
    calls.find(is_it).map(|call| call.signature)
}

#[cfg(test)]
mod tests {
    use alloy_primitives::Address;
    use alloy_sol_types::SolValue;

    use super::*;
    use crate::abi::Agreement as Terms;

    /// PG-19: two agreements may count the same units under the same proof in one batch.
    #[test]
    fn pg_19_a_receipts_signature_is_its_own_agreements() {
        let none = Terms::abi_decode(&[0; 14 * 32]).unwrap();
        let terms = |buyer: u8| Terms { buyer: Address::repeat_byte(buyer), ..none.clone() };
        let (units, proof) = (U256::from(7), B256::repeat_byte(1));
        let call = |buyer: u8| {
            let signature = Bytes::from(vec![buyer]);
            Escrow::submitReceiptCall { terms: terms(buyer), units, proof, signature }.abi_encode()
        };
        let batch = Escrow::batchCall { calls: vec![call(1).into(), call(2).into()] }.abi_encode();
        for buyer in [1, 2] {
            let agreement = agreement_id(&terms(buyer));
            assert_eq!(signature_in(&batch, agreement, units, proof), Some(vec![buyer].into()));
            assert_eq!(signature_in(&call(buyer), agreement, units, proof), Some(vec![buyer].into()));
            assert_eq!(signature_in(&call(3 - buyer), agreement, units, proof), None);
        }
    }
}
