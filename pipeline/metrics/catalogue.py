"""Every metric, once: name, what it tells, labels, buckets. Prometheus's conventions.

Base units, ``pipeline_`` before all names, ``_total`` after those of counters. No label has an id for
its value, nor anything that somebody from outside has chosen. docs/metrics.md explains each.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Metric:
    """``labels``: their names, in order. ``known``: for each, the values that are shown from the start."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    known: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Counter(Metric):
    """Goes up only, over all processes; begins anew when Redis is wiped."""


@dataclass(frozen=True, slots=True)
class Gauge(Metric):
    """What is so now, read when it is asked for."""


@dataclass(frozen=True, slots=True)
class Histogram(Metric):
    """``buckets``: the upper bounds, less the last one, which has none."""

    buckets: tuple[float, ...] = field(default=(), kw_only=True)


STAGES = ("hash_verify", "chain_write", "settle", "db_update")

#: How an attempt can end: passed on, to be made again later, or for good.
SUCCEEDED, RETRIED, FAILED = OUTCOMES = ("succeeded", "retried", "failed")

#: How a call of a node can end; ``error`` is an answer too, in JSON-RPC's words.
OK, ERROR, NO_ANSWER = ("ok", "error", "no_answer")

#: What ends attempts for good, by stage. Others come up as they happen, but then a first thousand at once
#: would be a new series, in which ``increase()`` sees nothing.
USUAL_ERRORS = {
    "hash_verify": (
        "HashMismatch", "InvalidDocument", "InvalidInput", "UnexpectedError", "UnknownCredential",
        "WorkerKilled",
    ),
    "chain_write": ("NodeRejected", "NodeUnreachable", "UnexpectedError", "WorkerKilled"),
    "settle": ("TransactionReverted",),
}  # fmt: skip

#: Seconds of work: from one row to a sweep whose node is slow.
WORK_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

#: Seconds on the way: from a development chain to a day's outage.
WAY_SECONDS = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 900, 3600, 14_400, 86_400)

# --- counted where it happens ----------------------------------------------------------------------

ATTEMPTS = Counter(
    "pipeline_attempts_total",
    "Attempts at credentials that have ended, by stage and outcome",
    ("stage", "outcome"),
    tuple((stage, outcome) for stage in STAGES for outcome in OUTCOMES),
)
DEAD_LETTERS = Counter(
    "pipeline_dead_letters_total",
    "Credentials that failed for good, by stage and error",
    ("stage", "error"),
    tuple((stage, error) for stage, errors in USUAL_ERRORS.items() for error in errors),
)
STAGE_DURATION = Histogram(
    "pipeline_stage_duration_seconds",
    "Seconds that one run of a stage has worked, for as many credentials as it had",
    ("stage",),
    tuple((stage,) for stage in STAGES),
    buckets=WORK_SECONDS,
)
END_TO_END = Histogram(
    "pipeline_end_to_end_seconds",
    "Seconds from queued to confirmed, for each credential",
    buckets=WAY_SECONDS,
)
SETTLEMENT = Histogram(
    "pipeline_settlement_seconds",
    "Seconds from a transaction's signature until it was deep enough in the chain, for each batch",
    buckets=WAY_SECONDS,
)
BATCH_SIZE = Histogram(
    "pipeline_batch_size_credentials",
    "Credentials in one batch, when it was written",
    buckets=(1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 5000, 10_000),
)
LIMITER_SLOTS = Counter("pipeline_limiter_slots_total", "Slots of the rate limit that were used")
LIMITER_WAIT = Histogram(
    "pipeline_limiter_wait_seconds",
    "Seconds that a chain write has waited for its slot of the rate limit",
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
RPC_CALLS = Counter(
    "pipeline_rpc_calls_total", "Calls of Ethereum nodes, by method and outcome", ("method", "outcome")
)
RPC_DURATION = Histogram(
    "pipeline_rpc_duration_seconds",
    "Seconds until a node has answered, or failed to; calls in one request take the same",
    ("method",),
    buckets=WORK_SECONDS,
)
REPLACEMENTS = Counter(
    "pipeline_replacements_total", "Transactions that were signed once more, dearer, as they were stuck"
)
GAP_FILLS = Counter(
    "pipeline_gap_fills_total", "Transactions without content that were signed to fill a gap of nonces"
)
REORGS = Counter("pipeline_reorgs_total", "Transactions whose block a reorg has taken away")
UNCONFIRMED = Counter(
    "pipeline_unconfirmed_total", "Credentials that were confirmed, and are pending again for a reorg"
)
GAS_USED = Counter("pipeline_gas_used_total", "Gas that mined transactions have used")
GAS_SPENT = Counter("pipeline_gas_spent_wei_total", "What that gas has cost, in wei")

# --- read when it is asked for ---------------------------------------------------------------------

JOBS = Gauge("pipeline_jobs", "Jobs in each state, without those that were purged", ("state",))
OLDEST = Gauge(
    "pipeline_oldest_age_seconds",
    "Since when the oldest job of a state is queued, or has ended; 0 when there is none",
    ("state",),
)
READY = Gauge(
    "pipeline_limiter_waiting_credentials",
    "Verified credentials that are due to be written, and wait for the rate limit or a place in flight",
)
UTILIZATION = Gauge(
    "pipeline_limiter_utilization_ratio", "Part of the rate limit's slots that is taken, from 0 to 1"
)
IN_FLIGHT = Gauge("pipeline_transactions_in_flight", "Nonces that are signed for and not mined")
OLDEST_UNMINED = Gauge(
    "pipeline_oldest_unmined_age_seconds",
    "Seconds since the oldest of these was signed; 0 when there is none",
)
SETTLE_LAG = Gauge(
    "pipeline_settle_lag_seconds",
    "Seconds since the oldest batch was signed that is not deep enough in the chain; 0 when there is none",
)
HEAD_NUMBER = Gauge("pipeline_head_block_number", "The newest block up to which a sweep has looked")
HEAD_AGE = Gauge("pipeline_head_age_seconds", "Seconds since the time that this block names")
BALANCE = Gauge("pipeline_signer_balance_wei", "What the signer owns, in wei, as a node last said")
BALANCE_AT = Gauge("pipeline_signer_balance_timestamp_seconds", "When that was")
OPEN_LETTERS = Gauge("pipeline_dead_letters_open", "Dead letters that nobody has replayed or discarded")
INCIDENTS = Gauge("pipeline_incidents_open", "Incidents that are not over, by error", ("error",))
PAUSED = Gauge("pipeline_paused", "1 while an operator has paused chain writing")
HELD = Gauge("pipeline_held", "1 while chain writing is held: by funds, fees, role, chain or settings")
LAST_SUCCESS = Gauge(
    "pipeline_last_success_timestamp_seconds", "When a sweep last came to its end, by sweep", ("sweep",)
)
SCHEDULER_SEEN = Gauge(
    "pipeline_scheduler_seen_timestamp_seconds", "When a message of the scheduler last reached a worker"
)
WORKERS = Gauge("pipeline_worker_processes", "Worker processes that have reported within 15 seconds")
UP = Gauge("pipeline_up", "1 when this server has answered just now", ("server",))
BUILD = Gauge("pipeline_build_info", "Always 1; what is running", ("version", "python_version"))

#: All of them, in the order in which they are shown.
METRICS: tuple[Metric, ...] = tuple(value for value in list(vars().values()) if isinstance(value, Metric))
