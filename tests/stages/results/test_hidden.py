"""Faces in pictures: what is blurred, and that nothing of a face is left in it."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from stages.results.hidden import CELLS, WHOLE, blurred, found_faces, hidden
from tests.stages.results.made_views import noise, write_faces, write_view

PTS_S = np.array([0.0, 1.0, 2.0, 3.0])
BOX = (40.0, 30.0, 80.0, 70.0)


def high_frequencies(picture: NDArray[np.uint8]) -> float:
    """Return the energy of what is finer than an eighth of the picture, as a standard deviation."""
    grey = picture.astype(np.float64).mean(axis=2)
    spectrum = np.fft.fft2(grey)
    rows, columns = (np.abs(np.fft.fftfreq(n)) * n for n in grey.shape)
    fine = (rows[:, None] > 8) | (columns[None, :] > 8)
    return float(np.sqrt((np.abs(spectrum[fine]) ** 2).sum()) / grey.size)


@pytest.fixture
def video(in_folder: Path) -> str:
    """A video of four frames, a face in rows 0 to 2, none in row 3."""
    write_view("segments", "joy/a", noise(4, 120, 160), PTS_S)
    write_faces("joy/a", PTS_S, {0: [BOX], 1: [BOX], 2: [BOX]})
    return "joy/a"


def test_a_box_keeps_no_detail_and_the_rest_keeps_all(video: str) -> None:
    frame = noise(1, 120, 160)[0]
    hiding = hidden("segments", video, [0], PTS_S)[0]
    assert hiding.boxes is not None
    np.testing.assert_allclose(hiding.boxes, [[20 / 160, 10 / 120, 100 / 160, 90 / 120]])
    shown = hiding.applied(frame)
    assert high_frequencies(frame[10:90, 20:100]) > 30
    assert high_frequencies(shown[10:90, 20:100]) < 1
    outside = np.ones((120, 160), bool)
    outside[9:91, 19:101] = False  # a pixel more at the edges
    np.testing.assert_array_equal(shown[outside], frame[outside])


def test_a_crop_is_blurred_whole(video: str) -> None:
    crop = noise(1, 224, 224)[0]
    hiding = hidden("faces", video, [1], PTS_S)[1]
    assert hiding == WHOLE
    assert high_frequencies(crop) > 30 and high_frequencies(hiding.applied(crop)) < 1


def test_of_a_blurred_picture_few_means_are_left() -> None:
    picture = blurred(noise(1, 100, 100)[0])
    ranks = [np.linalg.matrix_rank(picture[..., c].astype(float), tol=100.0) for c in range(3)]
    assert max(ranks) <= CELLS


@pytest.mark.parametrize(
    ("time_s", "is_whole"),
    [
        (0.0, False),  # looked at
        (0.5, False),  # between two rows with the same face
        (2.5, True),  # between a face and none
        (3.0, True),  # looked at, none found
        (3.5, True),  # behind the last row
        (-0.5, True),  # before the first one
    ],
)
def test_a_frame_is_blurred_whole_unless_its_faces_are_known(
    video: str, time_s: float, is_whole: bool
) -> None:
    hiding = hidden("uniform", video, [0], np.array([time_s]))[0]
    assert (hiding.boxes is None) == is_whole


def test_between_two_rows_both_places_and_the_way_are_blurred(in_folder: Path) -> None:
    write_view("segments", "joy/a", noise(2, 100, 100), PTS_S[:2])
    write_faces("joy/a", PTS_S[:2], {0: [(10, 40, 30, 60)], 1: [(50, 40, 70, 60)]})
    boxes = hidden("uniform", "joy/a", [0], np.array([0.4]))[0].boxes
    np.testing.assert_allclose(boxes, [[0, 0.3, 0.8, 0.7]], atol=1e-6)


@pytest.mark.parametrize(
    "change", [{"shot": [0, 1]}, {"tracks": {0: [0], 1: [1]}}, {"pretrained": "false"}]
)
def test_a_cut_a_new_track_and_a_random_detector_blur_all_between(
    in_folder: Path, change: dict[str, object]
) -> None:
    write_view("segments", "joy/a", noise(2, 100, 100), PTS_S[:2])
    boxes = {0: [(10, 40, 30, 60)], 1: [(12, 40, 32, 60)]}
    write_faces("joy/a", PTS_S[:2], boxes)
    assert hidden("uniform", "joy/a", [0], np.array([0.4]))[0].boxes is not None
    write_faces("joy/a", PTS_S[:2], boxes, **change)  # type: ignore[arg-type]
    assert hidden("uniform", "joy/a", [0], np.array([0.4]))[0] == WHOLE


def test_every_face_of_a_frame_and_of_its_neighbours_is_blurred(in_folder: Path) -> None:
    write_view("segments", "joy/a", noise(3, 100, 100), PTS_S[:3])
    left, right = (10.0, 10.0, 20.0, 20.0), (70.0, 70.0, 80.0, 80.0)
    tracks = {0: [0, 1], 1: [0], 2: [0, 1]}
    write_faces("joy/a", PTS_S[:3], {0: [left, right], 1: [left], 2: [left, right]}, tracks=tracks)
    boxes = hidden("segments", "joy/a", [1], PTS_S[:3])[1].boxes
    np.testing.assert_allclose(boxes, [[0.05, 0.05, 0.25, 0.25], [0.65, 0.65, 0.85, 0.85]])


@pytest.mark.parametrize("view", ["faces", "segments"])
def test_without_its_files_all_of_a_video_is_blurred(video: str, view: str) -> None:
    assert found_faces(video) is not None
    Path(f"data/views/{view}/{video}.h5").unlink()
    assert found_faces(video) is None
    assert set(hidden("uniform", video, [0, 1], PTS_S).values()) == {WHOLE}
