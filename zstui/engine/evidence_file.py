"""Files of signed documents, as proofs of fraud and other evidence have them."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path

import msgspec

from zstui.engine.errors import BadInput


def parse(data: bytes) -> object:
    """The JSON in a file that a stranger may have written. Raises BadInput."""
    try:
        content: object = msgspec.json.decode(data)
    except (ValueError, RecursionError):
        raise BadInput("it is not JSON") from None
    return content


def documents_of(content: Mapping[str, object]) -> tuple[bytes, ...]:
    """The documents of a proof or evidence file. Raises BadInput."""
    found = content.get("documents")
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise BadInput('The file has no "documents".')
    try:
        return tuple(base64.b64decode(text, validate=True) for text in found)
    except ValueError as error:
        raise BadInput("A document in the file is not base64.") from error


def documents_in(path: Path) -> tuple[bytes, ...]:
    """Those of a JSON file. Raises BadInput."""
    try:
        content = parse(path.read_bytes())
    except (OSError, BadInput) as error:
        raise BadInput(f"Cannot read documents from {path}: {error}.") from error
    return documents_of(content if isinstance(content, dict) else {})
