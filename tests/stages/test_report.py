import re
import shutil
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml

import heads
from features.cache import tables
from features.cache.keys import PROJECT
from heads import Roles, Rows
from stages import report
from stages.engine.params import Report
from stages.report import summary
from stages.results.attention import MapWeights, RoleWeights, RowWeights, read_attention
from stages.results.files import Result
from stages.results.page import Inputs, render
from stages.results.sections import sections
from tests.modules import put
from tests.stages.results.made_results import CLASSES, FACE_AND_CONTEXT, write_result

VIDEOS: list[tables.Row] = [
    {"video_id": f"{name}/{at}", "label": name, "status": "ok", "reason": None}
    for name in CLASSES
    for at in range(12)
]
FACE = {"face": "vggface/fc6"}
REFERENCES, _ = heads.references()
ATTENTION = {
    "frame_scores": (Rows("face"), ()),
    "regions": (Rows("face"), (2, 3)),
    "channels": (Rows("face"), (5,)),
    "modality_scores": (Roles(("face", "context")), (2,)),
}


class Text(HTMLParser):
    """The words of a page, its tags, and whether they close in order."""

    EMPTY = ("meta", "img", "br", "html", "body", "path", "use", "line")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.EMPTY:
            self.open.append(tag)
        self.addresses += [str(v) for k, v in attrs if k in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.EMPTY:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data.split()

    def __contains__(self, text: str) -> bool:
        return text in " ".join(self.words)


def page_of(
    *results: Result,
    dataset: str | None = "HEIV",
    root: str = "data/raw",
    videos: Sequence[tables.Row] = VIDEOS,
    broken: Sequence[str] = (),
    references: Mapping[str, Sequence[heads.Reported]] = REFERENCES,
) -> str:
    inputs = Inputs(
        Report(title="a title"),
        Path(root),
        dataset,
        videos,
        results,
        broken,
        references=references,
    )
    return render(inputs, summary(inputs), sections(inputs))


def test_a_broken_head_has_no_tables_and_the_page_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(monkeypatch, tmp_path / "room", heads, "rdam", "REFERENCE = (")
    references, broken = heads.references()
    result = write_result(tmp_path, "caan")
    text = Text(page_of(result, broken=broken, references=references))
    assert "CAAN, Table 2: HEIV" in text
    assert "Left out: the tables of head 'rdam': heads/rdam.py cannot be read: Syn" in text


def section(page: str, name: str) -> str:
    found = re.search(rf'<section id="{name}"[^>]*>(.*?)</section>', page, re.S)
    assert found, name
    return found[1]


def test_a_page_is_whole_and_needs_no_network(tmp_path: Path) -> None:
    first = write_result(tmp_path, "caan", attention=ATTENTION, phases=("local", "global"))
    second = write_result(tmp_path, "face", head="pooling", roles=FACE, validation=True, seed=1)
    page = page_of(first, second)
    text = Text(page)
    assert text.open == []
    assert all(a.startswith(("#", "data:image/png;base64,")) for a in text.addresses)
    assert "http:" not in page and "https:" not in page and "@import" not in page
    assert 'name="viewport" content="width=device-width' in page
    anchors = re.findall(r'<a href="#([a-z-]+)">', page)
    assert anchors == re.findall(r'<section id="([a-z-]+)"', page)
    assert "videos-not-usable" not in anchors


def test_the_same_results_give_the_same_page(tmp_path: Path) -> None:
    result = write_result(tmp_path, "caan", attention=ATTENTION)
    assert page_of(result) == page_of(result)


def test_ten_experiments_stay_light(tmp_path: Path) -> None:
    classes = [f"emotion {number}" for number in range(8)]
    many = [
        write_result(tmp_path, f"e{n}", classes=classes, videos=96, attention=ATTENTION, seed=n)
        for n in range(10)
    ]
    assert len(page_of(*many).encode()) < 3_000_000


def test_accuracy_is_mean_deviation_and_interval(tmp_path: Path) -> None:
    result = write_result(tmp_path, "caan", videos=30)
    said = result.metrics["accuracy"]
    text = Text(section(page_of(result), "accuracy"))
    assert f"{100 * said['mean']:.1f} ± {100 * said['std']:.1f}" in text
    low, high = said["ci95_corrected_low"], said["ci95_corrected_high"]
    assert f"{100 * low:.1f} to {100 * high:.1f}" in text
    assert "corrected 95 % interval" in text and "(Nadeau and Bengio 2003)" in text
    assert "chance, 33.3 %" in text


def test_a_single_run_has_no_spread(tmp_path: Path) -> None:
    first = write_result(tmp_path, "caan", runs=1, seed=1)
    page = page_of(first, write_result(tmp_path, "face", runs=1, seed=2))
    assert "±" not in Text(section(page, "accuracy"))
    assert "McNemar's exact test" in Text(section(page, "differences"))


def test_the_page_says_which_network_answered(tmp_path: Path) -> None:
    first = write_result(tmp_path, "caan")
    assert "In every run: the network of the last epoch answers." in Text(page_of(first))
    second = write_result(tmp_path, "face", selection="epoch with the best accuracy on 10%")
    text = Text(page_of(first, second))
    assert "caan: the network of the last epoch answers." in text
    assert "face: the network of the epoch with the best accuracy on 10% answers." in text


def test_experiments_are_compared_with_the_first(tmp_path: Path) -> None:
    first = write_result(tmp_path, "caan", accuracy=0.9, videos=30, seed=1)
    second = write_result(tmp_path, "face", accuracy=0.5, videos=30, seed=2)
    third = write_result(tmp_path, "odd", videos=30, skip=["joy/v0001"])
    assert 'id="differences"' not in page_of(first)
    text = Text(section(page_of(first, second, third), "differences"))
    points = 100 * (second.metrics["accuracy"]["mean"] - first.metrics["accuracy"]["mean"])
    assert f"{points:.1f}".replace("-", "−") in text
    assert "corrected resampled t-test" in text
    assert "odd and caan have other test videos: only caan answers split_00: joy/v0001" in text


def rows(section: str) -> dict[str, list[str]]:
    """Return the rows of a section's tables: first cell -> the others, as text."""
    found = {}
    for row in re.findall(r"<tr>(.*?)</tr>", section, re.S):
        cells = [
            re.sub(r"<[^>]+>", " ", c).strip() for c in re.findall(r"<td[^>]*>(.*?)</td>", row)
        ]
        if cells:
            found.setdefault(cells[0], [" ".join(cell.split()) for cell in cells[1:]])
    return found


def test_the_papers_numbers_stand_beside_ours(tmp_path: Path) -> None:
    result = write_result(tmp_path, "one", params={"score_layers": 1})
    page = page_of(result)
    part = section(page, "beside-the-papers")
    table = re.search(r"CAAN, Table 2: HEIV</h3>(.*?)</table>", part)
    assert table
    assert "Not comparable" not in table[1]
    mean, std = (100 * result.metrics["accuracy"][name] for name in ("mean", "std"))
    assert rows(table[1])["fusion, 1FC"] == ["50.4", f"{mean:.1f} ± {std:.1f} one"]
    assert rows(table[1])["fusion, 2FC"] == ["51.1", "–"]


def test_another_data_set_is_called_not_comparable(tmp_path: Path) -> None:
    result = write_result(tmp_path, "caan")
    text = Text(page_of(result, dataset="Ekman-6"))
    assert "Not comparable: HEIV in the paper, Ekman-6 here." in text
    assert "Ekman-6 in the paper" not in text
    assert "HEIV in the paper, unnamed videos" in Text(page_of(result, dataset=None))


def test_a_papers_classes_stand_beside_ours(tmp_path: Path) -> None:
    classes = ["anger", "disgust", "fear", "joy", "sadness", "surprise"]
    roles = {"audio": "resnet18_mfcc/pooled"}
    result = write_result(tmp_path, "sound", head="vaanet", roles=roles, classes=classes)
    part = section(page_of(result, dataset="Ekman-6"), "beside-the-papers")
    assert part.count("Class by class") == 1  # of Table 4; Table 3 has eight classes
    text = Text(part)
    ours = " ".join(f"{100 * float(row['recall']):.1f}" for row in result.per_class)
    assert "paper 32.4 14.1 38.5 28.1 63.9 46.5" in text
    assert f"sound {ours}" in text


def test_experiments_of_one_row_are_told_apart_by_what_they_read(tmp_path: Path) -> None:
    one = write_result(tmp_path, "one", head="pooling", roles=FACE)
    other = write_result(tmp_path, "two", head="pooling", roles={"face": "resnet50/pooled"})
    text = Text(section(page_of(one, other, dataset="MHED"), "beside-the-papers"))
    assert "one: vggface/fc6" in text and "two: resnet50/pooled" in text
    alone = Text(section(page_of(one, dataset="MHED"), "beside-the-papers"))
    assert "one: vggface/fc6" not in alone


def test_rows_that_were_not_trained_alike_are_told(tmp_path: Path) -> None:
    caan = write_result(tmp_path, "caan")
    face = write_result(tmp_path, "face", head="pooling", roles=FACE_AND_CONTEXT)
    assert "Not trained alike" not in page_of(caan, face, dataset="HEIV")
    caan.about["training"] |= {"optimiser": "sgd", "epochs": 200}
    face.about["training"] |= {"optimiser": "adam"}
    text = Text(section(page_of(caan, face, dataset="HEIV"), "beside-the-papers"))
    assert 'compared: caan: optimiser "sgd"; face: optimiser "adam".' in text


def test_an_experiment_that_no_paper_has_leaves_the_section_out(tmp_path: Path) -> None:
    result = write_result(tmp_path, "sound", head="pooling", roles={"sound": "vggish/embedding"})
    assert "beside-the-papers" not in page_of(result)


def test_void_comparisons_are_said_on_top(tmp_path: Path) -> None:
    result = write_result(tmp_path, "caan")
    assert "nothing about emotion" not in page_of(result)
    page = page_of(result, root="data/sample")
    assert "built-in sample" in page[: page.index("<nav")]
    page = page_of(write_result(tmp_path, "seeded", pretrained=False))
    assert "seeded weights" in page[: page.index("<nav")]


def test_confusion_is_in_per_cent_of_the_true_class(tmp_path: Path) -> None:
    result = write_result(tmp_path, "caan", videos=30)
    part = section(page_of(result), "confusion")
    found = np.array([float(v) for v in re.findall(r"<td[^>]*>([\d.]+)</td>", part)]).reshape(3, 3)
    np.testing.assert_allclose(found.sum(axis=1), 100, atol=1)
    joy = [row["predicted"] for row in result.predictions if row["label"] == "joy"]
    assert found[1, 1] == round(100 * joy.count("joy") / len(joy))


def test_names_cannot_break_the_page(tmp_path: Path) -> None:
    classes = ("<b>joy", "a & b", '"fear"')
    result = write_result(tmp_path, "caan", classes=classes, attention=ATTENTION)
    page = page_of(result)
    assert "<b>joy" not in page and "a & b" not in page
    assert Text(page).open == []


def test_videos_that_could_not_be_used_are_listed(tmp_path: Path) -> None:
    bad = {"video_id": "joy/bad", "label": "joy", "status": "failed", "reason": "empty <file>"}
    page = page_of(write_result(tmp_path, "caan"), videos=[*VIDEOS, bad])
    assert rows(section(page, "videos-not-usable")) == {"joy/bad": ["empty &lt;file&gt;"]}


# ------------------------------------------------------------------------------ attention


def test_attention_is_summed_up_by_what_it_weighs(tmp_path: Path) -> None:
    result = write_result(tmp_path, "caan", videos=6, runs=2, rows=4, attention=ATTENTION)
    found = {weights.name: weights for weights in read_attention(result)}
    assert set(found) == set(ATTENTION)
    table = tables.read(result.folder / "attention.parquet")
    sheet = found["frame_scores"]
    assert isinstance(sheet, RowWeights) and (sheet.role, sheet.run) == ("face", "split_00")
    assert sorted(sheet.videos) == sorted(CLASSES)
    assert sorted(sheet.videos["joy"]) == ["joy/v0001", "joy/v0004"]
    wanted = [
        row["value"]
        for row in table
        if (row["name"], row["video_id"]) == ("frame_scores", "joy/v0004")
    ]
    assert sheet.videos["joy"]["joy/v0004"].tolist() == wanted and len(wanted) == 4
    maps = found["regions"]
    assert isinstance(maps, MapWeights)
    mine: list[Any] = [
        row["map"]
        for row in table
        if row["name"] == "regions" and str(row["video_id"]).startswith("joy/") and row["row"] != 3
    ]
    assert len(mine) == 2 * 2 * 3  # the last row of a video has no weight
    np.testing.assert_allclose(maps.means["joy"], np.mean(mine, axis=0).reshape(2, 3), rtol=1e-6)
    roles = found["modality_scores"]
    assert isinstance(roles, RoleWeights) and roles.roles == ("face", "context")
    assert roles.means["anger"].sum() == pytest.approx(1)


def test_each_kind_of_attention_is_drawn(tmp_path: Path) -> None:
    first = write_result(tmp_path, "caan", attention=ATTENTION)
    page = section(page_of(first, write_result(tmp_path, "face", seed=1)), "attention")
    text = Text(page)
    for name in ATTENTION:
        assert name in text
    assert "mean weight of each role" in text and "No attention: face." in text
    assert page.count("<img") == 3 * len(CLASSES)


def test_a_head_that_weighs_one_row_alone_is_worth_one_row(tmp_path: Path) -> None:
    result = write_result(tmp_path, "caan", rows=2, attention={"scores": (Rows("face"), ())})
    page = section(page_of(result), "attention")
    assert "worth 1.0 of its 1.0 rows" in page


# ---------------------------------------------------------------------------------- stage


@pytest.fixture
def project(in_folder: Path) -> Path:
    """A folder with params.yaml of two experiments, their results and an index."""
    raw = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    raw["experiments"] = {
        "caan": {"head": "caan", "roles": {"face": "vggface/fc6", "context": "vgg16/fc6"}},
        "face": {"head": "pooling", "roles": FACE},
    }
    Path("params.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    write_result(Path("results"), "caan", attention=ATTENTION)
    write_result(Path("results"), "face", head="pooling", roles=FACE, seed=1)
    schema = pa.schema([(name, pa.string()) for name in VIDEOS[0]])
    tables.write(Path("data/index.parquet"), VIDEOS, schema)
    return in_folder


def run() -> None:
    report.main()


def test_the_stage_writes_the_same_page_each_time_and_says_where(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run()
    assert "\npage:   report/index.html\n" in capsys.readouterr().err
    page = Path("report/index.html").read_bytes()
    run()
    assert Path("report/index.html").read_bytes() == page
    assert sorted(path.name for path in Path("report").iterdir()) == [
        "figures",
        "index.html",
        "tables",
    ]


def test_an_experiment_without_results_ends_the_stage(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree("results/face")
    with pytest.raises(SystemExit):
        run()
    assert "results/face: expected the results of train@face" in capsys.readouterr().err
