// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {Base} from "./Base.t.sol";
import {Agreement} from "../src/Types.sol";
import {Bare} from "./mocks/Bare.sol";

contract GasTest is Base {
    function setUp() public override {
        super.setUp();
        vm.startPrank(buyer);
        vm.stopPrank();
        dollar.mint(seller, 1);
        dollar.mint(platform, 1);
        dollar.mint(address(escrow), 1);
        Agreement memory a = job();
        a.termsHash = keccak256("before");
        fundIt(a);
        vm.prank(buyer);
        escrow.releaseFunds(a, DEPOSIT);
    }

    function test_job() public {
        Agreement memory a = job();
        bytes memory signature = signAuthorization(a, address(escrow), START + 1 hours, buyerKey);
        vm.prank(relayer);
        escrow.fund(a, START + 1 hours, signature);
        uint256 g1 = vm.snapshotGasLastCall("fund");
        vm.prank(buyer);
        escrow.releaseFunds(a, DEPOSIT);
        uint256 g2 = vm.snapshotGasLastCall("settle");
        emit log_named_uint("fund", g1);
        emit log_named_uint("settle", g2);
        emit log_named_uint("sum", g1 + g2);
    }

    function test_floor() public {
        Bare bare = new Bare();
        dollar.mint(address(bare), 1);
        Agreement memory a = job();
        for (uint256 i = 0; i < 2; ++i) {
            a.termsHash = keccak256(abi.encode(i));
            bytes memory signature = signAuthorization(a, address(bare), START + 1 hours, buyerKey);
            (bytes32 r, bytes32 s, uint8 v) = split(signature);
            bytes32 id = bytes32(escrow.idOf(a));
            vm.prank(relayer);
            bare.fund(dollar, buyer, 1, id, DEPOSIT, START + 1 hours, v, r, s);
            uint256 g1 = vm.snapshotGasLastCall("floor fund");
            vm.prank(buyer);
            bare.settle(dollar, 1, bytes32(uint256(id) - 1), seller, DEPOSIT - 1e6, platform, 1e6);
            uint256 g2 = vm.snapshotGasLastCall("floor settle");
            emit log_named_uint("fund", g1);
            emit log_named_uint("settle", g2);
            emit log_named_uint("sum", g1 + g2);
        }
    }

    function split(bytes memory signature) private pure returns (bytes32 r, bytes32 s, uint8 v) {
        assembly {
            r := mload(add(signature, 32))
            s := mload(add(signature, 64))
            v := byte(0, mload(add(signature, 96)))
        }
    }
}
