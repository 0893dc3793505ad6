"""Disputes as people see them: who must act, by when, and what each choice costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import msgspec

from zstui.engine.channels.closing import VERDICT_GRACE_US, resolved_at
from zstui.engine.channels.disputes import fault_store, faults, store
from zstui.engine.channels.disputes.fault_store import FaultRow
from zstui.engine.channels.disputes.messages import Fault, FaultKind, Verdict
from zstui.engine.channels.disputes.model import decide, parties_of, side_of, witnesses_of
from zstui.engine.channels.disputes.store import Case
from zstui.engine.channels.disputes.unit import Unit, verdict_of
from zstui.engine.channels.messages import Params
from zstui.engine.channels.model import Channel
from zstui.engine.channels.state import State
from zstui.engine.channels.views import clock_time
from zstui.engine.channels.work import REASONS
from zstui.engine.clock import US
from zstui.engine.identity.keys import PeerId
from zstui.engine.money import format_amount
from zstui.engine.views import ChoiceView, DisputeState, DisputeView, FraudView, VerdictView, WitnessView

Names = Callable[[PeerId], str]

FAULTS: dict[FaultKind, str] = {
    "FORK": "signed two different payment histories",
    "STALE_CLAIM": "claimed less than it had signed to have paid",
    "DOUBLE_VERDICT": "signed two verdicts on one case",
    "FALSE_ACK": "acknowledged a payment that was never made",
    "NO_REFUND": "did not return in time what it was paid for a wrong output",
}


class File(msgspec.Struct, frozen=True, kw_only=True):
    """All that is on record of one case, for views."""

    case: Case
    receipts: dict[PeerId, int]
    ready: dict[PeerId, bytes]
    verdicts: tuple[tuple[PeerId, bytes, Verdict], ...]
    """(witness, digest, what it signed)."""
    expected: Verdict
    """On the evidence on record."""
    submissions: dict[PeerId, int]
    deadline_us: int | None
    faults: tuple[FaultRow, ...]

    def binding(self) -> tuple[Verdict | None, int]:
        """(the verdict that at least m signed, or None; how many signed the one most agree on)."""
        if not self.verdicts:
            return None, 0
        (digest, n), *_ = Counter(d for _, d, _ in self.verdicts).most_common(1)
        verdict = next(v for _, d, v in self.verdicts if d == digest)
        return (verdict if n >= self.case.opening.params.m else None), n


def load(unit: Unit, id: bytes) -> File | None:
    """Read a case with all that belongs to it."""
    case = store.load(unit.tx, id)
    if case is None:
        return None
    parties = parties_of(case.opening.params)
    return File(
        case=case,
        receipts=store.receipts(unit.tx, id),
        ready=store.ready(unit.tx, id),
        verdicts=tuple((w, d, verdict_of(raw)) for w, d, raw in store.verdicts(unit.tx, id)),
        expected=decide(case.opening.params, id, unit.joined(case)),
        submissions={p: store.submitted(unit.tx, id, p)[0] for p in parties},
        deadline_us=unit.deadline_us(case),
        faults=tuple(fault_store.load(unit.tx, id)),
    )


def state_of(file: File, now_us: int) -> DisputeState:
    if file.case.state != "open":
        return file.case.state
    return "deciding" if file.deadline_us is not None and now_us >= file.deadline_us else "filed"


# --- a case ----------------------------------------------------------------------------------------------------------


def case_view(file: File, channel: Channel | None, me: PeerId, names: Names, now_us: int) -> DisputeView:
    case = file.case
    params = case.opening.params
    parties = parties_of(params)
    filer = case.filed_by
    other = next(p for p in parties if p != (me if case.seat == "party" else filer))
    state = state_of(file, now_us)
    must, by = _must_act(file, state, me, names)
    mine = channel.balance if channel is not None and case.seat == "party" else None
    theirs = channel.peer_balance if channel is not None and case.seat == "party" else None
    return DisputeView(
        channel_id=case.id.hex(),
        case_id=case.id.hex(),
        role=case.seat,
        peer_id=other,
        peer_name=names(other),
        filed_by=filer,
        filed_by_name=names(filer),
        filed_by_me=filer == me,
        state=state,
        reason=REASONS.get(channel.reason, channel.reason) if channel is not None else "",
        filed_at=case.filed_us // US,
        deadline_at=None if file.deadline_us is None else file.deadline_us // US,
        must_act=must,
        act_by=by,
        text=_text(file, state, must, by, me, names, now_us),
        mine_u=mine,
        theirs_u=theirs,
        choices=_choices(file, state, channel, me, names, now_us),
        witnesses=tuple(_witness(file, w, names) for w in witnesses_of(params)),
        needed=params.m,
        evidence_mine=file.submissions.get(me if case.seat == "party" else filer, 0),
        evidence_theirs=file.submissions.get(other, 0),
        verdict=verdict_view(file, me, names),
        frauds=tuple(fraud_view(row, names) for row in file.faults),
    )


def action(file: File, me: PeerId, names: Names, now_us: int) -> str:
    """One clause for the list of channels: who must act, by when."""
    must, by = _must_act(file, state_of(file, now_us), me, names)
    return f"{must} by {clock_time(by * US, now_us)}" if must and by else must


def _must_act(file: File, state: DisputeState, me: PeerId, names: Names) -> tuple[str, int | None]:
    case, params = file.case, file.case.opening.params
    missing = params.m - len(file.receipts)
    if state == "filed" and missing > 0:
        return f"{missing} more of {len(params.witnesses)} witnesses must take the case", None
    if state == "filed" and file.deadline_us is not None:
        other = next(p for p in parties_of(params) if p != case.filed_by)
        who = "you" if other == me else names(other)
        return f"{who} may show evidence", file.deadline_us // US
    if state == "deciding" and file.deadline_us is not None:
        signed = file.binding()[1]
        return (
            f"{params.m - signed} more of {len(params.witnesses)} witnesses must sign",
            (file.deadline_us + VERDICT_GRACE_US) // US,
        )
    return "", None


def _text(file: File, state: DisputeState, must: str, by: int | None, me: PeerId, names: Names, now_us: int) -> str:
    party = file.case.seat == "party"
    when = clock_time(by * US, now_us) if by else ""
    match state:
        case "filed" if by is None:
            return f"{_sentence(must)}; each is told as soon as it is online."
        case "filed" if not party:
            return (
                f"Evidence is taken until {when}. Then this node signs a verdict by itself; you need not do anything."
            )
        case "filed" if file.case.filed_by == me:
            return f"{_sentence(must)} until {when}; then the witnesses decide on what was shown."
        case "filed":
            return (
                f"{names(file.case.filed_by)} brought this channel before its witnesses. This node has shown all it holds; you "
                f"may add evidence until {when}."
            )
        case "deciding":
            return f"The time for evidence is over. {_sentence(must)}, at the latest by {when}."
        case "decided":
            verdict = verdict_view(file, me, names)
            return verdict.text if verdict is not None else ""
        case "settled":
            return "Both sides signed the closing balances; the witnesses had nothing to decide."
        case _:
            return "The witnesses did not agree in time; each side has booked what its own record says, as a claim."


def _sentence(clause: str) -> str:
    """Who must act, at the beginning of a sentence: a name stays as it is written."""
    return f"Y{clause[1:]}" if clause.startswith("you ") else clause


def _choices(
    file: File, state: DisputeState, channel: Channel | None, me: PeerId, names: Names, now_us: int
) -> tuple[ChoiceView, ...]:
    if channel is None or not channel.open or file.case.seat != "party" or state not in ("filed", "deciding"):
        return ()
    side = side_of(file.case.opening.params, me)
    expected = (file.expected.bal_lo, file.expected.bal_hi)[side]
    own, other = channel.balance, names(channel.peer)
    choices = [
        ChoiceView(
            key="wait",
            title="Wait for the witnesses",
            text=f"On what was shown so far you get {format_amount(expected)}. What {other} still shows may change that.",
            mine_u=expected,
            cost_u=own - expected,
        ),
        ChoiceView(
            key="agree",
            title="Close together after all",
            text=f"If {other} comes online and signs, the channel closes at once on the balances of both, "
            f"{format_amount(own)} for you, and the witnesses have nothing to decide.",
            mine_u=own,
            cost_u=0,
        ),
    ]
    if state == "filed":
        until = f" until {clock_time(file.deadline_us, now_us)}" if file.deadline_us else ""
        choices.append(
            ChoiceView(
                key="evidence",
                title="Add evidence",
                text=f"Possible{until}. This node has shown all it holds by itself. A payment of {other} that you show binds you "
                "to what it acknowledges of yours.",
                mine_u=max(expected, own),
                cost_u=min(own - expected, 0),
            )
        )
    return tuple(choices)


def _witness(file: File, peer: PeerId, names: Names) -> WitnessView:
    binding, _ = file.binding()
    said = next((v for w, _, v in file.verdicts if w == peer), None)
    heard = file.receipts.get(peer)
    return WitnessView(
        peer_id=peer,
        name=names(peer),
        state="signed" if said else "ready" if peer in file.ready else "heard" if heard is not None else "silent",
        heard_at=None if heard is None else heard // 1000,
        agrees=None if said is None or binding is None else said == binding,
    )


def verdict_view(file: File, me: PeerId, names: Names) -> VerdictView | None:
    """The binding verdict, else what would be decided now; None where the two sides agreed."""
    if file.case.state == "settled":
        return None
    params = file.case.opening.params
    lo, hi = parties_of(params)
    binding, signatures = file.binding()
    verdict = binding or file.expected
    mine = theirs = None
    if file.case.seat == "party":
        balances = (verdict.bal_lo, verdict.bal_hi)
        side = side_of(params, me)
        mine, theirs = balances[side], balances[1 - side]
    who_lo, who_hi = ("you" if p == me else names(p) for p in (lo, hi))
    split = (
        f"{who_lo} get{'' if lo == me else 's'} {format_amount(verdict.bal_lo)}, "
        f"{who_hi} get{'' if hi == me else 's'} {format_amount(verdict.bal_hi)}"
    )
    faults_said = tuple(_fault(fault, params, me, names) for fault in verdict.faults)
    text = (
        f"{signatures} of {len(params.witnesses)} witnesses decided: {split}. This settles what is owed; nothing was paid out."
        if binding
        else f"On the evidence shown so far: {split}. {params.m} equal verdicts are needed."
    )
    return VerdictView(
        channel_id=file.case.id.hex(),
        final=binding is not None,
        signatures=signatures,
        needed=params.m,
        lo_peer_id=lo,
        hi_peer_id=hi,
        lo_u=verdict.bal_lo,
        hi_u=verdict.bal_hi,
        mine_u=mine,
        theirs_u=theirs,
        faults=faults_said,
        signed_by_me=any(w == me for w, _, _ in file.verdicts),
        text=" ".join((text, *faults_said)),
    )


def _fault(fault: Fault, params: Params, me: PeerId, names: Names) -> str:
    peer = parties_of(params)[fault.side]
    return f"{'You' if peer == me else names(peer)} {FAULTS[fault.kind]}."


def fraud_view(row: FaultRow, names: Names, with_file: bool = False) -> FraudView:
    proof = faults.find(row.docs) if row.proven else None
    return FraudView(
        culprit=row.culprit,
        culprit_name=names(row.culprit),
        kind=row.kind,  # type: ignore[arg-type]
        channel_id=row.channel.hex(),
        words=proof.words if proof is not None else f"It {FAULTS[row.kind]}.",  # type: ignore[index]
        proven=proof is not None,
        at=row.at_us // US,
        until=row.until_us // US,
        file=faults.as_file(proof) if proof is not None and with_file else {},
    )


# --- a channel without a case ----------------------------------------------------------------------------------------


def channel_view(channel: Channel, me: PeerId, names: Names, now_us: int) -> DisputeView:
    """A disputed channel without witnesses, or what a dispute of one in use would mean."""
    c, other = channel, names(channel.peer)
    disputed = c.state is State.DISPUTED
    ends = resolved_at(c) if disputed else None
    text = "This channel is not disputed. What a job on it returned is disputed at the job (3, then D)."
    if disputed:
        text = (
            f"No witnesses were named at the opening. Unless {other} signs the closing before {clock_time(ends or 0, now_us)}, "
            "each side books what its own record says, as a claim, and gives the other no more credit."
        )
    return DisputeView(
        channel_id=c.id.hex(),
        case_id="",
        role="party",
        peer_id=c.peer,
        peer_name=other,
        filed_by="",
        state="own record" if disputed else "none",
        reason=REASONS.get(c.reason, c.reason) if disputed else "",
        filed_at=c.since_us // US if disputed else 0,
        deadline_at=ends // US if ends else None,
        must_act=f"{other} must sign the closing" if disputed else "",
        act_by=ends // US if ends else None,
        text=text,
        mine_u=c.balance,
        theirs_u=c.peer_balance,
        choices=_plain_choices(c, other, disputed, now_us) if c.open else (),
        needed=c.params.m,
    )


def _plain_choices(c: Channel, other: str, disputed: bool, now_us: int) -> tuple[ChoiceView, ...]:
    own = format_amount(c.balance)
    together = ChoiceView(
        key="agree",
        title="Close together",
        text=f"{other} signs the same balances, {own} for you. It costs nothing and takes no time if {other} is online.",
        mine_u=c.balance,
        cost_u=0,
    )
    hours = c.params.challenge_s // 3600
    if disputed:
        return (
            together,
            ChoiceView(
                key="wait",
                title="Wait",
                text=f"At {clock_time(resolved_at(c), now_us)} the channel closes on your own record: a claim of {own} that "
                f"{other} has not signed.",
                mine_u=c.balance,
                cost_u=0,
            ),
        )
    if c.params.witnesses:
        n, m = len(c.params.witnesses), c.params.m
        return (
            together,
            ChoiceView(
                key="file",
                title="Dispute before the witnesses",
                text=f"No more payments on this channel. {other} has {hours} hours to show evidence, then {m} of {n} witnesses "
                "decide for both. It cannot be taken back, but you can still close together.",
                mine_u=c.balance,
                cost_u=0,
            ),
        )
    return (
        together,
        ChoiceView(
            key="unilateral",
            title="Close without the peer",
            text=f"No more payments on this channel, and nobody decides: after {hours} hours each side books its own record as a "
            f"claim, yours {own}, and gives the other no more credit. It cannot be taken back.",
            mine_u=c.balance,
            cost_u=0,
        ),
    )
