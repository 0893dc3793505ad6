"""What a side of a disputed channel does: file, show all it holds, answer what is denied, carry out the verdict. Runs inside
a transaction.

All of it happens by itself: showing evidence costs nothing, and a side that sleeps can lose by a stale filing.
"""

from __future__ import annotations

from zstui.engine.channels import store as channel_store
from zstui.engine.channels.disputes import hearing, store
from zstui.engine.channels.disputes.messages import DisputeOpen, Evidence, Opening, Verdict
from zstui.engine.channels.disputes.model import check_filing, facts, parties_of, side_of, witnesses_of
from zstui.engine.channels.disputes.store import Case
from zstui.engine.channels.disputes.unit import Decision, Unit, everyone, parts_of, verdict_of
from zstui.engine.channels.messages import Ack, OpenAccept, OpenConfirm, Pay, Reestablish, read, take
from zstui.engine.channels.model import Channel
from zstui.engine.channels.state import State
from zstui.engine.errors import ChannelError, ProtocolError, Refused
from zstui.engine.identity.envelope import Signed
from zstui.engine.identity.keys import PeerId


def file(unit: Unit, channel: Channel) -> Case:
    """Bring a channel of mine before its witnesses. Nothing where it is there already."""
    case = store.load(unit.tx, channel.id)
    if case is not None:
        return case
    opening = opening_of(unit, channel)
    case = unit.save(Case(id=channel.id, seat="party", opening=opening, filed_by=unit.me, filed_us=unit.now_us))
    raw = unit.seal(DisputeOpen(channel.id, opening, own_documents(unit, channel)))
    store.add_submission(unit.tx, case.id, unit.me, raw, unit.now_us)
    unit.mail(everyone(case), case.id, raw)
    unit.notice("warning", f"A channel was brought before its {len(opening.params.witnesses)} witnesses.", case.id)
    _accuse(unit, case, channel)
    return case


def own_documents(unit: Unit, channel: Channel) -> tuple[bytes, ...]:
    """The best this node holds of both halves: the latest payment each way, and where each side closed."""
    tx, id = unit.tx, channel.id
    found = (
        channel_store.envelope(tx, id, channel_store.OUT, channel.out.seq),
        channel_store.envelope(tx, id, channel_store.IN, channel.inn.seq),
        channel_store.document(tx, id, "close", channel_store.OUT),
        channel_store.document(tx, id, "close", channel_store.IN),
    )
    return tuple(raw for raw in found if raw)


def settles(unit: Unit, channel: Channel) -> tuple[bytes, ...]:
    """Both sides' signed closing balances, if I hold them."""
    pair = [channel_store.document(unit.tx, channel.id, "settle", d) for d in (channel_store.OUT, channel_store.IN)]
    return tuple(raw for raw in pair if raw) if all(pair) else ()


def take_filing(unit: Unit, signed: Signed, message: DisputeOpen) -> Case:
    """The peer, or a witness for it, says that a channel of mine was brought before its witnesses."""
    channel = channel_store.load(unit.tx, message.ch)
    if channel is None or not channel.agreed or channel.params != message.opening.params:
        raise ProtocolError("A filing on a channel that is not on record here.")
    if signed.signer != channel.peer:
        raise ProtocolError("A filing by one who has no part in the channel.")
    case = store.load(unit.tx, message.ch)
    if case is None:
        check_filing(message.ch, message.opening)
        case = unit.save(
            Case(
                id=message.ch,
                seat="party",
                opening=message.opening,
                filed_by=signed.signer,
                filed_us=unit.now_us,
            )
        )
        if channel.open:
            unit.notice(
                "warning", "The peer brought a channel before its witnesses; this node shows all it holds.", case.id
            )
            unit.out.contest.add(case.id)
    _keep(unit, case, signed, message.docs, b"")
    refresh(unit, case, channel)
    return case


def take_evidence(unit: Unit, case: Case, signed: Signed, message: Evidence) -> None:
    """What the peer shows. Where it denies what I acknowledged, show that payment."""
    _keep(unit, case, signed, message.docs, message.denied)
    if message.denied and signed.signer != unit.me:
        answer = _answer(unit, case, message.denied)
        if answer is not None:
            submit(unit, case, (answer,))


def submit(unit: Unit, case: Case, docs: tuple[bytes, ...], denied: bytes = b"") -> None:
    """Show documents to the witnesses, as me. Raises ProtocolError where they are no evidence in this case, Refused."""
    if case.state != "open":
        raise Refused("This dispute is over; it takes no more evidence.")
    facts(case.opening.params, case.id, unit.me, docs, denied)
    if store.submitted(unit.tx, case.id, unit.me)[0] >= hearing.MAX_DIRECT:
        raise Refused(f"The witnesses take {hearing.MAX_DIRECT} submissions of one side, and all are used.")
    raw = unit.seal(Evidence(case.id, docs, denied))
    if store.add_submission(unit.tx, case.id, unit.me, raw, unit.now_us):
        unit.out.changed.add(case.id)
        unit.mail((*witnesses_of(case.opening.params), other_side(unit, case)), case.id, raw)


