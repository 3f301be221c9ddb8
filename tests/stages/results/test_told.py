"""Labels and dimensions on the page, at the end of a run and compared."""

import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml

from features.cache import tables
from heads import Attention, Roles, Rows
from heads.training.targets import Target
from stages.results import figures
from stages.results.chosen import ASKED, NEAREST, RIGHT, TOO_HIGH, UNCERTAIN, WRONG, choose
from stages.results.closing import closing
from stages.results.compare import compare, tell
from stages.results.files import Result
from stages.results.sections import attention, dimensions, labels, search, sections, training
from stages.results.sections.dimensions import agreement
from stages.results.summary import summary
from stages.results.told import arrays_of, run_scores
from tests.clones import PROJECT
from tests.stages.results.made_page import Text, inputs_of, page_of
from tests.stages.results.made_results import write_result, write_told

LABELS = Target("labels", ("joy", "fear", "calm"), None, "feelings")
ROLES: dict[str, tuple[Attention, tuple[int, ...]]] = {
    "modality": (Roles(("face", "sound")), (2,)),
    "frame_scores": (Rows("face"), ()),
}
WEIGHED: dict[str, Any] = {"attention": {"frame_scores": (Rows("face"), ())}}
VALENCE = Target("dimensions", ("valence", "arousal"), (1.0, 9.0), "affect")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    folder = tmp_path_factory.mktemp("results")
    made = [
        write_result(folder, "caan"),
        write_told(folder, "several", LABELS),
        write_told(folder, "several_worse", LABELS, noise=0.8, seed=1),
        write_told(folder, "affect", VALENCE, noise=0.1),
        write_told(folder, "affect_worse", VALENCE, noise=0.4, seed=1),
    ]
    return {result.name: result for result in made}


def test_the_files_name_what_they_measure(results: dict[str, Result]) -> None:
    folder = results["caan"].folder.parent
    shown = {n: list(json.loads((folder / f"{n}.json").read_text())) for n in results}
    assert shown["several"] == [
        *("mAP", "mAP_low", "mAP_high", "macro_f1", "settings_tried"),
    ]
    assert shown["affect"] == ["CCC", "CCC_low", "CCC_high", "RMSE", "Pearson", "settings_tried"]
    assert shown["caan"][0] == "accuracy" and "accuracy" not in shown["affect"]
    rows = tables.read(folder / "affect" / "predictions.parquet")
    assert list(rows[0]) == [
        "run", "video_id", "true_valence", "true_arousal", "predicted_valence", "predicted_arousal"
    ]  # fmt: skip
    first = tables.read(folder / "several" / "predictions.parquet")[0]
    assert first["label"] == "joy|fear|calm"
    chances = {name: float(str(first[f"p_{name}"])) for name in LABELS.names}
    assert first["predicted"] == "|".join(n for n, chance in chances.items() if chance >= 0.5)
    assert (folder / "affect" / "confusion.csv").read_text() == "actual,predicted\n"
    plots = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]["train"]["do"]["plots"]
    drawn = {Path(file).name: plot for each in plots for file, plot in each.items()}
    for name in results:
        for file, plot in drawn.items():
            columns = (folder / name / file).read_text().splitlines()[0].split(",")
            assert {plot["x"], plot["y"]} <= {*columns}, "else DVC warns, and draws nothing"


def test_what_was_told_is_read_back_with_its_scores(results: dict[str, Result]) -> None:
    for name, measure in (("several", "mAP"), ("affect", "CCC"), ("caan", "accuracy")):
        result = results[name]
        mean = np.mean(list(run_scores(result).values()))
        assert mean == pytest.approx(result.metrics[measure]["mean"], abs=1e-5), name
    truth, _ = arrays_of(results["several"])["split_00"]
    assert truth[0].tolist() == [1, 1, 1] and truth.shape == (40, 3)


