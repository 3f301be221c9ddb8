"""New videos, in a clone in which the stages have run: as a user asks, and beside its answers."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.video.listing import NO_FILE
from tests.clones import TOY, Clone, copy_clone, make_clone, make_light_clone
from tests.conftest import write_clip

THREE = {
    "head": "pooling",
    "roles": {
        "face": "faces_toy/colour",
        "scene": "frames_toy/colour",
        "sound": "sound_mfcc/pooled",
    },
    "search": {
        "trials": 2,
        "held_out": 0.5,
        "space": {"hidden": {"choice": [8, 12]}, "learning_rate": {"log_uniform": [1e-4, 1e-2]}},
    },
}
SOUND = {
    **{"module": "resnet18_mfcc", "view": "sound", "source": "seeded", "seed": 3},
    "options": {"segments": 2, "frames": 64},
}

WRONG = """
import json
from pathlib import Path
from affectline.publish import publish
from affectline.trained import of_experiment
from features.weights.file import write_seeded
from stages.engine.params import load_params

params, errors = load_params(), {}

def ask(name, params, *more, of=of_experiment):
    try:
        of(params, *more or ("caan",))
    except ValueError as error:
        errors[name] = str(error)

def with_block(section, name, **values):
    blocks = dict(getattr(params, section))
    blocks[name] = blocks[name].model_copy(update=values)
    return params.model_copy(update={section: blocks})

ask("as it is", params)
decode = params.decode.model_copy(update={"seed": 5})
ask("seed", params.model_copy(update={"decode": decode}))
ask("margin", params.model_copy(update={"faces": params.faces.model_copy(update={"margin": 0.5})}))
ask("view", with_block("backbones", "faces_toy", view="segments"))
ask("head", with_block("experiments", "caan", overrides={"score_layers": 1}))
ask("run", params, "caan", ["split_07"])
ask("name", params, "cann")
file = Path("data/weights/faces_toy.safetensors")
before = file.read_bytes()
file.unlink()
write_seeded(file, "faces_toy", 9)
ask("weights", params)
file.unlink()
about = Path("results/caan/about.json")
about.rename("about")
ask("nothing is here", params)
Path("about").rename(about)
file.write_bytes(before)
for index in map(Path, ("data/views/segments.parquet", "data/index.parquet")):
    index.rename(index.name)
ask("published", params, "caan", [], Path("out"), of=publish)
print(json.dumps([errors, of_experiment(params, "caan").remarks]))
for index in map(Path, ("data/views/segments.parquet", "data/index.parquet")):
    Path(index.name).rename(index)
"""

TOLD = {
    "affect": {"kind": "dimensions", "columns": ["valence", "arousal"], "range": [1, 9]},
    "feelings": {"kind": "labels", "columns": ["feelings"], "names": ["calm", "fear", "joy"]},
}
"""Targets of the same videos."""

SEVERAL = {
    **{"head": "caan", "target": "feelings"},
    "roles": {"face": "faces_toy/colour", "context": "frames_toy/colour"},
}

BOTH_WAYS = """
import json
import sys
from dataclasses import asdict
from pathlib import Path
from affectline.given import videos_at
from affectline.predict import predict
from affectline.predict_page import page_of
from affectline.publish import publish
from affectline.published import of_folder
from affectline.trained import of_experiment
from stages.engine.params import load_params

if __name__ == "__main__":
    params, videos, answers = load_params(), videos_at([Path("data/raw")]), {}
    for name in sys.argv[1:]:
        publish(params, name, [], Path("published") / name)
        here = of_experiment(params, name)
        with of_folder(params, Path("published") / name) as there:
            given = [predict(each, videos, with_weights=True) for each in (here, there)]
        answers[name] = [[asdict(one) for one in each.predictions] for each in given]
        Path(f"{name}.html").write_text(page_of(here, given[0]))
    Path("answers.json").write_text(json.dumps(answers))
"""
"""What experiments answer of all videos here, and what their published folders do, as JSON."""


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone with two experiments over nine clips of several lengths, of which one has no face."""
    clone = make_light_clone(tmp_path_factory.mktemp("predict") / "clone")
    clone.params(backbones__sound_mfcc=SOUND, experiments__three=THREE)
    for number, label in enumerate(("fear", "joy")):
        clone.add_clip(label, 5, "longer", seconds=2.5 + number)
    write_clip(clone.root / "data/raw/joy/grey.mp4", frames=20, sound_s=1.0)
    backbones = [f"@{name}" for name in ("frames_toy", "faces_toy", "sound_mfcc")]
    clone.make("index", "decode", "weights@detector", "faces")
    clone.make(*(stage + name for stage in ("weights", "extract") for name in backbones))
    clone.make("tables", "train@caan", "train@three")
    return clone


