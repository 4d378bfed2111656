"""What a page says after an action: a sentence of ours, chosen by a word in the address."""

from __future__ import annotations

import re

#: Somebody chose nothing.
NOTHING = "nothing"

#: What was done, and to how many.
NOTICE = re.compile(NOTHING + r"|(paused|resumed|replayed|discarded)(?:\.([0-9]{1,7}))?")


def notice_of(text: str | None) -> str | None:
    """The sentence; None for what no action of ours says."""
    found = NOTICE.fullmatch(text or "")
    if found is None:
        return None
    what, count = found[1], int(found[2] or 0)
    if what is None:
        return "Nothing was chosen, and nothing done."
    if what in ("paused", "resumed"):
        return f"Chain writing is {what}."
    return f"{count} dead letter{' was' if count == 1 else 's were'} {what}."
