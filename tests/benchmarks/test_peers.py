import json
from pathlib import Path

import av
import peers
import pytest
from peers import STAGES, app, first_frames, theirs
from typer.testing import CliRunner

from sample.clips import encode_clip, plan_clip
from tests.clones import Clone

CHECKOUT = {
    "torchvision/__init__.py": "from torchvision import models\n",
    "torchvision/models.py": (
        "def get_model(name, weights='theirs', **more):\n    return name, weights\n"
    ),
    "omegaconf.py": (
        "class OmegaConf:\n"
        "    from_dotlist = staticmethod(lambda words: dict(w.split('=', 1) for w in words))\n"
    ),
    "models/_base/base_extractor.py": (
        "import pathlib\n"
        "class BaseExtractor:\n"
        "    def __init__(self, out):\n"
        "        self.out = pathlib.Path(out)\n"
        "        self.out.mkdir(parents=True)\n"
        "    def _extract(self, path):\n"
        "        (self.out / f'{pathlib.Path(path).stem}_resnet.npy').touch()\n"
    ),
    "main.py": (
        "import torchvision\n"
        "from models._base.base_extractor import BaseExtractor\n"
        "def main(told):\n"
        "    assert torchvision.models.get_model(told['model_name'], 'DEFAULT')[1] is None\n"
        "    extractor = BaseExtractor(told['output_path'])\n"
        "    for path in told['video_paths'].strip('[]').split(','):\n"
        "        extractor._extract(path)\n"
    ),
}
"""A checkout that has of video_features what the benchmark reaches into, and no network."""


class ToyClone(Clone):
    """A clone whose stages do nothing but write their logs."""

    def run(self, *command: str, ok: bool | None = True) -> str:
        self.said.append(" ".join(command))
        for name in ("decode", "extract@resnet"):
            path = self.root / "logs" / f"{name}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"seconds": 0.5}))
        return ""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name, text in CHECKOUT.items():
        path = tmp_path / "checkout" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "checkout"


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    (tmp_path / "clips").mkdir()
    for number in range(2):
        encode_clip(plan_clip(0, "joy", number, 0.5), tmp_path / "clips" / f"{number}.mp4")
    return tmp_path / "clips"


def test_both_sides_extract_clips_of_the_first_frames(clips: Path, tmp_path: Path) -> None:
    paths = list(first_frames(clips, tmp_path / "short", 3))
    assert [path.name for path in paths] == ["0.mp4", "1.mp4"]
    for path in paths:
        with av.open(str(path)) as container:
            times_s = [frame.time for frame in container.decode(video=0)]
        assert times_s == [n / peers.FPS for n in range(3)]
    with pytest.raises(AssertionError, match="expected 99 frames or more"):
        list(first_frames(clips, tmp_path / "long", 99))


def test_their_weights_are_random_and_their_features_are_counted(
    checkout: Path, tmp_path: Path
) -> None:
    side = theirs(checkout, [Path("a.mp4"), Path("b.mp4")], 12, tmp_path)
    assert side.who == "video_features, batch_size=12"
    assert 0 < side.loop_s < side.command_s
    with pytest.raises(AssertionError, match="expected features of 2 clips, found 1"):
        theirs(checkout, [Path("a.mp4"), Path("a.mp4")], 1, tmp_path)


def test_sides_take_turns_and_the_least_of_each_is_told(
    checkout: Path, clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clones: list[ToyClone] = []

    def made(root: Path, frames: int) -> ToyClone:
        clones.append(ToyClone(root))
        return clones[-1]

    monkeypatch.setattr(peers, "made_clone", made)
    arguments = [f"--video-features={checkout}", f"--clips={clips}", "--frames=3", "--repeat=1"]
    done = CliRunner().invoke(app, [*arguments, "--batches=1", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["clips"], found["frames"]) == (2, 3)
    ours, other = found["sides"]
    assert (ours["who"], ours["loop_s"]) == ("affectline", 1.0)
    assert other["who"] == "video_features, batch_size=1" and other["loop_s"] > 0
    stages = [line for line in clones[0].said if line.startswith("python")]
    assert stages == 2 * [  # once before, in which the runtime is found out
        f"python -m stages.{name}{' resnet' if name in ('weights', 'extract') else ''}"
        for name in STAGES
    ]
