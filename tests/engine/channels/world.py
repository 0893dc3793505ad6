"""Two nodes with the product's own channel services in a world of virtual time, and everything that must hold between them."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import random
import sqlite3
from collections import defaultdict
from pathlib import Path
from typing import Any, Literal

import msgspec

from tests.engine.channels.rig import BOOKS, identity, line
from tests.support.virtual import Crash, Disk, VirtualClock, VirtualLoop, Wire, Wires
from zstui.engine.bus import Bus
from zstui.engine.channels import schema, store
from zstui.engine.channels.messages import (
    Ack,
    Close,
    LogPull,
    OpenConfirm,
    Pay,
    PayLine,
    Reestablish,
    Settle,
)
from zstui.engine.channels.protocol import _BODIES
from zstui.engine.channels.service import ChannelService
from zstui.engine.channels.state import SOFT_DISPUTES
from zstui.engine.errors import ZsError
from zstui.engine.identity.envelope import Body, Envelope
from zstui.engine.identity.keys import PeerId
from zstui.engine.store.database import Database, Migration, Tx
from zstui.engine.views import ChannelView

What = Literal[
    "pay",
    "burst",
    "cut",
    "link",
    "deafen",
    "crash",
    "strike",
    "backup",
    "restore",
    "taint",
    "close",
    "leave",
    "open",
    "rest",
]
Step = tuple[What, int, int]
"""(what, which side, how much)"""

DEPOSITS = (5_000, 3_000)
RESTS_S = (0.002, 0.002, 0.03, 0.03, 0.2, 1.0, 1.0, 35.0, 35.0, 400.0, 400.0, 1_000.0, 90_000.0)
LIVES_S = (700, 2_000, 86_400)
DOOMED_BIRTHS = 0.3
"""In how many lives the power goes while the first channel is opened."""
HEAL_S = 500.0
"""Within this time two nodes that are linked and run agree."""

TEMPLATE = "template.db"

_DURABLE = ("OpenPropose", "OpenAccept", "OpenConfirm", "Close", "Settle", "Pay")
_TRIGGERS = """
CREATE TABLE ever (raw BLOB PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TRIGGER ever_envelope AFTER INSERT ON channel_envelopes
BEGIN INSERT OR IGNORE INTO ever VALUES (NEW.raw); END;
CREATE TRIGGER ever_document AFTER INSERT ON channel_documents
BEGIN INSERT OR IGNORE INTO ever VALUES (NEW.raw); END;
"""


def create_template(folder: Path, more: tuple[Migration, ...] = ()) -> None:
    """Make an empty database for nodes, which also remembers every document that was ever committed."""
    path = folder / TEMPLATE

    async def create() -> None:
        await (await Database.open(path, (*schema.SCHEMA, *more, BOOKS))).close()

    asyncio.run(create())
    connection = sqlite3.connect(path)
    connection.executescript(_TRIGGERS)
    connection.execute(
        "PRAGMA journal_mode=DELETE"
    )  # Opens faster; which commits survive is not SQLite's to decide here.
    connection.close()


@functools.lru_cache(maxsize=512)
def opened(raw: bytes) -> tuple[bytes, str, Body]:
    """(signer, kind, body) of a frame; the services verify it."""
    envelope = msgspec.msgpack.decode(raw, type=Envelope)
    return envelope.signer, envelope.type, msgspec.msgpack.decode(envelope.body, type=_BODIES[envelope.type])


class SimNode:
    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.identity = identity(number)
        self.id: PeerId = self.identity.peer_id
        self.path = world.folder / f"{number}.db"
        self.backup: bytes | None = None
        self.lost_silently = False
        """Restored from a copy without knowing it."""
        self.up = False
        self.replace((world.folder / TEMPLATE).read_bytes())

    def replace(self, content: bytes) -> None:
        self.path.write_bytes(content)

    async def start(self, tainted: bool = False) -> None:
        self.disk = Disk(self.path, self.world.chance, lambda: self.world.hub.remove(self.network))
        self.audit = self.disk.connect()
        self.db = self.disk.open()
        self.bus = Bus()
        self.network = self.world.hub.add(self.id, self.bus)
        self.service = ChannelService(
            self.identity,
            self.network,
            self.db,
            self.bus,
            self.world.clock,
            name_of=lambda peer: peer[-6:],
            credit_limit=lambda peer: 1_000_000_000,
            at_risk=lambda peer: 0,
            on_credit=functools.partial(_note, "credited"),
            on_acknowledged=functools.partial(_note, "acknowledged"),
            tainted=tainted,
            restored=lambda: tainted,
        )
        await self.service.start()
        self.up = True

    async def stop(self) -> None:
        """As a kill does: nothing more is written and nothing more leaves."""
        self.up = False
        self.disk.die()
        await self.network.stop()
        await self.service.stop()
        await self.db.close()
        self.audit.close()
        self.disk.settle()

    def copy(self) -> bytes:
        """A consistent copy of what is committed."""
        target = sqlite3.connect(":memory:")
        self.audit.backup(target)
        content = target.serialize()
        target.close()
        return content

    def rows(self, sql: str, *args: object) -> list[tuple[Any, ...]]:
        return self.audit.execute(sql, args).fetchall()

    def views(self) -> dict[str, ChannelView]:
        return {v.channel_id: v for v in self.service.views()}

    def log(self, channel: bytes, direction: int) -> list[tuple[int, int, bytes, bytes]]:
        return self.rows(
            "SELECT seq, cum, head, raw FROM channel_envelopes WHERE channel = ? AND direction = ? ORDER BY seq",
            channel,
            direction,
        )


def _forgot(node: SimNode, view: ChannelView, other: ChannelView) -> bool:
    """A copy from while the channel was opening, restored after it had closed, knows as little of it as an older one: only what
    peers keep for a node brings back what was settled since, which is not part of this world."""
    return node.backup is not None and view.reason == "void" != other.reason and other.state == "closed"


def _note(table: str, tx: Tx, channel: str, peer: PeerId, line: PayLine) -> None:
    tx.execute(f"INSERT INTO {table} VALUES (?, ?, ?, ?)", (channel, line.agreement, line.no, line.amount_u))


class Said:
    """What passed on one end of a stream about one channel."""

    def __init__(self) -> None:
        self.sent = False
        self.heard = False


class World:
    HUB: type[Wires] = Wires
    NODE: type[SimNode] = SimNode

    def __init__(self, loop: VirtualLoop, folder: Path, seed: int) -> None:
        self.loop = loop
        self.folder = folder
        self.chance = random.Random(seed)
        self.clock = VirtualClock(loop)
        self.hub = self.HUB(self.chance)
        self.hub.monitors.append(self._leaves)
        self.nodes = (self.NODE(self, 1), self.NODE(self, 2))
        self.faults: list[str] = []
        """What was seen on the wire that may not be."""
        self.on_wire: defaultdict[tuple[bytes, bytes, int], set[bytes]] = defaultdict(set)
        self.promised: list[set[int]] = [set(), set()]
        self.tasks: set[asyncio.Task[None]] = set()
        self.numbers = itertools.count(1)
        self.strikes = 0
        self.checked: list[tuple[Disk, int]] = []
        """How many commits each disk had when all was checked last."""

    # -- what happens

    async def begin(self) -> None:
        for node in self.nodes:
            await node.start()
        if self.chance.random() < DOOMED_BIRTHS:
            self._strike(self.nodes[self.chance.randrange(2)], self.chance.randrange(8))
        await self._open(0, 86_400)
        await self._raise_the_dead()
        if all(view.state == "closed" for view in self.nodes[0].views().values()):
            await self._open(0, 86_400)

    async def act(self, step: Step) -> None:
        what, side, amount = step
        await self._raise_the_dead()
        node = self.nodes[side]
        match what:
            case "pay":
                self._spawn(self._pay(side, amount))
                if amount % 3 == 0:
                    await asyncio.sleep(0.05)
            case "burst":
                for _ in range(2 + amount % 5):
                    self._spawn(self._pay(side, 1 + amount // 20))
            case "cut":
                self.hub.cut()
            case "link":
                self.hub.link()
            case "deafen":
                self.hub.lossy[node.id] = True
            case "crash":
                await self._crash(node)
                await node.start()
            case "strike":
                self._strike(node, amount)
            case "backup":
                node.backup = node.copy()
            case "restore" | "taint" if node.backup is None:
                node.backup = node.copy()
            case "restore" | "taint" if (
                what == "taint" or self.nodes[1 - side].backup is None
            ):  # What both forget, no protocol brings back: where both do, they know of it and sign no more.
                assert node.backup is not None
                await self._crash(node)
                node.replace(node.backup)
                node.lost_silently |= what == "restore"
                await node.start(tainted=what == "taint")
            case "close" | "leave":
                self._spawn(self._close(side, what == "leave"))
            case "open":
                self._spawn(self._open(side, LIVES_S[amount % len(LIVES_S)]))
                if amount % 4 == 0:
                    self._spawn(self._open(1 - side, 86_400))
            case "rest":
                await asyncio.sleep(RESTS_S[amount % len(RESTS_S)])
            case _:
                pass
        await asyncio.sleep(0)
        self.check()

    def _strike(self, node: SimNode, amount: int) -> None:
        """The power goes before or after one of the next four commits."""
        self.strikes += 1
        when: Crash = "after" if amount % 2 else "before"
        node.disk.crash_at = (node.disk.commits + 1 + amount // 2 % 4, when)

    async def _crash(self, node: SimNode) -> None:
        self.hub.lossy.pop(node.id, None)
        await node.stop()

    async def _raise_the_dead(self) -> None:
        for node in self.nodes:
            if node.disk.dead:
                await self._crash(node)
                await node.start()

    def _spawn(self, work: Any) -> None:
        task = self.loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _pay(self, side: int, amount: int) -> None:
        number = next(self.numbers)
        channel = next((v.channel_id for v in self.nodes[side].service.views() if v.state != "closed"), None)
        if channel is None:
            return
        with contextlib.suppress(ZsError):
            await self.nodes[side].service.pay(channel, line(amount, number))
            self.promised[side].add(number)

    async def _close(self, side: int, unilateral: bool) -> None:
        for view in self.nodes[side].service.views():
            if view.state != "closed":
                with contextlib.suppress(ZsError):
                    await self.nodes[side].service.close(view.channel_id, unilateral=unilateral)

    async def _open(self, side: int, life_s: int) -> None:
        with contextlib.suppress(ZsError):
            await self.nodes[side].service.open(self.nodes[1 - side].id, DEPOSITS[side], DEPOSITS[1 - side], life_s)

    # -- what the wire sees

    def _leaves(self, wire: Wire, frame: bytes) -> None:
        node = next(n for n in self.nodes if n.id == wire.me)
        signer, kind, body = opened(frame)
        mine = signer == node.identity.public_key
        if mine and kind in _DURABLE and not node.rows("SELECT 1 FROM ever WHERE raw = ?", frame):
            self.faults.append(f"a {kind} left before it was durable")
        match body:
            case Pay() if mine:
                self.on_wire[body.ch, signer, body.seq].add(frame)
                self._acknowledges(node, kind, body.ch, body.peer_seq, body.peer_cum, body.peer_head)
            case Ack():
                self._acknowledges(node, kind, body.ch, body.seq, body.cum, body.head)
            case Reestablish():
                self._acknowledges(node, kind, body.ch, body.recv_seq, body.recv_cum, body.recv_head)
        if isinstance(body, Pay | Ack | Close | Settle | LogPull) and not self._in_step(wire, body.ch):
            self.faults.append(f"a {kind} left before both had said where they are")

    def _acknowledges(self, node: SimNode, kind: str, channel: bytes, seq: int, cum: int, head: bytes) -> None:
        if seq and not node.rows(
            "SELECT 1 FROM channel_envelopes WHERE channel = ? AND direction = 1 AND seq = ? AND cum = ? AND head = ?",
            channel,
            seq,
            cum,
            head,
        ):
            self.faults.append(f"a {kind} acknowledged payments that were not durable")

    def _in_step(self, wire: Wire, channel: bytes) -> bool:
        """Both have re-established the channel on this stream, or it was opened on it."""
        sent = [body for _, _, body in map(opened, wire.sent)]
        got = [body for _, _, body in map(opened, wire.got)]
        if any(isinstance(body, OpenConfirm) and body.id == channel for body in (*sent, *got)):
            return True
        return all(any(isinstance(b, Reestablish) and b.ch == channel for b in side) for side in (sent, got))

    # -- what must hold

    def check(self) -> None:
        """What holds at every moment."""
        assert not self.faults, self.faults
        silent = any(node.lost_silently for node in self.nodes)
        if not silent:
            assert all(len(raws) == 1 for raws in self.on_wire.values()), "two Pays under one sequence number"
        commits = [(node.disk, node.disk.commits) for node in self.nodes]
        if commits == self.checked:
            return
        self.checked = commits
        for side, node in enumerate(self.nodes):
            if not node.up or node.disk.dead:
                continue
            node.audit.execute("BEGIN")
            for id, view in node.views().items():
                assert view.state != "disputed" or view.reason in SOFT_DISPUTES, f"disputed: {view.reason}"
                assert view.mine_u + view.theirs_u == view.deposit_mine_u + view.deposit_theirs_u
                assert min(view.mine_u, view.theirs_u, view.unacknowledged) >= 0
                channel = bytes.fromhex(id)
                other = self.nodes[1 - side]
                received = node.log(channel, store.IN)
                for rows in (received, node.log(channel, store.OUT)):
                    assert [row[0] for row in rows] == list(range(1, len(rows) + 1))
                    cums = [row[1] for row in rows]
                    assert cums == sorted(set(cums))
                if other.up and other.backup is None:
                    assert received == other.log(channel, store.OUT)[: len(received)]
            assert not node.rows("SELECT ref FROM ledger_postings GROUP BY ref HAVING sum(amount_u) <> 0")
            for table in ("credited", "acknowledged"):
                assert not node.rows(f"SELECT no FROM {table} GROUP BY no HAVING count(*) > 1"), f"{table} twice"
            node.audit.execute("COMMIT")

    async def heal(self) -> None:
        """Mend everything; the two must agree soon after."""
        for node in self.nodes:
            node.disk.crash_at = None
        await self._raise_the_dead()
        if self.hub.lossy:
            self.hub.cut()
        self.hub.link()
        await asyncio.gather(*self.tasks)
        await asyncio.sleep(HEAL_S)
        await asyncio.gather(*self.tasks)
        await asyncio.gather(*(self._pay_after_healing(node) for node in self.nodes))

    async def _pay_after_healing(self, node: SimNode) -> None:
        """An active channel takes payments, or it would lock away what it holds."""
        for view in node.views().values():
            tainted = any(n.service.record(view.channel_id).tainted for n in self.nodes if view.channel_id in n.views())
            if view.state == "active" and view.mine_u and not tainted:
                try:
                    paid = await node.service.pay(view.channel_id, line(1, next(self.numbers)))
                except ZsError as error:
                    raise AssertionError(f"no payment between healed nodes: {error}") from error
                assert paid.acknowledged, "a payment between healed nodes was not acknowledged"

    def check_healed(self) -> None:
        """What holds once both run, are linked and had time."""
        self.check()
        a, b = (node.views() for node in self.nodes)
        forgotten = 0
        for node, views, others in ((self.nodes[0], a, b), (self.nodes[1], b, a)):
            for id in [id for id, view in views.items() if id in others and _forgot(node, view, others[id])]:
                del views[id]
                forgotten += 1
        for id in a.keys() | b.keys():
            if id in a and id in b:
                self._check_channel(bytes.fromhex(id), a[id], b[id])
            else:
                left = a.get(id) or b[id]
                assert left.state == "closed", f"one side only: {left.state} {left.reason}"
                forgotten += (self.nodes[1] if id in a else self.nodes[0]).backup is not None
        closed = [v for v in (*a.values(), *b.values()) if v.state == "closed"]
        if not forgotten and all(v.reason in ("cooperative", "void") for v in closed):
            (a_gets, a_owes), (b_gets, b_owes) = (node.service.owed() for node in self.nodes)
            assert (a_gets, a_owes) == (b_owes, b_gets)
        for side, node in enumerate(self.nodes):
            if not any("unresolved" in v.reason for v in (*a.values(), *b.values())):
                self._check_payments(side, node)

    def _check_channel(self, channel: bytes, one: ChannelView, two: ChannelView) -> None:
        if "unresolved" in (one.reason, two.reason):
            return
        assert one.state == two.state, f"{one.state} {one.reason} and {two.state} {two.reason}"
        assert one.state in ("active", "closed"), f"still {one.state}: {one.reason}"
        assert (one.mine_u, one.theirs_u) == (two.theirs_u, two.mine_u)
        assert one.unacknowledged == two.unacknowledged == 0
        a, b = self.nodes
        assert a.log(channel, store.OUT) == b.log(channel, store.IN)
        assert b.log(channel, store.OUT) == a.log(channel, store.IN)
        if one.reason == "cooperative":
            settles = {
                opened(raw)[2]
                for node in self.nodes
                for (raw,) in node.rows(
                    "SELECT raw FROM channel_documents WHERE kind = 'settle' AND channel = ?", channel
                )
            }
            assert len(settles) == 1
            for node in self.nodes:
                assert not node.rows("SELECT 1 FROM ledger_reservations WHERE released = 0 AND channel = ?", channel)

    def _check_payments(self, side: int, node: SimNode) -> None:
        paid = node.rows("SELECT no, amount_u FROM channel_lines ORDER BY no")
        other = self.nodes[1 - side]
        if other.backup is None:
            assert set(other.rows("SELECT no, amount_u FROM credited")) >= set(paid)
        if node.backup is None:
            assert {row[0] for row in other.rows("SELECT no FROM credited")} <= {row[0] for row in paid}
            assert self.promised[side] <= {row[0] for row in paid}
        assert node.rows("SELECT no, amount_u FROM acknowledged ORDER BY no") == paid

    async def end(self) -> None:
        for node in self.nodes:
            if hasattr(node, "service"):
                await node.stop()
        for task in tuple(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
