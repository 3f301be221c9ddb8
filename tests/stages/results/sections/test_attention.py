"""The section `Attention`: what it shows of a project's results and views, and what it does not."""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.cache import arrays
from heads import Attention, Roles, Rows
from stages.engine.params import Report
from stages.engine.paths import SAMPLE
from stages.results.files import Result
from stages.results.page import MB, Budget, Inputs, Section, draw, files, render
from stages.results.sections import attention
from stages.results.sections.attention import MOST_VIDEOS, Content
from stages.results.summary import summary
from tests.stages.results.made_results import write_result
from tests.stages.results.made_views import noise, write_faces, write_sound, write_view

PTS_S = np.arange(6) / 2
"""Times of the rows that `made_results` has."""

KINDS: Mapping[str, tuple[Attention, tuple[int, ...]]] = {
    "frame_scores": (Rows("face"), ()),
    "modality_scores": (Roles(("face", "context")), (2,)),
}
CLASSES = ("anger", "joy", "sadness")


class Tags(HTMLParser):
    """Tags of a page by name, with their attributes, and its words."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.words += data.split()

    def named(self, part: str) -> list[dict[str, str]]:
        """Return the attributes of tags of a class."""
        return [a for _, a in self.found if part in a.get("class", "").split()]


def experiment(
    name: str = "caan",
    *,
    reads: Mapping[str, str] | None = None,
    modules: Mapping[str, str] | None = None,
    **options: Any,
) -> Result:
    """Write an experiment; ``reads`` is backbone -> view, ``modules`` backbone -> its module."""
    result = write_result(Path("results"), name, **{"attention": KINDS, **options})
    views = reads or {"vggface": "faces", "vgg16": "segments"}
    for backbone, origin in result.about["features"].items():
        module = (modules or {}).get(backbone, backbone)
        more = {"view": views[backbone], "module": module, "options": {}}
        result.about["features"][backbone] = origin | more
    return result


def write_views(*results: Result, run: str | None = "split_00") -> list[str]:
    """Write frames and crops of every video that a run tested; the last row has no face."""
    videos = {
        str(row["video_id"])
        for result in results
        for row in result.predictions
        if run is None or row["run"] == run
    }
    for number, video in enumerate(sorted(videos)):
        write_view("segments", video, noise(6, 60, 80, seed=number), PTS_S)
        write_faces(video, PTS_S, {row: [(20, 15, 40, 35)] for row in range(5)})
    return sorted(videos)


def section_of(
    *results: Result, root: Path = Path("data/raw"), size: float | None = None, **settings: Any
) -> tuple[Section, Inputs]:
    """Return the section, and what it is made of."""
    report = Report(title="a title", **settings)
    rows: list[dict[str, object]] = [
        {"video_id": video, "label": video.split("/")[0], "status": "ok", "reason": None}
        for video in {str(row["video_id"]) for result in results for row in result.predictions}
    ]
    budget = Budget(report.max_mb * MB if size is None else size)
    inputs = Inputs(report, root, None, rows, results, (), budget)
    found = attention.section(inputs)
    assert found is not None
    return found, inputs


def page_of(*results: Result, **options: Any) -> str:
    return drawn(*section_of(*results, **options))


def drawn(found: Section, inputs: Inputs) -> str:
    """Return the page of the section alone."""
    return render(inputs, summary(inputs), [found], draw([found]))


def content_of(*results: Result, **options: Any) -> Content:
    content = section_of(*results, **options)[0].content
    assert isinstance(content, Content)
    return content


# ------------------------------------------------------------------------- what is shown


def test_each_row_stands_with_its_picture_weight_and_time(in_folder: Path) -> None:
    result = experiment()
    write_views(result)
    content = content_of(result)
    (shown,) = content.shown
    table = {
        (row["video_id"], row["row"]): row["value"]
        for row in arrays_of(result)
        if row["run"] == "split_00" and row["name"] == "frame_scores"
    }
    for card in shown.cards:
        (strip,) = card.strips
        video = card.choice.answer[1]
        weights = np.array([table[video, row] for row in range(6)])
        shares = [bar.share for cell in strip.cells for bar in cell.bars]
        np.testing.assert_allclose(shares, weights / weights.max(), atol=1e-3)
        assert [cell.time for cell in strip.cells] == [f"{at:.1f} s" for at in PTS_S]
        assert [cell.pictures for cell in strip.cells] == [
            *((n, n) for n in range(5)),
            (None, 5),  # no face in the last row, but a frame
        ]
        assert [bar.is_seen for cell in strip.cells for bar in cell.bars] == [True] * 5 + [False]
        most = int(np.argmax(weights[:5]))
        assert f"{video}, face crops of face, 0.0 to 2.5 s, most weight" in strip.alt
        assert f" at {PTS_S[most]:.1f} s" in strip.alt
        assert strip.cells[most].weight == f"{weights[most]:.2f}"


def arrays_of(result: Result) -> list[dict[str, Any]]:
    """Return the rows of an experiment's attention."""
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = pq.read_table(result.folder / "attention.parquet").to_pylist()
    return rows


