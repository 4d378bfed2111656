"""The credential that is measured with: as long as the peer's, with a float and a name that is not ASCII."""

from __future__ import annotations

from typing import Any


def document(number: int) -> dict[str, Any]:
    """One of many; only the holder tells them apart. Its RFC 8785 form has some 640 bytes."""
    return {
        "@context": ["https://www.w3.org/ns/credentials/v2", "https://www.w3.org/ns/credentials/examples/v2"],
        "type": ["VerifiableCredential", "ExampleDegreeCredential"],
        "issuer": {"id": "did:example:76e12ec712ebc6f1c221ebfeb1f", "name": "Universität Musterstadt"},
        "validFrom": "2026-06-30T12:00:00Z",
        "credentialSubject": {
            "name": f"Holder {number}",
            "degree": {
                "type": "ExampleBachelorDegree",
                "name": "Bachelor of Science and Arts",
                "field": "Computer Science",
                "grade": 1.5,
            },
            "graduation": "2026-06-15",
            "honours": False,
            "year": 2026,
        },
        "credentialStatus": {"type": "ExampleStatusList", "purpose": "revocation", "index": 94567},
    }
