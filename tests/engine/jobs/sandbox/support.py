"""Modules and a recorder for the sandbox tests."""

from __future__ import annotations

from typing import Literal

import wasmtime

from zstui.engine.jobs.samples import samples
from zstui.engine.jobs.sandbox.model import Execution, Limits, RunResult
from zstui.engine.jobs.sandbox.pool import Sandbox


def sample(name: str) -> bytes:
    return samples()[name].read_bytes()


def wat(text: str) -> bytes:
    return bytes(wasmtime.wat2wasm(f"(module {text})"))


def compile_bomb(depth: int = 4000) -> bytes:
    """A small module that takes a compiler many seconds."""
    return wat(
        f"""(func (export "_start") (local i64 i64 i64 i64)
        {"(loop (local.set 0 (i64.add (local.get 1) (local.get 2)))" * depth}
        {"(br_if 0 (i64.eqz (local.get 0))))" * depth})"""
    )


def function_bomb(count: int = 120_000) -> bytes:
    """Functions without number, each calling through a table."""
    body = "(func (param i32) (result i32) (call_indirect (type $t) (local.get 0) (local.get 0)))"
    return wat(f'(type $t (func (param i32) (result i32))) (table 1 funcref) (func (export "_start")) {body * count}')


class Recorder:
    """Runs executions and keeps what they said."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.stdout = b""
        self.stderr = b""
        self.progress: list[float] = []

    def on_output(self, stream: Literal["stdout", "stderr"], data: bytes) -> None:
        if stream == "stdout":
            self.stdout += data
        else:
            self.stderr += data

    async def run(self, execution: Execution) -> RunResult:
        return await self.sandbox.run(execution, on_output=self.on_output, on_progress=self.progress.append)

    async def sample(
        self,
        name: str,
        *args: str,
        function: str = "_start",
        stdin: bytes = b"",
        seed: bytes = bytes(32),
        limits: Limits | None = None,
    ) -> RunResult:
        return await self.run(
            Execution(
                module=sample(name), function=function, args=args, stdin=stdin, seed=seed, limits=limits or Limits()
            )
        )

    async def wat(self, text: str, *args: str, function: str = "_start", limits: Limits | None = None) -> RunResult:
        return await self.run(Execution(module=wat(text), function=function, args=args, limits=limits or Limits()))


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