def test_the_page_draws_every_cell_and_says_what_it_is(in_folder: Path) -> None:
    result = experiment()
    write_views(result)
    page = page_of(result)
    tags = Tags(page)
    cards = content_of(result).shown[0].cards
    assert len(tags.named("seen-card")) == len(cards) > 3
    assert len(tags.named("seen-cell")) == 6 * len(cards)
    strips = tags.named("seen-strip")
    assert all(strip["role"] == "img" and strip["aria-label"] for strip in strips)
    text = " ".join(tags.words)
    assert "of split_00, the first of 3 runs" in text
    assert "face : face crops, with the frames of context frame_scores" in text
    assert "most confident right" in text and "most uncertain" in text
    assert "face, %" in text and "context, %" in text
    for number in re.findall(r'class="(?:\S+ )*p(\d+)"', page):
        assert f".p{number} {{" in page


def test_experiments_share_the_pictures_of_a_video(in_folder: Path) -> None:
    first, second = experiment("one"), experiment("two", seed=0)
    write_views(first)
    alone, both = content_of(first), content_of(first, second)
    assert len(both.shown) == 2
    assert both.sheets == alone.sheets
    page = page_of(first, second)
    assert page.count("data:image/webp") == len(both.sheets)


def test_the_same_results_and_views_give_the_same_page(in_folder: Path) -> None:
    result = experiment(reads={"vggface": "faces", "vgg16": "sound"})
    for video in write_views(result):
        write_sound(video, 3.0)
    assert page_of(result) == page_of(result)


def test_a_head_without_attention_has_no_cards(in_folder: Path) -> None:
    first, other = experiment(), experiment("average", attention=None)
    write_views(first)
    content = content_of(first, other)
    assert content.without == ("average",) and [one.name for one in content.shown] == ["caan"]
    assert "No attention: average." in " ".join(Tags(page_of(first, other)).words)
    inputs = section_of(first)[1]
    empty = Inputs(inputs.settings, inputs.root, None, inputs.videos, [other])
    assert attention.section(empty) is None


def test_many_experiments_and_classes_stay_within_bounds(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "MOST_EXPERIMENTS", 2)
    classes = [f"c{number}" for number in range(30)]
    many = [experiment(f"e{n}", classes=classes, videos=60, runs=1, seed=n) for n in range(3)]
    content = content_of(*many)
    best = max(many[1:], key=lambda result: result.metrics["accuracy"]["mean"]).name
    assert [one.name for one in content.shown] == ["e0", best]
    assert [len(one.cards) for one in content.shown] == [MOST_VIDEOS, MOST_VIDEOS]
    (rest,) = {"e1", "e2"} - {best}
    assert content.notes[-1].endswith(f"the best of each target, 2 of 3, not {rest}.")
    small = content_of(*many, max_mb=1.0)
    assert [len(one.cards) for one in small.shown] == [8, 8]
    markup = len(page_of(*many, max_mb=1.0).encode()) - len(page_of(many[0], max_mb=1.0).encode())
    assert 0 < markup < 0.3 * MB  # of what the page has besides pictures


