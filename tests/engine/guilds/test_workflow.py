from __future__ import annotations

import asyncio

import pytest

from tests.engine.guilds.world import Peer, World, queued, until, until_async
from zstui.engine.errors import (
    BadInput,
    GuildError,
    GuildExpired,
    GuildFull,
    NotPermitted,
    ProtocolError,
    UnknownGuild,
    Unreachable,
)
from zstui.engine.events import GuildCreated, GuildEnded, GuildJoined, GuildMessageReceived
from zstui.engine.views import GuildView, Role


async def seen(peer: Peer, guild_id: str) -> None:
    await until(lambda: guild_id in {v.guild_id for v in peer.guilds.views()})


async def join(creator: Peer, guild_id: str, peer: Peer, role: Role = "member") -> GuildView:
    await seen(peer, guild_id)
    view = await peer.guilds.join(guild_id, role)
    members = creator.guilds.members(guild_id)
    assert members[peer.id] == role
    return view


async def texts(peer: Peer, guild_id: str, system: bool = False) -> list[str]:
    return [m.text for m in await peer.guilds.messages(guild_id) if m.system == system]


async def test_create_join_chat_leave_and_dissolve(world: World) -> None:
    a, b, c = await world.add("ann", "bob", "cid")
    created, joined, ended = a.events(GuildCreated), b.events(GuildJoined), c.events(GuildEnded)
    guild = await a.guilds.create("render-farm", 3600, 50)
    assert (guild.role, guild.state, guild.member_count, guild.epoch) == ("creator", "joined", 1, 1)
    assert queued(created) == [GuildCreated(guild.guild_id)]
    await seen(b, guild.guild_id)
    listed = b.guilds.view(guild.guild_id)
    assert (listed.state, listed.role, listed.creator, listed.member_count) == ("seen", None, a.id, 1)

    view = await join(a, guild.guild_id, b, "executor")
    assert (view.state, view.role, view.member_count) == ("joined", "executor", 2)
    assert [e.guild_id for e in queued(joined)] == [guild.guild_id]
    await join(a, guild.guild_id, c, "observer")
    await until(lambda: len(b.guilds.members(guild.guild_id)) == 3)
    views = [p.guilds.view(guild.guild_id) for p in (a, b, c)]
    assert len({v.fingerprint for v in views}) == 1
    assert {v.epoch for v in views} == {3}
    assert a.guilds.shared_with(b.id) == {guild.guild_id}

    arrived = c.events(GuildMessageReceived)
    await b.guilds.send("render-farm", "hello all")
    await until(lambda: queued(arrived))
    event = queued(arrived)[0]
    shown = await c.guilds.message(event.guild_id, event.number)
    assert (shown.text, shown.sender, shown.sender_name, shown.system) == ("hello all", b.id, "bob", False)
    assert c.guilds.view(guild.guild_id).unread == 1
    assert await texts(c, guild.guild_id) == ["hello all"]
    assert c.guilds.view(guild.guild_id).unread == 0
    with pytest.raises(NotPermitted, match="observers read"):
        await c.guilds.send(guild.guild_id, "me too")

    left = await b.guilds.leave(guild.guild_id)
    assert left.state == "left"
    assert b.guilds.role_of(guild.guild_id, a.id) is None
    await until(lambda: b.id not in c.guilds.members(guild.guild_id))
    assert c.guilds.view(guild.guild_id).epoch == 4
    assert "bob left." in await texts(c, guild.guild_id, system=True)

    await a.guilds.office.dissolve(guild.guild_id)
    await until(lambda: queued(ended))
    assert [(e.reason, e.guild_id) for e in queued(ended)] == [("dissolved", guild.guild_id)]
    assert c.guilds.view(guild.guild_id).state == "dissolved"
    with pytest.raises(GuildExpired, match="dissolved"):
        c.guilds.require(guild.guild_id, a.id)
    with pytest.raises(GuildExpired, match="dissolved"):
        await a.guilds.send(guild.guild_id, "x")


