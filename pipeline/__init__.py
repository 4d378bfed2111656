"""A queue of blockchain writes for credential issuers: the map.

* handing in and asking: `client`, `credentials`, `events`, `erasure`; `queueing_actor`, `intake`, `queueing`
* the stages, called by the actors: `verification`, `ready`, `chain_writing`, `outlook`, `sending`,
  `settlement`, `completion`
* what goes wrong: `attempts`, `malformed`, `burial`, `deadletters`, `replaying`, `holding`, `incidents`
* the sweeps: `settlement`, `reconciliation`, `retention`
* the truth, in SQL: `models`, `database`, `migrations`, `ledger` (every transition), `status`, `timeline`
* delivery, in Redis: `broker`, `middleware`, `consumer`, `messages`, `queues`, `results`, `limiter`
* the chain, which knows no database: `chain`
* proofs: `hashing`, `cid`, `merkle`, `anchors`, `receipt`, `dump`, `proof`, `witness`, `verdict`
* for operators: `cli`, `dashboard`, `doctor`, `stats`, `pausing`, `metrics`, `alerts`, `monitor`, `logs`,
  `transitions`
* for issuers' tests, and for servers on this machine: `testing`, `embedded`

`actors` is the roster that ``dramatiq pipeline.actors`` loads; `settings` and `errors` are below all else.
"""
