//! What is called and read on chain. A test compares it with the committed artifacts.

use alloy_sol_types::sol;
use serde::{Deserialize, Serialize};

sol! {
    /// Everything the contract enforces about one agreement; see the contract's `Types.sol`.
    #[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct Agreement {
        address buyer;
        uint40 expiry;
        uint32 challengeWindow;
        address seller;
        uint16 maxFeeBps;
        address token;
        uint64 quantity;
        uint120 deposit;
        uint120 unitPrice;
        address receiptSigner;
        address arbiter;
        address feeReceiver;
        uint96 lane;
        bytes32 termsHash;
    }

    /// What a buyer signs to activate an agreement by permit or allowance.
    #[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
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

    /// The terms that the intent has no field for; its `termsHash` is their hash.
    #[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct SettlementTerms {
        address receiptSigner;
        address arbiter;
        address feeReceiver;
        uint16 maxFeeBps;
        bytes32 documentHash;
    }

    /// The receipt signer's cumulative statement.
    #[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct UsageReceipt { uint256 agreementId; uint256 units; bytes32 proof; }
    /// The buyer lets the seller have money at once.
    #[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct ReleaseIntent { uint256 agreementId; uint256 cumulativeAmount; uint256 nonce; uint256 deadline; }
    /// A party starts the challenge window.
    #[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct CloseIntent { uint256 agreementId; uint256 nonce; uint256 deadline; }
    /// The seller needs no more time.
    #[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct WaiveIntent { uint256 agreementId; uint256 nonce; uint256 deadline; }
    /// The arbiter decides what was earned.
    #[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct RulingIntent { uint256 agreementId; uint256 earned; uint256 nonce; uint256 deadline; }
    /// The seller takes what was earned.
    #[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct SellerClaimIntent { uint256 agreementId; uint256 nonce; uint256 deadline; }
    /// The buyer takes the rest back.
    #[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct BuyerWithdrawIntent { uint256 agreementId; uint256 nonce; uint256 deadline; }
    /// What was signed with these nonces and not used yet is taken back.
    #[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct RevokeNoncesIntent { uint256 word; uint256 mask; uint256 nonce; uint256 deadline; }
    /// EIP-3009.
    #[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct ReceiveWithAuthorization {
        address from;
        address to;
        uint256 value;
        uint256 validAfter;
        uint256 validBefore;
        bytes32 nonce;
    }
    /// EIP-2612.
    #[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct Permit { address owner; address spender; uint256 value; uint256 nonce; uint256 deadline; }
    /// A permit as the contract takes it.
    struct SignedPermit { uint256 value; uint256 deadline; uint8 v; bytes32 r; bytes32 s; }

    #[derive(Debug, PartialEq, Eq)]
    struct EscrowStatus {
        uint8 status;
        uint256 earned;
        uint256 claimed;
        uint256 withdrawn;
        uint256 claimable;
        uint256 withdrawable;
        uint256 finalAt;
        uint256 feeBps;
    }

    interface Escrow {
        function fund(Agreement terms, uint256 validBefore, bytes signature);
        function createAndFundBuyerAuthorized(
            BuyerActivationIntent intent, SettlementTerms extra, SignedPermit permit, bytes signature
        ) returns (uint256 id);
        function createAndFund(
            BuyerActivationIntent intent, SettlementTerms extra, SignedPermit permit
        ) returns (uint256 id);
        function submitReceipt(Agreement terms, uint256 units, bytes32 proof, bytes signature);
        function releaseFunds(Agreement terms, uint256 cumulativeAmount);
        function releaseFundsWithSig(
            Agreement terms, uint256 cumulativeAmount, uint256 nonce, uint256 deadline, bytes signature
        );
        function rule(Agreement terms, uint256 earned);
        function ruleWithSig(Agreement terms, uint256 earned, uint256 nonce, uint256 deadline, bytes signature);
        function lowerFee(Agreement terms, uint256 feeBps);
        function close(Agreement terms);
        function closeWithSig(Agreement terms, address signer, uint256 nonce, uint256 deadline, bytes signature);
        function waive(Agreement terms);
        function waiveWithSig(Agreement terms, uint256 nonce, uint256 deadline, bytes signature);
        function claimEarned(Agreement terms);
        function claimEarnedWithSig(Agreement terms, uint256 nonce, uint256 deadline, bytes signature);
        function withdrawRest(Agreement terms);
        function withdrawRestWithSig(Agreement terms, uint256 nonce, uint256 deadline, bytes signature);
        function collectFees(address token, address receiver);
        function feesOwed(address token, address receiver) returns (uint256 amount);
        function batch(bytes[] calls);
        function statusOf(Agreement terms) returns (EscrowStatus status);
        function isLaneFree(address buyer, uint96 lane) returns (bool free);
        function revokeNonces(uint256 word, uint256 mask);
        function revokeNoncesWithSig(
            address signer, uint256 word, uint256 mask, uint256 nonce, uint256 deadline, bytes signature
        );
        function isNonceUsed(address signer, uint256 nonce) returns (bool used);
        function activationDomainSeparator() returns (bytes32 separator);
        function settlementDomainSeparator() returns (bytes32 separator);

        event Funded(uint256 indexed id);
        event ReceiptSubmitted(uint256 indexed id, uint256 units, uint256 earned, bytes32 proof);
        event CloseInitiated(uint256 indexed id, address indexed by, uint256 finalAt);
        event Finalized(uint256 indexed id, address indexed by, uint256 earned);
        event SellerPaid(uint256 indexed id, uint256 toSeller, uint256 fee);
        event BuyerWithdrew(uint256 indexed id, uint256 amount);
        event FeeLowered(uint256 indexed id, uint256 feeBps);

        #[derive(Debug)]
        error SignatureExpired(uint256 deadline, uint256 timestamp);
        #[derive(Debug)]
        error NonceAlreadyUsed(address signer, uint256 nonce);
        #[derive(Debug)]
        error WrongSignature(address signer, bytes32 digest);
        #[derive(Debug)]
        error InvalidAddress(bytes32 field, address value);
        #[derive(Debug)]
        error TooSmall(bytes32 field, uint256 value, uint256 min);
        #[derive(Debug)]
        error TooLarge(bytes32 field, uint256 value, uint256 max);
        #[derive(Debug)]
        error TokenHasNoCode(address token);
        #[derive(Debug)]
        error AlreadyExpired(uint256 expiry, uint256 timestamp);
        #[derive(Debug)]
        error LaneBusy(address buyer, uint96 lane);
        #[derive(Debug)]
        error TermsMismatch(bytes32 signed, bytes32 actual);
        #[derive(Debug)]
        error UnknownAgreement(uint256 id);
        #[derive(Debug)]
        error NotAuthorized(address caller, address required);
        #[derive(Debug)]
        error NotAParty(address account, address buyer, address seller);
        #[derive(Debug)]
        error AlreadyFinal(uint256 id, uint8 status, uint256 finalAt);
        #[derive(Debug)]
        error NotFinal(uint256 id, uint256 finalAt);
        #[derive(Debug)]
        error AlreadyClosing(uint256 id, uint256 finalAt);
        #[derive(Debug)]
        error ReceiptsDisabled(uint256 id);
        #[derive(Debug)]
        error OverQuantity(uint256 units, uint256 quantity);
        #[derive(Debug)]
        error ReceiptNotNewer(uint256 amount, uint256 earned);
        #[derive(Debug)]
        error AboveDeposit(uint256 amount, uint256 deposit);
        #[derive(Debug)]
        error BelowPaid(uint256 amount, uint256 paid);
        #[derive(Debug)]
        error FeeNotLower(uint256 feeBps, uint256 current);
        #[derive(Debug)]
        error NothingDue(uint256 id, address account);
        #[derive(Debug)]
        error BatchFailed(uint256 index, bytes reason);
        #[derive(Debug)]
        error DepositNotExact(address token, uint256 expected, uint256 received);
        #[derive(Debug)]
        error AllowanceTooLow(address token, uint256 allowance, uint256 required);
    }

    interface Token {
        event Transfer(address indexed from, address indexed to, uint256 value);
        function balanceOf(address owner) returns (uint256 amount);
        function decimals() returns (uint8 places);
        function nonces(address owner) returns (uint256 nonce);
        function DOMAIN_SEPARATOR() returns (bytes32 separator);
        function allowance(address owner, address spender) returns (uint256 amount);
        function approve(address spender, uint256 amount) returns (bool ok);
        function transferFrom(address from, address to, uint256 amount) returns (bool ok);
        function permit(address owner, address spender, uint256 value, uint256 deadline, uint8 v, bytes32 r, bytes32 s);
    }

    interface Oracle {
        function isSanctioned(address account) returns (bool sanctioned);
    }
}

