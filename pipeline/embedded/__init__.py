"""Servers and workers that a command owns: started with it, ended with it, whatever ends it.

Used by ``credential-pipeline demo`` and ``up`` and by the tests; never in production.
Nothing is imported here: the guard's start must stay cheap.
"""
