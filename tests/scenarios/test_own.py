"""Scenario 11: one's own videos, head and helper: only what they need runs, nothing old is kept."""

import os
import shutil
import signal
from pathlib import Path

from features.networks.extraction import BATCH
from stages.engine.outputs import EMPTY
from tests.clones import Clone, copy_clone
from tests.scenarios.test_kills import items, until

HEAD = '''"""Pooling whose answers a helper of one's own shifts."""

from heads.{helper} import SHIFT
from heads.pooling import ALIGNED, REFERENCE, ROLES, Params
from heads.pooling import build as plain


def build(params, features, classes):
    network = plain(params, features, classes)
    network.shift = SHIFT
    return network
'''


def test_a_helper_that_dvc_does_not_watch_is_refused_and_one_that_it_watches_trains_anew(
    template: Clone, tmp_path: Path
) -> None:
    clone = copy_clone(template, tmp_path / "clone")
    heads = clone.root / "heads"
    (heads / "mylib.py").write_text("SHIFT = 1\n")
    (heads / "mine.py").write_text(HEAD.format(helper="mylib"))
    roles = {"face": "faces_toy/colour"}
    clone.params(experiments__own={"head": "mine", "roles": roles})
    line = "train imports heads/mylib.py"
    for command in (
        ("dvc", "repro", "train@own"),
        ("affectline", "check"),
        ("affectline", "status"),
    ):
        said = clone.run(*command, ok=False)
        assert line in said and "Traceback" not in said, said
    (heads / "mylib.py").rename(heads / "layers/mylib.py")
    (heads / "mine.py").write_text(HEAD.format(helper="layers.mylib"))
    text = (clone.root / "dvc.yaml").read_text()
    assert text.count(" heads/layers,") == 1
    (clone.root / "dvc.yaml").write_text(
        text.replace(" heads/layers,", " heads/layers, heads/pooling.py,")
    )
    clone.repro("train@own")
    assert clone.log("train@own")["computed"] == 2
    assert clone.repro("train@own") == []
    (heads / "layers/mylib.py").write_text("SHIFT = 2\n")
    assert clone.repro("train@own") == ["train@own"]
    assert clone.log("train@own")["computed"] == 2


def test_without_a_backbone_that_reads_faces_none_are_looked_for_and_the_sample_is_not_made(
    template: Clone, tmp_path: Path
) -> None:
    clone = copy_clone(template, tmp_path / "clone")
    shutil.rmtree(clone.root / ".store")  # no weights of the detector are here
    offline = [f"{name}=http://localhost:1" for name in ("http_proxy", "https_proxy")]
    weights = clone.root / "data/weights/detector.safetensors"
    before = weights.read_bytes()
    clone.params(backbones__frames_toy__seed=5)
    assert "Running stage 'detector'" in clone.run("env", *offline, "dvc", "repro", "detector")
    assert weights.read_bytes() == before
    toy = {"module": "toy", "view": "segments", "source": "seeded", "seed": 1}
    clone.params(
        backbones={"frames_toy": toy},
        experiments={"average": {"head": "pooling", "roles": {"image": "frames_toy/colour"}}},
    )
    clone.run("env", *offline, "dvc", "repro")
    assert weights.read_bytes() != before
    assert clone.table("data/views/faces") == []
    kept = [path.name for path in (clone.root / "data/sample").rglob("*") if path.is_file()]
    assert kept == [EMPTY]
    clone.params(index__root="data/sample")
    assert clone.repro("sample", "index") == ["sample", "index"]
    assert len(clone.table("data/index")) == 6


HELD = """

def _forward(self, colours):
    import pathlib, time
    counter = pathlib.Path("forwards")
    number = int(counter.read_text()) if counter.exists() else 0
    while number == 5 and pathlib.Path("hold").exists():
        time.sleep(0.01)
    counter.write_text(str(number + 1))
    return {"colour": self.layer(colours)}


Toy.forward = _forward
"""
"""Lets five batches through, and the sixth when there is no file `hold`.

Of the videos before it no more than `stages.extract.BEHIND` wait to be packed: one is in the store.
"""


def test_ctrl_c_in_a_repro_says_what_is_done_and_the_next_run_goes_on(
    template: Clone, tmp_path: Path
) -> None:
    clone = copy_clone(template, tmp_path / "clone")
    clone.params(decode__views__segments__count=BATCH)  # each video is a batch
    clone.repro("decode")
    with (clone.root / "features/backbones/toy.py").open("a") as toy:
        toy.write(HELD)
    (clone.root / "hold").touch()
    before = len(items(clone))
    dvc = clone.start("dvc", "repro", "--single-item", "extract@frames_toy")
    until(lambda: len(items(clone)) > before or dvc.poll() is not None)
    os.killpg(dvc.pid, signal.SIGINT)  # as a terminal does
    assert dvc.wait() != 0
    said = clone.root.with_suffix(".log").read_text()
    done = len(items(clone)) - before
    assert f"extract@frames_toy: interrupted: {done} done, run again, nothing is lost" in said
    assert 0 < done < 6 and "Traceback" not in said
    (clone.root / "hold").unlink()
    clone.repro("--single-item", "extract@frames_toy")
    log = clone.log("extract@frames_toy")
    assert (log["computed"], log["reused"]) == (6 - done, done)
