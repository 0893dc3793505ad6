"""What I say first on a channel after every connect."""

from __future__ import annotations

from zstui.engine.channels import store
from zstui.engine.channels.messages import Reestablish
from zstui.engine.channels.model import Channel
from zstui.engine.channels.state import State
from zstui.engine.identity.envelope import seal
from zstui.engine.identity.keys import Identity, PeerId
from zstui.engine.store.database import Tx


def greetings(tx: Tx, identity: Identity, peer: PeerId) -> list[tuple[bytes | None, bytes]]:
    """What to say first on a new link: (channel, Reestablish), or (None, my proposal that waits for its answer)."""
    channel = store.load_open(tx, peer)
    if channel is None:
        return []
    if not channel.agreed:
        raw = store.document(tx, channel.id, "propose", store.OUT)
        return [(None, raw)] if raw else []
    if channel.state is State.OPENING:
        return []
    return [(channel.id, seal(identity, where_i_am(tx, channel)))]


def where_i_am(tx: Tx, channel: Channel) -> Reestablish:
    c = channel
    return Reestablish(
        ch=c.id,
        state=c.state.value,  # type: ignore[arg-type]
        sent_seq=c.out.seq,
        sent_head=c.out.head,
        recv_seq=c.inn.seq,
        recv_cum=c.inn.cum,
        recv_head=c.inn.head,
        your_last_pay=(store.envelope(tx, c.id, store.IN, c.inn.seq) or b"") if c.inn.seq else b"",
        your_close=store.document(tx, c.id, "close", store.IN) or b"",
        your_end=store.document(tx, c.id, "settle", store.IN) or store.document(tx, c.id, "taint", store.IN) or b"",
        tainted=c.tainted,
    )
