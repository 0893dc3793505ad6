"""What a job may be asked to print, and what it may be given."""

from __future__ import annotations

import json
import re
import time
from unittest.mock import patch

import pytest

from tests.engine.jobs.rig import World
from zstui.engine.commands import JobSpec
from zstui.engine.errors import BadInput, InvalidManifest
from zstui.engine.jobs import schema_program, shape
from zstui.engine.jobs.manifest import DataSpec
from zstui.engine.jobs.shape import TOO_MUCH, Shapes

PEOPLE = """{
  "$defs": {"person": {"type": "object", "required": ["name"], "additionalProperties": false,
            "properties": {"name": {"type": "string", "pattern": "^[A-Z]"}, "knows": {"$ref": "#/$defs/people"}}},
            "people": {"type": "array", "items": {"$ref": "#/$defs/person"}, "maxItems": 2}},
  "$ref": "#/$defs/people"}"""
LAUGHS = json.dumps(
    {
        "$ref": "#/$defs/0",
        "$defs": {n: {"allOf": [{"$ref": f"#/$defs/{n + 1}"}] * 2} for n in range(60)} | {60: {"type": "integer"}},
    }
)


@pytest.mark.parametrize(
    ("spec", "data", "wrong"),
    [
        (DataSpec("bytes", 3), b"\xff\0", ""),
        (DataSpec("bytes", 1), b"ab", "2 bytes are over the limit of 1"),
        (DataSpec("text", 9), b"\xff", "not valid UTF-8 text"),
        (DataSpec("json", 99), b"{", "not valid JSON"),
        (DataSpec("json", 99), b"[NaN]", "not valid JSON"),
        (DataSpec("json", 99), b"\xff", "not valid JSON"),
        (DataSpec("json", 9999), b"[" * 5000, "not valid JSON"),
        (DataSpec("json", 99, PEOPLE), b'[{"name": "Ann", "knows": [{"name": "Bob"}]}]', ""),
        (
            DataSpec("json", 99, PEOPLE),
            b'[{"name": "Ann", "knows": [{}]}]',
            '[0].knows[0]: "name" is a required property',
        ),
        (DataSpec("json", 99, PEOPLE), b'[{"name": "ann"}]', '[0].name: "ann" does not match "^[A-Z]"'),
        (DataSpec("json", 99, '{"type": "array"}'), b"{}", '{} is not of type "array"'),
    ],
)
async def test_data_is_held_to_format_and_schema(spec: DataSpec, data: bytes, wrong: str) -> None:
    assert await Shapes().conforms(spec, data) == wrong


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ('{"type": "objekt"}', "type: .*objekt"),
        ('{"properties": {"a": {"required": "b"}}}', "properties.a.required"),
        ('{"$ref": "https://example.com/s.json"}', "refers to a schema outside of itself: https://example.com/s.json"),
        ('{"$ref": "file:///etc/passwd"}', "refers to a schema outside of itself"),
        ('{"pattern": "(?=a)b"}', "without look-around"),
        ('{"pattern": "a{1000}{1000}{1000}"}', "linear time"),
        ('{"$schema": "http://json-schema.org/draft-04/schema#"}', "of another draft"),
    ],
)
def test_a_schema_that_cannot_be_used(schema: str, words: str) -> None:
    assert re.search(words, str(schema_program.check(schema, ())["schema"]))


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ("[]", "schema is not a JSON object."),
        ('{"a": 1' + " " * 9000 + "}", "schema is over 8 KiB."),
        ('{"type": "objekt"}', "schema cannot be used: type: .*objekt"),
    ],
)
async def test_a_schema_that_cannot_be_used_is_refused_with_the_reason(schema: str, words: str) -> None:
    for way in ("input", "output"):
        spec = JobSpec(module="", guild="", **{f"{way}_format": "json", f"{way}_schema": schema})  # type: ignore[arg-type]
        with pytest.raises(InvalidManifest, match=f"^The {way} {words}"):
            await Shapes().check(spec, (b"{}",))


async def test_neither_a_schema_nor_data_takes_long() -> None:
    shapes = Shapes()
    assert "does not match" in await shapes.conforms(
        DataSpec("json", schema='{"pattern": "^(a+)+$"}'), b'"%sb"' % (b"a" * 99_999)
    )
    deep = b"[" * 900 + b"]" * 900
    assert await shapes.conforms(DataSpec("json", schema='{"items": {"$ref": "#"}}'), deep) == ""
    before = time.monotonic()
    with patch.object(shape, "TIMEOUT_S", 0.3):
        assert await shapes.conforms(DataSpec("json", schema=LAUGHS), b"3") == TOO_MUCH
    assert time.monotonic() - before < 5


async def test_input_that_does_not_conform_is_not_submitted(world: World) -> None:
    alice, bob = await world.pair()
    schema = '{"maximum": 5}'
    with pytest.raises(BadInput, match="The input is not what the job takes: 7 is greater than the maximum of 5"):
        await alice.submit(bob, stdin=b"7", input_format="json", input_schema=schema)
    assert (await alice.run(bob, stdin=b"4", input_format="json", input_schema=schema)).state == "done"
    spec = alice.spec(input_format="json", input_schema=schema)
    with pytest.raises(BadInput, match="Input 1 is not what the job takes: 6 is greater"):
        await alice.jobs.batches.submit(spec, "", ["4", "6", "9"], None)
