"""Promise: ``/metrics`` adds up what all processes have counted, and says what SQL knows and who is away."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families

from pipeline.database import database
from pipeline.embedded.valkey import ValkeyServer
from pipeline.errors import HashMismatch, InsufficientFunds, NodeUnreachable
from pipeline.ledger import batches, chains, control, finality, incidents, nonces, tallies, verification
from pipeline.metrics import catalogue, exposition, recorder, shared
from pipeline.models import Batch, DeadLetter, Signer, Write
from tests.databases import on_sqlite
from tests.ledger import ACCOUNT, FAILING, confirmed, failed, queued, verified, written

#: By series: its name and its labels.
Values = dict[str, float]

#: An attempt of the first stage that fails.
VERIFYING = FAILING | {"stage": "hash_verify"}


def scrape() -> Values:
    """Every sample of one scrape, as ``name{label=value,…}``."""
    body, content_type = exposition.render()
    assert content_type.startswith("text/plain")
    found: Values = {}
    for family in text_string_to_metric_families(body.decode()):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[sample.name + (f"{{{labels}}}" if labels else "")] = sample.value
    return found


@pytest.fixture(autouse=True)
def _nothing_counted_before() -> Iterator[None]:
    recorder.take()
    yield
    recorder.take()


def test_what_sql_knows(client: Any) -> None:
    """Counts as `get_job_counts` has them, ages, and what is under way, on both databases."""
    rows = [queued(), verified(), written(), confirmed(), failed()]
    now = time.time()
    for row, age in zip(rows, (100, 200, 300, 400, 500), strict=True):
        Write.update(queued_at=now - age).where(Write.id == row.write_id).execute()
        Write.update(finished_at=now - age).where(
            Write.id == row.write_id, Write.finished_at.is_null(False)
        ).execute()
    Batch.update(submitted_at=now - 60).where(Batch.id == rows[2].batch_id).execute()
    incidents.begin(InsufficientFunds.__name__, "1:0x", "no funds")
    control.set_paused(True)
    for name in (control.LAST_SETTLE, control.LAST_PURGE, control.SCHEDULER_SEEN):
        control.note_time(name)
    found = scrape()
    for state, count in client.get_job_counts().items():
        assert found[f"pipeline_jobs{{state={state}}}"] == count
    ages = {"waiting": 100, "active": 200, "delayed": 0, "completed": 400, "failed": 500}
    for state, age in ages.items():
        assert found[f"pipeline_oldest_age_seconds{{state={state}}}"] == pytest.approx(age, abs=20)
    assert found["pipeline_limiter_waiting_credentials"] == 1
    assert found["pipeline_transactions_in_flight"] == 1
    assert 0 < found["pipeline_oldest_unmined_age_seconds"] < 60
    assert found["pipeline_settle_lag_seconds"] == pytest.approx(60, abs=20)
    assert found["pipeline_dead_letters_open"] == DeadLetter.select().count() == 1
    assert found["pipeline_incidents_open{error=InsufficientFunds}"] == 1
    assert found["pipeline_held"] == found["pipeline_paused"] == 1
    assert found["pipeline_last_success_timestamp_seconds{sweep=purge}"] == pytest.approx(now, abs=20)
    assert "pipeline_last_success_timestamp_seconds{sweep=reconcile}" not in found
    assert found["pipeline_scheduler_seen_timestamp_seconds"] == pytest.approx(now, abs=20)
    assert found["pipeline_up{server=database}"] == found["pipeline_up{server=redis}"] == 1


def test_what_was_seen_of_the_chain(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its number, its age, and the balance of the key in use, as sweeps have seen them: no node is asked."""
    assert "pipeline_head_age_seconds" not in scrape()
    monkeypatch.setenv("BLOCKCHAIN_CHAIN_ID", "31337")
    client.shutdown_blockchain_queue()
    from pipeline.settings import get_settings

    get_settings.cache_clear()
    chains.remember(31337, "0x00")
    assert "pipeline_head_age_seconds" not in scrape()
    chains.mark_seen(31337, 7, "0x07", time.time() - 90)
    found = scrape()
    assert found["pipeline_head_block_number"] == 7
    assert found["pipeline_head_age_seconds"] == pytest.approx(90, abs=20)
    assert "pipeline_signer_balance_wei" not in found
    written()
    earlier = nonces.lock_signer(31337, "0xearlier", 0)
    for signer, wei, at in ((ACCOUNT.signer, str(5 * 10**20), 20.5), (earlier.address, "1", 10.5)):
        Signer.update(balance_wei=wei, balance_at=at).where(Signer.address == signer).execute()
    found = scrape()
    assert found["pipeline_signer_balance_wei"] == 5e20
    assert found["pipeline_signer_balance_timestamp_seconds"] == 20.5


def deliver(redis_url: str) -> None:
    """As a worker process does."""
    with redis.Redis.from_url(redis_url) as connection:
        shared.Delivery(connection).deliver()


