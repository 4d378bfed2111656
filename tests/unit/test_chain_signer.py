"""Promise: the key comes from the place that the settings name first, only from files that nobody else
can read, and no message, log line or repr shows it."""

from __future__ import annotations

import json
import logging
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.typed_transactions import TypedTransaction
from eth_utils import keccak, to_checksum_address
from hexbytes import HexBytes
from hypothesis import given
from hypothesis import strategies as st

from pipeline.chain.signer import LocalSigner, load_signer
from pipeline.errors import SettingsError
from pipeline.settings import Settings

KEY = "0x" + "4c" * 32
OTHER_KEY = "0x" + "5d" * 32
PASSWORD = "correct horse"


def address(key: str) -> str:
    """The address of a key, by eth_account."""
    return str(Account.from_key(key).address)


@pytest.fixture
def private(tmp_path: Path) -> Callable[..., Path]:
    """Write a file that only its owner can read, or with another mode."""

    def write(name: str, text: str, mode: int = 0o600) -> Path:
        path = tmp_path / name
        path.write_text(text)
        path.chmod(mode)
        return path

    return write


@pytest.fixture
def keystore(private: Callable[..., Path]) -> dict[str, Any]:
    """The settings for a keystore of version 3 with `KEY` in it, of little work."""
    content = Account.encrypt(KEY, PASSWORD, kdf="pbkdf2", iterations=10)
    return {
        "blockchain_keystore_file": private("keystore.json", json.dumps(content)),
        "blockchain_keystore_password_file": private("password", PASSWORD + "\n"),
    }


def settings(**values: Any) -> Settings:
    """Settings of these variables alone."""
    return Settings(_env_file=None, **values)


@pytest.mark.parametrize("text", [KEY, KEY.removeprefix("0x"), f"  {KEY}\n"])
def test_key_file(private: Callable[..., Path], text: str) -> None:
    """64 hex digits, with or without 0x and a line end."""
    signer = load_signer(settings(blockchain_private_key_file=private("key", text)))
    assert signer.address == address(KEY)


def test_keystore(keystore: dict[str, Any]) -> None:
    """The password's line end is not part of it."""
    assert load_signer(settings(**keystore)).address == address(KEY)


def test_environment_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """One warning, without the key."""
    with caplog.at_level(logging.WARNING):
        signer = load_signer(settings(blockchain_private_key=KEY))
    assert signer.address == address(KEY)
    (record,) = caplog.records
    assert "development" in record.getMessage()
    assert KEY[2:] not in caplog.text


def test_precedence(keystore: dict[str, Any], private: Callable[..., Path]) -> None:
    """A keystore goes before a key file, that before the environment."""
    key_file = {"blockchain_private_key_file": private("key", OTHER_KEY)}
    environment = {"blockchain_private_key": "0x" + "6e" * 32}
    assert load_signer(settings(**keystore, **key_file, **environment)).address == address(KEY)
    assert load_signer(settings(**key_file, **environment)).address == address(OTHER_KEY)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610])
@pytest.mark.parametrize("variable", ["blockchain_keystore_file", "blockchain_keystore_password_file"])
def test_keystore_that_others_can_touch(keystore: dict[str, Any], variable: str, mode: int) -> None:
    """Refused, naming variable and file, and how to mend it."""
    keystore[variable].chmod(mode)
    with pytest.raises(SettingsError, match=f"{variable.upper()}: others can read .*chmod 600"):
        load_signer(settings(**keystore))


def test_key_file_that_others_can_read(private: Callable[..., Path]) -> None:
    """Refused before it is read."""
    with pytest.raises(SettingsError, match="BLOCKCHAIN_PRIVATE_KEY_FILE: others can read"):
        load_signer(settings(blockchain_private_key_file=private("key", KEY, mode=0o644)))


WRONG_KEYS = ["", "0x", KEY[:-1], KEY + "0", "zz" * 32, "00" * 32, "ff" * 32, "hunter2hunter2", KEY + " x"]


@pytest.mark.parametrize("text", WRONG_KEYS, ids=range(len(WRONG_KEYS)))
def test_wrong_key(private: Callable[..., Path], text: str) -> None:
    """The message names the variable; neither it nor the traceback's locals hold what was read."""
    file = private("key", text)
    with pytest.raises(SettingsError, match="BLOCKCHAIN_PRIVATE_KEY_FILE: must hold a private key") as caught:
        load_signer(settings(blockchain_private_key_file=file))
    assert_nothing_leaks(caught.value, text)


def test_wrong_password(keystore: dict[str, Any], private: Callable[..., Path]) -> None:
    """The message names both files' variables, not the password."""
    keystore["blockchain_keystore_password_file"] = private("wrong", "hunter2hunter2")
    with pytest.raises(SettingsError, match="BLOCKCHAIN_KEYSTORE_PASSWORD_FILE does not hold") as caught:
        load_signer(settings(**keystore))
    assert_nothing_leaks(caught.value, "hunter2hunter2")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"version": 1}', '{"version": 3, "crypto": 5}', "not json", KEY]
)
def test_wrong_keystore(keystore: dict[str, Any], private: Callable[..., Path], text: str) -> None:
    """Whatever the file holds instead of a keystore."""
    keystore["blockchain_keystore_file"] = private("other.json", text)
    with pytest.raises(SettingsError, match="is not a version 3 keystore"):
        load_signer(settings(**keystore))


