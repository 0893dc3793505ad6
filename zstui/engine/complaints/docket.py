"""What each message about a complaint changes, at its payer, its executor and its witnesses. Runs inside a transaction.

Messages may come in any order and any number of times; each is mail on record with the change that caused it.
"""

from __future__ import annotations

from collections import Counter

import msgspec

from zstui.engine.channels import store as channel_store
from zstui.engine.channels.closing import VERDICT_GRACE_US
from zstui.engine.channels.disputes import store as dispute_store
from zstui.engine.channels.disputes.faults import find
from zstui.engine.channels.disputes.messages import OutputVerdict, Taken
from zstui.engine.channels.disputes.model import parties_of, verdict_digest, witnesses_of
from zstui.engine.channels.disputes.party import opening_of
from zstui.engine.channels.disputes.protocol import Busy
from zstui.engine.channels.disputes.unit import Unit
from zstui.engine.channels.messages import read, take
from zstui.engine.complaints import store
from zstui.engine.complaints.messages import Complaint, Heard, RefundShown
from zstui.engine.complaints.model import Claim, State, check_refund, examine
from zstui.engine.complaints.store import Case, Seat
from zstui.engine.errors import ProtocolError, Refused
from zstui.engine.identity.envelope import Body, Signed
from zstui.engine.identity.keys import PeerId
from zstui.engine.money import format_amount

MAX_CASES = 64
"""Complaints under way that one node witnesses; beyond them the payer's node tries again later."""
MAX_CASES_OF_PEER = 4
MAX_A_DAY_OF_PEER = 32
"""Each may cost this node a whole run."""
DAY_US = 86_400_000_000


def everyone(case: Case) -> tuple[PeerId, ...]:
    return (case.payer, case.executor, *witnesses_of(case.params))


def judge_by(case: Case) -> int:
    """Until when a witness tries to run the job, Unix µs."""
    return case.filed_us + case.params.challenge_s * 1_000_000


def refund_by(case: Case) -> int:
    """Until when a refund is due, by the clock of whoever asks."""
    return case.decided_us + case.params.challenge_s * 1_000_000


def fault_at(case: Case) -> int:
    """When a missing refund is a fault: the executor may have heard of the verdict so much later than I."""
    return case.decided_us + 2 * case.params.challenge_s * 1_000_000


def unresolved_at(case: Case) -> int:
    return judge_by(case) + VERDICT_GRACE_US


# --- messages --------------------------------------------------------------------------------------------------------


def carry_out(unit: Unit, sender: PeerId, signed: Signed, body: Body) -> Body:
    """One verified message. Raises Busy, Refused, ProtocolError."""
    if isinstance(body, Complaint):
        _take_complaint(unit, sender, signed)
    else:
        assert isinstance(body, Heard | OutputVerdict | RefundShown)
        case = store.load(unit.tx, body.ch if isinstance(body, OutputVerdict) else body.case)
        if case is None:
            raise Busy("This case is not known here yet.")
        if sender not in everyone(case):
            raise Refused("Only the parties and witnesses of a case speak in it.")
        match body:
            case Heard():
                _need_witness(case, signed.signer)
                if body.complaint == case.digest and store.add_heard(unit.tx, case.id, signed.signer, body.time_ms):
                    unit.out.changed.add(case.id)
            case OutputVerdict():
                take_verdict(unit, case, signed, body)
            case RefundShown():
                _take_refund(unit, case, signed, body)
    return Taken(dispute_store.digest_of(signed.raw))


def file(unit: Unit, raw: bytes) -> Case:
    """Put a complaint of mine on record and on its way. One about the same job that is there already stays."""
    claim = examine(raw)
    held = store.load(unit.tx, claim.case)
    if held is not None:
        return held
    case = _enter(unit, claim, "payer", raw)
    unit.mail(everyone(case), case.id, raw)
    return case


