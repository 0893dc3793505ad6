"""Settings of one node: frozen, complete, with their defaults."""

from __future__ import annotations

import ipaddress
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec

from zstui.engine.errors import BadInput
from zstui.engine.money import MAX_AMOUNT_U, parse_amount, parse_rate

Count = Annotated[int, msgspec.Meta(ge=0, le=10_000)]
Money = Annotated[int, msgspec.Meta(ge=0, le=MAX_AMOUNT_U)]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    home: Path
    name: str = ""
    """Shown to other peers; "" means the machine's host name."""
    listen: str = "0.0.0.0:4433"
    """Host and UDP port; an unspecified host means all addresses of both families. Where the port is in use another is chosen and
    said. Port 0: any."""
    mdns_interface: str | None = "all"
    """Address of the interface for mDNS, "all", or None for no mDNS."""
    network: str = ""
    """Nodes of a named network discover only each other on the LAN; "" is the open one. Not a secret, and no protection."""
    lan_only: bool = False
    """Send nothing off the local network: no dial, no answer, no name lookup."""
    relay: bool = False
    """Carry others' traffic between peers that cannot reach each other."""
    relay_mib_per_s: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 8
    """The most that all of it together may come to."""
    metrics: str | None = "127.0.0.1:9464"
    """Host and port of /metrics and /healthz, or None. Where in use another is chosen and said."""
    peers: tuple[str, ...] = ()
    """Addresses to connect to and keep connected."""
    executor: bool = False
    """The owner's standing consent to run others' jobs."""
    price_per_second_nano: Money = 10_000_000
    """What others pay for a second of running here."""
    price_per_mib_nano: Money = 100_000
    """And for each MiB of memory used."""
    max_memory_mib: int = 128
    max_timeout_s: int = 30
    max_jobs: Count = 0
    """Jobs at the same time; 0: one per core."""
    max_queue: Count = 64
    """Accepted jobs that wait; half of them at most for one peer."""
    outputs_mib: Annotated[int, msgspec.Meta(ge=1)] = 4096
    """What jobs printed and left is kept up to this much; beyond it the oldest of what is settled goes."""
    note_ms: Annotated[int, msgspec.Meta(ge=0, le=86_400_000)] = 60_000
    """A job for others that runs longer is billed each such time; 0: only at its end."""
    accept_ms: Annotated[int, msgspec.Meta(ge=50, le=86_400_000)] = 10_000
    """A slice unpaid for longer holds the job still; three times as long ends it."""
    exposure_max_u: Money = 1_000_000
    """The most work for one job that may be unpaid while it runs, beside its memory."""
    credit_member_u: Money = 100_000_000
    """What a fellow guild member's deposit and debts may come to. It and the next two hold until set in the running node."""
    credit_stranger_u: Money = 1_000_000
    typed_above_u: Money = 50_000_000
    """Payments above it ask for the amount to be typed."""
    witness: bool = True
    """The owner's consent to witness disputes between fellow guild members."""
    audit_share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.05
    """Of my repeatable jobs, how many are run again by a witness, chosen at random after their receipts came."""
    testify: bool = True
    """Tell the network how my jobs went at each peer that ran at least five of them."""
    tags: Annotated[tuple[str, ...], msgspec.Meta(max_length=16)] = ()
    """Words on the capability card, for others to find this node by."""
    hardware: str = "auto"
    """Model of the processor on the card; "auto" finds it out, "" tells nothing."""
    region: str = ""
    """Where the machine is, as far as the card shall tell."""
    card_modules: Annotated[int, msgspec.Meta(ge=0, le=8)] = 8
    """So many modules that were run here most for others are named on the card by their CIDs; 0: none."""
    demo: bool = False
    """Play money: shown as such on every screen."""


_RATES = {"price_per_second": "price_per_second_nano", "price_per_mib": "price_per_mib_nano"}
_AMOUNTS = {
    "exposure_max": "exposure_max_u",
    "credit_member": "credit_member_u",
    "credit_stranger": "credit_stranger_u",
    "typed_above": "typed_above_u",
}


def load(home: Path, arguments: Mapping[str, object], environ: Mapping[str, str]) -> Settings:
    """Settings from ``config.toml`` in the home, then ``ZSTUI_<NAME>`` variables, then arguments; later ones win.

    Money is written in decimal units as text (``price_per_second = "0.01"``). Raises BadInput that names the value.
    """
    values: dict[str, object] = {}
    path = home / "config.toml"
    try:
        if path.exists():
            values.update(tomllib.loads(path.read_text()))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadInput(f"Cannot read {path}: {error}.") from error
    hints = {f.name: f for f in msgspec.structs.fields(Settings)}
    for name in (*hints, *_RATES, *_AMOUNTS):
        text = environ.get(f"ZSTUI_{name.upper()}")
        if text is not None and name not in ("home", "demo"):
            listed = name in hints and hints[name].default == ()
            values[name] = tuple(t for t in text.split(",") if t) if listed else text
    for short, full in (*_RATES.items(), *_AMOUNTS.items()):
        if short in values:
            parse = parse_rate if short in _RATES else parse_amount
            values[full] = parse(str(values.pop(short)))
    values.update({k: v for k, v in arguments.items() if v is not None})
    values["home"] = home
    for name in ("mdns_interface", "metrics"):
        if values.get(name) == "none":
            values[name] = None
    try:
        settings = msgspec.convert(values, Settings, strict=False, dec_hook=_path)
    except msgspec.ValidationError as error:
        raise BadInput(f"A setting is wrong: {error}.") from error
    host_and_port(settings.listen)
    if settings.metrics is not None:
        host_and_port(settings.metrics)
    if len(settings.network.encode()) > 64 or not settings.network.isprintable():
        raise BadInput("The name of a network has at most 64 printable characters.")
    if not 1 <= settings.max_memory_mib <= 128 or not 1 <= settings.max_timeout_s <= 86_400:
        raise BadInput("A job gets at most 128 MiB and a day: max_memory_mib is 1..128 and max_timeout_s is 1..86400.")
    return settings


def _path(kind: type, value: object) -> object:
    if kind is Path:
        return value if isinstance(value, Path) else Path(str(value))
    raise NotImplementedError


def host_and_port(text: str) -> tuple[str, int]:
    """Take "127.0.0.1:4433" or "[::1]:4433" apart. Raises BadInput."""
    host, colon, port = text.rpartition(":")
    host = host.strip("[]")
    try:
        ipaddress.ip_address(host)
        number = int(port)
    except ValueError:
        number = -1
    if not colon or not 0 <= number <= 65535:
        raise BadInput(f"{text[:60]!r} is not an address and port such as 127.0.0.1:4433.")
    return host, number
