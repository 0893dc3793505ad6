"""Whatever happens in whatever order: automatic spending stays inside its grant, and nothing is paid twice."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.engine.channels.approvals.support import UNIT, Rig
from zstui.engine.clock import US
from zstui.engine.errors import ZsError

DAY_U, PEER_DAY_U = 20 * UNIT, 8 * UNIT
peers = st.sampled_from(["south", "north"])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), peers, st.integers(1, 6 * UNIT)),
        st.tuples(st.just("burst"), peers, st.integers(1, 6 * UNIT)),
        st.tuples(st.just("wait"), peers, st.integers(0, 30)),
        st.tuples(st.just("pay"), peers, st.integers(0, 5)),
        st.tuples(st.just("reject"), peers, st.integers(0, 5)),
        st.tuples(st.just("reopen"), peers, st.integers(0, 5)),
        st.tuples(st.just("regrant"), peers, st.just(0)),
        st.tuples(st.just("refuse"), peers, st.just(0)),
        st.tuples(st.just("online"), peers, st.just(0)),
        st.tuples(st.just("restart"), peers, st.just(0)),
    ),
    max_size=30,
)


@given(steps)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rolling_spend_stays_inside_the_grants_and_each_request_is_paid_once(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, int]]
) -> None:
    async def regrant(rig: Rig) -> None:
        await rig.service.set_grant("node", per_payment_u=5 * UNIT, per_day_u=DAY_U, total_u=60 * UNIT)
        await rig.service.set_grant("peer", "south", per_payment_u=4 * UNIT, per_day_u=PEER_DAY_U, total_u=60 * UNIT)

    async def act(rig: Rig, step: str, peer: str, number: int) -> None:
        owed = rig.service.views()
        chosen = owed[number % len(owed)].request_id if owed else ""
        match step:
            case "add":
                await rig.service.add(rig.request(number, peer))
            case "burst":
                await asyncio.gather(*(rig.service.add(rig.request(number, peer)) for _ in range(4)))
            case "wait":
                rig.clock._now += number * 3600 * US
            case "regrant":
                await regrant(rig)
            case "refuse":
                rig.refuse = None if rig.refuse else ZsError("refused")
            case "online":
                rig.online = not rig.online
            case "restart":
                await rig.restart()
            case "pay" if chosen:
                results = await asyncio.gather(
                    *(rig.service.pay(chosen, None, True) for _ in range(2)), return_exceptions=True
                )
                assert sum(not isinstance(r, BaseException) for r in results) <= 1
                assert all(isinstance(r, ZsError) for r in results if isinstance(r, BaseException))
            case "reject" | "reopen" if chosen:
                with contextlib.suppress(ZsError):
                    await getattr(rig.service, step)(chosen)

    async def check(rig: Rig) -> None:
        rows = await rig.db.read(
            lambda tx: tx.execute(
                "SELECT debited_us, peer_id, amount_u FROM approval_request WHERE automatic = 1 ORDER BY debited_us"
            ).fetchall()
        )
        for start, _, _ in rows:
            window = [(peer, amount) for at, peer, amount in rows if start <= at < start + 86_400 * US]
            assert sum(amount for _, amount in window) <= DAY_U
            assert sum(amount for peer, amount in window if peer == "south") <= PEER_DAY_U
            assert all(amount <= (4 if peer == "south" else 5) * UNIT for peer, amount in window)
        signed = await rig.db.read(
            lambda tx: tx.execute("SELECT count(*) FROM approval_request WHERE debited_us IS NOT NULL").fetchone()[0]
        )
        log = await rig.paid()
        assert len(log) == signed
        refs = await rig.db.read(lambda tx: tx.execute("SELECT count(DISTINCT ref) FROM test_pay").fetchone()[0])
        assert refs == len(log)
        for grant in rig.service.policy().grants:
            assert grant.spent_day_u <= grant.per_day_u
            assert grant.spent_total_u <= grant.total_u
        owed = await rig.db.read(
            lambda tx: tx.execute("SELECT count(*) FROM approval_request WHERE state != 'paid'").fetchone()[0]
        )
        assert len(rig.service.views()) == owed

    async def run() -> None:
        rig = Rig(tmp_path_factory.mktemp("approvals") / "z.db")
        await rig.start()
        try:
            await regrant(rig)
            for step, peer, number in steps:
                await act(rig, step, peer, number)
                await check(rig)
        finally:
            await rig.stop()

    asyncio.run(run())
