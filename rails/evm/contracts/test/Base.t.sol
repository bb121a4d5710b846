// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {Test} from "forge-std/Test.sol";
import {TradepostEscrow} from "../src/TradepostEscrow.sol";
import {Signatures} from "../src/Signatures.sol";
import {Tokens} from "../src/Tokens.sol";
import {
    Agreement,
    BuyerActivationIntent,
    EscrowStatus,
    Permit,
    SettlementTerms,
    Status
} from "../src/Types.sol";
import {TestDollar} from "./mocks/TestDollar.sol";

/// @dev The parties, a token, the contract, and the signatures that the parties' clients make. The type
/// strings are written out here a second time, from the specification and not from the contract.
abstract contract Base is Test {
    uint256 internal constant DEPOSIT = 100e6;
    uint40 internal constant START = 1_750_000_000;
    uint32 internal constant WINDOW = 1 days;
    uint256 internal constant NEVER = type(uint256).max;

    TradepostEscrow internal escrow;
    TestDollar internal dollar;

    address internal buyer;
    uint256 internal buyerKey;
    address internal seller;
    uint256 internal sellerKey;
    address internal meter;
    uint256 internal meterKey;
    address internal arbiter;
    uint256 internal arbiterKey;
    address internal platform;
    uint256 internal platformKey;
    address internal relayer = makeAddr("relayer");
    address internal stranger;
    uint256 internal strangerKey;

    function setUp() public virtual {
        vm.warp(START);
        (buyer, buyerKey) = makeAddrAndKey("buyer");
        (seller, sellerKey) = makeAddrAndKey("seller");
        (meter, meterKey) = makeAddrAndKey("meter");
        (arbiter, arbiterKey) = makeAddrAndKey("arbiter");
        (platform, platformKey) = makeAddrAndKey("platform");
        (stranger, strangerKey) = makeAddrAndKey("stranger");
        escrow = new TradepostEscrow("MeteringEscrowV2", "MeteringEscrow");
        dollar = new TestDollar();
        dollar.mint(buyer, 1_000_000e6);
    }

    // ------------------------------------------------------------------------------------ agreements

    /// A metered agreement: 100 calls at one dollar, 1 % fee, a receipt signer and an arbiter.
    function metered() internal view returns (Agreement memory a) {
        a.buyer = buyer;
        a.seller = seller;
        a.token = address(dollar);
        a.expiry = START + 30 days;
        a.challengeWindow = WINDOW;
        a.maxFeeBps = 100;
        a.quantity = 100;
        a.unitPrice = 1e6;
        a.deposit = uint120(DEPOSIT);
        a.receiptSigner = meter;
        a.arbiter = arbiter;
        a.feeReceiver = platform;
        a.lane = 1;
        a.termsHash = keccak256("terms and a salt");
    }

    /// A job: an agreement of quantity one.
    function job() internal view returns (Agreement memory a) {
        a = metered();
        a.quantity = 1;
        a.unitPrice = uint120(DEPOSIT);
        a.receiptSigner = address(0);
        a.arbiter = address(0);
    }

    function extraOf(Agreement memory a) internal pure returns (SettlementTerms memory) {
        return SettlementTerms(a.receiptSigner, a.arbiter, a.feeReceiver, a.maxFeeBps, keccak256("document"));
    }

    function intentOf(Agreement memory a, uint256 nonce)
        internal
        view
        returns (BuyerActivationIntent memory)
    {
        return BuyerActivationIntent({
            agreementKey: keccak256("key"),
            platformAgreementIdHash: keccak256("platform id"),
            buyer: a.buyer,
            seller: a.seller,
            token: a.token,
            quantity: a.quantity,
            pricePerUnit: a.unitPrice,
            depositAmount: a.deposit,
            challengeWindowSeconds: a.challengeWindow,
            serviceHash: keccak256("service"),
            termsHash: escrow.hashSettlementTerms(extraOf(a)),
            expiry: a.expiry,
            nonce: nonce,
            salt: keccak256("salt")
        });
    }

    function noPermit() internal pure returns (Permit memory) {}

    function fundIt(Agreement memory a) internal returns (uint256 id) {
        id = escrow.idOf(a);
        bytes memory signature = signAuthorization(a, address(escrow), NEVER, buyerKey);
        vm.prank(relayer);
        escrow.fund(a, NEVER, signature);
    }

    // ------------------------------------------------------------------------------------ signatures

    function sign(uint256 key, bytes32 digest) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        return abi.encodePacked(r, s, v);
    }

    function split(bytes memory signature) internal pure returns (bytes32 r, bytes32 s, uint8 v) {
        assembly ("memory-safe") {
            r := mload(add(signature, 32))
            s := mload(add(signature, 64))
            v := byte(0, mload(add(signature, 96)))
        }
    }

    function typed(bytes32 domain, bytes32 structHash) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked("\x19\x01", domain, structHash));
    }

    function domainOf(string memory name, uint256 chain, address verifier) internal pure returns (bytes32) {
        return keccak256(
            abi.encode(
                keccak256(
                    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
                ),
                keccak256(bytes(name)),
                keccak256("1"),
                chain,
                verifier
            )
        );
    }

    function settlementDomain() internal view returns (bytes32) {
        return domainOf("MeteringEscrow", block.chainid, address(escrow));
    }

    function signAuthorization(Agreement memory a, address to, uint256 validBefore, uint256 key)
        internal
        view
        returns (bytes memory)
    {
        bytes32 structHash = keccak256(
            abi.encode(
                keccak256(
                    "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
                ),
                a.buyer,
                to,
                uint256(a.deposit),
                uint256(0),
                validBefore,
                bytes32(escrow.idOf(a))
            )
        );
        return sign(key, typed(TestDollar(a.token).DOMAIN_SEPARATOR(), structHash));
    }

    function signPermit(address token, address owner, uint256 value, uint256 deadline, uint256 key)
        internal
        view
        returns (Permit memory p)
    {
        bytes32 structHash = keccak256(
            abi.encode(
                keccak256(
                    "Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"
                ),
                owner,
                address(escrow),
                value,
                TestDollar(token).nonces(owner),
                deadline
            )
        );
        p.value = value;
        p.deadline = deadline;
        (p.v, p.r, p.s) = vm.sign(key, typed(TestDollar(token).DOMAIN_SEPARATOR(), structHash));
    }

    function intentDigest(BuyerActivationIntent memory intent) internal view returns (bytes32) {
        bytes32 structHash = keccak256(
            abi.encode(
                keccak256(
                    "BuyerActivationIntent(bytes32 agreementKey,bytes32 platformAgreementIdHash,address buyer,address seller,address token,uint256 quantity,uint256 pricePerUnit,uint256 depositAmount,uint256 challengeWindowSeconds,bytes32 serviceHash,bytes32 termsHash,uint256 expiry,uint256 nonce,bytes32 salt)"
                ),
                intent
            )
        );
        return typed(domainOf("MeteringEscrowV2", block.chainid, address(escrow)), structHash);
    }

    function signIntent(BuyerActivationIntent memory intent, uint256 key)
        internal
        view
        returns (bytes memory)
    {
        return sign(key, intentDigest(intent));
    }

    function signReceipt(uint256 id, uint256 units, bytes32 proof, uint256 key)
        internal
        view
        returns (bytes memory)
    {
        bytes32 structHash = keccak256(
            abi.encode(
                keccak256("UsageReceipt(uint256 agreementId,uint256 units,bytes32 proof)"), id, units, proof
            )
        );
        return sign(key, typed(settlementDomain(), structHash));
    }

    /// `CloseIntent`, `WaiveIntent`, `SellerClaimIntent`, `BuyerWithdrawIntent`.
    function plainMessage(string memory name, uint256 id, uint256 nonce, uint256 deadline)
        internal
        pure
        returns (bytes32)
    {
        bytes32 typehash =
            keccak256(abi.encodePacked(name, "(uint256 agreementId,uint256 nonce,uint256 deadline)"));
        return keccak256(abi.encode(typehash, id, nonce, deadline));
    }

    /// `ReleaseIntent` (cumulativeAmount), `RulingIntent` (earned), `LowerFeeIntent` (feeBps).
    function amountMessage(
        string memory name,
        string memory field,
        uint256 id,
        uint256 amount,
        uint256 nonce,
        uint256 deadline
    ) internal pure returns (bytes32) {
        bytes32 typehash = keccak256(
            abi.encodePacked(name, "(uint256 agreementId,uint256 ", field, ",uint256 nonce,uint256 deadline)")
        );
        return keccak256(abi.encode(typehash, id, amount, nonce, deadline));
    }

    function signMessage(bytes32 structHash, uint256 key) internal view returns (bytes memory) {
        return sign(key, typed(settlementDomain(), structHash));
    }

    // ------------------------------------------------------------------------------------ short forms

    function submit(Agreement memory a, uint256 units) internal {
        escrow.submitReceipt(
            a, units, bytes32(units), signReceipt(escrow.idOf(a), units, bytes32(units), meterKey)
        );
    }

    function statusOf(Agreement memory a) internal view returns (Status) {
        return escrow.statusOf(a).status;
    }
}
