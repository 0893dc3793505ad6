"""Protocol buffer messages of libp2p, declared in place: names, numbers and types as the specifications give them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from zstui.engine.errors import ProtocolError

_TYPES = {
    "bytes": FieldDescriptorProto.TYPE_BYTES,
    "string": FieldDescriptorProto.TYPE_STRING,
    "bool": FieldDescriptorProto.TYPE_BOOL,
    "int32": FieldDescriptorProto.TYPE_INT32,
    "uint32": FieldDescriptorProto.TYPE_UINT32,
    "uint64": FieldDescriptorProto.TYPE_UINT64,
}


def declare(package: str, messages: Mapping[str, Mapping[str, tuple[int, str]]]) -> dict[str, Any]:
    """Message classes by name. A field is its number and its type: one of the scalars above, or a message declared here;
    ``*`` after it makes the field repeated. Enums are declared as int32."""
    file = FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto2")
    for name, fields in messages.items():
        declared = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            scalar = _TYPES.get(kind.rstrip("*"))
            declared.field.add(
                name=field,
                number=number,
                label=FieldDescriptorProto.LABEL_REPEATED
                if kind.endswith("*")
                else FieldDescriptorProto.LABEL_OPTIONAL,
                type=scalar or FieldDescriptorProto.TYPE_MESSAGE,
                type_name=None if scalar else f".{package}.{kind.rstrip('*')}",
            )
    pool = DescriptorPool()
    pool.Add(file)
    return {name: GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}")) for name in messages}


def decode(kind: Any, data: bytes, limit: int) -> Any:
    """A message from untrusted bytes, unknown fields dropped. Raises ProtocolError if malformed or over ``limit`` bytes."""
    if len(data) > limit:
        raise ProtocolError(f"A {kind.DESCRIPTOR.name} message of {len(data)} bytes, over the limit of {limit}.")
    message: Message = kind()
    try:
        message.ParseFromString(data)
    except DecodeError:
        raise ProtocolError(f"A malformed {kind.DESCRIPTOR.name} message.") from None
    message.DiscardUnknownFields()
    return message
