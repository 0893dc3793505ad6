"""The window that describes a job, says what it would cost and who could run it, before anything is sent."""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from textual import on
from textual.actions import SkipAction
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.suggester import Suggester
from textual.widgets import Input, OptionList
from textual.widgets.option_list import Option

from zstui.bridge import Bridge
from zstui.engine.commands import EstimateJob, JobSpec
from zstui.engine.errors import ZsError
from zstui.engine.money import format_amount, format_rate, parse_amount
from zstui.engine.views import EstimateView, ExecutorView
from zstui.screens.dialog import MUTED, Keys, Rows
from zstui.screens.form import Choice, Field, FieldError, Form, plain_input
from zstui.screens.values import exact_seconds, parse_count, safe
from zstui.screens.widgets.text import fit, short_peer

DEBOUNCE = 0.35
"""Seconds without a change before the estimate is asked for."""
MAX_STDIN = 8 << 20
BEST = "best"


def complete(text: str, samples: Sequence[str]) -> list[str]:
    """What ``text`` can become: sample names, then folders and .wasm files, sorted."""
    names = [name for name in samples if name.startswith(text)] if "/" not in text else []
    folder, _, start = text.rpartition("/")
    where = Path(folder or ("/" if text.startswith("/") else ".")).expanduser()
    found: list[str] = []
    try:
        with os.scandir(where) as entries:
            for entry in entries:
                if entry.name.startswith(start) and (start.startswith(".") or not entry.name.startswith(".")):
                    if entry.is_dir():
                        found.append(entry.name + "/")
                    elif entry.name.endswith(".wasm"):
                        found.append(entry.name)
                if len(found) >= 500:
                    break
    except OSError:
        pass
    prefix = text[: len(text) - len(start)]
    return names + sorted(prefix + name for name in found)


class _Completion(Suggester):
    """Suggests the first of ``complete``; looks at the disk in a thread."""

    def __init__(self, samples: Sequence[str]) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._samples = samples

    async def get_suggestion(self, value: str) -> str | None:
        found = await asyncio.to_thread(complete, value, self._samples) if value else []
        return next((name for name in found if name != value), None)


