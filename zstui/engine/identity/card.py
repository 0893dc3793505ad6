"""Capability cards: what a peer says it offers, signed by its key.

A card binds nobody: prices and limits of a job are agreed in the job's own messages. It only saves asking in vain.
"""

from __future__ import annotations

from msgspec.structs import replace

from zstui.engine.errors import ProtocolError
from zstui.engine.identity.envelope import Body, open_envelope
from zstui.engine.identity.keys import PeerId
from zstui.engine.identity.text import clean_text
from zstui.engine.views import CapabilitiesView

MAX_CARD = 4096
"""Bytes of a card in its envelope."""
MAX_NAME = 40
MAX_TAGS = 16
MAX_CLOSED = 80
MAX_TAG = 32
MAX_HARDWARE = 64
MAX_REGION = 48
MAX_MODULES = 8
MAX_MODULE = 64
_MAX_NUMBER = 2**53 - 1


class Card(Body, frozen=True, array_like=True, forbid_unknown_fields=True):
    name: str
    executor: bool
    """Runs others' jobs."""
    cores: int
    memory_mib: int
    """Memory for one job at most."""
    timeout_s: int
    """Time for one job at most."""
    price_per_second_nano: int
    price_per_mib_nano: int
    tags: tuple[str, ...]
    issued_us: int
    """When it was signed, Unix time by the signer's clock; a later one replaces an earlier one."""
    speed: int = 0
    """Of the machine over the reference machine, thousandths; 0 if it was not measured. This and what follows may be absent."""
    closed: str = ""
    """Why no new work is taken at the moment, "" while it is."""
    hardware: str = ""
    """Model of the processor."""
    region: str = ""
    """Where the machine is, in its owner's words."""
    modules: tuple[str, ...] = ()
    """CIDs of modules that are compiled here already."""
    note_ms: int = 0
    """A running job is billed so often; this and the next two are what the node's settings of these names say."""
    accept_ms: int = 0
    exposure_max_u: int = 0


def read_card(raw: bytes, peer: PeerId) -> Card:
    """The card in a signed envelope of ``peer``, with clean text. Raises ProtocolError."""
    if len(raw) > MAX_CARD:
        raise ProtocolError(f"A card over {MAX_CARD} bytes.")
    card = open_envelope(raw, peer).decode(Card)
    numbers = (
        card.cores,
        card.memory_mib,
        card.timeout_s,
        card.price_per_second_nano,
        card.price_per_mib_nano,
        card.issued_us,
        card.speed,
        card.note_ms,
        card.accept_ms,
        card.exposure_max_u,
    )
    counted = len(card.tags) <= MAX_TAGS and len(card.modules) <= MAX_MODULES
    if any(not 0 <= n <= _MAX_NUMBER for n in numbers) or not counted:
        raise ProtocolError("A card with a value out of range.")
    return replace(
        card,
        name=clean_text(card.name, MAX_NAME),
        tags=_clean(card.tags, MAX_TAG),
        closed=clean_text(card.closed, MAX_CLOSED),
        hardware=clean_text(card.hardware, MAX_HARDWARE),
        region=clean_text(card.region, MAX_REGION),
        modules=_clean(card.modules, MAX_MODULE),
    )


def _clean(texts: tuple[str, ...], limit: int) -> tuple[str, ...]:
    return tuple(t for t in (clean_text(text, limit) for text in texts) if t)


def capabilities(card: Card | None) -> CapabilitiesView:
    """What screens show of a card; without one, a peer offers nothing."""
    if card is None:
        return CapabilitiesView()
    return CapabilitiesView(
        executor=card.executor,
        cores=card.cores,
        memory_mib=card.memory_mib,
        timeout_s=card.timeout_s,
        price_per_second_nano=card.price_per_second_nano,
        price_per_mib_nano=card.price_per_mib_nano,
        tags=card.tags,
        speed=card.speed / 1000 if card.speed else None,
        closed=card.closed,
        hardware=card.hardware,
        region=card.region,
        modules=card.modules,
    )
