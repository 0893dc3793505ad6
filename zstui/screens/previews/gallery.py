"""Keeps what was looked at: loads a result when it is first asked for, draws it off the loop, and says when it is ready."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from dataclasses import dataclass, field
from typing import Any

from zstui.engine.errors import ZsError
from zstui.screens.previews.content import Content, Problem, Space, draw, kind
from zstui.screens.widgets.text import Line, Span

KEPT = 24
"""Results that are kept, the last to be looked at."""
SPACES = 3
"""Spaces of one result that are kept drawn: the column's, the window's, and one before."""
Load = Callable[[], Awaitable[Content]]


@dataclass
class _Entry:
    version: Hashable = None
    content: Content | None = None
    drawn: dict[Space, tuple[Hashable, list[Line]]] = field(default_factory=dict)
    busy: bool = False


class Gallery:
    """``start`` runs a coroutine in the background; ``changed`` is called whenever there is more to see."""

    def __init__(
        self, start: Callable[[Coroutine[Any, Any, None]], object], changed: Callable[[], None], *, colours: bool
    ) -> None:
        self._start = start
        self._changed = changed
        self._colours = colours
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()

    def kind(self, key: Hashable) -> str:
        """What it is, once that is known; "" before."""
        entry = self._entries.get(key)
        return kind(entry.content) if entry is not None and entry.content is not None else ""

    def lines(self, key: Hashable, version: Hashable, space: Space, load: Load) -> list[Line]:
        """``load`` drawn in ``space``; until ``version`` is loaded and drawn, what was there before."""
        entry = self._entries.setdefault(key, _Entry())
        self._entries.move_to_end(key)
        while len(self._entries) > KEPT:
            self._entries.popitem(last=False)
        drawn, lines = entry.drawn.get(space, (None, []))
        if drawn != (version,) and not entry.busy:
            entry.busy = True
            self._start(self._fill(entry, version, space, load))
        return lines or [(Span("reading…", "muted"),)]

    async def _fill(self, entry: _Entry, version: Hashable, space: Space, load: Load) -> None:
        try:
            if entry.content is None or entry.version != version:
                try:
                    entry.content = await load()
                except (ZsError, OSError) as error:
                    entry.content = Problem(str(error))
                entry.version = version
            lines = await asyncio.to_thread(draw, entry.content, space, colours=self._colours)
            entry.drawn[space] = ((version,), lines)
            while len(entry.drawn) > SPACES:
                del entry.drawn[next(iter(entry.drawn))]
        finally:
            entry.busy = False
        self._changed()