class ModuleInput(Input):
    """A path: Tab takes the suggestion, down and up go through what is offered."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "take", "Complete", show=False),
        Binding("down", "offer(1)", "Next", show=False),
        Binding("up", "offer(-1)", "Previous", show=False),
    ]

    def __init__(self, value: str, samples: Sequence[str]) -> None:
        super().__init__(
            value,
            placeholder="a .wasm file or a sample; ↓ goes through them",
            suggester=_Completion(samples),
            compact=True,
            select_on_focus=False,
        )
        self._samples = samples
        self._offered: list[str] = []
        self._at = -1

    def action_take(self) -> None:
        if not self._suggestion or self._suggestion == self.value:
            raise SkipAction
        self.value = self._suggestion
        self.cursor_position = len(self.value)

    def action_offer(self, by: int) -> None:
        if self.value not in self._offered:
            folder = self.value[: self.value.rfind("/") + 1]
            self._offered = complete(folder, self._samples)
            self._at = -1 if by > 0 else 0
        if self._offered:
            self._at = (self._at + by) % len(self._offered)
            self.value = self._offered[self._at]
            self.cursor_position = len(self.value)


class SubmitScreen(Form[JobSpec | None]):
    """Dismissed with a spec that was estimated without an error, or None. ``spec`` and ``error`` open it as it was left."""

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
        spec: JobSpec | None = None,
        error: str = "",
    ) -> None:
        super().__init__(bridge)
        self._samples = tuple(samples)
        self._start = spec or JobSpec(module="", guild=guild_id or "")
        self._error = error
        joined = [g for g in bridge.guilds.values() if g.state == "joined" and g.role != "observer"]
        self._guilds = [(g.guild_id, safe(g.name, 24)) for g in sorted(joined, key=lambda g: g.name)]
        self._estimated: JobSpec | None = None
        """The spec that ``_estimate`` belongs to."""
        self._estimate: EstimateView | None = None
        self._warned: JobSpec | None = None
        self._executor = self._start.executor
        self._timer: Any = None

    # --- what is shown ------------------------------------------------------------------------------------------------

    def content(self) -> ComposeResult:
        s = self._start
        yield Field("Module", ModuleInput(s.module, self._samples), id="module")
        yield Field("Arguments", plain_input(shlex.join(s.args), "as on a command line"), id="args")
        with Horizontal(classes="pair"):
            yield Field("Function", plain_input(s.function, limit=80), id="function")
            yield Field("Stdin", plain_input("", "a file, or nothing"), id="stdin")
        yield Field("Guild", Choice(self._guilds, s.guild, id="guild-choice", spin=True), id="guild")
        with Horizontal(classes="pair"):
            yield Field("Memory", plain_input(str(s.memory_mib)), id="memory", unit="MiB")
            yield Field("Timeout", plain_input(str(s.timeout_s)), id="timeout", unit="s")
        with Horizontal(classes="pair"):
            yield Field("At most", plain_input(format_amount(s.max_price_u)), id="price")
            yield Field("Witnesses", plain_input(str(s.witnesses)), id="witnesses", unit="re-run it")
        yield OptionList(id="executors", markup=False, compact=True)
        yield Rows(id="estimate", label_width=12)

    def keys(self) -> Keys:
        return (("Enter", "Submit"), ("Tab", "Next field"), ("↑↓", "Choose"), ("Esc", "Back"))

    def on_mount(self) -> None:
        self._list_executors(())
        self._say_estimate("fill in the module and choose a guild")
        if self._error:
            self.say(self._error, "error")
        if not self._guilds:
            self.query_one("#guild", Field).fail("Join or create a guild first; jobs run inside one.")
        if self._start.module:
            self._later()

    def _list_executors(self, candidates: Sequence[ExecutorView]) -> None:
        options = self.query_one(OptionList)
        takers = [c for c in candidates if not c.refusal]
        best = f"best: {safe(takers[0].name, 20)} now" if takers else "best one that can take it"
        rows = [Option(fit("Run by", 11) + best, BEST)]
        for c in sorted(candidates, key=lambda c: (bool(c.refusal), c.rank)):
            name = fit(safe(c.name, 14), 15) + fit(short_peer(c.peer_id), 11)
            if c.refusal:
                rows.append(Option(Content.styled(f"{'':11}{name}no: {safe(c.refusal, 90)}", MUTED), disabled=True))
            else:
                price = f"{format_rate(c.price_per_second_nano)}/s {format_rate(c.price_per_mib_nano)}/MiB"
                rows.append(Option(f"{'':11}{name}score {c.score:.2f} of {c.completed}  {price}", c.peer_id))
        options.clear_options()
        options.add_options(rows)
        known = {c.peer_id for c in takers}
        if self._executor in known:
            options.highlighted = options.get_option_index(self._executor or BEST)
        else:
            options.highlighted = 0

    def _say_estimate(self, text: str | Content) -> None:
        self.query_one(Rows).show((("Estimate", text),))

    def _show_estimate(self, spec: JobSpec, view: EstimateView) -> None:
        self._estimated, self._estimate = spec, view
        self._list_executors(view.candidates)
        takers = [c for c in view.candidates if not c.refusal]
        runner = next((c for c in takers if c.peer_id == spec.executor), takers[0] if takers else None)
        typical = (
            f"typically {format_amount(view.typical_cost_u)} in {exact_seconds(view.typical_duration_us or 0)}"
            if view.typical_cost_u is not None
            else "never run before, so no typical cost is known"
        )
        cost = Content.assemble("at most ", (format_amount(view.max_cost_u), "bold"), f"; {typical}")
        who = (
            Content(f"on {safe(runner.name, 24)}. You pay after it ran, when you have approved the receipt.")
            if runner
            else Content.styled("Nobody can take it now; each one's reason is above.", "$text-warning")
        )
        self.query_one(Rows).show((("Estimate", cost), ("", who)))
        self.call_after_refresh(self.bound_body)

    # --- reading the fields ---------------------------------------------------------------------------------------------

    def _spec(self, stdin: bytes = b"") -> JobSpec:
        """The job as the fields say. Raises FieldError."""
        module = self.text_of("module")
        if not module:
            raise FieldError("module", "Choose a .wasm file or a sample.")
        try:
            args = tuple(shlex.split(self.text_of("args")))
        except ValueError as error:
            raise FieldError("args", f"The arguments do not parse: {error}.") from error
        guild = self.query_one("#guild-choice", Choice).value
        if not guild:
            raise FieldError("guild", "Join or create a guild first; jobs run inside one.")
        cap = self.read("price", parse_amount)
        if cap == 0:
            raise FieldError("price", "Give a cap above zero.")
        return JobSpec(
            module=module if module in self._samples else str(Path(module).expanduser()),
            guild=guild,
            executor=self._executor,
            function=self.text_of("function") or "_start",
            args=args,
            env=self._start.env,
            stdin=stdin,
            memory_mib=self.read("memory", lambda text: parse_count(text, 1, 4096)),
            timeout_s=self.read("timeout", lambda text: parse_count(text, 1, 86_400)),
            price_per_second_nano=self._start.price_per_second_nano,
            price_per_mib_nano=self._start.price_per_mib_nano,
            max_price_u=cap,
            witnesses=self.read("witnesses", lambda text: parse_count(text, 0, 16)),
        )

    async def _stdin(self) -> bytes:
        """Content of the stdin file. Raises FieldError."""
        name = self.text_of("stdin")
        if not name:
            return self._start.stdin

        def read() -> bytes:
            with Path(name).expanduser().open("rb") as file:
                return file.read(MAX_STDIN + 1)

        try:
            data = await asyncio.to_thread(read)
        except OSError as error:
            raise FieldError("stdin", f"{safe(name)} cannot be read: {error.strerror or error}.") from error
        if len(data) > MAX_STDIN:
            raise FieldError("stdin", f"The file is larger than {MAX_STDIN >> 20} MiB.")
        return data

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
        self.run_worker(self._ask(submit=False), exclusive=True, group="estimate")

    async def _ask(self, *, submit: bool) -> None:
        """Estimate the job as it is now; with ``submit``, close with it if nothing is wrong."""
        if not submit and not self.text_of("module"):
            return
        self.clear_problems()
        try:
            stdin = await self._stdin()
            spec = self._spec(stdin)
        except FieldError as error:
            if submit:
                self.show_problem(error)
            else:
                self.query_one(f"#{error.field}", Field).fail(str(error))
            return
        if spec != self._estimated:
            self._say_estimate("asking…")
            try:
                view = await self.bridge.execute(EstimateJob(spec=spec))
            except ZsError as error:
                self._estimated = None
                self._say_estimate(Content.styled(str(error), "$text-error"))
                if submit:
                    self.say(str(error), "error")
                return
            self._show_estimate(spec, view)
        if submit:
            self._confirm(spec)

    def _confirm(self, spec: JobSpec) -> None:
        candidates = self._estimate.candidates if self._estimate is not None else ()
        if not any(not c.refusal for c in candidates) and self._warned != spec:
            self._warned = spec
            self.say("Nobody can take it now. Enter again submits it anyway.", "error")
            return
        self.dismiss(spec)

    def action_submit(self) -> None:
        self.say("")
        self.run_worker(self._ask(submit=True), exclusive=True, group="estimate")

    def action_estimate(self) -> None:
        self._estimate_quietly()
