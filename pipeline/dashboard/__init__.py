"""The dashboard: pages for people, a JSON API and metrics for machines.

``credential-pipeline dashboard`` runs it. It reads Redis and SQL, and changes only what the
command line can change too, by the same functions. `app` puts it together, `access` says who
may do what, `pages` shows, `actions` changes, `api` answers machines.
"""
