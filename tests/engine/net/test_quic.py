"""The private parts of aioquic that are relied on, and what is changed in it."""

from __future__ import annotations

import inspect

import aioquic
import pytest
from aioquic import tls
from aioquic.quic import connection as aioquic_connection
from aioquic.quic import events
from aioquic.quic.connection import QuicConnection
from aioquic.quic.stream import QuicStream

from zstui.engine.identity.certificate import verify_chain
from zstui.engine.identity.keys import Identity
from zstui.engine.net.limits import CONNECTION_WINDOW, MAX_STREAMS, STREAM_WINDOW
from zstui.engine.net.quic import Quic, configurations

A, B = ("127.0.0.1", 1), ("127.0.0.1", 2)


class Pair:
    """Two connections joined without sockets, on a clock of their own."""

    def __init__(self) -> None:
        self.alice, self.bob = Identity.generate(), Identity.generate()
        self.now = 0.0
        self.client = Quic(configurations(self.alice)[0])
        self.client.connect(B, now=self.now)
        self.server = Quic(
            configurations(self.bob)[1],
            original_destination_connection_id=self.client.original_destination_connection_id,
        )
        self.events: dict[Quic, list[events.QuicEvent]] = {self.client: [], self.server: []}
        self.unread_by_server = True
        self.server_unread: dict[int, int] = {}

    def roundtrips(self, count: int = 1) -> None:
        for _ in range(count):
            self.now += 0.03
            for sender, receiver, source in ((self.client, self.server, A), (self.server, self.client, B)):
                timer = sender.get_timer()
                if timer is not None and timer <= self.now:
                    sender.handle_timer(self.now)
                for data, _ in sender.datagrams_to_send(self.now):
                    receiver.receive_datagram(data, source, self.now)
                while (event := receiver.next_event()) is not None:
                    self.events[receiver].append(event)
                    if isinstance(event, events.StreamDataReceived) and receiver is self.server:
                        total = receiver.unread.get(event.stream_id, 0) + len(event.data)
                        if self.unread_by_server:
                            receiver.unread[event.stream_id] = total

    def read_at_server(self) -> int:
        """The application takes all it has."""
        taken = sum(self.server.unread.values())
        self.server.unread.clear()
        return taken

    def delivered(self) -> int:
        return sum(len(e.data) for e in self.events[self.server] if isinstance(e, events.StreamDataReceived))


@pytest.fixture
def pair() -> Pair:
    made = Pair()
    made.roundtrips(5)
    return made


def test_the_version_that_was_read_is_installed() -> None:
    assert aioquic.__version__ == "1.7.2"


@pytest.mark.parametrize(
    "name",
    [
        "_initialize",
        "_get_or_create_stream_for_send",
        "_write_stream_limits",
        "_write_connection_limits",
        "_on_max_stream_data_delivery",
        "_on_connection_limit_delivery",
    ],
)
def test_private_methods_exist(name: str) -> None:
    assert inspect.isfunction(getattr(QuicConnection, name))


def test_overridden_methods_take_the_same_arguments() -> None:
    for name in ("_initialize", "_unblock_streams", "_write_stream_limits", "_write_connection_limits"):
        theirs = list(inspect.signature(getattr(QuicConnection, name)).parameters)
        assert list(inspect.signature(getattr(Quic, name)).parameters) == theirs


def test_private_attributes_exist(pair: Pair) -> None:
    quic = pair.client
    for name in ("_state", "_close_event", "_handshake_confirmed", "_is_client", "_streams", "_local_max_data"):
        assert hasattr(quic, name)
    for limit in (quic._local_max_streams_bidi, quic._local_max_streams_uni, quic._local_max_data):
        assert {"value", "sent", "used", "frame_type"} <= set(vars(limit))
    for name in ("_peer_certificate", "_peer_certificate_chain", "_request_client_certificate"):
        assert hasattr(tls.Context(is_client=True), name)
    stream = QuicStream(stream_id=0)
    assert {"max_stream_data_local", "max_stream_data_local_sent"} <= set(vars(stream))
    assert isinstance(stream.sender._buffer, bytearray)
    assert {"_reset_error_code", "is_finished"} <= set(vars(stream.sender))
    assert {"highest_offset", "is_finished"} <= set(vars(stream.receiver))
    assert aioquic_connection.END_STATES


