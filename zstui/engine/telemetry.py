"""Metrics of one node: it listens to the bus, feeds a prometheus registry and serves ``/metrics`` and ``/healthz``.

Counters and histograms follow events. What is a state rather than an event (guild sizes, balances, scores) is read when
someone asks, through small functions handed in, so that it is never stale. Amounts are whole units. A label that a stranger
chooses takes at most ``MAX_LABELS`` values; everything beyond is counted under "other".
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from zstui.engine import events as e
from zstui.engine.bus import Bus
from zstui.engine.clock import US
from zstui.engine.config import Settings, host_and_port
from zstui.engine.money import MICRO
from zstui.engine.pages import Page, PageServer

MAX_LABELS = 200
OTHER = "other"
QUEUE = 65_536
"""Events that may wait; losing one would make the counters lie, so it is large and the loss is itself a metric."""
TURN = 256
"""Events handled before others on the loop get their turn."""

Sizes = Callable[[], Mapping[str, int]]
"""Members by guild id."""
Balances = Callable[[], Mapping[str, tuple[int, int]]]
"""(mine, theirs) in µ by channel id."""
Scores = Callable[[], Mapping[str, float]]
"""Score by peer id."""


class Labels:
    """The values one label has taken; once ``MAX_LABELS`` are known, new ones become "other"."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def __call__(self, value: str) -> str:
        if value not in self._known:
            if len(self._known) >= MAX_LABELS:
                return OTHER
            self._known.add(value)
        return value


