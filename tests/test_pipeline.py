"""The whole DAG, run as a user runs it: `dvc repro` in a clone, on a few generated clips.

The tests of this file share one clone and build on each other, in order. Its networks are small
ones, but for one of each kind of input: what the large ones compute is compared elsewhere, how the
pipeline treats them does not depend on their size.
"""

import json
import re
import shlex
import shutil

import pytest
import yaml
from dvc.repo import Repo

from features.cache.arrays import read, read_attributes
from tests.clones import PROJECT, TOY, Clone, make_clone
from tests.conftest import write_clip

pytestmark = pytest.mark.slow

PICTURES = TOY.replace("colour", "pooled")
"""Stands for ResNet-50 in the pipeline: its views, its feature, next to none of its numbers."""

MOTION = (
    TOY.replace('("segments", "faces")', '"snippets"')
    .replace("mean(dim=(1, 2)) / 255", "mean(dim=(2, 3, 4)).diff(dim=1) / 255")
    .replace("nn.Linear(3, 4)", "nn.Linear(15, 4)")
    .replace("colour", "change")
)
"""Source of a backbone that reads how fast the picture changes from frame to frame."""

BACKBONES = {
    "resnet_faces": {"module": "pictures", "view": "faces", "source": "seeded", "seed": 1},
    "resnet_frames": {"module": "pictures", "view": "segments", "source": "seeded", "seed": 2},
    "resnet18_mfcc": {
        **{"module": "resnet18_mfcc", "view": "sound", "source": "seeded", "seed": 3},
        "options": {"frames": 512},
    },
    "blazepose": {"module": "blazepose", "view": "uniform", "source": "pretrained"},
}
"""The backbones of the pipeline, under the names that README's commands have."""

STAGES = ["index", "decode", "faces", *(f"extract@{name}" for name in BACKBONES)]
SOME = ["index", "decode", "faces", "extract@resnet_frames"]
"""Of one backbone: how items are counted and reused does not depend on which it is."""


