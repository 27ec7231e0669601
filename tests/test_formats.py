"""The readers of the data files' formats: known answers, agreement with scipy, and bounds."""

import gzip
import io
import re
import struct
import tracemalloc

import numpy
import pytest
import scipy.io

from aevb import _files, _formats, data

IMAGES = numpy.arange(2 * 3 * 4, dtype=numpy.uint8).reshape(2, 3, 4)
IDX = bytes([0, 0, 8, 3]) + struct.pack(">3I", *IMAGES.shape) + IMAGES.tobytes()


def refused(message: str) -> "pytest.RaisesExc[data.DataError]":
    return pytest.raises(data.DataError, match=f"^the file: expected {re.escape(message)}")


def matlab(name: str = "ff", array: numpy.ndarray = IMAGES[0], **settings: object) -> bytes:
    """A MATLAB 5 file, as scipy writes it."""
    file = io.BytesIO()
    scipy.io.savemat(file, {name: array}, **settings)
    return file.getvalue()


def test_idx_has_the_shape_and_the_order_of_the_file() -> None:
    assert numpy.array_equal(_formats.idx(IDX, "the file"), IMAGES)
    assert _formats.idx(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9]), "the file").tolist() == [7, 9]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (IDX[:3], "an IDX file's 4 bytes at least, found 3"),
        (IDX[:-1], "40 bytes for sizes (2, 3, 4), found 39"),
        (IDX + b"!", "40 bytes for sizes (2, 3, 4), found 41"),
        (IDX[:2] + b"\x0d" + IDX[3:], "an IDX file of bytes, found 00000d"),
        (IDX[:3] + b"\x00" + IDX[4:], "from 1 to 4 axes, found 0"),
        (IDX[:3] + b"\xff" + IDX[4:], "from 1 to 4 axes, found 255"),
        (IDX[:12], "16 bytes of sizes, found 12"),
        (IDX[:4] + b"\xff" * 12 + IDX[16:], "79,228,162,458,924,105,385,300,197,391 bytes"),
    ],
)
def test_another_idx_file_is_refused(content: bytes, message: str) -> None:
    with refused(message):
        _formats.idx(content, "the file")


def test_gunzip_makes_what_was_compressed() -> None:
    assert _formats.gunzip(PACKED, len(IDX), "the file") == IDX


PACKED = gzip.compress(IDX, mtime=0)


# Named: the bytes would be the tests' names, and a gzip file holds the time of its making.
@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(IDX, "a gzip file, found: ", id="not packed"),
        pytest.param(b"", "40 bytes, compressed, found 0", id="nothing"),
        pytest.param(
            gzip.compress(IDX[:-1], mtime=0), "40 bytes, compressed, found 39", id="a byte less"
        ),
        pytest.param(
            gzip.compress(IDX + b"!", mtime=0), "40 bytes, compressed, found more", id="a byte more"
        ),
        pytest.param(PACKED[:-1], "the end of the gzip file, found none", id="cut"),
        pytest.param(
            PACKED + b"!", "the end of the gzip file, found more bytes", id="a byte after the end"
        ),
        pytest.param(PACKED[:-8] + bytes(8), "a gzip file, found: ", id="another checksum"),
    ],
)
def test_another_gzip_file_is_refused(content: bytes, message: str) -> None:
    with refused(message):
        _formats.gunzip(content, len(IDX), "the file")


def test_a_gzip_bomb_takes_no_more_memory_than_was_expected() -> None:
    bomb = gzip.compress(bytes(200_000_000), compresslevel=1)
    tracemalloc.start()
    try:
        with refused("1,000,000 bytes, compressed, found more"):
            _formats.gunzip(bomb, 1_000_000, "the file")
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 5_000_000


def test_a_matrix_is_read_as_scipy_reads_it() -> None:
    for name in ("ff", "a_longer_name"):  # the short form of an element, and the long one
        content = matlab(name)
        expected = scipy.io.loadmat(io.BytesIO(content))[name]
        found = _formats.matlab_matrix(content, name, "the file")
        assert numpy.array_equal(found, expected)
        assert numpy.array_equal(found, IMAGES[0])


def test_the_real_file_is_read_as_scipy_reads_it() -> None:
    try:
        content = _files.read(data.folder(), _files.FREY_FACE[0])
    except data.DataError as error:
        pytest.skip(str(error))
    expected = scipy.io.loadmat(io.BytesIO(content))["ff"]
    found = _formats.matlab_matrix(content, "ff", "the file")
    assert found.shape == (560, 1965)
    assert found.dtype == expected.dtype == numpy.uint8
    assert numpy.array_equal(found, expected)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a MATLAB 5 file, found b''"),
        (matlab()[:126], "a header that ends with"),
        (matlab()[:126] + b"MI" + matlab()[128:], "a header that ends with"),
        (matlab()[:128], "a matrix, found 0 bytes"),
        (matlab()[:-1], "a matrix of "),
        (matlab() + bytes(8), "one matrix, found 8 bytes more"),
        (matlab(do_compression=True), "a matrix, an element of type 14, found type 15"),
        (matlab("gg"), "a matrix named 'ff', found b'gg'"),
        (matlab(array=IMAGES), "two axes, found 12 bytes of sizes"),
        (matlab(array=IMAGES[0].astype(float)), "a real matrix of bytes, class 9, found 6"),
        (matlab(array=IMAGES[0] > 3), "a real matrix of bytes, class 9, found 521"),  # logical
        (matlab(array=IMAGES[0][:0]), "rows and columns, found (0, 4)"),
    ],
)
def test_another_matlab_file_is_refused(content: bytes, message: str) -> None:
    with refused(message):
        _formats.matlab_matrix(content, "ff", "the file")


def test_a_matlab_matrix_ends_with_its_values() -> None:
    content = matlab()
    size = int.from_bytes(content[132:136], "little") + 8
    longer = content[:132] + size.to_bytes(4, "little") + content[136:] + bytes(8)
    with refused("nothing after the values, found 8 bytes"):
        _formats.matlab_matrix(longer, "ff", "the file")
