"""``python -m tests.support.screenshots DIR``: walk the demo network in the real app and save what its screens look like.

Writes SVG files, 80x24 and 160x50; with cairosvg installed also PNG.
"""

from __future__ import annotations

import asyncio
import importlib
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from textual.pilot import Pilot

from zstui import demo
from zstui.app import ZstuiApp
from zstui.engine import commands as c

MONEY = (
    ("enter", "channel"),
    ("o", "channel-open"),
    ("c", "channel-close"),
    ("D", "dispute"),
    ("L", "ledger"),
    ("w", "cases"),
    ("e", "statement"),
)
"""Windows of the channels pane."""
SIZES = ((80, 24), (160, 50))


async def settle(pilot: Pilot[None], seconds: float = 0.6) -> None:
    await asyncio.sleep(seconds)
    await pilot.pause()


def save(app: ZstuiApp, folder: Path, name: str) -> None:
    size = f"{app.size.width}x{app.size.height}"
    svg = re.sub(r"@font-face \{.*?\}", "", app.export_screenshot(), flags=re.DOTALL)
    path = folder / f"{name}-{size}.svg"
    path.write_text(svg)
    try:
        cairosvg = importlib.import_module("cairosvg")
    except ImportError:
        return
    cairosvg.svg2png(
        bytestring=svg.replace("Fira Code", "DejaVu Sans Mono").encode(), write_to=str(path.with_suffix(".png"))
    )


async def look(pilot: Pilot[None], folder: Path, windows: Sequence[tuple[str, str]]) -> None:
    """Open each window of a pane by its key, save it, and close it."""
    app = pilot.app
    assert isinstance(app, ZstuiApp)
    for key, name in windows:
        await pilot.press(key)
        await settle(pilot, 1.2)
        save(app, folder, name)
        while len(app.screen_stack) > 2:
            await pilot.press("escape")
            await settle(pilot)


async def walk(folder: Path, size: tuple[int, int]) -> None:
    async with demo.network() as (node, peers):
        populate = asyncio.create_task(demo._populate(peers))
        app = ZstuiApp(node)
        async with app.run_test(size=size) as pilot:
            await populate

            async def guild_seen() -> bool:
                return len(await node.execute(c.ListGuilds())) > 0

            await demo.until("guild", guild_seen)
            await settle(pilot, 1.5)
            save(app, folder, "peers")
            await look(pilot, folder, (("enter", "peer"), ("f", "network")))
            await pilot.press("2")
            await settle(pilot)
            await pilot.press("J")
            await settle(pilot)
            save(app, folder, "join")
            await pilot.press("enter")
            await settle(pilot, 1.5)
            save(app, folder, "guilds")
            await pilot.press("m", *"hello", "enter")
            await settle(pilot, 1)
            save(app, folder, "chat")
            await pilot.press("escape", "n", *"mine", "enter")
            await settle(pilot, 1)
            await pilot.press("i")
            await settle(pilot)
            await pilot.press("enter")
            await settle(pilot, 1)
            save(app, folder, "invite")
            await pilot.press("r")
            await settle(pilot)
            save(app, folder, "qr")
            await pilot.press("escape", "escape", "escape")
            await pilot.press("3", "n")
            await settle(pilot)
            await pilot.press(*"primes")
            await settle(pilot, 1.5)
            save(app, folder, "submit")
            await pilot.press("enter")
            await settle(pilot, 1.3)
            save(app, folder, "jobs")
            await settle(pilot, 4)
            await pilot.press("a")
            await settle(pilot)
            save(app, folder, "approve")
            await pilot.press("enter")
            await settle(pilot, 1.5)
            save(app, folder, "pay")
            await pilot.press("p")
            await settle(pilot, 1.5)
            save(app, folder, "paid")
            await pilot.press("escape", "4")
            await settle(pilot)
            save(app, folder, "channels")
            await look(pilot, folder, MONEY)
            await pilot.press("escape", "3", "n")
            await settle(pilot)
            await pilot.press(*"raytrace", "tab", "{", "}", "space", *"16", "tab", "right", "tab", *"0..15")
            await settle(pilot, 1.5)
            save(app, folder, "submit-batch")
            await pilot.press("enter")
            await settle(pilot, 3)
            await pilot.press("e")
            await settle(pilot, 1)
            save(app, folder, "batch")
            await pilot.press("p")
            await settle(pilot, 12)
            save(app, folder, "look")
            await pilot.press("escape")
            for key, name in (("1", "peers-later"), ("5", "ranks"), ("7", "log"), ("question_mark", "help")):
                await pilot.press(key)
                await settle(pilot)
                save(app, folder, name)


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for size in SIZES:
        asyncio.run(walk(folder, size))


if __name__ == "__main__":
    main()
