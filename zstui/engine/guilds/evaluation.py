"""From a set of log entries to the membership, by the rules at the head of ``log.py``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import msgspec

from zstui.engine.guilds.entries import DECISIVE, KEYED, SignedEntry
from zstui.engine.guilds.membership import Member, Membership, Token
from zstui.engine.guilds.model import Charter
from zstui.engine.identity.keys import PeerId
from zstui.engine.views import Role


def places(mask: int) -> Iterator[int]:
    """The bits set in ``mask``, lowest first."""
    digits = bin(mask)[:1:-1]
    place = digits.find("1")
    while place >= 0:
        yield place
        place = digits.find("1", place + 1)


def following(before: Membership, signed: SignedEntry) -> Membership | None:
    """The membership after an entry that knows of all others; None where it takes a look at all of them to tell.

    Equals ``Evaluation`` of the longer set, at a cost that does not grow with the log.
    """
    entry, peer = signed.entry, signed.peer
    members, kicked, tokens = before.members, before.kicked, before.tokens
    officers = before.officers
    if signed.signer in before.liars or (entry.kind == "join" and peer in members):
        return None
    match entry.kind:
        case "join":
            members = {**members, peer: Member(entry.peer, cast(Role, entry.role), entry.box_key, signed.digest)}
            kicked = {p: at_us for p, at_us in kicked.items() if p != peer}
            if entry.token:
                token = tokens[entry.token]
                tokens = {**tokens, entry.token: msgspec.structs.replace(token, used=token.used + 1)}
        case "leave" | "kick":
            members = {p: member for p, member in members.items() if p != peer}
            officers = tuple(p for p in officers if p != peer)
            if entry.kind == "kick":
                kicked = {**kicked, peer: entry.at_us}
        case "officer":
            officers = (*officers, peer)
        case "demote":
            officers = tuple(p for p in officers if p != peer)
        case "invite":
            issued = Token(signed.signer, entry.uses, 0, entry.until_us, entry.at_us, False)
            tokens = {**tokens, entry.token: issued}
        case "revoke":
            gone = msgspec.structs.replace(tokens[entry.token], revoked=True)
            tokens = {**tokens, entry.token: gone}
    return Membership(
        before.charter,
        members,
        officers,
        kicked,
        tokens,
        before.joins + (entry.kind == "join"),
        max(before.expires_us, entry.until_us if entry.kind == "extend" else 0),
        entry.kind == "dissolve",
        signed if entry.kind in KEYED else before.key,
        before.liars,
    )


class Evaluation:
    """One pass over a set of entries that holds the parents of each."""

    def __init__(self, charter: Charter, entries: list[SignedEntry], past: list[int], mask: int) -> None:
        self._charter = charter
        self._entries = entries
        self._past = past
        self._places = list(places(mask))
        self._of_kind: dict[str, list[int]] = {}
        self._about: dict[tuple[str, PeerId], list[int]] = {}
        self._lies: dict[PeerId, int] = {}
        """First number of which a signer wrote two entries."""
        self._begun: dict[PeerId, int] = {}
        """The entry that admitted each member."""
        numbers: set[tuple[PeerId, int]] = set()
        for place in self._places:
            signed = entries[place]
            self._of_kind.setdefault(signed.entry.kind, []).append(place)
            if signed.peer:
                self._about.setdefault((signed.entry.kind, signed.peer), []).append(place)
            number = (signed.signer, signed.entry.seq)
            if number in numbers:
                self._lies[signed.signer] = min(number[1], self._lies.get(signed.signer, number[1]))
            numbers.add(number)

    def result(self) -> Membership:
        members, kicked = self._members()
        extended = [self._entries[p].entry.until_us for p in self._kind("extend")]
        return Membership(
            self._charter,
            members,
            self._officers(members),
            kicked,
            self._tokens(),
            len(self._kind("join")),
            max([self._charter.expires_us, *extended]),
            bool(self._kind("dissolve")),
            self._key(),
            frozenset(self._lies),
        )

    def _kind(self, kind: str) -> list[int]:
        return self._of_kind.get(kind, [])

    def _subject(self, kind: str, peer: PeerId) -> list[int]:
        return self._about.get((kind, peer), [])

    def _knows(self, later: int, earlier: int) -> bool:
        return bool(self._past[later] >> earlier & 1)

    def _dismissals(self, officer: PeerId) -> list[int]:
        """Ends of appointments: all signed by the creator, or by the officer itself in the case of a leave."""
        creators = [p for p in self._subject("kick", officer) if self._entries[p].signer == self._charter.creator]
        return self._subject("demote", officer) + self._subject("leave", officer) + creators

    def _stands(self, place: int) -> bool:
        """Whether the signer's appointment covers this entry: rule 3."""
        signer = self._entries[place].signer
        if signer == self._charter.creator:
            return True
        ends = self._dismissals(signer)
        return any(
            self._knows(place, start) and all(self._knows(start, end) or self._knows(end, place) for end in ends)
            for start in self._subject("officer", signer)
        )

    def _admits(self, place: int) -> bool:
        signed = self._entries[place]
        lie = self._lies.get(signed.signer)
        lied = lie is not None and lie <= signed.entry.seq and signed.signer != self._charter.creator
        return not lied and self._stands(place)

    def _members(self) -> tuple[dict[PeerId, Member], dict[PeerId, int]]:
        members: dict[PeerId, Member] = {}
        kicked: dict[PeerId, int] = {}
        joined = sorted({self._entries[p].peer for p in self._kind("join")})
        admitted = {peer: [p for p in self._subject("join", peer) if self._admits(p)] for peer in joined}
        first = {peer: min(self._entries[p].rank for p in places) for peer, places in admitted.items() if places}
        for peer in sorted(first, key=first.__getitem__):
            kicks = [p for p in self._subject("kick", peer) if self._stands(p)]
            ends = kicks + self._subject("leave", peer)
            in_force = [j for j in admitted[peer] if all(self._knows(j, end) for end in ends)]
            if in_force:
                place = self._begun[peer] = max(in_force, key=lambda j: self._entries[j].rank)
                chosen = self._entries[place]
                entry = chosen.entry
                members[peer] = Member(entry.peer, cast(Role, entry.role), entry.box_key, chosen.digest)
                continue
            final = [k for k in kicks if not any(self._knows(j, k) for j in admitted[peer])]
            if final:
                kicked[peer] = max(self._entries[k].entry.at_us for k in final)
        return members, kicked

    def _officers(self, members: dict[PeerId, Member]) -> tuple[PeerId, ...]:
        since: dict[PeerId, tuple[int, bytes]] = {}
        for place in self._kind("officer"):
            peer = self._entries[place].peer
            member = members.get(peer)
            if member is None or member.role == "observer":
                continue
            if self._knows(place, self._begun[peer]) and all(self._knows(place, end) for end in self._dismissals(peer)):
                rank = self._entries[place].rank
                since[peer] = min(rank, since.get(peer, rank))
        return tuple(sorted(since, key=since.__getitem__))

    def _tokens(self) -> dict[bytes, Token]:
        used: dict[bytes, int] = {}
        for place in self._kind("join"):
            token = self._entries[place].entry.token
            used[token] = used.get(token, 0) + 1
        revoked = {self._entries[p].entry.token for p in self._kind("revoke") if self._stands(p)}
        tokens: dict[bytes, Token] = {}
        for place in sorted(self._kind("invite"), key=lambda p: self._entries[p].rank):
            signed = self._entries[place]
            entry = signed.entry
            gone = entry.token in revoked or not self._stands(place)
            tokens.setdefault(
                entry.token,
                Token(signed.signer, entry.uses, used.get(entry.token, 0), entry.until_us, entry.at_us, gone),
            )
        return tokens

    def _key(self) -> SignedEntry | None:
        decisive = 0
        for kind in DECISIVE:
            for place in self._kind(kind):
                decisive |= 1 << place
        for place in self._places:
            signed = self._entries[place]
            if self._lies.get(signed.signer) == signed.entry.seq:
                decisive |= 1 << place
        best: SignedEntry | None = None
        for kind in KEYED:
            for place in self._kind(kind):
                signed = self._entries[place]
                covers = not decisive & ~(self._past[place] | 1 << place)
                if covers and (best is None or signed.rank > best.rank) and self._admits(place):
                    best = signed
        return best
