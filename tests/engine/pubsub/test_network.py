"""Networks of gossipsub routers in virtual time: what reaches whom, and what becomes of those who misbehave."""

from __future__ import annotations

import msgspec
import pytest

from tests.support.gossip_sim import TOPIC, Sim, identity
from zstui.engine.clock import US
from zstui.engine.identity.keys import PeerId
from zstui.engine.pubsub.messages import FLOODSUB, GOSSIPSUB_10, IHave, Prune, Rpc, sign
from zstui.engine.pubsub.model import Params, ScoreParams, TopicScore


@pytest.fixture(scope="module")
def settled() -> Sim:
    """100 nodes that dialed 8 others each, a while after."""
    sim = Sim(100, 8)
    sim.run(8)
    return sim


def test_every_message_reaches_every_node(settled: Sim) -> None:
    before, began = settled.sent, settled.now_us
    words = [f"word {number}".encode() for number in range(10)]
    for number, word in enumerate(words):
        settled.publish(number * 9, word)
        settled.run(0.2)
    settled.run(3)
    assert [settled.missing(word) for word in words] == [[]] * 10
    latest = max(settled.got[peer][word] for peer in settled.peers for word in words)
    assert latest - began < 3 * US, "through the meshes, without waiting for gossip"
    assert settled.sent - before < 10 * 100 * 12, "each node sends each message to its mesh only"


def test_meshes_keep_to_their_bounds_and_are_mutual(settled: Sim) -> None:
    p = Params()
    for peer in settled.peers:
        mesh = settled.mesh(peer)
        assert p.d_lo <= len(mesh) <= p.d_hi
        assert sum(peer in settled.mesh(other) for other in mesh) >= len(mesh) - 1, "but for what is under way"


def test_a_line_carries_messages_from_end_to_end() -> None:
    sim = Sim(5, 0)
    for one, other in zip(sim.peers, sim.peers[1:], strict=False):
        sim.connect(one, other)
    sim.run(3)
    sim.publish(0, b"from the left")
    sim.publish(4, b"from the right")
    sim.run(1)
    assert sim.missing(b"from the left") == sim.missing(b"from the right") == []


def test_gossip_recovers_what_the_mesh_lost() -> None:
    sim = Sim(30, 6)
    sim.run(5)
    victim = sim.peers[7]

    def lose(sender: PeerId, receiver: PeerId, rpc: Rpc) -> Rpc | None:
        asked_for = victim in wanted.get(sender, ())
        return msgspec.structs.replace(rpc, messages=()) if receiver == victim and not asked_for else rpc

    wanted: dict[PeerId, set[PeerId]] = {}

    def watch(sender: PeerId, receiver: PeerId, rpc: Rpc) -> Rpc | None:
        if rpc.iwant and sender == victim:
            wanted.setdefault(receiver, set()).add(victim)
        return lose(sender, receiver, rpc)

    sim.lose = watch
    sim.publish(0, b"lost on the way")
    sim.run(0.5)
    assert sim.missing(b"lost on the way") == [victim]
    sim.run(4)
    assert sim.missing(b"lost on the way") == []
    assert wanted, "it asked for what it was told of"


def test_what_was_published_while_alone_is_told_to_who_comes_within_moments() -> None:
    """Being taken into the mesh does not make a newcomer miss what it would else be told of."""
    sim = Sim(2, 0)
    sim.publish(0, b"alone")
    sim.connect(*sim.peers)
    sim.run(3)
    assert sim.missing(b"alone") == []


def test_who_sends_invalid_messages_is_pruned_and_then_not_heard() -> None:
    sim = Sim(20, 5)
    sim.run(3)
    spammer = sim.peers[3]
    sim.silent.add(spammer)
    victims = [peer for peer in sim.peers if frozenset((peer, spammer)) in sim.links]
    assert any(spammer in sim.mesh(peer) for peer in victims)
    for number in range(8):
        message = sign(identity(4), 1000 + number, TOPIC, b"bad %d" % number)
        for victim in victims:
            sim.send(spammer, victim, Rpc(messages=(message,)))
        sim.run(1.2)
    assert not any(spammer in sim.mesh(peer) for peer in sim.peers)
    assert all(not sim.routers[peer].hears(spammer) for peer in victims)
    innocent = [peer for peer in sim.peers if peer != spammer]
    assert all(sim.routers[a].scores.score(b) >= 0 for a in innocent for b in innocent), "nobody passed it on"
    sim.publish(0, b"as ever")
    sim.run(2)
    assert sim.missing(b"as ever", but=[spammer]) == []


