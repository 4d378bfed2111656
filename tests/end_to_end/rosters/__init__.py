"""Rosters for workers that are not quite like those of production."""
