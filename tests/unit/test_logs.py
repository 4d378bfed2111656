"""Logs are one line a record, in two formats, and hold neither a secret nor a forged line."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.logs import (
    ConsoleFormatter,
    JsonFormatter,
    SecretMask,
    StderrHandler,
    configure_logging,
    escape,
)
from pipeline.settings import Settings

KEY = "5f3c" * 16


def settings_of(**changes: Any) -> Settings:
    """Settings from nothing but ``changes``."""
    return Settings(_env_file=None, **changes)


def record_of(message: str, *args: Any, **extra: Any) -> logging.LogRecord:
    """A record as a logger makes it."""
    logger = logging.Logger("pipeline.test")
    return logger.makeRecord(logger.name, logging.WARNING, __file__, 1, message, args, None, extra=extra)


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, afterwards as it was."""
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    yield logger
    logger.handlers[:] = handlers
    logger.setLevel(level)


def test_console_shows_time_level_logger_message_and_fields() -> None:
    """A person reads the text first and the ids after it, always in the same order."""
    record = record_of("written in %d s", 2, attempt=2, credential_id="d-1", error="no answer", empty=None)
    record.created = 0.5
    line = ConsoleFormatter(SecretMask()).format(record)
    assert line == (
        "1970-01-01T00:00:00.500Z WARNING  pipeline.test written in 2 s"
        ' credential_id=d-1 attempt=2 error="no answer"'
    )


def test_passwords_in_a_query_are_masked() -> None:
    """libpq and redis-py take them there as well."""
    settings = settings_of(
        database_url="postgresql://db/x?user=u&password=s3cret-a%21&sslpassword=s3cret-b",
        redis_url="redis://cache:1/0?password=s3cret-c",
    )
    assert SecretMask.of(settings)("s3cret-a! s3cret-b s3cret-c db") == "*** *** *** db"


