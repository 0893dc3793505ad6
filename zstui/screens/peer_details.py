"""Everything about one peer: its path and why, round trips, what it offers, ways to it, its place in the hash table."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any

from zstui.bridge import Bridge
from zstui.engine.commands import ShowNetwork, ShowPeer
from zstui.engine.errors import ZsError
from zstui.engine.money import format_rate
from zstui.engine.views import CapabilitiesView, HeardView, NetworkView, PeerDetailView, PeerView, StatusView
from zstui.screens.network import route_lines, summary_lines
from zstui.screens.widgets.lines import field, heading, mixed, paragraph
from zstui.screens.widgets.text import Line, Span, bar, duration, now, plain, plot, short_address

STATES = {"online": "ok", "connecting": "info", "offline": "muted", "blocked": "error"}
PATHS = {"lan": ("LAN", "ok"), "direct": ("direct", ""), "relay": ("relay", "warn")}
REFRESH = 2.0
"""Seconds after which what is looked at is read again."""
KEPT = 64
PLOT_ROWS = 5


class Survey:
    """Details of peers and of the network, read from the node while they are looked at; ``seen`` is called then."""

    def __init__(self, bridge: Bridge, run: Callable[..., Any], seen: Callable[[], None]) -> None:
        self._bridge, self._run, self._seen = bridge, run, seen
        self._peers: dict[str, PeerDetailView] = {}
        self._network: NetworkView | None = None
        self._asked: dict[str, float] = {}
        """By peer, "" for the network: when it was read."""

    def peer(self, peer_id: str) -> PeerDetailView | None:
        """What is known, which may be a little old: it is then read again."""
        self._ask(peer_id)
        return self._peers.get(peer_id)

    def network(self) -> NetworkView | None:
        self._ask("")
        return self._network

    def _ask(self, key: str) -> None:
        if monotonic() - self._asked.get(key, -REFRESH) < REFRESH:
            return
        self._asked.pop(key, None)
        self._asked[key] = monotonic()
        if len(self._asked) > KEPT:
            oldest = next(iter(self._asked))
            del self._asked[oldest]
            self._peers.pop(oldest, None)
        self._run(partial(self._read, key), name=f"survey of {key[-8:] or 'the network'}")

    async def _read(self, key: str) -> None:
        try:
            if key:
                fresh = await self._bridge.execute(ShowPeer(peer=key))
                changed = fresh != self._peers.get(key)
                self._peers[key] = fresh
            else:
                network = await self._bridge.execute(ShowNetwork())
                changed, self._network = network != self._network, network
        except ZsError:
            return  # The peer went meanwhile, or the node; the frame shows that.
        if changed:
            self._seen()


def peer_details(peer: PeerView, bridge: Bridge, survey: Survey, width: int) -> list[Line]:
    detail = survey.peer(peer.peer_id)
    lines = [*_who(peer, detail, width), *_standing(peer, width)]
    lines += [*heading("Offers", width), *_offer(peer.capabilities, width)]
    if detail is not None:
        lines += [*heading("Ways", width), *_ways(peer, detail, width)]
    lines += heading("Round trip", width)
    lines += plot(peer.rtt_history_ms, width, PLOT_ROWS, "ms") or [(Span("no measurement", "muted"),)]
    return lines + summary_lines(bridge.status, survey.network(), width)


def _who(peer: PeerView, detail: PeerDetailView | None, width: int) -> list[Line]:
    lines: list[Line] = [
        *field("Peer", peer.name or "no name", "strong", width),
        *field("State", peer.state, STATES[peer.state], width),
    ]
    if peer.path is not None:
        name, style = PATHS[peer.path]
        lines += field("Path", f"{name}: {peer.why}" if peer.why else name, style, width)
    elif peer.why:
        lines += field("Why", peer.why, "warn", width)
    if detail is not None and detail.dialed is not None:
        lines += field("Link", "made by this node" if detail.dialed else "made by the peer", "", width)
    if detail is not None and detail.reached_me is not None:
        ago = f"{duration(now() - (detail.reached_me_at or 0))} ago"
        word, style = ("reached this node", "ok") if detail.reached_me else ("could not reach this node", "warn")
        lines += field("Dial-back", f"{word} {ago}", style, width)
    lines += field("Id", peer.peer_id, "", width)
    lines += field("Address", peer.address.removesuffix(f"/p2p/{peer.peer_id}") or "unknown", "", width)
    others = [a for a in detail.addresses if a != peer.address] if detail is not None else []
    if others:
        lines += field("Also at", ", ".join(_short(a) for a in others[:4]), "", width)
    return lines


def _short(address: str) -> str:
    return f"{short_address(address)}{' by relay' if '/p2p-circuit' in address else ''}"


def _standing(peer: PeerView, width: int) -> list[Line]:
    first, last = duration(now() - peer.first_seen_at), duration(now() - peer.last_seen_at)
    seen = f"first {first} ago, " + ("here now" if peer.state == "online" else f"last {last} ago")
    lines: list[Line] = [mixed("Score", [Span(f"{peer.score:.2f} "), *bar(peer.score, 10, empty="·")])]
    if peer.heard is not None:
        lines += field("Hearsay", hearsay(peer.heard), "muted", width)
    if peer.address:
        lines += field("Seen", seen, "", width)
    if peer.heard_at is not None:
        ago = duration(now() - peer.heard_at)
        lines += field("Offer", f"heard from the network {ago} ago, signed by the peer", "info", width)
    return lines + (field("Runs", peer.agent, "", width) if peer.agent else [])


def hearsay(heard: HeardView) -> str:
    """What others say of a peer, and whether their word counts."""
    if not heard.issuers:
        who = "1 peer that says something" if heard.uncounted == 1 else f"{heard.uncounted} peers that say something"
        return f"no good work that you know leads to the {who}"
    who = "1 peer says" if heard.issuers == 1 else f"{heard.issuers} peers say"
    return f"{who}: {heard.done} jobs done, {heard.failed} failed"


def _offer(offer: CapabilitiesView, width: int) -> list[Line]:
    if not offer.executor:
        lines = paragraph("Does not run jobs for others.", "muted", width)
    else:
        terms = f"{offer.cores} cores, {offer.memory_mib} MiB, {offer.timeout_s} s a job"
        price = f"{format_rate(offer.price_per_second_nano)} a second, {format_rate(offer.price_per_mib_nano)} a MiB"
        lines = [*field("Runs jobs", terms, "ok", width), *field("Price", price, "", width)]
        if offer.closed:
            lines += field("Not now", offer.closed, "warn", width)
    if offer.hardware:
        lines += field("Hardware", offer.hardware, "", width)
    if offer.region:
        lines += field("Region", offer.region, "", width)
    if offer.modules:
        lines += field("Has ready", f"{len(offer.modules)} modules", "", width)
    if offer.tags:
        lines += field("Tags", ", ".join(offer.tags), "", width)
    return lines


def _ways(peer: PeerView, detail: PeerDetailView, width: int) -> list[Line]:
    """How packets and jobs get there, and why that way."""
    lines = field("Table", detail.table_why, "", width)
    name = plain(peer.name) or "it"
    if detail.routes:
        lines += paragraph(f"To {name} through relays:", "", width) + route_lines(detail.routes, width)
    elif peer.path in ("lan", "direct"):
        lines += field("Relays", "none needed: the link is direct", "", width)
    else:
        lines += field("Relays", "no relay to it is known", "", width)
    if detail.results:
        lines += paragraph(f"Results expected from {name}:", "", width) + route_lines(detail.results, width, goal=True)
    elif peer.capabilities.executor:
        lines += field("Jobs", "nothing learned yet: it has run none of mine", "muted", width)
    return lines


CHOICE = (
    "A direct link is kept over one through a relay, and put in its place as soon as one is found. Of several relays the "
    "one that led there soonest is tried first. What was never tried is tried once, and what was learned fades by half "
    "in an hour, so that a way that was slow gets another chance."
)


def why_lines(peer: PeerView, detail: PeerDetailView | None, status: StatusView | None, width: int) -> list[Line]:
    """In sentences why packets to a peer take this path, and what else was weighed."""
    name = plain(peer.name) or "This peer"
    relay = plain(detail.relay_name) if detail is not None and detail.relay_name else "a peer that relays"
    text = {
        "lan": f"{name} is on the local network{f' ({peer.why})' if peer.why else ''}. Packets go straight to it.",
        "direct": f"{name} is on another network and answers directly. Packets go straight to it.",
        "relay": f"Packets to {name} go {peer.why or f'through {relay}'}. {relay} carries them sealed and cannot read them. "
        "e in the list tries again for a direct path.",
        None: f"There is no link to {name}: {(peer.why or 'it was not tried yet').rstrip('.')}. e in the list tries now.",
    }[peer.path]
    lines = paragraph(text, "", width)
    if detail is not None:
        lines += [*heading("Addresses that could be dialed", width)]
        for address in detail.addresses:
            lines += paragraph(_short(address), "", width)
        if not detail.addresses:
            lines += paragraph("None is known. The hash table is asked for some when it is dialed.", "muted", width)
        lines += [*heading("Ways", width), *_ways(peer, detail, width)]
    lines += [*heading("How a way is chosen", width), *paragraph(CHOICE, "", width)]
    reached = (status.reachability if status is not None else "") or "not known yet"
    return [
        *lines,
        *heading("How others reach this node", width),
        *paragraph(f"{reached[:1].upper()}{reached[1:]}.", "", width),
    ]
