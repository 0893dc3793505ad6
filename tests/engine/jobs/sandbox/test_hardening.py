"""What a locked-down process can still do, tried in one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from zstui.engine.jobs.sandbox import seccomp

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="seccomp is Linux's")

SCRIPT = r"""
import ctypes, errno, json, os, resource, signal, socket, subprocess, sys, threading
from zstui.engine.jobs.sandbox.child import lock_down

kept = open(os.devnull, "rb")
libc = ctypes.CDLL(None, use_errno=True)
target = sys.argv[1]
hardening = lock_down(1 << 30, 0)
results = {}

def attempt(name, action):
    try:
        action()
        results[name] = "done"
    except OSError as error:
        results[name] = errno.errorcode[error.errno]
    except Exception as error:
        results[name] = type(error).__name__

def libc_fork():
    pid = libc.fork()
    if pid == 0:
        os._exit(0)
    if pid < 0:
        raise OSError(ctypes.get_errno(), "")

def in_thread():
    seen = []
    def work():
        try:
            open("/etc/hostname")
        except OSError as error:
            seen.append(error)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if seen:
        raise seen[0]

attempt("read", lambda: open("/etc/hostname"))
attempt("write", lambda: open(target, "w"))
attempt("unlink", lambda: os.unlink(target))
attempt("rename", lambda: os.rename(target, target + "x"))
attempt("mkdir", lambda: os.mkdir(target + "d"))
attempt("chmod", lambda: os.chmod(target, 0o777))
attempt("chdir", lambda: os.chdir("/"))
attempt("inet socket", lambda: socket.socket())
attempt("unix socket", lambda: socket.socket(socket.AF_UNIX))
attempt("socket pair", lambda: socket.socketpair())
attempt("fork", libc_fork)
attempt("spawn", lambda: subprocess.run(["/bin/true"]))
attempt("exec", lambda: os.execv("/bin/true", ["true"]))
attempt("kill", lambda: os.kill(os.getppid(), 0))
attempt("thread reads", in_thread)
attempt("raise limit", lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (10, 10)))
attempt("read limit", lambda: resource.getrlimit(resource.RLIMIT_NOFILE))
attempt("core", lambda: results.update(core_limit=resource.getrlimit(resource.RLIMIT_CORE)[0]))
attempt("kept file", lambda: kept.read())
attempt("memory", lambda: bytearray(10 << 20))
attempt("much memory", lambda: bytearray(2 << 30))
print(json.dumps([hardening, results]))
"""


def test_a_locked_down_process_reaches_nothing_but_what_it_has(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("kept")
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(target)], capture_output=True, text=True, check=True)
    hardening, results = json.loads(done.stdout)
    assert hardening == "seccomp, no_new_privs, rlimits"
    allowed = {name: results.pop(name) for name in ("read limit", "core", "kept file", "memory")}
    assert set(allowed.values()) == {"done"}
    assert results.pop("core_limit") == 0
    assert results.pop("much memory") == "MemoryError"
    assert results.pop("raise limit") == "ValueError", "what Python makes of EPERM here"
    assert results == dict.fromkeys(results, "EPERM")
    assert len(results) == 15
    assert target.read_text() == "kept"


@pytest.mark.parametrize("arch", [0, 1])
def test_the_filter_is_within_the_kernels_limits(arch: int) -> None:
    program = seccomp.build_filter(arch, 1234)
    assert len(program) % 8 == 0
    assert len(program) // 8 < 4096
