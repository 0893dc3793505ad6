"""The command surface over a Unix socket in the home: JSON-RPC 2.0, one message a line.

A method is the name of a command struct, its params are the struct's fields; beside them ``snapshot`` and ``subscribe``, after
which the server streams notifications ``{"method": "event", "params": ...}`` of feed events. The socket has mode 0600: who
may open it owns the node. Errors carry the ``code`` of the error class in ``data``, so that the client raises the same one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import typing
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from zstui.engine.commands import AnyCommand, Command, Engine
from zstui.engine.errors import BY_CODE, BadInput, NotRunning, ZsError
from zstui.engine.views import Feed, Snapshot

log = logging.getLogger(__name__)

R = TypeVar("R")
MAX_LINE = 64 << 20
"""Longest line accepted, in bytes: a whole snapshot or a job's inputs fit."""

_COMMANDS: dict[str, type[Command[Any]]] = {cls.__name__: cls for cls in typing.get_args(AnyCommand)}
_RESULTS: dict[str, msgspec.json.Decoder[Any]] = {
    name: msgspec.json.Decoder(typing.get_args(cls.__orig_bases__[0])[0])  # type: ignore[attr-defined]
    for name, cls in _COMMANDS.items()
}
_SNAPSHOT = msgspec.json.Decoder(Snapshot)
_FEED = msgspec.json.Decoder(Feed)


class _Request(msgspec.Struct):
    method: str
    id: int | str | None = None
    params: msgspec.Raw = msgspec.Raw(b"{}")
    jsonrpc: str = "2.0"


class _Error(msgspec.Struct, omit_defaults=True):
    code: int
    message: str
    data: str = ""


class _Reply(msgspec.Struct, omit_defaults=True):
    id: int | str | None = None
    result: msgspec.Raw = msgspec.Raw(b"")
    error: _Error | None = None
    method: str = ""
    params: msgspec.Raw = msgspec.Raw(b"")
    jsonrpc: str = "2.0"


_REQUEST = msgspec.json.Decoder(_Request)
_REPLY = msgspec.json.Decoder(_Reply)


class ControlServer:
    """Serves an engine on ``path``. Start it only while holding the home's lock: a stale socket file is replaced."""

    def __init__(self, engine: Engine, path: Path) -> None:
        self._engine = engine
        self._path = path
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        previous = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._serve, self._path, limit=MAX_LINE)
        finally:
            os.umask(previous)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            with contextlib.suppress(FileNotFoundError):
                self._path.unlink()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        current = asyncio.current_task()
        assert current is not None
        self._tasks.add(current)
        calls: set[asyncio.Task[None]] = set()
        try:
            while line := await reader.readline():
                task = asyncio.create_task(self._answer(line, writer))
                calls.add(task)
                task.add_done_callback(calls.discard)
        except (ConnectionError, ValueError, asyncio.CancelledError):
            pass
        finally:
            for task in tuple(calls):
                task.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
            writer.close()
            self._tasks.discard(current)

    async def _answer(self, line: bytes, writer: asyncio.StreamWriter) -> None:
        reply = _Reply()
        try:
            request = _REQUEST.decode(line)
            reply.id = request.id
            if request.method == "subscribe":
                await self._stream(request, writer)
                return
            reply.result = msgspec.Raw(msgspec.json.encode(await self._call(request)))
        except msgspec.MsgspecError as error:
            reply.error = _Error(-32600, f"Not a valid request: {error}.", BadInput.code)
        except ZsError as error:
            reply.error = _Error(-32000, str(error), error.code)
        except Exception as error:
            log.exception("A request over the control socket failed")
            reply.error = _Error(-32603, f"The node failed on this request: {error!r}.", ZsError.code)
        await _write(writer, reply)

    async def _call(self, request: _Request) -> object:
        if request.method == "snapshot":
            return await self._engine.snapshot()
        command = _COMMANDS.get(request.method)
        if command is None:
            raise BadInput(f"There is no command {request.method[:60]!r}.")
        return await self._engine.execute(msgspec.json.decode(request.params, type=command))

    async def _stream(self, request: _Request, writer: asyncio.StreamWriter) -> None:
        async with aclosing(self._engine.events()) as events:  # type: ignore[type-var]
            await _write(writer, _Reply(id=request.id, result=msgspec.Raw(b"true")))
            async for event in events:
                await _write(writer, _Reply(method="event", params=msgspec.Raw(msgspec.json.encode(event))))


async def _write(writer: asyncio.StreamWriter, reply: _Reply) -> None:
    with contextlib.suppress(ConnectionError):
        writer.write(msgspec.json.encode(reply) + b"\n")
        await writer.drain()


class ControlClient:
    """A running node seen through its control socket; satisfies ``Engine``. One connection for each call in flight."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._feeds: list[_FeedStream] = []

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            return await asyncio.open_unix_connection(self._path, limit=MAX_LINE)
        except OSError:
            raise NotRunning("No zstui node runs for this home; start one with: zstui node") from None

    async def _request(self, method: str, params: bytes) -> bytes:
        reader, writer = await self._connect()
        try:
            writer.write(msgspec.json.encode(_Request(method, 1, msgspec.Raw(params))) + b"\n")
            await writer.drain()
            line = await reader.readline()
            if not line:
                raise NotRunning("The node stopped before it answered.")
            return bytes(_result(_REPLY.decode(line)))
        except ConnectionError:
            raise NotRunning("The node stopped before it answered.") from None
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def execute(self, command: Command[R]) -> R:
        """Carry out one command on the running node. Raises what the node raised, or NotRunning."""
        name = type(command).__name__
        result: R = _RESULTS[name].decode(await self._request(name, msgspec.json.encode(command)))
        return result

    async def snapshot(self) -> Snapshot:
        """All views, no older than any subscription that ``events`` began before this call."""
        for feed in self._feeds:
            await asyncio.wait([feed.begun])
        return _SNAPSHOT.decode(await self._request("snapshot", b"{}"))

    def events(self) -> AsyncIterator[Feed]:
        """Feed events until the node stops; the iterator must be closed or used up."""
        feed = _FeedStream(self)
        self._feeds = [f for f in self._feeds if not f.begun.done()] + [feed]
        return feed.iterate()


class _FeedStream:
    """Subscribes at once, in a task, so that a snapshot taken afterwards misses nothing."""

    def __init__(self, client: ControlClient) -> None:
        self.begun = asyncio.create_task(self._begin(client))

    async def _begin(self, client: ControlClient) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await client._connect()
        writer.write(msgspec.json.encode(_Request("subscribe", 1)) + b"\n")
        await writer.drain()
        line = await reader.readline()
        if not line:
            raise NotRunning("The node stopped before it answered.")
        _result(_REPLY.decode(line))
        return reader, writer

    async def iterate(self) -> AsyncIterator[Feed]:
        reader, writer = await self.begun
        try:
            with contextlib.suppress(ConnectionError):
                while line := await reader.readline():
                    yield _FEED.decode(_REPLY.decode(line).params)
        finally:
            writer.close()


def _result(reply: _Reply) -> msgspec.Raw:
    if reply.error is not None:
        raise BY_CODE.get(reply.error.data, ZsError)(reply.error.message)
    return reply.result
