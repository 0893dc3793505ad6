"""A very small HTTP server for a few read-only pages: GET and HEAD, one request a connection, everything capped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus

import msgspec

MAX_HEAD = 8 * 1024
"""Bytes of request line and headers."""
DEADLINE_S = 5.0
"""From the connection to the end of the answer."""
MAX_CONNECTIONS = 16


class Page(msgspec.Struct, frozen=True):
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    status: int = 200


Pages = Mapping[str, Callable[[], Page]]
"""What to answer by path; called on the event loop."""


class PageServer:
    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int) -> int:
        """Listen, and return the port. Raises OSError if that cannot be."""
        self._server = await asyncio.start_server(self._accept, host, port, limit=MAX_HEAD)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Idempotent."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= MAX_CONNECTIONS:
            writer.transport.abort()
            return
        task = asyncio.create_task(self._serve(reader, writer), name="http connection")
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(DEADLINE_S):
                try:
                    head = await reader.readuntil(b"\r\n\r\n")
                except asyncio.LimitOverrunError:
                    writer.write(_answer(Page(b"Request too large.\n", status=431), body=True))
                else:
                    writer.write(self._respond(head))
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass
        finally:
            with suppress(RuntimeError):
                writer.transport.abort()

    def _respond(self, head: bytes) -> bytes:
        words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return _answer(Page(b"Not an HTTP/1 request.\n", status=400), body=True)
        method, target, _ = words
        if method not in ("GET", "HEAD"):
            return _answer(Page(b"Read only.\n", status=405), body=True)
        page = self._pages.get(target.split("?", 1)[0])
        return _answer(page() if page else Page(b"No such page.\n", status=404), body=method == "GET")


def _answer(page: Page, *, body: bool) -> bytes:
    head = (
        f"HTTP/1.0 {page.status} {HTTPStatus(page.status).phrase}\r\n"
        f"Content-Type: {page.content_type}\r\n"
        f"Content-Length: {len(page.body)}\r\n"
        "Cache-Control: no-store\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode("latin-1") + (page.body if body else b"")
