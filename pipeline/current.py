"""The broker in use: the pipeline's own, or the one that stands in for it in an issuer's tests.

Not Dramatiq's global one, which belongs to whichever program has set it.
"""

from __future__ import annotations

import dramatiq

_broker: dramatiq.Broker | None = None


def use(broker: dramatiq.Broker) -> dramatiq.Broker | None:
    """Let messages go to ``broker``; returns the one before."""
    global _broker
    before, _broker = _broker, broker
    return before


def broker() -> dramatiq.Broker:
    """The broker in use. Raises RuntimeError where `pipeline.actors` was never imported."""
    if _broker is None:
        raise RuntimeError("there is no broker yet: import pipeline.actors first")
    return _broker
