// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {Base} from "./Base.t.sol";
import {TradepostEscrow} from "../src/TradepostEscrow.sol";
import {Agreement, EscrowStatus, Status} from "../src/Types.sol";
import {TestDollar} from "./mocks/TestDollar.sol";

/// @notice Every function from every state, in each of its forms (PG-09, PG-10, PG-17): what must succeed
/// succeeds, everything else fails with the one error that the table names and moves nothing.
contract StatesTest is Base {
    enum State {
        None,
        Open,
        Earned,
        PartPaid,
        Closing,
        Closed,
        Expired,
        ExpiredEarned,
        Ruled,
        Waived,
        Claimed,
        Withdrawn,
        Settled,
        Released
    }

    enum Action {
        Fund,
        Publish,
        Receipt,
        Release,
        Rule,
        LowerFee,
        Close,
        Waive,
        Claim,
        Withdraw
    }

    enum Form {
        Direct,
        Signed,
        ById,
        ByIdSigned
    }

    /// One row per state, one letter per action; `expected` says what the letters mean.
    string[14] private table = [
        ".UUUUUUUUU", // None
        "L.......NN", // Open
        "L.......NN", // Earned: a receipt for 30
        "L.......NN", // PartPaid: a release of 20
        "L.....C.NN", // Closing: earned 30
        "L.F.F.FF..", // Closed: earned 30
        "E.F.F.FFD.", // Expired: nothing earned
        "E.F.F.FF..", // ExpiredEarned: earned 30
        "L.F.F.FF..", // Ruled: 40
        "L.F.F.FF..", // Waived: earned 30
        "L.F.F.FFD.", // Claimed: 30, the rest still there
        "L.FFF.FF.D", // Withdrawn: 70, the 30 still there
        "A.FFFFFFFF", // Settled
        "A.FFFFFFFF" // Released whole
    ];

    function expected(bytes1 letter) private pure returns (bytes4) {
        if (letter == ".") return 0;
        if (letter == "U") return TradepostEscrow.UnknownAgreement.selector;
        if (letter == "L") return TradepostEscrow.LaneBusy.selector;
        if (letter == "E") return TradepostEscrow.AlreadyExpired.selector;
        if (letter == "A") return TestDollar.AuthorizationUsedOrCanceled.selector;
        if (letter == "N") return TradepostEscrow.NotFinal.selector;
        if (letter == "F") return TradepostEscrow.AlreadyFinal.selector;
        if (letter == "C") return TradepostEscrow.AlreadyClosing.selector;
        if (letter == "D") return TradepostEscrow.NothingDue.selector;
        revert("no such letter");
    }

    function test_PG09_everyDirectFormFromEveryState() public {
        assertEq(runTable(Form.Direct), 140);
    }

    function test_PG10_everySignedFormFromEveryState() public {
        // Funding, publishing and receipts carry no further signature form.
        assertEq(runTable(Form.Signed), 98);
    }

    function test_PG09_everyFormByIdFromEveryState() public {
        assertEq(runTable(Form.ById), 42);
    }

    function test_PG10_everySignedFormByIdFromEveryState() public {
        assertEq(runTable(Form.ByIdSigned), 42);
    }

    function runTable(Form form) private returns (uint256 cases) {
        Agreement memory a = metered();
        for (uint256 s = 0; s <= uint256(State.Released); ++s) {
            uint256 before = vm.snapshotState();
            reach(State(s), a);
            for (uint256 k = 0; k <= uint256(Action.Withdraw); ++k) {
                if (!exists(Action(k), form)) continue;
                bytes4 want = expected(bytes(table[s])[k]);
                if (State(s) == State.None && form >= Form.ById) {
                    want = TradepostEscrow.TermsNotPublished.selector;
                }
                uint256 there = vm.snapshotState();
                check(a, Action(k), form, want, string.concat(vm.toString(s), "/", vm.toString(k)));
                vm.revertToState(there);
                ++cases;
            }
            vm.revertToState(before);
        }
    }

    function exists(Action action, Form form) private pure returns (bool) {
        if (form == Form.Direct) return true;
        if (form == Form.Signed) return action >= Action.Release;
        return action == Action.Close || action == Action.Claim || action == Action.Withdraw;
    }

    function check(Agreement memory a, Action action, Form form, bytes4 want, string memory where) private {
        EscrowStatus memory then = escrow.statusOf(a);
        uint256 held = dollar.balanceOf(address(escrow));
        assertEq(held, owed(a), where);

        (address caller, bytes memory data) = callOf(a, action, form);
        vm.prank(caller);
        (bool ok, bytes memory answer) = address(escrow).call(data);

        assertEq(ok ? bytes4(0) : bytes4(answer), want, where);
        assertEq(dollar.balanceOf(address(escrow)), owed(a), where);
        if (!ok) {
            assertEq(keccak256(abi.encode(escrow.statusOf(a))), keccak256(abi.encode(then)), where);
            assertEq(dollar.balanceOf(address(escrow)), held, where);
        } else if (action == Action.Release) {
            assertEq(dollar.balanceOf(seller) + escrow.feesOwed(address(dollar), platform), 70e6, where);
        } else if (action == Action.Claim) {
            assertEq(dollar.balanceOf(address(escrow)) + then.claimable - fee(then.claimable), held, where);
            assertEq(escrow.statusOf(a).claimable, 0, where);
        } else if (action == Action.Withdraw) {
            assertEq(dollar.balanceOf(address(escrow)) + then.withdrawable, held, where);
            assertEq(escrow.statusOf(a).withdrawable, 0, where);
        }
    }

    function fee(uint256 amount) private pure returns (uint256) {
        return amount / 100;
    }

    /// What the contract must hold when this agreement is its only one.
    function owed(Agreement memory a) private view returns (uint256) {
        EscrowStatus memory s = escrow.statusOf(a);
        uint256 held = s.status == Status.None ? 0 : a.deposit - s.claimed - s.withdrawn;
        return held + escrow.feesOwed(address(dollar), platform);
    }

    function reach(State state, Agreement memory a) private {
        if (state == State.None) return;
        fundIt(a);
        escrow.publish(a);
        if (state == State.PartPaid) {
            vm.prank(buyer);
            escrow.releaseFunds(a, 20e6);
        } else if (state == State.Released) {
            vm.prank(buyer);
            escrow.releaseFunds(a, DEPOSIT);
        } else if (state == State.Ruled) {
            vm.prank(arbiter);
            escrow.rule(a, 40e6);
        } else if (state != State.Open && state != State.Expired) {
            submit(a, 30);
        }

        if (state == State.Waived) {
            vm.prank(seller);
            escrow.waive(a);
        }
        if (state == State.Expired || state == State.ExpiredEarned) vm.warp(a.expiry + WINDOW);
        if (state != State.Closing && state != State.Closed && state < State.Claimed) return;
        if (state == State.Released) return;

        vm.prank(buyer);
        escrow.close(a);
        if (state == State.Closing) return;
        vm.warp(START + WINDOW);
        if (state == State.Claimed || state == State.Settled) {
            vm.prank(seller);
            escrow.claimEarned(a);
        }
        if (state == State.Withdrawn || state == State.Settled) {
            vm.prank(buyer);
            escrow.withdrawRest(a);
        }
    }

    function callOf(Agreement memory a, Action action, Form form)
        private
        view
        returns (address caller, bytes memory data)
    {
        uint256 id = escrow.idOf(a);
        if (action == Action.Fund) {
            return (
                relayer,
                abi.encodeCall(
                    escrow.fund, (a, NEVER, signAuthorization(a, address(escrow), NEVER, buyerKey))
                )
            );
        }
        if (action == Action.Publish) return (stranger, abi.encodeCall(escrow.publish, (a)));
        if (action == Action.Receipt) {
            bytes memory receipt = signReceipt(id, 60, 0, meterKey);
            return (stranger, abi.encodeCall(escrow.submitReceipt, (a, 60, 0, receipt)));
        }
        if (form == Form.Signed) return (relayer, signedCall(a, id, action));
        if (form == Form.ByIdSigned) return (relayer, signedCallById(id, action));

        bool byId = form == Form.ById;
        if (action == Action.Release) return (buyer, abi.encodeCall(escrow.releaseFunds, (a, 70e6)));
        if (action == Action.Rule) return (arbiter, abi.encodeCall(escrow.rule, (a, 50e6)));
        if (action == Action.LowerFee) return (platform, abi.encodeCall(escrow.lowerFee, (a, 50)));
        if (action == Action.Waive) return (seller, abi.encodeCall(escrow.waive, (a)));
        if (action == Action.Close) {
            data = byId ? abi.encodeCall(escrow.initiateClose, (id)) : abi.encodeCall(escrow.close, (a));
            return (seller, data);
        }
        if (action == Action.Claim) {
            data = byId ? abi.encodeCall(escrow.claim, (id)) : abi.encodeCall(escrow.claimEarned, (a));
            return (seller, data);
        }
        data = byId ? abi.encodeCall(escrow.withdraw, (id)) : abi.encodeCall(escrow.withdrawRest, (a));
        return (buyer, data);
    }

    function signedCall(Agreement memory a, uint256 id, Action action) private view returns (bytes memory) {
        uint256 n = 7;
        if (action == Action.Release) {
            bytes32 m = amountMessage("ReleaseIntent", "cumulativeAmount", id, 70e6, n, NEVER);
            return abi.encodeCall(escrow.releaseFundsWithSig, (a, 70e6, n, NEVER, signMessage(m, buyerKey)));
        }
        if (action == Action.Rule) {
            bytes32 m = amountMessage("RulingIntent", "earned", id, 50e6, n, NEVER);
            return abi.encodeCall(escrow.ruleWithSig, (a, 50e6, n, NEVER, signMessage(m, arbiterKey)));
        }
        if (action == Action.LowerFee) {
            bytes32 m = amountMessage("LowerFeeIntent", "feeBps", id, 50, n, NEVER);
            return abi.encodeCall(escrow.lowerFeeWithSig, (a, 50, n, NEVER, signMessage(m, platformKey)));
        }
        if (action == Action.Close) {
            bytes memory s = signMessage(plainMessage("CloseIntent", id, n, NEVER), buyerKey);
            return abi.encodeCall(escrow.closeWithSig, (a, buyer, n, NEVER, s));
        }
        if (action == Action.Waive) {
            bytes memory s = signMessage(plainMessage("WaiveIntent", id, n, NEVER), sellerKey);
            return abi.encodeCall(escrow.waiveWithSig, (a, n, NEVER, s));
        }
        if (action == Action.Claim) {
            bytes memory s = signMessage(plainMessage("SellerClaimIntent", id, n, NEVER), sellerKey);
            return abi.encodeCall(escrow.claimEarnedWithSig, (a, n, NEVER, s));
        }
        bytes memory w = signMessage(plainMessage("BuyerWithdrawIntent", id, n, NEVER), buyerKey);
        return abi.encodeCall(escrow.withdrawRestWithSig, (a, n, NEVER, w));
    }

    function signedCallById(uint256 id, Action action) private view returns (bytes memory) {
        uint256 n = 7;
        if (action == Action.Close) {
            bytes memory s = signMessage(plainMessage("CloseIntent", id, n, NEVER), sellerKey);
            return abi.encodeCall(escrow.initiateCloseWithSig, (id, seller, n, NEVER, s));
        }
        if (action == Action.Claim) {
            bytes memory s = signMessage(plainMessage("SellerClaimIntent", id, n, NEVER), sellerKey);
            return abi.encodeCall(escrow.claimWithSig, (id, n, NEVER, s));
        }
        bytes memory w = signMessage(plainMessage("BuyerWithdrawIntent", id, n, NEVER), buyerKey);
        return abi.encodeCall(escrow.withdrawWithSig, (id, n, NEVER, w));
    }
}