def _take_complaint(unit: Unit, sender: PeerId, signed: Signed) -> None:
    claim = examine(signed.raw)
    witnesses = witnesses_of(claim.params)
    if sender not in (claim.payer, claim.executor, *witnesses):
        raise Refused("Only the parties and witnesses of a case speak in it.")
    if store.load(unit.tx, claim.case) is not None:
        return
    if unit.me in witnesses:
        _agree_to_judge(unit, claim)
        case = _enter(unit, claim, "witness", signed.raw)
        raw = unit.seal(Heard(case.id, case.digest, unit.now_ms))
        store.add_heard(unit.tx, case.id, unit.me, unit.now_ms)
        unit.mail((case.payer, case.executor), case.id, raw)
        unit.mail((p for p in everyone(case) if p not in (sender, case.payer)), case.id, signed.raw)
        unit.notice("info", f"This node runs {case.module} again as a witness: its payer disputes the output.", case.id)
    elif unit.me == claim.executor:
        case = _enter(unit, claim, "executor", signed.raw)
        unit.notice(
            "warning",
            f"The payer of {case.module} disputes its output; {len(witnesses)} witnesses run it again.",
            case.id,
        )
    else:
        raise Refused("This node has no part in that case.")


def _agree_to_judge(unit: Unit, claim: Claim) -> None:
    """Raises Refused where I never agreed to judge between these two, Busy where I have as much to do as I can."""
    if dispute_store.consented(unit.tx, claim.params.pk_lo, claim.params.pk_hi) < unit.now_ms:
        raise Refused("This node did not agree to witness between these two.")
    if (
        store.count_witnessed(unit.tx) >= MAX_CASES
        or store.count_witnessed(unit.tx, claim.payer) >= MAX_CASES_OF_PEER
        or store.count_witnessed(unit.tx, claim.payer, unit.now_us - DAY_US) >= MAX_A_DAY_OF_PEER
    ):
        raise Busy("This node hears as many complaints as it can.")


def _enter(unit: Unit, claim: Claim, seat: Seat, raw: bytes) -> Case:
    channel = read(take(raw), Complaint).ch
    unit.out.changed.add(claim.case)
    return store.insert(unit.tx, store.case_from(claim, seat, channel, unit.now_us), raw)


# --- verdicts --------------------------------------------------------------------------------------------------------


def sign(unit: Unit, id: bytes, verdict: OutputVerdict) -> None:
    """My verdict as a witness: once, whatever I find later."""
    case = store.load(unit.tx, id)
    if case is None or any(witness == unit.me for witness, _, _ in store.verdicts(unit.tx, case.id)):
        return
    raw = unit.seal(verdict)
    unit.mail(everyone(case), case.id, raw)
    take_verdict(unit, case, take(raw), verdict)


def take_verdict(unit: Unit, case: Case, signed: Signed, verdict: OutputVerdict) -> None:
    """Keep a witness's verdict; a second, different one is proof of fraud. Act once m of them say the same."""
    _need_witness(case, signed.signer)
    held = store.add_verdict(unit.tx, case.id, signed.signer, verdict_digest(verdict), signed.raw)
    if held != signed.raw and (proof := find((held, signed.raw))) is not None:
        unit.convict(proof)
    unit.out.changed.add(case.id)
    if case.state not in ("open", "unresolved"):
        return
    binding = agreed(unit, case)
    if binding is not None:
        _conclude(unit, case, binding)


def agreed(unit: Unit, case: Case) -> OutputVerdict | None:
    """The verdict on this very complaint that at least m witnesses signed."""
    rows = store.verdicts(unit.tx, case.id)
    counts = Counter(digest for _, digest, _ in rows)
    for digest, n in counts.items():
        raw = next(raw for _, d, raw in rows if d == digest)
        verdict = read(take(raw), OutputVerdict)
        refund_u = case.refund_u if verdict.finding == "upheld" else 0
        if n >= case.params.m and verdict.complaint == case.digest and verdict.refund_u == refund_u:
            return verdict
    return None


