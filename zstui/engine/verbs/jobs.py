"""Jobs and receipts."""

from __future__ import annotations

from zstui.engine import commands as c
from zstui.engine import views
from zstui.engine.services import Services
from zstui.engine.verbs.base import Verb


async def _estimate(s: Services, command: c.EstimateJob) -> views.EstimateView:
    return await s.market.estimate(command.spec)


async def _submit(s: Services, command: c.SubmitJob) -> views.JobView:
    return await s.jobs.submit(command.spec, await s.market.choose(command.spec))


async def _wait_job(s: Services, command: c.WaitJob) -> views.JobView:
    return await s.jobs.wait(s.jobs.resolve(command.job))


async def _jobs(s: Services, _: c.ListJobs) -> list[views.JobView]:
    return s.jobs.views()


async def _show_job(s: Services, command: c.ShowJob) -> views.JobView:
    return s.jobs.view(s.jobs.resolve(command.job))


async def _output(s: Services, command: c.GetOutput) -> views.JobOutputView:
    return await s.jobs.output(s.jobs.resolve(command.job))


async def _cancel(s: Services, command: c.CancelJob) -> views.JobView:
    return await s.jobs.cancel(s.jobs.resolve(command.job))


async def _rerun(s: Services, command: c.RerunJob) -> views.JobView:
    return await s.jobs.rerun(s.jobs.resolve(command.job))


async def _receipt(s: Services, command: c.ShowReceipt) -> dict[str, object]:
    return await s.jobs.bundle(command.receipt)


VERBS: dict[type, Verb] = {
    c.EstimateJob: _estimate,
    c.SubmitJob: _submit,
    c.WaitJob: _wait_job,
    c.ListJobs: _jobs,
    c.ShowJob: _show_job,
    c.GetOutput: _output,
    c.CancelJob: _cancel,
    c.RerunJob: _rerun,
    c.ShowReceipt: _receipt,
}
