"""The chain: the only place where web3 appears. It knows no database.

* ``client``    the façade that actors and commands use
* ``guards``    what must hold before something is signed
* ``registry``  calls of the CredentialRegistry contract, whose source is in ``contracts``
* ``signer``    who signs: keystore file, key file, environment; ``dynamic_fee`` makes the bytes
* ``fees``      what a transaction offers
* ``answers``   what a node's answer to a sent transaction means
* ``blocks``    blocks and receipts as values; ``block_receipts`` reads whole blocks of them
* ``anchoring`` where a root was anchored; ``reverts`` why a transaction failed
* ``loading``   the import of web3, late and without side effects
* ``rpc``       JSON-RPC over several URLs, each an ``endpoint``; ``masking`` hides their tokens

Importing any of these is cheap; web3 is imported at the first call to a node.
"""
