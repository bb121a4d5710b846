// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {Base} from "./Base.t.sol";
import {Signatures} from "../src/Signatures.sol";
import {TradepostEscrow} from "../src/TradepostEscrow.sol";
import {Agreement, EscrowStatus, Status} from "../src/Types.sol";

/// @notice From funding to the last unit paid out, and every way in which a step is refused.
contract SettlingTest is Base {
    Agreement internal a;
    uint256 internal id;

    function setUp() public override {
        super.setUp();
        a = metered();
        id = fundIt(a);
    }

    // ------------------------------------------------------------------------------------ whole lives

    /// PG-07, PG-09, PG-19: receipts, a close, a superseding receipt in the window, claim and withdrawal.
    function testFuzz_PG09_meteredLife(uint256 first, uint256 later) public {
        first = bound(first, 1, 99);
        later = bound(later, first + 1, 100);
        submit(a, first);

        vm.prank(buyer);
        vm.expectEmit();
        emit TradepostEscrow.CloseInitiated(id, buyer, START + WINDOW);
        escrow.close(a);
        vm.warp(START + WINDOW - 1);
        bytes memory receipt = signReceipt(id, later, keccak256("head"), meterKey);
        vm.expectEmit();
        emit TradepostEscrow.ReceiptSubmitted(id, later, later * 1e6, keccak256("head"));
        escrow.submitReceipt(a, later, keccak256("head"), receipt);

        vm.warp(START + WINDOW);
        EscrowStatus memory s = escrow.statusOf(a);
        assertEq(uint8(s.status), uint8(Status.Finalized));
        assertEq(s.claimable, later * 1e6);
        assertEq(s.withdrawable, DEPOSIT - later * 1e6);

        vm.prank(seller);
        vm.expectEmit();
        emit TradepostEscrow.SellerPaid(id, later * 0.99e6, later * 0.01e6);
        escrow.claimEarned(a);
        uint256 had = dollar.balanceOf(buyer);
        if (later < 100) {
            vm.prank(buyer);
            vm.expectEmit();
            emit TradepostEscrow.BuyerWithdrew(id, DEPOSIT - later * 1e6);
            escrow.withdrawRest(a);
        }
        assertEq(dollar.balanceOf(buyer), had + DEPOSIT - later * 1e6);
        assertEq(dollar.balanceOf(seller), later * 0.99e6);
        assertEq(uint8(statusOf(a)), uint8(Status.Settled));

        vm.expectEmit();
        emit TradepostEscrow.FeesCollected(address(dollar), platform, later * 0.01e6);
        escrow.collectFees(address(dollar), platform);
        assertEq(dollar.balanceOf(platform), later * 0.01e6);
        assertEq(dollar.balanceOf(address(escrow)), 0);
    }

    /// Milestones: cumulative releases, each paid at once, never twice for the same amount.
    function testFuzz_PG07_milestones(uint256 x, uint256 y) public {
        x = bound(x, 1, DEPOSIT - 1);
        y = bound(y, x + 1, DEPOSIT);
        vm.startPrank(buyer);
        escrow.releaseFunds(a, x);
        assertEq(dollar.balanceOf(seller), x - x / 100);
        vm.expectRevert(abi.encodeWithSelector(TradepostEscrow.BelowPaid.selector, x, x));
        escrow.releaseFunds(a, x);
        escrow.releaseFunds(a, y);
        uint256 fees = x / 100 + (y - x) / 100;
        assertEq(dollar.balanceOf(seller), y - fees);
        assertEq(escrow.feesOwed(address(dollar), platform), fees);
        EscrowStatus memory s = escrow.statusOf(a);
        assertEq(s.earned, y);
        assertEq(s.claimed, y);
        assertEq(uint8(s.status), uint8(y == DEPOSIT ? Status.Settled : Status.Open));
    }

    /// A release and a receipt are statements about the same total: the higher one counts, not the sum.
    function test_PG19_receiptAndReleaseAreNotAdded() public {
        submit(a, 60);
        vm.prank(buyer);
        escrow.releaseFunds(a, 40e6);
        EscrowStatus memory s = escrow.statusOf(a);
        assertEq(s.earned, 60e6);
        assertEq(s.claimed, 40e6);
        vm.prank(buyer);
        escrow.releaseFunds(a, 80e6);
        assertEq(escrow.statusOf(a).earned, 80e6);
        bytes memory receipt = signReceipt(id, 70, 0, meterKey);
        vm.expectRevert(abi.encodeWithSelector(TradepostEscrow.ReceiptNotNewer.selector, 70e6, 80e6));
        escrow.submitReceipt(a, 70, 0, receipt);
    }

    /// PG-09: after the expiry and its window the payer gets everything back with nobody's help.
    function test_PG09_fundedAndExpired() public {
        vm.warp(uint256(a.expiry) + WINDOW - 1);
        vm.expectRevert(
            abi.encodeWithSelector(TradepostEscrow.NotFinal.selector, id, uint256(a.expiry) + WINDOW)
        );
        vm.prank(buyer);
        escrow.withdrawRest(a);
        vm.warp(uint256(a.expiry) + WINDOW);
        uint256 had = dollar.balanceOf(buyer);
        vm.prank(buyer);
        escrow.withdrawRest(a);
        assertEq(dollar.balanceOf(buyer), had + DEPOSIT);
        assertEq(uint8(statusOf(a)), uint8(Status.Settled));
        assertEq(escrow.statusOf(a).withdrawn, DEPOSIT);
    }

    /// PG-09: delivered and expired is another thing: what a receipt proves is the seller's.
    function test_PG09_deliveredAndExpired() public {
        vm.warp(uint256(a.expiry) + WINDOW - 1);
        submit(a, 30);
        vm.warp(uint256(a.expiry) + WINDOW);
        vm.prank(buyer);
        escrow.withdrawRest(a);
        EscrowStatus memory s = escrow.statusOf(a);
        assertEq(uint8(s.status), uint8(Status.Finalized));
        assertEq(s.claimable, 30e6);
        vm.prank(seller);
        escrow.claimEarned(a);
        assertEq(dollar.balanceOf(seller), 29.7e6);
    }

    /// A close near the end does not move it: nobody can make the payer wait longer than the terms say.
    function testFuzz_PG09_closeNeverDelays(uint256 when) public {
        uint256 end = uint256(a.expiry) + WINDOW;
        vm.warp(bound(when, START, end - 1));
        vm.prank(seller);
        escrow.close(a);
        uint256 finalAt = escrow.statusOf(a).finalAt;
        assertLe(finalAt, end);
        assertLe(finalAt, block.timestamp + WINDOW);
        vm.warp(finalAt - 1);
        vm.expectRevert(abi.encodeWithSelector(TradepostEscrow.NotFinal.selector, id, finalAt));
        vm.prank(buyer);
        escrow.withdrawRest(a);
        vm.warp(finalAt);
        vm.prank(buyer);
        escrow.withdrawRest(a);
    }

    function testFuzz_PG09_arbitersSplit(uint256 receipt, uint256 ruled) public {
        submit(a, bound(receipt, 1, 100));
        ruled = bound(ruled, 0, DEPOSIT);
        vm.expectEmit();
        emit TradepostEscrow.Finalized(id, arbiter, ruled);
        vm.prank(arbiter);
        escrow.rule(a, ruled);
        EscrowStatus memory s = escrow.statusOf(a);
        assertEq(uint8(s.status), uint8(Status.Finalized));
        assertEq(s.finalAt, 0);
        assertEq(s.claimable, ruled);
        assertEq(s.withdrawable, DEPOSIT - ruled);
        uint256 had = dollar.balanceOf(buyer);
        if (ruled != 0) {
            vm.prank(seller);
            escrow.claimEarned(a);
        }
        if (ruled != DEPOSIT) {
            vm.prank(buyer);
            escrow.withdrawRest(a);
        }
        assertEq(dollar.balanceOf(buyer) - had, DEPOSIT - ruled);
        assertEq(dollar.balanceOf(seller), ruled - ruled / 100);
        assertEq(uint8(statusOf(a)), uint8(Status.Settled));
    }

    function testFuzz_PG09_rulingWithinTheDepositAndAbovePaid(uint256 paid, uint256 ruled) public {
        paid = bound(paid, 1, DEPOSIT - 1);
        vm.prank(buyer);
        escrow.releaseFunds(a, paid);
        ruled = bound(ruled, DEPOSIT + 1, NEVER);
        vm.startPrank(arbiter);
        vm.expectRevert(abi.encodeWithSelector(TradepostEscrow.AboveDeposit.selector, ruled, DEPOSIT));
        escrow.rule(a, ruled);
        vm.expectRevert(abi.encodeWithSelector(TradepostEscrow.BelowPaid.selector, paid - 1, paid));
        escrow.rule(a, paid - 1);
        escrow.rule(a, paid);
    }

    function test_PG09_sellersWaiverSendsTheRestBackAtOnce() public {
        submit(a, 10);
        vm.expectEmit();
        emit TradepostEscrow.Finalized(id, seller, 10e6);
        vm.prank(seller);
        escrow.waive(a);
        vm.prank(buyer);
        escrow.withdrawRest(a);
        vm.prank(seller);
        escrow.claimEarned(a);
        assertEq(uint8(statusOf(a)), uint8(Status.Settled));
    }

    function test_PG09_jobIsReleasedWhole() public {
        Agreement memory j = job();
        j.lane = 2;
        fundIt(j);
        vm.prank(buyer);
        escrow.releaseFunds(j, DEPOSIT);
        EscrowStatus memory s = escrow.statusOf(j);
        assertEq(uint8(s.status), uint8(Status.Settled));
        assertEq(s.earned, DEPOSIT);
        assertEq(s.claimed, DEPOSIT);
        assertEq(s.withdrawn, 0);
        assertEq(dollar.balanceOf(seller), 99e6);
    }

    function test_PG07_releaseOfTheRestAfterTheRulingIsTheBuyersToGive() public {
        vm.prank(arbiter);
        escrow.rule(a, 40e6);
        vm.prank(buyer);
        escrow.releaseFunds(a, 50e6);
        assertEq(dollar.balanceOf(seller), 49.5e6);
        vm.prank(buyer);
        escrow.withdrawRest(a);
        assertEq(uint8(statusOf(a)), uint8(Status.Settled));
        assertEq(dollar.balanceOf(address(escrow)), 0.5e6);
    }

    // ------------------------------------------------------------------------------------ receipts

    function test_PG19_receiptOfOneUnitTooMany() public {
        bytes memory receipt = signReceipt(id, 101, 0, meterKey);
        vm.expectRevert(abi.encodeWithSelector(TradepostEscrow.OverQuantity.selector, 101, 100));
        escrow.submitReceipt(a, 101, 0, receipt);
    }

    function testFuzz_PG19_receiptOverQuantity(uint256 units) public {
        units = bound(units, 101, NEVER);
        bytes memory receipt = signReceipt(id, units, 0, meterKey);
        vm.expectRevert(abi.encodeWithSelector(TradepostEscrow.OverQuantity.selector, units, 100));
        escrow.submitReceipt(a, units, 0, receipt);
    }

    function testFuzz_PG19_receiptsOutOfOrder(uint256 first, uint256 older) public {
        first = bound(first, 1, 100);
        older = bound(older, 0, first);
        submit(a, first);
        bytes memory receipt = signReceipt(id, older, 0, meterKey);
        vm.expectRevert(
            abi.encodeWithSelector(TradepostEscrow.ReceiptNotNewer.selector, older * 1e6, first * 1e6)
        );
        escrow.submitReceipt(a, older, 0, receipt);
    }

    function test_PG19_receiptByAnotherSignerOrOfOtherContent() public {
        bytes memory byBuyer = signReceipt(id, 10, 0, buyerKey);
        vm.expectPartialRevert(Signatures.WrongSignature.selector);
        escrow.submitReceipt(a, 10, 0, byBuyer);
        bytes memory good = signReceipt(id, 10, 0, meterKey);
        vm.expectPartialRevert(Signatures.WrongSignature.selector);
        escrow.submitReceipt(a, 11, 0, good);
        vm.expectPartialRevert(Signatures.WrongSignature.selector);
        escrow.submitReceipt(a, 10, bytes32(uint256(1)), good);
        bytes memory ofOther = signReceipt(id + 1, 10, 0, meterKey);
        vm.expectPartialRevert(Signatures.WrongSignature.selector);
        escrow.submitReceipt(a, 10, 0, ofOther);
        escrow.submitReceipt(a, 10, 0, good);
    }

    function test_PG19_noReceiptSignerNoReceipts() public {
        Agreement memory j = job();
        j.lane = 2;
        uint256 jobId = fundIt(j);
        vm.expectRevert(abi.encodeWithSelector(TradepostEscrow.ReceiptsDisabled.selector, jobId));
        escrow.submitReceipt(j, 1, 0, new bytes(65));
    }

    // ------------------------------------------------------------------------------------ who may

    /// PG-17: a caller in the wrong role is named beside the one required.
    function testFuzz_PG17_nobodyElse(address who) public {
        escrow.publish(a);
        vm.assume(who != buyer && who != seller && who != arbiter && who != platform);
        vm.startPrank(who);
        vm.expectRevert(notAuthorized(who, buyer));
        escrow.releaseFunds(a, 1);
        vm.expectRevert(notAuthorized(who, arbiter));
        escrow.rule(a, 1);
        vm.expectRevert(notAuthorized(who, platform));
        escrow.lowerFee(a, 1);
        vm.expectRevert(abi.encodeWithSelector(TradepostEscrow.NotAParty.selector, who, buyer, seller));
        escrow.close(a);
        vm.expectRevert(abi.encodeWithSelector(TradepostEscrow.NotAParty.selector, who, buyer, seller));
        escrow.initiateClose(id);
        vm.expectRevert(notAuthorized(who, seller));
        escrow.waive(a);
        vm.warp(a.expiry + WINDOW);
        vm.expectRevert(notAuthorized(who, seller));
        escrow.claimEarned(a);
        vm.expectRevert(notAuthorized(who, seller));
        escrow.claim(id);
        vm.expectRevert(notAuthorized(who, buyer));
        escrow.withdrawRest(a);
        vm.expectRevert(notAuthorized(who, buyer));
        escrow.withdraw(id);
    }

    /// The parties themselves cannot do each other's part either.
    function test_PG17_noPartyActsForAnother() public {
        vm.startPrank(seller);
        vm.expectRevert(notAuthorized(seller, buyer));
        escrow.releaseFunds(a, 1);
        vm.expectRevert(notAuthorized(seller, buyer));
        escrow.withdrawRest(a);
        vm.stopPrank();
        vm.startPrank(buyer);
        vm.expectRevert(notAuthorized(buyer, seller));
        escrow.waive(a);
        vm.expectRevert(notAuthorized(buyer, seller));
        escrow.claimEarned(a);
        vm.expectRevert(notAuthorized(buyer, arbiter));
        escrow.rule(a, 1);
        vm.stopPrank();
    }

    function test_PG17_releaseOneMinorUnitAboveTheDeposit() public {
        vm.prank(buyer);
        vm.expectRevert(abi.encodeWithSelector(TradepostEscrow.AboveDeposit.selector, DEPOSIT + 1, DEPOSIT));
        escrow.releaseFunds(a, DEPOSIT + 1);
    }

    function testFuzz_PG17_releaseAboveTheDeposit(uint256 amount) public {
        amount = bound(amount, DEPOSIT + 1, NEVER);
        vm.prank(buyer);
        vm.expectRevert(abi.encodeWithSelector(TradepostEscrow.AboveDeposit.selector, amount, DEPOSIT));
        escrow.releaseFunds(a, amount);
        vm.prank(buyer);
        vm.expectRevert(abi.encodeWithSelector(TradepostEscrow.BelowPaid.selector, 0, 0));
        escrow.releaseFunds(a, 0);
    }

    // ------------------------------------------------------------------------------------ fees

    function testFuzz_PG06_feeWithinTheCeilingAndOnlyLowered(uint256 bps, uint256 amount) public {
        bps = bound(bps, 0, 99);
        amount = bound(amount, 1, DEPOSIT);
        vm.startPrank(platform);
        vm.expectRevert(abi.encodeWithSelector(TradepostEscrow.FeeNotLower.selector, 100, 100));
        escrow.lowerFee(a, 100);
        vm.expectEmit();
        emit TradepostEscrow.FeeLowered(id, bps);
        escrow.lowerFee(a, bps);
        vm.expectRevert(abi.encodeWithSelector(TradepostEscrow.FeeNotLower.selector, bps, bps));
        escrow.lowerFee(a, bps);
        vm.stopPrank();
        assertEq(escrow.statusOf(a).feeBps, bps);
        vm.prank(buyer);
        escrow.releaseFunds(a, amount);
        assertEq(escrow.feesOwed(address(dollar), platform), amount * bps / 10_000);
        assertEq(dollar.balanceOf(seller), amount - amount * bps / 10_000);
    }

    function test_PG06_feesAreCollectedOnce() public {
        vm.prank(buyer);
        escrow.releaseFunds(a, DEPOSIT);
        escrow.collectFees(address(dollar), platform);
        assertEq(dollar.balanceOf(platform), 1e6);
        vm.expectRevert(abi.encodeWithSelector(TradepostEscrow.NothingDue.selector, 0, platform));
        escrow.collectFees(address(dollar), platform);
    }

    // ------------------------------------------------------------------------------------ by id

    function test_PG09_existingClientsVerbs() public {
        assertEq(escrow.claim.selector, bytes4(0x379607f5));
        assertEq(escrow.withdraw.selector, bytes4(0x2e1a7d4d));
        vm.expectRevert(abi.encodeWithSelector(TradepostEscrow.TermsNotPublished.selector, id));
        escrow.escrowStatus(id);
        vm.expectEmit();
        emit TradepostEscrow.TermsPublished(id, a);
        escrow.publish(a);
        submit(a, 25);
        vm.prank(seller);
        escrow.initiateClose(id);
        vm.warp(START + WINDOW);
        vm.prank(seller);
        escrow.claim(id);
        vm.prank(buyer);
        escrow.withdraw(id);
        EscrowStatus memory s = escrow.escrowStatus(id);
        assertEq(uint8(s.status), uint8(Status.Settled));
        assertEq(s.claimed, 25e6);
        assertEq(s.withdrawn, 75e6);
    }

    /// Terms of another agreement than the one in the lane cannot be published, nor acted on.
    function test_PG17_termsMustBeTheFundedOnes() public {
        Agreement memory b = metered();
        b.deposit = 200e6;
        uint256 wrong = escrow.idOf(b);
        vm.expectRevert(abi.encodeWithSelector(TradepostEscrow.UnknownAgreement.selector, wrong));
        escrow.publish(b);
        vm.prank(buyer);
        vm.expectRevert(abi.encodeWithSelector(TradepostEscrow.UnknownAgreement.selector, wrong));
        escrow.releaseFunds(b, 200e6);
        vm.prank(buyer);
        vm.expectRevert(abi.encodeWithSelector(TradepostEscrow.UnknownAgreement.selector, wrong));
        escrow.close(b);
    }

    function test_PG17_idIsTheHashOfTheTerms() public view {
        assertEq(id, uint256(keccak256(abi.encode(a))));
    }

    // ------------------------------------------------------------------------------------ batch

    function test_PG10_batchSettlesManyAndFailsWhole() public {
        Agreement memory b = metered();
        b.lane = 2;
        fundIt(b);
        bytes[] memory calls = new bytes[](2);
        calls[0] = signedRelease(a, DEPOSIT, 1);
        calls[1] = signedRelease(b, 50e6, 1);
        vm.prank(relayer);
        vm.expectRevert(
            abi.encodeWithSelector(
                TradepostEscrow.BatchFailed.selector,
                1,
                abi.encodeWithSelector(Signatures.NonceAlreadyUsed.selector, buyer, 1)
            )
        );
        escrow.batch(calls);
        assertEq(dollar.balanceOf(seller), 0);
        assertFalse(escrow.isNonceUsed(buyer, 1));

        calls[1] = signedRelease(b, 50e6, 2);
        vm.prank(relayer);
        escrow.batch(calls);
        assertEq(dollar.balanceOf(seller), 148.5e6);
    }

    function test_PG10_batchGivesNobodyAnotherCaller() public {
        bytes[] memory calls = new bytes[](1);
        calls[0] = abi.encodeCall(escrow.releaseFunds, (a, DEPOSIT));
        vm.prank(stranger);
        vm.expectRevert(
            abi.encodeWithSelector(TradepostEscrow.BatchFailed.selector, 0, notAuthorized(stranger, buyer))
        );
        escrow.batch(calls);
        vm.prank(buyer);
        escrow.batch(calls);
        assertEq(uint8(statusOf(a)), uint8(Status.Settled));
    }

    function signedRelease(Agreement memory which, uint256 amount, uint256 nonce)
        private
        view
        returns (bytes memory)
    {
        bytes32 m =
            amountMessage("ReleaseIntent", "cumulativeAmount", escrow.idOf(which), amount, nonce, NEVER);
        return
            abi.encodeCall(
                escrow.releaseFundsWithSig, (which, amount, nonce, NEVER, signMessage(m, buyerKey))
            );
    }

    function notAuthorized(address caller, address required) private pure returns (bytes memory) {
        return abi.encodeWithSelector(TradepostEscrow.NotAuthorized.selector, caller, required);
    }
}
