import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from affectline.cli import app
from features.weights.file import write_seeded
from stages import decode, extract, index, sample, tables
from tests.conftest import write_clip

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def project(in_folder: Path) -> Path:
    """Four videos with sound, a broken one, and VGGish with seeded weights; nothing has run."""
    raw = yaml.safe_load((PROJECT / "params.yaml").read_text())
    raw["index"] |= {"root": "raw", "splits": raw["index"]["splits"] | {"runs": 2}}
    raw["engine"] = {"workers": 1, "runtime": "torch"}  # a trial of runtimes takes seconds
    raw["max_failed"] = 0.5
    raw["backbones"] = {"vggish": raw["backbones"]["vggish"] | {"source": "seeded", "seed": 3}}
    raw["experiments"] = {"sound": {"head": "pooling", "roles": {"sound": "vggish/embedding"}}}
    Path("params.yaml").write_text(yaml.safe_dump(raw))
    shutil.copy(PROJECT / "dvc.yaml", "dvc.yaml")
    Path("stages").symlink_to(PROJECT / "stages")
    for number, name in enumerate(("fear/a", "fear/b", "joy/a", "joy/b")):
        write_clip(Path(f"raw/{name}.mp4"), frames=10 + number, sound_s=1.0)
    Path("raw/joy/bad.mp4").write_bytes(b"no video")
    return in_folder


def change(where: str, value: object) -> None:
    raw = yaml.safe_load(Path("params.yaml").read_text())
    *sections, key = where.split(".")
    place = raw
    for section in sections:
        place = place[section]
    place[key] = value
    Path("params.yaml").write_text(yaml.safe_dump(raw))


def run() -> None:
    """Run the stages up to the table of all features."""
    seed = yaml.safe_load(Path("params.yaml").read_text())["backbones"]["vggish"]["seed"]
    weights = Path("data/weights/vggish.safetensors")
    write_seeded(weights, "vggish", seed)
    index.main()
    decode.main()
    extract.main("vggish")
    tables.main()


def asked(*arguments: str) -> Any:
    done = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    start = min(place for place in map(done.stdout.find, "[{") if place >= 0)
    return json.loads(done.stdout[start:])


def counted(name: str) -> dict[str, int]:
    """Return a field of `affectline status` by stage."""
    return {row["name"]: row[name] for row in asked("status")}


def test_before_the_first_run_all_is_to_compute_and_nothing_tells_what_it_costs(
    project: Path,
) -> None:
    assert counted("to_compute") == {
        "index": 5,
        "decode": 5,
        "extract@vggish": 5,
        "train@sound": 2,
    }
    assert set(counted("seconds").values()) == {None}
    said = CliRunner().invoke(app, ["status"]).output
    said = " ".join(said.split())
    assert "status: dvc repro would compute 17 items (" in said
    assert " are free); no earlier run tells the cost; affectline status --cali" in said


def test_what_may_have_been_made_before_is_counted_as_at_most_so_many(project: Path) -> None:
    assert {row["unsure"] for row in asked("status")} == {0}, "an empty store holds nothing"
    write_clip(Path("elsewhere/joy/a.mp4"), frames=8)
    change("index.root", "elsewhere")
    index.main()
    change("index.root", "raw")
    assert {row["name"]: row["unsure"] for row in asked("status")} == {
        "index": 0,
        "decode": 0,
        "extract@vggish": 5,
        "train@sound": 2,
    }


def clips(name: str) -> tuple[int, int]:
    """Return how many items a stage has, and how many of them are to be computed."""
    ((items, to_compute),) = (
        (row["items"], row["to_compute"]) for row in asked("status") if row["name"] == name
    )
    return items, to_compute


def lock_sample() -> None:
    """Leave dvc.lock as DVC writes it after the stage `sample`."""
    section = yaml.safe_load(Path("params.yaml").read_text())["sample"]
    params = {"params.yaml": {"index.root": "data/sample", "sample": section}}
    lock = {"schema": "2.0", "stages": {"sample": {"params": params, "outs": []}}}
    Path("dvc.lock").write_text(yaml.safe_dump(lock))


def test_the_clips_of_the_sample_are_counted_before_they_are_made(project: Path) -> None:
    change("index.root", "data/sample")
    change("sample", {"seed": 0, "clips_per_class": 1, "seconds": 1.0})
    for stage in ("sample", "index", "decode", "extract@vggish"):
        assert clips(stage) == (6, 6)
    rough = {row["name"]: (row["seconds"], row["is_rough"]) for row in asked("status")}
    assert all(seconds > 0 and is_rough for seconds, is_rough in rough.values()), rough
    sample.main()
    lock_sample()
    rows = {row["name"]: row for row in asked("status")}
    assert rows["sample"]["seconds"] == 0 and not rows["sample"]["is_rough"]
    assert rows["index"]["is_rough"], "no run has told of it yet"
    assert clips("sample") == (6, 0) and clips("index") == (6, 6)
    index.main()
    assert clips("index") == (6, 0)
    shutil.rmtree("data/sample")  # as DVC does before it makes the same clips again
    assert clips("sample") == (6, 6) and clips("index") == (6, 0)
    change("sample.seconds", 1.2)
    assert clips("sample") == clips("index") == (6, 6), "other clips under the same names"
    Path("data/index.parquet").unlink()
    Path("dvc.lock").write_text("stages: []")
    done = CliRunner().invoke(app, ["status"])
    assert done.exit_code == 1 and "error: dvc.lock: expected" in done.output


