"""From bytes to a picture, whatever they are, without holding up the screen."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from zstui.screens.previews.picture import Picture, PictureError
from zstui.screens.previews.png import SIGNATURE
from zstui.screens.previews.ppm import decode_ppm, is_ppm

_PROGRAM = Path(__file__).with_name("png.py")
TIMEOUT_S = 15.0


def is_picture(data: bytes) -> bool:
    return is_ppm(data) or data.startswith(SIGNATURE)


async def decode(data: bytes) -> Picture:
    """Raises PictureError."""
    return await asyncio.to_thread(decode_ppm, await _png_to_ppm(data) if data.startswith(SIGNATURE) else data)


async def _png_to_ppm(data: bytes) -> bytes:
    """Decoded by a process that has nothing but its input, and is killed after ``TIMEOUT_S``."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", str(_PROGRAM)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={},
        cwd="/",
    )
    try:
        result, _ = await asyncio.wait_for(process.communicate(data), TIMEOUT_S)
    except TimeoutError:
        raise PictureError("The picture takes too long to decode.") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        reason = result[:200].decode(errors="replace") if process.returncode == 1 else ""
        raise PictureError(reason or "The picture needs more memory or time to decode than it may have.")
    return result
