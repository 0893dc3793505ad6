"""The membership log: a set of signed entries, each naming those it knew of, and who is a member by all of them.

Who is a member is a function of the set alone, so two nodes that hold the same entries agree, in whatever order these
came. In a split network both halves go on, each under the creator or an officer; joined again, these rules decide:

1. An entry is taken only if its signer was allowed to write it as of the entries that it names (``_check``). That never
   changes, so nobody's log can hold what another's refuses.
2. Removal wins: a kick or a leave ends every membership of that peer that was not begun in knowledge of it.
3. A demotion, kick or leave of an officer undoes what the officer signed without knowledge of it, unless the one who ended
   the appointment knew of it: an officer cannot date back. Who was admitted that way asks again.
4. An officer who signed two entries of one number admits nobody from that number on; its removals stay.
5. A peer admitted twice has the deeper admission, of equally deep ones that with the greater hash.
6. Halves may together admit more than the charter's limit: nobody is put out for it, and nobody more is admitted.
7. The group key is that of the deepest entry (then greatest hash) made in knowledge of every join and removal, and of every
   proof that somebody signed twice. If there is none, the log is unsettled: nothing is encrypted until an authority rekeys.
8. The longest extension counts. A dissolution ends the guild.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy

from zstui.engine.errors import GuildFull, NotPermitted, ProtocolError
from zstui.engine.guilds.entries import SignedEntry, left_membership, two_histories
from zstui.engine.guilds.evaluation import Evaluation, following, places
from zstui.engine.guilds.membership import Membership, can_be_officer, can_kick
from zstui.engine.guilds.model import MAX_LIFE_US, Charter
from zstui.engine.guilds.roles import Action
from zstui.engine.identity.keys import PeerId

MAX_LOG = 10_000
"""Entries in a guild's whole life."""
MAX_WRITTEN = {"creator": 5_000, "officer": 800}
"""Of these, how many one signer can write."""
MAX_OFFICERS = 5
MAX_INVITES = 32
"""Invites in force at a time."""
MAX_WAITING = 64
"""Entries kept that came before their parents."""
MAX_PARENTS = 8
_MEMORY = 8
"""Memberships remembered, of the latest points that entries were checked at."""

_ACTION: dict[str, Action] = {
    "join": "admit",
    "leave": "record a leave",
    "kick": "kick",
    "rekey": "rekey",
    "officer": "appoint",
    "demote": "demote",
    "invite": "invite",
    "revoke": "revoke",
    "extend": "extend",
    "dissolve": "dissolve",
}


class MissingParents(ProtocolError):
    """An entry that builds on others that are not here."""


