"""A server process that can not outlive its owner.

The owner holds the write end of a pipe; the other end is the stdin of a small guard
process, which runs the server in a process group of its own. However the owner ends,
SIGKILL included, the kernel closes the pipe: the guard reads end of file and ends the server.
``atexit`` does not run after SIGKILL, and ``PR_SET_PDEATHSIG`` fires when the *thread*
that started the child ends.

This file is both sides. The guard runs it as a script, in isolated mode and without
site-packages, so it may import nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

#: How long a server may take to end by itself once its owner is gone.
ORPHAN_GRACE_SECONDS = 4.0
#: How long the kernel may take to remove what was sent SIGKILL.
REAP_SECONDS = 4.0
#: After a SIGKILL to the guard's server: how often to look whether all of it is gone.
POLL_SECONDS = 0.01
#: The guard obeys the pipe alone.
IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
#: prctl(2): orphaned descendants become children of this process instead of init's.
PR_SET_CHILD_SUBREAPER = 36

#: Write ends of the pipes. A child that the owner forks (without exec) must not keep a
#: server alive, so it closes them.
_held: set[int] = set()


def _close_in_fork() -> None:
    for fd in _held:
        with contextlib.suppress(OSError):
            os.close(fd)
    _held.clear()


os.register_at_fork(after_in_child=_close_in_fork)


class GuardedProcess:
    """A process group with a guard. Make one with `start`; `stop` it, or leave the ``with``."""

    def __init__(self, guard: subprocess.Popen[bytes], control: int, pid: int) -> None:
        self._guard = guard
        self._control = control
        #: The server's process id, and the id of its process group.
        self.pid = pid

    @classmethod
    def start(
        cls,
        cmd: Sequence[str | Path],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> Self:
        """Run ``cmd`` with its output appended to the file ``log``.

        ``env`` is the whole environment (default: the owner's), ``stop_signal`` what asks
        the process to end. Raises `OSError` when it can not be started.
        """
        reading, control = os.pipe()  # neither end is inherited through an exec
        _held.add(control)
        try:
            guard = _spawn_guard(cmd, reading, log, env, cwd, stop_signal)
            pid = _read_pid(guard, cmd[0], log)
        except BaseException:
            _close(control)
            raise
        finally:
            os.close(reading)
        return cls(guard, control, pid)

    @property
    def guard_pid(self) -> int:
        """The guard's process id."""
        return self._guard.pid

    def poll(self) -> int | None:
        """The exit code, 128 + n after signal n, once all of it has ended; None before."""
        return self._guard.poll()

    def wait(self, timeout_seconds: float | None = None) -> int:
        """Wait until all of it has ended. Raises `subprocess.TimeoutExpired`."""
        return self._guard.wait(timeout_seconds)

    def stop(self, timeout_seconds: float = 10.0) -> int:
        """Ask it to end, and end it by force after the timeout. Returns the exit code.

        When this returns, no process of the group is left. More calls do nothing.
        """
        return self._order(f"{timeout_seconds}\n")

    def kill(self) -> int:
        """SIGKILL the whole process group, and wait until nothing of it is left."""
        return self._order("0\n")

    def _order(self, order: str) -> int:
        if self._control >= 0:
            with contextlib.suppress(BrokenPipeError):  # it has ended by itself
                os.write(self._control, order.encode())
            self._guard.wait()
            _close(self._control)
            self._control = -1
        return self._guard.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _spawn_guard(
    cmd: Sequence[str | Path],
    reading: int,
    log: Path,
    env: Mapping[str, str] | None,
    cwd: Path | None,
    stop_signal: signal.Signals,
) -> subprocess.Popen[bytes]:
    guard = [sys.executable, "-I", "-S", __file__, str(int(stop_signal))]
    with log.open("ab") as output:
        # A session of its own: Ctrl-C goes to the whole foreground group, not to the guard.
        return subprocess.Popen(
            [*guard, *map(str, cmd)],
            stdin=reading,
            stdout=subprocess.PIPE,
            stderr=output,
            env=env,
            cwd=cwd,
            start_new_session=True,
        )


def _read_pid(guard: subprocess.Popen[bytes], program: str | Path, log: Path) -> int:
    """The server's process id, which the guard reports on its stdout."""
    line = b""
    if guard.stdout is not None:
        with guard.stdout as report:
            line = report.readline()
    if not line.strip():
        guard.wait()
        raise OSError(f"{program} can not be started; see {log}")
    return int(line)


def _close(control: int) -> None:
    _held.discard(control)
    os.close(control)


# ── The guard's side ──────────────────────────────────────────────────────────────────────


def main(arguments: Sequence[str]) -> int:
    """Run the command in ``arguments[1:]``, stopped with signal ``arguments[0]``."""
    stop_signal, cmd = int(arguments[0]), list(arguments[1:])
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    wake = _wake_on_child_exit()
    _become_subreaper()
    try:
        pid = _spawn_server(cmd)
    except OSError as exc:
        print(f"guard: {cmd[0]}: {exc.strerror}", file=sys.stderr)
        return 127
    with contextlib.suppress(BrokenPipeError):
        os.write(1, b"%d\n" % pid)
    code = _await_end(pid, stop_signal, wake)
    code = _sweep(pid, code)
    return code if code >= 0 else 128 - code


def _wake_on_child_exit() -> int:
    """A file descriptor that becomes readable when a child ends."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    return reading


def _become_subreaper() -> None:
    """Let Linux hand orphaned descendants to us, so that we see when the last has ended."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _spawn_server(cmd: list[str]) -> int:
    return os.posix_spawnp(
        cmd[0],
        cmd,
        os.environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0), (os.POSIX_SPAWN_DUP2, 2, 1)],
        setpgroup=0,
        setsigmask=(),
        setsigdef=[*IGNORED, signal.SIGPIPE, signal.SIGXFSZ],  # Python ignores those two
    )


