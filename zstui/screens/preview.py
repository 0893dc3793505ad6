"""The window that shows what a job or a batch made, as large as the terminal allows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from textual.app import App
from textual.binding import Binding, BindingType
from textual.content import Content

from zstui.engine.errors import ZsError
from zstui.engine.views import BatchView, JobView
from zstui.screens.copying import copy_and_show
from zstui.screens.details import Hints, TextScreen
from zstui.screens.dialog import KeyLine
from zstui.screens.job_details import batch_summary, result_title
from zstui.screens.job_rows import Row, batch_bar, counts, share
from zstui.screens.previews.content import Space
from zstui.screens.previews.results import STDOUT, Results, result_names
from zstui.screens.widgets.text import Line, Span, plain, short_id

SCROLLED = 2000
"""Lines of text that can be scrolled to."""
MARGIN = 3
"""Lines of the window that are not its content: borders and keys."""


class PreviewScreen(TextScreen):
    """``find`` gives the record as it is now, or None once it is gone; then the last one stays."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right,l,n", "step(1)", "Next file", id="preview.next"),
        Binding("left,h", "step(-1)", "Previous file", show=False, id="preview.previous"),
        Binding("y", "copy", "Copy path", id="preview.copy"),
    ]

    def __init__(self, row: Row, results: Results, find: Callable[[], Row | None]) -> None:
        self._row = row
        self._results = results
        self._find = find
        self._at = 0
        super().__init__("", self._lines_of_row)

    def on_mount(self) -> None:
        self.add_class("-large")

    def update(self) -> None:
        if not self.is_mounted:
            return
        self._row = self._find() or self._row
        super().update()
        self.query_one("#frame").border_title = Content(f" {self._title_text()} ")
        self.query_one(KeyLine).show(self._hints_now())

    def _names(self) -> list[str]:
        return result_names(self._row) if isinstance(self._row, JobView) else []

    @property
    def _result(self) -> str:
        names = self._names()
        return names[self._at % len(names)] if names else STDOUT

    def _title_text(self) -> str:
        row = self._row
        if isinstance(row, BatchView):
            return f"{plain(row.name)} {short_id(row.batch_id)}"
        place = f"  {self._at % len(self._names()) + 1} of {len(self._names())}" if len(self._names()) > 1 else ""
        return f"{plain(row.module)} {short_id(row.job_id)}: {result_title(self._results, row, self._result)}{place}"

    def _hints_now(self) -> Hints:
        more = (("←→", "Other results"),) if len(self._names()) > 1 else ()
        copy = (("y", "Copy path"),) if isinstance(self._row, JobView) else (("y", "Copy id"),)
        return (("Esc", "Back"), *more, *copy)

    def _lines_of_row(self, width: int) -> list[Line]:
        row, height = self._row, max(4, self.app.size.height - MARGIN)
        if isinstance(row, BatchView):
            head = self._batch_head(row, width, height)
            picture = self._results.batch_lines(row, Space(width, height - len(head), SCROLLED))
            return [*head, *_centred(picture, width)]
        lines = self._results.job_lines(row, self._result, Space(width, height, SCROLLED))
        return _centred(lines, width) if self._results.kind(row, self._result).startswith("picture") else lines

    def _batch_head(self, batch: BatchView, width: int, height: int) -> list[Line]:
        if height > 40:
            return [*batch_summary(batch, width), ()]
        return [(*batch_bar(batch, 20), Span(f" {share(batch):.0%}  "), *counts(batch))]

    def action_step(self, by: int) -> None:
        self._at += by
        self.update()
        self.view.scroll_to(y=0, animate=False)

    def action_copy(self) -> None:
        row = self._row
        if isinstance(row, BatchView):
            copy_and_show(self.app, row.batch_id)
        else:
            self.run_worker(self._copy_path(row, self._result))

    async def _copy_path(self, job: JobView, name: str) -> None:
        await copy_path(self.app, self._results, job, name)


async def copy_path(app: App[Any], results: Results, job: JobView, name: str) -> None:
    """Copy where a result lies, or say why there is no such place."""
    try:
        path = await results.path(job, name)
    except (ZsError, OSError) as error:
        app.notify(str(error), severity="error", markup=False)
    else:
        if path:
            copy_and_show(app, path)
        else:
            app.notify("It is not in a file yet.", markup=False)


def _centred(lines: list[Line], width: int) -> list[Line]:
    """A picture in the middle; its lines are equally wide."""
    widest = max((sum(len(span.text) for span in line) for line in lines), default=0)
    pad = Span(" " * max(0, (width - widest) // 2))
    return [(pad, *line) for line in lines]
