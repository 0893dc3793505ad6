"""Rebuilds the sample jobs from the sources beside them: the C ones with zig, the WAT ones with wasmtime.

pip install --constraint constraints.txt ziglang wasmtime
python assets/build.py
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import wasmtime

HERE = Path(__file__).parent
RECORD = HERE / "built.json"
"""For each module in C the SHA-256 of the source that it was made of, and its own."""
ZIG = (
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
)


def build_wat(source: Path) -> bytes:
    return bytes(wasmtime.wat2wasm(source.read_text(encoding="utf-8")))


def build_c(source: Path) -> bytes:
    """The module, whatever directory this is: what a compiler makes can depend on the paths that it is given."""
    with tempfile.TemporaryDirectory() as folder:
        module = Path(folder) / source.with_suffix(".wasm").name
        shutil.copy(source, folder)
        subprocess.run([*ZIG, "-o", module.name, source.name], cwd=folder, check=True)
        return module.read_bytes()


def record() -> dict[str, dict[str, str]]:
    """What ``RECORD`` has to hold for the files as they are."""

    def digest(path: Path) -> str:
        return hashlib.sha256(path.read_bytes()).hexdigest()

    sources = sorted(HERE.glob("*.c"))
    return {s.stem: {"source": digest(s), "module": digest(s.with_suffix(".wasm"))} for s in sources}


def main() -> None:
    for source in sorted(HERE.glob("*.wat")):
        source.with_suffix(".wasm").write_bytes(build_wat(source))
    for source in sorted(HERE.glob("*.c")):
        source.with_suffix(".wasm").write_bytes(build_c(source))
    RECORD.write_text(json.dumps(record(), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
