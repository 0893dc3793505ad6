"""Peers that break the rules, speaking the protocol directly."""

from __future__ import annotations

import asyncio
import os

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from tests.engine.guilds.test_workflow import join, seen, texts
from tests.engine.guilds.world import Peer, World, until
from zstui.engine.clock import ManualClock
from zstui.engine.config import Settings
from zstui.engine.errors import GuildError, NetError, ProtocolError, Refused, StreamClosed, Unreachable
from zstui.engine.guilds import store
from zstui.engine.guilds.entries import KEYED
from zstui.engine.guilds.epochs import box_key_of, grants_hash, new_box_secret, seal_grants
from zstui.engine.guilds.heralds import MAX_WORD
from zstui.engine.guilds.invites import parse_invite
from zstui.engine.guilds.log import MemberLog
from zstui.engine.guilds.messages import (
    MAX_ANNOUNCED,
    Announce,
    Announced,
    Chat,
    Done,
    EntryKind,
    GuildCharter,
    GuildEntry,
    GuildJoin,
    GuildLeave,
    GuildLine,
    Join,
    Leave,
    Lines,
    Needs,
    No,
    Reply,
    Request,
    State,
    Sync,
    Update,
    decode_reply,
    encode,
)
from zstui.engine.guilds.model import read_charter
from zstui.engine.guilds.replicator import CHAT
from zstui.engine.identity.envelope import seal
from zstui.engine.identity.keys import Identity
from zstui.engine.net.link import GUILD_PROTOCOL
from zstui.engine.net.memory import MemoryNetwork
from zstui.engine.pubsub.model import MAX_DATA
from zstui.engine.telemetry import Telemetry


class Attacker:
    """A node without guild service, which says whatever it likes."""

    def __init__(self, world: World) -> None:
        self.identity = Identity.generate()
        self.network: MemoryNetwork = world.hub.add(self.identity.peer_id)
        self.secret = new_box_secret()

    async def ask(self, peer: Peer, request: Request) -> Reply | None:
        """The answer, or None if the stream was reset."""
        try:
            return decode_reply(await self.network.request(peer.id, GUILD_PROTOCOL, encode(request), 1.0))
        except NetError:
            return None

    def request(self, guild_id: str, role: str = "member") -> bytes:
        return seal(self.identity, GuildJoin(bytes.fromhex(guild_id), role, box_key_of(self.secret)))  # type: ignore[arg-type]

    def charter(self, name: str = "fake", created_us: int = 1_700_000_000_000_000) -> bytes:
        key = self.identity.public_key
        return seal(self.identity, GuildCharter(key, name, 3600, 50, "open", Needs(), created_us, os.urandom(16)))

    def announced(self, raw: bytes, members: int = 1, ended: bool = False, warrant: bytes = b"") -> Announced:
        return Announced(raw, members, 0, ended, warrant)


