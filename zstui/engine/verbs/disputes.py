"""Disputed channels."""

from __future__ import annotations

from zstui.engine import commands as c
from zstui.engine import views
from zstui.engine.services import Services
from zstui.engine.verbs.base import Verb


async def _dispute(s: Services, command: c.DisputeChannel) -> views.DisputeView:
    return await s.disputes.dispute(s.channels.resolve(command.channel))


async def _evidence(s: Services, command: c.SubmitEvidence) -> views.DisputeView:
    return await s.disputes.evidence(s.disputes.resolve(command.channel), command.documents)


async def _disputes(s: Services, _: c.ListDisputes) -> list[views.DisputeView]:
    return s.disputes.views()


async def _show(s: Services, command: c.ShowDispute) -> views.DisputeView:
    return s.disputes.view(s.disputes.resolve(command.channel))


async def _verdict(s: Services, command: c.ShowVerdict) -> views.VerdictView:
    return s.disputes.verdict(s.disputes.resolve(command.channel))


async def _frauds(s: Services, command: c.ListFrauds) -> list[views.FraudView]:
    return await s.disputes.frauds(s.disputes.resolve(command.channel) if command.channel else "")


VERBS: dict[type, Verb] = {
    c.DisputeChannel: _dispute,
    c.SubmitEvidence: _evidence,
    c.ListDisputes: _disputes,
    c.ShowDispute: _show,
    c.ShowVerdict: _verdict,
    c.ListFrauds: _frauds,
}
