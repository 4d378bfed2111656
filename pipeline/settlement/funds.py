"""The wallet is looked at once a minute: operators are told before it is empty."""

from __future__ import annotations

from pipeline import incidents
from pipeline.chain.client import ChainClient
from pipeline.errors import FundsLow
from pipeline.ledger import funds
from pipeline.ledger import incidents as ledger

#: Seconds between two looks, by whichever process.
LOOK_SECONDS = 60.0

#: Funds that last for fewer days are told of; the incident is over when they last for more than the other,
#: so that the fees of a few blocks do not end it and begin it again.
LOW_DAYS, ENOUGH_DAYS = 1.0, 1.5

#: In wei: one coin of the chain, as people count them.
COIN_WEI = 10**18


def look(chain: ChainClient) -> None:
    """Ask for the signer's balance and note it, if that is due. Raises `ChainError` when none can tell."""
    signer = chain.signer_address
    if not funds.balance_is_due(chain.chain_id, signer, after_seconds=LOOK_SECONDS):
        return
    balance_wei = chain.balance_wei()
    funds.record_balance(chain.chain_id, signer, balance_wei)
    _judge(incidents.of_signer(chain.chain_id, signer), balance_wei, chain)


def _judge(subject: str, balance_wei: int, chain: ChainClient) -> None:
    spent_wei = funds.spent_per_day_wei(chain.chain_id, chain.signer_address)
    days = funds.days_left(balance_wei, spent_wei)
    if days is not None and days < LOW_DAYS:
        error = FundsLow(
            f"{chain.signer_address} has {balance_wei / COIN_WEI:g}, which lasts for {days * 24:.1f} hours: "
            f"the last 24 have cost {spent_wei / COIN_WEI:g}"
        )
        incidents.report(error, subject=subject, level="fatal")
    enough = days is None or days > ENOUGH_DAYS
    # Of an earlier key nobody needs the funds any more.
    for told in ledger.subjects_of(FundsLow.__name__):
        if told.startswith(f"{chain.chain_id}:") and (told != subject or enough):
            ledger.end(FundsLow.__name__, told)
