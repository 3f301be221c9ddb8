import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

import affectline
from features.cache import arrays
from heads.training.data import collate
from heads.training.targets import Declared, metadata_of
from stages.results.files import read_result
from tests.clones import PROJECT
from tests.heads.conftest import Folder, frames, make_folder
from tests.stages.results.made_results import write_result
from tests.test_docs import blocks

FACE, FRAMES = "vggface/fc6", "vgg16/fc6"


def write_project(root: Path) -> Folder:
    """Write what a project with two backbones and an experiment has made."""
    folder = make_folder(root / "data")
    for number, row in enumerate(folder.videos):
        row["sha256"] = f"{number:064x}"
    folder.save()
    weights = {name: (affectline_rows(name), ()) for name in ("face", "context")}
    write_result(root / "results", "caan", attention=weights)
    experiment = {"head": "caan", "roles": {"face": FACE, "context": FRAMES}}
    params = {"backbones": {"vggface": {}, "vgg16": {}}, "experiments": {"caan": experiment}}
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    (root / "dvc.yaml").write_text("stages: {}\n")
    return folder


def affectline_rows(role: str) -> object:
    from heads import Rows

    return Rows(role)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.chdir(tmp_path)
    return write_project(tmp_path)


def test_features_are_what_the_files_hold(folder: Folder) -> None:
    features = affectline.open().features(FACE)
    assert list(features) == sorted(str(row["video_id"]) for row in folder.videos)
    for row in folder.rows["vggface"]:
        video_id = str(row["video_id"])
        stored, _ = arrays.read(folder.features / "vggface" / str(row["path"]))
        np.testing.assert_array_equal(features[video_id], stored["fc6"])
        np.testing.assert_array_equal(features.valid[video_id], stored["valid"])
        np.testing.assert_array_equal(features.pts_s[video_id], stored["pts_s"])
        np.testing.assert_array_equal(features.index[video_id], stored["index"])
    assert features.pretrained and features.missing == {}


def test_a_video_without_features_says_why(folder: Folder) -> None:
    folder.row("vggface", "joy/v 01%").update(status="failed", reason="no frames", path=None)
    folder.save()
    features = affectline.open().features(FACE)
    assert len(features) == 17 and features.missing == {"joy/v 01%": "no frames"}
    with pytest.raises(KeyError, match="joy/v 01%: no frames"):
        features["joy/v 01%"]
    with pytest.raises(KeyError, match="no such video"):
        features["joy/x"]


def test_what_is_damaged_or_stale_is_an_error_and_no_number(folder: Folder) -> None:
    project = affectline.open()
    first, second = (str(row["video_id"]) for row in folder.videos[:2])
    path = folder.features / "vggface" / f"{first}.h5"
    path.chmod(0o644)
    with h5py.File(path, "r+") as file:
        file["fc6"][0, 0] += 1
    with pytest.raises(ValueError, match=f"{first}.h5"):
        project.features(FACE)[first]
    other = folder.features / "vggface" / f"{second}.h5"
    other.unlink()
    folder.write("vggface", second, frames(np.ones((6, 12)), np.ones(6, bool)), key="0" * 64)
    with pytest.raises(ValueError, match=r"expected the item vggface01000 .* found 000000000000"):
        project.features(FACE)[second]


def test_pooled_takes_the_valid_rows_alone(folder: Folder) -> None:
    project = affectline.open()
    features = project.features(FACE)
    X, y, groups = project.pooled(FACE)
    assert X.shape == (17, 12), "the first video has no face"
    assert list(X.index) == list(y.index) == list(groups.index)
    assert X.to_numpy().dtype == np.float32
    for video_id, vector in X.iterrows():
        rows = features[video_id][features.valid[video_id]].astype(np.float32)
        np.testing.assert_allclose(vector, rows.mean(axis=0), rtol=1e-6)
        assert y[video_id] == str(video_id).split("/")[0]
    assert groups.nunique() == 17
    largest, _, _ = project.pooled(FACE, how="max")
    assert (largest.to_numpy() >= X.to_numpy()).all()
    with pytest.raises(ValueError, match="how: expected one of"):
        project.pooled(FACE, how="median")  # type: ignore[arg-type]


