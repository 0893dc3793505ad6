from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from zstui.engine import events as e
from zstui.engine import pages
from zstui.engine.bus import Bus
from zstui.engine.config import Settings
from zstui.engine.telemetry import MAX_LABELS, Telemetry

NAMED: dict[str, set[str]] = {
    "guild_creations_total": set(),
    "guild_members": {"guild_id"},
    "guild_lifetime_seconds_count": {"reason"},
    "guild_join_latency_count": set(),
    "wasm_executions_total": {"status"},
    "wasm_execution_duration_seconds_count": {"status"},
    "wasm_memory_usage_bytes": {"module"},
    "wasm_active_executions": set(),
    "payment_channels_opened_total": set(),
    "payment_channels_closed_total": {"reason"},
    "payment_channel_balance": {"channel_id", "party"},
    "payment_payments_processed_total": {"status"},
    "payment_amount_total": set(),
    "reputation_score": {"peer_id"},
    "reputation_tasks_executed_total": {"peer_id", "success"},
    "reputation_trust_events_total": {"event_type"},
    "reputation_blacklisted_peers": set(),
}
"""Every metric that dashboards are built on, with its labels."""

Samples = dict[tuple[str, tuple[str, ...]], float]


async def ask(address: str, request: bytes) -> tuple[str, bytes]:
    """Head and body of the answer to raw bytes."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(request)
        answer = await asyncio.wait_for(reader.read(), 20)
    finally:
        writer.close()
        await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.decode(), body


async def get(address: str, path: str) -> tuple[str, str]:
    head, body = await ask(address, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return head, body.decode()


class Rig:
    def __init__(self) -> None:
        self.bus = Bus()
        self.guilds: dict[str, int] = {}
        self.balances: dict[str, tuple[int, int]] = {}
        self.scores: dict[str, float] = {}
        self.wrong = ""
        self.made: list[Telemetry] = []

    async def start(self, metrics: str | None = "127.0.0.1:0") -> Telemetry:
        telemetry = Telemetry(
            self.bus,
            CollectorRegistry(),
            Settings(home=Path("unused"), metrics=metrics),
            guild_sizes=lambda: self.guilds,
            channel_balances=lambda: self.balances,
            scores=lambda: self.scores,
            blacklisted=lambda: 3,
            health=lambda: self.wrong,
        )
        self.made.append(telemetry)
        await telemetry.start()
        return telemetry

    async def counted(self) -> None:
        """Wait until every event published so far is counted."""
        for _ in range(1000):
            if not self.made[0]._events._queue:
                return
            await asyncio.sleep(0.005)
        raise TimeoutError

    async def samples(self) -> Samples:
        await self.counted()
        head, body = await get(self.made[0].address, "/metrics")
        assert head.startswith("HTTP/1.0 200 OK")
        return {
            (sample.name, tuple(sample.labels.values())): sample.value
            for family in text_string_to_metric_families(body)
            for sample in family.samples
        }


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    yield rig
    for telemetry in rig.made:
        await telemetry.stop()


def publish_one_of_each(rig: Rig) -> None:
    for event in (
        e.GuildCreated("g1"),
        e.GuildJoined("g1", 20_000),
        e.GuildEnded("g1", "expired", 3_600_000_000),
        e.ExecutionStarted("j1"),
        e.ExecutionFinished("j1", "cid1", "success", 250_000, 50 << 20),
        e.ChannelOpened("c1"),
        e.ChannelClosed("c1", "cooperative"),
        e.PaymentProcessed("c1", "sent", 12_500_000),
        e.OutcomeRecorded("p1", True, 0.9),
        e.TrustEvent("p1", "blacklisted"),
    ):
        rig.bus.publish(event)
    rig.guilds["g1"] = 7
    rig.balances["c1"] = (84_250_000, 15_750_000)
    rig.scores["p1"] = 0.91


async def test_every_metric_is_there_under_its_name_and_labels(rig: Rig) -> None:
    telemetry = await rig.start()
    publish_one_of_each(rig)
    await rig.counted()
    head, body = await get(telemetry.address, "/metrics")
    assert "Content-Type: text/plain; version=0.0.4" in head
    seen = {s.name: set(s.labels) for family in text_string_to_metric_families(body) for s in family.samples}
    assert {name: seen.get(name) for name in NAMED} == NAMED


async def test_values_follow_the_events(rig: Rig) -> None:
    await rig.start()
    publish_one_of_each(rig)
    rig.bus.publish(e.ExecutionStarted("j2"))
    rig.bus.publish(e.PaymentProcessed("c1", "received", 500_000))
    rig.bus.publish(e.PaymentProcessed("c1", "failed", 900_000))
    samples = await rig.samples()
    expected: Samples = {
        ("guild_creations_total", ()): 1,
        ("guild_members", ("g1",)): 7,
        ("guild_lifetime_seconds_sum", ("expired",)): 3600,
        ("guild_join_latency_sum", ()): 0.02,
        ("wasm_executions_total", ("success",)): 1,
        ("wasm_executions_total", ("timeout",)): 0,
        ("wasm_execution_duration_seconds_sum", ("success",)): 0.25,
        ("wasm_memory_usage_bytes", ("cid1",)): 50 << 20,
        ("wasm_active_executions", ()): 1,
        ("payment_channels_opened_total", ()): 1,
        ("payment_channels_closed_total", ("cooperative",)): 1,
        ("payment_channel_balance", ("c1", "mine")): 84.25,
        ("payment_channel_balance", ("c1", "theirs")): 15.75,
        ("payment_payments_processed_total", ("sent",)): 1,
        ("payment_payments_processed_total", ("failed",)): 1,
        ("payment_amount_total", ()): 13.0,
        ("reputation_score", ("p1",)): 0.91,
        ("reputation_tasks_executed_total", ("p1", "true")): 1,
        ("reputation_trust_events_total", ("blacklisted",)): 1,
        ("reputation_blacklisted_peers", ()): 3,
        ("telemetry_events_dropped", ()): 0,
    }
    assert {key: samples.get(key) for key in expected} == expected


async def test_states_are_read_afresh_and_vanish_when_gone(rig: Rig) -> None:
    await rig.start()
    rig.guilds["g1"] = 2
    assert (await rig.samples())[("guild_members", ("g1",))] == 2
    rig.guilds.clear()
    assert ("guild_members", ("g1",)) not in await rig.samples()


async def test_labels_that_strangers_choose_are_bounded(rig: Rig) -> None:
    await rig.start()
    for i in range(MAX_LABELS + 100):
        rig.guilds[f"g{i}"] = 2
        rig.balances[f"c{i}"] = (1_000_000, 0)
        rig.scores[f"p{i}"] = 0.5
        rig.bus.publish(e.OutcomeRecorded(f"p{i}", False, 0.5))
        rig.bus.publish(e.ExecutionFinished(f"j{i}", f"m{i}", "failure", 1, 1))
        rig.bus.publish(e.ChannelClosed(f"c{i}", f"reason {i}"))
    samples = await rig.samples()
    for name in (
        "guild_members",
        "reputation_score",
        "reputation_tasks_executed_total",
        "wasm_memory_usage_bytes",
    ):
        assert sum(key[0] == name for key in samples) == MAX_LABELS + 1, name
    assert sum(key[0] == "payment_channels_closed_total" for key in samples) <= MAX_LABELS + 3
    assert sum(key[0] == "payment_channel_balance" for key in samples) == 2 * (MAX_LABELS + 1)
    assert samples[("guild_members", ("other",))] == 200
    assert samples[("payment_channel_balance", ("other", "mine"))] == 100
    assert samples[("reputation_score", ("other",))] == 0.5
    assert samples[("reputation_tasks_executed_total", ("other", "false"))] == 100
    assert samples[("wasm_executions_total", ("failure",))] == MAX_LABELS + 100


async def test_a_burst_is_counted_in_full(rig: Rig) -> None:
    await rig.start()
    for _ in range(20_000):
        rig.bus.publish(e.PaymentProcessed("c1", "sent", 1))
    await rig.made[0].stop()
    page = rig.made[0]._metrics_page().body.decode()
    assert 'payment_payments_processed_total{status="sent"} 20000.0' in page
    assert "telemetry_events_dropped 0.0" in page


async def test_health(rig: Rig) -> None:
    telemetry = await rig.start()
    head, body = await get(telemetry.address, "/healthz")
    assert (head.split("\r\n")[0], body) == ("HTTP/1.0 200 OK", "ok\n")
    rig.wrong = "The database failed."
    head, body = await get(telemetry.address, "/healthz?verbose=1")
    assert (head.split("\r\n")[0], body) == ("HTTP/1.0 503 Service Unavailable", "The database failed.\n")


async def test_a_port_in_use_is_replaced_and_said(rig: Rig) -> None:
    first = await rig.start()
    notices = rig.bus.subscribe(e.Notice)
    assert (first.notice, first.address.startswith("127.0.0.1:")) == ("", True)
    second = await rig.start(first.address)
    assert second.address not in ("", first.address)
    assert second.notice == f"Port {first.address.rpartition(':')[2]} is in use; metrics are on {second.address}."
    assert [event.text for event in notices._queue] == [second.notice]
    assert (await get(second.address, "/healthz"))[1] == "ok\n"


async def test_an_address_that_is_not_here_costs_the_metrics_only(rig: Rig) -> None:
    telemetry = await rig.start("192.0.2.1:9464")
    assert telemetry.address == ""
    assert telemetry.notice.startswith("No metrics: cannot listen on 192.0.2.1:9464")


async def test_without_an_address_nothing_listens(rig: Rig) -> None:
    telemetry = await rig.start(None)
    assert (telemetry.address, telemetry.notice) == ("", "")


async def test_after_stop_nothing_listens_and_stop_may_be_called_again(rig: Rig) -> None:
    telemetry = await rig.start()
    address = telemetry.address
    await telemetry.stop()
    await telemetry.stop()
    with pytest.raises(ConnectionRefusedError):
        await get(address, "/healthz")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /secret HTTP/1.1\r\n\r\n", "404"),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", "405"),
        (b"GET /metrics\r\n\r\n", "400"),
        (b"\xff\xfe\x00 / HTTP/9\r\n\r\n", "400"),
        (b"GET /metrics HTTP/1.1\r\nX: " + b"a" * pages.MAX_HEAD + b"\r\n\r\n", "431"),
    ],
)
async def test_other_requests_are_refused(rig: Rig, request_: bytes, status: str) -> None:
    telemetry = await rig.start()
    head, _ = await ask(telemetry.address, request_)
    assert head.startswith(f"HTTP/1.0 {status} ")


async def test_head_has_no_body(rig: Rig) -> None:
    telemetry = await rig.start()
    head, body = await ask(telemetry.address, b"HEAD /healthz HTTP/1.0\r\n\r\n")
    assert "Content-Length: 3" in head
    assert body == b""


async def test_a_silent_client_is_cut_off_and_many_cannot_take_the_server(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "DEADLINE_S", 0.2)
    telemetry = await rig.start()
    host, _, port = telemetry.address.rpartition(":")
    silent = [await asyncio.open_connection(host, int(port)) for _ in range(pages.MAX_CONNECTIONS + 5)]
    ended = [asyncio.create_task(reader.read()) for reader, _ in silent]
    done, pending = await asyncio.wait(ended, timeout=2)
    assert not pending
    assert all(isinstance(task.exception(), ConnectionError) or task.result() == b"" for task in done)
    for _, writer in silent:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)
    assert (await get(telemetry.address, "/healthz"))[1] == "ok\n"


async def test_a_client_that_leaves_at_once_harms_nothing(rig: Rig) -> None:
    telemetry = await rig.start()
    host, _, port = telemetry.address.rpartition(":")
    for _ in range(20):
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
        writer.transport.abort()
    assert (await get(telemetry.address, "/healthz"))[1] == "ok\n"