async def test_a_guild_seen_disappears_when_dissolved(world: World) -> None:
    a, b = await world.add("ann", "bob")
    guild = await a.guilds.create("short", 60, 2)
    await seen(b, guild.guild_id)
    await a.guilds.office.dissolve("short")
    await until(lambda: not b.guilds.views())


async def test_full(world: World) -> None:
    a, b, c = await world.add("ann", "bob", "cid")
    guild = await a.guilds.create("pair", 3600, 2)
    await join(a, guild.guild_id, b)
    await seen(c, guild.guild_id)
    with pytest.raises(GuildFull, match=r"pair is full 2/2\."):
        await c.guilds.join("pair", "member")
    await b.guilds.leave("pair")
    assert (await c.guilds.join("pair", "member")).state == "joined"


async def test_expiry_cleans_up_everywhere(world: World) -> None:
    a, b, c = await world.add("ann", "bob", "cid")
    ended = b.events(GuildEnded)
    guild = await a.guilds.create("brief", 60, 50)
    await join(a, guild.guild_id, b)
    await seen(c, guild.guild_id)
    await world.advance(59)
    assert a.guilds.role_of(guild.guild_id, b.id) == "member"
    await world.advance(2)
    assert a.guilds.role_of(guild.guild_id, b.id) is None
    await until(lambda: b.guilds.view(guild.guild_id).state == "expired")
    await until(lambda: [(e.reason, e.lifetime_us) for e in queued(ended)] == [("expired", 60_000_000)])
    assert c.guilds.views() == []
    with pytest.raises(GuildExpired, match="brief has expired"):
        b.guilds.seal(guild.guild_id, b"x")
    with pytest.raises(GuildExpired, match="brief has expired"):
        await b.guilds.join(guild.guild_id, "member")
    rows = await b.db.read(lambda tx: tx.execute("SELECT box_secret, grants FROM guild").fetchall())
    assert rows == [(None, b"")]
    await world.advance(86_402)
    await until(lambda: b.guilds.views() == [])


async def test_kick(world: World) -> None:
    a, b, c = await world.add("ann", "bob", "cid")
    ended = b.events(GuildEnded)
    guild = await a.guilds.create("farm", 3600, 50)
    await join(a, guild.guild_id, b)
    await join(a, guild.guild_id, c)
    with pytest.raises(NotPermitted, match="Only the creator of farm, ann"):
        await c.guilds.office.kick(guild.guild_id, b.id)
    await a.guilds.office.kick(guild.guild_id, b.id)
    await until(lambda: queued(ended))
    assert queued(ended)[0].reason == "kicked"
    assert b.guilds.view(guild.guild_id).state == "left"
    await until(lambda: b.id not in c.guilds.members(guild.guild_id))
    with pytest.raises(NotPermitted, match="removed from farm"):
        await b.guilds.join(guild.guild_id, "member")
    await world.advance(1)
    invite = await a.guilds.office.invite(guild.guild_id)
    assert (await b.guilds.join(invite.invite, "member")).state == "joined"


async def test_private_guild_by_invite_over_its_addresses(world: World) -> None:
    a, b, c = await world.add("ann", "bob", "cid")
    guild = await a.guilds.create("secret", 3600, 50, "invite")
    world.hub.cut(a.id, b.id)
    invite = await a.guilds.office.invite("secret")
    assert invite.invite.isalnum()
    detail = await c.guilds.inspect(invite.invite)
    assert (detail.name, detail.creator_name, detail.code) == ("secret", "ann", invite.code)
    assert (detail.expired, detail.joined, detail.guild_id) == (False, False, guild.guild_id)
    with pytest.raises(UnknownGuild):
        await b.guilds.join(guild.guild_id, "member")
    view = await b.guilds.join(f"  {invite.invite.upper()}\n", "executor")
    assert (view.state, view.private) == ("joined", True)
    assert any(invite.code in line for line in await texts(b, guild.guild_id, system=True))
    assert "bob joined as executor with an invite." in await texts(a, guild.guild_id, system=True)
    with pytest.raises(NotPermitted, match="Only the creator"):
        await b.guilds.office.invite(guild.guild_id)
    assert c.guilds.views() == []

    with pytest.raises(BadInput, match="damaged"):
        await c.guilds.join(invite.invite[:-9], "member")
    await world.advance(3601)
    with pytest.raises(NotPermitted, match="invite to secret has expired"):
        await c.guilds.join(invite.invite, "member")


