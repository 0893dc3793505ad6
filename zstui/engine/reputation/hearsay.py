"""What others say of peers from their own jobs, and how much of it counts here. Pure.

It never counts towards the outcomes of one's own and blacklists nobody. An issuer counts as far as trust leads to it: from the
peers that did good work for me, through the good work that they say others did for them, at each step half of it returning to
the beginning (EigenTrust, personalised: t = (1 - a) C't + a p). So a ring of made-up peers has no more weight together than
honest peers give it. Of one subject each issuer counts as one job at most, and all of them as three.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated

import msgspec

from zstui.engine.errors import ProtocolError
from zstui.engine.identity.envelope import Body, open_envelope, seal
from zstui.engine.identity.keys import Identity, PeerId, peer_id_of, public_key_of
from zstui.engine.reputation.score import DAY_US, MIN_TASKS, UNKNOWN, Tally
from zstui.engine.views import HeardView

MAX_SUBJECTS = 64
"""Of one issuer."""
MAX_ISSUERS = 512
KEPT_US = 7 * DAY_US
"""What is not said again is forgotten."""
RETURN = 0.5
"""``a``: of the trust at each step, what goes back to the peers I know myself."""
ROUNDS = 12
LEAST = 0.01
"""An issuer with less of the trust of the most trusted one does not count."""
MOST_JOBS = 3.0

Count = Annotated[int, msgspec.Meta(ge=0, le=2**31)]
Time = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class About(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """How the issuer's own jobs went at a peer, named by its key."""

    subject: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
    done: Count
    failed: Count
    first_us: Time
    last_us: Time


class Testimony(Body, frozen=True):
    about: Annotated[tuple[About, ...], msgspec.Meta(max_length=MAX_SUBJECTS)]


def my_testimony(identity: Identity, tallies: Iterable[tuple[PeerId, Tally]]) -> bytes | None:
    """My own, signed; of peers that ran enough jobs of mine to be judged, the latest first. None if there are none."""
    known = sorted((entry for entry in tallies if entry[1].tasks >= MIN_TASKS), key=lambda e: -e[1].updated_us)
    about = tuple(
        About(public_key_of(peer), tally.successes, tally.failures, tally.first_us, tally.updated_us)
        for peer, tally in known[:MAX_SUBJECTS]
    )
    return seal(identity, Testimony(about)) if about else None


def read_testimony(raw: bytes, issuer: PeerId) -> dict[PeerId, About]:
    """By subject. Raises ProtocolError unless ``issuer`` signed it, for words about itself and for too few jobs."""
    about = open_envelope(raw, issuer).decode(Testimony).about
    found = {peer_id_of(entry.subject): entry for entry in about}
    if len(found) < len(about) or issuer in found:
        raise ProtocolError("A testimony that names a peer twice, or its own issuer.")
    if any(entry.done + entry.failed < MIN_TASKS or entry.first_us > entry.last_us for entry in about):
        raise ProtocolError("A testimony of too few jobs, or with its times reversed.")
    return found


class _Word(msgspec.Struct, frozen=True):
    at_us: int
    about: dict[PeerId, About]


class Hearsay:
    """``first_hand`` gives the peers whose work I know and the weight of each, above 0; another one as soon as ``revision`` gives
    another number."""

    def __init__(
        self, me: PeerId, first_hand: Callable[[], Mapping[PeerId, float]], revision: Callable[[], int]
    ) -> None:
        self._me = me
        self._first_hand = first_hand
        self._revision = revision
        self._spread_at = revision()
        self._words: OrderedDict[PeerId, _Word] = OrderedDict()
        """The latest of each issuer, the latest heard last."""
        self._of: dict[PeerId, set[PeerId]] = {}
        """Issuers by subject."""
        self._trust: dict[PeerId, float] = {}
        self._spread_again = True

    def __len__(self) -> int:
        return len(self._words)

    def take(self, issuer: PeerId, raw: bytes, now_us: int) -> set[PeerId]:
        """Keep it in place of the issuer's last; whom it or the last one is about. Raises ProtocolError as ``read_testimony``."""
        about = read_testimony(raw, issuer)
        about.pop(self._me, None)
        changed = self._drop(issuer) | about.keys()
        for old in [i for i, word in self._words.items() if word.at_us + KEPT_US < now_us]:
            changed |= self._drop(old)
        if len(self._words) >= MAX_ISSUERS:
            changed |= self._drop(next((i for i in self._words if i not in self._trust), next(iter(self._words))))
        self._words[issuer] = _Word(now_us, about)
        for subject in about:
            self._of.setdefault(subject, set()).add(issuer)
        return changed

    def trust(self) -> dict[PeerId, float]:
        """Of issuers and first-hand peers, those above 0; together at most 1."""
        revision = self._revision()
        if self._spread_again or self._spread_at != revision:
            self._trust, self._spread_at, self._spread_again = self._spread(), revision, False
        return self._trust

    def of(self, subject: PeerId) -> HeardView | None:
        """What is said of ``subject``, None if nothing is."""
        issuers = self._of.get(subject)
        if not issuers:
            return None
        trust = self.trust()
        most = max(trust.values(), default=0.0)
        weights = {i: min(1.0, trust[i] / most) for i in issuers if trust.get(i, 0.0) >= LEAST * most > 0}
        said = {i: self._words[i].about[subject] for i in weights}
        total = sum(weights.values())
        standing = UNKNOWN
        if total:
            ratio = sum(weights[i] * word.done / (word.done + word.failed) for i, word in said.items()) / total
            standing += (ratio - UNKNOWN) * min(total, MOST_JOBS) / MOST_JOBS
        return HeardView(
            standing=standing,
            issuers=len(weights),
            uncounted=len(issuers) - len(weights),
            done=sum(word.done for word in said.values()),
            failed=sum(word.failed for word in said.values()),
        )

    def _drop(self, issuer: PeerId) -> set[PeerId]:
        self._spread_again = True
        word = self._words.pop(issuer, None)
        if word is None:
            return set()
        for subject in word.about:
            others = self._of[subject]
            others.discard(issuer)
            if not others:
                del self._of[subject]
        return set(word.about)

    def _spread(self) -> dict[PeerId, float]:
        first = self._first_hand()
        total = sum(first.values())
        if not total:
            return {}
        start = {peer: weight / total for peer, weight in first.items()}
        passes_on = {i: shares for i in self._words if (shares := self._shares(i))}
        trust = start
        for _ in range(ROUNDS):
            after = {peer: RETURN * share for peer, share in start.items()}
            for issuer, shares in passes_on.items():
                given = (1 - RETURN) * trust.get(issuer, 0.0)
                if given:
                    for subject, share in shares.items():
                        after[subject] = after.get(subject, 0.0) + given * share
            trust = after
        return trust

    def _shares(self, issuer: PeerId) -> dict[PeerId, float]:
        """How ``issuer`` would divide its trust among other issuers."""
        good = {subject: word.done - word.failed for subject, word in self._words[issuer].about.items()}
        total = sum(value for value in good.values() if value > 0)
        return {s: value / total for s, value in good.items() if value > 0 and s in self._words}
