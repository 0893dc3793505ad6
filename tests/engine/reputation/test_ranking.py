from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from zstui.engine.reputation.ranking import Ranking

peers = st.sampled_from([f"peer{i}" for i in range(12)])
keys = st.floats(-5000, 5000)
steps = st.lists(st.tuples(peers, st.none() | keys), max_size=60)


@given(steps)
def test_order_equals_sorting_anew_after_every_change(changes: list[tuple[str, float | None]]) -> None:
    ranking, plain = Ranking(), dict[str, float]()
    for peer, key in changes:
        if key is None:
            ranking.drop(peer)
            plain.pop(peer, None)
        else:
            ranking.put(peer, key)
            plain[peer] = key
        expected = sorted(plain, key=lambda p: (-plain[p], p))
        assert list(ranking) == expected
        assert len(ranking) == len(plain)
        for n in (0, 1, 3, 99):
            assert ranking.top(n) == expected[:n]
        for position, ranked in enumerate(expected, 1):
            assert ranking.position(ranked) == position
    assert ranking.position("nobody") is None


def test_a_peer_is_found_without_walking_past_the_others() -> None:
    ranking = Ranking()
    for i in range(50_000):
        ranking.put(f"p{i}", float(i))
    assert ranking.top(3) == ["p49999", "p49998", "p49997"]
    assert ranking.position("p0") == 50_000
