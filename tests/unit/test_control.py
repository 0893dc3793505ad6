from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from tests.support.fake_engine import FakeEngine
from zstui.engine import commands as c
from zstui.engine import views as v
from zstui.engine.control import ControlClient, ControlServer
from zstui.engine.errors import BadInput, NotRunning, UnknownPeer, ZsError


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[tuple[FakeEngine, Path]]:
    engine = FakeEngine()
    server = ControlServer(engine, tmp_path / "control.sock")
    await server.start()
    yield engine, tmp_path / "control.sock"
    await server.stop()


async def test_commands_arrive_as_the_same_struct_and_results_as_the_same_views(
    served: tuple[FakeEngine, Path],
) -> None:
    engine, path = served
    client = ControlClient(path)
    assert await client.execute(c.Status()) == engine.status
    assert await client.execute(c.ListPeers()) == list(engine.peers.values())
    assert await client.snapshot() == await engine.snapshot()
    command = c.SendMessage(guild=next(iter(engine.guilds)), text="hello \x00 [/red]")
    await client.execute(command)
    assert engine.executed[-1] == command


async def test_errors_keep_their_class_and_sentence(served: tuple[FakeEngine, Path]) -> None:
    engine, path = served
    engine.failures[c.Connect] = UnknownPeer("There is no peer called x.")
    with pytest.raises(UnknownPeer, match="no peer called x"):
        await ControlClient(path).execute(c.Connect(address="x"))


async def test_a_bug_in_the_node_is_answered_too(
    served: tuple[FakeEngine, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, path = served

    async def fail(_: object) -> None:
        raise KeyError("bug")

    monkeypatch.setattr(engine, "execute", fail)
    with pytest.raises(ZsError, match="bug"):
        async with asyncio.timeout(20):
            await ControlClient(path).execute(c.Status())


async def test_the_feed_misses_nothing_after_the_snapshot(served: tuple[FakeEngine, Path]) -> None:
    engine, path = served
    client = ControlClient(path)
    events = client.events()
    await client.snapshot()
    pushed = v.Logged(line=v.LogLine(at_us=1, level="info", area="net", text="x"))
    engine.push(pushed)
    async with asyncio.timeout(20):
        assert await anext(events) == pushed
    await events.aclose()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "line",
    [
        b"garbage",
        b"[]",
        b'{"method":"Nope","id":1}',
        b'{"method":"Connect","id":1}',
        b'{"method":"Connect","params":{"a":1}}',
    ],
)
async def test_bad_lines_get_an_error_and_the_connection_lives(served: tuple[FakeEngine, Path], line: bytes) -> None:
    _, path = served
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(line + b"\n")
    assert msgspec.json.decode(await reader.readline())["error"]["data"] == BadInput.code
    writer.write(b'{"jsonrpc":"2.0","id":7,"method":"Status"}\n')
    assert msgspec.json.decode(await reader.readline())["id"] == 7
    writer.close()


async def test_only_the_owner_may_connect(served: tuple[FakeEngine, Path]) -> None:
    assert stat.S_IMODE(served[1].stat().st_mode) == 0o600


async def test_no_node_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(NotRunning, match="zstui node"):
        await ControlClient(tmp_path / "control.sock").execute(c.Status())


async def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    path.write_text("")
    server = ControlServer(FakeEngine(), path)
    await server.start()
    assert (await ControlClient(path).execute(c.Status())).peer_id
    await server.stop()
    assert not path.exists()
