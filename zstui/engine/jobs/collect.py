"""A batch's results in one directory: what each job printed and left in /out, named by input so that they sort."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from zstui.engine.errors import BadInput
from zstui.engine.identity.text import clean_text
from zstui.engine.jobs.model import Job
from zstui.engine.jobs.outputs import STREAMS, Outputs
from zstui.engine.views import CollectedView


async def collect(
    outputs: Outputs, batch_id: str, jobs: Mapping[int, Job], total: int, directory: str
) -> CollectedView:
    """Copy the results of ``jobs`` (by input's number) to a directory, which is made where it is missing.

    ``0007.stdout`` is what the job for input 7 printed, ``0007-NAME`` is its file /out/NAME; empty streams are left out.
    Files of these names are replaced. Raises BadInput where the directory cannot be written.
    """
    into = Path(directory)
    if not into.is_absolute():
        raise BadInput("Results are collected in a directory given by its whole path.")
    copies = _plan(outputs, jobs, into, len(str(max(0, total - 1))))
    try:
        size = await asyncio.to_thread(_copy, into, copies)
    except OSError as error:
        reason = error.strerror or str(error)
        raise BadInput(f"Cannot collect the results in {clean_text(directory, 200)!r}: {reason}.") from error
    return CollectedView(batch_id=batch_id, directory=str(into), jobs=len(jobs), files=len(copies), size=size)


def _plan(outputs: Outputs, jobs: Mapping[int, Job], into: Path, digits: int) -> list[tuple[Path, Path]]:
    copies = []
    for number, job in sorted(jobs.items()):
        prefix = f"{number:0{digits}}"
        copies += [
            (outputs.path(job.job_id, name), into / f"{prefix}.{name}")
            for name in STREAMS
            if outputs.size(job.job_id, name)
        ]
        files = [(outputs.file(job.job_id, file.name), into / f"{prefix}-{file.name}") for file in job.outputs]
        copies += [(source, target) for source, target in files if source.is_file()]
    return copies


def _copy(into: Path, copies: list[tuple[Path, Path]]) -> int:
    into.mkdir(parents=True, exist_ok=True)
    size = 0
    for source, target in copies:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.part")
        shutil.copyfile(source, partial)
        os.replace(partial, target)
        size += target.stat().st_size
    return size
