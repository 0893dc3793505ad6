"""Signed documents of one finished job, made by hand."""

from __future__ import annotations

import hashlib

from msgspec.structs import replace

from zstui.engine.identity.envelope import open_envelope, seal
from zstui.engine.identity.keys import Identity
from zstui.engine.jobs.cid import cid_of
from zstui.engine.jobs.manifest import (
    EMPTY_HASH,
    DataSpec,
    Manifest,
    Resources,
    Sla,
    Terms,
    manifest_hash,
    price,
)
from zstui.engine.jobs.receipt import (
    NO_CHANNEL,
    Agreement,
    Attestation,
    Bid,
    Evidence,
    Receipt,
    agreement_id,
    amount_due,
)

PAYER = Identity(hashlib.sha256(b"payer").digest())
EXECUTOR = Identity(hashlib.sha256(b"executor").digest())
WITNESS = Identity(hashlib.sha256(b"witness").digest())


def manifest(**changes: object) -> Manifest:
    made = Manifest(
        submitter=PAYER.peer_id,
        guild=b"g" * 32,
        module_cid=cid_of(b"module"),
        module_name="tool.wasm",
        module_bytes=6,
        function="_start",
        args=("a",),
        env=(("K", "V"),),
        stdin_hash=EMPTY_HASH,
        stdin_bytes=0,
        resources=Resources(),
        terms=Terms(10_000_000, 100_000, 1_000_000),
        sla=Sla(),
        input=DataSpec(),
        output=DataSpec(),
        witnesses=0,
        created_us=1_700_000_000_000_000,
        nonce=b"n" * 16,
        seed=b"s" * 32,
    )
    return replace(made, **changes)


def agreement(raw_manifest: bytes, m: Manifest, bid_hash: bytes, **changes: object) -> Agreement:
    made = Agreement(
        manifest=manifest_hash(raw_manifest),
        bid=bid_hash,
        submitter=PAYER.peer_id,
        executor=EXECUTOR.peer_id,
        channel=NO_CHANNEL,
        price_per_second_nano=m.terms.price_per_second_nano,
        price_per_mib_nano=m.terms.price_per_mib_nano,
        max_total_u=m.terms.max_total_u,
        exposure_u=price(m, m.terms.price_per_second_nano, m.terms.price_per_mib_nano).total_u,
        created_us=1,
        nonce=b"a" * 16,
    )
    return replace(made, **changes)


def evidence(
    receipt: dict[str, object] | None = None, terms: dict[str, object] | None = None, witnessed: bool | None = None
) -> Evidence:
    """A complete and valid set, with some fields of the receipt or the agreement changed before they were signed."""
    m = manifest()
    raw = seal(PAYER, m)
    raw_bid = seal(EXECUTOR, Bid(manifest_hash(raw), EXECUTOR.peer_id, 10_000_000, 100_000, NO_CHANNEL, 0, 2))
    a = agreement(raw, m, hashlib.sha256(raw_bid).digest(), **(terms or {}))
    mine, theirs = seal(PAYER, a), seal(EXECUTOR, a)
    active_us, memory_bytes = 2_000_000, 3 << 20
    made = Receipt(
        agreement=agreement_id(open_envelope(mine)),
        manifest=manifest_hash(raw),
        submitter=PAYER.peer_id,
        executor=EXECUTOR.peer_id,
        module_cid=m.module_cid,
        engine="wasmtime 50",
        ok=True,
        status="success",
        exit_code=0,
        fault="none",
        reason="",
        output_hash=hashlib.sha256(b"out").digest(),
        output_bytes=3,
        stderr_bytes=0,
        results=(),
        active_us=active_us,
        memory_bytes=memory_bytes,
        gas=77,
        gas_exact=True,
        total_due_u=amount_due(m, a, "none", active_us, memory_bytes).total_u,
        started_us=5,
        finished_us=6,
    )
    raw_receipt = seal(EXECUTOR, replace(made, **(receipt or {})))
    words: tuple[bytes, ...] = ()
    if witnessed is not None:
        words = (seal(WITNESS, attestation(raw_receipt, witnessed)),)
    return Evidence(manifest=raw, bid=raw_bid, agreements=(mine, theirs), receipt=raw_receipt, attestations=words)


def attestation(raw_receipt: bytes, same: bool, /, **changes: object) -> Attestation:
    signed = open_envelope(raw_receipt)
    r = signed.decode(Receipt)
    made = Attestation(
        receipt=signed.digest,
        manifest=r.manifest,
        witness=WITNESS.peer_id,
        output_hash=r.output_hash if same else bytes(32),
        exit_code=r.exit_code,
        gas=r.gas,
        gas_exact=r.gas_exact,
        match=same,
        at_us=9,
        engine=r.engine,
    )
    return replace(made, **changes)
