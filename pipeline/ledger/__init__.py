"""The ledger: every state transition, one room each. SQL is the truth; Redis only delivers.

* `queueing`       what credential code hands in becomes a write (queued)
* `fresh`          the same for credentials that have no write yet, in one statement
* `verification`   queued: an attempt begins, and ends or fails
* `joining`        queued → verified, and into an open batch
* `batches`        which batch is next; an attempt at it fails, or it is submitted
* `transactions`   what was signed, what the node said of it, where it was mined
* `confirmation`   verified → confirmed
* `dead_letters`   any state → failed, and back by a replay
* `recovery`       rows whose message is gone
* `retention`      what a purge takes away
* `erasure`        document and salts go for good
* `journal`        what rows do not tell: failed attempts, reorgs, who replayed
* `outbox`         events that are not published yet
* `fixed`          queries that are written once, for what each credential takes
* `bulk`           many rows in one statement, each with values of its own
* `counts`         how many writes are in each state; `states` says which those are
* `gauges`, `history`   what is so now, and what was in each minute
* `tallies`        what is counted for the metrics, once it is committed
* `steps`          what is logged of a batch's members, once it is committed
* `incidents`, `funds`   what operators have to know; what the signer has, and spends in a day
* `leases`, `control`   who runs a sweep; pause and other switches
* `sessions`       who is logged in to the dashboard, and who tried in vain

Every transition is a guarded update: ``UPDATE … WHERE id = ? AND state = ?``. Row count 0
means that somebody else did it. Locks are taken in the order signer, batch, writes, credentials.
"""
