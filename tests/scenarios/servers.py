"""Servers of DVC remotes on loopback, each started and ended by the test that asks for it."""

import getpass
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import HANGING_S

HOST = "127.0.0.1"


@dataclass
class Server:
    """A remote's server.

    Attributes:
        command: that runs it in the foreground.
        port: where it listens.
        url: of the remote, for clients; ``{port}`` stands for the port they connect to.
        settings: of the remote, a person's own; with ``{port}`` too.
        folder: with the objects; None where they are not files, and gone with the process.
        user: as whom it runs, None: as we do.
        environment: of the process, besides ours.
    """

    command: Sequence[str]
    port: int
    url: str
    settings: dict[str, str] = field(default_factory=dict)
    folder: Path | None = None
    user: str | None = None
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def remote(self, port: int | None = None) -> tuple[str, dict[str, str]]:
        """Return the remote's URL and settings for clients that connect to ``port``, or to it."""
        port = port or self.port
        settings = {name: value.format(port=port) for name, value in self.settings.items()}
        return self.url.format(port=port), settings

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | self.environment,
            user=self.user,
            group=pwd.getpwnam(self.user).pw_gid if self.user else None,
            extra_groups=[] if self.user else None,
            start_new_session=True,
        )
        end = time.monotonic() + HANGING_S
        while not _answers(self.port):
            assert self.process.poll() is None, f"{self.command[0]}: ended with an error"
            assert time.monotonic() < end, f"{self.command[0]}: does not answer"
            time.sleep(0.02)

    def kill(self) -> None:
        """End it as a machine that loses its power does, with what serves open connections."""
        if self.process is not None:
            for pid in [self.process.pid, *_children(self.process.pid)]:
                try:
                    os.kill(pid, 9)
                except ProcessLookupError:
                    pass
            self.process.wait()
            self.process = None


