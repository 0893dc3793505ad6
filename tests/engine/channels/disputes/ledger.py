"""Two honest halves made by chance, and what one side or both might file of them."""

from __future__ import annotations

import hashlib
from random import Random

import msgspec

from tests.engine.channels.rig import identity, line
from zstui.engine.channels.messages import Close, Params, channel_id, take
from zstui.engine.channels.model import draft
from zstui.engine.channels.panel import quorum
from zstui.engine.channels.state import Half, next_pay
from zstui.engine.identity.envelope import seal
from zstui.engine.identity.keys import Identity

LO, HI = sorted((identity(1), identity(2)), key=lambda i: i.public_key)
PARTIES: tuple[Identity, Identity] = (LO, HI)
WITNESSES = tuple(sorted((identity(n) for n in range(3, 7)), key=lambda i: i.public_key))


def params(deposits: tuple[int, int] = (10_000, 10_000), n: int = 4) -> Params:
    made = draft("test", LO.peer_id, HI.peer_id, 1, b"l" * 32, *deposits, 1_700_000_000_000, 86_400)
    return msgspec.structs.replace(
        made, nonce_hi=b"h" * 32, witnesses=tuple(w.public_key for w in WITNESSES[:n]), m=quorum(n)
    )


class History:
    """An honest run over a slow link: each side pays what it can and acknowledges what has reached it."""

    def __init__(self, chance: Random, steps: int) -> None:
        self.params = params((chance.randrange(1, 1000), chance.randrange(1000)))
        self.ch = channel_id(self.params)
        deposits = (self.params.dep_lo, self.params.dep_hi)
        start = Half.start(self.ch)
        self.sent: tuple[list[tuple[Half, bytes]], list[tuple[Half, bytes]]] = ([(start, b"")], [(start, b"")])
        self.seen = [0, 0]
        """How many links of the other each side holds."""
        for _ in range(steps):
            side = chance.randrange(2)
            other = self.sent[1 - side]
            self.seen[side] = chance.randrange(self.seen[side], len(other))
            seen = other[self.seen[side]][0]
            out = self.sent[side][-1][0]
            room = deposits[side] + seen.cum - out.cum
            if room > 0:
                self._pay(side, out, seen, chance.randrange(1, room + 1))

    def _pay(self, side: int, out: Half, seen: Half, amount: int) -> None:
        pay = next_pay(self.ch, out, seen, (line(amount, no=1),), 1)
        raw = seal(PARTIES[side], pay)
        self.sent[side].append((out.after(pay, hashlib.sha256(raw).digest()), raw))

    def filing(
        self, side: int, own: int | None = None, theirs: int | None = None, claim: bool = True
    ) -> tuple[bytes, ...]:
        """What a side files: its own link ``own`` and the other's ``theirs`` of those it holds, by default the latest."""
        own = len(self.sent[side]) - 1 if own is None else own
        theirs = self.seen[side] if theirs is None else theirs
        half = self.sent[side][own][0]
        docs = [self.sent[side][own][1], self.sent[1 - side][theirs][1]]
        if claim:
            docs.append(seal(PARTIES[side], Close(self.ch, half.seq, half.cum, half.head)))
        return tuple(raw for raw in docs if raw)


def body_of(raw: bytes) -> bytes:
    return take(raw).body
