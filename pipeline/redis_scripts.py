"""Lua scripts that are run for each message: on connections of their own, past redis-py's pool.

What the pool, and the measuring that no one has asked for, cost for each call is twice the round trip.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import redis
from redis.exceptions import ConnectionError as NotConnected
from redis.exceptions import NoScriptError, ResponseError
from redis.exceptions import TimeoutError as NotAnswered


class Scripts:
    """Those of a client; the last connection that was used is the next to be used."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._idle: list[Any] = []

    def register(self, text: Any) -> Script:
        """The script of this ``text``, to be called."""
        return Script(self, self._client.register_script(text))

    def ask(self, *command: Any) -> Any:
        """The answer to a command. Raises what redis-py's connections do, and tries nothing again."""
        connection = self._connected()
        try:
            connection.send_command(*command, check_health=False)
            answer = connection.read_response()
        except ResponseError:
            self._idle.append(connection)
            raise
        except BaseException:
            connection.disconnect()  # the answer may still come: it would be taken for that of the next one
            raise
        self._idle.append(connection)
        return answer

    def close(self) -> None:
        """Close the connections that nobody uses now."""
        while self._idle:
            self._idle.pop().disconnect()

    def _connected(self) -> Any:
        while self._idle:
            connection = self._idle.pop()
            if connection.pid == os.getpid():  # after a fork it is the parent's
                return connection
        pool = self._client.connection_pool
        connection = pool.connection_class(**pool.connection_kwargs)
        connection.connect()
        return connection


class Script:
    """To be called as redis-py's, with ``keys`` and ``args``."""

    def __init__(self, scripts: Scripts, patient: Any) -> None:
        self._scripts = scripts
        #: redis-py's own, which loads the script where it is not known, and tries again.
        self._patient = patient

    def __call__(self, *, keys: Sequence[Any] = (), args: Sequence[Any] = ()) -> Any:
        """Run it; returns what it returns."""
        try:
            return self._scripts.ask("EVALSHA", self._patient.sha, len(keys), *keys, *args)
        except (NoScriptError, NotConnected, NotAnswered):
            return self._patient(keys=keys, args=args)
