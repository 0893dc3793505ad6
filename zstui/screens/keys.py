"""Keys as a person reads them, and the list of every action there is, for the hint line, the help and the palette."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from textual.binding import Binding

NAMES = {
    "question_mark": "?",
    "exclamation_mark": "!",
    "slash": "/",
    "colon": ":",
    "space": "space",
    "enter": "⏎",
    "escape": "Esc",
    "tab": "Tab",
    "shift+tab": "shift+Tab",
    "pageup": "PgUp",
    "pagedown": "PgDn",
    "up": "↑",
    "down": "↓",
    "home": "Home",
    "end": "End",
}


@dataclass(frozen=True, slots=True)
class Action:
    """One thing to do: where it is available, its keys as they are now, and what it does."""

    id: str
    group: str
    keys: str
    title: str
    text: str
    action: str


def name_of(key: str) -> str:
    """ "question_mark" -> "?", "ctrl+p" -> "^p"."""
    if key.startswith("ctrl+"):
        return "^" + key[5:]
    return NAMES.get(key, key.upper() if key.startswith("f") and key[1:].isdigit() else key)


def raw_keys(binding: Binding, keymap: Mapping[str, str]) -> list[str]:
    """The keys of a binding as events name them, remapped ones included."""
    return [key.strip() for key in (keymap.get(binding.id or "", "") or binding.key).split(",")]


def keys_of(binding: Binding, keymap: Mapping[str, str]) -> str:
    """The keys of a binding, remapped ones included, in the words of a person."""
    return " ".join(name_of(key) for key in raw_keys(binding, keymap))


def actions_of(group: str, bindings: Iterable[Binding], keymap: Mapping[str, str]) -> list[Action]:
    """The actions of one class's bindings."""
    return [
        Action(
            id=binding.id or "",
            group=group,
            keys=keys_of(binding, keymap),
            title=binding.description,
            text=binding.tooltip or binding.description,
            action=binding.action,
        )
        for binding in bindings
    ]


def declared(cls: type[Any]) -> list[Binding]:
    """The keys that a class declares itself."""
    return [binding for binding in cls.BINDINGS if isinstance(binding, Binding)]