def test_each_kind_has_its_section_and_no_ranking_has_two(results: dict[str, Result]) -> None:
    made = {s.title: s for s in sections(inputs_of(*results.values()))}
    accuracy = made["Accuracy"].tables["accuracy"]
    assert [row[0] for row in accuracy.rows] == ["caan"]
    several = made["Labels"].tables["labels"]
    assert [row[0] for row in several.rows] == ["several", "several_worse"]
    assert several.rows[0][1][0] == pytest.approx(results["several"].metrics["mAP"]["mean"])
    each = made["Labels"].tables["label-scores"].rows
    ap = results["several"].metrics["per_label"]["fear"]["ap"]
    assert each[1][:3] == ("several", "fear", ap)
    rows = made["Dimensions"].tables["dimension-scores"].rows
    assert [row[:2] for row in rows[:2]] == [("affect", "valence"), ("affect", "arousal")]
    assert rows[1][2] == results["affect"].metrics["per_dimension"]["arousal"]["CCC"]
    without = {s.title for s in sections(inputs_of(results["affect"]))}
    assert "Dimensions" in without and not without & {"Accuracy", "Confusion", "Labels"}


@pytest.mark.parametrize(("target", "module"), [(LABELS, labels), (VALENCE, dimensions)])
def test_a_single_run_has_an_interval_over_its_videos(
    target: Target, module: ModuleType, tmp_path: Path
) -> None:
    result = write_told(tmp_path, "alone", target, runs=1)
    score = result.metrics[target.measure]
    low, high = score["ci95_bootstrap_low"], score["ci95_bootstrap_high"]
    assert low < score["mean"] < high
    table = module.section(inputs_of(result)).tables[module.TITLE.lower()]
    form = f"{low:.3f} to {high:.3f}" if target is VALENCE else f"{100 * low:.1f} to "
    assert form in table.markdown()
    text = Text(page_of(inputs_of(result), module))
    assert "the middle of 9,999 bootstrap resamples" in text and "Nadeau" not in text
    shown = json.loads((tmp_path / "alone.json").read_text())
    assert (shown[f"{target.measure}_low"], shown[f"{target.measure}_high"]) == (low, high)
    assert "over its test videos" in closing(Path("data/raw"), [result])[0].plain


def test_training_is_shown_by_the_measure_of_each_target(results: dict[str, Result]) -> None:
    page = training.section(inputs_of(*results.values()))
    heads = {name: [c.name for c in table.columns[4:]] for name, table in page.tables.items()}
    assert heads == {
        "training": ["training accuracy, %", "validation accuracy, %"],
        "training labels": ["training mAP, %", "validation mAP, %"],
        "training dimensions": ["training CCC", "validation CCC"],
    }
    assert page.tables["training dimensions"].rows == [
        (name, "all", 2, 0.5, 0.5, 0.375) for name in ("affect", "affect_worse")
    ]
    assert set(page.figures) == {f"training {name}" for name in results}
    below = page.figures["training affect"].axes[1]
    lines = {str(line.get_label()): list(line.get_ydata()) for line in below.lines}
    assert lines["training"] == [-0.25, 0.5] and lines["validation"] == [0.125, 0.375]
    assert below.get_ylabel() == "CCC" and below.get_ylim()[0] < -0.25 < 1 < below.get_ylim()[1]
    assert page.figures["training several"].axes[1].get_ylabel() == "mAP, %"
    text = Text(page_of(inputs_of(*results.values()), training))
    assert "Loss and CCC after the last epoch" in text


def test_telling_videos_of_labels_are_shown_for_each(tmp_path: Path) -> None:
    result = write_told(tmp_path, "several", LABELS, attention=ROLES)
    truths = {"v0": "joy", "v1": "joy", "v2": "", "v3": "joy|fear", "v4": "fear"}
    told = {"v0": (0.9, 0.1), "v1": (0.2, 0.1), "v2": (0.8, 0), "v3": (0.6, 0.55), "v4": (0, 0.7)}
    result.predictions[:] = [
        {
            "run": "split_00", "video_id": f"all/{video}", "label": truths[video],
            "predicted": "|".join(n for n, p in zip(LABELS.names, (*chances, 0), strict=True)
                                  if p >= 0.5),
            "p_joy": chances[0], "p_fear": chances[1], "p_calm": 0.01,
        }
        for video, chances in told.items()
    ]  # fmt: skip
    choices = choose(result, ["all/v2"], 9)
    assert [(c.answer[1][4:], c.why, c.of) for c in choices] == [
        ("v2", ASKED, ""),
        ("v0", RIGHT, "joy"),
        ("v4", RIGHT, "fear"),
        ("v1", WRONG, "joy"),
        ("v3", UNCERTAIN, "joy"),
    ]
    assert (choices[0].label, choices[0].predicted, choices[0].detail) == (
        "none",
        "joy",
        "(joy 80 %)",
    )
    last = choices[-1]
    assert (last.label, last.predicted, last.detail) == (
        *("joy, fear", "joy, fear"), "(joy 60 %, fear 55 %)"
    )  # fmt: skip


