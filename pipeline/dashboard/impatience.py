"""Connections that send nothing, or half a request, are closed: uvicorn itself waits for ever."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

#: A request's head has to be here within so many seconds; its body has `pipeline.dashboard.app.FORM_SECONDS`.
HEAD_SECONDS = 10.0


class ImpatientProtocol(H11Protocol):
    """HTTP/1.1 with a limit on how long nothing may come of a connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Begin to watch it."""
        super().connection_made(transport)
        self._seen: Any = None
        self._watch = self.loop.call_later(HEAD_SECONDS, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop watching."""
        self._watch.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        """Close it when no request is being answered, and none was since the last look."""
        idle = self.cycle is None or self.cycle.response_complete
        if idle and self.cycle is self._seen:
            self.transport.close()
            return
        self._seen = self.cycle
        self._watch = self.loop.call_later(HEAD_SECONDS, self._look)
