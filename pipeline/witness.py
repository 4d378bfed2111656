"""What one node says of an anchored receipt, or several at once.

Everything is asked at one block of the node, so that it can not answer with two voices (a
node behind a load balancer may have several).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pipeline.errors import ChainError, NoContract
from pipeline.receipt import Anchoring, Receipt
from pipeline.settings import mask_url
from pipeline.verdict import Verdict

if TYPE_CHECKING:
    from pipeline.chain.blocks import Block
    from pipeline.chain.registry import Registry
    from pipeline.chain.rpc import RpcClient


#: Each node has so long for all that it is asked: a byte now and then keeps any other time-out away.
DEADLINE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class _View:
    """The chain as the node has it: its newest block, and the one at the receipt's height."""

    node: str
    chain_id: int
    head: Block
    same_height: Block | None


def ask_all(urls: Sequence[str], receipt: Receipt) -> list[Verdict]:
    """The verdicts of several nodes, in the order of ``urls``; see `ask`.

    They are asked at once, in threads that no process waits for at its end. A node that has not answered
    after `DEADLINE_SECONDS` is ``unknown``. Raises what one of them raises.
    """
    from pipeline.chain.loading import load_web3

    load_web3()  # here, for it takes a second or two, and no two threads may be at it
    asked = [_begin(url, receipt) for url in urls]
    answered = wait(asked, DEADLINE_SECONDS).done
    return [
        future.result() if future in answered else _too_late(url)
        for url, future in zip(urls, asked, strict=True)
    ]


def _begin(url: str, receipt: Receipt) -> Future[Verdict]:
    """`ask` in a thread of its own. (Those of an executor would keep the process from its end.)"""
    future: Future[Verdict] = Future()

    def run() -> None:
        try:
            future.set_result(ask(url, receipt))
        except BaseException as exc:  # noqa: BLE001 - whoever waits for it raises it
            future.set_exception(exc)

    threading.Thread(target=run, daemon=True).start()
    return future


def _too_late(url: str) -> Verdict:
    return Verdict(
        "unknown", "chain", f"{mask_url(url)} did not answer within {DEADLINE_SECONDS:g} s altogether"
    )


def ask(url: str, receipt: Receipt) -> Verdict:
    """The verdict of the node at ``url`` on a receipt that is sound by itself; never raises for a node.

    The registry's code and the root may be missing only because the node is behind: while its
    head is below the receipt's block, that is ``unknown``.
    """
    from pipeline.chain.registry import Registry
    from pipeline.chain.rpc import RpcClient

    anchoring = receipt.anchoring
    if anchoring is None:
        raise ValueError("a mock receipt has no chain to ask")
    rpc = RpcClient([url])
    name = mask_url(url)
    try:
        view = _look(rpc, name, anchoring)
        if view.chain_id != anchoring.chain_id:
            reason = f"{name} serves chain {view.chain_id}, the receipt is of {anchoring.chain_id}"
            return Verdict("unknown", "chain", reason)
        return _judge(rpc, Registry(rpc, anchoring.contract_address), receipt, anchoring, view)
    except ChainError as exc:
        return Verdict("unknown", "chain", exc.message)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        # An answer in which a part is missing, or is something else than it has to be.
        return Verdict("unknown", "chain", f"{name} gave an answer that can not be read")


def _look(rpc: RpcClient, name: str, anchoring: Anchoring) -> _View:
    from pipeline.chain.blocks import Block, quantity

    chain_id, head, same_height = (
        _checked(result)
        for result in rpc.batch(
            [
                ("eth_chainId", []),
                ("eth_getBlockByNumber", ["latest", False]),
                ("eth_getBlockByNumber", [hex(anchoring.block_number), False]),
            ]
        )
    )
    return _View(
        node=name,
        chain_id=quantity(chain_id),
        head=Block.from_rpc(head),
        same_height=Block.from_rpc(same_height) if same_height else None,
    )


def _judge(
    rpc: RpcClient, registry: Registry, receipt: Receipt, anchoring: Anchoring, view: _View
) -> Verdict:
    from pipeline.chain.contracts import REGISTRY_VERSION

    try:
        version, anchored_by, revoked = _read(rpc, registry, receipt, view.head)
    except NoContract as exc:
        return _missing(anchoring, view, exc.message)
    if version[0] != REGISTRY_VERSION:
        return _missing(anchoring, view, f"the contract at {registry.address} is not a {REGISTRY_VERSION}")
    issuer, anchored_at = anchored_by
    if not anchored_at:
        return _missing(anchoring, view, f"the registry {registry.address} does not have the root")
    if issuer.lower() != anchoring.issuer.lower():
        return Verdict("invalid", "issuer", f"the root was anchored by {issuer}, not by {anchoring.issuer}")
    if revoked[0]:
        return Verdict("revoked", "revocation", f"revoked in the registry {registry.address}")
    return Verdict("valid", reason=_note(anchoring, view, anchored_at))


def _read(rpc: RpcClient, registry: Registry, receipt: Receipt, head: Block) -> list[tuple[Any, ...]]:
    """Version, who anchored the root and when, and whether it is revoked: all at the block ``head``.

    A node that does not show that it has run a call has not told: its `RpcError` is raised.
    """
    from pipeline.chain.registry import was_run
    from pipeline.chain.rpc import RpcError

    calls = [
        ("version", ()),
        ("anchoredBy", (receipt.merkle_root,)),
        ("isRevoked", (receipt.merkle_root, receipt.leaf)),
    ]
    requests = []
    for name, values in calls:
        method, (call, _) = registry.request(name, *values)
        requests.append((method, [call, hex(head.number)]))
    answers = rpc.batch(requests)
    for answer in answers:
        if isinstance(answer, RpcError) and not was_run(answer):
            raise answer
    return [registry.decode(name, answer) for (name, _), answer in zip(calls, answers, strict=True)]


def _missing(anchoring: Anchoring, view: _View, reason: str) -> Verdict:
    """Something is not there, or not there yet."""
    if view.head.number < anchoring.block_number:
        lag = f"{view.node} is at block {view.head.number}, the receipt is of block {anchoring.block_number}"
        return Verdict("unknown", "registry", f"{lag}: {reason}")
    return Verdict("invalid", "registry", reason)


def _note(anchoring: Anchoring, view: _View, anchored_at: int) -> str | None:
    """What is different by now, and does not matter: a reorg may have moved the anchor to another block."""
    notes = []
    if view.same_height and view.same_height.hash != anchoring.block_hash.lower():
        notes.append(f"block {anchoring.block_number} is another one now")
    if anchored_at != anchoring.block_time:
        notes.append(f"anchored at {datetime.fromtimestamp(anchored_at, UTC):%Y-%m-%dT%H:%M:%SZ}")
    return ", ".join(notes) or None


def _checked(answer: Any) -> Any:
    """``answer``, unless it is an error: `RpcError`."""
    if isinstance(answer, ChainError):
        raise answer
    return answer
