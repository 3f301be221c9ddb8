"""A slice of the corpus through index and decode, and what bounds them; the rest is a scenario."""

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest

from features.cache import tables
from features.video import decode as video
from features.video import listing, sound
from features.video.decode import decode
from features.video.opening import VideoError
from features.video.views import View
from stages import decode as decoding
from stages import index
from stages.engine.items import merge_reasons, run_items
from stages.engine.progress import StageRun
from stages.engine.workers import Item, Work, Workers
from tests.conftest import HANGING_S
from tests.hostile import corpus

pytestmark = pytest.mark.slow

USABLE = frozenset(
    "whole picture_only one_frame two_frames variable_rate odd_size ten_bit alpha grey rotated "
    "very_long b_frames interlaced".split()
)
"""Kinds that are rare and right: each of their files must come through."""

REFUSED = frozenset({"not_video", "zero_length", "sound_only"})

VIEWS = {"segments": View("segments", 4, 64), "snippets": View("snippets", 2, 32, 4), "sound": None}


def run_stages(root: Path, pool: Workers) -> list[tables.Row]:
    """Run index and decode over a folder; return the rows as decode leaves them."""
    videos, _ = listing.list_videos(root)
    rows = index.index(StageRun("index"), videos, Path("index"), pool)
    items = [
        decoding._item(row, root / str(row["file"]), VIEWS, 0)
        for row in rows
        if row["status"] == "ok"
    ]
    outcome = run_items(StageRun("decode"), Work(items, decoding.compute, pool), Path("views"))
    return merge_reasons(rows, outcome)


def test_each_file_is_done_or_a_row_with_its_reason(in_folder: Path) -> None:
    parts = (corpus.not_video, corpus.unusual, corpus.rotated, corpus.long, corpus.names)
    made = corpus.build(Path("raw"), 0, parts)
    rows = run_stages(Path("raw"), Workers(2, HANGING_S))
    hidden = 2  # names that begin with a dot are left out, as `ls` does
    assert len(rows) == made - hidden > 100
    for row in rows:
        assert (row["reason"] is None) == (row["status"] == "ok")
        assert "Error" not in str(row["reason"]), row  # a reason is words, not an exception
        if row["label"] in USABLE:
            assert row["status"] == "ok", row
        if row["label"] in REFUSED:
            assert row["status"] == "failed", row
    assert not list(Path().rglob("canary"))
    assert {path.name for path in Path().iterdir()} == {"raw", "index", "views", ".store", "logs"}


def test_the_same_seed_gives_the_same_corpus(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        corpus.build(tmp_path / name, seed, (corpus.damaged,))
    contents = {
        name: {
            path.relative_to(tmp_path / name): path.read_bytes()
            for path in (tmp_path / name).rglob("*.*")
        }
        for name in "abc"
    }
    assert contents["a"] == contents["b"] != contents["c"]
    assert contents["a"].keys() == contents["c"].keys()


def test_a_decoder_that_works_too_long_is_ended(in_folder: Path) -> None:
    size, options = (4096, 4096), {"g": "12"}  # a codec of which all frames are decoded
    clip = corpus.repeated(
        Path("slow.mkv"), 600, "mpeg4", size=size, voice=None, options=options, flat=True
    )
    row: tables.Row = {"video_id": "slow/slow", "sha256": "f00"}
    item: Item = decoding._item(row, clip.absolute(), {"segments": VIEWS["segments"]}, 0)
    work = Work([item], decoding.compute, Workers(1, 3.0))
    outcome = run_items(StageRun("decode"), work, Path("views"))
    reason = "given up after 3 s (engine.time_limit_s)"
    assert outcome == {"slow/slow": {"segments/slow/slow.h5": reason}}
    assert not list(Path(".store").rglob("*.h5"))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit memory so")
def test_an_index_of_gigabytes_is_not_made_and_the_limit_is_lifted_again(
    tmp_path: Path,
) -> None:
    whole = corpus.encode(tmp_path / "whole.mp4").read_bytes()
    bomb = tmp_path / "bomb.mp4"
    bomb.write_bytes(corpus.index_bomb(whole, 0x2000000))
    assert len(bomb.read_bytes()) < 30_000  # it takes 2.3 GiB where nothing limits it
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from features.video import opening; from features.video.probe import probe\n"
        "opening.MEMORY_BYTES = 256 << 20\n"
        "before = resource.getrlimit(resource.RLIMIT_DATA)\n"
        "try: probe(Path(sys.argv[1]))\n"
        "except opening.VideoError: pass\n"
        "assert resource.getrlimit(resource.RLIMIT_DATA) == before\n"
        "lines = Path('/proc/self/status').read_text().split('\\n')\n"
        "print(next(line.split()[1] for line in lines if line.startswith('VmHWM')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(bomb)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 800_000  # KiB, the process's own 0.2 GiB included


def test_hours_of_silence_in_a_small_file_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = corpus.sound_bomb(tmp_path / "a.mkv", packets=40)
    with sound.decoded(clip, tmp_path) as waveform:
        assert waveform.samples > 1 << 20
    monkeypatch.setattr(sound, "MAX_SAMPLES", 1 << 20)
    with pytest.raises(VideoError, match="its sound has more than 1,048,576 samples"):
        with sound.decoded(clip, tmp_path):
            pass


def test_frames_that_would_fill_the_memory_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = corpus.encode(tmp_path / "long.mp4", size=(4096, 16), voice=None)
    view = {"v": View("uniform", 10, 64)}
    assert decode(clip, view, seed="s").views["v"].frames.shape[1:3] == (16, 4096)
    monkeypatch.setattr(video, "MAX_VIEW_BYTES", 1 << 20)
    with pytest.raises(VideoError, match="10 frames of 4096x16 would take too much memory"):
        decode(clip, view, seed="s")


@pytest.mark.parametrize("ratio", [(2**31 - 1, 1), (1, 2**31 - 1), (100, 1)])
def test_pixels_that_no_film_has_are_refused(tmp_path: Path, ratio: tuple[int, int]) -> None:
    clip = corpus.encode(tmp_path / "a.mp4", aspect=Fraction(4, 3))
    raw = corpus.patched(clip.read_bytes(), b"pasp", 4, ratio[0])
    clip.write_bytes(corpus.patched(raw, b"pasp", 8, ratio[1]))
    with pytest.raises(VideoError, match="times as wide as high are no picture"):
        decode(clip, {"v": View("uniform", 4, 64)}, seed="s")


def test_a_size_that_only_the_codec_states_is_refused(tmp_path: Path) -> None:
    whole = corpus.encode(tmp_path / "a.mp4").read_bytes()
    for side in (20_000, 131_072):
        (tmp_path / "b.mp4").write_bytes(corpus.with_sps(whole, side // 16, side // 16))
        with pytest.raises(VideoError):
            decode(tmp_path / "b.mp4", {"v": View("uniform", 4, 64)}, seed="s")


def test_a_container_that_cannot_go_back_is_read_twice(tmp_path: Path) -> None:
    clip = corpus.BASES["flv1.flv"](tmp_path / "a.flv")
    view = decode(clip, {"v": View("uniform", 50, 64)}, seed="s").views["v"]
    assert list(view.index) == list(range(corpus.FRAMES))