def test_videos_asked_for_are_shown_in_the_run_that_tested_them(in_folder: Path) -> None:
    result = experiment()
    card = content_of(result, videos=["joy/v2001"]).shown[0].cards[0]
    assert card.choice.answer == ("split_02", "joy/v2001")
    assert ", in split_02" in " ".join(Tags(page_of(result, videos=["joy/v2001"])).words)


def test_a_video_asked_for_that_an_experiment_did_not_test_is_noted(in_folder: Path) -> None:
    part = experiment("part", skip=["joy/v0001"])
    notes = content_of(experiment("all"), part, videos=["joy/v0001"]).notes
    assert "No run of part tested joy/v0001, which report.videos asks for." in notes


# -------------------------------------------------------------------------- what is missing


def test_without_views_bars_stand_alone_and_one_line_says_why(in_folder: Path) -> None:
    result = experiment()
    content = content_of(result)
    assert not content.sheets
    (line,) = content.notes
    assert "data/views/faces: no file of" in line and "`dvc pull decode faces`" in line
    strip = content.shown[0].cards[0].strips[0]
    assert [bool(cell.bars) for cell in strip.cells] == [True] * 6
    assert [bar.is_seen for cell in strip.cells for bar in cell.bars] == [True] * 5 + [False]
    assert "data:image" not in page_of(result)


def test_imported_rows_have_bars_and_nothing_is_said_to_be_missing(in_folder: Path) -> None:
    reads = {"vggface": "none", "vgg16": "none"}
    content = content_of(experiment(reads=reads, modules=dict.fromkeys(reads, "imported")))
    assert not content.sheets and not content.notes
    strip = content.shown[0].cards[0].strips[0]
    assert [bool(cell.bars) for cell in strip.cells] == [True] * 6


def test_imported_rows_without_times_have_bars_by_their_number(in_folder: Path) -> None:
    reads = {"vggface": "none", "vgg16": "none"}
    result = experiment(reads=reads, modules=dict.fromkeys(reads, "imported"))
    path = result.folder / "attention.parquet"
    table = pq.read_table(path)
    column = table.schema.get_field_index("pts_s")
    none = pa.array([float("nan")] * len(table))
    pq.write_table(table.set_column(column, "pts_s", none), path)
    strip = content_of(result).shown[0].cards[0].strips[0]
    assert [cell.time for cell in strip.cells] == [f"#{number}" for number in range(1, 6)]
    assert all(cell.bars for cell in strip.cells) and "most weight" in strip.alt
    assert "nan" not in page_of(result).casefold()


def test_a_view_with_other_rows_than_were_seen_is_not_shown(in_folder: Path) -> None:
    result = experiment()
    for video in write_views(result):
        write_faces(video, PTS_S + 0.1, {row: [(20, 15, 40, 35)] for row in range(5)})
    content = content_of(result)
    assert "other rows of" in content.notes[0]
    assert not content.sheets


def test_a_damaged_view_costs_its_video_alone(in_folder: Path) -> None:
    result = experiment()
    videos = write_views(result)
    path = Path(f"data/views/faces/{videos[0]}.h5")
    path.write_bytes(path.read_bytes()[:500])
    content = content_of(result, videos=[videos[0]])
    bare = [c.choice.answer[1] for c in content.shown[0].cards if c.strips[0].is_bare]
    assert bare == [videos[0]] and str(path) in content.notes[0]


