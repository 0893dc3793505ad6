"""What the fake engine answers about money: disputes, discharges, the ledger, statements, decisions, rehearsals, backups."""

from __future__ import annotations

import hashlib
import time
from typing import Literal

import msgspec

from tests.support.samples import HOSTILE, NORTH, SOUTH, WEST, hex_id
from zstui.engine import commands as c
from zstui.engine import views as v

WitnessState = Literal["silent", "heard", "ready", "signed"]


def slice_of(request: v.ApprovalView, **fields: object) -> v.ApprovalView:
    """The same request as a debit note of a job that still runs."""
    note: dict[str, object] = {
        "kind": "note",
        "no": 3,
        "exit_code": None,
        "paid_before_u": 8_000_000,
        "amount_u": 4_500_000,
        "job_left_u": 17_500_000,
        "after_u": 79_750_000,
        "peer_after_u": 20_250_000,
    }
    return msgspec.structs.replace(request, **(note | fields))


def no_dispute(channel: v.ChannelView) -> v.DisputeView:
    """What a dispute of a channel in use would mean."""
    name, mine = channel.peer_name, channel.mine_u
    against: Literal["file", "unilateral"] = "file" if channel.witnesses else "unilateral"
    return v.DisputeView(
        channel_id=channel.channel_id,
        case_id="",
        role="party",
        peer_id=channel.peer_id,
        peer_name=name,
        filed_by="",
        state="none",
        filed_at=0,
        text="This channel is not disputed.",
        mine_u=mine,
        theirs_u=channel.theirs_u,
        needed=channel.witnesses_needed,
        choices=(
            v.ChoiceView(
                key="agree", title="Close together", text=f"{name} signs the same balances.", mine_u=mine, cost_u=0
            ),
            v.ChoiceView(
                key=against,
                title="Dispute before the witnesses" if channel.witnesses else "Close without the peer",
                text="No more payments on this channel. It cannot be taken back.",
                mine_u=mine,
                cost_u=0,
            ),
        ),
    )


def complaint(job: v.JobView, state: v.DisputeState) -> v.DisputeView:
    """About the output of a job: of mine as its payer, of another's as its executor."""
    now = int(time.time())
    choices: tuple[v.ChoiceView, ...] = ()
    if not job.mine and state == "upheld":
        choices = (
            v.ChoiceView(key="refund", title="Return 1.200", text="A payment.", mine_u=0, cost_u=1_200_000),
            v.ChoiceView(key="refuse", title="Return nothing", text="A fault.", mine_u=1_200_000, cost_u=0),
        )
    return v.DisputeView(
        kind="output",
        channel_id="c1" * 32,
        case_id=hashlib.sha256(job.job_id.encode()).hexdigest(),
        job_id=job.job_id,
        module=job.module,
        refund_u=1_200_000,
        request_id="9e" * 32 if choices else "",
        role="party",
        peer_id=(job.executor or "") if job.mine else job.submitter,
        peer_name=job.executor_name if job.mine else job.submitter_name,
        filed_by=job.submitter,
        filed_by_name=job.submitter_name,
        filed_by_me=job.mine,
        state=state,
        reason=f"the output of {job.module} is said to be wrong",
        filed_at=now - 60,
        deadline_at=now + 80_000 if state == "filed" else None,
        must_act="3 more of 4 witnesses must run it again and agree" if state == "filed" else "you must return 1.200",
        act_by=now + 80_000,
        text="The witnesses run the job again by themselves.",
        choices=choices,
        witnesses=tuple(v.WitnessView(peer_id=f"w{n}", name=f"witness{n}", state="heard") for n in range(4)),
        needed=3,
    )


def filed(channel: v.ChannelView, by_me: bool) -> v.DisputeView:
    """A dispute before four witnesses of which one is silent; evidence is taken for another hour."""
    now = int(time.time())
    name, mine = channel.peer_name, channel.mine_u
    names = {NORTH: "north", SOUTH: "south", WEST: "west", HOSTILE: "bad"}
    states: tuple[WitnessState, ...] = ("heard", "heard", "ready", "silent")
    return v.DisputeView(
        channel_id=channel.channel_id,
        case_id=channel.channel_id,
        role="party",
        peer_id=channel.peer_id,
        peer_name=name,
        filed_by=channel.peer_id,
        filed_by_name="me" if by_me else name,
        filed_by_me=by_me,
        state="filed",
        reason="closed without the peer",
        filed_at=now - 600,
        deadline_at=now + 3600,
        must_act=f"{name} may show evidence" if by_me else "you may show evidence",
        act_by=now + 3600,
        text="Evidence is taken; then the witnesses decide on what was shown.",
        mine_u=mine,
        theirs_u=channel.theirs_u,
        choices=(
            v.ChoiceView(
                key="wait",
                title="Wait for the witnesses",
                text="More may be shown.",
                mine_u=mine - 500_000,
                cost_u=500_000,
            ),
            v.ChoiceView(key="agree", title="Close together after all", text="Both sign.", mine_u=mine, cost_u=0),
            v.ChoiceView(
                key="evidence", title="Add evidence", text="Binds you to what it acknowledges.", mine_u=mine, cost_u=0
            ),
        ),
        witnesses=tuple(
            v.WitnessView(
                peer_id=peer, name=names[peer], state=state, heard_at=None if state == "silent" else now - 300
            )
            for peer, state in zip(names, states, strict=True)
        ),
        needed=3,
        evidence_mine=1,
        evidence_theirs=0,
        verdict=v.VerdictView(
            channel_id=channel.channel_id,
            final=False,
            signatures=0,
            needed=3,
            lo_peer_id=channel.peer_id,
            hi_peer_id=NORTH,
            lo_u=channel.theirs_u + 500_000,
            hi_u=mine - 500_000,
            mine_u=mine - 500_000,
            theirs_u=channel.theirs_u + 500_000,
            text="On the evidence shown so far you get half a unit less.",
        ),
    )


