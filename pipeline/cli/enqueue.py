"""``enqueue FILE.jsonl``: all lines are checked first; then all are stored, or none."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import IO, Any

from rich.console import Console
from rich.progress import Progress

from pipeline.credentials import store_and_queue
from pipeline.errors import ConflictingWrite, PipelineError
from pipeline.intake import CredentialRecord, credential_id_in
from pipeline.settings import get_settings


def enqueue_file(file: IO[bytes], *, skip_invalid: bool) -> dict[str, Any]:
    """The report of `interface.md`; with an invalid line nothing is stored unless ``skip_invalid``.

    Raises `ConflictingWrite` when a write of other content is pending; then nothing is stored.
    """
    with Progress(console=Console(file=sys.stderr), disable=not sys.stderr.isatty()) as progress:
        lines = file.readlines()
        good, invalid = _check(progress.track(lines, description="checking"))
        storing = progress.add_task("storing", total=len(good))
        records = [record for _, record in good]
        queued = [] if invalid and not skip_invalid else store_and_queue(records)
        progress.update(storing, completed=len(queued))
    jobs = [
        {"line": number, "credential_id": record.credential_id, "job_id": write.job_id}
        for (number, record), write in zip(good, queued, strict=False)
    ]
    return {
        "queued": len(queued),
        "duplicates": sum(write.duplicate for write in queued),
        "jobs": jobs,
        "invalid": invalid,
    }


def _check(lines: Iterable[bytes]) -> tuple[list[tuple[int, CredentialRecord]], list[dict[str, Any]]]:
    good: list[tuple[int, CredentialRecord]] = []
    invalid: list[dict[str, Any]] = []
    first: dict[str, CredentialRecord] = {}
    digest_check = get_settings().cid_digest_check
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = CredentialRecord.from_line(line.strip(), cid_digest_check=digest_check)
            _refuse_contradiction(first.setdefault(record.credential_id, record), record)
        except PipelineError as exc:
            fault = {"line": number, "credential_id": credential_id_in(line), "error": exc.message}
            invalid.append(fault)
            continue
        good.append((number, record))
    return good, invalid


def _refuse_contradiction(first: CredentialRecord, record: CredentialRecord) -> None:
    if (first.data_hash, first.ipfs_cid) != (record.data_hash, record.ipfs_cid):
        raise ConflictingWrite(
            f"credential {record.credential_id!r}: an earlier line has another hash or CID for it"
        )
