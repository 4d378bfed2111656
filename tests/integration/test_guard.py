"""Promise: whatever way the owner of an embedded server dies, nothing is left running after 10 s.

The owner is a process of its own here, so that it can be killed. What it starts inherits an
environment variable with a value that is unique to the test: so every process is found, also
one that has changed its name or its process group.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from pipeline.embedded.guard import GuardedProcess

MARK = "GUARD_TEST_MARK"
ROOT = Path(__file__).parents[2]
#: What the promise allows.
LIMIT_SECONDS = 10.0
#: The hardest server to end: it ignores SIGTERM, and so does its child in another session.
STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen(["sleep", "300"], start_new_session=True)
print("up", flush=True)
time.sleep(300)
"""
#: A usual server, with a child.
OBEDIENT = """
import subprocess, time
subprocess.Popen(["sleep", "300"])
print("up", flush=True)
time.sleep(300)
"""
#: How every owner begins. Only then is the mark set: on what the owner starts, not on itself. The
#: signals are as in a shell's foreground, also where the tests run under nohup.
START = f"""
import os, signal, sys, time
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
from pipeline.embedded.guard import GuardedProcess
directory = Path(sys.argv[1])
os.environ["{MARK}"] = sys.argv[3]
print("starting", flush=True)
"""
#: One server, the usual owner.
OWNER = """
server = GuardedProcess.start([sys.executable, "-c", sys.argv[2]], log=directory / "log")
while "up" not in (directory / "log").read_text():
    time.sleep(0.01)
print("started", server.pid, flush=True)
time.sleep(300)
"""
#: Two servers: neither guard may keep the other's pipe open.
OWNER_OF_TWO = """
servers = [GuardedProcess.start(["sleep", "300"], log=directory / "log") for _ in range(2)]
print("started", flush=True)
time.sleep(300)
"""
#: A child that is forked without exec, as multiprocessing does, and outlives the owner.
OWNER_WITH_FORK = """
server = GuardedProcess.start(["sleep", "300"], log=directory / "log")
if os.fork() == 0:
    time.sleep(300)
print("started", flush=True)
time.sleep(300)
"""
#: The real servers.
OWNER_OF_SERVERS = """
from pipeline.embedded.evm import EvmServer
from pipeline.embedded.postgres import PostgresServer
from pipeline.embedded.valkey import ValkeyServer
for server in (ValkeyServer, PostgresServer, EvmServer):
    server(directory / server.name).start()
print("started", flush=True)
time.sleep(300)
"""


@pytest.fixture
def mark() -> Iterator[str]:
    """The value that marks this test's processes; whatever is left of them is killed."""
    value = uuid.uuid4().hex
    yield value
    for process in marked(value):
        process.kill()


@pytest.fixture
def start_owner(
    mark: str, new_directory: Callable[[str], Path]
) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start an owner in a process group of its own, as a shell starts a foreground job."""
    owners = []

    def start(script: str, server: str = STUBBORN) -> subprocess.Popen[str]:
        directory = new_directory("guard")
        directory.chmod(0o711)
        owner = subprocess.Popen(
            [sys.executable, "-c", START + script, directory, server, mark],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            process_group=0,
        )
        owners.append(owner)
        return owner

    yield start
    for owner in owners:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(owner.pid, signal.SIGKILL)
        owner.communicate()


def marked(mark: str) -> list[psutil.Process]:
    """The running processes that carry the mark. A zombie has no environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark:
                found.append(process)
        except psutil.Error:
            continue
    return found


def assert_all_gone(mark: str, limit_seconds: float = LIMIT_SECONDS) -> None:
    """Wait until no marked process is left, for as long as the promise allows."""
    deadline = time.monotonic() + limit_seconds
    while left := marked(mark):
        assert time.monotonic() < deadline, f"left running: {left}"
        time.sleep(0.05)


