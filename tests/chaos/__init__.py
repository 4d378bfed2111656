"""Faults at random on real servers, and what must hold after them: ``./run chaos --help``."""
