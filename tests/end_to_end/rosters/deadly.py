"""The roster of workers that die of some documents, as a bug in a library's C code makes them."""

from __future__ import annotations

import os
import time
from typing import Any

from pipeline import verification
from pipeline.actors import *  # noqa: F403

_hash = verification.document_hash


def document_hash(document: dict[str, Any]) -> str:
    """The document's hash; of one whose holder is deadly there is none. Both take their time."""
    if document.get("holder") == "deadly":
        time.sleep(0.05)
        os._exit(139)
    if document.get("holder") == "unforeseen":
        raise ZeroDivisionError
    time.sleep(0.1)
    return _hash(document)


verification.document_hash = document_hash
