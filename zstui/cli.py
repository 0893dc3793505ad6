"""The ``zstui`` program: the full-screen app, the headless node, the demo and the one-shot commands.

Exit status: 0 done; 1 refused or failed, one sentence on stderr; 2 wrong usage, or no node running for the home.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import sys
import typing
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

import msgspec

from zstui import arguments, job_text, statement_file, tables
from zstui.arguments.types import passphrase, read_file
from zstui.engine import commands as c
from zstui.engine.config import Settings, load
from zstui.engine.control import ControlClient, ControlServer
from zstui.engine.errors import CANNOT_WRITE, BadInput, HomeLocked, JobError, NotRunning, StoreError, ZsError
from zstui.engine.home import Home, default_home
from zstui.engine.identity.text import clean_text
from zstui.engine.views import BatchView, CalibrationView, JobView, StatementView

GC_THRESHOLDS = (20_000, 20, 100)
"""The default ones scan everything often enough to hold up a key press for 150 ms."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    gc.set_threshold(*GC_THRESHOLDS)
    args = arguments.parse(sys.argv[1:] if argv is None else argv)
    home = Home(getattr(args, "home", None) or default_home())
    try:
        return asyncio.run(_dispatch(args, home))
    except NotRunning as error:
        return _fail(error, 2)
    except ZsError as error:
        return _fail(error, 1)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _fail(error: ZsError, status: int) -> int:
    print(f"zstui: {error}", file=sys.stderr)
    return status


def _dispatch(args: argparse.Namespace, home: Home) -> Coroutine[Any, Any, int]:
    if args.build is not None:
        return _one_shot(args, home)
    if args.command == "node":
        return _node(_settings(args, home), home, args.stop_with_stdin)
    if args.command == "demo":
        return _demo(args.headless)
    if args.command == "run":
        return _run(args, home)
    if args.command in ("receipt", "channel"):
        return _verify(args)
    if args.command == "restore":
        return _restore(args, home)
    return _app(home)


def _settings(args: argparse.Namespace | None, home: Home) -> Settings:
    fields = {f.name for f in msgspec.structs.fields(Settings)} - {"home"}
    given = {k: v for k, v in vars(args).items() if k in fields} if args is not None else {}
    if given.get("peers") is not None:
        given["peers"] = tuple(given["peers"])
    return load(home.path, given, os.environ)


# --- one-shot commands -----------------------------------------------------------------------------------------------


async def _one_shot(args: argparse.Namespace, home: Home) -> int:
    try:
        command: c.Command[Any] = args.build(args)
    except BadInput as error:
        return _fail(error, 2)
    client = ControlClient(home.socket)
    try:
        result = await client.execute(command)
    except NotRunning:
        if not isinstance(command, c.Calibrate):
            raise
        result = await _calibrate(home)
    if getattr(args, "wait", False):
        result = await _wait(client, result)
    if isinstance(command, c.Statement):
        return _write_statement(args, result)
    if args.json:
        print(msgspec.json.encode(result).decode())
    elif isinstance(command, c.GetOutput):
        sys.stdout.buffer.write(result.stdout)
        sys.stderr.buffer.write(result.stderr)
        sys.stderr.buffer.flush()
        print(job_text.left_files(result), end="", file=sys.stderr)
        if result.why:
            return _fail(JobError(result.why), 1)
    elif isinstance(command, c.ShowJob):
        print(job_text.job(result))
    else:
        declared = typing.get_args(type(command).__orig_bases__[0])[0]  # type: ignore[attr-defined]
        print(tables.render(result, next(iter(typing.get_args(declared)), None)))
        if isinstance(command, (c.ShowBatch, c.WaitBatch)):
            print(job_text.batch_hints(result))
    if (getattr(args, "wait", False) or isinstance(command, (c.WaitJob, c.WaitBatch))) and result.state != "done":
        return _fail(ZsError(_undone(result)), 1)
    return 0


