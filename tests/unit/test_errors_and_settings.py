"""Promise: one tree of errors that its docstring draws; all wrong settings in one message, and no
secret in any of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import SecretStr

from pipeline import errors
from pipeline.errors import PipelineError, SettingsError
from pipeline.settings import Settings, get_settings, load_settings, mask_url

ADDRESS = "0x" + "aB" * 20
SECRET = "hunter2hunter2"


# --- errors ----------------------------------------------------------------------------------


def classes() -> dict[str, type[PipelineError]]:
    """All error classes of the module."""
    return {
        name: value
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, PipelineError)
    }


def drawn_tree() -> Iterator[tuple[str, str | None, str]]:
    """Name, parent and remark of each line of the docstring's tree."""
    above: list[str] = []
    for indent, name, remark in re.findall(r"^( *)\* (\w+) *(.*)$", errors.__doc__ or "", re.MULTILINE):
        level = len(indent) // 4
        above[level:] = [name]
        yield name, above[level - 1] if level else None, remark


def test_the_docstring_draws_the_tree_of_the_classes() -> None:
    """Each class once, below its base."""
    drawn = {name: parent for name, parent, _ in drawn_tree()}
    bases = {name: cls.__mro__[1].__name__ for name, cls in classes().items()}
    assert drawn == {**bases, "PipelineError": None}


def test_the_tree_says_which_errors_are_permanent() -> None:
    """Where a remark says so, the class is."""
    for name, _, remark in drawn_tree():
        if remark.startswith("permanent"):
            assert classes()[name].permanent, name


def test_all_bad_input_is_permanent_and_chain_trouble_is_not() -> None:
    """Trying again can not mend what was handed in."""
    for name, cls in classes().items():
        if issubclass(cls, errors.InvalidInput):
            assert cls.permanent, name
        if issubclass(cls, errors.ChainError):
            assert cls.permanent == (cls is errors.TransactionReverted), name


def test_an_error_has_a_code_and_one_line() -> None:
    """As status documents show it."""
    error = errors.InvalidDataHash("data hash 'x':\n  must be\t64 hex digits ")
    assert error.code == "InvalidDataHash"
    assert error.message == "data hash 'x': must be 64 hex digits"


def test_errors_are_also_what_python_calls_them() -> None:
    """For callers that know no pipeline."""
    assert issubclass(errors.InvalidInput, ValueError)
    assert issubclass(errors.UnknownCredential, LookupError)
    assert issubclass(errors.UnknownDeadLetter, LookupError)


def test_every_error_has_a_docstring() -> None:
    """That says when it is raised."""
    for name, cls in classes().items():
        assert cls.__doc__, name


# --- settings --------------------------------------------------------------------------------


def test_defaults_are_those_of_the_documentation() -> None:
    """With nothing set at all."""
    found = get_settings()
    assert found.redis_dsn == "redis://localhost:6379/0"
    assert found.database_url.get_secret_value() == "sqlite:///credentials.db"
    assert found.rpc_urls == ["http://127.0.0.1:8545"]
    defaults = {
        "blockchain_confirmations": 1,
        "blockchain_reorg_watch_blocks": 64,
        "blockchain_max_fee_gwei": 200,
        "blockchain_max_in_flight": 16,
        "blockchain_mock_enabled": False,
        "rate_limit_max": 10,
        "rate_limit_window_seconds": 1,
        "batch_max_size": 1000,
        "batch_linger_ms": 0,
        "retry_max_attempts": 3,
        "retry_min_backoff_ms": 5000,
        "dead_letter_auto_replay": True,
        "result_completed_max_age_seconds": 86400,
        "result_completed_max_count": 1000,
        "result_failed_max_age_seconds": 604800,
        "cid_digest_check": False,
        "sentry_dsn": None,
        "log_format": "console",
        "log_level": "INFO",
    }
    assert {name: getattr(found, name) for name in defaults} == defaults


