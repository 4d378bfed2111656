"""Stored bytes go out, in the order of their nonces, and what the node says is noted."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from pipeline import holding, incidents
from pipeline.chain.answers import AnswerKind, SendAnswer
from pipeline.chain.client import ChainClient
from pipeline.errors import InsufficientFunds, NodeRejected, UntakenTransaction
from pipeline.ledger import nonces, transactions
from pipeline.ledger.transactions import Answer
from pipeline.ledger.under_way import Slot
from pipeline.models import Transaction

logger = logging.getLogger(__name__)


def subject(nonce: Transaction | Slot) -> str:
    """The name under which incidents about a nonce are known."""
    return f"{account(nonce)}:{nonce.nonce}"


def account(nonce: Transaction | Slot) -> str:
    """The name under which incidents about a signer on a chain are known."""
    return incidents.of_signer(nonce.chain_id, nonce.signer)


def send_in_order(chain: ChainClient, stored: Sequence[Transaction]) -> None:
    """Send these for the first time, after the earlier ones of their signer that no node has yet.

    Another process may be about to send some, or have died before it could: twice does no harm.
    """
    send_many(chain, [*nonces.unsent_before(stored[0]), *stored])


def send(chain: ChainClient, stored: Transaction) -> AnswerKind:
    """Send the stored bytes, whether for the first time or again, and note the answer."""
    [kind] = send_many(chain, [stored])
    return kind


def send_many(chain: ChainClient, stored: Sequence[Transaction]) -> list[AnswerKind]:
    """The same with several, in their order: each answer counts for one of them alone."""
    answers = chain.send_many([bytes.fromhex(row.raw_transaction.removeprefix("0x")) for row in stored])
    told = list(zip(stored, answers, strict=True))
    transactions.record_answers(
        [Answer(row.id, f"{answer.kind.value}: {answer.text}"[:500], answer.taken) for row, answer in told]
    )
    for row, answer in told:
        _tell(row, answer)
    # Whatever refuses one for want of money refuses those after it: told once.
    if poor := [one for one in told if one[1].kind is AnswerKind.FUNDS]:
        _no_funds(chain, poor[0][0], poor[0][1].text)
    return [answer.kind for answer in answers]


def _tell(stored: Transaction, answer: SendAnswer) -> None:
    logger.log(
        logging.DEBUG
        if answer.kind is AnswerKind.ACCEPTED
        else logging.INFO,  # the step `written` tells of it
        "transaction sent: %s",
        answer.kind.value,
        extra={"batch_id": stored.batch_id, "transaction_hash": stored.hash, "nonce": stored.nonce},
    )
    if answer.kind is AnswerKind.FATAL:
        error = NodeRejected(f"transaction {stored.hash} (nonce {stored.nonce}): {answer.text}")
        incidents.report(error, subject=account(stored))


def _no_funds(chain: ChainClient, stored: Transaction, text: str) -> None:
    """Holds chain writing, unless it is an earlier key's wallet that is empty."""
    if stored.signer == chain.signer_address:
        error = InsufficientFunds(f"{stored.signer}: the node says: {text}")
        holding.hold(error, signer=stored.signer)
        return
    untaken = UntakenTransaction(f"nonce {stored.nonce} of {stored.signer}, an earlier key: {text}")
    incidents.report(untaken, subject=subject(stored))