class MemberLog:
    """All entries held, in an order in which parents come first. ``add`` is the only way forward."""

    def __init__(self, charter: Charter) -> None:
        self.charter = charter
        self.entries: list[SignedEntry] = []
        self.heads: tuple[bytes, ...] = ()
        """Entries that no other builds on."""
        self.proofs: list[tuple[SignedEntry, SignedEntry]] = []
        """Pairs that prove that a signer told two histories, one of each signer."""
        self._place: dict[bytes, int] = {}
        self._past: list[int] = []
        """For each entry, the set of entries it builds on, as a bit mask of places."""
        self._memberships: dict[bytes, list[int]] = {}
        """Places of joins by X25519 key."""
        self._by_number: dict[tuple[PeerId, int], int] = {}
        self._counts: dict[PeerId, int] = {}
        self._known: dict[int, Membership] = {}
        self._latest: Membership | None = None
        """By all entries, once somebody has asked."""

    def __len__(self) -> int:
        return len(self.entries)

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._place

    def get(self, digest: bytes) -> SignedEntry | None:
        place = self._place.get(digest)
        return self.entries[place] if place is not None else None

    def copy(self) -> MemberLog:
        """An independent log of the same entries."""
        other = copy(self)
        other.entries, other._past = list(self.entries), list(self._past)
        other._place, other._by_number = dict(self._place), dict(self._by_number)
        other._memberships = {key: list(places) for key, places in self._memberships.items()}
        other.proofs, other._known, other._counts = list(self.proofs), dict(self._known), dict(self._counts)
        return other

    @property
    def membership(self) -> Membership:
        """By all entries."""
        if self._latest is None:
            self._latest = self._at(self._all)
        return self._latest

    @property
    def _all(self) -> int:
        return (1 << len(self.entries)) - 1

    # --- growing

    def add(self, signed: SignedEntry) -> None:
        """Take an entry; one that is there already changes nothing.

        Raises ProtocolError, MissingParents; then nothing has changed.
        """
        if signed.digest in self._place:
            return
        entry = signed.entry
        past = depth = 0
        for parent in entry.parents:
            place = self._place.get(parent)
            if place is None:
                raise MissingParents("A log entry that builds on unknown ones.")
            past |= self._past[place] | 1 << place
            depth = max(depth, self.entries[place].entry.depth)
        if entry.depth != depth + 1 or len(self.entries) >= MAX_LOG:
            raise ProtocolError("A log entry of a wrong depth.")
        if entry.seq != 1 + self._written(signed.signer, past):
            raise ProtocolError("A log entry that does not follow its signer's last.")
        if entry.parents:
            self._check(signed, past)
        else:
            self._check_first(signed)
        self._insert(signed, past)

    def _written(self, signer: PeerId, past: int) -> int:
        """Entries of ``signer`` among ``past``."""
        if past == self._all:
            return self._counts.get(signer, 0)
        return sum(self.entries[p].signer == signer for p in places(past))

    def _insert(self, signed: SignedEntry, past: int) -> None:
        place = len(self.entries)
        before = self._known.get(past) if past == self._all and past else None
        after = following(before, signed) if before is not None else None
        self.entries.append(signed)
        self._past.append(past)
        self._place[signed.digest] = place
        self._counts[signed.signer] = self._counts.get(signed.signer, 0) + 1
        self._latest = after
        if after is not None:
            self._remember(self._all, after)
        if signed.entry.kind == "join":
            self._memberships.setdefault(signed.entry.box_key, []).append(place)
        self.heads = (*(h for h in self.heads if not past >> self._place[h] & 1), signed.digest)
        twin = self._by_number.setdefault((signed.signer, signed.entry.seq), place)
        known = {one.signer for one, _ in self.proofs}
        if two_histories(self.entries[twin], signed) and signed.signer not in known and len(known) <= MAX_OFFICERS:
            self.proofs.append((self.entries[twin], signed))

    def _check_first(self, signed: SignedEntry) -> None:
        entry = signed.entry
        founds = entry.kind == "join" and entry.role == "creator" and len(entry.box_key) == 32 and not entry.token
        if not founds or signed.signer != self.charter.creator or signed.peer != self.charter.creator:
            raise ProtocolError("A log that does not begin with its creator.")

    def _check(self, signed: SignedEntry, past: int) -> None:
        """Raises ProtocolError unless the signer was allowed to write this as of the entries it builds on."""
        entry, before = signed.entry, self._at(past)
        if before.dissolved:
            raise ProtocolError("A log entry after the guild was dissolved.")
        if not before.may(signed.signer, _ACTION[entry.kind]):
            raise ProtocolError(f"A {entry.kind} signed by somebody who may not.")
        if entry.seq > MAX_WRITTEN["creator" if signed.signer == self.charter.creator else "officer"]:
            raise ProtocolError("A log that has grown too long.")
        fine = True
        match entry.kind:
            case "join":
                self._check_join(signed, before, past)
            case "leave":
                fine = signed.peer not in (self.charter.creator, signed.signer) and signed.peer in before.members
                fine = fine and left_membership(self.charter, signed) == before.members[signed.peer].box_key
            case "kick":
                fine = signed.peer in before.members and can_kick(before, signed.signer, signed.peer)
            case "officer":
                fine = can_be_officer(before, signed.peer) and len(before.officers) < MAX_OFFICERS
            case "demote":
                fine = signed.peer in before.officers
            case "invite":
                in_force = sum(1 for token in before.tokens.values() if token.left)
                fine = entry.token not in before.tokens and len(entry.token) == 16 and entry.uses > 0
                fine = fine and in_force < MAX_INVITES
            case "revoke":
                fine = entry.token in before.tokens and not before.tokens[entry.token].revoked
            case "extend":
                fine = before.expires_us < entry.until_us <= self.charter.created_us + MAX_LIFE_US
        if not fine:
            raise ProtocolError(f"A {entry.kind} against the rules of the guild.")

    def _check_join(self, signed: SignedEntry, before: Membership, past: int) -> None:
        entry = signed.entry
        used = any(past >> place & 1 for place in self._memberships.get(entry.box_key, ()))
        if len(entry.box_key) != 32 or used:
            raise ProtocolError("A request to join that was used before.")
        if entry.token and (entry.token not in before.tokens or not before.tokens[entry.token].left):
            raise ProtocolError("An invite that was used up or revoked.")
        try:
            before.check_join(signed.peer, entry.role)
        except (NotPermitted, GuildFull) as error:
            raise ProtocolError(f"A log entry against the charter: {error}") from error

    # --- questions

    def written(self, signer: PeerId) -> int:
        """How many entries ``signer`` wrote."""
        return self._counts.get(signer, 0)

    def box_key_used(self, box_key: bytes) -> bool:
        return box_key in self._memberships

    def was_member(self, peer: PeerId) -> bool:
        """Whether ``peer`` is or ever was one."""
        return any(e.entry.kind == "join" and e.peer == peer for e in self.entries)

    def knows(self, later: bytes, earlier: bytes) -> bool:
        """Whether entry ``later`` is ``earlier`` or builds on it. False if either is not here."""
        place, other = self._place.get(later), self._place.get(earlier)
        if place is None or other is None:
            return False
        return place == other or bool(self._past[place] >> other & 1)

    def begun(self, box_key: bytes) -> list[SignedEntry]:
        """The entries that admitted this membership: more than one if halves of a split network both did."""
        return [self.entries[place] for place in self._memberships.get(box_key, ())]

    def last_line(self, join: SignedEntry) -> int | None:
        """The highest chat line of a membership that is believed; None: it has not ended."""
        member = self.membership.members.get(join.peer)
        if member is not None and member.box_key == join.entry.box_key:
            return None
        ends = [e.entry.last for e in self.entries if e.peer == join.peer and self._ends(e, join)]
        return min(ends, default=0)

    def _ends(self, end: SignedEntry, join: SignedEntry) -> bool:
        if end.entry.kind == "join":
            return end.digest != join.digest and self.knows(end.digest, join.digest)
        return end.entry.kind in ("leave", "kick") and not self.knows(join.digest, end.digest)

    def have(self, most: int) -> tuple[bytes, ...]:
        """Hashes by which another log can tell what I lack: the heads, then entries ever farther back."""
        chosen = dict.fromkeys(self.heads[-MAX_PARENTS:])
        step = 1
        while step <= len(self.entries) and len(chosen) < most:
            chosen[self.entries[-step].digest] = None
            step *= 2
        return tuple(chosen)

    def lacking(self, have: Iterable[bytes]) -> list[SignedEntry]:
        """What somebody who holds ``have`` and all it builds on does not hold."""
        held = 0
        for digest in have:
            place = self._place.get(digest)
            if place is not None:
                held |= self._past[place] | 1 << place
        return [self.entries[place] for place in places(self._all & ~held)]

    # --- evaluation

    def _at(self, mask: int) -> Membership:
        known = self._known.get(mask)
        if known is None:
            known = Evaluation(self.charter, self.entries, self._past, mask).result()
            self._remember(mask, known)
        return known

    def _remember(self, mask: int, membership: Membership) -> None:
        self._known[mask] = membership
        while len(self._known) > _MEMORY:
            del self._known[next(iter(self._known))]


def merge(
    log: MemberLog, waiting: dict[bytes, SignedEntry], entries: Iterable[SignedEntry]
) -> tuple[MemberLog, list[SignedEntry]]:
    """Add all of ``entries`` and ``waiting`` that connect, in whatever order they come, to a copy.

    Returns the copy and what it added; the rest stays in ``waiting``, at most ``MAX_WAITING``, those of least depth.
    Raises ProtocolError for an entry that its signer was not allowed to write.
    """
    after = log.copy()
    added: list[SignedEntry] = []
    pending = sorted({**waiting, **{s.digest: s for s in entries}}.values(), key=lambda signed: signed.rank)
    waiting.clear()
    for signed in pending:
        before = len(after)
        try:
            after.add(signed)
        except MissingParents:
            if len(waiting) < MAX_WAITING:
                waiting[signed.digest] = signed
            continue
        if len(after) > before:
            added.append(signed)
    return after, added
