"""Choosing an executor, and what a job would cost, before it is submitted."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol

from msgspec.structs import replace

from zstui.engine.commands import JobSpec
from zstui.engine.config import Settings
from zstui.engine.errors import InvalidModule, NoExecutor
from zstui.engine.identity.card import Card, capabilities
from zstui.engine.identity.keys import PeerId
from zstui.engine.jobs.cid import cid_of
from zstui.engine.jobs.cost import cost
from zstui.engine.jobs.submission import read_module
from zstui.engine.market.selection import Candidate, expected_us, match, max_cost, prices, rank
from zstui.engine.routing.model import Learned
from zstui.engine.search.embedding import query_words
from zstui.engine.search.model import Fit
from zstui.engine.views import EstimateView, ExecutorView, HeardView, Role, SuggestionView


class GuildPort(Protocol):
    def resolve(self, text: str) -> str: ...
    def members(self, guild_id: str) -> Mapping[PeerId, Role]: ...
    def require(self, guild_id: str, peer: PeerId, *roles: Role) -> None: ...


class ReputationPort(Protocol):
    def score(self, peer: PeerId) -> float: ...
    def completed(self, peer: PeerId) -> int: ...
    def failed(self, peer: PeerId) -> int: ...
    def blocked_until(self, peer: PeerId, guild_id: str = "") -> int | None: ...


class NetPort(Protocol):
    @property
    def peer_id(self) -> PeerId: ...
    def connected(self) -> frozenset[PeerId]: ...
    def name_of(self, peer: PeerId) -> str: ...
    def card_of(self, peer: PeerId) -> Card | None: ...
    def resolve(self, text: str) -> PeerId: ...


class JobPort(Protocol):
    def typical(self, module_cid: str) -> tuple[int, int] | None: ...
    def typical_gas(self, module_cid: str) -> int | None: ...
    def speed(self, peer: PeerId) -> float | None: ...


class SearchPort(Protocol):
    def fits(self, text: str, peers: Iterable[PeerId]) -> dict[PeerId, Fit]: ...
    def like(self, text: str, count: int) -> list[tuple[PeerId, float]]: ...


NO_FIT = Fit()
LOOKED_AT = 24
"""Peers most like what a job wants that are looked at for suggestions outside of its guild."""
SUGGESTED = 3


class Market:
    """Stateless: every answer is from what the other services know at that moment."""

    def __init__(
        self,
        *,
        jobs: JobPort,
        guilds: GuildPort,
        reputation: ReputationPort,
        net: NetPort,
        settings: Settings,
        uptime: Callable[[PeerId], float] = lambda _: 1.0,
        own_speed: Callable[[], float | None] = lambda: None,
        soon: Callable[[str, PeerId], Learned | None] = lambda module_cid, peer: None,
        search: SearchPort | None = None,
        heard: Callable[[PeerId], HeardView | None] = lambda peer: None,
    ) -> None:
        """``uptime(peer)``: the share of the time that it was seen online. ``soon(module, peer)``: when it would be done.
        ``heard(peer)``: what others say of it."""
        self._heard = heard
        self._search = search
        self._soon = soon
        self._uptime = uptime
        self._own_speed = own_speed
        self._jobs = jobs
        self._guilds = guilds
        self._reputation = reputation
        self._net = net
        self._settings = settings

    def candidates(self, spec: JobSpec, name: str = "") -> tuple[ExecutorView, ...]:
        """The guild's other members that run jobs, best first; those that cannot take this one carry the reason.

        A module that ``spec`` names by its CID, not by its path, is one whose results may be expected; the words of its
        ``name`` are looked for on cards, too. Raises GuildError.
        """
        guild_id = self._guilds.resolve(spec.guild)
        self._guilds.require(guild_id, self._net.peer_id, "creator", "executor", "member")
        online = self._net.connected()
        members = {peer: role for peer, role in self._guilds.members(guild_id).items() if peer != self._net.peer_id}
        text = f"{spec.wants} {name}".strip()
        fits = self._search.fits(text, members) if self._search is not None and text else {}
        wanted = frozenset(query_words(spec.wants)) if spec.wants else frozenset()
        found = (
            self._candidate(spec.module, guild_id, peer, role, peer in online, fits.get(peer, NO_FIT), wanted)
            for peer, role in members.items()
        )
        return rank(spec, (c for c in found if c.runs_jobs))

    def _candidate(
        self,
        module_cid: str,
        guild_id: str,
        peer: PeerId,
        role: Role,
        online: bool,
        fit: Fit,
        wanted: frozenset[str],
    ) -> Candidate:
        card = self._net.card_of(peer)
        return Candidate(
            peer_id=peer,
            name=self._net.name_of(peer),
            role=role,
            online=online,
            offer=None if card is None else capabilities(card),
            score=self._reputation.score(peer),
            completed=self._reputation.completed(peer),
            failed=self._reputation.failed(peer),
            speed=self._jobs.speed(peer),
            uptime=self._uptime(peer),
            blocked=self._reputation.blocked_until(peer, guild_id) is not None,
            soon=self._soon(module_cid, peer),
            fit=fit,
            wanted=tuple(word for word in fit.said if word in wanted),
            caches=card is not None and module_cid in card.modules,
            heard=self._heard(peer),
        )

    async def choose(self, spec: JobSpec) -> PeerId:
        """The executor that the spec names, or else the best ranked that can take the job; "" where the job has to wait.

        Raises NoExecutor with every peer's reason where waiting is not wanted or no use, GuildError, UnknownPeer.
        """
        name = Path(spec.module).stem
        if not spec.executor:
            with contextlib.suppress(InvalidModule):  # said by whoever submits it
                spec = replace(spec, module=await _cid_of(spec.module))
        candidates = self.candidates(spec, name)
        if spec.executor:
            wanted = self._net.resolve(spec.executor)
            candidates = tuple(c for c in candidates if c.peer_id == wanted)
            if not candidates:
                raise NoExecutor(f"{self._net.name_of(wanted)} runs no jobs for this guild.")
        for candidate in candidates:
            if not candidate.refusal:
                return candidate.peer_id
        if spec.queue_s and any(c.passes for c in candidates):
            return candidates[0].peer_id if spec.executor else ""
        reasons = "; ".join(f"{c.name}: {c.refusal}" for c in candidates)
        raise NoExecutor(
            f"No executor can take the job: {reasons}." if reasons else "Nobody else in the guild runs jobs for others."
        )

    async def estimate(self, spec: JobSpec) -> EstimateView:
        """Largest and typical cost with the executor named or the best one. Raises InvalidModule, GuildError, UnknownPeer."""
        cid = await _cid_of(spec.module)
        name = Path(spec.module).stem
        candidates = self.candidates(replace(spec, module=cid), name)
        per_second, per_mib = self._prices(spec, candidates)
        typical, gas = self._jobs.typical(cid), self._jobs.typical_gas(cid)
        candidates = tuple(self._expected(spec, c, gas, typical) for c in candidates)
        likely = None
        if typical is not None:
            likely = cost(per_second, per_mib, *typical, max(0, spec.max_price_u)).total_u
        return EstimateView(
            max_cost_u=max_cost(spec, per_second, per_mib),
            typical_cost_u=likely,
            typical_duration_us=None if typical is None else typical[0],
            candidates=candidates,
            here_us=expected_us(gas, self._own_speed()),
            elsewhere=self._elsewhere(spec, cid, name),
        )

    def _elsewhere(self, spec: JobSpec, module_cid: str, name: str) -> tuple[SuggestionView, ...]:
        """Executors outside the guild that say something of what the job wants, or have its module."""
        if self._search is None:
            return ()
        text = f"{spec.wants} {name}"
        online = self._net.connected()
        members = self._guilds.members(self._guilds.resolve(spec.guild))
        like = dict(self._search.like(f"{spec.wants} {module_cid}", LOOKED_AT))
        found = []
        for peer, fit in self._search.fits(
            text, [p for p in like if p not in members and p != self._net.peer_id]
        ).items():
            card = self._net.card_of(peer)
            if card is None or not card.executor or self._reputation.blocked_until(peer) is not None:
                continue
            words = match(fit, module_cid in card.modules)
            if fit.said or module_cid in card.modules:
                found.append(
                    SuggestionView(peer_id=peer, name=self._net.name_of(peer), online=peer in online, match=words)
                )
        found.sort(key=lambda view: (-like[view.peer_id], not view.online, view.peer_id))
        return tuple(found[:SUGGESTED])

    def _expected(
        self, spec: JobSpec, c: ExecutorView, gas: int | None, typical: tuple[int, int] | None
    ) -> ExecutorView:
        """With how long and how dear the job would be there: from finished jobs with the module and the peer's speed."""
        took_us = expected_us(gas, c.speed)
        if took_us is None or typical is None:
            return c
        rates = (
            min(c.price_per_second_nano, spec.price_per_second_nano or c.price_per_second_nano),
            min(c.price_per_mib_nano, spec.price_per_mib_nano or c.price_per_mib_nano),
        )
        due = cost(*rates, took_us, typical[1], max(0, spec.max_price_u))
        return replace(c, expected_us=took_us, expected_cost_u=due.total_u)

    def _prices(self, spec: JobSpec, candidates: tuple[ExecutorView, ...]) -> tuple[int, int]:
        """Of the executor that would get the job; if nobody could, the prices offered, or else my own."""
        wanted = self._net.resolve(spec.executor) if spec.executor else None
        for c in candidates:
            if c.peer_id == wanted or (wanted is None and not c.refusal):
                card = self._net.card_of(c.peer_id)
                if card is not None:
                    return prices(spec, capabilities(card))
        own = self._settings.price_per_second_nano, self._settings.price_per_mib_nano
        return (
            own[0] if spec.price_per_second_nano is None else max(0, spec.price_per_second_nano),
            own[1] if spec.price_per_mib_nano is None else max(0, spec.price_per_mib_nano),
        )


async def _cid_of(path: str) -> str:
    """Raises InvalidModule."""
    _, module = await read_module(path)
    return await asyncio.to_thread(cid_of, module)