def test_pooled_has_the_groups_of_the_protocol(folder: Folder) -> None:
    for number, row in enumerate(folder.videos):
        row["group"] = f"speaker {number % 4}"
    folder.save()
    groups = affectline.open().pooled(FACE).groups
    wanted = {str(row["video_id"]): row["group"] for row in folder.videos[1:]}
    assert groups.to_dict() == wanted and groups.name == "group"


def test_pooled_has_what_the_targets_say(folder: Folder) -> None:
    affect = Declared("affect", "dimensions", ("valence", "arousal"), range=(1, 9))
    moods = Declared("moods", "labels", ("moods",), names=("calm", "glad"))
    named = Declared("named", "class", ("name",))
    for number, row in enumerate(folder.videos):
        row |= {
            "target_valence": float(number % 5),
            "target_arousal": 9.0,
            "target_name": "ab"[number % 2],
        }
        row["target_moods"] = ("", "calm", "calm|glad")[number % 3]
    folder.save()
    table = pq.read_table(folder.index)
    pq.write_table(table.replace_schema_metadata(metadata_of([affect, moods, named])), folder.index)
    project, rows = affectline.open(), {str(row["video_id"]): row for row in folder.videos}
    X, y, _ = project.pooled(FACE)
    assert list(y.index) == list(X.index) and list(y.columns) == ["valence", "arousal"]
    assert all(y.loc[name, "valence"] == rows[name]["target_valence"] for name in y.index)
    labels = project.pooled(FACE, target="moods").y
    assert {(row["calm"], row["glad"]) for _, row in labels.iterrows()} == {(0, 0), (1, 0), (1, 1)}
    assert all(
        bool(labels.loc[n, "glad"]) == ("glad" in str(rows[n]["target_moods"])) for n in X.index
    )
    classes = project.pooled(FACE, target="named").y
    assert classes.to_dict() == {name: rows[name]["target_name"] for name in X.index}
    with pytest.raises(ValueError, match="no target 'mods', did you mean 'moods'"):
        project.pooled(FACE, target="mods")


def test_a_map_is_pooled_place_by_place(folder: Folder) -> None:
    for row in folder.rows["vgg16"]:
        path = folder.features / "vgg16" / str(row["path"])
        data, _ = arrays.read(path)
        path.unlink()
        maps = np.arange(6 * 3 * 2 * 2, dtype=np.float16).reshape(6, 3, 2, 2)
        folder.write("vgg16", str(row["video_id"]), {**data, "pool5": maps})
    X, _, _ = affectline.open().pooled("vgg16/pool5")
    np.testing.assert_allclose(X.iloc[0], np.arange(12) + 30)


def test_the_torch_data_set_feeds_batches(folder: Folder) -> None:
    dataset = affectline.open().torch_dataset({"face": FACE, "context": FRAMES})
    batch = collate([dataset[0], dataset[1]])
    assert batch.features["face"].shape == (2, 6, 12)
    assert batch.features["context"].shape == (2, 6, 10)
    assert batch.mask["context"].all()


def test_arrow_has_every_row_once(folder: Folder) -> None:
    features = affectline.open().features(FRAMES)
    table = features.to_arrow()
    assert table.num_rows == 18 * 6
    part = table.slice(6, 6)
    assert part["row"].to_pylist() == list(range(6))
    video_id = part["video_id"][0].as_py()
    tensors = part["fc6"].combine_chunks().to_numpy_ndarray()
    np.testing.assert_array_equal(tensors, features[video_id])


def test_results_are_frames(folder: Folder) -> None:
    project = affectline.open()
    result = read_result(Path("results"), "caan")
    assert project.metrics().loc["caan", "accuracy"] == pytest.approx(
        result.metrics["accuracy"]["mean"]
    )
    predictions = project.predictions("caan")
    assert len(predictions) == len(result.predictions)
    assert {"p_anger", "p_joy", "p_sadness"} < set(predictions.columns)
    everything = project.attention("caan")
    one = project.attention("caan", everything["video_id"][0])
    assert 0 < len(one) < len(everything)
    assert set(one["video_id"]) == {everything["video_id"][0]}
    with pytest.raises(ValueError, match="joy/x: expected a video that a run of caan tested"):
        project.attention("caan", "joy/x")
    with pytest.raises(
        ValueError, match=r"'can': expected an experiment of params.yaml: \['caan'\]"
    ):
        project.predictions("can")


