"""Guilds between real network services on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.support.net import NetNode, net_node, until
from zstui.engine.errors import GuildFull
from zstui.engine.guilds.service import GuildService
from zstui.engine.guilds.store import SCHEMA
from zstui.engine.store.database import Database


@asynccontextmanager
async def member(home: Path, name: str) -> AsyncIterator[tuple[NetNode, GuildService]]:
    async with net_node(home, name, start=False) as node:
        db = await Database.open(home / f"{name}-guilds.db", SCHEMA)
        guilds = GuildService(
            node.identity,
            node.net,
            db,
            node.bus,
            node.clock,
            name_of=node.net.name_of,
            addresses=node.net.addresses,
            connect=node.net.connect,
        )
        await node.net.start()
        await guilds.start()
        try:
            yield node, guilds
        finally:
            await guilds.stop()
            await db.close()


async def test_strangers_meet_by_invite_and_talk(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        (a, ann), (b, bob), (_, cid) = [
            await stack.enter_async_context(member(tmp_path, n)) for n in ("ann", "bob", "cid")
        ]
        guild = await ann.create("farm", 3600, 2, "invite")
        invite = (await ann.office.invite("farm", uses=3)).invite
        view = await bob.join(invite, "executor")
        assert (view.role, view.state) == ("executor", "joined")
        with pytest.raises(GuildFull, match="farm is full 2/2"):
            await cid.join(invite, "member")
        await bob.send("farm", "hello")
        await until(lambda: ann.view(guild.guild_id).unread == 1)

        await b.net.disconnect(a.id, "test")
        await until(lambda: a.id not in b.net.connected() and b.id not in a.net.connected())
        await ann.send("farm", "you there?")
        await b.net.connect(a.address)
        await until(lambda: bob.view(guild.guild_id).unread == 1)
        assert [m.text for m in await bob.messages("farm") if not m.system] == ["hello", "you there?"]

        sealed = bob.seal(guild.guild_id, b"job", b"ctx")
        assert ann.open(guild.guild_id, b.id, sealed, b"ctx") == b"job"
        await ann.office.dissolve("farm")
        await until(lambda: bob.view(guild.guild_id).state == "dissolved")
