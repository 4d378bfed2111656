"""Importing web3 and eth_account, which takes a second or two, without what it does to the process.

py_ecc, which eth_account imports, raises Python's recursion limit to 100,000. Deeply nested JSON
would then overflow the stack and kill the process, in place of a RecursionError.
"""

from __future__ import annotations

import sys
import threading

_lock = threading.Lock()


def load_web3() -> None:
    """Import web3, with all that belongs to it, and leave the recursion limit as it was."""
    with _lock:
        limit = sys.getrecursionlimit()
        try:
            import web3  # noqa: F401 - for the import's sake
        finally:
            sys.setrecursionlimit(limit)
