"""What a worker process does at its start, between messages, and at its end."""

from __future__ import annotations

import importlib
import logging
from typing import Any

import dramatiq
from dramatiq.worker import Worker, WorkerThread

logger = logging.getLogger(__name__)

#: Loaded at the boot, so that the first message does not pay for them.
PRELOADED = (
    "pipeline.verification",
    "pipeline.chain_writing",
    "pipeline.settlement",
    "pipeline.reconciliation",
    "pipeline.completion",
)


class Process(dramatiq.Middleware):
    """Checks the settings, opens Sentry, keeps connections fresh, closes what was opened."""

    def before_worker_boot(self, broker: dramatiq.Broker, worker: Worker) -> None:
        """Refuse to start with wrong settings; anything but SystemExit would be swallowed here."""
        from pipeline.errors import SettingsError

        try:
            _prepare()
        except SettingsError as exc:
            logger.critical("%s", exc)
            raise SystemExit(2) from None
        for module in PRELOADED:
            importlib.import_module(module)

    def before_enqueue(
        self, broker: dramatiq.Broker, message: dramatiq.Message[Any], delay: int | None
    ) -> None:
        """Keep exception texts out of Redis: they may quote a URL with a token."""
        message.options.pop("traceback", None)

    def before_process_message(self, broker: dramatiq.Broker, message: dramatiq.MessageProxy) -> None:
        """Forget a connection that the database server has cut meanwhile."""
        from pipeline.database import drop_broken_connection

        drop_broken_connection()

    def before_worker_thread_shutdown(self, broker: dramatiq.Broker, thread: WorkerThread) -> None:
        """Close this thread's connection."""
        from pipeline.database import close_connection

        close_connection()

    def after_worker_shutdown(self, broker: dramatiq.Broker, worker: Worker) -> None:
        """Let alerts leave before the process does."""
        from pipeline.alerts import flush

        flush()


def _prepare() -> None:
    """Read settings, key and DSN. Raises `SettingsError` for what is wrong with any of them."""
    from pipeline.alerts import start_sentry
    from pipeline.settings import worker_settings

    settings = worker_settings()
    start_sentry(settings)
    if settings.blockchain_mock_enabled:
        logger.warning("BLOCKCHAIN_MOCK_ENABLED: nothing is written to any chain")
        return
    from pipeline.chain.client import chain_client

    logger.info("chain writes are signed by %s", chain_client().signer_address)
