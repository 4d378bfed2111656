"""Measurements that documents cite. Each starts its own servers; none runs with the test suite."""
