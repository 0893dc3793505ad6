"""Varints, multiaddrs, multistream lines, identify messages and mDNS TXT records."""

from __future__ import annotations

import contextlib
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zstui.engine.errors import BadInput, ProtocolError
from zstui.engine.identity.keys import Identity
from zstui.engine.net.identify import MAX_MESSAGE, Identify, decode_identify, encode_identify
from zstui.engine.net.mdns import decode_txt, encode_txt, network_of
from zstui.engine.net.multiaddr import Multiaddr, decode_multiaddr, parse_host_port, parse_multiaddr
from zstui.engine.net.multistream import HEADER, MAX_LINE, decode_line, encode_line
from zstui.engine.net.varint import decode_varint, encode_varint, with_length

PEER = Identity(bytes(32)).peer_id
OTHER = Identity(bytes(31) + b"\1").peer_id

ips = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).filter(lambda ip: ip.version == 4 or not ip.ipv4_mapped)
direct = st.builds(Multiaddr, ips.map(str), st.integers(1, 65535), st.one_of(st.none(), st.sampled_from([PEER, OTHER])))
circuits = st.builds(Multiaddr, ips.map(str), st.integers(1, 65535), st.just(PEER), st.just(OTHER))
addresses = st.one_of(direct, circuits)


# --- varint ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "encoded"), [(0, "00"), (1, "01"), (127, "7f"), (128, "8001"), (300, "ac02")])
def test_known_varints(value: int, encoded: str) -> None:
    assert encode_varint(value).hex() == encoded


@given(st.integers(0, 2**63 - 1), st.binary(max_size=4))
def test_varint_round_trip(value: int, tail: bytes) -> None:
    encoded = encode_varint(value)
    assert decode_varint(encoded + tail) == (value, len(encoded))
    assert decode_varint(tail + encoded, len(tail)) == (value, len(tail) + len(encoded))
    assert decode_varint(encoded[:-1]) is None


@pytest.mark.parametrize("data", [b"\x80\x00", b"\xff" * 9, b"\x81\x80\x00"])
def test_bad_varints_are_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_varint(data)


# --- multiaddr -------------------------------------------------------------------------------------------------------


@given(addresses)
def test_multiaddr_round_trips(address: Multiaddr) -> None:
    assert parse_multiaddr(str(address)) == address
    assert decode_multiaddr(address.encode()) == address


def test_known_binary_multiaddr() -> None:
    """/ip4/127.0.0.1/udp/4433/quic-v1 by the codes of the multiaddr table."""
    assert Multiaddr("127.0.0.1", 4433).encode().hex() == "04" + "7f000001" + "9102" + "1151" + "cd03"


def test_a_circuit_names_the_relay_and_the_peer() -> None:
    relay = parse_multiaddr(f"/ip4/192.0.2.7/udp/4433/quic-v1/p2p/{OTHER}")
    circuit = relay.through(PEER)
    assert str(circuit) == f"{relay}/p2p-circuit/p2p/{PEER}"
    assert circuit.via == relay
    assert decode_multiaddr(circuit.with_peer(None).encode()) == circuit.with_peer(None)
    for tail in ("/p2p-circuit", f"/p2p-circuit/p2p/{PEER}/p2p-circuit/p2p/{PEER}", f"/p2p-circuit/{PEER}"):
        with pytest.raises(BadInput):
            parse_multiaddr(str(relay) + tail)
    for more in (b"\xa2\x02" * 2, b"\xa2\x02\x04", b"\xa2\x02" + circuit.encode()):
        with pytest.raises(ProtocolError):
            decode_multiaddr(relay.encode() + more)


def test_dns_names_are_understood() -> None:
    address = parse_multiaddr(f"/dns4/peer.example.org/udp/4433/quic-v1/p2p/{PEER}")
    assert (address.host, address.ip_version, address.peer) == ("peer.example.org", 0, PEER)


