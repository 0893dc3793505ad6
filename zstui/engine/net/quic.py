"""One QUIC connection as libp2p wants it. The only module that touches what aioquic keeps private; pinned to one version.

What is added to aioquic: the server asks for the client's certificate, a dial offers only key exchanges that peers use, flow
control follows what the application has read (aioquic's windows grow with what has arrived), unidirectional streams are
refused, and the end is known at once.
"""

from __future__ import annotations

import logging
import ssl
from typing import Any

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import (
    CONNECTION_LIMIT_FRAME_CAPACITY,
    END_STATES,
    MAX_STREAM_DATA_FRAME_CAPACITY,
    Limit,
    QuicConnection,
)
from aioquic.quic.events import ConnectionTerminated
from aioquic.quic.packet import QuicFrameType, QuicProtocolVersion
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.quic.stream import QuicStream
from aioquic.tls import Group
from cryptography import x509

from zstui.engine.identity.certificate import make_certificate
from zstui.engine.identity.keys import Identity
from zstui.engine.net.limits import CONNECTION_WINDOW, IDLE_S, MAX_STREAMS, STREAM_WINDOW

ALPN = "libp2p"
CONNECTION_ID_BYTES = 8
DATAGRAM_BYTES = 1350
"""UDP payload; there is no path MTU discovery."""
VERSIONS = (int(QuicProtocolVersion.VERSION_1),)
GROUPS = (Group.X25519, Group.SECP256R1)
"""Key exchanges that a dial offers. aioquic makes a key for each before it says a word; one of these two is everywhere."""
ACK_DELAY_S = 0.005
"""Acknowledgements wait for one another, so that an answer to a message is not held up by one; 25 ms is announced."""
BAD_CERTIFICATE = 0x12A
"""QUIC error code of the TLS alert ``bad_certificate``."""

logging.getLogger("quic").addHandler(logging.NullHandler())


def configurations(identity: Identity) -> tuple[QuicConfiguration, QuicConfiguration]:
    """For dialing and for accepting, with one certificate made for both."""
    certificate, key = make_certificate(identity)

    def one(is_client: bool) -> QuicConfiguration:
        return QuicConfiguration(
            alpn_protocols=[ALPN],
            certificate=certificate,
            congestion_control_algorithm="cubic",
            connection_id_length=CONNECTION_ID_BYTES,
            idle_timeout=IDLE_S,
            is_client=is_client,
            max_data=CONNECTION_WINDOW,
            max_datagram_size=DATAGRAM_BYTES,
            max_stream_data=STREAM_WINDOW,
            private_key=key,
            supported_versions=list(VERSIONS),
            verify_mode=ssl.CERT_NONE,
        )

    return one(True), one(False)


