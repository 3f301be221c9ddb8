from pathlib import Path

import numpy as np
from PIL import Image

from affectline.presets.folder import File
from affectline.presets.stills import wrap
from features.cache.keys import file_sha256
from features.video.decode import decode
from features.video.probe import probe
from features.video.views import View


def write_image(path: Path, mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (48, 66, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return path


def test_a_still_becomes_a_video_of_one_frame_with_the_same_pixels(tmp_path: Path) -> None:
    path = write_image(tmp_path / "in" / "a.png")
    (file,), remarks = wrap([File("Joy", "a.png", path, "train")], tmp_path / "out")
    assert remarks == []
    assert file == File("Joy", "a.png", tmp_path / "out" / "train" / "Joy" / "a.png.mkv", "train")
    assert probe(file.path).width == 66
    views = {"segments": View("segments", 24, 720)}
    frames = decode(file.path, views, seed="0").views["segments"].frames
    assert frames.shape == (1, 48, 66, 3)
    assert np.array_equal(frames[0], np.asarray(Image.open(path)))


def test_the_same_image_gives_the_same_bytes(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.jpg", "L")
    made = [wrap([File("Joy", "a.jpg", path)], tmp_path / name)[0][0] for name in ("one", "two")]
    assert file_sha256(made[0].path) == file_sha256(made[1].path)


def test_what_is_no_image_stays_and_is_told(tmp_path: Path) -> None:
    whole = write_image(tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("hello")
    given = [File("Joy", name, tmp_path / name) for name in ("cut.png", "text.png", "none.png")]
    files, remarks = wrap(given, tmp_path / "out")
    assert files == given
    assert [remark.what for remark in remarks] == ["not a readable image"] * 3
    assert remarks[1].detail == "no PNG, JPEG, BMP or TIFF"
