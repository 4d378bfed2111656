"""The registry contract: its source, and what ``python -m pipeline.chain.contracts.build`` made of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

#: What ``version()`` of the contract answers; a client knows the registry by it.
REGISTRY_VERSION = "CredentialRegistry 1"


@dataclass(frozen=True, slots=True)
class Artifact:
    """A compiled contract; ``bytecode`` is what a deployment sends."""

    abi: list[dict[str, Any]]
    bytecode: bytes


@cache
def registry_artifact() -> Artifact:
    """The registry as it is shipped with this package."""
    shipped = json.loads(files(__name__).joinpath("CredentialRegistry.json").read_text("utf-8"))
    return Artifact(abi=shipped["abi"], bytecode=bytes.fromhex(shipped["bytecode"].removeprefix("0x")))
