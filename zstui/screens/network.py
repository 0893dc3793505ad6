"""What the Peers pane tells of the network as a whole: how this node is reached, its hash table, relays and routes."""

from __future__ import annotations

from collections.abc import Sequence

from zstui.engine.views import DhtView, NetworkView, RouteView, StatusView, TopicView
from zstui.screens.widgets.lines import field, heading, mixed, paragraph
from zstui.screens.widgets.text import Line, Span, clip, clock_time, duration, fit, milliseconds, now, plain

MOST_ROUTES = 40
NAME = 14


def network_lines(status: StatusView | None, view: NetworkView | None, width: int) -> list[Line]:
    """This node's addresses and its part in the network, and what to do where others cannot reach it."""
    if status is None:
        return [(Span("starting", "muted"),)]
    good = status.network.endswith("ok")
    lines = [
        *field("Network", status.network or "none", "ok" if good else "warn", width),
        *field("Reached", status.reachability or "not known yet: nobody has dialed back so far", "", width),
        *field("My id", status.peer_id, "", width),
    ]
    for address in status.addresses:
        lines += field("Address", address, "", width)
    for notice in status.notices:
        lines += field("Notice", notice, "warn", width)
    if status.topics:
        lines += [*heading("Announcements", width), *_topic_lines(status.topics, width)]
    if view is not None:
        lines += [*heading("Hash table", width), *table_lines(view.dht, width), *_buckets(view.dht, width)]
        lines += [*heading("Relays", width), *relay_lines(view, width)]
        lines += [*heading("Routes learned", width), *_all_routes(view.routes, width)]
    lines += [*heading("If nobody finds you", width), *_advice(status, width)]
    lines += [(), (Span(f"As of {clock_time(now())}", "muted"),)]
    return lines


def _topic_lines(topics: Sequence[TopicView], width: int) -> list[Line]:
    """What goes round in the whole network, and through whom."""
    lines: list[Line] = []
    for topic in topics:
        said = f"{_count(topic.authors, 'peer')} heard; {topic.mesh} of {topic.peers} connected pass on all of it"
        lines += field(topic.subject.capitalize(), said, "", width, 13)
    return lines


def table_lines(dht: DhtView, width: int) -> list[Line]:
    """The hash table in two or three fields."""
    waiting = f", {dht.waiting} more wait for a place" if dht.waiting else ""
    kept = f"{_count(dht.provider_keys, 'provider key')} and {_count(dht.value_keys, 'signed value')} for others"
    if dht.contacts:
        contacts = field("Contacts", f"{_count(dht.contacts, 'peer')} in {_buckets_of(dht)}{waiting}", "", width)
    else:
        contacts = field(
            "Contacts", "none yet: connect to one peer (c) and the others are found through it", "warn", width
        )
    refreshed = "not refreshed yet" if dht.refreshed_at is None else f"refreshed {_ago(dht.refreshed_at)}"
    latest = (
        f", the latest asked {_count(dht.lookup_asked, 'peer')} in {milliseconds(dht.lookup_us / 1000)}"
        if dht.lookups
        else ""
    )
    return [
        *contacts,
        *field("Keeps", kept, "", width),
        *field(
            "Says", f"{_count(dht.announced, 'record')} of this node; it serves, that is answers look-ups", "", width
        ),
        *field("Look-ups", f"{refreshed}; {_count(dht.lookups, 'look-up')}{latest}", "", width),
    ]


def relay_lines(view: NetworkView, width: int) -> list[Line]:
    lines: list[Line] = []
    if view.relays_for is not None:
        lines += field(
            "This node",
            f"relays for {_count(view.relays_for, 'peer')}, {_count(view.circuits, 'link')} now",
            "ok",
            width,
        )
    for relay in view.relays:
        word = "holds a place for this node" if relay.place else "could relay, not needed now"
        lines += field(clip(plain(relay.name), NAME - 1).ljust(NAME), word, "ok" if relay.place else "", width, NAME)
    return lines or paragraph("No peer here relays for others, and this node does not.", "muted", width)


