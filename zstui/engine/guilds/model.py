"""What a guild is: its charter, and the terms that one may have. Pure: no clock, no randomness, no I/O."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec

from zstui.engine.errors import BadInput, ProtocolError
from zstui.engine.guilds.messages import Admission, GuildCharter, Needs
from zstui.engine.identity.card import Card
from zstui.engine.identity.envelope import Signed, open_envelope
from zstui.engine.identity.keys import PeerId, peer_id_of
from zstui.engine.identity.text import clean_text
from zstui.engine.views import Role

MIN_TTL_S, MAX_TTL_S = 60, 86_400
MAX_LIFE_US = 30 * 86_400 * 1_000_000
"""A guild's whole life with all extensions."""
MIN_MEMBERS, MAX_MEMBERS = 2, 50
MAX_NAME = 48
MAX_TAG = 32
CLOCK_SLACK_US = 600 * 1_000_000
"""How far a creator's clock may be ahead of mine."""
JOIN_ROLES: tuple[Role, ...] = ("executor", "member", "observer")


def body_digest(signed: Signed) -> bytes:
    """SHA-256 of exactly the bytes that were signed: unlike the envelope's digest no third party can vary it."""
    return hashlib.sha256(b"zs/1|" + signed.kind.encode() + b"|" + signed.body).digest()


class Charter(msgspec.Struct, frozen=True):
    """A verified charter."""

    guild_id: bytes
    creator: PeerId
    name: str
    """Cleaned."""
    ttl_s: int
    max_members: int
    admission: Admission
    needs: Needs
    """With clean tags."""
    created_us: int
    raw: bytes

    @property
    def expires_us(self) -> int:
        """As founded; the log may extend it."""
        return self.created_us + self.ttl_s * 1_000_000


def check_terms(name: str, ttl_s: int, max_members: int) -> str:
    """The name as it will be used. Raises BadInput with what is wrong with the terms of a new guild."""
    cleaned = clean_text(name, MAX_NAME + 1)
    if not cleaned or len(cleaned) > MAX_NAME:
        raise BadInput(f"A guild's name has 1 to {MAX_NAME} printable characters.")
    if not MIN_TTL_S <= ttl_s <= MAX_TTL_S:
        raise BadInput("A guild lives from 1 minute to 24 hours; its creator can extend it later.")
    if not MIN_MEMBERS <= max_members <= MAX_MEMBERS:
        raise BadInput(f"A guild has room for {MIN_MEMBERS} to {MAX_MEMBERS} members.")
    return cleaned


def check_needs(memory_mib: int, cores: int, tags: Iterable[str]) -> Needs:
    """What a new guild asks of executors. Raises BadInput."""
    cleaned = tuple(dict.fromkeys(clean_text(tag, MAX_TAG + 1) for tag in tags))
    if len(cleaned) > 4 or any(not 1 <= len(tag) <= MAX_TAG for tag in cleaned):
        raise BadInput(f"A guild can ask for up to 4 tags of 1 to {MAX_TAG} characters.")
    if not 0 <= memory_mib <= 2**32 or not 0 <= cores <= 65_536:
        raise BadInput("Required memory (MiB) and cores are whole numbers, 0 for no requirement.")
    return Needs(memory_mib, cores, cleaned)


def lacking(needs: Needs, card: Card) -> str:
    """What an executor's card falls short of, as one clause; "" if nothing."""
    if card.memory_mib < needs.memory_mib:
        return f"executors need {needs.memory_mib} MiB of memory for a job, and the card says {card.memory_mib}"
    if card.cores < needs.cores:
        return f"executors need {needs.cores} cores, and the card says {card.cores}"
    missing = [tag for tag in needs.tags if tag.casefold() not in {t.casefold() for t in card.tags}]
    if missing:
        return f"executors need the tag {missing[0]}, which is not on the card"
    return ""


def read_charter(raw: bytes) -> Charter:
    """Verify a charter. Raises ProtocolError."""
    signed = open_envelope(raw)
    body = signed.decode(GuildCharter)
    if peer_id_of(body.creator) != signed.signer:
        raise ProtocolError("A charter that is not signed by its creator.")
    name = clean_text(body.name, MAX_NAME)
    if not name:
        raise ProtocolError("A charter without a name.")
    tags = tuple(t for t in (clean_text(tag, MAX_TAG) for tag in body.needs.tags) if t)
    return Charter(
        body_digest(signed),
        signed.signer,
        name,
        body.ttl_s,
        body.max_members,
        body.admission,
        Needs(body.needs.memory_mib, body.needs.cores, tags),
        body.created_us,
        raw,
    )


def full_text(charter: Charter, members: int | None = None) -> str:
    return f"{charter.name} is full {charter.max_members if members is None else members}/{charter.max_members}."