async def test_an_invite_expires_before_its_guild(world: World) -> None:
    a, b = await world.add("ann", "bob")
    await a.guilds.create("long", 86_400, 50, "invite")
    invite = await a.guilds.office.invite("long")
    await world.advance(3601)
    with pytest.raises(NotPermitted, match="invite to long has expired"):
        await b.guilds.join(invite.invite, "member")


async def test_joining_again_changes_the_role(world: World) -> None:
    a, b = await world.add("ann", "bob")
    guild = await a.guilds.create("farm", 3600, 2)
    await join(a, guild.guild_id, b)
    await b.guilds.send("farm", "one")
    assert (await b.guilds.join("farm", "member")).epoch == 2
    view = await b.guilds.join("farm", "executor")
    assert (view.role, view.epoch, view.member_count) == ("executor", 3, 2)
    await b.guilds.send("farm", "two")
    await until_async(lambda: texts(a, guild.guild_id))
    await until(lambda: a.guilds.view(guild.guild_id).epoch == 3)
    assert await until_async(lambda: _equal(texts(a, guild.guild_id), ["one", "two"]))


async def _equal(awaitable: object, expected: list[str]) -> bool:
    return bool(await awaitable == expected)  # type: ignore[misc]


async def test_creator_away(world: World) -> None:
    a, b, c, d = await world.add("ann", "bob", "cid", "dan")
    guild = await a.guilds.create("farm", 3600, 50)
    await join(a, guild.guild_id, b)
    await join(a, guild.guild_id, c)
    await until(lambda: len(b.guilds.members(guild.guild_id)) == 3)
    await seen(d, guild.guild_id)
    for other in (b, c, d):
        world.cut(a, other)
    with pytest.raises(Unreachable, match="ann, the creator of farm, cannot be reached"):
        await d.guilds.join("farm", "member")
    await b.guilds.send("farm", "still here")
    await until_async(lambda: texts(c, guild.guild_id))
    assert not next(m for m in b.guilds.view(guild.guild_id).members if m.peer_id == a.id).online

    assert (await c.guilds.leave("farm")).state == "left"
    assert c.id in a.guilds.members(guild.guild_id)
    for other in (b, c, d):
        world.mend(a, other)
    await until(lambda: c.id not in a.guilds.members(guild.guild_id))
    await until(lambda: c.id not in b.guilds.members(guild.guild_id))
    assert await until_async(lambda: _equal(texts(a, guild.guild_id), ["still here"]))
    rows = await until_async(
        lambda: c.db.read(lambda tx: tx.execute("SELECT 1 FROM guild WHERE pending_leave IS NULL").fetchall())
    )
    assert rows == [(1,)]


async def test_lines_reach_who_was_away_by_way_of_another_member(world: World) -> None:
    a, b, c = await world.add("ann", "bob", "cid")
    guild = await a.guilds.create("farm", 3600, 50)
    await join(a, guild.guild_id, b)
    await join(a, guild.guild_id, c)
    await until(lambda: len(b.guilds.members(guild.guild_id)) == 3)
    world.cut(c, a)
    world.cut(c, b)
    for i in range(5):
        await b.guilds.send("farm", f"line {i}")
    await until_async(lambda: _equal(texts(a, guild.guild_id), [f"line {i}" for i in range(5)]))
    await b.guilds.leave("farm")
    world.mend(c, a)
    assert await until_async(lambda: _equal(texts(c, guild.guild_id), [f"line {i}" for i in range(5)]))
    await until(lambda: set(c.guilds.members(guild.guild_id)) == {a.id, c.id})


