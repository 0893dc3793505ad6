"""The model of this machine's processor, for its capability card."""

from __future__ import annotations

import platform
import re
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
_MODEL = re.compile(r"^(?:model name|Model|Hardware|cpu model)\s*:\s*(\S.*)$", re.MULTILINE)
_NOISE = re.compile(r"\((?:R|TM)\)|\bCPU\b|@.*|\b\d+-Core Processor\b|\bProcessor\b", re.IGNORECASE)


def processor_model(cpuinfo: Path = CPUINFO) -> str:
    """Such as "AMD Ryzen 7 5800X": from Linux's list of processors, else what the platform says; "" if neither knows."""
    try:
        with cpuinfo.open(encoding="utf-8", errors="replace") as file:
            found = _MODEL.search(file.read(16_384))
    except OSError:
        found = None
    return " ".join(_NOISE.sub(" ", found[1] if found else platform.processor() or platform.machine()).split())
