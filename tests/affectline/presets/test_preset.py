import csv
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from affectline.cli import app
from affectline.presets.experiments import PresetError, load_bindings, load_preset, names
from affectline.presets.preset import Choices, make_plan
from features.video.listing import list_videos
from features.video.views import View
from stages.engine.checks import check_all, check_modules
from stages.engine.columns import columns_of
from stages.engine.params import Params, load_params
from stages.engine.progress import console
from tests.affectline.presets.xlsx import write_xlsx

PROJECT = Path(__file__).parents[3]
RAW = Path("raw")


@pytest.fixture
def project(in_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(console, "width", 200)
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(PROJECT / name, in_folder)
    return in_folder


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["preset", *arguments])
    return done.exit_code, done.output


def touch(*names: str) -> None:
    for name in names:
        (RAW / name).parent.mkdir(parents=True, exist_ok=True)
        (RAW / name).touch()


def make_folder(preset: str) -> None:
    """Make a folder as the data set has it, with three empty files a class."""
    found = load_preset(preset)
    for label in found.classes or ["joy", "fear"]:
        for number in range(3):
            above = ["train/", "val/" if found.stills else "test/"] if found.subsets else [""]
            ending = "png" if found.stills else "mp4"
            touch(*(f"{place}{label}/{number}.{ending}" for place in above))


def table(path: str = "data/ve8.csv") -> dict[str, tuple[str, ...]]:
    """Return the path below the folder -> label and splits."""
    with Path(path).open(newline="") as file:
        return {
            row.pop("path").removeprefix("../raw/"): (row.pop("label"), *row.values())
            for row in csv.DictReader(file)
        }


def params_of(text: str) -> Params:
    return Params.model_validate(yaml.safe_load(text))


# ---------------------------------------------------------------------------- params.yaml


@pytest.mark.parametrize("name", names())
def test_every_preset_gives_a_params_yaml_that_passes_all_checks(project: Path, name: str) -> None:
    make_folder(name)
    plan = make_plan(name, RAW, Choices(), dry_run=True)
    params = params_of(plan.text)
    check_modules(params)
    assert plan.left_out == []
    assert params.index.dataset == load_preset(name).title
    read = {
        source.split("/")[0] for e in params.experiments.values() for source in e.roles.values()
    }
    assert all(params.backbones[backbone].source == "pretrained" for backbone in read)


def test_comments_and_all_else_of_params_yaml_stay(project: Path) -> None:
    before = Path("params.yaml").read_text().splitlines()
    make_folder("ve8")
    assert run("ve8", "--root", "raw")[0] == 0
    after = Path("params.yaml").read_text().splitlines()
    assert yaml.safe_load("\n".join(section(after, "index")))["index"] == {
        "root": "data/ve8.csv",
        "dataset": "VideoEmotion-8",
        "splits": {"runs": 10, "test_share": 0.3333, "seed": 0},
    }
    for name in ("max_failed", "engine", "sample", "faces", "train", "report"):
        assert section(after, name) == section(before, name)
    comments = [line for line in before if "#" in line and not line.startswith("#  ")]
    found = [line for line in after if "#" in line and not line.startswith("#  ")]
    assert [line.split("#")[1] for line in found] == [line.split("#")[1] for line in comments]


@pytest.mark.parametrize("name", names())
def test_views_have_the_papers_rows_whatever_the_sample_has(project: Path, name: str) -> None:
    before = load_params().decode.views
    assert before.segments.count < 24  # the sample is to be quick
    make_folder(name)
    views = params_of(make_plan(name, RAW, Choices(), dry_run=True).text).decode.views
    assert views.segments.view() == View("segments", 24, 720)  # HAMF, CAAN, RDAM
    assert views.uniform.view() == View("uniform", 100, 256)  # MMF: T = 100
    assert views.snippets.view() == View("snippets", 10, 128, 16)  # VAANet: 10 of 16 frames


