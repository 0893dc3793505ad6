"""A table for any number of rows on the line API: only lines whose cells changed are painted.

The cursor belongs to a record, not to a line: it stays on the same key while rows are sorted, inserted or removed around
it. If its own record goes, it takes the one that moved into its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from rich.cells import cell_len
from sortedcontainers import SortedList
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.strip import Strip

from zstui.screens.widgets.styles import LineStyles
from zstui.screens.widgets.text import Cell, Line, fit, spans

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Column(Generic[T]):
    """``width`` cells at least, plus a share ``flex`` of what is left; hidden where the table has under ``above`` cells."""

    title: str
    width: int
    cell: Callable[[T], Cell]
    sort: Callable[[T], Any] | None = None
    """Sort key: values of one column compare with each other. None: cannot sort by this column."""
    align: str = "left"
    flex: int = 0
    limit: int = 1000
    """Cells at most, however wide the table."""
    above: int = 0


def layout(columns: Sequence[Column[T]], width: int) -> list[tuple[Column[T], int]]:
    """Which columns show in ``width`` cells and how wide, one cell apart."""
    shown = [column for column in columns if width >= column.above]
    left = width - sum(column.width + 1 for column in shown) + 1
    sizes = {id(column): column.width for column in shown}
    while left > 0:
        grow = [column for column in shown if column.flex and sizes[id(column)] < column.limit]
        total = sum(column.flex for column in grow)
        if not total:
            break
        spent = 0
        for column in grow:
            extra = min(max(1, left * column.flex // total), column.limit - sizes[id(column)], left - spent)
            sizes[id(column)] += extra
            spent += extra
        left -= spent
    out: list[tuple[Column[T], int]] = []
    used = 0
    for column in shown:
        size = min(sizes[id(column)], width - used)
        if size <= 0:
            break
        out.append((column, size))
        used += size + 1
    return out


class LineTable(LineStyles, Generic[T], can_focus=True):
    """Rows of records ``T`` under a fixed head line; ``key`` gives a record's identity."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False, id="table.up"),
        Binding("down,j", "move(1)", "Down", show=False, id="table.down"),
        Binding("pageup,ctrl+b", "page(-1)", "Page up", show=False, id="table.page_up"),
        Binding("pagedown,ctrl+f", "page(1)", "Page down", show=False, id="table.page_down"),
        Binding("home,g", "edge(-1)", "First", show=False, id="table.first"),
        Binding("end,G", "edge(1)", "Last", show=False, id="table.last"),
        Binding("enter", "open", "Details", id="table.open"),
    ]

    class Moved(Message):
        """The cursor is on another record, or its record changed."""

    class Opened(Message):
        """Enter or a second click on the cursor's record."""

    def __init__(
        self,
        columns: Sequence[Column[T]],
        key: Callable[[T], str],
        *,
        sort: str,
        descending: bool = False,
        follow: bool = False,
        id: str | None = None,
    ) -> None:
        """``sort`` is a column's title; with ``follow`` a cursor on the last row stays on the last row."""
        super().__init__(id=id)
        self.columns = columns
        self._key = key
        self._rows: dict[str, T] = {}
        self._sort_keys: dict[str, Any] = {}
        self._order: SortedList[tuple[Any, str]] = SortedList()
        self._follow = follow
        self.sort_title = sort
        self.descending = descending
        self.cursor: str | None = None
        self.empty: tuple[Line, ...] = ()
        """What to show instead of rows while there are none."""
        self._painted: dict[int, tuple[bool, Line]] = {}
        self._layout: list[tuple[Column[T], int]] = []

    # --- records ------------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._order)

    @property
    def widths(self) -> list[tuple[Column[T], int]]:
        """The columns on screen and their widths."""
        return self._layout

    @property
    def record(self) -> T | None:
        """The cursor's record."""
        return None if self.cursor is None else self._rows.get(self.cursor)

    def key_at(self, index: int) -> str:
        key: str = self._order[-1 - index if self.descending else index][1]
        return key

    def index_of(self, key: str) -> int:
        index = int(self._order.index((self._sort_keys[key], key)))
        return len(self._order) - 1 - index if self.descending else index

    def keys(self) -> list[str]:
        """Keys from top to bottom."""
        ordered = [key for _, key in self._order]
        return ordered[::-1] if self.descending else ordered

    def replace(self, records: Iterable[T]) -> None:
        """Show exactly these records."""
        with _Steady(self):
            self._rows = {self._key(record): record for record in records}
            self._index()

    def change(self, records: Iterable[T], gone: Iterable[str] = ()) -> None:
        """Insert or update ``records`` and drop the keys ``gone``."""
        sort = self._sort_function()
        with _Steady(self):
            for key in gone:
                if key in self._rows:
                    self._order.remove((self._sort_keys.pop(key), key))
                    del self._rows[key]
            for record in records:
                key, value = self._key(record), sort(record)
                if key in self._rows:
                    old = self._sort_keys[key]
                    if old != value:
                        self._order.remove((old, key))
                        self._order.add((value, key))
                        self._sort_keys[key] = value
                else:
                    self._order.add((value, key))
                    self._sort_keys[key] = value
                self._rows[key] = record

    def moves(self, record: T) -> bool:
        """Whether the record, as it is now, belongs elsewhere than where its row stands."""
        return bool(self._sort_keys.get(self._key(record)) != self._sort_function()(record))

    def sort_by(self, title: str, descending: bool) -> None:
        self.sort_title, self.descending = title, descending
        with _Steady(self):
            self._index()
        self.refresh()

    def _sort_function(self) -> Callable[[T], Any]:
        for column in self.columns:
            if column.title == self.sort_title and column.sort is not None:
                return column.sort
        raise ValueError(f"no sortable column {self.sort_title!r}")

    def _index(self) -> None:
        sort = self._sort_function()
        self._sort_keys = {key: sort(record) for key, record in self._rows.items()}
        self._order = SortedList((value, key) for key, value in self._sort_keys.items())

    # --- cursor -------------------------------------------------------------------------------------------------------

    def select(self, key: str) -> bool:
        """Put the cursor on a record and scroll to it; whether it is there."""
        if key not in self._rows:
            return False
        self.cursor = key
        self._reveal()
        self.repaint()
        self.post_message(self.Moved())
        return True

    def _reveal(self) -> None:
        if self.cursor is None:
            return
        index, height, top = self.index_of(self.cursor), self._body_height, self.scroll_offset.y
        if index < top:
            self.scroll_to(y=index, animate=False, force=True)
        elif index >= top + height:
            self.scroll_to(y=index - height + 1, animate=False, force=True)

    @property
    def _body_height(self) -> int:
        return max(1, self.size.height - 1)

    def _go(self, index: int) -> None:
        if len(self):
            self.select(self.key_at(min(len(self) - 1, max(0, index))))

    def _cursor_index(self) -> int:
        return 0 if self.cursor is None else self.index_of(self.cursor)

    def action_move(self, step: int) -> None:
        self._go(self._cursor_index() + step)

    def action_page(self, step: int) -> None:
        self._go(self._cursor_index() + step * self._body_height)

    def action_edge(self, side: int) -> None:
        self._go(0 if side < 0 else len(self) - 1)

    def action_open(self) -> None:
        if self.cursor is not None:
            self.post_message(self.Opened())

    def on_click(self, event: events.Click) -> None:
        index = event.y - 1 + self.scroll_offset.y
        if event.y >= 1 and index < len(self):
            key = self.key_at(index)
            if key == self.cursor and event.chain == 2:
                self.post_message(self.Opened())
            else:
                self.select(key)

    # --- painting -----------------------------------------------------------------------------------------------------

    def on_resize(self) -> None:
        self._resized()

    def _resized(self) -> None:
        self._layout = layout(self.columns, max(0, self.scrollable_content_region.width - 1))
        self._painted.clear()
        self._set_height()
        self.refresh()

    def columns_changed(self) -> None:
        """The columns were replaced."""
        self._resized()

    def _set_height(self) -> None:
        size = Size(0, len(self) + 1)
        if self.virtual_size != size:
            self.virtual_size = size

    def line_at(self, index: int) -> Line:
        """The row's cells as one line, cut and padded to the columns."""
        record = self._rows[self.key_at(index)]
        line: list[Any] = list(spans(" "))
        for number, (column, width) in enumerate(self._layout):
            if number:
                line.extend(spans(" "))
            line.extend(_padded(spans(column.cell(record)), width, column.align))
        return tuple(line)

    def head(self) -> Line:
        parts: list[Any] = list(spans(" "))
        for column, width in self._layout:
            mark = ("↓" if self.descending else "↑") if column.title == self.sort_title else ""
            title = column.title + mark if len(column.title + mark) <= width else column.title
            parts.extend(spans(fit(title, width, column.align) + " "))
        return tuple(parts)

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        if y == 0:
            return self.strip_of(self.head(), width, "head")
        index = y - 1 + self.scroll_offset.y
        if index >= len(self):
            line = self.empty[y - 2] if not len(self) and 0 <= y - 2 < len(self.empty) else ()
            self._painted[y] = (False, line)
            return self.strip_of(line, width)
        line = self.line_at(index)
        chosen = self.key_at(index) == self.cursor
        self._painted[y] = (chosen, line)
        return self.strip_of(line, width, "cursor") if chosen else self.strip_of(line, width)

    def repaint(self) -> None:
        """Paint those visible lines whose text or cursor mark is not what is on the screen."""
        top, count = self.scroll_offset.y, len(self)
        for y in range(1, self.size.height):
            index = y - 1 + top
            if index < count:
                fresh = (self.key_at(index) == self.cursor, self.line_at(index))
            else:
                fresh = (False, self.empty[y - 2] if not count and 0 <= y - 2 < len(self.empty) else ())
            if self._painted.get(y) != fresh:
                self.refresh_line(y + top)


