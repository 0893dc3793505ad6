"""A stranger does its worst to a real node, which goes on as if nothing had happened."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
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
from tests.support.hostile import NASTY, PROTOCOLS, frames, member_message, resigned, signed
from tests.support.net import bare_configuration, net_node
from tests.support.nodes import NodeProcess, eventually
from zstui.engine import commands as c
from zstui.engine.config import Settings
from zstui.engine.errors import ZsError
from zstui.engine.guilds.messages import MAX_ANNOUNCED, Announce, Announced, GuildCharter, Needs
from zstui.engine.home import Home
from zstui.engine.identity.keys import Identity, public_key_of
from zstui.engine.jobs import store
from zstui.engine.jobs.messages import Head, Offer, Packet
from zstui.engine.logs import MAX_BYTES, MAX_FILES
from zstui.engine.net.link import ARTIFACT_PROTOCOL, GUILD_PROTOCOL, JOB_PROTOCOL, MAX_FRAME, Network
from zstui.engine.node import Node

HANDSHAKES = 1000
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
                        "open",
                        Needs(),
                        time.time_ns() // 1000,
                        os.urandom(16),
                    )
                ),
            ),
            n % 51,
            0,
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


def still_well(node: NodeProcess) -> None:
    """It answers, nothing in it failed, and nothing it shows or wrote down would reach a terminal raw."""
    shown = node.run("guild", "list").stdout + node.run("peers").stdout + node.run("channel", "list").stdout
    assert not [c for c in shown if not c.isprintable() and c != "\n"]
    logs = list((node.home / "log").iterdir())
    assert sum(f.stat().st_size for f in logs) < MAX_BYTES * MAX_FILES
    told = "".join(f.read_text() for f in logs)
    assert "The handler of" not in told, [line for line in told.splitlines() if "The handler of" in line][:3]
    assert not [c for c in told if not c.isprintable() and c != "\n"]


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
    still_well(victim)

    friend = start("friend", mdns=False)
    friend.ask("connect", victim.address)
    eventually("guild", lambda: [g for g in friend.ask("guild", "list") if g["name"] == "farm"])
    assert friend.ask("guild", "join", "farm")["state"] == "joined"
    assert victim.stop() == 0
    assert victim.stderr.read_text() == ""


async def betray(home: Path, address: str, victim: str, guild: str) -> int:
    """As a member whose job the victim ran: what only the guild's key lets through; returns the number of streams."""
    rng = random.Random(SEED)
    node = Node(
        Settings(home=home, name="mallory", listen="127.0.0.1:0", mdns_interface=None, metrics=None), Home(home)
    )
    await node.start()
    try:
        await node.execute(c.Connect(address=address))
        async with asyncio.timeout(20):
            while not any(g.guild_id == guild for g in await node.execute(c.ListGuilds())):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        await node.execute(c.JoinGuild(guild=guild, role="executor"))
        job = await node.execute(c.SubmitJob(spec=c.JobSpec(module="hello", guild=guild, executor=victim)))
        job = await node.execute(c.WaitJob(job=job.job_id))
        assert job.state == "done", job.why
        s = node._services
        assert s is not None
        kinds = (
            ("manifest", s.identity.peer_id),
            ("agreement", s.identity.peer_id),
            ("agreement", victim),
            ("receipt", victim),
        )
        documents = [
            await s.db.read(lambda tx, kind=kind, by=by: store.raw(tx, job.job_id, kind, by))  # type: ignore[misc]
            for kind, by in kinds
        ]
        assert all(documents)
        for n in range(ROUNDS * 10):
            protocol = (JOB_PROTOCOL, ARTIFACT_PROTOCOL)[n % 4 == 0]
            first = member_message(s.identity, documents, rng)
            about = job.job_id if rng.random() < 0.6 else os.urandom(32).hex()
            if n % 3 == 0:
                raw = resigned(s.identity, documents[0], rng)
                about, first = hashlib.sha256(raw).hexdigest(), msgspec.msgpack.encode(Offer(raw))
            said = [msgspec.msgpack.encode(Head(bytes.fromhex(guild), bytes.fromhex(about)))]
            for plain in (first, *(member_message(s.identity, documents, rng) for _ in range(2))):
                sealed = s.guilds.seal(guild, plain, protocol.encode() + b"|" + bytes.fromhex(about))
                said.append(msgspec.msgpack.encode(Packet(True, sealed)))
            await say(s.net, victim, protocol, [frame for frame in said if len(frame) <= MAX_FRAME])
        return len(await node.execute(c.ListJobs()))
    finally:
        await node.stop()


def test_a_node_outlives_a_hostile_member(start: Start, tmp_path: Path) -> None:
    victim = start("victim", "--executor", mdns=False)
    guild = victim.ask("guild", "create", "farm")["guild_id"]
    before = resident(victim)
    assert asyncio.run(betray(tmp_path / "mallory", victim.address, victim.peer_id, guild)) == 1
    assert resident(victim) - before < MAX_GROWTH
    still_well(victim)