def test_all_faults_are_in_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each wrong variable by its name, so that nobody mends them one by one."""
    wrong = {
        "REDIS_URL": "http://redis",
        "REDIS_PORT": "70000",
        "DATABASE_URL": "mysql://db",
        "BLOCKCHAIN_RPC_URL": "ftp://node",
        "BLOCKCHAIN_CHAIN_ID": "0",
        "BLOCKCHAIN_CONTRACT_ADDRESS": "0x12",
        "BLOCKCHAIN_CONFIRMATIONS": "soon",
        "BLOCKCHAIN_MAX_FEE_GWEI": "-1",
        "BLOCKCHAIN_MOCK_ENABLED": "perhaps",
        "RATE_LIMIT_MAX": "ten",
        "BATCH_MAX_SIZE": "0",
        "RETRY_MAX_ATTEMPTS": "0",
        "LOG_FORMAT": "xml",
        "LOG_LEVEL": "loud",
    }
    for name, value in wrong.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        get_settings()
    message = caught.value.message
    assert [name for name in wrong if f"{name}: " not in message] == []
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REDIS_URL", f"http://:{SECRET}@redis"),
        ("DATABASE_URL", f"mysql://user:{SECRET}@db/x"),
        ("BLOCKCHAIN_RPC_URL", f"wss://rpc.example/{SECRET}"),
        ("BLOCKCHAIN_RPC_URL", f"https://rpc.example/{SECRET},{SECRET}"),
        ("BLOCKCHAIN_RPC_URL", f"https://rpc.example:{SECRET}/"),
        ("BLOCKCHAIN_RPC_URL", f"https://[{SECRET}/"),
        ("BLOCKCHAIN_CONTRACT_ADDRESS", SECRET),
        ("BLOCKCHAIN_CHAIN_ID", SECRET),
        ("BLOCKCHAIN_CONFIRMATIONS", SECRET),
        ("LOG_LEVEL", SECRET),
    ],
)
def test_no_value_is_in_a_message(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """A key pasted into the wrong variable must not end in a log."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        get_settings()
    assert name in str(caught.value)
    error: BaseException | None = caught.value
    assert error is not None
    assert SECRET.lower() not in f"{error} {error!r} {error.__cause__!r}".lower()


def test_no_secret_is_in_a_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor in the text of the settings."""
    for name, value in {
        "REDIS_PASSWORD": SECRET,
        "REDIS_URL": f"redis://:{SECRET}@redis:6379/0",
        "DATABASE_URL": f"postgresql://user:{SECRET}@db/x",
        "BLOCKCHAIN_RPC_URL": f"https://rpc.example/v3/{SECRET}",
        "BLOCKCHAIN_PRIVATE_KEY": SECRET,
        "SENTRY_DSN": f"https://{SECRET}@sentry.example/1",
    }.items():
        monkeypatch.setenv(name, value)
    found = get_settings()
    assert SECRET not in f"{found!r} {found} {found.model_dump()}"


def test_dot_env_is_read_and_the_environment_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the working directory; names of other programs in it are left alone."""
    Path(".env").write_text(
        f"RATE_LIMIT_MAX=3\nBATCH_MAX_SIZE=7\nSOMETHING_ELSE=1\nREDIS_PASSWORD={SECRET}\n"
    )
    monkeypatch.setenv("BATCH_MAX_SIZE", "8")
    found = get_settings()
    assert (found.rate_limit_max, found.batch_max_size) == (3, 8)
    assert found.redis_dsn == f"redis://:{SECRET}@localhost:6379/0"


def test_empty_means_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """As compose files and shells leave variables behind; also over a value in ``.env``'s place."""
    Path(".env").write_text("BATCH_MAX_SIZE=\n")
    for name in (
        "BLOCKCHAIN_CHAIN_ID",
        "BLOCKCHAIN_CONTRACT_ADDRESS",
        "REDIS_URL",
        "SENTRY_DSN",
        "RATE_LIMIT_MAX",
    ):
        monkeypatch.setenv(name, "")
    found = get_settings()
    assert found.blockchain_chain_id is None
    assert found.blockchain_contract_address is None
    assert found.redis_url is None
    assert found.sentry_dsn is None
    assert (found.rate_limit_max, found.batch_max_size) == (10, 1000)