async def test_who_joins_reads_nothing_earlier(world: World) -> None:
    a, b, c = await world.add("ann", "bob", "cid")
    guild = await a.guilds.create("farm", 3600, 50)
    await join(a, guild.guild_id, b)
    await b.guilds.send("farm", "before")
    sealed = b.guilds.seal(guild.guild_id, b"before")
    await join(a, guild.guild_id, c)
    await until(lambda: c.id in b.guilds.members(guild.guild_id))
    with pytest.raises(ProtocolError):
        c.guilds.open(guild.guild_id, b.id, sealed)
    world.hub.cut(c.id, b.id)
    world.hub.link(c.id, b.id)
    await b.guilds.send("farm", "after")
    await until_async(lambda: texts(c, guild.guild_id))
    assert await texts(c, guild.guild_id) == ["after"]


async def test_restart_brings_joined_guilds_back(world: World) -> None:
    a, b = await world.add("ann", "bob")
    guild = await a.guilds.create("farm", 3600, 50)
    await join(a, guild.guild_id, b)
    await b.guilds.send("farm", "one")
    await b.stop()
    await a.guilds.send("farm", "while bob was away")
    b.bus = type(b.bus)()
    await b.start()
    assert await until_async(lambda: _equal(texts(b, guild.guild_id), ["one", "while bob was away"]))
    await b.guilds.send("farm", "two")
    assert await until_async(lambda: _equal(texts(a, guild.guild_id), ["one", "while bob was away", "two"]))
    sealed = b.guilds.seal(guild.guild_id, b"job", b"ctx")
    assert a.guilds.open(guild.guild_id, b.id, sealed, b"ctx") == b"job"

    await a.stop()
    await world.advance(3601)
    await a.start()
    assert a.guilds.view(guild.guild_id).state == "expired"


async def test_sealed_traffic_names_sender_context_and_guild(world: World) -> None:
    a, b, c = await world.add("ann", "bob", "cid")
    guild = await a.guilds.create("farm", 3600, 50)
    other = await a.guilds.create("other", 3600, 50)
    for peer in (b, c):
        await join(a, guild.guild_id, peer)
        await join(a, other.guild_id, peer)
    await until(lambda: b.guilds.view(guild.guild_id).epoch == 3 == b.guilds.view(other.guild_id).epoch)
    sealed = b.guilds.seal(guild.guild_id, b"payload", b"job|1")
    assert len(sealed) - len(b"payload") <= 128
    assert a.guilds.open(guild.guild_id, b.id, sealed, b"job|1") == b"payload"
    for guild_id, sender, context in (
        (guild.guild_id, c.id, b"job|1"),
        (guild.guild_id, b.id, b"job|2"),
        (other.guild_id, b.id, b"job|1"),
    ):
        with pytest.raises(ProtocolError):
            a.guilds.open(guild_id, sender, sealed, context)
    with pytest.raises(ProtocolError):
        a.guilds.open(guild.guild_id, b.id, sealed[:-1] + bytes([sealed[-1] ^ 1]), b"job|1")


async def test_unseal_catches_up_with_a_sender_who_knows_more(world: World) -> None:
    a, b, c = await world.add("ann", "bob", "cid")
    guild = await a.guilds.create("farm", 3600, 50)
    await join(a, guild.guild_id, b)
    await seen(c, guild.guild_id)
    world.cut(a, b)
    await c.guilds.join(guild.guild_id, "executor")
    sealed = c.guilds.seal(guild.guild_id, b"news")
    with pytest.raises(ProtocolError):
        b.guilds.open(guild.guild_id, c.id, sealed)
    assert await b.guilds.unseal(guild.guild_id, c.id, sealed) == b"news"


async def test_the_key_changes_with_time(world: World) -> None:
    a, b = await world.add("ann", "bob")
    guild = await a.guilds.create("farm", 86_400, 50)
    await join(a, guild.guild_id, b)
    await world.advance(3602)
    await until(lambda: b.guilds.view(guild.guild_id).epoch == 3)
    assert a.guilds.view(guild.guild_id).fingerprint == b.guilds.view(guild.guild_id).fingerprint


@pytest.mark.parametrize(
    ("name", "ttl", "most"),
    [
        ("", 60, 2),
        ("\x1b\u202e", 60, 2),
        ("x" * 49, 60, 2),
        ("x", 59, 2),
        ("x", 86_401, 2),
        ("x", 60, 1),
        ("x", 60, 51),
    ],
)
async def test_terms_are_checked(world: World, name: str, ttl: int, most: int) -> None:
    (a,) = await world.add("ann")
    with pytest.raises(BadInput):
        await a.guilds.create(name, ttl, most)


