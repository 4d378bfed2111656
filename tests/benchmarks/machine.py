"""On what a benchmark was run: figures mean nothing without it."""

from __future__ import annotations

import platform
import time
from typing import Any

import psutil
import psycopg
import redis

from tests.benchmarks.peer import Peer
from tests.benchmarks.site import Site
from tests.servers import anvil_binary


def described(site: Site, peer: Peer | None = None) -> dict[str, Any]:
    """Cores, memory, load, versions and the date; also the peer's versions."""
    with psycopg.connect(site.postgres.url) as admin, redis.Redis.from_url(site.valkey.url) as client:
        information: Any = client.info("server")
        version = admin.info.server_version
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "cores": len(site.cores),
        "memory_gb": round(psutil.virtual_memory().total / 2**30),
        "load_before": site.load_before,
        "python": platform.python_version(),
        "postgresql": f"{version // 10_000}.{version % 10_000}",
        "valkey": information.get("valkey_version", information["redis_version"]),
        "anvil": anvil_binary.VERSION,
        **({"peer": peer.versions()} if peer else {}),
    }