def test_a_forged_signature_counts_against_its_bringer_and_hides_nothing() -> None:
    sim = Sim(3, 2)
    sim.run(2)
    bringer, victim = sim.peers[0], sim.peers[1]
    genuine = sign(identity(3), 77, TOPIC, b"genuine")
    forged = msgspec.structs.replace(genuine, data=b"forged")
    sim.send(bringer, victim, Rpc(messages=(forged,)))
    sim.run(0.2)
    assert b"forged" not in sim.got[victim]
    assert sim.routers[victim].scores.score(bringer) < 0
    sim.send(sim.peers[2], victim, Rpc(messages=(genuine,)))
    sim.run(0.2)
    assert b"genuine" in sim.got[victim], "the id of a forged message is not taken as seen"


def test_a_flood_is_dropped_and_its_sender_graylisted_while_relays_stay_in_good_standing() -> None:
    sim = Sim(12, 4)
    sim.run(3)
    flooder = sim.peers[5]
    victim = next(peer for peer in sim.peers if frozenset((peer, flooder)) in sim.links)
    for start in range(0, 1000, 100):
        flood = tuple(sign(identity(6), 5000 + start + n, TOPIC, b"flood %d" % (start + n)) for n in range(100))
        sim.send(flooder, victim, Rpc(messages=flood))
    sim.run(3)
    assert not sim.routers[victim].hears(flooder)
    assert len(sim.got[victim]) <= Params().message_burst + Params().messages_per_s
    honest = [peer for peer in sim.peers if peer not in (victim, flooder)]
    assert all(sim.routers[peer].scores.score(victim) >= 0 for peer in honest), (
        "it passed on no more than is put up with"
    )


def test_grafts_in_the_backoff_are_refused_and_counted() -> None:
    sim = Sim(2, 1)
    sim.run(2)
    me, pest = sim.peers
    sim.silent.add(pest)
    answers: list[Prune] = []

    def watch(sender: PeerId, receiver: PeerId, rpc: Rpc) -> Rpc | None:
        answers.extend(rpc.prune if sender == me else ())
        return rpc

    sim.lose = watch
    sim.send(pest, me, Rpc(prune=(Prune(TOPIC, 60),)))
    sim.run(0.1)
    assert pest not in sim.mesh(me)
    for _ in range(30):
        sim.send(pest, me, Rpc(graft=(TOPIC,)))
        sim.run(0.1)
    assert pest not in sim.mesh(me)
    assert answers
    assert all(prune == Prune(TOPIC, 60) for prune in answers)
    assert not sim.routers[me].hears(pest), "60 slips"


def test_the_backoff_that_a_peer_asks_for_is_respected_and_then_over() -> None:
    sim = Sim(2, 1)
    sim.run(2)
    me, other = sim.peers
    sim.silent.add(other)
    sim.send(other, me, Rpc(prune=(Prune(TOPIC, 5),)))
    sim.run(6)
    assert other not in sim.mesh(me), "nobody else is there, and still it is left alone"
    sim.run(5)
    assert other in sim.mesh(me)
    sim.send(other, me, Rpc(prune=(Prune(TOPIC, 2**62),)))
    sim.run(3700)
    assert other in sim.mesh(me), "nobody is locked out for ever"


def test_a_full_mesh_takes_no_more_inbound_peers_and_keeps_those_it_dialed() -> None:
    sim = Sim(40, 0)
    me = sim.peers[0]
    for peer in sim.peers[1:4]:
        sim.connect(me, peer)
    for peer in sim.peers[4:]:
        sim.connect(peer, me)
    sim.run(10)
    mesh = sim.mesh(me)
    assert len(mesh) <= Params().d_hi
    assert len(mesh & set(sim.peers[1:4])) >= Params().d_out, "strangers who dial in do not take over"


