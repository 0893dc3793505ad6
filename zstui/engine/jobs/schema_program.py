"""Checks JSON texts against a JSON Schema (draft 2020-12) in a process of its own; imports nothing of zstui.

Reads ``{"schema": text, "texts": [text, ...]}`` from stdin and prints what is wrong, as ``{}``, ``{"schema": why}`` or
``{"text": number, "why": why}`` for the first text that does not conform.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import jsonschema_rs

DRAFT = "https://json-schema.org/draft/2020-12/schema"
CPU_S = 5
MEMORY = 1 << 30
NO_REGEX = "is no regular expression that takes linear time: without look-around and back-references"
MOST = 200
"""Characters of a reason."""


def main() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    asked = json.loads(sys.stdin.buffer.read())
    print(json.dumps(check(asked["schema"], asked["texts"])))


def check(schema_text: str, texts: Sequence[str]) -> dict[str, object]:
    try:
        schema = read(schema_text)
        if not isinstance(schema, dict) or schema.get("$schema", DRAFT) not in (DRAFT, DRAFT + "#"):
            return {"schema": f"not an object, or of another draft than {DRAFT}"}
        # Regular expressions without backtracking, and no reference leads out of the schema.
        validator = jsonschema_rs.Draft202012Validator(
            schema, offline=True, pattern_options=jsonschema_rs.RegexOptions()
        )
    except (ValueError, RecursionError, jsonschema_rs.ReferencingError) as error:
        return {"schema": _why(error)}
    for number, text in enumerate(texts):
        try:
            validator.validate(read(text))
        except jsonschema_rs.ValidationError as error:
            return {"text": number, "why": _why(error)}
        except (ValueError, RecursionError):
            return {"text": number, "why": "not valid JSON"}
    return {}


def read(text: str) -> Any:
    """Strictly JSON: NaN and Infinity are refused. Raises ValueError, RecursionError."""
    return json.loads(text, parse_constant=_refuse)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _why(error: Exception) -> str:
    """ "items[3].name: 5 is not of type "string"" """
    if not isinstance(error, jsonschema_rs.ValidationError):
        return str(error)[:MOST]
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.instance_path).lstrip(".")
    message = error.message
    if "Retrieval is disabled" in message:
        message = "it refers to a schema outside of itself: " + message.partition("cannot fetch ")[2]
    elif message.endswith('is not a "regex"'):
        message = message.removesuffix('is not a "regex"') + NO_REGEX
    if len(message) > MOST:  # it begins with the value
        message = f"{message[:40]} ... {message[45 - MOST :]}"
    return f"{path[:MOST]}: {message}" if path else message


if __name__ == "__main__":
    main()
