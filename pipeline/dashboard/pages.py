"""What people see: one function for each page."""

from __future__ import annotations

from starlette.responses import Response

from pipeline import status
from pipeline.dashboard import words
from pipeline.dashboard.data import audit as acts
from pipeline.dashboard.data import batches as batch_rows
from pipeline.dashboard.data import credential as credentials
from pipeline.dashboard.data import jobs as job_rows
from pipeline.dashboard.data import letters
from pipeline.dashboard.data import pulse as heart
from pipeline.dashboard.data import search as finding
from pipeline.dashboard.data import signer as signing
from pipeline.dashboard.visit import NotFound, Visit, page
from pipeline.errors import UnknownCredential, UnknownDeadLetter
from pipeline.ledger import dead_letters as ledger_letters
from pipeline.settings import get_settings

#: How many batches the overview shows.
NEWEST = 6

#: The headings of what a search has found.
FOUND = {
    "credential": "The credential of this id",
    "job": "The job of this id",
    "data hash": "Of this data hash",
    "transaction": "In this transaction",
    "batch root": "Under this Merkle root",
    "credential prefix": "Credentials whose ids begin so",
}


def overview(visit: Visit) -> Response:
    """All at a glance."""
    pulse = heart.pulse()
    counts = status.counts()
    open_letters = sum(count.count for count in letters.counts())
    return page(
        visit,
        "overview.html",
        counts=counts,
        letters=open_letters,
        pulse=pulse,
        word=words.about(pulse, counts, open_letters),
        beats=words.beats(pulse),
        batches=batch_rows.page(limit=NEWEST).rows,
        signers=signing.signers(),
    )


def jobs(visit: Visit) -> Response:
    """The jobs of one state, or all."""
    state = visit.asked("state")
    if state is not None and state not in status.LISTS:
        raise NotFound(f"There is no state {state!r}.")
    found = job_rows.page(state, before=visit.asked("before"), after=visit.asked("after"))
    return page(visit, "jobs.html", jobs=found, state=state, counts=status.counts())


def search(visit: Visit) -> Response:
    """By id, hash, transaction or root."""
    text = (visit.asked("q") or "").strip()
    groups = finding.search(text) if text else ()
    return page(visit, "search.html", text=text, groups=groups, titles=FOUND)


def credential(visit: Visit) -> Response:
    """One credential: what became of it, and why it waits."""
    credential_id = visit.asked("id") or ""
    try:
        found = credentials.detail(credential_id, job_id=visit.asked("job"))
    except UnknownCredential as exc:
        raise NotFound(exc.message) from exc
    except LookupError as exc:
        raise NotFound(str(exc)) from exc
    newest = found.status["job_id"] == found.job.job_id
    return page(
        visit,
        "credential.html",
        job=found.status if newest else status.status_of_job(found.job.job_id),
        jobs=found.jobs,
        timeline=found.timeline,
        why=found.why,
        batch=found.batch,
        letter_id=_letter_of(credential_id, found.job.job_id),
    )


def _letter_of(credential_id: str, job_id: str) -> int | None:
    """The open dead letter of this job."""
    try:
        letter = ledger_letters.find(credential_id)
    except UnknownDeadLetter:
        return None
    return int(letter.id) if letter.job_id == job_id else None


def batches(visit: Visit) -> Response:
    """What was written together."""
    found = batch_rows.page(before=visit.asked("before"), after=visit.asked("after"))
    return page(visit, "batches.html", batches=found)


def batch(visit: Visit) -> Response:
    """One batch, its transactions and its credentials."""
    batch_id = visit.request.path_params["batch_id"]
    if not batch_id.isdecimal() or len(batch_id) > 19:  # more digits than a row's id has
        raise NotFound("There is no such batch.")
    try:
        found = batch_rows.detail(int(batch_id), before=visit.asked("before"), after=visit.asked("after"))
    except LookupError as exc:
        raise NotFound(f"There is no batch {batch_id}.") from exc
    return page(
        visit, "batch.html", batch=found.batch, transactions=found.transactions, members=found.members
    )


def signer(visit: Visit) -> Response:
    """Who signs, and for how long the funds last."""
    mock = get_settings().blockchain_mock_enabled
    return page(visit, "signer.html", signers=signing.signers(), mock=mock)


def dead_letters(visit: Visit) -> Response:
    """What failed for good."""
    stage, error = visit.asked("stage"), visit.asked("error")
    before, after = visit.asked("before"), visit.asked("after")
    if "\0" in f"{stage}{error}":  # no database has it, and PostgreSQL takes none to look for
        raise NotFound("There is no such stage or error.")
    found = letters.page(stage=stage, error=error, before=before, after=after)
    return page(visit, "dead_letters.html", letters=found, kinds=letters.counts(), stage=stage, error=error)


def audit(visit: Visit) -> Response:
    """Who did what."""
    found = acts.page(before=visit.asked("before"), after=visit.asked("after"))
    return page(visit, "audit.html", entries=found)


ROUTES = {
    "/": overview,
    "/jobs": jobs,
    "/search": search,
    "/credential": credential,
    "/batches": batches,
    "/batches/{batch_id}": batch,
    "/signer": signer,
    "/dead-letters": dead_letters,
    "/audit": audit,
}
