"""A receipt as a person reads it. What it says is signed; the signed bytes themselves are for ``zstui receipt verify``."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from zstui.engine.money import format_amount

_LABEL = 11
_LONGEST = 400


def receipt_text(document: Mapping[str, object]) -> str:
    """The fields of a receipt's document, a line each; those that say nothing are left out."""
    lines = [(label, _said(document.get(key), how)) for label, key, how in _FIELDS]
    lines += [
        ("Left", f"/out/{_of(f, 'name')}  {_of(f, 'size')} bytes  {_of(f, 'sha256')}")
        for f in _list(document, "outputs")
    ]
    lines += [("Witness", str(witness)) for witness in _list(document, "attestations")]
    text = "\n".join(f"{label:<{_LABEL}}{said[:_LONGEST]}" for label, said in lines if said)
    return (
        f"{text}\n\n"
        "Signed by both sides. y copies the receipt with all signatures; in a file,\n"
        "zstui receipt verify FILE checks it without a network."
    )


def _said(value: object, how: Callable[[object], str]) -> str:
    return "" if value in (None, "", []) else how(value)


def _list(document: Mapping[str, object], key: str) -> list[object]:
    found = document.get(key)
    return found if isinstance(found, list) else []


def _of(record: object, key: str) -> str:
    return str(record.get(key, "")) if isinstance(record, dict) else ""


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _amount(value: object) -> str:
    return format_amount(_number(value))


def _at(value: object) -> str:
    at_us = _number(value)
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_us / 1e6)) if at_us else ""


_FIELDS: tuple[tuple[str, str, Callable[[object], str]], ...] = (
    ("Result", "status", str),
    ("Reason", "reason", str),
    ("Fault", "fault", lambda value: "" if value == "none" else str(value)),
    ("Exit", "exit_code", str),
    ("Cost", "cost_u", _amount),
    ("Time", "duration_us", lambda value: f"{_number(value) / 1e6:.3f} s"),
    ("Memory", "memory_bytes", lambda value: f"{_number(value) / 2**20:.1f} MiB"),
    ("Gas", "gas", lambda value: f"{_number(value):,}"),
    ("Returned", "results", lambda value: " ".join(map(str, value)) if isinstance(value, list) else ""),
    ("Module", "module", str),
    ("", "module_cid", str),
    ("Calls", "function", str),
    ("Ran in", "engine", str),
    ("Began", "started_us", _at),
    ("Ended", "finished_us", _at),
    ("Executor", "executor", str),
    ("Submitter", "submitter", str),
    ("Guild", "guild_id", str),
    ("Job", "job_id", str),
    ("Agreement", "agreement_id", str),
    ("Receipt", "receipt_id", str),
    ("stdout", "output_hash", lambda value: f"sha256 {value}"),
)
