"""The chain: blocks, the pool of waiting transactions, and when a block is made."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any

from eth.chains.base import MiningChain
from eth.constants import BLANK_ROOT_HASH, ZERO_ADDRESS, ZERO_HASH32
from eth.db.atomic import AtomicDB
from eth.exceptions import CanonicalHeadNotFound, HeaderNotFound, TransactionNotFound
from eth.vm.forks import PragueVM
from eth.vm.forks.london.headers import calculate_expected_base_fee_per_gas
from eth_keys import keys
from eth_utils import ValidationError

from pipeline.embedded.evm.errors import INVALID_PARAMS, RpcError, rejected
from pipeline.embedded.evm.store import SqliteStore

logger = logging.getLogger(__name__)

GAS_LIMIT = 30_000_000
#: A million ether.
FUNDS_WEI = 10**24
BLOB_TRANSACTION = 3
#: As geth: a transaction with a used nonce replaces the waiting one only at this much more.
REPLACEMENT_BUMP_PERCENT = 10
#: As geth: how many transactions of one sender may wait.
POOL_PER_SENDER = 64
NAMED_BLOCKS = {"latest", "pending", "safe", "finalized"}


class Chain:
    """One producer's chain: no forks, so the newest block is final. Not thread-safe.

    A transaction goes into a block at once when the chain's clock allows it: block times rise
    by a second at least, and are kept from running ahead of the wall clock. Otherwise it waits
    for the next `tick`.
    """

    def __init__(self, chain_id: int, funded_key: str, data: Path) -> None:
        self.chain_id = chain_id
        self._store = SqliteStore(data)
        self._chain = _open(chain_id, funded_key, AtomicDB(self._store))
        self._store.commit()
        #: Sender → nonce → transaction.
        self._pool: dict[bytes, dict[int, Any]] = {}

    @property
    def head(self) -> Any:
        """The header of the newest block."""
        return self._chain.get_canonical_head()

    def header(self, block: int | str) -> Any:
        """The header of a block by number or name. Raises `LookupError`."""
        if block == "earliest":
            block = 0
        if block in NAMED_BLOCKS:
            return self.head
        if not isinstance(block, int):
            raise RpcError(INVALID_PARAMS, f"{block!r} is neither a block number nor a name for one")
        try:
            return self._chain.get_canonical_block_header_by_number(block)
        except HeaderNotFound as exc:
            raise LookupError(f"there is no block {block}") from exc

    def header_by_hash(self, block_hash: bytes) -> Any:
        """The header of the block with this hash. Raises `LookupError`."""
        try:
            return self._chain.get_block_header_by_hash(block_hash)
        except HeaderNotFound as exc:
            raise LookupError("there is no such block") from exc

    def block(self, header: Any) -> Any:
        """The whole block of a header."""
        return self._chain.get_block_by_header(header)

    def receipts(self, block: Any) -> Any:
        """The receipts of a block, in the order of its transactions."""
        return block.get_receipts(self._chain.chaindb)

    def vm(self, header: Any) -> Any:
        """A virtual machine in the state after the block of this header."""
        return self._chain.get_vm(at_header=header)

    def state(self, block: int | str) -> Any:
        """The state after a block by number or name."""
        return self.vm(self.header(block)).state

    def locate(self, transaction_hash: bytes) -> tuple[Any, int]:
        """The block and the place in it of a mined transaction. Raises `LookupError`."""
        try:
            number, index = self._chain.chaindb.get_transaction_index(transaction_hash)
        except TransactionNotFound as exc:
            raise LookupError("there is no such transaction") from exc
        return self._chain.get_canonical_block_by_number(number), index

    def waiting(self, transaction_hash: bytes) -> Any:
        """A transaction of the pool. Raises `LookupError`."""
        for transactions in self._pool.values():
            for transaction in transactions.values():
                if transaction.hash == transaction_hash:
                    return transaction
        raise LookupError("there is no such transaction")

    def pending_nonce(self, address: bytes) -> int:
        """The first nonce that neither a block nor the pool has used."""
        nonce: int = self.state("latest").get_nonce(address)
        while nonce in self._pool.get(address, {}):
            nonce += 1
        return nonce

    def next_base_fee_wei(self, header: Any) -> int:
        """The base fee of the block after this header (EIP-1559)."""
        return int(calculate_expected_base_fee_per_gas(header))

    def unsigned(self, **fields: Any) -> Any:
        """A transaction without signature, for a trial run."""
        return self._chain.create_unsigned_transaction(**fields)

    def send(self, raw: bytes) -> bytes:
        """Take a signed transaction. Returns its hash. Raises `RpcError` in geth's words."""
        transaction = self._decode(raw)
        sender = bytes(transaction.sender)
        waiting = self._pool.get(sender, {})
        self._check(transaction, waiting)
        self._pool.setdefault(sender, {})[transaction.nonce] = transaction
        self.tick()
        return bytes(transaction.hash)

    def _decode(self, raw: bytes) -> Any:
        try:
            transaction = self._chain.get_vm().get_transaction_builder().decode(raw)
            transaction.validate()
            transaction.check_signature_validity()
        except Exception as exc:  # rlp, eth_utils and eth_keys each have their own tree
            raise rejected(f"invalid transaction: {exc}") from exc
        if getattr(transaction, "type_id", None) == BLOB_TRANSACTION:
            raise rejected("transaction type not supported")
        return transaction

    def _check(self, transaction: Any, waiting: dict[int, Any]) -> None:
        state = self.state("latest")
        self._check_rival(transaction, waiting.get(transaction.nonce))
        if transaction.nonce < (used := state.get_nonce(transaction.sender)):
            raise rejected(f"nonce too low: next nonce {used}, tx nonce {transaction.nonce}")
        if transaction.chain_id not in (None, self.chain_id):
            raise rejected(f"invalid chain id for signer: have {transaction.chain_id} want {self.chain_id}")
        if transaction.gas > GAS_LIMIT:
            raise rejected("exceeds block gas limit")
        if transaction.gas < transaction.intrinsic_gas:
            raise rejected(
                f"intrinsic gas too low: gas {transaction.gas}, minimum needed {transaction.intrinsic_gas}"
            )
        cost_wei = transaction.gas * transaction.max_fee_per_gas + transaction.value
        if (balance_wei := state.get_balance(transaction.sender)) < cost_wei:
            raise rejected(
                f"insufficient funds for gas * price + value: balance {balance_wei}, tx cost {cost_wei}"
            )
        if transaction.max_priority_fee_per_gas > transaction.max_fee_per_gas:
            raise rejected("max priority fee per gas higher than max fee per gas")
        if transaction.nonce not in waiting and len(waiting) >= POOL_PER_SENDER:
            raise rejected("account limit exceeded")

    def _check_rival(self, transaction: Any, rival: Any | None) -> None:
        """See that it may take the place of the one that waits with its nonce."""
        if rival is None:
            return
        if rival.hash == transaction.hash:
            raise rejected("already known")
        for fee in ("max_fee_per_gas", "max_priority_fee_per_gas"):
            if getattr(transaction, fee) * 100 < getattr(rival, fee) * (100 + REPLACEMENT_BUMP_PERCENT):
                raise rejected("replacement transaction underpriced")

    def tick(self) -> None:
        """Make a block if one is due: for what waits, or else an empty one every second.

        To be called several times a second.
        """
        latest = int(time.time()) - (0 if self._has_work() else 1)
        if self.head.timestamp <= latest:
            self.mine()

    def _has_work(self) -> bool:
        state = self.state("latest")
        return any(state.get_nonce(sender) in waiting for sender, waiting in self._pool.items())

    def mine(self) -> None:
        """Make a block of all waiting transactions that can run now."""
        self._chain.set_header_timestamp(max(int(time.time()), self.head.timestamp + 1))
        for sender in list(self._pool):
            self._apply_of(sender)
        self._chain.mine_block(coinbase=ZERO_ADDRESS, mix_hash=os.urandom(32), blob_gas_used=0)
        self._store.commit()

    def _apply_of(self, sender: bytes) -> None:
        """Put a sender's transactions into the block, in order; those that can't run yet stay."""
        waiting = self._pool[sender]
        nonce = self._chain.get_vm().state.get_nonce(sender)
        for used in [number for number in waiting if number < nonce]:
            del waiting[used]
        while (transaction := waiting.get(nonce)) is not None:
            try:
                self._chain.apply_transaction(transaction)
            except ValidationError as exc:  # the fee cap is too low, the block full, the money gone
                logger.info("0x%s has to wait: %s", transaction.hash.hex(), exc)
                break
            del waiting[nonce]
            nonce += 1
        if not waiting:
            del self._pool[sender]