async def test_limits_and_questions(world: World) -> None:
    a, b = await world.add("ann", "bob")
    for i in range(16):
        await a.guilds.create(f"g{i}", 3600, 50)
    with pytest.raises(GuildError, match="16 guilds of yours"):
        await a.guilds.create("one more", 3600, 50)
    await until(lambda: len(b.guilds.views()) == 16)
    guild = a.guilds.resolve("g3")
    assert a.guilds.resolve(guild[:10].upper()) == guild
    for wrong in ("nope", "", guild[:3], "00" * 32):
        with pytest.raises(UnknownGuild):
            a.guilds.resolve(wrong)
    with pytest.raises(NotPermitted, match="not a member"):
        a.guilds.require(guild, b.id)
    with pytest.raises(NotPermitted, match="You are creator in g3; this takes executor"):
        a.guilds.require(guild, a.id, "executor")
    with pytest.raises(NotPermitted, match="dissolve it instead"):
        await a.guilds.leave("g3")
    with pytest.raises(NotPermitted, match="one creator"):
        await b.guilds.join("g3", "creator")
    with pytest.raises(NotPermitted, match="You are not in g3"):
        await b.guilds.send("g3", "hi")
    with pytest.raises(BadInput):
        await a.guilds.send("g3", "\x00\u200b")
    with pytest.raises(BadInput):
        await a.guilds.send("g3", "x" * 1001)
    with pytest.raises(UnknownGuild):
        a.guilds.require("zz", a.id)
    assert a.guilds.role_of("00", a.id) is None


async def test_what_was_committed_before_a_crash_reaches_members_after_it(world: World) -> None:
    a, b, c = await world.add("ann", "bob", "cid")
    guild = await a.guilds.create("farm", 3600, 50)
    await join(a, guild.guild_id, b)
    await join(a, guild.guild_id, c)
    await until(lambda: len(b.guilds.members(guild.guild_id)) == 3)
    for other in (b, c):
        world.cut(a, other)
    await a.guilds.office.kick("farm", c.id)
    await a.stop()
    a.bus = type(a.bus)()
    for other in (b, c):
        world.unreachable.discard(frozenset((a.id, other.id)))
    world.hub._cut.clear()
    await a.start()
    await until(lambda: c.guilds.view(guild.guild_id).state == "left")
    await until(lambda: set(b.guilds.members(guild.guild_id)) == {a.id, b.id})
    assert a.guilds.view(guild.guild_id).fingerprint == b.guilds.view(guild.guild_id).fingerprint


async def test_a_leave_waits_for_the_creator_over_a_restart(world: World) -> None:
    a, b = await world.add("ann", "bob")
    guild = await a.guilds.create("farm", 3600, 50)
    await join(a, guild.guild_id, b)
    world.cut(a, b)
    await b.guilds.leave("farm")
    await b.stop()
    assert b.id in a.guilds.members(guild.guild_id)
    b.bus = type(b.bus)()
    world.hub._cut.clear()
    await b.start()
    assert b.guilds.view(guild.guild_id).state == "left"
    await until(lambda: b.id not in a.guilds.members(guild.guild_id))


async def test_who_lost_its_database_joins_again_and_is_heard(world: World) -> None:
    a, b = await world.add("ann", "bob")
    guild = await a.guilds.create("farm", 3600, 2)
    await join(a, guild.guild_id, b)
    await b.guilds.send("farm", "one")
    assert await until_async(lambda: _equal(texts(a, guild.guild_id), ["one"]))
    await b.stop()
    for file in world.folder.glob("bob.db*"):
        file.unlink()
    b.bus = type(b.bus)()
    await b.start()
    await join(a, guild.guild_id, b)
    await b.guilds.send("farm", "two")
    assert await until_async(lambda: _equal(texts(a, guild.guild_id), ["one", "two"]))
    assert await texts(b, guild.guild_id) == ["two"]


