"""The log of one node: what happens, one sentence a line, in memory for screens and as JSON lines on disk.

Notices keep their level; other events are told at "info", but for those that only say that a record changed. A line never
holds what a job printed or a message said. Of each level only so many lines a second are kept, so that no peer can flush out
what a person should read; what is left out is counted in a line of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import logging
import os
import traceback
from collections import deque
from collections.abc import Callable
from pathlib import Path

import msgspec

from zstui.engine import events as e
from zstui.engine.bus import Bus
from zstui.engine.clock import US, Clock, SystemClock
from zstui.engine.identity.text import clean_text
from zstui.engine.money import format_amount
from zstui.engine.views import LogLevel, LogLine

FILE = "zstui.jsonl"
MAX_BYTES = 5 * 1000 * 1000
"""Size at which the file is put aside as ``zstui.jsonl.1``, then ``.2``."""
MAX_FILES = 3
"""Files in all."""
TOLD_LINES, DEBUG_LINES = 800, 200
"""Lines kept in memory, of debug and of all other levels: 1,000 together."""
PER_SECOND: dict[LogLevel, int] = {"debug": 50, "info": 200, "warning": 100, "error": 100}
MAX_TEXT, MAX_DETAIL = 500, 8_000
"""Characters kept of what a library says, and of the traceback that comes with it."""
PAUSE_S = 0.1
"""Lines that come so soon after others are written together."""
UNWRITTEN = 10_000
"""Lines that may wait for a slow disk."""
TURN = 256
"""Events handled before others on the loop get their turn."""

_SUBJECTS = ("request_id", "job_id", "channel_id", "guild_id", "peer_id")
"""Fields that say what an event is about, in this order."""
_AREAS = (
    ("Peer", "network"),
    ("Addresses", "network"),
    ("Card", "network"),
    ("Guild", "guilds"),
    ("Job", "jobs"),
    ("Batch", "jobs"),
    ("Work", "jobs"),
    ("Bid", "jobs"),
    ("Execution", "jobs"),
    ("Channel", "channels"),
    ("Payment", "channels"),
    ("Dispute", "channels"),
    ("Fraud", "channels"),
    ("Approval", "approvals"),
    ("Reputation", "reputation"),
    ("Outcome", "reputation"),
    ("Trust", "reputation"),
)


def line_of(event: e.Event, at_us: int, name_of: Callable[[str], str] = str) -> LogLine | None:
    """One event in words, None if it is not told; ``name_of`` gives the name of a peer, a guild, or a channel's peer."""
    if isinstance(event, e.Notice):
        return LogLine(at_us=at_us, level=event.level, area=event.area, text=event.text, subject=event.subject)
    sentence = _sentence(event, name_of)
    if not sentence:
        return None
    name = type(event).__name__
    return LogLine(
        at_us=at_us,
        level="info",
        area=next((area for prefix, area in _AREAS if name.startswith(prefix)), "node"),
        text=sentence,
        subject=next((str(getattr(event, field)) for field in _SUBJECTS if hasattr(event, field)), ""),
    )


def _sentence(event: e.Event, name_of: Callable[[str], str]) -> str:
    match event:
        case e.PeerConnected(peer_id=peer):
            return f"{name_of(peer)} connected."
        case e.PeerDisconnected(peer_id=peer, reason=reason):
            return f"{name_of(peer)} is gone: {reason}."
        case e.GuildCreated(guild_id=guild):
            return f"You formed {name_of(guild)}."
        case e.GuildJoined(guild_id=guild, latency_us=latency):
            return f"You joined {name_of(guild)}, in {latency / 1000:.0f} ms."
        case e.GuildEnded(guild_id=guild, reason=reason):
            return f"{name_of(guild)} is over for you: {reason}."
        case e.GuildMessageReceived(guild_id=guild):
            return f"{name_of(guild)} has a new message."
        case e.JobMoved(mine=mine, module=module, other=other, state=state, why=why):
            where = f" {'at' if mine else 'for'} {name_of(other)}" if other else ""
            return f"{module}{where}: {state}{f', {why}' if why else '.'}"
        case e.ExecutionStarted():
            return "A job began to run here."
        case e.ExecutionFinished(status=status, duration_us=duration, memory_bytes=memory):
            return f"A job ran here: {status}, {duration / US:.3f} s, {memory / 2**20:.1f} MiB."
        case e.ChannelOpened(channel_id=channel):
            return f"The payment channel with {name_of(channel)} is open."
        case e.ChannelClosed(channel_id=channel, reason=reason):
            return f"The payment channel with {name_of(channel)} is closed: {reason}."
        case e.PaymentProcessed(channel_id=channel, status=status, amount_u=amount):
            return f"Payment {status}, {'from' if status == 'received' else 'to'} {name_of(channel)}: {format_amount(amount)}."
        case e.OutcomeRecorded(peer_id=peer, success=success, score=score):
            return f"{name_of(peer)} {'did' if success else 'failed'} a job; its score is {score:.3f}."
        case e.FraudProven(peer_id=peer, kind=kind, channel_id=channel):
            return f"Fraud of {name_of(peer)} is proven: {kind.replace('_', ' ').lower()}."
        case e.TrustEvent(peer_id=peer, kind=kind):
            return f"{name_of(peer)}: {kind.replace('_', ' ')}."
        case _:
            return ""