def test_both_sides_see_each_others_certificate(pair: Pair) -> None:
    import datetime

    now = datetime.datetime.now(datetime.UTC)
    assert verify_chain(pair.client.peer_certificates(), now) == pair.bob.peer_id
    assert verify_chain(pair.server.peer_certificates(), now) == pair.alice.peer_id
    assert pair.client.confirmed
    assert pair.server.confirmed
    for quic in (pair.client, pair.server):
        done = [e for e in pair.events[quic] if isinstance(e, events.HandshakeCompleted)]
        assert [(e.alpn_protocol, e.session_resumed, e.early_data_accepted) for e in done] == [("libp2p", False, False)]


def test_no_session_ticket_is_sent(pair: Pair) -> None:
    assert pair.client.tls.session_resumed is False
    assert pair.server.tls.new_session_ticket_cb is None


def test_the_end_is_known_at_once(pair: Pair) -> None:
    assert pair.server.termination is None
    pair.client.close(error_code=0x1001, reason_phrase="bye")
    pair.roundtrips()
    assert pair.server.termination is not None
    assert (pair.server.termination.error_code, pair.server.termination.reason_phrase) == (0x1001, "bye")


def test_the_peer_may_open_no_unidirectional_stream(pair: Pair) -> None:
    pair.client.send_stream_data(2, b"x")
    pair.roundtrips(3)
    assert pair.delivered() == 0


def test_the_peer_may_hold_only_so_many_streams(pair: Pair) -> None:
    for n in range(MAX_STREAMS + 10):
        pair.client.send_stream_data(4 * n, b"x")
    pair.roundtrips(10)
    assert pair.delivered() == MAX_STREAMS


def test_finished_streams_make_room_for_others(pair: Pair) -> None:
    for n in range(3 * MAX_STREAMS):
        stream_id = pair.client.get_next_available_stream_id()
        pair.client.send_stream_data(stream_id, b"x", end_stream=True)
        pair.roundtrips()
        pair.server.send_stream_data(stream_id, b"", end_stream=True)
        pair.read_at_server()
        pair.roundtrips()
        assert pair.delivered() == n + 1


def test_a_stream_that_is_not_read_stops_the_peer(pair: Pair) -> None:
    pair.client.send_stream_data(0, bytes(3 * STREAM_WINDOW))
    pair.roundtrips(60)
    assert pair.delivered() == STREAM_WINDOW
    assert pair.client.unsent(0) == 2 * STREAM_WINDOW
    for _ in range(3):
        pair.read_at_server()
        pair.roundtrips(60)
    assert pair.delivered() == 3 * STREAM_WINDOW
    assert pair.client.unsent(0) == 0


def test_streams_that_are_not_read_stop_the_peer_together(pair: Pair) -> None:
    streams = 2 * CONNECTION_WINDOW // STREAM_WINDOW
    for n in range(streams):
        pair.client.send_stream_data(4 * n, bytes(STREAM_WINDOW))
    pair.roundtrips(300)
    assert pair.delivered() == CONNECTION_WINDOW
    pair.read_at_server()
    pair.roundtrips(300)
    assert pair.delivered() == 2 * CONNECTION_WINDOW


def test_dropped_streams_do_not_use_up_the_connection(pair: Pair) -> None:
    """A peer that resets what it has begun can go on for ever."""
    for _ in range(2 * CONNECTION_WINDOW // STREAM_WINDOW):
        stream_id = pair.client.get_next_available_stream_id()
        wanted = pair.delivered() + STREAM_WINDOW
        pair.client.send_stream_data(stream_id, bytes(STREAM_WINDOW))
        for _ in range(200):
            pair.roundtrips()
            if pair.delivered() == wanted:
                break
        assert pair.delivered() == wanted
        pair.client.stop_sending(stream_id)
        pair.client.stop_receiving(stream_id)
        pair.server.stop_sending(stream_id)
        pair.server.unread.pop(stream_id, None)
        pair.roundtrips(3)


def test_a_gap_does_not_let_the_peer_fill_the_memory(pair: Pair) -> None:
    """Data behind a missing first byte counts as unread."""
    pair.client.send_stream_data(0, bytes(4 * STREAM_WINDOW))
    stream = pair.client._streams[0]
    stream.sender._pending.subtract(0, 1)
    pair.roundtrips(80)
    receiver = pair.server._streams[0].receiver
    assert pair.delivered() == 0
    assert receiver.highest_offset == STREAM_WINDOW
    assert len(receiver._buffer) <= STREAM_WINDOW


def test_stopping_an_unknown_stream_does_nothing(pair: Pair) -> None:
    pair.client.stop_receiving(400)
    pair.client.stop_sending(400)
    assert pair.client.unsent(400) == 0
