"""The Noise XX handshake against published test vectors, and against whoever changes a byte on the way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from zstui.engine.errors import AuthenticationFailed
from zstui.engine.net.relay.noise import Cipher, Handshake

VECTORS = json.loads((Path(__file__).parent / "noise_vectors.json").read_text())
"""From github.com/flynn/noise, vectors.txt."""


def key(text: str) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(bytes.fromhex(text))


def pair(vector: dict[str, str]) -> tuple[Handshake, Handshake]:
    prologue = bytes.fromhex(vector.get("prologue", ""))
    return (
        Handshake(
            initiator=True,
            static=key(vector["init_static"]),
            ephemeral=key(vector["gen_init_ephemeral"]),
            prologue=prologue,
        ),
        Handshake(
            initiator=False,
            static=key(vector["resp_static"]),
            ephemeral=key(vector["gen_resp_ephemeral"]),
            prologue=prologue,
        ),
    )


@pytest.mark.parametrize("vector", VECTORS)
def test_the_handshake_is_as_published(vector: dict[str, str]) -> None:
    sides = pair(vector)
    for number in range(3):
        writer, reader = sides[number % 2], sides[1 - number % 2]
        payload = bytes.fromhex(vector[f"msg_{number}_payload"])
        message = writer.write(payload)
        assert message.hex() == vector[f"msg_{number}_ciphertext"]
        assert reader.read(message) == payload
    assert sides[0].is_complete
    assert sides[1].is_complete
    (one_sends, one_receives), (other_sends, other_receives) = (side.split() for side in sides)
    payload, text = bytes.fromhex(vector["msg_3_payload"]), vector["msg_3_ciphertext"]
    answer, answer_text = bytes.fromhex(vector["msg_4_payload"]), vector["msg_4_ciphertext"]
    assert one_sends.encrypt(payload).hex() == text
    assert other_receives.decrypt(bytes.fromhex(text)) == payload
    assert other_sends.encrypt(answer).hex() == answer_text
    assert one_receives.decrypt(bytes.fromhex(answer_text)) == answer


@given(number=st.integers(0, 2), at=st.integers(min_value=0), change=st.integers(1, 255), cut=st.booleans())
def test_a_changed_handshake_never_completes(number: int, at: int, change: int, cut: bool) -> None:
    sides = pair(VECTORS[0])

    def run() -> None:
        for turn in range(3):
            message = bytearray(sides[turn % 2].write(b"payload"))
            if turn == number and cut:
                del message[at % len(message) :]
            elif turn == number:
                message[at % len(message)] ^= change
            sides[1 - turn % 2].read(bytes(message))

    with pytest.raises(AuthenticationFailed):
        run()


@given(st.lists(st.binary(max_size=100), min_size=2, max_size=5), st.data())
def test_messages_cannot_be_changed_dropped_or_reordered(messages: list[bytes], data: st.DataObject) -> None:
    sending, receiving = Cipher(bytes(32)), Cipher(bytes(32))
    sealed = [sending.encrypt(message) for message in messages]
    first = data.draw(st.integers(1, len(sealed) - 1))
    with pytest.raises(AuthenticationFailed):
        receiving.decrypt(sealed[first])
