"""How fast channel payments are between two processes over loopback QUIC, every one durable (SQLite, synchronous=FULL).

Both processes run the product's own network, database and channel service. Keys of the result:

- ``sign_us``, ``verify_us``: microseconds to seal one Pay of one line, and to verify and decode it.
- ``payment_ms_p50``, ``payment_ms_p99``: milliseconds from asking for one payment until the payee's acknowledgement is on
  record here, one payment at a time. The payment is on both disks then; of the acknowledgement the payer's disk may hear later.
- ``payments_per_s_one_way``: ``BURST`` payments asked for at once, until the last is acknowledged. Payments that wait at the
  same time share a Pay of up to 64 lines; each is a line with its own agreement, number and reference.
- ``payments_per_s_both_ways``: the same from both sides at once on one channel; all payments over the longer of the two times.
- ``durable``: read back from both databases: SQLite runs with synchronous=FULL (2), and the payee holds every payment.
- ``crypto_limit_per_s``: Pays a second if nothing but Ed25519 took time, each with a signature of its own, signed here and
  verified there at the same time: one over the slower of the two. ``ratio_to_limit``: one-way payments over that.
- ``open_ms``, ``close_ms``: medians, until both sides have signed and this side has it durable.
- ``bytes_per_payment``: bytes of Pay envelopes for one payment of the burst. ``db_bytes_per_payment``: growth of the payer's
  database file for one, after a checkpoint.
- ``rss_mib_per_1000_channels``: resident memory of a process that serves 1,000 idle channels with 1,000 peers that are away,
  less that of one that serves a single such channel; both fresh, after a collection, free heap given back to the system.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import hashlib
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from zstui.engine.bus import Bus
from zstui.engine.channels import model, schema, store
from zstui.engine.channels.messages import Pay, PayLine, channel_id, read, take
from zstui.engine.channels.service import ChannelService
from zstui.engine.channels.state import Half, Move
from zstui.engine.clock import SystemClock
from zstui.engine.config import Settings
from zstui.engine.identity.card import Card
from zstui.engine.identity.envelope import seal
from zstui.engine.identity.keys import Identity, PeerId
from zstui.engine.net import store as net_store
from zstui.engine.net.service import NetService
from zstui.engine.store.database import Database, Tx

SCHEMA = (*net_store.SCHEMA, *schema.SCHEMA)
SINGLES = 300
BURST = 6_000
OPENS = 20
CHANNELS = 1_000
DAY_S = 86_400

_numbers = itertools.count()


def line(amount_u: int = 1) -> PayLine:
    """A line that no other repeats."""
    return PayLine(amount_u, os.urandom(32), 1, next(_numbers), os.urandom(32))


class Node:
    """A network, a database and a channel service on 127.0.0.1 that grants everybody 1,000 units."""

    def __init__(self, identity: Identity, db: Database, path: Path) -> None:
        self.path = path
        self.db = db
        bus, clock = Bus(), SystemClock()
        settings = Settings(home=path.parent, name=path.stem, listen="127.0.0.1:0", mdns_interface=None)
        self.net = NetService(
            identity,
            settings,
            db,
            bus,
            clock,
            admits=lambda peer: True,
            my_card=lambda: seal(identity, Card(path.stem, True, 2, 128, 30, 1, 1, (), clock.now_us())),
        )
        self.channels = ChannelService(
            identity,
            self.net,
            db,
            bus,
            clock,
            name_of=lambda peer: peer[-6:],
            credit_limit=lambda peer: 1_000_000_000,
            at_risk=lambda peer: 0,
            on_credit=_nothing,
            on_acknowledged=_nothing,
        )


def _nothing(tx: Tx, channel: str, peer: PeerId, line: PayLine) -> None:
    return


@asynccontextmanager
async def node(path: Path) -> AsyncIterator[Node]:
    db = await Database.open(path, SCHEMA)
    one = Node(own_identity(path), db, path)
    await one.channels.start()
    await one.net.start()
    try:
        yield one
    finally:
        await one.net.stop()
        await one.channels.stop()
        await db.close()


# --- the other process -----------------------------------------------------------------------------------------------


async def serve(path: Path) -> None:
    """Answer one JSON request a line on stdin, until it ends."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with node(path) as one:
        print(json.dumps({"address": one.net.addresses()[0]}), flush=True)
        while request := await reader.readline():
            what = json.loads(request)
            answer = {"took_s": await burst(one, what["channel"], what["burst"])} if what["burst"] else {}
            answer["received"], answer["synchronous"] = await facts(one, what["channel"])
            print(json.dumps(answer), flush=True)


