"""Random lives of a channel between two honest services: payments both ways, cuts, crashes, a restored backup, a close.

``ZSTUI_EXAMPLES`` sets the number of lives.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sqlite3
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.engine.channels.rig import Node, line, running, until
from tests.engine.channels.test_recovery import copy, put_back, settled
from tests.engine.channels.wire import filtered
from zstui.engine.channels import links, service
from zstui.engine.channels.messages import Pay, read, take
from zstui.engine.errors import ZsError
from zstui.engine.net.memory import MemoryHub

EXAMPLES = int(os.environ.get("ZSTUI_EXAMPLES", "25"))
DEPOSITS = (5_000, 3_000)

Step = tuple[Literal["pay", "cut", "link", "deafen", "crash", "backup", "restore", "close", "rest"], int, int]
"""(what, which side, how much)"""

steps: st.SearchStrategy[list[Step]] = st.lists(
    st.tuples(
        st.sampled_from(
            ["pay", "pay", "pay", "pay", "cut", "link", "link", "deafen", "crash", "backup", "restore", "close", "rest"]
        ),
        st.integers(0, 1),
        st.integers(1, 2_500),
    ),
    max_size=14,
)


class Life:
    """Two nodes and everything that was promised between them."""

    def __init__(self, folder: Path) -> None:
        self.hub = MemoryHub()
        self.nodes = (Node(self.hub, 1, folder), Node(self.hub, 2, folder))
        self.folder = folder
        self.deaf = [False, False]
        """Frames of this side are lost from now on, until it crashes or the link is cut."""
        self.promised: list[set[int]] = [set(), set()]
        self.on_wire: defaultdict[tuple[bytes, str, int], set[bytes]] = defaultdict(set)
        self.backup: int | None = None
        """The side of which there is a backup: never both."""
        self.restored = False
        self.closing = False
        self.held: dict[tuple[int, int], bytes] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self.numbers = itertools.count(1)
        for side, node in enumerate(self.nodes):
            node.wrap = filtered(lambda frame, side=side: self._leaves(side, frame))  # type: ignore[misc]

    def _leaves(self, side: int, frame: bytes) -> bool:
        signed = take(frame)
        if signed.kind == "Pay" and not self.deaf[side]:
            pay = read(signed, Pay)
            self.on_wire[pay.ch, signed.signer, pay.seq].add(frame)
        return not self.deaf[side]

    async def begin(self) -> None:
        for node in self.nodes:
            await node.start()
        a, b = self.nodes
        self.id = (await a.service.open(b.id, *DEPOSITS, 86_400)).channel_id

    async def act(self, step: Step) -> None:
        what, side, amount = step
        a, b = self.nodes
        node = self.nodes[side]
        match what:
            case "pay":
                task = asyncio.create_task(self._pay(side, amount))
                self.tasks.add(task)
                task.add_done_callback(self.tasks.discard)
                if amount % 3 == 0:
                    await task
            case "cut":
                self.hub.cut(a.id, b.id)
                self.deaf = [False, False]
            case "link":
                self.hub.link(a.id, b.id)
            case "deafen":
                self.deaf[side] = True
            case "crash":
                await self._finish_payments()
                await node.stop()
                self.deaf[side] = False
                await node.start()
            case "backup" if self.backup in (None, side):
                self.backup = side
                copy(node, self.folder / "backup")
            case "restore" if self.backup == side:
                await self._finish_payments()
                await node.stop()
                put_back(node, self.folder / "backup")
                self.deaf[side] = False
                self.restored = True
                await node.start()
            case "close":
                self.closing = True
                await self._finish_payments()
                try:
                    await node.service.close(self.id)
                except ZsError:
                    assert node.service.view(self.id).state == "closed"
            case "rest":
                await asyncio.sleep(amount / 250_000)
            case _:
                pass
        self.check()

    async def _pay(self, side: int, amount: int) -> None:
        number = next(self.numbers)
        try:
            await self.nodes[side].service.pay(self.id, line(amount, number))
        except ZsError:
            return
        self.promised[side].add(number)

    async def _finish_payments(self) -> None:
        await asyncio.gather(*self.tasks)

    async def heal(self) -> None:
        """Mend everything and wait until both sides agree."""
        a, b = self.nodes
        await self._finish_payments()
        self.hub.cut(a.id, b.id)
        self.deaf = [False, False]
        self.hub.link(a.id, b.id)
        if self.closing:
            for node in self.nodes:
                if node.service.view(self.id).state == "active":
                    await node.service.close(self.id)
            await until(lambda: all(n.service.view(self.id).state == "closed" for n in self.nodes), 6)
        await until(lambda: settled(a, b, self.id), 6)

    def rows(self, side: int, sql: str) -> list[tuple[object, ...]]:
        connection = sqlite3.connect(self.nodes[side].path)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()

    def log(self, side: int, direction: int) -> list[tuple[object, ...]]:
        return self.rows(
            side, f"SELECT seq, cum, head, raw FROM channel_envelopes WHERE direction = {direction} ORDER BY seq"
        )

    def check(self) -> None:
        """What holds at every moment."""
        for side, node in enumerate(self.nodes):
            view = node.service.view(self.id)
            assert view.state != "disputed", view.reason
            assert view.mine_u + view.theirs_u == sum(DEPOSITS)
            assert min(view.mine_u, view.theirs_u, view.unacknowledged) >= 0
            received, sent = self.log(side, 1), self.log(1 - side, 0)
            if not self.restored:
                assert received == sent[: len(received)]
            for rows in (received, sent):
                assert [row[0] for row in rows] == list(range(1, len(rows) + 1))
                cums = [int(str(row[1])) for row in rows]
                assert cums == sorted(set(cums))
            if self.backup != side:
                for seq, _, _, raw in received:
                    assert isinstance(seq, int)
                    assert isinstance(raw, bytes)
                    assert self.held.setdefault((side, seq), raw) == raw
        if not self.restored:
            assert all(len(raws) == 1 for raws in self.on_wire.values())

    def check_healed(self) -> None:
        """What holds once both are in step."""
        self.check()
        for side in (0, 1):
            assert self.log(side, 0) == self.log(1 - side, 1)
            paid = self.rows(side, "SELECT no, amount_u FROM channel_lines ORDER BY no")
            assert self.rows(1 - side, "SELECT no, amount_u FROM credited ORDER BY no") == paid
            assert self.rows(side, "SELECT no, amount_u FROM acknowledged ORDER BY no") == paid
            if not (self.restored and self.backup == side):
                assert self.promised[side] <= {row[0] for row in paid}
            assert not self.rows(side, "SELECT ref FROM ledger_postings GROUP BY ref HAVING sum(amount_u) <> 0")
        (a_gets, a_owes), (b_gets, b_owes) = (node.service.owed() for node in self.nodes)
        assert (a_gets, a_owes) == (b_owes, b_gets)
        if self.closing:
            for side in (0, 1):
                documents = "SELECT direction, raw FROM channel_documents WHERE kind = 'settle' ORDER BY direction"
                bodies = {take(raw).body for _, raw in self.rows(side, documents) if isinstance(raw, bytes)}
                assert len(bodies) == 1
                assert not self.rows(side, "SELECT channel FROM ledger_reservations WHERE released = 0")

    async def end(self) -> None:
        for node in tuple(running):
            await node.stop()


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(steps)
def test_any_life_ends_with_both_sides_agreeing(plan: list[Step]) -> None:
    async def live() -> None:
        with tempfile.TemporaryDirectory() as folder:
            life = Life(Path(folder))
            try:
                await life.begin()
                for step in plan:
                    await life.act(step)
                await life.heal()
                life.check_healed()
            finally:
                await life.end()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service, "ACK_WAIT_S", 0.05)
        patch.setattr(links, "LAST_BACKOFF_S", 0.1)
        asyncio.run(live())
