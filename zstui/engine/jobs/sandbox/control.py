"""The handle by which whoever started a run holds it still for a while."""

from __future__ import annotations

from collections.abc import Callable


class RunControl:
    """Pass one to ``Sandbox.run``; it serves that run only.

    A paused run uses no processor, keeps its worker and memory, is not metered, and its timeout does not pass. It can be
    cancelled as ever. Before the run has a worker and after its end, pausing has no effect but that it begins paused.
    """

    def __init__(self) -> None:
        self._paused = False
        self._on_change: Callable[[bool], None] | None = None
        self._ask_memory: Callable[[], None] | None = None
        self.memory_bytes = 0
        """The most linear memory that the run is known to have had: 0 until it was asked, and as of when it last called its
        host, so that it may have more by now."""

    @property
    def paused(self) -> bool:
        return self._paused

    def pause(self) -> None:
        """Idempotent; takes effect at once."""
        self._set(True)

    def resume(self) -> None:
        """Idempotent."""
        self._set(False)

    def ask_memory(self) -> bool:
        """Whether it could be asked; ``told_memory`` follows soon unless the run is held still or ends."""
        if self._ask_memory is None:
            return False
        self._ask_memory()
        return True

    def told_memory(self, memory_bytes: int) -> None:
        """For the sandbox."""
        self.memory_bytes = max(self.memory_bytes, memory_bytes)

    def attach(self, on_change: Callable[[bool], None] | None, ask_memory: Callable[[], None] | None = None) -> None:
        """For the sandbox: who is told of pauses, and asked for the run's memory, from now on."""
        self._on_change, self._ask_memory = on_change, ask_memory

    def _set(self, paused: bool) -> None:
        if paused != self._paused:
            self._paused = paused
            if self._on_change:
                self._on_change(paused)
