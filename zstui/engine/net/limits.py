"""Bounds on what strangers may make this node hold or wait for. Sizes in bytes, times in seconds."""

from __future__ import annotations

# --- links -----------------------------------------------------------------------------------------------------------

HANDSHAKE_S = 5.0
"""An inbound connection that has not proved its key by then is dropped."""
DIAL_S = 10.0
IDLE_S = 12.0
"""QUIC idle time-out: the keep-alive notices a dead link before."""
MAX_CONNECTIONS = 512
"""Inbound connections, authenticated or not."""
MAX_CONNECTIONS_PER_ADDRESS = 128
RETRY_ABOVE = 64
"""With more unauthenticated inbound connections than this, new ones must first prove their address (QUIC Retry)."""
MAX_HALF_OPEN = 256
"""More unauthenticated inbound connections than this are not accepted."""

MAX_IDLE_LINKS = 16
"""Links made in passing, for a look-up, that stay although nobody needs them."""
IDLE_LINK_S = 30.0
"""And more for so long after their last use."""
IDLE_SWEEP_S = 10.0

# --- streams ---------------------------------------------------------------------------------------------------------

MAX_STREAMS = 128
"""Streams that one peer may hold open towards us."""
MAX_OUTBOUND_STREAMS = 512
"""Streams that we hold open towards one peer."""
STREAM_WINDOW = 256 * 1024
"""Unread bytes of one stream; the peer may not send more."""
CONNECTION_WINDOW = 2 * 1024 * 1024
"""Unread bytes of all streams of one peer."""
SEND_BUFFER = 256 * 1024
"""Bytes of one stream that may wait for the peer's acknowledgement before ``send`` waits."""
SEND_STALL_S = 30.0
"""A stream whose peer takes nothing for this long is reset."""
NEGOTIATION_S = 10.0
LINGER_S = 2.0
"""How long a served stream waits for its peer to end its half, too."""
MAX_PROPOSALS = 8
"""Protocol proposals on one inbound stream."""

# --- liveness --------------------------------------------------------------------------------------------------------

PING_EVERY_S = 4.0
PING_TIMEOUT_S = 5.0
"""Together under ten seconds: the longest a dead link goes unnoticed."""
RTT_HISTORY = 12

# --- peers -----------------------------------------------------------------------------------------------------------

MAX_PEERS = 10_000
"""Known peers; past that the least recently seen stranger is forgotten."""
MAX_HEARD = 1_000
"""Of these, peers known only by a card that others brought."""
MAX_ADDRESSES = 8
"""Addresses kept of one peer."""
MAX_RECONNECTS = 64
"""Peers that are dialed again and again after their link went down, besides the configured ones."""
MAX_CANDIDATES = 512
"""Peers heard of by mDNS that are not connected."""
MAX_DIALS = 32
"""Automatic dials at the same time."""
MAX_HEARD_DIALS = 24
"""Of these, dials of peers that have only been heard of by mDNS."""
HEARD_DIAL_S = 2.0
"""A peer on the LAN answers sooner than that."""
HEARD_DELAY_S = 0.4
"""How much later the larger of two peer ids dials a peer heard of by mDNS."""
WATCH_S = 2.0
"""How often the machine's own addresses are looked at."""
