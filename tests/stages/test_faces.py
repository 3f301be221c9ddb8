import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import skimage.data
import torch
import yaml
from numpy.typing import NDArray
from torch import nn
from typer.testing import CliRunner

from affectline.cli import app
from features import detectors
from features.cache import arrays, keys, tables
from features.detectors.retinaface import LANDMARKS
from features.detectors.retinaface import Options as RetinaFaceOptions
from features.faces import TEMPLATE, Detections
from features.sources import readers
from features.weights.file import metadata, write_pretrained, write_seeded
from features.weights.record import Weights
from stages import faces, weights
from stages.engine import start
from stages.engine.outputs import EMPTY, INDEX
from tests.features.conftest import real_file  # noqa: F401
from tests.modules import put
from tests.parity.retinaface import detector as finder

PROJECT = Path(__file__).parents[2]
WEIGHTS = Path("data/weights/detector.safetensors")
SHARES = np.array([TEMPLATE[name] for name in LANDMARKS]) / 112
"""Where the landmarks of an upright face lie in its box."""


@dataclass(frozen=True)
class Options:
    min_score: float = 0.5
    zoom: float = 1.0


class Blocks(nn.Module):
    """Takes a block of one bright red for a face; the red is its score."""

    points = 5

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options

    def detect_batch(self, frames: NDArray[np.uint8]) -> list[Detections]:
        return [self._detect(frame[..., 0]) for frame in frames]

    def _detect(self, red: NDArray[np.uint8]) -> Detections:
        shades = [s for s in np.unique(red)[::-1] if s / 255 > self.options.min_score]
        places = [np.argwhere(red == shade)[:, ::-1] for shade in shades]
        boxes = np.array([[*p.min(axis=0), *(p.max(axis=0) + 1)] for p in places], np.float32)
        boxes = boxes.reshape(-1, 4)
        sides = boxes[:, None, 2:] - boxes[:, None, :2]
        return Detections(
            boxes,
            np.array(shades, np.float32) / 255,
            (boxes[:, None, :2] + SHARES * sides * self.options.zoom).astype(np.float32),
        )


