"""What stores the writes of credentials that have none yet, in one round trip (`pipeline.ledger.fresh`).

Functions, and no single statement: each statement in one has a snapshot of its own, so that what
somebody else has committed is seen once his lock on the credential is gone. On SQLite there is no
round trip to save.
"""

from typing import Any

from peewee import SqliteDatabase

#: Plans are made once for each session, when the tables may be empty: they must do for a million rows.
#: An index scan takes the rows in the order of their ids, so that two who take some of the same wait
#: for each other in one order.
PLANS = "SET enable_seqscan = off SET enable_bitmapscan = off SET plan_cache_mode = force_generic_plan"

#: Looked at once more when the credentials are ours: whoever had them before may have queued one. What
#: was changed by then has to go back.
OVERTAKEN = "RAISE EXCEPTION 'not as fresh as it was' USING ERRCODE = 'data_exception'"

COLUMNS = (
    "job_id, credential_id, data_hash, ipfs_cid, salt, leaf, priority,"
    " own_message, state, attempts, queued_at, updated_at, sent_at, due_at"
)

#: As `pipeline.ledger.metadata.mark_pending`.
MARK_PENDING = """
    UPDATE credentials SET updated_at = to_timestamp(now), metadata = (
        CASE jsonb_typeof(credentials.metadata::jsonb)
        WHEN 'object' THEN credentials.metadata::jsonb ELSE '{}'::jsonb END
        - ARRAY['blockchain_error', 'blockchain_transaction_hash', 'blockchain_block_number',
            'blockchain_confirmed_at']
    ) || '{"blockchain_status": "pending"}'::jsonb
"""

#: The id of the new write; null, and nothing done, for an unknown credential and one that has a write;
#: `OVERTAKEN` for one that has got one meanwhile.
ONE = """
CREATE FUNCTION queue_fresh_write(
    credential text, job text, hash text, cid text, salt bytea, leaf bytea, priority text,
    own_message boolean, now double precision, due double precision
) RETURNS bigint LANGUAGE plpgsql PLANS AS $$
#variable_conflict use_variable
DECLARE
    made bigint;
BEGIN
    IF EXISTS (SELECT 1 FROM writes WHERE credential_id = credential) THEN
        RETURN NULL;
    END IF;
    MARK_PENDING WHERE id = credential;
    IF NOT FOUND THEN
        RETURN NULL;
    ELSIF EXISTS (SELECT 1 FROM writes WHERE credential_id = credential) THEN
        OVERTAKEN;
    END IF;
    INSERT INTO writes (COLUMNS) VALUES (
        job, credential, hash, cid, salt, leaf, priority, own_message, 'queued', 0, now, now,
        coalesce(due, now), due
    ) RETURNING id INTO made;
    RETURN made;
END $$
"""

#: The same for many, none of them twice: the ids in their order; null when one has a write, `OVERTAKEN` when
#: one is unknown.
#: Texts end at line ends (a CID that is none is empty), salts and leaves have 32 bytes each.
MANY = """
CREATE FUNCTION queue_fresh_writes(
    credentials_ text, jobs text, hashes text, cids text, salts bytea, leaves bytea, priorities text,
    own_message boolean, now double precision, due double precision
) RETURNS bigint[] LANGUAGE plpgsql PLANS AS $$
#variable_conflict use_variable
DECLARE
    names text[] := string_to_array(credentials_, E'\\n');
    known bigint;
    made bigint[];
BEGIN
    IF EXISTS (SELECT 1 FROM writes WHERE credential_id = ANY (names)) THEN
        RETURN NULL;
    END IF;
    MARK_PENDING WHERE id = ANY (names);
    GET DIAGNOSTICS known = ROW_COUNT;
    IF known <> cardinality(names) OR EXISTS (SELECT 1 FROM writes WHERE credential_id = ANY (names)) THEN
        OVERTAKEN;
    END IF;
    WITH inserted AS (
        INSERT INTO writes (COLUMNS)
        SELECT job, name, hash, nullif(cid, ''), substr(salts, 1 + 32 * (number - 1)::integer, 32),
            substr(leaves, 1 + 32 * (number - 1)::integer, 32), priority, own_message, 'queued', 0, now, now,
            coalesce(due, now), due
        FROM unnest(
            names, string_to_array(jobs, E'\\n'), string_to_array(hashes, E'\\n'),
            string_to_array(cids, E'\\n'), string_to_array(priorities, E'\\n')
        ) WITH ORDINALITY AS given (name, job, hash, cid, priority, number)
        ORDER BY number
        RETURNING id
    )
    SELECT array_agg(id ORDER BY id) INTO made FROM inserted;
    RETURN made;
END $$
"""

REPLACED = {"PLANS": PLANS, "COLUMNS": COLUMNS, "MARK_PENDING": MARK_PENDING, "OVERTAKEN": OVERTAKEN}


def up(migrator: Any, db: Any) -> None:
    """Make the functions."""
    if isinstance(db, SqliteDatabase):
        return
    for function in (ONE, MANY):
        for place, text in REPLACED.items():
            function = function.replace(place, text)
        db.execute_sql(function)


def down(migrator: Any, db: Any) -> None:
    """Drop them."""
    if not isinstance(db, SqliteDatabase):
        for name in ("queue_fresh_write", "queue_fresh_writes"):
            db.execute_sql(f"DROP FUNCTION {name}")
