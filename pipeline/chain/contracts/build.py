"""Compile the registry again: ``python -m pipeline.chain.contracts.build`` (needs ``vyper``).

Vyper's output depends on the source and the compiler's version alone: the settings stand in
the source, and the metadata at the bytecode's end hold a hash of both.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SOURCE = HERE / "CredentialRegistry.vy"
ARTIFACT = HERE / "CredentialRegistry.json"


def compile_registry() -> dict[str, Any]:
    """What the artifact file has to hold. Raises vyper's error when the source does not compile."""
    from vyper import __version__, compile_code  # type: ignore[import-untyped, unused-ignore]  # untyped, and not always installed

    source = SOURCE.read_text("utf-8")
    output = compile_code(source, output_formats=["abi", "bytecode", "settings_dict"])
    return {
        "contract": "CredentialRegistry",
        "compiler": {"name": "vyper", "version": __version__, "settings": output["settings_dict"]},
        "source_sha256": hashlib.sha256(source.encode()).hexdigest(),
        "abi": output["abi"],
        "bytecode": output["bytecode"],
    }


def main() -> None:
    """Write the artifact file."""
    ARTIFACT.write_text(json.dumps(compile_registry(), indent=1) + "\n", "utf-8")
    print(ARTIFACT)


if __name__ == "__main__":
    main()
