"""``zstui channel ...``, ``approve ...`` and ``policy ...``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from zstui.arguments import disputes
from zstui.arguments.types import Family, Verb, amount, date, duration
from zstui.engine import commands as c


def add(family: Family, verb: Verb) -> None:
    channel = family("channel", "payment channels")
    opened = verb(
        channel,
        "open",
        "open a channel; the deposit is a promise, not a payment",
        lambda a: c.OpenChannel(
            peer=a.peer,
            amount_u=a.amount,
            theirs_u=a.theirs,
            expires_s=a.expires,
            witnesses=a.witnesses,
            driver=a.driver,
        ),
    )
    opened.add_argument("peer")
    opened.add_argument("amount", type=amount)
    opened.add_argument("--driver", choices=("ledger", "manual"), default="ledger", help="how debts are settled")
    opened.add_argument("--theirs", type=amount, default=0, metavar="AMOUNT", help="what the peer deposits")
    opened.add_argument("--expires", type=duration, default=86_400, metavar="24h")
    opened.add_argument(
        "--witnesses",
        type=int,
        choices=(0, 1, 4, 7, 10),
        help="fellow guild members that decide a dispute; by default as many as there are, up to 4",
    )
    verb(channel, "list", "channels", lambda a: c.ListChannels())
    verb(channel, "show", "one channel", lambda a: c.ShowChannel(channel=a.channel)).add_argument("channel")
    history = verb(
        channel,
        "history",
        "how your balance in a channel went, payment by payment",
        lambda a: c.ListBalances(channel=a.channel, points=a.points),
    )
    history.add_argument("channel")
    history.add_argument("--points", type=int, default=120, metavar="N", help="at most, evenly spread")
    close = verb(
        channel, "close", "close a channel", lambda a: c.CloseChannel(channel=a.channel, unilateral=a.unilateral)
    )
    close.add_argument("channel")
    close.add_argument("--unilateral", action="store_true", help="without the peer: a dispute starts")
    paid = verb(
        channel,
        "discharge",
        "sign that a debt was paid outside; it counts once the peer has signed, too",
        lambda a: c.Discharge(peer=a.peer, amount_u=a.amount, note=a.note),
    )
    paid.add_argument("peer")
    paid.add_argument("amount", type=amount)
    paid.add_argument("--note", default="", metavar="TEXT")
    verb(channel, "discharges", "debts paid outside, and who must still sign", lambda a: c.ListDischarges())
    for name, text, decide in (
        ("confirm", "sign a discharge that a peer proposes: only if it was paid", c.ConfirmDischarge),
        ("decline", "do not sign a discharge; all stays owed", c.DeclineDischarge),
    ):
        verb(channel, name, text, lambda a, decide=decide: decide(discharge=a.discharge)).add_argument("discharge")
    statement = verb(
        channel,
        "statement",
        "a statement of account: as JSON with the signed evidence, as CSV for a spreadsheet",
        lambda a: c.Statement(of=a.of, from_at=a.from_at, to_at=a.to_at),
        prints=False,
    )
    statement.add_argument("of", nargs="?", default="", metavar="ID|PEER", help="one channel, or all with one peer")
    statement.add_argument("--from", dest="from_at", type=date, metavar="DATE")
    statement.add_argument("--to", dest="to_at", type=date, metavar="DATE")
    statement.set_defaults(json=False)
    form = statement.add_mutually_exclusive_group(required=True)
    form.add_argument("--csv", dest="to_csv", type=Path, metavar="FILE")
    form.add_argument("--json", dest="to_json", type=Path, metavar="FILE")
    verb(channel, "ledger", "what is owed over all closed channels", lambda a: c.ListLedger())

    disputes.add(channel, verb)
    credit = verb(
        channel,
        "credit",
        "how much one peer may owe you; without AMOUNT as much as others of its kind",
        lambda a: c.SetCredit(peer=a.peer, amount_u=a.amount),
    )
    credit.add_argument("peer")
    credit.add_argument("amount", type=amount, nargs="?")

    approve = family("approve", "payments that wait for you")
    verb(approve, "list", "what waits", lambda a: c.ListApprovals())
    pay = verb(
        approve,
        "pay",
        "sign one payment",
        lambda a: c.PayApproval(
            request=a.request, amount_u=a.amount, typed=a.amount is not None, job_up_to_u=a.job_up_to
        ),
    )
    pay.add_argument("request")
    pay.add_argument("--amount", type=amount, help="refuse unless exactly this; asked for where it must be typed")
    pay.add_argument(
        "--job-up-to",
        type=amount,
        metavar="U",
        help="and pay what else this job asks for without asking, up to this much in all",
    )
    for name, text, command in (
        ("reject", "decline; it stays recorded as owed", c.RejectApproval),
        ("reopen", "ask again for one declined or expired", c.ReopenApproval),
    ):
        verb(approve, name, text, lambda a, command=command: command(request=a.request)).add_argument("request")

    policy = family("policy", "spending grants and limits")
    verb(policy, "show", "grants and limits", lambda a: c.ShowPolicy())
    grant = verb(
        policy,
        "grant",
        "pay without asking inside these limits; all zero takes the grant back",
        lambda a: c.SetGrant(**_grant(a)),
    )
    _add_grant(grant)
    rehearse = verb(
        policy,
        "rehearse",
        "what the last days would have been with this grant; changes nothing",
        lambda a: c.RehearsePolicy(days=a.days, **_grant(a)),
    )
    _add_grant(rehearse)
    rehearse.add_argument("--days", type=int, default=30, metavar="N")
    log = verb(
        policy, "log", "every decision and the rule behind it, newest first", lambda a: c.ListDecisions(limit=a.limit)
    )
    log.add_argument("--limit", type=int, default=100, metavar="N")
    limits = verb(
        policy,
        "set",
        "change limits",
        lambda a: c.SetLimits(
            typed_above_u=a.typed_above, credit_member_u=a.credit_member, credit_stranger_u=a.credit_stranger
        ),
    )
    for option in ("--typed-above", "--credit-member", "--credit-stranger"):
        limits.add_argument(option, type=amount, metavar="U")


def _add_grant(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("scope", choices=("node", "guild", "peer", "job"))
    parser.add_argument("subject", nargs="?", default="")
    for option in ("--per-payment", "--per-day", "--total"):
        parser.add_argument(option, type=amount, default=0, metavar="U")
    parser.add_argument("--expires", type=duration, metavar="7d")


def _grant(args: argparse.Namespace) -> dict[str, Any]:
    return {
        "scope": args.scope,
        "subject": args.subject,
        "per_payment_u": args.per_payment,
        "per_day_u": args.per_day,
        "total_u": args.total,
        "expires_s": args.expires,
    }