def test_what_is_not_here_names_the_command_that_brings_it(folder: Folder) -> None:
    (folder.features / "vggface" / "joy/v 01%.h5").unlink()
    with pytest.raises(ValueError, match="not here; `dvc pull data/features/vggface`"):
        affectline.open().features(FACE)["joy/v 01%"]
    folder.index.unlink()
    with pytest.raises(ValueError, match="not here; `dvc pull data/index.parquet`"):
        affectline.open().index()


def test_a_folder_that_is_no_project_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected a project"):
        affectline.open(str(tmp_path))


def test_the_command_starts_without_pandas() -> None:
    code = "import affectline, sys; sys.exit('pandas' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PROJECT)


@pytest.mark.slow
def test_a_commit_is_read_from_an_address_without_a_clone(folder: Folder, tmp_path: Path) -> None:
    here = affectline.open()
    features, index, predictions = here.features(FACE), here.index(), here.predictions("caan")
    video_id = "joy/v 01%"
    every, pooled = dict(features), here.pooled(FACE)
    program = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{program}{os.pathsep}{os.environ['PATH']}"}

    def run(*command: str) -> None:
        subprocess.run(command, check=True, cwd=tmp_path, env=environment, capture_output=True)

    run("git", "init", "-q")
    run("dvc", "init", "-q")
    (tmp_path / ".dvc/config").write_text(f"['remote \"shared\"']\nurl = {tmp_path / 'remote'}\n")
    run("dvc", "add", "-q", "data", "results")
    run("git", "add", "-A")
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    run("git", *who, "commit", "-qm", "first")
    run("dvc", "push", "-q", "-r", "shared")
    address = (tmp_path / "bare.git").as_uri()
    run("git", "clone", "-q", "--bare", ".", "bare.git")
    (tmp_path / "params.yaml").write_text("experiments: {}\nbackbones: {}\n")
    subprocess.run(["rm", "-r", "data", "results"], check=True, cwd=tmp_path)

    assert affectline.open(rev="HEAD").experiments() == ["caan"], "of this clone, as it was"
    with pytest.raises(ValueError, match=r"bare\.git: data/index\.parquet cannot be had"):
        affectline.open(address).index()
    before = affectline.open(address, rev="HEAD", remote="shared")
    assert before.experiments() == ["caan"]
    np.testing.assert_array_equal(before.features(FACE)[video_id], every[video_id])
    assert before.index().equals(index) and before.predictions("caan").equals(predictions)
    assert before.pooled(FACE).X.equals(pooled.X)
    dataset = before.torch_dataset({"face": FACE})
    np.testing.assert_array_equal(dataset[0].features["face"], every[dataset[0].video_id])
    with pytest.raises(ValueError, match="nothing.parquet cannot be had"):
        before._files.path(Path("data/nothing.parquet"))


# -------------------------------------------------------------------------------- the docs


@pytest.mark.parametrize("number", range(4))
def test_the_examples_of_the_docs_run(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setenv("MPLBACKEND", "Agg")
    write_attention_of("joy/clip01")
    exec(
        compile(blocks(PROJECT / "docs/python.md", "python")[number], "docs/python.md", "exec"), {}
    )
    assert (Path("videos.png").is_file()) == (number == 2)


def write_attention_of(video_id: str) -> None:
    """Write attention of the video that the docs ask for: two runs tested it."""
    import pandas as pd

    path = Path("results/caan/attention.parquet")
    attention = pd.read_parquet(path)
    one = attention[attention["video_id"] == attention["video_id"][0]].assign(video_id=video_id)
    pd.concat([one, one.assign(run="split_07")]).to_parquet(path)
