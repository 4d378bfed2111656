"""Chain writing waits while chain, wallet or settings are not fit for it, and goes on by itself.

Nothing is wrong with the credentials: they pay no attempt, and none becomes a dead letter.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from pipeline import incidents
from pipeline.chain.client import ChainClient
from pipeline.errors import (
    ChainError,
    FeeCeiling,
    InsufficientFunds,
    NoContract,
    NotAnIssuer,
    PipelineError,
    SettingsError,
    WrongChain,
)
from pipeline.ledger import chains, under_way
from pipeline.ledger import incidents as ledger
from pipeline.settings import get_settings

logger = logging.getLogger(__name__)

#: What holds chain writing; `pipeline.ledger.incidents.HOLDING` has their names, and `ChainReset`.
HOLDS = (InsufficientFunds, NotAnIssuer, FeeCeiling, WrongChain, NoContract, SettingsError)

#: Those that are about one wallet: another one's is another incident.
OF_A_WALLET = (InsufficientFunds, NotAnIssuer)


def hold(error: PipelineError, *, signer: str | None = None) -> None:
    """Let chain writing wait until `review` finds it fit again; one alert for each wallet it is about."""
    incidents.report(error, subject=_subject(error, signer))


def _subject(error: PipelineError, signer: str | None) -> str:
    chain_id = get_settings().blockchain_chain_id
    if signer and isinstance(error, OF_A_WALLET):
        return incidents.of_signer(chain_id, signer)
    return str(chain_id)


@dataclass(frozen=True, slots=True)
class Fit:
    """What was seen of chain and wallet: how many nonces are in flight, and more anchors are paid for."""

    in_flight: int
    affordable: int


def check(chain: ChainClient, *, fresh: bool = False, used_below: int = 0) -> Fit:
    """Check all guards, with what the ledger knows of chain and wallet. Raises as they do.

    ``used_below``: see `under_way.in_flight`.
    """
    known = chains.genesis_hash(chain.chain_id)
    in_flight = under_way.in_flight(chain.chain_id, chain.signer_address, used_below)
    affordable = chain.check_guards(fresh=fresh, reserved_wei=in_flight.reserved_wei, genesis_hash=known)
    if known is None:
        chains.remember(chain.chain_id, chain.genesis_hash())
    return Fit(in_flight.count, affordable)


def review(chain: ChainClient) -> None:
    """Let chain writing go on once nothing is against it any more."""
    try:
        check(chain, fresh=True)
    except HOLDS as error:
        signer = None if isinstance(error, SettingsError) else chain.signer_address
        ledger.end_holds(but=(error.code, _subject(error, signer)))
        hold(error, signer=signer)
        return
    except ChainError as exc:
        logger.warning("chain writing is still held: %s", exc.message)
        return
    over = ledger.end_holds()
    if over:
        logger.warning("chain writing goes on: %s is over", ", ".join(over))
