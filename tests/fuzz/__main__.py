"""Fuzz every decoder, guided by coverage: ``python -m tests.fuzz [--seconds N] [--jobs J] [--json] [TARGET ...]``.

Inputs that led anywhere new are kept in ``.fuzz/`` and begun with the next time. Exit status 1 if a contract was broken; the
input is then kept, too, and named.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.fuzz.targets import CPU_S, TARGETS

FOLDER = Path(".fuzz")
_RUNS = re.compile(r"stat::number_of_executed_units:\s+(\d+)|Done (\d+) runs")
_COVERAGE = re.compile(r" cov: (\d+) ")
_FOUND = re.compile(r"Test unit written to (\S+)")
MAX_LEN, RSS_MIB = 4096, 2048


def fuzz(name: str, seconds: int) -> dict[str, object]:
    """Figures of one target; ``found`` names the file with the input that broke it."""
    folder = FOLDER / re.sub(r"\W", "-", name)
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(TARGETS[name].seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.fuzz.one", name, str(corpus), f"-artifact_prefix={folder}/"),
            *(f"-max_total_time={seconds}", f"-max_len={MAX_LEN}", f"-rss_limit_mb={RSS_MIB}"),
            *(f"-timeout={int(CPU_S) * 5}", "-print_final_stats=1"),
        ],
        check=False,
        capture_output=True,
        text=True,
        errors="replace",
        env=os.environ,
    )
    said = done.stdout + done.stderr
    runs = [int(a or b) for a, b in _RUNS.findall(said)]
    coverage = _COVERAGE.findall(said)
    found = _FOUND.search(said)
    report: dict[str, object] = {
        "target": name,
        "runs": max(runs, default=0),
        "coverage": int(coverage[-1]) if coverage else 0,
        "found": found[1] if found else "",
    }
    if done.returncode:
        report["why"] = said[-3000:]
    return report


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=20, help="for each target (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="targets at the same time")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if unknown := [name for name in args.targets if name not in TARGETS]:
        parser.error(f"no target {unknown[0]!r}")
    if importlib.util.find_spec("atheris") is None:
        parser.error('atheris is not installed: pip install "zstui[fuzz]"')
    with ThreadPoolExecutor(args.jobs) as pool:
        reports = list(pool.map(lambda name: fuzz(name, args.seconds), args.targets or TARGETS))
    broken = [r for r in reports if "why" in r]
    if args.json:
        print(
            json.dumps({"targets": reports, "runs": sum(int(str(r["runs"])) for r in reports), "broken": len(broken)})
        )
    else:
        for r in reports:
            outcome = r["found"] or ("failed" if "why" in r else "ok")
            print(f"{r['target']:24} {r['runs']:>10,} runs  {r['coverage']:>6} edges  {outcome}")
        for r in broken:
            print(f"\n{r['target']}: {r['why']}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
