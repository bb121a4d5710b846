// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {Test} from "forge-std/Test.sol";
import {Lane, Lanes, Phase} from "../src/Lane.sol";
import {TradepostEscrow} from "../src/TradepostEscrow.sol";
import {
    Agreement,
    BuyerActivationIntent,
    EscrowStatus,
    Permit,
    SettlementTerms,
    Status
} from "../src/Types.sol";
import {NoReturnToken} from "../test/mocks/BadTokens.sol";

/// @notice Properties that halmos proves for every value of their arguments (`scripts/analyze`). Forge does
/// not run them: their names begin with `check`.
contract SymbolicTest is Test {
    uint120 private constant DEPOSIT = 100e6;
    uint40 private constant EXPIRY = 2_000_000;
    uint32 private constant WINDOW = 1 days;
    address private constant BUYER = address(0xb0b);
    address private constant SELLER = address(0x5e11e4);
    address private constant ARBITER = address(0xa4b);
    address private constant PLATFORM = address(0xfee);

    TradepostEscrow private escrow;
    NoReturnToken private token;
    Agreement private a;
    uint256 private id;

    function setUp() public {
        vm.warp(1_000_000);
        escrow = new TradepostEscrow("MeteringEscrowV2", "MeteringEscrow");
        token = new NoReturnToken();
        token.mint(BUYER, DEPOSIT);
        // No fee: dividing by 10 000 is what the solver cannot do in time. The fee has fuzzed tests.
        SettlementTerms memory extra = SettlementTerms(address(0), ARBITER, PLATFORM, 0, 0);
        BuyerActivationIntent memory intent;
        intent.buyer = BUYER;
        intent.seller = SELLER;
        intent.token = address(token);
        intent.quantity = 1;
        intent.pricePerUnit = DEPOSIT;
        intent.depositAmount = DEPOSIT;
        intent.challengeWindowSeconds = WINDOW;
        intent.termsHash = escrow.hashSettlementTerms(extra);
        intent.expiry = EXPIRY;
        Permit memory none;
        vm.startPrank(BUYER);
        token.approve(address(escrow), DEPOSIT);
        id = escrow.createAndFund(intent, extra, none);
        vm.stopPrank();
        a = escrow.publishedTerms(id);
    }

    /// PG-09: the payer's way out. At any time from the end of the window after the expiry, the whole of an
    /// untouched deposit comes back to the buyer alone asking for it; at any time before, it does not.
    function check_PG09_payersExit(uint256 time) public {
        vm.assume(time >= 1_000_000 && time < 2 ** 64);
        vm.warp(time);
        vm.prank(BUYER);
        (bool ok,) = address(escrow).call(abi.encodeCall(escrow.withdraw, (id)));
        assert(ok == (time >= uint256(EXPIRY) + WINDOW));
        assert(token.balanceOf(BUYER) == (ok ? DEPOSIT : 0));
        assert(token.balanceOf(address(escrow)) == (ok ? 0 : DEPOSIT));
    }

    /// PG-09: whenever a party closes, and whenever the buyer then asks, the deposit comes back exactly when
    /// the window or the expiry with its window is over, whichever is first.
    function check_PG09_closeNeverDelays(uint256 closed, uint256 time, bool bySeller) public {
        vm.assume(closed >= 1_000_000 && closed < uint256(EXPIRY) + WINDOW);
        vm.assume(time >= closed && time < 2 ** 64);
        vm.warp(closed);
        vm.prank(bySeller ? SELLER : BUYER);
        escrow.initiateClose(id);
        vm.warp(time);
        vm.prank(BUYER);
        (bool ok,) = address(escrow).call(abi.encodeCall(escrow.withdraw, (id)));
        assert(ok == (time >= closed + WINDOW || time >= uint256(EXPIRY) + WINDOW));
    }

    /// PG-07: a ruling is accepted exactly within the deposit, and then divides it without loss: the seller
    /// gets what was ruled, the buyer the rest, and nothing stays.
    function check_PG07_rulingDividesTheDeposit(uint256 ruled) public {
        vm.prank(ARBITER);
        (bool ok,) = address(escrow).call(abi.encodeCall(escrow.rule, (a, ruled)));
        assert(ok == (ruled <= DEPOSIT));
        if (!ok) return;
        vm.prank(SELLER);
        (bool claimed,) = address(escrow).call(abi.encodeCall(escrow.claim, (id)));
        vm.prank(BUYER);
        (bool withdrawn,) = address(escrow).call(abi.encodeCall(escrow.withdraw, (id)));
        assert(claimed == (ruled != 0));
        assert(withdrawn == (ruled != DEPOSIT));
        assert(token.balanceOf(SELLER) == ruled);
        assert(token.balanceOf(BUYER) == DEPOSIT - ruled);
        assert(token.balanceOf(address(escrow)) == 0);
    }

    /// PG-17: two releases of any two amounts pay the higher of them in total, and never past the deposit.
    function check_PG17_releasesNeverAddUp(uint256 first, uint256 second) public {
        vm.prank(BUYER);
        (bool one,) = address(escrow).call(abi.encodeCall(escrow.releaseFunds, (a, first)));
        vm.prank(BUYER);
        (bool two,) = address(escrow).call(abi.encodeCall(escrow.releaseFunds, (a, second)));
        assert(one == (first != 0 && first <= DEPOSIT));
        uint256 paid = two ? second : one ? first : 0;
        assert(paid <= DEPOSIT);
        assert(!one || !two || second > first);
        assert(token.balanceOf(SELLER) == paid);
        assert(token.balanceOf(address(escrow)) == DEPOSIT - paid);
    }

    /// PG-17: whoever calls any of the party's verbs without being a party, at whatever time and with
    /// whatever amount, moves nothing.
    function check_PG17_strangersMoveNothing(address who, uint8 verb, uint256 amount, uint256 time) public {
        vm.assume(who != BUYER && who != SELLER && who != ARBITER && who != PLATFORM);
        vm.assume(time >= 1_000_000 && time < 2 ** 64);
        vm.warp(time);
        bytes memory data;
        if (verb == 0) data = abi.encodeCall(escrow.releaseFunds, (a, amount));
        else if (verb == 1) data = abi.encodeCall(escrow.rule, (a, amount));
        else if (verb == 2) data = abi.encodeCall(escrow.lowerFee, (a, amount));
        else if (verb == 3) data = abi.encodeCall(escrow.close, (a));
        else if (verb == 4) data = abi.encodeCall(escrow.waive, (a));
        else if (verb == 5) data = abi.encodeCall(escrow.claimEarned, (a));
        else if (verb == 6) data = abi.encodeCall(escrow.withdrawRest, (a));
        else if (verb == 7) data = abi.encodeCall(escrow.initiateClose, (id));
        else if (verb == 8) data = abi.encodeCall(escrow.claim, (id));
        else data = abi.encodeCall(escrow.withdraw, (id));
        vm.prank(who);
        (bool ok,) = address(escrow).call(data);
        assert(!ok);
        assert(token.balanceOf(address(escrow)) == DEPOSIT);
    }

    /// The fields of a lane's word do not disturb each other, whatever is written to them.
    function check_laneFieldsAreSeparate(uint256 anyId, uint40 time, uint16 cut, uint8 phase, bool tally)
        public
        pure
    {
        vm.assume(phase >= uint8(Phase.Open) && phase <= uint8(Phase.SettledByRelease));
        Lane lane = Lanes.open(anyId).withClosesAt(time).withFeeCutBps(cut);
        if (tally) lane = lane.withTally();
        lane = lane.withPhase(Phase(phase));
        assert(lane.holds(anyId));
        assert(lane.closesAt() == time);
        assert(lane.feeCutBps() == cut);
        assert(lane.phase() == Phase(phase));
        assert(lane.isTallied() == tally);
        assert(lane.isSettled() == (phase >= uint8(Phase.Settled)));
        assert(!lane.holds(anyId ^ 1));
    }
}