def balances(channel: v.ChannelView) -> v.BalancesView:
    start = int(time.time()) - 7200
    steps = [channel.deposit_mine_u - n * (channel.deposit_mine_u - channel.mine_u) // 20 for n in range(21)]
    return v.BalancesView(
        channel_id=channel.channel_id,
        payments=channel.sequence + channel.sequence_theirs,
        mine_u=channel.mine_u,
        points=tuple(v.BalancePoint(at=start + 300 * n, mine_u=mine_u) for n, mine_u in enumerate(steps)),
    )


def ledger(known: list[v.PeerView]) -> list[v.LedgerView]:
    amounts = ((0, 1_500_000), (2_250_000, 0))
    return [
        v.LedgerView(peer_id=p.peer_id, peer_name=p.name, owed_to_me_u=to_me, i_owe_u=by_me, credit_limit_u=100_000_000)
        for p, (to_me, by_me) in zip(known, amounts, strict=False)
    ]


def discharge(key: str, **fields: object) -> v.DischargeView:
    now = int(time.time())
    base: dict[str, object] = {
        "discharge_id": hex_id("discharge" + key),
        "peer_id": SOUTH,
        "peer_name": "south",
        "amount_u": 1_250_000,
        "owed_to_me": True,
        "note": "bank transfer",
        "state": "waiting",
        "action": "you must sign or decline",
        "created_at": now - 60,
        "decided_at": None,
    }
    return v.DischargeView(**(base | fields))  # type: ignore[arg-type]


def statement(me: str, command: c.Statement) -> v.StatementView:
    now = int(time.time())
    row = v.PaymentRow(
        at=now - 60,
        peer_id=SOUTH,
        channel_id=hex_id("south"),
        direction="paid",
        what="receipt",
        sequence=1,
        amount_u=12_500_000,
        ref=hex_id("receipt1"),
    )
    return v.StatementView(
        zerostate_statement=1,
        owner=me,
        made_at=now,
        from_at=command.from_at,
        to_at=command.to_at,
        channels=(),
        discharges=(),
        payments=(row,),
        moved_u={},
    )


def decisions() -> list[v.DecisionView]:
    now = int(time.time())
    told = (("paid", "acknowledged", "the peer acknowledged it"), ("ask", "no-grant", "no grant covers it"))
    return [
        v.DecisionView(
            at=now - n,
            request_id=hex_id("receipt1"),
            peer_id=SOUTH,
            peer_name="south",
            amount_u=12_500_000,
            decision=decision,
            rule=rule,
            why=why,
            kind="note",
            job_id=hex_id("done"),
            module="blur.wasm",
        )
        for n, (decision, rule, why) in enumerate(told)
    ]


def rehearsal(command: c.RehearsePolicy) -> v.RehearsalView:
    """Forty payments of a unit each, of which those within the limits of ``command`` would be paid."""
    paid = 30 if command.per_payment_u >= 1_000_000 else 0
    auto, ask = (v.RehearsedCount(number=n, amount_u=n * 1_000_000) for n in (paid, 40 - paid))
    none = v.RehearsedCount()
    example = v.RehearsedPayment(
        at=int(time.time()) - 86_400,
        request_id=hex_id("receipt1"),
        peer_id=SOUTH,
        peer_name="south",
        job_id=hex_id("done"),
        module="blur.wasm",
        amount_u=1_000_000,
        action="auto" if paid else "ask",
        rule="grant" if paid else "per-payment",
        why="within the grant" if paid else "above the grant's limit for one payment",
        became="paid",
        automatic=False,
    )
    return v.RehearsalView(
        days=command.days,
        payments=40,
        amount_u=40_000_000,
        auto=auto,
        ask=ask,
        block=none,
        was_auto=none,
        peers=(v.RehearsedPart(scope="peer", subject=SOUTH, name="south", auto=auto, ask=ask, block=none),),
        guilds=(),
        examples=(example,),
        grants=(),
    )


def backup(me: v.StatusView, command: c.Backup) -> v.BackupView:
    return v.BackupView(
        path=command.path,
        size_bytes=2_500_000,
        taken_at=int(time.time()),
        peer_id=me.peer_id,
        name=me.name,
        starts=3,
        channels=(),
        owed_to_me_u=me.owed_to_me_u,
        i_owe_u=me.i_owe_u,
    )
