"""What every modal window shares: frame, message line, key line, running a command, and guarded keys."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, ClassVar, TypeVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.geometry import Size
from textual.message import Message
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Static
from textual.worker import Worker

from zstui.bridge import Bridge, WatchedArea
from zstui.engine.commands import Command
from zstui.engine.errors import ZsError

R = TypeVar("R")
T = TypeVar("T")
Keys = Sequence[tuple[str, str]]
Fields = Iterable[tuple[str, str | Content]]
MUTED = "$foreground 60%"
GAP = 3
"""Cells between two keys."""
ARM_DELAY = 0.6
"""Seconds without a key press before a guarded window listens."""


class Rows(Widget):
    """Lines of label and value; long values wrap under themselves. Nothing in it is markup."""

    DEFAULT_CSS = "Rows { height: auto; }"

    def __init__(
        self, fields: Fields = (), *, label_width: int = 9, id: str | None = None, classes: str | None = None
    ) -> None:
        super().__init__(id=id, classes=classes)
        self.fields = tuple(fields)
        self._label_width = label_width

    def show(self, fields: Fields) -> None:
        self.fields = tuple(fields)
        self.refresh(layout=True)

    @property
    def text(self) -> str:
        """All of it without wrapping, as for the clipboard."""
        return "\n".join(line.plain for line in self._lines(1000))

    def _lines(self, width: int) -> list[Content]:
        lines: list[Content] = []
        for label, value in self.fields:
            text = Content(value) if isinstance(value, str) else value
            first, *rest = text.wrap(max(8, width - self._label_width)) or [Content("")]
            lines.append(Content.assemble((label.ljust(self._label_width), MUTED), first))
            lines += [Content.assemble(" " * self._label_width, line) for line in rest]
        return lines

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return len(self._lines(width))

    def render(self) -> Content:
        return Content("\n").join(self._lines(self.size.width))


class _Foot(Static):
    """A line below the body, which gets what room this leaves."""

    def on_resize(self) -> None:
        if isinstance(self.screen, Dialog):
            self.screen.bound_body()


class KeyLine(_Foot):
    """ "Enter Create   Esc Back" with the keys in bold; where they take a second line, no key is parted from its words."""

    def __init__(self, keys: Keys) -> None:
        super().__init__("", id="keys", markup=False)
        self._keys = keys

    def show(self, keys: Keys) -> None:
        self._keys = keys
        self.refresh(layout=True)

    def _lines(self, width: int) -> list[Content]:
        lines: list[Content] = []
        for key, text in self._keys:
            hint = Content.assemble((key, "bold $text"), f" {text}")
            if lines and lines[-1].cell_length + GAP + hint.cell_length <= width:
                lines[-1] = Content.assemble(lines[-1], " " * GAP, hint)
            else:
                lines.append(hint)
        return lines

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return len(self._lines(width))

    def render(self) -> Content:
        return Content("\n").join(self._lines(self.size.width))


class Dialog(ModalScreen[R]):
    """A framed window. Subclasses yield their widgets from ``content`` and name their keys in ``keys``."""

    CSS_PATH = "dialog.tcss"
    AUTO_FOCUS: ClassVar[str | None] = "Input, Choice, OptionList"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "cancel", "Back", id="dialog.cancel"),
        Binding("pagedown", "page(1)", "Page down", show=False, id="dialog.page_down"),
        Binding("pageup", "page(-1)", "Page up", show=False, id="dialog.page_up"),
    ]
    heading: str = ""
    tall: ClassVar[bool] = False
    """Takes the whole height, for lists and logs."""
    danger: ClassVar[bool] = False
    """A window whose main action cannot be taken back, and which must not look like the others."""

    def __init__(self, bridge: Bridge | None = None) -> None:
        super().__init__()
        self._bridge = bridge
        self.busy = False
        self._unwatch: list[Callable[[], None]] = []
        self.set_class(self.danger, "-danger")
        self.set_class(self.tall, "-tall")

    @property
    def bridge(self) -> Bridge:
        if self._bridge is None:
            raise RuntimeError(f"{type(self).__name__} was opened without a node")
        return self._bridge

    def content(self) -> ComposeResult:
        """The widgets of the body."""
        yield from ()

    def keys(self) -> Keys:
        return (("Esc", "Back"),)

    def compose(self) -> ComposeResult:
        with Vertical(id="frame") as frame:
            frame.border_title = Content(self.heading)
            with VerticalScroll(id="body", can_focus=False):
                yield from self.content()
            yield _Foot("", id="message", markup=False)
            yield KeyLine(self.keys())

    def retitle(self, text: str) -> None:
        self.query_one("#frame").border_title = Content(text)

    def show_keys(self) -> None:
        """Write the key line afresh."""
        self.query_one(KeyLine).show(self.keys())

    def say(self, text: str, kind: str = "") -> None:
        """Show one sentence above the keys; kind is "", "error" or "done". "" hides the line."""
        self.show_message(Content(text), kind)

    def show_message(self, text: Content, kind: str = "") -> None:
        message = self.query_one("#message", Static)
        message.set_class(bool(text), "-shown")
        message.set_class(kind == "error", "-error")
        message.set_class(kind == "done", "-done")
        message.update(text)
        self.call_after_refresh(self.bound_body)

    def follow(self, area: WatchedArea, callback: Callable[[], None]) -> None:
        """Call ``callback`` on this screen's own queue after changes in ``area``, while the window is open."""

        def changed() -> None:
            self.call_later(self._if_open, callback)

        self._unwatch.append(self.bridge.watch(area, changed))

    def _if_open(self, callback: Callable[[], None]) -> None:
        if self.is_attached and self.is_mounted:
            callback()

    def on_unmount(self) -> None:
        for stop in self._unwatch:
            stop()
        self._unwatch.clear()

    def on_resize(self) -> None:
        self.call_after_refresh(self.bound_body)

    def bound_body(self) -> None:
        """Leave room for the message and the keys below a body that scrolls."""
        if self.is_attached:
            body = self.query_one("#body")
            frame = self.query_one("#frame")
            others = sum(
                w.outer_size.height + w.styles.margin.height for w in frame.children if w is not body and w.display
            )
            body.styles.max_height = max(3, self.size.height - others - 2)

    def execute(
        self,
        command: Command[T],
        done: Callable[[T], object],
        failed: Callable[[ZsError], None] | None = None,
        *,
        closed: str = "",
    ) -> None:
        """Carry out a command, one at a time; its error is shown in the window, and input stays.

        The command goes on if the window is closed meanwhile; then a failure, or ``closed`` after success, is notified.
        """
        if self.busy:
            return
        self.busy = True

        async def work() -> None:
            try:
                result = await self.bridge.execute(command)
            except ZsError as error:
                self.busy = False
                if not self.is_attached:
                    self.app.notify(str(error), severity="error", markup=False)
                elif failed is not None:
                    failed(error)
                else:
                    self.say(str(error), "error")
            else:
                self.busy = False
                if self.is_attached:
                    done(result)
                elif closed:
                    self.app.notify(closed, markup=False)

        self.app.run_worker(work(), name=type(command).__name__, exit_on_error=True)

    async def attempt(self, command: Command[T], done: Callable[[T], object]) -> None:
        """Read something for this window; for a worker that ends with it."""
        try:
            result = await self.bridge.execute(command)
        except ZsError as error:
            self.say(str(error), "error")
        else:
            done(result)

    def reread(self, work: Callable[[], Coroutine[Any, Any, None]]) -> Worker[None]:
        """Run ``work`` in place of what this window is still reading."""
        return self.run_worker(work, exclusive=True)

    def action_cancel(self) -> None:
        self.dismiss(None)

    def action_page(self, direction: int) -> None:
        body = self.query_one("#body", VerticalScroll)
        body.scroll_relative(y=direction * max(1, body.size.height - 1), animate=False)


