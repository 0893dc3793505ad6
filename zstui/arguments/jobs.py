"""``zstui job ...``, ``receipt ...`` and ``run``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from zstui.arguments.types import (
    Family,
    Group,
    Verb,
    amount,
    duration_or_zero,
    mapped_dir,
    module_name,
    pair,
    rate,
    read_file,
    thousandths,
)
from zstui.engine import commands as c
from zstui.engine.errors import BadInput


def job_spec(args: argparse.Namespace) -> c.JobSpec:
    wanted, made = (_text(path) if path else "" for path in (args.input_schema, args.output_schema))
    return c.JobSpec(
        module=module_name(args.module),
        guild=args.guild,
        executor=args.to,
        function=args.function,
        args=tuple(args.arg),
        env=tuple(args.env),
        stdin=read_file(args.stdin) if args.stdin else b"",
        memory_mib=args.memory,
        timeout_s=args.timeout,
        price_per_second_nano=args.price_per_second,
        price_per_mib_nano=args.price_per_mib,
        max_price_u=args.max_price,
        witnesses=args.witnesses,
        inputs=tuple(str(Path(p).expanduser().absolute()) for p in args.inputs),
        outputs=args.outputs,
        priority=args.priority,
        queue_s=args.queue_for,
        attempts=args.attempts,
        wants=args.wants,
        min_reputation=args.min_reputation,
        max_failure_rate=args.max_failure_rate,
        min_uptime=args.min_uptime,
        input_format="json" if wanted else args.input_format,
        input_schema=wanted,
        output_format="json" if made else args.output_format,
        output_schema=made,
    )


def _text(path: str) -> str:
    """Content of a text file. Raises BadInput."""
    try:
        return read_file(path).decode()
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8 text.") from error


def add(sub: Group, family: Family, verb: Verb) -> None:
    _job(family("job", "submit and follow jobs"), verb)
    _receipt(family("receipt", "signed proof of what ran"), verb)
    verb(sub, "calibrate", "measure how fast this machine runs jobs, with or without a node", lambda a: c.Calibrate())
    _work(family("work", "what this node does for others"), verb)
    _run(verb(sub, "run", "run one module here, in the job sandbox, without a node"))


def _job(job: Group, verb: Verb) -> None:
    submit = verb(
        job,
        "submit",
        "run a WASM module on another machine",
        _submission,
    )
    submit.add_argument("module", metavar="MODULE.wasm", help="a file, or the name of a sample")
    submit.add_argument("--guild", required=True, metavar="ID", help="whose members may run it")
    submit.add_argument("--to", metavar="PEER", help="the executor; otherwise the best ranked")
    submit.add_argument(
        "--function", default="_start", metavar="NAME", help="an export to call with typed arguments instead of _start"
    )
    submit.add_argument("--arg", action="append", default=[], metavar="A", help="once for each argument")
    submit.add_argument("--env", action="append", type=pair, default=[], metavar="K=V", help="a variable that it finds")
    submit.add_argument("--stdin", metavar="FILE", help="what it reads; - for what is piped in")
    submit.add_argument("--memory", type=int, default=128, metavar="MIB", help="most that it may use (default: 128)")
    submit.add_argument("--timeout", type=int, default=30, metavar="S", help="it is stopped after that (default: 30)")
    submit.add_argument("--price-per-second", type=rate, metavar="U", help="at most (default: what the executor asks)")
    submit.add_argument("--price-per-mib", type=rate, metavar="U", help="at most (default: what the executor asks)")
    submit.add_argument(
        "--max-price",
        type=amount,
        default=1_000_000,
        metavar="U",
        help="for all of it, with further tries and all jobs of a batch (default: 1)",
    )
    submit.add_argument(
        "--pay-up-to",
        type=amount,
        default=0,
        metavar="U",
        help="pay what the job or batch asks for without asking, up to this in all",
    )
    submit.add_argument("--witnesses", type=int, default=0, metavar="N", help="members who re-run it and attest")
    submit.add_argument("--in", dest="inputs", action="append", default=[], metavar="FILE", help="readable at /in/NAME")
    submit.add_argument("--out", dest="outputs", action="store_true", help="bring back what the job writes to /out")
    submit.add_argument(
        "--wants", default="", metavar="WORDS", help='first those that offer more of it, e.g. "gpu berlin 8 cores"'
    )
    submit.add_argument(
        "--priority", type=int, default=4, metavar="0..9", help="among your own jobs on one executor (default: 4)"
    )
    submit.add_argument(
        "--queue-for", type=duration_or_zero, default=3600, metavar="T", help="wait for an executor (default: 1h)"
    )
    submit.add_argument(
        "--attempts", type=int, default=3, metavar="N", help="executors tried, where one fails or is lost (default: 3)"
    )
    submit.add_argument("--min-reputation", type=thousandths, default=0, metavar="0..1", help="of the executor's score")
    submit.add_argument(
        "--max-failure-rate", type=thousandths, default=1000, metavar="0..1", help="of the executor's jobs for you"
    )
    submit.add_argument(
        "--min-uptime", type=thousandths, default=0, metavar="0..1", help="share of the time that you saw it online"
    )
    for way, stream in (("input", "stdin"), ("output", "stdout")):
        submit.add_argument(
            f"--{way}-format",
            choices=("bytes", "text", "json"),
            default="bytes",
            help=f"what {stream} has to be (default: bytes, which is anything)",
        )
        submit.add_argument(
            f"--{way}-schema", metavar="FILE", help=f"a JSON Schema (2020-12) that {stream} has to meet"
        )
    mapped = submit.add_mutually_exclusive_group()
    mapped.add_argument("--map", metavar="FILE", help="a job for each line: as {} in --arg, else as stdin")
    mapped.add_argument(
        "--map-in", action="append", metavar="GLOB", help="a job for each file, at /in/NAME, {} in --arg"
    )
    submit.add_argument("--name", default="", help="of a batch")
    submit.add_argument("--wait", action="store_true", help="return when it has ended; exit 1 unless it is done")
    listed = verb(job, "list", "jobs of mine and run for others", lambda a: c.ListJobs(batch=a.batch))
    listed.add_argument("--batch", default="", metavar="ID", help="only those of a batch")
    for name, text, command in (
        ("show", "one job", c.ShowJob),
        ("output", "what it printed", c.GetOutput),
        ("cancel", "stop it", c.CancelJob),
        ("rerun", "submit it again", c.RerunJob),
        ("wait", "return when it has ended", c.WaitJob),
    ):
        verb(job, name, text, lambda a, command=command: command(job=a.job)).add_argument("job")
    verb(job, "batches", "jobs over many inputs", lambda a: c.ListBatches())
    for name, text, batch_command in (
        ("batch", "one batch: how far it is", c.ShowBatch),
        ("wait-batch", "return when all of its jobs have ended", c.WaitBatch),
        ("cancel-batch", "begin no more of it and stop its jobs", c.CancelBatch),
    ):
        added = verb(job, name, text, lambda a, command=batch_command: command(batch=a.batch))
        added.add_argument("batch")
    collect = verb(job, "collect", "copy a batch's results to one directory", _collect)
    collect.add_argument("batch")
    collect.add_argument(
        "directory", metavar="DIR", help="gets 0007.stdout and 0007-NAME for input 7 and its /out/NAME"
    )


def _collect(args: argparse.Namespace) -> c.Command[Any]:
    return c.CollectBatch(batch=args.batch, directory=str(Path(args.directory).expanduser().absolute()))


def _submission(args: argparse.Namespace) -> c.Command[Any]:
    spec = job_spec(args)
    if args.map is None and args.map_in is None:
        return c.SubmitJob(spec=spec, pay_up_to_u=args.pay_up_to)
    lines = None if args.map is None else tuple(_text(args.map).splitlines())
    files = None if args.map_in is None else tuple(str(Path(p).expanduser().absolute()) for p in args.map_in)
    return c.SubmitBatch(spec=spec, name=args.name, map_lines=lines, map_files=files, pay_up_to_u=args.pay_up_to)


def _receipt(receipt: Group, verb: Verb) -> None:
    verb(
        receipt, "show", "a receipt with all that verifies it", lambda a: c.ShowReceipt(receipt=a.receipt)
    ).add_argument("receipt", help="receipt id or job id")
    verify = verb(receipt, "verify", "verify a receipt file offline", prints=True)
    verify.add_argument("file", type=Path)


def _run(run: argparse.ArgumentParser) -> None:
    run.add_argument("module", type=Path)
    run.add_argument("--function", default="_start", help="an export to call with typed ARGS instead of _start")
    run.add_argument(
        "--dir",
        type=mapped_dir,
        action="append",
        default=[],
        metavar="HOST::GUEST",
        help="show the files below HOST to the module as GUEST, for reading; HOST::GUEST::rw: what it changes is written back",
    )
    run.add_argument("--files", type=int, default=16, metavar="MIB", help="most that it may write into directories")
    run.add_argument("--env", type=pair, action="append", default=[], metavar="K=V", help="a variable that it finds")
    run.add_argument("--stdin", metavar="FILE", help="what it reads; - for what is piped in")
    run.add_argument("--memory", type=int, default=128, metavar="MIB", help="most that it may use (default: 128)")
    run.add_argument("--timeout", type=int, default=30, metavar="S", help="it is stopped after that (default: 30)")
    run.add_argument("--fuel", type=int, metavar="N", help="about one for each instruction (default: 300,000,000,000)")
    run.add_argument("--report", type=Path, metavar="FILE", help="write a JSON report of the run")
    run.usage = "zstui run MODULE.wasm [options] [-- ARGS ...]"


def _work(work: Group, verb: Verb) -> None:
    verb(work, "show", "whether work is taken, and under which limits", lambda a: c.ShowWork())
    verb(work, "on", "take work from others", lambda a: c.SetWorking(accept=True))
    verb(work, "off", "take no new work; what runs ends in its own time", lambda a: c.SetWorking(accept=False))
    verb(work, "stop", "stop all jobs of others now, and take no new work", lambda a: c.StopAllJobs())
    hours = verb(work, "hours", "take work only in these hours of the day", lambda a: c.SetHours(**_hours(a.hours)))
    hours.add_argument("hours", metavar="HH:MM-HH:MM|always")
    limit = verb(
        work, "limit", "what a job may use here", lambda a: c.SetJobLimits(max_jobs=a.max_jobs, memory_mib=a.memory)
    )
    limit.add_argument("--max-jobs", type=int, metavar="N", help="at the same time")
    limit.add_argument("--memory", type=int, metavar="MIB", help="of one job")


def _hours(text: str) -> dict[str, str]:
    if text == "always":
        return {}
    start, dash, end = text.partition("-")
    if not dash:
        raise BadInput(f"{text[:20]!r} is not of the form 22:00-06:00, nor always.")
    return {"start": start, "end": end}
