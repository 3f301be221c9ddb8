import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import skimage.transform
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from features.detectors import retinaface
from features.detectors.retinaface import CHUNK, Options, RetinaFace
from features.faces import Detections
from features.sources import readers
from features.sources.own import reader_of
from features.weights.file import load, write_pretrained, write_seeded
from features.weights.record import Weights, WeightsError
from tests.features.sources.made_files import canonical
from tests.parity.retinaface import biubug6_input, composed, detector, published, ternaus_input

SEEN_PX = 3
"""Boxes that reach less far into the picture are left out: the oracle rounds to pixels."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def network() -> RetinaFace:
    return detector(Options(min_score=0.6, max_overlap=0.3, max_size=160))


def frame_of(height: int, width: int) -> NDArray[np.uint8]:
    image = skimage.data.astronaut()
    top, left = (512 - height) // 2, (512 - width) // 2
    return np.ascontiguousarray(image[top : top + height, left : left + width])


def is_seen(box: NDArray[np.float32], height: int, width: int) -> bool:
    return bool((np.minimum(box[2:], [width, height]) - np.maximum(box[:2], 0) > SEEN_PX).all())


def assert_same(one: Detections, other: Detections) -> None:
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)
    np.testing.assert_allclose(one.boxes, other.boxes, atol=1e-2, rtol=1e-4)
    np.testing.assert_allclose(one.landmarks, other.landmarks, atol=1e-2, rtol=1e-4)


# ------------------------------------------------------------------- beside the package


@pytest.mark.parametrize("side", [160, 400, 64])
def test_faces_of_a_square_are_those_of_the_package(network: RetinaFace, side: int) -> None:
    """Of a square alone: the release pads what is none, see tests/parity/retinaface.py."""
    frame = frame_of(side, side)
    found = network.detect(frame)
    model = published(network, 160)
    faces = model.predict_jsons(frame, confidence_threshold=0.6, nms_threshold=0.3)
    expected = [f for f in faces if f["bbox"] and is_seen(np.array(f["bbox"]), side, side)]
    shown = [is_seen(box, side, side) for box in found.boxes]
    assert len(expected) > 5
    # it cuts off to whole pixels twice: in its input, and again in the frame
    within = 1 if side == 160 else 1 + side / 160
    boxes, landmarks = found.boxes, found.landmarks
    for face in expected:
        at = int(np.argmin(np.abs(found.scores - face["score"])))
        assert abs(found.scores[at] - face["score"]) < 1e-5
        np.testing.assert_allclose(boxes[at], face["bbox"], atol=within, rtol=2e-3)
        np.testing.assert_allclose(landmarks[at], face["landmarks"], atol=within, rtol=2e-3)
    scores = np.array([face["score"] for face in faces])
    assert all(np.abs(scores - score).min() < 1e-5 for score in found.scores[shown])
    assert (np.diff(found.scores) <= 0).all()


@pytest.mark.parametrize("size", [(90, 160), (160, 121), (360, 480), (40, 30)])
def test_faces_of_other_frames_are_those_without_padding(
    network: RetinaFace, size: tuple[int, int]
) -> None:
    frame = frame_of(*size)
    boxes, scores, landmarks = composed(network, ternaus_input(frame, 160), 0.6, 0.3)
    scale = max(size) / 160
    assert len(scores) > 5
    assert_same(network.detect(frame), Detections(boxes * scale, scores, landmarks * scale))


def test_the_other_preparation_is_biubug6s() -> None:
    network = detector(Options(min_score=0.6, max_overlap=0.3, weights="facexlib"))
    frame = frame_of(120, 210)
    boxes, scores, landmarks = composed(network, biubug6_input(frame), 0.6, 0.3)
    assert len(scores) > 5
    assert_same(network.detect(frame), Detections(boxes, scores, landmarks))


# -------------------------------------------------------------------------- preparation


def test_for_facexlib_a_frame_is_bgr_and_only_made_smaller() -> None:
    network = retinaface.build(Options(weights="facexlib", max_size=100))
    assert isinstance(network, RetinaFace)
    frame = frame_of(80, 60)
    inputs = network.prepare(frame[None])
    bgr = frame[:, :, ::-1] - np.array([104.0, 117.0, 123.0])
    np.testing.assert_array_equal(inputs[0].permute(1, 2, 0).numpy(), bgr)
    large = frame_of(300, 400)
    inputs = network.prepare(large[None])
    assert inputs.shape == (1, 3, 75, 100)
    red = skimage.transform.resize(large[..., 0].astype(float), (75, 100), anti_aliasing=False)
    assert np.abs(inputs[0, 2].numpy() + 123 - red).max() < 1.01


def test_for_ternaus_a_frame_is_rgb_and_enlarged_and_not_padded(network: RetinaFace) -> None:
    frame = np.full((40, 20, 3), (255, 0, 128), np.uint8)
    inputs = network.prepare(frame[None])
    assert inputs.shape == (1, 3, 160, 80)
    expected = (np.array([1, 0, 128 / 255]) - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    shown = inputs[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(shown, np.broadcast_to(expected, shown.shape), rtol=1e-5)


# ------------------------------------------------------------------------------- batches


def rolled(count: int) -> NDArray[np.uint8]:
    return np.stack([np.roll(frame_of(90, 160), 7 * n, axis=1) for n in range(count)])


def assert_equal(one: Detections, other: Detections) -> None:
    """Compare bit by bit."""
    for name in ("boxes", "scores", "landmarks"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_not_a_bit_of_a_frame_depends_on_its_neighbours(network: RetinaFace) -> None:
    frames = rolled(3)
    together = network.detect_batch(frames)
    assert len(together[0].scores) and len({face.scores.tobytes() for face in together}) > 1
    for frame, found in zip(frames, together, strict=True):
        assert_equal(network.detect(frame), found)


def test_batches_as_on_a_gpu_are_full_and_a_frame_is_the_same_in_any(
    network: RetinaFace, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = rolled(CHUNK + 2)
    alone = [network.detect(frame) for frame in frames[:2]]
    monkeypatch.setattr(retinaface, "at_once", lambda device: CHUNK)
    shapes = []
    hook = network.network.register_forward_pre_hook(lambda _, given: shapes.append(given[0].shape))
    together = network.detect_batch(frames)
    fewer = network.detect_batch(frames[:CHUNK][::-1][:2])  # elsewhere, beside copies
    hook.remove()
    assert len(together) == len(frames) and {shape[0] for shape in shapes} == {CHUNK}
    for one, other in zip(fewer, together[CHUNK - 1 :: -1], strict=False):
        assert_equal(one, other)
    for one, other in zip(alone, together, strict=False):
        assert_same(one, other)  # a batch of another shape: other sums


def test_another_runtime_gets_the_input_and_its_numbers_count(network: RetinaFace) -> None:
    frame = frame_of(90, 160)
    expected = network.detect(frame)
    seen = []

    def compute(inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        seen.append(inputs)
        outputs: dict[str, torch.Tensor] = network(inputs)
        return outputs | {"logits": outputs["logits"] - torch.tensor([0.0, 9.0])}

    network.computed_by = compute
    try:
        assert len(network.detect(frame).scores) == 0 < len(expected.scores)
        torch.testing.assert_close(seen[0], network.prepare(frame[None]))
    finally:
        network.computed_by = None


def test_no_frames_have_no_faces(network: RetinaFace) -> None:
    assert network.detect_batch(np.zeros((0, 90, 160, 3), np.uint8)) == []


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (500, 3)])
@pytest.mark.parametrize("whose", ["facexlib", "ternaus"])
def test_a_frame_may_be_of_any_size(network: RetinaFace, whose: str, size: tuple[int, int]) -> None:
    odd = retinaface.RetinaFace(Options(max_size=64, weights=whose, min_score=0.0))
    odd.network = network.network
    found = odd.detect(np.full((*size, 3), 90, np.uint8))
    assert found.boxes.shape == (len(found.scores), 4)
    assert found.landmarks.shape == (len(found.scores), odd.points, 2)
    assert {a.dtype for a in (found.boxes, found.scores, found.landmarks)} == {np.dtype(np.float32)}


def test_nothing_is_above_a_score_of_one(network: RetinaFace) -> None:
    strict = retinaface.RetinaFace(Options(max_size=160, min_score=1.0))
    strict.network = network.network
    found = strict.detect(frame_of(90, 160))
    assert (found.boxes.shape, found.scores.shape) == ((0, 4), (0,))
    assert found.landmarks.shape == (0, 5, 2)


def test_what_random_weights_find_is_kept_within_numbers(tmp_path: Path) -> None:
    write_seeded(tmp_path / "w", "detector", 0)
    for whose, some in ((None, 1), ("facexlib", 0)):  # facexlib's input is larger, so are its boxes
        wild = load(tmp_path / "w", retinaface.build(Options(0.0, 1.0, 96, whose)))
        assert isinstance(wild, RetinaFace)
        found = wild.detect(frame_of(96, 96))
        assert some <= len(found.scores) <= retinaface.MOST_FACES
        for points in (found.boxes, found.landmarks):
            assert np.abs(points).max(initial=0) < retinaface.FARTHEST


@pytest.mark.parametrize(
    "wrong", [{"min_score": 2}, {"max_overlap": -1}, {"max_size": 8}, {"weights": "mine"}]
)
def test_options_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="retinaface options: expected"):
        Options(**wrong)  # type: ignore[arg-type]


def test_the_package_is_imported_without_what_it_trains_with() -> None:
    code = (
        "import sys, features.detectors.retinaface; "
        "print({'albumentations', 'streamlit', 'pytorch_lightning'} & set(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "set()"


# ------------------------------------------------------------- whose weights these are


def published_tensors() -> dict[str, torch.Tensor]:
    return {"body.conv1.weight": torch.ones(2), "fpn.output1.1.running_mean": torch.ones(1)}


def origin(tensors: dict[str, torch.Tensor]) -> str:
    return bytes(tensors["origin"].tolist()).decode()


def of_own(path: Path, whose: str | None = None) -> dict[str, torch.Tensor]:
    """Return what is taken of a file of one's own, with these weights named in the options."""
    weights = retinaface.weights(Options(weights=whose))
    reader, source = reader_of(path, weights.sources)
    assert source is not None
    convert = weights.convert_of(path.name) if weights.convert_of else source.convert
    return readers.converted(convert, readers.read(reader, [path]), path)


