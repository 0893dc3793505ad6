"""Foreign libp2p peers as subprocesses: one JSON command a line in, one JSON answer a line out."""

from __future__ import annotations

import json
import os
import select
import subprocess
from types import TracebackType
from typing import Any, Self


class ForeignPeer:
    """Use as a context manager. ``ask`` raises AssertionError with what the peer said where it failed."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        ready = self._line(30)
        self.peer_id = str(ready["peer_id"])
        self.addresses = [str(address) for address in ready["addresses"]]
        self.address = self.addresses[0]

    def ask(self, op: str, **arguments: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"op": op, **arguments}).encode() + b"\n")
        self._process.stdin.flush()
        answer = self._line(15)
        assert "error" not in answer, answer
        return answer

    def _line(self, seconds: float) -> dict[str, Any]:
        out = self._process.stdout
        assert out is not None
        data = b""
        while not data.endswith(b"\n"):
            assert select.select([out], [], [], seconds)[0], "the foreign peer does not answer"
            chunk = os.read(out.fileno(), 65536)
            assert chunk, "the foreign peer has ended"
            data += chunk
        answer: dict[str, Any] = json.loads(data)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
