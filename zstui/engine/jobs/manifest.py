"""The task manifest: what the submitter signs before anything is sent. Pure.

The manifest's hash is the SHA-256 of its signed envelope as sent; it is also the job's id on both sides.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Literal, Protocol

from zstui.engine.errors import BadInput, InvalidManifest, ProtocolError
from zstui.engine.identity.envelope import SMALL, Body, Signed, open_envelope
from zstui.engine.identity.keys import PeerId, public_key_of
from zstui.engine.identity.text import clean_text
from zstui.engine.jobs.cid import cid_of_digest, digest_of_cid
from zstui.engine.jobs.cost import Cost, cost
from zstui.engine.jobs.sandbox.model import check_name
from zstui.engine.money import MAX_AMOUNT_U, format_rate

MIB = 1 << 20
MAX_MODULE = 32 * MIB
MAX_STDIN = 16 * MIB
MAX_OUTPUT = MIB
"""Bytes of stdout, and of stderr, that are kept and sent."""
MAX_ARGUMENTS = 16 * 1024
"""Bytes of all arguments and environment variables together."""
MAX_SCHEMA = 8 * 1024
MAX_MANIFEST = 40 * 1024
"""Bytes of a signed manifest."""
MAX_WITNESSES = 16
MAX_RATE_NANO = 10**15
MAX_FUEL = 300_000_000_000
MAX_STACK = 8 * MIB
MAX_MEMORY = 4096 * MIB
MAX_TIMEOUT_US = 24 * 3600 * 1_000_000
MAX_INPUTS = 64
MAX_INPUT_BYTES = 64 * MIB
"""Of all input files together."""
MAX_NAMES = 8 * 1024
"""Bytes of all input names, or all output names, together."""
DEFAULT_PRIORITY = 4
MAX_PRIORITY = 9
MAX_WANTS = 200
EMPTY_HASH = hashlib.sha256(b"").digest()


class Resources(Body, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Hard limits of one execution."""

    memory_bytes: int = 128 * MIB
    timeout_us: int = 30_000_000
    gas: int = MAX_FUEL
    """Compute allowance in fuel units."""
    stack_bytes: int = MAX_STACK
    output_bytes: int = MAX_OUTPUT
    """Cap of stdout, and of stderr."""


