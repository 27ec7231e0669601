r"""The formats of the data files, read strictly: gzip, IDX, and one matrix of a MATLAB 5 file.

A file's SHA-256 is checked before it is read. These readers do not lean on that: whatever the
bytes are, they return what the file says or refuse it by name, and never ask for more memory than
the file's own size, or the size that the caller expects of a compressed one.
"""

import math
import struct
import zlib

import numpy
from numpy.typing import NDArray

__all__ = ["DataError", "gunzip", "idx", "matlab_matrix"]

_BYTES = 8  # IDX: the elements are unsigned bytes
_MOST_AXES = 4
_INT8, _UINT8, _INT32, _UINT32, _MATRIX = 1, 2, 5, 6, 14  # MATLAB: types of an element
_UINT8_CLASS = 9
_HEADER = 128
_BEGINNING, _ENDING = b"MATLAB 5.0 MAT-file", b"\x00\x01IM"  # version 1, the low byte first


class DataError(RuntimeError):
    """A data file is absent, damaged, or cannot be had. The message names it."""


def gunzip(content: bytes, size: int, where: object) -> bytes:
    r"""The uncompressed contents of a gzip file of one member.

    Args:
        content: The file.
        size: How many bytes must come out; at most one more is made.
        where: The path or address of the file, for the message.

    Raises:
        DataError: If it is no such file, or another number of bytes comes out.
    """
    stream = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)  # 16: a gzip file, with its checksum
    try:
        uncompressed = stream.decompress(content, size + 1)
    except zlib.error as error:
        raise DataError(f"{where}: expected a gzip file, found: {error}") from None
    found = f"{len(uncompressed):,}" if len(uncompressed) <= size else "more"
    _require(len(uncompressed) == size, where, f"{size:,} bytes, compressed", found)
    _require(stream.eof, where, "the end of the gzip file", "none")
    _require(not stream.unused_data, where, "the end of the gzip file", "more bytes")
    return uncompressed


def idx(content: bytes, where: object) -> NDArray[numpy.uint8]:
    r"""The array in an IDX file of bytes: two zeros, type 8, rank, each size in four bytes, values.

    Args:
        content: The file, uncompressed.
        where: Its path, for the message.

    Raises:
        DataError: If it is no such file, or is not exactly as long as its sizes say.
    """
    _require(len(content) >= 4, where, "an IDX file's 4 bytes at least", len(content))
    _require(content[:3] == bytes([0, 0, _BYTES]), where, "an IDX file of bytes", content[:3].hex())
    rank = content[3]
    _require(1 <= rank <= _MOST_AXES, where, f"from 1 to {_MOST_AXES} axes", rank)
    start = 4 + 4 * rank
    _require(len(content) >= start, where, f"{start} bytes of sizes", len(content))
    shape = struct.unpack(f">{rank}I", content[4:start])
    expected = start + math.prod(shape)  # of any size: these are Python's integers
    _require(len(content) == expected, where, f"{expected:,} bytes for sizes {shape}", len(content))
    return numpy.frombuffer(content, numpy.uint8, offset=start).reshape(shape)


def matlab_matrix(content: bytes, name: str, where: object) -> NDArray[numpy.uint8]:
    r"""The matrix of bytes that is all a MATLAB 5 file holds, uncompressed, the low byte first.

    That is how ``frey_rawface.mat`` is written; no other form is read.

    Args:
        content: The file.
        name: The matrix's name in MATLAB.
        where: The file's path, for the message.

    Returns:
        (rows, columns).

    Raises:
        DataError: If it is no such file.
    """
    _require(content.startswith(_BEGINNING), where, "a MATLAB 5 file", content[:19])
    header = content[_HEADER - 4 : _HEADER]
    _require(header == _ENDING, where, f"a header that ends with {_ENDING!r}", header)
    matrix, rest = _element(content[_HEADER:], _MATRIX, "a matrix", where)
    _require(not rest, where, "one matrix", f"{len(rest):,} bytes more")

    flags, matrix = _element(matrix, _UINT32, "the matrix's flags", where)
    _require(len(flags) == 8, where, "8 bytes of flags", len(flags))
    kind = int.from_bytes(flags[:4], "little")  # 9, and no flag for complex, global or logical
    _require(kind == _UINT8_CLASS, where, f"a real matrix of bytes, class {_UINT8_CLASS}", kind)

    sizes, matrix = _element(matrix, _INT32, "the matrix's sizes", where)
    _require(len(sizes) == 8, where, "two axes", f"{len(sizes)} bytes of sizes")
    rows, columns = struct.unpack("<2i", sizes)
    _require(rows > 0 and columns > 0, where, "rows and columns", (rows, columns))

    called, matrix = _element(matrix, _INT8, "the matrix's name", where)
    _require(called == name.encode(), where, f"a matrix named {name!r}", called)

    values, rest = _element(matrix, _UINT8, "the matrix's values", where)
    _require(
        len(values) == rows * columns, where, f"{rows} by {columns} values", f"{len(values):,}"
    )
    _require(not rest, where, "nothing after the values", f"{len(rest):,} bytes")
    return numpy.frombuffer(values, numpy.uint8).reshape(columns, rows).T  # stored by columns


def _element(content: bytes, kind: int, what: str, where: object) -> tuple[bytes, bytes]:
    """The contents of the first element, and what follows it. Each starts at a multiple of 8."""
    _require(len(content) >= 8, where, what, f"{len(content)} bytes")
    found, size = struct.unpack("<2I", content[:8])
    start, end = 8, 8 + size + -size % 8
    if found >> 16:  # the short form: the type and the size share four bytes, four of contents
        found, size = found & 0xFFFF, found >> 16
        _require(size <= 4, where, f"{what} in 4 bytes", f"{size} bytes")
        start, end = 4, 8
    _require(found == kind, where, f"{what}, an element of type {kind}", f"type {found}")
    _require(end <= len(content), where, f"{what} of {size:,} bytes", f"{len(content):,} in all")
    return content[start : start + size], content[end:]


def _require(fits: bool, where: object, expected: str, found: object) -> None:
    if not fits:
        raise DataError(f"{where}: expected {expected}, found {found}")
