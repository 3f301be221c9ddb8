from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from features.cache import tables
from heads.training.scores import concordance
from heads.training.targets import Target
from stages.results.files import Result
from stages.results.sections import corpora
from stages.results.sections.corpora import OTHERS, matrix
from tests.stages.results.made_page import Text, inputs_of, page_of
from tests.stages.results.made_results import write_result

NAMES = ("crema", "ravdess", "savee")


def rows_of(train: str) -> list[tables.Row]:
    """Return two videos of two classes of each corpus, and one of a class that two lack."""
    rows: list[tables.Row] = []
    for corpus in NAMES:
        for number, label in enumerate(("joy", "joy", "fear", "fear")):
            row: tables.Row = {"video_id": f"{label}/{corpus}{number}", "label": label}
            row |= {"status": "ok", "reason": None, "corpus": corpus, "class": label}
            for of in NAMES:
                is_train = (of == corpus) == (train == "each")
                row[f"split_{of}"] = "train" if is_train else "test"
            rows.append(row)
    calm = rows[0] | {"video_id": "calm/crema", "label": "calm", "class": None}
    return [*rows, calm | {f"split_{of}": None for of in NAMES}]


def answered(result: Result, rows: list[tables.Row], wrong: set[tuple[str, str]]) -> Result:
    """Return a result that answers each test but those of (run, corpus) rightly, and half there."""
    answers: list[tables.Row] = []
    for run in (f"split_{name}" for name in NAMES):
        for row in rows:
            if row[run] == "test":
                is_wrong = (run, row["corpus"]) in wrong and row["label"] == "joy"
                told = "fear" if is_wrong else row["label"]
                answers.append({"run": run, "video_id": row["video_id"], "label": row["label"],
                                "predicted": told})  # fmt: skip
    about = result.about | {"splits": {f"split_{name}": {} for name in NAMES}}
    return replace(result, predictions=answers, about=about)


def test_accuracy_stands_by_the_corpus_that_trained_and_the_one_that_is_tested(
    tmp_path: Path,
) -> None:
    made = write_result(tmp_path, "caan")
    rows = rows_of("each")
    result = answered(made, rows, {("split_crema", "savee")})
    assert matrix(result, rows) == {
        "crema": {"ravdess": (1.0, 4), "savee": (0.5, 4)},
        "ravdess": {"crema": (1.0, 4), "savee": (1.0, 4)},
        "savee": {"crema": (1.0, 4), "ravdess": (1.0, 4)},
    }
    rows = rows_of("others")
    result = answered(made, rows, {("split_savee", "savee")})
    assert matrix(result, rows) == {
        OTHERS: {"crema": (1.0, 4), "ravdess": (1.0, 4), "savee": (0.5, 4)}
    }


def test_the_section_has_each_table_and_counts_who_is_left_out(tmp_path: Path) -> None:
    rows = rows_of("each")
    result = answered(write_result(tmp_path, "caan"), rows, {("split_crema", "savee")})
    inputs = inputs_of(result, videos=rows)
    section = corpora.section(inputs)
    assert section is not None
    assert section.tables["corpora-of-caan"].rows[0] == ("crema", None, None, 1.0, 4, 0.5, 4)
    line = ("caan", "crema", "savee", "accuracy", 0.5, 4, result.metrics["chance"])
    assert line in section.tables["corpora"].rows
    assert ("crema", "calm", None, 1) in section.tables["corpora-classes"].rows
    text = Text(page_of(inputs, corpora))
    assert "by what it was trained on; chance 33.3 %" in text
    assert "1 of 13 videos are in no run: not every corpus has their class" in text
    assert corpora.section(inputs_of(result)) is None, "of one corpus"


def test_labels_and_dimensions_are_measured_by_their_own(tmp_path: Path) -> None:
    rows = [row | {"class": "x"} for row in rows_of("others")[:-1]]
    made = answered(write_result(tmp_path, "caan"), rows, set())
    lines: list[tables.Row] = [
        {"run": row["run"], "video_id": row["video_id"], "true_a": n / 2, "predicted_a": n / 4,
         "label": ("p|q", "q")[n % 2], "predicted": "", "p_p": n / 9, "p_q": 0.5}
        for n, row in enumerate(made.predictions)
    ]  # fmt: skip
    crema = np.arange(4)
    for target, value in (
        (Target("dimensions", ("a",), (0.0, 6.0), "v"), concordance(crema / 2, crema / 4)),
        # of p the two false ones stand before and between the two true ones, q is always true
        (Target("labels", ("p", "q"), None, "v"), ((1 / 2 + 2 / 4) / 2 + 1) / 2),
    ):
        about = {name: value for name, value in made.about.items() if name != "classes"}
        result = replace(made, predictions=lines, about=about | target.stated())
        (by, cells), *_ = matrix(result, rows).items()
        assert by == OTHERS and cells["crema"] == (pytest.approx(value), 4)
        section = corpora.section(inputs_of(result, videos=rows))
        assert section is not None
        assert f"caan: {target.measure} on each" in section.tables["corpora-of-caan"].caption
