"""10,000 nodes in memory on the real routing table and look-up: each joins through one that is there, then looks for others.

lookup_success                 share of look-ups of a random living node that found it
hops_p50, hops_p95             questions in a row until the node was heard of
success_at_20_percent_churn    right after every fifth node vanished without a word, before any table was refreshed
us_per_lookup                  processor time of one look-up, without any network, of the node that looks
asked_p50                      questions of one look-up
"""

from __future__ import annotations

import random
import statistics
import time

from zstui.engine.dht.lookup import Lookup
from zstui.engine.dht.service import REFRESHES
from zstui.engine.dht.table import BITS, RoutingTable, peer_key
from zstui.engine.identity.keys import PeerId, peer_id_of

NODES = 10_000
LOOKUPS = 2_000
CHURN = 0.2


class Network:
    """Nodes that answer at once, or never if they are gone."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.tables: dict[PeerId, RoutingTable] = {}
        self.names: list[PeerId] = []

    def join(self) -> None:
        me = peer_id_of(self.random.randbytes(32))
        table = RoutingTable(peer_key(me))
        if self.names:
            friend = self.random.choice(self.names)
            table.heard(friend, "10.0.0.1")
            self.lookup(me, table, peer_key(me))
            for _ in range(REFRESHES):
                self.lookup(me, table, self.random.getrandbits(BITS))
        self.tables[me] = table
        self.names.append(me)

    def leave(self, share: float) -> None:
        gone = set(self.random.sample(self.names, round(len(self.names) * share)))
        for name in gone:
            del self.tables[name]
        self.names = [name for name in self.names if name not in gone]

    def lookup(self, me: PeerId, table: RoutingTable, target: int, stop_at: PeerId | None = None) -> Lookup:
        found = Lookup(target, table.closest(target))
        while not found.done and not (stop_at and found.has_heard_of(stop_at)):
            for peer in found.next():
                other = self.tables.get(peer)
                if other is None:
                    found.failed(peer)
                    table.failed(peer)
                    continue
                found.answered(peer, [p for p in other.closest(target) if p != me])
                other.heard(me, "10.0.0.1")
                table.heard(peer, "10.0.0.1")
        return found

    def search(self, times: int) -> dict[str, float]:
        """Look-ups between random living nodes."""
        hops, asked, successes = [], [], 0
        begin = time.process_time()
        for _ in range(times):
            me, wanted = self.random.sample(self.names, 2)
            found = self.lookup(me, self.tables[me], peer_key(wanted), stop_at=wanted)
            asked.append(found.asked)
            if found.has_heard_of(wanted):
                successes += 1
                hops.append(found.hops_to(wanted))
        spent = time.process_time() - begin
        hops.sort()
        return {
            "success": successes / times,
            "hops_p50": statistics.median(hops),
            "hops_p95": hops[int(len(hops) * 0.95)],
            "asked_p50": statistics.median(asked),
            "us": round(spent / times * 1e6),
        }


async def measure() -> dict[str, object]:
    return simulate(NODES, LOOKUPS)


def simulate(nodes: int, lookups: int, seed: int = 1) -> dict[str, object]:
    network = Network(seed)
    for _ in range(nodes):
        network.join()
    calm = network.search(lookups)
    network.leave(CHURN)
    churned = network.search(lookups)
    return {
        "nodes": nodes,
        "lookup_success": calm["success"],
        "hops_p50": calm["hops_p50"],
        "hops_p95": calm["hops_p95"],
        "success_at_20_percent_churn": churned["success"],
        "us_per_lookup": calm["us"],
        "asked_p50": calm["asked_p50"],
    }
