//! What parties sign, byte for byte: EIP-712 messages under the contract's two domains and the token's own.
//!
//! A [`Signable`] is what a party is shown, in the JSON form that wallets take ([`Signable::typed_data`]) and
//! as the digest that is signed ([`Signable::digest`]). [`Signable::sign`] signs it with a key at hand.

use std::borrow::Cow;

use alloy_primitives::{Address, B256, Bytes, Signature, U256};
use alloy_signer::SignerSync;
use alloy_signer_local::PrivateKeySigner;
use alloy_sol_types::{Eip712Domain, SolStruct};
use serde::{Deserialize, Serialize, de::Error as _};
use serde_json::{Map, Value, json};

use crate::abi;
pub use crate::abi::{
    BuyerActivationIntent, BuyerWithdrawIntent, CloseIntent, Permit, ReceiveWithAuthorization, ReleaseIntent,
    RevokeNoncesIntent, RulingIntent, SellerClaimIntent, SettlementTerms, UsageReceipt, WaiveIntent,
};

/// Half the order of the curve: of the two forms of a signature, only the one with `s` up to here is accepted.
const HALF_ORDER: U256 =
    U256::from_limbs([0xdfe9_2f46_681b_20a0, 0x5d57_6e73_57a4_501d, 0xffff_ffff_ffff_ffff, 0x7fff_ffff_ffff_ffff]);

/// An EIP-712 domain: which contract on which chain a signature is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Domain {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The chain.
    pub chain_id: u64,
    /// The contract that checks the signature.
    pub verifying_contract: Address,
}

impl Domain {
    /// The domain separator.
    pub fn separator(&self) -> B256 {
        self.eip712().separator()
    }

    fn eip712(&self) -> Eip712Domain {
        Eip712Domain::new(
            Some(Cow::Owned(self.name.clone())),
            Some(Cow::Owned(self.version.clone())),
            Some(U256::from(self.chain_id)),
            Some(self.verifying_contract),
            None,
        )
    }
}

