"""Verifying a statement with nothing but the file: signatures, the chains of payments, balances, sums. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import msgspec

from zstui.engine.channels.discharges.messages import Discharge, discharge_id
from zstui.engine.channels.disputes.messages import Verdict
from zstui.engine.channels.disputes.model import witnesses_of
from zstui.engine.channels.messages import (
    Close,
    OpenAccept,
    OpenConfirm,
    Params,
    Pay,
    Settle,
    channel_id,
    check_opening,
    read,
    take,
)
from zstui.engine.channels.state import Half, balances
from zstui.engine.channels.statements.build import VERSION
from zstui.engine.errors import BadInput, ProtocolError
from zstui.engine.identity.envelope import Signed
from zstui.engine.identity.keys import PeerId, public_key_of
from zstui.engine.money import format_amount
from zstui.engine.views import CheckView, StatementChannel, StatementDischarge, StatementView


def verify_statement(content: Mapping[str, object]) -> list[CheckView]:
    """One check a channel and a discharge, and one for the sums. Never raises on bad content."""
    try:
        statement = msgspec.convert(content, StatementView)
        if statement.zerostate_statement != VERSION:
            raise BadInput("it was written by another version of zstui")
    except (msgspec.MsgspecError, BadInput, ValueError) as error:
        return [CheckView(name="statement", ok=False, detail=f"Not a statement that can be read: {error}")]
    checks: list[CheckView] = []
    moved: dict[PeerId, int] = {}
    for channel in statement.channels:
        checks.append(_check(f"channel {channel.channel_id[:8]}", _channel(statement.owner, channel)))
        if channel.state == "closed":
            moved[channel.peer_id] = moved.get(channel.peer_id, 0) + channel.received_u - channel.paid_u
    for discharge in statement.discharges:
        checks.append(_check(f"discharge {discharge.discharge_id[:8]}", _discharge(statement.owner, discharge)))
        amount = -discharge.amount_u if discharge.owed_to_me else discharge.amount_u
        moved[discharge.peer_id] = moved.get(discharge.peer_id, 0) + amount
    checks.append(_check("sums", _sums(statement, moved)))
    return checks


def _check(name: str, steps: Iterator[str]) -> CheckView:
    """Run a check to its end: what it yields is what was found to be right, what it raises is what is wrong."""
    found: list[str] = []
    try:
        for step in steps:
            found.append(step)
    except (ProtocolError, BadInput, ValueError) as error:
        return CheckView(name=name, ok=False, detail=str(error))
    return CheckView(name=name, ok=True, detail=", ".join(found))


def _channel(owner: PeerId, c: StatementChannel) -> Iterator[str]:
    id = bytes.fromhex(c.channel_id)
    params = _opened(id, owner, c)
    mine_low = public_key_of(owner) == params.pk_lo
    deposits = (params.dep_lo, params.dep_hi) if mine_low else (params.dep_hi, params.dep_lo)
    _same("the deposits", (c.deposit_mine_u, c.deposit_theirs_u), deposits)
    _same("the channel's number", c.epoch, params.epoch)
    yield "both signed its opening"
    settle, verdict = _settled(id, owner, c), _decided(id, params, c)
    if verdict is not None:
        counted = (verdict.cum_lo, verdict.cum_hi) if mine_low else (verdict.cum_hi, verdict.cum_lo)
        _same("what the witnesses counted", (c.paid_u, c.received_u), counted)
    halves = []
    for who, signer, raws, seq, cum in (
        ("the owner", owner, c.pays_mine, c.sequence, c.paid_u),
        ("the peer", c.peer_id, c.pays_theirs, c.sequence_theirs, c.received_u),
    ):
        if seq and not raws and (settle is not None or verdict is not None):
            yield f"payments of {who} are not in the file"
            halves.append(Half(seq, cum, b""))
            continue
        half = _chain(id, signer, raws)
        _same(f"what {who} paid", (seq, cum), (half.seq, half.cum if verdict is None else cum))
        halves.append(half)
        yield f"{half.seq} payments of {who}"
    mine, theirs = halves
    for spent, deposit, got in ((mine.cum, deposits[0], theirs.cum), (theirs.cum, deposits[1], mine.cum)):
        if spent > deposit + got:
            raise BadInput("A side paid more than it had.")
    for name, signer, half in (("close_mine", owner, mine), ("close_theirs", c.peer_id, theirs)):
        raw = c.documents.get(name)
        if raw is not None and (half.head or verdict is None):
            close = read(_signed(raw, signer), Close)
            end = (half.seq, half.cum, half.head or close.my_head)
            _same("where a side's Close ends", (close.ch, close.my_seq, close.my_cum, close.my_head), (id, *end))
    if settle is None:
        if c.state == "closed" and c.reason == "cooperative":
            raise BadInput("It is called closed by agreement, and the balances that both signed are missing.")
        if verdict is None:
            yield "not settled by both"
        else:
            got = verdict.bal_lo if mine_low else verdict.bal_hi
            yield f"{params.m} of {len(params.witnesses)} witnesses signed {format_amount(got)} as the owner's end balance"
        return
    lo, hi = (mine, theirs) if mine_low else (theirs, mine)
    _same("the final balances", (settle.bal_lo, settle.bal_hi), balances(params.dep_lo, params.dep_hi, lo.cum, hi.cum))
    final = settle.final
    for half, end in (
        (lo, (final.seq_lo, final.cum_lo, final.head_lo)),
        (hi, (final.seq_hi, final.cum_hi, final.head_hi)),
    ):
        _same("where the payments end", (half.seq, half.cum, half.head or end[2]), end)
    yield f"both signed {format_amount(settle.bal_lo if mine_low else settle.bal_hi)} as the owner's end balance"


def _opened(id: bytes, owner: PeerId, c: StatementChannel) -> Params:
    """What both signed. Raises where one did not."""
    accept, confirm = c.documents.get("accept"), c.documents.get("confirm")
    if accept is None or confirm is None:
        raise BadInput("The signatures under its opening are missing.")
    first, second = take(accept), take(confirm)
    agreed, consent = read(first, OpenAccept), read(second, OpenConfirm)
    if {first.signer, second.signer} != {owner, c.peer_id}:
        raise BadInput("Its opening is not signed by the owner and this peer.")
    if sorted((public_key_of(owner), public_key_of(c.peer_id))) != [agreed.params.pk_lo, agreed.params.pk_hi]:
        raise BadInput("It was opened between others.")
    _same("its id", (channel_id(agreed.params), consent.id), (id, id))
    check_opening(public_key_of(first.signer), id, agreed.sig)
    check_opening(public_key_of(second.signer), id, consent.sig)
    return agreed.params


def _settled(id: bytes, owner: PeerId, c: StatementChannel) -> Settle | None:
    mine, theirs = c.documents.get("settle_mine"), c.documents.get("settle_theirs")
    if mine is None or theirs is None:
        return None
    one, two = read(_signed(mine, owner), Settle), read(_signed(theirs, c.peer_id), Settle)
    _same("the balances that each side signed", one, two)
    _same("the channel they are for", one.ch, id)
    return one


def _decided(id: bytes, params: Params, c: StatementChannel) -> Verdict | None:
    """What enough of the channel's witnesses signed alike; None for a channel that is not closed by a verdict."""
    if (c.state, c.reason) != ("closed", "verdict"):
        return None
    votes: dict[Verdict, set[PeerId]] = {}
    for name, raw in c.documents.items():
        if name.startswith("verdict_"):
            signed = take(raw)
            verdict = read(signed, Verdict)
            if verdict.ch == id and signed.signer in witnesses_of(params):
                votes.setdefault(verdict, set()).add(signed.signer)
    for verdict, signers in votes.items():
        if len(signers) >= params.m:
            balance = balances(params.dep_lo, params.dep_hi, verdict.cum_lo, verdict.cum_hi)
            _same("the balances that were decided", (verdict.bal_lo, verdict.bal_hi), balance)
            return verdict
    raise BadInput("It is called decided by its witnesses, and too few of their signatures are here.")


