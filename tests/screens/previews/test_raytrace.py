"""The sample that draws in tiles: whoever puts them together has the same picture as who draws all of it."""

from __future__ import annotations

from pathlib import Path

from tests.engine.jobs.sandbox.support import Recorder
from zstui.engine.jobs.sandbox.pool import Sandbox
from zstui.screens.previews.picture import Canvas
from zstui.screens.previews.ppm import decode_ppm

SIZE = ("24", "15")


async def test_tiles_make_the_whole_picture(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path, 1)
    await sandbox.start()
    try:
        canvas = Canvas()
        for tile in ("3", "0", "5", "1", "4", "2"):
            part = Recorder(sandbox)
            assert (await part.sample("raytrace", tile, "6", *SIZE)).exit_code == 0
            assert canvas.paste(decode_ppm(part.stdout))
        whole = Recorder(sandbox)
        await whole.sample("raytrace", "0", "1", *SIZE)
        assert canvas.picture() is not None
        assert canvas.picture().rgb == decode_ppm(whole.stdout).rgb  # type: ignore[union-attr]
        assert len(set(whole.stdout)) > 100, "it is a picture of something"
        wrong = Recorder(sandbox)
        assert (await wrong.sample("raytrace", "6", "6")).exit_code == 2
        assert b"usage" in wrong.stderr
    finally:
        await sandbox.stop()
