"""Officers, knocks, invites and extensions between services; a creator who is gone, and networks that fall apart."""

from __future__ import annotations

import asyncio

import pytest

from tests.engine.guilds.test_hostile import Attacker, Insider
from tests.engine.guilds.test_workflow import join, seen, texts
from tests.engine.guilds.world import Peer, World, queued, until, until_async
from zstui.engine.errors import BadInput, GuildError, NotPermitted, ProtocolError
from zstui.engine.events import GuildEnded, Notice
from zstui.engine.guilds.messages import Announce, Beat, Chat, Done, Join, Leave, No, Sync, Update, Welcome
from zstui.engine.guilds.roles import MAY, SPEAKERS
from zstui.engine.identity.card import Card
from zstui.engine.views import GuildView, NeedsView


async def grown(world: World, creator: Peer, *members: Peer, officers: tuple[Peer, ...] = ()) -> GuildView:
    """A guild whose members all know of each other and of its officers."""
    guild = await creator.guilds.create("farm", 3600, 10)
    for peer in members:
        await join(creator, guild.guild_id, peer)
    for peer in officers:
        await creator.guilds.office.name_officer("farm", peer.id)
    await until(lambda: agreed(guild.guild_id, creator, *members))
    return creator.guilds.view(guild.guild_id)


def agreed(guild_id: str, *peers: Peer) -> bool:
    """Whether all see the same members and officers, and hold the same key."""
    views = [p.guilds.view(guild_id) for p in peers]
    inside = [p.guilds._registry.guilds[bytes.fromhex(guild_id)] for p in peers]
    same = {(v.fingerprint, v.epoch, frozenset((m.peer_id, m.role, m.officer) for m in v.members)) for v in views}
    return len(same) == 1 and all(g.has_key() and not g.waiting for g in inside)


def apart(world: World, one: tuple[Peer, ...], other: tuple[Peer, ...]) -> None:
    for a in one:
        for b in other:
            world.cut(a, b)


def together(world: World, one: tuple[Peer, ...], other: tuple[Peer, ...]) -> None:
    for a in one:
        for b in other:
            world.mend(a, b)


async def test_an_officer_admits_invites_and_removes_and_no_more(world: World) -> None:
    a, b, c, d = await world.add("ann", "bob", "cid", "dan")
    guild = await grown(world, a, b, c, officers=(b,))
    assert [m.officer for m in a.guilds.view(guild.guild_id).members] == [False, True, False]
    office = b.guilds.office
    await office.kick("farm", c.id)
    await until(lambda: c.guilds.view(guild.guild_id).state == "left")
    assert "You were removed by bob." in await texts(c, guild.guild_id, system=True)
    world.cut(a, d)
    await d.guilds.join((await office.invite("farm")).invite)
    await until(lambda: agreed(guild.guild_id, a, b, d))
    assert "dan joined as member with an invite, let in by bob." in await texts(a, guild.guild_id, system=True)
    for verb in (
        office.dissolve("farm"),
        office.extend("farm", 60),
        office.name_officer("farm", d.id),
        office.name_officer("farm", b.id, remove=True),
    ):
        with pytest.raises(NotPermitted, match="Only the creator of farm, ann, can"):
            await verb
    with pytest.raises(NotPermitted, match="creator cannot be removed"):
        await office.kick("farm", a.id)
    await a.guilds.office.name_officer("farm", b.id, remove=True)
    await until(lambda: not b.guilds.view(guild.guild_id).officer)
    with pytest.raises(NotPermitted, match="and its officers can invite"):
        await office.invite("farm")


