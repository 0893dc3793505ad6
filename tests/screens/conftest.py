from __future__ import annotations

import pytest
from textual.pilot import Pilot


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pause also lasts until the app has done what became due in it, however busy the machine is."""
    pause = Pilot.pause

    async def longer(self: Pilot[object], delay: float | None = None) -> None:
        await pause(self, delay)
        if delay is not None:
            await pause(self)

    monkeypatch.setattr(Pilot, "pause", longer)
