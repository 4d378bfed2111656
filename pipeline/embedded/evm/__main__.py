"""The node's process: ``python -m pipeline.embedded.evm --port N --data FILE``."""

from __future__ import annotations

import argparse
import logging
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.embedded.evm import methods
from pipeline.embedded.evm.chain import Chain
from pipeline.embedded.evm.http import make_server
from pipeline.embedded.evm.server import CHAIN_ID, DEVELOPMENT_KEY

#: How often the chain is asked whether a new block is due.
TICK_SECONDS = 0.1


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    options = _options()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    chain = Chain(options.chain_id, options.funded_key, options.data)
    lock = threading.Lock()

    def answer(method: str, params: Sequence[Any]) -> Any:
        with lock:
            return methods.answer(chain, method, params)

    server = make_server(options.port, answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    logging.info(
        "chain %d on 127.0.0.1:%d at block %d", chain.chain_id, options.port, chain.head.block_number
    )
    stopped = _stopped_by_signal()
    while not stopped.wait(TICK_SECONDS):
        with lock:
            chain.tick()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pipeline.embedded.evm", description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="on the loopback address")
    parser.add_argument("--data", type=Path, required=True, help="the file that keeps the chain")
    parser.add_argument("--chain-id", type=int, default=CHAIN_ID)
    parser.add_argument("--funded-key", default=DEVELOPMENT_KEY, help="owns all ether at the beginning")
    return parser.parse_args()


def _stopped_by_signal() -> threading.Event:
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stopped.set())
    return stopped


if __name__ == "__main__":
    main()