class Telemetry:
    """``registry`` must be fresh. Counts from construction on; ``start`` begins to serve."""

    def __init__(
        self,
        bus: Bus,
        registry: CollectorRegistry,
        settings: Settings,
        *,
        guild_sizes: Sizes = dict,
        channel_balances: Balances = dict,
        scores: Scores = dict,
        blacklisted: Callable[[], int] = lambda: 0,
        health: Callable[[], str] = lambda: "",
    ) -> None:
        """``health`` gives one sentence on what is wrong, "" if nothing is."""
        self._bus = bus
        self._registry = registry
        self._settings = settings
        self._health = health
        self._events = bus.subscribe(e.Event, limit=QUEUE)
        self._task: asyncio.Task[None] | None = None
        self._server: PageServer | None = None
        self.address = ""
        """Host and port that serve, "" if none do."""
        self.notice = ""
        """Why it is not the address asked for, "" if it is."""
        self._peers, self._modules = Labels(), Labels()
        self._running: set[str] = set()
        """Jobs whose module this machine runs now."""
        self._create_metrics()
        registry.register(_States(guild_sizes, channel_balances, scores, blacklisted, lambda: self._events.dropped))

    def _create_metrics(self) -> None:
        registry = self._registry
        self._guild_creations = Counter("guild_creations_total", "Guilds created by this node.", registry=registry)
        self._guild_lifetime = Histogram(
            "guild_lifetime_seconds",
            "Time from creating or joining a guild to its end for this node.",
            ("reason",),
            registry=registry,
            buckets=(1, 10, 60, 300, 900, 1800, 3600, 7200, 21_600, 86_400),
        )
        self._guild_join = Histogram(
            "guild_join_latency", "Seconds from asking to join a guild to holding its key.", registry=registry
        )
        self._executions = Counter(
            "wasm_executions_total", "Modules run by this machine.", ("status",), registry=registry
        )
        self._durations = Histogram(
            "wasm_execution_duration_seconds",
            "Wall time of modules run by this machine.",
            ("status",),
            registry=registry,
            buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60),
        )
        self._memory = Gauge(
            "wasm_memory_usage_bytes", "Peak memory of the latest run of a module.", ("module",), registry=registry
        )
        self._active = Gauge("wasm_active_executions", "Modules that run right now.", registry=registry)
        self._active.set_function(lambda: float(len(self._running)))
        self._opened = Counter("payment_channels_opened_total", "Channels that became active.", registry=registry)
        self._closed = Counter("payment_channels_closed_total", "Channels closed.", ("reason",), registry=registry)
        self._payments = Counter(
            "payment_payments_processed_total", "Payments, by what became of them.", ("status",), registry=registry
        )
        self._amount = Counter(
            "payment_amount_total", "Units paid and received, acknowledged payments only.", registry=registry
        )
        self._tasks = Counter(
            "reputation_tasks_executed_total",
            "Finished jobs that entered a peer's score.",
            ("peer_id", "success"),
            registry=registry,
        )
        self._trust = Counter(
            "reputation_trust_events_total", "Blacklisting and its end.", ("event_type",), registry=registry
        )
        for reason in ("expired", "dissolved", "left", "kicked"):
            self._guild_lifetime.labels(reason)
        for status in ("success", "failure", "timeout", "cancelled", "error"):
            self._executions.labels(status)
            self._durations.labels(status)
        for reason in ("cooperative", "void"):
            self._closed.labels(reason)
        for status in ("sent", "received", "failed", "rejected"):
            self._payments.labels(status)
        for kind in ("blacklisted", "blacklist_removed", "blacklist_expired"):
            self._trust.labels(kind)
        self._reasons = Labels()

    async def start(self) -> None:
        """Follow the bus and serve. Where it cannot serve it says so in ``notice`` and on the bus, and goes on without."""
        self._task = asyncio.create_task(self._follow(), name="telemetry")
        if self._settings.metrics is None:
            return
        host, port = host_and_port(self._settings.metrics)
        self._server = PageServer({"/metrics": self._metrics_page, "/healthz": self._health_page})
        try:
            bound = await self._listen(self._server, host, port)
        except OSError as error:
            self.notice = f"No metrics: cannot listen on {self._settings.metrics} ({error.strerror or error})."
        else:
            self.address = f"[{host}]:{bound}" if ":" in host else f"{host}:{bound}"
            if port not in (0, bound):
                self.notice = f"Port {port} is in use; metrics are on {self.address}."
        if self.notice:
            self._bus.publish(e.Notice("warning", "telemetry", self.notice))

    @staticmethod
    async def _listen(server: PageServer, host: str, port: int) -> int:
        try:
            return await server.start(host, port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return await server.start(host, 0)

    async def stop(self) -> None:
        """Idempotent."""
        self._events.close()
        if self._server is not None:
            await self._server.stop()
            self._server = None
            self.address = ""
        if self._task is not None:
            await self._task
            self._task = None

    def _metrics_page(self) -> Page:
        return Page(generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4)

    def _health_page(self) -> Page:
        wrong = self._health()
        return Page(f"{wrong}\n".encode(), status=503) if wrong else Page(b"ok\n")

    async def _follow(self) -> None:
        handled = 0
        async for event in self._events:
            self._count(event)
            handled += 1
            if handled % TURN == 0:
                await asyncio.sleep(0)

    def _count(self, event: e.Event) -> None:
        match event:
            case e.GuildCreated():
                self._guild_creations.inc()
            case e.GuildJoined(latency_us=latency_us):
                self._guild_join.observe(latency_us / US)
            case e.GuildEnded(reason=reason, lifetime_us=lifetime_us):
                self._guild_lifetime.labels(reason).observe(lifetime_us / US)
            case e.ExecutionStarted(job_id=job_id):
                self._running.add(job_id)
            case e.ExecutionFinished(job_id=job_id, module=module, status=status):
                self._running.discard(job_id)
                self._executions.labels(status).inc()
                self._durations.labels(status).observe(event.duration_us / US)
                self._memory.labels(self._modules(module)).set(event.memory_bytes)
            case e.ChannelOpened():
                self._opened.inc()
            case e.ChannelClosed(reason=reason):
                self._closed.labels(self._reasons(reason)).inc()
            case e.PaymentProcessed(status=status, amount_u=amount_u):
                self._payments.labels(status).inc()
                if status in ("sent", "received"):
                    self._amount.inc(amount_u / MICRO)
            case e.OutcomeRecorded(peer_id=peer, success=success):
                self._tasks.labels(self._peers(peer), str(success).lower()).inc()
            case e.TrustEvent(kind=kind):
                self._trust.labels(kind).inc()


class _States(Collector):
    """Gauges that are read at the moment of the scrape."""

    def __init__(
        self,
        guild_sizes: Sizes,
        channel_balances: Balances,
        scores: Scores,
        blacklisted: Callable[[], int],
        dropped: Callable[[], int],
    ) -> None:
        self._guild_sizes = guild_sizes
        self._channel_balances = channel_balances
        self._scores = scores
        self._blacklisted = blacklisted
        self._dropped = dropped

    def describe(self) -> Iterator[Metric]:
        yield from self._families().values()

    def collect(self) -> Iterator[Metric]:
        families = self._families()
        members, balance, score = (
            families[name] for name in ("guild_members", "payment_channel_balance", "reputation_score")
        )
        for guild, count in _capped(self._guild_sizes(), sum).items():
            members.add_metric((guild,), count)
        balances = self._channel_balances()
        for place, party in enumerate(("mine", "theirs")):
            held = {channel: both[place] for channel, both in balances.items()}
            for channel, amount_u in _capped(held, sum).items():
                balance.add_metric((channel, party), amount_u / MICRO)
        for peer, value in _capped(self._scores(), lambda rest: sum(rest) / len(rest)).items():
            score.add_metric((peer,), value)
        families["reputation_blacklisted_peers"].add_metric((), self._blacklisted())
        families["telemetry_events_dropped"].add_metric((), self._dropped())
        yield from families.values()

    @staticmethod
    def _families() -> dict[str, GaugeMetricFamily]:
        return {
            name: GaugeMetricFamily(name, text, labels=labels)
            for name, text, labels in (
                ("guild_members", "Members of a guild this node is in; the sum of the rest under other.", ["guild_id"]),
                (
                    "payment_channel_balance",
                    "Units one party holds in an open channel; the sum of the rest under other.",
                    ["channel_id", "party"],
                ),
                ("reputation_score", "Score of a peer, decayed; the mean of the rest under other.", ["peer_id"]),
                ("reputation_blacklisted_peers", "Peers blacklisted right now.", []),
                ("telemetry_events_dropped", "Events that came too fast to be counted.", []),
            )
        }


def _capped(values: Mapping[str, float], join: Callable[[list[float]], float]) -> dict[str, float]:
    """The first ``MAX_LABELS`` as they are, and the rest joined into one."""
    items = list(values.items())
    capped = dict(items[:MAX_LABELS])
    rest = [value for _, value in items[MAX_LABELS:]]
    if rest:
        capped[OTHER] = join(rest)
    return capped
