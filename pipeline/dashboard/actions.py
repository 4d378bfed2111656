"""What operators may change. Each has its line in the audit table, with their name."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.responses import RedirectResponse, Response

from pipeline import deadletters, pausing
from pipeline.dashboard.log_in import path_of_ours
from pipeline.dashboard.notices import NOTHING
from pipeline.dashboard.visit import Visit
from pipeline.errors import InvalidInput

#: As many at once: what a form of `guard.MAX_BODY_BYTES` holds.
MAX_IDS = 2000


def pause(visit: Visit) -> Response:
    """Stop chain writing."""
    pausing.pause(_name(visit))
    return _back(visit, "paused")


def resume(visit: Visit) -> Response:
    """Let chain writing go on."""
    pausing.resume(_name(visit))
    return _back(visit, "resumed")


def replay(visit: Visit) -> Response:
    """Queue the chosen dead letters again, or all; what somebody else was faster with is left out."""
    if visit.form.get("all"):
        count = deadletters.replay_all(actor=_name(visit))
    else:
        ids = _ids(visit)
        if not ids:
            return _back(visit, NOTHING)
        count = deadletters.replay_open(ids, actor=_name(visit))
    return _back(visit, f"replayed.{count}")


def discard(visit: Visit) -> Response:
    """Take the chosen dead letters off the list; their credentials stay failed."""
    ids = _ids(visit)
    if not ids:
        return _back(visit, NOTHING)
    count = deadletters.discard_open(ids, actor=_name(visit))
    return _back(visit, f"discarded.{count}")


ROUTES = {
    "/actions/pause": pause,
    "/actions/resume": resume,
    "/actions/replay": replay,
    "/actions/discard": discard,
}


def _name(visit: Visit) -> str:
    assert visit.visitor is not None  # noqa: S101 -- see app.Entry.post
    return visit.visitor.name


def _ids(visit: Visit) -> list[int]:
    ids = visit.form.get("id[]", [])
    if len(ids) > MAX_IDS or not all(str(id_).isdecimal() and len(id_) < 19 for id_ in ids):
        raise InvalidInput("these are no ids of dead letters")
    return [int(id_) for id_ in ids]


def _back(visit: Visit, notice: str) -> Response:
    """The page that the form was on, which says what was done."""
    parts = urlsplit(path_of_ours(visit.form.get("next")))
    query = [(key, value) for key, value in parse_qsl(parts.query) if key != "notice"]
    return RedirectResponse(f"{parts.path}?{urlencode([*query, ('notice', notice)])}", 303)
