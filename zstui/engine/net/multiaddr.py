"""Multiaddrs of QUIC peers: ``/ip4/192.0.2.7/udp/4433/quic-v1/p2p/12D3Koo...``, as text and in binary.

Only what this node can dial is understood: an IP address or a DNS name, UDP, QUIC v1, and the peer id if there is one; for a
peer behind a relay, the address of the relay, its id, ``/p2p-circuit``, and then the peer's id.
"""

from __future__ import annotations

import ipaddress
import re

import msgspec

from zstui.engine.errors import BadInput, ProtocolError
from zstui.engine.identity.keys import PeerId, base58_decode, base58_encode, public_key_of
from zstui.engine.net.varint import decode_varint, encode_varint

_IP4, _IP6, _UDP, _CIRCUIT, _P2P, _QUIC_V1 = 4, 41, 273, 290, 421, 461
_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?\Z")
_ZONE = re.compile(r"/ip6zone/([A-Za-z0-9_.:-]{1,15})(?=/ip6/)")


class Multiaddr(msgspec.Struct, frozen=True):
    host: str
    """IP address in its canonical text form, with its zone if it has one (``fe80::1%eth0``), or a DNS name."""
    port: int
    peer: PeerId | None = None
    relay: PeerId | None = None
    """Whose the host and port are, if the peer is reached through a relay."""

    def __str__(self) -> str:
        kind = {4: "ip4", 6: "ip6", 0: "dns"}[self.ip_version]
        circuit = f"/p2p/{self.relay}/p2p-circuit" if self.relay else ""
        tail = f"/p2p/{self.peer}" if self.peer else ""
        host, _, zone = self.host.partition("%")
        return f"{f'/ip6zone/{zone}' if zone else ''}/{kind}/{host}/udp/{self.port}/quic-v1{circuit}{tail}"

    @property
    def ip_version(self) -> int:
        """4, 6, or 0 for a DNS name."""
        try:
            return ipaddress.ip_address(self.host).version
        except ValueError:
            return 0

    @property
    def target(self) -> tuple[str, int]:
        """Host and port."""
        return self.host, self.port

    def with_peer(self, peer: PeerId | None) -> Multiaddr:
        return Multiaddr(self.host, self.port, peer, self.relay)

    def through(self, peer: PeerId) -> Multiaddr:
        """The address of ``peer`` behind the relay that this is the address of."""
        return Multiaddr(self.host, self.port, peer, self.peer)

    @property
    def via(self) -> Multiaddr:
        """The relay's own address."""
        return Multiaddr(self.host, self.port, self.relay)

    @property
    def is_link_local(self) -> bool:
        """Whether it says nothing without the zone: the interface behind which it is."""
        return self.ip_version == 6 and ipaddress.ip_address(self.host).is_link_local

    def in_zone(self, zone: str) -> Multiaddr:
        """The same behind the interface ``zone``, "" for none."""
        host = self.host.partition("%")[0]
        return Multiaddr(f"{host}%{zone}" if zone else host, self.port, self.peer, self.relay)

    def encode(self) -> bytes:
        """Binary form, for others, to whom a zone means nothing. The host must be an IP address."""
        ip = ipaddress.ip_address(self.host)
        out = encode_varint(_IP4 if ip.version == 4 else _IP6) + ip.packed
        out += encode_varint(_UDP) + self.port.to_bytes(2, "big") + encode_varint(_QUIC_V1)
        if self.relay:
            out += _encode_peer(self.relay) + encode_varint(_CIRCUIT)
        return out + (_encode_peer(self.peer) if self.peer else b"")


def parse_multiaddr(text: str) -> Multiaddr:
    """Raises BadInput for anything but an address of the form in the module's docstring."""
    zone, unzoned = _zone(text)
    plain, circuit, tail = unzoned.partition("/p2p-circuit")
    parts = plain.split("/")
    if len(text) > 512 or len(parts) not in (6, 8) or parts[0] or parts[3] != "udp" or parts[5] != "quic-v1":
        raise BadInput(f"{text[:80]!r} is not an address such as /ip4/192.168.1.4/udp/4433/quic-v1.")
    relay = _parse_peer(plain[len("/".join(parts[:6])) :], text)
    peer = _parse_peer(tail, text) if circuit else relay
    if circuit and (relay is None or peer is None):
        raise BadInput(f"{text[:80]!r} does not name the relay before /p2p-circuit and the peer after it.")
    kind, host = parts[1], parts[2]
    if kind in ("ip4", "ip6"):
        host = _parse_ip(host, 4 if kind == "ip4" else 6)
    elif kind not in ("dns", "dns4", "dns6") or not _NAME.match(host):
        raise BadInput(f"{text[:80]!r} has no IP address or host name that can be dialed.")
    address = Multiaddr(host, parse_port(parts[4]), peer, relay if circuit else None)
    if zone and not address.is_link_local:
        raise BadInput(f"{text[:80]!r} names an interface for an address that needs none.")
    return address.in_zone(zone)


