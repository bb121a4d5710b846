// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {Base} from "./Base.t.sol";
import {Signatures} from "../src/Signatures.sol";
import {TradepostEscrow} from "../src/TradepostEscrow.sol";
import {Agreement, Status} from "../src/Types.sol";
import {Wallet} from "./mocks/BadTokens.sol";

/// @notice Relayed actions (PG-10): sponsoring adds no power. Each of the eleven signed forms is tried with a
/// signature of every wrong kind, then with the right one, then with the same one again.
contract SignaturesTest is Base {
    uint256 private constant FORMS = 11;
    uint256 private constant HALF_ORDER = 0x7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0;

    Agreement private a;
    uint256 private id;
    uint256 private deadline = START + 2 days;

    function setUp() public override {
        super.setUp();
        a = metered();
        id = fundIt(a);
        escrow.publish(a);
    }

    function testFuzz_PG10_everyWrongSignatureForEveryForm(uint256 wrongKey, uint256 nonce) public {
        wrongKey = bound(wrongKey, 1, type(uint128).max);
        for (uint256 form = 0; form < FORMS; ++form) {
            uint256 before = vm.snapshotState();
            prepare(form);
            (address signer, uint256 key, bytes32 message) = messageOf(form, nonce, deadline);
            bytes memory good = signMessage(message, key);
            bytes32 digest = typed(settlementDomain(), message);
            bytes memory wrong = abi.encodeWithSelector(Signatures.WrongSignature.selector, signer, digest);

            // Another key, no key, and forms that are no signature.
            refused(form, nonce, deadline, signMessage(message, wrongKey), wrong);
            refused(form, nonce, deadline, new bytes(65), wrong);
            refused(form, nonce, deadline, "", wrong);
            refused(form, nonce, deadline, highS(good), wrong);
            refused(form, nonce, deadline, compact(good), wrong);
            // Another domain: chain, contract, name.
            bytes32 domain = domainOf("MeteringEscrow", block.chainid + 1, address(escrow));
            refused(form, nonce, deadline, sign(key, typed(domain, message)), wrong);
            domain = domainOf("MeteringEscrow", block.chainid, address(dollar));
            refused(form, nonce, deadline, sign(key, typed(domain, message)), wrong);
            domain = domainOf("MeteringEscrowV2", block.chainid, address(escrow));
            refused(form, nonce, deadline, sign(key, typed(domain, message)), wrong);
            // Another nonce or deadline than the signed one.
            vm.expectPartialRevert(Signatures.WrongSignature.selector);
            execute(form, nonce ^ 1, deadline, good);
            vm.expectPartialRevert(Signatures.WrongSignature.selector);
            execute(form, nonce, deadline + 1, good);
            // Too late.
            (,, bytes32 stale) = messageOf(form, nonce, block.timestamp - 1);
            refused(
                form,
                nonce,
                block.timestamp - 1,
                signMessage(stale, key),
                abi.encodeWithSelector(
                    Signatures.SignatureExpired.selector, block.timestamp - 1, block.timestamp
                )
            );

            // Refusals used nothing up: the right one works, once.
            execute(form, nonce, deadline, good);
            assertTrue(escrow.isNonceUsed(signer, nonce));
            assertFalse(escrow.isNonceUsed(signer, nonce ^ 1));
            refused(
                form,
                nonce,
                deadline,
                good,
                abi.encodeWithSelector(Signatures.NonceAlreadyUsed.selector, signer, nonce)
            );
            vm.revertToState(before);
        }
    }

    function test_PG10_deadlineItselfIsInTime() public {
        prepare(0);
        (, uint256 key, bytes32 message) = messageOf(0, 1, block.timestamp);
        execute(0, 1, block.timestamp, signMessage(message, key));
    }

    function test_PG10_closeBySellerOrBuyerOnly() public {
        bytes32 message = plainMessage("CloseIntent", id, 1, deadline);
        bytes memory byStranger = signMessage(message, strangerKey);
        vm.expectRevert(abi.encodeWithSelector(TradepostEscrow.NotAParty.selector, stranger, buyer, seller));
        escrow.closeWithSig(a, stranger, 1, deadline, byStranger);
        escrow.closeWithSig(a, seller, 1, deadline, signMessage(message, sellerKey));
        assertEq(uint8(statusOf(a)), uint8(Status.Closing));
    }

    /// EIP-1271: a wallet contract as buyer, its signatures checked by itself.
    function test_PG10_walletContractSigns() public {
        Agreement memory w = metered();
        w.buyer = address(new Wallet(buyer));
        dollar.mint(w.buyer, DEPOSIT);
        escrow.fund(w, NEVER, bytes.concat(hex"01", signAuthorization(w, address(escrow), NEVER, buyerKey)));
        bytes32 message =
            amountMessage("ReleaseIntent", "cumulativeAmount", escrow.idOf(w), 10e6, 5, deadline);
        bytes memory plain = signMessage(message, buyerKey);
        vm.expectPartialRevert(Signatures.WrongSignature.selector);
        escrow.releaseFundsWithSig(w, 10e6, 5, deadline, plain);
        bytes memory byStranger = bytes.concat(hex"01", signMessage(message, strangerKey));
        vm.expectPartialRevert(Signatures.WrongSignature.selector);
        escrow.releaseFundsWithSig(w, 10e6, 5, deadline, byStranger);
        escrow.releaseFundsWithSig(w, 10e6, 5, deadline, bytes.concat(hex"01", plain));
        assertEq(dollar.balanceOf(seller), 9.9e6);
    }

    /// EIP-7702: an account with code still signs with its key.
    function test_PG10_delegatedAccountSignsWithItsKey() public {
        vm.etch(buyer, address(dollar).code);
        prepare(0);
        (, uint256 key, bytes32 message) = messageOf(0, 1, deadline);
        execute(0, 1, deadline, signMessage(message, key));
    }

    /// A chain that split off has its own domain, and the old chain's signatures are not good there.
    function test_PG10_domainsFollowTheChain() public {
        assertEq(escrow.settlementDomainSeparator(), settlementDomain());
        assertEq(
            escrow.activationDomainSeparator(), domainOf("MeteringEscrowV2", block.chainid, address(escrow))
        );
        (, uint256 key, bytes32 message) = messageOf(0, 1, deadline);
        bytes memory good = signMessage(message, key);
        vm.chainId(84532);
        assertEq(escrow.settlementDomainSeparator(), settlementDomain());
        assertEq(escrow.activationDomainSeparator(), domainOf("MeteringEscrowV2", 84532, address(escrow)));
        vm.expectPartialRevert(Signatures.WrongSignature.selector);
        execute(0, 1, deadline, good);
    }

    function testFuzz_PG10_noncesAreUsedOnceInAnyOrder(uint256 x, uint256 y) public {
        vm.assume(x != y);
        Agreement memory b = metered();
        b.lane = 2;
        fundIt(b);
        uint256[2] memory nonces = [x, y];
        for (uint256 i = 0; i < 2; ++i) {
            Agreement memory which = i == 0 ? a : b;
            bytes32 m = amountMessage(
                "ReleaseIntent", "cumulativeAmount", escrow.idOf(which), 1e6, nonces[i], deadline
            );
            escrow.releaseFundsWithSig(which, 1e6, nonces[i], deadline, signMessage(m, buyerKey));
            assertTrue(escrow.isNonceUsed(buyer, nonces[i]));
        }
    }

    /// Who takes back what was signed may do so by a signature too, and what was used stays used.
    function testFuzz_PG10_noncesAreRevokedBySignature(uint248 word, uint256 mask, uint8 place) public {
        vm.assume(word != 0);
        uint256 nonce = uint256(word) << 8 | place;
        escrow.revokeNoncesWithSig(
            buyer, word, mask, 1, deadline, signMessage(revocation(word, mask, 1, deadline), buyerKey)
        );
        bytes memory good = signMessage(revocation(word, 0, nonce, deadline), buyerKey);
        if (mask >> place & 1 == 1) {
            vm.expectRevert(abi.encodeWithSelector(Signatures.NonceAlreadyUsed.selector, buyer, nonce));
        }
        escrow.revokeNoncesWithSig(buyer, word, 0, nonce, deadline, good);
        assertTrue(escrow.isNonceUsed(buyer, nonce) && escrow.isNonceUsed(buyer, 1));
        assertFalse(escrow.isNonceUsed(seller, nonce), "another's nonces are another's");
    }

    // ------------------------------------------------------------------------------------ the forms

    /// Claims and withdrawals need a final agreement in which both have something due.
    function prepare(uint256 form) private {
        if (form < 6) return;
        submit(a, 30);
        vm.prank(buyer);
        escrow.close(a);
        vm.warp(START + WINDOW);
    }

    function messageOf(uint256 form, uint256 nonce, uint256 until)
        private
        view
        returns (address signer, uint256 key, bytes32 message)
    {
        if (form == 0) {
            return
                (buyer, buyerKey, amountMessage("ReleaseIntent", "cumulativeAmount", id, 7e6, nonce, until));
        }
        if (form == 1) {
            return (arbiter, arbiterKey, amountMessage("RulingIntent", "earned", id, 7e6, nonce, until));
        }
        if (form == 2) {
            return (platform, platformKey, amountMessage("LowerFeeIntent", "feeBps", id, 7, nonce, until));
        }
        if (form == 3) return (seller, sellerKey, plainMessage("WaiveIntent", id, nonce, until));
        if (form == 4 || form == 5) return (buyer, buyerKey, plainMessage("CloseIntent", id, nonce, until));
        if (form == 6 || form == 7) {
            return (seller, sellerKey, plainMessage("SellerClaimIntent", id, nonce, until));
        }
        if (form == 8 || form == 9) {
            return (buyer, buyerKey, plainMessage("BuyerWithdrawIntent", id, nonce, until));
        }
        return (buyer, buyerKey, revocation(~nonce >> 8, 3, nonce, until));
    }

    function execute(uint256 form, uint256 nonce, uint256 until, bytes memory signature) private {
        vm.prank(relayer);
        if (form == 0) escrow.releaseFundsWithSig(a, 7e6, nonce, until, signature);
        else if (form == 1) escrow.ruleWithSig(a, 7e6, nonce, until, signature);
        else if (form == 2) escrow.lowerFeeWithSig(a, 7, nonce, until, signature);
        else if (form == 3) escrow.waiveWithSig(a, nonce, until, signature);
        else if (form == 4) escrow.closeWithSig(a, buyer, nonce, until, signature);
        else if (form == 5) escrow.initiateCloseWithSig(id, buyer, nonce, until, signature);
        else if (form == 6) escrow.claimEarnedWithSig(a, nonce, until, signature);
        else if (form == 7) escrow.claimWithSig(id, nonce, until, signature);
        else if (form == 8) escrow.withdrawRestWithSig(a, nonce, until, signature);
        else if (form == 9) escrow.withdrawWithSig(id, nonce, until, signature);
        else escrow.revokeNoncesWithSig(buyer, ~nonce >> 8, 3, nonce, until, signature);
    }

    function revocation(uint256 word, uint256 mask, uint256 nonce, uint256 until)
        private
        pure
        returns (bytes32)
    {
        return keccak256(
            abi.encode(
                keccak256("RevokeNoncesIntent(uint256 word,uint256 mask,uint256 nonce,uint256 deadline)"),
                word,
                mask,
                nonce,
                until
            )
        );
    }

    function refused(uint256 form, uint256 nonce, uint256 until, bytes memory signature, bytes memory reason)
        private
    {
        vm.expectRevert(reason);
        execute(form, nonce, until, signature);
    }

    // ------------------------------------------------------------------------------------ bad encodings

    /// The other signature that the same key and message have: valid to ecrecover, refused here.
    function highS(bytes memory signature) private pure returns (bytes memory) {
        (bytes32 r, bytes32 s, uint8 v) = split(signature);
        uint256 order = 2 * HALF_ORDER + 1;
        assertLe(uint256(s), HALF_ORDER);
        return abi.encodePacked(r, bytes32(order - uint256(s)), v == 27 ? uint8(28) : uint8(27));
    }

    function compact(bytes memory signature) private pure returns (bytes memory) {
        (bytes32 r, bytes32 s, uint8 v) = split(signature);
        return abi.encodePacked(r, bytes32(uint256(s) | uint256(v - 27) << 255));
    }
}