def test_each_address_is_of_the_weights_that_its_conversion_says(tmp_path: Path) -> None:
    for whose in ("facexlib", "ternaus", None):
        (source,) = retinaface.weights(Options(weights=whose)).sources
        torch.save(published_tensors(), tmp_path / "a.pth")
        path = tmp_path / getattr(source, "filename")  # noqa: B009  # the union has others
        if path.suffix == ".zip":
            with zipfile.ZipFile(path, "w") as archive:
                archive.write(tmp_path / "a.pth", "retinaface_resnet50_2020-07-20.pth")
        else:
            torch.save(published_tensors(), path)
        assert origin(canonical(source, path)) == (whose or "facexlib")


def test_prefixes_go_and_counters_come(tmp_path: Path) -> None:
    torch.save({f"module.{k}": v for k, v in published_tensors().items()}, tmp_path / "a.pth")
    found = canonical(retinaface.ADDRESSES["facexlib"], tmp_path / "a.pth")
    assert set(found) == {
        "network.body.conv1.weight",
        "network.fpn.output1.1.running_mean",
        "network.fpn.output1.1.num_batches_tracked",
        "origin",
    }


@pytest.mark.parametrize(
    ("name", "whose"),
    [
        ("Resnet50_Final.pth", "facexlib"),
        ("detection_Resnet50_Final.pth", "facexlib"),
        ("retinaface_resnet50_2020-07-20.pth", "ternaus"),
        ("retinaface_resnet50_2020-07-20-f168fae3c.pth", "ternaus"),
    ],
)
def test_a_file_is_recognised_by_its_published_name(tmp_path: Path, name: str, whose: str) -> None:
    torch.save(published_tensors(), tmp_path / name)
    assert origin(of_own(tmp_path / name)) == whose


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_of_unknown_origin_is_not_guessed_at(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"my own{suffix}"
    if suffix == ".pth":
        torch.save(published_tensors(), path)
    else:
        save_file(published_tensors(), path)
    with pytest.raises(WeightsError, match="weights: ternaus` or `weights: facexlib"):
        of_own(path)
    for whose in ("facexlib", "ternaus"):
        assert origin(of_own(path, whose)) == whose


def test_a_file_made_by_this_project_keeps_its_origin(tmp_path: Path) -> None:
    tensors = {"network.a": torch.ones(1), "origin": torch.tensor(list(b"ternaus")).byte()}
    save_file(tensors, tmp_path / "from a colleague.safetensors")
    found = of_own(tmp_path / "from a colleague.safetensors")
    assert set(found) == set(tensors) and origin(found) == "ternaus"


@pytest.mark.parametrize("content", [{}, {"a.pth": b"1", "b.pth": b"2"}, None])
def test_a_zip_without_one_checkpoint_is_refused(
    tmp_path: Path, content: dict[str, bytes] | None
) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(b"no zip")
    if content is not None:
        with zipfile.ZipFile(path, "w") as archive:
            for name, body in content.items():
                archive.writestr(name, body)
    with pytest.raises(WeightsError, match=r"a\.zip: expected"):
        canonical(retinaface.ADDRESSES["ternaus"], path)


def test_the_tensors_decide_how_frames_are_prepared(network: RetinaFace, tmp_path: Path) -> None:
    tensors = dict(network.state_dict())

    def write(whose: str) -> Path:
        tensors["origin"] = torch.tensor(list(whose.encode())).byte()
        write_pretrained(tmp_path / "w", "detector", Weights("MIT", ()), tensors, "a", "b")
        return tmp_path / "w"

    frame = frame_of(60, 80)
    for whose in ("facexlib", "ternaus"):
        for asked in (None, whose):
            found = load(write(whose), retinaface.build(Options(max_size=160, weights=asked)))
            assert isinstance(found, RetinaFace)
            assert found.preparation == retinaface.PREPARATIONS[whose]
            expected = retinaface.RetinaFace(Options(max_size=160, weights=whose))
            torch.testing.assert_close(found.prepare(frame[None]), expected.prepare(frame[None]))
    with pytest.raises(WeightsError, match="weights of facexlib, these are ternaus's"):
        load(tmp_path / "w", retinaface.build(Options(weights="facexlib")))
    with pytest.raises(WeightsError, match="tensor `origin` says .* found 'nobody'"):
        load(write("nobody"), retinaface.build())


@pytest.mark.gpu
def test_a_gpu_finds_the_same_faces() -> None:
    network = detector(Options(min_score=0.6, max_overlap=0.3, max_size=160))
    frames = np.stack([frame_of(90, 160), frame_of(90, 160)[:, ::-1]])
    expected = network.detect_batch(frames)
    for one, other in zip(network.to("cuda").detect_batch(frames), expected, strict=True):
        shown = min(len(one.scores), len(other.scores), 5)
        np.testing.assert_allclose(one.boxes[:shown], other.boxes[:shown], atol=1, rtol=1e-2)