async def test_ten_thousand_fake_guilds_from_one_peer_stay_bounded(world: World) -> None:
    (a,) = await world.add("ann")
    attacker = Attacker(world)
    assert isinstance(world.clock, ManualClock)
    for _ in range(10_000 // MAX_ANNOUNCED + 1):
        fakes = [attacker.charter(created_us=world.clock.now_us()) for _ in range(MAX_ANNOUNCED)]
        reply = await attacker.ask(a, Announce(tuple(attacker.announced(raw, 1, False) for raw in fakes)))
        assert isinstance(reply, Done)
        assert len(a.guilds.views()) == MAX_ANNOUNCED
        world.clock._now += 16_000_000
    assert {v.guild_id for v in a.guilds.views()} == {read_charter(raw).guild_id.hex() for raw in fakes}


async def test_strangers_make_no_time_series(world: World) -> None:
    """Not by announcing, not by knocking: the only labels are guilds I am in, and ends are counted by a fixed set of reasons."""
    (a,) = await world.add("ann")
    registry = CollectorRegistry()
    telemetry = Telemetry(a.bus, registry, Settings(home=world.folder, metrics=None), guild_sizes=a.guilds.sizes)
    guild = await a.guilds.create("club", 3600, 5, "knock")
    count = len(generate_latest(registry).splitlines())
    for _ in range(40):
        attacker = Attacker(world)
        await attacker.ask(a, Announce(tuple(attacker.announced(attacker.charter()) for _ in range(8))))
        await attacker.ask(a, Join(attacker.request(guild.guild_id), b""))
    text = generate_latest(registry).decode()
    assert len(a.guilds.views()) > 200
    assert len(text.splitlines()) == count
    assert f'guild_members{{guild_id="{guild.guild_id}"}} 1.0' in text
    await telemetry.stop()


async def test_announcements_come_at_a_limited_rate(world: World) -> None:
    (a,) = await world.add("ann")
    attacker = Attacker(world)
    replies = [await attacker.ask(a, Announce((attacker.announced(attacker.charter(), 1, False),))) for _ in range(260)]
    assert [isinstance(r, Done) for r in replies] == [True] * 256 + [False] * 4


@pytest.mark.parametrize("count", [1, 50])
async def test_announcements_that_lie(world: World, count: int) -> None:
    a, b = await world.add("ann", "bob")
    attacker = Attacker(world)
    guild = await a.guilds.create("farm", 3600, 50)
    await seen(b, guild.guild_id)
    charter = next(g.charter.raw for g in a.guilds._registry.guilds.values())
    assert await attacker.ask(b, Announce((attacker.announced(charter, count, True),))) is None
    assert b.guilds.view(guild.guild_id).member_count == 1
    future = attacker.charter(created_us=1_700_000_000_000_000 + 3_600_000_000)
    past = attacker.charter(created_us=1_700_000_000_000_000 - 3_600_000_000)
    await attacker.ask(b, Announce((attacker.announced(future, count, False), attacker.announced(past, count, False))))
    for name in ("\x1b\u202e", "x" * 49):
        assert await attacker.ask(b, Announce((attacker.announced(attacker.charter(name), count, False),))) is None
    assert [v.guild_id for v in b.guilds.views()] == [guild.guild_id]
    await attacker.ask(b, Announce((attacker.announced(attacker.charter("[/red]\x1b]0;x\x07"), count, False),)))
    assert {v.name for v in b.guilds.views()} == {"farm", "[/red]]0;x"}


async def test_what_comes_through_others_is_checked_as_if_its_author_had_told_it(world: World) -> None:
    a, b = await world.add("ann", "bob")
    attacker = Attacker(world)
    world.hub.cut(a.id, b.id)
    guild = await a.guilds.create("farm", 3600, 50)
    await a.guilds.create("hidden", 3600, 50, "invite")
    word = a.guilds.heralds.word()
    assert word is not None
    for wrong in (
        b"garbage",
        encode(Done()),
        encode(Announce((attacker.announced(attacker.charter(), 1),) * (MAX_ANNOUNCED + 1))),
    ):
        with pytest.raises(ProtocolError):
            b.guilds.heralds.overheard(a.id, wrong)
    with pytest.raises(ProtocolError):
        b.guilds.heralds.overheard(attacker.identity.peer_id, word)
    assert b.guilds.views() == []

    b.guilds.heralds.overheard(a.id, word)
    (view,) = b.guilds.views()
    assert (view.guild_id, view.state) == (guild.guild_id, "seen")
    assert view.heard_at is not None
    world.hub.link(a.id, b.id)
    await until(lambda: b.guilds.view(guild.guild_id).heard_at is None)
    b.guilds.heralds.overheard(a.id, word)
    assert b.guilds.view(guild.guild_id).heard_at is None, "it told this node itself"

    await a.guilds.office.dissolve(guild.guild_id)
    ended = a.guilds.heralds.word()
    assert ended is not None
    b.guilds.heralds.overheard(a.id, ended)
    assert b.guilds.views() == []


def test_a_word_has_a_bounded_size() -> None:
    assert MAX_WORD < MAX_DATA


async def test_join_requests_are_good_for_one_use_and_one_peer(world: World) -> None:
    a, b = await world.add("ann", "bob")
    attacker, other = Attacker(world), Attacker(world)
    guild = await a.guilds.create("farm", 3600, 3)
    request = attacker.request(guild.guild_id)
    assert await other.ask(a, Join(request, b"")) is None
    assert set(a.guilds.members(guild.guild_id)) == {a.id}
    assert isinstance(await attacker.ask(a, Join(request, b"")), State)
    epoch = a.guilds.view(guild.guild_id).epoch
    assert isinstance(await attacker.ask(a, Join(request, b"")), State)
    assert a.guilds.view(guild.guild_id).epoch == epoch
    leave = seal(attacker.identity, GuildLeave(bytes.fromhex(guild.guild_id), box_key_of(attacker.secret)))
    assert await other.ask(a, Leave(leave)) is None
    assert attacker.identity.peer_id in a.guilds.members(guild.guild_id)
    await attacker.ask(a, Leave(leave))
    assert set(a.guilds.members(guild.guild_id)) == {a.id}
    reply = await attacker.ask(a, Join(request, b""))
    assert isinstance(reply, No)
    assert "used before" in reply.text
    await join(a, guild.guild_id, b)
    await attacker.ask(a, Leave(leave))
    assert set(a.guilds.members(guild.guild_id)) == {a.id, b.id}


async def test_joins_over_capacity_at_the_same_moment(world: World) -> None:
    (a,) = await world.add("ann")
    guild = await a.guilds.create("farm", 3600, 5)
    crowd = [Attacker(world) for _ in range(20)]
    replies = await asyncio.gather(*(x.ask(a, Join(x.request(guild.guild_id), b"")) for x in crowd))
    assert sum(isinstance(r, State) for r in replies) == 4
    assert {(r.code, r.text) for r in replies if isinstance(r, No)} == {("guild_full", "farm is full 5/5.")}
    assert len(a.guilds.members(guild.guild_id)) == 5


async def test_joins_that_are_refused(world: World) -> None:
    (a,) = await world.add("ann")
    attacker = Attacker(world)
    private = await a.guilds.create("secret", 7200, 5, "invite")
    short = await a.guilds.create("short", 60, 5)

    async def refused(request: bytes, secret: bytes = b"") -> str:
        reply = await attacker.ask(a, Join(request, secret))
        assert isinstance(reply, No)
        return f"{reply.code}: {reply.text}"

    assert "takes an invite" in await refused(attacker.request(private.guild_id))
    assert "not one of secret" in await refused(attacker.request(private.guild_id), bytes(12))
    other = parse_invite((await a.guilds.office.invite("short")).invite)
    assert "not one of secret" in await refused(attacker.request(private.guild_id), other.secret)
    revoked = await a.guilds.office.invite("secret", uses=9)
    await a.guilds.office.revoke("secret", revoked.invite_id[:8])
    secret = parse_invite(revoked.invite).secret
    assert "was revoked" in await refused(attacker.request(private.guild_id), secret)
    late = parse_invite((await a.guilds.office.invite("secret", ttl_s=60)).invite)
    assert "unknown_guild" in await refused(attacker.request("ab" * 32))
    assert await attacker.ask(a, Join(attacker.request(short.guild_id, "creator"), b"")) is None
    low_order = seal(attacker.identity, GuildJoin(bytes.fromhex(short.guild_id), "member", bytes(32)))
    assert await attacker.ask(a, Join(low_order, b"")) is None
    assert set(a.guilds.members(short.guild_id)) == {a.id}
    await world.advance(61)
    assert "guild_expired" in await refused(attacker.request(short.guild_id))
    assert "has expired" in await refused(attacker.request(private.guild_id), late.secret)
    for _ in range(60):
        reply = await attacker.ask(a, Join(attacker.request(private.guild_id), b""))
    assert isinstance(reply, No)
    assert "Too many" in reply.text


async def test_a_member_cannot_write_the_log(world: World) -> None:
    a, b = await world.add("ann", "bob")
    attacker = Attacker(world)
    guild = await a.guilds.create("farm", 3600, 5)
    key = bytes.fromhex(guild.guild_id)
    await join(a, guild.guild_id, b)
    await attacker.ask(a, Join(attacker.request(guild.guild_id), b""))
    await until(lambda: attacker.identity.peer_id in b.guilds.members(guild.guild_id))
    log = b.guilds._registry.guilds[key].log
    kick = entry(log, attacker.identity, "kick", peer=b.identity.public_key)
    assert await attacker.ask(b, Update(key, (kick,), b"")) is None
    assert b.guilds.view(guild.guild_id).state == "joined"

    stranger = Attacker(world)
    good = entry(log, a.identity, "kick", peer=b.identity.public_key)
    assert await stranger.ask(b, Update(key, (good,), b"")) is None
    assert isinstance(await stranger.ask(b, Sync(key, (), ())), No)
    assert isinstance(await stranger.ask(b, Update(bytes(32), (good,), b"")), No)
    assert b.guilds.view(guild.guild_id).state == "joined"
    # The creator's own signature is what counts, whoever brings it.
    assert isinstance(await attacker.ask(b, Update(key, (good,), b"")), Done)
    assert b.guilds.view(guild.guild_id).state == "left"


async def test_a_creator_who_gives_out_different_keys_is_noticed(world: World) -> None:
    a, b = await world.add("ann", "bob")
    guild = await a.guilds.create("farm", 3600, 5)
    key = bytes.fromhex(guild.guild_id)
    await join(a, guild.guild_id, b)
    inside = b.guilds._registry.guilds[key]
    grants = seal_grants(os.urandom(32), inside.membership.members.values())
    raw = entry(inside.log, a.identity, "rekey", grants=grants_hash(grants))
    with pytest.raises(ProtocolError, match="not the one in the log"):
        await b.guilds._replicator.absorb(inside, [raw], grants)
    assert b.guilds.view(guild.guild_id).epoch == 2
    assert "different keys" in b.guilds.view(guild.guild_id).warning


def entry(log: MemberLog, by: Identity, kind: EntryKind, **fields: object) -> bytes:
    """A log entry that follows all of ``log``, whoever signs it."""
    latest = max((e for e in log.entries if e.digest in log.heads), key=lambda e: e.rank)
    if kind in KEYED:
        fields = {"fingerprint": os.urandom(32), "grants": os.urandom(32), **fields}
    seq = 1 + sum(e.signer == by.peer_id for e in log.entries)
    body = GuildEntry(log.charter.guild_id, seq, latest.entry.depth + 1, log.heads, kind, **fields)  # type: ignore[arg-type]
    return seal(by, body)


class Insider(Attacker):
    """An attacker who is a member and holds the group key."""

    def __init__(self, world: World, at: Peer, guild_id: str) -> None:
        super().__init__(world)
        self.key = bytes.fromhex(guild_id)
        self.at = at

    def line(self, counter: int, text: str = "hi", epoch: bytes | None = None, signer: Identity | None = None) -> bytes:
        inside = self.at.guilds._registry.guilds[self.key]
        at = inside.membership.key
        assert at is not None
        body = GuildLine(self.key, epoch or at.digest, box_key_of(self.secret), counter, text, 2**52)
        return seal(signer or self.identity, body)

    async def say(self, peer: Peer, line: bytes) -> Reply | None:
        ring = self.at.guilds._registry.guilds[self.key].ring
        return await self.ask(peer, Chat(self.key, ring.seal(self.identity.public_key, line, CHAT)))


async def test_lines_that_are_refused(world: World) -> None:
    a, b = await world.add("ann", "bob")
    guild = await a.guilds.create("farm", 3600, 5)
    await join(a, guild.guild_id, b)
    insider = Insider(world, a, guild.guild_id)
    await insider.ask(a, Join(insider.request(guild.guild_id), b""))
    await until(lambda: b.guilds.view(guild.guild_id).epoch == 3)
    inside = b.guilds._registry.guilds[insider.key]
    line = insider.line(1, "a\x1b[2Jb\u202e")
    assert isinstance(await insider.say(b, line), Done)
    assert await texts(b, guild.guild_id) == ["a[2Jb"]
    messages = await b.guilds.messages(guild.guild_id)
    assert messages[-1].sent_at == 1_700_000_000
    reply = await insider.say(b, line)
    assert isinstance(reply, No)
    assert reply.code == "replay"
    reply = await insider.say(b, insider.line(1, "another text"))
    assert isinstance(reply, No)
    # In the name of another, of a time before it was in, of a time to come.
    assert await insider.say(b, insider.line(2, signer=a.identity)) is None
    assert await insider.say(b, insider.line(2, epoch=inside.log.entries[0].digest)) is None
    assert await insider.say(b, insider.line(2, epoch=bytes(32))) is None
    assert await insider.say(b, insider.line(2, "x" * 1001)) is None
    assert await texts(b, guild.guild_id) == ["a[2Jb"]

    await a.guilds.office.kick(guild.guild_id, insider.identity.peer_id)
    await until(lambda: b.guilds.view(guild.guild_id).epoch == 4)
    assert isinstance(await insider.say(b, insider.line(2)), No)
    assert isinstance(await insider.say(b, insider.line(2, epoch=inside.log.entries[2].digest)), No)
    assert await texts(b, guild.guild_id) == ["a[2Jb"]


async def test_an_observer_is_not_heard(world: World) -> None:
    a, b = await world.add("ann", "bob")
    guild = await a.guilds.create("farm", 3600, 5)
    await join(a, guild.guild_id, b)
    insider = Insider(world, a, guild.guild_id)
    await insider.ask(a, Join(insider.request(guild.guild_id, "observer"), b""))
    await until(lambda: b.guilds.view(guild.guild_id).epoch == 3)
    assert isinstance(await insider.say(b, insider.line(1)), No)
    assert await texts(b, guild.guild_id) == []


async def test_what_a_flood_of_lines_leaves_behind(world: World) -> None:
    a, b = await world.add("ann", "bob")
    guild = await a.guilds.create("farm", 3600, 5)
    await join(a, guild.guild_id, b)
    insider = Insider(world, a, guild.guild_id)
    await insider.ask(a, Join(insider.request(guild.guild_id), b""))
    await until(lambda: b.guilds.view(guild.guild_id).epoch == 3)
    replies = [await insider.say(b, insider.line(n)) for n in range(1, 260)]
    assert sum(isinstance(r, Done) for r in replies) == 200


async def test_messages_are_bounded_and_syncs_bring_them_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = await world.add("ann", "bob")
    guild = await a.guilds.create("farm", 3600, 5)
    await join(a, guild.guild_id, b)
    monkeypatch.setattr(store, "MAX_MESSAGES", 100)
    world.cut(a, b)
    for n in range(110):
        await a.guilds.send(guild.guild_id, f"{n} {'x' * 990}")
    assert len(await a.guilds.messages(guild.guild_id)) == 100
    world.mend(a, b)
    await until(lambda: b.guilds.view(guild.guild_id).unread >= 100)
    mine = await texts(b, guild.guild_id)
    assert mine == [f"{n} {'x' * 990}" for n in range(10, 110)]
    for _ in range(2):
        world.hub.cut(a.id, b.id)
        world.hub.link(a.id, b.id)
    await asyncio.sleep(0.05)
    assert await texts(b, guild.guild_id) == mine


async def test_a_lying_server_of_syncs_cannot_invent_lines(world: World) -> None:
    """A member who serves a sync with lines of others must have their signatures."""
    a, b = await world.add("ann", "bob")
    guild = await a.guilds.create("farm", 3600, 5)
    await join(a, guild.guild_id, b)
    liar = Insider(world, a, guild.guild_id)
    await liar.ask(a, Join(liar.request(guild.guild_id), b""))
    await until(lambda: b.guilds.view(guild.guild_id).epoch == 3)
    inside = a.guilds._registry.guilds[liar.key]

    async def serve(stream: object) -> None:
        await stream.receive()  # type: ignore[attr-defined]
        await stream.send(encode(State((), b"", False)))  # type: ignore[attr-defined]
        invented = encode([liar.line(1, "ann never said this", signer=Identity.generate())])
        sealed = inside.ring.seal(liar.identity.public_key, invented, b"zs/1|lines")
        await stream.send(encode(Lines(sealed, False)))  # type: ignore[attr-defined]

    liar.network.handle(GUILD_PROTOCOL, serve)
    with pytest.raises(ProtocolError, match="may not write"):
        await b.guilds._replicator.sync(b.guilds._registry.guilds[liar.key], liar.identity.peer_id)
    assert await texts(b, guild.guild_id) == []


async def test_a_creator_who_answers_a_join_with_anything_else(world: World) -> None:
    (b,) = await world.add("bob")
    attacker = Attacker(world)
    charter = read_charter(attacker.charter("trap"))
    answers: list[bytes] = []

    async def serve(stream: object) -> None:
        await stream.receive()  # type: ignore[attr-defined]
        for frame in answers:
            await stream.send(frame)  # type: ignore[attr-defined]

    attacker.network.handle(GUILD_PROTOCOL, serve)
    await attacker.ask(b, Announce((attacker.announced(charter.raw, 1, False),)))
    cases: list[tuple[list[bytes], type[Exception]]] = [
        ([], Unreachable),
        ([b"\xc1junk"], ProtocolError),
        ([encode(Done())], ProtocolError),
        ([encode(State((), b"", False))], ProtocolError),
        ([encode(State((b"junk",), b"", False))], ProtocolError),
        ([encode(State((), b"", True))], Unreachable),
        ([encode(No("odd", "\x1b]0;owned\x07no"))], GuildError),
    ]
    for given, expected in cases:
        answers[:] = given
        with pytest.raises(expected) as raised:
            await b.guilds.join("trap", "member")
        assert "\x1b" not in str(raised.value)
    assert b.guilds.view(charter.guild_id.hex()).state == "seen"


async def test_junk_frames_reset_the_stream(world: World) -> None:
    (a,) = await world.add("ann")
    attacker = Attacker(world)
    for junk in (b"", b"\xff" * 100, encode(["join"]), encode(["sync", b"short", 1, []]), os.urandom(60_000)):
        with pytest.raises((StreamClosed, Refused)):
            await attacker.network.request(a.id, GUILD_PROTOCOL, junk, 1.0)
