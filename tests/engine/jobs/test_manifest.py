from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.engine.jobs.docs import EXECUTOR, PAYER, manifest
from zstui.engine.errors import BadInput, InvalidManifest, ProtocolError, ZsError
from zstui.engine.identity.envelope import seal
from zstui.engine.jobs.cid import cid_of, cid_of_digest, digest_of_cid
from zstui.engine.jobs.manifest import (
    MIB,
    DataSpec,
    Resources,
    Sla,
    Terms,
    can_execute,
    estimate_price,
    manifest_hash,
    open_manifest,
    validate,
)
from zstui.engine.jobs.room import Offer

OFFER = Offer(executor=True, memory_mib=128, timeout_s=30, price_per_second_nano=10_000_000, price_per_mib_nano=100_000)


def test_a_valid_manifest_survives_its_journey() -> None:
    raw = seal(PAYER, manifest())
    signed, opened = open_manifest(raw, PAYER.peer_id)
    assert opened == manifest()
    assert signed.digest == manifest_hash(raw)
    assert opened.stdin_cid == cid_of(b"")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"module_cid": "bafybad"}, "not the content id"),
        ({"guild": b"short"}, "wrong length"),
        ({"nonce": b""}, "wrong length"),
        ({"module_name": ""}, "module's name"),
        ({"module_name": "a\x1b[31m"}, "module's name"),
        ({"module_bytes": 0}, "module's size"),
        ({"module_bytes": 33 * MIB}, "module's size"),
        ({"function": "\u202eevil"}, "function's name"),
        ({"args": ("x" * 20_000,)}, "over 16 KiB"),
        ({"args": ("a\0b",)}, "NUL"),
        ({"env": (("A=B", "c"),)}, "'='"),
        ({"env": (("", "c"),)}, "'='"),
        ({"stdin_bytes": 17 * MIB}, "size of stdin"),
        ({"stdin_hash": b"x" * 32}, "empty stdin"),
        ({"resources": Resources(memory_bytes=0)}, "memory limit"),
        ({"resources": Resources(timeout_us=0)}, "time limit"),
        ({"resources": Resources(timeout_us=-5)}, "time limit"),
        ({"resources": Resources(gas=2**60)}, "gas limit"),
        ({"resources": Resources(stack_bytes=2**30)}, "stack limit"),
        ({"resources": Resources(output_bytes=2**30)}, "output limit"),
        ({"terms": Terms(-1, 0, 1)}, "price per second"),
        ({"terms": Terms(0, 2**62, 1)}, "price per MiB"),
        ({"terms": Terms(0, 0, 0)}, "largest price"),
        ({"terms": Terms(0, 0, 2**60)}, "largest price"),
        ({"sla": Sla(min_uptime=1001)}, "uptime"),
        ({"sla": Sla(max_failure_rate=-1)}, "failure rate"),
        ({"sla": Sla(min_reputation=5000)}, "reputation"),
        ({"input": DataSpec("json", 10, "[]")}, "not a JSON object"),
        ({"output": DataSpec("bytes", 10, "{}")}, "format is not json"),
        ({"witnesses": 99}, "witnesses"),
        ({"created_us": -1}, "creation time"),
    ],
)
def test_each_thing_wrong_is_one_sentence(changes: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidManifest, match=words) as caught:
        validate(manifest(**changes))
    assert str(caught.value).endswith((".", ")."))


def test_another_peers_manifest_is_refused() -> None:
    with pytest.raises(ProtocolError, match="another peer"):
        open_manifest(seal(EXECUTOR, manifest()))


@given(st.binary(max_size=400), st.integers(0, 2000))
def test_bytes_that_are_no_manifest_raise_only_our_errors(noise: bytes, at: int) -> None:
    raw = seal(PAYER, manifest())
    broken = raw[: at % len(raw)] + noise + raw[at % len(raw) + len(noise) :]
    if broken != raw:
        with pytest.raises(ZsError):
            open_manifest(broken, PAYER.peer_id)


def test_the_estimate_is_all_of_time_and_memory_under_the_cap() -> None:
    assert estimate_price(manifest()) == 30 * 10_000 + 128 * 100
    assert estimate_price(manifest(terms=Terms(10_000_000, 100_000, 5))) == 5


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"executor": False}, "does not run jobs for others"),
        ({"memory_mib": 64}, "too little memory: offers 64 MiB, the job asks for 128 MiB"),
        ({"timeout_s": 10}, "too little time: offers 10 s, the job asks for 30 s"),
        ({"price_per_second_nano": 20_000_000}, "price too low: asks 0.020 per second, the job offers 0.010"),
        ({"price_per_mib_nano": 200_000}, "price too low: asks 0.0002 per MiB, the job offers 0.0001"),
    ],
)
def test_capabilities(changes: dict[str, object], reason: str) -> None:
    assert can_execute(manifest(), replace(OFFER, **changes)) == reason


def test_content_ids() -> None:
    assert cid_of(b"hello world") == "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"
    assert digest_of_cid(cid_of(b"x")) == hashlib.sha256(b"x").digest()


@given(st.text(max_size=70))
def test_other_text_is_no_content_id(text: str) -> None:
    with pytest.raises(BadInput):
        digest_of_cid(text)


@given(st.binary(min_size=32, max_size=32), st.integers(0, 58))
def test_a_content_id_has_one_spelling(digest: bytes, at: int) -> None:
    cid = cid_of_digest(digest)
    assert digest_of_cid(cid) == digest
    with pytest.raises(BadInput):
        digest_of_cid(cid[:at] + cid[at].upper() + cid[at + 1 :] if cid[at].isalpha() else cid + "a")