def route_lines(routes: Sequence[RouteView], width: int, *, goal: bool = False) -> list[Line]:
    """A line or more for each way: who it goes through, or with ``goal`` what it leads to; its time; why it is where it is."""
    lines: list[Line] = []
    for route in routes:
        name = plain(route.destination_name if goal else route.via_name)
        time = f"{route.expected_us / 1e6:.2f} s" if route.samples else "-"
        head = (
            Span("▸ " if route.chosen else "  ", "ok"),
            Span(fit(name, NAME), "strong" if route.chosen else ""),
            Span(fit(time, 9, "right") + "  "),
        )
        indent = sum(len(span.text) for span in head)
        first, *rest = paragraph(route.why, "muted", width - indent)
        lines.append((*head, *first))
        lines += [(Span(" " * indent), *line) for line in rest]
    return lines


def summary_lines(status: StatusView | None, view: NetworkView | None, width: int) -> list[Line]:
    """The whole network in a few lines, below one peer's details."""
    if status is None or view is None:
        return []
    lines = [*heading("The network", width), *field("Reached", status.reachability or "not known yet", "", width)]
    lines += table_lines(view.dht, width)
    places = [relay.name for relay in view.relays if relay.place]
    idle = len(view.relays) - len(places)
    words = [f"reached through {', '.join(places)}"] if places else []
    words += [f"{_count(idle, 'more' if places else 'peer')} could relay"] if idle else []
    words += [f"relays for {_count(view.relays_for, 'peer')}"] if view.relays_for is not None else []
    lines += field("Relays", "; ".join(words) or "none among the peers connected", "", width)
    lines.append(mixed("", [Span("f shows all of it, with the routes learned", "muted")]))
    return lines


def _buckets(dht: DhtView, width: int) -> list[Line]:
    """How the contacts are spread over distances, nearest last: "0:12 1:7 2:3"."""
    if not dht.buckets:
        return []
    spread = "  ".join(f"{b.prefix_bits}:{b.contacts}{f'+{b.waiting}' if b.waiting else ''}" for b in dht.buckets)
    return [
        *field("Buckets", spread, "", width),
        *field("", "bits of the key shared with mine: contacts (+ waiting)", "muted", width),
    ]


def _all_routes(routes: Sequence[RouteView], width: int) -> list[Line]:
    if not routes:
        return paragraph(
            "Nothing yet. Times of dials through relays and of jobs are learned as they happen.", "muted", width
        )
    lines: list[Line] = []
    goal = None
    for route in routes[:MOST_ROUTES]:
        if route.destination != goal:
            goal = route.destination
            title = {"peer": "To {}, through:", "module": "{}, run by:", "any": "Any job, run by:"}[route.kind]
            lines.append((Span(clip(title.format(plain(route.destination_name)), width)),))
        lines += route_lines([route], width)
    if len(routes) > MOST_ROUTES:
        lines += paragraph(f"and {len(routes) - MOST_ROUTES} more: zstui routes lists them all", "muted", width)
    return lines


def _advice(status: StatusView, width: int) -> list[Line]:
    port = next((a.split("/udp/")[1].split("/")[0] for a in status.addresses if "/udp/" in a), "4433")
    texts = (
        "1. Both machines must be on one network, or one must know the other's address (c connects to it).",
        f"2. The firewall must let UDP port {port} in, and UDP 5353 for discovery. With ufw: "
        f"sudo ufw allow {port}/udp; with firewalld: sudo firewall-cmd --add-port={port}/udp.",
        "3. Guest and hotel networks often keep machines apart, and most homes are behind a NAT. Any peer that both "
        "reach and that runs zstui node --relay brings the two together: both connect to it, and invites then carry the way.",
    )
    return [line for text in texts for line in paragraph(text, "", width)]


def _buckets_of(dht: DhtView) -> str:
    return _count(sum(bucket.contacts > 0 for bucket in dht.buckets), "bucket")


def _count(number: int, word: str) -> str:
    plural = word if word == "more" else f"{word}s"
    return f"{number:,} {word if number == 1 else plural}"


def _ago(at: int) -> str:
    return f"{duration(now() - at)} ago"
