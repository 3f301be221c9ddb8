import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from features import backbones
from stages.engine.params import Backbone
from stages.results.page import Section
from stages.results.sections import features
from stages.results.sections.features import Card, projected
from tests.stages.results.made_data import NETWORK, row_of, write_features, write_indices
from tests.stages.results.made_page import Text, inputs_of, page_of
from tests.stages.results.made_results import write_result

LABELS = ("joy", "fear")
ROLES = {"face": "network/vector", "context": "network/map"}


@pytest.fixture
def project(in_folder: Path) -> Path:
    rng = np.random.default_rng(0)
    videos = [f"{label}/{number} it's" for label in LABELS for number in range(6)]
    for video in videos:
        centre = 3.0 * video.startswith("joy")
        write_features(
            "network",
            video,
            {
                "vector": rng.normal(centre, 1, (4, 8)).astype(np.float16),
                "map": rng.random((4, 6, 3, 3)).astype(np.float16),
                "valid": np.array([True, True, True, False]),
            },
        )
    write_indices([row_of(video) for video in videos], "network")
    return in_folder


def made(folder: Path, **blocks: Backbone) -> Section:
    result = write_result(folder / "made", "caan", roles=ROLES)
    rows = [row_of(f"{label}/{number} it's") for label in LABELS for number in range(6)]
    blocks = blocks or {"network": NETWORK}
    section = features.section(replace(inputs_of(result, videos=rows), backbones=blocks))
    assert section
    return section


def card(section: Section, name: str) -> Card:
    (found,) = (card for card in section.content["cards"] if card.name == name)
    assert isinstance(found, Card)
    return found


def test_a_card_says_what_a_backbone_is_and_gives(project: Path) -> None:
    section = made(project)
    found = card(section, "network")
    assert found.said == backbones.describe("vgg16") and found.said.title.startswith("VGG-16")
    assert found.facts["weights"] == "random, drawn from seed 1: the network was never trained"
    files = list(Path("data/features").rglob("*.h5"))
    size = sum(path.stat().st_size for path in files) / 2**20
    assert found.facts["on disk"].startswith(f"12 files, {size:.1f} MiB, ")
    assert section.tables["features"].rows == [
        ("network", "map", "6 × 3 × 3", "C H W", "float16", "caan"),
        ("network", "vector", "8", "D", "float16", "caan"),
    ]
    parity = [row for row in found.parity if row["compared"] == "fc6"]
    assert parity and float(found.furthest) == max(float(row["relative"]) for row in found.parity)
    assert f"| `vgg16` | `fc6` | {parity[0]['oracle']}" in (
        Path(features.__file__).parents[3] / "PARITY.md"
    ).read_text(encoding="utf-8")


def test_the_three_lines_read_the_feature(project: Path) -> None:
    code = card(made(project), "network").code
    assert code and len(code.splitlines()) == 3
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nprint(rows.shape, rows.dtype)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "(3, 8) float16" and "# (3, 8) float16" in code


def test_videos_of_a_class_have_their_colour_and_their_marker(project: Path) -> None:
    section = made(project)
    figure = section.figures["projection-network"]
    (axes,) = figure.axes
    drawn = {line.get_label(): line for line in axes.lines}
    assert list(drawn) == ["fear", "joy"]
    looks = {(line.get_color(), line.get_marker()) for line in drawn.values()}
    assert len(looks) == 2 and len({m for _, m in looks}) == 2 == len({c for c, _ in looks})
    fear, joy = (np.asarray(line.get_xdata()) for line in drawn.values())
    assert fear.max() < joy.min() or joy.max() < fear.min()
    assert "12 videos" in str(figure.get_label())


def test_forty_two_classes_look_different() -> None:
    looks = {
        (features.MARKERS[n % len(features.MARKERS)], features.figures.PALETTE[n % 6])
        for n in range(42)
    }
    assert len(looks) == 42 and len(features.figures.PALETTE) == 6


def test_a_projection_is_that_of_the_singular_values_and_does_not_turn_over() -> None:
    rng = np.random.default_rng(0)
    values = (rng.normal(size=(50, 4)) @ rng.normal(size=(4, 30)) + 7).astype(np.float32)
    points, shares = projected(values)
    assert points is not None and points.shape == (50, 2)
    whole = (values - values.mean(axis=0)) / values.std(axis=0)
    left, sizes, _ = np.linalg.svd(whole, full_matrices=False)
    ours = points / np.linalg.norm(points, axis=0)
    for at in range(2):
        assert abs(float(ours[:, at] @ left[:, at])) == pytest.approx(1, abs=1e-3)
    assert shares == pytest.approx(tuple(sizes[:2] ** 2 / (sizes**2).sum()), rel=1e-3)
    order = rng.permutation(50)
    again, _ = projected(values[order])
    assert again is not None and again == pytest.approx(points[order], abs=2e-3)


@pytest.mark.parametrize("shape", [(0, 5), (2, 5), (9, 2)])
def test_too_little_is_not_projected(shape: tuple[int, int]) -> None:
    values = np.random.default_rng(0).random(shape).astype(np.float32)
    assert projected(values) == (None, (0.0, 0.0))


def test_of_many_videos_some_are_drawn(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "MOST_POINTS", 5)
    figure = made(project).figures["projection-network"]
    assert sum(len(line.get_xdata()) for line in figure.axes[0].lines) == 5  # type: ignore[arg-type]
    assert "5 of 12 videos" in str(figure.get_label())


def test_what_is_not_here_is_said_with_the_command_that_brings_it(project: Path) -> None:
    Path("data/features/network/joy/0 it's.h5").unlink()
    absent = Backbone(module="swin", view="uniform", source="pretrained")
    section = made(project, absent=absent, network=NETWORK)
    assert [card.name for card in section.content["cards"]] == ["network", "absent"]  # read first
    assert card(section, "network").lacking == (
        "1 of 12 files are not here: dvc pull extract@network brings them."
    )
    found = card(section, "absent")
    assert found.lacking == "Its features are not here: dvc pull extract@absent brings them."
    assert (found.code, found.figure) == (None, None) and found.said.title.startswith("Swin")
    assert found.facts["weights"] == "pretrained, as params.yaml has it"


def test_a_backbone_of_ones_own_has_a_card(project: Path) -> None:
    block = NETWORK.model_copy(update={"module": "of_my_own"})
    section = made(project, network=block)
    assert card(section, "network").parity == ()
    result = write_result(project / "other", "caan", roles=ROLES)
    text = Text(page_of(replace(inputs_of(result), backbones={"network": block}), features))
    assert "compared with no independent oracle" in text and text.open == []


def test_a_files_name_stays_text_in_the_page_and_in_the_code(project: Path) -> None:
    result = write_result(project / "made", "caan", roles=ROLES)
    rows = [row_of(f"{label}/{number} it's") for label in LABELS for number in range(6)]
    inputs = replace(inputs_of(result, videos=rows), backbones={"network": NETWORK})
    page = page_of(inputs, features)
    assert "fear" in page and "it&#39;s.h5&#34;" in page and Text(page).open == []
    assert page == page_of(inputs, features)
