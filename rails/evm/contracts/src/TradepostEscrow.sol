// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {Signatures} from "./Signatures.sol";
import {Lane, Lanes, Phase} from "./Lane.sol";
import {Tokens} from "./Tokens.sol";
import {Agreement, BuyerActivationIntent, EscrowStatus, Permit, SettlementTerms, Status} from "./Types.sol";

/// @title Escrow of usage agreements and jobs
/// @notice Holds a buyer's deposit, and lets out only what the parties signed for. There is no owner, no
/// upgrade and no pause: nobody but the two parties and the arbiter whom the buyer named decides anything.
///
/// What the seller has earned is the highest of the statements made about an agreement: cumulative receipts
/// by its receipt signer and cumulative releases by its buyer, both at most the deposit. Statements only
/// raise it, so repeating or reordering them changes nothing. An arbiter's ruling replaces it, once.
///
/// An agreement takes statements until it is final. It is final when the challenge window after a close has
/// passed; or, with nobody doing anything, when the window after its expiry has; or at once by a ruling or
/// by the seller's waiver. Then the seller claims what was earned and the buyer withdraws the rest, neither
/// waiting for the other. A release is paid at once and does not wait for that.
///
/// Every action has a form for the party's own transaction and a `WithSig` form that anyone may relay.
/// @dev An agreement's terms come in calldata and are checked against the hash in its buyer's lane. The verbs
/// that take only an id work once the terms are published, as `createAndFundBuyerAuthorized` does.
contract TradepostEscrow is Signatures, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    /// @notice The address in `field` may not be `value` (zero, the token, this contract, another party).
    error InvalidAddress(bytes32 field, address value);
    /// @notice The number in `field` is below the least that it may be.
    error TooSmall(bytes32 field, uint256 value, uint256 min);
    /// @notice The number in `field` is above the most that it may be.
    error TooLarge(bytes32 field, uint256 value, uint256 max);
    /// @notice The token's address has no code.
    error TokenHasNoCode(address token);
    /// @notice The agreement expired before it was funded.
    error AlreadyExpired(uint256 expiry, uint256 timestamp);
    /// @notice Another agreement of this buyer occupies the lane, or this one has used it before.
    error LaneBusy(address buyer, uint96 lane);
    /// @notice The intent carries another hash than the settlement terms beside it have.
    error TermsMismatch(bytes32 signed, bytes32 actual);
    /// @notice No such agreement is in its lane: the terms differ from the funded ones, or it is settled and
    /// its lane reused.
    error UnknownAgreement(uint256 id);
    /// @notice The terms of this id were never published.
    error TermsNotPublished(uint256 id);
    /// @notice `caller` is not the party who may do this.
    error NotAuthorized(address caller, address required);
    /// @notice `account` is neither the buyer nor the seller.
    error NotAParty(address account, address buyer, address seller);
    /// @notice Too late: the agreement is final since `finalAt` (zero: by a ruling or waiver) or settled.
    error AlreadyFinal(uint256 id, Status status, uint256 finalAt);
    /// @notice Too early: the agreement is final from `finalAt`.
    error NotFinal(uint256 id, uint256 finalAt);
    /// @notice The challenge window is running already.
    error AlreadyClosing(uint256 id, uint256 finalAt);
    /// @notice The agreement names no receipt signer.
    error ReceiptsDisabled(uint256 id);
    /// @notice The receipt counts more units than were agreed.
    error OverQuantity(uint256 units, uint256 quantity);
    /// @notice The receipt's worth does not exceed what is earned already.
    error ReceiptNotNewer(uint256 amount, uint256 earned);
    /// @notice The amount exceeds the deposit.
    error AboveDeposit(uint256 amount, uint256 deposit);
    /// @notice The cumulative release, or the ruling, does not reach past what is paid out already.
    error BelowPaid(uint256 amount, uint256 paid);
    /// @notice The fee rate is not below the one in force.
    error FeeNotLower(uint256 feeBps, uint256 current);
    /// @notice Nothing is due to `account`.
    error NothingDue(uint256 id, address account);
    /// @notice Call number `index` of a batch failed with `reason`; the whole batch had no effect.
    error BatchFailed(uint256 index, bytes reason);

    /// @notice The deposit arrived, exactly. The terms are in the transaction's calldata.
    event Funded(uint256 indexed id);
    /// @notice Anyone can now read the terms by id, and the verbs that take only an id work.
    event TermsPublished(uint256 indexed id, Agreement terms);
    /// @notice A receipt raised what is earned. `proof` is the head of the hash chain of calls it covers.
    event ReceiptSubmitted(uint256 indexed id, uint256 units, uint256 earned, bytes32 proof);
    /// @notice `by` closed the agreement; it is final from `finalAt`.
    event CloseInitiated(uint256 indexed id, address indexed by, uint256 finalAt);
    /// @notice The agreement became final before its time, by the arbiter's ruling or the seller's waiver.
    event Finalized(uint256 indexed id, address indexed by, uint256 earned);
    /// @notice Money left for the seller, after `fee` was credited to the fee receiver.
    event SellerPaid(uint256 indexed id, uint256 toSeller, uint256 fee);
    /// @notice What was not earned went back to the buyer.
    event BuyerWithdrew(uint256 indexed id, uint256 amount);
    /// @notice Fees left for their receiver.
    event FeesCollected(address indexed token, address indexed receiver, uint256 amount);
    /// @notice The fee receiver lowered its rate.
    event FeeLowered(uint256 indexed id, uint256 feeBps);

    /// @notice Longest challenge window that can be agreed, in seconds.
    uint256 public constant MAX_CHALLENGE_WINDOW = 90 days;

    bytes32 private constant ACTIVATION_TYPEHASH = keccak256(
        "BuyerActivationIntent(bytes32 agreementKey,bytes32 platformAgreementIdHash,address buyer,address seller,address token,uint256 quantity,uint256 pricePerUnit,uint256 depositAmount,uint256 challengeWindowSeconds,bytes32 serviceHash,bytes32 termsHash,uint256 expiry,uint256 nonce,bytes32 salt)"
    );
    bytes32 private constant SETTLEMENT_TERMS_TYPEHASH = keccak256(
        "SettlementTerms(address receiptSigner,address arbiter,address feeReceiver,uint16 maxFeeBps,bytes32 documentHash)"
    );
    bytes32 private constant RECEIPT_TYPEHASH =
        keccak256("UsageReceipt(uint256 agreementId,uint256 units,bytes32 proof)");
    bytes32 private constant RELEASE_TYPEHASH = keccak256(
        "ReleaseIntent(uint256 agreementId,uint256 cumulativeAmount,uint256 nonce,uint256 deadline)"
    );
    bytes32 private constant CLOSE_TYPEHASH =
        keccak256("CloseIntent(uint256 agreementId,uint256 nonce,uint256 deadline)");
    bytes32 private constant WAIVE_TYPEHASH =
        keccak256("WaiveIntent(uint256 agreementId,uint256 nonce,uint256 deadline)");
    bytes32 private constant RULING_TYPEHASH =
        keccak256("RulingIntent(uint256 agreementId,uint256 earned,uint256 nonce,uint256 deadline)");
    bytes32 private constant CLAIM_TYPEHASH =
        keccak256("SellerClaimIntent(uint256 agreementId,uint256 nonce,uint256 deadline)");
    bytes32 private constant WITHDRAW_TYPEHASH =
        keccak256("BuyerWithdrawIntent(uint256 agreementId,uint256 nonce,uint256 deadline)");
    bytes32 private constant LOWER_FEE_TYPEHASH =
        keccak256("LowerFeeIntent(uint256 agreementId,uint256 feeBps,uint256 nonce,uint256 deadline)");

    /// @dev Lanes of intents carry this bit, so that they never meet the small numbers of EIP-3009 funding
    /// and each is used for one intent only.
    uint96 private constant INTENT_LANE = 1 << 95;

    /// @dev A lane's word where it is stored, so that its place is worked out once per call.
    struct Slot {
        Lane lane;
    }

    /// @dev The part of an agreement's state that only partial payments need. One slot.
    struct Tally {
        uint120 earned;
        uint120 paid;
        bool withdrawn;
    }

    /// @dev Keyed by buyer and lane number in one word: `_laneOf`.
    mapping(uint256 key => Slot) private _lanes;
    mapping(uint256 id => Tally) private _tallies;
    mapping(uint256 id => Agreement) private _published;

    /// @notice Fees credited and not yet collected.
    mapping(address token => mapping(address receiver => uint256 amount)) public feesOwed;

    /// @param activationName EIP-712 domain name of `BuyerActivationIntent`.
    /// @param settlementName EIP-712 domain name of all other messages.
    constructor(string memory activationName, string memory settlementName)
        Signatures(activationName, settlementName)
    {}

    // ---------------------------------------------------------------------------------------- funding

    /// @notice Fund by EIP-3009. The payer signs one message, the token's own `ReceiveWithAuthorization`,
    /// with the agreement's id as its nonce and this contract as its receiver; anyone may relay it.
    /// @param validBefore The authorization's own deadline, as signed (its `validAfter` is zero).
    /// @param signature 65 bytes r, s, v of a key, or what the payer's wallet contract accepts.
    function fund(Agreement calldata terms, uint256 validBefore, bytes calldata signature)
        external
        nonReentrant
    {
        _requireMax("lane", terms.lane, type(uint64).max);
        uint256 id = _occupyLane(terms);
        Tokens.pullByAuthorization(
            terms.token, terms.buyer, terms.deposit, validBefore, bytes32(id), signature
        );
    }

    /// @notice Fund by the buyer's signed intent, with a permit or an allowance that is there already.
    /// The terms are published.
    /// @param permit Used when its deadline is not zero; may fail if the allowance is there all the same.
    /// @param signature The buyer's over `intent`, under the activation domain.
    /// @return id The agreement's id.
    function createAndFundBuyerAuthorized(
        BuyerActivationIntent calldata intent,
        SettlementTerms calldata extra,
        Permit calldata permit,
        bytes calldata signature
    ) external nonReentrant returns (uint256 id) {
        bytes32 digest = _intentDigest(intent);
        _requireSignature(intent.buyer, digest, signature);
        id = _fundIntent(intent, extra, permit, digest);
    }

    /// @notice The same by the buyer's own transaction, without a signature.
    /// @return id The agreement's id.
    function createAndFund(
        BuyerActivationIntent calldata intent,
        SettlementTerms calldata extra,
        Permit calldata permit
    ) external nonReentrant returns (uint256 id) {
        _requireCaller(intent.buyer);
        id = _fundIntent(intent, extra, permit, _intentDigest(intent));
    }

    /// @notice Store the terms of a funded agreement, so that the verbs that take only an id work.
    function publish(Agreement calldata terms) external {
        uint256 id = idOf(terms);
        _find(terms.buyer, terms.lane, id);
        _published[id] = terms;
        emit TermsPublished(id, terms);
    }

    // ---------------------------------------------------------------------------------------- earning

    /// @notice Count units that the receipt signer confirmed. A receipt is cumulative: one of more worth
    /// supersedes any before it, also while the challenge window runs.
    /// @param units Units delivered since the agreement began, at most its quantity.
    /// @param proof Head of the hash chain of the calls that the receipt covers.
    /// @param signature The receipt signer's over `UsageReceipt`.
    function submitReceipt(Agreement calldata terms, uint256 units, bytes32 proof, bytes calldata signature)
        external
        nonReentrantView
    {
        _submitReceipt(terms, units, proof, signature);
    }

    /// @notice The buyer lets the seller have money now. Cumulative like a receipt: what is paid out is
    /// `cumulativeAmount` less all that was paid before.
    function releaseFunds(Agreement calldata terms, uint256 cumulativeAmount) external nonReentrantView {
        _requireCaller(terms.buyer);
        _release(terms, _idOf(terms), cumulativeAmount);
    }

    /// @notice `releaseFunds` by the buyer's `ReleaseIntent`.
    function releaseFundsWithSig(
        Agreement calldata terms,
        uint256 cumulativeAmount,
        uint256 nonce,
        uint256 deadline,
        bytes calldata signature
    ) external nonReentrantView {
        uint256 id = _idOf(terms);
        bytes32 message = keccak256(abi.encode(RELEASE_TYPEHASH, id, cumulativeAmount, nonce, deadline));
        _useSettlementSignature(terms.buyer, message, nonce, deadline, signature);
        _release(terms, id, cumulativeAmount);
    }

    /// @notice The arbiter decides what the seller earned, at least what is paid out already and at most the
    /// deposit. The agreement is final at once.
    function rule(Agreement calldata terms, uint256 earned) external nonReentrantView {
        _requireCaller(terms.arbiter);
        _rule(terms, earned);
    }

    /// @notice `rule` by the arbiter's `RulingIntent`.
    function ruleWithSig(
        Agreement calldata terms,
        uint256 earned,
        uint256 nonce,
        uint256 deadline,
        bytes calldata signature
    ) external nonReentrantView {
        bytes32 message = keccak256(abi.encode(RULING_TYPEHASH, idOf(terms), earned, nonce, deadline));
        _useSettlementSignature(terms.arbiter, message, nonce, deadline, signature);
        _rule(terms, earned);
    }

    /// @notice The fee receiver takes less than the buyer allowed it.
    /// @param feeBps The new rate, below the one in force, in hundredths of a percent.
    function lowerFee(Agreement calldata terms, uint256 feeBps) external nonReentrantView {
        _requireCaller(terms.feeReceiver);
        _lowerFee(terms, feeBps);
    }

    /// @notice `lowerFee` by the fee receiver's `LowerFeeIntent`.
    function lowerFeeWithSig(
        Agreement calldata terms,
        uint256 feeBps,
        uint256 nonce,
        uint256 deadline,
        bytes calldata signature
    ) external nonReentrantView {
        bytes32 message = keccak256(abi.encode(LOWER_FEE_TYPEHASH, idOf(terms), feeBps, nonce, deadline));
        _useSettlementSignature(terms.feeReceiver, message, nonce, deadline, signature);
        _lowerFee(terms, feeBps);
    }

    // ---------------------------------------------------------------------------------------- closing

    /// @notice Buyer or seller starts the challenge window, in which a later receipt still counts.
    function close(Agreement calldata terms) external nonReentrantView {
        _close(terms, msg.sender);
    }

    /// @notice `close` by the `CloseIntent` of `signer`, who is the buyer or the seller.
    function closeWithSig(
        Agreement calldata terms,
        address signer,
        uint256 nonce,
        uint256 deadline,
        bytes calldata signature
    ) external nonReentrantView {
        _closeWithSig(terms, signer, nonce, deadline, signature);
    }

    /// @notice `close` of a published agreement.
    function initiateClose(uint256 agreementId) external nonReentrantView {
        _close(_publishedTerms(agreementId), msg.sender);
    }

    /// @notice `closeWithSig` of a published agreement.
    function initiateCloseWithSig(
        uint256 agreementId,
        address signer,
        uint256 nonce,
        uint256 deadline,
        bytes calldata signature
    ) external nonReentrantView {
        _closeWithSig(_publishedTerms(agreementId), signer, nonce, deadline, signature);
    }

    /// @notice The seller needs no more time: what is earned now stands, and the buyer may have the rest.
    function waive(Agreement calldata terms) external nonReentrantView {
        _requireCaller(terms.seller);
        _waive(terms);
    }

    /// @notice `waive` by the seller's `WaiveIntent`.
    function waiveWithSig(Agreement calldata terms, uint256 nonce, uint256 deadline, bytes calldata signature)
        external
        nonReentrantView
    {
        bytes32 message = keccak256(abi.encode(WAIVE_TYPEHASH, idOf(terms), nonce, deadline));
        _useSettlementSignature(terms.seller, message, nonce, deadline, signature);
        _waive(terms);
    }

    // ---------------------------------------------------------------------------------------- leaving

    /// @notice The seller of a final agreement takes what was earned and not yet paid, less the fee.
    function claimEarned(Agreement calldata terms) external nonReentrantView {
        _requireCaller(terms.seller);
        _claim(terms);
    }

    /// @notice `claimEarned` by the seller's `SellerClaimIntent`.
    function claimEarnedWithSig(
        Agreement calldata terms,
        uint256 nonce,
        uint256 deadline,
        bytes calldata signature
    ) external nonReentrantView {
        _claimWithSig(terms, nonce, deadline, signature);
    }

    /// @notice `claimEarned` of a published agreement.
    function claim(uint256 agreementId) external nonReentrantView {
        Agreement memory terms = _publishedTerms(agreementId);
        _requireCaller(terms.seller);
        _claim(terms);
    }

    /// @notice `claimEarnedWithSig` of a published agreement.
    function claimWithSig(uint256 agreementId, uint256 nonce, uint256 deadline, bytes calldata signature)
        external
        nonReentrantView
    {
        _claimWithSig(_publishedTerms(agreementId), nonce, deadline, signature);
    }

    /// @notice The buyer of a final agreement takes back what was not earned. After the window that follows
    /// the expiry this needs nobody else: with no receipt it is the whole deposit, with one it is the rest.
    function withdrawRest(Agreement calldata terms) external nonReentrantView {
        _requireCaller(terms.buyer);
        _withdraw(terms);
    }

    /// @notice `withdrawRest` by the buyer's `BuyerWithdrawIntent`.
    function withdrawRestWithSig(
        Agreement calldata terms,
        uint256 nonce,
        uint256 deadline,
        bytes calldata signature
    ) external nonReentrantView {
        _withdrawWithSig(terms, nonce, deadline, signature);
    }

    /// @notice `withdrawRest` of a published agreement.
    function withdraw(uint256 agreementId) external nonReentrantView {
        Agreement memory terms = _publishedTerms(agreementId);
        _requireCaller(terms.buyer);
        _withdraw(terms);
    }

    /// @notice `withdrawRestWithSig` of a published agreement.
    function withdrawWithSig(uint256 agreementId, uint256 nonce, uint256 deadline, bytes calldata signature)
        external
        nonReentrantView
    {
        _withdrawWithSig(_publishedTerms(agreementId), nonce, deadline, signature);
    }

    /// @notice Send a fee receiver all its fees in one token. Anyone may call it.
    function collectFees(address token, address receiver) external nonReentrantView {
        uint256 amount = feesOwed[token][receiver];
        if (amount == 0) revert NothingDue(0, receiver);
        feesOwed[token][receiver] = 0;
        emit FeesCollected(token, receiver, amount);
        IERC20(token).safeTransfer(receiver, amount);
    }

    /// @notice Several calls to this contract in one transaction, all or none: a relayer's twenty signed
    /// releases, or a party's own receipt, close and claim.
    /// @param calls Calldata of each, as if the caller sent it by itself.
    function batch(bytes[] calldata calls) external {
        for (uint256 i = 0; i < calls.length; ++i) {
            // Only to this contract's own code; every function that moves money guards itself, none is
            // payable, and each call is authorised by itself.
            (bool ok, bytes memory reason) = address(this).delegatecall(calls[i]);
            if (!ok) revert BatchFailed(i, reason);
        }
    }

    // ---------------------------------------------------------------------------------------- reading

    /// @notice The id of an agreement: also the nonce of its EIP-3009 authorization, as `bytes32`.
    function idOf(Agreement memory terms) public pure returns (uint256 id) {
        // keccak256(abi.encode(terms)): in memory, too, a struct of value types is its words in order, and
        // the decoder has refused any with stray bits.
        assembly ("memory-safe") {
            id := keccak256(terms, 448)
        }
    }

    /// @notice The terms that an intent stands for, whose `idOf` is the agreement's id.
    function termsOf(BuyerActivationIntent calldata intent, SettlementTerms calldata extra)
        external
        view
        returns (Agreement memory)
    {
        return _intentTerms(intent, extra, _intentDigest(intent));
    }

    /// @notice The EIP-712 struct hash that an intent's `termsHash` must have.
    function hashSettlementTerms(SettlementTerms calldata extra) public pure returns (bytes32) {
        return keccak256(
            abi.encode(
                SETTLEMENT_TERMS_TYPEHASH,
                extra.receiptSigner,
                extra.arbiter,
                extra.feeReceiver,
                extra.maxFeeBps,
                extra.documentHash
            )
        );
    }

    /// @notice The terms of a published agreement.
    function publishedTerms(uint256 agreementId) external view returns (Agreement memory) {
        return _publishedTerms(agreementId);
    }

    /// @notice Where an agreement stands. All zero when it is not in its lane.
    function statusOf(Agreement calldata terms) external view returns (EscrowStatus memory) {
        return _statusOf(terms);
    }

    /// @notice `statusOf` a published agreement.
    function escrowStatus(uint256 agreementId) external view returns (EscrowStatus memory) {
        return _statusOf(_publishedTerms(agreementId));
    }

    /// @notice Whether a new agreement can take the buyer's lane.
    function isLaneFree(address buyer, uint96 lane) external view returns (bool) {
        return _isFree(_laneOf(buyer, lane).lane, lane);
    }

    // ---------------------------------------------------------------------------- the rules: funding

    function _fundIntent(
        BuyerActivationIntent calldata intent,
        SettlementTerms calldata extra,
        Permit calldata permit,
        bytes32 digest
    ) private returns (uint256 id) {
        Agreement memory terms = _intentTerms(intent, extra, digest);
        _useNonce(intent.buyer, intent.nonce);
        id = _occupyLane(terms);
        _published[id] = terms;
        emit TermsPublished(id, terms);
        Tokens.pullByAllowance(terms.token, terms.buyer, terms.deposit, permit);
    }

    function _intentTerms(
        BuyerActivationIntent calldata intent,
        SettlementTerms calldata extra,
        bytes32 digest
    ) private pure returns (Agreement memory terms) {
        bytes32 actual = hashSettlementTerms(extra);
        if (intent.termsHash != actual) revert TermsMismatch(intent.termsHash, actual);
        _requireMax("expiry", intent.expiry, type(uint40).max);
        _requireMax("challengeWindow", intent.challengeWindowSeconds, MAX_CHALLENGE_WINDOW);
        _requireMax("quantity", intent.quantity, type(uint64).max);
        _requireMax("deposit", intent.depositAmount, type(uint120).max);
        _requireMax("unitPrice", intent.pricePerUnit, type(uint120).max);

        terms.buyer = intent.buyer;
        terms.expiry = uint40(intent.expiry);
        terms.challengeWindow = uint32(intent.challengeWindowSeconds);
        terms.seller = intent.seller;
        terms.maxFeeBps = extra.maxFeeBps;
        terms.token = intent.token;
        terms.quantity = uint64(intent.quantity);
        terms.deposit = uint120(intent.depositAmount);
        terms.unitPrice = uint120(intent.pricePerUnit);
        terms.receiptSigner = extra.receiptSigner;
        terms.arbiter = extra.arbiter;
        terms.feeReceiver = extra.feeReceiver;
        terms.lane = INTENT_LANE | uint96(uint256(digest));
        terms.termsHash = digest;
    }

    function _intentDigest(BuyerActivationIntent calldata intent) private view returns (bytes32) {
        return _digest(activationDomainSeparator(), keccak256(abi.encode(ACTIVATION_TYPEHASH, intent)));
    }

    /// @dev Everything is checked and written before the token is called.
    function _occupyLane(Agreement memory terms) private returns (uint256 id) {
        _requireSound(terms);
        id = idOf(terms);
        Slot storage slot = _laneOf(terms.buyer, terms.lane);
        if (!_isFree(slot.lane, terms.lane)) revert LaneBusy(terms.buyer, terms.lane);
        slot.lane = Lanes.open(id);
        emit Funded(id);
    }

    function _isFree(Lane lane, uint96 number) private pure returns (bool) {
        return Lane.unwrap(lane) == 0 || (lane.isSettled() && number & INTENT_LANE == 0);
    }

    function _requireSound(Agreement memory terms) private view {
        _requireParty("buyer", terms.buyer, terms.token);
        _requireParty("seller", terms.seller, terms.token);
        if (terms.seller == terms.buyer) revert InvalidAddress("seller", terms.seller);
        if (terms.arbiter != address(0)) {
            // A party that judges itself would need no other party.
            _requireParty("arbiter", terms.arbiter, terms.token);
            if (terms.arbiter == terms.buyer || terms.arbiter == terms.seller) {
                revert InvalidAddress("arbiter", terms.arbiter);
            }
        }
        _requireMax("maxFeeBps", terms.maxFeeBps, 10_000);
        if (terms.maxFeeBps != 0) _requireParty("feeReceiver", terms.feeReceiver, terms.token);
        if (terms.token.code.length == 0) revert TokenHasNoCode(terms.token);

        // At most 184 bits, so the product is exact.
        uint256 price;
        unchecked {
            price = uint256(terms.quantity) * terms.unitPrice;
        }
        _requireMin("price", price, 1);
        _requireMin("deposit", terms.deposit, price);
        _requireMax("challengeWindow", terms.challengeWindow, MAX_CHALLENGE_WINDOW);
        if (block.timestamp >= terms.expiry) revert AlreadyExpired(terms.expiry, block.timestamp);
    }

    function _requireParty(bytes32 field, address value, address token) private view {
        if (value == address(0) || value == address(this) || value == token) {
            revert InvalidAddress(field, value);
        }
    }

    function _requireCaller(address required) private view {
        if (msg.sender != required) revert NotAuthorized(msg.sender, required);
    }

    function _requireMin(bytes32 field, uint256 value, uint256 min) private pure {
        if (value < min) revert TooSmall(field, value, min);
    }

    function _requireMax(bytes32 field, uint256 value, uint256 max) private pure {
        if (value > max) revert TooLarge(field, value, max);
    }

    // ---------------------------------------------------------------------------- the rules: earning

    function _submitReceipt(Agreement memory terms, uint256 units, bytes32 proof, bytes calldata signature)
        private
    {
        uint256 id = idOf(terms);
        Lane lane = _findUndecided(terms, id);
        if (terms.receiptSigner == address(0)) revert ReceiptsDisabled(id);
        if (units > terms.quantity) revert OverQuantity(units, terms.quantity);
        bytes32 message = keccak256(abi.encode(RECEIPT_TYPEHASH, id, units, proof));
        _requireSignature(terms.receiptSigner, _digest(settlementDomainSeparator(), message), signature);

        Tally memory tally = _tallyOf(id, lane);
        uint256 amount = units * terms.unitPrice;
        if (amount <= tally.earned) revert ReceiptNotNewer(amount, tally.earned);
        // Within the deposit, which covers the whole quantity.
        tally.earned = uint120(amount);
        _store(terms, id, lane, tally);
        emit ReceiptSubmitted(id, units, amount, proof);
    }

    /// @dev Also when final: until the buyer has withdrawn, the rest is the buyer's to give.
    function _release(Agreement calldata terms, uint256 id, uint256 cumulative) private {
        Slot storage slot = _laneOf(terms.buyer, terms.lane);
        Lane lane = slot.lane;
        if (!lane.holds(id)) revert UnknownAgreement(id);
        uint256 deposit = terms.deposit;
        if (lane.isSettled()) revert AlreadyFinal(id, Status.Settled, 0);
        if (cumulative > deposit) revert AboveDeposit(cumulative, deposit);

        uint256 paid = 0;
        if (cumulative == deposit && !lane.isTallied()) {
            // Nothing was paid before and nothing is left: the lane alone can say it.
            slot.lane = lane.withPhase(Phase.SettledByRelease);
        } else {
            Tally memory tally = _tallyOf(id, lane);
            paid = tally.paid;
            if (tally.withdrawn) revert AlreadyFinal(id, Status.Finalized, 0);
            if (cumulative <= paid) revert BelowPaid(cumulative, paid);
            if (cumulative > tally.earned) tally.earned = uint120(cumulative);
            tally.paid = uint120(cumulative);
            if (cumulative == deposit) lane = lane.withPhase(Phase.Settled);
            slot.lane = lane.withTally();
            _tallies[id] = tally;
        }
        uint256 feeBps = terms.maxFeeBps - lane.feeCutBps();
        _paySeller(id, terms.token, terms.seller, terms.feeReceiver, cumulative - paid, feeBps);
    }

    function _rule(Agreement memory terms, uint256 earned) private {
        uint256 id = idOf(terms);
        Lane lane = _findUndecided(terms, id);
        Tally memory tally = _tallyOf(id, lane);
        if (earned > terms.deposit) revert AboveDeposit(earned, terms.deposit);
        if (earned < tally.paid) revert BelowPaid(earned, tally.paid);
        tally.earned = uint120(earned);
        _store(terms, id, lane.withPhase(Phase.Final), tally);
        emit Finalized(id, terms.arbiter, earned);
    }

    function _lowerFee(Agreement memory terms, uint256 feeBps) private {
        uint256 id = idOf(terms);
        Lane lane = _find(terms.buyer, terms.lane, id);
        if (lane.isSettled()) revert AlreadyFinal(id, Status.Settled, 0);
        uint256 current = _feeBps(terms, lane);
        if (feeBps >= current) revert FeeNotLower(feeBps, current);
        _laneOf(terms.buyer, terms.lane).lane = lane.withFeeCutBps(uint16(terms.maxFeeBps - feeBps));
        emit FeeLowered(id, feeBps);
    }

    // ---------------------------------------------------------------------------- the rules: closing

    function _close(Agreement memory terms, address by) private {
        if (by != terms.buyer && by != terms.seller) revert NotAParty(by, terms.buyer, terms.seller);
        uint256 id = idOf(terms);
        Lane lane = _findUndecided(terms, id);
        uint256 finalAt = _finalAt(terms, lane);
        if (lane.phase() == Phase.Closing) revert AlreadyClosing(id, finalAt);
        // A close never moves the end further away than expiry alone has put it.
        uint256 closesAt = block.timestamp + terms.challengeWindow;
        if (closesAt < finalAt) finalAt = closesAt;
        _laneOf(terms.buyer, terms.lane).lane = lane.withPhase(Phase.Closing).withClosesAt(uint40(finalAt));
        emit CloseInitiated(id, by, finalAt);
    }

    function _closeWithSig(
        Agreement memory terms,
        address signer,
        uint256 nonce,
        uint256 deadline,
        bytes calldata signature
    ) private {
        bytes32 message = keccak256(abi.encode(CLOSE_TYPEHASH, idOf(terms), nonce, deadline));
        _useSettlementSignature(signer, message, nonce, deadline, signature);
        _close(terms, signer);
    }

    function _waive(Agreement memory terms) private {
        uint256 id = idOf(terms);
        Lane lane = _findUndecided(terms, id);
        _laneOf(terms.buyer, terms.lane).lane = lane.withPhase(Phase.Final);
        emit Finalized(id, terms.seller, _tallyOf(id, lane).earned);
    }

    // ---------------------------------------------------------------------------- the rules: leaving

    function _claim(Agreement memory terms) private {
        uint256 id = idOf(terms);
        Lane lane = _findFinal(terms, id);
        Tally memory tally = _tallyOf(id, lane);
        uint256 due = tally.earned - tally.paid;
        if (due == 0) revert NothingDue(id, terms.seller);
        tally.paid = tally.earned;
        bool settled = tally.withdrawn || tally.earned == terms.deposit;
        _store(terms, id, settled ? lane.withPhase(Phase.Settled) : lane, tally);
        _paySeller(id, terms.token, terms.seller, terms.feeReceiver, due, _feeBps(terms, lane));
    }

    function _claimWithSig(Agreement memory terms, uint256 nonce, uint256 deadline, bytes calldata signature)
        private
    {
        bytes32 message = keccak256(abi.encode(CLAIM_TYPEHASH, idOf(terms), nonce, deadline));
        _useSettlementSignature(terms.seller, message, nonce, deadline, signature);
        _claim(terms);
    }

    function _withdraw(Agreement memory terms) private {
        uint256 id = idOf(terms);
        Lane lane = _findFinal(terms, id);
        Tally memory tally = _tallyOf(id, lane);
        uint256 rest = terms.deposit - tally.earned;
        if (rest == 0 || tally.withdrawn) revert NothingDue(id, terms.buyer);
        tally.withdrawn = true;
        bool settled = tally.paid == tally.earned;
        _store(terms, id, settled ? lane.withPhase(Phase.Settled) : lane, tally);
        emit BuyerWithdrew(id, rest);
        IERC20(terms.token).safeTransfer(terms.buyer, rest);
    }

    function _withdrawWithSig(
        Agreement memory terms,
        uint256 nonce,
        uint256 deadline,
        bytes calldata signature
    ) private {
        bytes32 message = keccak256(abi.encode(WITHDRAW_TYPEHASH, idOf(terms), nonce, deadline));
        _useSettlementSignature(terms.buyer, message, nonce, deadline, signature);
        _withdraw(terms);
    }

    /// @dev The fee comes out of the seller's part, rounded down, and is only credited here: its receiver
    /// takes many at once, and one whom the token blocks holds up nobody.
    function _paySeller(
        uint256 id,
        address token,
        address seller,
        address feeReceiver,
        uint256 amount,
        uint256 feeBps
    ) private {
        uint256 fee = amount * feeBps / 10_000;
        if (fee != 0) feesOwed[token][feeReceiver] += fee;
        emit SellerPaid(id, amount - fee, fee);
        IERC20(token).safeTransfer(seller, amount - fee);
    }

    // ---------------------------------------------------------------------------- the rules: storage

    function _laneOf(address buyer, uint96 number) private view returns (Slot storage) {
        return _lanes[uint256(uint160(buyer)) << 96 | number];
    }

    function _find(address buyer, uint96 number, uint256 id) private view returns (Lane lane) {
        lane = _laneOf(buyer, number).lane;
        if (!lane.holds(id)) revert UnknownAgreement(id);
    }

    /// @dev For actions that end when the agreement is final.
    function _findUndecided(Agreement memory terms, uint256 id) private view returns (Lane lane) {
        lane = _find(terms.buyer, terms.lane, id);
        Status status = _status(terms, lane);
        if (status >= Status.Finalized) revert AlreadyFinal(id, status, _finalAt(terms, lane));
    }

    /// @dev For actions that begin when the agreement is final.
    function _findFinal(Agreement memory terms, uint256 id) private view returns (Lane lane) {
        lane = _find(terms.buyer, terms.lane, id);
        Status status = _status(terms, lane);
        if (status == Status.Settled) revert AlreadyFinal(id, status, 0);
        if (status != Status.Finalized) revert NotFinal(id, _finalAt(terms, lane));
    }

    /// @dev An untouched agreement has no tally; reading the lane's bit is cheaper than an empty slot.
    function _tallyOf(uint256 id, Lane lane) private view returns (Tally memory tally) {
        if (lane.isTallied()) tally = _tallies[id];
    }

    function _store(Agreement memory terms, uint256 id, Lane lane, Tally memory tally) private {
        _laneOf(terms.buyer, terms.lane).lane = lane.withTally();
        _tallies[id] = tally;
    }

    function _status(Agreement memory terms, Lane lane) private view returns (Status) {
        Phase phase = lane.phase();
        if (phase >= Phase.Settled) return Status.Settled;
        if (phase == Phase.Final || block.timestamp >= _finalAt(terms, lane)) return Status.Finalized;
        return phase == Phase.Closing ? Status.Closing : Status.Open;
    }

    function _finalAt(Agreement memory terms, Lane lane) private pure returns (uint256) {
        Phase phase = lane.phase();
        if (phase == Phase.Open) return uint256(terms.expiry) + terms.challengeWindow;
        return phase == Phase.Closing ? lane.closesAt() : 0;
    }

    function _feeBps(Agreement memory terms, Lane lane) private pure returns (uint256) {
        return terms.maxFeeBps - lane.feeCutBps();
    }

    /// @dev `idOf` straight from calldata. Stray bits give the id of no agreement, as funding refuses them.
    function _idOf(Agreement calldata terms) private pure returns (uint256 id) {
        assembly ("memory-safe") {
            let words := mload(0x40)
            calldatacopy(words, terms, 448)
            id := keccak256(words, 448)
        }
    }

    function _publishedTerms(uint256 id) private view returns (Agreement memory terms) {
        terms = _published[id];
        if (terms.buyer == address(0)) revert TermsNotPublished(id);
    }

    function _statusOf(Agreement memory terms) private view returns (EscrowStatus memory s) {
        uint256 id = idOf(terms);
        Lane lane = _laneOf(terms.buyer, terms.lane).lane;
        if (!lane.holds(id)) return s;

        Tally memory tally = _tallyOf(id, lane);
        if (lane.phase() == Phase.SettledByRelease) tally = Tally(terms.deposit, terms.deposit, false);
        uint256 rest = terms.deposit - tally.earned;
        s.status = _status(terms, lane);
        s.finalAt = _finalAt(terms, lane);
        s.feeBps = _feeBps(terms, lane);
        s.earned = tally.earned;
        s.claimed = tally.paid;
        s.withdrawn = tally.withdrawn ? rest : 0;
        if (s.status == Status.Finalized) {
            s.claimable = s.earned - s.claimed;
            s.withdrawable = rest - s.withdrawn;
        }
    }
}
