"""Lua scripts that are run for each message: on connections of their own, past redis-py's pool.

What the pool, and the measuring that no one has asked for, cost for each call is twice the round trip.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import redis
from redis import RedisError
from redis.exceptions import ConnectionError as NotConnected
from redis.exceptions import NoScriptError, ResponseError

#: Whether a call with these arguments must not be made a second time.
Once = Callable[[Sequence[Any]], bool]


def _never(_arguments: Sequence[Any]) -> bool:
    return False


class Scripts:
    """Those of a client; the last connection that was used is the next to be used."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._idle: list[Any] = []

    def register(self, text: Any, *, once: Once = _never) -> Script:
        """The script of this ``text``, to be called.

        It is called again where the connection breaks, unless ``once`` says that with these arguments the
        next answer has not what was in the one that is lost. Who has waited in vain does not wait again.
        """
        return Script(self, self._client.register_script(text), once)

    def ask(self, *command: Any, surely: bool = False) -> Any:
        """The answer to a command. Raises what redis-py's connections do, and tries nothing again.

        ``surely``: not on a connection that was cut since it was used.
        """
        connection = self._connected(surely)
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
        while (connection := self._unused()) is not None:
            connection.disconnect()

    def _unused(self) -> Any:
        """The last connection that was used, if there is one that nobody uses now."""
        try:
            return self._idle.pop()
        except IndexError:  # another thread has taken it
            return None

    def _connected(self, surely: bool) -> Any:
        while (connection := self._unused()) is not None:
            # After a fork it is the parent's.
            if connection.pid == os.getpid() and not (surely and _is_cut(connection)):
                return connection
        pool = self._client.connection_pool
        connection = pool.connection_class(**pool.connection_kwargs)
        connection.connect()
        return connection


def _is_cut(connection: Any) -> bool:
    try:
        return bool(connection.can_read())
    except (RedisError, OSError):
        return True


class Script:
    """To be called as redis-py's, with ``keys`` and ``args``."""

    def __init__(self, scripts: Scripts, patient: Any, once: Once) -> None:
        self._scripts = scripts
        self._once = once
        #: redis-py's own, which loads the script where it is not known.
        self._patient = patient

    def __call__(self, *, keys: Sequence[Any] = (), args: Sequence[Any] = ()) -> Any:
        """Run it; returns what it returns. Raises `redis.RedisError`."""
        once = self._once(args)
        try:
            return self._scripts.ask("EVALSHA", self._patient.sha, len(keys), *keys, *args, surely=once)
        except NoScriptError:
            return self._patient(keys=keys, args=args)
        except NotConnected:
            if once:
                raise
            return self._patient(keys=keys, args=args)