async def _wait(client: ControlClient, result: JobView | BatchView) -> JobView | BatchView:
    """Wait for what was submitted; a batch shows on stderr how far it is."""
    if isinstance(result, JobView):
        return await client.execute(c.WaitJob(job=result.job_id))
    waiting = asyncio.create_task(client.execute(c.WaitBatch(batch=result.batch_id)))
    try:
        while not (await asyncio.wait({waiting}, timeout=1.0))[0]:
            print(job_text.progress(await client.execute(c.ShowBatch(batch=result.batch_id))), file=sys.stderr)
        return waiting.result()
    finally:
        waiting.cancel()


def _undone(result: JobView | BatchView) -> str:
    how = "was cancelled" if result.state == "cancelled" else result.state
    if isinstance(result, BatchView):
        count = f"{result.failed} of {result.total} jobs failed"
        if result.state == "cancelled":
            count = f"{result.done} of {result.total} jobs were done"
        return f"The batch {how}: {count}. {result.why}".strip()
    return f"The job {how}: {result.why or result.fault}"


def _write_statement(args: argparse.Namespace, statement: StatementView) -> int:
    path: Path = args.to_csv or args.to_json
    try:
        statement_file.write(path, statement, as_csv=bool(args.to_csv))
    except BadInput as error:
        return _fail(error, 1)
    print(f"{path}: {len(statement.channels)} channels, {len(statement.payments)} entries")
    return 0


async def _verify(args: argparse.Namespace) -> int:
    from zstui.engine.evidence_file import parse
    from zstui.engine.verification import verify_document

    try:
        content = parse(args.file.read_bytes())
    except (OSError, BadInput) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        return _fail(BadInput(f"Cannot read {clean_text(str(args.file), 200)}: {reason}."), 1)
    checks = verify_document(content)
    good = bool(checks) and all(check.ok for check in checks)
    if args.json:
        print(msgspec.json.encode({"verified": good, "checks": checks}).decode())
    else:
        for check in checks:
            print(f"{'ok  ' if check.ok else 'FAIL'}  {check.name}{f': {check.detail}' if check.detail else ''}")
        print("VERIFIED" if good else "NOT VERIFIED")
    return 0 if good else 1


async def _calibrate(home: Home) -> CalibrationView:
    from zstui.engine.jobs.sandbox.calibration import measure_alone

    home.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return await measure_alone(home.cache, home.calibration)


async def _run(args: argparse.Namespace, home: Home) -> int:
    from zstui.engine.jobs.sandbox.local import host_dir, run_module
    from zstui.engine.jobs.sandbox.model import Limits

    limits = Limits(memory_bytes=args.memory << 20, timeout_us=args.timeout * 1_000_000, files_bytes=args.files << 20)
    if args.fuel is not None:
        limits = msgspec.structs.replace(limits, fuel=args.fuel)
    try:
        stdin = read_file(args.stdin) if args.stdin else b""
    except BadInput as error:
        return _fail(error, 2)
    streams = {"stdout": sys.stdout.buffer, "stderr": sys.stderr.buffer}

    def show(stream: str, data: bytes) -> None:
        streams[stream].write(data)
        streams[stream].flush()

    home.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    result = await run_module(
        args.module,
        args=args.args,
        env=tuple(args.env),
        stdin=stdin,
        limits=limits,
        function=args.function,
        dirs=tuple(host_dir(host, guest, writable) for host, guest, writable in args.dir),
        on_output=show,
        cache_dir=home.cache,
    )
    if args.report:
        report = {
            "exit_code": result.exit_code,
            "fault": result.fault,
            "gas": result.gas,
            "gas_exact": result.gas_exact,
            "duration_us": result.duration_us,
            "memory_bytes": result.memory_bytes,
            "stdout_hash": result.stdout_hash.hex(),
        }
        args.report.write_bytes(msgspec.json.encode(report))
    if result.status != "success" and result.exit_code is None:
        return _fail(BadInput(result.reason), 1)
    return result.exit_code or 0


