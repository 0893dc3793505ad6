"""From services to views of the network: paths, the hash table, and which way is chosen for what it was learned of it."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from zstui.engine import views as v
from zstui.engine.clock import US
from zstui.engine.identity.keys import PeerId
from zstui.engine.net.multiaddr import parse_multiaddr
from zstui.engine.net.peers import is_peer_id
from zstui.engine.routing.model import Way, comparison
from zstui.engine.services import Services

RESULTS = 8
"""Goals of one peer that are told, the latest."""
SHORT_CID = 12
"""Last characters of a module's CID, for one that no job here has named."""
_STANDINGS: dict[v.TableStanding, str] = {
    "contact": "a contact: its key shares {bits} with mine",
    "waiting": "waits for a place: the {bits} that its key shares with mine are those of enough other contacts",
    "client": "only asks: it keeps no records and answers no look-ups",
    "unknown": "not heard of there",
}


def network(s: Services) -> v.NetworkView:
    relayed = s.net.status.relayed()
    return v.NetworkView(
        network=s.net.status.describe(),
        addresses=s.net.addresses(),
        reachability=s.net.status.reachability(),
        dht=s.dht.view(),
        relays=s.net.status.relays(),
        relays_for=None if relayed is None else relayed[0],
        circuits=0 if relayed is None else relayed[1],
        routes=routes(s),
    )


def peer_detail(s: Services, peer: PeerId, view: v.PeerView) -> v.PeerDetailView:
    """``view`` is that of the same peer with its standing. Raises UnknownPeer."""
    detail = s.net.detail(peer)
    table, bits = s.dht.standing(peer)
    circuits = (parse_multiaddr(address).relay for address in detail.addresses)
    relays = dict.fromkeys(relay for relay in (detail.relay, *circuits) if relay and relay != s.net.peer_id)
    learned = s.routing.through(peer)[:RESULTS]
    results = (row for row in _routes(s, [goal for goal in learned if not is_peer_id(goal)]) if row.via == peer)
    return replace(
        detail,
        peer=view,
        table=table,
        prefix_bits=bits,
        table_why=_STANDINGS[table].format(bits="1 bit" if bits == 1 else f"{bits} bits"),
        routes=tuple(_ways(s, s.routing.ways(peer, relays), {})),
        results=tuple(results),
    )


def routes(s: Services) -> tuple[v.RouteView, ...]:
    """Everything that was learned: peers first, then modules, then any job; the latest of each first."""
    goals = s.routing.destinations()[::-1]
    return tuple(_routes(s, sorted(goals, key=lambda goal: (not goal, not is_peer_id(goal)))))


def _routes(s: Services, goals: list[str]) -> Iterable[v.RouteView]:
    modules = s.jobs.standing.module_names(goal for goal in goals if goal and not is_peer_id(goal))
    for goal in goals:
        yield from _ways(s, s.routing.ways(goal), modules)


def _ways(s: Services, ways: list[Way], modules: dict[str, str]) -> Iterable[v.RouteView]:
    """Of one goal."""
    for place, way in enumerate(ways):
        goal = way.destination
        kind: v.RouteKind = "any" if not goal else "peer" if is_peer_id(goal) else "module"
        name = (
            "any job"
            if kind == "any"
            else s.net.name_of(goal)
            if kind == "peer"
            else modules.get(goal) or f"module …{goal[-SHORT_CID:]}"
        )
        yield v.RouteView(
            kind=kind,
            destination=goal,
            destination_name=name,
            via=way.neighbour,
            via_name=s.net.name_of(way.neighbour),
            expected_us=way.expected_us,
            weighed_us=way.weighed_us,
            samples=way.samples,
            learned_at=way.at_us // US or None,
            chosen=place == 0 and kind != "any",
            why=_why(kind, place, ways),
        )


def _why(kind: v.RouteKind, place: int, ways: list[Way]) -> str:
    """ "the least of 3; learned from 12 dials"."""
    way = ways[place]
    parts = [comparison(place, ways)]
    if kind == "any":
        parts = ["run times alone"]
    if way.samples:
        what = "dial" if kind == "peer" else "result" if kind == "any" else "bid or result"
        more = "dials" if kind == "peer" else "results" if kind == "any" else "bids and results"
        parts.append(f"learned from {f'one {what}' if way.samples == 1 else f'{way.samples} {more}'}")
    if kind == "module" and way.waiting:
        parts.append("1 job waits there" if way.waiting == 1 else f"{way.waiting} jobs wait there")
    return "; ".join(parts)
