"""A real node for tests: anvil, with the ten accounts of its well-known test mnemonic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pipeline.embedded import jsonrpc
from pipeline.embedded.server import Server, free_port
from tests.servers import anvil_binary
from tests.waiting import until


@dataclass(frozen=True)
class Account:
    """A development account with 10,000 ether."""

    address: str
    private_key: str


#: "test test test test test test test test test test test junk", m/44'/60'/0'/0/n.
ACCOUNTS = (
    Account(
        "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
        "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
    ),
    Account(
        "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
        "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
    ),
    Account(
        "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC",
        "0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
    ),
    Account(
        "0x90F79bf6EB2c4f870365E785982E1f101E93b906",
        "0x7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6",
    ),
    Account(
        "0x15d34AAf54267DB7D7c367839AAf71A00a2C6A65",
        "0x47e179ec197488593b187f80a00eb0da91f1b9d0b13f8733639f19c30a34926a",
    ),
    Account(
        "0x9965507D1a55bcC2695C58ba16FB37d819B0A4dc",
        "0x8b3a350cf5c34c9194ca85829a2df0ec3153be0318b5e2d3348e872092edffba",
    ),
    Account(
        "0x976EA74026E726554dB657fA54763abd0C3a0aa9",
        "0x92db14e403b83dfe3df233f83dfa3a0d7096f21ca9b0d6d6b8d88b2b4ec1564e",
    ),
    Account(
        "0x14dC79964da2C08b23698B3D3cc7Ca32193d9955",
        "0x4bbbf85ce3377467afe5d46f804f221813b2bb87f24d81f60f1fcdbf7cbf4356",
    ),
    Account(
        "0x23618e81E3f5cdF7f54C3d65f7FBc0aBf5B21E8f",
        "0xdbda1821b80551c9d65939329250298aa3472ba22feea921c0cf5d620ea67b97",
    ),
    Account(
        "0xa0Ee7A142d267C1f36714E4a8F75612F20a79720",
        "0x2a871d0798f97d79848a013d4936a73bf4cc922c825d33c1cf7073dff6d409c6",
    ),
)


class Anvil(Server):
    """One anvil. Without options each transaction is mined at once, in a block of its own.

    ``block_time_seconds`` mines on a clock, ``automine=False`` only on ``evm_mine``.
    With ``state`` (a file) `stop` and `start` keep the chain, but not the pool; a `kill`
    loses it. ``slots_in_an_epoch=1`` makes ``safe`` and ``finalized`` follow the head.
    """

    name: ClassVar[str] = "anvil"
    accounts: ClassVar[Sequence[Account]] = ACCOUNTS

    def __init__(
        self,
        directory: Path,
        *,
        block_time_seconds: int | None = None,
        automine: bool = True,
        chain_id: int = 31337,
        port: int | None = None,
        state: Path | None = None,
        slots_in_an_epoch: int = 32,
        more: Sequence[str] = (),
    ) -> None:
        super().__init__(directory.absolute())
        self.chain_id = chain_id
        self.port = port or free_port()
        self._options = [f"--chain-id={chain_id}", f"--slots-in-an-epoch={slots_in_an_epoch}", *more]
        if block_time_seconds is not None:
            self._options.append(f"--block-time={block_time_seconds}")
        if not automine:
            self._options.append("--no-mining")
        if state is not None:
            self._options.append(f"--state={state.absolute()}")

    @property
    def rpc_url(self) -> str:
        """``http://127.0.0.1:port``."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def private_key(self) -> str:
        """The key of the first account."""
        return self.accounts[0].private_key

    @property
    def address(self) -> str:
        """The address of the first account."""
        return self.accounts[0].address

    def rpc(self, method: str, *params: Any) -> Any:
        """The result of a JSON-RPC call. Raises `pipeline.embedded.jsonrpc.JsonRpcError`."""
        return jsonrpc.call(self.rpc_url, method, *params)

    def mine(self, blocks: int = 1) -> None:
        """Mine that many blocks now."""
        self.rpc("anvil_mine", hex(blocks))

    def stop_mining(self) -> None:
        """Let what is sent from now on stay in the pool.

        What was sent before is mined first: when it stops between taking a transaction and
        mining it, anvil 1 forgets about that one until the next block (5 of 2343 times).
        """
        until(lambda: self.pool_size == 0, seconds=10, what="an empty pool")
        self.rpc("evm_setAutomine", False)

    @property
    def block_number(self) -> int:
        """The number of the newest block."""
        return int(self.rpc("eth_blockNumber"), 16)

    @property
    def pool_size(self) -> int:
        """How many transactions it would mine next."""
        return int(self.rpc("txpool_status")["pending"], 16)

    def _command(self) -> Sequence[str | Path]:
        return [anvil_binary.binary(), "--host=127.0.0.1", f"--port={self.port}", *self._options]

    def _is_ready(self) -> bool:
        return jsonrpc.answers(self.rpc_url)
