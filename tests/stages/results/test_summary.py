from pathlib import Path

from stages.results.sections import settings
from stages.results.summary import summary
from tests.stages.results.made_page import VIDEOS, Text, inputs_of, page_of
from tests.stages.results.made_results import write_result


def test_the_top_has_the_data_and_the_best_with_its_interval(tmp_path: Path) -> None:
    results = [write_result(tmp_path, f"e{n}", accuracy=n / 3, videos=30) for n in range(3)]
    bad = {"video_id": "joy/bad", "label": "joy", "status": "failed", "reason": "empty"}
    page = page_of(inputs_of(*results, videos=[*VIDEOS, bad]), settings)
    top = Text(page[: page.index("<nav")])
    accuracy = results[2].metrics["accuracy"]
    assert f"Best accuracy {100 * accuracy['mean']:.1f} % e2; 95 % interval" in top
    low, high = (100 * accuracy[f"ci95_corrected_{end}"] for end in ("low", "high"))
    assert f"{low:.1f} to {high:.1f}; chance is 33.3" in top
    assert "37 videos HEIV; 1 not usable" in top and "3 experiments 3 runs each" in top


def test_the_top_says_what_its_numbers_do_not_show(tmp_path: Path) -> None:
    one = write_result(tmp_path, "one", runs=1)
    assert summary(inputs_of(one)).limits == [
        "There is one run, so nothing is known of how trainings and splits vary: the interval is "
        "about other videos alone."
    ]
    two = write_result(tmp_path, "two", runs=1, accuracy=1.0)
    assert summary(inputs_of(one, two)).limits[0].startswith("two is the best of 2 on the videos")


def test_void_comparisons_are_said_on_top(tmp_path: Path) -> None:
    result = write_result(tmp_path, "caan")
    assert "nothing about emotion" not in page_of(inputs_of(result), settings)
    page = page_of(inputs_of(result, root="data/sample", dataset=None), settings)
    top = Text(page[: page.index("<nav")])
    assert "built-in sample, one photograph" in top and "36 videos the built-in sample" in top
    page = page_of(inputs_of(write_result(tmp_path, "seeded", pretrained=False)), settings)
    assert "seeded weights" in Text(page[: page.index("<nav")])
