"""Who may connect: each refusal happens before one byte of the application is read."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aioquic.quic.configuration import QuicConfiguration
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.net import (
    ECHO,
    BarePeer,
    NetNode,
    bare_client,
    bare_configuration,
    bare_server,
    fails,
    make_tls_certificate,
    net_node,
    smaller_and_larger,
    stolen_certificate,
    until,
)
from zstui.engine.errors import AuthenticationFailed, Unreachable
from zstui.engine.identity.certificate import make_certificate
from zstui.engine.identity.keys import Identity
from zstui.engine.net.multistream import HEADER, encode_line
from zstui.engine.net.quic import BAD_CERTIFICATE
from zstui.engine.net.varint import with_length

Made = tuple[QuicConfiguration, str]


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[NetNode]:
    async with net_node(tmp_path) as started:
        yield started


def speak_at_once(peer: BarePeer) -> None:
    """An application message sent with the end of the handshake, before the server can have judged the certificate."""
    peer.send(0, encode_line(HEADER) + encode_line(ECHO) + with_length(b"let me in"))


def good(is_client: bool, host: Identity) -> QuicConfiguration:
    return bare_configuration(is_client, *make_tls_certificate(host))


def no_certificate(is_client: bool) -> QuicConfiguration:
    return bare_configuration(is_client, None, None)


def stolen(is_client: bool) -> QuicConfiguration:
    return bare_configuration(is_client, *stolen_certificate(make_certificate(Identity.generate())[0]))


def two_certificates(is_client: bool) -> QuicConfiguration:
    host = Identity.generate()
    certificate, key = make_tls_certificate(host)
    return bare_configuration(is_client, certificate, key, chain=[make_tls_certificate(host)[0]])


def no_extension(is_client: bool) -> QuicConfiguration:
    return bare_configuration(is_client, *make_tls_certificate(None))


def without_its_key(is_client: bool) -> QuicConfiguration:
    certificate: x509.Certificate = make_certificate(Identity.generate())[0]
    return bare_configuration(is_client, certificate, ec.generate_private_key(ec.SECP256R1()))


def wrong_alpn(is_client: bool) -> QuicConfiguration:
    return bare_configuration(is_client, *make_tls_certificate(Identity.generate()), alpn="h3")


def no_alpn(is_client: bool) -> QuicConfiguration:
    return bare_configuration(is_client, *make_tls_certificate(Identity.generate()), alpn=None)


HOSTILE = [no_certificate, stolen, two_certificates, no_extension, without_its_key, wrong_alpn, no_alpn]


@pytest.mark.parametrize("hostile", HOSTILE)
async def test_a_hostile_dialer_is_refused(node: NetNode, hostile: Callable[[bool], QuicConfiguration]) -> None:
    async with bare_client(node.port, hostile(True), speak_at_once) as peer:
        await until(peer.ended.is_set)
        assert peer.termination is not None
        assert 0x100 <= peer.termination.error_code < 0x200, "refused by TLS, not timed out"
        assert peer.received(0) == b""
    assert node.streams == []
    assert node.net.connected() == frozenset()
    assert node.net.views() == []


async def test_the_bare_peer_is_let_in_with_a_good_certificate(node: NetNode) -> None:
    """Otherwise the refusals above would prove nothing."""
    host = Identity.generate()
    async with bare_client(node.port, good(True, host), speak_at_once) as peer:
        await until(lambda: b"let me in" in peer.received(0))
        assert peer.received(0) == encode_line(HEADER) + encode_line(ECHO) + with_length(b"let me in")
        assert node.net.connected() == {host.peer_id}
        assert node.streams[0].peer == host.peer_id


@pytest.mark.parametrize("hostile", [h for h in HOSTILE if h is not no_certificate])
async def test_a_hostile_listener_is_refused(node: NetNode, hostile: Callable[[bool], QuicConfiguration]) -> None:
    async with bare_server(hostile(False)) as (port, _):
        await fails(node.net.connect(f"127.0.0.1:{port}"), AuthenticationFailed)
    assert node.net.connected() == frozenset()
    assert node.net.views() == []


async def test_a_good_listener_is_accepted(node: NetNode) -> None:
    host = Identity.generate()
    async with bare_server(good(False, host)) as (port, _):
        assert await node.net.connect(f"127.0.0.1:{port}") == host.peer_id


async def test_another_peer_than_expected_is_refused(node: NetNode) -> None:
    expected, found = Identity.generate().peer_id, Identity.generate()
    async with bare_server(good(False, found)) as (port, accepted):
        error = await fails(node.net.connect(f"/ip4/127.0.0.1/udp/{port}/quic-v1/p2p/{expected}"), AuthenticationFailed)
        assert found.peer_id in str(error)
        await until(lambda: accepted[0].ended.is_set())
        assert accepted[0].termination is not None
        assert accepted[0].termination.error_code == BAD_CERTIFICATE


async def test_a_blocked_peer_is_refused_both_ways(tmp_path: Path, node: NetNode) -> None:
    async with net_node(tmp_path, "other") as other:
        node.refused.add(other.id)
        error = await fails(other.net.connect(node.address), Unreachable)
        assert "refused" in str(error)
        await fails(node.net.connect(other.address), Unreachable)
        assert node.net.connected() == other.net.connected() == frozenset()
        assert node.streams == []


async def test_a_node_does_not_connect_to_itself(node: NetNode) -> None:
    await fails(node.net.connect(f"127.0.0.1:{node.port}"), Unreachable)
    await fails(node.net.connect(node.address), Unreachable)
    assert node.net.connected() == frozenset()


async def test_garbage_datagrams_are_ignored(tmp_path: Path, node: NetNode) -> None:
    import asyncio
    import os
    import socket

    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        for size in (0, 1, 5, 8, 9, 40, 1200, 1350, 9000):
            for first in (0x00, 0x40, 0x80, 0xC0, 0xFF):
                sock.sendto(bytes((first,))[:size] + os.urandom(max(0, size - 1)), ("127.0.0.1", node.port))
        version_1 = b"\xc3\x00\x00\x00\x01\x08" + os.urandom(8) + b"\x08" + os.urandom(8) + b"\x00\x44\xb0"
        for _ in range(20):
            sock.sendto(version_1.ljust(1200, b"\x55"), ("127.0.0.1", node.port))
    await asyncio.sleep(0.05)
    smaller, _ = smaller_and_larger()
    async with net_node(tmp_path, "other", identity=smaller) as other:
        assert await other.net.connect(node.address) == node.id