def _chain(id: bytes, signer: PeerId, raws: tuple[bytes, ...]) -> Half:
    """Every payment follows on the one before it. Raises at the first that does not."""
    half = Half.start(id)
    for raw in raws:
        signed = _signed(raw, signer)
        pay = read(signed, Pay)
        if (pay.ch, pay.seq, pay.prev) != (id, half.seq + 1, half.head):
            raise BadInput(f"Payment {half.seq + 1} does not follow on the one before it.")
        if pay.cum != half.cum + sum(line.amount_u for line in pay.lines):
            raise BadInput(f"Payment {pay.seq} has a total that is not the sum of its lines.")
        half = half.after(pay, signed.digest)
    return half


def _discharge(owner: PeerId, d: StatementDischarge) -> Iterator[str]:
    mine, theirs = _signed(d.mine, owner), _signed(d.theirs, d.peer_id)
    if mine.body != theirs.body or discharge_id(mine).hex() != d.discharge_id:
        raise BadInput("The two sides did not sign the same.")
    body = read(mine, Discharge)
    creditor, debtor = (owner, d.peer_id) if d.owed_to_me else (d.peer_id, owner)
    _same("who owed whom", (body.creditor, body.debtor), (public_key_of(creditor), public_key_of(debtor)))
    _same("the amount", body.amount_u, d.amount_u)
    yield f"both signed that {format_amount(d.amount_u)} was paid outside"


def _sums(statement: StatementView, moved: dict[PeerId, int]) -> Iterator[str]:
    _same("what is owed by these channels and discharges", statement.moved_u, moved)
    left: Counter[tuple[str, int, str, str]] = Counter()
    least, most = statement.from_at or 0, statement.to_at or 2**40
    for c in statement.channels:
        for direction, raws in (("paid", c.pays_mine), ("received", c.pays_theirs)):
            for raw in raws:
                pay = read(take(raw), Pay)
                if least <= pay.issued_ms // 1000 <= most:
                    for line in pay.lines:
                        left[c.channel_id, pay.seq, direction, line.ref.hex()] += line.amount_u
    for d in statement.discharges:
        left["", 0, "received" if d.owed_to_me else "paid", d.discharge_id] += d.amount_u
    for row in statement.payments:
        key = (row.channel_id, row.sequence, row.direction, row.ref)
        left[key] -= row.amount_u
        if left[key] < 0:
            raise BadInput(f"The list names {format_amount(row.amount_u)} {row.direction} that nobody signed.")
    if missing := sum(left.values()):
        raise BadInput(f"The list leaves out {format_amount(missing)} that was signed.")
    total = sum(moved.values())
    yield f"{len(statement.payments)} entries, {format_amount(abs(total))} {'owed to' if total >= 0 else 'owed by'} the owner"


def _signed(raw: bytes, signer: PeerId) -> Signed:
    signed = take(raw)
    if signed.signer != signer:
        raise BadInput(f"A {signed.kind} is not signed by the one it is said to be from.")
    return signed


def _same(what: str, said: object, proven: object) -> None:
    if said != proven:
        raise BadInput(f"The file is wrong about {what}.")
