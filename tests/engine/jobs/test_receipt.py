"""Bundles verify offline, and nothing in them can be changed without a failed check."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.engine.jobs.docs import EXECUTOR, PAYER, WITNESS, attestation, evidence
from zstui.engine.identity.envelope import seal
from zstui.engine.jobs.bundle import make_bundle, verify_bundle
from zstui.engine.jobs.receipt import NO_BID, Evidence


def failed(e: Evidence) -> set[str]:
    """Names of the failed checks after a journey through JSON."""
    return {c.name for c in verify_bundle(json.loads(json.dumps(make_bundle(e)))) if not c.ok}


def test_a_good_bundle_passes() -> None:
    checks = verify_bundle(json.loads(json.dumps(make_bundle(evidence(witnessed=True)))))
    assert all(c.ok for c in checks), checks
    assert len(checks) == 10


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"total_due_u": 999}, "cost"),
        ({"active_us": 2_500_000}, "cost"),
        ({"fault": "executor", "ok": False, "status": "error"}, "cost"),
        ({"ok": True, "status": "timeout"}, "result"),
        ({"exit_code": 3}, "result"),
        ({"module_cid": "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"}, "module"),
        ({"memory_bytes": 2**40}, "limits"),
        ({"output_bytes": 2**30}, "limits"),
        ({"agreement": b"x" * 32}, "readable"),
        ({"manifest": b"x" * 32}, "readable"),
        ({"submitter": EXECUTOR.peer_id}, "receipt"),
        ({"gas": -1}, "readable"),
        ({"gas": 2**63}, "readable"),
    ],
)
def test_a_signed_lie_fails_its_check(changes: dict[str, object], check: str) -> None:
    assert check in failed(evidence(receipt=changes))


@pytest.mark.parametrize(
    ("terms", "check"),
    [
        ({"price_per_second_nano": 11_000_000}, "price"),
        ({"max_total_u": 2_000_000}, "price"),
        ({"manifest": b"x" * 32}, "agreement"),
        ({"bid": b"x" * 32}, "agreement"),
        ({"executor": PAYER.peer_id}, "readable"),
    ],
)
def test_an_agreement_beyond_the_manifest_fails(terms: dict[str, object], check: str) -> None:
    assert check in failed(evidence(terms=terms))


def test_both_signatures_are_needed() -> None:
    good = evidence()
    mine, theirs = good.agreements
    for pair in ((mine,), (theirs, mine), (mine, mine)):
        broken = Evidence(manifest=good.manifest, bid=good.bid, agreements=pair, receipt=good.receipt)
        assert failed(broken)


def test_the_bid_is_there_if_and_only_if_the_agreement_is_on_one() -> None:
    assert failed(replace(evidence(), bid=b"")) == {"agreement"}
    assert failed(evidence(terms={"bid": NO_BID})) == {"agreement"}
    assert failed(replace(evidence(terms={"bid": NO_BID}), bid=b"")) == set()


def test_a_mismatch_contradiction_or_party_is_no_witness() -> None:
    good = evidence()
    name = f"witness {WITNESS.peer_id[-8:]}"
    for signer, word in (
        (WITNESS, attestation(good.receipt, False)),
        (WITNESS, attestation(good.receipt, True, match=False)),
        (WITNESS, attestation(good.receipt, True, gas=1)),
        (WITNESS, attestation(good.receipt, True, receipt=b"x" * 32)),
        (WITNESS, attestation(good.receipt, True, engine="wasmtime 50 profile 99")),
        (EXECUTOR, attestation(good.receipt, True, witness=EXECUTOR.peer_id)),
    ):
        broken = replace(good, attestations=(seal(signer, word),))
        assert failed(broken) & {name, f"witness {EXECUTOR.peer_id[-8:]}"}
    twice = (seal(WITNESS, attestation(good.receipt, True)),) * 2
    assert failed(replace(good, attestations=twice)) == {name}


def test_inexact_gas_is_not_compared() -> None:
    good = evidence()
    word = seal(WITNESS, attestation(good.receipt, True, gas=1, gas_exact=False))
    assert not failed(replace(good, attestations=(word,)))


def test_the_readable_part_must_say_what_was_signed() -> None:
    bundle = make_bundle(evidence())
    bundle["cost_u"] = 1
    assert [c.name for c in verify_bundle(bundle) if not c.ok] == ["summary"]


@given(st.data())
def test_no_changed_byte_goes_unnoticed(data: st.DataObject) -> None:
    bundle = make_bundle(evidence(witnessed=True))
    parts = bundle["evidence"]
    assert isinstance(parts, dict)
    raws = [
        ("manifest", None),
        ("bid", None),
        ("receipt", None),
        ("agreements", 0),
        ("agreements", 1),
        ("attestations", 0),
    ]
    key, index = data.draw(st.sampled_from(raws))
    raw = bytearray(base64.b64decode(parts[key] if index is None else parts[key][index]))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    changed = base64.b64encode(bytes(raw)).decode()
    if index is None:
        parts[key] = changed
    else:
        parts[key][index] = changed
    assert not all(c.ok for c in verify_bundle(bundle))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
        max_leaves=12,
    )
)
def test_any_json_is_only_a_failed_check(value: object) -> None:
    for bundle in ({"zerostate_receipt": 1, "evidence": value}, {"evidence": value}, {}):
        checks = verify_bundle(bundle)
        assert checks
        assert not checks[-1].ok