def section(lines: list[str], name: str) -> list[str]:
    """Return a section of a YAML file with its comments, up to the next one."""
    starts = [at for at, line in enumerate(lines) if line[:1].isalpha()]
    (start,) = (at for at in starts if lines[at].startswith(f"{name}:"))
    return lines[start : next((at for at in starts if at > start), len(lines))]


def test_a_backbone_is_uncommented_and_another_added(project: Path) -> None:
    make_folder("ve8")
    assert run("ve8", "--root", "raw", "--paper", "rdam")[0] == 0
    text = Path("params.yaml").read_text()
    block = "{module: resnet50, view: segments, source: pretrained, seed: 5, options: "
    assert f"\n  resnet50_28x28: {block}{{output_stride: 8}}" in text
    assert "\n  resnet50_28x28_faces: {module: resnet50, view: faces, source: pretrained," in text
    assert "\n#  resnet50: " in text and "\n#  swin: " in text
    assert "\n#  vggface: {module: vggface, view: faces, source: seeded, seed: 1}" in text
    params = load_params()
    check_modules(params)
    assert {e.head for e in params.experiments.values()} == {"rdam"}


def test_a_backbone_that_stands_there_as_a_comment_is_uncommented(project: Path) -> None:
    make_folder("own")
    assert run("own", "--root", "raw", "--paper", "rdam")[0] == 0
    text = Path("params.yaml").read_text()
    assert "\n  resnet50: {module: resnet50, view: segments, source: pretrained, seed: 5" in text
    assert "#  resnet50: " not in text and "\n#  swin: " in text


def test_twice_is_as_once(project: Path) -> None:
    make_folder("ve8")
    run("ve8", "--root", "raw")
    first = Path("params.yaml").read_text()
    assert run("ve8", "--root", "raw")[0] == 0
    assert Path("params.yaml").read_text() == first


def test_settings_of_a_backbone_stay_and_only_its_source_changes(project: Path) -> None:
    text = Path("params.yaml").read_text()
    own = "vgg16: {module: vgg16, view: segments, source: seeded, seed: 7, file: 'my [v1].pth'}"
    there = "#  vgg16: {module: vgg16, view: segments, source: seeded, seed: 2}"
    assert there in text
    text = text.replace(there, f"  {own}", 1)
    Path("params.yaml").write_text(text)
    make_folder("heiv")
    assert run("heiv", "--root", "raw", "--paper", "caan")[0] == 0
    assert f"  {own.replace('seeded', 'pretrained')}\n" in Path("params.yaml").read_text()


def test_seeded_networks_can_be_asked_for_where_there_are_such(project: Path) -> None:
    make_folder("ve8")
    plan = make_plan("ve8", RAW, Choices(source="seeded"), dry_run=True)
    params = params_of(plan.text)
    check_modules(params)
    sources = {name: block.source for name, block in params.backbones.items()}
    assert {name for name, source in sources.items() if source != "seeded"} == {"blazepose"}


def test_another_backbone_of_that_name_is_an_error(project: Path) -> None:
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(
        text.replace(
            "#  vgg16: {module: vgg16, view: segments", "  vgg16: {module: vgg16, view: uniform", 1
        )
    )
    make_folder("ve8")
    with pytest.raises(
        PresetError, match=r"backbones\.vgg16 to be vgg16 on the view segments, fou"
    ):
        make_plan("ve8", RAW, Choices(), dry_run=True)


def test_experiments_are_replaced_and_told_or_kept(project: Path) -> None:
    make_folder("ve8")
    code, said = run("ve8", "--root", "raw", "--paper", "caan", "--keep")
    assert code == 0 and "taken out" not in said
    assert {"sound_average", "caan_t6_caan"} <= set(load_params().experiments)
    code, said = run("ve8", "--root", "raw", "--paper", "caan")
    assert code == 0 and "taken out of experiments: caan, caan_average, fusion_average" in said
    assert "sound_average" not in load_params().experiments
    assert "no experiment reads resnet_faces, resnet_frames, vggish" in said


