"""What the verification of a receipt ends with."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be held of a receipt.

    ``step`` is the one that failed, or could not be taken; None when all hold. ``reason`` says
    why, on one line; of a valid receipt it has what is worth knowing, or is None.
    """

    verdict: Literal["valid", "invalid", "revoked", "unknown"]
    step: (
        Literal["receipt", "document", "leaf", "proof", "chain", "registry", "issuer", "revocation"] | None
    ) = None
    reason: str | None = None

    def as_json(self) -> dict[str, str | None]:
        """``verdict``, ``step``, ``reason``."""
        return asdict(self)
