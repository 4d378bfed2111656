"""Servers that only tests need: a node, a fake Sentry. All are guarded, and end with the test run."""