async def test_knocks_are_answered_by_hand_and_outlive_restarts(world: World) -> None:
    a, b, c = await world.add("ann", "bob", "cid")
    guild = await a.guilds.create("club", 3600, 10, "knock")
    notices = a.events(Notice)
    for peer in (b, c):
        await seen(peer, guild.guild_id)
        assert (await peer.guilds.join("club", "executor")).state == "knocking"
    assert a.guilds.view(guild.guild_id).member_count == 1
    assert [(k.name, k.role) for k in a.guilds.office.knocks()] == [("bob", "executor"), ("cid", "executor")]
    assert [n.text for n in queued(notices)] == [f"{who} asks to be let into club." for who in ("bob", "cid")]
    for peer in (a, b):
        await peer.stop()
        peer.bus = type(peer.bus)()
        await peer.start()
    assert b.guilds.view(guild.guild_id).state == "knocking"
    assert {k.name for k in a.guilds.view(guild.guild_id).knocks} == {"bob", "cid"}

    refused = c.events(Notice)
    await a.guilds.office.answer("club", a.guilds.office.knocker("club", "cid") or "", admit=False)
    await until(lambda: c.guilds.view(guild.guild_id).state == "seen")
    await until(lambda: any("did not let you in" in n.text for n in queued(refused)))
    with pytest.raises(NotPermitted, match="ask again in an hour"):
        await c.guilds.join("club")
    await a.guilds.office.answer("club", b.id, admit=True)
    await until(lambda: b.guilds.view(guild.guild_id).state == "joined")
    assert b.guilds.view(guild.guild_id).role == "executor"
    assert a.guilds.office.knocks("club") == []
    with pytest.raises(BadInput, match="bob does not wait"):
        await a.guilds.office.answer("club", b.id, admit=True)
    invite = await a.guilds.office.invite("club")
    assert (await c.guilds.join(invite.invite)).state == "joined", "an invite needs no knock"


async def test_a_knock_can_be_taken_back(world: World) -> None:
    a, b = await world.add("ann", "bob")
    guild = await a.guilds.create("club", 3600, 10, "knock")
    await seen(b, guild.guild_id)
    await b.guilds.join("club")
    assert (await b.guilds.leave("club")).state == "left"
    assert b.guilds.view(guild.guild_id).state == "seen"


async def test_executors_are_held_to_the_charter(world: World) -> None:
    a, b = await world.add("ann", "bob")
    cards = {b.id: Card("bob", True, 2, 256, 30, 0, 0, ("eu",), 0)}
    a.guilds._admission._card_of = cards.get
    guild = await a.guilds.create("big", 3600, 10, "open", NeedsView(memory_mib=512, tags=("eu",)))
    await seen(b, guild.guild_id)
    assert b.guilds.view(guild.guild_id).needs == NeedsView(memory_mib=512, tags=("eu",))
    with pytest.raises(NotPermitted, match="executors need 512 MiB of memory for a job, and the card says 256"):
        await b.guilds.join("big", "executor")
    assert (await b.guilds.join("big", "member")).state == "joined"
    with pytest.raises(NotPermitted, match="512 MiB"):
        await b.guilds.join("big", "executor")
    cards[b.id] = Card("bob", True, 2, 512, 30, 0, 0, ("eu",), 0)
    assert (await b.guilds.join("big", "executor")).role == "executor"
    cards.clear()
    await b.guilds.leave("big")
    with pytest.raises(GuildError, match="card has not arrived"):
        await b.guilds.join("big", "executor")


async def test_an_extension_reaches_everybody_and_the_end_comes_later(world: World) -> None:
    a, b, c = await world.add("ann", "bob", "cid")
    guild = await grown(world, a, b)
    await seen(c, guild.guild_id)
    later = (await a.guilds.office.extend("farm", 7200)).expires_at
    assert later == guild.expires_at + 7200
    for peer in (b, c):
        await until(lambda peer=peer: peer.guilds.view(guild.guild_id).expires_at == later)  # type: ignore[misc]
    assert any("extended the guild" in line for line in await texts(b, guild.guild_id, system=True))
    await world.advance(3700)
    assert {p.guilds.view(guild.guild_id).state for p in (a, b)} == {"joined"}
    ended = b.events(GuildEnded)
    await world.advance(7200)
    await until(lambda: queued(ended))
    view = b.guilds.view(guild.guild_id)
    assert (view.state, view.why, view.fingerprint) == ("expired", "Its time was up.", "")
    for wrong in (59, 86_401):
        with pytest.raises(BadInput):
            await a.guilds.office._governance.extend(a.guilds._registry.guilds[bytes.fromhex(guild.guild_id)], wrong)


