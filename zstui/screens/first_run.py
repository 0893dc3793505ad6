"""The first five minutes: identity, name, network, spending, company."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from zstui.bridge import Bridge
from zstui.engine.commands import JoinGuild, SetName, ShowPolicy
from zstui.engine.money import format_amount
from zstui.engine.views import PolicyView, StatusView
from zstui.screens.dialog import Keys, Rows
from zstui.screens.form import Field, FieldError, Form, plain_input
from zstui.screens.guild_join import JoinFields
from zstui.screens.values import long_key, safe


class FirstRunScreen(Form[bool]):
    """Five steps; Enter goes on, Esc goes back, and before the first leaves. Dismissed with whether it was finished."""

    STEPS: ClassVar[tuple[tuple[str, str], ...]] = (
        ("identity", "Your identity"),
        ("naming", "Your name"),
        ("network", "Your network"),
        ("spending", "Your money"),
        ("company", "Your company"),
    )

    def __init__(self, bridge: Bridge) -> None:
        super().__init__(bridge)
        self.step = 0
        self._company = JoinFields(bridge, optional=True)

    @property
    def heading(self) -> str:  # type: ignore[override]
        return f"Welcome to zstui   {self.step + 1} of {len(self.STEPS)}   {self.STEPS[self.step][1]}"

    def keys(self) -> Keys:
        last = self.step == len(self.STEPS) - 1
        back = "Leave; everything works without this" if self.step == 0 else "Back"
        return (
            ("Enter", "Finish" if last else "Next"),
            *((("←→", "Choose"), ("Tab", "Next field")) if last else ()),
            ("Esc", back),
        )

    def content(self) -> ComposeResult:
        with Vertical(id="step-identity", classes="step"):
            yield Rows(label_width=12, id="me")
            yield Static(
                "This key is you: whoever has it can pay in your name. Copy the file to a safe place now. "
                "Without it your channels, your guilds and your score are gone.",
                classes="note",
                markup=False,
            )
        with Vertical(id="step-naming", classes="step"):
            yield Field("Name", plain_input(limit=40), id="name")
            yield Static(
                "Others see it beside your key. It need not be unique; the key is.", classes="note", markup=False
            )
        with Vertical(id="step-network", classes="step"):
            yield Rows(label_width=12, id="net")
        with Vertical(id="step-spending", classes="step"):
            yield Rows(label_width=12, id="policy")
        with Vertical(id="step-company", classes="step"):
            yield self._company

    def on_mount(self) -> None:
        self.follow("status", self._status)
        self.follow("guilds", self._company.offer)
        self.query_one("#name", Field).set_text(self.bridge.status.name if self.bridge.status else "")
        self._status()
        self.reread(partial(self.attempt, ShowPolicy(), self._policy))
        self._go(0)

    # --- what the steps show ---------------------------------------------------------------------------------------------

    def _status(self) -> None:
        status = self.bridge.status
        if status is None:
            return
        self.query_one("#me", Rows).show(
            (
                ("Key", Content.styled(long_key(status.peer_id), "bold")),
                ("In full", safe(status.peer_id, 80)),
                ("Kept in", f"{safe(status.home, 200)}/key"),
            )
        )
        self.query_one("#net", Rows).show(_network(status))

    def _policy(self, policy: PolicyView) -> None:
        grants = f"{len(policy.grants)} in force" if policy.grants else "none: every payment asks you, one by one"
        self.query_one("#policy", Rows).show(
            (
                ("Automatic", Content.styled(grants, "bold")),
                (
                    "",
                    "A request waits in the pane Approve until you press p, or until its time is over. Then it is not paid.",
                ),
                ("", ""),
                ("Typed", f"above {format_amount(policy.typed_above_u)} you type the amount"),
                (
                    "Credit",
                    f"members of my guilds may owe me {format_amount(policy.credit_member_u)}, strangers "
                    f"{format_amount(policy.credit_stranger_u)}",
                ),
                ("", ""),
                ("Change it", "P in the pane Approve"),
            )
        )

    # --- going on and back --------------------------------------------------------------------------------------------------

    def _go(self, step: int) -> None:
        self.step = step
        for number, (name, _) in enumerate(self.STEPS):
            self.query_one(f"#step-{name}").display = number == step
        self.retitle(self.heading)
        self.show_keys()
        self.say("")
        fields = [
            w
            for w in self.query(f"#step-{self.STEPS[step][0]} Input, #step-{self.STEPS[step][0]} Choice")
            if w.focusable
        ]
        self.set_focus(fields[0] if fields else None)

    def submit(self) -> None:
        match self.STEPS[self.step][0]:
            case "naming":
                self._rename()
            case "company":
                self._join()
            case _:
                self._go(self.step + 1)

    def _rename(self) -> None:
        name = self.text_of("name")
        if not name:
            raise FieldError("name", "Give a name, such as your first name or the machine's.")
        if self.bridge.status is not None and name == self.bridge.status.name:
            self._go(self.step + 1)
        else:
            self.send(SetName(name=name), lambda _: self._go(self.step + 1))

    def _join(self) -> None:
        if guild := self._company.target():
            self.send(JoinGuild(guild=guild, role=self._company.role), lambda _: self.dismiss(True))
        else:
            self.dismiss(True)

    def action_cancel(self) -> None:
        if self.busy:
            return
        if self.step == 0:
            self.dismiss(False)
        else:
            self._go(self.step - 1)


def _network(status: StatusView) -> list[tuple[str, str | Content]]:
    fields: list[tuple[str, str | Content]] = [
        ("Interface", Content.styled(safe(status.network, 200) if status.network else "no network", "bold")),
        ("Reachable", safe(status.addresses[0], 200) if status.addresses else "nobody can connect to me"),
        ("Reached", safe(status.reachability, 200) or "not known yet: a peer that connects checks it within seconds"),
        ("Connected", f"{status.peers} peer{'' if status.peers == 1 else 's'}"),
    ]
    fields += [("Note", Content.styled(safe(notice, 200), "$text-warning")) for notice in status.notices[:4]]
    if not status.peers:
        text = "Nobody yet. If others run on this network, check that the firewall lets UDP through on that port."
        fields.append(("", text))
    return fields
