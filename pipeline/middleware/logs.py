"""Brings `pipeline.logs` to the processes that Dramatiq and periodiq start."""

from __future__ import annotations

from typing import Any

import dramatiq


class LogMiddleware(dramatiq.Middleware):
    """Put it last: Dramatiq calls after-hooks in reverse, and what boots before logs in Dramatiq's form."""

    def after_process_boot(self, broker: dramatiq.Broker) -> None:
        """A worker process has loaded the actors."""
        from pipeline.errors import SettingsError
        from pipeline.logs import configure_logging
        from pipeline.settings import get_settings

        try:
            configure_logging(get_settings())
        except SettingsError:
            return  # `Process` says what is wrong, and ends the worker

    def before_enqueue(
        self, broker: dramatiq.Broker, message: dramatiq.Message[Any], delay: int | None
    ) -> None:
        """Periodiq emits nothing at its start; only its messages have ``scheduled_at``."""
        if "scheduled_at" in message.options:
            from pipeline.logs import configure_once
            from pipeline.settings import get_settings

            configure_once(get_settings())