class Quic(QuicConnection):
    """Sans-I/O, as its base. Whoever drives it keeps ``unread`` up to date."""

    def __init__(self, configuration: QuicConfiguration, **arguments: Any) -> None:
        super().__init__(configuration=configuration, **arguments)
        self._local_max_streams_bidi.value = self._local_max_streams_bidi.sent = MAX_STREAMS
        self._local_max_streams_uni.value = self._local_max_streams_uni.sent = 0
        self._ack_delay = ACK_DELAY_S
        self.unread: dict[int, int] = {}
        """Bytes of each stream that have been delivered but not read by the application; no entry: none."""
        self._given_up: set[int] = set()
        """Streams dropped before the peer allowed them to begin."""

    # --- what happened -----------------------------------------------------------------------------------------------

    def peer_certificates(self) -> list[x509.Certificate]:
        """The chain that the peer sent, possession of its first key proven; empty if it sent none."""
        first = self.tls._peer_certificate
        return [] if first is None else [first, *self.tls._peer_certificate_chain]

    @property
    def confirmed(self) -> bool:
        """The handshake is confirmed: both sides have accepted each other's certificate."""
        return self._handshake_confirmed

    @property
    def termination(self) -> ConnectionTerminated | None:
        """Why the connection ended, as soon as it has, without waiting for the draining period."""
        return self._close_event if self._state in END_STATES else None

    def unsent(self, stream_id: int) -> int:
        """Bytes of a stream that the peer has not acknowledged."""
        stream = self._streams.get(stream_id)
        return 0 if stream is None else len(stream.sender._buffer)

    def has_unsent(self) -> bool:
        """Whether some stream has data that was not sent yet, or was lost."""
        return not all(stream.sender.buffer_is_empty for stream in self._streams.values())

    def is_inbound(self, stream_id: int) -> bool:
        """Whether the peer opened this stream."""
        return bool(stream_id & 1) == self._is_client

    # --- what to do --------------------------------------------------------------------------------------------------

    def open_stream(self) -> int:
        """The id of a new bidirectional stream; the peer hears of it with the first data."""
        stream_id: int = self.get_next_available_stream_id()
        self._get_or_create_stream_for_send(stream_id)
        return stream_id

    def write(self, stream_id: int, data: bytes, *, end: bool) -> None:
        """Queue data of an open stream. No effect once the peer has asked for no more of it."""
        stream = self._streams.get(stream_id)
        if stream is not None and stream.sender._reset_error_code is None and not stream.sender.is_finished:
            stream.sender.write(data, end_stream=end)

    def stop_receiving(self, stream_id: int) -> None:
        """Ask the peer to send no more on a stream. No effect if nothing can come."""
        stream = self._streams.get(stream_id)
        if stream is not None and stream.is_blocked:
            self._given_up.add(stream_id)
        elif stream is not None and not stream.receiver.is_finished:
            self.stop_stream(stream_id, 0)

    def stop_sending(self, stream_id: int) -> None:
        """Drop what is unsent on a stream and tell the peer. No effect if all has been acknowledged."""
        stream = self._streams.get(stream_id)
        if stream is not None and stream.is_blocked:
            self._given_up.add(stream_id)
        elif stream is not None:
            self.reset_stream(stream_id, 0)

    # --- overrides ---------------------------------------------------------------------------------------------------

    def _initialize(self, peer_cid: bytes) -> None:
        super()._initialize(peer_cid)
        if self._is_client:
            self.tls._supported_groups = list(GROUPS)
        else:
            self.tls._request_client_certificate = True

    def _unblock_streams(self, is_unidirectional: bool) -> None:
        """aioquic would tell the peer at once that a stream is dropped which it has not allowed yet: an error to any peer."""
        super()._unblock_streams(is_unidirectional)
        for stream_id in tuple(self._given_up):
            if not self._streams[stream_id].is_blocked:
                self._given_up.remove(stream_id)
                self.stop_sending(stream_id)
                self.stop_receiving(stream_id)

    def _write_stream_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace, stream: QuicStream) -> None:
        receiver = stream.receiver
        if receiver.is_finished:
            return
        read = receiver.starting_offset() - self.unread.get(stream.stream_id or 0, 0)
        if read + STREAM_WINDOW - stream.max_stream_data_local >= STREAM_WINDOW // 2:
            stream.max_stream_data_local = read + STREAM_WINDOW
        if stream.max_stream_data_local_sent != stream.max_stream_data_local:
            frame = builder.start_frame(
                QuicFrameType.MAX_STREAM_DATA,
                capacity=MAX_STREAM_DATA_FRAME_CAPACITY,
                handler=self._on_max_stream_data_delivery,
                handler_args=(stream,),
            )
            frame.push_uint_var(stream.stream_id or 0)
            frame.push_uint_var(stream.max_stream_data_local)
            stream.max_stream_data_local_sent = stream.max_stream_data_local

    def _write_connection_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace) -> None:
        data = self._local_max_data
        if data.used + CONNECTION_WINDOW // 2 > data.value:
            data.value = max(data.value, data.used - self._outstanding() + CONNECTION_WINDOW)
        self._announce(builder, data, worth=data.value - data.sent >= CONNECTION_WINDOW // 4)
        streams = self._local_max_streams_bidi
        self._announce(builder, streams, worth=streams.value - streams.sent > streams.sent - streams.used)

    def _outstanding(self) -> int:
        """Bytes of flow control in use: delivered and unread, or waiting behind a gap."""
        gaps = sum(
            s.receiver.highest_offset - s.receiver.starting_offset()
            for s in self._streams.values()
            if not s.receiver.is_finished
        )
        return gaps + sum(self.unread.values())

    def _announce(self, builder: QuicPacketBuilder, limit: Limit, worth: bool) -> None:
        """Send a limit's new value if it is ``worth`` a frame; a lost frame has set ``sent`` to zero."""
        if limit.value == limit.sent or not worth:
            return
        frame = builder.start_frame(
            limit.frame_type,
            capacity=CONNECTION_LIMIT_FRAME_CAPACITY,
            handler=self._on_connection_limit_delivery,
            handler_args=(limit,),
        )
        frame.push_uint_var(limit.value)
        limit.sent = limit.value
