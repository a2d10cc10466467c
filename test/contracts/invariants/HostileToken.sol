// SPDX-License-Identifier: MIT
pragma solidity 0.8.33;

import {Escrow} from "../../../contracts/Escrow.sol";

/// @title HostileToken
/// @notice An ERC-20 with EIP-3009 that breaks its word: it pauses, returns false, says yes and moves nothing, or
/// re-enters the Escrow in mid-transfer. It accepts every authorisation that names its nonce for the first time.
contract HostileToken {
    enum Mood {
        Honest,
        Paused,
        ReturnsFalse,
        MovesNothingIn,
        Reenters
    }

    bytes32 public constant RECEIVE_WITH_AUTHORIZATION_TYPEHASH = keccak256(
        "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
    );
    bytes32 public constant DOMAIN_SEPARATOR = keccak256("a hostile token's domain");

    mapping(address => uint256) public balanceOf;
    mapping(address => mapping(bytes32 => bool)) internal used;
    Escrow internal target;
    Mood internal mood;
    bool internal inside;
    uint256 public thefts;

    error Refused();

    function aimAt(address escrow) external {
        target = Escrow(escrow);
    }

    function setMood(uint8 seed) external {
        mood = Mood(seed % 5);
    }

    function mint(address to, uint256 value) external {
        balanceOf[to] += value;
    }

    function approve(address, uint256) external pure returns (bool) {
        return true;
    }

    function transfer(address to, uint256 value) external returns (bool) {
        return move(msg.sender, to, value);
    }

    function transferFrom(address from, address to, uint256 value) external returns (bool) {
        return move(from, to, value);
    }

    function receiveWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256,
        uint256,
        bytes32 nonce,
        bytes calldata
    ) external {
        if (used[from][nonce]) revert Refused();
        used[from][nonce] = true;
        move(from, to, value);
    }

    function move(address from, address to, uint256 value) internal returns (bool) {
        if (mood == Mood.Paused) revert Refused();
        if (mood == Mood.ReturnsFalse) return false;
        // Money that leaves really leaves: a token that lies on the way out hurts its receiver, not the books.
        if (mood == Mood.MovesNothingIn && to == address(target)) return true;
        balanceOf[from] -= value;
        balanceOf[to] += value;
        if (mood == Mood.Reenters && !inside) reenter(to);
        return true;
    }

    /// @dev Passes one deposit off as two, or takes twice what is paid out. Each success is a theft.
    function reenter(address to) internal {
        inside = true;
        bool stole;
        if (to == address(target)) {
            (bool plain,) = address(target).call(abi.encodeCall(Escrow.deposit, (1)));
            (bool authorised,) = address(target).call(
                abi.encodeCall(
                    Escrow.depositWithAuthorization, (address(this), 1, bytes32(0), 0, type(uint40).max, "")
                )
            );
            stole = plain || authorised;
        } else {
            (stole,) = address(target).call(abi.encodeCall(Escrow.payOut, (to)));
        }
        inside = false;
        thefts += stole ? 1 : 0;
    }
}
