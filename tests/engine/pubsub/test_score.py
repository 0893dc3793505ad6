"""The peer score, part by part, and the bounded tables behind it."""

from __future__ import annotations

import pytest

from zstui.engine.clock import US
from zstui.engine.pubsub.cache import History, Seen
from zstui.engine.pubsub.limits import Buckets
from zstui.engine.pubsub.model import Message, ScoreParams, TopicScore, Verdict
from zstui.engine.pubsub.score import PeerScores

BARE = TopicScore(time_weight=0, first_weight=0, invalid_weight=0)


def scores(topic: TopicScore, params: ScoreParams | None = None, app: float = 0.0) -> PeerScores:
    made = PeerScores(params or ScoreParams(), {"t": topic}, lambda peer: app, 60 * US, 100)
    made.add("p", "")
    made.refresh(0)
    return made


def test_p1_time_in_the_mesh_up_to_its_cap() -> None:
    s = scores(TopicScore(time_weight=0.5, time_cap=10))
    s.graft("p", "t", 0)
    s.refresh(4 * US)
    assert s.score("p") == pytest.approx(2)
    s.refresh(100 * US)
    assert s.score("p") == pytest.approx(5)
    s.prune("p", "t")
    assert s.score("p") == 0


def test_p2_first_deliveries_decay_and_are_capped() -> None:
    s = scores(TopicScore(time_weight=0, first_weight=2, first_decay=0.5, first_cap=3))
    for number in range(5):
        s.judged("p", "t", b"%d" % number, Verdict.ACCEPT, 0)
    assert s.score("p") == pytest.approx(6)
    s.refresh(2 * US)
    assert s.score("p") == pytest.approx(1.5)
    s.refresh(60 * US)
    assert s.score("p") == 0, "what is nearly nothing is nothing"


def test_p3_too_few_messages_after_a_while_in_the_mesh_and_p3b_remembers_it() -> None:
    topic = TopicScore(
        time_weight=0,
        first_weight=0,
        mesh_weight=-1,
        mesh_threshold=4,
        mesh_decay=0.999,
        mesh_activation_us=10 * US,
        mesh_window_us=1000,
        failure_weight=-1,
        failure_decay=0.9,
    )
    s = scores(topic)
    s.graft("p", "t", 0)
    s.judged("p", "t", b"1", Verdict.ACCEPT, 0)
    s.judged("q", "t", b"2", Verdict.ACCEPT, 0)
    s.duplicate("p", "t", b"2", 900)
    s.judged("q", "t", b"3", Verdict.ACCEPT, 0)
    s.duplicate("p", "t", b"3", 1100)
    s.refresh(10 * US)
    assert s.score("p") == 0, "not yet"
    s.refresh(11 * US)
    assert s.score("p") == pytest.approx(-4, abs=0.2), "two of four came, one of them nearly first, one too late"
    s.prune("p", "t")
    assert s.score("p") == pytest.approx(-4, abs=0.2)
    s.refresh(18 * US)
    assert -2.5 < s.score("p") < -1.5


def test_p4_grows_with_the_square_and_falls_on_all_who_bring_it() -> None:
    s = scores(TopicScore(time_weight=0, first_weight=0, invalid_weight=-10))
    s.add("q", "")
    s.judged("p", "t", b"1", Verdict.REJECT, 0)
    s.duplicate("q", "t", b"1", 5)
    s.duplicate("q", "t", b"1", 6)
    s.judged("p", "t", b"2", Verdict.REJECT, 0)
    s.judged("p", "t", b"3", Verdict.IGNORE, 0)
    s.duplicate("q", "t", b"3", 5)
    assert s.score("p") == pytest.approx(-40)
    assert s.score("q") == pytest.approx(-10), "once for one message"


def test_good_topics_are_capped_and_p5_counts_beside_them() -> None:
    s = scores(
        TopicScore(time_weight=0, first_weight=100, first_cap=100), ScoreParams(topic_cap=50, app_weight=2), app=3
    )
    for number in range(5):
        s.judged("p", "t", b"%d" % number, Verdict.ACCEPT, 0)
    assert s.score("p") == pytest.approx(56)
    assert s.score("nobody") == 0


def test_p7_forgives_some_and_then_grows_with_the_square() -> None:
    s = scores(BARE, ScoreParams(behaviour_decay=0.5))
    s.penalize("p", 6)
    assert s.score("p") == 0
    s.penalize("p", 4)
    assert s.score("p") == pytest.approx(-160)
    s.refresh(US)
    assert s.score("p") == 0


def test_a_bad_score_outlives_the_link_and_a_good_one_does_not() -> None:
    s = scores(BARE, ScoreParams(retain_us=100 * US, max_retained=2))
    s.penalize("p", 20)
    bad = s.score("p")
    s.remove("p", 0)
    s.refresh(50 * US)
    s.add("p", "")
    assert s.score("p") == bad, "coming back does not make it good"
    s.remove("p", 50 * US)
    s.refresh(151 * US)
    assert s.score("p") == 0
    for name in ("a", "b", "c"):
        s.add(name, "")
        s.penalize(name, 20)
        s.remove(name, 200 * US)
    assert [s.score(name) < 0 for name in ("a", "b", "c")] == [False, True, True]


def test_buckets_give_a_burst_and_then_a_rate_and_forget_the_longest_unused() -> None:
    buckets: Buckets[str] = Buckets(3, 0.5, limit=2)
    assert [buckets.take("a", 0) for _ in range(4)] == [True, True, True, False]
    assert buckets.wait_us("a", 0) == pytest.approx(2 * US, abs=2)
    assert not buckets.take("a", US)
    assert buckets.take("a", 2 * US)
    assert buckets.wait_us("b", 0) == 0
    for key in ("b", "c"):
        buckets.take(key, 3 * US)
    assert len(buckets) == 2
    assert buckets.take("a", 3 * US), "as new"


def test_seen_messages_are_forgotten_by_time_and_number() -> None:
    seen = Seen(10, 2)
    assert [seen.add(b"a", 0), seen.add(b"a", 1), seen.add(b"b", 5)] == [True, False, True]
    seen.expire(10)
    assert [i in seen for i in (b"a", b"b")] == [False, True]
    seen.add(b"c", 6)
    seen.add(b"d", 7)
    assert [i in seen for i in (b"b", b"c", b"d")] == [False, True, True]


def test_the_history_keeps_a_message_some_heartbeats_and_tells_of_it_fewer() -> None:
    history = History(3, 2)
    message = Message(b"me", b"1", "t", b"data")
    history.put(message)
    history.put(message)
    assert history.recent("t") == [message.id]
    assert history.recent("u") == []
    history.shift()
    history.shift()
    assert history.recent("t") == []
    assert history.give(message.id, "p") == (message, 1)
    assert history.give(message.id, "p") == (message, 2)
    assert history.give(message.id, "q") == (message, 1)
    history.shift()
    assert history.give(message.id, "p") is None
    assert len(history) == 0
