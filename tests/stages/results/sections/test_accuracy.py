from pathlib import Path

from stages.results.sections import accuracy
from tests.stages.results.made_page import Text, inputs_of, page_of, table_rows
from tests.stages.results.made_results import CLASSES, write_result


def test_accuracy_is_mean_deviation_and_interval(tmp_path: Path) -> None:
    result = write_result(tmp_path, "caan", videos=30)
    score = result.metrics["accuracy"]
    page = page_of(inputs_of(result), accuracy)
    ((name, spread, _strip, interval, *_),) = table_rows(page, "accuracy")
    assert name == "caan"
    assert spread == f"{100 * score['mean']:.1f} ± {100 * score['std']:.1f}"
    low, high = score["ci95_corrected_low"], score["ci95_corrected_high"]
    assert interval == f"{100 * low:.1f} to {100 * high:.1f}"
    text = Text(page)
    assert "the line its 95 % interval, corrected for the videos that the runs share" in text
    assert "(Nadeau and Bengio 2003)" in text
    assert "chance, 33.3 %" in text


def test_a_single_run_has_no_spread_and_an_interval_over_its_videos(tmp_path: Path) -> None:
    result = write_result(tmp_path, "caan", runs=1)
    page = page_of(inputs_of(result), accuracy)
    ((_, spread, _strip, interval, *_),) = table_rows(page, "accuracy")
    score = result.metrics["accuracy"]
    low, high = score["ci95_bootstrap_low"], score["ci95_bootstrap_high"]
    assert "±" not in spread and interval == f"{100 * low:.1f} to {100 * high:.1f}"
    text = Text(page)
    assert "A dot is a run" not in text
    assert "the middle of 9,999 bootstrap resamples of them (percentile method)" in text
    (wrong,) = table_rows(
        page_of(inputs_of(write_result(tmp_path, "wrong", runs=1, accuracy=0.0)), accuracy),
        "accuracy",
    )
    assert wrong[3] == "–", "resamples of videos that are all wrong do not differ"


def test_where_classes_are_skewed_it_is_told_which_score_to_read(tmp_path: Path) -> None:
    skip = [f"{name}/v{run}{at:03d}" for run in range(3) for at in range(6) for name in CLASSES[1:]]
    skewed = write_result(tmp_path, "skewed", skip=skip, accuracy=0.5)
    page = page_of(inputs_of(skewed), accuracy)
    (row,) = table_rows(page, "accuracy")
    balanced = skewed.metrics["balanced_accuracy"]
    assert row[4] == f"{100 * balanced['mean']:.1f} ± {100 * balanced['std']:.1f}" != row[1]
    text = Text(page)
    assert "Classes are skewed: anger has 50% of the test videos, sadness 25%." in text
    assert "Read balanced accuracy" in text
    assert "which says" not in text and "By chance it is 33.3 %" in text
    even = Text(page_of(inputs_of(write_result(tmp_path, "even")), accuracy))
    assert "balanced accuracy, the mean recall of the classes, says what accuracy says" in even


def test_a_strip_has_a_dot_a_run_where_its_accuracy_is(tmp_path: Path) -> None:
    result = write_result(tmp_path, "caan", videos=20, runs=4)
    (row,) = accuracy.section(inputs_of(result)).tables["accuracy"].rows
    strip = row[2]
    right: dict[object, list[bool]] = {}
    for answer in result.predictions:
        right.setdefault(answer["run"], []).append(answer["label"] == answer["predicted"])
    assert sorted(strip.dots) == sorted(sum(each) / 20 for each in right.values())
    page = page_of(inputs_of(result), accuracy)
    assert all(f'<i style="left:{100 * dot:.1f}%">' in page for dot in strip.dots)
    assert '<s style="left:33.3%">' in page


def test_the_page_says_which_network_answered(tmp_path: Path) -> None:
    first = write_result(tmp_path, "caan")
    page = page_of(inputs_of(first), accuracy)
    assert "In every run: the network of the last epoch answers." in Text(page)
    second = write_result(tmp_path, "face", selection="epoch with the best accuracy on 10%")
    text = Text(page_of(inputs_of(first, second), accuracy))
    assert "caan: the network of the last epoch answers." in text
    assert "face: the network of the epoch with the best accuracy on 10% answers." in text


def test_the_figure_has_the_best_on_top_and_says_where_it_ends(tmp_path: Path) -> None:
    results = [
        write_result(tmp_path, f"e{n}", videos=9, runs=2, accuracy=n / 60, seed=n)
        for n in range(45)
    ]
    page = page_of(inputs_of(*results), accuracy)
    assert "As a figure: the best 40 of 45" in Text(page)
    figure = accuracy.section(inputs_of(*results)).figures["accuracy"]
    shown = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    means = {result.name: result.metrics["accuracy"]["mean"] for result in results}
    assert len(shown) == 40
    assert [means[name] for name in shown] == sorted(means.values(), reverse=True)[:40]


def test_what_all_experiments_have_alike_takes_no_column(tmp_path: Path) -> None:
    results = [write_result(tmp_path, f"e{n}", seed=n) for n in range(2)]
    text = Text(page_of(inputs_of(*results), accuracy))
    assert "Alike in all: settings tried 1, weights pretrained, videos 36." in text
    other = write_result(tmp_path, "other", pretrained=False)
    part = accuracy.section(inputs_of(*results, other))
    assert [column.name for column in part.tables["accuracy"].columns][-1] == "weights"
    assert [row[-1] for row in part.tables["accuracy"].rows] == ["pretrained"] * 2 + ["seeded"]
    for origin in other.about["features"].values():
        origin["module"] = "imported"  # what made such rows is not known here
    part = accuracy.section(inputs_of(*results, other))
    assert [row[-1] for row in part.tables["accuracy"].rows] == ["pretrained"] * 2 + ["imported"]
