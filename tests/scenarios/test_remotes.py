"""Scenario 7: real remotes on loopback, and what is left when one goes away in the middle.

SSH and WebDAV are real servers, S3 is an emulator (moto). A local folder has the same round trip in
test_team.py.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from stages.engine.paths import index_of
from tests.clones import Clone
from tests.scenarios.servers import Proxy, Server, emulated_s3, s3_client, ssh, webdav
from tests.scenarios.team import (
    add_remote,
    bring_commits,
    cache,
    counts,
    join,
    named_by,
    objects,
    track_videos,
)

Start = Callable[[Path], AbstractContextManager[Server]]

FAST = "extract@frames_toy"
STAGES = ("index", "decode", FAST)
SHARED = ("data/raw.dvc", *STAGES)
VIEWS = tuple(f"data/views/{view}" for view in ("none", "segments", "snippets", "sound", "uniform"))
FOLDERS = ("data/index", *VIEWS, "data/features/frames_toy")
MADE = ("data/raw", *FOLDERS, *(str(index_of(Path(folder))) for folder in FOLDERS))
"""What these stages put out: a few, for one remote after the other goes the same way."""


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the settings, keys and agents of whoever runs this out of it."""
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # else S3's client tries for minutes


def keys(server: Server) -> set[str]:
    """Return the names of the objects that the server has."""
    if server.folder is not None:
        return objects(server.folder)
    pages = s3_client(server).get_paginator("list_objects_v2").paginate(Bucket="team")
    names = [entry["Key"].split("/") for page in pages for entry in page.get("Contents", ())]
    return {parts[-2] + parts[-1] for parts in names if parts[-4:-2] == ["files", "md5"]}


def path_of(folder: Path, name: str) -> Path:
    return folder / "files" / "md5" / name[:2] / name[2:]


def damaged(folder: Path) -> list[str]:
    """Return the objects of a remote or cache whose bytes are not those of their name."""
    digests = {
        name: hashlib.md5(path_of(folder, name).read_bytes()).hexdigest()
        for name in objects(folder)
    }
    return [name for name, digest in digests.items() if name.removesuffix(".dir") != digest]


def taken_for_whole(folder: Path, names: Iterable[str]) -> list[str]:
    """Return those of a cache's objects that DVC has made read-only: others it reads again."""
    return [name for name in names if not path_of(folder, name).stat().st_mode & 0o222]


def remove_damaged(folder: Path) -> None:
    for name in damaged(folder):
        path_of(folder, name).unlink()


@pytest.mark.parametrize("start", [ssh, webdav, emulated_s3])
def test_push_pull_and_the_round_trip(clone: Clone, tmp_path: Path, start: Start) -> None:
    with start(tmp_path) as server:
        track_videos(clone)
        url, settings = server.remote()
        add_remote(clone, url, **settings)
        clone.run("dvc", "push")
        assert keys(server) == named_by(clone)

        second = join(clone, tmp_path / "second", **settings)
        second.run("dvc", "pull", "data/raw.dvc")
        second.add_clip("joy", 9, "new")
        track_videos(second)
        second.repro(FAST)  # without having pulled: what it lacks is fetched
        assert counts(second, STAGES) == dict.fromkeys(STAGES, (1, 6, 0))
        second.commit("one video more")
        before = keys(server)
        second.run("dvc", "push", *SHARED)
        assert keys(server) - before == named_by(second, *MADE) - before

        bring_commits(clone, second)
        clone.run("dvc", "pull", *SHARED)
        assert clone.repro(FAST) == []

        third = join(clone, tmp_path / "third", **settings)
        third.run("dvc", "pull", *SHARED, "weights@frames_toy")
        there, here = clone.outputs(), third.outputs()
        assert {*here} >= {"data/features/frames_toy/joy/new.h5", "data/index.parquet"}
        assert here == {name: there[name] for name in here}
        assert third.repro(FAST) == []


@pytest.mark.parametrize("start", [ssh, webdav, emulated_s3])
def test_a_server_that_goes_away_costs_only_another_try(
    clone: Clone, tmp_path: Path, start: Start
) -> None:
    with start(tmp_path) as server:
        proxy = Proxy(server)
        url, settings = server.remote(proxy.port)
        add_remote(clone, url, **settings)
        wanted = named_by(clone)
        proxy.strike_when(lambda: len(keys(server)) >= 5)
        said = clone.run("dvc", "push", ok=False)
        assert proxy.struck.is_set()
        assert "ERROR" in said, said
        assert 0 < len(keys(server)) < len(wanted), "in the middle"
        proxy.mend()
        if start is webdav and server.folder:  # wsgidav writes under the final name: see below
            remove_damaged(server.folder)
        clone.run("dvc", "push")
        assert keys(server) == wanted
        assert server.folder is None or damaged(server.folder) == []

        second = join(clone, tmp_path / "second", **settings)
        proxy.strike_when(lambda: len(objects(cache(second))) >= 5)
        said = second.run("dvc", "pull", ok=False)
        assert proxy.struck.is_set()
        assert "ERROR" in said, said
        assert 0 < len(objects(cache(second))) < len(wanted), "in the middle"
        assert taken_for_whole(cache(second), damaged(cache(second))) == []
        proxy.mend()
        second.run("dvc", "pull")
        assert damaged(cache(second)) == []
        assert second.outputs() == clone.outputs()
        assert second.repro("--allow-missing") == []

        proxy.take_away()
        third = join(clone, tmp_path / "third", **settings)
        shutil.copytree(clone.root / "data/raw", third.root / "data/raw")
        said = third.run("dvc", "repro", "index")
        assert "the previous output cannot be fetched" in said, said
        assert counts(third, ["index"]) == {"index": (6, 0, 0)}
        proxy.close()


def test_a_half_written_object_is_refused_and_sent_again(clone: Clone, tmp_path: Path) -> None:
    """What a server leaves that writes uploads under the final name, and dies."""
    with webdav(tmp_path) as server:
        assert server.folder is not None
        url, settings = server.remote()
        add_remote(clone, url, **settings)
        clone.run("dvc", "push")
        row = clone.table("data/tables/frames_toy")[0]
        file = clone.root / "data/features/frames_toy" / row["path"]
        name = hashlib.md5(file.read_bytes()).hexdigest()
        half = path_of(server.folder, name)
        half.write_bytes(file.read_bytes()[:100])
        clone.run("dvc", "push")
        assert damaged(server.folder) == [name], "DVC takes what is there for whole"

        second = join(clone, tmp_path / "second", **settings)
        said = second.run("dvc", "pull", ok=False)
        assert "data/features/frames_toy" in said, said
        assert damaged(cache(second)) == [] and name not in objects(cache(second))
        half.unlink()  # and the listing: to DVC it says that all its files are there
        for listing in named_by(clone, "data/features/frames_toy"):
            if listing.endswith(".dir"):
                path_of(server.folder, listing).unlink()
        clone.run("dvc", "push")
        second.run("dvc", "pull")
        assert second.outputs() == clone.outputs()