@on_sqlite
def test_every_transition_counts_once(client: Any, redis_url: str) -> None:
    """By stage and outcome, credentials and not batches; what is rolled back does not count."""
    confirmed()
    failed()
    rows = queued()
    verification.begin([rows.write_id])
    verification.fail_attempt(
        [rows.write_id], NodeUnreachable("no answer"), **FAILING | {"stage": "hash_verify"}
    )
    verified()
    with database.atomic() as transaction:
        batches.submit_mock(verified().batch_id)
        transaction.rollback()
    place = next(iter(finality.watched(31337)))
    assert finality.unconfirm(place) == [Write.get(Write.batch == place.batch_id).credential_id]
    deliver(redis_url)
    found = scrape()
    attempts = {
        (stage, outcome): found[f"pipeline_attempts_total{{outcome={outcome},stage={stage}}}"]
        for stage in catalogue.STAGES
        for outcome in catalogue.OUTCOMES
    }
    assert {key: value for key, value in attempts.items() if value} == {
        ("hash_verify", "succeeded"): 3,
        ("hash_verify", "retried"): 1,
        ("chain_write", "succeeded"): 1,
        ("chain_write", "failed"): 1,
        ("settle", "succeeded"): 1,
        ("db_update", "succeeded"): 1,
    }
    assert found["pipeline_dead_letters_total{error=NodeUnreachable,stage=chain_write}"] == 1
    assert found["pipeline_end_to_end_seconds_count"] == found["pipeline_settlement_seconds_count"] == 1
    assert found["pipeline_batch_size_credentials_sum"] == 1
    assert found["pipeline_gas_used_total"] == 50_000
    assert found["pipeline_gas_spent_wei_total"] == 50_000 * 10**9
    assert found["pipeline_reorgs_total"] == found["pipeline_unconfirmed_total"] == 1


@on_sqlite
def test_buckets(client: Any, redis_url: str) -> None:
    """They are cumulative, a bound belongs to its bucket, and what nobody has observed is zero."""
    recorder.observe(catalogue.LIMITER_WAIT, [0.01, 0.02, 61.5])
    deliver(redis_url)
    recorder.observe(catalogue.LIMITER_WAIT, [0.02])
    deliver(redis_url)
    found = scrape()
    bucket = "pipeline_limiter_wait_seconds_bucket{{le={}}}"
    assert [found[bucket.format(le)] for le in ("0.01", "0.05", "60.0", "+Inf")] == [1, 3, 3, 4]
    assert found["pipeline_limiter_wait_seconds_sum"] == pytest.approx(61.55)
    assert found["pipeline_stage_duration_seconds_count{stage=settle}"] == 0
    assert found["pipeline_replacements_total"] == 0
    with pytest.raises(ValueError, match="has the labels"):
        recorder.add(catalogue.RPC_CALLS, method="eth_call")


@on_sqlite
def test_a_delivery_whose_answer_is_lost(client: Any, redis_url: str) -> None:
    """It is sent again and counts once; what came after it is not lost."""
    with redis.Redis.from_url(redis_url) as connection:
        delivery = shared.Delivery(connection)
        recorder.add(catalogue.REORGS, 2)
        delivery.deliver()
        recorder.add(catalogue.REORGS, 3)
        monitored = delivery._script
        delivery._script = lambda **call: [monitored(**call), _cut()]
        with pytest.raises(redis.ConnectionError):
            delivery.deliver()
        recorder.add(catalogue.REORGS, 5)
        delivery._script = monitored
        delivery.deliver()
        assert scrape()["pipeline_reorgs_total"] == 10
        assert scrape()["pipeline_worker_processes"] == 1
        delivery.leave()
    assert scrape()["pipeline_worker_processes"] == 0


def _cut() -> None:
    raise redis.ConnectionError("cut")


@on_sqlite
def test_a_wipe_and_an_outage_of_redis(
    client: Any, start_valkey: Callable[..., ValkeyServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a wipe counters begin anew; while Redis is away SQL's part is there."""
    from pipeline.settings import get_settings

    server = start_valkey()
    monkeypatch.setenv("REDIS_URL", server.url)
    get_settings.cache_clear()
    with redis.Redis.from_url(server.url) as connection:
        delivery = shared.Delivery(connection)
        tallies.replaced()
        delivery.deliver()
        connection.flushall()
        assert scrape()["pipeline_replacements_total"] == 0
        tallies.replaced()
        delivery.deliver()
        assert scrape()["pipeline_replacements_total"] == 1
        tallies.replaced()
        server.stop()
        with pytest.raises(redis.RedisError):
            delivery.deliver()
        found = scrape()
        assert (found["pipeline_up{server=redis}"], found["pipeline_up{server=database}"]) == (0, 1)
        assert found["pipeline_jobs{state=completed}"] == 0
        assert "pipeline_replacements_total" not in found
        server.start()
        delivery.deliver()
        assert scrape()["pipeline_replacements_total"] in (1, 2), "with or without what the server kept"


@on_sqlite
def test_sql_is_away(client: Any, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the counters are there, and no gauge pretends to know."""
    from tests.databases import use_url

    tallies.gap_filled()
    deliver(redis_url)
    with monkeypatch.context() as patch:
        use_url("postgresql://127.0.0.1:1/nobody", patch)
        found = scrape()
    assert (found["pipeline_up{server=database}"], found["pipeline_up{server=redis}"]) == (0, 1)
    assert found["pipeline_gap_fills_total"] == 1
    assert not [name for name in found if name.startswith(("pipeline_jobs", "pipeline_held"))]


@on_sqlite
def test_errors_are_told_by_class(client: Any, redis_url: str) -> None:
    """Neither a credential's id nor an error's text is in the page."""
    rows = queued()
    canary = Write.get_by_id(rows.write_id).credential_id
    verification.begin([rows.write_id])
    error = HashMismatch(f"credential {canary!r}: SECRET")
    verification.fail_attempt([rows.write_id], error, **VERIFYING)
    deliver(redis_url)
    body = exposition.render()[0].decode()
    assert 'pipeline_dead_letters_total{error="HashMismatch",stage="hash_verify"} 1.0' in body
    assert canary not in body
    assert "SECRET" not in body
