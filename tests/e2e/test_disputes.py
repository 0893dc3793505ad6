"""A channel before its witnesses, between real processes: one side dies, then one lies with its own key."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest

from tests.support.net import NetNode, net_node
from tests.support.nodes import NodeProcess, eventually, zstui
from zstui.engine import commands as c
from zstui.engine import views as v
from zstui.engine.channels.disputes.messages import DisputeOpen, Opening
from zstui.engine.channels.messages import Close, OpenAccept, OpenConfirm, Pay, read, take
from zstui.engine.control import ControlClient
from zstui.engine.errors import Unreachable
from zstui.engine.home import Home
from zstui.engine.identity.envelope import seal
from zstui.engine.identity.keys import Identity, PeerId
from zstui.engine.net.link import DISPUTE_PROTOCOL

R = TypeVar("R")
HOUR = 3600
NAMES = ("payer", "worker", "judge1", "judge2", "judge3", "judge4")


@pytest.fixture
def six(tmp_path: Path) -> Iterator[list[NodeProcess]]:
    """Six nodes, all linked, whose clocks follow one file."""
    nodes: list[NodeProcess] = []
    try:
        for name in NAMES:
            known = [option for node in nodes for option in ("--peer", node.address)]
            executor = ("--executor",) if name != "payer" else ()
            node = NodeProcess(tmp_path / name, *executor, *known, mdns=False, start=False, clock=tmp_path / "clock")
            nodes.append(node)
            node.start()
        yield nodes
    finally:
        for node in nodes:
            node.kill()


def tell(node: NodeProcess, command: c.Command[R]) -> R:
    """Execute a command over the node's socket; a process for each would take longer than all the rest."""
    return asyncio.run(ControlClient(Home(node.home).socket).execute(command))


def form(nodes: list[NodeProcess], name: str) -> str:
    creator, *others = nodes
    guild = tell(creator, c.CreateGuild(name=name)).guild_id
    for node in others:
        eventually("guild", lambda node=node: any(g.guild_id == guild for g in tell(node, c.ListGuilds())))  # type: ignore[misc]
        tell(node, c.JoinGuild(guild=guild))
    for node in nodes:
        eventually("members", lambda node=node: _members(node, guild) == len(nodes))  # type: ignore[misc]
    for node in nodes[:2]:
        eventually("links", lambda node=node: tell(node, c.Status()).peers == len(nodes) - 1)  # type: ignore[misc]
    return guild


def linked(node: NodeProcess, other: NodeProcess) -> bool:
    """Whether they are linked now; dials if not. One that was killed holds up a new link until its old one is given up."""
    try:
        return tell(node, c.Connect(address=other.address)).state == "online"
    except Unreachable:
        return any(p.state == "online" for p in tell(node, c.ListPeers()) if p.peer_id == other.peer_id)


def _members(node: NodeProcess, guild: str) -> int:
    return next(len(g.members) for g in tell(node, c.ListGuilds()) if g.guild_id == guild)


def run_and_pay(payer: NodeProcess, worker: NodeProcess, guild: str) -> str:
    spec = c.JobSpec(module="hello", guild=guild, executor=worker.peer_id)
    job = tell(payer, c.WaitJob(job=tell(payer, c.SubmitJob(spec=spec)).job_id))
    request = eventually(
        "request", lambda: next((a for a in tell(payer, c.ListApprovals()) if a.job_id == job.job_id), None)
    )
    tell(payer, c.PayApproval(request=request.request_id))
    return job.job_id


def judge_the_output(payer: NodeProcess, worker: NodeProcess, job: str, folder: Path) -> None:
    """The witnesses run an honest job again, in real sandboxes, and confirm it; the verdict verifies anywhere."""
    case = tell(payer, c.DisputeOutput(job=job)).case_id
    for node in (payer, worker):
        eventually("verdict", lambda node=node: _state(node, case) == "rejected")  # type: ignore[misc]
    verdict = folder / "verdict.json"
    verdict.write_text(payer.run("channel", "verdict", case, "--json").stdout)
    done = zstui("channel", "verify", str(verdict))
    assert done.returncode == 0, done.stdout
    assert "witnesses signed it, 3 decide" in done.stdout


def _state(node: NodeProcess, case: str) -> str:
    return next((d.state for d in tell(node, c.ListDisputes()) if d.case_id == case), "unheard")


def closed(node: NodeProcess, channel: str) -> v.ChannelView:
    def probe() -> v.ChannelView | None:
        view = tell(node, c.ShowChannel(channel=channel))
        return view if view.state == "closed" else None

    return eventually("verdict", probe)