def test_training_is_the_papers_where_they_give_it(project: Path) -> None:
    make_folder("ve8")
    planned = make_plan("ve8", RAW, Choices(), dry_run=True).experiments
    train = {(p.rows[0].paper, p.head): dict(p.train) for p in planned}
    assert train["VAANet", "vaanet"] == {
        "optimiser": "adam",
        "learning_rate": 0.0002,
        "epochs": 150,
        "batch_videos": 32,
        "sampling": "shuffled",
    }
    assert train["MMF", "mmf"]["batch_videos"] == train["MMF", "nextvlad"]["batch_videos"] == 16
    assert train["MMF", "mmf"]["learning_rate"] == 0.0001
    assert train["HAMF", "hamf"] == {
        "optimiser": "sgd",
        "learning_rate": 0.001,
        "decay_every": 6000,
        "epochs": 6250,  # 25,000 batches in two phases, two an epoch for the 16 videos that train
    }
    one_phase = {**train["HAMF", "hamf"], "epochs": 12500}
    assert train["HAMF", "pooling"] == train["CAAN", "caan"] == train["RDAM", "rdam"] == one_phase
    assert train["VAANet", "context_fusion"] == train["VAANet", "vaanet"]
    planned = make_plan("ve8", RAW, Choices(epochs=3), dry_run=True).experiments
    assert {p.train["epochs"] for p in planned} == {3}


# ----------------------------------------------------------------------------- data sets


def test_videoemotion_8_with_its_excel_file(project: Path) -> None:
    labels = list(load_preset("ve8").classes)
    videos = [f"{label}/word/{name}" for label in labels for name in ("a 90%.mp4", "same.flv")]
    touch(*videos, "Joy/new.mp4", "Joy/Thumbs.db", "misc/x.mp4")
    listed = [*videos, "Sadness/word/TryToWatchWithoutCrying90%.mp4"]
    numbers = range(1, len(listed) + 1)
    name_sheet = [["No", "Video Name and Directory"], *map(list, zip(numbers, listed, strict=True))]
    split_sheet: list[list[Any]] = [[], []]
    for run_number in range(1, 11):
        split_sheet[0] += [f"Split {run_number}", None]
        split_sheet[1] += ["Train", "Test"]
    odd, even = [n for n in numbers if n % 2], [n for n in numbers if not n % 2]
    for at in range(len(odd)):
        pair = [odd[at], even[at] if at < len(even) else None]
        split_sheet.append([*pair, *(pair[::-1] if None not in pair else [pair[0], None])] * 5)
    write_xlsx(Path("splits.xlsx"), [name_sheet, split_sheet])
    code, said = run("ve8", "--root", "raw", "--splits", "splits.xlsx")
    assert code == 0, said
    found = table()
    assert len(found) == len(listed) + 1
    assert found["Joy/word/a 90%.mp4"] == ("Joy", *["train", "test"] * 5)
    assert found["Joy/word/same.flv"] == ("Joy", *["test", "train"] * 5)
    assert found["Joy/new.mp4"] == ("Joy", *[""] * 10)
    assert "in the split file, not in the folder: Sadness/word/TryToWatchWithout" in said
    assert "in the folder, not in the split file: Joy/new.mp4" in said
    assert "4 remarks on videos, all of them in data/ve8.remarks.csv" in said
    with Path("data/ve8.remarks.csv").open(newline="") as file:
        assert Counter(row["what"] for row in csv.DictReader(file)) == {
            "in the split file, not in the folder": 1,
            "in the folder, not in the split file": 1,
            "not a video": 1,
            "not in the folder of a class": 1,
        }
    videos_found, _ = list_videos(Path("data/ve8.csv"))
    assert Counter(video.problem for video in videos_found) == {None: 17, "no such file": 1}
    assert load_params().index.root == "data/ve8.csv"
    assert load_params().index.splits.runs == 10  # as it was: the CSV has the runs


