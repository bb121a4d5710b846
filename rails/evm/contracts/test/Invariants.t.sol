// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {Base} from "./Base.t.sol";
import {TestDollar} from "./mocks/TestDollar.sol";
import {TradepostEscrow} from "../src/TradepostEscrow.sol";
import {Agreement, BuyerActivationIntent, EscrowStatus, Status} from "../src/Types.sol";

/// @notice Plays random lives of many agreements at once and keeps its own books of what every party was
/// promised and got. The books know nothing of the contract's storage.
contract Handler is Base {
    struct Book {
        /// The highest amount that a receipt, a release or the last ruling gave the seller.
        uint256 promised;
        uint256 toSeller;
        uint256 fees;
        uint256 toBuyer;
        uint256 ends;
    }

    uint256 private constant MAX_AGREEMENTS = 40;

    Agreement[] private _agreements;
    Book[] private _books;
    uint256 private _nonce;

    uint256 public totalIn;
    uint256 public totalOut;
    uint256 public feesCredited;
    uint256 public feesCollected;
    mapping(string action => uint256) public done;

    function escrowUnderTest() external view returns (TradepostEscrow) {
        return escrow;
    }

    function dollarUnderTest() external view returns (TestDollar) {
        return dollar;
    }

    function feeReceiver() external view returns (address) {
        return platform;
    }

    function agreementCount() external view returns (uint256) {
        return _agreements.length;
    }

    function agreement(uint256 i) external view returns (Agreement memory, Book memory) {
        return (_agreements[i], _books[i]);
    }

    // ------------------------------------------------------------------------------------ actions

    function fundNew(uint256 lane, uint256 price, uint256 quantity, uint256 extra, uint256 bps, bool byIntent)
        external
    {
        if (_agreements.length == MAX_AGREEMENTS) return;
        Agreement memory a = metered();
        a.expiry = uint40(block.timestamp + bound(extra, 1, 20 days));
        a.challengeWindow = uint32(bound(price, 0, 2 days));
        a.quantity = uint64(bound(quantity, 1, 50));
        a.unitPrice = uint120(bound(price, 1, 1e9));
        a.deposit = uint120(uint256(a.quantity) * a.unitPrice + bound(extra, 0, 1e6));
        a.maxFeeBps = uint16(bound(bps, 0, 10_000));
        a.lane = uint96(bound(lane, 0, 9));
        a.termsHash = bytes32(++_nonce);
        dollar.mint(buyer, a.deposit);
        if (byIntent) {
            BuyerActivationIntent memory intent = intentOf(a, _nonce);
            vm.prank(buyer);
            dollar.approve(address(escrow), a.deposit);
            uint256 id = escrow.createAndFundBuyerAuthorized(
                intent, extraOf(a), noPermit(), signIntent(intent, buyerKey)
            );
            a = escrow.publishedTerms(id);
        } else {
            if (!escrow.isLaneFree(buyer, a.lane)) return;
            fundIt(a);
        }
        _agreements.push(a);
        _books.push();
        totalIn += a.deposit;
        ++done["fund"];
    }

    function receipt(uint256 pick, uint256 units) external {
        (uint256 i, Agreement memory a, EscrowStatus memory s) = choose(pick);
        units = bound(units, 0, a.quantity);
        if (!undecided(s.status) || units * a.unitPrice <= s.earned) return;
        submit(a, units);
        promised(i, units * a.unitPrice);
        ++done["receipt"];
    }

    function release(uint256 pick, uint256 amount, bool signed) external {
        (uint256 i, Agreement memory a, EscrowStatus memory s) = choose(pick);
        if (!undecided(s.status) && !(s.status == Status.Finalized && s.withdrawn == 0)) return;
        if (s.claimed == a.deposit) return;
        // Half the time the whole deposit, so that one-stroke settlements are common.
        amount = amount % 2 == 0 ? a.deposit : bound(amount, s.claimed + 1, a.deposit);
        promised(i, amount);
        uint256 had = dollar.balanceOf(seller);
        if (signed) {
            bytes32 m =
                amountMessage("ReleaseIntent", "cumulativeAmount", escrow.idOf(a), amount, ++_nonce, NEVER);
            escrow.releaseFundsWithSig(a, amount, _nonce, NEVER, signMessage(m, buyerKey));
        } else {
            vm.prank(buyer);
            escrow.releaseFunds(a, amount);
        }
        paid(i, had, amount - s.claimed);
        ++done["release"];
    }

    function rule(uint256 pick, uint256 amount) external {
        (uint256 i, Agreement memory a, EscrowStatus memory s) = choose(pick);
        if (!undecided(s.status)) return;
        amount = bound(amount, s.claimed, a.deposit);
        vm.prank(arbiter);
        escrow.rule(a, amount);
        _books[i].promised = amount;
        ++done["rule"];
    }

    function lowerFee(uint256 pick, uint256 bps) external {
        (, Agreement memory a, EscrowStatus memory s) = choose(pick);
        if (s.status == Status.None || s.status == Status.Settled || s.feeBps == 0) return;
        vm.prank(platform);
        escrow.lowerFee(a, bound(bps, 0, s.feeBps - 1));
        ++done["lowerFee"];
    }

    function close(uint256 pick, bool bySeller) external {
        (, Agreement memory a, EscrowStatus memory s) = choose(pick);
        if (s.status != Status.Open) return;
        vm.prank(bySeller ? seller : buyer);
        escrow.close(a);
        ++done["close"];
    }

    function waive(uint256 pick) external {
        (, Agreement memory a, EscrowStatus memory s) = choose(pick);
        if (!undecided(s.status)) return;
        vm.prank(seller);
        escrow.waive(a);
        ++done["waive"];
    }

    function claim(uint256 pick) external {
        (uint256 i, Agreement memory a, EscrowStatus memory s) = choose(pick);
        if (s.claimable == 0) return;
        uint256 had = dollar.balanceOf(seller);
        vm.prank(seller);
        escrow.claimEarned(a);
        paid(i, had, s.claimable);
        ++done["claim"];
    }

    function withdraw(uint256 pick) external {
        (uint256 i, Agreement memory a, EscrowStatus memory s) = choose(pick);
        if (s.withdrawable == 0) return;
        uint256 had = dollar.balanceOf(buyer);
        vm.prank(buyer);
        escrow.withdrawRest(a);
        uint256 got = dollar.balanceOf(buyer) - had;
        _books[i].toBuyer += got;
        totalOut += got;
        countEnd(i);
        ++done["withdraw"];
    }

    function collect() external {
        if (escrow.feesOwed(address(dollar), platform) == 0) return;
        uint256 had = dollar.balanceOf(platform);
        escrow.collectFees(address(dollar), platform);
        feesCollected += dollar.balanceOf(platform) - had;
        totalOut += dollar.balanceOf(platform) - had;
        ++done["collect"];
    }

    function passTime(uint256 time) external {
        vm.warp(block.timestamp + bound(time, 1, 3 days));
        ++done["time"];
    }

    // ------------------------------------------------------------------------------------ books

    function choose(uint256 pick)
        private
        view
        returns (uint256 i, Agreement memory a, EscrowStatus memory s)
    {
        if (_agreements.length == 0) {
            return (0, a, s);
        }
        i = pick % _agreements.length;
        a = _agreements[i];
        s = escrow.statusOf(a);
    }

    function undecided(Status status) private pure returns (bool) {
        return status == Status.Open || status == Status.Closing;
    }

    function promised(uint256 i, uint256 amount) private {
        if (amount > _books[i].promised) _books[i].promised = amount;
    }

    function paid(uint256 i, uint256 had, uint256 gross) private {
        uint256 got = dollar.balanceOf(seller) - had;
        _books[i].toSeller += got;
        _books[i].fees += gross - got;
        feesCredited += gross - got;
        totalOut += got;
        countEnd(i);
    }

    function countEnd(uint256 i) private {
        if (escrow.statusOf(_agreements[i]).status == Status.Settled) ++_books[i].ends;
    }
}

