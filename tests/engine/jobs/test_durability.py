"""What a receipt speaks of survives a crash of the machine, and waits for no file to be synced."""

from __future__ import annotations

import os

import pytest

from tests.engine.jobs.rig import Guest, World, wasm
from zstui.engine.jobs.outputs import SMALL
from zstui.engine.jobs.retention import Retention


async def test_small_output_lost_by_a_crash_of_the_machine_is_written_again(world: World) -> None:
    alice, bob = await world.pair()
    done = await alice.run(bob)
    for peer in (alice, bob):
        await peer.kill()
        peer.jobs._room.outputs.path(done.job_id, "stdout").write_bytes(b"")  # its file was not durable yet
        await peer.start()
        assert (await peer.jobs.output(done.job_id)).stdout == b"hello\n"
        left = await peer.db.read(lambda tx: tx.execute("SELECT count(*) FROM job_output").fetchone())
        assert left == (0,)


async def test_outputs_beyond_the_limit_go_oldest_first_but_never_those_of_unpaid_jobs(world: World) -> None:
    alice, bob = await world.pair()
    bob.sandbox.guests[wasm("tool")] = Guest((b"x" * (300 << 10),))
    jobs = [(await alice.run(bob)).job_id for _ in range(4)]
    room = alice.jobs._room
    retention = Retention(room.records, room.outputs, 1)
    await retention.look()
    assert "take 1 of 1 MiB (outputs_mib)" in retention.notice()
    assert all(room.outputs.size(j, "stdout") for j in jobs), "none of them is paid"
    for job_id in jobs[1:]:
        await room.records.change(job_id, paid="paid", outcome="recorded")
    await retention.look()
    assert [bool(room.outputs.size(j, "stdout")) for j in jobs] == [True, False, True, True]
    assert (await alice.jobs.output(jobs[1])).why == "Its output is no longer stored here."
    assert (await alice.jobs.output(jobs[2])).why == retention.notice() == ""


async def test_only_large_output_is_synced_by_itself(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    alice, bob = await world.pair()
    await alice.run(bob)  # fetches the module
    synced: list[int] = []
    fsync = os.fsync

    def count(fd: int) -> None:
        synced.append(os.fstat(fd).st_size)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", count)
    await alice.run(bob)
    assert synced == []
    bob.sandbox.guests[wasm("tool")] = Guest((b"x" * (SMALL + 1),))
    await alice.run(bob)
    assert synced == [SMALL + 1] * 2
