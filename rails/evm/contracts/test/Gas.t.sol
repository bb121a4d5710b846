// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {Base} from "./Base.t.sol";
import {Agreement} from "../src/Types.sol";
import {Bare} from "./mocks/Bare.sol";

/// @notice What the common paths cost, each call a transaction of its own (run with `--isolate`), written to
/// `snapshots/`. As in the benchmark of base/commerce-payments, a first agreement of the same buyer has gone
/// before, so that balances exist; what a very first agreement costs is measured beside it.
contract GasTest is Base {
    /// `authorize` plus `capture` as published by base/commerce-payments (155 657 + 69 915).
    uint256 private constant REFERENCE = 225_572;

    function setUp() public override {
        super.setUp();
        dollar.mint(seller, 1);
        Agreement memory a = job();
        a.termsHash = keccak256("an earlier job");
        fundIt(a);
        vm.prank(buyer);
        escrow.releaseFunds(a, DEPOSIT);
        dollar.mint(address(escrow), 1);
        // A buyer who has signed before has a nonce word in use.
        vm.prank(buyer);
        escrow.revokeNonces(0, 1);
    }

    function test_PG04_fundAndSettle() public {
        Agreement memory a = job();
        uint256 fund = fundMeasured(a, "fund by EIP-3009");
        vm.prank(buyer);
        escrow.releaseFunds(a, DEPOSIT);
        uint256 settle = vm.snapshotGasLastCall("escrow", "settle with a fee");
        uint256 floor = floorOf(a);
        vm.snapshotValue("escrow", "fund and settle", fund + settle);
        vm.snapshotValue("escrow", "fund and settle, floor", floor);

        assertGt(fund, 60_000, "run with --isolate");
        assertLe((fund + settle) * 10, REFERENCE * 6);
        assertLe((fund + settle) * 100, floor * 115);
    }

    function test_PG04_firstAgreementInALane() public {
        Agreement memory a = job();
        a.lane = 77;
        fundMeasured(a, "fund by EIP-3009, first use of the lane");
    }

    function test_PG10_otherPaths() public {
        Agreement memory a = metered();
        fundIt(a);
        uint256 id = escrow.idOf(a);
        bytes memory signature = signReceipt(id, 30, bytes32("head"), meterKey);
        escrow.submitReceipt(a, 30, bytes32("head"), signature);
        vm.snapshotGasLastCall("escrow", "submit a receipt");
        signature = signMessage(plainMessage("CloseIntent", id, 1, NEVER), buyerKey);
        vm.prank(relayer);
        escrow.closeWithSig(a, buyer, 1, NEVER, signature);
        vm.snapshotGasLastCall("escrow", "close by signature");
        vm.warp(START + WINDOW);
        vm.prank(seller);
        escrow.claimEarned(a);
        vm.snapshotGasLastCall("escrow", "claim");
        vm.prank(buyer);
        escrow.withdrawRest(a);
        vm.snapshotGasLastCall("escrow", "withdraw");
        escrow.collectFees(address(dollar), platform);
        vm.snapshotGasLastCall("escrow", "collect fees");
    }

    function test_PG04_intentWithAllowance() public {
        Agreement memory a = metered();
        vm.prank(buyer);
        dollar.approve(address(escrow), NEVER);
        bytes memory signature = signIntent(intentOf(a, 1), buyerKey);
        vm.prank(relayer);
        escrow.createAndFundBuyerAuthorized(intentOf(a, 1), extraOf(a), noPermit(), signature);
        vm.snapshotGasLastCall("escrow", "fund by intent, terms published");
    }

    /// Twenty jobs of twenty sellers in one transaction, sent by the buyer and relayed from signatures.
    function test_PG10_batchOfTwenty() public {
        uint256[2] memory single = [settleOne(30, false), settleOne(31, true)];
        for (uint256 form = 0; form < 2; ++form) {
            bytes[] memory calls = new bytes[](20);
            for (uint256 i = 0; i < 20; ++i) {
                (, calls[i]) = settlement(100 * (form + 1) + i, form == 1);
            }
            vm.prank(form == 0 ? buyer : relayer);
            escrow.batch(calls);
            uint256 each = vm.snapshotGasLastCall(
                "escrow", form == 0 ? "batch of 20 settlements" : "batch of 20 signed settlements"
            ) / 20;
            vm.snapshotValue(
                "escrow",
                form == 0 ? "each settlement of the batch" : "each signed settlement of the batch",
                each
            );
            assertLe(each * 2, single[form]);
        }
    }

    function settleOne(uint256 n, bool signed) private returns (uint256) {
        (, bytes memory call) = settlement(n, signed);
        vm.prank(signed ? relayer : buyer);
        (bool ok,) = address(escrow).call(call);
        assertTrue(ok);
        if (!signed) return vm.lastCallGas().gasTotalUsed;
        return vm.snapshotGasLastCall("escrow", "settle with a fee by signature");
    }

    /// A funded job with a seller of its own, and the call that settles it.
    function settlement(uint256 n, bool signed) private returns (Agreement memory a, bytes memory call) {
        a = job();
        a.lane = uint96(n);
        a.seller = vm.addr(n);
        dollar.mint(a.seller, 1);
        uint256 id = fundIt(a);
        if (!signed) return (a, abi.encodeCall(escrow.releaseFunds, (a, DEPOSIT)));
        bytes32 m = amountMessage("ReleaseIntent", "cumulativeAmount", id, DEPOSIT, n, NEVER);
        bytes memory s = signMessage(m, buyerKey);
        call = abi.encodeCall(escrow.releaseFundsWithSig, (a, DEPOSIT, n, NEVER, s));
    }

    function fundMeasured(Agreement memory a, string memory name) private returns (uint256) {
        bytes memory signature = signAuthorization(a, address(escrow), START + 1 hours, buyerKey);
        vm.prank(relayer);
        escrow.fund(a, START + 1 hours, signature);
        return vm.snapshotGasLastCall("escrow", name);
    }

    /// The second round of `Bare`, with every slot that it writes in use, as in the measurement above.
    function floorOf(Agreement memory a) private returns (uint256 gas) {
        Bare bare = new Bare();
        dollar.mint(address(bare), 1);
        for (uint256 round = 0; round < 2; ++round) {
            a.termsHash = keccak256(abi.encode(round));
            bytes memory signature = signAuthorization(a, address(bare), START + 1 hours, buyerKey);
            (bytes32 r, bytes32 s, uint8 v) = split(signature);
            bytes32 id = bytes32(escrow.idOf(a));
            vm.prank(relayer);
            bare.fund(dollar, buyer, 1, id, DEPOSIT, START + 1 hours, v, r, s);
            gas = vm.lastCallGas().gasTotalUsed;
            vm.prank(buyer);
            bare.settle(dollar, 1, ~id, seller, DEPOSIT - 1e6, platform, 1e6);
            gas += vm.lastCallGas().gasTotalUsed;
        }
    }
}