# --- restoring --------------------------------------------------------------------------------------------------------


async def _restore(args: argparse.Namespace, home: Home) -> int:
    from zstui.engine.backup import restore
    from zstui.engine.node import SCHEMA

    if (args.file is None) is not args.from_peers:
        return _fail(BadInput("Give either the file of a backup or --from-peers."), 2)
    if home.running():
        return _fail(HomeLocked(f"A node runs on {home.path}; stop it first."), 1)
    if args.from_peers:
        if not _confirmed(args.yes, restore.from_peers_words(home)):
            return 1
        restore.forget_database(home)
        print("Start the node: it asks every peer it meets.")
        return 0
    try:
        secret = passphrase(args.passphrase_file, new=False)
    except BadInput as error:
        return _fail(error, 2)
    view = restore.preview(args.file, secret, home)
    if args.json:
        print(msgspec.json.encode(view).decode())
    if not _confirmed(args.yes, "" if args.json else restore.words(view)):
        return 1
    await restore.restore(args.file, secret, home, SCHEMA)
    if not args.json:
        print("Restored. Start the node; nothing is signed in a channel before its peer was heard.")
    return 0


def _confirmed(yes: bool, text: str) -> bool:
    """Say ``text`` and ask; without a terminal only ``--yes`` goes on."""
    if text:
        print(text, flush=True)
    if yes:
        return True
    if not sys.stdin.isatty():
        print("zstui: Nothing was changed; add --yes to go on.", file=sys.stderr)
        return False
    if input('Type "yes" to go on: ').strip().lower() == "yes":
        return True
    print("zstui: Nothing was changed.", file=sys.stderr)
    return False


# --- the node --------------------------------------------------------------------------------------------------------


async def _node(settings: Settings, home: Home, stop_with_stdin: bool) -> int:
    from zstui.engine.node import Node

    node = Node(settings, home)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    if stop_with_stdin:

        def on_stdin() -> None:
            if not os.read(sys.stdin.fileno(), 4096):
                stop.set()

        loop.add_reader(sys.stdin.fileno(), on_stdin)
    await node.start()
    try:
        server = ControlServer(node, home.socket)
        await server.start()
        status = await node.execute(c.Status())
        ready = {
            "event": "ready",
            "peer_id": status.peer_id,
            "addresses": status.addresses,
            "metrics": status.metrics,
            "notices": status.notices,
        }
        print(msgspec.json.encode(ready).decode(), flush=True)
        failed = asyncio.create_task(node.failed.wait())
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait((failed, stopped), return_when=asyncio.FIRST_COMPLETED)
        failed.cancel()
        stopped.cancel()
        await server.stop()
    finally:
        await node.stop()
    return _fail(StoreError(CANNOT_WRITE), 1) if node.failed.is_set() else 0


async def _app(home: Home) -> int:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        print("zstui: The full-screen app needs a terminal; see zstui --help for commands.", file=sys.stderr)
        return 2
    from zstui.app import run_app
    from zstui.engine.node import Node

    attached = ControlClient(home.socket)
    if home.running():
        return await run_app(attached)
    node = Node(_settings(None, home), home)
    try:
        await node.start()
    except HomeLocked:
        return await run_app(attached)
    server = ControlServer(node, home.socket)

    async def stop() -> None:
        await server.stop()
        await node.stop()

    gc.freeze()  # what is loaded by now stays for good
    try:
        await server.start()
        return await run_app(node, on_exit=stop, failed=node.failed)
    finally:
        await stop()


async def _demo(headless: bool) -> int:
    from zstui import demo

    if not headless and not (sys.stdin.isatty() and sys.stdout.isatty()):
        print("zstui: The demo's app needs a terminal; without one use: zstui demo --headless", file=sys.stderr)
        return 2
    return await (demo.run_headless() if headless else demo.run_app())
