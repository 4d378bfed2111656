"""The command line as a real process, and how it ends."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

from tests.issuer import document

Environment = Callable[..., dict[str, str]]


class Ended:
    """How a command ended."""

    def __init__(self, run: subprocess.CompletedProcess[str]) -> None:
        self.code, self.out, self.err = run.returncode, run.stdout, run.stderr
        assert "Traceback" not in self.err, self.err

    @property
    def json(self) -> Any:
        """Standard output, which is one JSON document."""
        return json.loads(self.out)

    @property
    def complaint(self) -> str:
        """The last line of standard error."""
        return self.err.strip().splitlines()[-1]


Run = Callable[..., Ended]


def line(number: int, **more: object) -> str:
    """A line of a JSONL file."""
    return json.dumps({"credential_id": f"c{number}", "document": document(number), **more}) + "\n"