def test_statements_are_not_told(root: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    """At DEBUG either: their parameters are whole documents."""
    configure_logging(settings_of(log_level="DEBUG"))
    logging.getLogger("pipeline.test").debug("told")
    logging.getLogger("peewee").debug(("INSERT …", ["a document"]))
    shown = capsys.readouterr().err
    assert "told" in shown
    assert "a document" not in shown


def test_json_is_one_object_a_line() -> None:
    """A machine finds the ids under their names, with numbers as numbers."""
    line = JsonFormatter(SecretMask()).format(record_of("a\nb", attempt=2, job_id="j", ratio=float("nan")))
    assert "\n" not in line
    shown = json.loads(line)
    assert shown["message"] == "a\nb"
    assert shown["level"] == "WARNING"
    assert (shown["attempt"], shown["job_id"], shown["ratio"]) == (2, "j", "nan")


def test_a_field_can_not_replace_what_the_record_says() -> None:
    """``extra={"level": …}`` does not make an error look like a note."""
    assert json.loads(JsonFormatter(SecretMask()).format(record_of("x", level="INFO")))["level"] == "WARNING"


@pytest.mark.parametrize("make", [ConsoleFormatter, JsonFormatter])
def test_nothing_forges_a_line_or_moves_the_cursor(make: type[logging.Formatter]) -> None:
    """Newlines, ANSI, NUL, C1 and reading-direction marks come out escaped, wherever they came in."""
    evil = "x\r\n2026 ERROR forged\x1b[31m\x00\x7f\x85\u2028\u202e"
    record = record_of(evil + " %s", evil, credential_id=evil, **{"od\nd": evil})
    line = make(SecretMask()).format(record)  # type: ignore[call-arg]
    assert all(char.isprintable() for char in line)


def test_a_traceback_is_set_in_and_escaped() -> None:
    """A newline in an exception's text starts no line that looks like a record."""
    try:
        raise ValueError("first\n1970-01-01T00:00:00Z ERROR forged\x1b[0m")
    except ValueError:
        record = record_of("failed")
        record.exc_info = sys.exc_info()
    first, *rest = ConsoleFormatter(SecretMask()).format(record).split("\n")
    assert first.endswith("failed")
    assert rest
    assert all(line.startswith("    | ") and line.isprintable() for line in rest)
    assert "ValueError" in json.loads(JsonFormatter(SecretMask()).format(record))["traceback"]


@pytest.mark.parametrize("make", [ConsoleFormatter, JsonFormatter])
def test_secrets_are_masked_in_text_fields_and_tracebacks(
    make: type[logging.Formatter], tmp_path: Path
) -> None:
    """The configured secrets do not get into a line by any way a record has."""
    (tmp_path / "key").write_text("0x" + "ab" * 32 + "\n")
    settings = settings_of(
        blockchain_rpc_url="https://rpc.example/v3/token-12345,https://user-name:pass-word@two.example?apikey=query-token",
        database_url="postgresql://app:db%40secret@db/credentials",
        redis_password='red"is',
        blockchain_private_key="0x" + KEY,
        blockchain_private_key_file=tmp_path / "key",
        sentry_dsn="https://dsn-public-key@sentry.example/1",
    )
    secrets = ["token-12345", "user-name", "pass-word", "query-token", "db%40secret", "db@secret", 'red"is']
    secrets += [KEY, KEY.upper(), "ab" * 32, "dsn-public-key", "not-configured"]
    said = " ".join(secrets[:-1]) + " redis://:not-configured@host"
    try:
        raise ValueError(said)
    except ValueError as exc:
        record = record_of("%s", said, error=exc, others=[said])
        record.exc_info = sys.exc_info()
    line = make(SecretMask.of(settings)).format(record)  # type: ignore[call-arg]
    for secret in secrets:
        assert secret not in line
        assert json.dumps(secret)[1:-1] not in line


def test_short_parts_are_left_alone() -> None:
    """Masking ``v3`` or ``db`` would garble every text and hide nothing."""
    mask = SecretMask.of(settings_of(blockchain_rpc_url="https://rpc.example/v3", redis_password="db"))
    assert mask("v3 of the db") == "v3 of the db"
    assert SecretMask()("unchanged") == "unchanged"


def test_basic_configs_handler_is_replaced_and_others_stay(root: logging.Logger) -> None:
    """Dramatiq's and periodiq's handler becomes ours; a test's or a file's does not."""
    foreign = logging.NullHandler()
    root.handlers[:] = [logging.StreamHandler(sys.stderr), foreign]
    configure_logging(settings_of(log_level="warning"))
    configure_logging(settings_of(log_level="debug"))
    assert [type(handler) for handler in root.handlers] == [logging.NullHandler, StderrHandler]
    assert root.level == logging.DEBUG


def test_lines_go_to_the_present_stderr(root: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output stays free for ``--json``."""
    configure_logging(settings_of(log_format="json"))
    logging.getLogger("pipeline").info("hello", extra={"job_id": "j"})
    out, err = capsys.readouterr()
    assert out == ""
    assert json.loads(err)["job_id"] == "j"


def test_escape_keeps_letters_of_all_scripts() -> None:
    """Only controls are escaped: a name stays a name."""
    assert escape("Zoë 学位 \U0001f393") == "Zoë 学位 \U0001f393"
    assert escape("a\tb") == "a\\tb"


ACTORS = """
import logging
import os
import signal
import threading

import dramatiq
from dramatiq.brokers.stub import StubBroker
from periodiq import PeriodiqMiddleware, cron
from pipeline.middleware.logs import LogMiddleware

class Speak(dramatiq.Middleware):
    def after_process_boot(self, broker):
        logging.getLogger("pipeline.booted").warning("booted", extra={"job_id": "j"})
        threading.Timer(2, os.kill, (os.getppid(), signal.SIGTERM)).start()

    def after_enqueue(self, broker, message, delay):
        logging.getLogger("pipeline.sent").warning("sent", extra={"job_id": "j"})
        raise SystemExit

broker = StubBroker(middleware=[Speak(), PeriodiqMiddleware(), LogMiddleware()])
dramatiq.set_broker(broker)

@dramatiq.actor(periodic=cron("* * * * *"))
def tick():
    pass
"""


@pytest.fixture
def actors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a small actors module of its own, for the real command lines."""
    (tmp_path / "speaking_actors.py").write_text(ACTORS)
    root = Path(__file__).parents[2]
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{root}")
    monkeypatch.setenv("LOG_FORMAT", "json")
    return tmp_path


def run_program(cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command line of Dramatiq or periodiq, until it ends by itself."""
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=60)


def json_lines(stderr: str) -> list[dict[str, Any]]:
    """The lines that are JSON objects."""
    return [json.loads(line) for line in stderr.splitlines() if line.startswith("{")]


def test_the_formatter_takes_over_in_a_dramatiq_worker(actors: Path) -> None:
    """``dramatiq`` with no flag writes our format once a worker has booted, each record once."""
    run = run_program(actors, "-m", "dramatiq", "speaking_actors", "-p", "1", "-t", "1")
    booted, ready, *rest = json_lines(run.stderr)
    assert (booted["message"], booted["job_id"]) == ("booted", "j")
    assert ready["message"] == "Worker process is ready for action."
    assert "booted" not in [line["message"] for line in rest]


def test_the_formatter_takes_over_in_periodiq(actors: Path) -> None:
    """``periodiq`` boots no worker: the first tick brings our format."""
    run = run_program(actors, "-c", "import periodiq; periodiq.entrypoint()", "speaking_actors")
    assert [line["message"] for line in json_lines(run.stderr)] == ["sent"]