@pytest.mark.parametrize("name", ["blockchain_keystore_file", "blockchain_keystore_password_file"])
def test_raw_bytes_for_a_keystore(keystore: dict[str, Any], name: str) -> None:
    """One message, which names the variable."""
    keystore[name].write_bytes(bytes(range(130, 162)))
    with pytest.raises(SettingsError, match=f"{name.upper()}: .* can not be read as text"):
        load_signer(settings(**keystore))


def test_raw_bytes_for_a_key(private: Callable[..., Path]) -> None:
    """One message, which names the variable."""
    path = private("key", "")
    path.write_bytes(bytes(range(130, 162)))
    with pytest.raises(SettingsError, match=f"BLOCKCHAIN_PRIVATE_KEY_FILE: {path} can not be read as text"):
        load_signer(settings(blockchain_private_key_file=path))


def test_no_key_at_all() -> None:
    """The message names the three ways to give one."""
    with pytest.raises(SettingsError, match="BLOCKCHAIN_KEYSTORE_FILE, BLOCKCHAIN_PRIVATE_KEY_FILE"):
        load_signer(settings())


def test_no_key_in_mock_mode() -> None:
    """Mock mode needs none, so that nobody should ask for one."""
    with pytest.raises(SettingsError, match="no key"):
        load_signer(settings(blockchain_mock_enabled=True))


def test_the_signer_shows_no_key(private: Callable[..., Path]) -> None:
    """Not in its repr, nor in its attributes' reprs; and it can not be pickled into a queue."""
    signer = load_signer(settings(blockchain_private_key_file=private("key", KEY)))
    shown = repr(signer) + str(signer) + "".join(repr(getattr(signer, name)) for name in dir(signer))
    assert KEY[2:] not in shown
    assert address(KEY) in repr(signer)
    with pytest.raises((TypeError, pickle.PicklingError)):
        pickle.dumps(signer)


def test_signature(private: Callable[..., Path]) -> None:
    """The hash is that of the bytes, and the sender found in them is the signer."""
    signer = load_signer(settings(blockchain_private_key_file=private("key", KEY)))
    fields = {"chainId": 5, "nonce": 7, "gas": 50_000, "value": 0, "data": b"\x01", "to": address(OTHER_KEY)}
    signed = signer.sign({**fields, "type": 2, "maxFeePerGas": 9, "maxPriorityFeePerGas": 2})
    assert signed.hash == "0x" + keccak(signed.raw).hex()
    assert Account.recover_transaction(signed.raw) == signer.address
    decoded = TypedTransaction.from_bytes(HexBytes(signed.raw)).as_dict()
    assert (decoded["chainId"], decoded["nonce"], decoded["maxFeePerGas"]) == (5, 7, 9)


def assert_nothing_leaks(error: BaseException, secret: str) -> None:
    """The secret is in no message of the chain, and in no local variable of its frames."""
    told = traceback.TracebackException.from_exception(error, capture_locals=True)
    assert error.__context__ is None
    if len(secret) >= 8:
        own = [frame for frame in told.stack if "/pipeline/" in frame.filename]
        assert secret not in str(error) + "".join(str(frame.locals) for frame in own)


WEI = st.integers(0, 2**96)


@given(
    nonce=st.integers(0, 2**40),
    chain_id=st.integers(1, 2**40),
    gas=st.integers(0, 2**30),
    fees=st.tuples(WEI, WEI).map(sorted),
    to=st.binary(min_size=20, max_size=20),
    data=st.binary(max_size=80),
    key=st.binary(min_size=32, max_size=32).filter(lambda key: 0 < int.from_bytes(key) < 2**255),
)
def test_the_same_bytes_as_eth_account(
    nonce: int, chain_id: int, gas: int, fees: list[int], to: bytes, data: bytes, key: bytes
) -> None:
    """Transactions of type 2 are made and signed here: byte for byte what eth_account makes of them."""
    transaction = {
        "type": 2,
        "chainId": chain_id,
        "nonce": nonce,
        "gas": gas,
        "value": 0,
        "data": data,
        "to": to_checksum_address(to),
        "maxPriorityFeePerGas": fees[0],
        "maxFeePerGas": fees[1],
    }
    account = Account.from_key(key)
    expected = account.sign_transaction(transaction)
    signed = LocalSigner(account).sign(transaction)
    assert signed.raw == bytes(expected.raw_transaction)
    assert signed.hash == "0x" + bytes(expected.hash).hex()
    assert Account.recover_transaction(signed.raw) == account.address
