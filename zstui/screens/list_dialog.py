"""A window around a table of records, whose keys act on the record under the cursor."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, Generic, TypeVar

from textual.app import ComposeResult

from zstui.bridge import Bridge
from zstui.screens.dialog import Guarded
from zstui.screens.widgets.table import Column, LineTable
from zstui.screens.widgets.text import Span, plain

R = TypeVar("R")
T = TypeVar("T")


class ListDialog(Guarded[R], Generic[R, T]):
    """The cursor stays on its record; if that goes by itself, the keys rest before they count for another."""

    tall = True
    AUTO_FOCUS: ClassVar[str | None] = "LineTable"
    FREE = frozenset({"escape", "up", "down", "j", "k", "g", "G", "home", "end", "pageup", "pagedown"})
    SORT: ClassVar[str] = ""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__(bridge)
        self.table: LineTable[T] = LineTable(self.columns(), self.key, sort=self.SORT)

    def columns(self) -> Sequence[Column[T]]:
        raise NotImplementedError

    def key(self, record: T) -> str:
        raise NotImplementedError

    def empty(self) -> str:
        """What to say while there are no records."""
        return "nothing here"

    def chosen(self, record: T | None) -> None:
        """The cursor is on this record, or on none."""

    def content(self) -> ComposeResult:
        yield self.table

    def show(self, records: Iterable[T]) -> None:
        before = self.table.cursor
        self.table.empty = ((Span("  " + plain(self.empty()), "muted"),),)
        self.table.replace(records)
        if before is not None and self.table.cursor not in (None, before):
            self.disarm()
        self.chosen(self.table.record)
        self.show_keys()

    def on_line_table_moved(self, message: LineTable.Moved) -> None:
        message.stop()
        self.chosen(self.table.record)
        self.show_keys()

    def action_page(self, direction: int) -> None:
        self.table.action_page(direction)
