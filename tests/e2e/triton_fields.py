"""python -m tests.e2e.triton_fields DESCRIPTORS: where our .proto's wire format differs from tritonclient's.

Reads the descriptor set that protoc made of ours, so that neither side's symbols meet in one pool. Prints a line per
difference.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet
from tritonclient.grpc import model_config_pb2, service_pb2


def fields(messages: Iterator[tuple[str, DescriptorProto]]) -> dict[str, tuple[object, ...]]:
    """Everything that the wire knows of a field, by message and name."""
    return {
        f"{path}.{field.name}": (field.number, field.type, field.label, field.type_name, field.HasField("oneof_index"))
        for path, message in messages
        for field in message.field
    }


def walk(path: str, messages: Iterator[DescriptorProto]) -> Iterator[tuple[str, DescriptorProto]]:
    """Every message with its path, nested ones (map entries, too) included."""
    for message in messages:
        yield f"{path}.{message.name}", message
        yield from walk(f"{path}.{message.name}", iter(message.nested_type))


def enums(file: FileDescriptorProto) -> dict[str, int]:
    """The number of every name of the file's enums."""
    return {f"{enum.name}.{value.name}": value.number for enum in file.enum_type for value in enum.value}


def methods(file: FileDescriptorProto) -> dict[str, tuple[object, ...]]:
    """Request and response of every method."""
    return {
        f"{service.name}/{method.name}": (
            method.input_type,
            method.output_type,
            method.client_streaming,
            method.server_streaming,
        )
        for service in file.service
        for method in service.method
    }


def main() -> None:
    """Ours must be a part of theirs."""
    (ours,) = FileDescriptorSet.FromString(Path(sys.argv[1]).read_bytes()).file
    theirs = FileDescriptorProto()
    # Two files of theirs are one of ours.
    for module in (service_pb2, model_config_pb2):
        file = FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(file)
        theirs.MergeFrom(file)
    differences = 0
    sides = [
        {"package": file.package, **fields(walk(file.package, iter(file.message_type))), **enums(file), **methods(file)}
        for file in (ours, theirs)
    ]
    for name, described in sides[0].items():
        if sides[1].get(name) != described:
            differences += 1
            sys.stdout.write(f"{name}: ours {described}, theirs {sides[1].get(name)}\n")
    sys.stdout.write(f"{len(sides[0])} compared, {differences} differ\n")


if __name__ == "__main__":
    main()
