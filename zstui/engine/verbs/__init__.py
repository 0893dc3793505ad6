"""What each command does: one short function a verb, over the services. ``execute`` is the only entry."""

from __future__ import annotations

from typing import TypeVar, cast

from zstui.engine import commands as c
from zstui.engine.errors import BadInput
from zstui.engine.services import Services
from zstui.engine.verbs import disputes, guilds, jobs, money, node
from zstui.engine.verbs.base import Verb

R = TypeVar("R")

_VERBS: dict[type, Verb] = {**node.VERBS, **guilds.VERBS, **jobs.VERBS, **money.VERBS, **disputes.VERBS}


async def execute(s: Services, command: c.Command[R]) -> R:
    """Carry out ``command``. Raises ZsError; BadInput for a struct that is no command."""
    verb = _VERBS.get(type(command))
    if verb is None:
        raise BadInput(f"{type(command).__name__} is not a command.")
    return cast(R, await verb(s, command))
