"""Finding witnesses for a channel before it is proposed: each side names its part of them, and each one named has agreed.

Witnesses come from guilds that both sides are in. A failure never stops a channel that did not ask for witnesses by number: it
opens with fewer, or with none.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import Callable, Sequence

from zstui.engine.channels.disputes import store
from zstui.engine.channels.disputes.messages import Consent, Declined, Nominate, Nominees, WitnessAsk
from zstui.engine.channels.messages import read, take
from zstui.engine.channels.model import CHALLENGE_S
from zstui.engine.channels.opening import Panel
from zstui.engine.channels.panel import SIZES, USUAL, nominated_by_proposer, panel_size, quorum
from zstui.engine.clock import US, Clock
from zstui.engine.errors import BadInput, NetError, ProtocolError, Refused, ZsError
from zstui.engine.identity.envelope import seal
from zstui.engine.identity.keys import Identity, PeerId, peer_id_of, public_key_of
from zstui.engine.identity.text import clean_text
from zstui.engine.net.link import DISPUTE_PROTOCOL, Network
from zstui.engine.store.database import Database, Tx

ASK_S = 2.0
"""How long one that is to be a witness may take to agree."""
NOMINATE_S = 5.0
"""How long the responder may take to name its part."""
EXTRA_MS = (CHALLENGE_S + 9 * 86_400) * 1000
"""How long past a channel's end a witness must stay: the challenge, the time witnesses may take, and some more."""
LONGEST_MS = 400 * 86_400 * 1000
MAX_CONSENTS = 4096
MAX_CONSENTS_OF_PEER = 256
MAX_AGREED = 256
"""Peers with which witnesses were agreed on and no channel has been proposed since."""
AGREED_US = 60 * US

Candidates = Callable[[PeerId], Sequence[PeerId]]
"""Who could witness between a peer and me: members of guilds that we both are in, but for observers and us."""


