"""What all commands have in common, and who carries them out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Generic, Protocol, TypeVar

import msgspec

from zstui.engine.views import Feed, Snapshot

R = TypeVar("R", covariant=True)


class Command(msgspec.Struct, Generic[R], frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """Base of all commands; ``R`` is the type that executing it returns."""


class Engine(Protocol):
    """The one door to a node, embedded or attached."""

    async def execute(self, command: Command[R]) -> R:
        """Carry out one command. Raises ZsError."""

    async def snapshot(self) -> Snapshot:
        """All views at one moment."""

    def events(self) -> AsyncIterator[Feed]:
        """Changes from the moment of the call on, without end; close it with ``aclose``."""