async def test_invites_are_counted_listed_and_revoked(world: World) -> None:
    a, b, c, d = await world.add("ann", "bob", "cid", "dan")
    guild = await a.guilds.create("secret", 3600, 10, "invite")
    made = await a.guilds.office.invite("secret", uses=2, qr=True)
    assert made.qr
    await b.guilds.join(made.invite)
    asked = await d.guilds.inspect(made.invite, ask=True)
    assert (asked.usable, asked.uses_left, asked.uses) == (True, 1, 2)
    assert asked.standing == "1 of 2 uses left; 2 of 10 members"
    assert (await d.guilds.inspect(made.invite)).usable is None, "nobody is asked unasked"
    await c.guilds.join(made.invite)
    asked = await d.guilds.inspect(made.invite, ask=True)
    assert (asked.usable, asked.uses_left) == (False, None)
    assert "used up" in asked.standing
    with pytest.raises(NotPermitted, match="used up"):
        await d.guilds.join(made.invite)
    second = await a.guilds.office.invite("secret")
    await until(lambda: len(b.guilds._registry.guilds[bytes.fromhex(guild.guild_id)].membership.tokens) == 2)
    listed = {v.invite_id: (v.state, v.used, v.uses, bool(v.invite)) for v in await b.guilds.office.invites("secret")}
    assert listed == {made.invite_id: ("used up", 2, 2, False), second.invite_id: ("open", 0, 1, False)}
    mine = await a.guilds.office.invites("secret")
    assert [v.invite for v in mine if v.state == "open"] == [second.invite]
    await a.guilds.office.revoke("secret", second.invite)
    with pytest.raises(NotPermitted, match="revoked"):
        await d.guilds.join(second.invite)
    with pytest.raises(BadInput, match="No such invite"):
        await a.guilds.office.revoke("secret", "ffff")


async def test_an_officer_takes_over_while_the_creator_is_gone(world: World) -> None:
    a, b, c, d = await world.add("ann", "bob", "cid", "dan")
    guild = await grown(world, a, b, c, officers=(b, c))
    await seen(d, guild.guild_id)
    await world.advance(1)
    await until(lambda: len(d.guilds.heralds.seen.all()[0].via) == 3)
    apart(world, (a,), (b, c, d))
    assert b.guilds.view(guild.guild_id).acting == a.id, "not heard of for a moment is not gone"
    for _ in range(5):
        await world.advance(30)
        await asyncio.sleep(0.02)
    assert {p.guilds.view(guild.guild_id).acting for p in (b, c)} == {b.id}
    assert (await d.guilds.join("farm")).state == "joined"
    await until(lambda: agreed(guild.guild_id, b, c, d))
    await d.guilds.send("farm", "hello")
    together(world, (a,), (b, c, d))
    await until(lambda: agreed(guild.guild_id, a, b, c, d))
    await world.advance(31)
    await until_async(lambda: texts(a, guild.guild_id))
    assert {p.guilds.view(guild.guild_id).acting for p in (a, b, c, d)} == {a.id}
    await a.guilds.office.kick("farm", d.id)
    await until(lambda: agreed(guild.guild_id, a, b, c))