def test_a_file_in_two_classes_is_not_counted(project: Path) -> None:
    shutil.copy("raw/joy/a.mp4", "raw/fear/again.mp4")
    assert counted("to_compute")["index"] == 4  # neither of the two, of six


def test_a_trial_tells_what_an_item_costs_and_its_items_are_kept(project: Path) -> None:
    Path("raw/joy/bad.mp4").unlink()
    for number in range(2):
        write_clip(Path(f"raw/joy/more{number}.mp4"), frames=30 + number, sound_s=1.0)
    rows = {row["name"]: row for row in asked("status", "--calibrate")}
    for stage in ("index", "decode", "extract@vggish"):
        row = rows[stage]
        assert (row["items"], row["to_compute"], row["in_store"]) == (6, 2, 4), stage
        assert 0 < row["seconds"] < 60 and row["new_bytes"] > 20, stage
        assert not Path(row["output"]).exists()
    assert rows["train@sound"]["seconds"] is None
    said = " ".join(CliRunner().invoke(app, ["status"]).output.split())
    assert said.endswith(", and train@sound (no earlier run to judge by)"), said
    assert not list(Path(".store/unfinished").iterdir())
    run()
    logs = (json.loads(Path(f"logs/{n}.json").read_text()) for n in ("index", "decode"))
    assert [(log["computed"], log["reused"]) for log in logs] == [(2, 4)] * 2


def test_a_trial_that_fails_says_what_the_stage_said(project: Path) -> None:
    change("backbones.vggish.options", {"rellu": True})
    done = CliRunner().invoke(app, ["status", "--calibrate"])
    assert done.exit_code == 1
    assert "index has failed on the few videos" in done.output and "rellu" in done.output


def test_after_a_run_all_is_current_and_a_change_is_counted(project: Path) -> None:
    run()
    assert counted("current") | {"train@sound": 0} == {
        "index": 4,
        "decode": 4,
        "extract@vggish": 4,
        "train@sound": 0,
    }
    assert counted("failed")["decode"] == 1
    assert counted("to_compute")["train@sound"] == 2
    assert counted("unsure")["train@sound"] == 0
    table = Path("data/tables.parquet")
    rows = pq.read_table(table)
    pq.write_table(rows.slice(1), table)
    assert counted("unsure")["train@sound"] == 2, "the table is that of other features"
    pq.write_table(rows, table)

    (Path("raw") / "joy/a.mp4").rename("raw/fear/moved.mp4")
    assert counted("in_store")["extract@vggish"] == 1, "the same content under another name"
    old = Path("raw/joy/b.mp4")
    size = old.stat().st_size
    write_clip(old, frames=9, sound_s=0.5)
    old.write_bytes(old.read_bytes()[:size].ljust(size, b"\0"))
    assert counted("to_compute")["extract@vggish"] == 1, "another content of the same size"
    assert counted("stale")["extract@vggish"] == 2


def test_a_chain_is_explained_down_to_the_ingredient_that_changed(project: Path) -> None:
    run()
    said = asked("explain", "joy/a", "vggish")
    assert said["is_current"] and [link["stage"] for link in said["links"]] == [
        "index",
        "decode",
        "extract@vggish",
    ]
    made_of = said["links"][-1]["ingredients"]
    assert {"module", "options", "precision", "weights", "code", "view", "input"} <= set(made_of)
    for where, value, what in (
        ("decode.seed", 9, "seed of decode"),
        ("backbones.vggish.precision", "bfloat16", "precision of extract@vggish"),
        ("backbones.vggish.seed", 4, "weights of extract@vggish"),
    ):
        before = Path("params.yaml").read_text()
        change(where, value)
        said = asked("explain", "joy/a", "vggish")
        assert not said["is_current"] and said["verdict"] == f"not current: {what} changed"
        Path("params.yaml").write_text(before)
    assert "failed in index" in asked("explain", "joy/bad", "vggish")["verdict"]
    for words, expected in (
        (("joy/c", "vggish"), "found none"),
        (("a", "vggish"), "did you mean fear/a, joy/a?"),
        (("joy/a", "vgg"), "expected a backbone of params.yaml: vggish"),
    ):
        done = CliRunner().invoke(app, ["explain", *words])
        assert done.exit_code == 1 and expected in " ".join(done.output.split()), done.output


def planned() -> list[str]:
    done = CliRunner().invoke(app, ["plan"], catch_exceptions=False)
    assert done.exit_code == 0
    return done.output.splitlines()


def test_the_plan_of_a_repro_lists_what_works_and_names_what_is_reused(project: Path) -> None:
    first = planned()
    assert [line.split() for line in first if line.startswith((" index", " train"))] == [
        ["index", "5", "0", "5"],
        ["train@sound", "2", "0", "2"],
    ]
    assert first[-1].startswith("plan: to compute: 17 items (")
    run()
    *rows, reused, last = planned()
    assert reused == "plan: reused as they are: index, decode, extract@vggish"
    assert "train@sound" in rows[-2] and not any("decode" in row for row in rows)
    assert last.startswith("plan: to compute: 2 items") and "up to" not in last


def test_the_plan_names_the_weights_that_are_to_be_had_first(project: Path) -> None:
    change("backbones.vggish.source", "pretrained")
    assert "plan: weights to be had first: vggish" in planned()
