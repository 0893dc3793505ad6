"""``zstui node``, and what concerns peers."""

from __future__ import annotations

import argparse

from zstui.arguments.types import Family, Group, Verb, amount, endpoint, endpoint_or_none, rate
from zstui.engine import commands as c


def add(sub: Group, family: Family, verb: Verb) -> None:
    _options(verb(sub, "node", "run a node without a screen"))
    verb(sub, "status", "this node at a glance", lambda a: c.Status())
    verb(sub, "peers", "peers known and connected", lambda a: c.ListPeers(like=a.like)).add_argument(
        "--like", default="", metavar="WORDS", help='only peers that offer such a thing, e.g. "executor 8 cores gpu"'
    )
    verb(sub, "discover", "executors beyond those met, from the hash table", lambda a: c.Discover())
    show = verb(
        family("peer", "one peer"),
        "show",
        "its path, place in the hash table and routes",
        lambda a: c.ShowPeer(peer=a.peer),
    )
    show.add_argument("peer")
    verb(sub, "network", "how this node is reached, its hash table, relays and routes", lambda a: c.ShowNetwork())
    routes = verb(
        sub, "routes", "which way is chosen, and what was learned of each", lambda a: c.ListRoutes(peer=a.peer)
    )
    routes.add_argument("peer", nargs="?", default="", help="only ways to it or through it")
    verb(sub, "connect", "connect to a peer", lambda a: c.Connect(address=a.address)).add_argument(
        "address", help="multiaddr, host:port, or a known peer's id or name"
    )
    name = verb(sub, "name", "give a peer a name of your own", lambda a: c.NamePeer(peer=a.peer, name=a.name))
    name.add_argument("peer")
    name.add_argument("name")
    block = verb(sub, "block", "blacklist a peer", lambda a: c.BlockPeer(peer=a.peer, hours=a.hours))
    block.add_argument("peer")
    block.add_argument("--hours", type=int, default=24)
    verb(sub, "unblock", "take a peer off the blacklist", lambda a: c.UnblockPeer(peer=a.peer)).add_argument("peer")
    verb(sub, "rank", "peers by reputation", lambda a: c.Rank(category=a.category)).add_argument("--category")


def _options(node: argparse.ArgumentParser) -> None:
    node.add_argument("--listen", type=endpoint, metavar="HOST:PORT")
    node.add_argument("--mdns-interface", metavar="ADDR|none")
    node.add_argument("--network", metavar="NAME", help="discover only nodes started with the same name")
    node.add_argument("--lan-only", action="store_true", default=None, help="send nothing off the local network")
    node.add_argument("--relay", action="store_true", default=None, help="carry traffic between peers behind NATs")
    node.add_argument(
        "--relay-mib-per-s", type=int, metavar="MIB", help="the most that such traffic may come to (default: 8)"
    )
    node.add_argument("--metrics", type=endpoint_or_none, metavar="HOST:PORT|none")
    node.add_argument("--peer", action="append", dest="peers", metavar="ADDRESS", help="stay connected to it")
    node.add_argument("--name", help="shown to other peers")
    node.add_argument("--executor", action="store_true", default=None, help="consent to run others' jobs")
    node.add_argument("--price-per-second", type=rate, dest="price_per_second_nano", metavar="U")
    node.add_argument("--price-per-mib", type=rate, dest="price_per_mib_nano", metavar="U")
    node.add_argument("--max-timeout", type=int, dest="max_timeout_s", metavar="S", help="longest job that is taken")
    node.add_argument("--note-ms", type=int, metavar="MS", help="bill a running job each such time; 0: only at its end")
    node.add_argument("--accept-ms", type=int, metavar="MS", help="a slice unpaid for longer holds the job still")
    node.add_argument(
        "--exposure-max", type=amount, dest="exposure_max_u", metavar="U", help="most unpaid work of a job"
    )
    node.add_argument("--stop-with-stdin", action="store_true", help="end when standard input closes")
    node.add_argument("--demo", action="store_true", default=None, help=argparse.SUPPRESS)
