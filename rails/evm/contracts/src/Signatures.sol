// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";

/// @title Signed messages
/// @notice Two EIP-712 domains, single-use nonces, deadlines, and wallets that are keys or contracts.
/// @dev A nonce is a position in the signer's bitmap: nonces are used in any order, each once, and 256 of
/// them share a storage slot. One that was signed but not yet used can be revoked.
abstract contract Signatures {
    /// @notice The message was to be used no later than `deadline`.
    error SignatureExpired(uint256 deadline, uint256 timestamp);
    /// @notice The signer used or revoked this nonce before.
    error NonceAlreadyUsed(address signer, uint256 nonce);
    /// @notice The signature is not `signer`'s over `digest`: wrong key, chain, contract or content, a
    /// malleable (high-s) form, or a wallet contract that declined.
    error WrongSignature(address signer, bytes32 digest);

    /// @notice `signer` marked the nonces in `mask` of bitmap word `word` as used.
    event NoncesRevoked(address indexed signer, uint256 word, uint256 mask);

    /// @dev Nonce n is bit `n & 255` of word `n >> 8`.
    mapping(address signer => mapping(uint256 word => uint256 bits)) private _usedNonces;

    bytes32 private constant DOMAIN_TYPEHASH =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 private constant REVOKE_TYPEHASH =
        keccak256("RevokeNoncesIntent(uint256 word,uint256 mask,uint256 nonce,uint256 deadline)");
    bytes32 private constant VERSION_HASH = keccak256("1");

    bytes32 private immutable _activationName;
    bytes32 private immutable _settlementName;
    uint256 private immutable _deployChain;
    bytes32 private immutable _activationDomain;
    bytes32 private immutable _settlementDomain;

    constructor(string memory activationName, string memory settlementName) {
        _activationName = keccak256(bytes(activationName));
        _settlementName = keccak256(bytes(settlementName));
        _deployChain = block.chainid;
        _activationDomain = _separator(_activationName);
        _settlementDomain = _separator(_settlementName);
    }

    /// @notice Domain separator of `BuyerActivationIntent`.
    function activationDomainSeparator() public view returns (bytes32) {
        // A chain that split off after deployment has another id, and signatures must not cross.
        return block.chainid == _deployChain ? _activationDomain : _separator(_activationName);
    }

    /// @notice Domain separator of every other message.
    function settlementDomainSeparator() public view returns (bytes32) {
        return block.chainid == _deployChain ? _settlementDomain : _separator(_settlementName);
    }

    /// @notice Whether `signer` can no longer use `nonce`.
    function isNonceUsed(address signer, uint256 nonce) external view returns (bool) {
        return _usedNonces[signer][nonce >> 8] & (1 << (nonce & 0xff)) != 0;
    }

    /// @notice Revoke the caller's own nonces before anyone uses them.
    /// @param word Index of the bitmap word: nonce / 256.
    /// @param mask The nonces within the word; bits that are already set stay set.
    function revokeNonces(uint256 word, uint256 mask) external {
        _revokeNonces(msg.sender, word, mask);
    }

    /// @notice `revokeNonces` by the signer's `RevokeNoncesIntent`.
    function revokeNoncesWithSig(
        address signer,
        uint256 word,
        uint256 mask,
        uint256 nonce,
        uint256 deadline,
        bytes calldata signature
    ) external {
        bytes32 message = keccak256(abi.encode(REVOKE_TYPEHASH, word, mask, nonce, deadline));
        _useSettlementSignature(signer, message, nonce, deadline, signature);
        _revokeNonces(signer, word, mask);
    }

    function _revokeNonces(address signer, uint256 word, uint256 mask) private {
        _usedNonces[signer][word] |= mask;
        emit NoncesRevoked(signer, word, mask);
    }

    function _useNonce(address signer, uint256 nonce) internal {
        uint256 bit = 1 << (nonce & 0xff);
        uint256 bits = _usedNonces[signer][nonce >> 8];
        if (bits & bit != 0) revert NonceAlreadyUsed(signer, nonce);
        _usedNonces[signer][nonce >> 8] = bits | bit;
    }

    function _useSettlementSignature(
        address signer,
        bytes32 structHash,
        uint256 nonce,
        uint256 deadline,
        bytes calldata signature
    ) internal {
        if (block.timestamp > deadline) revert SignatureExpired(deadline, block.timestamp);
        _useNonce(signer, nonce);
        _requireSignature(signer, _digest(settlementDomainSeparator(), structHash), signature);
    }

    function _requireSignature(address signer, bytes32 digest, bytes calldata signature) internal view {
        if (!_isSignedBy(signer, digest, signature)) revert WrongSignature(signer, digest);
    }

    function _isSignedBy(address signer, bytes32 digest, bytes calldata signature)
        private
        view
        returns (bool)
    {
        // The key first: an account that delegates to code (EIP-7702) still signs with its key.
        (address recovered, ECDSA.RecoverError failure,) = ECDSA.tryRecoverCalldata(digest, signature);
        if (failure == ECDSA.RecoverError.NoError && recovered == signer) return true;
        return signer.code.length != 0
            && SignatureChecker.isValidERC1271SignatureNowCalldata(signer, digest, signature);
    }

    function _digest(bytes32 domainSeparator, bytes32 structHash) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(hex"1901", domainSeparator, structHash));
    }

    function _separator(bytes32 nameHash) private view returns (bytes32) {
        return keccak256(abi.encode(DOMAIN_TYPEHASH, nameHash, VERSION_HASH, block.chainid, address(this)));
    }
}