/// The word of a [`EscrowStatus::status`].
pub(crate) mod stage {
    pub(crate) const NONE: u8 = 0;
    pub(crate) const OPEN: u8 = 1;
    pub(crate) const CLOSING: u8 = 2;
    pub(crate) const FINALIZED: u8 = 3;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What we call is what the committed contract has: functions by selector, errors by selector, events by topic.
    #[test]
    fn the_interface_is_the_contracts() {
        let artifact: serde_json::Value =
            serde_json::from_str(include_str!("../contracts/artifacts/TradepostEscrow.json")).unwrap();
        let signatures = |kind: &str| -> BTreeSet<[u8; 4]> {
            let items = artifact["abi"].as_array().unwrap().iter().filter(|item| item["type"] == kind);
            items.map(|item| selector(&signature(item))).collect()
        };
        let functions = signatures("function");
        for ours in Escrow::EscrowCalls::SELECTORS {
            assert!(functions.contains(ours), "no function {}", Escrow::EscrowCalls::name_by_selector(*ours).unwrap());
        }
        let errors = signatures("error");
        for ours in Escrow::EscrowErrors::SELECTORS {
            assert!(errors.contains(ours), "no error {}", Escrow::EscrowErrors::name_by_selector(*ours).unwrap());
        }
        assert_eq!(errors.len() - Escrow::EscrowErrors::SELECTORS.len(), 3, "errors we do not tell apart: {errors:?}");
        let events = signatures("event");
        for ours in Escrow::EscrowEvents::SELECTORS {
            assert!(events.contains(&ours[..4]), "no event {}", Escrow::EscrowEvents::name_by_selector(*ours).unwrap());
        }
    }

    fn signature(item: &serde_json::Value) -> String {
        let inputs: Vec<String> = item["inputs"].as_array().unwrap().iter().map(kind).collect();
        format!("{}({})", item["name"].as_str().unwrap(), inputs.join(","))
    }

    fn kind(input: &serde_json::Value) -> String {
        let name = input["type"].as_str().unwrap();
        match name.strip_prefix("tuple") {
            Some(array) => {
                let inner: Vec<String> = input["components"].as_array().unwrap().iter().map(kind).collect();
                format!("({}){array}", inner.join(","))
            }
            None => name.into(),
        }
    }

    fn selector(signature: &str) -> [u8; 4] {
        let hash = alloy_primitives::keccak256(signature);
        [hash[0], hash[1], hash[2], hash[3]]
    }
}