def _await_end(pid: int, stop_signal: int, wake: int) -> int | None:
    """The exit code of the server's first process, or None when its grace is over.

    Only that process is sent the stop signal: it knows how to end its children, and
    Dramatiq's workers take a second SIGTERM for "now".
    """
    deadline: float | None = None  # none: nobody wants it to end yet
    watched = [0, wake]
    while (code := _exit_code(pid)) is None:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        if left == 0.0:
            return None
        ready, _, _ = select.select(watched, [], [], left)
        if wake in ready:
            os.read(wake, 512)
        if 0 in ready:
            order = os.read(0, 64).split()
            if not order:
                watched.remove(0)
            grace_seconds = float(order[-1]) if order else ORPHAN_GRACE_SECONDS
            if deadline is None and grace_seconds:
                os.kill(pid, stop_signal)
            ends_at = time.monotonic() + grace_seconds
            deadline = ends_at if deadline is None else min(deadline, ends_at)
    return code


def _exit_code(pid: int) -> int | None:
    """Its exit code, -n after signal n; None while it runs."""
    reaped, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if reaped else None


def _sweep(pid: int, code: int | None) -> int:
    """SIGKILL what is left of the group and of its descendants; the first process's exit code."""
    deadline = time.monotonic() + REAP_SECONDS
    while time.monotonic() < deadline:
        in_group = _kill_group(pid)
        try:
            child, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            if not in_group:
                break
            child = 0
        if child == pid:
            code = os.waitstatus_to_exitcode(status)
        if not child:
            _kill_adopted()
            time.sleep(POLL_SECONDS)  # orphans come from others' forks, without a signal
    return -signal.SIGKILL if code is None else code


def _kill_group(pid: int) -> bool:
    """Whether there was a process left in the group. (macOS: EPERM for one of zombies only.)"""
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _kill_adopted() -> None:
    """SIGKILL our children. On Linux that includes descendants in other process groups."""
    with contextlib.suppress(OSError):
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
        for child in children.split():
            os.kill(int(child), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
