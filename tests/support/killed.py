"""``python -m tests.support.killed FOLDER SIDE WHEN``: kill -9 a node at each of its commits in turn, start it again, go on.

Two processes over loopback QUIC open a channel, pay, and close it. SIDE ("payer" or "payee") is killed "before" or "after" its
n-th COMMIT (n = 1, 2, ... until it lives through), and started again on what is on disk. Prints one JSON object for each n:
what both databases hold in the end. Nothing of this is in the product: the COMMIT is wrapped here.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import select
import signal
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any

from tests.bench.payments import Node
from zstui.engine.channels import service
from zstui.engine.channels.messages import Pay, PayLine, read, take
from zstui.engine.channels.schema import SCHEMA
from zstui.engine.channels.store import IN
from zstui.engine.errors import ZsError
from zstui.engine.identity.keys import Identity
from zstui.engine.net import quic, session
from zstui.engine.net import store as net_store
from zstui.engine.store import database
from zstui.engine.store.database import Database, Tx

SIDES = ("payer", "payee")
PAYMENTS = 3
STEP_S = 0.02
PATIENCE_S = 30.0
MAX_COMMITS = 60


# --- one node, in a process of its own -------------------------------------------------------------------------------


class _Mortal:
    """A connection that kills its process around the n-th COMMIT."""

    left: int = 0
    when: str = ""

    def __init__(self, tx: Tx) -> None:
        self._tx = tx

    def execute(self, sql: str, *args: Any) -> Any:
        if sql != "COMMIT" or not self.when:
            return self._tx.execute(sql, *args)
        _Mortal.left -= 1
        if self.left == 0 and self.when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = self._tx.execute(sql, *args)
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tx, name)


def mortal(at: int, when: str) -> None:
    """From now on this process dies around its ``at``-th group of writes."""
    _Mortal.left, _Mortal.when = at, when
    run_group = database._run_group
    database._run_group = lambda tx, operations: run_group(_Mortal(tx), operations)  # type: ignore[arg-type]


def hurry() -> None:
    """A peer that was killed says nothing: do not wait long for it."""
    for module, name, seconds in ((quic, "IDLE_S", 0.6), (session, "PING_EVERY_S", 0.2), (service, "ACK_WAIT_S", 0.3)):
        setattr(module, name, seconds)


async def live(path: Path, side: str, peer: str, tell: int) -> None:
    """Tell my address, link up with ``peer`` if it is given, do my part, tell when the channel is closed; then wait."""
    identity = Identity(hashlib.sha256(side.encode()).digest())
    other = Identity(hashlib.sha256(SIDES[1 - SIDES.index(side)].encode()).digest()).peer_id
    hurry()
    db = await Database.open(path, (*net_store.SCHEMA, *SCHEMA))
    node = Node(identity, db, path)
    await node.channels.start()
    await node.net.start()
    os.write(tell, json.dumps({"address": node.net.addresses()[0]}).encode() + b"\n")
    while other not in node.net.connected():
        if peer:
            with contextlib.suppress(ZsError):
                await node.net.connect(peer)
        await asyncio.sleep(STEP_S)
    if side == "payer":
        await pay_all(node, other)
    while not any(view.reason == "cooperative" for view in node.channels.views()):  # noqa: ASYNC110
        await asyncio.sleep(STEP_S)
    os.write(tell, b'{"closed": true}\n')
    await asyncio.Event().wait()


async def pay_all(node: Node, payee: str) -> None:
    """Open a channel unless there is one, make every payment that was not made, and close. Any of it may be done already."""
    while not any(view.state in ("closed", "closing") and view.reason != "void" for view in node.channels.views()):
        channel = node.channels.active_with(payee)
        with contextlib.suppress(ZsError):
            if channel is None:
                await node.channels.open(payee, 100_000, 0, 86_400)
                continue
            for number in range(PAYMENTS):
                with contextlib.suppress(ZsError):
                    await node.channels.pay(channel.channel_id, PayLine(10, b"a" * 32, 1, number, b"r" * 32))
            paid = await node.db.read(lambda tx: tx.execute("SELECT count(*) FROM channel_lines").fetchone()[0])
            if paid == PAYMENTS:
                await node.channels.close(channel.channel_id)
        await asyncio.sleep(STEP_S)


# --- the process that starts, watches and starts again ---------------------------------------------------------------


class Child:
    def __init__(self, path: Path, side: str, peer: str, at: int = 0, when: str = "") -> None:
        self._buffer = b""
        self._read, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._read)
            if at:
                mortal(at, when)
            try:
                asyncio.run(live(path, side, peer, write))
            finally:
                os._exit(1)
        os.close(write)

    def fileno(self) -> int:
        return self._read

    def hear(self) -> list[dict[str, Any]] | None:
        """What it tells next; None once it is dead. Waits."""
        data = os.read(self._read, 4096)
        if not data:
            return None
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def end(self) -> None:
        """Kill it, unless it was; fails if it ended in another way."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        os.close(self._read)
        if not os.WIFSIGNALED(status):
            raise SystemExit("A process failed by itself.")


def run(folder: Path, victim: str, when: str, at: int) -> dict[str, Any]:
    """One life of both, ``victim`` killed once; what is in the databases in the end."""
    folder.mkdir()
    paths = {side: folder / f"{side}.db" for side in SIDES}
    children: dict[str, Child] = {}
    addresses: dict[str, str] = {}
    closed: set[str] = set()
    died = 0

    def start(side: str) -> None:
        peer = addresses.get(SIDES[1 - SIDES.index(side)], "")
        first = side == victim and not died
        children[side] = Child(paths[side], side, peer, at if first else 0, when if first else "")

    deadline = time.monotonic() + PATIENCE_S
    try:
        start("payee")
        while len(closed) < 2:
            ready, _, _ = select.select(children.values(), [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise SystemExit(f"Killed {when} commit {at} of the {victim}, the two did not get to the end.")
            for side in [side for side, child in children.items() if child in ready]:
                told = children[side].hear()
                if told is None:
                    died += 1
                    children.pop(side).end()
                    addresses.pop(side, None)
                for one in told or ():
                    addresses[side] = one.get("address", addresses.get(side, ""))
                    if "closed" in one:
                        closed.add(side)
            if "payee" not in children and ("payer" in addresses or "payer" not in children):
                start("payee")
            if "payer" not in children and "payee" in addresses:
                start("payer")
    finally:
        for child in children.values():
            child.end()
    return {"at": at, "died": died} | facts(paths)


def facts(paths: dict[str, Path]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for side, path in paths.items():
        with contextlib.closing(sqlite3.connect(path)) as connection:
            one = connection.execute
            received = [
                read(take(raw), Pay)
                for (raw,) in one("SELECT raw FROM channel_envelopes WHERE direction = ? ORDER BY seq", (IN,))
            ]
            found[side] = {
                "channels": [tuple(row) for row in one("SELECT state, reason FROM channels WHERE reason <> 'void'")],
                "paid": [no for (no,) in one("SELECT no FROM channel_lines ORDER BY no")],
                "received": sorted(line.no for pay in received for line in pay.lines),
                "owed": one("SELECT coalesce(sum(amount_u), 0) FROM ledger_postings WHERE account = 'peer'").fetchone()[
                    0
                ],
                "reserved": one("SELECT count(*) FROM ledger_reservations WHERE released = 0").fetchone()[0],
            }
    return found


def main(folder: Path, victim: str, when: str) -> None:
    for at in range(1, MAX_COMMITS):
        result = run(folder / str(at), victim, when, at)
        print(json.dumps(result), flush=True)
        if not result["died"]:
            return
    raise SystemExit("It never lived through.")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