def refresh(unit: Unit, case: Case, channel: Channel) -> None:
    """Show what this node has come to hold since it last did; end the case where both sides have signed the balances."""
    if case.state != "open":
        return
    pair = settles(unit, channel)
    if channel.state is State.CLOSED and pair:
        submit(unit, case, pair)
        unit.end(case, "settled")
        return
    if channel.state is State.CLOSED:
        if channel.reason == "unresolved":
            unit.end(case, "unresolved")
        return
    shown = {raw for by, sub in store.submissions(unit.tx, case.id) if by == unit.me for raw in parts_of(sub)[0]}
    fresh = tuple(raw for raw in own_documents(unit, channel) if raw not in shown)
    if fresh and store.submitted(unit.tx, case.id, unit.me)[0] < hearing.MAX_DIRECT:
        submit(unit, case, fresh)
    unit.look_for_fraud(case)


def take_verdict(unit: Unit, case: Case, signed: Signed, message: Verdict) -> None:
    """Once m witnesses signed the same: carry it out, and see that the peer has it too."""
    digest = hearing.take_verdict(unit, case, signed, message)
    if not digest or case.state != "open":
        return
    case = unit.end(case, "decided")
    decision = decision_of(unit, case)
    if decision is not None:
        unit.out.decisions.append(decision)
    for _, d, raw in store.verdicts(unit.tx, case.id):
        if d.hex() == digest:
            unit.mail((other_side(unit, case),), case.id, raw)
    unit.look_for_fraud(case)
    hearing.blame_judged(unit, case)


def decision_of(unit: Unit, case: Case) -> Decision | None:
    """What the binding verdict means for me, if there is one."""
    digest = hearing.agreed(unit, case)
    if not digest:
        return None
    raw = next(raw for _, d, raw in store.verdicts(unit.tx, case.id) if d.hex() == digest)
    verdict = verdict_of(raw)
    cums = (verdict.cum_lo, verdict.cum_hi)
    side = side_of(case.opening.params, unit.me)
    return Decision(case.id, cums[side], cums[1 - side])


def other_side(unit: Unit, case: Case) -> PeerId:
    lo, hi = parties_of(case.opening.params)
    return hi if unit.me == lo else lo


def _keep(unit: Unit, case: Case, signed: Signed, docs: tuple[bytes, ...], denied: bytes) -> None:
    if case.state != "open" or store.has_submission(unit.tx, case.id, signed.raw):
        return
    facts(case.opening.params, case.id, signed.signer, docs, denied)
    number, size = store.submitted(unit.tx, case.id, signed.signer)
    if number < hearing.MAX_RELAYED and size + len(signed.raw) <= hearing.MAX_BYTES:
        store.add_submission(unit.tx, case.id, signed.signer, signed.raw, unit.now_us)
        unit.out.changed.add(case.id)
        unit.look_for_fraud(case)


def _accuse(unit: Unit, case: Case, channel: Channel) -> None:
    """Use the proof that the channel kept: fraud goes to everyone, a false acknowledgement before the witnesses."""
    kept = channel_store.evidence(unit.tx, channel.id)
    unit.look_for_fraud(case, tuple(raw for _, raw in kept))
    for reason, raw in kept:
        if reason == "false_ack":
            try:
                submit(unit, case, (), raw)
            except (ProtocolError, Refused):
                continue
            return


def _answer(unit: Unit, case: Case, denied: bytes) -> bytes | None:
    """The peer's own payment that I acknowledged in ``denied``."""
    signed = take(denied)
    if signed.signer != unit.me:
        return None
    match signed.kind:
        case "Pay":
            seq = read(signed, Pay).peer_seq
        case "Ack":
            seq = read(signed, Ack).seq
        case _:
            seq = read(signed, Reestablish).recv_seq
    return channel_store.envelope(unit.tx, case.id, channel_store.IN, seq)


def opening_of(unit: Unit, channel: Channel) -> Opening:
    """Params and both consents, from the stored Accept and Confirm."""
    mine, theirs = channel_store.OUT, channel_store.IN
    accepted = channel_store.document(unit.tx, channel.id, "accept", theirs if channel.proposer else mine)
    confirmed = channel_store.document(unit.tx, channel.id, "confirm", mine if channel.proposer else theirs)
    if accepted is None or confirmed is None:
        raise ChannelError("The channel was never fully opened; there is nothing to bring before witnesses.")
    by_responder = read(take(accepted), OpenAccept).sig
    by_proposer = read(take(confirmed), OpenConfirm).sig
    proposer_low = channel.proposer is channel.low
    lo, hi = (by_proposer, by_responder) if proposer_low else (by_responder, by_proposer)
    return Opening(channel.params, lo, hi)
