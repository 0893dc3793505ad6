"""A value of any type that msgspec can decode, as small as its bounds allow, with the keys of ``people``."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import inspect as kinds

from tests.fuzz.people import ONE, OTHER

_PEERS = {"submitter": ONE.peer_id, "executor": OTHER.peer_id}


def example(kind: object) -> Any:
    """Plain values, encoded as the struct would be."""
    return _of(kinds.type_info(kind))


def examples(union: object) -> list[Any]:
    """One of each member."""
    info = kinds.type_info(union)
    return [_of(member) for member in (info.types if isinstance(info, kinds.UnionType) else (info,))]


def _of(info: kinds.Type, name: str = "") -> Any:
    match info:
        case kinds.Metadata(type=inner):
            return _of(inner, name)
        case kinds.IntType(ge=least, gt=above):
            return least if least is not None else 0 if above is None else above + 1
        case kinds.FloatType():
            return 0.5
        case kinds.BoolType():
            return True
        case kinds.StrType(min_length=least):
            return _PEERS.get(name, "x" * (least or 1))
        case kinds.BytesType(min_length=least):
            return ONE.public_key if least == 32 else bytes(least or 0)
        case kinds.NoneType():
            return None
        case kinds.LiteralType(values=values):
            return values[0]
        case kinds.EnumType(cls=cls):
            return next(iter(cls)).value
        case kinds.UnionType(types=types):
            return _of(types[0], name)
        case kinds.TupleType(item_types=items):
            return [_of(item) for item in items]
        case kinds.CollectionType(item_type=item, min_length=least):
            return [_of(item)] * (least or 1)
        case kinds.DictType():
            return {}
        case kinds.StructType(fields=fields, array_like=is_array, tag=tag, tag_field=field):
            parts = {f.encode_name: _of(f.type, f.name) for f in fields}
            if is_array:
                return [*([] if tag is None else [tag]), *parts.values()]
            return parts if tag is None else {str(field): tag, **parts}
        case _:
            return None


def packed(kind: object) -> bytes:
    return msgspec.msgpack.encode(example(kind))


def all_packed(union: object) -> tuple[bytes, ...]:
    return tuple(msgspec.msgpack.encode(value) for value in examples(union))
