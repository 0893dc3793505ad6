"""The command line's grammar: every subcommand, its options, and the engine command it becomes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from zstui import __version__
from zstui.arguments import backup, guilds, jobs, money, node
from zstui.arguments.types import Build, Group


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
        group: Group,
        name: str,
        help_text: str,
        build: Build | None = None,
        prints: bool | None = None,
    ) -> argparse.ArgumentParser:
        """``prints``: it takes ``--json``; by default where a command of the engine is built."""
        both = out if prints or (prints is None and build) else common
        made = group.add_parser(name, help=help_text, description=help_text, parents=[both])
        made.set_defaults(build=build)
        return made

    def family(name: str, help_text: str) -> Group:
        made = sub.add_parser(name, help=help_text, description=help_text)
        return made.add_subparsers(dest="verb", metavar="VERB", required=True)

    demo = verb(sub, "demo", "a play-money network on loopback: three peers, a guild, sample jobs")
    demo.add_argument("--headless", action="store_true", help="walk the whole workflow and print each step")

    node.add(sub, family, verb)
    backup.add(sub, verb)
    guilds.add(family("guild", "ephemeral encrypted groups"), verb)
    jobs.add(sub, family, verb)
    money.add(family, verb)
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
