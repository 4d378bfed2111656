"""What an issuer brings: documents, and a registry of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipeline.chain.client import ChainClient
from pipeline.hashing import document_hash
from pipeline.settings import Settings
from tests.servers.anvil import Anvil

#: A document, its hash, the hash of another, and the CID of something else.
DOCUMENT = {"name": "Ada", "grade": 1.0}
HASH = document_hash(DOCUMENT)
OTHER_HASH = "ab" * 32
CID = "QmbWqxBEKC3P8tqsKc98xmWNzrzDtRLMiMPL8wBuTGsMnR"


def document(number: int) -> dict[str, Any]:
    """A credential as an issuer has it."""
    return {"type": "Diploma", "holder": f"Holder {number}", "grade": 1.5, "year": 2026}


def queue_documents(count: int, *, start: int = 0) -> list[str]:
    """Sync that many credentials, ``c0``, ``c1`` and so on; returns the job ids."""
    from pipeline.credentials import sync

    numbers = range(start, start + count)
    return sync([{"credential_id": f"c{n}", "document": document(n)} for n in numbers])


def completed(client: Any, count: int) -> Callable[[], bool]:
    """Whether ``count`` jobs are completed, to be waited for."""
    return lambda: bool(client.get_job_counts()["completed"] == count)


def chain_variables(anvil: Anvil, *, rpc_url: str | None = None) -> dict[str, object]:
    """Settings for a freshly deployed registry; ``rpc_url`` is a proxy's."""
    account = anvil.accounts[0]
    variables: dict[str, Any] = {
        "blockchain_rpc_url": anvil.rpc_url,
        "blockchain_chain_id": anvil.chain_id,
        "blockchain_private_key": account.private_key,
    }
    deployed = ChainClient(Settings(**variables)).deploy()
    return {
        **variables,
        "blockchain_contract_address": deployed.contract_address,
        "blockchain_rpc_url": rpc_url or anvil.rpc_url,
    }
