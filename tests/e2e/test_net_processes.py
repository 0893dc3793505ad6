"""Two real processes that authenticate each other over loopback QUIC."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from zstui.engine.identity.keys import Identity

ROOT = Path(__file__).parents[2]


class NetProcess:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def heard(self, key: str, timeout: float = 15.0) -> dict[str, Any]:
        """The next line with ``key``; others before it are dropped."""
        assert self.process.stdout is not None
        async with asyncio.timeout(timeout):
            while line := await self.process.stdout.readline():
                said: dict[str, Any] = json.loads(line)
                if key in said:
                    return said
        raise AssertionError(f"ended before it said {key!r}")

    async def end(self) -> int:
        """Ask it to stop and wait for it."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        async with asyncio.timeout(10):
            return await self.process.wait()


@asynccontextmanager
async def net_process(*arguments: str) -> AsyncIterator[NetProcess]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-X",
        "dev",
        "-W",
        "error",
        "-m",
        "tests.support.net_process",
        *arguments,
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield NetProcess(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        process._transport.close()  # type: ignore[attr-defined]  # or its pipes outlive the loop


async def test_two_processes_talk_and_part_politely(tmp_path: Path) -> None:
    async with net_process(str(tmp_path), "alpha") as alpha:
        told = await alpha.heard("address")
        assert told["peer_id"] == Identity.load_or_create(tmp_path / "alpha.key").peer_id
        async with net_process(str(tmp_path), "beta", told["address"]) as beta:
            mine = await beta.heard("address")
            assert (await beta.heard("connected"))["connected"] == told["peer_id"]
            assert await beta.heard("echo") == {"echo": "hello from beta", "peer_id": told["peer_id"]}
            assert (await alpha.heard("connected"))["connected"] == mine["peer_id"]
            assert await beta.end() == 0
        gone = await alpha.heard("disconnected")
        assert (gone["disconnected"], gone["reason"]) == (mine["peer_id"], "shutting down")
        assert await alpha.end() == 0


async def test_a_process_with_another_key_is_not_mistaken(tmp_path: Path) -> None:
    async with net_process(str(tmp_path), "alpha") as alpha:
        address = (await alpha.heard("address"))["address"]
        other = Identity.generate().peer_id
        async with net_process(str(tmp_path), "beta", address.partition("/p2p/")[0] + f"/p2p/{other}") as beta:
            async with asyncio.timeout(15):
                assert await beta.process.wait() != 0
        assert await alpha.end() == 0


async def test_a_killed_process_is_missed_within_ten_seconds_and_welcomed_back(tmp_path: Path) -> None:
    async with net_process(str(tmp_path), "alpha") as alpha:
        told = await alpha.heard("address")
        async with net_process(str(tmp_path), "beta", told["address"]) as beta:
            await beta.heard("echo")
            killed_at = time.time()
            beta.process.kill()
        gone = await alpha.heard("disconnected")
        assert gone["at"] - killed_at < 10
        async with net_process(str(tmp_path), "beta", told["address"]) as beta:
            assert (await beta.heard("echo"))["echo"] == "hello from beta"
            assert (await alpha.heard("connected"))["connected"] == gone["disconnected"]
            assert await beta.end() == 0
        assert await alpha.end() == 0


async def test_a_process_that_slept_is_missed_and_finds_back_by_itself(tmp_path: Path) -> None:
    async with (
        net_process(str(tmp_path), "alpha") as alpha,
        net_process(str(tmp_path), "beta", (await alpha.heard("address"))["address"]) as beta,
    ):
        await beta.heard("echo")
        connected = await alpha.heard("connected")
        beta.process.send_signal(signal.SIGSTOP)
        gone = await alpha.heard("disconnected")
        await asyncio.sleep(4)
        beta.process.send_signal(signal.SIGCONT)
        assert (await alpha.heard("connected"))["connected"] == gone["disconnected"] == connected["connected"]
        assert await beta.end() == 0
        assert await alpha.end() == 0