def test_telling_videos_of_dimensions_are_shown_for_each(tmp_path: Path) -> None:
    result = write_told(tmp_path, "affect", VALENCE, attention=ROLES)
    pairs = {"v0": (5, 5.1, 2, 2), "v1": (4, 7, 6, 5.5), "v2": (8.25, 6, 3, 4), "v3": (2, 2, 8, 4)}
    names = ("true_valence", "predicted_valence", "true_arousal", "predicted_arousal")
    result.predictions[:] = [
        {"run": "split_00", "video_id": f"all/{video}", **dict(zip(names, values, strict=True))}
        for video, values in pairs.items()
    ]
    choices = choose(result, [], 9)
    assert [(c.answer[1][4:], c.why, c.of) for c in choices] == [
        ("v3", NEAREST, "valence"),
        ("v0", NEAREST, "arousal"),
        ("v1", TOO_HIGH, "valence"),
        ("v2", TOO_HIGH, "arousal"),
    ]
    assert choices[2].label == "valence 4, arousal 6"
    assert choices[3].predicted == "valence 6, arousal 4" and not choices[3].chances


@pytest.mark.parametrize("target", [LABELS, VALENCE])
def test_attention_is_shown_with_what_is_told(target: Target, tmp_path: Path) -> None:
    result = write_told(tmp_path, "told", target, attention=ROLES)
    page = attention.section(inputs_of(result))
    assert page is not None
    (shown,) = page.content.shown
    names = [card.choice.of for card in shown.cards]
    assert names == sorted(names, key=target.names.index) and set(names) == set(target.names)
    means = page.tables["attention told"]
    sides = [f"{name} {side} 5" for name in ("arousal", "valence") for side in ("above", "to")]
    groups = sides if target is VALENCE else ["calm", "fear", "joy", "none"]
    assert [row[0] for row in means.rows] == groups
    weights = {row[:2]: row[2] for row in weights_of(result)}
    of_first = {
        str(row["video_id"]): weights[str(row["video_id"]), "face"]
        for row in result.predictions
        if (float(str(row["true_arousal"])) > 5 if target is VALENCE else
            "calm" in str(row["label"]))
    }  # fmt: skip
    assert means.rows[0][1] == pytest.approx(np.mean(list(of_first.values())))
    html = page_of(inputs_of(result), attention)
    assert ("told nearest" if target is VALENCE else "most confidently given") in html
    assert "Of each class" not in html
    first = shown.cards[0].choice
    assert f"true <b>{first.label}</b>," in html and f"answered <b>{first.predicted}</b>" in html


def weights_of(result: Result) -> list[tuple[str, str, float]]:
    """Return video, role and weight of an attention over roles; every video is in one run."""
    rows = tables.read(result.folder / "attention.parquet")
    return [
        (str(row["video_id"]), str(row["role"]), float(str(row["value"])))
        for row in rows
        if row["name"] == "modality"
    ]


@pytest.mark.parametrize("target", [LABELS, VALENCE])
def test_the_page_has_corpora_by_corpora_of_each_target(target: Target, tmp_path: Path) -> None:
    result = write_told(tmp_path, "told", target, runs=1)
    sides = [(str(row["video_id"]), "test", ("crema", "savee")[n % 2])
             for n, row in enumerate(result.predictions)]  # fmt: skip
    rows = [
        {"video_id": video, "label": "all", "status": "ok", "reason": None, "corpus": corpus,
         "split_00": side, "pixels": None}
        for video, side, corpus in [*sides, ("all/x", "train", "ravdess")]
    ]  # fmt: skip
    shown = {s.title: s for s in sections(inputs_of(result, videos=rows))}["Corpora"]
    ((by, *values),) = shown.tables["corpora-of-told"].rows
    assert by == "ravdess" and [values[1], values[3], values[5]] == [20, None, 20]
    assert f"told: {target.measure} on each corpus" in shown.tables["corpora-of-told"].caption


