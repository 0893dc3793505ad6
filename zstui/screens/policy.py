"""Windows about what may be paid without a key press, and how much credit peers have."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from zstui.bridge import Bridge
from zstui.engine.commands import SetGrant, SetLimits, ShowPolicy
from zstui.engine.money import format_amount, parse_amount
from zstui.engine.views import GrantView, LedgerView, PolicyView
from zstui.screens.decisions import DecisionsScreen
from zstui.screens.dialog import Keys
from zstui.screens.form import Field, Form, plain_input
from zstui.screens.grants import GrantScreen, subject_of
from zstui.screens.ledger import CreditScreen
from zstui.screens.values import safe
from zstui.screens.widgets.text import until


class PolicyScreen(Form[PolicyView | None]):
    """Limits to edit and grants to add or take away. Dismissed with the policy, or None."""

    heading = "Spending policy"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f2", "grant", "New grant", id="policy.grant"),
        Binding("f3", "change", "Change grant", id="policy.change"),
        Binding("delete", "revoke", "Take away", id="policy.revoke"),
        Binding("f4", "decisions", "Decisions", id="policy.decisions"),
        Binding("f5", "credit", "Credit of one peer", id="policy.credit"),
    ]

    def __init__(self, bridge: Bridge) -> None:
        super().__init__(bridge)
        self._policy: PolicyView | None = None

    def content(self) -> ComposeResult:
        yield Field("Type above", plain_input(), id="typed", unit="payments above this: the amount must be typed")
        yield Field("Members", plain_input(), id="member", unit="credit of a peer in a guild of mine")
        yield Field("Strangers", plain_input(), id="stranger", unit="credit of anybody else")
        yield Static("Grants: what is paid without asking", classes="section", markup=False)
        yield OptionList(id="grants", markup=False, compact=True)

    def keys(self) -> Keys:
        return (
            ("Enter", "Save limits"),
            ("F2", "New grant"),
            ("F3", "Change grant"),
            ("Delete", "Take it away"),
            ("F4", "Decisions"),
            ("F5", "Credit of one peer"),
            ("Esc", "Back"),
        )

    def on_mount(self) -> None:
        self.reread(partial(self.attempt, ShowPolicy(), self._loaded))

    def _loaded(self, policy: PolicyView) -> None:
        amounts = (policy.typed_above_u, policy.credit_member_u, policy.credit_stranger_u)
        for field, amount in zip(("typed", "member", "stranger"), amounts, strict=True):
            self.query_one(f"#{field}", Field).set_text(format_amount(amount))
        self._list(policy)

    def _list(self, policy: PolicyView) -> None:
        self._policy = policy
        grants = self.query_one("#grants", OptionList)
        grants.clear_options()
        if policy.grants:
            grants.add_options([Option(self._line(g), str(i)) for i, g in enumerate(policy.grants)])
        else:
            grants.add_option(Option("none: every payment asks", disabled=True))
        self.call_after_refresh(self.bound_body)

    def _line(self, grant: GrantView) -> str:
        end = "" if grant.expires_at is None else f"  until {until(grant.expires_at)}"
        return (
            f"{subject_of(self.bridge, grant)}: {format_amount(grant.per_payment_u)} each, "
            f"{format_amount(grant.spent_day_u)} of {format_amount(grant.per_day_u)} a day, "
            f"{format_amount(grant.spent_total_u)} of {format_amount(grant.total_u)} in all{end}"
        )

    def submit(self) -> None:
        command = SetLimits(
            typed_above_u=self.read("typed", parse_amount),
            credit_member_u=self.read("member", parse_amount),
            credit_stranger_u=self.read("stranger", parse_amount),
        )
        self.send(command, self.dismiss)

    def action_grant(self) -> None:
        self.app.push_screen(GrantScreen(self.bridge), self._granted)

    def action_change(self) -> None:
        if (grant := self._chosen()) is not None:
            self.app.push_screen(GrantScreen(self.bridge, grant), self._granted)

    def action_revoke(self) -> None:
        if (grant := self._chosen()) is not None:
            self.execute(SetGrant(scope=grant.scope, subject=grant.subject), self._list)

    def action_decisions(self) -> None:
        self.app.push_screen(DecisionsScreen(self.bridge))

    def action_credit(self) -> None:
        self.app.push_screen(CreditScreen(self.bridge), self._credited)

    def _granted(self, policy: PolicyView | None) -> None:
        if policy is not None:
            self._list(policy)

    def _credited(self, entry: LedgerView | None) -> None:
        if entry is not None:
            name = safe(entry.peer_name, 24)
            self.say(f"{name} may owe you {format_amount(entry.credit_limit_u)} at most.", "done")

    def _chosen(self) -> GrantView | None:
        """The grant under the cursor of the list, or a word about there being none."""
        grants = self.query_one("#grants", OptionList)
        at = grants.highlighted
        if self._policy is None or at is None or at >= len(self._policy.grants) or not grants.has_focus:
            self.say("Choose a grant with Tab and the arrows first.")
            return None
        return self._policy.grants[at]
