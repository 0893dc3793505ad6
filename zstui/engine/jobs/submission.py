"""From what a person asks for to a manifest that is ready to be signed."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from zstui.engine.commands import JobSpec
from zstui.engine.errors import BadInput, InvalidModule, NoExecutor
from zstui.engine.identity.keys import PeerId
from zstui.engine.identity.text import clean_text
from zstui.engine.jobs.artifacts import SMALL
from zstui.engine.jobs.cid import digest_of_cid
from zstui.engine.jobs.manifest import (
    MAX_INPUT_BYTES,
    MAX_MODULE,
    MAX_RATE_NANO,
    MAX_STDIN,
    MAX_WANTS,
    MIB,
    DataSpec,
    FileRef,
    Manifest,
    Resources,
    Sla,
    Terms,
)
from zstui.engine.jobs.room import Room
from zstui.engine.jobs.samples import samples


async def prepare(room: Room, spec: JobSpec, executor: PeerId, read: tuple[Path, bytes] | None = None) -> Manifest:
    """Check all that can be checked here and keep module and input for the executor to fetch; ``executor`` may be "".

    ``read``: the module, where it has been read already.

    Raises BadInput, InvalidModule, NoExecutor, GuildError.
    """
    guild_id = room.guilds.resolve(spec.guild)
    room.guilds.require(guild_id, room.me, "creator", "executor", "member")
    if executor:
        _check_executor(room, guild_id, executor)
    path, module = read or await read_module(spec.module)
    await room.sandbox.check(module, spec.function)
    terms = _terms(room, spec, executor)
    module_cid = await room.artifacts.put(module)
    if len(spec.stdin) > MAX_STDIN:
        raise BadInput(f"The input is over {MAX_STDIN // MIB} MiB.")
    if spec.stdin:
        await room.artifacts.put(spec.stdin)
    return Manifest(
        submitter=room.me,
        guild=bytes.fromhex(guild_id),
        module_cid=module_cid,
        module_name=clean_text(path.name, 255) or "module.wasm",
        module_bytes=len(module),
        function=spec.function,
        args=spec.args,
        env=spec.env,
        stdin_hash=await _sha256(spec.stdin),
        stdin_bytes=len(spec.stdin),
        resources=Resources(memory_bytes=spec.memory_mib * MIB, timeout_us=spec.timeout_s * 1_000_000),
        terms=terms,
        sla=Sla(spec.min_uptime, spec.max_failure_rate, spec.min_reputation),
        input=DataSpec(format=spec.input_format, schema=spec.input_schema),
        output=DataSpec(format=spec.output_format, schema=spec.output_schema),
        witnesses=spec.witnesses,
        created_us=room.clock.now_us(),
        nonce=os.urandom(16),
        seed=os.urandom(32),
        inputs=await _inputs(room, spec.inputs),
        outputs=spec.outputs,
        priority=spec.priority,
        wants=clean_text(spec.wants, MAX_WANTS),
    )


async def _sha256(data: bytes) -> bytes:
    return (
        hashlib.sha256(data).digest()
        if len(data) <= SMALL
        else (await asyncio.to_thread(hashlib.sha256, data)).digest()
    )


async def _inputs(room: Room, paths: Sequence[str]) -> tuple[FileRef, ...]:
    """Keep the files for the executor to fetch. Raises BadInput."""
    files: dict[str, FileRef] = {}
    left = MAX_INPUT_BYTES
    for text in paths:
        name = Path(text).name
        try:
            content = await asyncio.to_thread(_read, text, left + 1)
        except (OSError, ValueError, RuntimeError) as error:
            reason = error.strerror if isinstance(error, OSError) else None
            raise BadInput(f"Cannot read the input {clean_text(text, 200)!r}: {reason or error}.") from error
        left -= len(content)
        if left < 0:
            raise BadInput(f"The input files together are over {MAX_INPUT_BYTES // MIB} MiB.")
        if name in files:
            raise BadInput(f"Two input files have the name {clean_text(name, 200)!r}: a job finds each at /in/<name>.")
        cid = await room.artifacts.put(content)
        files[name] = FileRef(name, digest_of_cid(cid), len(content))
    return tuple(files[name] for name in sorted(files))


def _read(path: str, most: int) -> bytes:
    with Path(path).expanduser().open("rb") as file:
        return file.read(most)


def _check_executor(room: Room, guild_id: str, executor: PeerId) -> None:
    name = room.name_of(executor)
    if executor == room.me:
        raise BadInput("A node does not run its own jobs; choose another executor.")
    if room.guilds.role_of(guild_id, executor) in (None, "observer"):
        raise NoExecutor(f"{name} is no member of the guild that runs jobs.")
    if not room.admits(executor, guild_id):
        raise NoExecutor(f"{name} is blocked.")


def wanted_spec(m: Manifest, executor: str) -> JobSpec:
    """What a manifest asks of an executor, in the terms in which one is chosen."""
    per_second, per_mib = m.terms.price_per_second_nano, m.terms.price_per_mib_nano
    return JobSpec(
        module=m.module_cid,
        guild=m.guild_id,
        executor=executor or None,
        memory_mib=-(-m.resources.memory_bytes // MIB),
        timeout_s=-(-m.resources.timeout_us // 1_000_000),
        price_per_second_nano=None if per_second == MAX_RATE_NANO else per_second,
        price_per_mib_nano=None if per_mib == MAX_RATE_NANO else per_mib,
        max_price_u=m.terms.max_total_u,
        min_reputation=m.sla.min_reputation,
        max_failure_rate=m.sla.max_failure_rate,
        min_uptime=m.sla.min_uptime,
        wants=m.wants,
    )


def _terms(room: Room, spec: JobSpec, executor: PeerId) -> Terms:
    """Without an executor its own prices are not known yet: any are signed, under the cap, and its bid is held to its card."""
    per_second, per_mib = spec.price_per_second_nano, spec.price_per_mib_nano
    if not executor:
        per_second = MAX_RATE_NANO if per_second is None else per_second
        per_mib = MAX_RATE_NANO if per_mib is None else per_mib
    if per_second is None or per_mib is None:
        card = room.card_of(executor)
        if card is None:
            name = room.name_of(executor)
            raise NoExecutor(f"{name} has not told its prices yet; connect to it, or name prices of your own.")
        per_second = card.price_per_second_nano if per_second is None else per_second
        per_mib = card.price_per_mib_nano if per_mib is None else per_mib
    return Terms(per_second, per_mib, spec.max_price_u)


async def read_module(text: str) -> tuple[Path, bytes]:
    """Path and content of a module given as a path or as the name of a sample. Raises InvalidModule."""

    def read() -> tuple[Path, bytes]:
        path = Path(text).expanduser()
        if not path.is_file():
            path = samples().get(text.removesuffix(".wasm"), path)
        with path.open("rb") as file:
            return path, file.read(MAX_MODULE + 1)

    try:
        path, module = await asyncio.to_thread(read)
    except (OSError, ValueError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise InvalidModule(f"Cannot read the module {clean_text(text, 200)!r}: {reason or error}.") from error
    if len(module) > MAX_MODULE:
        raise InvalidModule(f"The module {path.name} is over {MAX_MODULE // MIB} MiB.")
    return path, module