class Guarded(Dialog[R]):
    """A window that decides something: keys count only after it was on screen for ``ARM_DELAY`` without a key press.

    Keys pressed before, also those that waited in a queue, are dropped and start the delay anew; Esc always works.
    """

    AUTO_FOCUS: ClassVar[str | None] = ""
    GUARDED: ClassVar[frozenset[str]] = frozenset()
    """Actions that are disabled until armed."""
    FREE: ClassVar[frozenset[str]] = frozenset({"escape"})
    """Keys that work at any time."""

    def __init__(self, bridge: Bridge | None = None) -> None:
        super().__init__(bridge)
        self.armed = False
        self._arm_at = float("inf")

    def on_mount(self) -> None:
        self.call_after_refresh(self.disarm)

    def disarm(self) -> None:
        """Start the delay anew."""
        self.armed = False
        self._arm_at = Message().time + ARM_DELAY
        self.set_timer(ARM_DELAY, self._try_arm)
        self.refresh_bindings()

    def _try_arm(self) -> None:
        rest = self._arm_at - Message().time
        if rest > 0.001:
            self.set_timer(rest, self._try_arm)
        elif not self.armed:
            self.armed = True
            self.refresh_bindings()
            self.on_armed()

    def on_armed(self) -> None:
        """Called when keys begin to count."""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in self.GUARDED and not self.armed:
            return None
        return super().check_action(action, parameters)

    def on_key(self, event: events.Key) -> None:
        if event.key not in self.FREE and (not self.armed or event.time < self._arm_at):
            event.stop()
            event.prevent_default()
            if not self.armed:
                self._arm_at = max(self._arm_at, event.time + ARM_DELAY)
