"""What is in a signed transaction, as far as a pool looks at it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

#: geth's ``txpool.pricebump``.
PRICE_BUMP_PERCENT = 10


class Sent(NamedTuple):
    """A raw transaction that came by. ``max_fee`` and ``tip`` in wei (a gas price is both).

    ``answer``: "accepted", or the words of the refusal, the node's or those of strict replacements, also
    where the client was told something else, or nothing; None: no node was asked, or none answered.
    ``at``: when it came by, in seconds of the monotonic clock.
    """

    hash: str
    nonce: int
    max_fee: int
    tip: int
    answer: str | None
    at: float


def decode(raw: str) -> tuple[str, Sent] | None:
    """Sender (checksummed) and content of a signed transaction, in hex; None for bytes that are none."""
    import rlp
    from eth_account import Account
    from eth_keys.exceptions import BadSignature, ValidationError
    from eth_utils.crypto import keccak

    try:
        data = bytes.fromhex(raw.removeprefix("0x"))
        nonce, tip, max_fee = _numbers(data, rlp.decode(data if data[0] >= 0xC0 else data[1:]))
        sender = Account.recover_transaction(raw)
    except (rlp.DecodingError, BadSignature, ValidationError, ValueError, IndexError, TypeError):
        return None
    return sender, Sent("0x" + keccak(data).hex(), nonce, max_fee, tip, None, time.monotonic())


def _numbers(data: bytes, fields: Sequence[bytes]) -> tuple[int, int, int]:
    """Nonce, tip and fee cap: legacy (a list), EIP-2930 (type 1) or EIP-1559 and its successors."""
    if data[0] >= 0xC0:
        nonce, tip, max_fee = fields[0], fields[1], fields[1]
    elif data[0] == 1:
        nonce, tip, max_fee = fields[1], fields[2], fields[2]
    else:
        nonce, tip, max_fee = fields[1], fields[2], fields[3]
    return int.from_bytes(nonce), int.from_bytes(tip), int.from_bytes(max_fee)


def pays_more(new: Sent, old: Sent) -> bool:
    """Whether geth takes it as a replacement (``core/txpool/legacypool/list.go``)."""
    pairs = ((new.max_fee, old.max_fee), (new.tip, old.tip))
    return all(fee > before and fee >= before * (100 + PRICE_BUMP_PERCENT) // 100 for fee, before in pairs)
