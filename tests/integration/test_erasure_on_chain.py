"""Promise: the receipt that a holder took before an erasure verifies as long as the registry has the root."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline.anchors import receipt_of
from pipeline.erasure import erase
from pipeline.errors import CredentialErased
from pipeline.hashing import document_text
from pipeline.models import Batch
from pipeline.proof import Verdict, verify
from pipeline.settlement import settle
from pipeline.status import status_of_credential, tree_of
from tests.issuer import document
from tests.servers.anvil import Anvil
from tests.servers.fault_proxy import FaultProxy
from tests.settling import confirmed, settle_and_complete, write


def anchor(anvil: Anvil, count: int) -> None:
    """That many in one batch, three blocks ago."""
    write(count)
    settle()
    anvil.mine(3)
    settle_and_complete()
    assert confirmed() == count


def test_the_holders_receipt(proxy: FaultProxy, anvil: Anvil, use: Callable[..., None]) -> None:
    """Of one in a batch of three: it is valid, with its document too; its neighbours get theirs as before."""
    use(batch_max_size=1000)
    anchor(anvil, 3)
    receipts = [receipt_of(f"c{number}") for number in range(3)]
    assert erase("c1") == 1
    tree_of.cache_clear()
    with pytest.raises(CredentialErased):
        receipt_of("c1")
    assert [receipt_of("c0"), receipt_of("c2")] == [receipts[0], receipts[2]]
    for number, receipt in enumerate(receipts):
        found = verify(receipt, document_text(document(number)), rpc_urls=[anvil.rpc_url])
        assert found == Verdict("valid")


def test_a_reorg(proxy: FaultProxy, anvil: Anvil, use: Callable[..., None]) -> None:
    """It is pending, the same bytes go out, it is confirmed in another block; the receipt is valid again."""
    use(batch_max_size=1000)
    anchor(anvil, 3)
    receipt, before = receipt_of("c1"), Batch.get()
    erase("c1")
    anvil.rpc("anvil_reorg", 3, [])
    anvil.mine()
    settle_and_complete()
    assert confirmed() == 0
    assert status_of_credential("c1")["status"] == "active"
    settle()
    anvil.mine(2)
    settle_and_complete()
    assert confirmed() == 3
    after = Batch.get()
    assert (after.merkle_root, after.transaction_hash) == (before.merkle_root, before.transaction_hash)
    assert after.block_hash != before.block_hash
    assert status_of_credential("c1")["result"]["leaf_salt"] is None
    assert verify(receipt, rpc_urls=[anvil.rpc_url]).verdict == "valid"
