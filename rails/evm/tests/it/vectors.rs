//! The messages of `paegents.md` and the contract's own, compared with what eth-account made of them.

use alloy_primitives::{B256, Bytes};
use alloy_signer_local::PrivateKeySigner;
use serde::Deserialize;
use serde_json::Value;
use tradepost_evm::sign::{Signable, SignatureProblem};

#[derive(Deserialize)]
struct Vectors {
    key: B256,
    vectors: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    typed_data: Value,
    digest: B256,
    signature: Bytes,
}

/// PG-04, PG-10: byte for byte what existing clients sign.
#[test]
fn pg_04_every_message_is_signed_as_another_implementation_signs_it() {
    let vectors: Vectors = serde_json::from_str(include_str!("vectors.json")).unwrap();
    let key = PrivateKeySigner::from_bytes(&vectors.key).unwrap();
    let mut names = Vec::new();
    for Vector { typed_data, digest, signature } in vectors.vectors {
        let signable: Signable = serde_json::from_value(typed_data.clone()).unwrap();
        let name = signable.name();
        assert_eq!(signable.digest(), digest, "{name}");
        assert_eq!(signable.sign(&key).unwrap(), signature, "{name}");
        assert_eq!(serde_json::to_value(&signable).unwrap(), typed_data, "{name}: what wallets are shown");
        signable.check(&signature, key.address()).unwrap();
        let mut short = signature.to_vec();
        short.pop();
        assert_eq!(signable.check(&short, key.address()), Err(SignatureProblem::Length { length: 64 }));
        names.push(name);
    }
    names.sort_unstable();
    let all = "BuyerActivationIntent BuyerWithdrawIntent CloseIntent Permit ReceiveWithAuthorization ReleaseIntent \
               RevokeNoncesIntent RulingIntent SellerClaimIntent UsageReceipt WaiveIntent";
    assert_eq!(names.join(" "), all);
}
