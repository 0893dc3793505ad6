"""Figures of publish and subscribe for the metrics page, read at the moment of the scrape."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from zstui.engine.pubsub.announcements import Announcements


class PubSubMetrics(Collector):
    def __init__(self, announcements: Announcements) -> None:
        self._announcements = announcements

    def collect(self) -> Iterator[Metric]:
        peers = GaugeMetricFamily("pubsub_peers", "Connected peers subscribed to a topic.", labels=["topic"])
        mesh = GaugeMetricFamily("pubsub_mesh_peers", "Peers in the mesh of a topic.", labels=["topic"])
        authors = GaugeMetricFamily("pubsub_authors", "Peers whose word was heard lately.", labels=["topic"])
        for view in self._announcements.views():
            peers.add_metric((view.subject,), view.peers)
            mesh.add_metric((view.subject,), view.mesh)
            authors.add_metric((view.subject,), view.authors)
        pubsub = self._announcements.pubsub
        yield from (peers, mesh, authors)
        yield GaugeMetricFamily(
            "pubsub_graylisted_peers", "Connected peers that misbehaved and are not heard.", pubsub.router.graylisted()
        )
        for name, text, value in (
            ("pubsub_messages_published", "Messages of this node.", pubsub.published),
            ("pubsub_messages_accepted", "Messages of others that were new and right.", pubsub.accepted),
            ("pubsub_frames_dropped", "Frames not sent because a connected peer took too little.", pubsub.dropped),
        ):
            yield CounterMetricFamily(name, text, value)
