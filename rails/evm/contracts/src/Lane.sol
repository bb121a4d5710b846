// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

/// @notice What the contract stores about the agreement that occupies a lane: one word.
/// @dev From the low end: 184 bits of the agreement's id, 40 bits end of the challenge window, 16 bits by
/// which the fee receiver lowered its rate, 8 bits phase, 1 bit whether a tally was written. A forger of
/// terms with the same 184 bits faces a collision search of 2**92 hashes.
type Lane is uint256;

/// @notice How far an agreement has come by what was done to it; time is not in it.
enum Phase {
    None,
    Open,
    Closing,
    /// Final by a ruling or a waiver.
    Final,
    Settled,
    /// Settled by one release of the whole deposit, so that no tally had to be written.
    SettledByRelease
}

using Lanes for Lane global;

/// @title Reading and changing a lane's word
library Lanes {
    uint256 private constant COMMITMENT = (1 << 184) - 1;
    uint256 private constant TALLIED = 1 << 248;

    /// @dev The word of an agreement that was funded just now.
    function open(uint256 id) internal pure returns (Lane) {
        return withPhase(Lane.wrap(id & COMMITMENT), Phase.Open);
    }

    /// @dev Whether the agreement with this id is the one in the lane.
    function holds(Lane lane, uint256 id) internal pure returns (bool) {
        return (Lane.unwrap(lane) ^ id) & COMMITMENT == 0 && Lane.unwrap(lane) >> 240 != 0;
    }

    function phase(Lane lane) internal pure returns (Phase) {
        return Phase(uint8(Lane.unwrap(lane) >> 240));
    }

    function withPhase(Lane lane, Phase to) internal pure returns (Lane) {
        return Lane.wrap(Lane.unwrap(lane) & ~(uint256(0xff) << 240) | uint256(to) << 240);
    }

    function isSettled(Lane lane) internal pure returns (bool) {
        return phase(lane) >= Phase.Settled;
    }

    function closesAt(Lane lane) internal pure returns (uint256) {
        return uint40(Lane.unwrap(lane) >> 184);
    }

    function withClosesAt(Lane lane, uint40 time) internal pure returns (Lane) {
        return Lane.wrap(Lane.unwrap(lane) & ~(uint256(type(uint40).max) << 184) | uint256(time) << 184);
    }

    function feeCutBps(Lane lane) internal pure returns (uint256) {
        return uint16(Lane.unwrap(lane) >> 224);
    }

    function withFeeCutBps(Lane lane, uint16 bps) internal pure returns (Lane) {
        return Lane.wrap(Lane.unwrap(lane) & ~(uint256(type(uint16).max) << 224) | uint256(bps) << 224);
    }

    function isTallied(Lane lane) internal pure returns (bool) {
        return Lane.unwrap(lane) & TALLIED != 0;
    }

    function withTally(Lane lane) internal pure returns (Lane) {
        return Lane.wrap(Lane.unwrap(lane) | TALLIED);
    }
}
