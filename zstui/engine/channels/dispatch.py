"""Which rule serves which message. Runs inside a transaction."""

from __future__ import annotations

from zstui.engine.channels import closing, opening, paying, recovery
from zstui.engine.channels.messages import (
    Abort,
    Ack,
    Close,
    LogPull,
    OpenAccept,
    OpenConfirm,
    Opened,
    OpenPropose,
    OpenPull,
    OpenReject,
    Pay,
    Reestablish,
    Settle,
)
from zstui.engine.channels.model import Channel
from zstui.engine.channels.work import Work
from zstui.engine.errors import ProtocolError
from zstui.engine.identity.envelope import Body, Signed
from zstui.engine.identity.keys import PeerId


def carry_out(work: Work, peer: PeerId, signed: Signed, body: Body, limit_u: int) -> None:
    """One verified message from ``peer``. Raises ProtocolError or ChannelError: drop the link, change nothing."""
    match body:
        case Pay() if signed.signer != peer:
            recovery.adopt_pay(work, _channel(work, peer, body.ch), signed, body)
        case Pay():
            paying.on_pay(work, _channel(work, peer, body.ch), signed, body)
        case Ack():
            paying.on_ack(work, _channel(work, peer, body.ch), signed, body)
        case Close():
            closing.on_close(work, _channel(work, peer, body.ch), signed, body)
        case Settle():
            closing.on_settle(work, _channel(work, peer, body.ch), signed, body)
        case Reestablish():
            recovery.on_reestablish(work, peer, signed, body)
        case LogPull():
            recovery.on_pull(work, _channel(work, peer, body.ch), body)
        case OpenPull():
            recovery.on_open_pull(work, _channel(work, peer, body.ch))
        case Opened():
            recovery.on_opened(work, peer, body)
        case OpenPropose():
            opening.on_propose(work, peer, signed.raw, body, limit_u)
        case OpenAccept():
            opening.on_accept(work, peer, signed.raw, body)
        case OpenConfirm():
            opening.on_confirm(work, peer, signed.raw, body)
        case OpenReject():
            opening.on_reject(work, peer, body)
        case Abort():
            opening.on_abort(work, peer, signed.raw, body)


def _channel(work: Work, peer: PeerId, id: bytes) -> Channel:
    channel = work.find(id)
    if channel is None or channel.peer != peer:
        raise ProtocolError("A message on a channel that this peer has no part in.")
    return channel
