"""Why a job waits, as a sentence for people, and what can be done about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from pipeline import status
from pipeline.database import reading
from pipeline.ledger import control, journal
from pipeline.models import Control, Journal
from pipeline.settings import get_settings

NOTHING_TO_DO = "Nothing to do."
BY_ITSELF = "It goes on by itself once that is mended."


@dataclass(frozen=True, slots=True)
class Why:
    """``sentence`` says what a job waits for, ``action`` what somebody can do."""

    sentence: str
    action: str


@dataclass(frozen=True, slots=True)
class Pause:
    """Who has paused chain writing, and since when; ``actor`` None: nobody has written that down."""

    actor: str | None
    since: float


#: By the reason; those that are an incident's have the details in the incident.
SENTENCES = {
    "funds": Why("The wallet has too little for the fees.", f"Send funds to the signer. {BY_ITSELF}"),
    "fee ceiling": Why(
        "The chain asks for more than BLOCKCHAIN_MAX_FEE_GWEI allows.",
        "Wait until fees fall, or allow more. It goes on by itself.",
    ),
    "issuer role": Why(
        "The signer may not write to the registry: it has no issuer role.",
        f"Let the registry's owner grant the role. {BY_ITSELF}",
    ),
    "wrong chain": Why(
        "The node serves another chain than BLOCKCHAIN_CHAIN_ID.",
        f"Mend BLOCKCHAIN_RPC_URL or BLOCKCHAIN_CHAIN_ID. {BY_ITSELF}",
    ),
    "chain reset": Why(
        "The chain's first block is another one than the ledger knows: the chain was wiped.",
        "Use a new database for the new chain.",
    ),
    "no contract": Why(
        "There is no registry at BLOCKCHAIN_CONTRACT_ADDRESS.",
        f"Deploy one, or mend the address. {BY_ITSELF}",
    ),
    "settings": Why(
        "The worker's settings for the chain are wrong.",
        "The incident names them: mend them, and restart the workers.",
    ),
    "node unreachable": Why(
        "The node does not answer.", f"Look at the node and at BLOCKCHAIN_RPC_URL. {BY_ITSELF}"
    ),
    status.LINGER: Why(
        "Waits for more to share its transaction, for BATCH_LINGER_MS at most.", NOTHING_TO_DO
    ),
    status.IN_NO_BLOCK: Why(
        "Its transaction is signed and stored, and waits for a block.",
        "Nothing to do: it is sent again, and at a higher fee, when it is stuck.",
    ),
}


@reading
def pause() -> Pause | None:
    """What is known of the pause of chain writing; None while there is none."""
    row = Control.get_or_none(Control.name == control.PAUSED)
    if row is None or row.value != "true":
        return None
    mine = Journal.write_id.is_null() & Journal.batch_id.is_null()
    newest = Journal.select(Journal.event, Journal.actor).where(mine, Journal.event == journal.PAUSED)
    by = newest.order_by(Journal.id.desc()).first()
    return Pause(None if by is None else by.actor, row.updated_at)


def explain(
    shown: str, reason: str | None, *, pause: Pause | None = None, error: str | None = None
) -> Why | None:
    """What status ``shown`` with this reason means; None of a completed job: it waits for nothing.

    ``error``: the code of a failed one. Raises `KeyError` for what `pipeline.status` never says.
    """
    if reason is None:
        return _without_reason(shown, error)
    if reason in SENTENCES:
        return SENTENCES[reason]
    if reason in MADE:
        return MADE[reason](pause)
    for prefix, made in PREFIXES.items():
        if reason.startswith(prefix):
            return made(reason.removeprefix(prefix))
    raise KeyError(reason)


def _without_reason(shown: str, error: str | None) -> Why | None:
    return {
        "waiting": Why("Waits for a worker to verify it.", "If this lasts: look whether workers run."),
        "active": Why("Is being worked on.", NOTHING_TO_DO),
        "failed": Why(
            f"Failed: {error or 'see its dead letter'}.", "Mend the cause, then replay it; or discard it."
        ),
        "completed": None,
    }[shown]


def _paused(pause: Pause | None) -> Why:
    by = "" if pause is None or pause.actor is None else f" by {pause.actor}"
    since = "" if pause is None else f" since {_minute(pause.since)}"
    return Why(f"Paused{by}{since}.", "Resume when it may go on; nothing is lost meanwhile.")


def _rate_limit(pause: Pause | None) -> Why:
    settings = get_settings()
    window = settings.rate_limit_window_seconds
    rate = f"{settings.rate_limit_max} chain writes {'a second' if window == 1 else f'in {window} s'}"
    return Why(
        f"Waits for a free slot: at most {rate}, and {settings.blockchain_max_in_flight} in flight.",
        "Nothing to do; RATE_LIMIT_MAX and BLOCKCHAIN_MAX_IN_FLIGHT allow more.",
    )


def _confirmations(numbers: str) -> Why:
    """``3/12``, or ``3/finalized``."""
    seen, wanted = numbers.split("/")
    if wanted == "finalized":
        return Why(f"In a block, with {seen} confirmations: until the node calls it final.", NOTHING_TO_DO)
    return Why(f"In a block, {seen} of {wanted} confirmations.", NOTHING_TO_DO)


def _retry(at: str) -> Why:
    when = _minute(datetime.fromisoformat(at).timestamp(), "seconds")
    return Why(f"Waits for its time: tried at {when}.", "Nothing to do; the timeline has what failed.")


def _minute(at: float, to: str = "minutes") -> str:
    return datetime.fromtimestamp(at, UTC).replace(tzinfo=None).isoformat(" ", to) + " UTC"


#: Reasons whose sentences have facts of the moment in them.
MADE: dict[str, Callable[[Pause | None], Why]] = {status.PAUSED: _paused, status.RATE_LIMIT: _rate_limit}

#: What a reason begins with, and what makes a sentence of the rest.
PREFIXES: dict[str, Callable[[str], Why]] = {status.RETRY_AT: _retry, status.CONFIRMATIONS: _confirmations}