def asked(clone: Clone, *words: str, ok: bool = True) -> list[dict[str, Any]]:
    """Return what `affectline predict --json` answers."""
    said = clone.run("affectline", "predict", *words, "--json", ok=ok)
    answers: list[dict[str, Any]] = json.loads(said[said.index("[\n") : said.index("\n]") + 2])
    return answers


def computed(clone: Clone) -> dict[str, int]:
    """Return stage -> items that the last predict computed before the head."""
    stages = ("index", "decode", "faces", "extract frames_toy", "extract faces_toy")
    return {stage: clone.log(f"predict@{stage}")["computed"] for stage in stages}


def check_tested(clone: Clone, experiment: str, answers: list[dict[str, Any]]) -> None:
    """Check answers to all videos: of the test videos they are the experiment's, bit for bit."""
    of_video = {Path(row["file"]).parts[-2:]: row for row in answers}
    index = {row["video_id"]: row for row in clone.table("data/index")}
    assert len(of_video) == len(index) == 9
    tested = clone.table(f"results/{experiment}/predictions")
    assert len(tested) > 4
    prefix = "predicted_" if "predicted_valence" in tested[0] else "p_"
    for row in tested:
        given = of_video[Path(index[row["video_id"]]["file"]).parts[-2:]]["runs"][row["run"]]
        assert given.keys() == {name[len(prefix) :] for name in row if name.startswith(prefix)}
        for name, value in given.items():
            assert np.float32(value) == np.float32(row[prefix + name]), row
    for video_id, row in index.items():
        trained = [run for run in ("split_00", "split_01") if row[run] == "train"]
        assert of_video[Path(row["file"]).parts[-2:]]["trained_on_in"] == trained, video_id


@pytest.mark.slow
def test_every_test_video_has_the_experiments_own_numbers_bit_for_bit(clone: Clone) -> None:
    check_tested(clone, "caan", asked(clone, "data/raw", "--experiment", "caan"))
    assert computed(clone)["decode"] == 0, "the pipeline has made it all"


@pytest.mark.slow
def test_labels_numbers_and_searched_heads_answer_likewise_here_and_published(
    clone: Clone, tmp_path: Path
) -> None:
    told = copy_clone(clone, tmp_path / "told")
    files = sorted((told.root / "data/raw").rglob("*.mp4"))
    lines = ["path,label,valence,arousal,feelings"]
    for number, file in enumerate(files):
        label = file.parent.name
        feelings = "|".join([label, "calm"] if number % 2 else [label])
        lines.append(f"raw/{label}/{file.name},{label},{1 + number},{9 - number % 5},{feelings}")
    (told.root / "data/videos.csv").write_text("\n".join(lines) + "\n")
    experiments = {"several": SEVERAL, "numbers": THREE | {"target": "affect"}}
    told.params(index__root="data/videos.csv", index__targets=TOLD, experiments=experiments)
    told.make("index", "train@several", "train@numbers")
    (told.root / "both.py").write_text(BOTH_WAYS)
    told.run("python", "-m", "both", *experiments)
    answers = json.loads((told.root / "answers.json").read_text())
    for name in experiments:
        here, there = answers[name]
        check_tested(told, name, here)
        assert there == [{**row, "trained_on_in": []} for row in here]
    several = (told.root / "published/several/README.md").read_text()
    assert "\n(calm 4, fear 4, joy 5).\n" in several and "has it |" in several
    numbers = (told.root / "published/numbers/README.md").read_text()
    assert "from 1 to 9: valence, arousal" in numbers and "could be used.\n" in numbers
    told_of = (row["predicted"].replace("|", ", ") for row in answers["several"][0])
    shown = {names or "none of them" for names in told_of}
    page = (told.root / "several.html").read_text()
    assert all(f"<td>{names}</td>" in page for names in shown) and "data:image/webp" in page
    page = (told.root / "numbers.html").read_text()
    assert "from 1 to 9" in page and "weighs no rows" in page and "</h3>" not in page


