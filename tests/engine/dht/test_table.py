from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zstui.engine.dht.table import (
    BITS,
    MAX_FAILURES,
    PER_NETWORK,
    PER_NETWORK_IN_BUCKET,
    REPLACEMENTS,
    K,
    RoutingTable,
    network_of,
    peer_key,
)
from zstui.engine.identity.keys import PeerId, peer_id_of

LAN = "192.168.1.4"


def peers(count: int, seed: int = 0) -> list[PeerId]:
    chance = random.Random(seed)
    return [peer_id_of(chance.randbytes(32)) for _ in range(count)]


ME, *OTHERS = peers(3_000)


def in_bucket(number: int, count: int) -> list[PeerId]:
    mine = peer_key(ME)
    return [p for p in OTHERS if BITS - (mine ^ peer_key(p)).bit_length() == number][:count]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**BITS - 1), st.integers(1, 400), st.integers(1, 40))
def test_the_closest_are_those_of_a_full_sort(target: int, size: int, count: int) -> None:
    table = RoutingTable(peer_key(ME))
    for peer in OTHERS[:size]:
        table.heard(peer, LAN)
    assert table.closest(target, count) == sorted(table, key=lambda p: peer_key(p) ^ target)[:count]


def test_who_has_answered_for_long_is_not_displaced_and_the_dead_are_replaced() -> None:
    table = RoutingTable(peer_key(ME))
    old, new = in_bucket(0, K), in_bucket(0, K + REPLACEMENTS + 5)[K:]
    assert all(table.heard(peer, LAN) for peer in old)
    assert not any(table.heard(peer, LAN) for peer in new)
    assert set(table) == set(old)
    assert table.buckets() == [(0, K, REPLACEMENTS)]
    assert (table.waits(new[-1]), table.waits(old[0]), table.waits(new[0])) == (True, False, False)
    assert table.prefix_bits(old[0]) == 0
    for _ in range(MAX_FAILURES - 1):
        table.failed(old[0])
    assert old[0] in table
    table.heard(old[0], LAN)
    for _ in range(MAX_FAILURES):
        table.failed(old[0])
    assert set(table) == {*old[1:], new[-1]}, "the latest to wait moves up"


def test_one_network_cannot_fill_a_bucket_or_the_table() -> None:
    table = RoutingTable(peer_key(ME))
    for peer in OTHERS:
        table.heard(peer, "9.9.9.9")
    assert len(table) == PER_NETWORK
    near = RoutingTable(peer_key(ME))
    for number, peer in enumerate(in_bucket(0, 100)):
        near.heard(peer, f"9.9.9.{number}")
    assert len(near) == PER_NETWORK_IN_BUCKET
    honest = in_bucket(0, 120)[100:]
    assert all(near.heard(peer, f"8.{number}.8.8") for number, peer in enumerate(honest[: K - PER_NETWORK_IN_BUCKET]))


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("192.168.1.4", ""),
        ("127.0.0.1", ""),
        ("fe80::1%eth0", ""),
        ("fd77::1", ""),
        ("9.9.9.9", "9.9.9.0/24"),
        ("2600:1:2:3::4", "2600:1:2::/48"),
    ],
)
def test_whose_network(host: str, network: str) -> None:
    assert network_of(host) == network


def test_the_table_never_holds_itself_and_is_bounded() -> None:
    table = RoutingTable(peer_key(ME))
    assert not table.heard(ME, LAN)
    for peer in OTHERS:
        table.heard(peer, LAN)
    assert len(table) <= K * 12
    assert sum(len(w) for w in table._waiting.values()) <= REPLACEMENTS * len(table._waiting)
    for peer in OTHERS:
        for _ in range(MAX_FAILURES):
            table.failed(peer)
    for _ in range(REPLACEMENTS + 1):
        for peer in tuple(table):
            table.drop(peer)
    assert len(table) == 0
    assert not table._networks
