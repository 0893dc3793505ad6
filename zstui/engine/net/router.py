"""Serves inbound streams: negotiates the protocol, runs its handler, and contains what the handler raises."""

from __future__ import annotations

import asyncio
import logging

from zstui.engine.bus import Bus
from zstui.engine.errors import StreamClosed, ZsError
from zstui.engine.events import Notice
from zstui.engine.net.limits import LINGER_S, MAX_PROPOSALS, NEGOTIATION_S
from zstui.engine.net.link import Handler
from zstui.engine.net.stream import WireStream

log = logging.getLogger(__name__)


class Router:
    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._handlers: dict[str, Handler] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def protocols(self) -> tuple[str, ...]:
        return tuple(self._handlers)

    def handle(self, protocol: str, handler: Handler) -> None:
        """Serve ``protocol`` with ``handler``. Once per protocol."""
        if protocol in self._handlers:
            raise ValueError(f"{protocol} has a handler already")
        self._handlers[protocol] = handler

    def serve(self, stream: WireStream) -> None:
        """Run one inbound stream in a task of its own. Their number is bounded by the stream limit of each peer."""
        task = asyncio.create_task(self._serve(stream), name="stream")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Cancel all that runs."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, stream: WireStream) -> None:
        protocol = ""
        try:
            protocol = await stream.respond(self._handlers, MAX_PROPOSALS, NEGOTIATION_S)
            await self._handlers[protocol](stream)
        except StreamClosed:
            await self._end(stream)
        except (ZsError, TimeoutError) as error:
            log.debug("%s from %s: %s", protocol or "negotiation", stream.peer, error)
            if protocol:
                stream.reset()
            else:
                await self._end(stream)
        except Exception as error:
            log.exception("The handler of %s failed.", protocol)
            self._bus.publish(Notice("error", "net", f"The handler of {protocol} failed: {error!r}.", stream.peer))
            stream.reset()
        except BaseException:
            stream.reset()
            raise
        else:
            await self._end(stream)

    @staticmethod
    async def _end(stream: WireStream) -> None:
        """Let what was sent arrive, and take no more. Not at once: a peer that is asked to stop sending while it still reads may
        drop what it has not read yet (py-libp2p does)."""
        await stream.close()
        await stream.drain(LINGER_S)
        stream.reset()
