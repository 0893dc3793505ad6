"""A statement of a channel that its witnesses decided proves what was really moved, whatever each side's own record says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from tests.engine.channels.disputes.court import Court, CourtNode
from tests.engine.channels.disputes.test_adversary import cheated_asleep
from tests.engine.channels.rig import until
from zstui.engine.channels.statements.build import build
from zstui.engine.verification import verify_document

pytestmark = pytest.mark.usefixtures("clean")


async def statement(node: CourtNode) -> dict[str, Any]:
    made = await node.db.read(lambda tx: build(tx, node.id, node.clock.now_us()))
    decoded: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(made))
    return decoded


def wrong(document: dict[str, Any]) -> list[str]:
    return [check.detail for check in verify_document(document) if not check.ok]


def _two_signatures(document: dict[str, Any]) -> None:
    documents = document["channels"][0]["documents"]
    for name in [name for name in documents if name.startswith("verdict_")][2:]:
        del documents[name]


def _one_signature_thrice(document: dict[str, Any]) -> None:
    documents = document["channels"][0]["documents"]
    documents.update(dict.fromkeys([name for name in documents if name.startswith("verdict_")], documents["verdict_1"]))


FORGERIES: tuple[Callable[[dict[str, Any]], None], ...] = (
    _two_signatures,
    _one_signature_thrice,
    lambda d: d["channels"][0].update(received_u=600),
    lambda d: d["moved_u"].update(dict.fromkeys(d["moved_u"], 550)),
    lambda d: d["channels"][0]["pays_theirs"].pop(0),
)


async def test_what_a_sleeping_victim_lost_by_verdict_is_what_its_statement_proves(full: Court) -> None:
    channel, who = await cheated_asleep(full)
    await until(lambda: len(full.b.disputes._files[bytes.fromhex(channel)].verdicts) >= 3)

    document = await statement(full.b)
    (shown,) = document["channels"]
    assert (shown["paid_u"], shown["received_u"]) == (0, 100), "its own record says 50 paid and 600 received"
    assert document["moved_u"] == {who.identity.peer_id: 100} == {who.identity.peer_id: full.b.service.owed()[0]}
    assert wrong(document) == []
    assert "3 of 4 witnesses signed 0.0051" in verify_document(document)[0].detail
    for forge in FORGERIES:
        forged = msgspec.json.decode(msgspec.json.encode(document))
        forge(forged)
        assert wrong(forged)
    await full.b.db.write(lambda tx: tx.execute("DELETE FROM channel_envelopes") and None)
    assert wrong(await statement(full.b)) == [], "the verdict proves it where the payments were pruned"
