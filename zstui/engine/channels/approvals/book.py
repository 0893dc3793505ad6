"""The requests in memory, as the tables have them: all that are owed, and the latest that were paid."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from zstui.engine.channels.approvals.store import Record
from zstui.engine.errors import ApprovalError
from zstui.engine.identity.keys import PeerId

PAID_SHOWN = 200
"""Latest paid requests that can still be looked up."""
MIN_PREFIX = 4


class Book:
    def __init__(self, owed: Iterable[Record] = (), paid: Iterable[Record] = (), payees: Iterable[PeerId] = ()) -> None:
        self.owed: dict[str, Record] = {r.request.request_id: r for r in owed}
        """Every request that is not paid, oldest first."""
        self.paid: dict[str, Record] = {r.request.request_id: r for r in paid}
        self.payees: set[PeerId] = set(payees)
        """Peers that were ever paid."""

    def find(self, request_id: str) -> Record | None:
        return self.owed.get(request_id) or self.paid.get(request_id)

    def get(self, request_id: str) -> Record:
        """Raises ApprovalError if there is none."""
        record = self.find(request_id)
        if record is None:
            raise ApprovalError(f"No payment request {request_id[:16]!r}.")
        return record

    def put(self, record: Record) -> None:
        """Take over the newest state of a request."""
        request_id = record.request.request_id
        if record.debited_us is not None:
            self.payees.add(record.request.peer_id)
        if record.state not in ("paid", "superseded"):
            self.owed[request_id] = record
            return
        self.owed.pop(request_id, None)
        if record.state == "superseded":
            return
        self.paid[request_id] = record
        if len(self.paid) > PAID_SHOWN:
            del self.paid[next(iter(self.paid))]

    def waiting(self, test: Callable[[Record], bool] = lambda _: True) -> list[Record]:
        return [r for r in self.owed.values() if r.state == "waiting" and test(r)]

    def resolve(self, text: str) -> str:
        """A request id from an unambiguous prefix of at least four digits. Raises ApprovalError."""
        wanted = text.strip().lower()
        if self.find(wanted) is not None:
            return wanted
        known = self.owed.keys() | self.paid.keys()
        found = [i for i in known if len(wanted) >= MIN_PREFIX and i.startswith(wanted)]
        if len(found) != 1:
            problem = "More than one payment request begins" if found else "No payment request begins"
            raise ApprovalError(f"{problem} with {text[:40]!r}.")
        return found[0]
