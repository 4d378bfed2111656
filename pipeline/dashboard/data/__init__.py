"""What the pages read, one noun a file: plain functions that return frozen dataclasses.

Nothing here writes, and nothing asks a node. Each takes 50 ms at most with a million rows. Times are
seconds since the epoch, unless the name or the type says otherwise; amounts are in wei.
"""