class Peer:
    """The other process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        answer: dict[str, Any] = json.loads(await self._process.stdout.readline())
        return answer

    async def ask(self, channel: str, burst: int = 0) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"channel": channel, "burst": burst}).encode() + b"\n")
        return await self.answer()


@asynccontextmanager
async def other(path: Path) -> AsyncIterator[Peer]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.bench.payments",
        str(path),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield Peer(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


# --- the figures -----------------------------------------------------------------------------------------------------


async def burst(one: Node, channel: str, count: int) -> float:
    """Seconds for ``count`` concurrent payments, the last acknowledged."""
    start = time.perf_counter()
    payments = await asyncio.gather(*(one.channels.pay(channel, line()) for _ in range(count)))
    took = time.perf_counter() - start
    if not all(payment.acknowledged for payment in payments):
        raise AssertionError("A payment of the burst was not acknowledged.")
    return took


async def facts(one: Node, channel: str) -> tuple[int, int]:
    """(lines that are durably received on ``channel``, the database's synchronous level)."""

    def read_all(tx: Tx) -> int:
        rows = tx.execute(
            "SELECT raw FROM channel_envelopes WHERE channel = ? AND direction = ?", (bytes.fromhex(channel), store.IN)
        )
        return sum(len(read(take(raw), Pay).lines) for (raw,) in rows)

    received = await one.db.read(read_all)
    level = await one.db.write(lambda tx: tx.execute("PRAGMA synchronous").fetchone()[0])
    return received, int(level)


async def opens(one: Node, peer: PeerId, count: int) -> tuple[float, float]:
    """(open, close) medians in seconds."""
    opening, closing = [], []
    for _ in range(count):
        start = time.perf_counter()
        id = (await one.channels.open(peer, 1_000_000, 0, DAY_S)).channel_id
        opened = time.perf_counter()
        await one.channels.close(id)
        closing.append(time.perf_counter() - opened)
        opening.append(opened - start)
    return statistics.median(opening), statistics.median(closing)


async def singles(one: Node, channel: str, count: int) -> list[float]:
    """Seconds of each of ``count`` payments, one at a time."""
    took = []
    for _ in range(count):
        start = time.perf_counter()
        await one.channels.pay(channel, line())
        took.append(time.perf_counter() - start)
    return sorted(took)


def signatures(rounds: int = 1_000) -> dict[str, float]:
    identity = Identity.generate()
    start_half = Half.start(b"c" * 32)
    pay = Pay(b"c" * 32, 1, 1, start_half.head, 0, 0, start_half.head, 1_700_000_000_000, (line(),))
    start = time.perf_counter()
    raws = [seal(identity, msgspec.structs.replace(pay, seq=number)) for number in range(1, rounds + 1)]
    sealed = time.perf_counter()
    for raw in raws:  # All different: what was verified before may be remembered.
        read(take(raw), Pay)
    taken = time.perf_counter()
    return {
        "sign_us": round((sealed - start) / rounds * 1e6, 1),
        "verify_us": round((taken - sealed) / rounds * 1e6, 1),
    }


async def idle_channels(folder: Path, count: int) -> float:
    """MiB of resident memory for each 1,000 idle channels in a running service."""
    one, many = [await idle_process(folder / f"idle{number}.db", number) for number in (1, 1 + count)]
    return (many - one) / 2**20 * 1000 / count


async def idle_process(path: Path, count: int) -> int:
    """Bytes that a process of its own has in memory while it serves ``count`` idle channels."""
    await fill(path, count)
    command = [sys.executable, "-m", "tests.bench.payments", str(path), "idle"]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    told, _ = await process.communicate()
    answer = json.loads(told)
    assert answer["channels"] == count
    return int(answer["resident"])


async def fill(path: Path, count: int) -> None:
    """A database with ``count`` active channels with as many peers."""
    me, now_us = own_identity(path), SystemClock().now_us()
    db = await Database.open(path, SCHEMA)

    def save(tx: Tx) -> None:
        for number in range(count):
            peer = Identity.generate().peer_id
            params = model.draft("zerostate/1", me.peer_id, peer, 1, os.urandom(32), 1_000, 0, now_us // 1000, DAY_S)
            id = channel_id(params)
            record = model.record(id, params, me.peer_id, peer, proposer=number % 2 == 0, agreed=True, now_us=now_us)
            store.save(tx, record.move(Move.ACCEPT, now_us))

    await db.write(save)
    await db.close()


def own_identity(path: Path) -> Identity:
    return Identity(hashlib.sha256(path.name.encode()).digest())


async def idle(path: Path) -> None:
    """Serve what is in ``path`` until it is at rest, and print how much memory that takes."""
    async with node(path) as one:
        await asyncio.sleep(1.0)
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        print(json.dumps({"resident": resident(), "channels": len(one.channels.views())}), flush=True)


def resident() -> int:
    """Bytes of this process in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def measure(
    singly: int = SINGLES, many: int = BURST, opened: int = OPENS, channels: int = CHANNELS
) -> dict[str, Any]:
    """All figures."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures: dict[str, Any] = signatures()
        async with other(folder / "payee.db") as peer, node(folder / "payer.db") as one:
            id = await one.net.connect((await peer.answer())["address"])
            open_s, close_s = await opens(one, id, opened)
            channel = (await one.channels.open(id, 100_000_000, 100_000_000, DAY_S)).channel_id
            took = await singles(one, channel, singly)
            before = await size(one)
            rate = many / await burst(one, channel, many)
            after, pays = await size(one), await one.db.read(lambda tx: envelope_bytes(tx, channel, singly))
            told = await peer.ask(channel)
            theirs, mine = await asyncio.gather(peer.ask(channel, many), burst(one, channel, many))
            level = (await facts(one, channel))[1]
            await one.channels.close(channel)
        limit = 1e6 / max(figures["sign_us"], figures["verify_us"])
        return figures | {
            "payment_ms_p50": round(statistics.median(took) * 1e3, 3),
            "payment_ms_p99": round(took[int(len(took) * 0.99)] * 1e3, 3),
            "payments_per_s_one_way": round(rate),
            "payments_per_s_both_ways": round(2 * many / max(mine, theirs["took_s"])),
            "durable": level == told["synchronous"] == 2 and told["received"] == singly + many,
            "crypto_limit_per_s": round(limit),
            "ratio_to_limit": round(rate / limit, 3),
            "open_ms": round(open_s * 1e3, 3),
            "close_ms": round(close_s * 1e3, 3),
            "bytes_per_payment": round(pays / many, 1),
            "db_bytes_per_payment": round((after - before) / many, 1),
            "rss_mib_per_1000_channels": round(await idle_channels(folder, channels), 2),
        }


async def size(one: Node) -> int:
    """Bytes of the database file once all is in it."""
    await one.db.read(lambda tx: None)
    return await one.db.read(lambda tx: int(tx.execute("PRAGMA page_count").fetchone()[0])) * 4096


def envelope_bytes(tx: Tx, channel: str, after: int) -> int:
    """Bytes of my Pays past sequence ``after``."""
    row = tx.execute(
        "SELECT sum(length(raw)) FROM channel_envelopes WHERE channel = ? AND direction = ? AND seq > ?",
        (bytes.fromhex(channel), store.OUT, after),
    ).fetchone()
    return int(row[0])


if __name__ == "__main__":
    asyncio.run((idle if sys.argv[2:] else serve)(Path(sys.argv[1])))