def test_videoemotion_8_without_a_split_file_has_ten_drawn_runs(project: Path) -> None:
    make_folder("ve8")
    code, said = run("ve8", "--root", "raw", "--out", "data/mine.csv")
    assert code == 0 and "the runs are drawn per class and are not the official ones" in said
    assert set(table("data/mine.csv").values()) == {
        (label,) for label in load_preset("ve8").classes
    }
    splits = load_params().index.splits
    assert (splits.runs, splits.test_share) == (10, 0.3333)


def test_ekman_6_with_its_lists(project: Path) -> None:
    touch("Anger/1000.mp4", "Anger/1001.mp4", "Joy/7.mp4", "Joy/8.mp4")
    Path("lists").mkdir()
    Path("lists/trainlist01.txt").write_text("anger/1000 1\njoy/7 4\n")
    Path("lists/testlist01.txt").write_text("anger/1001\njoy/8\n")
    assert run("ekman6", "--root", "raw", "--splits", "lists/trainlist01.txt")[0] == 0
    assert table("data/ekman6.csv") == {
        "Anger/1000.mp4": ("anger", "train"),
        "Anger/1001.mp4": ("anger", "test"),
        "Joy/7.mp4": ("joy", "train"),
        "Joy/8.mp4": ("joy", "test"),
    }


@pytest.mark.parametrize("name", ["mhed", "heiv", "ekman6"])
def test_without_its_list_a_split_of_the_published_shares_is_drawn(
    project: Path, name: str
) -> None:
    make_folder(name)
    code, said = run(name, "--root", "raw")
    assert code == 0
    found = load_preset(name)
    assert found.split is not None
    rows = table(f"data/{name}.csv")
    share = found.split.test / (found.split.train + found.split.test)
    tested = sum(split == "test" for _, split in rows.values())
    assert tested == round(share * len(rows))
    assert f"{tested} test, seed 0) and is not the official one" in said


def test_the_folders_of_caer_are_its_split(project: Path) -> None:
    touch("train/Anger/0001.avi", "validation/Anger/0001.avi", "test/Anger/0001.avi")
    code, said = run("caer", "--root", "raw")
    assert code == 0 and "no table is about CAER" in said
    with Path("data/caer.csv").open(newline="") as file:
        assert {(row["path"], row["split_00"]) for row in csv.DictReader(file)} == {
            ("../raw/train/Anger/0001.avi", "train"),
            ("../raw/validation/Anger/0001.avi", ""),
            ("../raw/test/Anger/0001.avi", "test"),
        }
    ids = [video.video_id for video in list_videos(Path("data/caer.csv"))[0]]
    assert len(set(ids)) == 3
    experiment = load_params().experiments["vaanet"]
    assert experiment.overrides["positive"] == ["Happy", "Neutral", "Surprise"]


def test_the_stills_of_sfew_become_videos_of_one_frame(project: Path) -> None:
    for place in ("Train/Angry/a.png", "Val/Angry/b.png"):
        (RAW / place).parent.mkdir(parents=True)
        Image.fromarray(np.zeros((32, 48, 3), np.uint8)).save(RAW / place)
    touch("Test/c.png")
    code, said = run("sfew", "--root", "raw", "--dry-run")
    assert code == 0 and not Path("data").exists()
    code, said = run("sfew", "--root", "raw")
    assert code == 0 and "Each is put into a video of one frame" in said
    assert "not in the folder of a class: Test/c.png" in said
    assert table("data/sfew.csv") == {
        "sfew/train/Angry/a.png.mkv": ("Angry", "train"),
        "sfew/val/Angry/b.png.mkv": ("Angry", "test"),
    }
    assert [v.problem for v in list_videos(Path("data/sfew.csv"))[0]] == [None, None]


def test_own_videos_stay_where_they_are(project: Path) -> None:
    make_folder("own")
    code, said = run("--root", "raw", "--paper", "mmf")
    assert code == 0 and "no table is about your data" in said
    params = load_params()
    assert (params.index.root, params.index.dataset) == ("raw", None)
    assert set(params.experiments) == {"mmf", "nextvlad_mmf"}
    assert not Path("data").exists()
    Path("v.csv").write_text("path,label,split\nraw/joy/0.mp4,joy,train\nraw/joy/1.mp4,joy,test\n")
    assert run("own", "--root", "v.csv")[0] == 0
    assert load_params().index.root == "v.csv"
    code, said = run("own", "--root", "raw", "--splits", "v.csv")
    assert code == 1 and "put the splits into a CSV" in said


