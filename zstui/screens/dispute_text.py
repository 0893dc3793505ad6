"""What windows say of a dispute: costs, times, and who must act."""

from __future__ import annotations

from zstui.bridge import Bridge
from zstui.engine.money import format_amount
from zstui.engine.views import ChoiceView, DisputeView
from zstui.screens.values import safe
from zstui.screens.widgets.text import countdown, now, short_id, until

WITNESS = {
    "silent": ("has not taken the case yet", "$text-warning"),
    "heard": ("has taken the case", ""),
    "ready": ("is ready to sign", ""),
    "signed": ("has signed a verdict", "$text-success"),
}
STYLES = {
    "none": "$text-success",
    "decided": "$text-success",
    "settled": "$text-success",
    "refunded": "$text-success",
    "deciding": "$text-warning",
}


def cost_of(choice: ChoiceView) -> str:
    """ "you get 84.250, costs 0.500"."""
    return f"you get {format_amount(choice.mine_u)}, costs {price(choice)}"


def price(choice: ChoiceView) -> str:
    if choice.cost_u < 0:
        return f"nothing: {format_amount(-choice.cost_u)} more than your own record"
    return format_amount(choice.cost_u) if choice.cost_u else "nothing"


def when(at: int | None) -> str:
    """A time with what is left until it: "14:05, in 42:10"."""
    if at is None:
        return "no time is set"
    left = at - now()
    return f"{until(at)}, in {countdown(left)}" if left > 0 else f"{until(at)}, over"


def acts(view: DisputeView) -> str:
    """Who must act, and by when."""
    if not view.must_act:
        return "nobody"
    who = view.must_act
    if who.startswith("you "):  # anything else begins with a number, or with a name that is written as it is
        who = f"Y{who[1:]}"
    return f"{who}: by {when(view.act_by)}" if view.act_by else who


def about(view: DisputeView) -> str:
    """What is disputed, in a few words."""
    if view.kind == "output":
        return f"output of {safe(view.module, 24)}"
    return f"channel {short_id(view.channel_id)}"


def dispute_of(bridge: Bridge, job_id: str) -> DisputeView | None:
    """The dispute about a job's output, if there is one."""
    return next((view for view in bridge.disputes.values() if view.job_id == job_id), None)


def output_disputes(bridge: Bridge, channel_id: str) -> list[DisputeView]:
    """Those about outputs that were paid on this channel, the latest first."""
    found = [v for v in bridge.disputes.values() if v.kind == "output" and v.channel_id == channel_id]
    return sorted(found, key=lambda v: (not v.must_act, -v.filed_at))
