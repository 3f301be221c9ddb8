import errno
import fcntl
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from affectline import shared
from affectline.shared import Mount, have_locks, mount_of, of_locks, of_software
from features.cache import arrays, claims, tables

MOUNTS = r"""22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:30 / /home rw - nfs4 server:/home rw,vers=4.2,local_lock=none
31 22 0:31 / /scratch rw - lustre mds@tcp:/scratch rw,flock
32 22 0:32 / /old rw - nfs server:/old rw,vers=3,nolock
33 22 0:33 / /my\040disk rw - fuse.sshfs me@server: rw
34 30 0:34 / /home rw,nobrl - cifs //server/home rw
"""


@pytest.mark.parametrize(
    ("path", "kind", "source"),
    [
        ("/srv/x", "ext4", "/dev/vda"),
        ("/homes", "ext4", "/dev/vda"),
        ("/home/me/store", "cifs", "//server/home"),  # mounted over the other
        ("/scratch", "lustre", "mds@tcp:/scratch"),
        ("/my disk/x", "fuse.sshfs", "me@server:"),
    ],
)
def test_what_a_path_lies_on_is_what_is_mounted_next_above(
    tmp_path: Path, path: str, kind: str, source: str
) -> None:
    (tmp_path / "mounts").write_text(MOUNTS)
    mount = mount_of(Path(path), tmp_path / "mounts")
    assert mount is not None and (mount.kind, mount.source) == (kind, source)
    assert mount.is_shared == (kind != "ext4")


def test_options_of_the_mount_and_of_the_file_system_count(tmp_path: Path) -> None:
    (tmp_path / "mounts").write_text(MOUNTS)
    cifs, nfs = (mount_of(Path(name), tmp_path / "mounts") for name in ("/home/x", "/old"))
    assert cifs is not None and "nobrl" in cifs.options
    assert nfs is not None and "nolock" in nfs.options
    assert mount_of(Path("/"), tmp_path / "none") is None


def test_two_processes_try_the_locks_and_a_disk_has_them(tmp_path: Path) -> None:
    assert have_locks(tmp_path)
    assert list(of_locks(tmp_path)) == [] or mount_of(tmp_path) is not None
    assert not list((tmp_path / "unfinished").iterdir())


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP])
def test_a_file_system_without_locks_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, "no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(
        shared, "mount_of", lambda path: Mount("lustre", "mds:/scratch", frozenset())
    )
    (line,) = of_locks(tmp_path)
    assert "lustre (mds:/scratch), has no locks that count" in line and "`flock`" in line


def test_locks_that_nobody_else_sees_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)  # it says yes and does nothing
    assert not have_locks(tmp_path)


def test_a_lock_that_outlives_its_holder_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = subprocess.CompletedProcess([], 3)
    monkeypatch.setattr(shared.subprocess, "run", lambda *_, **__: held)
    assert not have_locks(tmp_path)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"rw", "local_lock=all"}, "keeps locks to each machine (local_lock=all)"),
        ({"rw", "local_lock=none"}, "how to try them between two machines"),
    ],
)
def test_locks_of_one_machine_alone_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: set[str], told: str
) -> None:
    mount = Mount("nfs4", "server:/x", frozenset(options))
    monkeypatch.setattr(shared, "mount_of", lambda path: mount)
    (line,) = of_locks(tmp_path)
    assert told in line and "nfs4 (server:/x)" in line


def test_who_made_features_with_which_torch_is_told_where_they_differ(in_folder: Path) -> None:
    for backbone, versions in (("one", "aaa"), ("two", "aab")):
        rows = []
        for number, version in enumerate(versions):
            path = f"joy/v{number}.h5"
            attributes = {"software": {"torch": f"2.{version}"}}
            arrays.write(Path(f"data/features/{backbone}", path), {"n": np.zeros(1)}, attributes)
            rows.append({"video_id": f"joy/v{number}", "path": path})
        rows.append({"video_id": "joy/bad", "path": None})
        schema = pa.schema([("video_id", pa.string()), ("path", pa.string())])
        tables.write(Path(f"data/tables/{backbone}.parquet"), rows, schema)
    (line,) = of_software()
    assert line.startswith("data/features/two: made by several versions of torch, ")
    assert "2 by 2.a (e.g. joy/v0), 1 by 2.b (e.g. joy/v2)" in line


def test_a_claim_of_another_process_is_not_disturbed_by_the_trial(tmp_path: Path) -> None:
    claim = claims.take(tmp_path / "claims" / "k")
    assert claim is not None and have_locks(tmp_path)
    assert claims.take(tmp_path / "claims" / "k") is None
    claim.release()
