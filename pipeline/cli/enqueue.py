"""``enqueue FILE.jsonl``: all lines are checked first; then all are stored, or none."""

from __future__ import annotations

import sys
from codecs import BOM_UTF8
from collections.abc import Iterable
from typing import IO, Any

from rich.console import Console
from rich.progress import Progress

from pipeline.credentials import store_and_queue
from pipeline.errors import ConflictingWrite, PipelineError
from pipeline.intake import CredentialRecord, credential_id_in
from pipeline.ledger import credentials
from pipeline.settings import get_settings

#: Checked lines with their numbers, and what is wrong with the others.
Good = list[tuple[int, CredentialRecord]]
Invalid = list[dict[str, Any]]


def enqueue_file(file: IO[bytes], *, skip_invalid: bool) -> dict[str, Any]:
    """The report of `interface.md`; with an invalid line nothing is stored unless ``skip_invalid``.

    A line is invalid too while a write of other content is pending for its credential. Raises
    `ConflictingWrite` when such a one comes up meanwhile; then nothing is stored.
    """
    with Progress(console=Console(file=sys.stderr), disable=not sys.stderr.isatty()) as progress:
        lines = file.readlines()
        good, invalid = _check(progress.track(lines, description="checking"))
        good, invalid = _without_conflicts(good, invalid)
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


def _check(lines: Iterable[bytes]) -> tuple[Good, Invalid]:
    good: Good = []
    invalid: Invalid = []
    first: dict[str, CredentialRecord] = {}
    digest_check = get_settings().cid_digest_check
    for number, line in enumerate(lines, start=1):
        line = line.removeprefix(BOM_UTF8) if number == 1 else line
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


def _without_conflicts(good: Good, invalid: Invalid) -> tuple[Good, Invalid]:
    pending = credentials.conflicts([record for _, record in good])
    refused = [
        {
            "line": number,
            "credential_id": record.credential_id,
            "error": pending[record.credential_id].message,
        }
        for number, record in good
        if record.credential_id in pending
    ]
    kept = [(number, record) for number, record in good if record.credential_id not in pending]
    return kept, sorted(invalid + refused, key=lambda fault: int(fault["line"]))


def _refuse_contradiction(first: CredentialRecord, record: CredentialRecord) -> None:
    if (first.data_hash, first.ipfs_cid) != (record.data_hash, record.ipfs_cid):
        raise ConflictingWrite(
            f"credential {record.credential_id!r}: an earlier line has another hash or CID for it"
        )
