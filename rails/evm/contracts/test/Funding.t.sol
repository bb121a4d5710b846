// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {Base} from "./Base.t.sol";
import {Signatures} from "../src/Signatures.sol";
import {Tokens} from "../src/Tokens.sol";
import {TradepostEscrow} from "../src/TradepostEscrow.sol";
import {Agreement, BuyerActivationIntent, EscrowStatus, Permit, Status} from "../src/Types.sol";
import {Wallet} from "./mocks/BadTokens.sol";
import {TestDollar} from "./mocks/TestDollar.sol";

/// @notice Only the payer's signature moves the payer's money, whole, and onto the signed terms (PG-04, PG-17).
contract FundingTest is Base {
    // ------------------------------------------------------------------------------------ EIP-3009

    function testFuzz_PG04_authorizationFunds(uint64 quantity, uint120 price, uint120 extra, uint64 lane)
        public
    {
        Agreement memory a = metered();
        a.quantity = uint64(bound(quantity, 1, type(uint32).max));
        a.unitPrice = uint120(bound(price, 1, type(uint80).max));
        a.deposit = uint120(uint256(a.quantity) * a.unitPrice + bound(extra, 0, type(uint64).max));
        a.lane = lane;
        dollar.mint(buyer, a.deposit);
        uint256 before = dollar.balanceOf(buyer);

        vm.expectEmit();
        emit TradepostEscrow.Funded(escrow.idOf(a));
        fundIt(a);

        EscrowStatus memory s = escrow.statusOf(a);
        assertEq(uint8(s.status), uint8(Status.Open));
        assertEq(s.finalAt, uint256(a.expiry) + a.challengeWindow);
        assertEq(dollar.balanceOf(address(escrow)), a.deposit);
        assertEq(dollar.balanceOf(buyer), before - a.deposit);
        assertFalse(escrow.isLaneFree(buyer, lane));
    }

    /// PG-17: whatever is changed in the terms, the payer's authorization is not for it.
    function testFuzz_PG17_authorizationIsForTheseTermsOnly(uint256 field) public {
        Agreement memory a = metered();
        bytes memory signature = signAuthorization(a, address(escrow), NEVER, buyerKey);
        Agreement memory b = changed(a, field % 14);
        assertTrue(escrow.idOf(a) != escrow.idOf(b));
        vm.expectRevert();
        escrow.fund(b, NEVER, signature);
        escrow.fund(a, NEVER, signature);
    }

    function changed(Agreement memory a, uint256 field) private returns (Agreement memory b) {
        b = abi.decode(abi.encode(a), (Agreement));
        address other = makeAddr("other");
        if (field == 0) b.buyer = other;
        if (field == 1) b.expiry += 1;
        if (field == 2) b.challengeWindow += 1;
        if (field == 3) b.seller = other;
        if (field == 4) b.maxFeeBps += 1;
        if (field == 5) b.token = address(new TestDollar());
        if (field == 6) b.quantity -= 1;
        if (field == 7) b.deposit += 1;
        if (field == 8) b.unitPrice -= 1;
        if (field == 9) b.receiptSigner = other;
        if (field == 10) b.arbiter = other;
        if (field == 11) b.feeReceiver = other;
        if (field == 12) b.lane += 1;
        if (field == 13) b.termsHash = keccak256("other");
    }

    function test_PG04_authorizationBySomeoneElseElsewhereOrLate() public {
        Agreement memory a = metered();
        bytes memory byStranger = signAuthorization(a, address(escrow), NEVER, strangerKey);
        vm.expectRevert(abi.encodeWithSelector(TestDollar.InvalidSignature.selector, buyer));
        escrow.fund(a, NEVER, byStranger);

        bytes memory forOther = signAuthorization(a, address(0xdead), NEVER, buyerKey);
        vm.expectRevert(abi.encodeWithSelector(TestDollar.InvalidSignature.selector, buyer));
        escrow.fund(a, NEVER, forOther);

        bytes memory good = signAuthorization(a, address(escrow), START + 1, buyerKey);
        vm.chainId(block.chainid + 1);
        vm.expectRevert(abi.encodeWithSelector(TestDollar.InvalidSignature.selector, buyer));
        escrow.fund(a, START + 1, good);
        vm.chainId(31337);

        vm.warp(START + 1);
        vm.expectRevert(
            abi.encodeWithSelector(TestDollar.AuthorizationExpired.selector, START + 1, START + 1)
        );
        escrow.fund(a, START + 1, good);
    }

    function test_PG04_walletContractFundsByAuthorization() public {
        Agreement memory a = metered();
        a.buyer = address(new Wallet(buyer));
        dollar.mint(a.buyer, DEPOSIT);
        bytes memory plain = signAuthorization(a, address(escrow), NEVER, buyerKey);
        escrow.fund(a, NEVER, bytes.concat(hex"01", plain));
        assertEq(uint8(statusOf(a)), uint8(Status.Open));
    }

    function test_PG17_laneOfIntentsIsClosedToAuthorizations(uint96 lane) public {
        Agreement memory a = metered();
        a.lane = uint96(bound(lane, uint256(type(uint64).max) + 1, type(uint96).max));
        bytes memory signature = signAuthorization(a, address(escrow), NEVER, buyerKey);
        vm.expectRevert(tooLarge("lane", a.lane, type(uint64).max));
        escrow.fund(a, NEVER, signature);
    }

    /// PG-17: an agreement in a lane is safe from the next; a settled one makes room and cannot come back.
    function test_PG17_laneHoldsOneAgreementAtATime() public {
        Agreement memory a = metered();
        fundIt(a);
        Agreement memory b = metered();
        b.termsHash = keccak256("second");
        bytes memory signature = signAuthorization(b, address(escrow), NEVER, buyerKey);
        vm.expectRevert(abi.encodeWithSelector(TradepostEscrow.LaneBusy.selector, buyer, 1));
        escrow.fund(b, NEVER, signature);

        submit(a, 40);
        vm.prank(buyer);
        escrow.releaseFunds(a, DEPOSIT);
        assertTrue(escrow.isLaneFree(buyer, 1));
        escrow.fund(b, NEVER, signature);

        // Nothing of the first one is left in the second.
        EscrowStatus memory s = escrow.statusOf(b);
        assertEq(uint8(s.status), uint8(Status.Open));
        assertEq(s.earned + s.claimed + s.withdrawn, 0);
        assertEq(uint8(statusOf(a)), uint8(Status.None));
        uint256 id = escrow.idOf(a);
        vm.expectRevert(abi.encodeWithSelector(TradepostEscrow.UnknownAgreement.selector, id));
        vm.prank(buyer);
        escrow.releaseFunds(a, DEPOSIT);
    }

    // ------------------------------------------------------------------------------------ intents

    function test_PG04_intentWithPermit() public {
        (Agreement memory a, BuyerActivationIntent memory intent) = intended(9);
        Permit memory permit = signPermit(address(dollar), buyer, DEPOSIT, NEVER, buyerKey);
        bytes memory signature = signIntent(intent, buyerKey);
        vm.prank(relayer);
        uint256 id = escrow.createAndFundBuyerAuthorized(intent, extraOf(a), permit, signature);

        Agreement memory stored = escrow.publishedTerms(id);
        assertEq(escrow.idOf(stored), id);
        assertEq(keccak256(abi.encode(stored)), keccak256(abi.encode(escrow.termsOf(intent, extraOf(a)))));
        a.lane = stored.lane;
        a.termsHash = intentDigest(intent);
        assertEq(keccak256(abi.encode(stored)), keccak256(abi.encode(a)));
        assertEq(uint8(escrow.escrowStatus(id).status), uint8(Status.Open));
        assertTrue(escrow.isNonceUsed(buyer, 9));
    }

    function test_PG04_intentWithPriorAllowance() public {
        (Agreement memory a, BuyerActivationIntent memory intent) = intended(0);
        vm.prank(buyer);
        dollar.approve(address(escrow), DEPOSIT);
        bytes memory signature = signIntent(intent, buyerKey);
        escrow.createAndFundBuyerAuthorized(intent, extraOf(a), noPermit(), signature);
        assertEq(dollar.balanceOf(address(escrow)), DEPOSIT);
    }

    function test_PG04_buyersOwnTransaction() public {
        (Agreement memory a, BuyerActivationIntent memory intent) = intended(0);
        vm.prank(buyer);
        dollar.approve(address(escrow), DEPOSIT);
        vm.expectRevert(abi.encodeWithSelector(TradepostEscrow.NotAuthorized.selector, relayer, buyer));
        vm.prank(relayer);
        escrow.createAndFund(intent, extraOf(a), noPermit());
        vm.prank(buyer);
        uint256 id = escrow.createAndFund(intent, extraOf(a), noPermit());
        assertEq(uint8(escrow.escrowStatus(id).status), uint8(Status.Open));
    }

    /// A permit that somebody else has used in the meantime is no obstacle.
    function test_PG04_frontRunPermit() public {
        (Agreement memory a, BuyerActivationIntent memory intent) = intended(0);
        Permit memory p = signPermit(address(dollar), buyer, DEPOSIT, NEVER, buyerKey);
        vm.prank(stranger);
        dollar.permit(buyer, address(escrow), p.value, p.deadline, p.v, p.r, p.s);
        escrow.createAndFundBuyerAuthorized(intent, extraOf(a), p, signIntent(intent, buyerKey));
        assertEq(dollar.balanceOf(address(escrow)), DEPOSIT);
    }

    function testFuzz_PG04_badPermitWithoutAllowance(uint256 allowance) public {
        allowance = bound(allowance, 0, DEPOSIT - 1);
        (Agreement memory a, BuyerActivationIntent memory intent) = intended(0);
        vm.prank(buyer);
        dollar.approve(address(escrow), allowance);
        Permit memory p = signPermit(address(dollar), buyer, DEPOSIT, NEVER, strangerKey);
        bytes memory signature = signIntent(intent, buyerKey);
        bytes memory reason =
            abi.encodeWithSelector(Tokens.AllowanceTooLow.selector, address(dollar), allowance, DEPOSIT);
        vm.expectRevert(reason);
        escrow.createAndFundBuyerAuthorized(intent, extraOf(a), p, signature);
        assertFalse(escrow.isNonceUsed(buyer, 0));
    }

    /// PG-17: the terms that the intent has no field for are signed through its terms hash.
    function test_PG17_intentBindsFeeReceiptSignerAndArbiter() public {
        (Agreement memory a, BuyerActivationIntent memory intent) = intended(0);
        bytes memory signature = signIntent(intent, buyerKey);
        for (uint256 field = 0; field < 4; ++field) {
            Agreement memory b = changed(a, [uint256(4), 9, 10, 11][field]);
            vm.expectRevert(
                abi.encodeWithSelector(
                    TradepostEscrow.TermsMismatch.selector,
                    intent.termsHash,
                    escrow.hashSettlementTerms(extraOf(b))
                )
            );
            escrow.createAndFundBuyerAuthorized(intent, extraOf(b), noPermit(), signature);
        }
    }

    function test_PG17_settlementTermsHashIsTheTypedOne() public view {
        Agreement memory a = metered();
        bytes32 want = keccak256(
            abi.encode(
                keccak256(
                    "SettlementTerms(address receiptSigner,address arbiter,address feeReceiver,uint16 maxFeeBps,bytes32 documentHash)"
                ),
                extraOf(a)
            )
        );
        assertEq(escrow.hashSettlementTerms(extraOf(a)), want);
    }

    function test_PG04_intentIsUsedOnceAndCanBeRevoked() public {
        (Agreement memory a, BuyerActivationIntent memory intent) = intended(300);
        vm.prank(buyer);
        dollar.approve(address(escrow), NEVER);
        bytes memory signature = signIntent(intent, buyerKey);
        uint256 id = escrow.createAndFundBuyerAuthorized(intent, extraOf(a), noPermit(), signature);
        vm.expectRevert(abi.encodeWithSelector(Signatures.NonceAlreadyUsed.selector, buyer, 300));
        escrow.createAndFundBuyerAuthorized(intent, extraOf(a), noPermit(), signature);

        // Nor after it is settled: the lane of an intent is used once, whatever the nonce says.
        Agreement memory stored = escrow.publishedTerms(id);
        vm.prank(buyer);
        escrow.releaseFunds(stored, DEPOSIT);
        assertFalse(escrow.isLaneFree(buyer, stored.lane));

        intent.nonce = 301;
        signature = signIntent(intent, buyerKey);
        vm.expectEmit();
        emit Signatures.NoncesRevoked(buyer, 1, 1 << 45);
        vm.prank(buyer);
        escrow.revokeNonces(1, 1 << 45);
        assertTrue(escrow.isNonceUsed(buyer, 301));
        assertTrue(escrow.isNonceUsed(buyer, 300));
        assertFalse(escrow.isNonceUsed(buyer, 302));
        vm.expectRevert(abi.encodeWithSelector(Signatures.NonceAlreadyUsed.selector, buyer, 301));
        escrow.createAndFundBuyerAuthorized(intent, extraOf(a), noPermit(), signature);
    }

    function test_PG04_intentOfAWrongKeyChainContractOrContent() public {
        (Agreement memory a, BuyerActivationIntent memory intent) = intended(0);
        vm.prank(buyer);
        dollar.approve(address(escrow), NEVER);
        bytes memory signature = signIntent(intent, buyerKey);
        bytes memory forged = signIntent(intent, strangerKey);
        bytes32 digest = intentDigest(intent);
        vm.expectRevert(abi.encodeWithSelector(Signatures.WrongSignature.selector, buyer, digest));
        escrow.createAndFundBuyerAuthorized(intent, extraOf(a), noPermit(), forged);

        intent.salt = keccak256("another");
        digest = intentDigest(intent);
        vm.expectRevert(abi.encodeWithSelector(Signatures.WrongSignature.selector, buyer, digest));
        escrow.createAndFundBuyerAuthorized(intent, extraOf(a), noPermit(), signature);

        intent.salt = keccak256("salt");
        vm.chainId(8453);
        digest = intentDigest(intent);
        vm.expectRevert(abi.encodeWithSelector(Signatures.WrongSignature.selector, buyer, digest));
        escrow.createAndFundBuyerAuthorized(intent, extraOf(a), noPermit(), signature);
        vm.chainId(31337);

        TradepostEscrow other = new TradepostEscrow("MeteringEscrowV2", "MeteringEscrow");
        vm.expectPartialRevert(Signatures.WrongSignature.selector);
        other.createAndFundBuyerAuthorized(intent, extraOf(a), noPermit(), signature);
        escrow.createAndFundBuyerAuthorized(intent, extraOf(a), noPermit(), signature);
    }

    function test_PG04_intentOutsideTheContractsRanges() public {
        vm.startPrank(buyer);
        (Agreement memory a, BuyerActivationIntent memory intent) = intended(0);
        intent.expiry = uint256(type(uint40).max) + 1;
        vm.expectRevert(tooLarge("expiry", intent.expiry, type(uint40).max));
        escrow.createAndFund(intent, extraOf(a), noPermit());
        (a, intent) = intended(0);
        intent.challengeWindowSeconds = 90 days + 1;
        vm.expectRevert(tooLarge("challengeWindow", 90 days + 1, 90 days));
        escrow.createAndFund(intent, extraOf(a), noPermit());
        (a, intent) = intended(0);
        intent.quantity = uint256(type(uint64).max) + 1;
        vm.expectRevert(tooLarge("quantity", intent.quantity, type(uint64).max));
        escrow.createAndFund(intent, extraOf(a), noPermit());
        (a, intent) = intended(0);
        intent.depositAmount = uint256(type(uint120).max) + 1;
        vm.expectRevert(tooLarge("deposit", intent.depositAmount, type(uint120).max));
        escrow.createAndFund(intent, extraOf(a), noPermit());
        (a, intent) = intended(0);
        intent.pricePerUnit = uint256(type(uint120).max) + 1;
        vm.expectRevert(tooLarge("unitPrice", intent.pricePerUnit, type(uint120).max));
        escrow.createAndFund(intent, extraOf(a), noPermit());
    }

    // ------------------------------------------------------------------------------------ bad terms

    function test_PG17_addressesThatCannotBeParties() public {
        address[3] memory bad = [address(0), address(escrow), address(dollar)];
        for (uint256 i = 0; i < 3; ++i) {
            Agreement memory a = metered();
            a.buyer = bad[i];
            refuses(a, invalid("buyer", bad[i]));
            a = metered();
            a.seller = bad[i];
            refuses(a, invalid("seller", bad[i]));
            a = metered();
            a.feeReceiver = bad[i];
            refuses(a, invalid("feeReceiver", bad[i]));
            if (bad[i] == address(0)) continue;
            a = metered();
            a.arbiter = bad[i];
            refuses(a, invalid("arbiter", bad[i]));
        }
        Agreement memory b = metered();
        b.seller = buyer;
        refuses(b, invalid("seller", buyer));
        b = metered();
        b.arbiter = seller;
        refuses(b, invalid("arbiter", seller));
        b.arbiter = buyer;
        refuses(b, invalid("arbiter", buyer));
    }

    function test_PG17_tokenThatIsNoContract() public {
        Agreement memory a = metered();
        a.token = makeAddr("nothing here");
        vm.expectRevert(abi.encodeWithSelector(TradepostEscrow.TokenHasNoCode.selector, a.token));
        escrow.fund(a, NEVER, new bytes(65));
    }

    function testFuzz_PG07_depositBelowThePrice(uint64 quantity, uint120 price, uint120 deposit) public {
        Agreement memory a = metered();
        a.quantity = uint64(bound(quantity, 1, type(uint64).max));
        a.unitPrice = uint120(bound(price, 1, type(uint120).max));
        uint256 whole = uint256(a.quantity) * a.unitPrice;
        uint256 top = whole - 1 > type(uint120).max ? type(uint120).max : whole - 1;
        a.deposit = uint120(bound(deposit, 0, top));
        refuses(a, tooSmall("deposit", a.deposit, whole));
    }

    function test_PG07_nothingToPayFor() public {
        Agreement memory a = metered();
        a.quantity = 0;
        refuses(a, tooSmall("price", 0, 1));
        a = metered();
        a.unitPrice = 0;
        refuses(a, tooSmall("price", 0, 1));
    }

    function testFuzz_PG17_feeAboveTheWhole(uint16 bps) public {
        Agreement memory a = metered();
        a.maxFeeBps = uint16(bound(bps, 10_001, type(uint16).max));
        refuses(a, tooLarge("maxFeeBps", a.maxFeeBps, 10_000));
    }

    function testFuzz_PG09_challengeWindowTooLong(uint32 window) public {
        Agreement memory a = metered();
        a.challengeWindow = uint32(bound(window, 90 days + 1, type(uint32).max));
        refuses(a, tooLarge("challengeWindow", a.challengeWindow, 90 days));
    }

    function test_PG02_expiryItselfIsTooLateToFund() public {
        Agreement memory a = metered();
        a.expiry = START;
        refuses(a, abi.encodeWithSelector(TradepostEscrow.AlreadyExpired.selector, START, START));
    }

    function testFuzz_PG02_expiredBeforeFunding(uint40 expiry) public {
        Agreement memory a = metered();
        a.expiry = uint40(bound(expiry, 0, START));
        refuses(a, abi.encodeWithSelector(TradepostEscrow.AlreadyExpired.selector, a.expiry, START));
    }

    /// Refused with the right signature too, and with no effect.
    function refuses(Agreement memory a, bytes memory reason) private {
        bytes memory signature = signAuthorization(a, address(escrow), NEVER, buyerKey);
        vm.expectRevert(reason);
        escrow.fund(a, NEVER, signature);
        assertEq(uint8(statusOf(a)), uint8(Status.None));
        assertEq(dollar.balanceOf(address(escrow)), 0);
    }

    function intended(uint256 nonce)
        private
        view
        returns (Agreement memory a, BuyerActivationIntent memory intent)
    {
        a = metered();
        intent = intentOf(a, nonce);
    }

    function invalid(bytes32 field, address value) private pure returns (bytes memory) {
        return abi.encodeWithSelector(TradepostEscrow.InvalidAddress.selector, field, value);
    }

    function tooSmall(bytes32 field, uint256 value, uint256 min) private pure returns (bytes memory) {
        return abi.encodeWithSelector(TradepostEscrow.TooSmall.selector, field, value, min);
    }

    function tooLarge(bytes32 field, uint256 value, uint256 max) private pure returns (bytes memory) {
        return abi.encodeWithSelector(TradepostEscrow.TooLarge.selector, field, value, max);
    }
}
