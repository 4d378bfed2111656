"""Every error of the pipeline, in one tree.

* PipelineError                  what a caller can catch to catch them all
    * SettingsError              a variable is missing or wrong
    * InvalidInput               permanent: what was handed in can never be anchored
        * InvalidCredentialId
        * InvalidDataHash
        * InvalidCid
        * InvalidDocument
        * InvalidPriority
        * HashMismatch           the document's hash is not the one to be anchored
        * CidMismatch            the CID's digest is not the data hash (CID_DIGEST_CHECK)
        * UnknownCredential      no such row in ``credentials``
        * InvalidReceipt         not an anchor receipt
    * WorkerKilled               permanent: its worker has died of it, as often as that is tried
    * ConflictingWrite           another hash or CID of that credential is pending
    * WritePending               it can not be erased while a write of it is pending
    * CredentialErased           its salt is gone: nothing can be proved or replayed
    * ErasureIncomplete          erased, but a copy may be left in a file or in Redis
    * UnknownDeadLetter          no open dead letter of that id
    * WriteFailed                the write that a caller waited for has failed
    * NotAnchored                there is no proof: the write is not completed
    * ChainError                 transient unless a subclass says otherwise
        * NodeUnreachable        no RPC URL gave an answer
        * NodeRejected           the node refused a transaction for good
        * WrongChain             the node serves another chain id
            * ChainReset         the same chain id, but not the chain that was written to
        * NoContract             no registry at the configured address
        * NotAnIssuer            the registry does not let the signer write
        * InsufficientFunds      the signer's balance does not cover the transaction
        * FundsLow               what the signer has lasts for less than a day
        * FeeCeiling             the market's fee is above BLOCKCHAIN_MAX_FEE_GWEI
        * NonceConflict          another user of the key took the nonce
        * StuckTransaction       not mined, and a higher fee would be above BLOCKCHAIN_MAX_FEE_GWEI
        * UntakenTransaction     not mined, and nothing here can make it dearer or have it taken
        * FinalBlockRemoved      a reorg took away what counted as final
        * TransactionReverted    permanent: mined with status 0
    * BrokerUnavailable          Redis does not answer; what was stored goes out later
    * DatabaseUnavailable        SQL does not answer

A class knows whether it is ``permanent``: permanent errors go to the dead letters at the
first attempt, all others are tried ``RETRY_MAX_ATTEMPTS`` times. An exception from
outside this tree counts as transient.
"""

from __future__ import annotations

from typing import ClassVar


class PipelineError(Exception):
    """Base of all errors here. Messages are one line and carry no secrets."""

    #: Whether trying again can not help.
    permanent: ClassVar[bool] = False

    @property
    def code(self) -> str:
        """The name under which status documents and alerts report this error."""
        return type(self).__name__

    @property
    def message(self) -> str:
        """The text, on one line, of characters that both databases take."""
        return " ".join(str(self).split()).replace("\0", "\\x00").encode(errors="backslashreplace").decode()


class SettingsError(PipelineError):
    """One or more environment variables are missing or wrong; the message names them all."""

    permanent = True


class InvalidInput(PipelineError, ValueError):
    """What was handed in breaks a rule; the message names the value and the rule."""

    permanent = True


class InvalidCredentialId(InvalidInput):
    """Not a str of 1 to 255 characters without control characters."""


class InvalidDataHash(InvalidInput):
    """Not 64 hex digits, with or without ``0x``."""


class InvalidCid(InvalidInput):
    """Neither a CIDv0 nor a CIDv1 in text form."""


class InvalidDocument(InvalidInput):
    """Not a JSON object that RFC 8785 can canonicalise, or over the size limit."""


class InvalidPriority(InvalidInput):
    """Neither ``"urgent"`` nor ``"normal"``."""


class HashMismatch(InvalidInput):
    """The SHA-256 of the canonical document differs from the hash to be anchored."""


class CidMismatch(InvalidInput):
    """The digest in a raw CID differs from the data hash."""


class UnknownCredential(InvalidInput, LookupError):
    """There is no row for this credential."""


class ConflictingWrite(PipelineError):
    """A write of the same credential with another hash or CID is still pending."""

    permanent = True


class WritePending(PipelineError):
    """A write of the credential is pending: it needs document and salt."""


class CredentialErased(PipelineError):
    """The salt is gone for good, and with it what a receipt or a replay would need."""

    permanent = True


class ErasureIncomplete(PipelineError):
    """The rows are erased; what is named may still have a copy. To erase once more finishes it."""


class WorkerKilled(PipelineError):
    """Handling this has ended the worker process, every time it was delivered."""

    permanent = True


class UnknownDeadLetter(PipelineError, LookupError):
    """There is no open dead letter with this id."""

    permanent = True


class WriteFailed(PipelineError):
    """The awaited write has failed; the message is that of its error."""

    permanent = True


class NotAnchored(PipelineError):
    """The credential's write is not completed, so that there is nothing to prove yet."""


class ChainError(PipelineError):
    """Something between us and the chain; transient unless a subclass says otherwise."""


class NodeUnreachable(ChainError):
    """None of the RPC URLs gave a usable answer."""


class NodeRejected(ChainError):
    """The node refused the transaction in a way that sending it again can not mend."""


class WrongChain(ChainError):
    """The node serves another chain id than BLOCKCHAIN_CHAIN_ID."""


class ChainReset(WrongChain):
    """The node's first block is not that of the chain that was written to: a development chain began anew."""

    def __init__(self, chain_id: int, expected: str, found: str) -> None:
        super().__init__(
            f"chain {chain_id} began with block {expected} when it was last written to, "
            f"the node's begins with {found}: a development chain that was wiped is not written to; "
            "use a new database, or another node"
        )


class NoContract(ChainError):
    """There is no CredentialRegistry at BLOCKCHAIN_CONTRACT_ADDRESS."""


class NotAnIssuer(ChainError):
    """The registry does not let the configured signer write."""


class InsufficientFunds(ChainError):
    """The signer's balance does not cover the transaction."""


class FundsLow(ChainError):
    """The signer's balance lasts for less than a day at what the last one has cost."""


class FeeCeiling(ChainError):
    """The fee that the chain asks for is above BLOCKCHAIN_MAX_FEE_GWEI."""


class NonceConflict(ChainError):
    """A transaction that is not ours has used the signer's nonce."""


class StuckTransaction(ChainError):
    """A transaction waits in vain, and what would replace it is above BLOCKCHAIN_MAX_FEE_GWEI."""


class UntakenTransaction(ChainError):
    """A transaction waits in vain: no node takes it, or only an earlier key could make it dearer."""


class FinalBlockRemoved(ChainError):
    """A block that was final is not in the chain any more."""


class TransactionReverted(ChainError):
    """The transaction was mined with status 0; the message names the contract's reason."""

    permanent = True


class BrokerUnavailable(PipelineError):
    """Redis does not answer."""


class DatabaseUnavailable(PipelineError):
    """The database does not answer."""


class InvalidReceipt(InvalidInput):
    """Not an anchor receipt of a version that this program knows."""
