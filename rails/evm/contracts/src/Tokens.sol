// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Permit} from "./Types.sol";

/// @notice EIP-3009, in both signature forms found in use.
interface IERC3009 {
    /// @notice Pulls `value` from `from` to the caller, once per `nonce`, by `from`'s key.
    function receiveWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external;

    /// @notice The same with a signature of any form, which wallets that are contracts need.
    function receiveWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external;
}

/// @title Moving tokens in
/// @notice Each way of pulling a deposit ends with the same check: exactly the deposit has arrived. A token
/// that takes a fee on the way, or only says that it paid, is refused there.
library Tokens {
    using SafeERC20 for IERC20;

    /// @notice The contract's balance grew by `received` where `expected` had to arrive.
    error DepositNotExact(address token, uint256 expected, uint256 received);
    /// @notice The permit failed and the allowance that is there does not cover the deposit.
    error AllowanceTooLow(address token, uint256 allowance, uint256 required);

    /// @dev `nonce` commits the payer to the whole agreement; `to` and the token's own domain commit it to
    /// this contract and chain.
    function pullByAuthorization(
        address token,
        address from,
        uint256 amount,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) internal {
        uint256 before = IERC20(token).balanceOf(address(this));
        if (signature.length == 65) {
            (bytes32 r, bytes32 s) = abi.decode(signature[:64], (bytes32, bytes32));
            uint8 v = uint8(signature[64]);
            IERC3009(token)
                .receiveWithAuthorization(from, address(this), amount, 0, validBefore, nonce, v, r, s);
        } else {
            IERC3009(token)
                .receiveWithAuthorization(from, address(this), amount, 0, validBefore, nonce, signature);
        }
        _requireArrival(token, before, amount);
    }

    /// @dev Anyone may use a permit that they see in flight. Its failure then says nothing: what counts is
    /// whether the allowance is there.
    function pullByAllowance(address token, address from, uint256 amount, Permit calldata permit) internal {
        if (permit.deadline != 0) {
            try IERC20Permit(token)
                .permit(from, address(this), permit.value, permit.deadline, permit.v, permit.r, permit.s) {}
                catch {}
        }
        uint256 allowance = IERC20(token).allowance(from, address(this));
        if (allowance < amount) revert AllowanceTooLow(token, allowance, amount);

        uint256 before = IERC20(token).balanceOf(address(this));
        IERC20(token).safeTransferFrom(from, address(this), amount);
        _requireArrival(token, before, amount);
    }

    function _requireArrival(address token, uint256 before, uint256 amount) private view {
        uint256 received = IERC20(token).balanceOf(address(this)) - before;
        if (received != amount) revert DepositNotExact(token, amount, received);
    }
}
