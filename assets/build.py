"""Rebuilds the sample jobs from the sources beside them: the C ones with zig, the WAT ones with wasmtime.

pip install ziglang wasmtime
python assets/build.py
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import wasmtime

HERE = Path(__file__).parent


def build_wat(source: Path) -> bytes:
    return bytes(wasmtime.wat2wasm(source.read_text(encoding="utf-8")))


def main() -> None:
    for source in sorted(HERE.glob("*.wat")):
        source.with_suffix(".wasm").write_bytes(build_wat(source))
    for source in sorted(HERE.glob("*.c")):
        target = source.with_suffix(".wasm").name
        zig = [
            sys.executable,
            "-m",
            "ziglang",
            "cc",
            "-target",
            "wasm32-wasi",
            "-Os",
            "-s",
            "-Wall",
            "-Wl,-z,stack-size=262144",
        ]
        subprocess.run([*zig, "-o", target, source.name], cwd=HERE, check=True)


if __name__ == "__main__":
    main()
