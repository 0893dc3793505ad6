"""Disputed channels."""

from __future__ import annotations

import msgspec

from zstui.engine import commands as c
from zstui.engine import views
from zstui.engine.errors import BadInput
from zstui.engine.services import Services
from zstui.engine.verbs.base import Verb


async def _output(s: Services, command: c.DisputeOutput) -> views.DisputeView:
    view = await s.complaints.complain(s.jobs.resolve(command.job))
    return msgspec.structs.replace(view, text=" ".join(filter(None, (view.text, s.complaints.chances(view)))))


async def _dispute(s: Services, command: c.DisputeChannel) -> views.DisputeView:
    return await s.disputes.dispute(s.channels.resolve(command.channel))


async def _evidence(s: Services, command: c.SubmitEvidence) -> views.DisputeView:
    if s.complaints.find(command.channel):
        raise BadInput("A dispute about an output shows all its evidence when it is filed; nothing can be added.")
    return await s.disputes.evidence(s.disputes.resolve(command.channel), command.documents)


async def _disputes(s: Services, _: c.ListDisputes) -> list[views.DisputeView]:
    return [*s.disputes.views(), *s.complaints.views()]


async def _show(s: Services, command: c.ShowDispute) -> views.DisputeView:
    case_id = s.complaints.find(command.channel)
    return s.complaints.view(case_id) if case_id else s.disputes.view(s.disputes.resolve(command.channel))


async def _verdict(s: Services, command: c.ShowVerdict) -> views.VerdictView:
    case_id = s.complaints.find(command.channel)
    return await s.complaints.verdict(case_id) if case_id else s.disputes.verdict(s.disputes.resolve(command.channel))


async def _frauds(s: Services, command: c.ListFrauds) -> list[views.FraudView]:
    case_id = s.complaints.find(command.channel)
    return await s.disputes.frauds(case_id or (s.disputes.resolve(command.channel) if command.channel else ""))


VERBS: dict[type, Verb] = {
    c.DisputeOutput: _output,
    c.DisputeChannel: _dispute,
    c.SubmitEvidence: _evidence,
    c.ListDisputes: _disputes,
    c.ShowDispute: _show,
    c.ShowVerdict: _verdict,
    c.ListFrauds: _frauds,
}
