"""``doctor``: each thing that a worker needs, checked by using it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from peewee import PeeweeException, fn
from redis import RedisError

from pipeline import queues
from pipeline.chain.client import ChainClient
from pipeline.database import database, is_sqlite
from pipeline.errors import PipelineError
from pipeline.ledger import chains, control, incidents
from pipeline.limiter import chain_write_limiter
from pipeline.models import Batch, BatchState, DeadLetter, State, Transaction, TransactionState, Write
from pipeline.reconciliation import BACKLOG
from pipeline.redis_client import connect
from pipeline.settings import get_settings, mask_url

#: A clock that is further from Redis's is bad; seconds.
CLOCK_TOLERANCE_SECONDS = 2.0

#: What is due, and not held up by anything that is known, is stuck when it waits for longer; seconds.
STUCK_AFTER_SECONDS = 600.0

#: The message of what is settled has left for longer; seconds.
NOT_JUST_NOW_SECONDS = 5.0

Check = Callable[[], str]


class Bad(Exception):
    """A check that does not hold; the text says what is wrong."""


def examine() -> dict[str, Any]:
    """``{"ok", "checks": [{"name", "ok", "detail"}]}``."""
    checks = [_run(name, check) for name, check in _checks().items()]
    return {"ok": all(check["ok"] for check in checks), "checks": checks}


def _checks() -> dict[str, Check]:
    common: dict[str, Check] = {
        "redis": _redis,
        "database": _database,
        "clock": _clock,
        "stuck rows": _stuck,
        "messages": _messages,
        "lag": _lag,
        "limiter": _limiter,
        "paused": lambda: "yes: resume lets chain writing go on" if control.is_paused() else "no",
    }
    settings = get_settings()
    if settings.blockchain_mock_enabled:
        return {**common, "chain": lambda: "mock mode: nothing is written to any chain"}
    chain = ChainClient.from_settings(settings)
    return {
        **common,
        "settings": _settings,
        "incidents": _incidents,
        "node": lambda: f"block {chain.head().number} at {', '.join(mask_url(u) for u in settings.rpc_urls)}",
        "chain id, contract, issuer role": lambda: _guards(chain),
        "balance": lambda: f"{chain.balance_wei() / 10**18:.6f} ether at {chain.signer_address}",
    }


def _run(name: str, check: Check) -> dict[str, Any]:
    try:
        return {"name": name, "ok": True, "detail": check()}
    except (PipelineError, Bad) as exc:
        return {"name": name, "ok": False, "detail": " ".join(str(exc).split())}
    except (RedisError, PeeweeException) as exc:
        return {"name": name, "ok": False, "detail": f"does not answer: {type(exc).__name__}"}


def _redis() -> str:
    with connect() as client:
        return f"version {client.info('server')['redis_version']}"


def _database() -> str:
    database.execute_sql("SELECT 1")
    return "SQLite" if is_sqlite() else "PostgreSQL"


def _clock() -> str:
    with connect() as client:
        seconds, micros = client.time()
    off = time.time() - (seconds + micros / 1_000_000)
    if abs(off) > CLOCK_TOLERANCE_SECONDS:
        raise Bad(f"{off:.1f} s away from Redis's")
    return f"{off * 1000:.0f} ms away from Redis's"


def _stuck() -> str:
    """Behind a backlog that moves, paused, held or delayed is not stuck; `settle` watches what is sent."""
    since = time.time() - STUCK_AFTER_SECONDS
    queries = {
        "to be verified": _unverified(since),
        "to be written": _unwritten(since),
        "to be confirmed": _unconfirmed(since),
        "submitted with nothing that can be mined": _without_transaction(since),
    }
    found = [f"{count} {name}" for name, query in queries.items() if query and (count := query.count())]
    if found:
        raise Bad(f"for more than {STUCK_AFTER_SECONDS:.0f} s: {', '.join(found)}")
    return "none"


def _unverified(since: float) -> Any:
    """Writes that nobody has begun for so long, but for a backlog of which others were done meanwhile."""
    with connect() as client:
        backlog = queues.load(client, "hash_verify", queues.URGENT).waiting >= BACKLOG
    if backlog and any(_newest_is_since(model, since) for model in (Batch, DeadLetter)):
        return None
    due = Write.due_at.is_null() | (Write.due_at < since)
    return Write.select().where(Write.state == State.QUEUED, Write.updated_at < since, due)


def _unwritten(since: float) -> Any:
    """Batches that were due for so long, while nothing was written at all."""
    if get_settings().blockchain_mock_enabled or control.is_paused() or incidents.holding() is not None:
        return None
    since -= get_settings().rate_limit_window_seconds  # for so long the limiter may hold all
    if _newest_is_since(Transaction, since):
        return None
    return Batch.select().where(Batch.state.in_(BatchState.WAITING), Batch.size > 0, Batch.due_at < since)


def _unconfirmed(since: float) -> Any:
    """Batches that were settled a while ago, or again and again."""
    return Batch.select().where(
        Batch.state == BatchState.SETTLED,
        Batch.submitted_at < since,
        Batch.sent_at < time.time() - NOT_JUST_NOW_SECONDS,
    )


def _without_transaction(since: float) -> Any:
    """Submitted batches of which no transaction is in the chain, nor can be: nobody looks at them again."""
    live = Transaction.lost_at.is_null() & (Transaction.state != TransactionState.REVERTED)
    its_own = Transaction.select().where(Transaction.batch == Batch.id, live)
    return Batch.select().where(
        Batch.state == BatchState.SUBMITTED, Batch.submitted_at < since, ~fn.EXISTS(its_own)
    )


def _newest_is_since(model: Any, since: float) -> bool:
    newest = model.select(model.created_at).order_by(model.id.desc()).tuples().first()
    return newest is not None and newest[0] > since


def _messages() -> str:
    with connect() as client:
        found = queues.unacked(client)
    told = f"{found.living_workers} workers, {found.count} under way"
    if found.count:
        told += f", the oldest sent {found.oldest_seconds:.0f} s ago"
    if found.of_dead and not found.living_workers:
        raise Bad(f"{told}; {found.of_dead} of dead workers, and nobody to take them up")
    return told


def _lag() -> str:
    """How long the next write of each kind has waited."""
    now = time.time()
    due = Write.due_at.is_null() | (Write.due_at < now)
    asked_at = fn.COALESCE(Write.due_at, Write.requested_at, Write.queued_at)
    queued = Write.select(asked_at).where(Write.state == State.QUEUED, due).order_by(Write.id)
    ready = Batch.select(Batch.due_at).where(
        Batch.state.in_(BatchState.WAITING), Batch.size > 0, Batch.due_at < now
    )
    sent = Batch.select(Batch.submitted_at).where(Batch.state == BatchState.SUBMITTED)
    ages: dict[str, Any] = {
        "to be verified": queued,
        "to be written": ready.order_by(Batch.due_at),
        "to be mined": sent.order_by(Batch.submitted_at),
    }
    told = [
        f"{name} for {now - row[0]:.0f} s" for name, query in ages.items() if (row := query.tuples().first())
    ]
    return ", ".join(told) or "nothing waits"


def _limiter() -> str:
    limiter = chain_write_limiter()
    return f"{limiter.taken()} of {limiter.limit} slots taken in the last {limiter.window} s"


def _incidents() -> str:
    found = [f"{incident.kind}: {incident.message}" for incident in incidents.under_way()]
    if found:
        raise Bad("; ".join(found))
    return "none"


def _settings() -> str:
    get_settings().require_chain()
    return "complete"


def _guards(chain: ChainClient) -> str:
    chain.check_guards(genesis_hash=chains.genesis_hash(chain.chain_id))
    return f"chain {chain.chain_id}, registry {chain.contract_address}, {chain.signer_address} may write"
