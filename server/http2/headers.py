"""Header blocks: read by the hpack library, written without a table.

A block that leaves the decoder's table as it was means the same whenever it comes while the table stays; the blocks of
a client's calls are mostly such, so each is decoded once.
"""

from collections.abc import Iterable
from typing import Any

import hpack

from server.http2.frames import Code, ConnectionFault


class Headers(list[tuple[str, str]]):
    """Names and values. Calls of a client mostly have the same ones, so what was read out of them is kept: `known`."""

    __slots__ = ("known",)

    def __init__(self, found: Iterable[tuple[str, str]] = ()) -> None:
        super().__init__(found)
        self.known: Any = None


# How a change of the table's size begins, and how many may stand in front of a block.
TABLE_SIZE, MOST_TABLE_SIZES = 0x20, 2
# Blocks remembered of one connection, and the bytes of the longest, as it came and as it reads.
MOST_REMEMBERED, LONGEST_REMEMBERED = 64, 1024


class HeaderReader:
    """The decoder of one connection."""

    def __init__(self, *, max_bytes: int) -> None:
        self._decoder = hpack.Decoder(max_header_list_size=max_bytes)
        self._remembered: dict[bytes, Headers] = {}

    def read(self, block: bytes) -> Headers:
        """Names and values. Raises ConnectionFault: the table would be out of step from here on."""
        known = self._remembered.get(block)
        if known is not None:
            return known
        _check_table_sizes(block)
        table = self._decoder.header_table
        before = list(table.dynamic_entries), table.maxsize
        try:
            found = Headers((_text(name), _text(value)) for name, value in self._decoder.decode(block, raw=True))
        except (hpack.HPACKError, UnicodeDecodeError) as error:
            raise ConnectionFault(Code.COMPRESSION_ERROR, f"headers: {error}") from None
        if (list(table.dynamic_entries), table.maxsize) != before:
            self._remembered.clear()
        elif len(self._remembered) < MOST_REMEMBERED and _is_short(block, found):
            self._remembered[block] = found
        return found


def _is_short(block: bytes, found: Headers) -> bool:
    """Whether it may be remembered: a few bytes may stand for long entries of the table."""
    return max(len(block), sum(len(name) + len(value) for name, value in found)) <= LONGEST_REMEMBERED


def _check_table_sizes(block: bytes) -> None:
    """A block begins with two changes of the table's size at most (RFC 7541, section 4.2). Raises ConnectionFault.

    Each costs the decoder as much as a header, and leaves nothing behind by which it would count as one.
    """
    at = 0
    for _ in range(MOST_TABLE_SIZES + 1):
        if at >= len(block) or block[at] & 0xE0 != TABLE_SIZE:
            return
        goes_on = block[at] & 0x1F == 0x1F
        at += 1
        while goes_on and at < len(block):
            goes_on = bool(block[at] & 0x80)
            at += 1
    raise ConnectionFault(Code.COMPRESSION_ERROR, f"headers: more than {MOST_TABLE_SIZES} changes of the table's size")


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else bytes(value).decode("latin-1")


def write(headers: Iterable[tuple[str, str]]) -> bytes:
    """A block of literals that are not to be indexed: the same bytes mean the same on any connection."""
    return b"".join(b"\0" + _string(name) + _string(value) for name, value in headers)


def _string(text: str) -> bytes:
    data = text.encode("latin-1")
    return _integer(len(data)) + data


def _integer(value: int) -> bytes:
    """With a prefix of 7 bits, the eighth (Huffman) 0 (RFC 7541, section 5.1)."""
    if value < 127:
        return bytes((value,))
    encoded = bytearray((127,))
    value -= 127
    while value >= 128:
        encoded.append(value % 128 + 128)
        value //= 128
    encoded.append(value)
    return bytes(encoded)
