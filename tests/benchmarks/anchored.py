"""What became of credentials: by the registry's log on the chain, and by the rows; not by our own counts."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

import psycopg

from pipeline.merkle import MerkleTree, leaf_hash
from tests.servers.anvil import Anvil
from tests.truth import ANCHORED

WRITES = """
SELECT credential_id, data_hash, COALESCE(ipfs_cid, ''), salt, batch_id, state, finished_at FROM writes
"""


@dataclass(frozen=True)
class Outcome:
    """Of credentials that were handed in: none of the first three is to be.

    ``lost`` has neither failed nor is it confirmed, or is not on the chain although the row says so;
    ``twice`` is there more than once, or under a root that no batch has. ``confirmed_at``: sorted.
    """

    lost: int
    failed: int
    twice: int
    confirmed_at: list[float]


def outcome(anvil: Anvil, registry: str, admin: psycopg.Connection[Any], count: int) -> Outcome:
    """Of ``count`` credentials with a write each. Roots are made anew, of what the rows say is in them."""
    times = _times_anchored(anvil, registry)
    failed, confirmed_at, members = set(), [], defaultdict(list)
    for credential_id, data_hash, cid, salt, batch_id, state, finished_at in admin.execute(WRITES):
        if state == "failed":
            failed.add(credential_id)
        elif batch_id is not None:
            leaf = leaf_hash(credential_id, bytes.fromhex(data_hash), cid, bytes(salt))
            members[batch_id].append((credential_id, leaf, state == "confirmed"))
        if state == "confirmed":
            confirmed_at.append(float(finished_at))
    roots = {"0x" + MerkleTree(leaf for _, leaf, _ in batch).root.hex(): batch for batch in members.values()}
    there: Counter[str] = Counter()
    sure = set()
    for root, batch in roots.items():
        there.update({credential_id: times[root] for credential_id, *_ in batch})
        sure |= {credential_id for credential_id, _, confirmed in batch if confirmed and times[root]}
    twice = sum(number > 1 for number in there.values()) + sum(root not in roots for root in times)
    return Outcome(count - len(sure) - len(failed), len(failed), twice, sorted(confirmed_at))


def _times_anchored(anvil: Anvil, registry: str) -> Counter[str]:
    wanted = {"address": registry, "topics": [ANCHORED], "fromBlock": "0x0", "toBlock": "latest"}
    return Counter(log["topics"][1] for log in anvil.rpc("eth_getLogs", wanted))
