"""Plain text for people: what one-shot commands print without ``--json``."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from zstui import job_text, network_text
from zstui.columns import Row, clock, short, table
from zstui.engine.money import format_amount
from zstui.engine.views import (
    ApprovalView,
    BackupView,
    BalancesView,
    BatchView,
    CalibrationView,
    ChannelView,
    CollectedView,
    DecisionView,
    DischargeView,
    DisputeView,
    FraudView,
    GuildMessageView,
    GuildView,
    HeardView,
    InviteDetailView,
    InviteView,
    IssuedInviteView,
    JobView,
    KnockView,
    LedgerView,
    NetworkView,
    PeerDetailView,
    PeerView,
    PolicyView,
    RankView,
    RehearsalView,
    RehearsedCount,
    RouteView,
    StatusView,
    VerdictView,
    WorkView,
)
from zstui.qr import half_blocks


def _peer(v: PeerView) -> Row:
    rtt = "-" if v.rtt_ms is None else f"{v.rtt_ms:.1f} ms"
    why = "; ".join(filter(None, (v.why, hearsay(v.heard))))
    return v.name, short(v.peer_id), v.address or "-", v.state, v.path or "-", rtt, f"{v.score:.2f}", why


def hearsay(v: HeardView | None) -> str:
    """What others say of a peer, as a clause; "" if nothing."""
    if v is None:
        return ""
    if not v.issuers:
        return f"spoken of by {_peers(v.uncounted)} that nobody you know vouches for"
    return f"by hearsay of {_peers(v.issuers)}: {v.done} jobs done, {v.failed} failed"


def _peers(count: int) -> str:
    return "1 peer" if count == 1 else f"{count} peers"


def _guild(v: GuildView) -> Row:
    state = f"{v.state}, heard from the network" if v.state == "seen" and v.heard_at else v.state
    return v.name, v.guild_id[:8], v.role or "-", f"{v.member_count}/{v.max_members}", clock(v.expires_at), state


def _channel(v: ChannelView) -> Row:
    mine, theirs = format_amount(v.mine_u), format_amount(v.theirs_u)
    return v.channel_id[:8], v.peer_name, v.state, mine, theirs, str(v.sequence), clock(v.expires_at), v.action


def _approval(v: ApprovalView) -> Row:
    verified = "verified" if v.verified else "NOT VERIFIED"
    amount, after = format_amount(v.amount_u), format_amount(v.after_u)
    due = clock(v.expires_at) if v.state == "waiting" else "-"
    return v.request_id[:8], v.peer_name, v.job_id[:8], v.module, amount, after, verified, v.state, due, v.why


def _rank(v: RankView) -> Row:
    until = f"blacklisted until {clock(v.blacklisted_until)}" if v.blacklisted_until else ""
    until = "; ".join(
        filter(None, (until, *(f"in guild {b.guild_id[:8]} until {clock(b.until)}" for b in v.guild_blocks)))
    )
    cost, average = format_amount(v.avg_cost_u), f"{v.avg_duration_us / 1e6:.2f} s"
    place = "-" if v.rank is None else str(v.rank)
    return place, v.name, short(v.peer_id), f"{v.score:.3f}", str(v.completed), str(v.failed), average, cost, until


def _dispute_row(v: DisputeView) -> Row:
    about = f"output of {v.module}" if v.kind == "output" else f"channel {v.channel_id[:8]}"
    role = f"witness ({v.filed_by_name} against {v.peer_name})" if v.role == "witness" else v.peer_name
    mine = format_amount(v.refund_u) if v.kind == "output" else "-" if v.mine_u is None else format_amount(v.mine_u)
    return v.key[:8], about, role, v.state, mine, clock(v.act_by or v.deadline_at), v.must_act or "nobody"


def _fraud_row(v: FraudView) -> Row:
    kind = v.kind.replace("_", " ").lower()
    return v.culprit_name, kind, v.channel_id[:8], "proven" if v.proven else "by verdict", clock(v.until), v.words


_LISTS: dict[type, tuple[Row, Callable[..., Row]]] = {
    PeerView: (("PEER", "KEY", "ADDRESS", "STATE", "PATH", "RTT", "SCORE", "WHY"), _peer),
    GuildView: (("GUILD", "ID", "ROLE", "MEMBERS", "UNTIL", "STATE"), _guild),
    JobView: (job_text.JOBS, job_text.job_row),
    BatchView: (job_text.BATCHES, job_text.batch_row),
    ChannelView: (("CHANNEL", "PEER", "STATE", "MINE", "THEIRS", "SEQ", "UNTIL", "ACTION"), _channel),
    ApprovalView: (
        ("REQUEST", "TO", "JOB", "MODULE", "AMOUNT", "AFTER", "RECEIPT", "STATE", "UNTIL", "WHY"),
        _approval,
    ),
    RankView: (("#", "PEER", "KEY", "SCORE", "DONE", "FAIL", "AVG", "COST", "NOTE"), _rank),
    DecisionView: (
        ("AT", "DECISION", "RULE", "TO", "AMOUNT", "FOR", "JOB", "WHY"),
        lambda v: (
            clock(v.at),
            v.decision,
            v.rule,
            v.peer_name,
            format_amount(v.amount_u),
            v.kind,
            v.job_id[:8] or "-",
            v.why,
        ),
    ),
    DischargeView: (
        ("DISCHARGE", "PEER", "AMOUNT", "PAID TO", "STATE", "AT", "NOTE", "ACTION"),
        lambda v: (
            v.discharge_id[:8],
            v.peer_name,
            format_amount(v.amount_u),
            "you" if v.owed_to_me else v.peer_name,
            v.state,
            clock(v.decided_at or v.created_at),
            v.note,
            v.action,
        ),
    ),
    DisputeView: (("CASE", "ABOUT", "WITH", "STATE", "AMOUNT", "UNTIL", "WHO MUST ACT"), _dispute_row),
    FraudView: (("PEER", "FAULT", "CHANNEL", "HOW", "PENALTY UNTIL", "WHAT"), _fraud_row),
    RouteView: (network_text.ROUTES, network_text.route),
    LedgerView: (
        ("PEER", "OWED TO ME", "I OWE", "CREDIT LIMIT"),
        lambda v: (
            v.peer_name,
            format_amount(v.owed_to_me_u),
            format_amount(v.i_owe_u),
            format_amount(v.credit_limit_u),
        ),
    ),
    KnockView: (
        ("PEER", "KEY", "GUILD", "AS", "SINCE", "ONLINE"),
        lambda v: (v.name, short(v.peer_id), v.guild_name, v.role, clock(v.asked_at), "yes" if v.online else "no"),
    ),
    IssuedInviteView: (
        ("INVITE", "BY", "USED", "UNTIL", "STATE", "CODE"),
        lambda v: (v.invite_id[:8], v.issuer_name, f"{v.used}/{v.uses}", clock(v.expires_at), v.state, v.code or "-"),
    ),
    GuildMessageView: (
        ("AT", "FROM", "TEXT"),
        lambda v: (clock(v.sent_at), "*" if v.system else v.sender_name, v.text),
    ),
}


def _status(v: StatusView) -> str:
    backed_up = clock(v.backed_up_at) if v.backed_up_at else "never"
    lines = [
        f"{v.name}  {v.peer_id}{'  PLAY MONEY' if v.demo else ''}",
        f"network   {v.network}",
        *([f"reached   {v.reachability}"] if v.reachability else []),
        *(f"address   {a}" for a in v.addresses),
        f"peers {v.peers}  guilds {v.guilds}  jobs running {v.jobs_running}  approvals waiting {v.approvals}",
        f"in channels {format_amount(v.balance_u)}  owed to me {format_amount(v.owed_to_me_u)}  "
        f"I owe {format_amount(v.i_owe_u)}",
        f"hash table {v.dht_contacts} contacts, {v.dht_records} records kept for others",
        *(
            f"{t.subject.ljust(12)} announced by {t.authors} peers; {t.mesh} of {t.peers} connected ones in the mesh"
            for t in v.topics
        ),
        f"home      {v.home}  (database {v.database_bytes / 1e6:.1f} MB, backed up {backed_up})",
        *(f"note      {n}" for n in v.notices),
    ]
    return "\n".join(lines)


def _invite(v: InviteView) -> str:
    uses = "1 use" if v.uses == 1 else f"{v.uses} uses"
    text = f"{v.invite}\nconfirmation code: {v.code}   valid until {clock(v.expires_at)}   {uses}"
    return "\n".join((*half_blocks(v.qr), text))


def _invite_detail(v: InviteDetailView) -> str:
    issuer = "" if v.issuer == v.creator else f"\ninvited by         {v.issuer_name}  {v.issuer}"
    addresses = "".join(f"\naddress            {a}" for a in v.addresses)
    code = "".join(f"{line}\n" for line in half_blocks(v.qr))
    return (
        f"{code}guild              {v.name}  {v.guild_id[:16]}\n"
        f"creator            {v.creator_name}  {v.creator}\n"
        f"key fingerprint    {v.fingerprint}{issuer}{addresses}\n"
        f"confirmation code  {v.code}\n"
        f"valid until        {clock(v.expires_at)}{', which is over' if v.expired else ''}"
        f"{f'{chr(10)}standing           {v.standing}' if v.standing else ''}"
    )


def _policy(v: PolicyView) -> str:
    grants = table(
        ("SCOPE", "SUBJECT", "PER PAYMENT", "PER DAY", "USED TODAY", "TOTAL", "USED", "UNTIL"),
        [
            (
                g.scope,
                short(g.subject) or "-",
                *map(format_amount, (g.per_payment_u, g.per_day_u, g.spent_day_u, g.total_u, g.spent_total_u)),
                clock(g.expires_at),
            )
            for g in v.grants
        ],
    )
    nothing = "No grants: every payment asks for a keypress." if not v.grants else grants
    return (
        f"{nothing}\namount must be typed above {format_amount(v.typed_above_u)}; credit limit "
        f"{format_amount(v.credit_member_u)} for guild members, {format_amount(v.credit_stranger_u)} for strangers"
    )


def _rehearsed(n: RehearsedCount) -> str:
    return f"{n.number} of {format_amount(n.amount_u)}"


def _rehearsal(v: RehearsalView) -> str:
    parts = table(
        ("", "NAME", "PAID", "ASKED", "BLOCKED"),
        [
            (p.scope, p.name or short(p.subject), *map(_rehearsed, (p.auto, p.ask, p.block)))
            for p in (*v.peers, *v.guilds)
        ],
    )
    examples = table(
        ("AT", "WOULD BE", "TO", "JOB", "MODULE", "AMOUNT", "WHY", "WAS"),
        [
            (
                clock(e.at),
                _WOULD[e.action],
                e.peer_name,
                e.job_id[:8],
                e.module,
                format_amount(e.amount_u),
                e.why,
                f"{e.became}{' automatically' if e.automatic else ''}",
            )
            for e in v.examples
        ],
    )
    return (
        f"last {v.days} days: {v.payments} payments of {format_amount(v.amount_u)} asked for\n"
        f"paid without asking {_rehearsed(v.auto)} (in truth {_rehearsed(v.was_auto)}), "
        f"asked {_rehearsed(v.ask)}, blocked {_rehearsed(v.block)}\n\n{parts}\n\n{examples}"
    )


_WOULD = {"auto": "paid", "ask": "asked", "block": "blocked"}


def _dispute(v: DisputeView) -> str:
    about = f"case {v.case_id[:16]}" if v.kind == "output" else f"channel {v.channel_id[:16]}"
    lines = [
        f"{about}  {'witnessed here' if v.role == 'witness' else f'with {v.peer_name}'}  {v.state}",
        *filter(None, [v.reason]),
        v.text,
    ]
    if v.deadline_at:
        lines.append(f"deadline  {clock(v.deadline_at)}")
    for w in v.witnesses:
        agrees = "" if w.agrees is None else ", as decided" if w.agrees else ", NOT as decided"
        lines.append(f"witness   {w.name}: {w.state}{agrees}")
    if v.verdict is not None:
        lines.append(f"verdict   {v.verdict.text}")
    for c in v.choices:
        cost = f"costs {format_amount(c.cost_u)}" if c.cost_u > 0 else "costs nothing"
        lines.append(f"you can   {c.title} ({format_amount(c.mine_u)} for you, {cost}): {c.text}")
    lines += [f"fraud     {f.culprit_name}: {f.words}" for f in v.frauds]
    return "\n".join(lines)


def _balances(v: BalancesView) -> str:
    rows = [(time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(p.at)), format_amount(p.mine_u)) for p in v.points]
    return table(("AT", "MINE"), [*rows, ("now", format_amount(v.mine_u))])


def render(result: object, element: type | None = None) -> str:
    """Any command's result as text. ``element`` names the rows of a list that may be empty."""
    if isinstance(result, list):
        kind = type(result[0]) if result else element
        head, row = _LISTS.get(kind or object, ((), lambda v: ()))
        return table(head, [row(v) for v in result])
    if isinstance(result, StatusView):
        return _status(result)
    if isinstance(result, NetworkView):
        return network_text.network(result)
    if isinstance(result, PeerDetailView):
        return network_text.peer_detail(result)
    if isinstance(result, BackupView):
        return (
            f"{result.path}  {result.size_bytes / 1e6:.1f} MB  {len(result.channels)} open channels\n"
            "Whoever has this file and its passphrase owns this node; keep both, apart from each other."
        )
    if isinstance(result, DisputeView):
        return _dispute(result)
    if isinstance(result, BalancesView):
        return _balances(result)
    if isinstance(result, WorkView):
        return job_text.work(result)
    if isinstance(result, CalibrationView):
        return job_text.calibration(result)
    if isinstance(result, CollectedView):
        return job_text.collected(result)
    if isinstance(result, VerdictView):
        return result.text
    if isinstance(result, PolicyView):
        return _policy(result)
    if isinstance(result, RehearsalView):
        return _rehearsal(result)
    if isinstance(result, InviteView):
        return _invite(result)
    if isinstance(result, InviteDetailView):
        return _invite_detail(result)
    if type(result) in _LISTS:
        head, row = _LISTS[type(result)]
        return table(head, [row(result)])
    return msgspec.json.format(msgspec.json.encode(result), indent=2).decode()
