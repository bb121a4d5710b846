// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {TestDollar} from "./TestDollar.sol";

/// @title The least that funding and settling can do
/// @notice Moves the same money by the same token calls, keeps one word per agreement and one per fee
/// receiver, and checks nothing. What it costs is the floor that the escrow's gas is compared with.
contract Bare {
    mapping(address buyer => mapping(uint256 lane => bytes32)) private _words;
    mapping(address receiver => uint256) private _fees;

    function fund(
        TestDollar token,
        address buyer,
        uint256 lane,
        bytes32 id,
        uint256 amount,
        uint256 validBefore,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external {
        _words[buyer][lane] = id;
        token.receiveWithAuthorization(buyer, address(this), amount, 0, validBefore, id, v, r, s);
    }

    function settle(
        TestDollar token,
        uint256 lane,
        bytes32 ended,
        address seller,
        uint256 amount,
        address feeReceiver,
        uint256 fee
    ) external {
        _words[msg.sender][lane] = ended;
        _fees[feeReceiver] += fee;
        token.transfer(seller, amount);
    }
}
