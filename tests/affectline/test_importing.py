"""What `affectline import` takes, and each thing that it refuses."""

import csv
import os
import pickle
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from affectline.cli import app
from features.weights.imported import Imported
from stages.engine.params import load_params

PROJECT = Path(__file__).parents[2]
IDS = ("joy/a", "joy/b", "fear/a", "fear/c")


@pytest.fixture
def project(in_folder: Path) -> Path:
    """A data set of features alone: two names in two classes, one of them in both."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(PROJECT / name, in_folder)
    lines = [f"{name},{name.split('/')[0]}" for name in IDS]
    Path("list.csv").write_text("\n".join(["video_id,label", *lines]) + "\n")
    return in_folder


def save(name: str, values: object = None, folder: str = "made") -> Path:
    path = Path(folder) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.ones((3, 4), np.float16) if values is None else values)
    return path


def table(rows: Sequence[Sequence[str]], columns: str = "video_id,label,file") -> str:
    path = Path("made/table.csv")
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns.split(","), *rows])
    return str(path)


def bring(place: str = "made", *options: str, ok: bool = True) -> str:
    before = Path("params.yaml").read_text()
    arguments = ["import", "mine", place, "--root", "list.csv", *options]
    done = CliRunner().invoke(app, arguments)
    assert (done.exit_code == 0) == ok, done.output
    if not ok:
        assert Path("params.yaml").read_text() == before and not Path("data/imports").exists()
    return done.output


def imported() -> Imported:
    return Imported(Path(str(load_params().backbones["mine"].file)))


def rows_of(video_id: str) -> dict[str, np.ndarray]:
    file = imported()
    return file.read(file.videos[video_id])


def test_a_folder_of_npy_by_label_and_by_name_alone(project: Path) -> None:
    for name in ("joy/a.npy", "fear/a.npy", "c.npy", "stranger.npy"):
        save(name)
    said = bring()
    assert set(imported().videos) == {"joy/a", "fear/a", "fear/c"}
    assert "3 videos, rows of 4 (D), float16; heads read it as mine/features" in said
    assert "1 are no videos of the data set and left out, e.g. stranger" in said
    assert "1 of its videos have none, e.g. joy/b" in said
    raw = yaml.safe_load(Path("params.yaml").read_text())["backbones"]["mine"]
    assert raw.pop("file").startswith("data/imports/mine-")
    assert raw == {
        "module": "imported",
        "view": "none",
        "source": "imported",
        "dtypes": {"features": "float16"},
        "options": {"shape": [4], "axes": "D"},
    }


def test_comments_of_params_yaml_stay_and_the_same_import_is_the_same_bytes(project: Path) -> None:
    save("c.npy")
    before = Path("params.yaml").read_text().splitlines()
    bring()
    text = Path("params.yaml").read_text()
    assert [line for line in text.splitlines() if line not in before] == [
        line for line in text.splitlines() if line.startswith("  mine: ")
    ]
    files = {path.name: path.read_bytes() for path in Path("data/imports").iterdir()}
    bring()
    assert Path("params.yaml").read_text() == text
    assert {path.name: path.read_bytes() for path in Path("data/imports").iterdir()} == files


def test_hdf5_with_what_lies_beside_the_rows(project: Path) -> None:
    Path("made").mkdir()
    with h5py.File("made/c.h5", "w") as file:
        file["points"] = np.arange(18, dtype=np.float64).reshape(2, 3, 3)
        file["mask"] = np.array([1, 0])
        file["pts_s"] = [0.5, 1.0]
    assert "rows of 3×3 (K D), float32" in bring()
    found = rows_of("fear/c")
    assert found["features"].dtype == np.float32 and found["features"][1, 2, 2] == 17
    assert list(found["valid"]) == [True, False] and list(found["pts_s"]) == [0.5, 1.0]
    with h5py.File("made/c.h5", "a") as file:
        file["others"] = np.zeros((2, 3))
    shutil.rmtree("data/imports")
    assert "found ['others', 'points']; name it with --dataset" in bring(ok=False)
    assert "rows of 3 (D)" in bring("made", "--dataset", "others")


def test_a_csv_names_files_times_and_masks(project: Path) -> None:
    save("x 1.npy")
    save("t.npy", np.array([0.0, 0.5, 1.0]))
    save("m.npy", np.array([True, True, False]))
    place = table([("a", "joy", "x 1.npy", "t.npy", "m.npy")], "video_id,label,file,pts_s,valid")
    bring(place)
    found = rows_of("joy/a")
    assert list(found["valid"]) == [True, True, False] and list(found["pts_s"]) == [0, 0.5, 1]


def test_what_is_exported_can_be_imported(project: Path) -> None:
    """The table that `affectline export --to npy` writes, as this command reads it."""
    for array in ("features", "valid", "pts_s", "index"):
        Path("out", array).mkdir(parents=True)
    np.save("out/features/0.npy", np.ones((2, 4), np.float16))
    np.save("out/valid/0.npy", np.array([True, False]))
    np.save("out/pts_s/0.npy", np.array([0.25, 0.75]))
    np.save("out/index/0.npy", np.array([3, 9]))
    Path("out/videos.csv").write_text(
        "video_id,label,rows,rows_valid,file,valid,pts_s,index,split_00,reason\n"
        "joy/a,joy,2,1,features/0.npy,valid/0.npy,pts_s/0.npy,index/0.npy,train,\n"
        "joy/b,joy,,,,,,,test,no face\n"
    )
    bring("out")
    found = rows_of("joy/a")
    assert list(found["index"]) == [3, 9] and list(found["valid"]) == [True, False]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.array([[1.0, np.nan]]), r"a\.npy: expected finite numbers .* in the rows \[0\]"),
        (np.array([[1.0, 1e300]]), r"a\.npy: expected finite numbers \(of float32\)"),
        (np.ones(4), r"a\.npy: expected \(T, \.\.\.\), a row each time, found the shape \(4,\)"),
        (np.ones((3, 5), np.float16), r"a\.npy: expected rows of \(4,\) as 2 others have, found"),
        (np.array([["x"]]), r"a\.npy: .* holds <U1 and not numbers"),
        (np.ones((2, 2), complex), r"a\.npy: .* holds complex128 and not numbers"),
    ],
)
def test_bad_arrays_are_named_and_nothing_is_written(
    project: Path, values: np.ndarray, words: str
) -> None:
    save("joy/b.npy")
    save("fear/c.npy")
    save("joy/a.npy", values)
    said = bring(ok=False)
    assert re.search(words, said), said


def test_all_that_is_wrong_is_told_at_once(project: Path) -> None:
    for name in ("joy/a", "joy/b", "fear/c"):
        save(f"{name}.npy", np.full((1, 2), np.inf))
    said = bring(ok=False)
    assert said.count("expected finite numbers") == 3
    assert "--mask-nan leaves such rows out" in said


class Opened:
    """Makes a file when its pickle is opened."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("opened",)


