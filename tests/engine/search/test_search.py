from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from zstui.engine.bus import Bus
from zstui.engine.events import PeerChanged
from zstui.engine.identity.card import Card
from zstui.engine.jobs.cid import cid_of_digest
from zstui.engine.search import index as index_module
from zstui.engine.search.embedding import DIMENSIONS, card_words, embed, query_words
from zstui.engine.search.index import CapabilityIndex, exact
from zstui.engine.search.service import PeerSearch
from zstui.engine.search.words import WordIndex


def card(name: str, *tags: str, cores: int = 2, memory: int = 128, executor: bool = True) -> Card:
    return Card(name, executor, cores, memory, 30, 1, 1, tags, 0)


@given(st.lists(st.text(max_size=40), max_size=20))
def test_a_vector_has_length_one_and_is_the_same_again(words: list[str]) -> None:
    vector = embed(words)
    assert len(vector) == DIMENSIONS
    length = math.sqrt(sum(x * x for x in vector))
    assert length == 0 or math.isclose(length, 1)
    assert embed(words) == vector


@given(st.text(max_size=500))
def test_any_query_is_bounded(text: str) -> None:
    assert len(query_words(text)) <= 64


def test_figures_meet_in_steps_of_two() -> None:
    assert "cores8" in query_words("8 cores, please")
    assert "cores8" in card_words(card("x", cores=12))
    assert "memory64" in query_words("64 MiB")


async def test_the_peer_that_offers_it_comes_first_and_follows_its_card() -> None:
    bus = Bus()
    cards = {
        "a": card("north", "gpu", "render"),
        "b": card("south", "archive", cores=8),
        "c": card("east", executor=False),
    }
    search = PeerSearch(bus, known=lambda: list(cards), card_of=cards.get)
    await search.start()
    assert search.like("rendering on a gpu")[0][0] == "a"
    assert search.like("8 cores")[0][0] == "b"
    assert search.like("") == []
    cards["c"] = card("east", "gpu", "gpu", "render", "rendering")
    del cards["a"]
    for peer in ("a", "c"):
        bus.publish(PeerChanged(peer))
    await search.stop()
    assert next(peer for peer, _ in search.like("gpu render")) == "c"
    assert "a" not in dict(search.like("gpu render"))


async def test_the_index_finds_what_an_exact_search_finds() -> None:
    chance = random.Random(7)
    words = [f"word{n}" for n in range(400)]
    vectors = {f"k{n:05}": embed(chance.sample(words, 6)) for n in range(3_000)}
    index = CapabilityIndex()
    for key, vector in vectors.items():
        index.put(key, vector)
    await index.settled()
    assert index._annoy is not None
    assert len(index._fresh) <= max(index_module.EXACT_UP_TO, len(vectors) // 100)
    found = wanted = 0
    for _ in range(30):
        query = embed(chance.sample(words, 6))
        want = set(exact(vectors, query, 10))
        found += len(want & {key for key, _ in index.search(query, 10)})
        wanted += 10
    assert found / wanted >= 0.95
    best = index.search(vectors["k00042"], 1)
    assert best[0][0] == "k00042"
    index.remove("k00042")
    assert index.search(vectors["k00042"], 1)[0][0] != "k00042"
    await index.stop()


async def test_equal_vectors_come_in_the_order_of_their_keys() -> None:
    index = CapabilityIndex()
    for key in ("c", "a", "b"):
        index.put(key, embed(["gpu"]))
    assert [key for key, _ in index.search(embed(["gpu"]), 3)] == ["a", "b", "c"]


KEYS = st.sampled_from("abcdefghij")
SAID = st.lists(st.sampled_from(["gpu", "render", "berlin", "ryzen", "cores8"]), max_size=5)


@given(st.lists(st.tuples(KEYS, st.none() | SAID), max_size=40), SAID, st.integers(1, 12), st.sampled_from([0, 2, 512]))
def test_the_cards_that_say_most_of_the_words_are_found(
    changes: list[tuple[str, list[str] | None]], words: list[str], count: int, rare: int
) -> None:
    """Against reading every card, with words as sets, as bitmaps, and on the way from one to the other."""
    index, cards = WordIndex(rare), dict[str, set[str]]()
    for key, spoken in changes:
        if spoken is None:
            index.remove(key)
            cards.pop(key, None)
        else:
            index.put(key, spoken)
            cards[key] = set(spoken)
    want = sorted((len(spoken & set(words)) for spoken in cards.values() if spoken & set(words)), reverse=True)
    found = index.most(words, count)
    assert len(set(found)) == len(found)
    assert [len(cards[key] & set(words)) for key in found] == want[:count]
    assert [index.said(key, set(words)) for key in found] == want[:count]


def test_many_cards_with_the_same_word_are_all_found() -> None:
    index = WordIndex()
    for n in range(2_000):
        index.put(f"k{n}", ["executor", f"n{n}"])
    assert len(index.most(["executor"], 5_000)) == 2_000
    assert index.most(["executor", "n1777"], 2)[0] == "k1777"
    assert index.most(["nobody", "says"], 5) == []


async def test_hardware_region_and_modules_are_found_and_typing_errors_forgiven() -> None:
    cid = cid_of_digest(bytes(range(32)))
    cards = {
        "pi": replace(card("attic"), hardware="Raspberry Pi 4", region="Oslo"),
        "amd": replace(card("rack"), hardware="AMD Ryzen 7 5800X", region="Berlin", modules=(cid,)),
        **{f"other{n}": replace(card(f"box-{n}"), hardware="Intel N100", region="Lagos") for n in range(20)},
    }
    search = PeerSearch(Bus(), known=lambda: list(cards), card_of=cards.get)
    await search.start()
    for text, peer in (("raspbery pi", "pi"), ("5800x", "amd"), ("oslo", "pi"), (f"who has {cid}", "amd")):
        assert search.like(text)[0][0] == peer, text
    assert all(0 < similarity <= 1 for _, similarity in search.like("ryzen berlin executor"))
    await search.stop()


async def test_a_query_looks_at_no_more_than_so_many_vectors_while_the_first_index_is_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(index_module, "EXACT_MOST", 50)
    index = CapabilityIndex()
    index.hold()
    for n in range(300):
        index.put(f"k{n:03}", embed([f"word{n}"]))
    found = {key for key, _ in index.search(embed(["word299"]), 300)}
    assert found == {f"k{n:03}" for n in range(250, 300)}
    index.release()
    await index.settled()
    index.put("k007", embed(["newest"]))
    assert index.search(embed(["newest"]), 1)[0][0] == "k007"
    assert index.search(embed(["word3"]), 1)[0][0] == "k003"
    await index.stop()


async def test_an_index_that_was_held_back_catches_up() -> None:
    index = CapabilityIndex()
    index.hold()
    for n in range(1_000):
        index.put(f"k{n}", embed([f"word{n}"]))
    assert index._building is None
    index.release()
    index.put("late", embed(["late"]))
    await index.settled()
    assert index._fresh.keys() <= {"late"}
    assert index.search(embed(["late"]), 1)[0][0] == "late"
    await index.stop()
