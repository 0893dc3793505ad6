"""Whether data has the shape that a manifest asks for, and whether such a shape can be asked for."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from zstui.engine.commands import JobSpec
from zstui.engine.errors import BadInput, InvalidManifest, JobError
from zstui.engine.identity.text import clean_text
from zstui.engine.jobs.manifest import DataSpec, check_spec

PROGRAM = Path(__file__).with_name("schema_program.py")
AT_ONCE = 2
TIMEOUT_S = 10.0
SMALL = 32 << 10
"""Bytes that are looked at without a thread."""
TOO_MUCH = "checking it takes more time or memory than it may"


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong, "" where nothing is."""

    schema: str = ""
    """With the schema itself."""
    text: int = 0
    """Number of the first text that does not conform."""
    why: str = ""


class Shapes:
    """Schemas are used in processes of their own: neither a schema nor data holds up or fills this one."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(AT_ONCE)

    async def check(self, spec: JobSpec, inputs: Sequence[bytes]) -> None:
        """Raises InvalidManifest for a schema that cannot be used, BadInput for the first of ``inputs`` that does not conform."""
        for way, wanted, many in (
            ("output", DataSpec(format=spec.output_format, schema=spec.output_schema), ()),
            ("input", DataSpec(format=spec.input_format, schema=spec.input_schema), inputs),
        ):
            check_spec(way, wanted)
            found = await self._first_wrong(wanted, many)
            if found.schema:
                raise InvalidManifest(f"The {way} schema cannot be used: {found.schema}.")
            if found.why:
                which = f"Input {found.text}" if len(many) > 1 else "The input"
                raise BadInput(f"{which} is not what the job takes: {found.why}.")

    async def conforms(self, spec: DataSpec, data: bytes) -> str:
        """What is wrong with ``data`` under ``spec``, "" if nothing. Raises JobError where that cannot be found out."""
        found = await self._first_wrong(spec, (data,))
        return found.schema or found.why

    async def _first_wrong(self, spec: DataSpec, many: Sequence[bytes]) -> Found:
        if sum(map(len, many)) <= SMALL:
            found = _wrong_format(spec, many)
        else:
            found = await asyncio.to_thread(_wrong_format, spec, many)
        if found.why or not spec.schema:
            return found
        return await self._ask(spec.schema, [data.decode() for data in many])

    async def _ask(self, schema: str, texts: Sequence[str]) -> Found:
        """What ``schema_program`` says."""
        async with self._places:
            try:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-I", str(PROGRAM)),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.DEVNULL,
                    env={},
                    cwd="/",
                )
            except OSError as error:
                raise JobError(f"A schema cannot be used now: {error.strerror}.") from error
            try:
                asked = json.dumps({"schema": schema, "texts": texts}).encode()
                said, _ = await asyncio.wait_for(process.communicate(asked), TIMEOUT_S)
            except TimeoutError:
                said = b""
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        if not said:
            return Found(why=TOO_MUCH) if texts else Found(schema=TOO_MUCH)
        found = msgspec.json.decode(said, type=Found)
        return Found(schema=_clean(found.schema), text=found.text, why=_clean(found.why))


def _wrong_format(spec: DataSpec, many: Sequence[bytes]) -> Found:
    """The first that is too long or of another format."""
    for number, data in enumerate(many):
        if len(data) > spec.max_bytes:
            return Found(text=number, why=f"{len(data)} bytes are over the limit of {spec.max_bytes}")
        try:
            if spec.format == "json":
                msgspec.json.decode(data)
            elif spec.format == "text":
                data.decode()
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return Found(text=number, why=f"not valid {'JSON' if spec.format == 'json' else 'UTF-8 text'}")
    return Found()


def _clean(reason: str) -> str:
    return clean_text(reason, 300).rstrip(".")