class Nomination:
    def __init__(
        self,
        identity: Identity,
        network: Network,
        db: Database,
        clock: Clock,
        *,
        candidates: Candidates,
        runs_jobs: Callable[[PeerId], bool],
        willing: Callable[[PeerId], bool],
        name_of: Callable[[PeerId], str],
    ) -> None:
        """``runs_jobs``: this peer runs jobs for others, so that it can judge an output, too. ``willing``: I would witness where
        this peer asks."""
        self._identity = identity
        self._network = network
        self._db = db
        self._clock = clock
        self._candidates = candidates
        self._runs_jobs = runs_jobs
        self._willing = willing
        self._name_of = name_of
        self._agreed: OrderedDict[PeerId, tuple[frozenset[bytes], int]] = OrderedDict()
        self._busy: set[PeerId] = set()

    def agreed(self, peer: PeerId) -> frozenset[bytes]:
        """The witnesses agreed on with ``peer`` in the last minute."""
        keys, at = self._agreed.get(peer, (frozenset(), 0))
        return keys if self._clock.monotonic_us() - at <= AGREED_US else frozenset()

    # -- the proposer

    async def __call__(self, peer: PeerId, wanted: int | None, expires_s: int) -> Panel:
        """Witnesses for a channel with ``peer``. Raises BadInput, Refused where a number was asked for and cannot be had."""
        there = list(self._candidates(peer))
        if wanted is not None and (wanted not in SIZES or wanted > len(there)):
            raise BadInput(
                f"{len(there)} fellow guild members could witness between you and {self._name_of(peer)}; "
                f"a channel has 1, 4, 7 or 10 witnesses."
            )
        until_ms = self._clock.now_us() // 1000 + expires_s * 1000 + EXTRA_MS
        most = panel_size(wanted or USUAL, len(there))
        for n in [size for size in SIZES if size <= most and wanted in (None, size)]:
            try:
                return await self._panel(peer, n, there, until_ms)
            except (NetError, Refused, ProtocolError) as error:
                if wanted is not None:
                    raise Refused(f"No {n} witnesses could be found: {error}") from error
        return Panel()

    async def _panel(self, peer: PeerId, n: int, there: Sequence[PeerId], until_ms: int) -> Panel:
        mine = await self._pick(peer, there, nominated_by_proposer(n), until_ms)
        ask = seal(self._identity, Nominate(n, tuple(public_key_of(p) for p in mine), until_ms))
        answer = take(await self._network.request(peer, DISPUTE_PROTOCOL, ask, NOMINATE_S))
        if answer.kind == "Declined" and answer.signer == peer:
            raise Refused(f"{self._name_of(peer)} says: {clean_text(read(answer, Declined).why, 200)}")
        if answer.signer != peer or answer.kind != "Nominees":
            raise Refused(f"{self._name_of(peer)} names no witnesses.")
        theirs = {peer_id_of(key) for key in read(answer, Nominees).theirs}
        if len(theirs) != n - len(mine) or theirs & set(mine) or not theirs <= set(there):
            raise Refused(f"{self._name_of(peer)} names {len(theirs)} witnesses of guilds that you both are in.")
        return Panel(tuple(sorted(public_key_of(p) for p in (*mine, *theirs))), quorum(n))

    async def _pick(self, other: PeerId, there: Sequence[PeerId], number: int, until_ms: int) -> list[PeerId]:
        """``number`` of ``there`` that are online and agree, by chance, and of those that run jobs first. Raises Refused."""
        online = self._network.connected()
        waiting = sorted((p for p in there if p in online), key=lambda p: (not self._runs_jobs(p), os.urandom(8)))
        found: list[PeerId] = []
        while len(found) < number and waiting:
            asked, waiting = waiting[: number - len(found)], waiting[number - len(found) :]
            answers = await asyncio.gather(*(self._agrees(p, other, until_ms) for p in asked))
            found += [p for p, yes in zip(asked, answers, strict=True) if yes]
        if len(found) < number:
            raise Refused(f"only {len(found)} of {number} fellow members that are online agreed to witness.")
        return found

    async def _agrees(self, peer: PeerId, other: PeerId, until_ms: int) -> bool:
        lo, hi = sorted((self._identity.public_key, public_key_of(other)))
        try:
            raw = await self._network.request(
                peer, DISPUTE_PROTOCOL, seal(self._identity, WitnessAsk(lo, hi, until_ms)), ASK_S
            )
            answer = take(raw)
            return (
                answer.signer == peer
                and answer.kind == "Consent"
                and read(answer, Consent) == Consent(lo, hi, until_ms)
            )
        except ZsError:
            return False

    # -- the responder

    async def on_nominate(self, peer: PeerId, message: Nominate) -> Nominees:
        """Name my part of the witnesses of a channel that ``peer`` is about to propose. Raises Refused."""
        there = list(self._candidates(peer))
        mine = [peer_id_of(key) for key in message.mine]
        if message.n not in SIZES or len(mine) != nominated_by_proposer(message.n) or not set(mine) <= set(there):
            raise Refused("These witnesses are not of guilds that we both are in.")
        if peer in self._busy:
            raise Refused("A nomination with this peer is under way.")
        self._busy.add(peer)
        try:
            rest = [p for p in there if p not in mine]
            theirs = await self._pick(peer, rest, message.n - len(mine), message.until_ms)
        finally:
            self._busy.discard(peer)
        keys = tuple(public_key_of(p) for p in theirs)
        self._agreed.pop(peer, None)
        self._agreed[peer] = (frozenset((*message.mine, *keys)), self._clock.monotonic_us())
        while len(self._agreed) > MAX_AGREED:
            self._agreed.popitem(last=False)
        return Nominees(keys)

    # -- the witness

    async def on_ask(self, peer: PeerId, message: WitnessAsk) -> Consent:
        """Agree to judge between ``peer`` and another, on record before it is said. Raises Refused."""
        me, asker = self._identity.public_key, public_key_of(peer)
        now_ms = self._clock.now_us() // 1000
        if asker not in (message.pk_lo, message.pk_hi) or me in (message.pk_lo, message.pk_hi):
            raise Refused("A witness is asked by one of two others.")
        if not self._willing(peer) or not now_ms < message.until_ms <= now_ms + LONGEST_MS:
            raise Refused("This node does not witness for you.")

        def write(tx: Tx) -> bool:
            full = store.count_consents(tx) >= MAX_CONSENTS or store.count_consents(tx, peer) >= MAX_CONSENTS_OF_PEER
            if full and not store.consented(tx, message.pk_lo, message.pk_hi):
                return False
            store.add_consent(tx, message.pk_lo, message.pk_hi, peer, message.until_ms)
            return True

        if not await self._db.write(write):
            raise Refused("This node witnesses for as many as it can.")
        return Consent(message.pk_lo, message.pk_hi, message.until_ms)
