"""Promise: a registry, a receipt and a verdict are a command each; the verdict needs nothing but a node."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline import proof
from pipeline.chain.registry import encode
from pipeline.embedded.workers import Workers
from tests.chain import registered
from tests.command_line import Ended, Environment, Run, line
from tests.issuer import chain_variables, document
from tests.ledger import finish_all
from tests.receipts import OTHER
from tests.servers.anvil import Anvil
from tests.whole_batches import anchored, from_hex, mined


def test_proof(run: Run) -> None:
    """The receipt, with and without --json; exit 1 while it is not completed."""
    run("enqueue", "-", stdin=line(1))
    ended = run("proof", "c1")
    assert (ended.code, ended.out) == (1, "")
    finish_all()
    receipt = run("proof", "c1").json
    assert receipt == run("proof", "c1", "--json").json
    assert (receipt["type"], receipt["version"], receipt["mock"]) == ("credential-pipeline-receipt", 1, True)
    assert receipt["leaf_values"][0] == "c1"
    whole_batch(run, receipt["merkle_root"])


def whole_batch(run: Run, root: str) -> None:
    """Its dump, also with --json, on one line; exit 1 for a root that no batch has."""
    dump = run("proof", "--batch", root[2:].upper())
    assert dump.json == proof.batch_dump(root)
    assert dump.out == run("proof", "--batch", root, "--json").out
    assert dump.out.count("\n") == 1
    ended = run("proof", "--batch", OTHER, "--json")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == f"error: NotAnchored: batch {OTHER}: there is none with this root\n"


@pytest.mark.parametrize("arguments", [(), ("c1", "--batch", OTHER), ("--batch", "0x12")])
def test_proof_of_nothing(run: Run, arguments: tuple[str, ...]) -> None:
    """Exit 2: neither a credential nor a batch, both, or what is no root."""
    ended = run("proof", *arguments)
    assert (ended.code, ended.out) == (2, "")


@pytest.mark.parametrize("content", ["no JSON", '{"type": "credential-pipeline-receipt"}'])
def test_verify_no_receipt(run: Run, tmp_path: Path, content: str) -> None:
    """Exit 2."""
    (tmp_path / "receipt.json").write_text(content)
    assert run("verify", "receipt.json", "--json").code == 2


def test_verify_with_nothing_but_a_node(
    run: Run,
    tmp_path: Path,
    environment: dict[str, str],
    start_anvil: Callable[..., Anvil],
    start_workers: Callable[..., Workers],
    worker_environment: Environment,
) -> None:
    """Valid 0, wrong document 1, node down 3, and in each case what failed; no database is touched."""
    anvil = start_anvil()
    chain = {name.upper(): str(value) for name, value in chain_variables(anvil).items()}
    start_workers(environment=environment | chain | {"BLOCKCHAIN_MOCK_ENABLED": "false"})
    run("enqueue", "-", stdin=line(1))
    assert run("wait", "c1", "--timeout", "30").code == 0
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "receipt.json").write_text(run("proof", "c1").out)
    (tmp_path / "right.json").write_text(json.dumps(document(1)))
    (tmp_path / "wrong.json").write_text(json.dumps(document(2)))
    stopped = {"redis_url": "redis://127.0.0.1:9", "database_url": "postgresql://127.0.0.1:9/none"}
    bare = worker_environment(blockchain_rpc_url=anvil.rpc_url, **stopped)

    def verify(*files: str) -> tuple[int, dict[str, Any]]:
        command = [sys.executable, "-m", "pipeline.cli", "verify", *files, "--json"]
        done = subprocess.run(command, env=bare, capture_output=True, text=True, cwd=empty, check=False)
        return done.returncode, Ended(done).json

    code, found = verify("../receipt.json", "../right.json")
    assert (code, found["verdict"], found["step"]) == (0, "valid", None)
    code, found = verify("../receipt.json", "../wrong.json")
    assert (code, found["verdict"], found["step"]) == (1, "invalid", "document")
    anvil.kill()
    code, found = verify("../receipt.json")
    assert (code, found["verdict"], found["step"]) == (3, "unknown", "chain")
    assert found["reason"]
    assert list(empty.iterdir()) == []


def test_how_verify_ends(run: Run, tmp_path: Path, anvil: Anvil, start_anvil: Callable[..., Anvil]) -> None:
    """Beside a node that lags valid 0, and once revoked 1; on another chain unknown 3."""
    chain = registered(anvil)
    batch = anchored(chain, anvil.rpc_url, 2)
    receipt = proof.receipt("c0")
    (tmp_path / "receipt.json").write_text(json.dumps(receipt))
    behind, elsewhere = start_anvil(), start_anvil(chain_id=5)

    def verify(*nodes: Anvil) -> tuple[int, str]:
        urls = ",".join(node.rpc_url for node in nodes)
        ended = run("verify", "receipt.json", "--json", blockchain_rpc_url=urls)
        return ended.code, ended.json["verdict"]

    assert verify(behind, anvil) == (0, "valid")
    assert verify(behind, elsewhere) == (3, "unknown")
    revocation = encode("revokeLeaf", from_hex(batch.root), from_hex(receipt["leaf"]))
    call = {"from": chain.signer_address, "to": chain.contract_address, "data": "0x" + revocation.hex()}
    mined(chain, anvil.rpc("eth_sendTransaction", call))
    assert verify(behind, anvil) == (1, "revoked")


def test_deploy_twice(run: Run, anvil: Anvil) -> None:
    """Two independent registries; no contract address is needed."""
    settings: dict[str, Any] = {
        "blockchain_mock_enabled": "false",
        "blockchain_rpc_url": anvil.rpc_url,
        "blockchain_private_key": anvil.accounts[0].private_key,
    }
    first, second = (run("deploy", "--json", **settings) for _ in range(2))
    assert (first.code, second.code) == (0, 0)
    assert set(first.json) >= {"contract_address", "transaction_hash", "block_number", "chain_id", "issuer"}
    assert first.json["contract_address"] != second.json["contract_address"]
    assert first.json["chain_id"] == anvil.chain_id


def test_deploy_without_a_key(run: Run) -> None:
    """Exit 2, naming what is missing."""
    ended = run("deploy", "--json", blockchain_mock_enabled="false")
    assert (ended.code, ended.out) == (2, "")
    assert "BLOCKCHAIN_PRIVATE_KEY" in ended.complaint
