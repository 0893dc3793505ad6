"""How the balance of a channel went, read from the payments on record. Runs inside a transaction."""

from __future__ import annotations

import msgspec

from zstui.engine.channels import store
from zstui.engine.channels.messages import Pay
from zstui.engine.channels.model import Channel
from zstui.engine.identity.envelope import Envelope
from zstui.engine.store.database import Tx
from zstui.engine.views import BalancePoint, BalancesView

MAX_POINTS = 500


def spread(last: int, count: int) -> list[int]:
    """At most ``count`` numbers of 1..``last``, evenly spread, the last one among them."""
    if last <= count:
        return list(range(1, last + 1))
    return [last - (count - 1 - k) * last // count for k in range(count)]


def balances(tx: Tx, channel: Channel, points: int) -> BalancesView:
    """My balance after at most ``points`` of the payments, oldest first, whoever made them. Each is told by the payment alone:
    it holds the cumulative totals of both halves as its payer knew them. What was pruned is left out."""
    c = channel
    found = [(c.created_us // 1000, c.dep_mine)]
    for direction, last in ((store.OUT, c.out.seq), (store.IN, c.inn.seq)):
        for seq in spread(last, max(1, points // 2)):
            for _, raw in store.envelopes(tx, c.id, direction, seq, seq, 1):
                pay = msgspec.msgpack.decode(msgspec.msgpack.decode(raw, type=Envelope).body, type=Pay)
                paid, received = (pay.cum, pay.peer_cum) if direction == store.OUT else (pay.peer_cum, pay.cum)
                found.append((pay.issued_ms, c.dep_mine - paid + received))
    found.sort(key=lambda point: point[0])
    return BalancesView(
        channel_id=c.id.hex(),
        payments=c.out.seq + c.inn.seq,
        mine_u=c.balance,
        points=tuple(BalancePoint(at=at_ms // 1000, mine_u=mine_u) for at_ms, mine_u in found),
    )
