"""One target under atheris, in a process of its own, for its engine never returns: ``one.py NAME [options of libFuzzer]``."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["zstui"]):
    from tests.fuzz.check import check
    from tests.fuzz.targets import TARGETS


def main() -> None:
    target = TARGETS[sys.argv[1]]
    atheris.Setup([sys.argv[0], *sys.argv[2:]], lambda data: check(target, data) and None)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
