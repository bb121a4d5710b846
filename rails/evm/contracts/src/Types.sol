// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

/// @notice Everything the contract enforces about one agreement. The payer's signature covers every field.
/// @dev The keccak256 of its ABI encoding is the agreement's id. Whoever acts on an agreement hands the
/// terms back in calldata and the contract compares their hash with what it stored at funding: that is what
/// keeps funding down to one storage slot. Fields are ordered so that a published copy takes few slots.
struct Agreement {
    /// Pays the deposit and gets back what was not earned.
    address buyer;
    /// Unix time by which the work must be delivered, or a receipt submitted (plus `challengeWindow`).
    uint40 expiry;
    /// Seconds between a close and the moment it is final.
    uint32 challengeWindow;
    /// Gets what was earned, less the fee.
    address seller;
    /// The most that `feeReceiver` may take of what the seller earns, in hundredths of a percent.
    uint16 maxFeeBps;
    /// An ERC-20 contract.
    address token;
    /// Units agreed. A job has one; a job with milestones has one per milestone.
    uint64 quantity;
    /// Amount held, in the token's minor units; at least `unitPrice * quantity`.
    uint120 deposit;
    /// Price of one unit, in the token's minor units.
    uint120 unitPrice;
    /// Signs cumulative receipts; zero when only releases and rulings earn.
    address receiptSigner;
    /// May divide the deposit while the agreement is not final; zero for none.
    address arbiter;
    /// Gets the fee; zero when `maxFeeBps` is zero.
    address feeReceiver;
    /// The buyer's storage lane that the agreement occupies until it is settled. Reusing a lane is cheaper
    /// than opening one. Below 2**64 when funded by EIP-3009; derived from the signed intent otherwise.
    uint96 lane;
    /// Hash of all else that was agreed, with a salt; the digest of the intent when one was signed.
    bytes32 termsHash;
}

/// @notice What a buyer signs to activate an agreement by permit or allowance: an EIP-712 message under the
/// activation domain. `termsHash` must be the EIP-712 struct hash of the `SettlementTerms` beside it.
struct BuyerActivationIntent {
    bytes32 agreementKey;
    bytes32 platformAgreementIdHash;
    address buyer;
    address seller;
    address token;
    uint256 quantity;
    uint256 pricePerUnit;
    uint256 depositAmount;
    uint256 challengeWindowSeconds;
    bytes32 serviceHash;
    bytes32 termsHash;
    uint256 expiry;
    uint256 nonce;
    bytes32 salt;
}

/// @notice The terms that `BuyerActivationIntent` has no field for, so that the buyer signs them too.
struct SettlementTerms {
    address receiptSigner;
    address arbiter;
    address feeReceiver;
    uint16 maxFeeBps;
    /// Hash of the human-readable terms.
    bytes32 documentHash;
}

/// @notice An EIP-2612 permit for this contract; a `deadline` of zero means that an allowance is there.
struct Permit {
    uint256 value;
    uint256 deadline;
    uint8 v;
    bytes32 r;
    bytes32 s;
}

/// @notice Where an agreement stands, time included.
enum Status {
    /// Not in its lane: never funded, or settled and the lane reused since.
    None,
    /// Funded; receipts, releases and rulings are accepted.
    Open,
    /// A party closed it; the same is accepted until the challenge window ends.
    Closing,
    /// What was earned stands; the seller claims it, the buyer withdraws the rest.
    Finalized,
    /// Every unit of the deposit has left.
    Settled
}

/// @notice Where the money of one agreement is. `earned` plus `withdrawable` is the deposit until settled.
struct EscrowStatus {
    Status status;
    /// Gross amount that the seller has earned so far.
    uint256 earned;
    /// Part of `earned` already paid out, fees included.
    uint256 claimed;
    /// Amount already returned to the buyer.
    uint256 withdrawn;
    /// What a claim would pay out now, fees included.
    uint256 claimable;
    /// What a withdrawal would pay out now.
    uint256 withdrawable;
    /// Unix time from which the agreement is final; zero when a ruling or the seller made it so.
    uint256 finalAt;
    /// Fee rate in force, in hundredths of a percent.
    uint256 feeBps;
}
