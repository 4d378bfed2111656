"""The embedded EVM as a server that a command owns."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from pipeline.embedded import jsonrpc
from pipeline.embedded.server import Server, free_port

#: The chain id unless another is asked for; "1337" is what development chains are known by.
CHAIN_ID = 1337
#: The key of the account that holds all ether at the beginning. Known to everyone: worth nothing.
DEVELOPMENT_KEY = "0x" + "cd" * 32


class EvmServer(Server):
    """One node. Its chain is kept in ``directory``: `stop`, `kill` and `start` lose no block."""

    name: ClassVar[str] = "evm"

    def __init__(self, directory: Path, *, chain_id: int = CHAIN_ID, port: int | None = None) -> None:
        super().__init__(directory.absolute())
        self.chain_id = chain_id
        self.port = port or free_port()
        self.private_key = DEVELOPMENT_KEY

    @property
    def rpc_url(self) -> str:
        """``http://127.0.0.1:port``."""
        return f"http://127.0.0.1:{self.port}"

    def _command(self) -> Sequence[str | Path]:
        module = [sys.executable, "-m", "pipeline.embedded.evm"]
        options = {"port": self.port, "chain-id": self.chain_id, "funded-key": self.private_key}
        data = f"--data={self.directory / 'chain.db'}"
        return [*module, *(f"--{key}={value}" for key, value in options.items()), data]

    def _is_ready(self) -> bool:
        return jsonrpc.answers(self.rpc_url)
