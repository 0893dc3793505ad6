"""The field for a module: a path or a sample, completed while typing."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from textual.actions import SkipAction
from textual.binding import Binding, BindingType
from textual.suggester import Suggester
from textual.widgets import Input


def complete(text: str, samples: Sequence[str]) -> list[str]:
    """What ``text`` can become: sample names, then folders and .wasm files, sorted."""
    names = [name for name in samples if name.startswith(text)] if "/" not in text else []
    folder, _, start = text.rpartition("/")
    where = Path(folder or ("/" if text.startswith("/") else ".")).expanduser()
    found: list[str] = []
    try:
        with os.scandir(where) as entries:
            for entry in entries:
                if entry.name.startswith(start) and (start.startswith(".") or not entry.name.startswith(".")):
                    if entry.is_dir():
                        found.append(entry.name + "/")
                    elif entry.name.endswith(".wasm"):
                        found.append(entry.name)
                if len(found) >= 500:
                    break
    except OSError:
        pass
    prefix = text[: len(text) - len(start)]
    return names + sorted(prefix + name for name in found)


class _Completion(Suggester):
    """Suggests the first of ``complete``; looks at the disk in a thread."""

    def __init__(self, samples: Sequence[str]) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._samples = samples

    async def get_suggestion(self, value: str) -> str | None:
        found = await asyncio.to_thread(complete, value, self._samples) if value else []
        return next((name for name in found if name != value), None)


class ModuleInput(Input):
    """A path: Tab takes the suggestion, down and up go through what is offered."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "take", "Complete", show=False),
        Binding("down", "offer(1)", "Next", show=False),
        Binding("up", "offer(-1)", "Previous", show=False),
    ]

    def __init__(self, value: str, samples: Sequence[str]) -> None:
        super().__init__(
            value,
            placeholder="a .wasm file or a sample; ↓ goes through them",
            suggester=_Completion(samples),
            compact=True,
            select_on_focus=False,
        )
        self._samples = samples
        self._offered: list[str] = []
        self._at = -1

    def action_take(self) -> None:
        if not self._suggestion or self._suggestion == self.value:
            raise SkipAction
        self.value = self._suggestion
        self.cursor_position = len(self.value)

    def action_offer(self, by: int) -> None:
        if self.value not in self._offered:
            folder = self.value[: self.value.rfind("/") + 1]
            self._offered = complete(folder, self._samples)
            self._at = -1 if by > 0 else 0
        if self._offered:
            self._at = (self._at + by) % len(self._offered)
            self.value = self._offered[self._at]
            self.cursor_position = len(self.value)
