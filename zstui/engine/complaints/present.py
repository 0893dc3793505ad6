"""Complaints as people see them: who must act, by when, and what each choice costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import msgspec

from zstui.engine.channels.disputes import fault_store
from zstui.engine.channels.disputes.fault_store import FaultRow
from zstui.engine.channels.disputes.messages import OutputVerdict
from zstui.engine.channels.disputes.model import JUDGED_HOURS, parties_of, witnesses_of
from zstui.engine.channels.disputes.present import fraud_view
from zstui.engine.channels.disputes.unit import Unit
from zstui.engine.channels.messages import read, take
from zstui.engine.channels.views import clock_time
from zstui.engine.clock import US
from zstui.engine.complaints import docket, store
from zstui.engine.complaints.store import Case
from zstui.engine.identity.keys import PeerId
from zstui.engine.money import format_amount
from zstui.engine.views import ChoiceView, DisputeView, VerdictView, WitnessView

Names = Callable[[PeerId], str]


class File(msgspec.Struct, frozen=True, kw_only=True):
    """All that is on record of one complaint, for views."""

    case: Case
    heard: dict[PeerId, int]
    verdicts: tuple[tuple[PeerId, bytes, OutputVerdict], ...]
    """(witness, digest, what it signed)."""
    faults: tuple[FaultRow, ...]

    def leading(self) -> tuple[OutputVerdict | None, int]:
        """What most witnesses signed alike so far, and how many."""
        if not self.verdicts:
            return None, 0
        (digest, n), *_ = Counter(d for _, d, _ in self.verdicts).most_common(1)
        return next(v for _, d, v in self.verdicts if d == digest), n

    def binding(self) -> OutputVerdict | None:
        """The verdict that was acted upon."""
        return next((v for _, d, v in self.verdicts if d == self.case.verdict), None)


def load(unit: Unit, id: bytes) -> File | None:
    """Read a case with all that belongs to it."""
    case = store.load(unit.tx, id)
    if case is None:
        return None
    return File(
        case=case,
        heard=store.heard(unit.tx, id),
        verdicts=tuple((w, d, read(take(raw), OutputVerdict)) for w, d, raw in store.verdicts(unit.tx, id)),
        faults=tuple(fault_store.load(unit.tx, id)),
    )


class Presenter:
    """Makes views of files. ``guild_name`` and ``name_of`` turn ids into words."""

    def __init__(self, me: PeerId, name_of: Names, guild_name: Callable[[str], str]) -> None:
        self.me = me
        self._name = name_of
        self._guild = guild_name

    def view(self, file: File, now_us: int) -> DisputeView:
        case = file.case
        other = case.payer if case.seat == "executor" else case.executor
        must, by_us = self._must_act(file)
        return DisputeView(
            kind="output",
            channel_id=case.channel.hex(),
            case_id=case.id.hex(),
            job_id=case.job_id,
            module=case.module,
            refund_u=case.refund_u,
            request_id=case.verdict.hex() if case.seat == "executor" and case.state in ("upheld", "unpaid") else "",
            role="witness" if case.seat == "witness" else "party",
            peer_id=other,
            peer_name=self._name(other),
            filed_by=case.payer,
            filed_by_name=self._name(case.payer),
            filed_by_me=case.seat == "payer",
            state="filed" if case.state == "open" else case.state,
            reason=f"the output of {case.module}, job {case.job_id[:8]}, is said to be wrong",
            filed_at=case.filed_us // US,
            deadline_at=docket.judge_by(case) // US if case.state == "open" else None,
            must_act=must,
            act_by=None if by_us is None else by_us // US,
            text=self._text(file, now_us),
            choices=self._choices(file, now_us),
            witnesses=tuple(self._witness(file, w) for w in witnesses_of(case.params)),
            needed=case.params.m,
            verdict=self.verdict(file),
            frauds=tuple(fraud_view(row, self._name) for row in file.faults),
        )

    def _must_act(self, file: File) -> tuple[str, int | None]:
        case = file.case
        executor = "you" if case.seat == "executor" else self._name(case.executor)
        match case.state:
            case "open":
                missing = case.params.m - file.leading()[1]
                return (
                    f"{missing} more of {len(case.params.witnesses)} witnesses must run it again and agree",
                    docket.judge_by(case),
                )
            case "upheld":
                return f"{executor} must return {format_amount(case.refund_u)}", docket.refund_by(case)
            case "unpaid":
                return f"{executor} must return {format_amount(case.refund_u)}", None
            case _:
                return "", None

    def _text(self, file: File, now_us: int) -> str:
        case, refund = file.case, format_amount(file.case.refund_u)
        payer, executor = self._name(case.payer), self._name(case.executor)
        n, m = len(case.params.witnesses), case.params.m
        match case.state:
            case "open" if case.seat == "witness":
                return (
                    f"{payer} says that {executor} returned a wrong output. This node runs the job again and signs what it finds "
                    "by itself; you need not do anything."
                )
            case "open":
                who = (
                    "The witnesses run" if case.seat == "payer" else f"{payer} says that it is wrong. The witnesses run"
                )
                return f"{who} the job again by themselves; {m} of {n} must find the same. Nobody has to do anything."
            case "rejected":
                return f"{m} of {n} witnesses ran it again and got what {executor} signed: the output is right."
            case "unjudgeable":
                return f"{m} of {n} witnesses could not run it again, so nothing follows."
            case "unresolved":
                return "The witnesses did not agree in time, so nothing follows."
            case "refunded":
                back = {"payer": "You have got back", "executor": "You have returned"}.get(
                    case.seat, f"{executor} has returned"
                )
                return f"The output was wrong. {back} {refund}."
            case "unpaid":
                return (
                    f"The output was wrong, and {refund} was not returned in time. "
                    f"{'You get' if case.seat == 'executor' else f'{executor} gets'} no jobs of {self._guild(case.guild_id)} "
                    "from whoever holds it against the executor. Paying late is still possible."
                )
            case _:
                return (
                    f"{m} of {n} witnesses ran it again and agree that the output is wrong. {refund} is to be returned by "
                    f"{clock_time(docket.refund_by(case), now_us)}."
                )

    def _choices(self, file: File, now_us: int) -> tuple[ChoiceView, ...]:
        case, refund = file.case, format_amount(file.case.refund_u)
        if case.seat == "payer" and case.state == "open":
            return (
                ChoiceView(
                    key="wait",
                    title="Wait for the witnesses",
                    text=f"If {case.params.m} of them find the output wrong, you get back {refund}; else nothing changes.",
                    mine_u=case.refund_u,
                    cost_u=0,
                ),
            )
        if case.seat != "executor" or case.state not in ("upheld", "unpaid"):
            return ()
        hours = f"{JUDGED_HOURS} hours, twice as long each time"
        late = clock_time(docket.refund_by(case), now_us)
        refuse = (
            f"Without the refund by {late} you are at fault: {self._name(case.payer)} and the witnesses give you no jobs of "
            f"{self._guild(case.guild_id)} for {hours}."
        )
        return (
            ChoiceView(
                key="refund",
                title=f"Return {refund}",
                text=f"A payment to {self._name(case.payer)} that you approve like any other; it needs an open channel.",
                mine_u=0,
                cost_u=case.refund_u,
            ),
            ChoiceView(key="refuse", title="Return nothing", text=refuse, mine_u=case.refund_u, cost_u=0),
        )

    def _witness(self, file: File, peer: PeerId) -> WitnessView:
        said = next((v for w, _, v in file.verdicts if w == peer), None)
        heard, binding = file.heard.get(peer), file.binding()
        return WitnessView(
            peer_id=peer,
            name=self._name(peer),
            state="signed" if said is not None else "heard" if heard is not None else "silent",
            heard_at=None if heard is None else heard // 1000,
            agrees=None if said is None or binding is None else said == binding,
        )

    def verdict(self, file: File, content: dict[str, object] | None = None) -> VerdictView | None:
        """The binding verdict, else what most witnesses signed so far; None before the first."""
        case = file.case
        verdict, n = file.leading()
        if verdict is None:
            return None
        binding = file.binding()
        if binding is not None:
            verdict, n = binding, sum(v == binding for _, _, v in file.verdicts)
        lo, hi = parties_of(case.params)
        back = (verdict.refund_u if lo == case.payer else 0, verdict.refund_u if hi == case.payer else 0)
        mine = None if case.seat == "witness" else back[0 if lo == self.me else 1]
        found = {
            "upheld": f"the output of {case.module} is wrong; {self._name(case.executor)} is to return "
            f"{format_amount(verdict.refund_u)} to {self._name(case.payer)}",
            "rejected": f"the output of {case.module} is right, and nothing is to be returned",
            "unjudgeable": f"{case.module} could not be run again, and nothing is to be returned",
        }[verdict.finding]
        of = f"{n} of {len(case.params.witnesses)} witnesses"
        return VerdictView(
            kind="output",
            channel_id=case.id.hex(),
            final=binding is not None,
            signatures=n,
            needed=case.params.m,
            lo_peer_id=lo,
            hi_peer_id=hi,
            lo_u=back[0],
            hi_u=back[1],
            mine_u=mine,
            theirs_u=None if mine is None else sum(back) - mine,
            signed_by_me=any(w == self.me for w, _, _ in file.verdicts),
            text=f"{of} decided: {found}." if binding else f"{of} say so far: {found}. {case.params.m} must agree.",
            finding=verdict.finding,
            file=content or {},
        )