def test_no_pickle_is_opened(project: Path) -> None:
    Path("made").mkdir()
    with Path("made/c.npy").open("wb") as file:
        np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert "cannot be read" in bring(ok=False)
    Path("made/c.npy").write_bytes(pickle.dumps(Opened()))
    assert "cannot be read" in bring(ok=False)
    assert not Path("opened").exists()


def test_a_header_that_declares_more_than_the_file_has_is_refused(project: Path) -> None:
    path = save("c.npy", np.ones((3, 4)))
    path.write_bytes(path.read_bytes().replace(b"(3, 4)", b"(3000000, 4)".ljust(6))[:200])
    assert "cannot be read" in bring(ok=False)
    path.unlink()
    with h5py.File("made/c.h5", "w") as file:
        file.create_dataset("x", (10**9, 40), "f4", chunks=(1000, 40))
    assert "declares 160,000,000,000 bytes and stores next to none" in bring(ok=False)


def test_links_of_hdf5_are_not_followed(project: Path) -> None:
    Path("made").mkdir()
    with h5py.File("other.h5", "w") as file:
        file["x"] = np.ones((2, 2))
    with h5py.File("made/c.h5", "w") as file:
        file["x"] = h5py.ExternalLink("../other.h5", "x")
    assert "is none, or a link to elsewhere" in bring(ok=False)


