"""The third stage: what the chain says of the transactions that wait for it.

One sweep for all of them, so that the width of the pipe is not the number of threads.

* ``sweep``     the order of it, one process at a time
* ``view``      the chain at one moment
* ``lineage``   blocks of which it is proven that they are below the head
* ``outcomes``  a nonce was used: by a transaction of ours, in vain, or by somebody else's
* ``watch``     confirmed blocks that a reorg takes away
* ``pace``      when the next sweep is due
* ``healing``   bytes that go out again, gaps that are filled, fees that are raised
"""

from pipeline.settlement.sweep import settle

__all__ = ["settle"]
