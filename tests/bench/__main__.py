"""``python -m tests.bench NAME [--json]``: measure one part. Figures are printed, never asserted on."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json

NAMES = ("workflow", "discovery", "jobs", "payments", "guilds", "remote", "search", "net", "dht", "qrouting")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--json", action="store_true", help="one JSON document")
    args = parser.parse_args()
    figures = asyncio.run(importlib.import_module(f"tests.bench.{args.name}").measure())
    if args.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:<32} {value}")


main()