def _open(chain_id: int, funded_key: str, database: AtomicDB) -> Any:
    """The chain in the database, or a new one whose money all belongs to ``funded_key``."""
    chain_class: Any = type("DevelopmentChain", (_ConstantGasLimit,), {"chain_id": chain_id})
    try:
        return chain_class(database)
    except CanonicalHeadNotFound:  # nothing in it yet
        pass
    owner = keys.PrivateKey(bytes.fromhex(funded_key.removeprefix("0x"))).public_key
    account = {"balance": FUNDS_WEI, "nonce": 0, "code": b"", "storage": {}}
    return chain_class.from_genesis(database, _genesis(), {owner.to_canonical_address(): account})


class _ConstantGasLimit(MiningChain):
    vm_configuration = ((0, PragueVM),)  # type: ignore[assignment]  # py-evm declares it narrower

    def create_header_from_parent(self, parent_header: Any, **fields: Any) -> Any:
        fields["gas_limit"] = parent_header.gas_limit
        return super().create_header_from_parent(parent_header, **fields)


def _genesis() -> dict[str, Any]:
    return {
        "coinbase": ZERO_ADDRESS,
        "difficulty": 0,
        "extra_data": b"",
        "gas_limit": GAS_LIMIT,
        "mix_hash": ZERO_HASH32,
        "nonce": bytes(8),
        "receipt_root": BLANK_ROOT_HASH,
        "transaction_root": BLANK_ROOT_HASH,
        "timestamp": int(time.time()) - 1,
    }
