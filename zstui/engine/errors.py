"""Every error zstui raises on purpose.

The message of each is one sentence that a person can act on; ``code`` is the stable word that scripts and peers see.

::

    ZsError
    ├── BadInput                what the user typed or passed is wrong
    ├── HomeError               the home directory cannot serve
    │   ├── HomeLocked          another node runs on it
    │   └── DatabaseTooNew      written by a newer zstui
    ├── StoreError              the database failed; the node stops and recovers at its next start
    ├── BackupError             a backup could not be written, read or restored
    ├── NotRunning              no node runs for this home
    ├── NetError
    │   ├── UnknownPeer         no such peer, or its name is ambiguous
    │   ├── Unreachable         no connection could be made
    │   ├── StreamClosed        the other side ended the stream
    │   ├── DeadlineExceeded    no answer in time
    │   ├── FrameTooLarge       a message over the cap
    │   └── AuthenticationFailed  the peer did not prove its key
    ├── ProtocolError           a peer sent what the protocol forbids
    ├── Refused                 a peer answered no, with its reason
    ├── GuildError
    │   ├── UnknownGuild
    │   ├── GuildFull
    │   ├── GuildExpired
    │   └── NotPermitted        the role does not allow it
    ├── JobError
    │   ├── UnknownJob
    │   ├── InvalidModule       not a WebAssembly module, or one the sandbox does not run
    │   ├── InvalidManifest
    │   ├── NoExecutor          nobody can take the job, with each one's reason
    │   └── InvalidReceipt
    └── ChannelError
        ├── UnknownChannel
        ├── IllegalTransition   the state machine forbids it
        ├── InsufficientBalance
        ├── CreditExceeded      the peer's promise is above the credit limit granted to it
        └── ApprovalError       unknown, expired, already decided, or blocked request
"""

from __future__ import annotations

from typing import ClassVar

CANNOT_WRITE = "The database could not be written; the node stopped to keep what it has."
"""What a person is told once a node's ``failed`` is set."""


class ZsError(Exception):
    """Root of the tree; ``str(error)`` is one sentence for a person."""

    code: ClassVar[str] = "error"


class BadInput(ZsError):
    code = "bad_input"


class HomeError(ZsError):
    code = "home"


class HomeLocked(HomeError):
    code = "home_locked"


class DatabaseTooNew(HomeError):
    code = "database_too_new"


class StoreError(ZsError):
    code = "store"


class BackupError(ZsError):
    code = "backup"


class NotRunning(ZsError):
    code = "not_running"


class NetError(ZsError):
    code = "net"


class UnknownPeer(NetError):
    code = "unknown_peer"


class Unreachable(NetError):
    code = "unreachable"


class StreamClosed(NetError):
    code = "stream_closed"


class DeadlineExceeded(NetError):
    code = "deadline_exceeded"


class FrameTooLarge(NetError):
    code = "frame_too_large"


class AuthenticationFailed(NetError):
    code = "authentication_failed"


class ProtocolError(ZsError):
    code = "protocol"


class Refused(ZsError):
    code = "refused"


class GuildError(ZsError):
    code = "guild"


class UnknownGuild(GuildError):
    code = "unknown_guild"


class GuildFull(GuildError):
    code = "guild_full"


class GuildExpired(GuildError):
    code = "guild_expired"


class NotPermitted(GuildError):
    code = "not_permitted"


class JobError(ZsError):
    code = "job"


class UnknownJob(JobError):
    code = "unknown_job"


class InvalidModule(JobError):
    code = "invalid_module"


class InvalidManifest(JobError):
    code = "invalid_manifest"


class NoExecutor(JobError):
    code = "no_executor"


class InvalidReceipt(JobError):
    code = "invalid_receipt"


class ChannelError(ZsError):
    code = "channel"


class UnknownChannel(ChannelError):
    code = "unknown_channel"


class IllegalTransition(ChannelError):
    code = "illegal_transition"


class InsufficientBalance(ChannelError):
    code = "insufficient_balance"


class CreditExceeded(ChannelError):
    code = "credit_exceeded"


class ApprovalError(ChannelError):
    code = "approval"


def _leaves(cls: type[ZsError]) -> dict[str, type[ZsError]]:
    found = {cls.code: cls}
    for sub in cls.__subclasses__():
        found.update(_leaves(sub))
    return found


BY_CODE: dict[str, type[ZsError]] = _leaves(ZsError)
"""Error class for each ``code``, so that a control client raises what the node raised."""
