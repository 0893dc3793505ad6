"""What a newcomer does next, told from what is there already."""

from __future__ import annotations

from zstui.bridge import Bridge
from zstui.engine.money import format_amount
from zstui.screens.widgets.text import plain


def next_step(bridge: Bridge, pane: str) -> str:
    """One instruction with its keys: join, submit, watch, pay, look at the score. ``pane`` is the one on screen."""
    joined = [g for g in bridge.guilds.values() if g.state == "joined"]
    if not joined:
        here = "" if pane == "Guilds" else "press 2 for Guilds, then "
        seen = next((g for g in bridge.guilds.values() if g.state == "seen" and g.member_count < g.max_members), None)
        if seen is not None:
            return f"Join the guild {plain(seen.name)!r}: {here}put the cursor on it with the arrows and press J."
        return f"A guild is where jobs are sent. Create one: {here}press n, give it a name, press Enter."
    waiting = [a for a in bridge.approvals.values() if a.state == "waiting"]
    if waiting:
        first = min(waiting, key=lambda a: a.expires_at)
        here = "" if pane == "Approve" else "Press a, then "
        what = f"{plain(first.peer_name)} asks {format_amount(first.amount_u)} for {plain(first.module)}"
        if first.urgency == "blocked":
            return f"{what}, which cannot be paid now: {plain(first.why)}. {here}Enter shows it."
        return f"{what}. {here}Enter opens it: check the receipt, then p pays (play money)."
    running = [j for j in bridge.jobs.values() if j.mine and j.state in ("queued", "running")]
    if running:
        job = running[0]
        where = f" at {plain(job.executor_name)}" if job.executor_name else ""
        here = "Press 3 and watch it" if pane != "Jobs" else "Watch the bar; o shows what it prints"
        return f"{plain(job.module)} is {job.state}{where}. {here}. When it is done its price waits for you under a."
    if any(j.mine and j.paid == "paid" for j in bridge.jobs.values()):
        if pane != "Ranks":
            return "Paid. Press 5 for Ranks: the receipt now counts in the score of the peer that did the work."
        if not bridge.batches:
            return (
                "Enter shows the signed receipts behind a score. That was the whole way. For a picture that all peers draw "
                "together: 3, n, raytrace, arguments {} 16, run each line of 0..15."
            )
        return "Enter shows the signed receipts behind a score. That was the whole way; 3 then n starts another job."
    here = "press 3, then n" if pane != "Jobs" else "press n"
    return f"Send a job: {here}, type primes (a sample that comes with zstui) and press Enter."