def shipped() -> dict[str, dict[str, object]]:
    """Return two experiments of params.yaml, as they stand there but for VGGish, which is large."""
    experiments = yaml.safe_load((PROJECT / "params.yaml").read_text())["experiments"]
    del experiments["fusion_average"]["roles"]["sound"]
    return {name: experiments[name] for name in ("caan", "fusion_average")}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The project as git has it (with what is not yet committed), small in every number."""
    clone = make_clone(tmp_path_factory.mktemp("clone"))
    (clone.root / "features/backbones/pictures.py").write_text(PICTURES)
    clone.commit("pictures")
    return clone


def test_the_settings_that_are_shipped_are_right(clone: Clone) -> None:
    clone.run("affectline", "check")
    params = yaml.safe_load((PROJECT / "params.yaml").read_text())
    with Repo(str(clone.root)) as repo:
        names = {stage.addressing.rpartition(":")[2] for stage in repo.index.stages}
    assert {f"extract@{name}" for name in params["backbones"]} <= names
    assert {f"train@{name}" for name in params["experiments"]} <= names


def test_a_folder_of_videos_becomes_a_trained_head(clone: Clone) -> None:
    for label, number, name in [
        ("joy", 1, "a"),
        ("joy", 3, '100% "it\'s" ü'),
        ("fear", 1, "a"),
        ("fear", 4, "b"),
    ]:
        clone.add_clip(label, number, name)
    (clone.root / "data/raw/fear/broken.mp4").write_bytes(b"\0" * 20)
    clone.params(
        engine__workers=1,
        engine__runtime="torch",
        sample__clips_per_class=1,
        sample__seconds=1.0,
        index__root="data/raw",
        index__splits__runs=2,
        decode__views__segments__count=4,
        decode__views__uniform__count=4,
        decode__views__snippets__count=1,
        train__epochs=2,
        backbones=BACKBONES,
        experiments=shipped(),
    )
    ran = clone.repro()
    assert ran[-1] == "report" and "train@caan" in ran
    for stage in STAGES:
        assert clone.log(stage)["computed"] == 4, stage
    assert clone.log("index")["failed"] == 1
    assert clone.log("decode")["frames_decoded"] > 0
    assert clone.log("extract@resnet_frames")["forward_seconds"] > 0


def test_it_says_first_what_it_will_do_and_last_what_came_of_it(clone: Clone) -> None:
    said = [line for line in clone.said if not line.startswith(("Updating lock", ">"))]
    assert not [line for line in said if line.startswith(("WARNING", "W0000", "I0000", "INFO"))]
    assert sum(line.startswith("plan: to compute: ") for line in said) == 1
    told = [line for line in said if line.strip()]
    assert len(told) == len(set(told)), "no line comes twice"
    starts = [line.partition(":")[0] for line in said]
    assert starts.index("plan") < starts.index("index") < starts.index("report")
    end = starts.index("best")
    assert starts[end - 1 : end + 5] == ["report", "best", "chance", "note", "page", "next"]


def test_the_broken_video_is_a_row_with_its_reason_in_every_table(clone: Clone) -> None:
    names = ["data/index", "data/views/segments", "data/views/sound", "data/views/faces"]
    for name in [*names, "data/tables/resnet_faces", "data/tables/blazepose"]:
        rows = {row["video_id"]: row for row in clone.table(name)}
        assert len(rows) == 5
        assert rows["fear/broken"]["status"] == "failed"
        assert "cannot be opened" in rows["fear/broken"]["reason"]
        assert {row["status"] for row in rows.values()} == {"failed", "ok"}


def test_a_feature_file_says_where_it_came_from(clone: Clone) -> None:
    path = clone.root / 'data/features/resnet_frames/joy/100% "it\'s" ü.h5'
    arrays, said = read(path)
    assert arrays["pooled"].shape == (4, 4)
    times_s = arrays["pts_s"][arrays["valid"]]  # two segments may draw one frame: 12 are a second
    assert len(times_s) >= 3 and (times_s[1:] > times_s[:-1]).all()
    assert said["pretrained"] is False
    ingredients = said["ingredients"]
    assert isinstance(ingredients, dict)
    rows = {row["video_id"]: row for row in clone.table("data/views/segments")}
    assert ingredients["input"] == rows['joy/100% "it\'s" ü']["content"]
    pose = read(clone.root / "data/features/blazepose/joy/a.h5")[0]
    assert pose["valid"].all() and pose["landmarks"].shape == (4, 33, 3)
    faces = read_attributes(clone.root / "data/views/faces/joy/a.h5")
    assert faces["rows_with_face"] == 4


def test_results_say_that_seeded_weights_mean_nothing(clone: Clone) -> None:
    metrics = json.loads((clone.root / "results/caan/scores.json").read_text())
    assert metrics["pretrained"] is False
    assert 0 <= metrics["accuracy"]["mean"] <= 1 and metrics["accuracy"]["runs"] == 2
    page = (clone.root / "report/index.html").read_text()
    assert "nothing about emotion" in page and "seeded" in page and "fear/broken" in page
    assert "http://" not in page and "https://" not in page


def readme_commands() -> list[str]:
    blocks = re.findall(r"```console\n(.*?)```", (PROJECT / "README.md").read_text(), re.S)
    return [line for block in blocks for line in block.splitlines()]


def test_every_command_of_the_readme_works(clone: Clone) -> None:
    commands = [words for line in readme_commands() if (words := shlex.split(line, comments=True))]
    mine = [words for words in commands if words[0] not in ("make", "source")]
    assert len(mine) > 5
    params = clone.root / "params.yaml"
    own = params.read_text()
    said: dict[str, str] = {}
    for words in mine:
        name = " ".join(words[:2])
        if name == "affectline preset":  # which keeps to what the names of backbones mean
            params.write_text((PROJECT / "params.yaml").read_text())
        if words == ["dvc", "repro"]:
            assert clone.repro() == [], "a second one does nothing"
            said[name] = "\n".join(clone.said)
        else:
            said[name] = clone.run(*[word.replace("clip01", "a") for word in words])
        params.write_text(own)
    assert "up to date" in said["dvc repro"]
    assert re.search("fear/broken.*index", said["affectline failures"])
    assert "pooled" in said["affectline show"]
    header = said["dvc metrics"].splitlines()[0].split()
    assert header == [
        *("Path", "accuracy", "accuracy_high", "accuracy_low", "balanced_accuracy", "macro_f1"),
        "settings_tried",
    ]


def test_git_sees_only_the_lock_file_and_what_the_user_wrote(clone: Clone) -> None:
    changed = {line.split()[-1] for line in clone.run("git", "status", "--short").splitlines()}
    assert changed - {"weights.lock.json"} == {"dvc.lock", "params.yaml"}


def test_a_heads_setting_reruns_that_head_and_the_report(clone: Clone) -> None:
    clone.params(experiments__caan__with={"score_layers": 1})
    assert clone.repro() == ["train@caan", "report"]
    assert clone.log("train@caan")["computed"] == 2


def test_one_video_more_costs_one_video_and_one_of_another_label_nothing(clone: Clone) -> None:
    clone.add_clip("joy", 7, "new")
    raw, features = clone.root / "data/raw", clone.root / "data/features/resnet_frames"
    before = read(features / 'joy/100% "it\'s" ü.h5')[0]["pooled"]
    (raw / 'joy/100% "it\'s" ü.mp4').rename(raw / "fear/moved.mp4")
    clone.repro(*SOME)
    for stage in SOME:
        log = clone.log(stage)
        assert (log["computed"], log["reused"]) == (1, 4), stage
    assert (read(features / "fear/moved.h5")[0]["pooled"] == before).all()
    assert not (features / 'joy/100% "it\'s" ü.h5').exists()


def test_too_many_bad_videos_end_the_stage_and_lose_nothing(clone: Clone) -> None:
    before = clone.outputs()
    write_clip(clone.root / "data/raw/joy/sound.mp4", picture=False, sound_s=1.0)
    said = clone.run("dvc", "repro", ok=False)
    assert "2 of 7 videos failed, allowed are 20%" in said
    assert "no video stream" in said and "cannot be opened" in said
    (clone.root / "data/raw/joy/sound.mp4").unlink()
    clone.repro(*SOME)
    assert set(clone.computed().values()) <= {0}
    assert clone.outputs() == before


def test_a_new_backbone_is_one_file_and_one_block(clone: Clone) -> None:
    (clone.root / "features/backbones/motion.py").write_text(MOTION)
    block = {"module": "motion", "view": "snippets", "source": "seeded"}
    experiment = {"head": "pooling", "roles": {"motion": "motion/change"}}
    backbones = {"resnet_frames": BACKBONES["resnet_frames"], "motion": block}
    clone.params(backbones=backbones, experiments={"motion": experiment})
    before = (clone.root / "data/views/segments/joy/a.h5").stat().st_ino
    clone.repro("train@motion")
    assert clone.log("decode")["computed"] == 5  # the new view only:
    assert (clone.root / "data/views/segments/joy/a.h5").stat().st_ino == before
    assert clone.log("extract@motion")["computed"] == 5
    assert read(clone.root / "data/features/motion/joy/a.h5")[0]["change"].shape == (1, 4)
    assert json.loads((clone.root / "results/motion/scores.json").read_text())["videos"] == 5


RUN = """
import sys
from features.networks import extraction
from stages import decode, extract, faces, weights
extraction.BATCH = extract.BATCH = 1  # nothing is filled up: it takes half a minute
if __name__ == "__main__":
    decode.main()
    faces.main()
    for name in sys.argv[1:]:
        weights.main(name)
        extract.main(name)
