"""A clock that moves when it is told to, in place of the one that the pipeline's modules read."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytest

from pipeline.models import Table

BEGIN = 1_800_000_000.0


class Clock:
    """What the pipeline uses of the module ``time``; to sleep moves it."""

    def __init__(self) -> None:
        self.seconds = BEGIN

    def time(self) -> float:
        return self.seconds

    def monotonic(self) -> float:
        return self.seconds

    def perf_counter(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Let all modules of the pipeline that are loaded, and the defaults of the tables, read this one."""
        for name, module in list(sys.modules.items()):
            if name.startswith("pipeline.") and vars(module).get("time") is time:
                patch.setattr(module, "time", self)
        for table in Table.__subclasses__():
            self._install_defaults(table._meta, patch)

    def _install_defaults(self, meta: Any, patch: pytest.MonkeyPatch) -> None:
        for field, default in list(meta.defaults.items()):
            if default is time.time:
                patch.setitem(meta.defaults, field, self.time)
                patch.setitem(meta._default_by_name, field.name, self.time)
                entries = [(n, self.time if n == field.name else d) for n, d in meta._default_callable_list]
                patch.setattr(meta, "_default_callable_list", entries)
