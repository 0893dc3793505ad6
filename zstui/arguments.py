"""The command line's grammar: every subcommand, its options, and the engine command it becomes."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from zstui import __version__
from zstui.engine import commands as c
from zstui.engine.config import host_and_port
from zstui.engine.errors import BadInput
from zstui.engine.money import parse_amount, parse_rate

Build = Callable[[argparse.Namespace], c.Command[object]]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def duration(text: str) -> int:
    """ "90", "90s", "15m", "1h", "2d" in whole seconds."""
    match = re.fullmatch(r"(\d{1,7})([smhd]?)", text)
    if match is None or int(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration such as 90s, 15m, 1h or 2d")
    return int(match[1]) * _UNITS[match[2] or "s"]


def amount(text: str) -> int:
    try:
        return parse_amount(text)
    except BadInput as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def rate(text: str) -> int:
    try:
        return parse_rate(text)
    except BadInput as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def endpoint(text: str) -> str:
    """Text that ``host_and_port`` takes, as it stands."""
    try:
        host_and_port(text)
    except BadInput as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def endpoint_or_none(text: str) -> str:
    return text if text == "none" else endpoint(text)


def pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=VALUE")
    return key, value


def module_name(text: str) -> str:
    """An existing file becomes its absolute path, for the node may run elsewhere; anything else may name a sample."""
    path = Path(text).expanduser()
    return str(path.absolute()) if path.exists() or "/" in text or text.endswith(".wasm") else text


def job_spec(args: argparse.Namespace) -> c.JobSpec:
    try:
        stdin = Path(args.stdin).read_bytes() if args.stdin else b""
    except OSError as error:
        raise BadInput(f"Cannot read {args.stdin}: {error.strerror}.") from error
    return c.JobSpec(
        module=module_name(args.module),
        guild=args.guild,
        executor=args.to,
        function=args.function,
        args=tuple(args.arg),
        env=tuple(args.env),
        stdin=stdin,
        memory_mib=args.memory,
        timeout_s=args.timeout,
        price_per_second_nano=args.price_per_second,
        price_per_mib_nano=args.price_per_mib,
        max_price_u=args.max_price,
        witnesses=args.witnesses,
    )


def parser() -> argparse.ArgumentParser:
    """The whole grammar. A one-shot subcommand leaves its ``Build`` function in ``args.build``."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--home", type=Path, default=argparse.SUPPRESS, help="the node's directory (or ZSTUI_HOME)")
    out = argparse.ArgumentParser(add_help=False, parents=[common])
    out.add_argument("--json", action="store_true", help="print one JSON document; amounts are integer micro-units")

    top = argparse.ArgumentParser(
        prog="zstui",
        parents=[common],
        description="Lend and rent computing time between machines. Without a command: the full-screen app.",
    )
    top.add_argument("--version", action="version", version=f"zstui {__version__}")
    top.set_defaults(build=None, command=None)
    sub = top.add_subparsers(dest="command", metavar="COMMAND")

    def verb(
        group: argparse._SubParsersAction[argparse.ArgumentParser],
        name: str,
        help_text: str,
        build: Build | None = None,
    ) -> argparse.ArgumentParser:
        made = group.add_parser(name, help=help_text, description=help_text, parents=[out if build else common])
        made.set_defaults(build=build)
        return made

    def family(name: str, help_text: str) -> argparse._SubParsersAction[argparse.ArgumentParser]:
        made = sub.add_parser(name, help=help_text, description=help_text)
        return made.add_subparsers(dest="verb", metavar="VERB", required=True)

    demo = verb(sub, "demo", "a play-money network on loopback: three peers, a guild, sample jobs")
    demo.add_argument("--headless", action="store_true", help="walk the whole workflow and print each step")

    _node_options(verb(sub, "node", "run a node without a screen"))

    verb(sub, "status", "this node at a glance", lambda a: c.Status())
    verb(sub, "peers", "peers known and connected", lambda a: c.ListPeers(like=a.like)).add_argument(
        "--like", default="", metavar="WORDS", help='only peers that offer such a thing, e.g. "executor 8 cores gpu"'
    )
    verb(sub, "connect", "connect to a peer", lambda a: c.Connect(address=a.address)).add_argument(
        "address", help="multiaddr, host:port, or a known peer's id or name"
    )
    name = verb(sub, "name", "give a peer a name of your own", lambda a: c.NamePeer(peer=a.peer, name=a.name))
    name.add_argument("peer")
    name.add_argument("name")
    block = verb(sub, "block", "blacklist a peer", lambda a: c.BlockPeer(peer=a.peer, hours=a.hours))
    block.add_argument("peer")
    block.add_argument("--hours", type=int, default=24)
    verb(sub, "unblock", "take a peer off the blacklist", lambda a: c.UnblockPeer(peer=a.peer)).add_argument("peer")
    verb(sub, "rank", "peers by reputation", lambda a: c.Rank(category=a.category)).add_argument("--category")

    _guild(family("guild", "ephemeral encrypted groups"), verb)
    _job(family("job", "submit and follow jobs"), verb)
    _money(family, verb)

    receipt = family("receipt", "signed proof of what ran")
    verb(
        receipt, "show", "a receipt with all that verifies it", lambda a: c.ShowReceipt(receipt=a.receipt)
    ).add_argument("receipt", help="receipt id or job id")
    verify = receipt.add_parser("verify", help="verify a receipt file offline", parents=[out])
    verify.add_argument("file", type=Path)
    verify.set_defaults(build=None)

    run = verb(sub, "run", "run one module here, in the job sandbox, without a node")
    run.add_argument("module", type=Path)
    run.add_argument("--function", default="_start")
    run.add_argument("--env", type=pair, action="append", default=[], metavar="K=V")
    run.add_argument("--stdin", type=Path, metavar="FILE")
    run.add_argument("--memory", type=int, default=128, metavar="MIB")
    run.add_argument("--timeout", type=int, default=30, metavar="S")
    run.add_argument("--fuel", type=int, metavar="N")
    run.add_argument("--report", type=Path, metavar="FILE", help="write a JSON report of the run")
    run.usage = "zstui run MODULE.wasm [options] [-- ARGS ...]"
    return top


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse a command line; what follows ``--`` is for the module that ``run`` runs, as it stands. Exits 2 on wrong usage."""
    split = list(argv).index("--") if "--" in argv else len(argv)
    grammar = parser()
    args = grammar.parse_args(argv[:split])
    args.args = tuple(argv[split + 1 :])
    if args.args and args.command != "run":
        grammar.error("only run passes arguments on after --")
    return args


def _node_options(node: argparse.ArgumentParser) -> None:
    node.add_argument("--listen", type=endpoint, metavar="HOST:PORT")
    node.add_argument("--mdns-interface", metavar="ADDR|none")
    node.add_argument("--network", metavar="NAME", help="discover only nodes started with the same name")
    node.add_argument("--metrics", type=endpoint_or_none, metavar="HOST:PORT|none")
    node.add_argument("--peer", action="append", dest="peers", metavar="ADDRESS", help="stay connected to it")
    node.add_argument("--name", help="shown to other peers")
    node.add_argument("--executor", action="store_true", default=None, help="consent to run others' jobs")
    node.add_argument("--price-per-second", type=rate, dest="price_per_second_nano", metavar="U")
    node.add_argument("--price-per-mib", type=rate, dest="price_per_mib_nano", metavar="U")
    node.add_argument("--stop-with-stdin", action="store_true", help="end when standard input closes")
    node.add_argument("--demo", action="store_true", default=None, help=argparse.SUPPRESS)


Verb = Callable[..., argparse.ArgumentParser]


def _guild(guild: argparse._SubParsersAction[argparse.ArgumentParser], verb: Verb) -> None:
    create = verb(
        guild,
        "create",
        "form a guild",
        lambda a: c.CreateGuild(name=a.name, ttl_s=a.ttl, max_members=a.max, private=a.private),
    )
    create.add_argument("name")
    create.add_argument("--ttl", type=duration, default=3600, metavar="1h")
    create.add_argument("--max", type=int, default=50, metavar="50")
    create.add_argument("--private", action="store_true", help="joined by invite only")
    verb(guild, "list", "guilds joined and seen", lambda a: c.ListGuilds())
    join = verb(guild, "join", "join a guild", lambda a: c.JoinGuild(guild=a.guild, role=a.role))
    join.add_argument("guild", help="guild id, name, or invite")
    join.add_argument(
        "--role",
        choices=("executor", "member", "observer"),
        default="member",
        help="joining as executor is your consent to run its members' jobs",
    )
    for name, text, command in (
        ("leave", "leave a guild", c.LeaveGuild),
        ("dissolve", "end a guild you created", c.DissolveGuild),
        ("invite", "make an invite", c.InviteToGuild),
        ("messages", "what was said", c.ListMessages),
    ):
        verb(guild, name, text, lambda a, command=command: command(guild=a.guild)).add_argument("guild")
    kick = verb(guild, "kick", "remove a member", lambda a: c.KickMember(guild=a.guild, peer=a.peer))
    kick.add_argument("guild")
    kick.add_argument("peer")
    send = verb(guild, "send", "say something", lambda a: c.SendMessage(guild=a.guild, text=a.text))
    send.add_argument("guild")
    send.add_argument("text")


def _job(job: argparse._SubParsersAction[argparse.ArgumentParser], verb: Verb) -> None:
    submit = verb(job, "submit", "run a WASM module on another machine", lambda a: c.SubmitJob(spec=job_spec(a)))
    submit.add_argument("module", metavar="MODULE.wasm", help="a file, or the name of a sample")
    submit.add_argument("--guild", required=True, metavar="ID")
    submit.add_argument("--to", metavar="PEER", help="the executor; otherwise the best ranked")
    submit.add_argument("--function", default="_start", metavar="NAME")
    submit.add_argument("--arg", action="append", default=[], metavar="A")
    submit.add_argument("--env", action="append", type=pair, default=[], metavar="K=V")
    submit.add_argument("--stdin", metavar="FILE")
    submit.add_argument("--memory", type=int, default=128, metavar="MIB")
    submit.add_argument("--timeout", type=int, default=30, metavar="S")
    submit.add_argument("--price-per-second", type=rate, metavar="U")
    submit.add_argument("--price-per-mib", type=rate, metavar="U")
    submit.add_argument("--max-price", type=amount, default=1_000_000, metavar="U")
    submit.add_argument("--witnesses", type=int, default=0, metavar="N", help="members who re-run it and attest")
    submit.add_argument("--wait", action="store_true", help="return when it has ended; exit 1 unless it is done")
    verb(job, "list", "jobs of mine and run for others", lambda a: c.ListJobs())
    for name, text, command in (
        ("show", "one job", c.ShowJob),
        ("output", "what it printed", c.GetOutput),
        ("cancel", "stop it", c.CancelJob),
        ("rerun", "submit it again", c.RerunJob),
        ("wait", "return when it has ended", c.WaitJob),
    ):
        verb(job, name, text, lambda a, command=command: command(job=a.job)).add_argument("job")


def _money(
    family: Callable[[str, str], argparse._SubParsersAction[argparse.ArgumentParser]],
    verb: Verb,
) -> None:
    channel = family("channel", "payment channels")
    opened = verb(
        channel,
        "open",
        "open a channel; the deposit is a promise, not a payment",
        lambda a: c.OpenChannel(peer=a.peer, amount_u=a.amount, theirs_u=a.theirs, expires_s=a.expires),
    )
    opened.add_argument("peer")
    opened.add_argument("amount", type=amount)
    opened.add_argument("--theirs", type=amount, default=0, metavar="AMOUNT", help="what the peer deposits")
    opened.add_argument("--expires", type=duration, default=86_400, metavar="24h")
    verb(channel, "list", "channels", lambda a: c.ListChannels())
    verb(channel, "show", "one channel", lambda a: c.ShowChannel(channel=a.channel)).add_argument("channel")
    close = verb(
        channel, "close", "close a channel", lambda a: c.CloseChannel(channel=a.channel, unilateral=a.unilateral)
    )
    close.add_argument("channel")
    close.add_argument("--unilateral", action="store_true", help="without the peer: a dispute starts")
    verb(channel, "ledger", "what is owed over all closed channels", lambda a: c.ListLedger())

    approve = family("approve", "payments that wait for you")
    verb(approve, "list", "what waits", lambda a: c.ListApprovals())
    pay = verb(
        approve,
        "pay",
        "sign one payment",
        lambda a: c.PayApproval(request=a.request, amount_u=a.amount, typed=a.amount is not None),
    )
    pay.add_argument("request")
    pay.add_argument("--amount", type=amount, help="refuse unless exactly this; asked for where it must be typed")
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
        lambda a: c.SetGrant(
            scope=a.scope,
            subject=a.subject,
            per_payment_u=a.per_payment,
            per_day_u=a.per_day,
            total_u=a.total,
            expires_s=a.expires,
        ),
    )
    grant.add_argument("scope", choices=("node", "guild", "peer", "job"))
    grant.add_argument("subject", nargs="?", default="")
    for option in ("--per-payment", "--per-day", "--total"):
        grant.add_argument(option, type=amount, default=0, metavar="U")
    grant.add_argument("--expires", type=duration, metavar="7d")
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