macro_rules! messages {
    ($($(#[$doc:meta])* $kind:ident,)*) => {
        /// A message that a party signs.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[expect(clippy::large_enum_variant, reason = "they are few, and live for one request")]
        #[serde(tag = "primaryType", content = "message")]
        pub enum Message {
            $($(#[$doc])* $kind(abi::$kind),)*
        }

        impl Message {
            fn digest(&self, domain: &Eip712Domain) -> B256 {
                match self { $(Self::$kind(message) => message.eip712_signing_hash(domain),)* }
            }

            fn name(&self) -> &'static str {
                match self { $(Self::$kind(_) => stringify!($kind),)* }
            }

            fn encode_type(&self) -> Cow<'static, str> {
                match self { $(Self::$kind(_) => <abi::$kind as SolStruct>::eip712_encode_type(),)* }
            }
        }

        $(impl From<abi::$kind> for Message {
            fn from(message: abi::$kind) -> Self { Self::$kind(message) }
        })*
    };
}

messages! {
    /// The payer funds an agreement, under the token's domain (EIP-3009). Its nonce is the agreement's id.
    ReceiveWithAuthorization,
    /// The payer funds an agreement from an allowance, under the activation domain.
    BuyerActivationIntent,
    /// The payer allows it, under the token's domain (EIP-2612).
    Permit,
    /// The receipt signer counts units.
    UsageReceipt,
    /// The payer lets the worker have money.
    ReleaseIntent,
    /// A party starts the challenge window.
    CloseIntent,
    /// The worker needs no more time.
    WaiveIntent,
    /// The arbiter decides.
    RulingIntent,
    /// The worker takes what was earned.
    SellerClaimIntent,
    /// The payer takes the rest back.
    BuyerWithdrawIntent,
    /// Whoever signed something takes it back before it is used.
    RevokeNoncesIntent,
}

/// A message with the domain it is signed under. Its JSON is what `eth_signTypedData_v4` takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signable {
    /// For which contract on which chain.
    pub domain: Domain,
    /// What is said.
    pub message: Message,
}

impl Serialize for Signable {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.typed_data().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Signable {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut typed_data = Value::deserialize(deserializer)?;
        let domain = typed_data.get_mut("domain").map(Value::take).unwrap_or_default();
        let domain = Domain::deserialize(domain).map_err(D::Error::custom)?;
        Ok(Self { domain, message: Message::deserialize(typed_data).map_err(D::Error::custom)? })
    }
}

impl Signable {
    /// A message under a domain.
    pub fn new(domain: Domain, message: impl Into<Message>) -> Self {
        Self { domain, message: message.into() }
    }

    /// The type's name: `ReleaseIntent`.
    pub fn name(&self) -> &'static str {
        self.message.name()
    }

    /// The 32 bytes that are signed.
    pub fn digest(&self) -> B256 {
        self.message.digest(&self.domain.eip712())
    }

    /// The message as `eth_signTypedData_v4` takes it.
    pub fn typed_data(&self) -> Value {
        let encoded = self.message.encode_type();
        let (name, fields) = encoded.trim_end_matches(')').split_once('(').unwrap_or((&encoded, ""));
        let fields: Vec<Value> = fields
            .split(',')
            .filter_map(|field| field.split_once(' '))
            .map(|(kind, name)| json!({ "name": name, "type": kind }))
            .collect();
        let domain =
            [("name", "string"), ("version", "string"), ("chainId", "uint256"), ("verifyingContract", "address")];
        let domain: Vec<Value> = domain.iter().map(|(name, kind)| json!({ "name": name, "type": kind })).collect();
        let mut types = Map::new();
        types.insert("EIP712Domain".into(), domain.into());
        types.insert(name.into(), fields.into());
        let message = serde_json::to_value(&self.message).unwrap_or_default()["message"].take();
        json!({ "domain": self.domain, "types": types, "primaryType": name, "message": message })
    }

    /// Signs it: 65 bytes r, s, v, with a low s.
    ///
    /// # Errors
    /// The signer's.
    pub fn sign(&self, key: &PrivateKeySigner) -> Result<Bytes, alloy_signer::Error> {
        Ok(key.sign_hash_sync(&self.digest())?.as_bytes().into())
    }

    /// Whether a key's signature is good. A wallet that is a contract decides that itself, on chain.
    ///
    /// # Errors
    /// What does not match.
    pub fn check(&self, signature: &[u8], signer: Address) -> Result<(), SignatureProblem> {
        let length = signature.len();
        if length != 65 {
            return Err(SignatureProblem::Length { length });
        }
        if U256::from_be_slice(&signature[32..64]) > HALF_ORDER {
            return Err(SignatureProblem::Malleable);
        }
        if !matches!(signature[64], 27 | 28) {
            return Err(SignatureProblem::Recovery { v: signature[64] });
        }
        let parsed = Signature::from_raw(signature).map_err(|_| SignatureProblem::Malformed)?;
        let recovered = parsed.recover_address_from_prehash(&self.digest());
        match recovered.map_err(|_| SignatureProblem::Malformed)? {
            recovered if recovered == signer => Ok(()),
            recovered => Err(SignatureProblem::WrongSigner { expected: signer, recovered }),
        }
    }
}

/// Why a signature is refused before anybody pays gas for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureProblem {
    /// A key's signature has 65 bytes.
    #[error("a signature has 65 bytes, this one {length}")]
    Length {
        /// How many it has.
        length: usize,
    },
    /// Its s is in the upper half, which contracts refuse.
    #[error("the signature is in its malleable form (high s)")]
    Malleable,
    /// Its last byte is not 27 or 28.
    #[error("the signature ends in {v}, allowed are 27 and 28")]
    Recovery {
        /// What it is.
        v: u8,
    },
    /// It is no point on the curve.
    #[error("the signature is no signature of any key")]
    Malformed,
    /// It is somebody else's, or over something else: another chain, contract or content.
    #[error("the signature is {recovered}'s, needed is {expected}'s; or it is over another message, chain or contract")]
    WrongSigner {
        /// Who had to sign.
        expected: Address,
        /// Whose key it comes from if it is over this message.
        recovered: Address,
    },
}

/// The parts of a signature as `permit` takes them.
pub(crate) fn split(signature: &[u8]) -> Option<(u8, B256, B256)> {
    let parts: &[u8; 65] = signature.try_into().ok()?;
    Some((parts[64], B256::from_slice(&parts[..32]), B256::from_slice(&parts[32..64])))
}