def test_groups_that_names_say_become_a_column_of_a_csv(project: Path) -> None:
    names = [f"{label}/actor{n}_{label}.mp4" for n in range(3) for label in ("joy", "fear")]
    touch(*names)
    code, said = run("--root", "raw", "--paper", "mmf", "--groups", r"(actor\d+)_")
    assert code == 0 and "3 groups, by their names" in said, said
    params = load_params()
    assert params.index.root == "data/own.csv" and params.index.splits.groups == "group"
    videos, _ = list_videos(Path("data/own.csv"), columns_of(params.index))
    assert {video.video_id: video.cells[-1] for video in videos} == {
        f"{label}/actor{n}_{label}": f"actor{n}" for n in range(3) for label in ("joy", "fear")
    }
    touch("joy/else.mp4")
    for pattern, words in (
        (r"(actor\d+)_", r"in every name, found names without it: joy/else"),
        (r"actor\d+", "one pair of parentheses, around the group, found 0"),
        ("(", "expected a regular expression"),
    ):
        code, said = run("--root", "raw", "--groups", pattern)
        assert code == 1 and words in said, said
    code, said = run("--root", "data/own.csv", "--groups", "(a)")
    assert code == 1 and "a CSV has a column for them" in said
    code, said = run("ve8", "--root", "raw", "--groups", "(a)")
    assert code == 1 and "--groups: expected with videos of your own" in said


def test_a_protocol_that_was_chosen_stays_where_the_videos_are_the_same(project: Path) -> None:
    make_folder("own")
    lines = [f"raw/{label}/{n}.mp4,{label},s{n}" for label in ("joy", "fear") for n in range(3)]
    Path("v.csv").write_text("\n".join(["path,label,speaker", *lines]) + "\n")
    raw = yaml.safe_load(Path("params.yaml").read_text())
    raw["index"] |= {"root": "v.csv", "splits": {"kind": "kfold", "folds": 3, "seed": 0,
                                                 "groups": "speaker"}}  # fmt: skip
    Path("params.yaml").write_text(yaml.safe_dump(raw))
    code, said = run("--root", "v.csv", "--paper", "mmf")
    assert code == 0 and "index.splits stays as it is" in said
    assert load_params().index.splits.groups == "speaker"
    Path("w.csv").write_text("path,label,split\nraw/joy/0.mp4,joy,train\nraw/joy/1.mp4,joy,test\n")
    assert run("--root", "w.csv", "--paper", "mmf")[0] == 0
    assert load_params().index.splits.model_dump(exclude_unset=True) == {"kind": "predefined"}
    assert run("--root", "raw", "--paper", "mmf")[0] == 0
    splits = load_params().index.splits
    assert splits.model_dump(exclude_unset=True) == {"runs": 10, "test_share": 0.3333, "seed": 0}


def test_features_alone_are_read_by_the_roles_of_their_names(project: Path) -> None:
    Path("v.csv").write_text("video_id,label,split\na,joy,train\nb,joy,test\nc,fear,train\n")
    for name, shape in (("visual", (8,)), ("audio", (5,)), ("skeleton", (3, 3))):
        Path(name).mkdir()
        for video in "abc":
            np.save(f"{name}/{video}.npy", np.ones((2, *shape), np.float32))
    code, said = run("--root", "v.csv", "--paper", "mmf")
    assert code == 1 and "no row of a table can be run with the paper mmf" in said
    words = ["import", "visual", "visual", "audio", "audio", "--root", "v.csv"]
    assert CliRunner().invoke(app, words).exit_code == 0
    code, said = run("--root", "v.csv", "--paper", "mmf")
    assert code == 0, said
    assert {*load_params().experiments["mmf"].roles} == {"visual", "audio"}, "the fullest there is"
    words = ["import", "skeleton", "skeleton", "--root", "v.csv"]
    assert CliRunner().invoke(app, words).exit_code == 0
    code, said = run("--root", "v.csv", "--paper", "mmf")
    assert code == 0, said
    params = load_params()
    assert set(params.backbones) == {"visual", "audio", "skeleton"}
    assert params.experiments["mmf"].roles == {
        name: f"{name}/features" for name in ("visual", "audio", "skeleton")
    }
    assert params.experiments["mmf"].train["learning_rate"] == 0.0001
    check_all(params)
    code, said = run("--root", "v.csv")  # VAANet reads maps of snippets
    assert code == 0 and "left out: VAANet" in said, said
    assert {each.head for each in load_params().experiments.values()} == {"mmf", "nextvlad"}