def pass_the_deadline(node: NodeProcess, channel: str, clock: Path, shift: int) -> None:
    eventually("deadline", lambda: tell(node, c.ShowDispute(channel=channel)).deadline_at)
    clock.write_text(str(shift))


def lie(payer: NodeProcess, channel: str, judges: list[NodeProcess]) -> None:
    """With the payer's key and records, file the first of its payments as if it were the last."""
    home = Home(payer.home)
    identity = Identity.load_or_create(home.key)
    id = bytes.fromhex(channel)
    rows = sqlite3.connect(home.database)
    first = rows.execute(
        "SELECT raw FROM channel_envelopes WHERE channel = ? AND direction = 0 AND seq = 1", (id,)
    ).fetchone()[0]
    documents = dict(rows.execute("SELECT kind, raw FROM channel_documents WHERE channel = ?", (id,)).fetchall())
    rows.close()
    accept, confirm = read(take(documents["accept"]), OpenAccept), read(take(documents["confirm"]), OpenConfirm)
    low = accept.params.pk_lo == identity.public_key
    opening = Opening(accept.params, *((confirm.sig, accept.sig) if low else (accept.sig, confirm.sig)))
    pay = read(take(first), Pay)
    claim = seal(identity, Close(id, 1, pay.cum, take(first).digest))
    filing = seal(identity, DisputeOpen(id, opening, (first, claim)))

    async def file() -> None:
        (payer.home / "liar").mkdir()
        async with net_node(payer.home / "liar", "liar", identity=identity) as node:
            for judge in judges:
                peer = await _connect(node, judge.address)
                answer = take(await node.net.request(peer, DISPUTE_PROTOCOL, filing, 10))
                assert answer.kind == "Taken", answer

    asyncio.run(file())


async def _connect(node: NetNode, address: str) -> PeerId:
    """Until the other has noticed that the process it knew under this key is gone."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await node.net.connect(address)
            except Unreachable:
                await asyncio.sleep(0.5)


def test_one_side_dies_then_one_lies(six: list[NodeProcess], tmp_path: Path) -> None:
    payer, worker, *judges = six
    clock = tmp_path / "clock"
    judge_the_output(payer, worker, run_and_pay(payer, worker, form(six, "first")), tmp_path)
    (channel,) = tell(payer, c.ListChannels())
    id = channel.channel_id
    assert (channel.witnesses, channel.witnesses_needed) == (4, 3)

    worker.kill()
    view = payer.ask("channel", "dispute", id)
    assert (view["state"], view["filed_by_me"]) == ("filed", True)
    judges[0].kill()
    judges[0].start()
    pass_the_deadline(payer, id, clock, 25 * HOUR)
    mine = closed(payer, id)
    assert mine.reason == "verdict"
    worker.start()
    theirs = closed(worker, id)
    assert (theirs.mine_u, theirs.theirs_u) == (mine.theirs_u, mine.mine_u)
    assert tell(worker, c.Status()).owed_to_me_u == tell(payer, c.Status()).i_owe_u == theirs.mine_u > 0
    assert "witnesses decided" in worker.run("channel", "verdict", id).stdout

    for judge in judges:
        eventually("link", lambda judge=judge: linked(worker, judge))  # type: ignore[misc]
    guild = form(six, "second")
    run_and_pay(payer, worker, guild)
    run_and_pay(payer, worker, guild)
    second = next(ch for ch in tell(payer, c.ListChannels()) if ch.state == "active")
    assert (second.epoch, second.witnesses) == (2, 4)
    id = second.channel_id
    payer.kill()
    lie(payer, id, judges)
    eventually("case", lambda: tell(worker, c.ShowDispute(channel=id)).state == "filed")
    honest = tell(worker, c.ShowChannel(channel=id)).mine_u
    pass_the_deadline(worker, id, clock, 51 * HOUR)
    end = closed(worker, id)
    assert (end.reason, end.mine_u) == ("verdict", honest)
    frauds = tmp_path / "frauds.json"
    frauds.write_text(worker.run("channel", "frauds", id, "--json").stdout)
    assert [f["kind"] for f in msgspec.json.decode(frauds.read_bytes())] == ["STALE_CLAIM"]
    done = zstui("channel", "verify", str(frauds))
    assert done.returncode == 0, done.stdout
    assert "It claimed to have made 1 payments" in done.stdout
    ranks = {r.peer_id: r.blacklisted_until for r in tell(worker, c.Rank())}
    assert ranks[str(payer.ready["peer_id"])]