def blocks_of(*blocks: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """Return a frame with blocks, each given as x, y, side, red; blue rises to the right."""
    frame = np.zeros((120, 200, 3), np.uint8)
    frame[..., 2] = np.arange(200)
    for x, y, side, red in blocks:
        frame[y : y + side, x : x + side, 0] = red
    return frame


SHOWN = [
    blocks_of((20, 30, 40, 250), (150, 10, 20, 240)),
    blocks_of((24, 32, 40, 250), (150, 12, 20, 240)),
    blocks_of((150, 14, 20, 240)),
    blocks_of(),
    blocks_of((20, 30, 40, 100)),  # its score is too low
    blocks_of((60, 30, 40, 250)),  # padded: not to be looked at
]


def write_view(name: str, frames: list[NDArray[np.uint8]], padded: int = 0) -> dict[str, object]:
    valid = np.arange(len(frames)) < len(frames) - padded
    view = {
        "frames": np.stack(frames),
        "index": np.where(valid, np.arange(len(frames)) * 5, -1),
        "pts_s": np.where(valid, np.arange(len(frames)) * 0.2, np.nan),
        "valid": valid,
    }
    arrays.write(Path(f"data/views/segments/joy/{name}.h5"), view, {"key": name})
    path = f"joy/{name}.h5"
    return {
        "video_id": f"joy/{name}",
        "label": "joy",
        "status": "ok",
        "content": name,
        "path": path,
    }


@pytest.fixture(autouse=True)
def project(in_folder: Path) -> Iterator[Path]:
    """A video of bright blocks, and one that could not be decoded."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    params = yaml.safe_load((PROJECT / "params.yaml").read_text())
    params["engine"]["runtime"] = "torch"  # to compare runtimes takes seconds
    (in_folder / "params.yaml").write_text(yaml.safe_dump(params))
    bad = {"video_id": "joy/bad", "label": "joy", "status": "failed", "reason": "empty"}
    rows = [write_view("shown", SHOWN, padded=1), bad]
    tables.write(Path("data/views/segments.parquet"), rows, pa.schema(list(INDEX.items())))
    write_seeded(WEIGHTS, "detector", 3)
    yield in_folder
    torch.set_num_threads(threads)


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the detector of blocks in place of the one that params.yaml names."""
    module = SimpleNamespace(
        __name__="blocks", ONE_CORE=False, LANDMARKS=LANDMARKS, Options=Options, build=Blocks
    )
    monkeypatch.setattr(detectors, "load", lambda _: module)
    change(min_score=0.5, margin=0.25, max_gap=3, min_overlap=0.2)


def change(**section: object) -> None:
    raw = yaml.safe_load(Path("params.yaml").read_text())
    raw["max_failed"] = 0.5
    raw["faces"] |= section
    Path("params.yaml").write_text(yaml.safe_dump(raw))
    faces._detector.cache_clear()
    faces._running.cache_clear()


def run() -> dict[str, int]:
    faces.main()
    log: dict[str, int] = json.loads(Path("logs/faces.json").read_text())
    return log


def result() -> tuple[dict[str, arrays.Array], dict[str, object]]:
    return arrays.read(Path("data/views/faces/joy/shown.h5"))


def detector(module: str, **block: object) -> None:
    change(detector={"module": module, "source": "seeded", **block})


# ---------------------------------------------------------------------------- what it writes


def test_the_main_person_is_cut_out_and_rows_without_a_face_are_not_valid(blocks: None) -> None:
    assert run()["computed"] == 1
    found, said = result()
    assert found["valid"].tolist() == [True, True, True, False, False, False]
    assert found["frames"].shape == (6, 224, 224, 3)
    assert not found["frames"][3:].any()
    assert found["index"].tolist() == [0, 5, 10, 15, 20, -1]
    # the square about the large block is 60 wide, from x 10 and y 20; the block is 40 of it
    red = found["frames"][0][..., 0] > 125
    assert red.mean() == pytest.approx((40 / 60) ** 2, abs=0.01)
    blue = found["frames"][0][112, [0, 223], 2]
    np.testing.assert_allclose(blue.astype(float), [10, 69], atol=1)
    assert found["det_main"].tolist() == [True, False, True, False, True]
    assert (said["rows"], said["rows_with_face"], said["tracks"]) == (5, 3, 2)
    assert (said["shots"], found["shot"].tolist()) == (1, [0] * 6)
    assert said["landmarks"] == list(LANDMARKS)


def test_the_index_and_the_boxes_say_what_was_found(blocks: None) -> None:
    run()
    rows = {row["video_id"]: row for row in tables.read(Path("data/views/faces.parquet"))}
    assert rows["joy/bad"]["reason"] == "empty"
    shown = rows["joy/shown"]
    assert [shown[n] for n in ("rows", "rows_with_face", "tracks")] == [5, 3, 2]
    assert shown["key"] == result()[1]["key"]
    boxes = tables.read(Path("data/views/faces_boxes.parquet"))
    assert [(box["row"], box["track"], box["main"]) for box in boxes] == [
        (0, 0, True),
        (0, 1, False),
        (1, 0, True),
        (1, 1, False),
        (2, 1, True),
    ]
    assert [boxes[2][name] for name in ("x0", "y0", "x1", "y1")] == [24, 32, 64, 72]
    assert boxes[2]["score"] == pytest.approx(250 / 255)
    np.testing.assert_allclose(
        np.reshape(np.array(boxes[2]["landmarks"]), (5, 2)), [24, 32] + 40 * SHARES, rtol=1e-5
    )


def test_boxes_of_videos_that_are_as_they_were_are_not_read_again(
    blocks: None, in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the last run are taken, as long as faces and code are the same."""
    read: list[str] = []
    plain = arrays.read

    def note(path: Path, names: Sequence[str] | None = None) -> object:
        read.extend([path.name] if names else [])  # frames and attributes are asked for otherwise
        return plain(path, names)

    monkeypatch.setattr(arrays, "read", note)
    outputs = (Path("data/views/faces.parquet"), Path("data/views/faces_boxes.parquet"))

    def boxes_read() -> list[str]:
        """Run once more beside what the last run has written; return the files read for boxes."""
        for path in outputs:
            if path.exists():
                shutil.copy(path, in_folder / path.name)
        read.clear()
        run()
        return list(read)

    rows = [write_view("none", [blocks_of()]), write_view("shown", SHOWN)]
    tables.write(Path("data/views/segments.parquet"), rows, pa.schema(list(INDEX.items())))
    assert boxes_read() == ["none.h5", "shown.h5"]  # nothing is known of a run before
    whole = outputs[1].read_bytes()
    monkeypatch.setattr(faces, "previous_file", lambda stage, path, note: in_folder / path.name)
    assert boxes_read() == [] and outputs[1].read_bytes() == whole
    more = [*rows, write_view("another", [blocks_of((20, 30, 40, 250))])]
    tables.write(Path("data/views/segments.parquet"), more, pa.schema(list(INDEX.items())))
    assert boxes_read() == ["another.h5"]
    together = outputs[1].read_bytes()
    change(min_score=0.97)
    assert "shown.h5" in boxes_read()
    assert {b["video_id"] for b in tables.read(outputs[1])} == {"joy/shown", "joy/another"}
    change(min_score=0.5)
    for name, content in (("faces_boxes.parquet", b"other code"), ("faces.parquet", None)):
        boxes_read()
        if content:
            table = pq.read_table(in_folder / name).replace_schema_metadata({"code": content})
            tables.write_table(outputs[1], table)
        else:
            monkeypatch.setattr(faces, "previous_file", lambda stage, path, note: None)
        assert len(boxes_read()) == 3 and outputs[1].read_bytes() == together


def test_an_aligned_face_has_its_landmarks_on_the_template(blocks: None) -> None:
    change(align="similarity", margin=0.0)
    run()
    found, _ = result()
    # at margin 0 the template's picture is the block itself
    assert (found["frames"][0][4:-4, 4:-4, 0] > 245).all()
    blue = found["frames"][0][112, [0, 223], 2]
    np.testing.assert_allclose(blue.astype(float), [20, 59], atol=1)
    change(align="similarity", margin=0.5)
    run()
    assert (result()[0]["frames"][0][..., 0] > 125).mean() == pytest.approx(0.25, abs=0.01)


def test_two_faces_in_one_place_before_and_after_a_cut_are_two_tracks(blocks: None) -> None:
    here, there = blocks_of((20, 30, 40, 250)), blocks_of((22, 30, 40, 240), (150, 10, 50, 200))
    there[..., 1] = 180  # another place: all is green
    rows = [write_view("shown", [here, here, there, there])]
    tables.write(Path("data/views/segments.parquet"), rows, pa.schema(list(INDEX.items())))
    run()
    found, _ = result()
    assert found["shot"].tolist() == [0, 0, 1, 1]
    assert found["det_track"].tolist() == [0, 0, 1, 2, 1, 2]
    # so the main person of each shot is its own: the one first seen has not the most to show here
    assert found["det_main"].tolist() == [True, True, False, True, False, True]
    (row,) = tables.read(Path("data/views/faces.parquet"))
    assert (row["shots"], row["tracks"]) == (2, 3)
    change(cut=None)
    run()
    found, _ = result()
    assert found["det_track"].tolist() == [0, 0, 0, 1, 0, 1]
    assert found["det_main"].tolist() == [True, True, True, False, True, False]


# -------------------------------------------------------------------------------- its choices


@pytest.mark.parametrize(
    "other",
    [
        {"min_score": 0.4},
        {"margin": 0.5},
        {"cut": None},
        {"align": "similarity"},
        {"detector": {"module": "blazeface", "source": "seeded", "options": {"zoom": 0.5}}},
    ],
)
def test_what_matters_computes_anew(blocks: None, other: dict[str, object]) -> None:
    detector("blazeface", options={})
    assert run()["computed"] == 1
    detector("blazeface", options={"zoom": 1.0}, file="what it was made of does not matter here")
    assert run()["computed"] == 0
    change(**other)
    assert run()["computed"] == 1


def test_options_go_to_the_detector(blocks: None) -> None:
    change(min_score=0.3)
    detector("blazeface", options={"zoom": 0.5})
    run()
    boxes = tables.read(Path("data/views/faces_boxes.parquet"))
    assert boxes[-1]["row"] == 4  # the dim one
    np.testing.assert_allclose(
        np.reshape(np.array(boxes[-1]["landmarks"]), (5, 2)), [20, 30] + 20 * SHARES, rtol=1e-5
    )


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"min_score": 0.9}, "faces.detector.options: found min_score"),
        ({"colour": 1}, "unknown colour"),
    ],
)
def test_options_that_cannot_be_end_the_stage_before_any_work(
    blocks: None,
    capsys: pytest.CaptureFixture[str],
    options: dict[str, object],
    told: str,
) -> None:
    detector("blazeface", options=options)
    with pytest.raises(SystemExit):
        run()
    assert told in " ".join(capsys.readouterr().err.split())


# ------------------------------------------------------------------------------ real detectors


def test_a_network_with_random_weights_that_is_sure_of_nothing_finds_nobody(
    capsys: pytest.CaptureFixture[str],
) -> None:
    change(min_score=1.0)
    detector("retinaface", options={"max_size": 64})
    assert run()["computed"] == 1
    found, said = result()
    assert not found["valid"].any() and not found["frames"].any()
    assert found["det_box"].shape == (0, 4) and found["det_landmarks"].shape == (0, 5, 2)
    assert tables.read(Path("data/views/faces_boxes.parquet")) == []
    assert (said["rows"], said["rows_with_face"], said["tracks"]) == (5, 0, 0)
    assert "random" in capsys.readouterr().err


@pytest.mark.parametrize("align", ["crop", "similarity"])
def test_a_network_with_random_weights_finds_something_and_the_same_again(align: str) -> None:
    change(min_score=0.5, align=align)
    detector("retinaface", options={"max_size": 64})
    run()
    first = Path("data/views/faces/joy/shown.h5").read_bytes()
    found, _ = result()
    assert found["valid"][:5].any() and not found["valid"][5]
    assert found["frames"][found["valid"]].any()
    for item in Path(".store").rglob("*.h5"):
        item.unlink()
    Path("data/views/faces/joy/shown.h5").unlink()
    assert run()["computed"] == 1
    assert Path("data/views/faces/joy/shown.h5").read_bytes() == first


@pytest.mark.slow  # to make a graph of a network takes seconds
def test_openvino_finds_the_same_faces_in_frames_of_all_sizes_by_one_graph(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    photograph = skimage.data.astronaut()
    rows = [
        write_view("wide", [np.ascontiguousarray(photograph[40:140, 100:300])] * 2),
        write_view("high", [np.ascontiguousarray(photograph[20:200, 150:260])]),
    ]
    tables.write(Path("data/views/segments.parquet"), rows, pa.schema(list(INDEX.items())))
    network = finder(RetinaFaceOptions(weights="facexlib"))  # finds many a face
    tensors = network.state_dict() | {"origin": torch.tensor(list(b"facexlib")).byte()}
    write_pretrained(WEIGHTS, "detector", Weights("MIT", ()), tensors, "a", "b")
    monkeypatch.setattr(faces, "TRIAL_SIZE", (64, 96))
    found = {}
    for runtime in ("torch", "openvino"):
        raw = yaml.safe_load(Path("params.yaml").read_text())
        raw["engine"]["runtime"] = runtime
        Path("params.yaml").write_text(yaml.safe_dump(raw))
        change(min_score=0.6)
        detector("retinaface", options={"max_size": 160})
        shutil.rmtree(".store/items", ignore_errors=True)
        assert run()["computed"] == 2
        for name in ("wide", "high"):
            found[name, runtime] = arrays.read(Path(f"data/views/faces/joy/{name}.h5"))
            assert found[name, runtime][1]["runtime"] == runtime
    for name in ("wide", "high"):
        (reference, about), (ours, about_ours) = found[name, "torch"], found[name, "openvino"]
        assert about["key"] == about_ours["key"]
        assert len(reference["det_score"]) > 5
        for array in ("det_row", "det_track", "valid"):
            np.testing.assert_array_equal(reference[array], ours[array])
        for array in ("det_score", "det_box", "det_landmarks"):
            np.testing.assert_allclose(ours[array], reference[array], rtol=1e-4, atol=1e-2)
    assert len(list(Path(".store").glob("runtimes/*/network.xml"))) == 1
    assert capsys.readouterr().err.count("comparing torch and OpenVINO") == 1


def test_a_file_that_is_no_weights_ends_the_stage(capsys: pytest.CaptureFixture[str]) -> None:
    WEIGHTS.write_bytes(b"nothing of the kind")
    with pytest.raises(SystemExit):
        run()
    assert "expected a weights file" in " ".join(capsys.readouterr().err.split())


def test_where_no_backbone_reads_faces_none_are_looked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(faces, "run_items", None)  # it would be called
    WEIGHTS.unlink()
    raw = yaml.safe_load(Path("params.yaml").read_text())
    raw["backbones"] = {"vggish": raw["backbones"]["vggish"]}
    raw["experiments"] = {"e": {"head": "pooling", "roles": {"sound": "vggish/embedding"}}}
    Path("params.yaml").write_text(yaml.safe_dump(raw))
    assert run()["items"] == 0
    assert [path.name for path in Path("data/views/faces").iterdir()] == [EMPTY]
    assert tables.read(Path("data/views/faces.parquet")) == []
    assert tables.read(Path("data/views/faces_boxes.parquet")) == []
    assert "faces: no backbone of params.yaml reads faces" in capsys.readouterr().err


@pytest.mark.weights
@pytest.mark.parametrize("align", ["crop", "similarity"])
def test_the_astronaut_is_found_by_mediapipe(
    real_file: Callable[[str], Path],  # noqa: F811
    align: str,
) -> None:
    model = real_file("blaze_face_short_range.tflite")
    tensors = readers.read("tflite", [model])
    write_pretrained(WEIGHTS, "detector", Weights("Apache-2.0", ()), tensors, "a", "b")
    person = np.ascontiguousarray(skimage.data.astronaut()[:300, 60:460])
    rows = [write_view("shown", [person, np.zeros_like(person), person])]
    tables.write(Path("data/views/segments.parquet"), rows, pa.schema(list(INDEX.items())))
    change(align=align, min_score=0.5)
    change(detector={"module": "blazeface", "source": "pretrained"})
    run()
    found, said = result()
    assert found["valid"].tolist() == [True, False, True]
    np.testing.assert_array_equal(found["frames"][0], found["frames"][2])
    assert found["frames"][0].std() > 20
    assert (said["rows_with_face"], found["det_landmarks"].shape[1:]) == (2, (6, 2))


# ---------------------------------------------------------------- a detector in a file of its own

TOY = """
from dataclasses import dataclass

import numpy as np
from torch import nn

from features.faces import Detections
from features.weights.record import Weights

ONE_CORE = False
LANDMARKS = ("left eye", "right eye")
WEIGHTS = Weights("MIT", ())


@dataclass(frozen=True)
class Options:
    min_score: float = 0.5
    side: int = 40


class Corner(nn.Module):
    points = len(LANDMARKS)

    def __init__(self, options):
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.side = float(options.side)

    def detect_batch(self, frames):
        box = np.array([[0, 0, self.side, self.side]], np.float32)
        points = np.zeros((1, 2, 2), np.float32)
        return [Detections(box, np.ones(1, np.float32), points) for _ in frames]


def build(options=Options()):
    return Corner(options).eval()
"""


def test_a_new_detector_is_one_file(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(PROJECT / "features", tmp_path / "code" / "features", ignore=NO_CACHES)
    shutil.copytree(PROJECT / "stages", tmp_path / "code" / "stages", ignore=NO_CACHES)
    shutil.copy(PROJECT / "dvc.yaml", project)
    put(monkeypatch, tmp_path / "code" / "features" / "detectors", detectors, "corner", TOY)
    monkeypatch.setattr(keys, "PROJECT", tmp_path / "code")
    monkeypatch.setattr(start, "PROJECT", tmp_path / "code")
    for remembered in (keys._source, keys._definition, keys._fingerprint):
        remembered.cache_clear()
    WEIGHTS.unlink()
    detector("corner", seed=5, options={"side": 20})
    weights.main("detector")
    assert metadata(WEIGHTS)["seed"] == "5"
    assert run()["computed"] == 1
    data, attributes = result()
    assert data["det_box"].tolist() == [[0, 0, 20, 20]] * 5
    assert data["valid"].tolist() == [True] * 5 + [False]
    assert attributes["landmarks"] == ["left eye", "right eye"]
    assert attributes["ingredients"]["detector"] == "corner"  # type: ignore[index]


NO_CACHES = shutil.ignore_patterns("__pycache__")


@pytest.mark.parametrize("stage", ["detector", "faces", "check", "weights"])
def test_a_name_that_is_no_detector_lists_them(
    project: Path, capsys: pytest.CaptureFixture[str], stage: str
) -> None:
    detector("mel")
    line = "detector 'mel': expected one of blazeface, retinaface"
    if stage in ("detector", "faces"):
        with pytest.raises(SystemExit) as caught:
            weights.main("detector") if stage == "detector" else faces.main()
        assert caught.value.code == 1
        output = capsys.readouterr().err
    else:
        shutil.copy(PROJECT / "dvc.yaml", project)
        for folder in (".dvc", ".git"):
            (project / folder).mkdir()
        done = CliRunner().invoke(app, [stage])
        assert done.exit_code == 1
        output = done.output
    assert " ".join(output.split()).count(line) == 1
    assert "Traceback" not in output and "AttributeError" not in output
