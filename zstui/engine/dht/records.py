"""What a node keeps for others: who provides what, and signed values. Pure; bounded in every direction a stranger could push."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable

import msgspec

from zstui.engine.clock import US
from zstui.engine.errors import ProtocolError
from zstui.engine.identity.keys import PeerId

PROVIDER_TTL_US = 24 * 3600 * US
"""An announcement counts so long."""
REPUBLISH_US = 11 * 3600 * US
"""And is made anew so often."""
VALUE_TTL_US = 36 * 3600 * US
MAX_KEYS = 10_000
MAX_PER_KEY = 64
MAX_PER_PEER = 500
"""Keys that one peer may announce."""
MAX_VALUES = 10_000


class Providers:
    """Who said that it provides a key. Full tables forget the oldest announcement of the kind that is full."""

    def __init__(self) -> None:
        self._keys: OrderedDict[bytes, OrderedDict[PeerId, int]] = OrderedDict()
        self._counts: Counter[PeerId] = Counter()

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, key: bytes, peer: PeerId, now_us: int) -> bool:
        """``peer`` provides ``key`` from now on for ``PROVIDER_TTL_US``; False if it announces too much."""
        known = self._keys.get(key)
        if known is None or peer not in known:
            if self._counts[peer] >= MAX_PER_PEER:
                self._expire(now_us)
                if self._counts[peer] >= MAX_PER_PEER:
                    return False
            self._counts[peer] += 1
        entry = self._keys.setdefault(key, OrderedDict())
        entry[peer] = now_us + PROVIDER_TTL_US
        entry.move_to_end(peer)
        self._keys.move_to_end(key)
        if len(entry) > MAX_PER_KEY:
            self._forget(key, next(iter(entry)))
        if len(self._keys) > MAX_KEYS:
            oldest = next(iter(self._keys))
            for other in tuple(self._keys[oldest]):
                self._forget(oldest, other)
        return True

    def get(self, key: bytes, now_us: int) -> list[PeerId]:
        """The latest to announce first."""
        entry = self._keys.get(key)
        return [] if entry is None else [peer for peer, expires in reversed(entry.items()) if expires > now_us]

    def _expire(self, now_us: int) -> None:
        for key, entry in tuple(self._keys.items()):
            for peer in [p for p, expires in entry.items() if expires <= now_us]:
                self._forget(key, peer)

    def _forget(self, key: bytes, peer: PeerId) -> None:
        entry = self._keys[key]
        del entry[peer]
        if not entry:
            del self._keys[key]
        self._counts[peer] -= 1
        if not self._counts[peer]:
            del self._counts[peer]


class Validator(msgspec.Struct, frozen=True):
    """What may be stored under keys that begin with ``prefix``."""

    prefix: bytes
    version: Callable[[bytes, bytes], int]
    """``(key, value)``: how new a value is; a newer one replaces an older. Raises ProtocolError for one that is not genuine."""


class Values:
    """Signed values by key: whoever brings one, only what its key's owner signed is taken, and only what is newer."""

    def __init__(self, validators: tuple[Validator, ...]) -> None:
        self._validators = validators
        self._kept: OrderedDict[bytes, tuple[int, int, bytes]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def newest(self, key: bytes, values: list[bytes]) -> bytes | None:
        """The newest genuine one of ``values``."""
        genuine = [(version, value) for value in values if (version := self._version(key, value)) is not None]
        return max(genuine)[1] if genuine else None

    def put(self, key: bytes, value: bytes, now_us: int) -> bool:
        """Whether it is now kept here: False if it is not genuine or older than what is."""
        version = self._version(key, value)
        if version is None:
            return False
        known = self._kept.get(key)
        if known is not None and known[0] > version:
            return False
        self._kept[key] = (version, now_us + VALUE_TTL_US, value)
        self._kept.move_to_end(key)
        if len(self._kept) > MAX_VALUES:
            self._kept.popitem(last=False)
        return True

    def get(self, key: bytes, now_us: int) -> bytes | None:
        known = self._kept.get(key)
        return known[2] if known is not None and known[1] > now_us else None

    def _version(self, key: bytes, value: bytes) -> int | None:
        for validator in self._validators:
            if key.startswith(validator.prefix):
                try:
                    return validator.version(key, value)
                except ProtocolError:
                    return None
        return None