def read_until(owner: subprocess.Popen[str], word: str) -> list[str]:
    """The words of the line in which the owner says that it has got that far."""
    assert owner.stdout is not None
    for line in owner.stdout:
        if line.startswith(word):
            return line.split()
    raise AssertionError(f"the owner ended without saying {word}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGHUP])
def test_dies_with_its_owner(
    start_owner: Callable[..., subprocess.Popen[str]], mark: str, number: signal.Signals
) -> None:
    """A running server, even one that ignores SIGTERM, does not outlive its owner."""
    owner = start_owner(OWNER)
    server = psutil.Process(int(read_until(owner, "started")[1]))
    assert server in marked(mark)
    os.kill(owner.pid, number)
    owner.wait(5)
    assert_all_gone(mark)


@pytest.mark.parametrize("delay_ms", [0, 5, 10, 15, 20, 30, 40, 60, 100])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_owner_dies_during_the_start(
    start_owner: Callable[..., subprocess.Popen[str]],
    mark: str,
    number: signal.Signals,
    delay_ms: int,
) -> None:
    """There is no moment of the start at which the owner's death leaves something behind."""
    owner = start_owner(OWNER, OBEDIENT)
    read_until(owner, "starting")
    time.sleep(delay_ms / 1000)  # not a wait for anything: it picks the moment
    os.kill(owner.pid, number)
    owner.wait(5)
    assert_all_gone(mark)


def test_ctrl_c_ends_all_of_it(start_owner: Callable[..., subprocess.Popen[str]], mark: str) -> None:
    """Ctrl-C goes to the whole foreground process group; the guard still does its work."""
    owner = start_owner(OWNER)
    read_until(owner, "started")
    os.killpg(owner.pid, signal.SIGINT)
    owner.wait(5)
    assert_all_gone(mark)


def test_guard_obeys_its_pipe_alone(start_owner: Callable[..., subprocess.Popen[str]], mark: str) -> None:
    """SIGINT, SIGTERM and SIGHUP to the guard itself do not part it from its server."""
    owner = start_owner(OWNER)
    server = psutil.Process(int(read_until(owner, "started")[1]))
    guard = server.parent()
    assert guard is not None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        guard.send_signal(number)
    assert guard.is_running()
    assert server.is_running()
    owner.kill()
    assert_all_gone(mark)


@pytest.mark.parametrize("script", [OWNER_OF_TWO, OWNER_WITH_FORK], ids=["two servers", "a forked child"])
def test_nothing_else_holds_the_pipe(
    start_owner: Callable[..., subprocess.Popen[str]], mark: str, script: str
) -> None:
    """Neither a sibling's guard nor a child forked without exec keeps a server alive."""
    owner = start_owner(script)
    read_until(owner, "started")
    owner.kill()
    assert_all_gone(mark)


@pytest.mark.parametrize("delay_ms", [100, 400, 800, 1500, None])
def test_real_servers_die_with_their_owner(
    start_owner: Callable[..., subprocess.Popen[str]], mark: str, delay_ms: int | None
) -> None:
    """Valkey, PostgreSQL (initdb included) and the EVM, killed while they start and when they run."""
    owner = start_owner(OWNER_OF_SERVERS)
    read_until(owner, "starting" if delay_ms is not None else "started")
    time.sleep((delay_ms or 0) / 1000)  # not a wait for anything: it picks the moment
    owner.kill()
    assert_all_gone(mark)


def test_stop_gives_it_time_and_then_ends_it(tmp_path: Path, mark: str) -> None:
    """`stop` returns when nothing is left, after the timeout at the latest, with the exit code."""
    environment = os.environ | {MARK: mark}
    log = tmp_path / "log"
    obedient = GuardedProcess.start(["sleep", "300"], log=log, env=environment)
    assert obedient.stop(timeout_seconds=5) == 128 + signal.SIGTERM
    stubborn = GuardedProcess.start([sys.executable, "-c", STUBBORN], log=log, env=environment)
    while "up" not in log.read_text():
        assert stubborn.poll() is None
        time.sleep(0.01)
    assert stubborn.stop(timeout_seconds=0.3) == 128 + signal.SIGKILL
    assert marked(mark) == []
    assert stubborn.stop() == 128 + signal.SIGKILL, "more calls do nothing"


def test_kill_ends_all_at_once(tmp_path: Path, mark: str) -> None:
    """`kill` asks nobody."""
    environment = os.environ | {MARK: mark}
    process = GuardedProcess.start(["sleep", "300"], log=tmp_path / "log", env=environment)
    assert process.poll() is None
    assert process.kill() == 128 + signal.SIGKILL
    assert marked(mark) == []


def test_server_that_ends_takes_its_children_along(tmp_path: Path, mark: str) -> None:
    """What a crashed server leaves is ended too, and the exit code is the server's."""
    script = "sleep 300 & setsid sleep 300 & exit 3"
    environment = os.environ | {MARK: mark}
    process = GuardedProcess.start(["sh", "-c", script], log=tmp_path / "log", env=environment)
    assert process.wait(5) == 3
    assert marked(mark) == []
    assert process.stop() == 3


def test_command_that_is_not_there(tmp_path: Path) -> None:
    """It is an error of the start, and the log says which."""
    with pytest.raises(OSError, match="no-such-program can not be started"):
        GuardedProcess.start(["no-such-program"], log=tmp_path / "log")
    assert "No such file" in (tmp_path / "log").read_text()
