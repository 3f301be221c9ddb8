import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from affectline import diff
from affectline.cli import app
from features.cache import arrays, tables
from features.cache.keys import canonical, item_key
from stages.engine.outputs import INDEX

PIPELINE = """
stages:
  extract:
    foreach: [{names}]
    do:
      cmd: "true"
      outs:
      - data/features/${{item}}
      - data/features/${{item}}.parquet
"""
"""A pipeline whose outputs the test itself writes; `dvc commit` puts them into dvc.lock."""

Videos = Mapping[str, Mapping[str, np.ndarray] | None]


class Repository:
    """A repository of git and DVC whose features the test writes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.git("init", "-q")
        (root / ".gitignore").write_text("/data\n/remote\n/.store\n")
        (root / "params.yaml").write_text("{}\n")
        self.dvc("init", "-q")

    def git(self, *arguments: str) -> None:
        who = ("-c", "user.name=t", "-c", "user.email=t@t")
        subprocess.run(["git", *who, *arguments], cwd=self.root, check=True, capture_output=True)

    def dvc(self, *arguments: str) -> None:
        from dvc.cli import main  # in this process: starting another takes a second each time

        assert main([*arguments, "-q"]) == 0

    def commit(self, tag: str, **backbones: Videos) -> None:
        """Write features (None: a failed video), give them to DVC, and tag the commit."""
        shutil.rmtree(self.root / "data", ignore_errors=True)
        for backbone, videos in backbones.items():
            self.write(self.root / "data" / "features" / backbone, videos)
        (self.root / "dvc.yaml").write_text(PIPELINE.format(names=", ".join(backbones)))
        (self.root / "dvc.lock").unlink(missing_ok=True)
        self.dvc("commit", "-f")
        self.git("add", "-A")
        self.git("commit", "-qm", tag)
        self.git("tag", tag)

    def rows(self, output: str) -> list[tables.Row]:
        return tables.read(self.root / f"{output}.parquet")

    def write(self, folder: Path, videos: Videos) -> None:
        folder.mkdir(parents=True)
        rows = []
        for video_id, given in videos.items():
            label = video_id.split("/")[0]
            row = {"video_id": video_id, "label": label, "status": "failed", "reason": "empty"}
            if given is not None:
                made_of = {
                    "stage": "extract",
                    "weights": item_key({n: a.tolist() for n, a in given.items()}),
                }
                key, path = item_key(made_of), f"{video_id}.h5"
                arrays.write(folder / path, given, {"key": key, "ingredients": made_of})
                row |= {"status": "ok", "reason": None, "key": key, "path": path}
            rows.append(row)
        tables.write(folder.with_suffix(".parquet"), rows, pa.schema(list(INDEX.items())))


@pytest.fixture
def repository(in_folder: Path) -> Repository:
    return Repository(in_folder)


def features(fc6: object, valid: object = (True, True)) -> dict[str, np.ndarray]:
    return {"fc6": np.array(fc6, np.float16), "valid": np.array(valid)}


A = features([[3, 4], [1, 0]])
TURNED = features([[4, 3], [1, 0]])  # cosine 24/25 in the first row, largest change 1 of 4
OPPOSITE = features([[3, 4], [-1, 0]])


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["diff", *arguments])
    return done.exit_code, done.output


def test_the_video_that_turned_most_comes_first(repository: Repository) -> None:
    repository.commit("one", vgg16={"joy/a": A, "joy/b": A, "joy/c": A}, swin={"joy/a": A})
    repository.commit(
        "two", vgg16={"joy/a": TURNED, "joy/b": OPPOSITE, "joy/c": A}, swin={"joy/a": A}
    )
    vgg16, swin = diff.diff("one", "two")
    assert (vgg16.videos, vgg16.same, vgg16.changed) == (3, 1, ("weights",))
    b, a = vgg16.moved
    assert (b.video_id, b.feature, b.rows) == ("joy/b", "fc6", 2)
    assert (b.cosine, b.mean_cosine, b.largest, b.relative) == pytest.approx((-1, 0, 2, 0.5))
    assert a.video_id == "joy/a"
    assert (a.cosine, a.mean_cosine, a.largest, a.relative) == pytest.approx((0.96, 0.98, 1, 0.25))
    assert (swin.videos, swin.same, swin.moved) == (1, 1, ())


def test_the_second_revision_is_the_workspace_where_none_is_named(repository: Repository) -> None:
    repository.commit("one", vgg16={"joy/a": A})
    repository.commit("two", vgg16={"joy/a": TURNED})
    code, said = run("one", "--json")
    assert code == 0
    (found,) = json.loads(said)
    assert found["moved"][0]["cosine"] == pytest.approx(0.96)
    assert json.loads(run("two", "--json")[1])[0]["same"] == 1
    assert json.loads(run("one", "HEAD~1", "--json")[1])[0]["same"] == 1


def test_videos_and_backbones_of_one_revision_only_are_named(repository: Repository) -> None:
    repository.commit("one", vgg16={"joy/a": A, "joy/b": A, "joy/c": A}, old={"joy/a": A})
    repository.commit("two", vgg16={"joy/a": A, "joy/b": None, "joy/new": A}, new={"joy/a": A})
    found = {part.backbone: part for part in diff.diff("one", "two")}
    assert found["vgg16"].only_first == ("joy/b", "joy/c")
    assert found["vgg16"].only_second == ("joy/new",)
    assert (found["vgg16"].videos, found["vgg16"].same) == (1, 1)
    assert (found["old"].found_in, found["new"].found_in) == ("first", "second")


def test_other_shapes_are_told_and_the_rest_is_compared(repository: Repository) -> None:
    longer = features([[3, 4], [1, 0], [1, 1]], [True, True, True])
    repository.commit("one", vgg16={"joy/a": A, "joy/b": A})
    repository.commit("two", vgg16={"joy/a": longer, "joy/b": TURNED})
    (found,) = diff.diff("one", "two")
    assert found.not_comparable == (("joy/a", "fc6 was (2, 2), is (3, 2)"),)
    assert [part.video_id for part in found.moved] == ["joy/b"]


def test_only_rows_valid_in_both_are_measured() -> None:
    was = features([[3, 4], [9, 9]], [True, False])
    now = features([[4, 3], [1, 0]], [True, True])
    (found,) = diff.measure("joy/a", was, now)
    assert (found.rows, found.rows_in_one) == (1, 1)
    assert found.cosine == pytest.approx(0.96)
    (none,) = diff.measure("joy/a", was, features([[4, 3], [1, 0]], [False, True]))
    assert (none.rows, none.rows_in_one, none.cosine, none.largest) == (0, 2, None, None)


def test_rows_of_zeros_have_a_cosine() -> None:
    was, now = features([[0, 0], [0, 0]]), features([[0, 0], [1, 0]])
    (found,) = diff.measure("joy/a", was, now)
    assert (found.cosine, found.mean_cosine) == (0, 0.5)
    assert (found.largest, found.relative) == (1, None)


def test_what_the_cache_lacks_is_fetched_and_nothing_else(repository: Repository) -> None:
    repository.dvc("remote", "add", "-d", "team", str(repository.root / "remote"))
    for tag, first in (("one", A), ("two", TURNED)):
        repository.commit(tag, vgg16={"joy/a": first, "joy/b": OPPOSITE})
        repository.dvc("push")
    shutil.rmtree(repository.root / ".dvc/cache")
    before = {path: path.read_bytes() for path in repository.root.glob("data/**/*.h5")}
    assert diff.diff("one", "two")[0].moved[0].cosine == pytest.approx(0.96)
    fetched = [path for path in repository.root.glob(".dvc/cache/files/md5/??/*")]
    assert len(fetched) == 2 * 3, "of each revision: listing, index and the video that moved"
    assert before == {path: path.read_bytes() for path in before}


def test_features_that_nobody_has_pushed_are_an_error_that_says_so(repository: Repository) -> None:
    repository.commit("one", vgg16={"joy/a": A})
    repository.commit("two", vgg16={"joy/a": TURNED})
    shutil.rmtree(repository.root / ".dvc/cache")
    code, said = run("one", "two")
    assert code == 1
    assert "one: the features of vgg16 are neither in DVC's cache nor in its remote" in said
    assert "no remote is set up" in said
    repository.dvc("remote", "add", "-d", "team", str(repository.root / "remote"))
    (repository.root / "remote").mkdir()
    code, said = run("one", "two")
    assert code == 1 and "`dvc push`" in said


def test_a_remote_out_of_reach_is_an_error_that_says_so(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose_connection(*_arguments: object) -> None:
        raise RuntimeError("Connection\nlost")  # as a remote's library does: no error of DVC

    repository.commit("one", vgg16={"joy/a": A})
    shutil.rmtree(repository.root / ".dvc/cache")
    repository.dvc("remote", "add", "-d", "team", str(repository.root / "remote"))
    monkeypatch.setattr("dvc.data_cloud.DataCloud.pull", lose_connection)
    code, said = run("one")
    assert code == 1
    assert "one: the features of vgg16" in said and "(Connection lost)" in said


def test_revisions_that_are_not_there_are_errors(repository: Repository) -> None:
    repository.git("commit", "-qm", "empty", "--allow-empty")
    repository.git("tag", "empty")
    code, said = run("empty")
    assert code == 1 and "empty: expected dvc.lock in that commit, found none" in said
    code, said = run("nowhere")
    assert code == 1 and "nowhere: expected a commit, branch or tag" in said
    repository.commit("one", vgg16={"joy/a": A})
    assert run("--", "--output=x")[0] == 1
    assert not (repository.root / "x").exists()
    (repository.root / "dvc.lock").unlink()
    code, said = run("one")
    assert code == 1 and "workspace: expected dvc.lock, found none" in said


def test_a_lock_that_is_none_is_an_error(repository: Repository) -> None:
    repository.commit("one", vgg16={"joy/a": A})
    for text in ("[", "stages: {extract@a: 1}", "a text", canonical({"stages": {}})):
        (repository.root / "dvc.lock").write_text(text)
        code, said = run("one")
        assert code == 1 and "workspace: expected" in said, text


def test_a_damaged_object_is_told_and_not_compared(repository: Repository) -> None:
    repository.commit("one", vgg16={"joy/a": A, "joy/b": A})
    repository.commit("two", vgg16={"joy/a": OPPOSITE, "joy/b": TURNED})
    side = diff.Side.read("two", "vgg16", diff.locked_features("two")["vgg16"])
    path = diff.object_path(diff.cache_folder(), side.objects["joy/a"])
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-100])
    (found,) = diff.diff("one", "two")
    ((video_id, reason),) = found.not_comparable
    assert video_id == "joy/a" and "found" in reason
    assert [part.video_id for part in found.moved] == ["joy/b"]


def test_a_person_sees_the_worst_rows_and_how_many_more_there_are(repository: Repository) -> None:
    names = [f"joy/[{number}]" for number in range(4)]
    repository.commit("one", vgg16=dict.fromkeys(names, A) | {"joy/gone": A})
    repository.commit("two", vgg16=dict.fromkeys(names, TURNED))
    code, said = run("one", "two", "--worst", "3")
    assert code == 0
    assert "joy/[2]" in said and "joy/[3]" not in said
    assert "1 more rows" in said and "1 videos only before: joy/gone" in said
