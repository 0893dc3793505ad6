from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.channels.rig import line
from zstui.engine.channels.messages import Ack, Close, Pay
from zstui.engine.channels.state import (
    TRANSITIONS,
    Half,
    Judgement,
    Log,
    Move,
    State,
    balances,
    judge_ack,
    judge_close,
    judge_pay,
    next_pay,
    step,
)
from zstui.engine.errors import IllegalTransition

CHANNEL = b"c" * 32
START = Half.start(CHANNEL)


def digest(pay: Pay) -> bytes:
    return repr(pay).encode()[-32:].rjust(32)


@pytest.mark.parametrize(("state", "move"), list(itertools.product(State, Move)))
def test_every_move(state: State, move: Move) -> None:
    if (state, move) in TRANSITIONS:
        assert step(state, move) is TRANSITIONS[state, move]
    else:
        with pytest.raises(IllegalTransition, match=state.value):
            step(state, move)


def test_closed_is_final_and_all_states_end_there() -> None:
    assert not any(state is State.CLOSED for state, _ in TRANSITIONS)
    reached = {State.CLOSED}
    for _ in State:
        reached |= {state for (state, _), after in TRANSITIONS.items() if after in reached}
    assert reached == set(State)


def log_of(*halves: Half) -> Log:
    known = {half.seq: half for half in (START, *halves)}
    return known.get


def judge(pay: Pay, held: Half = START, log: Log = log_of(), deposit: int = 100) -> Judgement:  # noqa: B008
    return judge_pay(pay, digest(pay), held, lambda seq: None, log, deposit)


def pay(amount: int, out: Half = START, seen: Half = START) -> Pay:
    return next_pay(CHANNEL, out, seen, (line(amount),), 0)


def test_rules_in_order() -> None:
    first = pay(60)
    assert judge(first) is Judgement.ACCEPT
    held = START.after(first, digest(first))
    second = pay(40, held)
    assert judge(second, held) is Judgement.ACCEPT
    assert judge(second) is Judgement.GAP
    assert judge_pay(first, digest(first), held, lambda seq: digest(first), log_of(), 100) is Judgement.DUPLICATE
    assert judge_pay(pay(61), b"other", held, lambda seq: digest(first), log_of(), 100) is Judgement.FORK
    assert judge(pay(40, Half(1, 60, b"elsewhere")), held) is Judgement.FORK
    assert judge(pay(1, Half(0, 0, b"elsewhere"))) is Judgement.INVALID
    assert judge(pay(40, Half(1, 59, held.head)), held) is Judgement.INVALID
    assert judge(pay(1, START, Half(1, 5, b"never"))) is Judgement.FALSE_ACK
    assert judge(pay(1, START, Half(0, 1, CHANNEL))) is Judgement.FALSE_ACK
    assert judge(pay(41, held), held) is Judgement.OVERDRAFT


def test_solvency_is_decided_by_the_message_alone() -> None:
    mine = Half(3, 50, b"m" * 32)
    assert judge(pay(150, START, mine), log=log_of(mine)) is Judgement.ACCEPT
    assert judge(pay(151, START, mine), log=log_of(mine)) is Judgement.OVERDRAFT
    assert judge(pay(101), log=log_of(mine)) is Judgement.OVERDRAFT


def test_acks_and_closes() -> None:
    mine = Half(3, 50, b"m" * 32)
    log = log_of(mine)
    assert judge_ack(Ack(CHANNEL, 3, 50, mine.head), 0, log) is Judgement.ACCEPT
    assert judge_ack(Ack(CHANNEL, 3, 50, mine.head), 3, log) is Judgement.DUPLICATE
    assert judge_ack(Ack(CHANNEL, 3, 51, mine.head), 3, log) is Judgement.FALSE_ACK
    assert judge_ack(Ack(CHANNEL, 4, 51, b"x" * 32), 3, log) is Judgement.FALSE_ACK
    assert judge_close(Close(CHANNEL, 3, 50, mine.head), mine) is Judgement.ACCEPT
    assert judge_close(Close(CHANNEL, 4, 50, mine.head), mine) is Judgement.GAP
    assert judge_close(Close(CHANNEL, 2, 40, b"x" * 32), mine) is Judgement.FORK


@given(*[st.integers(0, 10**9)] * 4)
def test_balances_sum_to_the_deposits(dep_lo: int, dep_hi: int, cum_lo: int, cum_hi: int) -> None:
    assert sum(balances(dep_lo, dep_hi, cum_lo, cum_hi)) == dep_lo + dep_hi