# ------------------------------------------------------------------------------- the rest


def test_dry_run_shows_the_changes_and_writes_nothing(project: Path) -> None:
    make_folder("ve8")
    before = Path("params.yaml").read_text(), Path("dvc.yaml").read_text()
    code, said = run("ve8", "--root", "raw", "--paper", "caan", "--dry-run")
    assert code == 0
    assert "+  dataset: VideoEmotion-8" in said and "+  caan_t6_caan:" in said
    assert "Table 6: 52.50" in said
    assert (Path("params.yaml").read_text(), Path("dvc.yaml").read_text()) == before
    assert not Path("data").exists()


def test_an_absolute_folder_stays_absolute_in_the_csv(project: Path) -> None:
    make_folder("ve8")
    assert run("ve8", "--root", str(RAW.absolute()), "--paper", "caan")[0] == 0
    with Path("data/ve8.csv").open(newline="") as file:
        assert all(Path(row["path"]).is_file() for row in csv.DictReader(file))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ve9", "--root", "raw"], "unknown preset 've9'"),
        (["ve8", "--root", "none"], "none: expected the folder of the data set"),
        (["ve8", "--root", "raw", "--splits", "none.json"], "none.json: cannot be read"),
        (["ve8", "--root", "raw", "--splits", "[/HD].json"], "[/HD].json: cannot be read"),
        (["ve8", "--root", "raw", "--paper", "emo"], "unknown paper 'emo': expected one of CAAN"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_written(
    project: Path, arguments: list[str], words: str
) -> None:
    before = Path("params.yaml").read_text()
    make_folder("ve8")
    code, said = run(*arguments)
    assert code == 1 and words in " ".join(said.split())
    assert Path("params.yaml").read_text() == before and not Path("data").exists()


def test_a_paper_that_does_not_suit_the_data_is_refused(project: Path) -> None:
    make_folder("sfew")
    with pytest.raises(PresetError, match="sfew: no row of a table can be run with the paper mmf"):
        make_plan("sfew", RAW, Choices(paper="mmf"), dry_run=True)


def test_the_bindings_need_no_backbone_that_params_yaml_lacks_after_them(project: Path) -> None:
    make_folder("own")
    params = params_of(make_plan("own", RAW, Choices(), dry_run=True).text)
    finer = {"resnet50_28x28", "resnet50_28x28_faces"}  # for the paper's own data sets
    sample = {"resnet_faces", "resnet_frames"}
    assert set(load_bindings().backbones) | sample == set(params.backbones) | finer


def test_what_a_paper_does_not_state_is_told(project: Path) -> None:
    make_folder("sfew")
    code, said = run("sfew", "--root", "raw", "--dry-run")
    said = " ".join(said.split())
    assert code == 0 and "RDAM, SFEW, Table 7: 63.41" in said
    assert "RDAM: the paper states neither optimiser nor rate, batch, epochs" in said
    assert "RDAM: on the data sets of its tables ResNet-50 gives maps of 28 x 28" in said
    assert "HAMF: " not in said
    code, said = run("sfew", "--root", "raw", "--dry-run", "--epochs", "3")
    assert "every experiment trains 3 epochs a phase, whatever its paper" in said