def test_settings_are_read_once_and_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process keeps what it began with."""
    first = get_settings()
    monkeypatch.setenv("RATE_LIMIT_MAX", "99")
    assert get_settings() is first
    with pytest.raises(ValueError, match="frozen"):
        first.rate_limit_max = 5  # type: ignore[misc]


@pytest.mark.parametrize(("value", "expected"), [("1", 1), ("12", 12), ("finalized", "finalized")])
def test_confirmations_are_a_number_or_finalized(
    monkeypatch: pytest.MonkeyPatch, value: str, expected: int | str
) -> None:
    """Nothing else."""
    monkeypatch.setenv("BLOCKCHAIN_CONFIRMATIONS", value)
    assert get_settings().blockchain_confirmations == expected
    for wrong in ("0", "-1", "1.5", "safe"):
        monkeypatch.setenv("BLOCKCHAIN_CONFIRMATIONS", wrong)
        with pytest.raises(SettingsError, match="BLOCKCHAIN_CONFIRMATIONS"):
            load_settings(Settings)


@pytest.mark.parametrize("value", [ADDRESS, ADDRESS[2:], ADDRESS.lower()])
def test_contract_address_gets_its_prefix(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """40 hex digits, with or without 0x."""
    monkeypatch.setenv("BLOCKCHAIN_CONTRACT_ADDRESS", value)
    assert (get_settings().blockchain_contract_address or "").lower() == ADDRESS.lower()


def test_rpc_urls_are_kept_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blanks around the commas are no part of them."""
    monkeypatch.setenv("BLOCKCHAIN_RPC_URL", "http://one:8545, https://two/v3/x ,http://three")
    assert get_settings().rpc_urls == ["http://one:8545", "https://two/v3/x", "http://three"]


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:99999", "http://one:0", "http://one:8545,http://two:65536"]
)
def test_a_port_that_there_can_not_be(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """It is refused here, and not where a node is asked."""
    monkeypatch.setenv("BLOCKCHAIN_RPC_URL", url)
    with pytest.raises(SettingsError, match=r"BLOCKCHAIN_RPC_URL: must be http\(s\) URLs"):
        get_settings()


def test_redis_url_goes_before_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a password with signs in it is quoted."""
    monkeypatch.setenv("REDIS_HOST", "other")
    monkeypatch.setenv("REDIS_PASSWORD", "p@ss/w:rd")
    assert load_settings(Settings).redis_dsn == "redis://:p%40ss%2Fw%3Ard@other:6379/0"
    monkeypatch.setenv("REDIS_URL", "unix:///tmp/redis.sock?db=0")
    assert load_settings(Settings).redis_dsn == "unix:///tmp/redis.sock?db=0"


def test_workers_need_chain_and_key_and_hear_of_all_at_once() -> None:
    """An issuer's API that only queues needs neither: it never asks."""
    with pytest.raises(SettingsError) as caught:
        load_settings(Settings).require_chain()
    for name in ("BLOCKCHAIN_CHAIN_ID", "BLOCKCHAIN_CONTRACT_ADDRESS", "BLOCKCHAIN_PRIVATE_KEY"):
        assert name in str(caught.value)
    with pytest.raises(SettingsError, match="BLOCKCHAIN_KEYSTORE_FILE"):
        load_settings(Settings).require_signer()


def test_mock_mode_needs_no_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither address nor key."""
    monkeypatch.setenv("BLOCKCHAIN_MOCK_ENABLED", "true")
    found = get_settings()
    found.require_chain()
    found.require_signer()


def test_key_files_must_be_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A keystore needs its password file; the message names what is missing."""
    monkeypatch.setenv("BLOCKCHAIN_KEYSTORE_FILE", str(tmp_path / "key.json"))
    with pytest.raises(SettingsError) as caught:
        load_settings(Settings).require_signer()
    assert "BLOCKCHAIN_KEYSTORE_FILE: there is no file" in str(caught.value)
    assert "BLOCKCHAIN_KEYSTORE_PASSWORD_FILE: is required" in str(caught.value)
    (tmp_path / "key.json").write_text("{}")
    (tmp_path / "password").write_text(SECRET)
    monkeypatch.setenv("BLOCKCHAIN_KEYSTORE_PASSWORD_FILE", str(tmp_path / "password"))
    load_settings(Settings).require_signer()


def test_a_private_key_file_must_be_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Also when a key stands in the environment: the file was meant."""
    monkeypatch.setenv("BLOCKCHAIN_PRIVATE_KEY", SECRET)
    load_settings(Settings).require_signer()
    monkeypatch.setenv("BLOCKCHAIN_PRIVATE_KEY_FILE", str(tmp_path / "key"))
    with pytest.raises(SettingsError, match="BLOCKCHAIN_PRIVATE_KEY_FILE: there is no file"):
        load_settings(Settings).require_signer()


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("http://127.0.0.1:8545", "http://127.0.0.1:8545"),
        ("http://127.0.0.1:8545/", "http://127.0.0.1:8545"),
        (f"https://rpc.example/v3/{SECRET}", "https://rpc.example/***"),
        (f"https://user:{SECRET}@rpc.example", "https://rpc.example"),
        (f"https://rpc.example?key={SECRET}", "https://rpc.example/***"),
        (f"https://rpc.example#{SECRET}", "https://rpc.example/***"),
        (f"https://rpc.example:8443/{SECRET}?a=b#c", "https://rpc.example:8443/***"),
    ],
)
def test_mask_url_keeps_host_and_port_only(url: str, masked: str) -> None:
    """Whatever part the provider puts its token into."""
    assert mask_url(url) == masked


@hypothesis_settings(deadline=None)
@given(
    st.from_regex("[A-Za-z0-9_~-]{12,40}", fullmatch=True),
    st.sampled_from(
        ["https://{}@h.example/", "https://u:{}@h.example", "https://h.example/a/{}", "https://h.example/?{}"]
    ),
)
def test_mask_url_shows_no_token(token: str, place: str) -> None:
    """In login, path or query."""
    assert token not in mask_url(place.format(token))


def test_secrets_are_secret_types() -> None:
    """Every variable that may hold one: nothing prints it by accident."""
    names = {
        name
        for name, field in Settings.model_fields.items()
        if field.annotation is SecretStr or SecretStr in getattr(field.annotation, "__args__", ())
    }
    assert names == {
        "redis_url",
        "redis_password",
        "database_url",
        "blockchain_rpc_url",
        "blockchain_private_key",
        "sentry_dsn",
    }
