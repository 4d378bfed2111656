"""Promise: each thing a node may say to a sent transaction leads to the right reaction, and words
that nobody knows never to giving up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.chain.answers import AnswerKind, classify

# Words copied from the nodes' sources, with examples of what they fill in.
GETH = {
    "already known": AnswerKind.ALREADY_KNOWN,
    "nonce too low: next nonce 7, tx nonce 5": AnswerKind.NONCE_USED,
    "nonce too low": AnswerKind.NONCE_USED,
    "nonce too high": AnswerKind.GAP,
    "future transaction tries to replace pending": AnswerKind.GAP,
    "gapped-nonce tx from delegated accounts": AnswerKind.GAP,
    "replacement transaction underpriced": AnswerKind.UNDERPRICED_REPLACEMENT,
    "transaction underpriced": AnswerKind.REPRICE,
    "transaction underpriced: gas tip cap 0, minimum needed 1": AnswerKind.REPRICE,
    "max fee per gas less than block base fee: maxFeePerGas: 1, baseFee: 7": AnswerKind.REPRICE,
    "insufficient funds for gas * price + value: balance 0, tx cost 21000, overshot 21000": AnswerKind.FUNDS,
    "insufficient funds for transfer": AnswerKind.FUNDS,
    "txpool is full": AnswerKind.UNKNOWN,
    "account limit exceeded": AnswerKind.UNKNOWN,
    "in-flight transaction limit reached for delegated accounts": AnswerKind.UNKNOWN,
    "invalid sender": AnswerKind.FATAL,
    "invalid chain id for signer: have 5 want 1": AnswerKind.FATAL,
    "only replay-protected (EIP-155) transactions allowed over RPC": AnswerKind.FATAL,
    "transaction type not supported": AnswerKind.FATAL,
    "rlp: expected input list for types.DynamicFeeTx": AnswerKind.FATAL,
    "intrinsic gas too low: gas 20000, minimum needed 21000": AnswerKind.FATAL,
    "exceeds block gas limit": AnswerKind.FATAL,
    "gas uint64 overflow": AnswerKind.FATAL,
    "oversized data: transaction size 131273, limit 131072": AnswerKind.FATAL,
    "max priority fee per gas higher than max fee per gas: address 0xf39F": AnswerKind.FATAL,
    "tx fee (2.10 ether) exceeds the configured cap (1.00 ether)": AnswerKind.FATAL,
}
NETHERMIND = {
    "AlreadyKnown": AnswerKind.ALREADY_KNOWN,
    "OwnNonceAlreadyUsed": AnswerKind.UNDERPRICED_REPLACEMENT,
    "ReplacementNotAllowed": AnswerKind.UNDERPRICED_REPLACEMENT,
    "OldNonce, Current nonce: 7, nonce of rejected tx: 5": AnswerKind.NONCE_USED,
    "NonceGap, Future nonce. Expected nonce: 7": AnswerKind.GAP,
    "FeeTooLow, MaxFeePerGas too low. MaxFeePerGas: 1, BaseFee: 7": AnswerKind.REPRICE,
    "FeeTooLowToCompete": AnswerKind.REPRICE,
    "InsufficientFunds, Account balance: 0, cumulative cost: 21000": AnswerKind.FUNDS,
    "GasLimitExceeded, Gas limit: 30000000, gas limit of rejected tx: 1000000000": AnswerKind.FATAL,
}
BESU = {
    "Known transaction": AnswerKind.ALREADY_KNOWN,
    "Nonce too low": AnswerKind.NONCE_USED,
    "Nonce too distant from current sender nonce": AnswerKind.GAP,
    "Replacement transaction underpriced": AnswerKind.UNDERPRICED_REPLACEMENT,
    "Gas price below configured minimum gas price": AnswerKind.REPRICE,
    "Gas price below current base fee": AnswerKind.REPRICE,
    "Upfront cost exceeds account balance": AnswerKind.FUNDS,
    "Transaction fee cap exceeded": AnswerKind.FATAL,
    "Intrinsic gas exceeds gas limit": AnswerKind.FATAL,
    "Transaction gas limit exceeds block gas limit": AnswerKind.FATAL,
    "Invalid signature": AnswerKind.FATAL,
    "Wrong chainId": AnswerKind.FATAL,
}


@pytest.mark.parametrize(("text", "kind"), [*GETH.items(), *NETHERMIND.items(), *BESU.items()])
def test_each_text_has_its_reaction(text: str, kind: AnswerKind) -> None:
    """What geth, Nethermind and Besu say; their codes say nothing."""
    assert classify({"code": -32000, "message": text}).kind is kind


def test_no_error_means_accepted() -> None:
    """A result without error: the node has the transaction."""
    answer = classify(None)
    assert answer.kind is AnswerKind.ACCEPTED
    assert answer.taken


@pytest.mark.parametrize("message", ["internal error", "", None, "request timed out", 5, {"a": "b"}])
def test_unknown_words_are_unknown(message: object) -> None:
    """It may be in the pool: the same bytes go out again, nothing is given up."""
    answer = classify({"code": -32603, "message": message})
    assert answer.kind is AnswerKind.UNKNOWN
    assert not answer.taken


@given(st.text())
def test_no_text_breaks_it(text: str) -> None:
    """Whatever a node says, there is an answer, on one line."""
    assert "\n" not in classify({"message": text}).text


def test_secrets_are_masked_in_the_nodes_words() -> None:
    """Some providers repeat the project's token."""
    answer = classify(
        {"message": "bad token hunter2hunter2"}, lambda text: text.replace("hunter2hunter2", "***")
    )
    assert answer.text == "bad token ***"
