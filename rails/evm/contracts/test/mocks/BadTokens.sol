// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {TestDollar} from "./TestDollar.sol";

/// @notice Keeps one percent of every transfer on the way.
contract FeeOnTransferToken is TestDollar {
    function _afterTokenTransfer(address from, address to, uint256 amount) internal override {
        if (from != address(0) && to != address(0)) _burn(to, amount / 100);
    }
}

/// @notice Says that it paid and does nothing.
contract LyingToken is TestDollar {
    function transferFrom(address, address, uint256) public pure override returns (bool) {
        return true;
    }
}

/// @notice Moves nothing while it is paused.
contract PausableToken is TestDollar {
    bool public paused;

    function setPaused(bool to) external {
        paused = to;
    }

    function _beforeTokenTransfer(address, address, uint256) internal view override {
        require(!paused, "paused");
    }
}

/// @notice Refuses to move money from or to listed addresses, as the large dollar tokens do.
contract BlockingToken is TestDollar {
    mapping(address account => bool) public blocked;

    function setBlocked(address account, bool to) external {
        blocked[account] = to;
    }

    function _beforeTokenTransfer(address from, address to, uint256) internal view override {
        require(!blocked[from] && !blocked[to], "blocked");
    }
}

/// @notice Calls somebody in the middle of every transfer, before the balances change, and keeps the answer.
contract ReentrantToken is TestDollar {
    address private _target;
    bytes private _call;
    bool public reached;
    bool public succeeded;
    bytes public answer;

    function arm(address target, bytes calldata data) external {
        (_target, _call, reached) = (target, data, false);
    }

    function _beforeTokenTransfer(address, address, uint256) internal override {
        if (_target == address(0) || reached) return;
        reached = true;
        (succeeded, answer) = _target.call(_call);
    }
}

/// @notice An old token: `transfer` and `transferFrom` return nothing, and there is no permit.
contract NoReturnToken {
    mapping(address account => uint256) public balanceOf;
    mapping(address owner => mapping(address spender => uint256)) public allowance;

    function mint(address to, uint256 amount) external {
        balanceOf[to] += amount;
    }

    function approve(address spender, uint256 amount) external {
        allowance[msg.sender][spender] = amount;
    }

    function transfer(address to, uint256 amount) external {
        _move(msg.sender, to, amount);
    }

    function transferFrom(address from, address to, uint256 amount) external {
        allowance[from][msg.sender] -= amount;
        _move(from, to, amount);
    }

    function _move(address from, address to, uint256 amount) private {
        balanceOf[from] -= amount;
        balanceOf[to] += amount;
    }
}

/// @notice A wallet that is a contract: its owner's key signs for it (EIP-1271).
contract Wallet {
    address private immutable _owner;

    constructor(address owner) {
        _owner = owner;
    }

    function isValidSignature(bytes32 digest, bytes calldata signature) external view returns (bytes4) {
        // One byte of its own in front, so that it is no plain 65-byte signature.
        if (signature.length != 66 || signature[0] != 0x01) return 0xffffffff;
        address signer =
            ecrecover(digest, uint8(signature[65]), bytes32(signature[1:33]), bytes32(signature[33:65]));
        return signer == _owner && signer != address(0) ? bytes4(0x1626ba7e) : bytes4(0xffffffff);
    }

    function execute(address target, bytes calldata data) external {
        require(msg.sender == _owner, "not the owner");
        (bool ok, bytes memory answer) = target.call(data);
        require(ok, string(answer));
    }
}