"""
"""The stages of backbones one after the other, as DVC runs them, in one process."""


def test_the_other_papers_backbones_are_one_uncommented_line_each(clone: Clone) -> None:
    """All of them are planned; those that are no second VGG-16 run, in float32.

    bfloat16 is emulated where the processor lacks it, and then takes half an hour.
    """
    blocks = re.findall(r"^#(  \w+: \{module: .*\})$", (PROJECT / "params.yaml").read_text(), re.M)
    more = yaml.safe_load("\n".join(blocks))
    known = {"vggface", "vgg16", "places365_vgg16", "resnet50", "swin", "r3d101", "resnet18_mfcc"}
    assert set(more) == {*known, "blazepose"}
    more = {name: block for name, block in more.items() if name not in BACKBONES}
    clone.params(**{f"backbones__{name}": block for name, block in more.items()})
    clone.run("affectline", "check")
    rows = {row["name"]: row for row in json.loads(clone.run("affectline", "status", "--json"))}
    assert all(rows[f"extract@{name}"]["to_compute"] == 5 for name in more)
    large = [name for name in more if "vgg" not in name]
    clone.params(**{f"backbones__{name}__precision": "float32" for name in large})
    (clone.root / "run.py").write_text(RUN)
    clone.run("python", "-m", "run", *large)
    arrays = {name: read(clone.root / f"data/features/{name}/joy/a.h5")[0] for name in large}
    assert arrays["resnet50"]["res5"].shape == (4, 2048, 7, 7)
    assert arrays["swin"]["pooled"].shape == (4, 768)
    assert arrays["r3d101"]["conv5"].shape == (1, 2048, 4, 4)
    sound = read(clone.root / "data/features/resnet18_mfcc/joy/a.h5")[0]
    assert sound["mfcc"].shape == (16, 32, 32)
    assert all(each["valid"].any() for each in arrays.values())
    clone.params(backbones=BACKBONES, experiments=shipped())


def test_without_a_store_the_last_output_is_found_in_dvcs_cache(clone: Clone) -> None:
    shutil.rmtree(clone.root / ".store")
    before = (clone.root / "data/features/resnet_frames/joy/a.h5").read_bytes()
    clone.repro("--force", "--single-item", "extract@resnet_frames")
    assert (
        clone.log("extract@resnet_frames")["computed"],
        clone.log("extract@resnet_frames")["reused"],
    ) == (0, 5)
    assert (clone.root / "data/features/resnet_frames/joy/a.h5").read_bytes() == before


def test_a_lock_file_without_its_data_is_no_hindrance(clone: Clone) -> None:
    shutil.rmtree(clone.root / ".store")
    shutil.rmtree(clone.root / ".dvc/cache")
    clone.repro("--force", "--single-item", "index")
    assert clone.log("index")["computed"] == 5
    clone.repro("decode")


def test_a_wrong_setting_ends_at_once(clone: Clone) -> None:
    clone.params(faces__margn=0.3)
    said = clone.run("dvc", "repro", "--single-item", "faces", ok=False)
    assert "params.yaml: faces.margn: unknown key, did you mean 'margin'?" in said
