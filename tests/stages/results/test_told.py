"""Labels and dimensions on the page, at the end of a run and compared."""

import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from features.cache import tables
from heads import Rows
from heads.training.targets import Target
from stages.results import figures
from stages.results.closing import closing
from stages.results.compare import compare, tell
from stages.results.files import Result
from stages.results.sections import dimensions, labels, sections
from stages.results.sections.dimensions import agreement
from stages.results.summary import summary
from stages.results.told import arrays_of, run_scores
from tests.stages.results.made_page import Text, inputs_of, page_of
from tests.stages.results.made_results import write_result, write_told

LABELS = Target("labels", ("joy", "fear", "calm"), None, "feelings")
WEIGHED = {"attention": {"frame_scores": (Rows("face"), ())}}
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
    assert "CCC" in (folder / "affect" / "curves.csv").read_text().splitlines()[0]


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
    assert several.rows[0][2][0] == pytest.approx(results["several"].metrics["mAP"]["mean"])
    each = made["Labels"].tables["label-scores"].rows
    ap = results["several"].metrics["per_label"]["fear"]["ap"]
    assert each[1][:3] == ("several", "fear", ap)
    rows = made["Dimensions"].tables["dimension-scores"].rows
    assert [row[:2] for row in rows[:2]] == [("affect", "valence"), ("affect", "arousal")]
    assert rows[1][2] == results["affect"].metrics["per_dimension"]["arousal"]["CCC"]
    without = {s.title for s in sections(inputs_of(results["affect"]))}
    assert "Dimensions" in without and not without & {"Accuracy", "Confusion", "Labels", "Training"}


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
