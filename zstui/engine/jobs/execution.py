"""One module run in the sandbox for a manifest: what the executor and a witness have in common."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from zstui.engine.errors import GuildError, InvalidManifest, InvalidModule, NetError, ProtocolError, Refused, ZsError
from zstui.engine.identity.keys import PeerId
from zstui.engine.identity.text import clean_text
from zstui.engine.jobs.manifest import FileRef, Manifest, check_files
from zstui.engine.jobs.receipt import MAX_OUTPUT_BYTES, MAX_REASON, MAX_RESULTS, ReceiptFault, Status
from zstui.engine.jobs.room import Room
from zstui.engine.jobs.sandbox.control import RunControl
from zstui.engine.jobs.sandbox.model import MAX_FILES, Execution, InputFile, Limits, RunResult

PARTIAL = "What it had written to /out until then is kept."


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How a job ended, whether or not it got as far as the sandbox."""

    status: Status
    fault: ReceiptFault
    reason: str
    exit_code: int | None = None
    gas: int = 0
    gas_exact: bool = False
    active_us: int = 0
    memory_bytes: int = 0
    results: tuple[str, ...] = ()
    outputs: tuple[FileRef, ...] = ()
    hand_over: bool = False
    """Of who cancels a run: whether the submitter gets what it had written to /out until then."""


def ended(result: RunResult) -> Ended:
    return Ended(
        status=result.status,
        fault=result.fault,
        reason=_reason(result),
        exit_code=result.exit_code,
        gas=result.gas,
        gas_exact=result.gas_exact,
        active_us=result.duration_us,
        memory_bytes=result.memory_bytes,
        results=tuple(clean_text(r, 100) for r in result.results[:MAX_RESULTS]),
        outputs=tuple(FileRef(f.name, f.sha256, f.size) for f in result.outputs),
    )


def _reason(result: RunResult) -> str:
    kept = f" {PARTIAL}" if result.status == "timeout" and result.outputs else ""
    return clean_text(result.reason, MAX_REASON - len(kept)) + kept


async def fetch(room: Room, peer: PeerId, job_id: str, m: Manifest) -> Ended | None:
    """Bring module and input here; None when they are, else how that ends the job.

    A network that is away is waited for; content that is refused or wrong is the submitter's fault.
    """
    give_up = room.clock.monotonic_us() + round(room.timing.grace * 1e6)
    pause = room.timing.retry
    while True:
        try:
            await room.artifacts.fetch(peer, m.guild_id, job_id, m.module_cid, m.module_bytes)
            if m.stdin_bytes:
                await room.artifacts.fetch(peer, m.guild_id, job_id, m.stdin_cid, m.stdin_bytes)
            for file in m.inputs:
                await room.artifacts.fetch(peer, m.guild_id, job_id, file.cid, file.size)
            return None
        except NetError as error:
            if room.clock.monotonic_us() > give_up:
                return Ended(status="error", fault="network", reason=f"The module did not arrive: {error}")
        except GuildError as error:
            return Ended(status="error", fault="network", reason=f"The module did not arrive: {error}")
        except (ProtocolError, Refused) as error:
            return Ended(status="error", fault="payer", reason=f"The submitter did not hand over the module: {error}")
        except ZsError as error:
            return Ended(status="error", fault="executor", reason=str(error))
        await asyncio.sleep(pause)
        pause = min(pause * 2, room.timing.retry_most)


async def run(
    room: Room,
    m: Manifest,
    *,
    on_output: Callable[[Literal["stdout", "stderr"], bytes], None],
    on_progress: Callable[[float], None],
    stop: asyncio.Event | None = None,
    control: RunControl | None = None,
    keep: bool = False,
    owner: str = "",
) -> Ended:
    """Run what was fetched. Setting ``stop`` ends it with status "cancelled"; so does cancelling the task, without a result.

    ``owner``: whose module it is. ``keep``: store the contents of what the run leaves in /out, for others to fetch.
    """
    module = await room.artifacts.cache.get(m.module_cid)
    stdin = await room.artifacts.cache.get(m.stdin_cid) if m.stdin_bytes else b""
    if module is None or stdin is None:
        return Ended(status="error", fault="executor", reason="The module or its input is no longer stored here.")
    for file in m.inputs:
        if not await room.artifacts.cache.intact(file.cid):
            return Ended(status="error", fault="executor", reason="An input file is no longer stored here.")
    try:
        with room.outputs.scratch(m.outputs) as out_dir:
            execution = Execution(
                module=module,
                function=m.function,
                args=m.args,
                env=m.env,
                stdin=stdin,
                limits=_limits(m),
                seed=m.seed,
                inputs=tuple(InputFile(f.name, str(room.artifacts.cache.path(f.cid))) for f in m.inputs),
                out_dir=out_dir,
                owner=owner,
            )
            result = await room.sandbox.run(
                execution, on_output=on_output, on_progress=on_progress, stop=stop, control=control
            )
            how = ended(result)
            check_files("output", how.outputs, MAX_FILES, MAX_OUTPUT_BYTES)
            for left in result.outputs if keep else ():
                await room.artifacts.put(await asyncio.to_thread(Path(left.path).read_bytes))
            return how
    except InvalidModule as error:
        return Ended(status="failure", fault="payer", reason=str(error)[:MAX_REASON])
    except InvalidManifest as error:
        return Ended(
            status="failure",
            fault="payer",
            reason=f"What it left in /out is not taken: {error}"[:MAX_REASON],
            gas=how.gas,
            active_us=how.active_us,
            memory_bytes=how.memory_bytes,
        )
    except OSError as error:
        return Ended(status="error", fault="executor", reason=f"The job's files could not be kept: {error.strerror}.")
    except ZsError as error:
        return Ended(status="error", fault="executor", reason=str(error)[:MAX_REASON])


def _limits(m: Manifest) -> Limits:
    return Limits(
        memory_bytes=m.resources.memory_bytes,
        timeout_us=m.resources.timeout_us,
        stack_bytes=m.resources.stack_bytes,
        fuel=m.resources.gas,
        output_bytes=m.resources.output_bytes,
        files_bytes=MAX_OUTPUT_BYTES,
    )
