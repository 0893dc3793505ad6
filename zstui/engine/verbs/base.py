"""What a verb is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from zstui.engine.services import Services

Verb = Callable[[Services, Any], Awaitable[Any]]
