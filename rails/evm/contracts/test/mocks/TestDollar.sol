// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {ERC20} from "solady/tokens/ERC20.sol";
import {SignatureCheckerLib} from "solady/utils/SignatureCheckerLib.sol";

/// @title A dollar token for tests
/// @notice ERC-20 with EIP-2612 permits and EIP-3009 authorizations, named and versioned as USDC is on Base
/// Sepolia, so that signatures made for the one are good for the other at the same address and chain.
/// Nothing in it is immutable: its runtime code can be placed at any address of a test chain.
contract TestDollar is ERC20 {
    error CallerMustBePayee(address caller, address payee);
    error AuthorizationNotYetValid(uint256 validAfter, uint256 timestamp);
    error AuthorizationExpired(uint256 validBefore, uint256 timestamp);
    error AuthorizationUsedOrCanceled(address authorizer, bytes32 nonce);
    error InvalidSignature(address signer);

    event AuthorizationUsed(address indexed authorizer, bytes32 indexed nonce);

    bytes32 private constant RECEIVE_WITH_AUTHORIZATION_TYPEHASH = keccak256(
        "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
    );

    mapping(address authorizer => mapping(bytes32 nonce => bool used)) public authorizationState;

    function name() public pure override returns (string memory) {
        return "USDC";
    }

    function symbol() public pure override returns (string memory) {
        return "USDC";
    }

    function version() external pure returns (string memory) {
        return "2";
    }

    function decimals() public pure override returns (uint8) {
        return 6;
    }

    function _constantNameHash() internal pure override returns (bytes32) {
        return keccak256("USDC");
    }

    function _versionHash() internal pure override returns (bytes32) {
        return keccak256("2");
    }

    /// @notice Anyone may make test money.
    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    /// @notice EIP-3009 with the signature of a key.
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
    ) external {
        bytes32 digest = _begin(from, to, value, validAfter, validBefore, nonce);
        if (from == address(0) || ecrecover(digest, v, r, s) != from) revert InvalidSignature(from);
        _transfer(from, to, value);
    }

    /// @notice EIP-3009 with the signature of a key or of a wallet contract.
    function receiveWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external {
        bytes32 digest = _begin(from, to, value, validAfter, validBefore, nonce);
        if (!SignatureCheckerLib.isValidSignatureNowCalldata(from, digest, signature)) {
            revert InvalidSignature(from);
        }
        _transfer(from, to, value);
    }

    function _begin(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce
    ) private returns (bytes32 digest) {
        if (msg.sender != to) revert CallerMustBePayee(msg.sender, to);
        if (block.timestamp <= validAfter) revert AuthorizationNotYetValid(validAfter, block.timestamp);
        if (block.timestamp >= validBefore) revert AuthorizationExpired(validBefore, block.timestamp);
        if (authorizationState[from][nonce]) revert AuthorizationUsedOrCanceled(from, nonce);
        authorizationState[from][nonce] = true;
        emit AuthorizationUsed(from, nonce);
        bytes32 structHash = keccak256(
            abi.encode(RECEIVE_WITH_AUTHORIZATION_TYPEHASH, from, to, value, validAfter, validBefore, nonce)
        );
        return keccak256(abi.encodePacked(hex"1901", DOMAIN_SEPARATOR(), structHash));
    }
}
