import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import skimage.data
import torch
import yaml
from numpy.typing import NDArray

from features.detectors import blazeface
from features.detectors.blazeface import BlazeFace, Options
from features.faces import Detections
from features.weights.file import load, write_pretrained
from features.weights.record import Weights
from tests.features.sources.made_files import canonical

BuildDetector = Callable[..., BlazeFace]


@pytest.fixture
def detector(real_file: Callable[[str], Path], tmp_path: Path) -> BuildDetector:
    tensors = canonical(blazeface.WEIGHTS.sources[0], real_file("blaze_face_short_range.tflite"))
    write_pretrained(tmp_path / "a", "blazeface", Weights("Apache-2.0", ()), tensors, "a", "b")

    def build(**options: float) -> BlazeFace:
        found = load(tmp_path / "a", blazeface.build(Options(**options)))
        assert isinstance(found, BlazeFace)
        return found

    return build


def parts(found: Detections) -> tuple[NDArray[np.float32], ...]:
    return found.boxes, found.scores, found.landmarks


def test_scores_beyond_one_are_refused() -> None:
    with pytest.raises(ValueError, match="0..1"):
        Options(min_score=2)


def test_a_face_scores_at_least_what_params_yaml_says_too() -> None:
    """Of the main faces of real clips the right ones scored 0.71 and more, the wrong ones 0.65."""
    shipped = yaml.safe_load((Path(__file__).parents[3] / "params.yaml").read_text())["faces"]
    assert 0.65 < Options().min_score == shipped["min_score"] < 0.71


def test_a_detector_without_weights_says_so() -> None:
    with pytest.raises(ValueError, match="no weights before"):
        BlazeFace(Options()).detect(skimage.data.astronaut())


class Found:
    """Stands for MediaPipe's detector: two faces in every picture, the worse first, and noise."""

    def detect(self, _image: object) -> SimpleNamespace:
        os.write(2, b"W0000 00:00:1795331781.170755 4657 runner.cc:1] not aligned\n")
        return SimpleNamespace(detections=[self._face(0.8, 10), self._face(0.9, 20)])

    def _face(self, score: float, x: int) -> SimpleNamespace:
        return SimpleNamespace(
            categories=[SimpleNamespace(score=score)],
            bounding_box=SimpleNamespace(origin_x=x, origin_y=5, width=30, height=40),
            keypoints=[SimpleNamespace(x=0.1 * n, y=0.05 * n) for n in range(1, 7)],
        )


def test_shares_of_a_frame_that_is_no_square_become_pixels(
    capfd: pytest.CaptureFixture[str],
) -> None:
    network = BlazeFace(Options())
    network._detector = Found()
    boxes, scores, landmarks = parts(network.detect(np.zeros((60, 200, 3), np.uint8)))
    assert scores.tolist() == pytest.approx([0.9, 0.8])
    assert boxes.tolist() == [[20, 5, 50, 45], [10, 5, 40, 45]]
    expected = [[20 * n, 3 * n] for n in range(1, 7)]
    np.testing.assert_allclose(landmarks, [expected, expected], rtol=1e-6)
    assert capfd.readouterr().err == ""


def test_what_counts_as_a_face_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from mediapipe.tasks.python import vision

    asked = []

    def create(options: vision.FaceDetectorOptions) -> SimpleNamespace:
        asked.append(options)
        return SimpleNamespace(close=lambda: None)

    monkeypatch.setattr(vision.FaceDetector, "create_from_options", create)
    network = BlazeFace(Options(min_score=0.61, max_overlap=0.37))
    network.model = torch.ones(4, dtype=torch.uint8)
    network._open()
    assert asked[0].min_detection_confidence == 0.61
    assert asked[0].min_suppression_threshold == 0.37


@pytest.mark.weights
def test_the_astronauts_face_is_found_in_pixels(detector: BuildDetector) -> None:
    boxes, scores, landmarks = parts(detector().detect(skimage.data.astronaut()))
    assert (boxes.shape, scores.shape, landmarks.shape) == ((1, 4), (1,), (1, 6, 2))
    assert {boxes.dtype, scores.dtype, landmarks.dtype} == {np.dtype(np.float32)}
    np.testing.assert_allclose(boxes[0], [177, 82, 272, 177], atol=6)
    assert scores[0] > 0.8
    left, top, right, bottom = boxes[0]
    eyes_nose_mouth = landmarks[0, :4]
    assert ((eyes_nose_mouth > [left, top]) & (eyes_nose_mouth < [right, bottom])).all()
    assert landmarks[0, 0, 0] < landmarks[0, 1, 0]  # her right eye is on the left
    assert landmarks[0, 0, 1] < landmarks[0, 2, 1] < landmarks[0, 3, 1]  # eye, nose, mouth


@pytest.mark.weights
def test_two_faces_come_best_score_first(detector: BuildDetector) -> None:
    person = skimage.data.astronaut()[:256, 100:356]
    both = np.hstack([person, person[:, ::-1]])
    boxes, scores, landmarks = parts(detector(min_score=0.3).detect(both))
    assert len(boxes) == len(scores) == len(landmarks) == 2
    assert scores[0] >= scores[1] >= 0.3


@pytest.mark.weights
@pytest.mark.parametrize("value", [0, 255])
@pytest.mark.parametrize("size", [(1, 1), (3, 500), (120, 160)])
def test_a_plain_frame_has_no_face(
    detector: BuildDetector, size: tuple[int, int], value: int
) -> None:
    boxes, scores, landmarks = parts(detector().detect(np.full((*size, 3), value, np.uint8)))
    assert (boxes.shape, scores.shape, landmarks.shape) == ((0, 4), (0,), (0, 6, 2))


@pytest.mark.weights
def test_a_higher_least_score_finds_no_more(detector: BuildDetector) -> None:
    assert len(detector(min_score=0.99).detect(skimage.data.astronaut()).scores) == 0


@pytest.mark.weights
def test_a_frame_of_a_batch_does_not_depend_on_the_one_before(detector: BuildDetector) -> None:
    network, person = detector(), skimage.data.astronaut()
    first, other, last = network.detect_batch(np.stack([person, person[:, ::-1], person]))
    assert first.boxes.tolist() != other.boxes.tolist()
    for one, again in zip(parts(first), parts(last), strict=True):
        np.testing.assert_array_equal(one, again)


@pytest.mark.weights
def test_nothing_is_written_to_standard_error(
    detector: BuildDetector, capfd: pytest.CaptureFixture[str]
) -> None:
    network = detector()
    network.detect(skimage.data.astronaut())
    del network
    assert capfd.readouterr().err == ""
