from __future__ import annotations

import asyncio

from zstui.engine.channels.turns import Turns


async def test_turns_are_granted_in_order_and_the_first_at_once() -> None:
    turns, began = Turns(), list[int]()
    for number in range(3):
        turns.take(lambda number=number: began.append(number))  # type: ignore[misc]
    assert began == [0]
    turns.give()
    assert began == [0, 1]
    turns.give()
    turns.give()
    assert began == [0, 1, 2]
    assert not turns.taken


async def test_many_turns_that_end_at_once_need_no_deep_stack() -> None:
    turns, began = Turns(), list[int]()

    def start(number: int) -> None:
        began.append(number)
        turns.give()

    turns.take(lambda: None)
    for number in range(5_000):
        turns.take(lambda number=number: start(number))  # type: ignore[misc]
    turns.give()
    assert began == list(range(5_000))
    assert not turns.taken


async def test_a_task_cancelled_before_its_turn_or_as_it_begins_leaves_the_turn_to_the_next() -> None:
    turns, held = Turns(), list[str]()

    async def hold(name: str) -> None:
        async with turns.turn():
            held.append(name)

    for give_first in (False, True):
        turns.take(lambda: None)
        tasks = [asyncio.create_task(hold(name)) for name in ("cancelled", "next")]
        await asyncio.sleep(0)
        if give_first:
            turns.give()
        tasks[0].cancel()
        await asyncio.sleep(0)
        if not give_first:
            turns.give()
        await asyncio.wait(tasks)
        assert tasks[0].cancelled()
    assert held == ["next", "next"]
    assert not turns.taken
