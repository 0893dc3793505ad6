"""Windows about what is owed over closed channels: the ledger, debts paid outside, credit of one peer."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from zstui.bridge import Bridge
from zstui.engine.commands import ConfirmDischarge, DeclineDischarge, Discharge, ListDischarges, ListLedger, SetCredit
from zstui.engine.money import format_amount, parse_amount
from zstui.engine.views import DischargeView, LedgerView
from zstui.screens.dialog import MUTED, Dialog, Guarded, Keys, Rows
from zstui.screens.form import Choice, Field, FieldError, Form, plain_input
from zstui.screens.values import named, safe
from zstui.screens.widgets.text import fit, until

HEAD = f"{'Peer':24}{'Owed to me':>14}{'I owe':>14}{'Credit limit':>16}"
DISCHARGES = {
    "proposed": "you signed; {name} must sign",
    "waiting": "you must sign or decline",
    "signed": "both signed",
    "declined": "declined",
}


class LedgerScreen(Dialog[None]):
    """What is owed between me and each peer over all closed channels, and which debts were paid outside."""

    tall = True
    heading = "Ledger of closed channels"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "paid_outside", "Paid outside", id="ledger.discharge"),
        Binding("c", "credit", "Credit", id="ledger.credit"),
    ]

    def __init__(self, bridge: Bridge) -> None:
        super().__init__(bridge)
        self._peers: dict[str, LedgerView] = {}
        self._discharges: dict[str, DischargeView] = {}

    def content(self) -> ComposeResult:
        yield Static(Content.styled(" " + HEAD, f"bold {MUTED}"), markup=False)
        yield OptionList(id="ledger", markup=False, compact=True)
        yield Static("Debts paid outside", classes="section", markup=False)
        yield OptionList(id="discharges", markup=False, compact=True)
        yield Static(
            "What is owed is a promise; how it is made good is between the two of you. Once it was, both sign that, and the "
            "debt is less by it.",
            classes="note",
            markup=False,
        )

    def keys(self) -> Keys:
        return (
            ("↑↓ Tab", "Choose"),
            ("p", "Paid outside…"),
            ("Enter", "Sign or decline…"),
            ("c", "Credit…"),
            ("Esc", "Close"),
        )

    def on_mount(self) -> None:
        self.follow("status", self._read)
        self._read()

    def _read(self) -> None:
        async def both() -> None:
            await self.attempt(ListLedger(), self._show)
            await self.attempt(ListDischarges(), self._show_discharges)

        self.reread(both)

    def _show(self, entries: list[LedgerView]) -> None:
        self._peers = {entry.peer_id: entry for entry in entries}
        _refill(
            self.query_one("#ledger", OptionList),
            [(_entry(e), e.peer_id) for e in entries],
            "No channel was closed yet.",
        )

    def _show_discharges(self, views: list[DischargeView]) -> None:
        self._discharges = {view.discharge_id: view for view in views}
        lines = [(_discharge(view), view.discharge_id) for view in views]
        _refill(self.query_one("#discharges", OptionList), lines, "none")

    def _peer(self) -> LedgerView | None:
        at = self.query_one("#ledger", OptionList).highlighted_option
        peer = self._peers.get(at.id or "") if at is not None else None
        if peer is None:
            self.say("There is no peer in the ledger to do this with.")
        return peer

    def action_paid_outside(self) -> None:
        peer = self._peer()
        if peer is not None and not (peer.owed_to_me_u or peer.i_owe_u):
            self.say(f"Nothing is owed between you and {safe(peer.peer_name, 24)}.")
        elif peer is not None:
            self.app.push_screen(DischargeScreen(self.bridge, peer), self._reload)

    def action_credit(self) -> None:
        if (peer := self._peer()) is not None:
            self.app.push_screen(CreditScreen(self.bridge, peer.peer_id), self._reload)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        view = self._discharges.get(event.option_id or "")
        if view is None:
            return
        if view.state == "waiting":
            self.app.push_screen(ConfirmDischargeScreen(self.bridge, view), self._reload)
        else:
            self.say(safe(view.action or DISCHARGES[view.state].format(name=safe(view.peer_name, 24)), 120))

    def _reload(self, result: object) -> None:
        if result is not None:
            self._read()


def _refill(options: OptionList, lines: list[tuple[str, str]], empty: str) -> None:
    at = options.highlighted
    options.clear_options()
    options.add_options([Option(text, key) for text, key in lines] or [Option(empty, disabled=True)])
    if lines:
        options.highlighted = min(at or 0, len(lines) - 1)


def _entry(entry: LedgerView) -> str:
    amounts = (format_amount(entry.owed_to_me_u), format_amount(entry.i_owe_u), format_amount(entry.credit_limit_u))
    return fit(named(entry.peer_name, entry.peer_id, 12), 24) + "{:>14}{:>14}{:>16}".format(*amounts)


def _discharge(view: DischargeView) -> str:
    name = safe(view.peer_name, 16)
    who = f"{name} paid me" if view.owed_to_me else f"I paid {name}"
    note = f"  {safe(view.note, 24)}" if view.note else ""
    state = DISCHARGES[view.state].format(name=name)
    return f"{until(view.decided_at or view.created_at)}  {who} {format_amount(view.amount_u)}{note}: {state}"


class DischargeScreen(Form[DischargeView | None]):
    """Sign that a debt was paid outside. Dismissed with it, or None."""

    def __init__(self, bridge: Bridge, entry: LedgerView) -> None:
        super().__init__(bridge)
        self._entry = entry
        self._name = safe(entry.peer_name, 24)
        self._mine = entry.owed_to_me_u > 0
        self.heading = f"PAID OUTSIDE: {self._name} paid me" if self._mine else f"PAID OUTSIDE: I paid {self._name}"

    def content(self) -> ComposeResult:
        entry, name = self._entry, self._name
        owed = (
            f"{name} owes me {format_amount(entry.owed_to_me_u)}"
            if self._mine
            else f"I owe {format_amount(entry.i_owe_u)}"
        )
        yield Rows((("Owed now", owed),))
        yield Field("Amount", plain_input(placeholder="such as 5"), id="amount", unit="that was paid outside zstui")
        yield Field("Note", plain_input(placeholder="how, such as bank transfer 14 May", limit=100), id="note")
        meaning = (
            f"You sign that you received it, and give up your claim to it: {name} need only sign, too."
            if self._mine
            else f"You sign that you paid it. Until {name} signs that it arrived, you still owe it."
        )
        yield Static(
            f"{meaning} Nothing is transferred here. Once both have signed it cannot be taken back.",
            classes="gap",
            markup=False,
        )

    def keys(self) -> Keys:
        return (("Enter", "Sign that it was paid"), ("Tab", "Next field"), ("Esc", "Back"))

    def submit(self) -> None:
        amount = self.read("amount", parse_amount)
        if amount == 0:
            raise FieldError("amount", "Give an amount above zero.")
        self.send(Discharge(peer=self._entry.peer_id, amount_u=amount, note=self.text_of("note")), self.dismiss)


class ConfirmDischargeScreen(Guarded[DischargeView | None]):
    """A peer signed that a debt was paid; so may I. Dismissed with it, or None."""

    GUARDED = frozenset({"sign", "decline"})
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "sign", "Sign", id="discharge.sign"),
        Binding("x", "decline", "Decline", id="discharge.decline"),
    ]

    def __init__(self, bridge: Bridge, view: DischargeView) -> None:
        super().__init__(bridge)
        self._view = view
        self._name = safe(view.peer_name, 24)
        self.set_class(view.owed_to_me, "-danger")
        self.heading = (
            f"Did {self._name} pay you {format_amount(view.amount_u)}?" if view.owed_to_me else "Paid outside"
        )

    def content(self) -> ComposeResult:
        view, name = self._view, self._name
        said = (
            f"it paid you {format_amount(view.amount_u)}"
            if view.owed_to_me
            else f"you paid {format_amount(view.amount_u)}"
        )
        yield Rows((("Peer", named(view.peer_name, view.peer_id)), ("Says", said), ("Note", safe(view.note, 100))))
        yield Static(
            f"If you sign, {name} owes you {format_amount(view.amount_u)} less, for good: sign only what has arrived. If you "
            "decline, all stays owed."
            if view.owed_to_me
            else f"If you sign, you owe {name} {format_amount(view.amount_u)} less, for good. If you decline, all stays owed.",
            classes="gap",
            markup=False,
        )

    def keys(self) -> Keys:
        return (("s", "Sign: it was paid"), ("x", "Decline: it was not"), ("Esc", "Later"))

    def action_sign(self) -> None:
        self.execute(
            ConfirmDischarge(discharge=self._view.discharge_id), self.dismiss, closed="Signed: that debt is paid."
        )

    def action_decline(self) -> None:
        self.execute(
            DeclineDischarge(discharge=self._view.discharge_id), self.dismiss, closed="Declined: all stays owed."
        )


class CreditScreen(Form[LedgerView | None]):
    """How much one peer may owe me. Dismissed with its line of the ledger, or None."""

    heading = "Credit of one peer"

    def __init__(self, bridge: Bridge, peer_id: str | None = None) -> None:
        super().__init__(bridge)
        self._peers = [(p.peer_id, named(p.name, p.peer_id)) for p in bridge.peers.values()]
        self._peer_id = peer_id

    def content(self) -> ComposeResult:
        yield Field("Peer", Choice(self._peers, self._peer_id, id="peer-choice", spin=True), id="peer")
        yield Field(
            "Credit", plain_input(placeholder="empty: as others"), id="limit", unit="the most that it may owe me"
        )
        yield Static(
            "Bounds the deposit of this peer in a new channel, and so the most that you can lose by it; 0 opens none. Open "
            "channels stay as they are. After a dispute that nobody settled this gives credit anew.",
            classes="note",
            markup=False,
        )

    def keys(self) -> Keys:
        return (("Enter", "Set"), ("←→", "Choose"), ("Esc", "Back"))

    def submit(self) -> None:
        peer = self.query_one("#peer-choice", Choice).value
        if not peer:
            raise FieldError("peer", "No peer is known yet.")
        limit = self.read("limit", parse_amount) if self.text_of("limit") else None
        self.send(SetCredit(peer=peer, amount_u=limit), self.dismiss)
