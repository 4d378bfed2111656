"""An EVM node in Python, for ``credential-pipeline demo`` and ``up``: nothing to install beside pip.

A chain of one producer, on py-evm, behind JSON-RPC over HTTP. `EvmServer` starts it; the
rest of this package runs in that process and is imported by nobody else.
"""

from pipeline.embedded.evm.server import EvmServer

__all__ = ["EvmServer"]