def _children(pid: int) -> list[int]:
    """Return the processes below one: sshd gives each connection its own, in its own session."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *_children(child)]
    return found


def _answers(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def need(*modules: str) -> None:
    """Skip the test where a module of the extras `remotes` or `scenarios` is not installed."""
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} is not installed: pip install '.[remotes,scenarios]'")


# ------------------------------------------------------------------------------------ proxy


class Proxy:
    """Passes bytes between clients and a server, until the server goes away in the middle of some.

    Clients connect to ``port``. After :meth:`strike_when` every open connection is cut, with the
    first bytes that come once the condition holds, and the server is killed; one that would lose
    its objects lives on out of reach. It is back with :meth:`mend`.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.struck = threading.Event()
        self._condition: Callable[[], bool] | None = None
        self._is_down = False
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server((HOST, 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def strike_when(self, condition: Callable[[], bool]) -> None:
        """Kill the server once ``condition`` holds while bytes pass."""
        self.struck.clear()
        with self._lock:
            self._condition = condition

    def mend(self) -> None:
        """Bring the server back."""
        if self.server.process is None:
            self.server.start()
        self._is_down = False

    def close(self) -> None:
        self._listener.close()
        self._cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                if self._is_down:
                    raise ConnectionRefusedError
                server = socket.create_connection((HOST, self.server.port))
            except OSError:
                client.close()
                continue
            for connection in (client, server):  # SFTP asks and waits: no packet may be held back
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._open |= {client, server}
            for ends in ((client, server), (server, client)):
                threading.Thread(target=self._pass, args=ends, daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(4096):
                if self._is_due():
                    target.sendall(data[: len(data) // 2])  # in the middle of something
                    self.take_away()
                    self.struck.set()
                    return
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def take_away(self) -> None:
        """Let the server be gone."""
        self._is_down = True
        if self.server.folder is not None:
            self.server.kill()
        self._cut()

    def _is_due(self) -> bool:
        with self._lock:
            if self._condition is None or not self._condition():
                return False
            self._condition = None
            return True

    def _cut(self) -> None:
        with self._lock:
            cut, self._open = self._open, set()
        for connection in cut:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            connection.close()


# ---------------------------------------------------------------------------------- servers


@contextmanager
def running(server: Server) -> Iterator[Server]:
    """Start a server and end it at last."""
    server.start()
    try:
        yield server
    finally:
        server.kill()


@contextmanager
def ssh(tmp_path: Path) -> Iterator[Server]:
    """An sshd (Debian's openssh-server) without privileges, with its own key and settings."""
    need("dvc_ssh")
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
    if sshd is None or shutil.which("ssh-keygen") is None:
        pytest.skip("sshd is not installed: apt-get install openssh-server")
    user = "nobody" if os.geteuid() == 0 else None
    # Not below tmp_path: that is closed to other users, such as the one that serves.
    with tempfile.TemporaryDirectory(prefix="sshd-") as name:
        folder = Path(name)
        objects = folder / "remote"
        objects.mkdir()
        login = tmp_path / "login_key"
        for key in (folder / "host_key", login):
            make = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
            subprocess.run(make, check=True)
        shutil.copy(login.with_suffix(".pub"), folder / "authorized_keys")
        port = _free_port()
        settings = {
            "ListenAddress": f"{HOST}:{port}",
            "HostKey": folder / "host_key",
            "AuthorizedKeysFile": folder / "authorized_keys",
            "PidFile": "none",
            "StrictModes": "no",
            "UsePAM": "yes",  # without it, sshd refuses accounts without a password
            "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no",
            "Subsystem": "sftp internal-sftp",
        }
        lines = (f"{name} {value}\n" for name, value in settings.items())
        (folder / "sshd_config").write_text("".join(lines))
        if user:
            account = pwd.getpwnam(user)
            for path in (folder, *folder.iterdir()):
                os.chown(path, account.pw_uid, account.pw_gid)
        server = Server(
            (sshd, "-D", "-f", str(folder / "sshd_config")),
            port,
            f"ssh://{user or getpass.getuser()}@{HOST}:{{port}}{objects}",
            {"keyfile": str(login)},
            objects,
            user,
        )
        with running(server):
            yield server


@contextmanager
def webdav(tmp_path: Path) -> Iterator[Server]:
    """A WebDAV server (wsgidav) with a user and a password."""
    need("dvc_webdav", "wsgidav", "cheroot")
    objects = tmp_path / "webdav"
    objects.mkdir()
    port = _free_port()
    program = f"""
from cheroot import wsgi
from wsgidav.wsgidav_app import WsgiDAVApp

users = {{"*": {{"ada": {{"password": "secret"}}}}}}
app = WsgiDAVApp({{
    "provider_mapping": {{"/": {str(objects)!r}}},
    "simple_dc": {{"user_mapping": users}},
    "http_authenticator": {{"domain_controller": None}},
    "logging": {{"enable": False}},
}})
wsgi.Server(("{HOST}", {port}), app).start()
"""
    login = {"user": "ada", "password": "secret"}
    url = f"webdav://{HOST}:{{port}}/"
    with running(Server((sys.executable, "-c", program), port, url, login, objects)) as server:
        yield server


@contextmanager
def emulated_s3(tmp_path: Path) -> Iterator[Server]:
    """An emulator of S3 (moto), not S3: its objects lie in its memory."""
    need("dvc_s3", "moto", "flask")
    port = _free_port()
    program = f"""
import moto.server
moto.server.main(["-H", "{HOST}", "-p", "{port}"])
"""
    settings = {
        "endpointurl": f"http://{HOST}:{{port}}",
        "access_key_id": "ada",
        "secret_access_key": "secret",
        "region": "us-east-1",
    }
    server = Server((sys.executable, "-c", program), port, "s3://team/remote", settings)
    with running(server):
        s3_client(server).create_bucket(Bucket="team")
        yield server


def s3_client(server: Server) -> Any:
    """Return a client of the emulator that does not go through DVC."""
    import boto3

    _url, settings = server.remote()
    return boto3.client(
        "s3",
        endpoint_url=settings["endpointurl"],
        aws_access_key_id=settings["access_key_id"],
        aws_secret_access_key=settings["secret_access_key"],
        region_name=settings["region"],
    )
