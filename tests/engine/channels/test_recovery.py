"""Lost links, lost frames, crashes and restored backups, between two real services."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.engine.channels.rig import Node, line, state, until
from tests.engine.channels.wire import Auditor, Loser, filtered
from zstui.engine.channels.state import State
from zstui.engine.clock import ManualClock
from zstui.engine.errors import ChannelError, CreditExceeded, ZsError
from zstui.engine.net.memory import MemoryHub

DAY = 86_400

pytestmark = pytest.mark.usefixtures("clean")
Pair = tuple[Node, Node]


def settled(a: Node, b: Node, id: str) -> bool:
    """Nothing is unacknowledged and both see the same."""
    one, two = a.service.view(id), b.service.view(id)
    return (one.mine_u, one.theirs_u, one.unacknowledged) == (two.theirs_u, two.mine_u, 0) and two.unacknowledged == 0


def copy(node: Node, to: Path) -> None:
    """A consistent backup of a live database."""
    source, target = sqlite3.connect(node.path), sqlite3.connect(to)
    source.backup(target)
    source.close()
    target.close()


def put_back(node: Node, backup: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        Path(f"{node.path}{suffix}").unlink(missing_ok=True)
    shutil.copy(backup, node.path)


async def restore(node: Node, backup: Path, tainted: bool = False) -> None:
    """Go back to a backup and start again."""
    await node.stop()
    put_back(node, backup)
    node.tainted = tainted
    await node.start()


async def test_a_payment_made_while_the_peer_is_away(pair: Pair) -> None:
    a, b = pair
    id = (await a.service.open(b.id, 100_000, 100_000, DAY)).channel_id
    a.hub.cut(a.id, b.id)
    one, two = await asyncio.gather(a.service.pay(id, line(100)), b.service.pay(id, line(7)))
    assert not one.acknowledged
    assert not two.acknowledged
    view = a.service.view(id)
    assert (view.unacknowledged, view.at_risk_u) == (1, 100)
    assert view.action.startswith("node2 must come back online to acknowledge 1 payment; closes by ")
    a.hub.link(a.id, b.id)
    await until(lambda: settled(a, b, id))
    assert a.service.view(id).action == ""
    assert await b.count("credited") == (1, 100)
    assert await a.count("credited") == (1, 7)


async def test_a_crash_between_commit_and_send(pair: Pair) -> None:
    a, b = pair
    id = (await a.service.open(b.id, 100_000, 0, DAY)).channel_id
    a.hub.cut(a.id, b.id)
    await asyncio.gather(*(a.service.pay(id, line(10)) for _ in range(100)))
    await a.stop()
    a.hub.link(a.id, b.id)
    await a.start()
    await until(lambda: settled(a, b, id))
    assert await b.count("credited") == (100, 1_000)
    assert await a.count("acknowledged") == (100, 1_000)


async def test_a_crash_of_the_payee_before_its_ack(tmp_path: Path) -> None:
    hub, loser = MemoryHub(), Loser()
    a, b = Node(hub, 1, tmp_path), Node(hub, 2, tmp_path)
    b.wrap = filtered(loser)
    await a.start()
    await b.start()
    id = (await a.service.open(b.id, 100_000, 0, DAY)).channel_id
    loser.kinds = {"Ack"}
    payment = await a.service.pay(id, line(10))
    assert not payment.acknowledged
    assert await b.count("credited") == (1, 10)
    await b.stop()
    loser.heal()
    await b.start()
    await until(lambda: settled(a, b, id))
    assert await b.count("credited") == (1, 10)
    assert await a.count("acknowledged") == (1, 10)


async def test_every_promise_is_durable_before_it_leaves(tmp_path: Path) -> None:
    hub = MemoryHub()
    a, b = Node(hub, 1, tmp_path), Node(hub, 2, tmp_path)
    auditors = [Auditor(a.path), Auditor(b.path)]
    a.wrap, b.wrap = filtered(auditors[0]), filtered(auditors[1])
    await a.start()
    await b.start()
    id = (await a.service.open(b.id, 100_000, 50_000, DAY)).channel_id
    await asyncio.gather(*(n.service.pay(id, line(3)) for n in (a, b) for _ in range(20)))
    hub.cut(a.id, b.id)
    await a.service.pay(id, line(3))
    hub.link(a.id, b.id)
    await until(lambda: settled(a, b, id))
    await a.service.close(id)
    await until(lambda: state(b, id) is State.CLOSED)
    assert [x.missing for x in auditors] == [[], []]
    assert min(x.checked for x in auditors) >= 4


@pytest.fixture
async def lossy(tmp_path: Path) -> tuple[Node, Node, Loser]:
    """Two nodes of which the first loses frames; on clocks that stand still. Not started."""
    hub, loser, clock = MemoryHub(), Loser(), ManualClock()
    a, b = Node(hub, 1, tmp_path, clock), Node(hub, 2, tmp_path, clock)
    a.wrap = filtered(loser)
    return a, b, loser


async def test_confirm_lost_and_sent_again(lossy: tuple[Node, Node, Loser]) -> None:
    a, b, loser = lossy
    await a.start()
    await b.start()
    loser.kinds = {"OpenConfirm"}
    view = await a.service.open(b.id, 10_000, 0, DAY)
    id = view.channel_id
    assert view.state == "active"
    assert view.action == "node2 must confirm; until then nothing can be paid"
    assert state(b, id) is State.OPENING
    with pytest.raises(ChannelError, match="not confirmed"):
        await a.service.pay(id, line(1))
    loser.heal()
    a.hub.cut(a.id, b.id)
    a.hub.link(a.id, b.id)
    await until(lambda: state(b, id) is State.ACTIVE)
    assert (await a.service.pay(id, line(1))).acknowledged


async def test_confirm_lost_for_good(lossy: tuple[Node, Node, Loser]) -> None:
    a, b, loser = lossy
    await a.start()
    await b.start()
    loser.kinds = {"OpenConfirm"}
    id = (await a.service.open(b.id, 10_000, 0, DAY)).channel_id
    assert isinstance(b.clock, ManualClock)
    await b.clock.advance(31)
    await until(lambda: state(b, id) is State.CLOSED)
    assert b.service.view(id).reason == "void"
    loser.heal()
    a.hub.cut(a.id, b.id)
    a.hub.link(a.id, b.id)
    await until(lambda: a.service.view(id).reason == "void")
    again = await a.service.open(b.id, 10_000, 0, DAY)
    assert again.epoch == 2
    await b.clock.advance(3_700)
    for node in (a, b):
        await until(lambda node=node: [v.channel_id for v in node.service.views()] == [again.channel_id])  # type: ignore[misc]


@pytest.mark.parametrize("kind", ["OpenPropose", "Close", "Settle", "Pay", "Reestablish"])
async def test_a_frame_lost_with_the_link(lossy: tuple[Node, Node, Loser], kind: str) -> None:
    a, b, loser = lossy
    await a.start()
    await b.start()
    if kind == "OpenPropose":
        loser.kinds = {kind}
        task = asyncio.create_task(a.service.open(b.id, 10_000, 0, DAY))
        await loser.lost.wait()
        loser.heal()
        a.hub.cut(a.id, b.id)
        a.hub.link(a.id, b.id)
        id = (await task).channel_id
    else:
        id = (await a.service.open(b.id, 10_000, 0, DAY)).channel_id
    loser.kinds = {kind}
    if kind == "Reestablish":
        a.hub.cut(a.id, b.id)
        a.hub.link(a.id, b.id)
        await loser.lost.wait()
    await a.service.pay(id, line(30))
    await a.service.close(id)
    if loser.lost.is_set():
        loser.heal()
        a.hub.cut(a.id, b.id)
        a.hub.link(a.id, b.id)
    for node in (a, b):
        await until(lambda node=node: state(node, id) is State.CLOSED)  # type: ignore[misc]
        assert node.service.view(id).reason == "cooperative"
    assert await b.count("credited") == (1, 30)
    assert (a.service.owed(), b.service.owed()) == ((0, 30), (30, 0))


async def test_closing_while_the_peer_is_away(pair: Pair) -> None:
    a, b = pair
    id = (await a.service.open(b.id, 10_000, 0, DAY)).channel_id
    a.hub.cut(a.id, b.id)
    await a.service.pay(id, line(30))
    view = await a.service.close(id)
    assert view.state == "closing"
    assert view.action.startswith("node2 must come back online to close; disputed from ")
    await a.stop()
    await a.start()
    assert state(a, id) is State.CLOSING
    a.hub.link(a.id, b.id)
    await until(lambda: state(a, id) is state(b, id) is State.CLOSED)
    assert b.service.owed() == (30, 0)
    assert await a.count("acknowledged") == (1, 30)


async def test_both_close_at_once(pair: Pair) -> None:
    a, b = pair
    id = (await a.service.open(b.id, 10_000, 10_000, DAY)).channel_id
    a.hub.cut(a.id, b.id)
    await asyncio.gather(a.service.pay(id, line(30)), b.service.pay(id, line(10)))
    await asyncio.gather(a.service.close(id), b.service.close(id))
    a.hub.link(a.id, b.id)
    await until(lambda: state(a, id) is state(b, id) is State.CLOSED)
    assert (a.service.owed(), b.service.owed()) == ((0, 20), (20, 0))


async def test_simultaneous_opens(pair: Pair) -> None:
    a, b = pair
    low, high = (a, b) if a.identity.public_key < b.identity.public_key else (b, a)
    results = await asyncio.gather(
        low.service.open(high.id, 10_000, 0, DAY), high.service.open(low.id, 20_000, 0, DAY), return_exceptions=True
    )
    assert isinstance(results[1], ChannelError)
    assert not isinstance(results[0], BaseException)
    assert results[0].mine_u == 10_000
    assert [v.channel_id for v in high.service.views()] == [results[0].channel_id]


async def test_a_proposer_that_forgot_its_epochs(pair: Pair, tmp_path: Path) -> None:
    a, b = pair
    copy(a, tmp_path / "empty")
    for _ in range(2):
        id = (await a.service.open(b.id, 10_000, 0, DAY)).channel_id
        await a.service.close(id)
        await until(lambda id=id: state(b, id) is State.CLOSED)  # type: ignore[misc]
    await restore(a, tmp_path / "empty")
    assert (await a.service.open(b.id, 10_000, 0, DAY)).epoch == 3


@pytest.mark.parametrize("payments", [3, 140])
async def test_an_old_backup_at_an_honest_peer(pair: Pair, tmp_path: Path, payments: int) -> None:
    a, b = pair
    id = (await a.service.open(b.id, 1_000_000, 1_000_000, DAY)).channel_id
    await a.service.pay(id, line(50))
    copy(a, tmp_path / "backup")
    for _ in range(payments):
        await asyncio.gather(a.service.pay(id, line(10)), b.service.pay(id, line(1)))
    await restore(a, tmp_path / "backup")
    assert a.service.view(id).sequence == 1
    await until(lambda: settled(a, b, id))
    assert a.service.view(id).sequence == payments + 1
    assert a.service.view(id).mine_u == 1_000_000 - 50 - 9 * payments
    assert (await a.service.pay(id, line(5))).acknowledged
    assert await b.count("credited") == (payments + 2, 10 * payments + 55)
    assert await a.count("credited") == (payments, payments)
    assert await a.count("acknowledged") == (payments + 2, 10 * payments + 55)
    assert (await a.service.close(id)).reason == "cooperative"


async def test_what_came_back_from_the_peer_is_not_paid_twice(pair: Pair, tmp_path: Path) -> None:
    a, b = pair
    id = (await a.service.open(b.id, 100_000, 0, DAY)).channel_id
    copy(a, tmp_path / "backup")
    once = line(10, no=77, agreement=b"z" * 32)
    await a.service.pay(id, once)
    await restore(a, tmp_path / "backup")
    await until(lambda: settled(a, b, id))
    with pytest.raises(ChannelError, match="paid before"):
        await a.service.pay(id, once)


async def test_an_old_backup_of_both(pair: Pair, tmp_path: Path) -> None:
    """Each lost what the other still has: both halves come back."""
    a, b = pair
    id = (await a.service.open(b.id, 100_000, 100_000, DAY)).channel_id
    copy(b, tmp_path / "b")
    for _ in range(70):
        await asyncio.gather(a.service.pay(id, line(10)), b.service.pay(id, line(1)))
    await restore(b, tmp_path / "b")
    await until(lambda: settled(a, b, id))
    copy(a, tmp_path / "a")
    for _ in range(70):
        await asyncio.gather(a.service.pay(id, line(10)), b.service.pay(id, line(1)))
    await restore(a, tmp_path / "a")
    await until(lambda: settled(a, b, id))
    assert a.service.view(id).sequence == b.service.view(id).sequence == 140


@pytest.mark.parametrize("crash", ["before", "after"])
async def test_an_old_backup_of_a_closed_channel(pair: Pair, tmp_path: Path, crash: str) -> None:
    a, b = pair
    id = (await a.service.open(b.id, 100_000, 0, DAY)).channel_id
    copy(a, tmp_path / "backup")
    await a.service.pay(id, line(10))
    if crash == "before":
        a.hub.cut(a.id, b.id)
        await b.service.close(id)
    else:
        await a.service.close(id)
        await until(lambda: state(b, id) is State.CLOSED)
    await restore(a, tmp_path / "backup")
    a.hub.link(a.id, b.id)
    await until(lambda: state(a, id) is state(b, id) is State.CLOSED)
    assert a.service.view(id).reason == "cooperative"
    assert (a.service.owed(), b.service.owed()) == ((0, 10), (10, 0))


@pytest.mark.parametrize("closer", ["restored", "other"])
async def test_a_tainted_channel_only_closes(pair: Pair, tmp_path: Path, closer: str) -> None:
    a, b = pair
    id = (await a.service.open(b.id, 100_000, 50_000, DAY)).channel_id
    copy(a, tmp_path / "backup")
    await a.service.pay(id, line(10))
    await b.service.pay(id, line(3))
    await restore(a, tmp_path / "backup", tainted=True)
    await until(lambda: settled(a, b, id))
    with pytest.raises(ChannelError, match="restored"):
        await a.service.pay(id, line(1))
    assert (await b.service.pay(id, line(2))).acknowledged
    assert "restored from an older copy" in a.service.view(id).action
    await (a if closer == "restored" else b).service.close(id)
    await until(lambda: state(a, id) is state(b, id) is State.CLOSED)
    assert (a.service.owed(), b.service.owed()) == ((0, 5), (5, 0))
    a.tainted = False
    assert (await a.service.open(b.id, 1_000, 0, DAY)).epoch == 2


async def test_a_tainted_close_while_the_peer_is_away(pair: Pair, tmp_path: Path) -> None:
    a, b = pair
    id = (await a.service.open(b.id, 100_000, 50_000, DAY)).channel_id
    copy(a, tmp_path / "backup")
    await a.service.pay(id, line(10))
    a.hub.cut(a.id, b.id)
    await b.service.pay(id, line(3))
    await restore(a, tmp_path / "backup", tainted=True)
    assert (await a.service.close(id)).state == "closing"
    a.hub.link(a.id, b.id)
    await until(lambda: state(a, id) is state(b, id) is State.CLOSED)
    assert (a.service.owed(), b.service.owed()) == ((0, 7), (7, 0))


async def timed(tmp_path: Path) -> tuple[Node, Node, ManualClock]:
    hub, clock = MemoryHub(), ManualClock()
    return await Node(hub, 1, tmp_path, clock).start(), await Node(hub, 2, tmp_path, clock).start(), clock


async def test_expiry_closes_and_forfeits_nothing(tmp_path: Path) -> None:
    a, b, clock = await timed(tmp_path)
    id = (await a.service.open(b.id, 10_000, 0, 1_000)).channel_id
    await a.service.pay(id, line(40))
    await clock.advance(650)
    assert "closes by itself at" in a.service.view(id).action
    assert state(a, id) is State.ACTIVE
    await clock.advance(60)
    await until(lambda: state(a, id) is state(b, id) is State.CLOSED)
    assert (a.service.view(id).reason, a.service.owed()) == ("cooperative", (0, 40))


async def test_a_peer_that_never_returns(tmp_path: Path) -> None:
    a, b, clock = await timed(tmp_path)
    id = (await a.service.open(b.id, 10_000, 0, 1_000)).channel_id
    await a.service.pay(id, line(40))
    a.hub.cut(a.id, b.id)
    await clock.advance(710)
    await until(lambda: state(b, id) is State.CLOSING)
    await clock.advance(600)
    await until(lambda: state(b, id) is State.DISPUTED)
    assert b.service.view(id).reason == "expired"
    assert "unless node1 agrees before" in b.service.view(id).action
    await a.stop()
    await clock.advance(DAY + 60)
    await until(lambda: state(b, id) is State.CLOSED)
    assert (b.service.view(id).reason, b.service.owed()) == ("unresolved", (40, 0))
    await a.start()
    a.hub.link(a.id, b.id)
    with pytest.raises((CreditExceeded, ZsError)):
        await b.service.open(a.id, 1_000, 1_000, DAY)
    assert b.service.ledger()[0].credit_limit_u == 0


async def test_an_expired_channel_heals_when_both_return(tmp_path: Path) -> None:
    a, b, clock = await timed(tmp_path)
    id = (await a.service.open(b.id, 10_000, 0, 1_000)).channel_id
    a.hub.cut(a.id, b.id)
    await a.service.pay(id, line(40))
    await clock.advance(710)
    await until(lambda: state(a, id) is state(b, id) is State.CLOSING)
    await clock.advance(600)
    await until(lambda: state(a, id) is state(b, id) is State.DISPUTED)
    a.hub.link(a.id, b.id)
    await until(lambda: state(a, id) is state(b, id) is State.CLOSED)
    assert b.service.view(id).reason == "cooperative"
    assert await b.count("credited") == (1, 40)


async def test_unilateral_close(pair: Pair) -> None:
    a, b = pair
    id = (await a.service.open(b.id, 10_000, 0, DAY)).channel_id
    a.hub.cut(a.id, b.id)
    view = await a.service.close(id, unilateral=True)
    assert (view.state, view.reason) == ("disputed", "unilateral")
    assert view.action.startswith("closed without the peer; closes on your own record at ")
    a.hub.link(a.id, b.id)
    await until(lambda: state(a, id) is state(b, id) is State.CLOSED)
    assert a.service.view(id).reason == "cooperative"


async def test_a_close_left_unanswered(lossy: tuple[Node, Node, Loser]) -> None:
    a, b, loser = lossy
    await a.start()
    await b.start()
    id = (await a.service.open(b.id, 10_000, 0, DAY)).channel_id
    loser.kinds = {"Close"}
    assert (await a.service.close(id)).action == "node2 must sign the closing"
    assert isinstance(a.clock, ManualClock)
    for _ in range(45):
        await a.clock.advance(15)
    await until(lambda: state(a, id) is State.DISPUTED)
    assert a.service.view(id).reason == "unanswered"
    loser.heal()
    a.hub.cut(a.id, b.id)
    a.hub.link(a.id, b.id)
    await until(lambda: state(a, id) is state(b, id) is State.CLOSED)


async def test_after_a_restart_nothing_is_signed_before_the_peer_was_heard(pair: Pair, tmp_path: Path) -> None:
    """The file may be an older copy that nobody noticed: a Pay or Close from there could contradict an earlier one."""
    a, b = pair
    id = (await a.service.open(b.id, 100_000, 0, DAY)).channel_id
    copy(a, tmp_path / "backup")
    await a.service.pay(id, line(10))
    a.hub.cut(a.id, b.id)
    await restore(a, tmp_path / "backup")
    with pytest.raises(ChannelError, match="must hear from the peer once"):
        await a.service.pay(id, line(20))
    assert (await a.service.close(id)).state == "closing"
    documents = await a.db.read(
        lambda tx: tx.execute("SELECT kind FROM channel_documents WHERE direction = 0").fetchall()
    )
    assert ("close",) not in documents
    a.hub.link(a.id, b.id)
    await until(lambda: state(a, id) is state(b, id) is State.CLOSED)
    assert (a.service.owed(), b.service.owed()) == ((0, 10), (10, 0))


async def test_a_payment_right_after_a_restart_waits_for_the_peer(pair: Pair, tmp_path: Path) -> None:
    a, b = pair
    id = (await a.service.open(b.id, 100_000, 0, DAY)).channel_id
    copy(a, tmp_path / "backup")
    await a.service.pay(id, line(10))
    await restore(a, tmp_path / "backup")
    assert (await a.service.pay(id, line(20))).sequence == 2
    assert await b.count("credited") == (2, 30)


async def test_a_copy_older_than_the_channel(pair: Pair, tmp_path: Path) -> None:
    """The peer shows both consents: the channel comes back, with all that was paid, and only closes."""
    a, b = pair
    copy(a, tmp_path / "empty")
    id = (await a.service.open(b.id, 100_000, 50_000, DAY)).channel_id
    await asyncio.gather(a.service.pay(id, line(10)), b.service.pay(id, line(3)))
    await restore(a, tmp_path / "empty")
    await until(lambda: any(v.channel_id == id for v in a.service.views()) and settled(a, b, id))
    assert "restored from an older copy" in a.service.view(id).action
    await a.service.close(id)
    await until(lambda: state(a, id) is state(b, id) is State.CLOSED)
    assert (a.service.owed(), b.service.owed()) == ((0, 7), (7, 0))


async def test_a_copy_older_than_a_channel_on_which_nothing_was_paid(pair: Pair, tmp_path: Path) -> None:
    a, b = pair
    copy(a, tmp_path / "empty")
    id = (await b.service.open(a.id, 100_000, 50_000, DAY)).channel_id
    await restore(a, tmp_path / "empty")
    await until(lambda: b.service.view(id).reason == "void")
    assert (await a.service.open(b.id, 10_000, 0, DAY)).epoch == 2


async def test_two_tainted_sides_settle_on_what_both_can_prove(pair: Pair, tmp_path: Path) -> None:
    a, b = pair
    id = (await a.service.open(b.id, 100_000, 50_000, DAY)).channel_id
    for node in pair:
        copy(node, tmp_path / node.name)
    await asyncio.gather(a.service.pay(id, line(10)), b.service.pay(id, line(3)))
    a.hub.cut(a.id, b.id)
    await restore(a, tmp_path / a.name, tainted=True)
    a.hub.link(a.id, b.id)
    await until(lambda: settled(a, b, id))
    a.hub.cut(a.id, b.id)
    await restore(b, tmp_path / b.name, tainted=True)
    assert (await a.service.close(id)).state == "closing"
    a.hub.link(a.id, b.id)
    await until(lambda: state(a, id) is state(b, id) is State.CLOSED)
    assert (a.service.view(id).reason, a.service.owed(), b.service.owed()) == ("cooperative", (0, 7), (7, 0))


async def test_a_payment_never_acknowledged_counts_as_paid_in_the_end(tmp_path: Path) -> None:
    a, b, clock = await timed(tmp_path)
    id = (await a.service.open(b.id, 10_000, 0, 1_000)).channel_id
    a.hub.cut(a.id, b.id)
    await a.service.pay(id, line(40))
    assert await a.count("acknowledged") == (0, 0)
    await clock.advance(710)
    await until(lambda: state(a, id) is State.CLOSING)
    await clock.advance(600)
    await until(lambda: state(a, id) is State.DISPUTED)
    await clock.advance(DAY + 60)
    await until(lambda: state(a, id) is State.CLOSED)
    assert (a.service.view(id).reason, a.service.owed()) == ("unresolved", (0, 40))
    assert await a.count("acknowledged") == (1, 40)
    assert a.service.view(id).at_risk_u == 0
    assert a.service.ledger()[0].credit_limit_u == 0
    assert (await a.service.set_credit(b.id, 20_000)).credit_limit_u == 20_000


async def test_what_was_issued_in_time_is_taken_until_five_minutes_after_expiry(tmp_path: Path) -> None:
    a, b, clock = await timed(tmp_path)
    id = (await a.service.open(b.id, 10_000, 0, 1_000)).channel_id
    a.hub.cut(a.id, b.id)
    await a.service.pay(id, line(40))
    await clock.advance(710)
    await until(lambda: state(a, id) is state(b, id) is State.CLOSING)
    await clock.advance(580)
    assert state(b, id) is State.CLOSING
    a.hub.link(a.id, b.id)
    await until(lambda: state(a, id) is state(b, id) is State.CLOSED)
    assert await b.count("credited") == (1, 40)