def test_offers_that_are_not_kept_count_against_their_sender() -> None:
    sim = Sim(2, 1)
    sim.run(2)
    me, liar = sim.peers
    sim.silent.add(liar)
    asked: list[int] = []

    def watch(sender: PeerId, receiver: PeerId, rpc: Rpc) -> Rpc | None:
        asked.append(len(rpc.iwant) if sender == me else 0)
        return rpc

    sim.lose = watch
    for beat in range(12):
        for number in range(15):
            ids = tuple(b"%d/%d/%d" % (beat, number, n) for n in range(400))
            sim.send(liar, me, Rpc(ihave=(IHave(TOPIC, ids),)))
        sim.run(1)
    assert sum(asked) <= 13 * Params().max_ihave
    assert sim.routers[me].scores.score(liar) < -500, "its offers are not heard any more"


def test_a_message_is_given_to_one_peer_a_few_times_only() -> None:
    sim = Sim(2, 1)
    sim.run(2)
    me, greedy = sim.peers
    message = sim.publish(0, b"mine")
    sim.run(0.2)
    before = sim.sent
    for _ in range(20):
        sim.send(greedy, me, Rpc(iwant=(message.id, message.id)))
    sim.run(0.3)
    assert sim.sent - before == Params().retransmissions


def test_peers_of_older_protocols_are_served() -> None:
    sim = Sim(4, 0)
    me, plain, old, modern = sim.peers
    sim.connect(me, plain, FLOODSUB)
    sim.connect(me, old, GOSSIPSUB_10)
    sim.connect(me, modern)
    sim.run(3)
    assert sim.mesh(me) == {old, modern}
    for number in range(4):
        sim.publish(number, b"by %d" % number)
    sim.run(2)
    assert all(sim.missing(b"by %d" % number) == [] for number in range(4))
    prunes: list[tuple[PeerId, Prune]] = []

    def watch(sender: PeerId, receiver: PeerId, rpc: Rpc) -> Rpc | None:
        prunes.extend((receiver, prune) for prune in rpc.prune)
        return rpc

    sim.lose = watch
    sim.routers[me].unsubscribe(TOPIC, sim.now_us)
    sim.flush(me)
    assert dict(prunes) == {old: Prune(TOPIC), modern: Prune(TOPIC, 10)}, "1.0 knows no backoff in it"
    sim.run(1)
    assert me not in sim.mesh(old)


def test_who_only_publishes_reaches_all_and_tells_of_it() -> None:
    sim = Sim(20, 5)
    sim.run(3)
    sim.routers[sim.peers[0]].unsubscribe(TOPIC, sim.now_us)
    sim.flush(sim.peers[0])
    sim.run(2)
    sim.publish(0, b"from outside")
    sim.run(2)
    assert sim.missing(b"from outside") == []


def test_a_mesh_that_does_little_is_improved_by_better_peers() -> None:
    """Eight peers fill a mesh and say nothing; later one comes that brings messages."""
    sim = Sim(10, 0, params=Params(opportunistic_every=5), topic_score=TopicScore(time_weight=0.0))
    me, good, *lazy = sim.peers
    for peer in lazy:
        sim.connect(peer, me)
        sim.silent.add(peer)
        sim.send(peer, me, Rpc(subscriptions=((True, TOPIC),), graft=(TOPIC,)))
    sim.run(2)
    assert len(sim.mesh(me)) >= Params().d
    sim.connect(good, me)
    sim.silent.add(good)
    sim.send(good, me, Rpc(subscriptions=((True, TOPIC),)))
    for number in range(3):
        sim.send(good, me, Rpc(messages=(sign(identity(2), 900 + number, TOPIC, b"news %d" % number),)))
    sim.run(6)
    assert good in sim.mesh(me)


def test_peers_in_one_place_are_worth_less_the_more_they_are() -> None:
    sim = Sim(20, 0)
    me = sim.peers[0]
    for peer in sim.peers[1:]:
        sim.connect(peer, me, ip="10.1.2.3")
    surplus = 19 - ScoreParams().colocation_threshold
    assert sim.routers[me].scores.score(sim.peers[1]) == pytest.approx(-50 * surplus**2)
    for peer in sim.peers[1:10]:
        sim.cut(peer, me)
    assert sim.routers[me].scores.score(sim.peers[12]) == 0
