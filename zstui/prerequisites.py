"""What must be on the machine before anything is installed. Standard library only: it runs before there is a venv."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import sysconfig


def missing() -> str:
    """One sentence that says what to install, or "" if nothing is missing."""
    if sys.version_info < (3, 11):  # noqa: UP036  it runs on whatever Python there is
        return f"zstui needs Python 3.11 or later, and this is {sys.version.split()[0]}: make PYTHON=python3.11 ..."
    if importlib.util.find_spec("ensurepip") is None:
        return "Python cannot make a virtual environment: install it with  apt-get install python3-venv"
    compiler = os.environ.get("CXX", "").split() or ["c++", "g++", "clang++"]
    header = os.path.join(sysconfig.get_paths()["include"], "Python.h")
    if not any(shutil.which(name) for name in compiler) or not os.path.exists(header):
        return (
            "annoy is built from source and needs a C++ compiler and Python's headers: install them with  "
            "apt-get install g++ python3-dev   (Fedora: dnf install gcc-c++ python3-devel)"
        )
    return ""


if __name__ == "__main__":
    sentence = missing()
    if sentence:
        print(sentence, file=sys.stderr)
        sys.exit(1)
