"""Promise: a script that is called past redis-py's pool answers as one that is not, whatever happens."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import pytest
import redis
from redis import ResponseError

from pipeline.embedded.valkey import ValkeyServer
from pipeline.redis_scripts import Scripts
from tests.waiting import until

#: Returns what it is given.
ECHO = "return {KEYS[1], ARGV[1]}"


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    """A client with a pool of its own."""
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def scripts(client: redis.Redis) -> Iterator[Scripts]:
    """Those of the client."""
    scripts = Scripts(client)
    yield scripts
    scripts.close()


def test_the_connection_stays(scripts: Scripts) -> None:
    """What is asked after another is asked on the same one, also after an error that Redis has told."""
    first = scripts.ask("CLIENT", "ID")
    with pytest.raises(ResponseError):
        scripts.ask("NOTHING")
    assert scripts.ask("CLIENT", "ID") == first


def test_redis_has_forgotten_the_script(client: redis.Redis, scripts: Scripts) -> None:
    """Or has never heard of it."""
    echo = scripts.register(ECHO)
    for number in range(2):
        assert echo(keys=["key"], args=[number]) == [b"key", str(number).encode()]
        client.script_flush()


def test_the_connection_is_cut(client: redis.Redis, scripts: Scripts) -> None:
    """Nobody notices."""
    echo = scripts.register(ECHO)
    echo(keys=["key"], args=["before"])
    client.client_kill_filter(_id=str(scripts.ask("CLIENT", "ID")))
    assert echo(keys=["key"], args=["after"]) == [b"key", b"after"]


def test_one_that_is_not_to_be_run_twice(client: redis.Redis, scripts: Scripts) -> None:
    """A connection that was cut before it is sent is not used."""
    count = scripts.register("return redis.call('INCR', KEYS[1])", once=lambda args: args == ["once"])
    assert count(keys=["count"], args=["once"]) == 1
    client.client_kill_filter(_id=str(scripts.ask("CLIENT", "ID")))
    assert count(keys=["count"], args=["once"]) == 2


def test_a_server_that_does_not_answer_is_not_asked_again(start_valkey: Callable[..., ValkeyServer]) -> None:
    """Who has waited once has waited long enough; what was asked is done, and once."""
    server = start_valkey()
    with redis.Redis.from_url(server.url, socket_timeout=0.5) as client:
        scripts = Scripts(client)
        count = scripts.register("return redis.call('INCR', KEYS[1])")
        assert count(keys=["count"]) == 1
        os.kill(server.pid, signal.SIGSTOP)
        try:
            with pytest.raises(redis.TimeoutError):
                count(keys=["count"])
        finally:
            os.kill(server.pid, signal.SIGCONT)
        until(lambda: client.get("count") != b"1", seconds=10, what="it is done")
        assert count(keys=["count"]) == 3
        scripts.close()


def test_the_parents_connection(scripts: Scripts) -> None:
    """After a fork it is not used: both would read from it."""
    parents = scripts.ask("CLIENT", "ID")
    [connection] = scripts._idle
    connection.pid += 1
    assert scripts.ask("CLIENT", "ID") != parents


def test_closed(client: redis.Redis, scripts: Scripts) -> None:
    """No connection is left, and the next call opens one."""
    mine = scripts.ask("CLIENT", "ID")
    scripts.close()
    assert str(mine) not in {one["id"] for one in client.client_list()}
    assert scripts.ask("ECHO", "again") == b"again"
