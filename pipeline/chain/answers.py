"""What a node's answer to ``eth_sendRawTransaction`` means, in one table.

JSON-RPC has no codes for it: nodes differ in words only. Each row is tested, against anvil and
the embedded node themselves, and with the words in the sources of geth (``core/error.go``,
``core/txpool/errors.go``), Nethermind (``AcceptTxResult.cs``) and Besu (``RpcErrorType.java``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class AnswerKind(StrEnum):
    """What a caller has to do next. Words that nobody knows are `UNKNOWN`: never a reason to give up."""

    #: In the pool now.
    ACCEPTED = "accepted"
    #: These very bytes are in the pool already.
    ALREADY_KNOWN = "already_known"
    #: No answer, half of one, or unknown words: it may be in the pool. Send the same bytes again.
    UNKNOWN = "unknown"
    #: The fee is below what the node takes: same nonce, higher fee.
    REPRICE = "reprice"
    #: Another transaction of that nonce is in the pool: one of ours, or this one has to pay more.
    UNDERPRICED_REPLACEMENT = "underpriced_replacement"
    #: A transaction of that nonce is mined: look for the receipts of all own hashes of it.
    NONCE_USED = "nonce_used"
    #: The node wants the earlier nonces first: send those bytes, then these again.
    GAP = "gap"
    #: The balance does not cover it: keep the nonce, wait for money.
    FUNDS = "funds"
    #: No node takes it as it is.
    FATAL = "fatal"


@dataclass(frozen=True, slots=True)
class SendAnswer:
    """``text`` is what the node said, on one line, without secrets."""

    kind: AnswerKind
    text: str = ""

    @property
    def taken(self) -> bool:
        """Whether the node has the transaction."""
        return self.kind in (AnswerKind.ACCEPTED, AnswerKind.ALREADY_KNOWN)


#: The first row that is found in the text (whatever its case) decides. geth's words are also
#: those of anvil, Erigon and most others; Nethermind's are single words, Besu's sentences.
TABLE: tuple[tuple[str, AnswerKind], ...] = (
    (r"already known|already imported", AnswerKind.ALREADY_KNOWN),
    (r"\bAlreadyKnown\b|\bknown transaction\b", AnswerKind.ALREADY_KNOWN),
    (r"replacement transaction underpriced", AnswerKind.UNDERPRICED_REPLACEMENT),
    # Nethermind, of another transaction with that nonce that was sent through the same node.
    (r"\bOwnNonceAlreadyUsed\b|\bReplacementNotAllowed\b", AnswerKind.UNDERPRICED_REPLACEMENT),
    (r"\bnonce too low\b|\bOldNonce\b", AnswerKind.NONCE_USED),
    (r"\bnonce too high\b|future transaction tries to replace pending|gapped-nonce", AnswerKind.GAP),
    (r"\bNonceGap\b|\bNonceTooFarInFuture\b|nonce too (distant|far)", AnswerKind.GAP),
    (r"insufficient (funds|balance)", AnswerKind.FUNDS),
    (r"\bInsufficientFunds\b|upfront cost exceeds account balance", AnswerKind.FUNDS),
    (r"transaction underpriced|max fee per gas less than block base fee", AnswerKind.REPRICE),
    (r"\bFeeTooLow(ToCompete)?\b|below configured minimum gas price", AnswerKind.REPRICE),
    (r"gas price (below current base fee|too low)", AnswerKind.REPRICE),
    # There is no room in the pool: later.
    (r"txpool is full|account limit exceeded|in-flight transaction limit", AnswerKind.UNKNOWN),
    # The chain, the signature or the bytes are wrong.
    (r"invalid (sender|signature|chain id)|wrong chain ?id|only replay-protected", AnswerKind.FATAL),
    (r"transaction type not supported|failed to decode|empty transaction data", AnswerKind.FATAL),
    (r"\brlp\b|invalid transaction: ", AnswerKind.FATAL),
    # The gas limit, the size or the fees are wrong.
    (r"intrinsic gas|exceeds block gas limit|gas uint64 overflow|oversized data", AnswerKind.FATAL),
    (r"\bGasLimitExceeded\b|max priority fee per gas higher than", AnswerKind.FATAL),
    (r"exceeds the configured cap|fee cap exceeded", AnswerKind.FATAL),
)
_ROWS = tuple((re.compile(pattern, re.IGNORECASE), kind) for pattern, kind in TABLE)


def classify(error: Mapping[str, Any] | None, mask: Callable[[str], str] = str) -> SendAnswer:
    """What the JSON-RPC ``error`` of a send means; None: the node took the transaction.

    ``mask`` takes secrets out of the node's words.
    """
    if not error:
        return SendAnswer(AnswerKind.ACCEPTED)
    text = " ".join(str(error.get("message")).split())
    return SendAnswer(_kind(text), mask(text))


def _kind(text: str) -> AnswerKind:
    return next((kind for pattern, kind in _ROWS if pattern.search(text)), AnswerKind.UNKNOWN)