def test_past_its_size_the_page_shows_fewer_pictures_and_says_so(in_folder: Path) -> None:
    result = experiment()
    write_views(result)
    whole = content_of(result)
    size = sum(len(sheet.address) for sheet in whole.sheets)
    half = content_of(result, size=size / 2)
    assert 0 < len(half.sheets) < len(whole.sheets)
    assert sum(len(sheet.data) * 4 / 3 for sheet in half.sheets) <= size / 2
    assert re.search(r"\d+ strips of pictures and 0 sounds are not shown: .*10 MB", half.notes[0])
    assert "report.max_mb" in page_of(result, size=0) and not content_of(result, size=0).sheets


def test_hostile_names_stay_text(in_folder: Path) -> None:
    classes = ("<b>joy", "a\"&' onload=x", "</style><script>alert(1)</script>".replace("/", "∕"))
    result = experiment(classes=classes)
    write_views(result)
    page = page_of(result, videos=["<b>joy/v0000"])
    tags = Tags(page)
    assert [tag for tag, _ in tags.found].count("b") == page.count("<b>") + page.count("<b ")
    assert not any("onload" in attributes for _, attributes in tags.found)
    scripts = [tag for tag, _ in tags.found if tag == "script"]
    assert len(scripts) == 1  # the page's own
    assert any("<b>joy/v0000" in a.get("aria-label", "") for _, a in tags.found)


# ------------------------------------------------------------------------- people in pictures


def test_leave_out_embeds_no_picture_and_no_sound_and_keeps_the_bars(in_folder: Path) -> None:
    kinds = {**KINDS, "sound_scores": (Rows("sound"), ())}
    roles = {"face": "vggface/fc6", "context": "vgg16/fc6", "sound": "vggish/embedding"}
    views = {"vggface": "faces", "vgg16": "segments", "vggish": "sound"}
    result = experiment(roles=roles, reads=views, attention=kinds, head="hamf")
    for video in write_views(result):
        write_sound(video, 3.0)
    shown = page_of(result)
    assert "data:image" in shown and "<audio" in shown
    found, inputs = section_of(result, faces="leave out")
    page = drawn(found, inputs)
    assert "data:image" not in page and "data:audio" not in page and "<audio" not in page
    assert "<img" not in page and "seen-pose" not in page
    cells = [c for card in found.content.shown[0].cards for s in card.strips for c in s.cells]
    assert cells and all(cell.bars and cell.time and not cell.pose for cell in cells)
    report = files(inputs, summary(inputs), [found])
    plates = {path: data for path, data in report.items() if path.endswith(".svg")}
    assert plates and not any(b"<image" in data for data in plates.values())


def test_blur_leaves_no_detail_where_a_face_is_in_any_picture(in_folder: Path) -> None:
    import io

    from PIL import Image

    result = experiment()
    write_views(result)
    clear, blurred = (content_of(result, faces=faces).sheets for faces in ("show", "blur"))
    assert len(clear) == len(blurred)
    for before, after in zip(clear, blurred, strict=True):
        one, other = (
            np.stack(np.split(np.asarray(Image.open(io.BytesIO(s.data))).astype(float), s.count, 1))
            for s in (before, after)
        )
        height, width = one.shape[1:3]
        is_crop = before.frame == (224, 224)
        top, bottom, left, right = (0, 1, 0, 1) if is_crop else (0.12, 0.7, 0.15, 0.6)
        rows = slice(int(top * height) + 2, int(bottom * height) - 2)
        columns = slice(int(left * width) + 2, int(right * width) - 2)
        seen = slice(0, 5)  # in the last row no face was found
        detail = [np.abs(np.diff(p[seen, rows, columns], axis=2)).mean() for p in (one, other)]
        assert detail[0] > 15 and detail[1] < 4
        if not is_crop:
            assert np.abs(np.diff(other[5], axis=1)).mean() < 4  # blurred whole


# ------------------------------------------------------------------------------ other kinds


