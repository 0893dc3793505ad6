"""What the submit window says about a job's price, its time here and there, and who could run it."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content

from zstui.engine.money import MICRO, format_amount, format_rate
from zstui.engine.views import EstimateView, ExecutorView
from zstui.screens.dialog import MUTED, Fields
from zstui.screens.values import safe
from zstui.screens.widgets.text import clip, fit

LABEL = 11
NAME = 13
TOLD = 17
"""Cells for what it offers."""


def about(duration_us: int) -> str:
    """An expected time, to two digits or so: "0.4 s", "12 s", "3 min"."""
    value = duration_us / MICRO
    return f"{value / 60:.0f} min" if value >= 180 else f"{value:.0f} s" if value >= 9.95 else f"{value:.1f} s"


def about_amount(amount_u: int) -> str:
    """An expected price, without more digits than an expectation has."""
    unit = next((unit for unit in (1_000_000, 10_000, 1_000, 100, 10) if amount_u >= unit * 10), 1)
    rounded = amount_u // unit * unit if unit < 10_000 else amount_u // 10_000 * 10_000
    return format_amount(rounded)


def there(c: ExecutorView) -> str:
    """ "4.0 s for 0.8", or its prices where nothing is expected yet."""
    if c.expected_us is None:
        return f"{format_rate(c.price_per_second_nano)}/s {format_rate(c.price_per_mib_nano)}/MiB"
    price = f" for {about_amount(c.expected_cost_u)}" if c.expected_cost_u is not None else ""
    return f"{about(c.expected_us)}{price}"


def confidence(c: ExecutorView) -> str:
    """How far its speed can be believed."""
    if c.speed is None:
        return "speed unknown"
    runs = f"{c.completed} run{'' if c.completed == 1 else 's'}"
    return f"tested, {runs}" if c.speed_tested else "its own claim"


def in_order(candidates: Sequence[ExecutorView]) -> list[ExecutorView]:
    """Those that can take the job first, best first."""
    return sorted(candidates, key=lambda c: (bool(c.refusal), c.rank))


def best_line(candidates: Sequence[ExecutorView], jobs: int) -> str:
    takers = [c for c in in_order(candidates) if not c.refusal]
    if jobs > 1:
        text = f"all that can take some: {len(takers)} now" if takers else "all that can take some"
    else:
        text = f"best: {safe(takers[0].name, 20)} now" if takers else "best one that can take it"
    return fit("Run by", LABEL) + text


def executor_line(c: ExecutorView) -> Content:
    """One candidate: time, price, standing, and what it offers of what is wanted or how sure its speed is; or why it cannot."""
    name = f"{'':{LABEL}}{fit(safe(c.name, NAME - 1), NAME)}"
    if c.refusal:
        return Content.styled(f"{name}{'not now' if c.passes else 'no'}: {safe(c.refusal, 100)}", MUTED)
    told = (
        (clip(safe(c.match.removeprefix("offers "), 60), TOLD), "$text-success") if c.match else (confidence(c), MUTED)
    )
    return Content.assemble(f"{name}{fit(there(c), 20)} {fit(f'{c.score:.2f} of {c.completed}', 12)} ", told)


def estimate_fields(view: EstimateView, executor: str | None, jobs: int, cap_u: int) -> Fields:
    """Cost at most and typically, here against there, and when it is paid.

    ``view`` is for one job of ``jobs``, which together may cost ``cap_u``; ``executor`` is the one chosen.
    """
    takers = [c for c in in_order(view.candidates) if not c.refusal]
    runner = next((c for c in takers if c.peer_id == executor), takers[0] if takers else None)
    each = " each" if jobs > 1 else ""
    typical = (
        f"typically {format_amount(view.typical_cost_u)} in {(view.typical_duration_us or 0) / MICRO:.1f} s{each}"
        if view.typical_cost_u is not None
        else "never run before, typical cost unknown"
    )
    most = f" for all {jobs:,} jobs" if jobs > 1 else ""
    cost = Content.assemble(
        "at most ", (format_amount(min(view.max_cost_u * jobs, cap_u)), "bold"), f"{most}; {typical}"
    )
    rows: list[tuple[str, str | Content]] = [("Estimate", cost), ("", _where(view, runner, jobs))]
    if runner is not None and runner.match:
        rows.append(("", Content.styled(f"{safe(runner.name, 20)} {safe(runner.match, 120)}.", "$text-success")))
    if view.elsewhere:
        told = "; ".join(f"{safe(s.name, 20)} {safe(s.match, 60)}" for s in view.elsewhere)
        rows.append(("Elsewhere", Content.styled(f"{told}. Not in this guild: an invite brings them in.", MUTED)))
    return rows


def _where(view: EstimateView, runner: ExecutorView | None, jobs: int) -> Content:
    if runner is None:
        return Content.styled("Nobody can take it now; each one's reason is above. It waits for one.", "$text-warning")
    here = f"here {about(view.here_us)} free; " if view.here_us is not None else ""
    if jobs > 1:
        expected = f" {there(runner)} each" if runner.expected_us is not None else ""
        return Content(f"{here}the first on {safe(runner.name, 20)}{expected}.")
    if runner.expected_us is None:
        text = f"{here}on {safe(runner.name, 20)}. You pay after it ran, when you have approved the receipt."
        return Content.assemble(text, _soon(runner))
    return Content.assemble(
        here, "on ", (safe(runner.name, 20), "bold"), f" {there(runner)} ({confidence(runner)}).", _soon(runner)
    )


def _soon(c: ExecutorView) -> Content:
    """When its result is expected, as learned; a line of its own."""
    return Content.styled(f"\n{safe(c.why, 90)}.", MUTED) if c.why else Content("")