async def test_a_creator_who_lost_the_latest_entries_gets_them_back_from_members(world: World) -> None:
    a, b, c = await world.add("ann", "bob", "cid")
    guild = await a.guilds.create("farm", 3600, 50)
    await join(a, guild.guild_id, b)
    await a.stop()
    backup = (world.folder / "ann.db").read_bytes()
    a.bus = type(a.bus)()
    await a.start()
    await join(a, guild.guild_id, c)
    await until(lambda: c.id in b.guilds.members(guild.guild_id))
    await a.stop()
    for file in world.folder.glob("ann.db*"):
        file.unlink()
    (world.folder / "ann.db").write_bytes(backup)
    a.bus = type(a.bus)()
    await a.start()
    await until(lambda: c.id in a.guilds.members(guild.guild_id))
    assert len({p.guilds.view(guild.guild_id).fingerprint for p in (a, b, c)}) == 1


async def test_a_strangers_guild_of_the_same_name_does_not_get_in_the_way(world: World) -> None:
    a, b, c = await world.add("ann", "bob", "cid")
    mine = await a.guilds.create("farm", 3600, 50)
    other = await b.guilds.create("farm", 3600, 50)
    await seen(a, other.guild_id)
    assert a.guilds.resolve("FARM") == mine.guild_id
    assert b.guilds.resolve("farm") == other.guild_id
    await seen(c, mine.guild_id)
    await seen(c, other.guild_id)
    with pytest.raises(UnknownGuild, match="Several guilds match 'farm'"):
        await c.guilds.join("farm", "member")


async def test_a_crowd_that_comes_and_goes_ends_with_one_key(world: World) -> None:
    a, *others = await world.add(*(f"peer{i}" for i in range(9)))
    guild = await a.guilds.create("farm", 3600, 50)
    for peer in others:
        await seen(peer, guild.guild_id)
    await asyncio.gather(*(peer.guilds.join("farm", "member") for peer in others))
    await until(lambda: all(len(p.guilds.members(guild.guild_id)) == 9 for p in others))
    await asyncio.gather(
        a.guilds.office.kick("farm", others[0].id),
        others[1].guilds.leave("farm"),
        *(peer.guilds.send("farm", f"from {peer.name}") for peer in others[2:]),
    )
    stay = [a, *others[2:]]
    await until(lambda: all(set(p.guilds.members(guild.guild_id)) == {q.id for q in stay} for p in stay))
    await until(lambda: len({p.guilds.view(guild.guild_id).fingerprint for p in stay}) == 1)
    spoken = {f"from {peer.name}" for peer in others[2:]}
    for peer in stay:
        await until_async(lambda peer=peer: _heard(peer, guild.guild_id, spoken))  # type: ignore[misc]
    for sender in stay:
        sealed = sender.guilds.seal(guild.guild_id, b"x")
        assert all(p.guilds.open(guild.guild_id, sender.id, sealed) == b"x" for p in stay)


async def _heard(peer: Peer, guild_id: str, spoken: set[str]) -> bool:
    return spoken <= set(await texts(peer, guild_id))


async def test_nothing_is_sealed_under_a_key_that_somebody_gone_knows(world: World) -> None:
    a, b, c = await world.add("ann", "bob", "cid")
    guild = await a.guilds.create("farm", 3600, 50)
    await join(a, guild.guild_id, b)
    await join(a, guild.guild_id, c)
    await until(lambda: b.guilds.view(guild.guild_id).epoch == 3)
    world.cut(a, b)
    await a.guilds.office.kick("farm", c.id)
    inside = b.guilds._registry.guilds[bytes.fromhex(guild.guild_id)]
    outside = a.guilds._registry.guilds[inside.guild_id]
    latest = [outside.log.entries[-1].raw]
    await b.guilds._replicator.absorb(inside, latest, b"")
    assert c.id not in b.guilds.members(guild.guild_id)
    with pytest.raises(ProtocolError, match="still on its way"):
        b.guilds.seal(guild.guild_id, b"x")
    await b.guilds._replicator.absorb(inside, latest, outside.grants)
    b.guilds.seal(guild.guild_id, b"x")