@pytest.mark.slow
def test_attention_is_that_of_the_experiment_and_the_mean_is_over_runs(clone: Clone) -> None:
    words = ("data/raw/joy/joy0.mp4", "--experiment", "caan")
    (both,) = asked(clone, *words)
    runs = both["runs"]
    assert list(runs) == ["split_00", "split_01"]
    for name, chance in both["probabilities"].items():
        of_runs = [runs[run][name] for run in runs]
        assert chance == pytest.approx(np.mean(of_runs), abs=1e-12)
        assert both["spread"][name] == pytest.approx(np.std(of_runs, ddof=1), abs=1e-12)
    run = next(run for run in runs if run not in both["trained_on_in"])
    (one,) = asked(clone, *words, "--run", run)
    assert one["runs"] == {run: runs[run]} and one["spread"] == {"fear": None, "joy": None}
    weights = [
        row
        for row in clone.table("results/caan/attention")
        if (row["run"], row["video_id"]) == (run, "joy/joy0")
    ]
    heaviest = sorted(weights, key=lambda row: -row["value"])[: len(one["moments"])]
    assert [(m["time_s"], m["weight"]) for m in one["moments"]] == [
        (row["pts_s"], pytest.approx(row["value"], abs=1e-7)) for row in heaviest
    ]


@pytest.mark.slow
def test_what_is_computed_for_a_new_video_is_the_pipelines_and_is_not_computed_again(
    clone: Clone,
) -> None:
    new = clone.root / "new.mp4"
    shutil.move(clone.add_clip("joy", 8, "new"), new)
    (first,) = asked(clone, "new.mp4", "--experiment", "caan")
    assert set(computed(clone).values()) == {1} and first["trained_on_in"] == []
    (second,) = asked(clone, "new.mp4", "--experiment", "caan")
    assert set(computed(clone).values()) == {0} and first == second
    shutil.copy(new, clone.root / "data/raw/joy/new.mp4")
    again = ("index", "decode", "faces", "extract@faces_toy", "extract@frames_toy")
    clone.make(*again)
    logs = {name: clone.log(name) for name in ("faces", "extract@faces_toy", "extract@frames_toy")}
    assert {name: (log["computed"], log["items"]) for name, log in logs.items()} == {
        name: (0, 10) for name in logs
    }
    (clone.root / "data/raw/joy/new.mp4").unlink()
    clone.make(*again)


@pytest.mark.slow
def test_what_a_video_lacks_is_said_and_one_that_is_none_is_a_row(clone: Clone) -> None:
    folder = clone.root / "given"
    write_clip(folder / "silent.mp4", frames=20)
    (folder / "text.mp4").write_text("no video")
    listed = folder / "list.csv"
    listed.write_text("path,label\nsilent.mp4,\ntext.mp4,joy\nnone.mp4,\nsilent.mp4,\n")
    words = ("given/list.csv", "--experiment", "three")
    more = ("--csv", "out.csv", "--page", "out.html")
    silent, text, none, again = asked(clone, *words, *more)
    assert silent["lacking"] == {"face": "no face", "sound": "no sound"}
    assert silent["rows"]["face"] == [0, 4] and silent["rows"]["sound"] == [0, 0]
    assert silent["rows"]["scene"] == [4, 4]
    assert sum(silent["probabilities"].values()) == pytest.approx(1, abs=1e-6)
    assert again == silent
    assert text["predicted"] is None and "cannot be opened" in text["reason"]
    assert none["reason"] == NO_FILE and none["sha256"] is None
    with (clone.root / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["reason"] for row in rows] == ["", text["reason"], NO_FILE, ""]
    assert float(rows[0]["p_joy"]) == silent["probabilities"]["joy"]
    page = (clone.root / "out.html").read_text()
    assert "given/silent.mp4" in page and "sound: no sound" in page and NO_FILE in page
    assert "nothing about emotion" in page and "http" not in page.replace("http-equiv", "")
    (row,) = asked(clone, "given/text.mp4", "--experiment", "three", ok=False)
    assert row == text, "exit status 1: none could be answered"


