"""A node in this process, where `pipeline.chain.client.ChainClient` stands: pool, blocks, reorgs, faults.

It takes a root as often as it comes, so that one that is written twice is seen.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from pipeline.chain.answers import AnswerKind, SendAnswer
from pipeline.chain.blocks import Block, Heads, Receipt
from pipeline.chain.fees import Fees
from pipeline.chain.transaction import PreparedTransaction
from pipeline.errors import NodeUnreachable
from tests.model.clock import Clock
from tests.model.faults import Boundaries

CHAIN_ID = 31337
SIGNER = "0x" + "01" * 20
REGISTRY = "0x" + "02" * 20
GAS = 60_000
FEE_WEI = 10**9
AFFORDABLE = 10**6
DYNAMIC_FEE = b"\x02"


class Node:
    """Mines when it is told to; one signer, whose nonces have to come in order."""

    chain_id, signer_address, contract_address = CHAIN_ID, SIGNER, REGISTRY

    def __init__(self, clock: Clock, boundaries: Boundaries) -> None:
        self._clock, self._boundaries = clock, boundaries
        self._forks = 0
        self.mend()
        self.pool: dict[int, dict[str, Any]] = {}
        self.chain: list[tuple[Block, list[dict[str, Any]]]] = []
        self.mine(0)

    # --- what the world does to it -------------------------------------------------------

    def mend(self) -> None:
        """No fault any more."""
        self.down = self.loses_reply = self.refuses = False
        self.least_fee = 0

    def mine(self, limit: int) -> None:
        """A block with at most ``limit`` transactions of the pool."""
        taken: list[dict[str, Any]] = []
        while len(taken) < limit and self._mined_nonce() + len(taken) in self.pool:
            taken.append(self.pool.pop(self._mined_nonce() + len(taken)))
        number = len(self.chain)
        name = sha256(f"{self._forks}:{number}".encode()).hexdigest()
        parent = self.chain[-1][0].hash if self.chain else ""
        self.chain.append((Block(number, "0x" + name, int(self._clock.time()), parent), taken))

    def reorg(self, depth: int, *, keep: bool) -> None:
        """Other blocks take the place of the newest; ``keep``: what was in them is in the pool again."""
        depth = min(depth, len(self.chain) - 1)
        self._forks += 1
        removed = [sent for _, sents in self.chain[len(self.chain) - depth :] for sent in sents]
        del self.chain[len(self.chain) - depth :]
        self.pool = {sent["nonce"]: sent for sent in removed} | self.pool if keep else {}
        for _ in range(depth + 1):
            self.mine(0)

    def fall(self, depth: int) -> None:
        """It goes on from an older state, as after a restart: the newest blocks are gone, and its pool."""
        depth = min(depth, len(self.chain) - 1)
        self._forks += 1
        del self.chain[len(self.chain) - depth :]
        self.pool = {}

    def roots(self) -> list[str]:
        """What is anchored in the canonical chain."""
        return [sent["root"] for _, sents in self.chain for sent in sents if sent["root"]]

    # --- what the pipeline asks ----------------------------------------------------------

    def _asked(self) -> None:
        self._boundaries.passed("ask")
        if self.down:
            raise NodeUnreachable("the node is down")

    def _mined_nonce(self) -> int:
        return sum(len(sents) for _, sents in self.chain)

    def _pending_nonce(self) -> int:
        nonce = self._mined_nonce()
        while nonce in self.pool:
            nonce += 1
        return nonce

    reconnects = 0

    def check_guards(self, **_: Any) -> int:
        self._asked()
        return AFFORDABLE

    def genesis_hash(self) -> str:
        self._asked()
        return self.chain[0][0].hash

    def fees(self) -> Fees:
        self._asked()
        return Fees(FEE_WEI, 1)

    def replacement_fees(self, previous: Fees) -> Fees:
        self._asked()
        return Fees(previous.max_fee_wei * 9 // 8 + 1, previous.tip_wei * 9 // 8 + 1)

    def new_head(self, number: int) -> None:
        del number

    def balance_wei(self) -> int:
        self._asked()
        return 10**20

    def transaction_counts(self) -> tuple[int, int]:
        self._asked()
        return self._mined_nonce(), self._pending_nonce()

    def prepare_filler(self, nonce: int, fees: Fees) -> PreparedTransaction:
        return _signed(None, nonce, fees)

    def prepare_anchor(self, root: bytes, nonce: int, fees: Fees, **_: Any) -> PreparedTransaction:
        return _signed("0x" + root.hex(), nonce, fees)

    def send_many(self, raws: Sequence[bytes]) -> list[SendAnswer]:
        """Like the real one: never raises for what a node says, or that none answers.

        A process that dies meanwhile has sent some of them.
        """
        return [self._send(raw) for raw in raws]

    def _send(self, raw: bytes) -> SendAnswer:
        self._boundaries.passed("send")
        if self.down:
            return SendAnswer(AnswerKind.UNKNOWN, "no answer")
        answer = self._take(json.loads(raw[1:]) | {"hash": _hash(raw)})
        self._boundaries.passed("sent")
        return SendAnswer(AnswerKind.UNKNOWN, "the reply was lost") if self.loses_reply else answer

    def _take(self, sent: dict[str, Any]) -> SendAnswer:
        there = self.pool.get(sent["nonce"])
        if sent["nonce"] < self._mined_nonce():
            return SendAnswer(AnswerKind.NONCE_USED, "nonce too low")
        if self.refuses:
            return SendAnswer(AnswerKind.UNKNOWN, "txpool is full")
        if sent["fee"] < self.least_fee:
            return SendAnswer(AnswerKind.REPRICE, "max fee per gas less than block base fee")
        if there is not None and there["hash"] == sent["hash"]:
            return SendAnswer(AnswerKind.ALREADY_KNOWN, "already known")
        if there is not None and sent["fee"] * 8 < there["fee"] * 9:
            return SendAnswer(AnswerKind.UNDERPRICED_REPLACEMENT, "replacement transaction underpriced")
        self.pool[sent["nonce"]] = sent
        return SendAnswer(AnswerKind.ACCEPTED)

    def client_version(self) -> str:
        return ""

    def is_syncing(self) -> bool:
        return False

    def heads(self, signer: str | None = None) -> Heads:
        del signer
        self._asked()
        return Heads(self.chain[-1][0], None, self._mined_nonce(), self._pending_nonce())

    def is_foreign(self, signer: str, nonce: int, hashes: Sequence[str]) -> bool:
        del signer
        return self._mined_nonce() > nonce and not any(self.knows(hashes).values())

    def blocks(self, numbers: Sequence[int]) -> dict[int, Block | None]:
        self._asked()
        return {n: self.chain[n][0] if n < len(self.chain) else None for n in numbers}

    def block_receipts(self, numbers: Sequence[int]) -> dict[int, list[Receipt] | None]:
        self._asked()
        return {n: [_receipt(self.chain[n][0], sent) for sent in self.chain[n][1]] for n in numbers}

    def knows(self, hashes: Sequence[str]) -> dict[str, bool]:
        found = self.receipts(hashes)
        pool = {sent["hash"] for sent in self.pool.values()}
        return {hash_: hash_ in pool or found[hash_] is not None for hash_ in hashes}

    def receipts(self, hashes: Sequence[str]) -> dict[str, Receipt | None]:
        self._asked()
        mined = {sent["hash"]: _receipt(block, sent) for block, sents in self.chain for sent in sents}
        return {hash_: mined.get(hash_) for hash_ in hashes}

    def receipts_and_blocks(
        self, hashes: Sequence[str], numbers: Sequence[int]
    ) -> tuple[dict[str, Receipt | None], dict[int, Block | None]]:
        return self.receipts(hashes), self.blocks(numbers)


def _hash(raw: bytes) -> str:
    return "0x" + sha256(raw).hexdigest()


def _signed(root: str | None, nonce: int, fees: Fees) -> PreparedTransaction:
    body = json.dumps({"root": root, "nonce": nonce, "fee": fees.max_fee_wei})
    raw = DYNAMIC_FEE + body.encode()
    return PreparedTransaction(raw, _hash(raw), nonce, GAS, fees.max_fee_wei, fees.tip_wei)


def _receipt(block: Block, sent: dict[str, Any]) -> Receipt:
    return Receipt(sent["hash"], block.number, block.hash, 1, GAS, sent["fee"], None)
