"""What is done to a run: one function for each fault, which returns what it has done in some words.

Each returns only when the fault is over, or goes on by itself; what it waits for is a condition.
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.chaos.faults import chain, messages, node, processes, servers
from tests.chaos.faults.waiting import Make

FAULTS: Mapping[str, Make] = {
    "kill -9 of a worker": processes.kill_worker,
    "kill -9 at a boundary": processes.kill_at_a_boundary,
    "worker stopped past its heartbeat": processes.stop_worker,
    "SIGTERM": processes.terminate_master,
    "kill -9 of the scheduler": processes.kill_scheduler,
    "FLUSHALL": servers.flush_redis,
    "kill -9 of Redis": servers.restart_redis,
    "kill -9 of Redis without its file": servers.restart_redis_empty,
    "Redis stands still": servers.pause_redis,
    "Redis cuts connections": servers.cut_redis,
    "Redis is full": servers.fill_redis,
    "restart of PostgreSQL": servers.restart_postgres,
    "PostgreSQL cuts connections": servers.cut_postgres,
    "locks in the wrong order": servers.deadlock,
    "reply cut after broadcast": node.cut_replies,
    "node refuses": node.refuse_requests,
    "node away": node.go_away,
    "node answers 429 or 5xx": node.answer_status,
    "node cuts its answer in half": node.truncate_replies,
    "one of two nodes lags": node.lag,
    "reorg": chain.reorganise,
    "node restarted from an older state": chain.fall_back,
    "transaction dropped": chain.drop_transaction,
    "base fee above the cap": chain.raise_base_fee,
    "wallet empty": chain.empty_wallet,
    "nonce left out": chain.skip_nonce,
    "nonce used by somebody else": chain.use_nonce,
    "pause and resume": messages.pause_and_resume,
    "messages doubled": messages.double_messages,
    "undecodable message": messages.send_rubbish,
    "the same many times at once": messages.hand_in_again,
    "dead letter replayed many times at once": messages.replay_at_once,
}