@pytest.mark.slow
def test_what_was_not_trained_with_is_an_error_that_says_which(clone: Clone) -> None:
    (clone.root / "wrong.py").write_text(WRONG)
    said = clone.run("python", "-m", "wrong").splitlines()[-1]
    errors, remarks = json.loads(said)
    assert "as it is" not in errors
    assert "another decode segments than is here: seed was 0, is 5" in errors["seed"]
    assert "another faces than is here: params.margin was 0.25, is 0.5" in errors["margin"]
    assert "another backbone faces_toy than is here: view was faces" in errors["view"]
    assert "params.score_layers was 3, is 1" in errors["head"]
    assert "weights.seed was 2, is 9" in errors["weights"]
    assert "no run 'split_07'" in errors["run"] and "did you mean 'caan'" in errors["name"]
    lacking = errors["nothing is here"]
    assert lacking.startswith("results/caan/about.json: not here, and experiment caan needs it")
    assert "`dvc pull train@caan weights@faces_toy` brings what has been made" in lacking
    test = clone.table("results/caan/predictions")[0]["video_id"]
    command = f"`dvc pull data/views/segments.parquet data/views/segments/{test}.h5"
    assert remarks[0].startswith("not all could be checked") and f"{command}` brings" in remarks[0]
    assert f"{command} data/index.parquet` brings it" in errors["published"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "old", "new", "named"),
    [
        ("heads/caan.py", "return ", "return () or ", "trained with another head caan than"),
        (
            "features/backbones/toy.py",
            "/ 255",
            "/ 254",
            "trained on another backbone faces_toy than is here: code was",
        ),
    ],
)
def test_other_code_than_it_was_trained_with_is_an_error(
    clone: Clone, file: str, old: str, new: str, named: str
) -> None:
    path = clone.root / file
    text = path.read_text()
    path.write_text(text.replace(old, new, 1) if "toy" in file else _edited(text))
    try:
        words = ("affectline", "predict", "data/raw/joy/joy0.mp4", "--experiment", "caan")
        assert named in clone.run(*words, ok=False)
    finally:
        path.write_text(text)


def _edited(text: str) -> str:
    """Return a head's source with another number in its `build`."""
    name, _, rest = text.partition("def build(")
    body, _, after = rest.partition("    return ")
    return f"{name}def build({body}    assert 1 < 2\n    return {after}"


@pytest.mark.slow
def test_a_published_head_answers_the_same_where_there_is_no_data(
    clone: Clone, tmp_path: Path
) -> None:
    words = ("data/raw/joy/joy0.mp4", "--experiment", "caan")
    (here,) = asked(clone, *words, "--page", "page.html")
    assert (clone.root / "page.html").read_text().count("data:image/webp") == 2  # faces, frames
    clone.run("affectline", "publish", "caan", "--run", "all", "--out", "model")
    files = [path for path in (clone.root / "model").rglob("*") if path.is_file()]
    assert {path.name for path in files} == {
        *("README.md", "model.json"),
        *("split_00.safetensors", "split_01.safetensors"),
    }
    names = [row["video_id"].partition("/")[2] for row in clone.table("data/index")]
    assert not [name for name in names for path in files if name.encode() in path.read_bytes()]
    card = (clone.root / "model/README.md").read_text()
    scores = json.loads((clone.root / "results/caan/scores.json").read_text())
    assert f"{100 * scores['accuracy']['mean']:.1f} % of the test videos, mean over 2 runs" in card
    assert "fear 4, joy 5" in card and "Apache-2.0" in card and "Nothing about emotion" in card
    clone.run("affectline", "publish", "three", "--out", "searched")
    searched = (clone.root / "searched/README.md").read_text()
    found = json.loads((clone.root / "results/three/runs/search.json").read_text())
    for run, of_run in found["runs"].items():
        settings = of_run["settings"]
        chosen = f"hidden {settings['hidden']}, learning\\_rate {settings['learning_rate']}"
        assert f"| `{run}` | {chosen} |" in searched
    assert "Settings were searched: 2 were tried in each run" in searched
    assert "not empty" in clone.run("affectline", "publish", "caan", "--out", "model", ok=False), (
        "nothing is written over"
    )

    other = make_clone(tmp_path / "other")
    toy = other.root / "features/backbones/toy.py"
    toy.write_text(TOY)
    shutil.copytree(clone.root / "model", other.root / "model")
    shutil.copytree(clone.store / "sources", other.store / "sources")  # in place of a download
    shutil.copy(clone.root / "data/raw/joy/joy0.mp4", other.root / "one.mp4")
    (there,) = asked(other, "one.mp4", "--model", "model")
    assert (there["runs"], there["moments"]) == (here["runs"], here["moments"])
    assert set(computed(other).values()) == {1}
    assert not (other.root / "data").exists(), "it keeps out of the other project's outputs"
    toy.write_text(TOY.replace("/ 255", "/ 254"))
    said = other.run("affectline", "predict", "one.mp4", "--model", "model", ok=False)
    assert "trained on another extract@faces_toy than is here: code was" in said
    assert "Take the code that it was published with (commit " in said
