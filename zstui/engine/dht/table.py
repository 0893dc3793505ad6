"""The Kademlia routing table: which peers to ask, by their distance from this node. Pure.

Distances are XOR of SHA-256 hashes (Maymounkov and Mazieres 2002; libp2p Kademlia specification). Peers that have answered for
long are kept before new ones, so that a flood of new peers displaces nobody, and of the public addresses of one network only so
many enter a bucket, so that it takes many networks to fill one.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache

import msgspec

from zstui.engine.identity.keys import PeerId, base58_decode

BITS = 256
K = 20
"""Contacts of one bucket, and answers to one question."""
REPLACEMENTS = 8
"""Contacts of one bucket that wait for a place."""
MAX_FAILURES = 2
"""Unanswered questions in a row after which a contact loses its place."""
PER_NETWORK_IN_BUCKET, PER_NETWORK = 2, 10
"""Contacts with public addresses of one /24 (IPv4) or /48 (IPv6), in a bucket and in the table."""


def key_of(data: bytes) -> int:
    """Where a key lies in the 256-bit space."""
    return int.from_bytes(hashlib.sha256(data).digest())


@lru_cache(maxsize=32_768)
def peer_key(peer: PeerId) -> int:
    """Where a peer lies: the hash of its binary id."""
    return key_of(base58_decode(peer))


def network_of(host: str) -> str:
    """The network whose owner can have many addresses at no cost; "" for addresses that are not public, which a LAN shares."""
    ip = ipaddress.ip_address(host.partition("%")[0])
    if not ip.is_global:
        return ""
    return str(ipaddress.ip_network(f"{ip}/{24 if ip.version == 4 else 48}", strict=False))


class Contact(msgspec.Struct):
    peer: PeerId
    key: int
    network: str
    """See ``network_of``."""
    failures: int = 0


class RoutingTable:
    def __init__(self, me: int) -> None:
        self._me = me
        self._buckets: dict[int, dict[PeerId, Contact]] = {}
        """By the length of the prefix shared with me; the longest known first."""
        self._waiting: dict[int, dict[PeerId, Contact]] = {}
        self._networks: Counter[str] = Counter()

    def __len__(self) -> int:
        return sum(map(len, self._buckets.values()))

    def __iter__(self) -> Iterator[PeerId]:
        for bucket in self._buckets.values():
            yield from bucket

    def __contains__(self, peer: PeerId) -> bool:
        return peer in self._buckets.get(self._bucket_of(peer_key(peer)), ())

    def buckets(self) -> list[tuple[int, int, int]]:
        """Of each bucket with anybody in it: length of the shared prefix, contacts, peers that wait; the farthest first."""
        sizes = ((n, len(self._buckets.get(n, ())), len(self._waiting.get(n, ()))) for n in range(BITS))
        return [size for size in sizes if size[1] or size[2]]

    def waits(self, peer: PeerId) -> bool:
        """Whether ``peer`` gets a place once one is free."""
        return peer in self._waiting.get(self.prefix_bits(peer), ())

    def prefix_bits(self, peer: PeerId) -> int:
        """Length of the prefix that the key of ``peer`` shares with mine."""
        return self._bucket_of(peer_key(peer))

    def heard(self, peer: PeerId, host: str) -> bool:
        """A peer answered or asked from ``host``: whether it has a place now."""
        key = peer_key(peer)
        if key == self._me:
            return False
        number = self._bucket_of(key)
        bucket = self._buckets.setdefault(number, {})
        if (known := bucket.get(peer)) is not None:
            known.failures = 0
            return True
        contact = Contact(peer, key, network_of(host))
        if len(bucket) >= K or not self._has_room(contact, bucket):
            waiting = self._waiting.setdefault(number, {})
            waiting.pop(peer, None)
            waiting[peer] = contact
            if len(waiting) > REPLACEMENTS:
                del waiting[next(iter(waiting))]
            return False
        self._place(bucket, contact)
        return True

    def failed(self, peer: PeerId) -> None:
        """A peer did not answer."""
        number = self._bucket_of(peer_key(peer))
        bucket = self._buckets.get(number, {})
        contact = bucket.get(peer)
        if contact is None:
            return
        contact.failures += 1
        if contact.failures >= MAX_FAILURES:
            self.drop(peer)

    def drop(self, peer: PeerId) -> None:
        """Take a peer out; the latest that waits for a place in its bucket gets one."""
        number = self._bucket_of(peer_key(peer))
        bucket = self._buckets.get(number, {})
        self._waiting.get(number, {}).pop(peer, None)
        contact = bucket.pop(peer, None)
        if contact is None:
            return
        self._networks[contact.network] -= 1
        if not self._networks[contact.network]:
            del self._networks[contact.network]
        waiting = self._waiting.get(number, {})
        for candidate in reversed(tuple(waiting.values())):
            if self._has_room(candidate, bucket):
                del waiting[candidate.peer]
                self._place(bucket, candidate)
                return

    def closest(self, target: int, count: int = K) -> list[PeerId]:
        """Up to ``count`` contacts, the nearest to ``target`` first."""
        mine = self._bucket_of(target)
        found = list(self._buckets.get(mine, {}).values())
        if len(found) < count:
            for number, bucket in self._buckets.items():
                if number > mine:
                    found += bucket.values()
        number = mine - 1
        while len(found) < count and number >= 0:
            found += self._buckets.get(number, {}).values()
            number -= 1
        found.sort(key=lambda contact: contact.key ^ target)
        return [contact.peer for contact in found[:count]]

    def _bucket_of(self, key: int) -> int:
        return BITS - (self._me ^ key).bit_length()

    def _has_room(self, contact: Contact, bucket: dict[PeerId, Contact]) -> bool:
        if not contact.network:
            return True
        here = sum(other.network == contact.network for other in bucket.values())
        return here < PER_NETWORK_IN_BUCKET and self._networks[contact.network] < PER_NETWORK

    def _place(self, bucket: dict[PeerId, Contact], contact: Contact) -> None:
        bucket[contact.peer] = contact
        self._networks[contact.network] += 1
