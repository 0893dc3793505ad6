"""Messages and what is kept for others."""

from __future__ import annotations

import contextlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.dht.test_table import peers
from zstui.engine.dht import messages, records
from zstui.engine.dht.messages import MAX_KEY, MAX_VALUE, Message, Node, encode, read
from zstui.engine.dht.records import MAX_KEYS, MAX_PER_KEY, MAX_PER_PEER, PROVIDER_TTL_US, Providers, Validator, Values
from zstui.engine.dht.table import K
from zstui.engine.errors import ProtocolError
from zstui.engine.identity.keys import base58_decode
from zstui.engine.net.multiaddr import Multiaddr

PEERS = peers(120, seed=11)

nodes = st.builds(
    lambda peer, ports: Node(peer, tuple(Multiaddr("10.0.0.1", port, peer) for port in ports)),
    st.sampled_from(PEERS),
    st.lists(st.integers(1, 65535), max_size=3, unique=True),
)
node_lists = st.lists(nodes, max_size=K, unique_by=lambda n: n.peer).map(tuple)


@given(
    st.integers(0, 5), st.binary(max_size=MAX_KEY), st.one_of(st.none(), st.binary(max_size=99)), node_lists, node_lists
)
def test_messages_come_back_as_they_were(
    kind: int, key: bytes, value: bytes | None, closer: tuple[Node, ...], providers: tuple[Node, ...]
) -> None:
    message = Message(type=kind, key=key, value=value, closer=closer, providers=providers)
    assert read(encode(message)) == message


def test_a_message_on_the_wire() -> None:
    """As the specification numbers its fields: type 1, key 2, closerPeers 8 with id 1, addrs 2, connection 3."""
    peer = base58_decode(PEERS[0])
    address = Multiaddr("10.0.0.1", 1).encode()
    node = b"\x0a" + bytes((len(peer),)) + peer + b"\x12" + bytes((len(address),)) + address + b"\x18\x02"
    wire = b"\x08\x04\x12\x03key\x42" + bytes((len(node),)) + node
    message = Message(
        type=messages.FIND_NODE, key=b"key", closer=(Node(PEERS[0], (Multiaddr("10.0.0.1", 1, PEERS[0]),)),)
    )
    assert encode(message) == wire
    assert read(wire) == message


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_a_protocol_error(data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        read(data)


@pytest.mark.parametrize(
    "message", [Message(type=1, key=bytes(MAX_KEY + 1)), Message(type=0, key=b"k", value=bytes(MAX_VALUE + 1))]
)
def test_too_long_keys_and_values_are_refused(message: Message) -> None:
    with pytest.raises(ProtocolError):
        read(encode(message))


def test_no_more_peers_than_an_answer_may_hold_are_read() -> None:
    many = tuple(Node(p, (Multiaddr("10.0.0.1", 1, p),)) for p in PEERS)
    assert read(encode(Message(type=4, closer=many))).closer == many[:K]


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 30), st.integers(0, 2)), max_size=300))
def test_providers_are_bounded_and_expire(steps: list[tuple[int, int, int]]) -> None:
    kept, now, last = Providers(), 0, dict[tuple[bytes, str], int]()
    for key_number, peer_number, hours in steps:
        now += hours * 3600 * 1_000_000
        key, peer = bytes((key_number,)), PEERS[peer_number]
        assert kept.add(key, peer, now)
        last[key, peer] = now
    for key_number in range(41):
        key = bytes((key_number,))
        alive = {p for (k, p), at in last.items() if k == key and at + PROVIDER_TTL_US > now}
        assert set(kept.get(key, now)) == alive


def test_a_flood_of_announcements_fills_only_its_own_share() -> None:
    kept = Providers()
    flooder, honest = PEERS[0], PEERS[1]
    kept.add(b"wanted", honest, 0)
    taken = sum(kept.add(number.to_bytes(4), flooder, 1) for number in range(MAX_KEYS))
    assert taken == MAX_PER_PEER
    for peer in PEERS[2:]:
        kept.add(b"wanted", peer, 2)
    assert len(kept.get(b"wanted", 3)) == MAX_PER_KEY
    chance = random.Random(1)
    for peer in PEERS[2:]:
        for _ in range(MAX_PER_PEER):
            kept.add(chance.randbytes(8), peer, 3)
    assert len(kept) == MAX_KEYS
    assert sum(kept._counts.values()) == sum(len(entry) for entry in kept._keys.values())


def test_only_genuine_and_newer_values_are_kept() -> None:
    def version(key: bytes, value: bytes) -> int:
        if not value.startswith(b"ok"):
            raise ProtocolError("Not genuine.")
        return value[2]

    values = Values((Validator(b"/n/", version),))
    assert not values.put(b"/other/x", b"ok\1", 0)
    assert not values.put(b"/n/x", b"no\1", 0)
    assert values.put(b"/n/x", b"ok\2", 0)
    assert not values.put(b"/n/x", b"ok\1", 0)
    assert values.get(b"/n/x", 1) == b"ok\2"
    assert values.newest(b"/n/x", [rb"no\9", b"ok\3", b"ok\1"]) == b"ok\3"
    assert values.get(b"/n/x", records.VALUE_TTL_US) is None
