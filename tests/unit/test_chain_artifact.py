"""Promise: the bytecode and ABI in the package are what the source in the package compiles to."""

from __future__ import annotations

import hashlib
import json

from pipeline.chain.contracts import REGISTRY_VERSION, registry_artifact
from pipeline.chain.contracts.build import ARTIFACT, SOURCE, compile_registry


def test_the_source_compiles_to_what_is_shipped() -> None:
    """Byte for byte, metadata included, with the pinned compiler."""
    assert compile_registry() == json.loads(ARTIFACT.read_text("utf-8"))


def test_the_artifact_names_its_source_and_compiler() -> None:
    """So that anybody can compile it again, and an explorer verify it."""
    shipped = json.loads(ARTIFACT.read_text("utf-8"))
    assert shipped["source_sha256"] == hashlib.sha256(SOURCE.read_bytes()).hexdigest()
    assert shipped["compiler"]["version"] == "0.4.3"
    assert shipped["compiler"]["settings"]["evm_version"] == "paris"


def test_the_artifact_is_read_from_the_package() -> None:
    """The contract fits a deployment (EIP-170, EIP-3860), and knows the version that clients look for."""
    artifact = registry_artifact()
    assert 0 < len(artifact.bytecode) < 24_576
    assert REGISTRY_VERSION.encode() in artifact.bytecode
    names = {entry["name"] for entry in artifact.abi if entry["type"] == "function"}
    assert names >= {
        "anchor",
        "isAnchored",
        "verify",
        "verifyCredential",
        "anchoredBy",
        "revokeRoot",
        "revokeLeaf",
    }
