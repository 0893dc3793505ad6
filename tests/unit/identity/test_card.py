"""Capability cards."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from zstui.engine.errors import ProtocolError
from zstui.engine.identity.card import (
    MAX_CARD,
    MAX_HARDWARE,
    MAX_MODULE,
    MAX_MODULES,
    MAX_NAME,
    MAX_REGION,
    Card,
    capabilities,
    read_card,
)
from zstui.engine.identity.envelope import Body, seal
from zstui.engine.identity.keys import Identity

ME = Identity.generate()
CARD = Card("zephyr", True, 8, 512, 60, 10_000_000, 100_000, ("arm", "ssd"), 1_700_000_000_000_000)


def changed(**fields: Any) -> bytes:
    return seal(ME, msgspec.structs.replace(CARD, **fields))


def test_a_signed_card_is_read_back() -> None:
    assert read_card(seal(ME, CARD), ME.peer_id) == CARD


def test_what_screens_see() -> None:
    place = capabilities(read_card(changed(hardware="Ryzen", region="Oslo", modules=("bafk",)), ME.peer_id))
    assert (place.hardware, place.region, place.modules) == ("Ryzen", "Oslo", ("bafk",))
    view = capabilities(CARD)
    assert (view.executor, view.cores, view.memory_mib, view.timeout_s) == (True, 8, 512, 60)
    assert (view.price_per_second_nano, view.price_per_mib_nano, view.tags) == (10_000_000, 100_000, ("arm", "ssd"))
    assert not capabilities(None).executor


def test_a_card_of_another_peer_is_refused() -> None:
    with pytest.raises(ProtocolError, match="another peer"):
        read_card(seal(ME, CARD), Identity.generate().peer_id)


def test_another_signed_struct_is_no_card() -> None:
    class Other(Body, frozen=True, array_like=True, forbid_unknown_fields=True):
        name: str

    with pytest.raises(ProtocolError, match="Expected a signed Card"):
        read_card(seal(ME, Other("x")), ME.peer_id)


def test_text_is_cleaned() -> None:
    card = read_card(changed(name="\x1b[31mred\u202e" + "x" * 80, tags=("a\x07b", "\x00", "[bold]")), ME.peer_id)
    assert card.name == ("[31mred" + "x" * 80)[:MAX_NAME]
    assert card.tags == ("ab", "[bold]")
    card = read_card(changed(hardware="a\x1b" * 99, region="b\u202e" * 99, modules=("c\n" * 99,)), ME.peer_id)
    assert (card.hardware, card.region) == ("a" * MAX_HARDWARE, "b" * MAX_REGION)
    assert len(card.modules[0]) <= MAX_MODULE


@pytest.mark.parametrize(
    "fields",
    [
        {"cores": -1},
        {"price_per_second_nano": -1},
        {"memory_mib": 2**53},
        {"issued_us": -5},
        {"tags": ("t",) * 17},
        {"modules": ("m",) * (MAX_MODULES + 1)},
    ],
)
def test_values_out_of_range_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError, match="out of range"):
        read_card(changed(**fields), ME.peer_id)


def test_a_large_card_is_refused() -> None:
    with pytest.raises(ProtocolError, match="bytes"):
        read_card(changed(name="n" * MAX_CARD), ME.peer_id)


def test_a_damaged_card_is_refused() -> None:
    raw = bytearray(seal(ME, CARD))
    raw[-1] ^= 1
    with pytest.raises(ProtocolError, match="signature"):
        read_card(bytes(raw), ME.peer_id)
