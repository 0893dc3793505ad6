"""A peer that has the key and the records of a real node and says what a test wants."""

from __future__ import annotations

from tests.engine.channels.disputes.court import CourtNode
from zstui.engine.bus import Bus
from zstui.engine.channels import store
from zstui.engine.channels.disputes.messages import DisputeOpen, Evidence, Opening
from zstui.engine.channels.disputes.party import opening_of
from zstui.engine.channels.disputes.unit import Unit
from zstui.engine.channels.messages import Close, take
from zstui.engine.channels.state import Half
from zstui.engine.identity.envelope import Body, Signed, seal
from zstui.engine.identity.keys import PeerId
from zstui.engine.net.link import DISPUTE_PROTOCOL


class Liar:
    """Takes the place of a node, which is stopped."""

    def __init__(self, node: CourtNode, channel: str, opening: Opening, pays: list[bytes], theirs: list[bytes]) -> None:
        self.identity = node.identity
        self.ch = bytes.fromhex(channel)
        self.opening = opening
        self.pays = pays
        self.theirs = theirs
        self.network = node.hub.add(node.id, Bus())

    @classmethod
    async def instead_of(cls, node: CourtNode, channel: str) -> Liar:
        id = bytes.fromhex(channel)
        opening, pays, theirs = await node.db.read(
            lambda tx: (
                opening_of(Unit(tx, node.identity, 0), node.service.record(channel)),
                [raw for _, raw in store.envelopes(tx, id, store.OUT, 1, 99, 99)],
                [raw for _, raw in store.envelopes(tx, id, store.IN, 1, 99, 99)],
            )
        )
        await node.stop()
        return cls(node, channel, opening, pays, theirs)

    @classmethod
    async def instead_of_witness(cls, node: CourtNode, party: CourtNode, channel: str) -> Liar:
        """A witness that turned; the opening is as a party of the channel has it."""
        opening = await party.db.read(lambda tx: opening_of(Unit(tx, party.identity, 0), party.service.record(channel)))
        await node.stop()
        return cls(node, channel, opening, [], [])

    @classmethod
    def as_member(cls, node: CourtNode, other: Liar) -> Liar:
        """Speaks with the key of a node that goes on running."""
        speaker = object.__new__(cls)
        speaker.identity, speaker.ch, speaker.opening = node.identity, other.ch, other.opening
        speaker.pays, speaker.theirs, speaker.network = other.pays, other.theirs, node.memory
        return speaker

    def close_at(self, seq: int, cum: int) -> bytes:
        """A signed Close after one of its payments."""
        head = take(self.pays[seq - 1]).digest if seq else self.ch
        half = Half(seq, cum, head)
        return seal(self.identity, Close(self.ch, half.seq, half.cum, half.head))

    def filing(self, *docs: bytes) -> DisputeOpen:
        return DisputeOpen(self.ch, self.opening, docs)

    def evidence(self, *docs: bytes, denied: bytes = b"") -> Evidence:
        return Evidence(self.ch, docs, denied)

    async def say(self, peer: PeerId, message: Body | bytes) -> Signed:
        """Send one message; returns the signed answer."""
        raw = message if isinstance(message, bytes) else seal(self.identity, message)
        return take(await self.network.request(peer, DISPUTE_PROTOCOL, raw, 5))