def test_ids_that_match_nothing_name_both_sides(project: Path) -> None:
    save("dia0_utt3.npy")
    said = bring(ok=False)
    expected = "expected ids of the videos of list.csv, such as fear/a, fear/c, joy/a"
    assert f"made/dia0_utt3.npy: {expected}, found none of them but dia0_utt3: call files" in said


def test_an_id_that_two_videos_have_is_asked_for_its_label(project: Path) -> None:
    save("a.npy")
    assert "a may be fear/a or joy/a: name it so" in bring(ok=False)
    bring(table([("a", "fear", "a.npy")]))
    assert set(imported().videos) == {"fear/a"}


def test_a_video_that_is_there_twice_is_an_error(project: Path) -> None:
    save("fear/c.npy")
    save("c.npy")
    assert "fear/c is there twice, also in made/" in bring(ok=False)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (("a", "disgust", "c.npy"), "expected one of the labels ['fear', 'joy'], found 'disgust'"),
        (("fear/c", "joy", "c.npy"), "expected the label 'fear' of fear/c, found 'joy'"),
        (("fear/c", "fear", "../out.npy"), "expected a path below made, found '../out.npy'"),
        (("fear/c", "fear", "/etc/passwd"), "expected a path below made, found '/etc/passwd'"),
        (("fear/c", "fear", "link.npy"), "expected a path below made, found a link out of it"),
        (("fear/c", "fear", "none.npy"), "none.npy: expected arrays, cannot be read"),
    ],
)
def test_a_row_of_a_csv_that_is_wrong_says_its_line(
    project: Path, row: tuple[str, str, str], words: str
) -> None:
    save("c.npy")
    save("out.npy", folder=".")
    Path("made/link.npy").symlink_to("../out.npy")
    said = bring(table([row]), ok=False)
    assert words in said
    assert "none.npy" in words or "made/table.csv, line 2: " in said


def test_a_folder_does_not_follow_links_out_of_it(project: Path) -> None:
    save("out.npy", folder=".")
    Path("made").mkdir()
    Path("made/c.npy").symlink_to("../out.npy")
    assert "found a link out of it" in bring(ok=False)


def test_a_csv_without_its_columns_and_a_folder_without_arrays_are_told(project: Path) -> None:
    assert "expected the columns video_id and file" in bring(table([], "id,file"), ok=False)
    Path("made/table.csv").unlink()
    assert "made: expected files .npy, .h5, .hdf5, found none" in bring(ok=False)
    assert "nowhere: expected a folder or a CSV of arrays" in bring("nowhere", ok=False)


def test_a_networks_name_and_a_name_that_is_none_are_refused(project: Path) -> None:
    save("c.npy")
    said = CliRunner().invoke(app, ["import", "vggish", "made", "--root", "list.csv"]).output
    assert "backbones.vggish is the network vggish: give the import another name" in said
    said = CliRunner().invoke(app, ["import", "../x", "made", "--root", "list.csv"]).output
    assert "'../x': expected a name of small letters" in said
    said = CliRunner().invoke(app, ["import", "a", "made", "b", "--root", "list.csv"]).output
    assert "expected NAME DIR, each name once, found a made b" in said
    assert not Path("data").exists()


def test_axes_that_do_not_fit_are_refused(project: Path) -> None:
    save("c.npy", np.ones((2, 3, 4)))
    assert "expected a letter for each axis of (3, 4)" in bring("made", "--axes", "D", ok=False)
    assert "rows of 3×4 (L D)" in bring("made", "--axes", "L D")
