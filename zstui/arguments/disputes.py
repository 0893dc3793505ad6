"""``zstui channel dispute|disputes|evidence|verdict|frauds|verify``"""

from __future__ import annotations

import argparse
from pathlib import Path

from zstui.arguments.types import Group, Verb
from zstui.engine import commands as c
from zstui.engine.errors import BadInput
from zstui.engine.evidence_file import documents_in


def evidence(args: argparse.Namespace) -> c.SubmitEvidence:
    return c.SubmitEvidence(channel=args.channel, documents=documents_in(args.file) if args.file else ())


def dispute(args: argparse.Namespace) -> c.DisputeChannel | c.DisputeOutput:
    """Raises BadInput unless it is a channel or a job."""
    if bool(args.channel) == bool(args.job):
        raise BadInput("Name the channel whose balances you dispute, or with --job the job whose output is wrong.")
    return c.DisputeOutput(job=args.job) if args.job else c.DisputeChannel(channel=args.channel)


def add(channel: Group, verb: Verb) -> None:
    filing = verb(
        channel,
        "dispute",
        "stop using a channel and bring it before its witnesses, which cannot be taken back; or with --job dispute the output of "
        "a job that was paid",
        dispute,
    )
    filing.add_argument("channel", nargs="?", default="")
    filing.add_argument(
        "--job",
        default="",
        metavar="ID",
        help="its output is wrong: the witnesses of the channel on which it was paid run it again; the channel stays in use",
    )
    disputes = verb(
        channel,
        "disputes",
        "disputed channels and cases that this node witnesses: who must act, by when, what each choice costs",
        lambda a: c.ShowDispute(channel=a.channel) if a.channel else c.ListDisputes(),
    )
    disputes.add_argument("channel", nargs="?", help="one in full; of a channel in use, what it would mean")
    shown = verb(channel, "evidence", "show the witnesses what this node holds, or the documents in a file", evidence)
    shown.add_argument("channel")
    shown.add_argument("file", nargs="?", type=Path, help='JSON with "documents", as a proof of fraud has them')
    verb(
        channel,
        "verdict",
        "what the witnesses decided, or would on what was shown; at a witness, what it signed or would sign",
        lambda a: c.ShowVerdict(channel=a.channel),
    ).add_argument("channel")
    frauds = verb(
        channel,
        "frauds",
        "faults on record against peers; --json holds the proofs, to be verified anywhere",
        lambda a: c.ListFrauds(channel=a.channel),
    )
    frauds.add_argument("channel", nargs="?", default="")
    verify = verb(channel, "verify", "verify a statement or a proof of fraud from a file, offline", prints=True)
    verify.add_argument("file", type=Path)