class LogBook:
    """``on_line`` is called on the event loop with each new line; set it before ``start``."""

    def __init__(
        self, bus: Bus, directory: Path, clock: Clock | None = None, name_of: Callable[[str], str] = str
    ) -> None:
        self._clock = clock or SystemClock()
        self._name_of = name_of
        self._file = _RotatedFile(directory / FILE)
        self._events = bus.subscribe(e.Event, limit=65_536)
        self._told: deque[LogLine] = deque(maxlen=TOLD_LINES)
        self._debug: deque[LogLine] = deque(maxlen=DEBUG_LINES)
        self._second = -1
        self._counts: dict[LogLevel, int] = {}
        self._left_out = 0
        self._unwritten: deque[LogLine] = deque(maxlen=UNWRITTEN)
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._broken = False
        self._ended = asyncio.Event()
        self._faults = _Faults(self._fault)
        self.on_line: Callable[[LogLine], None] = lambda line: None

    async def start(self) -> None:
        self._faults.attach(asyncio.get_running_loop())
        self._tasks = [
            asyncio.create_task(self._follow(), name="log"),
            asyncio.create_task(self._write(), name="log file"),
        ]

    async def stop(self) -> None:
        """Take in what was published so far, and write it. Idempotent."""
        self._faults.detach()
        self._events.close()
        if not self._tasks:
            return
        follower, writer = self._tasks
        self._tasks = []
        await follower
        self._ended.set()
        self._wake.set()
        await writer
        self._file.close()

    def lines(self) -> list[LogLine]:
        """The latest lines of all levels, oldest first."""
        return list(heapq.merge(self._told, self._debug, key=lambda line: line.at_us))

    def _fault(self, level: LogLevel, text: str, detail: str) -> None:
        self._take(LogLine(at_us=self._clock.now_us(), level=level, area="node", text=text, detail=detail))

    async def _follow(self) -> None:
        handled = 0
        async for event in self._events:
            line = line_of(event, self._clock.now_us(), self._name_of)
            if line is not None:
                self._take(line)
            handled += 1
            if handled % TURN == 0:
                await asyncio.sleep(0)

    def _take(self, line: LogLine) -> None:
        second = self._clock.monotonic_us() // US
        if second != self._second:
            left_out, self._second, self._counts, self._left_out = self._left_out, second, {}, 0
            if left_out:
                self._keep(LogLine(at_us=line.at_us, level="warning", area="log", text=f"{left_out} lines left out."))
        self._counts[line.level] = self._counts.get(line.level, 0) + 1
        if self._counts[line.level] > PER_SECOND[line.level]:
            self._left_out += 1
        else:
            self._keep(line)

    def _keep(self, line: LogLine) -> None:
        (self._debug if line.level == "debug" else self._told).append(line)
        self._unwritten.append(line)
        self._wake.set()
        self.on_line(line)

    async def _write(self) -> None:
        while self._unwritten or not self._ended.is_set():
            if not self._unwritten:
                await self._wake.wait()
            self._wake.clear()
            if self._unwritten:
                await self._flush()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PAUSE_S):
                        await self._ended.wait()

    async def _flush(self) -> None:
        lines = list(self._unwritten)
        self._unwritten.clear()
        try:
            await asyncio.to_thread(self._file.append, lines)
        except OSError as error:
            if not self._broken:
                self._broken = True
                text = f"The log file cannot be written: {error.strerror or error}."
                self._told.append(line := LogLine(at_us=self._clock.now_us(), level="error", area="log", text=text))
                self.on_line(line)
        else:
            self._broken = False


class _Faults(logging.Handler):
    """Brings what the engine and its libraries log as a warning or worse into the book, instead of onto the terminal."""

    _SOURCES = ("zstui", "asyncio", "aioquic", "zeroconf")

    def __init__(self, take: Callable[[LogLevel, str, str], None]) -> None:
        super().__init__(logging.WARNING)
        self._take = take
        self._loop: asyncio.AbstractEventLoop | None = None

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        for source in self._SOURCES:
            logging.getLogger(source).addHandler(self)

    def detach(self) -> None:
        for source in self._SOURCES:
            logging.getLogger(source).removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        trace = "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else ""
        level: LogLevel = "error" if record.levelno >= logging.ERROR else "warning"
        text = clean_text(record.getMessage(), MAX_TEXT)
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._take, level, text, trace[-MAX_DETAIL:])


class _RotatedFile:
    """Used from one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        self._size = 0

    def append(self, lines: list[LogLine]) -> None:
        """Raises OSError; the lines are then lost."""
        for line in lines:
            data = msgspec.json.encode(line) + b"\n"
            if self._fd >= 0 and self._size + len(data) > MAX_BYTES:
                self._rotate()
            if self._fd < 0:
                self._open()
            self._size += os.write(self._fd, data)

    def _open(self) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._size = os.fstat(self._fd).st_size

    def _rotate(self) -> None:
        self.close()
        for number in range(MAX_FILES - 1, 0, -1):
            older = self._path.with_name(f"{self._path.name}.{number}")
            newer = self._path.with_name(f"{self._path.name}.{number - 1}") if number > 1 else self._path
            if newer.exists():
                newer.replace(older)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