class Terms(Body, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The most that the submitter pays."""

    price_per_second_nano: int
    price_per_mib_nano: int
    max_total_u: int


class Sla(Body, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What the submitter asks of an executor's record, in thousandths."""

    min_uptime: int = 0
    max_failure_rate: int = 1000
    min_reputation: int = 0


class DataSpec(Body, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Shape of stdin or stdout."""

    format: Literal["bytes", "text", "json"] = "bytes"
    max_bytes: int = MAX_STDIN
    schema: str = ""
    """A JSON Schema document (draft 2020-12, which refers to nothing outside of itself) for format "json"; "" for any."""


class FileRef(Body, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A file by its content."""

    name: str
    """Relative POSIX path under /in or /out."""
    sha256: bytes
    size: int

    @property
    def cid(self) -> str:
        return cid_of_digest(self.sha256)


class Manifest(Body, frozen=True, array_like=True, forbid_unknown_fields=True):
    submitter: PeerId
    guild: bytes
    module_cid: str
    module_name: str
    """File name, for people."""
    module_bytes: int
    function: str
    args: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    stdin_hash: bytes
    """SHA-256; stdin itself travels as an artifact."""
    stdin_bytes: int
    resources: Resources
    terms: Terms
    sla: Sla
    input: DataSpec
    output: DataSpec
    witnesses: int
    created_us: int
    nonce: bytes
    """16 random bytes: the same job submitted twice is two jobs."""
    seed: bytes
    """32 bytes from which the sandbox derives the job's clock and random numbers."""
    inputs: tuple[FileRef, ...] = ()
    """Read-only files at /in, sorted by name; their contents travel as artifacts. This field and those below may be absent."""
    outputs: bool = False
    """Whether what the job writes to /out is collected."""
    priority: int = DEFAULT_PRIORITY
    """The higher, the sooner among the submitter's own jobs."""
    wants: str = ""
    """What the submitter prefers an executor to offer, in words; it binds nobody."""

    @property
    def guild_id(self) -> str:
        return self.guild.hex()

    @property
    def stdin_cid(self) -> str:
        return cid_of_digest(self.stdin_hash)


class Capabilities(Protocol):
    """What an executor offers: its card, or its own settings."""

    @property
    def executor(self) -> bool: ...
    @property
    def memory_mib(self) -> int: ...
    @property
    def timeout_s(self) -> int: ...
    @property
    def price_per_second_nano(self) -> int: ...
    @property
    def price_per_mib_nano(self) -> int: ...
    @property
    def note_ms(self) -> int: ...
    @property
    def accept_ms(self) -> int: ...
    @property
    def exposure_max_u(self) -> int: ...


def manifest_hash(raw: bytes) -> bytes:
    """SHA-256 of the signed manifest's bytes."""
    return hashlib.sha256(raw).digest()


def open_manifest(raw: bytes, signer: PeerId | None = None) -> tuple[Signed, Manifest]:
    """Verify, decode and validate. Raises ProtocolError, InvalidManifest."""
    if len(raw) > MAX_MANIFEST:
        raise InvalidManifest(f"The manifest is over {MAX_MANIFEST // 1024} KiB.")
    signed = open_envelope(raw, signer)
    return signed, (_read_lately(signed) if len(raw) <= SMALL else _read(signed))


def _read(signed: Signed) -> Manifest:
    manifest = signed.decode(Manifest)
    if manifest.submitter != signed.signer:
        raise ProtocolError("A manifest in the name of another peer than its signer.")
    validate(manifest)
    return manifest


_read_lately = lru_cache(maxsize=512)(_read)
"""Each step of a job looks at its manifest."""


def validate(m: Manifest) -> None:
    """Raises InvalidManifest with one sentence that names the first thing wrong."""
    try:
        digest_of_cid(m.module_cid)
        public_key_of(m.submitter)
    except BadInput as error:
        raise InvalidManifest(str(error)) from None
    _require(
        len(m.guild) == 32 and len(m.nonce) == 16 and len(m.seed) == 32 and len(m.stdin_hash) == 32,
        "The guild, nonce, seed or stdin hash has a wrong length.",
    )
    _require(
        0 < len(m.module_name) <= 255 and clean_text(m.module_name, 255) == m.module_name,
        "The module's name is empty, too long or has control characters.",
    )
    _range("The module's size", m.module_bytes, 1, MAX_MODULE, "bytes")
    _require(
        0 < len(m.function) <= 255 and clean_text(m.function, 255) == m.function,
        "The function's name is empty, too long or has control characters.",
    )
    strings = [*m.args, *(part for pair in m.env for part in pair)]
    _require(
        sum(len(s.encode("utf-8", "surrogatepass")) + 1 for s in strings) <= MAX_ARGUMENTS,
        f"Arguments and environment together are over {MAX_ARGUMENTS // 1024} KiB.",
    )
    _require(not any("\0" in s for s in strings), "An argument or environment variable has a NUL character.")
    _require(not any("\ud800" <= c <= "\udfff" for s in strings for c in s), "An argument is not valid Unicode.")
    _require(all(k and "=" not in k for k, _ in m.env), "An environment variable's name is empty or has a '='.")
    _range("The size of stdin", m.stdin_bytes, 0, min(MAX_STDIN, max(m.input.max_bytes, 0)), "bytes")
    _require(m.stdin_bytes > 0 or m.stdin_hash == EMPTY_HASH, "The stdin hash is not that of an empty stdin.")
    _resources(m.resources)
    _range("The price per second", m.terms.price_per_second_nano, 0, MAX_RATE_NANO, "nano-units")
    _range("The price per MiB", m.terms.price_per_mib_nano, 0, MAX_RATE_NANO, "nano-units")
    _range("The largest price", m.terms.max_total_u, 1, MAX_AMOUNT_U, "micro-units")
    for what, value in (
        ("uptime", m.sla.min_uptime),
        ("failure rate", m.sla.max_failure_rate),
        ("reputation", m.sla.min_reputation),
    ):
        _range(f"The {what} asked for", value, 0, 1000, "thousandths")
    check_spec("input", m.input)
    check_spec("output", m.output)
    check_files("input", m.inputs, MAX_INPUTS, MAX_INPUT_BYTES)
    _require(
        len(m.wants) <= MAX_WANTS and clean_text(m.wants, MAX_WANTS) == m.wants,
        "What the job wants of its executor is too long or has control characters.",
    )
    _range("The priority", m.priority, 0, MAX_PRIORITY, "steps")
    _range("The number of witnesses", m.witnesses, 0, MAX_WITNESSES, "peers")
    _range("The creation time", m.created_us, 0, 2**53, "µs")


def check_files(what: str, files: Sequence[FileRef], most: int, most_bytes: int) -> None:
    """Raises InvalidManifest unless these are sound names in order, none of which lies below another, within the caps."""
    _range(f"The number of {what} files", len(files), 0, most, "files")
    names = [f.name for f in files]
    try:
        for name in names:
            check_name(name)
    except BadInput as error:
        raise InvalidManifest(str(error)) from None
    taken = {"/".join(n.split("/")[:depth]) for n in names for depth in range(1, n.count("/") + 1)}
    _require(
        all(a < b for a, b in pairwise(names)) and taken.isdisjoint(names),
        f"The {what} files are not in order, or two have the same name.",
    )
    _require(
        sum(len(n.encode()) for n in names) <= MAX_NAMES,
        f"The names of the {what} files together are over {MAX_NAMES // 1024} KiB.",
    )
    _require(
        all(len(f.sha256) == 32 and f.size >= 0 for f in files) and sum(f.size for f in files) <= most_bytes,
        f"The {what} files together are over {most_bytes // MIB} MiB.",
    )


def _resources(r: Resources) -> None:
    _range("The memory limit", r.memory_bytes, 64 * 1024, MAX_MEMORY, "bytes")
    _range("The time limit", r.timeout_us, 1000, MAX_TIMEOUT_US, "µs")
    _range("The gas limit", r.gas, 1, MAX_FUEL, "units")
    _range("The stack limit", r.stack_bytes, 64 * 1024, MAX_STACK, "bytes")
    _range("The output limit", r.output_bytes, 0, MAX_OUTPUT, "bytes")


def check_spec(what: str, spec: DataSpec) -> None:
    """Raises InvalidManifest; whether a schema can be used is for its submitter to check (``shape.py``)."""
    _range(f"The {what} size limit", spec.max_bytes, 0, MAX_STDIN, "bytes")
    _require(len(spec.schema.encode("utf-8", "replace")) <= MAX_SCHEMA, f"The {what} schema is over 8 KiB.")
    if spec.schema:
        _require(spec.format == "json", f"The {what} has a schema but its format is not json.")
        try:
            schema = json.loads(spec.schema)
        except (ValueError, RecursionError):
            schema = None
        _require(isinstance(schema, dict), f"The {what} schema is not a JSON object.")


def _require(ok: bool, sentence: str) -> None:
    if not ok:
        raise InvalidManifest(sentence)


def _range(what: str, value: int, low: int, high: int, unit: str) -> None:
    _require(low <= value <= high, f"{what} must be {low} to {high} {unit}, not {value}.")


def price(m: Manifest, price_per_second_nano: int, price_per_mib_nano: int) -> Cost:
    """The most the job can cost at these prices: all of its time and memory, under its cap."""
    return cost(
        price_per_second_nano,
        price_per_mib_nano,
        m.resources.timeout_us,
        m.resources.memory_bytes,
        m.terms.max_total_u,
    )


def estimate_price(m: Manifest) -> int:
    """Largest amount in micro-units that can be asked for this job at the manifest's own prices."""
    return price(m, m.terms.price_per_second_nano, m.terms.price_per_mib_nano).total_u


def can_execute(m: Manifest, offer: Capabilities) -> str:
    """Why a peer that offers ``offer`` cannot take the job, as the rest of a sentence; "" if it can."""
    memory_mib = -(-m.resources.memory_bytes // MIB)
    timeout_s = -(-m.resources.timeout_us // 1_000_000)
    if not offer.executor:
        return "does not run jobs for others"
    if memory_mib > offer.memory_mib:
        return f"too little memory: offers {offer.memory_mib} MiB, the job asks for {memory_mib} MiB"
    if timeout_s > offer.timeout_s:
        return f"too little time: offers {offer.timeout_s} s, the job asks for {timeout_s} s"
    for what, asked, offered in (
        ("second", offer.price_per_second_nano, m.terms.price_per_second_nano),
        ("MiB", offer.price_per_mib_nano, m.terms.price_per_mib_nano),
    ):
        if offered < asked:
            return f"price too low: asks {format_rate(asked)} per {what}, the job offers {format_rate(offered)}"
    return ""
