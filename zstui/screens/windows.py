"""Opens the windows of this folder: one function each, so that panes know no window's class."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from textual.screen import Screen

from zstui.bridge import Bridge
from zstui.engine.commands import JobSpec, SetName
from zstui.engine.views import ChannelView, RankView
from zstui.screens.submit import SubmitScreen

if TYPE_CHECKING:
    from zstui.screens.pane import Pane

Window = Screen[Any]
PLACES = ("dialogs", "guild_dialogs", "channel_dialogs", "pay", "submit", "policy")


def _open(name: str, *arguments: Any) -> Window:
    for place in PLACES:
        try:
            window: Window = getattr(importlib.import_module(f"zstui.screens.{place}"), name)(*arguments)
        except (ImportError, AttributeError):
            continue
        return window
    raise LookupError(name)


def pay(bridge: Bridge, request_id: str) -> Window:
    return _open("PayScreen", bridge, request_id)


def submit(bridge: Bridge, start: JobSpec, error: str) -> Window:
    """Dismissed with a JobSpec or None."""
    return SubmitScreen(bridge, samples=bridge.samples, spec=start, error=error)


def create_guild(bridge: Bridge) -> Window:
    return _open("CreateGuildScreen", bridge)


def join_guild(bridge: Bridge, guild_id: str | None) -> Window:
    return _open("JoinGuildScreen", bridge, guild_id)


def invite(bridge: Bridge, guild_id: str) -> Window:
    return _open("InviteScreen", bridge, guild_id)


def messages(bridge: Bridge, guild_id: str) -> Window:
    return _open("MessagesScreen", bridge, guild_id)


def open_channel(bridge: Bridge, peer_id: str | None) -> Window:
    return _open("OpenChannelScreen", bridge, peer_id)


def close_channel(bridge: Bridge, channel_id: str) -> Window:
    return _open("CloseChannelScreen", bridge, channel_id)


def dispute(bridge: Bridge, channel: ChannelView) -> Window:
    return _open("ForceCloseScreen", bridge, channel)


def ledger(bridge: Bridge) -> Window:
    return _open("LedgerScreen", bridge)


def output(bridge: Bridge, job_id: str) -> Window:
    return _open("OutputScreen", bridge, job_id)


def receipt(bridge: Bridge, receipt_id: str) -> Window:
    return _open("ReceiptScreen", bridge, receipt_id)


def receipts(bridge: Bridge, rank: RankView) -> Window:
    return _open("ReceiptsScreen", bridge, rank.peer_id)


def policy(bridge: Bridge) -> Window:
    return _open("PolicyScreen", bridge)


def connect(bridge: Bridge) -> Window:
    return _open("ConnectScreen", bridge)


def confirm(title: str, body: str, label: str) -> Window:
    return _open("ConfirmScreen", title, body, label)


def text_input(title: str, label: str, value: str) -> Window:
    return _open("TextInputScreen", title, label, value)


def name_me(pane: Pane[Any]) -> None:
    """Ask for the name that peers see, and set it."""
    status = pane.bridge.status
    window = text_input("My name", "What other peers see", status.name if status else "")
    pane.ask(window, lambda name: pane.execute(SetName(name=name), lambda view: f"Peers see you as {view.name}."))


def leave(bridge: Bridge) -> Window:
    return _open("QuitScreen", bridge)


def first_run(bridge: Bridge) -> Window:
    return _open("FirstRunScreen", bridge)