async def test_both_halves_of_a_split_network_go_on_and_grow_together(world: World) -> None:
    a, b, c, d, e, f = await world.add("ann", "bob", "cid", "dan", "eve", "fay")
    guild = await grown(world, a, b, c, d, officers=(b,))
    for peer in (e, f):
        await seen(peer, guild.guild_id)
    await world.advance(1)
    await until(lambda: all(len(p.guilds.heralds.seen.all()[0].via) == 2 for p in (e, f)))
    apart(world, (a, c, e), (b, d, f))
    await e.guilds.join("farm")
    await f.guilds.join("farm")
    await a.guilds.office.kick("farm", d.id)
    await f.guilds.send("farm", "from the one half")
    await c.guilds.send("farm", "from the other")
    await until_async(lambda: texts(d, guild.guild_id))
    together(world, (a, c, e), (b, d, f))
    for _ in range(4):
        await asyncio.sleep(0.1)
        await world.advance(31)
    await until(lambda: agreed(guild.guild_id, a, b, c, e, f))
    assert set(a.guilds.members(guild.guild_id)) == {p.id for p in (a, b, c, e, f)}
    assert d.guilds.view(guild.guild_id).state == "left"
    for peer in (a, b, c):
        await until_async(lambda peer=peer: _both(peer, guild.guild_id))  # type: ignore[misc]
    assert await texts(e, guild.guild_id) == ["from the other"], "who was in one half's epochs reads that half's lines"
    assert not a.guilds.view(guild.guild_id).warning


async def _both(peer: Peer, guild_id: str) -> bool:
    return set(await texts(peer, guild_id)) == {"from the one half", "from the other"}


async def test_a_creator_with_two_histories_is_found_out_by_gossip(world: World) -> None:
    a, b, c = await world.add("ann", "bob", "cid")
    guild = await grown(world, a, b, c)
    apart(world, (a, c), (b,))
    inside = a.guilds._registry.guilds[bytes.fromhex(guild.guild_id)]
    before, place = inside.log.copy(), len(inside.log)
    await a.guilds.office.extend("farm", 60)
    await until(lambda: len(c.guilds._registry.guilds[inside.guild_id].log) > place)
    inside.log = before
    await a.db.write(
        lambda tx: tx.execute("DELETE FROM guild_entry WHERE guild_id = ? AND place >= ?", (inside.guild_id, place))
    )
    await a.stop()
    world.mend(b, c)
    world.hub.cut(b.id, c.id)
    a.bus = type(a.bus)()
    apart(world, (a,), (c,))
    await a.start()
    apart(world, (a,), (c,))
    world.mend(a, b)
    inside = a.guilds._registry.guilds[inside.guild_id]
    assert len(inside.log) == place, "it has forgotten the extension"
    await a.guilds.office.extend("farm", 120)
    await until(lambda: b.guilds._registry.guilds[inside.guild_id].log.heads == inside.log.heads)
    world.mend(b, c)
    await until(lambda: "two different histories" in c.guilds.view(guild.guild_id).warning)
    await until(lambda: "two different histories" in b.guilds.view(guild.guild_id).warning)
    proof = b.guilds._registry.guilds[inside.guild_id].log.proofs[0]
    assert {one.signer for one in proof} == {a.id}


async def test_presence_and_delivery_are_shown(world: World) -> None:
    a, b, c = await world.add("ann", "bob", "cid")
    guild = await grown(world, a, b, c)
    world.cut(a, c)
    world.cut(b, c)
    await a.guilds.send("farm", "hello")

    async def delivered() -> tuple[int, int]:
        message = (await a.guilds.messages("farm"))[-1]
        return message.delivered, message.recipients

    await until_async(lambda: _is(delivered, (1, 2)))
    world.mend(a, c)
    await until_async(lambda: _is(delivered, (2, 2)))
    assert b.guilds.view(guild.guild_id).unread == c.guilds.view(guild.guild_id).unread == 1
    await world.advance(31)
    heard = {m.name: m.last_seen_at for m in a.guilds.view(guild.guild_id).members}
    assert None not in heard.values()
    await a.stop()
    a.bus = type(a.bus)()
    apart(world, (a,), (b, c))
    await a.start()
    apart(world, (a,), (b, c))
    again = {m.name: (m.online, m.last_seen_at) for m in a.guilds.view(guild.guild_id).members}
    assert again["bob"][1] is not None


async def _is(question: object, expected: object) -> bool:
    return bool(await question() == expected)  # type: ignore[operator]


