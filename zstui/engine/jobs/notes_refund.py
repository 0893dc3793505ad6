"""What an executor was paid for a job that came to cost less, because it failed here: it asks its owner to pay it back."""

from __future__ import annotations

from zstui.engine.channels.approvals.model import PaymentRequest
from zstui.engine.errors import ZsError
from zstui.engine.events import Notice
from zstui.engine.jobs.model import Job
from zstui.engine.jobs.ports import RequestPayment
from zstui.engine.jobs.room import Room
from zstui.engine.money import format_amount
from zstui.engine.views import CheckView


class Refunder:
    def __init__(self, room: Room, request_payment: RequestPayment) -> None:
        self._room = room
        self._request_payment = request_payment

    def resume(self) -> None:
        """At start: whatever was left to ask for. What was asked for before changes nothing."""
        for job in self._room.records:
            if not job.mine and job.delivered:
                self.delivered(job.job_id)

    def delivered(self, job_id: str) -> None:
        """The submitter has the receipt, and signs no slice any more."""
        if self._room.records[job_id].refund_u:
            self._room.spawn(self._ask(self._room.records[job_id]), "asking for a refund", job_id)

    async def _ask(self, job: Job) -> None:
        try:
            await self._request_payment(_request(job))
        except ZsError as error:
            self._room.bus.publish(Notice("warning", "jobs", f"The refund could not be asked for: {error}", job.job_id))


def _request(job: Job) -> PaymentRequest:
    paid, cost = format_amount(job.paid_u), format_amount(job.cost_u)
    return PaymentRequest(
        request_id=job.receipt_id,
        peer_id=job.submitter,
        job_id=job.job_id,
        guild_id=job.guild_id,
        module=job.module,
        exit_code=job.exit_code,
        fault=job.fault,
        duration_us=job.duration_us,
        memory_bytes=job.memory_bytes,
        price_per_second_nano=job.price_per_second_nano,
        price_per_mib_nano=job.price_per_mib_nano,
        amount_u=job.refund_u,
        max_cost_u=job.refund_u,
        receipt_id=job.receipt_id,
        agreement_id=job.agreement_id,
        checks=(CheckView(name="refund", ok=True, detail=f"{paid} was paid, and by your own receipt it costs {cost}"),),
        created_us=job.finished_us,
        kind="refund",
    )
