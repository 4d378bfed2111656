"""Promise: the fault proxy is as strict as geth, and says it in geth's words, where it is told to; what was
sent through it is recorded."""

from __future__ import annotations

import pytest

from pipeline.embedded.jsonrpc import call
from tests.json_rpc import FEES, GWEI, post, refusal, request, signed
from tests.servers.anvil import Anvil
from tests.servers.fault_proxy import SEND, FaultProxy


def test_words_of_geth(anvil: Anvil, proxy: FaultProxy) -> None:
    """In place of anvil's, with geth's code; what anvil says is seen too."""
    first, second = signed(anvil), signed(anvil, value=1)
    rich = signed(anvil, 1, value=10**23)
    assert refusal(proxy, first[0]) is None
    anvils = [refusal(proxy, first[0]), refusal(proxy, rich[0])]
    proxy.geth_words = True
    assert refusal(proxy, first[0]) == (-32000, "already known")
    anvil.mine()
    assert refusal(proxy, second[0]) == (-32000, "nonce too low: next nonce 1, tx nonce 0")
    code, words = refusal(proxy, rich[0]) or (0, "")
    assert (code, words.partition(":")[0]) == (-32000, "insufficient funds for gas * price + value")
    proxy.geth_words = False
    assert [*anvils, refusal(proxy, second[0])] == [
        (-32003, "transaction already imported"),
        (-32003, "Insufficient funds for gas * price + value"),
        (-32003, "nonce too low"),
    ]


def raised(max_fee_percent: float, tip_percent: float) -> dict[str, int]:
    """The fees of `FEES`, so many per cent higher."""
    percents = zip(FEES.items(), (max_fee_percent, tip_percent), strict=True)
    return {name: int(fee * (100 + percent) / 100) for (name, fee), percent in percents}


@pytest.mark.parametrize(
    ("percents", "taken"),
    [((10, 10), True), ((12.5, 12.5), True), ((9.99, 20), False), ((20, 9.99), False), ((5, 5), False)],
)
def test_strict_replacements(
    anvil: Anvil, proxy: FaultProxy, percents: tuple[float, float], taken: bool
) -> None:
    """Both fees have to be 10 % higher; the same bytes are no replacement, anvil's 1 wei is not enough."""
    proxy.strict_replacements = True
    assert refusal(proxy, signed(anvil)[0]) is None
    assert refusal(proxy, signed(anvil)[0]) == (-32003, "transaction already imported")
    new = signed(anvil, **raised(*percents))
    expected = None if taken else (-32000, "replacement transaction underpriced")
    assert refusal(proxy, new[0]) == expected
    (waiting,) = anvil.rpc("txpool_content")["pending"][anvil.address.lower()].values()
    assert (waiting["hash"] == new[1]) is taken
    # Compared with the one that was taken last; other nonces are their own.
    again = signed(anvil, **raised(*(percent + 10 for percent in percents)))
    assert (refusal(proxy, again[0]) is None) is not taken
    assert refusal(proxy, signed(anvil, 1)[0]) is None


def test_anvil_alone_is_not_strict(anvil: Anvil, proxy: FaultProxy) -> None:
    """Which is why the proxy is."""
    assert refusal(proxy, signed(anvil)[0]) is None
    assert refusal(proxy, signed(anvil, **raised(1, 1))[0]) is None


def test_strict_replacements_of_a_gas_price(anvil: Anvil, proxy: FaultProxy) -> None:
    """It is both fees, between both types of transactions."""
    proxy.strict_replacements = True
    assert refusal(proxy, signed(anvil, gasPrice=100 * GWEI)[0]) is None
    assert refusal(proxy, signed(anvil, gasPrice=109 * GWEI)[0])
    assert refusal(proxy, signed(anvil, maxFeePerGas=120 * GWEI, maxPriorityFeePerGas=20 * GWEI)[0])
    assert refusal(proxy, signed(anvil, gasPrice=110 * GWEI)[0]) is None


def test_strict_replacements_of_what_anvil_forgot(anvil: Anvil, proxy: FaultProxy) -> None:
    """geth would still have a transaction that anvil has dropped; one that is mined is no matter of fees."""
    proxy.strict_replacements = True
    raw, hash_ = signed(anvil)
    assert refusal(proxy, raw) is None
    anvil.rpc("anvil_dropTransaction", hash_)
    assert refusal(proxy, signed(anvil, value=1)[0]) == (-32000, "replacement transaction underpriced")
    assert refusal(proxy, raw) is None
    anvil.mine()
    assert refusal(proxy, signed(anvil, value=1)[0]) == (-32003, "nonce too low")


def test_what_was_sent_is_recorded(anvil: Anvil, proxy: FaultProxy) -> None:
    """In order: hash, nonce, fees and the node's answer, whatever the client was told of it."""
    first, second = signed(anvil), signed(anvil, 1, gasPrice=50 * GWEI)
    proxy.cut_reply(SEND)
    with pytest.raises(ConnectionError):
        call(proxy.url, SEND, first[0])
    proxy.answer_status(SEND, 429)
    post(proxy, request(1, SEND, first[0]))
    assert refusal(proxy, first[0])
    assert refusal(proxy, second[0]) is None
    assert refusal(proxy, "0x02ff")
    assert refusal(proxy, "0x")
    fees = (100 * GWEI, 10 * GWEI)
    assert [sent[:5] for sent in proxy.sent] == [
        (first[1], 0, *fees, "accepted"),
        (first[1], 0, *fees, None),
        (first[1], 0, *fees, "transaction already imported"),
        (second[1], 1, 50 * GWEI, 50 * GWEI, "accepted"),
    ]
    assert proxy.counts[SEND] == 6