def test_maps_lie_where_the_network_looked_and_relations_are_drawn(in_folder: Path) -> None:
    names = ("location", "relation", "relation_query", "relation_key")
    kinds: dict[str, Any] = {f"frame_{name}": (Rows("frame"), (7, 7)) for name in names}
    kinds["frame_frame_scores"] = (Rows("frame"), ())
    result = experiment(
        head="rdam",
        roles={"frame": "resnet50/res5"},
        reads={"resnet50": "segments"},
        attention=kinds,
    )
    write_views(result)
    card = content_of(result).shown[0].cards[0]
    (strip,), (related,) = card.strips, card.related
    assert strip.attention == "frame_frame_scores" and strip.heat and strip.box
    # 60 x 80 becomes 256 x 341, of which the middle 224 are seen
    assert strip.box.left == pytest.approx(58 / 341, abs=0.005)
    assert strip.box.height == pytest.approx(224 / 256)
    assert [cell.heat for cell in strip.cells] == [0, 1, 2, 3, 4, 5]
    assert len(related.relations) == 6 and related.heat and "strongest relations" in related.alt
    page = page_of(result)
    assert page.count("seen-large p") == len(content_of(result).shown[0].cards)
    result.about["features"]["resnet50"]["module"] = "mine"
    card = content_of(result).shown[0].cards[0]
    assert card.strips[0].heat is None and card.related == ()


def test_the_skeleton_lies_over_the_frame(in_folder: Path) -> None:
    kinds = {"visual_weights": (Rows("visual"), ()), "skeleton_weights": (Rows("skeleton"), ())}
    roles = {"visual": "vgg16/fc6", "skeleton": "pose/landmarks"}
    views = {"vgg16": "segments", "pose": "uniform"}
    result = experiment(
        head="mmf", roles=roles, reads=views, modules={"pose": "blazepose"}, attention=kinds
    )
    landmarks = np.full((6, 33, 3), 0.25, np.float32)
    landmarks[:, 12] = 0.75
    valid = np.array([True] * 5 + [False])
    for video in write_views(result):
        write_view("uniform", video, noise(6, 60, 80), PTS_S)
        data = {"landmarks": landmarks, "visibility": np.ones((6, 33), np.float32), "valid": valid}
        index = np.rint(PTS_S * 25).astype(np.int64)
        path = Path(f"data/features/pose/{video}.h5")
        arrays.write(path, {**data, "index": index}, {}, arrays.COMPACT)
    strips = {strip.role: strip for strip in content_of(result).shown[0].cards[0].strips}
    assert [bool(cell.pose) for cell in strips["skeleton"].cells] == valid.tolist()
    assert not any(cell.pose for cell in strips["visual"].cells)
    assert "M250 250L750 750" in strips["skeleton"].cells[0].pose
    shutil.rmtree("data/features")
    card = content_of(result).shown[0].cards[0]
    assert not any(cell.pose for strip in card.strips for cell in strip.cells)


def sound_experiment(rows: int = 3, **options: Any) -> Result:
    """Write an experiment that weighs the sound, rows of half a second."""
    return experiment(
        head="hamf",
        roles={"sound": "vggish/embedding"},
        reads={"vggish": "sound"},
        attention={"sound_scores": (Rows("sound"), ())},
        rows=rows,
        **options,
    )


def test_a_sound_has_its_shape_its_weights_in_time_and_one_player(in_folder: Path) -> None:
    first, second = sound_experiment(), sound_experiment(name="again")
    for row in first.predictions:
        write_sound(str(row["video_id"]), 2.0)
    content = content_of(first, second)
    ((wave,), *_) = [card.waves for card in content.shown[0].cards]
    (stretches,) = wave.attentions.values()
    assert [(part.left, part.width, part.time) for part in stretches] == [
        (0, 25, "0.0 s"),
        (25, 25, "0.5 s"),
        (50, 25, "1.0 s"),
    ]
    assert wave.path.startswith("M0 ") and wave.end == "2.0 s"
    page = page_of(first, second)
    videos = {card.choice.answer[1] for one in content.shown for card in one.cards}
    assert page.count("<audio") == len(videos)
    links = set(re.findall(r'href="#(sound-\d+)"', page))
    assert links and links <= set(re.findall(r'id="(sound-\d+)"', page))