def test_a_search_has_the_test_score_by_the_measure_that_chose(results: dict[str, Result]) -> None:
    trials = [{"score": 0.25, "loss": 0.0}, {"score": 0.5, "loss": 0.0}]
    of_run = {"chosen": 1, "settings": {"epochs": 3}, "held_out": 8, "trials": trials}
    affect = results["affect"]
    searched = replace(
        affect,
        about=affect.about | {"search": {"tried": 2, "held_out": 0.2, "seed": 1, "space": {}}},
        search={
            "tried": 2,
            "measure": "CCC",
            "settings": [{"epochs": 2}, {"epochs": 3}],
            "runs": dict.fromkeys(affect.runs, of_run),
        },
    )
    page = search.section(inputs_of(searched))
    assert page is not None
    tests = {row[1]: row[-1] for row in page.tables["search"].rows}
    assert tests == run_scores(affect)
    assert {row[5] for row in page.tables["search-trials"].rows} == {None}, "no cross-entropy"


def test_agreement_is_that_of_bland_and_altman() -> None:
    truth, told = np.array([1.0, 2, 3, 4]), np.array([2.0, 2, 5, 4])
    assert agreement(truth, told) == pytest.approx(
        (
            0.75,
            0.75 - 1.96 * np.std([1, 0, 2, 0], ddof=1),
            0.75 + 1.96 * np.std([1, 0, 2, 0], ddof=1),
        )
    )


def test_a_class_that_is_declared_is_shown_as_one_that_is_not(tmp_path: Path) -> None:
    plain, declared = (
        {section.title: section for section in sections(inputs_of(result))}
        for result in (
            write_result(tmp_path / "plain", "caan", **WEIGHED),
            write_result(tmp_path / "declared", "caan", declared="emotion", **WEIGHED),
        )
    )
    assert list(plain) == list(declared) and {"Confusion", "Attention"} <= plain.keys()
    for title, section in plain.items():
        assert section.tables == declared[title].tables, title


def test_figures_say_in_words_what_they_draw(results: dict[str, Result]) -> None:
    page = dimensions.section(inputs_of(results["affect"]))
    assert page is not None
    (figure,) = page.figures.values()
    assert len(figure.axes) == 4, "true and told, and their agreement, of each dimension"
    alt = str(figure.get_label())
    assert "valence: CCC 0." in alt and "arousal" in alt and "limits of agreement" in alt
    told = arrays_of(results["affect"])["split_00"][1]
    drawn = np.concatenate([line.get_ydata() for line in figure.axes[0].lines[:1]])
    assert drawn[:40] == pytest.approx(told[:, 0])
    assert "<svg" in figures.inline(figures.svg(figure, "a"), "a", alt)
    of_labels = labels.section(inputs_of(results["several"]))
    assert of_labels is not None
    assert "3 labels in 1 experiments" in str(of_labels.figures["labels"].get_label())


def test_the_top_and_the_end_have_a_best_of_each_measure(results: dict[str, Result]) -> None:
    top = summary(inputs_of(*results.values()))
    assert [(best.measure, best.name) for best in top.best] == [
        ("accuracy", "caan"), ("mAP", "several"), ("CCC", "affect")
    ]  # fmt: skip
    assert top.told == ["feelings: any of joy, fear, calm", "affect: valence, arousal from 1 to 9"]
    assert "accuracy, mAP, CCC measure different things and are not to be compared." in top.limits
    lines = [line.plain for line in closing(Path("data/raw"), list(results.values()))]
    ccc = results["affect"].metrics["CCC"]
    assert any(
        line.startswith(f"best:   affect, CCC {ccc['mean']:.2f}, 95 % interval") for line in lines
    )
    assert "affectline compare affect affect_worse" in lines[-1]
    alone = summary(inputs_of(results["affect"]))
    assert alone.classes == [] and [best.measure for best in alone.best] == ["CCC"]


def test_only_what_is_measured_alike_is_compared(results: dict[str, Result]) -> None:
    with pytest.raises(ValueError, match="affect is measured by CCC of affect .* by mAP of feelin"):
        compare(results["affect"], results["several"])
    made = compare(results["affect"], results["affect_worse"])
    first, second = (run_scores(results[name]) for name in ("affect", "affect_worse"))
    assert made.runs == {run: (first[run], second[run]) for run in first}
    gap = np.mean(list(first.values())) - np.mean(list(second.values()))
    assert f"affect - affect_worse: {gap:+.3f} CCC" in tell(made)[0]
    of_one = [replace(results[name], predictions=[r for r in results[name].predictions
              if r["run"] == "split_00"]) for name in ("affect", "affect_worse")]  # fmt: skip
    with pytest.raises(ValueError, match="a single run, whose difference in CCC has no test"):
        compare(*of_one)
