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

    @property
    def paused(self) -> bool:
        return self._paused

    def pause(self) -> None:
        """Idempotent; takes effect at once."""
        self._set(True)

    def resume(self) -> None:
        """Idempotent."""
        self._set(False)

    def attach(self, on_change: Callable[[bool], None] | None) -> None:
        """For the sandbox: who is told of pauses from now on."""
        self._on_change = on_change

    def _set(self, paused: bool) -> None:
        if paused != self._paused:
            self._paused = paused
            if self._on_change:
                self._on_change(paused)
