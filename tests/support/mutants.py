"""``python -m tests.support.mutants [NAME ...]``: plant known faults in a copy of the channels and see each one caught.

Every mutant is a change to the product's own source that breaks one rule of the protocol. Random lives of two nodes
(tests/engine/channels/lives.py) must fail on each; a mutant that survives, or that no longer applies, is an error.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

ROOT = Path(__file__).parents[2]
LIVES = 3_000
DATABASE = "zstui/engine/store/database.py"
_COMMIT = '        tx.execute("COMMIT")\n    except sqlite3.Error:\n'
_TOLD = "        return partial(_tell, group, results)\n"
_SOON = """
        def tell_and_commit() -> None:
            _tell(group, results)
            with contextlib.suppress(sqlite3.Error):
                tx.execute("COMMIT")

        return tell_and_commit
"""
CHANNELS = "zstui/engine/channels/"
HUNT = "from tests.engine.channels.lives import hunt; hunt({lives}, 1, {often})"


class Change(msgspec.Struct, frozen=True):
    file: str
    old: str
    new: str


MUTANTS: dict[str, tuple[Change, ...]] = {
    "send before commit": (
        Change(DATABASE, _COMMIT, "    except sqlite3.Error:\n"),
        Change(DATABASE, _TOLD, _SOON),
        Change(DATABASE, "import asyncio\n", "import asyncio\nimport contextlib\n"),
    ),
    "ack before commit": (
        Change(
            CHANNELS + "desk.py",
            "        limit = self._books.limit(session.peer)\n",
            "        limit = self._books.limit(session.peer)\n"
            "        for signed, body in batch:\n"
            "            if isinstance(body, Pay) and signed.signer == session.peer:\n"
            "                session.push(seal(self._identity, Ack(body.ch, body.seq, body.cum, signed.digest)))\n",
        ),
    ),
    "stale ack": (
        Change(CHANNELS + "work.py", "if upto.seq <= channel.acked:", "if upto.seq == channel.acked:"),
        Change(CHANNELS + "state.py", "if ack.seq > acked else", "if ack.seq != acked else"),
    ),
    "no wait for Reestablish before sending": (
        Change(
            CHANNELS + "desk.py",
            "ChannelLink(greeted=True)\n                session.push(raw)",
            "ChannelLink(greeted=True, live=True, first=self._books.records[channel].out.seq + 1)\n"
            "                session.push(raw)",
        ),
        Change(CHANNELS + "desk.py", "and body.ch not in heard:", "and not body.ch:"),
    ),
    "no wait for Reestablish before signing": (
        Change(CHANNELS + "work.py", "return channel in self._in_step or channel in self.out.in_step", "return True"),
        Change(CHANNELS + "books.py", "return record.id in self.peer(record.peer).in_step", "return True"),
    ),
    "pay after close": (
        Change(
            CHANNELS + "state.py",
            "    (State.CLOSING, Move.CLOSE): State.CLOSING,\n",
            "    (State.CLOSING, Move.CLOSE): State.CLOSING,\n    (State.CLOSING, Move.PAY): State.CLOSING,\n",
        ),
    ),
    "a Confirm after a start leaves no right to sign": (
        Change(
            CHANNELS + "opening.py",
            "            work.out.started.append(channel.id)\n            work.out.in_step.append(channel.id)\n",
            "            work.out.started.append(channel.id)\n",
        ),
    ),
    "no resend": (
        Change(
            CHANNELS + "desk.py",
            "            return Stored(pays, [d for d in documents if d is not None], record.rev)",
            "            return Stored([], [d for d in documents if d is not None], record.rev)",
        ),
    ),
}


OFTEN: dict[str, tuple[str, ...]] = {
    "no wait for Reestablish before signing": ("pay", "backup", "pay", "restore"),
}
"""Steps that make a fault show sooner."""


def main() -> int:
    names = sys.argv[1:] or list(MUTANTS)
    survived = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for name, (caught, how, took_s) in zip(names, pool.map(_hunt, names), strict=True):
            survived += not caught
            print(f"{name:<46} {'caught' if caught else 'SURVIVED'} in {took_s:.1f} s  {how}", flush=True)
    return 1 if survived else 0


def _hunt(name: str) -> tuple[bool, str, float]:
    start = time.perf_counter()
    caught, how = hunt(MUTANTS[name], OFTEN.get(name, ()))
    return caught, how, time.perf_counter() - start


def hunt(changes: tuple[Change, ...], often: tuple[str, ...] = (), lives: int = LIVES) -> tuple[bool, str]:
    """Whether random lives over the changed source, with some steps taken ``often``, fail, and on what."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for part in ("zstui", "tests"):
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        for change in changes:
            path = copy / change.file
            text = path.read_text()
            if text.count(change.old) != 1:
                raise SystemExit(f"A mutant of {change.file} no longer applies: {change.old!r}")
            path.write_text(text.replace(change.old, change.new))
        environment = {**os.environ, "PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [sys.executable, "-c", HUNT.format(lives=lives, often=often)],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
        )
    last = next((x for x in reversed(done.stderr.splitlines()) if x and not x[0].isspace()), "")
    if done.returncode and "AssertionError" not in last and "TimeoutError" not in last:
        raise SystemExit(f"A mutant did not run: {last}\n{done.stderr}")
    return done.returncode != 0, last[:120]


if __name__ == "__main__":
    raise SystemExit(main())
