"""The hours of the day in which a node takes work. Pure: minutes since midnight, local time, come in as arguments."""

from __future__ import annotations

import re

import msgspec

from zstui.engine.errors import BadInput

DAY = 24 * 60


class Hours(msgspec.Struct, frozen=True):
    """From ``start`` up to ``end``, across midnight where ``end`` is earlier; equal ones mean always."""

    start: int = 0
    end: int = 0

    @property
    def always(self) -> bool:
        return self.start == self.end

    def open_at(self, minute: int) -> bool:
        return self.always or (minute - self.start) % DAY < (self.end - self.start) % DAY

    def changes_in(self, minute: int) -> int | None:
        """Minutes until the next opening or closing, at least 1; None if there is none."""
        if self.always:
            return None
        edge = self.end if self.open_at(minute) else self.start
        return (edge - minute) % DAY or DAY


def parse_hours(start: str, end: str) -> Hours:
    """From "HH:MM" texts; both "" for always. Raises BadInput."""
    if not start and not end:
        return Hours()
    hours = Hours(_minute(start), _minute(end))
    if hours.always:
        raise BadInput("The hours begin and end at the same time; leave both out to take work always.")
    return hours


def _minute(text: str) -> int:
    match = re.fullmatch(r"(\d{1,2}):(\d{2})", text)
    if match is None or int(match[1]) > 23 or int(match[2]) > 59:
        raise BadInput(f"{text[:20]!r} is not a time of day such as 22:00.")
    return int(match[1]) * 60 + int(match[2])


def format_minute(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"
