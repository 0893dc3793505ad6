"""What the seven panes share: a table kept current from the bridge, filter, sort, freeze, copy, details, commands."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from time import monotonic
from typing import Any, ClassVar, Generic, TypeVar

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.message import Message
from textual.screen import Screen

from zstui.bridge import Bridge, WatchedArea
from zstui.engine.commands import Command
from zstui.engine.errors import ZsError
from zstui.screens.widgets.table import Column, LineTable
from zstui.screens.widgets.text import Line, Span, plain

T = TypeVar("T")
R = TypeVar("R")
WAIT = 3.0
"""Seconds that the cursor waits for a record the person has just made."""


class Pane(Vertical, Generic[T]):
    """One numbered view. Subclasses say which records there are and how one is told; the rest is here."""

    TITLE: ClassVar[str] = ""
    RECORD: ClassVar[str] = ""
    """What one row is, as a title."""
    AREA: ClassVar[WatchedArea] = "status"
    MORE: ClassVar[tuple[WatchedArea, ...]] = ()
    """Other areas whose records are rows here as well."""
    ALSO: ClassVar[tuple[WatchedArea, ...]] = ()
    """Other areas whose changes show in the rows or the details."""
    SORT: ClassVar[str] = ""
    DESCENDING: ClassVar[bool] = False
    FOLLOW: ClassVar[bool] = False
    HELP: ClassVar[str] = ""
    """Two or three sentences for somebody who does not know what this is."""
    ENTER: ClassVar[str] = "Details"

    class Note(Message):
        """The cursor's record, the filter or the freeze changed."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__(id=self.TITLE.lower())
        self.bridge = bridge
        self.filter = ""
        self.frozen = False
        self._stale = True
        self._wanted = ("", 0.0)
        self.table: LineTable[T] = LineTable(
            self.columns(), self.key, sort=self.SORT, descending=self.DESCENDING, follow=self.FOLLOW
        )
        self._unwatch: list[Callable[[], None]] = []

    # --- what a subclass tells ----------------------------------------------------------------------------------------

    def columns(self) -> Sequence[Column[T]]:
        raise NotImplementedError

    def key(self, record: T) -> str:
        raise NotImplementedError

    def records(self) -> Iterable[T]:
        """Every record to show, unfiltered."""
        raise NotImplementedError

    def find(self, key: str) -> T | None:
        """The record to show under this key, if there is one; panes that give no answer are reloaded on each change."""
        raise NotImplementedError

    def moves_others(self, keys: set[str]) -> bool:
        """Whether other rows are placed by these records, so that all must be placed anew."""
        return False

    def words(self, record: T) -> str:
        """What the filter looks at."""
        raise NotImplementedError

    def details(self, record: T, width: int) -> list[Line]:
        """Everything about one record, for the detail column and the detail window."""
        raise NotImplementedError

    def note(self, record: T) -> tuple[str, str]:
        """One sentence about the record and its style: what went wrong, who must act. "" for none."""
        return ("", "")

    def copied(self, record: T) -> str:
        """What ``y`` copies."""
        return self.key(record)

    def empty(self) -> list[str]:
        """What to say, and which key to press, while there are no records."""
        return ["nothing here yet"]

    def open(self, record: T) -> None:
        """Enter on a record."""
        from zstui.screens.details import DetailScreen

        self.app.push_screen(DetailScreen(self))

    # --- records ------------------------------------------------------------------------------------------------------

    def compose(self) -> ComposeResult:
        yield self.table

    def on_mount(self) -> None:
        self._unwatch += [self.bridge.watch(area, partial(self._changed, area)) for area in (self.AREA, *self.MORE)]
        self._unwatch += [self.bridge.watch(area, self._touched) for area in self.ALSO]

    def on_unmount(self) -> None:
        for stop in self._unwatch:
            stop()

    @property
    def total(self) -> int:
        """Records before the filter."""
        return sum(1 for _ in self.records())

    def activate(self) -> None:
        """The pane was brought up: catch up and take the keys, at once, for the next one may be typed already."""
        if self._stale and not self.frozen:
            self.reload()
        self.screen.set_focus(self.table)

    def reload(self) -> None:
        """Show all records afresh, through the filter."""
        self._stale = False
        needle = self.filter.casefold()
        records = self.records()
        if needle:
            records = [record for record in records if needle in self.words(record).casefold()]
        self.table.empty = tuple((Span("  " + line, "muted"),) for line in self._nothing())
        self.table.replace(records)
        self._select_wanted()
        self.post_message(self.Note())

    def _nothing(self) -> list[str]:
        return [f"Nothing matches {plain(self.filter)!r}. Esc clears the filter."] if self.filter else self.empty()

    def _changed(self, area: WatchedArea) -> None:
        if not self.display or self.frozen:
            self._stale = True
            return
        keys = self.bridge.changed.get(area, set())
        if "" in keys or len(keys) * 4 > len(self.table) or self.moves_others(keys):
            self.reload()
            return
        needle = self.filter.casefold()
        found: list[T] = []
        gone: list[str] = []
        for key in keys:
            record = self.find(key)
            if record is None or (needle and needle not in self.words(record).casefold()):
                gone.append(key)
            else:
                found.append(record)
        self.table.change(found, gone)
        self._select_wanted()

    def _touched(self) -> None:
        if self.display and not self.frozen:
            self.table.repaint()
            self.post_message(self.Note())

    def select(self, key: str) -> None:
        """Put the cursor on a record the person has just made, now or when it arrives."""
        self._wanted = (key, monotonic() + WAIT)
        self._select_wanted()

    def _select_wanted(self) -> None:
        key, until = self._wanted
        if key and (monotonic() > until or self.table.select(key)):
            self._wanted = ("", 0.0)

    def tick(self) -> None:
        """A second has passed: countdowns and ages may read differently."""
        if not self.frozen:
            self.table.repaint()

    def on_line_table_moved(self, message: LineTable.Moved) -> None:
        message.stop()
        self.post_message(self.Note())

    def on_line_table_opened(self, message: LineTable.Opened) -> None:
        message.stop()
        if self.table.record is not None:
            self.open(self.table.record)

    # --- the view -----------------------------------------------------------------------------------------------------

    def set_filter(self, text: str) -> None:
        if text != self.filter:
            self.filter = text
            self.reload()

    def set_frozen(self, frozen: bool) -> None:
        self.frozen = frozen
        if not frozen:
            self.reload()
        self.post_message(self.Note())

    def sort_next(self) -> None:
        """Sort by the next column that can be sorted by."""
        titles = [column.title for column in self.table.columns if column.sort is not None]
        self.table.sort_by(titles[(titles.index(self.table.sort_title) + 1) % len(titles)], False)

    def sort_reverse(self) -> None:
        self.table.sort_by(self.table.sort_title, not self.table.descending)

    @classmethod
    def own_bindings(cls) -> list[Binding]:
        """The keys of this pane, as declared."""
        return [binding for binding in cls.BINDINGS if isinstance(binding, Binding)]

    # --- commands -----------------------------------------------------------------------------------------------------

    def say(self, text: str, *, error: bool = False) -> None:
        """A toast; the text may come from a peer."""
        self.app.notify(plain(text), severity="error" if error else "information", markup=False)

    def execute(self, command: Command[R], done: Callable[[R], str]) -> None:
        """Carry out a command and say how it went."""

        async def work() -> None:
            try:
                result = await self.bridge.execute(command)
            except (ZsError, OSError) as error:
                self.say(str(error), error=True)
            else:
                self.say(done(result))

        self.app.run_worker(work(), name=type(command).__name__, exit_on_error=True)

    def ask(self, screen: Screen[Any], then: Callable[[Any], None] | None = None) -> None:
        """Open a window; ``then`` gets its result unless that is None or False."""

        def answered(result: Any) -> None:
            if then is not None and result is not None and result is not False:
                then(result)

        self.app.push_screen(screen, answered)

    def need(self, what: str) -> T | None:
        """The cursor's record, or a word about there being none."""
        if self.table.record is None:
            self.say(f"There is no {what} to do this with.")
        return self.table.record