def test_a_link_local_address_has_its_interface_in_text_alone() -> None:
    text = f"/ip6zone/eth0/ip6/fe80::1/udp/4433/quic-v1/p2p/{PEER}"
    address = parse_multiaddr(text)
    assert (address.host, str(address)) == ("fe80::1%eth0", text)
    assert address.is_link_local
    assert decode_multiaddr(address.encode()) == address.in_zone("")
    assert not parse_multiaddr("/ip6/2001:db8::1/udp/4433/quic-v1").is_link_local


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "/ip6zone/eth0/ip6/2001:db8::1/udp/4433/quic-v1",
        "/ip6zone/eth0/ip4/169.254.0.1/udp/4433/quic-v1",
        "/ip6zone//ip6/fe80::1/udp/4433/quic-v1",
        "/ip4/127.0.0.1/tcp/4433",
        "/ip4/127.0.0.1/udp/4433/quic",
        "/ip4/127.0.0.1/udp/0/quic-v1",
        "/ip4/127.0.0.1/udp/65536/quic-v1",
        "/ip4/127.0.0.1/udp/٤٤٣٣/quic-v1",
        "/ip4/::1/udp/4433/quic-v1",
        "/ip6/127.0.0.1/udp/4433/quic-v1",
        "/ip6/fe80::1%eth0/udp/4433/quic-v1",
        "/ip4/256.0.0.1/udp/4433/quic-v1",
        "/dns4/-bad-/udp/4433/quic-v1",
        "/ip4/127.0.0.1/udp/4433/quic-v1/p2p/Qm",
        f"/ip4/127.0.0.1/udp/4433/quic-v1/p2p-circuit/{PEER}",
        f"/ip4/127.0.0.1/udp/4433/quic-v1/p2p/{PEER}/p2p-circuit",
        "/ip4/127.0.0.1/udp/4433/quic-v1/p2p/" + "1" * 600,
    ],
)
def test_bad_multiaddrs_are_refused(text: str) -> None:
    with pytest.raises(BadInput):
        parse_multiaddr(text)


@given(st.text(max_size=80))
def test_any_text_is_a_multiaddr_or_bad_input(text: str) -> None:
    with contextlib.suppress(BadInput):
        assert parse_multiaddr(text).port


@given(st.binary(max_size=80))
def test_any_bytes_are_a_multiaddr_or_a_protocol_error(data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        assert decode_multiaddr(data).encode() == data


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:4433", ("127.0.0.1", 4433)),
        ("[::1]:0", ("::1", 0)),
        (" host.lan:80 ", ("host.lan", 80)),
    ],
)
def test_host_port(text: str, expected: tuple[str, int]) -> None:
    assert parse_host_port(text) == expected


@pytest.mark.parametrize("text", ["", "host", ":80", "host:", "host:x", "host:99999", "a b:1", "[::g]:1", "::1:80"])
def test_bad_host_port_is_refused(text: str) -> None:
    with pytest.raises(BadInput):
        parse_host_port(text)


# --- multistream-select ----------------------------------------------------------------------------------------------


def test_known_lines() -> None:
    assert encode_line(HEADER) == b"\x13/multistream/1.0.0\n"
    assert encode_line("na") == b"\x03na\n"
    assert decode_line(b"/ipfs/ping/1.0.0\n") == "/ipfs/ping/1.0.0"


