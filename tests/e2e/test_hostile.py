"""A stranger does its worst to a real node, which goes on as if nothing had happened."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest
from aioquic.quic.connection import QuicConnection

from tests.e2e.conftest import Start
from tests.support.hostile import NASTY, PROTOCOLS, frames, signed
from tests.support.net import bare_configuration, net_node
from tests.support.nodes import NodeProcess, eventually
from zstui.engine.errors import ZsError
from zstui.engine.guilds.messages import MAX_ANNOUNCED, Announce, Announced, GuildCharter
from zstui.engine.identity.keys import Identity, public_key_of
from zstui.engine.logs import MAX_BYTES, MAX_FILES
from zstui.engine.net.link import GUILD_PROTOCOL, Network

HANDSHAKES = 500
GUILDS = 500
ROUNDS = int(os.environ.get("ZSTUI_EXAMPLES", "30"))
SEED = int(os.environ.get("ZSTUI_SEED", "1"))
MAX_GROWTH = 60 << 20


def resident(node: NodeProcess) -> int:
    """Bytes of memory that the node's own process holds."""
    assert node.process is not None
    status = Path(f"/proc/{node.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


def flood(port: int) -> None:
    """Garbage datagrams, and handshakes that are begun and left."""
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        for n in range(1000):
            first = (0x00, 0x40, 0x80, 0xC0, 0xFF)[n % 5]
            sock.sendto(bytes((first,)) + os.urandom((0, 7, 40, 1199, 8999)[n // 5 % 5]), ("127.0.0.1", port))
        for _ in range(HANDSHAKES):
            quic = QuicConnection(configuration=bare_configuration(True, None, None))
            quic.connect(("127.0.0.1", port), now=time.time())
            for data, _ in quic.datagrams_to_send(time.time()):
                sock.sendto(data, ("127.0.0.1", port))
            time.sleep(0.001)


async def say(network: Network, victim: str, protocol: str, said: Iterable[bytes]) -> None:
    """Open a stream, send it all, read one answer if there is any."""
    try:
        stream = await network.open(victim, protocol)
    except ZsError:
        return
    with contextlib.suppress(ZsError):
        for frame in said:
            await stream.send(frame)
        await stream.close()
        await stream.receive(0.05)
    stream.reset()


def fake_guilds(identity: Identity, count: int) -> list[Announced]:
    return [
        Announced(
            signed(
                identity,
                "GuildCharter",
                msgspec.msgpack.encode(
                    GuildCharter(
                        identity.public_key,
                        f"{NASTY}{n}"[:48],
                        3600,
                        50,
                        False,
                        time.time_ns() // 1000,
                        os.urandom(16),
                    )
                ),
            ),
            n % 51,
            False,
        )
        for n in range(count)
    ]


async def attack(home: Path, address: str, victim: str) -> int:
    """Everything that needs a proven key; returns how many streams were spent on it."""
    rng, spent = random.Random(SEED), 0
    identity = Identity.generate()
    async with net_node(home, "stranger", identity=identity) as stranger:
        await stranger.net.connect(address)
        guilds = fake_guilds(identity, GUILDS)
        for at in range(0, GUILDS, MAX_ANNOUNCED):
            frame = msgspec.msgpack.encode(Announce(tuple(guilds[at : at + MAX_ANNOUNCED])))
            await say(stranger.net, victim, GUILD_PROTOCOL, [frame])
        for protocol in PROTOCOLS:
            for said in frames(protocol, identity, public_key_of(victim), rng, ROUNDS):
                await say(stranger.net, victim, protocol, said)
                spent += 1
            stream = await stranger.net.open(victim, protocol)
            await stream.write_raw(b"\xff\xff\xff\xff\x7f" + bytes(100_000))  # type: ignore[attr-defined]
            with pytest.raises(ZsError):
                await stream.receive(5)
    return spent


def test_a_node_outlives_a_hostile_peer(start: Start, tmp_path: Path) -> None:
    victim = start("victim", mdns=False)
    victim.ask("guild", "create", "farm")
    port = int(victim.address.split("/")[4])
    (tmp_path / "stranger").mkdir()
    before = resident(victim)
    flood(port)
    assert asyncio.run(attack(tmp_path / "stranger", victim.address, victim.peer_id)) > len(PROTOCOLS) * ROUNDS
    assert victim.ask("status")["peer_id"] == victim.peer_id
    grown = resident(victim) - before
    assert grown < MAX_GROWTH, f"{grown / 2**20:.1f} MiB"

    seen = [g for g in victim.ask("guild", "list") if g["state"] == "seen"]
    assert len(seen) <= MAX_ANNOUNCED
    shown = victim.run("guild", "list").stdout + victim.run("peers").stdout + victim.run("channel", "list").stdout
    assert not [c for c in shown if not c.isprintable() and c != "\n"]
    logs = list((victim.home / "log").iterdir())
    assert sum(f.stat().st_size for f in logs) < MAX_BYTES * MAX_FILES
    told = "".join(f.read_text() for f in logs)
    assert "The handler of" not in told, [line for line in told.splitlines() if "The handler of" in line][:3]
    assert not [c for c in told if not c.isprintable() and c != "\n"]

    friend = start("friend", mdns=False)
    friend.ask("connect", victim.address)
    eventually("guild", lambda: [g for g in friend.ask("guild", "list") if g["name"] == "farm"])
    assert friend.ask("guild", "join", "farm")["state"] == "joined"
    assert victim.stop() == 0
    assert victim.stderr.read_text() == ""
