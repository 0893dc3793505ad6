"""Windows with fields to fill in: inputs, choices, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Generic, TypeVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, OptionList, Static

from zstui.engine.commands import Command
from zstui.engine.errors import ZsError
from zstui.screens.dialog import Dialog

R = TypeVar("R")
T = TypeVar("T")


class FieldError(Exception):
    """What was typed into one field is wrong."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(text)
        self.field = field


class Field(Vertical):
    """A label, an input and its unit in one row; below it, when there is one, what is wrong with the value."""

    def __init__(self, label: str, widget: Input | Choice | Static, *, id: str, unit: str = "") -> None:
        super().__init__(id=id)
        self._label = label
        self.widget = widget
        self._unit = unit
        self._problem: Static | None = None
        self.set_class(bool(unit), "-short")

    def compose(self) -> ComposeResult:
        with Horizontal():
            yield Static(self._label, classes="label", markup=False)
            yield self.widget
            if self._unit:
                yield Static(self._unit, classes="unit", markup=False)

    @property
    def text(self) -> str:
        """What the input holds, exactly."""
        return self.query_one(Input).value

    def set_text(self, value: str) -> None:
        """Replace what the input holds."""
        field = self.query_one(Input)
        field.value = value
        field.cursor_position = len(value)

    def fail(self, text: str) -> None:
        """Say under the field what is wrong with it; "" for nothing."""
        if self._problem is not None:
            self._problem.update(Content(text))
        elif text:
            self._problem = Static(Content(text), classes="problem", markup=False)
            self.mount(self._problem)
        self.set_class(bool(text), "-wrong")


class Choice(Static, can_focus=True):
    """One of a few values, all visible in a row; arrows or space change it.

    With ``spin`` only the chosen one shows, for lists of any length.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right,down,space,l,j", "step(1)", "Next", show=False),
        Binding("left,up,h,k", "step(-1)", "Previous", show=False),
    ]

    class Changed(Message):
        def __init__(self, choice: Choice) -> None:
            super().__init__()
            self.choice = choice

        @property
        def control(self) -> Choice:
            return self.choice

    def __init__(
        self, options: Sequence[tuple[str, str]], value: str | None = None, *, id: str | None = None, spin: bool = False
    ) -> None:
        super().__init__("", id=id, markup=False)
        self.options = list(options)
        self._at = next((i for i, (v, _) in enumerate(self.options) if v == value), 0)
        self._spin = spin

    @property
    def value(self) -> str:
        return self.options[self._at][0] if self.options else ""

    def on_mount(self) -> None:
        self._show()

    def offer(self, options: Sequence[tuple[str, str]]) -> None:
        """Other options; the chosen value stays, if it is still there."""
        value = self.value
        self.options = list(options)
        self._at = next((i for i, (v, _) in enumerate(self.options) if v == value), 0)
        self._show()

    def action_step(self, by: int) -> None:
        if self.options:
            self._at = (self._at + by) % len(self.options)
            self._show()
            self.post_message(self.Changed(self))

    def _show(self) -> None:
        if not self.options:
            self.update(Content("none"))
        elif self._spin:
            text = f"‹ {self.options[self._at][1]} ›"
            self.update(Content.assemble((text, "bold"), f"  {self._at + 1} of {len(self.options)}"))
        else:
            parts: list[str | tuple[str, str]] = []
            for i, (_, label) in enumerate(self.options):
                parts += ["   " if i else "", (f"(•) {label}", "bold") if i == self._at else f"( ) {label}"]
            self.update(Content.assemble(*parts))


class Form(Dialog[R], Generic[R]):
    """A window with fields; Enter in any of them submits, Tab moves on."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "Submit", show=False, id="form.submit"),
        Binding("ctrl+s", "submit", "Submit", show=False, priority=True, id="form.submit_anywhere"),
    ]

    def submit(self) -> None:
        """Read the fields and act. Raises FieldError."""
        raise NotImplementedError

    def text_of(self, field: str) -> str:
        return self.query_one(f"#{field} Input", Input).value.strip()

    def read(self, field: str, parse: Callable[[str], T]) -> T:
        """A field's value; nothing, or what ``parse`` refuses, becomes a FieldError."""
        if not self.text_of(field):
            raise FieldError(field, "Fill this in.")
        try:
            return parse(self.text_of(field))
        except ZsError as error:
            raise FieldError(field, str(error)) from error

    def clear_problems(self) -> None:
        for field in self.query(Field):
            field.fail("")

    def show_problem(self, error: FieldError) -> None:
        field = self.query_one(f"#{error.field}", Field)
        field.fail(str(error))
        field.widget.focus()
        self.call_after_refresh(self.bound_body)

    def action_submit(self) -> None:
        if self.busy:
            return
        self.clear_problems()
        self.say("")
        try:
            self.submit()
        except FieldError as error:
            self.show_problem(error)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.action_submit()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.action_submit()

    def send(self, command: Command[T], done: Callable[[T], object]) -> None:
        """Execute with a word about it."""
        self.say("Working…")
        self.execute(command, done)


def plain_input(value: str = "", placeholder: str = "", limit: int = 0, **kwargs: Any) -> Input:
    """An input for one row."""
    return Input(value, placeholder=placeholder, compact=True, max_length=limit, select_on_focus=False, **kwargs)