@pytest.mark.parametrize("message", [b"", b"no newline", b"\xff\n", b"x" * MAX_LINE + b"\n"])
def test_bad_lines_are_refused(message: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_line(message)


# --- identify --------------------------------------------------------------------------------------------------------


@given(
    st.binary(max_size=40),
    st.lists(addresses.map(lambda a: a.with_peer(None)), max_size=4),
    st.lists(st.text(alphabet="abc/.-0123456789", min_size=1, max_size=20), max_size=5),
    st.binary(max_size=20),
)
def test_identify_round_trip(key: bytes, listen: list[Multiaddr], protocols: list[str], observed: bytes) -> None:
    message = Identify(key, tuple(listen), tuple(protocols), observed, "zstui/0.1")
    assert decode_identify(encode_identify(message)) == message


def test_identify_on_the_wire() -> None:
    """Field by field as the identify specification numbers them."""
    address = Multiaddr("10.0.0.1", 1)
    fields = (
        (1, b"key"),
        (2, address.encode()),
        (3, b"/a"),
        (3, b"/b"),
        (4, b"seen"),
        (5, b"zerostate/1.0.0"),
        (6, b"agent"),
    )
    wire = b"".join(bytes((number << 3 | 2, len(value))) + value for number, value in fields)
    message = Identify(b"key", (address,), ("/a", "/b"), b"seen", "agent")
    assert encode_identify(message) == wire
    assert decode_identify(wire) == message


def test_identify_skips_what_it_does_not_know() -> None:
    extra = b"\x38\x05" + b"\x41" + bytes(8) + b"\x4d" + bytes(4) + b"\x52\x03abc"
    tcp = encode_varint(2 << 3 | 2) + with_length(b"\x04\x7f\0\0\1\x06\x10\x00")
    message = Identify(b"", (), ("/a",), b"", "x")
    assert decode_identify(extra + tcp + encode_identify(message)) == message


def test_identify_text_is_cleaned_and_counts_are_bounded() -> None:
    many = tuple(f"/p/{i}" for i in range(500))
    listen = tuple(Multiaddr("10.0.0.1", port) for port in range(1, 60))
    message = decode_identify(encode_identify(Identify(b"", listen, many, b"", "evil\x1b[2J" + "x" * 99)))
    assert len(message.protocols) == 128
    assert len(message.listen) == 16
    assert message.agent.startswith("evil[2J")
    assert len(message.agent) == 64


@given(st.binary(max_size=200))
def test_any_bytes_are_an_identify_or_a_protocol_error(data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        decode_identify(data)


def test_large_identify_is_refused() -> None:
    with pytest.raises(ProtocolError):
        decode_identify(bytes(MAX_MESSAGE + 1))


# --- mDNS TXT --------------------------------------------------------------------------------------------------------


@given(st.lists(addresses.map(lambda a: a.with_peer(PEER)), max_size=8, unique=True))
def test_txt_round_trip(listed: list[Multiaddr]) -> None:
    assert decode_txt(encode_txt(tuple(listed))) == ({PEER: tuple(listed)} if listed else {})


def attribute(text: str) -> bytes:
    return bytes((len(text),)) + text.encode()


def test_txt_of_other_implementations() -> None:
    """Several attributes, other keys, transports that are not spoken here, and capital letters in the key."""
    good = f"/ip4/192.168.1.9/udp/4001/quic-v1/p2p/{PEER}"
    data = b"".join(
        attribute(t)
        for t in (
            "",
            "unrelated=1",
            f"dnsaddr=/ip4/192.168.1.9/tcp/4001/p2p/{PEER}",
            f"DNSADDR={good}",
            f"dnsaddr={good}",
            f"dnsaddr=/ip4/192.168.1.9/udp/4001/quic-v1/p2p/{OTHER}",
            "dnsaddr=/ip4/192.168.1.9/udp/4001/quic-v1",
            f"dnsaddr=/dns4/far.example.org/udp/1/quic-v1/p2p/{PEER}",
        )
    )
    assert {p: [a.host for a in found] for p, found in decode_txt(data).items()} == {
        PEER: ["192.168.1.9"],
        OTHER: ["192.168.1.9"],
    }


def test_txt_is_bounded() -> None:
    peers = [Identity.generate().peer_id for _ in range(9)]
    many = b"".join(attribute(f"dnsaddr=/ip4/10.0.0.1/udp/1/quic-v1/p2p/{p}") for p in peers)
    assert len(decode_txt(many)) == 4
    ports = b"".join(attribute(f"dnsaddr=/ip4/10.0.0.1/udp/{n}/quic-v1/p2p/{PEER}") for n in range(1, 50))
    assert len(decode_txt(ports)[PEER]) == 8


@given(st.binary(max_size=300))
def test_any_bytes_are_a_txt_record(data: bytes) -> None:
    for listed in decode_txt(data).values():
        assert all(ipaddress.ip_address(a.host) for a in listed)


def test_a_named_network_is_told_apart() -> None:
    address = parse_multiaddr(f"/ip4/127.0.0.1/udp/1/quic-v1/p2p/{PEER}")
    named, open_one = encode_txt((address,), "lab"), encode_txt((address,))
    assert (network_of(named), network_of(open_one), network_of(b"")) == ("lab", "", "")
    assert decode_txt(named) == decode_txt(open_one) == {PEER: (address,)}