def test_a_video_without_sound_or_file_has_bars_alone(in_folder: Path) -> None:
    result = sound_experiment()
    card = content_of(result).shown[0].cards[0]
    assert card.waves[0].path == "" and card.waves[0].player is None
    assert len(card.waves[0].attentions["sound: sound_scores"]) == 3
    page_of(result)


# ---------------------------------------------------------------------------------- sample


def plant(videos: Sequence[str], frames: tuple[int, int], *modalities: str) -> None:
    """Write a truth in which all videos show their class in the same frames."""
    start, stop = frames
    part = {"start_frame": start, "stop_frame": stop, "start_s": start / 25, "stop_s": stop / 25}
    clip = {"modalities": list(modalities), "intervals": [part], "face_absent": None}
    Path("data").mkdir(exist_ok=True)
    Path("data/sample_truth.json").write_text(
        json.dumps({"about": "", "fps": 25, "clips": dict.fromkeys(videos, clip)})
    )


def test_the_samples_rows_are_marked_and_ranked_over_all_videos(in_folder: Path) -> None:
    result = experiment()
    videos = write_views(result, run=None)
    plant(videos, (12, 30), "face")  # rows 1 and 2
    found, inputs = section_of(result, root=SAMPLE)
    strip = found.content.shown[0].cards[0].strips[0]
    assert [cell.is_planted for cell in strip.cells] == [False, True, True, False, False, False]
    assert "2 rows planted, from 0.5 to 1.0 s" in strip.alt
    assert found.content.shown[0].cards[0].planted_roles == {"face", "context"}
    rows = {(row[1], row[2]): row for row in found.tables["attention AUC"].rows}
    auc, low, high, count = rows["rows of face", "frame_scores"][3:]
    aucs = []
    for video in videos:
        weights = np.array(
            [
                row["value"]
                for row in arrays_of(result)
                if row["video_id"] == video and row["name"] == "frame_scores"
            ]
        )[:5]  # the last row has no face
        pairs = [(a, b) for a in weights[1:3] for b in np.delete(weights, [1, 2])]
        aucs.append(np.mean([(a > b) + 0.5 * (a == b) for a, b in pairs]))
    assert (auc, count) == (pytest.approx(np.mean(aucs)), len(videos))
    assert low < auc < high
    page = drawn(found, inputs)
    assert "planted: here the sample shows the class" in " ".join(Tags(page).words)


def test_a_modality_without_the_class_is_marked_nowhere(in_folder: Path) -> None:
    result = experiment()
    plant(write_views(result, run=None), (12, 30), "sound")
    found, _ = section_of(result, root=SAMPLE)
    cells = found.content.shown[0].cards[0].strips[0].cells
    assert not any(cell.is_planted for cell in cells)
    assert "attention AUC" not in found.tables


def test_other_videos_than_the_samples_have_no_truth(in_folder: Path) -> None:
    result = experiment()
    plant(write_views(result, run=None), (12, 30), "face")
    found, _ = section_of(result, root=Path("data/raw"))
    assert not found.content.is_planted and "attention AUC" not in found.tables
    assert not any(c.is_planted for c in found.content.shown[0].cards[0].strips[0].cells)


def test_the_weights_of_a_sound_are_ranked_by_time(in_folder: Path) -> None:
    result = sound_experiment(rows=4)
    videos = sorted({str(row["video_id"]) for row in result.predictions})
    plant(videos, (12, 26), "sound")  # of rows of 0.5 s, the second
    for video in videos:
        write_sound(video, 2.0)
    found, _ = section_of(result, root=SAMPLE)
    (stretches,) = found.content.shown[0].cards[0].waves[0].attentions.values()
    assert [part.is_planted for part in stretches] == [False, True, False, False]
    assert found.tables["attention AUC"].rows[0][6] == len(videos)
