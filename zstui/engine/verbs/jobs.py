"""Jobs and receipts."""

from __future__ import annotations

from msgspec.structs import replace

from zstui.engine import commands as c
from zstui.engine import views
from zstui.engine.channels.approvals.model import JOB_GRANT_US
from zstui.engine.clock import US
from zstui.engine.errors import BadInput
from zstui.engine.jobs.hours import parse_hours
from zstui.engine.jobs.sandbox.calibration import measure
from zstui.engine.services import Services
from zstui.engine.verbs.base import Verb


async def _estimate(s: Services, command: c.EstimateJob) -> views.EstimateView:
    return await s.market.estimate(command.spec)


async def _submit(s: Services, command: c.SubmitJob) -> views.JobView:
    spec, limit_u = command.spec, _payable(command)
    job = await s.jobs.submit(spec, await s.market.choose(spec), only=bool(spec.executor))
    await _allow(s, job.job_id, limit_u)
    return job


def _payable(command: c.SubmitJob | c.SubmitBatch) -> int:
    if not 0 <= command.pay_up_to_u <= command.spec.max_price_u:
        raise BadInput("What may be paid without asking is at most the largest price.")
    return command.pay_up_to_u


async def _allow(s: Services, submission: str, limit_u: int) -> None:
    """Let a job or a batch be paid without asking, up to ``limit_u`` in all."""
    if limit_u:
        limits = {"per_payment_u": limit_u, "per_day_u": limit_u, "total_u": limit_u}
        await s.approvals.set_grant("job", submission, expires_s=JOB_GRANT_US // US, **limits)


async def _wait_job(s: Services, command: c.WaitJob) -> views.JobView:
    return await s.jobs.wait(s.jobs.resolve(command.job))


async def _jobs(s: Services, command: c.ListJobs) -> list[views.JobView]:
    batch_id = s.jobs.batches.resolve(command.batch) if command.batch else ""
    return [view for view in s.jobs.views() if not batch_id or view.batch_id == batch_id]


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


async def _submit_batch(s: Services, command: c.SubmitBatch) -> views.BatchView:
    spec, limit_u = command.spec, _payable(command)
    if spec.executor:
        spec = replace(spec, executor=s.net.resolve(spec.executor))
    batch = await s.jobs.batches.submit(spec, command.name, command.map_lines, command.map_files)
    await _allow(s, batch.batch_id, limit_u)
    return batch


async def _list_batches(s: Services, _: c.ListBatches) -> list[views.BatchView]:
    return s.jobs.batches.views()


async def _show_batch(s: Services, command: c.ShowBatch) -> views.BatchView:
    return s.jobs.batches.view(s.jobs.batches.resolve(command.batch))


async def _wait_batch(s: Services, command: c.WaitBatch) -> views.BatchView:
    return await s.jobs.batches.wait(s.jobs.batches.resolve(command.batch))


async def _cancel_batch(s: Services, command: c.CancelBatch) -> views.BatchView:
    return await s.jobs.batches.cancel(s.jobs.batches.resolve(command.batch))


async def _collect_batch(s: Services, command: c.CollectBatch) -> views.CollectedView:
    return await s.jobs.batches.collect(s.jobs.batches.resolve(command.batch), command.directory)


async def _show_work(s: Services, _: c.ShowWork) -> views.WorkView:
    return s.jobs.work()


async def _set_working(s: Services, command: c.SetWorking) -> views.WorkView:
    await s.jobs.owner.set_accepting(command.accept)
    return s.jobs.work()


async def _stop_all(s: Services, _: c.StopAllJobs) -> views.WorkView:
    await s.jobs.stop_all()
    return s.jobs.work()


async def _set_hours(s: Services, command: c.SetHours) -> views.WorkView:
    await s.jobs.owner.set_hours(parse_hours(command.start, command.end))
    return s.jobs.work()


async def _set_job_limits(s: Services, command: c.SetJobLimits) -> views.WorkView:
    await s.jobs.owner.set_limits(command.max_jobs, command.memory_mib)
    return s.jobs.work()


async def _calibrate(s: Services, _: c.Calibrate) -> views.CalibrationView:
    measured = await measure(s.sandbox, s.home.calibration)
    s.net.card_changed()
    return measured


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
    c.SubmitBatch: _submit_batch,
    c.ListBatches: _list_batches,
    c.ShowBatch: _show_batch,
    c.WaitBatch: _wait_batch,
    c.CancelBatch: _cancel_batch,
    c.CollectBatch: _collect_batch,
    c.ShowWork: _show_work,
    c.SetWorking: _set_working,
    c.StopAllJobs: _stop_all,
    c.SetHours: _set_hours,
    c.SetJobLimits: _set_job_limits,
    c.Calibrate: _calibrate,
}
