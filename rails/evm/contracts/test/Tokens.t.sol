// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {Base} from "./Base.t.sol";
import {Tokens} from "../src/Tokens.sol";
import {TradepostEscrow} from "../src/TradepostEscrow.sol";
import {Agreement, BuyerActivationIntent, Status} from "../src/Types.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {
    BlockingToken,
    FeeOnTransferToken,
    LyingToken,
    NoReturnToken,
    PausableToken,
    ReentrantToken
} from "./mocks/BadTokens.sol";
import {TestDollar} from "./mocks/TestDollar.sol";

/// @notice Tokens lie. Whatever they do, an agreement gets out what came in for it, or never begins (PG-17).
contract TokensTest is Base {
    // ------------------------------------------------------------------------------------ on the way in

    function test_PG17_feeOnTransferIsRefused() public {
        Agreement memory a = inToken(new FeeOnTransferToken());
        bytes memory notExact =
            abi.encodeWithSelector(Tokens.DepositNotExact.selector, a.token, DEPOSIT, DEPOSIT * 99 / 100);
        bytes memory signature = signAuthorization(a, address(escrow), NEVER, buyerKey);
        vm.expectRevert(notExact);
        escrow.fund(a, NEVER, signature);

        vm.startPrank(buyer);
        TestDollar(a.token).approve(address(escrow), DEPOSIT);
        BuyerActivationIntent memory intent = intentOf(a, 0);
        vm.expectRevert(notExact);
        escrow.createAndFund(intent, extraOf(a), noPermit());
        assertTrue(escrow.isLaneFree(buyer, a.lane));
    }

    function test_PG17_tokenThatOnlySaysItPaidIsRefused() public {
        Agreement memory a = inToken(new LyingToken());
        vm.startPrank(buyer);
        TestDollar(a.token).approve(address(escrow), DEPOSIT);
        BuyerActivationIntent memory intent = intentOf(a, 0);
        vm.expectRevert(abi.encodeWithSelector(Tokens.DepositNotExact.selector, a.token, DEPOSIT, 0));
        escrow.createAndFund(intent, extraOf(a), noPermit());
    }

    function test_PG17_tokenWithoutReturnValuesWorks() public {
        NoReturnToken token = new NoReturnToken();
        token.mint(buyer, DEPOSIT);
        Agreement memory a = metered();
        a.token = address(token);
        vm.startPrank(buyer);
        token.approve(address(escrow), DEPOSIT);
        uint256 id = escrow.createAndFund(intentOf(a, 0), extraOf(a), noPermit());
        a = escrow.publishedTerms(id);
        escrow.releaseFunds(a, 40e6);
        vm.stopPrank();
        vm.prank(seller);
        escrow.waive(a);
        vm.prank(buyer);
        escrow.withdraw(id);
        escrow.collectFees(address(token), platform);
        assertEq(token.balanceOf(seller), 39.6e6);
        assertEq(token.balanceOf(platform), 0.4e6);
        assertEq(token.balanceOf(buyer), 60e6);
        assertEq(token.balanceOf(address(escrow)), 0);
    }

    // ------------------------------------------------------------------------------------ on the way out

    function test_PG17_blockedSellerDoesNotHoldUpTheBuyer() public {
        BlockingToken token = new BlockingToken();
        Agreement memory a = earned30(inToken(token));
        token.setBlocked(seller, true);
        vm.prank(seller);
        vm.expectRevert("blocked");
        escrow.claimEarned(a);
        vm.prank(buyer);
        escrow.withdrawRest(a);
        assertEq(token.balanceOf(address(escrow)), 30e6);
        token.setBlocked(seller, false);
        vm.prank(seller);
        escrow.claimEarned(a);
        assertEq(token.balanceOf(seller), 29.7e6);
    }

    function test_PG17_blockedBuyerDoesNotHoldUpTheSeller() public {
        BlockingToken token = new BlockingToken();
        Agreement memory a = earned30(inToken(token));
        token.setBlocked(buyer, true);
        vm.prank(buyer);
        vm.expectRevert("blocked");
        escrow.withdrawRest(a);
        vm.prank(seller);
        escrow.claimEarned(a);
        assertEq(token.balanceOf(seller), 29.7e6);
        token.setBlocked(buyer, false);
        vm.prank(buyer);
        escrow.withdrawRest(a);
    }

    function test_PG06_blockedFeeReceiverHoldsUpNobody() public {
        BlockingToken token = new BlockingToken();
        Agreement memory a = earned30(inToken(token));
        token.setBlocked(platform, true);
        vm.prank(seller);
        escrow.claimEarned(a);
        vm.prank(buyer);
        escrow.withdrawRest(a);
        vm.expectRevert("blocked");
        escrow.collectFees(address(token), platform);
        assertEq(escrow.feesOwed(address(token), platform), 0.3e6);
        token.setBlocked(platform, false);
        escrow.collectFees(address(token), platform);
        assertEq(token.balanceOf(platform), 0.3e6);
    }

    function test_PG17_pausedTokenLosesNothing() public {
        PausableToken token = new PausableToken();
        Agreement memory a = earned30(inToken(token));
        token.setPaused(true);
        vm.prank(seller);
        vm.expectRevert("paused");
        escrow.claimEarned(a);
        vm.prank(buyer);
        vm.expectRevert("paused");
        escrow.withdrawRest(a);
        assertEq(uint8(statusOf(a)), uint8(Status.Finalized));
        token.setPaused(false);
        vm.prank(seller);
        escrow.claimEarned(a);
        vm.prank(buyer);
        escrow.withdrawRest(a);
        assertEq(uint8(statusOf(a)), uint8(Status.Settled));
    }

    // ------------------------------------------------------------------------------------ reentrancy

    /// While a deposit's arrival is measured nothing else may run, not even another deposit.
    function test_PG17_nothingRunsDuringFunding() public {
        ReentrantToken token = new ReentrantToken();
        Agreement memory other = earned30(inToken(token));
        Agreement memory a = inToken(token);
        a.lane = 5;
        Agreement memory second = inToken(token);
        second.lane = 6;

        bytes[4] memory attempts;
        attempts[0] = abi.encodeCall(
            escrow.fund, (second, NEVER, signAuthorization(second, address(escrow), NEVER, buyerKey))
        );
        uint256 id = escrow.idOf(other);
        bytes memory s = signMessage(plainMessage("SellerClaimIntent", id, 1, NEVER), sellerKey);
        attempts[1] = abi.encodeCall(escrow.claimEarnedWithSig, (other, 1, NEVER, s));
        s = signMessage(plainMessage("BuyerWithdrawIntent", id, 1, NEVER), buyerKey);
        attempts[2] = abi.encodeCall(escrow.withdrawRestWithSig, (other, 1, NEVER, s));
        bytes[] memory calls = new bytes[](1);
        calls[0] = attempts[1];
        attempts[3] = abi.encodeCall(escrow.batch, (calls));

        for (uint256 i = 0; i < attempts.length; ++i) {
            uint256 before = vm.snapshotState();
            token.arm(address(escrow), attempts[i]);
            fundIt(a);
            assertTrue(token.reached());
            assertFalse(token.succeeded());
            bytes memory reason =
                abi.encodeWithSelector(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector);
            if (i == 3) reason = abi.encodeWithSelector(TradepostEscrow.BatchFailed.selector, 0, reason);
            assertEq(token.answer(), reason);
            assertEq(token.balanceOf(address(escrow)), 2 * DEPOSIT);
            vm.revertToState(before);
        }
    }

    /// While money goes out the books are final: the same claim again finds nothing, and what else is due
    /// may well be paid from within.
    function test_PG17_payoutReenteredPaysOnce() public {
        ReentrantToken token = new ReentrantToken();
        Agreement memory a = earned30(inToken(token));
        Agreement memory other = inToken(token);
        other.lane = 5;
        fundIt(other);
        uint256 id = escrow.idOf(a);
        bytes memory again = signMessage(plainMessage("SellerClaimIntent", id, 2, NEVER), sellerKey);
        token.arm(address(escrow), abi.encodeCall(escrow.claimEarnedWithSig, (a, 2, NEVER, again)));
        vm.prank(seller);
        escrow.claimEarned(a);
        assertTrue(token.reached());
        assertFalse(token.succeeded());
        assertEq(token.answer(), abi.encodeWithSelector(TradepostEscrow.NothingDue.selector, id, seller));

        bytes memory w = signMessage(plainMessage("BuyerWithdrawIntent", id, 2, NEVER), buyerKey);
        token.arm(address(escrow), abi.encodeCall(escrow.withdrawRestWithSig, (a, 2, NEVER, w)));
        vm.prank(buyer);
        escrow.withdrawRest(a);
        assertFalse(token.succeeded());

        token.arm(address(escrow), abi.encodeCall(escrow.collectFees, (address(token), platform)));
        escrow.collectFees(address(token), platform);
        assertFalse(token.succeeded());

        assertEq(token.balanceOf(seller), 29.7e6);
        assertEq(token.balanceOf(platform), 0.3e6);
        assertEq(token.balanceOf(address(escrow)), DEPOSIT);
    }

    function test_PG17_releaseReenteredPaysOnce() public {
        ReentrantToken token = new ReentrantToken();
        Agreement memory a = inToken(token);
        fundIt(a);
        Agreement memory other = inToken(token);
        other.lane = 5;
        fundIt(other);
        for (uint256 i = 0; i < 2; ++i) {
            uint256 amount = i == 0 ? 40e6 : DEPOSIT;
            bytes32 m = amountMessage("ReleaseIntent", "cumulativeAmount", escrow.idOf(a), amount, i, NEVER);
            bytes memory s = signMessage(m, buyerKey);
            token.arm(address(escrow), abi.encodeCall(escrow.releaseFundsWithSig, (a, amount, i, NEVER, s)));
            vm.prank(buyer);
            escrow.releaseFunds(a, amount);
            assertTrue(token.reached());
            assertFalse(token.succeeded());
        }
        assertEq(token.balanceOf(seller), 99e6);
        assertEq(token.balanceOf(address(escrow)), DEPOSIT + 1e6);
    }

    // ------------------------------------------------------------------------------------ helpers

    function inToken(TestDollar token) private returns (Agreement memory a) {
        token.mint(buyer, 10 * DEPOSIT);
        a = metered();
        a.token = address(token);
    }

    /// Funded, thirty earned, final.
    function earned30(Agreement memory a) private returns (Agreement memory) {
        fundIt(a);
        submit(a, 30);
        vm.prank(seller);
        escrow.waive(a);
        return a;
    }
}
