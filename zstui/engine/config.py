"""Settings of one node: frozen, complete, with their defaults."""

from __future__ import annotations

from pathlib import Path

import msgspec


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    home: Path
    name: str = ""
    """Shown to other peers; "" means the machine's host name."""
    listen: str = "0.0.0.0:4433"
    """Host and UDP port; where the port is in use another is chosen and said. Port 0: any."""
    mdns_interface: str | None = "all"
    """Address of the interface for mDNS, "all", or None for no mDNS."""
    metrics: str | None = "127.0.0.1:9464"
    """Host and port of /metrics and /healthz, or None. Where in use another is chosen and said."""
    peers: tuple[str, ...] = ()
    """Addresses to connect to and keep connected."""
    executor: bool = False
    """The owner's standing consent to run others' jobs."""
    price_per_second_nano: int = 10_000_000
    price_per_mib_nano: int = 100_000
    max_memory_mib: int = 128
    max_timeout_s: int = 30
    max_jobs: int = 0
    """Jobs at the same time; 0: one per core."""
    max_queue: int = 64
    credit_member_u: int = 100_000_000
    credit_stranger_u: int = 1_000_000
    typed_above_u: int = 50_000_000
    tags: tuple[str, ...] = ()
    demo: bool = False
    """Play money: shown as such on every screen."""
