"""One sweep over everything that waits for the chain, by one process at a time."""

from __future__ import annotations

import logging
import time

from pipeline import holding, incidents, messages
from pipeline.chain.client import chain_client
from pipeline.errors import ChainError, ChainReset, NodeUnreachable
from pipeline.ledger import chains, control, finality, under_way
from pipeline.ledger import incidents as ledger
from pipeline.ledger.leases import held
from pipeline.metrics import catalogue, recorder
from pipeline.ready import is_any_ready
from pipeline.settings import get_settings
from pipeline.settlement import funds, healing, outcomes, pace, watch
from pipeline.settlement.view import View

logger = logging.getLogger(__name__)

#: A sweep that died holds up the next for no longer: less than its process holds the ticker's lease, so that
#: who takes that over sweeps at once.
LEASE_SECONDS = 5.0

#: Operators are told of a node that gives no usable answer for longer.
UNREACHABLE_SECONDS = 300.0

#: How often, in seconds, the newest final block is looked at while nothing else is to do.
IDLE_LOOK_SECONDS = 15.0

_last_look = 0.0


def settle(*, by_writer: bool = False) -> bool:
    """One sweep, or False while another process has one under way; next to nothing when nothing waits.

    ``by_writer``: who calls it writes what is ready itself, and needs no message for it.
    """
    settings = get_settings()
    if settings.blockchain_mock_enabled or settings.blockchain_chain_id is None:
        control.note_time(control.LAST_SETTLE)
        return True
    with held("settle", seconds=LEASE_SECONDS) as mine:
        if mine:
            try:
                _told(settings.blockchain_chain_id)
                if not by_writer and is_any_ready():  # who has asked for the last one may be gone
                    messages.write("normal")
                control.note_time(control.LAST_SETTLE)
            finally:
                incidents.alert()  # last of all: Sentry may take its time
    return mine


def _told(chain_id: int) -> None:
    """A sweep; that it can not be made for long is told of."""
    try:
        asked = _sweep(chain_id)
    except ChainError as exc:
        error = NodeUnreachable(exc.message)
        incidents.report(error, subject=str(chain_id), alert_after_seconds=UNREACHABLE_SECONDS)
        raise
    if asked and ledger.subjects_of(NodeUnreachable.__name__):
        ledger.end(NodeUnreachable.__name__, str(chain_id))


def _sweep(chain_id: int) -> bool:
    """Whether a node was asked."""
    global _last_look
    on_hold = ledger.holding() is not None
    watched = finality.watched(chain_id)
    idle = not (on_hold or watched or under_way.is_any_unsettled(chain_id))
    if idle and time.monotonic() - _last_look < IDLE_LOOK_SECONDS:
        return False
    known = chains.genesis_hash(chain_id)
    if known is None and not on_hold:
        return False
    _last_look = time.monotonic()
    chain = chain_client()
    if on_hold:
        holding.review(chain)
    if known is not None:
        with recorder.timed(catalogue.STAGE_DURATION, stage="settle"):
            _look(chain_id, known, watched)
        funds.look(chain)
    return True


def _look(chain_id: int, genesis_hash: str, watched: list[finality.Place]) -> None:
    chain = chain_client()
    heads = chain.heads()
    found = chain.genesis_hash()
    if found != genesis_hash:
        holding.hold(ChainReset(chain_id, genesis_hash, found))
        return
    # Read after the head: whatever is in its block was stored before.
    slots = under_way.unsettled(chain_id)
    view = View.of(chain, chain_id, heads, slots, [*watched, *finality.newest_final(chain_id, 1)])
    watch.look(view, watched)
    outcomes.look(slots, view)
    healing.heal(view)
    chains.mark_seen(chain_id, heads.head.number, heads.head.hash, heads.head.timestamp)
    pace.saw(heads.head)
    if pace.is_next_due() and under_way.is_any_unsettled(chain_id):
        pace.ask_for_the_next()
