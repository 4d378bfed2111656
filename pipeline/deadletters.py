"""Dead letters as operators see them: list, show, replay, discard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pipeline.actors  # noqa: F401 - messages are sent by the actors' names
from pipeline import replaying, status, timeline
from pipeline.errors import CredentialErased
from pipeline.ledger import dead_letters, erasure, journal
from pipeline.models import DeadLetter
from pipeline.status import iso
from pipeline.timeline import person


def listed() -> list[dict[str, Any]]:
    """The open ones, oldest first."""
    return [_as_json(letter) for letter in dead_letters.open_letters()]


def shown(name: str) -> dict[str, Any]:
    """One, by its id or its credential's, with its job. Raises `UnknownDeadLetter`."""
    letter: Any = dead_letters.find(name)
    return {
        **_as_json(letter),
        "job": status.status_of_credential(letter.credential_id),
        "timeline": timeline.of(letter.write_id),
    }


def replay(names: Sequence[str], *, actor: str | None = None) -> int:
    """Queue these again; returns how many were failed. Raises `UnknownDeadLetter`, `CredentialErased`.

    ``actor``: who does it; by default whoever runs this process.
    """
    letters: list[Any] = [dead_letters.find(name) for name in names]
    _refuse_erased(letters)
    return _replay([letter.write_id for letter in letters], actor)


def replay_all(*, actor: str | None = None) -> int:
    """Queue all open ones again; returns how many that were."""
    letters: list[Any] = dead_letters.open_letters()
    return _replay([letter.write_id for letter in letters], actor)


def replay_open(letter_ids: Sequence[int], *, actor: str) -> int:
    """The same for those of these that are still open. Raises `CredentialErased`."""
    letters: list[Any] = dead_letters.open_among(letter_ids)
    _refuse_erased(letters)
    return _replay([letter.write_id for letter in letters], actor)


def _refuse_erased(letters: Sequence[Any]) -> None:
    """A reorg may let one fail that was erased before."""
    erased = erasure.among([letter.write_id for letter in letters])
    for letter in letters:
        if letter.write_id in erased:
            raise CredentialErased(
                f"credential {letter.credential_id!r}: it was erased, and job {letter.job_id} can not go out "
                "again without its salt; its hash can be queued anew, which is another job"
            )


def _replay(write_ids: Sequence[int], actor: str | None) -> int:
    return replaying.replay(write_ids, resolution=journal.REPLAYED, actor=actor or person())


def discard(name: str, *, actor: str | None = None) -> bool:
    """Resolve one without a replay. Raises `UnknownDeadLetter`."""
    return dead_letters.discard(int(dead_letters.find(name).id), actor=actor or person())


def discard_open(letter_ids: Sequence[int], *, actor: str) -> int:
    """Resolve those of these that are still open; returns how many that were."""
    return sum(dead_letters.discard(letter_id, actor=actor) for letter_id in letter_ids)


def _as_json(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": str(letter.id),
        "credential_id": letter.credential_id,
        "job_id": letter.job_id,
        "stage": letter.stage,
        "error": letter.error,
        "message": letter.message,
        "attempts": letter.attempts,
        "permanent": bool(letter.permanent),
        "created_at": iso(letter.created_at),
    }
