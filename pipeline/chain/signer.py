"""Who signs: the key of a keystore file, of a key file, or of the environment."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.chain import dynamic_fee
from pipeline.chain.loading import load_web3
from pipeline.errors import SettingsError
from pipeline.settings import Settings

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

logger = logging.getLogger(__name__)

#: A file that its group or others may read, write or run keeps no secret.
FOREIGN_BITS = 0o077


@dataclass(frozen=True, slots=True)
class SignedTransaction:
    """The bytes to send, and the hash under which the chain will know them."""

    raw: bytes
    hash: str


class Signer(Protocol):
    """Something that holds a key, here or elsewhere."""

    @property
    def address(self) -> str:
        """Checksummed (EIP-55)."""

    def sign(self, transaction: Mapping[str, Any]) -> SignedTransaction:
        """Sign a transaction with the keys that eth_account knows: ``chainId``, ``nonce``, ``gas`` …"""


class LocalSigner:
    """A key in this process's memory. Neither its repr nor its state shows the key."""

    __slots__ = ("_sign", "_sign_recoverable", "address")

    def __init__(self, account: LocalAccount) -> None:
        from coincurve import PrivateKey

        self.address = str(account.address)
        # Bound methods, so that what walks attributes (Sentry, debuggers) finds no key.
        self._sign: Callable[[dict[str, Any]], Any] = account.sign_transaction
        self._sign_recoverable: Callable[..., bytes] = PrivateKey(bytes(account.key)).sign_recoverable

    def __repr__(self) -> str:
        return f"<LocalSigner {self.address}>"

    def sign(self, transaction: Mapping[str, Any]) -> SignedTransaction:
        """Sign; see `Signer.sign`."""
        if dynamic_fee.is_one(transaction):
            raw, hash_ = dynamic_fee.signed(transaction, self._sign_recoverable)
            return SignedTransaction(raw, "0x" + hash_.hex())
        signed = self._sign(dict(transaction))
        return SignedTransaction(bytes(signed.raw_transaction), "0x" + bytes(signed.hash).hex())


def load_signer(settings: Settings) -> Signer:
    """The signer of the settings; a keystore goes before a key file, that before the environment.

    Raises `SettingsError` naming the variable, never the value: nothing configured, a file that
    others can read, a wrong password, no key.
    """
    settings.require_signer()
    if settings.blockchain_keystore_file:
        return _from_keystore(settings)
    if settings.blockchain_private_key_file:
        variable = "BLOCKCHAIN_PRIVATE_KEY_FILE"
        signer = _from_key(_private(variable, settings.blockchain_private_key_file).read_text("utf-8"))
    elif settings.blockchain_private_key:
        logger.warning("the private key comes from the environment: good for development only")
        variable = "BLOCKCHAIN_PRIVATE_KEY"
        signer = _from_key(settings.blockchain_private_key.get_secret_value())
    else:
        raise SettingsError("wrong settings: there is no key, which only mock mode can do without")
    if signer is None:
        raise SettingsError(f"wrong settings: {variable}: must hold a private key, 64 hex digits")
    return signer


def _from_keystore(settings: Settings) -> LocalSigner:
    """A keystore of version 3 (Web3 Secret Storage) and the file with its password."""
    keystore = _private("BLOCKCHAIN_KEYSTORE_FILE", settings.blockchain_keystore_file)
    password_file = _private("BLOCKCHAIN_KEYSTORE_PASSWORD_FILE", settings.blockchain_keystore_password_file)
    signer = _decrypted(keystore.read_text("utf-8"), password_file.read_text("utf-8").rstrip("\r\n"))
    if signer is None:
        raise SettingsError(
            f"wrong settings: BLOCKCHAIN_KEYSTORE_FILE: {keystore} is not a version 3 keystore, "
            "or BLOCKCHAIN_KEYSTORE_PASSWORD_FILE does not hold its password"
        )
    return signer


def _decrypted(keystore: str, password: str) -> LocalSigner | None:
    """None when it can not be read: raising is the caller's, whose frame holds no secret."""
    load_web3()
    from eth_account import Account

    try:
        return LocalSigner(Account.from_key(Account.decrypt(json.loads(keystore), password)))
    except (ValueError, KeyError, TypeError, AttributeError, NotImplementedError):
        return None


def _from_key(text: str) -> LocalSigner | None:
    """None when it is no key: raising is the caller's, whose frame holds no secret."""
    load_web3()
    from eth_account import Account
    from eth_utils.exceptions import ValidationError

    digits = text.strip().removeprefix("0x")
    try:
        return LocalSigner(Account.from_key(bytes.fromhex(digits))) if len(digits) == 64 else None
    except (ValueError, ValidationError):
        return None


def _private(variable: str, path: Path | None) -> Path:
    """``path``, if nobody but its owner can touch it, and it can be read."""
    if path is None:
        raise SettingsError(f"wrong settings: {variable}: is required")
    mode = _mode_of_text(path)
    if mode is None:
        raise SettingsError(f"wrong settings: {variable}: {path} can not be read as text by this user")
    if mode & FOREIGN_BITS:
        raise SettingsError(
            f"wrong settings: {variable}: others can read {path} (mode {mode & 0o777:o}); chmod 600 {path}"
        )
    return path


def _mode_of_text(path: Path) -> int | None:
    """The mode of a file that can be read; None for another: raising is the caller's, as above."""
    try:
        path.read_text("utf-8")
        return path.stat().st_mode
    except (OSError, UnicodeDecodeError):
        return None
