"""One entry for every kind of evidence file: tells which kind it is, and verifies it with nothing but itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from zstui.engine.channels.disputes import faults
from zstui.engine.channels.statements.verify import verify_statement
from zstui.engine.complaints import portable
from zstui.engine.jobs.bundle import verify_bundle
from zstui.engine.views import CheckView

KINDS: Mapping[str, Callable[[dict[str, Any]], Sequence[CheckView]]] = {
    "zerostate_statement": verify_statement,
    "zerostate_fraud_proof": lambda content: faults.verify_file(content)[1],
    "zerostate_output_verdict": portable.verify_file,
}
"""By the field that names the kind and its version; a file without any is a receipt."""


_DEEPEST = 4
"""A list of files, each with the document in it, is three."""


def verify_document(content: object, depth: int = 0) -> list[CheckView]:
    """Checks of a decoded JSON document, or of the one in its ``file``; a list of documents is verified one by one.

    Never raises on bad content.
    """
    if isinstance(content, list) and depth < _DEEPEST:
        return [check for one in content for check in verify_document(one, depth + 1)]
    if not isinstance(content, dict):
        return [CheckView(name="file", ok=False, detail="not a receipt, a statement, a verdict or a proof of fraud")]
    for field, verify in KINDS.items():
        if field in content:
            return list(verify(content))
    if isinstance(content.get("file"), dict) and depth < _DEEPEST:
        return verify_document(content["file"], depth + 1)
    return list(verify_bundle(content))