def decode_multiaddr(data: bytes) -> Multiaddr:
    """Raises ProtocolError for anything that ``Multiaddr.encode`` does not write."""
    code, offset = _varint(data, 0)
    if code not in (_IP4, _IP6):
        raise ProtocolError("An address without an IP address.")
    size = 4 if code == _IP4 else 16
    host = str(ipaddress.ip_address(_take(data, offset, size)))
    code, offset = _varint(data, offset + size)
    port = int.from_bytes(_take(data, offset, 2), "big")
    quic, offset = _varint(data, offset + 2)
    if code != _UDP or quic != _QUIC_V1:
        raise ProtocolError("An address of another transport than QUIC.")
    peer, offset = _decode_peer(data, offset)
    relay = None
    if offset < len(data):
        code, offset = _varint(data, offset)
        if code != _CIRCUIT or peer is None:
            raise ProtocolError("An address with a tail that cannot be dialed.")
        relay = peer
        peer, offset = _decode_peer(data, offset)
    if offset != len(data):
        raise ProtocolError("An address with a tail that cannot be dialed.")
    return Multiaddr(host, port, peer, relay)


def parse_host_port(text: str) -> tuple[str, int]:
    """``host:port``, ``[ipv6]:port``. Raises BadInput."""
    host, colon, port = text.strip().rpartition(":")
    if not colon or not host:
        raise BadInput(f"{text[:80]!r} is not host:port, such as 192.168.1.4:4433.")
    if host.startswith("[") and host.endswith("]"):
        return _parse_ip(host[1:-1], 6), parse_port(port, least=0)
    if not _NAME.match(host):
        raise BadInput(f"{host[:80]!r} is not a host name or IP address.")
    return host, parse_port(port, least=0)


def parse_address(text: str) -> Multiaddr:
    """A multiaddr or ``host:port`` to connect to. Raises BadInput."""
    if text.startswith("/"):
        return parse_multiaddr(text)
    host, port = parse_host_port(text)
    if port == 0:
        raise BadInput(f"{text[:80]!r} has no UDP port to connect to.")
    return Multiaddr(host, port)


def parse_port(text: str, least: int = 1) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text, re.ASCII) or not least <= int(text) <= 65535:
        raise BadInput(f"{text[:20]!r} is not a UDP port.")
    return int(text)


def _parse_ip(text: str, version: int) -> str:
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        raise BadInput(f"{text[:60]!r} is not an IP address.") from None
    if ip.version != version or "%" in text:
        raise BadInput(f"{text[:60]!r} is not an IPv{version} address.")
    return str(ip)


def _zone(text: str) -> tuple[str, str]:
    """The name of an interface that a multiaddr begins with, "" if it does not, and the rest."""
    found = _ZONE.match(text)
    return (found[1], text[found.end() :]) if found else ("", text)


def _parse_peer(tail: str, text: str) -> PeerId | None:
    if not tail:
        return None
    parts = tail.split("/")
    if len(parts) != 3 or parts[:2] != ["", "p2p"]:
        raise BadInput(f"{text[:80]!r} must end in /p2p/ and a peer id, or in /quic-v1.")
    public_key_of(parts[2])
    return parts[2]


def _encode_peer(peer: PeerId) -> bytes:
    raw = base58_decode(peer)
    return encode_varint(_P2P) + encode_varint(len(raw)) + raw


def _decode_peer(data: bytes, offset: int) -> tuple[PeerId | None, int]:
    """The id in a /p2p part at ``offset``, None if there is no such part, and the offset after it."""
    if offset >= len(data):
        return None, offset
    code, start = _varint(data, offset)
    if code != _P2P:
        return None, offset
    size, start = _varint(data, start)
    peer = base58_encode(_take(data, start, size))
    try:
        public_key_of(peer)
    except BadInput as error:
        raise ProtocolError(str(error)) from error
    return peer, start + size


def _varint(data: bytes, offset: int) -> tuple[int, int]:
    found = decode_varint(data, offset)
    if found is None:
        raise ProtocolError("A truncated address.")
    return found


def _take(data: bytes, offset: int, size: int) -> bytes:
    if offset + size > len(data):
        raise ProtocolError("A truncated address.")
    return data[offset : offset + size]
