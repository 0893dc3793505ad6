"""Every action in the command palette."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from textual.command import DiscoveryHit, Hit, Hits, Provider

if TYPE_CHECKING:
    from zstui.screens.keys import Action


class ActionsProvider(Provider):
    """Offers what the base screen can do; running an action of a pane brings that pane up first."""

    def _entries(self) -> list[tuple[str, str, Callable[[], None]]]:
        from zstui.screens.main import MainScreen

        screen = next((s for s in self.app.screen_stack if isinstance(s, MainScreen)), None)
        if screen is None:
            return []

        def run(action: Action) -> Callable[[], None]:
            return lambda: screen.run(action)

        return [(f"{a.group}: {a.title}", f"{a.keys}  {a.text}", run(a)) for a in screen.actions()]

    async def discover(self) -> Hits:
        for title, text, run in self._entries():
            yield DiscoveryHit(title, run, help=text)

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for title, text, run in self._entries():
            score = max(matcher.match(title), matcher.match(text) * 0.8)
            if score > 0:
                yield Hit(score, matcher.highlight(title), run, help=text)
