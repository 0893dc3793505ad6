"""The window that describes a job or a batch, says what it would cost and who could run it, before anything is sent."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Input, OptionList
from textual.widgets.option_list import Option

from zstui.bridge import Bridge
from zstui.engine.commands import EstimateJob, JobSpec, SubmitBatch, SubmitJob
from zstui.engine.commands.jobs import MAX_PRIORITY, MAX_WANTS
from zstui.engine.errors import BadInput, ZsError
from zstui.engine.money import format_amount, parse_amount
from zstui.engine.views import EstimateView, ExecutorView
from zstui.screens.dialog import Keys, Rows
from zstui.screens.estimate_text import best_line, estimate_fields, executor_line, in_order
from zstui.screens.form import Choice, Field, FieldError, Form, plain_input
from zstui.screens.module_input import ModuleInput
from zstui.screens.values import parse_count, safe

DEBOUNCE = 0.35
"""Seconds without a change before the estimate is asked for."""
MAX_STDIN = 16 << 20
MAX_LINES = 10_000
BEST = "best"
ONE, LINES, FILES = "one", "lines", "files"
MODES = ((ONE, "one job"), (LINES, "each line of"), (FILES, "each file of"))
OVER = {ONE: "", LINES: "0..15, or a file", FILES: "such as data/*.csv"}
ARGUMENTS = {
    ONE: "as on a command line",
    LINES: "as on a command line; {} becomes the line, else it is stdin",
    FILES: "as on a command line; {} becomes the file under /in",
}
_RANGE = re.compile(r"(\d{1,7})\.\.(\d{1,7})\Z", re.ASCII)
Command = SubmitJob | SubmitBatch


def lines_of(text: str) -> tuple[str, ...]:
    """The numbers of a range such as 0..15, else the lines of the file of that name. Raises BadInput."""
    if match := _RANGE.match(text):
        first, last = int(match[1]), int(match[2])
        if not first <= last < first + MAX_LINES:
            raise BadInput(f"{text} is not a range of 1 to {MAX_LINES:,} numbers.")
        return tuple(str(number) for number in range(first, last + 1))
    lines = tuple(line for line in _read(text).decode(errors="replace").splitlines() if line.strip())
    if not 1 <= len(lines) <= MAX_LINES:
        raise BadInput(f"{safe(text)} has {len(lines):,} lines; a batch has 1 to {MAX_LINES:,} jobs.")
    return lines


def _read(name: str) -> bytes:
    """A file of at most ``MAX_STDIN`` bytes. Raises BadInput."""
    try:
        with Path(name).expanduser().open("rb") as file:
            data = file.read(MAX_STDIN + 1)
    except OSError as error:
        raise BadInput(f"{safe(name)} cannot be read: {error.strerror or error}.") from error
    if len(data) > MAX_STDIN:
        raise BadInput(f"The file is larger than {MAX_STDIN >> 20} MiB.")
    return data


def host_path(name: str) -> str:
    """A path that means the same to the node, wherever that was started."""
    return os.path.abspath(os.path.expanduser(name))


def _words(text: str) -> tuple[str, ...]:
    """Words as on a command line. Raises BadInput."""
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise BadInput(f"The words do not parse: {error}.") from error


class SubmitScreen(Form[Command | None]):
    """Dismissed with a command that was estimated without an error, or None. ``start`` and ``error`` open it as it was left."""

    heading = "Submit a job"
    CSS_PATH: ClassVar[Any] = ["dialog.tcss", "submit.tcss"]
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+e", "estimate", "Estimate", show=False, id="submit.estimate")
    ]

    def __init__(
        self,
        bridge: Bridge,
        guild_id: str | None = None,
        *,
        samples: Sequence[str] = (),
        start: Command | None = None,
        error: str = "",
    ) -> None:
        super().__init__(bridge)
        self._samples = tuple(samples)
        self._begin = start or SubmitJob(spec=JobSpec(module="", guild=guild_id or ""))
        self._start = self._begin.spec
        self._error = error
        joined = [g for g in bridge.guilds.values() if g.state == "joined" and g.role != "observer"]
        self._guilds = [(g.guild_id, safe(g.name, 20)) for g in sorted(joined, key=lambda g: g.name)]
        self._estimated: Command | None = None
        """What ``_estimate`` belongs to."""
        self._estimate: EstimateView | None = None
        self._warned: Command | None = None
        self._executor = self._start.executor
        self._timer: Any = None

    # --- what is shown ------------------------------------------------------------------------------------------------

    def content(self) -> ComposeResult:
        s = self._start
        mode, over = self._left_over()
        allowed = format_amount(self._begin.pay_up_to_u) if self._begin.pay_up_to_u else ""
        yield Field("Module", ModuleInput(s.module, self._samples), id="module")
        yield Field("Arguments", plain_input(shlex.join(s.args), ARGUMENTS[mode]), id="args")
        with Horizontal(classes="pair"):
            yield Field("Run", Choice(MODES, mode, id="mode-choice", spin=True), id="mode")
            yield Field("Over", plain_input(over, OVER[mode], disabled=mode == ONE), id="over")
        with Horizontal(classes="pair"):
            yield Field("Files in", plain_input(shlex.join(s.inputs), "read at /in"), id="inputs")
            yield Field("Files out", Choice((("", "no"), ("yes", "from /out")), "yes" * s.outputs), id="outputs")
        with Horizontal(classes="pair"):
            yield Field("Function", plain_input(s.function, limit=80), id="function")
            yield Field("Stdin", plain_input("", "a file, or nothing"), id="stdin")
        with Horizontal(classes="pair"):
            yield Field("Guild", Choice(self._guilds, s.guild, id="guild-choice", spin=True), id="guild")
            yield Field("Wants", plain_input(s.wants, "gpu berlin 8 cores", limit=MAX_WANTS), id="wants")
        with Horizontal(classes="three"):
            yield Field("Memory", plain_input(str(s.memory_mib)), id="memory", unit="MiB")
            yield Field("Timeout", plain_input(str(s.timeout_s)), id="timeout", unit="s")
            yield Field("Witnesses", plain_input(str(s.witnesses)), id="witnesses")
        with Horizontal(classes="pair"):
            yield Field("At most", plain_input(format_amount(s.max_price_u)), id="price", unit="in all")
            yield Field("Pay up to", plain_input(allowed, "0: ask me"), id="allowed", unit="unasked")
        with Horizontal(classes="three"):
            yield Field("Wait", plain_input(str(s.queue_s)), id="queue", unit="s")
            yield Field("Tries", plain_input(str(s.attempts)), id="attempts")
            yield Field("Priority", plain_input(str(s.priority)), id="priority", unit="0-9")
        yield OptionList(id="executors", markup=False, compact=True)
        yield Rows(id="estimate", label_width=12)

    def _left_over(self) -> tuple[str, str]:
        """Mode and what it goes over, as the window was left."""
        match self._begin:
            case SubmitBatch(map_files=tuple() as files) if files:
                return FILES, shlex.join(files)
            case SubmitBatch(name=name) if self._begin.map_lines:
                return LINES, name.partition(" over ")[2]
            case _:
                return ONE, ""

    def keys(self) -> Keys:
        return (("Enter", "Submit"), ("Tab", "Next field"), ("↑↓", "Choose"), ("Esc", "Back"))

    def on_mount(self) -> None:
        self._list_executors((), 1)
        self._say_estimate("fill in the module and choose a guild")
        if self._error:
            self.say(self._error, "error")
        if not self._guilds:
            self.query_one("#guild", Field).fail("Join or create a guild first; jobs run inside one.")
        if self._start.module:
            self._later()

    def _list_executors(self, candidates: Sequence[ExecutorView], jobs: int) -> None:
        options = self.query_one(OptionList)
        rows = [Option(best_line(candidates, jobs), BEST)]
        rows += [Option(executor_line(c), c.peer_id, disabled=bool(c.refusal)) for c in in_order(candidates)]
        options.clear_options()
        options.add_options(rows)
        known = {c.peer_id for c in candidates if not c.refusal}
        if self._executor in known:
            options.highlighted = options.get_option_index(self._executor or BEST)
        else:
            options.highlighted = 0

    def _say_estimate(self, text: str | Content) -> None:
        self.query_one(Rows).show((("Estimate", text),))

    def _show_estimate(self, command: Command, view: EstimateView, jobs: int) -> None:
        self._estimated, self._estimate = command, view
        self._list_executors(view.candidates, jobs)
        self.query_one(Rows).show(estimate_fields(view, command.spec.executor, jobs, command.spec.max_price_u))
        self.call_after_refresh(self.bound_body)

    @on(Choice.Changed, "#mode-choice")
    def _show_mode(self) -> None:
        mode = self._choice("mode")
        over = self.query_one("#over Input", Input)
        over.disabled, over.placeholder = mode == ONE, OVER[mode]
        self.query_one("#args Input", Input).placeholder = ARGUMENTS[mode]

    # --- reading the fields ---------------------------------------------------------------------------------------------

    def _choice(self, field: str) -> str:
        return self.query_one(f"#{field} Choice", Choice).value

    async def _command(self) -> Command:
        """The job or batch as the fields say. Raises FieldError."""
        module = self.text_of("module")
        if not module:
            raise FieldError("module", "Choose a .wasm file or a sample.")
        guild = self._choice("guild")
        if not guild:
            raise FieldError("guild", "Join or create a guild first; jobs run inside one.")
        cap = self.read("price", parse_amount)
        if cap == 0:
            raise FieldError("price", "Give a cap above zero.")
        s = self._start
        spec = JobSpec(
            module=module if module in self._samples else host_path(module),
            guild=guild,
            executor=self._executor,
            function=self.text_of("function") or "_start",
            args=self._optional("args", _words),
            env=s.env,
            stdin=await self._slowly("stdin", _read) if self.text_of("stdin") else s.stdin,
            memory_mib=self._count("memory", 1, 4096),
            timeout_s=self._count("timeout", 1, 86_400),
            price_per_second_nano=s.price_per_second_nano,
            price_per_mib_nano=s.price_per_mib_nano,
            max_price_u=cap,
            witnesses=self._count("witnesses", 0, 16),
            inputs=tuple(map(host_path, self._optional("inputs", _words))),
            outputs=self._choice("outputs") == "yes",
            priority=self._count("priority", 0, MAX_PRIORITY),
            queue_s=self._count("queue", 0, 86_400),
            attempts=self._count("attempts", 1, 10),
            wants=self.text_of("wants"),
            min_reputation=s.min_reputation,
            max_failure_rate=s.max_failure_rate,
            min_uptime=s.min_uptime,
            input_format=s.input_format,
            input_schema=s.input_schema,
            output_format=s.output_format,
            output_schema=s.output_schema,
        )
        return await self._over(spec)

    async def _over(self, spec: JobSpec) -> Command:
        mode, over = self._choice("mode"), self.text_of("over")
        allowed = self.read("allowed", parse_amount) if self.text_of("allowed") else 0
        if allowed > spec.max_price_u:
            raise FieldError("allowed", "At most the largest price.")
        if mode == ONE:
            return SubmitJob(spec=spec, pay_up_to_u=allowed)
        if not over:
            raise FieldError("over", f"Say of what: {OVER[mode]}.")
        if mode == FILES:
            files = tuple(map(host_path, self.read("over", _words)))
            return SubmitBatch(spec=spec, map_files=files, pay_up_to_u=allowed)
        name = f"{Path(spec.module).stem} over {over}"
        return SubmitBatch(spec=spec, name=name, map_lines=await self._slowly("over", lines_of), pay_up_to_u=allowed)

    def _count(self, field: str, least: int, most: int) -> int:
        return self.read(field, lambda text: parse_count(text, least, most))

    def _optional(self, field: str, parse: Any) -> tuple[str, ...]:
        return self.read(field, parse) if self.text_of(field) else ()

    async def _slowly(self, field: str, read: Any) -> Any:
        """What a field names, read off the loop. Raises FieldError."""
        try:
            return await asyncio.to_thread(read, self.text_of(field))
        except BadInput as error:
            raise FieldError(field, str(error)) from error

    # --- estimating and submitting ----------------------------------------------------------------------------------------

    @on(Input.Changed)
    @on(Choice.Changed)
    def _later(self) -> None:
        """Ask for an estimate once the fields have come to rest."""
        if self._timer is not None:
            self._timer.stop()
        self._timer = self.set_timer(DEBOUNCE, self._estimate_quietly)

    @on(OptionList.OptionHighlighted)
    def _choose_executor(self, event: OptionList.OptionHighlighted) -> None:
        if event.option_list.has_focus:
            chosen = None if event.option_id == BEST else event.option_id
            if chosen != self._executor:
                self._executor = chosen
                self._later()

    def _estimate_quietly(self) -> None:
        self.reread(partial(self._ask, submit=False))

    async def _ask(self, *, submit: bool) -> None:
        """Estimate the job as it is now; with ``submit``, close with it if nothing is wrong."""
        if not submit and not self.text_of("module"):
            return
        self.clear_problems()
        try:
            command = await self._command()
        except FieldError as error:
            if submit:
                self.show_problem(error)
            else:
                self.query_one(f"#{error.field}", Field).fail(str(error))
            return
        if command != self._estimated:
            self._say_estimate("asking…")
            try:
                view = await self.bridge.execute(EstimateJob(spec=command.spec))
            except ZsError as error:
                self._estimated = None
                self._say_estimate(Content.styled(str(error), "$text-error"))
                if submit:
                    self.say(str(error), "error")
                return
            lines = command.map_lines if isinstance(command, SubmitBatch) else None
            files = command.map_files if isinstance(command, SubmitBatch) else None
            self._show_estimate(command, view, len(lines or files or "1"))
        if submit:
            self._confirm(command)

    def _confirm(self, command: Command) -> None:
        candidates = self._estimate.candidates if self._estimate is not None else ()
        if not any(not c.refusal for c in candidates) and self._warned != command:
            self._warned = command
            self.say("Nobody can take it now. Enter again submits it anyway; it waits.", "error")
            return
        self.dismiss(command)

    def action_submit(self) -> None:
        self.say("")
        self.reread(partial(self._ask, submit=True))

    def action_estimate(self) -> None:
        self._estimate_quietly()
