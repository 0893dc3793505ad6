"""Statements of account as files: CSV for a spreadsheet, JSON with the signed evidence."""

from __future__ import annotations

import csv
import io
import time
from pathlib import Path

import msgspec

from zstui.engine.errors import BadInput
from zstui.engine.views import StatementView


def csv_of(statement: StatementView) -> str:
    """The entries of a statement; amounts in micro-units. Nothing in it can be taken for a formula."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(("time_utc", "peer", "channel", "direction", "what", "sequence", "amount_u", "reference"))
    for row in statement.payments:
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(row.at))
        writer.writerow((at, row.peer_id, row.channel_id, row.direction, row.what, row.sequence, row.amount_u, row.ref))
    return out.getvalue()


def write(path: Path, statement: StatementView, *, as_csv: bool, replace: bool = True) -> None:
    """Raises BadInput where it cannot be written, or is there already and must not be replaced."""
    data = csv_of(statement).encode() if as_csv else msgspec.json.encode(statement)
    try:
        with path.open("wb" if replace else "xb") as file:
            file.write(data)
    except FileExistsError:
        raise BadInput(f"{path} exists already; choose another file.") from None
    except OSError as error:
        raise BadInput(f"Cannot write {path}: {error.strerror}.") from error
