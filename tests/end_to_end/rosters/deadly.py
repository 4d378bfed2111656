"""The roster of workers that die of some documents, as a bug in a library's C code makes them."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from pipeline import verification
from pipeline.actors import *  # noqa: F403

_hash = verification.hash_of_text


def hash_of_text(text: str) -> str:
    """The document's hash; of one whose holder is deadly there is none. Both take their time."""
    document: dict[str, Any] = json.loads(text)
    if document.get("holder") == "deadly":
        time.sleep(0.05)
        os._exit(139)
    if document.get("holder") == "unforeseen":
        raise ZeroDivisionError
    time.sleep(0.1)
    return _hash(text)


verification.hash_of_text = hash_of_text