/// @notice What holds after every step of every random life (PG-07, PG-09, PG-17).
contract InvariantsTest is Base {
    Handler private handler;

    function setUp() public override {
        handler = new Handler();
        handler.setUp();
        escrow = handler.escrowUnderTest();
        dollar = handler.dollarUnderTest();
        targetContract(address(handler));
        bytes4[] memory actions = new bytes4[](11);
        actions[0] = Handler.fundNew.selector;
        actions[1] = Handler.receipt.selector;
        actions[2] = Handler.release.selector;
        actions[3] = Handler.rule.selector;
        actions[4] = Handler.lowerFee.selector;
        actions[5] = Handler.close.selector;
        actions[6] = Handler.waive.selector;
        actions[7] = Handler.claim.selector;
        actions[8] = Handler.withdraw.selector;
        actions[9] = Handler.collect.selector;
        actions[10] = Handler.passTime.selector;
        targetSelector(FuzzSelector(address(handler), actions));
    }

    /// One function, so that each random life is played once for all three properties.
    ///
    /// The contract's balance is what all agreements and fee receivers are owed, by its own account of them and
    /// by the handler's. Nobody gets more than was signed: the seller no more than the highest statement, the
    /// fee receiver no more than the ceiling, the buyer no more than the rest. Each agreement ends at most
    /// once, and then nothing of it is left.
    function invariant_PG09_PG17_everyUnitIsOwedOnceAndPaidOnce() public view {
        uint256 owed = escrow.feesOwed(address(dollar), handler.feeReceiver());
        assertEq(owed, handler.feesCredited() - handler.feesCollected());
        for (uint256 i = 0; i < handler.agreementCount(); ++i) {
            (Agreement memory a, Handler.Book memory book) = handler.agreement(i);
            EscrowStatus memory s = escrow.statusOf(a);
            uint256 left = a.deposit - book.toSeller - book.fees - book.toBuyer;
            owed += left;
            if (s.status == Status.None) {
                assertEq(left, 0);
            } else {
                assertEq(s.claimed, book.toSeller + book.fees);
                assertEq(s.withdrawn, book.toBuyer);
                assertEq(s.status == Status.Settled, left == 0);
                assertEq(s.earned, book.promised);
            }
            assertLe(book.promised, a.deposit);
            assertLe(book.toSeller + book.fees, book.promised);
            assertLe(book.fees * 10_000, (book.toSeller + book.fees) * a.maxFeeBps);
            assertLe(book.toBuyer, a.deposit - book.promised);
            assertLe(book.ends, 1);
            if (book.ends == 1) assertEq(left, 0);
        }
        assertEq(dollar.balanceOf(address(escrow)), owed);
        assertEq(dollar.balanceOf(address(escrow)), handler.totalIn() - handler.totalOut());
    }

    /// The random lives are not idle: every kind of step happens when each is tried often enough.
    function test_theHandlerReachesEveryAction() public {
        for (uint256 i = 0; i < 600; ++i) {
            uint256 r = uint256(keccak256(abi.encode(i)));
            uint256 k = r % 11;
            if (k == 0) handler.fundNew(r >> 8, r >> 16, r >> 24, r >> 32, r >> 40, r % 7 == 0);
            if (k == 1) handler.receipt(r >> 8, r >> 16);
            if (k == 2) handler.release(r >> 8, r >> 16, r % 2 == 0);
            if (k == 3) handler.rule(r >> 8, r >> 16);
            if (k == 4) handler.lowerFee(r >> 8, r >> 16);
            if (k == 5) handler.close(r >> 8, r % 2 == 0);
            if (k == 6) handler.waive(r >> 8);
            if (k == 7) handler.claim(r >> 8);
            if (k == 8) handler.withdraw(r >> 8);
            if (k == 9) handler.collect();
            if (k == 10) handler.passTime(r >> 8);
            if (i % 20 == 0) {
                invariant_PG09_PG17_everyUnitIsOwedOnceAndPaidOnce();
            }
        }
        string[11] memory names = [
            "fund",
            "receipt",
            "release",
            "rule",
            "lowerFee",
            "close",
            "waive",
            "claim",
            "withdraw",
            "collect",
            "time"
        ];
        for (uint256 i = 0; i < names.length; ++i) {
            assertGt(handler.done(names[i]), 2, names[i]);
        }
    }
}