def _conclude(unit: Unit, case: Case, verdict: OutputVerdict) -> None:
    digest = verdict_digest(verdict)
    state: State = verdict.finding
    if state == "upheld" and case.returned_u >= case.refund_u:
        state = "refunded"  # the executor heard of the verdict before me
    case = _move(unit, msgspec.structs.replace(case, state=state, decided_us=unit.now_us, verdict=digest))
    if case.seat == "witness":
        return
    other = case.executor if case.seat == "payer" else case.payer
    for _, held, raw in store.verdicts(unit.tx, case.id):
        if held == digest:
            unit.mail((other,), case.id, raw)
    refund, m, n = format_amount(case.refund_u), case.params.m, len(case.params.witnesses)
    if verdict.finding == "upheld":
        who = "The executor is to return" if case.seat == "payer" else "You are to return"
        unit.notice(
            "warning", f"{m} of {n} witnesses found the output of {case.module} wrong. {who} {refund}.", case.id
        )
    else:
        found = "right" if verdict.finding == "rejected" else "not to be judged by running it again"
        unit.notice("info", f"{m} of {n} witnesses found the output of {case.module} {found}.", case.id)


# --- refunds and time ------------------------------------------------------------------------------------------------


def show_refund(unit: Unit, case_id: bytes) -> None:
    """At the executor: once the refund is signed, show it to everyone; where it came to count for nothing, it is due again."""
    case = store.load(unit.tx, case_id)
    line = channel_store.line_under(unit.tx, case_id, 0)
    if case is None or line is None:
        if case is not None and case.state == "refunded":
            _move(unit, msgspec.structs.replace(case, state="upheld"))
        return
    if case.state not in ("upheld", "unpaid"):
        return
    id, seq = line
    channel = channel_store.load(unit.tx, id)
    pay = channel_store.envelope(unit.tx, id, channel_store.OUT, seq)
    if channel is not None and pay is not None:
        unit.mail(everyone(case), case.id, unit.seal(RefundShown(case.id, opening_of(unit, channel), pay)))
    _move(unit, msgspec.structs.replace(case, state="refunded"))


def _take_refund(unit: Unit, case: Case, signed: Signed, shown: RefundShown) -> None:
    """A witness believes a refund that the executor signed; the payer what its channel credits."""
    if signed.signer != case.executor:
        raise ProtocolError("Only the executor shows its refund.")
    if case.seat != "witness":
        return
    if case.state in ("open", "unresolved"):
        raise Busy("There is no verdict yet.")
    check_refund(shown, case.executor, case.payer, case.verdict, case.refund_u)
    if case.state in ("upheld", "unpaid"):
        _move(unit, msgspec.structs.replace(case, state="refunded"))


def expire(unit: Unit, id: bytes) -> None:
    """Carry out what the time of day asks of one case."""
    case = store.load(unit.tx, id)
    if case is None:
        return
    if case.state == "open" and unit.now_us >= unresolved_at(case):
        unit.notice("warning", f"Too few witnesses judged the output of {case.module}; nothing follows.", case.id)
        _move(unit, msgspec.structs.replace(case, state="unresolved"))
    elif case.state == "upheld" and unit.now_us >= fault_at(case):
        why = f"it did not return {format_amount(case.refund_u)} for a wrong output"
        unit.judge(case.executor, "NO_REFUND", case.id, why, parties_of(case.params))
        _move(unit, msgspec.structs.replace(case, state="unpaid"))


def next_deadline(case: Case) -> int | None:
    """When ``expire`` has something to do, Unix µs."""
    match case.state:
        case "open":
            return unresolved_at(case)
        case "upheld":
            return fault_at(case)
        case _:
            return None


def _move(unit: Unit, case: Case) -> Case:
    unit.out.changed.add(case.id)
    return store.change(unit.tx, case)


def _need_witness(case: Case, peer: PeerId) -> None:
    if peer not in witnesses_of(case.params):
        raise ProtocolError("Only a witness of the case says this.")
