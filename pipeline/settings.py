"""Configuration: read once from the environment and ``.env``, frozen, checked in one go.

Nothing else reads ``os.environ``. What only some processes need (the chain, a key) is
checked where it is needed: an issuer's API that only queues needs neither.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from pipeline.errors import SettingsError

#: How the message of every `SettingsError` begins.
PREFIX = "wrong settings: "

Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[int, Field(ge=0)]


class Settings(BaseSettings):
    """One field for each environment variable, in lower case.

    Times carry their unit in the name; fees are in gwei.
    """

    model_config = SettingsConfigDict(
        env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    redis_url: SecretStr | None = None
    redis_host: str = "localhost"
    redis_port: Annotated[int, Field(ge=1, le=65535)] = 6379
    redis_password: SecretStr | None = None

    database_url: SecretStr = SecretStr("sqlite:///credentials.db")

    #: Comma separated; tried in this order. A URL may hold a token, so it is a secret.
    blockchain_rpc_url: SecretStr = SecretStr("http://127.0.0.1:8545")
    blockchain_chain_id: Positive | None = None
    blockchain_contract_address: str | None = None
    blockchain_keystore_file: Path | None = None
    blockchain_keystore_password_file: Path | None = None
    blockchain_private_key_file: Path | None = None
    blockchain_private_key: SecretStr | None = None
    blockchain_confirmations: Annotated[Positive | Literal["finalized"], NoDecode] = 1
    blockchain_reorg_watch_blocks: NotNegative = 64
    blockchain_max_fee_gwei: Annotated[float, Field(gt=0)] = 200
    blockchain_max_in_flight: Positive = 16
    blockchain_mock_enabled: bool = False

    rate_limit_max: Positive = 10
    rate_limit_window_seconds: Positive = 1

    batch_max_size: Annotated[int, Field(ge=1, le=100_000)] = 1000
    batch_linger_ms: NotNegative = 0

    retry_max_attempts: Positive = 3
    retry_min_backoff_ms: Positive = 5000
    dead_letter_auto_replay: bool = True

    result_completed_max_age_seconds: Positive = 86_400
    result_completed_max_count: Positive = 1000
    result_failed_max_age_seconds: Positive = 604_800

    cid_digest_check: bool = False

    #: A line for each user of the dashboard: see `pipeline.dashboard.passwords`.
    dashboard_password_file: Path | None = None
    #: Addresses of proxies whose X-Forwarded-* headers the dashboard believes, comma separated; ``*``: all.
    dashboard_trusted_proxies: str = "127.0.0.1,::1"

    sentry_dsn: SecretStr | None = None
    sentry_environment: str | None = None

    log_format: Literal["console", "json"] = "console"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value

    @field_validator("blockchain_contract_address")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        digits = value.removeprefix("0x")
        if len(digits) != 40 or not set(digits.lower()) <= set("0123456789abcdef"):
            raise ValueError("must be an address: 0x and 40 hex digits")
        return "0x" + digits

    @field_validator("blockchain_rpc_url")
    @classmethod
    def _rpc_urls(cls, value: SecretStr) -> SecretStr:
        for url in value.get_secret_value().split(","):
            if not _is_http(url.strip()):
                raise ValueError("must be http(s) URLs, separated by commas")
        return value

    @field_validator("redis_url")
    @classmethod
    def _redis(cls, value: SecretStr | None) -> SecretStr | None:
        if value and urlsplit(value.get_secret_value()).scheme not in ("redis", "rediss", "unix"):
            raise ValueError("must start with redis://, rediss:// or unix://")
        return value

    @field_validator("database_url")
    @classmethod
    def _database(cls, value: SecretStr) -> SecretStr:
        if urlsplit(value.get_secret_value()).scheme not in ("sqlite", "postgres", "postgresql"):
            raise ValueError("must start with sqlite:/// or postgresql://")
        return value

    @property
    def redis_dsn(self) -> str:
        """``REDIS_URL``, or the URL made of host, port and password. Holds a secret."""
        if self.redis_url:
            return self.redis_url.get_secret_value()
        password = quote(self.redis_password.get_secret_value(), safe="") if self.redis_password else ""
        login = f":{password}@" if password else ""
        return f"redis://{login}{self.redis_host}:{self.redis_port}/0"

    @property
    def rpc_urls(self) -> list[str]:
        """The RPC URLs in the order of preference. They may hold tokens: see `mask_url`."""
        return [url.strip() for url in self.blockchain_rpc_url.get_secret_value().split(",")]

    def require_signer(self) -> None:
        """Check what a process needs that signs. Raises `SettingsError` naming each fault."""
        self._refuse(self._signer_faults() if not self.blockchain_mock_enabled else [])

    def require_chain(self) -> None:
        """Check what a worker needs. Raises `SettingsError` naming each fault."""
        if self.blockchain_mock_enabled:
            return
        missing = [
            f"{name.upper()}: is required unless BLOCKCHAIN_MOCK_ENABLED=true"
            for name in ("blockchain_chain_id", "blockchain_contract_address")
            if getattr(self, name) is None
        ]
        self._refuse(missing + self._signer_faults())

    def _signer_faults(self) -> list[str]:
        if self.blockchain_keystore_file:
            files = {
                "BLOCKCHAIN_KEYSTORE_FILE": self.blockchain_keystore_file,
                "BLOCKCHAIN_KEYSTORE_PASSWORD_FILE": self.blockchain_keystore_password_file,
            }
            return [f"{name}: {_file_fault(path)}" for name, path in files.items() if _file_fault(path)]
        if self.blockchain_private_key_file:
            fault = _file_fault(self.blockchain_private_key_file)
            return [f"BLOCKCHAIN_PRIVATE_KEY_FILE: {fault}"] if fault else []
        if self.blockchain_private_key:
            return []
        return [
            "BLOCKCHAIN_KEYSTORE_FILE, BLOCKCHAIN_PRIVATE_KEY_FILE or BLOCKCHAIN_PRIVATE_KEY: "
            "one of them is required unless BLOCKCHAIN_MOCK_ENABLED=true"
        ]

    @staticmethod
    def _refuse(faults: list[str]) -> None:
        if faults:
            raise SettingsError(PREFIX + "; ".join(faults))


def _file_fault(path: Path | None) -> str:
    if path is None:
        return "is required"
    return "" if path.is_file() else f"there is no file {path}"


@cache
def get_settings() -> Settings:
    """The process's settings, read at the first call.

    Raises `SettingsError`, whose message names every wrong variable and never a value.
    """
    return load_settings(Settings)


def worker_settings() -> Settings:
    """`get_settings`, complete for a worker. Raises one `SettingsError` that names all faults."""
    try:
        settings = get_settings()
    except SettingsError as wrong:
        try:
            _without_wrong_ones().require_chain()
        except SettingsError as missing:
            raise SettingsError(f"{wrong}; {str(missing).removeprefix(PREFIX)}") from None
        raise
    settings.require_chain()
    return settings


def _without_wrong_ones() -> Settings:
    """The settings with defaults in place of what can not be read: to see what else is missing."""
    try:
        return Settings()
    except ValidationError as exc:
        fields = {str(error["loc"][0]) for error in exc.errors()}
        return Settings(**{name: Settings.model_fields[name].default for name in fields})


def load_settings(make: Callable[[], Settings]) -> Settings:
    """``make()``, with pydantic's error turned into ours."""
    try:
        return make()
    except ValidationError as exc:
        faults = [
            f"{str(error['loc'][0]).upper()}: {error['msg'].removeprefix('Value error, ')}"
            for error in exc.errors(include_input=False, include_url=False)
        ]
        raise SettingsError(PREFIX + "; ".join(dict.fromkeys(faults))) from None


def _is_http(url: str) -> bool:
    """Whether it has a scheme of HTTP, a host, and no port that there can't be."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # which quotes the URL
        return False


def mask_url(url: str) -> str:
    """``url`` without login, path, query and fragment, any of which may hold a token.

    >>> mask_url("https://user:pw@rpc.example/v3/token?key=1")
    'https://rpc.example/***'
    """
    parts = urlsplit(url)
    host = (parts.hostname or "") + (f":{parts.port}" if parts.port else "")
    hidden = "/***" if parts.path.strip("/") or parts.query or parts.fragment else ""
    return urlunsplit((parts.scheme, host, hidden, "", ""))
