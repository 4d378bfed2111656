"""The roster: ``dramatiq pipeline.actors`` and ``periodiq pipeline.actors`` load this.

Queues, for ``-Q``: ``urgent``, ``hash_verify``, ``chain_write``, ``db_update``, ``dead_letter``, ``sweeps``.
"""

from actors.chain_write import chain_write
from actors.db_update import db_update
from actors.dead_letter import dead_letter
from actors.hash_verify import hash_verify, hash_verify_jobs, hash_verify_many, hash_verify_urgent
from actors.purge import purge
from actors.reconcile import reconcile
from actors.settle import settle
from pipeline.broker import broker

__all__ = [
    "broker",
    "chain_write",
    "db_update",
    "dead_letter",
    "hash_verify",
    "hash_verify_jobs",
    "hash_verify_many",
    "hash_verify_urgent",
    "purge",
    "reconcile",
    "settle",
]