def _padded(line: Line, width: int, align: str) -> Line:
    size = sum(cell_len(span.text) for span in line)
    if len(line) == 1:
        return (type(line[0])(fit(line[0].text, width, align), line[0].style),)
    if size <= width:
        pad = spans(" " * (width - size))
        return pad + line if align == "right" else line + pad
    out: list[Any] = []
    for span in line:
        size = cell_len(span.text)
        if size > width:
            out.append(type(span)(fit(span.text, width), span.style))
            break
        out.append(span)
        width -= size
    return tuple(out)


class _Steady:
    """Keeps the cursor on its record, and that record on its line of the screen, over a change of rows."""

    def __init__(self, table: LineTable[Any]) -> None:
        self._table = table

    def __enter__(self) -> None:
        table = self._table
        self._old = table.cursor
        self._record = table.record
        self._index = table._cursor_index()
        self._last = self._index == len(table) - 1
        self._top = table.scroll_offset.y

    def __exit__(self, *_: object) -> None:
        table = self._table
        table._set_height()
        count = len(table)
        visible = self._top <= self._index < self._top + table._body_height
        if not count:
            table.cursor = None
        elif table._follow and (self._last or self._old is None):
            table.cursor = table.key_at(count - 1)
            table.scroll_to(y=max(0, count - table._body_height), animate=False, force=True)
        elif table.cursor not in table._rows:
            table.cursor = table.key_at(min(self._index, count - 1))
            table._reveal()
        elif visible and (moved := table._cursor_index() - self._index):
            table.scroll_to(y=max(0, self._top + moved), animate=False, force=True)
        table.repaint()
        if table.cursor != self._old or table.record is not self._record:
            table.post_message(table.Moved())
