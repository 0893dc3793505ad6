"""A payment channel reduced to what approval sees of one: a balance, a log of committed payments, acknowledgements."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from zstui.engine.bus import Bus
from zstui.engine.channels.approvals.model import PaymentRequest, PeerContext
from zstui.engine.channels.approvals.schema import SCHEMA
from zstui.engine.channels.approvals.service import ApprovalService
from zstui.engine.channels.messages import PayLine
from zstui.engine.clock import ManualClock
from zstui.engine.config import Settings
from zstui.engine.errors import ChannelError, InsufficientBalance
from zstui.engine.events import Event, Notice
from zstui.engine.store.database import Database, Migration, Tx
from zstui.engine.views import ApprovalView, ChannelView, CheckView

PAYS = Migration(
    "test_pays",
    1,
    "CREATE TABLE test_pay (seq INTEGER PRIMARY KEY, agreement BLOB NOT NULL, no INTEGER NOT NULL, amount_u INTEGER NOT NULL,"
    " ref BLOB NOT NULL, peer TEXT NOT NULL, UNIQUE (agreement, no)) STRICT;",
)
UNIT = 1_000_000
DEPOSIT_U = 100 * UNIT


class Sent(msgspec.Struct, frozen=True):
    channel_id: str
    sequence: int
    acknowledged: bool


class Approvals(ApprovalService):
    async def add(self, request: PaymentRequest) -> ApprovalView:
        """A bill of which something is left to pay."""
        view = await self.bill(request)
        assert view is not None
        return view


class Rig:
    """One database and clock; a service on them; one channel with each peer, opened with 100 units."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = ManualClock()
        self.bus = Bus()
        self.events = self.bus.subscribe(Event, limit=100_000)
        self.online = True
        self.blacklisted: set[str] = set()
        self.without_channel: set[str] = set()
        self.mine_u: dict[str, int] = {}
        self.refuse: Exception | None = None
        self.numbers = 0

    async def start(self) -> Approvals:
        self.db = await Database.open(self.path, [*SCHEMA, PAYS])
        self.service = Approvals(
            self.db,
            self.bus,
            self.clock,
            channel=self.channel,
            pay=self.pay,
            context=self.context,
            due=lambda r: r.duration_us * r.price_per_second_nano // 10**9 - r.paid_before_u,
            settings=Settings(home=self.path.parent),
        )
        await self.service.start()
        return self.service

    async def stop(self) -> None:
        await self.service.stop()
        await self.db.close()

    async def restart(self) -> Approvals:
        await self.stop()
        return await self.start()

    # --- the channel -------------------------------------------------------------------------------------------------

    def channel(self, peer: str) -> ChannelView | None:
        if peer in self.without_channel:
            return None
        mine_u = self.mine_u.get(peer, DEPOSIT_U)
        return ChannelView(
            channel_id=f"channel-{peer}",
            peer_id=peer,
            state="active",
            epoch=1,
            mine_u=mine_u,
            theirs_u=DEPOSIT_U - mine_u,
            deposit_mine_u=DEPOSIT_U,
            deposit_theirs_u=0,
            sequence=7,
            expires_at=0,
        )

    async def pay(self, channel_id: str, line: PayLine, *, also: Callable[[Tx], None] | None = None) -> Sent:
        peer = channel_id.removeprefix("channel-")
        if self.refuse is not None:
            raise self.refuse

        def commit(tx: Tx) -> int:
            taken = tx.execute("SELECT coalesce(sum(amount_u), 0) FROM test_pay WHERE peer = ?", (peer,)).fetchone()[0]
            if taken + line.amount_u > DEPOSIT_U:
                raise InsufficientBalance("The channel does not hold enough.")
            if tx.execute(
                "SELECT 1 FROM test_pay WHERE agreement = ? AND no = ?", (line.agreement, line.no)
            ).fetchone():
                raise ChannelError("This agreement was paid already.")
            row = tx.execute(
                "INSERT INTO test_pay (agreement, no, amount_u, ref, peer) VALUES (?,?,?,?,?) RETURNING seq",
                (line.agreement, line.no, line.amount_u, line.ref, peer),
            ).fetchone()
            if also is not None:
                also(tx)
            return int(row[0])

        sequence = await self.db.write(commit)
        self.mine_u[peer] = self.mine_u.get(peer, DEPOSIT_U) - line.amount_u
        if self.online:
            await self.acknowledge(peer, line)
        return Sent(channel_id, sequence, self.online)

    async def acknowledge(self, peer: str, line: PayLine) -> None:
        await self.db.write(lambda tx: self.service.acknowledged(tx, peer, line))

    async def paid(self) -> list[tuple[Any, ...]]:
        """(peer, amount) of every payment in the channel's log."""
        return await self.db.read(lambda tx: tx.execute("SELECT peer, amount_u FROM test_pay ORDER BY seq").fetchall())

    # --- requests ----------------------------------------------------------------------------------------------------

    def context(self, request: PaymentRequest) -> PeerContext:
        return PeerContext(
            peer_name=request.peer_id.title(),
            first_seen_at=1,
            guild_name="farm",
            my_role="creator",
            peer_role="executor",
            score=0.9,
            completed=12,
            blacklisted=request.peer_id in self.blacklisted,
        )

    def request(self, amount_u: int = UNIT, peer: str = "south", **changes: Any) -> PaymentRequest:
        self.numbers += 1
        receipt = hashlib.sha256(b"receipt%d" % self.numbers).hexdigest()
        values: dict[str, Any] = {
            "request_id": receipt,
            "peer_id": peer,
            "job_id": f"{self.numbers:064x}",
            "guild_id": "g" * 64,
            "module": "blur.wasm",
            "exit_code": 0,
            "fault": "none",
            "duration_us": amount_u,
            "memory_bytes": 1 << 20,
            "price_per_second_nano": 10**9,
            "price_per_mib_nano": 0,
            "amount_u": amount_u,
            "max_cost_u": 30 * UNIT,
            "receipt_id": receipt,
            "agreement_id": hashlib.sha256(b"agreement%d" % self.numbers).hexdigest(),
            "checks": (CheckView(name="receipt signature", ok=True), CheckView(name="module", ok=True)),
            "created_us": self.clock.now_us() + self.numbers,
        }
        return PaymentRequest(**(values | changes))

    def line(self, request: PaymentRequest, **changes: Any) -> PayLine:
        values: dict[str, Any] = {
            "amount_u": request.amount_u,
            "agreement": bytes.fromhex(request.agreement_id),
            "kind": 1,
            "no": 0,
            "ref": bytes.fromhex(request.receipt_id),
        }
        return PayLine(**(values | changes))

    async def wait(self, seconds: float) -> None:
        """Let time pass, and what that started finish."""
        await self.clock.advance(seconds)
        await asyncio.sleep(0.02)

    def told(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events._queue if isinstance(event, kind)]

    def notices(self) -> str:
        return "\n".join(event.text for event in self.told(Notice) if isinstance(event, Notice))
