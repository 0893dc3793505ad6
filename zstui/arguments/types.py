"""What one argument may be, and how the grammar is put together."""

from __future__ import annotations

import argparse
import getpass
import re
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

from zstui.engine import commands as c
from zstui.engine.config import host_and_port
from zstui.engine.errors import BadInput
from zstui.engine.money import parse_amount, parse_rate

Build = Callable[[argparse.Namespace], c.Command[object]]
Group: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
Verb = Callable[..., argparse.ArgumentParser]
"""``(group, name, help, build)`` adds one subcommand; it leaves ``build`` in the parsed arguments."""
Family = Callable[[str, str], Group]
"""``(name, help)`` adds a subcommand that has subcommands."""

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


def read_file(path: str) -> bytes:
    """Content of a file, "-" being standard input. Raises BadInput."""
    try:
        return sys.stdin.buffer.read() if path == "-" else Path(path).expanduser().read_bytes()
    except (OSError, RuntimeError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise BadInput(f"Cannot read {path}: {reason}.") from error


def pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=VALUE")
    return key, value


def mapped_dir(text: str) -> tuple[Path, str, bool]:
    """HOST::GUEST or HOST::GUEST::rw."""
    host, *rest = text.split("::")
    if not host or len(rest) not in (1, 2) or not rest[0] or rest[1:] not in ([], ["rw"], ["ro"]):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form HOST::GUEST or HOST::GUEST::rw")
    return Path(host).expanduser(), rest[0], rest[1:] == ["rw"]


def date(text: str) -> int:
    """ "2026-03-01" or "2026-03-01T12:30", local time, as Unix seconds."""
    try:
        return int(datetime.fromisoformat(text).timestamp())
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date such as 2026-03-01 or 2026-03-01T12:30") from None


def passphrase(file: Path | None, *, new: bool) -> str:
    """The first line of ``file``, or what is typed, twice for a ``new`` one. Raises BadInput."""
    if file is not None:
        try:
            return file.read_text().splitlines()[0]
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"Cannot read {file}: {error}.") from error
        except IndexError:
            raise BadInput(f"{file} is empty.") from None
    if not sys.stdin.isatty():
        raise BadInput("Without a terminal the passphrase comes from a file: --passphrase-file FILE.")
    typed = getpass.getpass("Passphrase: ")
    if new and getpass.getpass("Once more: ") != typed:
        raise BadInput("The two passphrases differ.")
    return typed


def module_name(text: str) -> str:
    """An existing file becomes its absolute path, for the node may run elsewhere; anything else may name a sample."""
    path = Path(text).expanduser()
    return str(path.absolute()) if path.exists() or "/" in text or text.endswith(".wasm") else text


def duration_or_zero(text: str) -> int:
    return 0 if text == "0" else duration(text)


def thousandths(text: str) -> int:
    """A share from 0 to 1 in whole thousandths."""
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share from 0 to 1, such as 0.6")
    return round(share * 1000)
