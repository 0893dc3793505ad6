"""Peer ids and key files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zstui.engine.errors import BadInput, HomeError
from zstui.engine.identity.keys import (
    Identity,
    base58_decode,
    base58_encode,
    peer_id_of,
    public_key_from_protobuf,
    public_key_of,
    public_key_protobuf,
    verify,
)


def test_known_peer_id() -> None:
    """RFC 8032 test 1's key; the id follows from the libp2p peer-id specification."""
    identity = Identity(bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"))
    assert identity.public_key.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    multihash = bytes.fromhex("002408011220") + identity.public_key
    assert base58_decode(identity.peer_id) == multihash
    assert identity.peer_id.startswith("12D3KooW")
    assert len(identity.peer_id) == 52


def test_known_signature() -> None:
    """RFC 8032 section 7.1, test 1."""
    identity = Identity(bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"))
    signature = identity.sign(b"")
    assert signature.hex().startswith("e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155")
    assert verify(identity.public_key, b"", signature)
    assert not verify(identity.public_key, b"x", signature)
    assert not verify(identity.public_key, b"", signature[:-1])
    assert not verify(identity.public_key[:-1], b"", signature)


@pytest.mark.parametrize(
    ("data", "text"), [(b"Hello World!", "2NEpo7TZRRrLZSi2U"), (b"\0\0\x28\x7f\xb4\xcd", "11233QC4"), (b"", "")]
)
def test_known_base58(data: bytes, text: str) -> None:
    assert base58_encode(data) == text
    assert base58_decode(text) == data


@given(st.binary(max_size=60))
def test_base58_round_trip(data: bytes) -> None:
    assert base58_decode(base58_encode(data)) == data


@given(st.binary(min_size=32, max_size=32))
def test_a_peer_id_holds_its_key(key: bytes) -> None:
    assert public_key_of(peer_id_of(key)) == key
    assert public_key_from_protobuf(public_key_protobuf(key)) == key


@given(st.text(max_size=80))
def test_other_text_is_no_peer_id(text: str) -> None:
    with pytest.raises(BadInput):
        public_key_of(text)


@pytest.mark.parametrize("text", ["0OIl", "1" * 129, "QmfXbAwNjJLXfesgztEHe8HwgVDCMMpZ9Eax1HYq6hn9uE"])
def test_bad_ids_are_refused(text: str) -> None:
    with pytest.raises(BadInput):
        public_key_of(text)


def test_key_file_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "key"
    first = Identity.load_or_create(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_size == 32
    assert Identity.load_or_create(path).peer_id == first.peer_id
    assert os.listdir(tmp_path) == ["key"]


def test_key_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    Identity.load_or_create(path)
    path.chmod(0o640)
    with pytest.raises(HomeError, match="chmod 600"):
        Identity.load_or_create(path)


def test_damaged_key_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"short")
    path.chmod(0o600)
    with pytest.raises(HomeError, match="damaged"):
        Identity.load_or_create(path)


def test_key_file_in_a_missing_directory_is_a_home_error(tmp_path: Path) -> None:
    with pytest.raises(HomeError, match="Cannot use"):
        Identity.load_or_create(tmp_path / "missing" / "key")


def test_the_key_does_not_show() -> None:
    assert "SigningKey" not in repr(vars(Identity.generate())["public_key"])
    seed = os.urandom(32)
    assert seed.hex() not in repr(Identity(seed))
