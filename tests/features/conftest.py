"""What tests of weights need: a small web site to download from, and the user's own real files."""

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

Reply = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Site:
    """A web site on 127.0.0.1.

    Attributes:
        address: its root, without the final slash; as a proxy it opens no tunnel.
        replies: path -> the replies to the first, second, ... request; the last one stays.
        requests: path and Range header of each request so far.
    """

    address: str
    replies: dict[str, list[Reply]] = field(default_factory=dict)
    requests: list[tuple[str, str | None]] = field(default_factory=list)

    def serve(self, path: str, *replies: Reply) -> str:
        """Put something at ``path`` and return its address."""
        self.replies[path] = list(replies)
        return self.address + path

    def ranges(self, path: str) -> list[str | None]:
        """Return the Range headers of the requests for ``path``."""
        return [wanted for found, wanted in self.requests if found == path]


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Run a web site for the time of a test."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.requests.append((self.path, self.headers["Range"]))
            replies = found.replies.get(self.path, [status(404)])
            (replies.pop(0) if len(replies) > 1 else replies[0])(self)

        def do_CONNECT(self) -> None:
            found.requests.append((f"CONNECT {self.path}", None))
            status(403)(self)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Site(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


def status(code: int, **headers: str) -> Reply:
    """Reply with nothing but a status, e.g. ``status(302, Location=...)``."""

    def reply(request: BaseHTTPRequestHandler) -> None:
        request.send_response(code)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.send_header("Content-Length", "0")
        request.end_headers()

    return reply


def content(
    body: bytes, *, version: str | None = '"v1"', ranges: bool = True, cut_at: int | None = None
) -> Reply:
    """Reply with a body as web servers do.

    Args:
        body: the whole file.
        version: its ETag, if it has one.
        ranges: whether the server understands Range.
        cut_at: end the connection before this byte of the file.
    """

    def reply(request: BaseHTTPRequestHandler) -> None:
        start = 0
        wanted = request.headers["Range"]
        if ranges and wanted and request.headers["If-Range"] in (None, version):
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if start >= len(body) > 0:
            status(416, Content_Range=f"bytes */{len(body)}")(request)
            return
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if version:
            request.send_header("ETag", version)
        request.send_header("Content-Length", str(len(body) - start))
        request.end_headers()
        request.wfile.write(body[start:cut_at])
        request.wfile.flush()
        if cut_at is not None:
            request.close_connection = True

    return reply


@pytest.fixture
def real_file() -> Callable[[str], Path]:
    """Return a function that finds a real weights file by name, or skips the test."""

    def find(name: str) -> Path:
        folder = os.environ.get("AFFECTLINE_WEIGHTS")
        if not folder:
            pytest.skip("AFFECTLINE_WEIGHTS names no folder of real weights")
        path = Path(folder) / name
        if not path.is_file():
            pytest.skip(f"{path}: no such file")
        return path

    return find
