"""Promise: importing the chain's modules, and making a client, costs next to nothing; and web3's import
leaves the process as it was."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import sys
from pipeline.settings import Settings
import pipeline.chain.client, pipeline.chain.deployment, pipeline.chain.contracts
pipeline.chain.client.ChainClient.from_settings(Settings(_env_file=None))
heavy = {name.split(".")[0] for name in sys.modules} & {
    "web3", "eth_account", "eth_abi", "eth_utils", "eth_keys", "requests", "urllib3", "aiohttp", "vyper"}
sys.exit(f"imported: {heavy}" if heavy else 0)
"""


LIMIT = """
import sys
from pipeline.chain.client import ChainClient
from pipeline.errors import NodeUnreachable
from pipeline.settings import Settings
before = sys.getrecursionlimit()
closed = "http://127.0.0.1:1"
client = ChainClient(Settings(_env_file=None, blockchain_rpc_url=closed, blockchain_private_key="4c" * 32))
if "{first}" == "signer":
    client.signer_address
else:
    try:
        client.head()
    except NodeUnreachable:
        pass
sys.exit(0 if "web3" in sys.modules and sys.getrecursionlimit() == before else "the limit has changed")
"""


@pytest.mark.parametrize("first", ["signer", "node"])
def test_the_recursion_limit_stays(first: str) -> None:
    """A library below web3 raises it so far that nested JSON would kill the process."""
    script = LIMIT.replace("{first}", first)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_web3_is_imported_only_when_a_node_is_asked() -> None:
    """Nor anything that comes with it; web3 alone takes 2 s."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
