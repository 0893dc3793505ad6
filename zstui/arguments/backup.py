"""``zstui backup`` and ``zstui restore``."""

from __future__ import annotations

import argparse
from pathlib import Path

from zstui.arguments.types import Group, Verb, passphrase
from zstui.engine import commands as c


def add(sub: Group, verb: Verb) -> None:
    made = verb(sub, "backup", "write an encrypted backup of the key, the accounts and the settings", _backup)
    made.add_argument("file", type=Path)
    _passphrase(made)
    back = verb(sub, "restore", "say what a backup brings back, then restore it; no node may run there", prints=True)
    back.add_argument("file", type=Path, nargs="?")
    back.add_argument(
        "--from-peers", action="store_true", help="no backup: put the database aside; the next start asks the peers"
    )
    back.add_argument("--yes", action="store_true", help="do not ask")
    _passphrase(back)


def _backup(args: argparse.Namespace) -> c.Backup:
    return c.Backup(path=str(args.file.expanduser().absolute()), passphrase=passphrase(args.passphrase_file, new=True))


def _passphrase(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--passphrase-file", type=Path, metavar="FILE", help="its first line; else it is asked for")
