"""Metrics: named in `catalogue`, counted in each process by `recorder`, added up in Redis by `shared`.

`readings` has what SQL and Redis tell of now; `exposition` gives all of it to Prometheus.
"""