async def test_a_demoted_observer_cannot_date_a_line_back(world: World) -> None:
    a, b = await world.add("ann", "bob")
    guild = await a.guilds.create("farm", 3600, 5)
    await join(a, guild.guild_id, b)
    liar = Insider(world, a, guild.guild_id)
    await liar.ask(a, Join(liar.request(guild.guild_id), b""))
    await until(lambda: agreed(guild.guild_id, a, b))
    assert isinstance(await liar.say(a, liar.line(1)), Done)
    old = liar.line(2, "written long ago, honestly")
    liar.secret = Attacker(world).secret
    await liar.ask(a, Join(liar.request(guild.guild_id, "observer"), b""))
    await until(lambda: agreed(guild.guild_id, a, b))
    inside = b.guilds._registry.guilds[liar.key]
    await b.guilds._chat.take_relayed(inside, [old])
    assert await texts(b, guild.guild_id) in ([], ["hi"])
    assert isinstance(await liar.say(b, old), No)


@pytest.mark.parametrize("role", ["stranger", "observer", "member"])
async def test_the_table_of_roles_holds_for_every_frame(world: World, role: str) -> None:
    """What each frame does when it comes from somebody whom the table allows it, and whom not."""
    a, b = await world.add("ann", "bob")
    guild = await a.guilds.create("farm", 3600, 5)
    await join(a, guild.guild_id, b)
    them = Insider(world, a, guild.guild_id)
    if role != "stranger":
        await them.ask(a, Join(them.request(guild.guild_id, role), b""))
        await until(lambda: agreed(guild.guild_id, a, b))
    inside = a.guilds._registry.guilds[them.key]
    who = them.identity.peer_id
    sealed = inside.ring.seal(them.identity.public_key, them.line(1), b"zs/1|chat")
    leave = Attacker(world).request(guild.guild_id)
    took = {
        "chat": isinstance(await them.ask(a, Chat(them.key, sealed)), Done),
        "update": isinstance(await them.ask(a, Update(them.key, (inside.log.entries[-1].raw,), b"")), Done),
        "sync": not isinstance(await them.ask(a, Sync(them.key, (), ())), No),
        "announce": isinstance(
            await them.ask(b, Announce((them.announced(inside.charter.raw, 1, False, inside.log.entries[0].raw),))),
            Done,
        ),
    }
    assert took == {action: role in MAY[action] for action in took}  # type: ignore[index]
    inside.presence._seen.pop(who, None)
    await them.ask(a, Beat(((them.key, inside.log.heads),)))
    assert (inside.presence.last_seen_us(who) is not None) == (role in MAY["beat"])
    assert isinstance(await them.ask(a, Welcome(them.key)), Done), "told, and of no effect"
    assert await them.ask(a, Leave(leave)) is None
    if role in MAY["submit jobs"]:
        a.guilds.require(guild.guild_id, who, *SPEAKERS)
    else:
        with pytest.raises(NotPermitted):
            a.guilds.require(guild.guild_id, who, *SPEAKERS)


async def test_nothing_of_past_epochs_is_left_to_a_thief(world: World) -> None:
    """Who takes a member's whole memory and disk a minute after the key changed opens nothing from before."""
    a, b, c = await world.add("ann", "bob", "cid")
    guild = await grown(world, a, b, c)
    sealed = a.guilds.seal(guild.guild_id, b"secret")
    await a.guilds.office.kick("farm", c.id)
    await until(lambda: agreed(guild.guild_id, a, b))
    await world.advance(62)
    inside = b.guilds._registry.guilds[bytes.fromhex(guild.guild_id)]
    assert len(inside.ring._keys) == 1
    grants = [row[0] for row in await b.db.read(lambda tx: tx.execute("SELECT grants FROM guild").fetchall())]
    assert grants == [inside.grants], "only the copies of the present key are kept"
    with pytest.raises(ProtocolError):
        b.guilds.open(guild.guild_id, a.id, sealed)
