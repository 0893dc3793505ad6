"""Multiaddrs of QUIC peers: ``/ip4/192.0.2.7/udp/4433/quic-v1/p2p/12D3Koo...``, as text and in binary.

Only what this node can dial is understood: an IP address or a DNS name, UDP, QUIC v1, and the peer id if there is one.
"""

from __future__ import annotations

import ipaddress
import re

import msgspec

from zstui.engine.errors import BadInput, ProtocolError
from zstui.engine.identity.keys import PeerId, base58_decode, base58_encode, public_key_of
from zstui.engine.net.varint import decode_varint, encode_varint

_IP4, _IP6, _UDP, _P2P, _QUIC_V1 = 4, 41, 273, 421, 461
_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?\Z")


class Multiaddr(msgspec.Struct, frozen=True):
    host: str
    """IP address in its canonical text form, or a DNS name."""
    port: int
    peer: PeerId | None = None

    def __str__(self) -> str:
        kind = {4: "ip4", 6: "ip6", 0: "dns"}[self.ip_version]
        tail = f"/p2p/{self.peer}" if self.peer else ""
        return f"/{kind}/{self.host}/udp/{self.port}/quic-v1{tail}"

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
        return Multiaddr(self.host, self.port, peer)

    def encode(self) -> bytes:
        """Binary form. The host must be an IP address."""
        ip = ipaddress.ip_address(self.host)
        out = encode_varint(_IP4 if ip.version == 4 else _IP6) + ip.packed
        out += encode_varint(_UDP) + self.port.to_bytes(2, "big") + encode_varint(_QUIC_V1)
        if self.peer:
            peer = base58_decode(self.peer)
            out += encode_varint(_P2P) + encode_varint(len(peer)) + peer
        return out


def parse_multiaddr(text: str) -> Multiaddr:
    """Raises BadInput for anything but an address of the form in the module's docstring."""
    parts = text.split("/")
    if len(text) > 512 or len(parts) not in (6, 8) or parts[0] or parts[3] != "udp" or parts[5] != "quic-v1":
        raise BadInput(f"{text[:80]!r} is not an address such as /ip4/192.168.1.4/udp/4433/quic-v1.")
    if len(parts) == 8 and parts[6] != "p2p":
        raise BadInput(f"{text[:80]!r} must end in /p2p/ and a peer id, or in /quic-v1.")
    peer = parts[7] if len(parts) == 8 else None
    if peer is not None:
        public_key_of(peer)
    kind, host = parts[1], parts[2]
    if kind in ("ip4", "ip6"):
        host = _parse_ip(host, 4 if kind == "ip4" else 6)
    elif kind not in ("dns", "dns4", "dns6") or not _NAME.match(host):
        raise BadInput(f"{text[:80]!r} has no IP address or host name that can be dialed.")
    return Multiaddr(host, parse_port(parts[4]), peer)


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
    peer = None
    if offset < len(data):
        code, offset = _varint(data, offset)
        size, offset = _varint(data, offset)
        peer = base58_encode(_take(data, offset, size))
        if code != _P2P or offset + size != len(data):
            raise ProtocolError("An address with a tail that cannot be dialed.")
        try:
            public_key_of(peer)
        except BadInput as error:
            raise ProtocolError(str(error)) from error
    return Multiaddr(host, port, peer)


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


def _varint(data: bytes, offset: int) -> tuple[int, int]:
    found = decode_varint(data, offset)
    if found is None:
        raise ProtocolError("A truncated address.")
    return found


def _take(data: bytes, offset: int, size: int) -> bytes:
    if offset + size > len(data):
        raise ProtocolError("A truncated address.")
    return data[offset : offset + size]
