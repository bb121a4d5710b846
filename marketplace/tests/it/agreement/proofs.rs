//! PG-19: what anyone can check with the list of calls and a receipt alone.

use proptest::prelude::*;
use tradepost::{
    agreement::{
        AgreementCommand,
        chain::{BrokenChain, CallProof, Link, verify},
        receipt::{Ed25519, NotCovered, ReceiptVerifier as _, covers},
    },
    rail::Custody,
};

use super::*;

/// The chain of an agreement in which so many calls were recorded, in records of these sizes.
fn recorded(sizes: &[i64]) -> Desk {
    let mut desk = Desk::new(paegents(), Custody::Internal).metered(&meter(1));
    for size in sizes {
        desk.must(by(worker()), AgreementCommand::RecordUsage { calls: calls(*size), after: None });
    }
    desk
}

#[test]
fn pg_19_the_list_alone_proves_itself_in_one_piece_or_in_parts() {
    let desk = recorded(&[3, 1, 5]);
    let whole = verify(desk.id(), Link::default(), &desk.chain).unwrap();
    assert_eq!((whole.head, whole.units), (desk.agreement().head(), 9));
    let first = verify(desk.id(), Link::default(), &desk.chain[..4]).unwrap();
    assert_eq!(verify(desk.id(), first.head, &desk.chain[4..]).unwrap().head, whole.head);
    assert_eq!(verify(desk.id(), Link::default(), &[]).unwrap().units, 0);
}

#[test]
fn pg_19_a_call_hash_is_what_the_documentation_says() {
    use sha2::{Digest as _, Sha256};
    let desk = recorded(&[1]);
    let CallProof { digest, hash, previous, .. } = desk.chain[0];
    let mut bytes = b"tradepost/call/1".to_vec();
    bytes.extend(desk.id().0.as_bytes());
    bytes.extend([0; 32]);
    bytes.extend(1u64.to_be_bytes());
    bytes.extend(1i64.to_be_bytes());
    bytes.extend(digest.0);
    assert_eq!((previous, hash.0), (Hash::default(), <[u8; 32]>::from(Sha256::digest(&bytes))));
}

#[test]
fn pg_19_a_call_of_another_agreement_proves_nothing() {
    let desk = recorded(&[2]);
    let other = AgreementId(Uuid::from_u128(10));
    assert!(matches!(verify(other, Link::default(), &desk.chain), Err(BrokenChain::Content { number: 1, .. })));
}

#[test]
fn pg_19_a_receipt_covers_the_calls_it_names_and_no_others() {
    let desk = recorded(&[4, 3]);
    let (id, head) = (desk.id(), desk.agreement().usage.head);
    let receipt = receipt_of(&meter(1), id, 7, head);
    assert_eq!(covers(id, &receipt, &desk.chain), Ok(()));
    assert!(matches!(covers(id, &receipt, &desk.chain[..6]), Err(NotCovered::Head { .. })));
    let more = receipt_of(&meter(1), id, 8, head);
    assert_eq!(covers(id, &more, &desk.chain), Err(NotCovered::Units { receipt: 8, calls: 7 }));
    assert!(matches!(covers(id, &receipt, &desk.chain[1..]), Err(NotCovered::Broken(_))));
    let signer = signer_of(&meter(1)).key;
    assert_eq!(Ed25519.verify(desk.agreement(), &signer, &receipt), Ok(()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is changed, left out, added or moved: the list is no longer the chain that was recorded.
    #[test]
    fn pg_19_any_change_shows(sizes in prop::collection::vec(1i64..8, 1..5), at in any::<prop::sample::Index>(),
                              what in 0u8..7, other in any::<[u8; 32]>(), by in 1i64..1_000) {
        let desk = recorded(&sizes);
        let head = desk.agreement().head();
        let mut list = desk.chain.clone();
        let at = at.index(list.len());
        match what {
            0 => list[at].units += by,
            1 => list[at].digest = Hash(other),
            2 => list[at].previous = Hash(other),
            3 => list[at].hash = Hash(other),
            4 => list[at].number += by.unsigned_abs(),
            5 => drop(list.remove(at)),
            _ => {
                let twice = list[at];
                list.insert(at, twice);
            }
        }
        let verified = verify(desk.id(), Link::default(), &list);
        prop_assert!(verified.is_err() || verified.unwrap().head != head, "change {what} at {at} does not show");
    }
}
