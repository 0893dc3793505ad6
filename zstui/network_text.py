"""Paths, hash table and routes as plain text."""

from __future__ import annotations

from collections.abc import Sequence

from zstui.columns import Row, clock, table
from zstui.engine.views import NetworkView, PeerDetailView, RouteView

ROUTES: Row = ("TO", "THROUGH", "EXPECTED", "CHOICE", "WHY")


def route(v: RouteView) -> Row:
    time = f"{v.expected_us / 1e6:.2f} s" if v.samples else "-"
    return v.destination_name, v.via_name, time, "first" if v.chosen else "", v.why


def routes(views: Sequence[RouteView]) -> str:
    return table(ROUTES, [route(view) for view in views])


def network(v: NetworkView) -> str:
    dht = v.dht
    refreshed = f"refreshed {clock(dht.refreshed_at)}" if dht.refreshed_at else "not refreshed yet"
    buckets = "  ".join(f"{b.prefix_bits}:{b.contacts}{f'+{b.waiting}' if b.waiting else ''}" for b in dht.buckets)
    text = "\n".join(
        [
            f"network   {v.network}",
            f"reached   {v.reachability or 'not known yet'}",
            *(f"address   {address}" for address in v.addresses),
            f"table     {dht.contacts} contacts, {dht.waiting} waiting, {refreshed}; {dht.lookups} look-ups, "
            f"the latest asked {dht.lookup_asked} peers in {dht.lookup_us / 1e6:.2f} s",
            f"buckets   {buckets or 'none'}  (bits shared with this node's key: contacts + waiting)",
            f"keeps     {dht.provider_keys} provider keys, {dht.value_keys} values; {dht.announced} records announced",
            *(f"relay     {r.name}{', holds a place for this node' if r.place else ''}" for r in v.relays),
            *([] if v.relays_for is None else [f"relays    for {v.relays_for} peers, {v.circuits} links now"]),
        ]
    )
    return f"{text}\n\n{routes(v.routes)}"


def peer_detail(v: PeerDetailView) -> str:
    p = v.peer
    link = "" if v.dialed is None else f", made by {'this node' if v.dialed else 'the peer'}"
    back = (
        "not lately"
        if v.reached_me is None
        else f"{'reached' if v.reached_me else 'could not reach'} this node at {clock(v.reached_me_at)}"
    )
    rtt = "-" if p.rtt_ms is None else f"{p.rtt_ms:.1f} ms"
    text = "\n".join(
        [
            f"{p.name}  {p.peer_id}",
            f"state     {p.state}{link}",
            f"path      {p.path or '-'}{f': {p.why}' if p.why else ''}",
            f"RTT       {rtt}",
            *(f"address   {address}" for address in v.addresses or (p.address or "-",)),
            f"dial-back {back}",
            f"table     {v.table_why}",
            f"speaks    {' '.join(v.protocols) or '-'}",
        ]
    )
    for rows in filter(None, (v.routes, v.results)):
        text += f"\n\n{routes(rows)}"
    return text
