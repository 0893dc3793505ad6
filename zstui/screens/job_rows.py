"""How a job and a batch read in one row of the Jobs pane."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from zstui.engine.views import BatchView, GuildView, JobView
from zstui.screens.widgets.table import Column
from zstui.screens.widgets.text import Cell, Line, Span, amount, bar, mebibytes, plain, seconds, short_id

Row = JobView | BatchView

STATES = {"queued": "info", "running": "accent", "done": "ok", "failed": "error", "cancelled": "muted"}
ORDER = {"running": 0, "queued": 1, "done": 2, "failed": 2, "cancelled": 2}
PAID = {"unpaid": "warn", "paying": "info", "paid": "ok", "declined": "error", "free": "muted", "": "muted"}
STANDARD_MEMORY = 128 << 20


def key_of(row: Row) -> str:
    return row.batch_id if isinstance(row, BatchView) else row.job_id


def share(row: Row) -> float:
    """How far it is: of a batch, the jobs that ended and were not cancelled; of a job as it reports, else the time it used."""
    if isinstance(row, BatchView):
        return (row.done + row.failed) / row.total if row.total else 0.0
    if row.progress is not None:
        return row.progress
    return row.elapsed_us / row.timeout_us if row.timeout_us else 0.0


def counts(batch: BatchView) -> list[Span]:
    """ "9 done, 2 running, 5 queued" without those that are none."""
    parts = [(batch.done, "done"), (batch.failed, "failed"), (batch.cancelled, "cancelled")]
    parts += [(batch.running, "running"), (batch.queued, "queued")]
    out: list[Span] = []
    for number, state in parts:
        if number:
            out += [Span(", ")] if out else []
            out.append(Span(f"{number:,} {state}", STATES[state]))
    return out


def batch_bar(batch: BatchView, width: int) -> Line:
    """A gauge of what is done, what failed after it, and what is to come."""
    done, ended = (round(part / max(1, batch.total) * width) for part in (batch.done, batch.done + batch.failed))
    if batch.failed and ended == done and done:
        done -= 1
    return (Span("█" * done, "bar"), Span("█" * (ended - done), "error"), Span("░" * (width - ended), "faint"))


def _progress(row: Row) -> Cell:
    if isinstance(row, BatchView):
        return (*batch_bar(row, 6), Span(f" {row.done}/{row.total}"))
    if row.state == "running":
        limit = row.timeout_us // 1_000_000
        return (*bar(share(row), 6), Span(f" {row.elapsed_us // 1_000_000}/{limit}s"))
    if row.state == "queued":
        return Span("waits" if row.attempts < 2 else f"waits, try {row.attempts}", "muted")
    if row.exit_code is not None:
        took = seconds(row.duration_us or row.elapsed_us)
        return Span(f"exit {row.exit_code} {took}", "" if row.exit_code == 0 else "error")
    return Span(seconds(row.duration_us or row.elapsed_us) if row.elapsed_us else "-", "muted")


def _memory(row: Row) -> Cell:
    if isinstance(row, BatchView) or not row.memory_bytes:
        return Span("-", "faint")
    used, limit = mebibytes(row.memory_bytes), row.max_memory_bytes
    tight = limit and row.memory_bytes > limit * 0.9
    return Span(used if limit in (0, STANDARD_MEMORY) else f"{used[:-1]}/{limit >> 20}M", "warn" if tight else "")


def _who(row: Row) -> Cell:
    if isinstance(row, BatchView):
        return Span(f"{row.total:,} jobs", "info")
    if row.mine:
        return (Span("at ", "muted"), Span(plain(row.executor_name) or "nobody"))
    return (Span("for ", "accent"), Span(plain(row.submitter_name)))


def _cost(row: Row) -> Cell:
    if isinstance(row, BatchView):
        return Span(amount(row.cost_u)) if row.cost_u else Span("-", "faint")
    if cost := row.cost_u or row.due_u:
        return Span(amount(cost), PAID[row.paid] if row.paid not in ("", "paid") else "" if row.cost_u else "muted")
    return Span("-", "faint")


def _paid(row: Row) -> Cell:
    paid = "" if isinstance(row, BatchView) else row.paid
    return Span(paid or "-", PAID[paid] if paid else "faint")


def state_of(row: Row) -> Span:
    """Its state in a word; a job that is held still until it is paid is paused."""
    if isinstance(row, JobView) and row.paused:
        return Span("paused", "warn")
    return Span(row.state, STATES[row.state])


def _name(row: Row) -> str:
    return plain(row.name if isinstance(row, BatchView) else row.module)


def _created(row: Row) -> tuple[int, int]:
    return ORDER[row.state], -row.created_at


def _partner(row: Row) -> tuple[bool, str, str]:
    if isinstance(row, BatchView):
        return True, "", ""
    return row.mine, row.executor_name.casefold(), row.submitter_name.casefold()


class Rows:
    """The columns. ``head_of`` gives the batch that a row stands under, or the row itself; ``opened`` which batches show
    their jobs; ``backwards`` whether the table is sorted from last to first."""

    def __init__(
        self,
        head_of: Callable[[Row], Row],
        opened: Callable[[str], bool],
        backwards: Callable[[], bool],
        guilds: Mapping[str, GuildView],
    ) -> None:
        self._head_of = head_of
        self._opened = opened
        self._backwards = backwards
        self._guilds = guilds

    def guild(self, row: Row) -> str:
        name = row.guild_name if isinstance(row, JobView) else ""
        known = self._guilds.get(row.guild_id)
        return plain(name or (known.name if known else "")) or short_id(row.guild_id)

    def _module(self, row: Row) -> Cell:
        if isinstance(row, BatchView):
            return (Span("▾ " if self._opened(row.batch_id) else "▸ ", "accent"), Span(_name(row), "strong"))
        if self._head_of(row) is not row:
            given = plain(" ".join(row.args)) or _name(row)
            return (Span(f" {row.batch_index or 0:>3} ", "muted"), Span(given))
        return Span(_name(row), "strong")

    def _sorted(self, by: Callable[[Row], Any]) -> Callable[[Row], Any]:
        """Sorts jobs right under their batch, in the batch's order, whichever way the table runs."""

        def key(row: Row) -> Any:
            head = self._head_of(row)
            place = 0 if head is row or isinstance(row, BatchView) else 1 + (row.batch_index or 0)
            return by(head), key_of(head), -place if self._backwards() else place

        return key

    def columns(self) -> Sequence[Column[Row]]:
        by = self._sorted
        return (
            Column("Job", 4, lambda r: Span(short_id(key_of(r)), "muted")),
            Column("Module", 11, self._module, by(lambda r: _name(r).casefold()), flex=1, limit=20),
            Column("Guild", 8, self.guild, by(lambda r: self.guild(r).casefold()), flex=2, limit=20, above=70),
            Column("For", 9, _who, by(_partner), flex=1, limit=20),
            Column("State", 9, state_of, by(_created)),
            Column("Progress", 13, _progress, by(lambda r: -share(r)), flex=1, limit=18),
            Column(
                "Mem/128",
                7,
                _memory,
                by(lambda r: 0 if isinstance(r, BatchView) else -r.memory_bytes),
                align="right",
                above=70,
            ),
            Column("Cost", 8, _cost, by(lambda r: -r.cost_u), align="right", flex=1, limit=11),
            Column("Paid", 8, _paid, by(lambda r: "" if isinstance(r, BatchView) else r.paid), above=90),
        )
