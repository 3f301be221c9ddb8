"""Corpora: what heads that one corpus has trained know of another."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from math import isnan

import numpy as np
from numpy.typing import NDArray

from features.cache import tables
from heads.training.scores import dimension_scores, label_scores
from heads.training.targets import BETWEEN, Target
from stages.results.files import Result
from stages.results.page import Inputs, Section
from stages.results.table import Column, Table
from stages.results.told import by_kind, drawn_of

TITLE = "Corpora"

OTHERS = "all others"
"""What trained a run, where that is several corpora."""

Cell = tuple[float | None, int]
"""What the target is measured by, None where that is undefined, and number of test videos."""

Matrix = Mapping[str, Mapping[str, Cell]]
"""Corpus that has trained, or `OTHERS` -> corpus that is tested -> what came out."""


def section(inputs: Inputs) -> Section | None:
    """Return the section; None where the videos are not crossed by corpus."""
    usable = [row for row in inputs.videos if row["status"] == "ok"]
    if not usable or "corpus" not in usable[0]:
        return None
    corpora = sorted({str(row["corpus"]) for row in usable})
    results = [result for of in by_kind(inputs.results) for result in of]
    matrices = {result.name: matrix(result, usable) for result in results}
    shown = {f"corpora-of-{result.name}": _table(result, matrices[result.name], corpora)
             for result in drawn_of(results)}  # fmt: skip
    content = {
        "tables": list(shown),
        "more": len(results) - len(shown),
        "left_out": sum(row.get("class", "") is None for row in usable),
        "videos": len(usable),
    }
    shown["corpora"] = _all(results, matrices, corpora)
    shown["corpora-classes"] = _classes(usable, corpora)
    return Section(TITLE, "corpora.html", content, shown)


def matrix(result: Result, rows: Sequence[tables.Row]) -> Matrix:
    """Return how well a result tells its target, by the corpus that trained and the one tested.

    Args:
        result: of an experiment.
        rows: usable ones of the index, with ``corpus``.
    """
    corpus = {str(row["video_id"]): str(row["corpus"]) for row in rows}
    trained = {
        run: {str(row["corpus"]) for row in rows if row.get(run) == "train"} for run in result.runs
    }
    answers: dict[str, dict[str, list[tables.Row]]] = defaultdict(lambda: defaultdict(list))
    for answer in result.predictions:
        by = trained[str(answer["run"])]
        name = next(iter(by)) if len(by) == 1 else OTHERS
        answers[name][corpus[str(answer["video_id"])]].append(answer)
    return {
        by: {of: (_measured(result.target, own), len(own)) for of, own in cells.items()}
        for by, cells in sorted(answers.items())
    }


def _measured(target: Target, answers: Sequence[tables.Row]) -> float | None:
    """Return accuracy of classes, mAP of labels, CCC of dimensions."""
    if target.kind == "class":
        return sum(row["label"] == row["predicted"] for row in answers) / len(answers)

    def columns(prefix: str) -> NDArray[np.float64]:
        rows = [[row[f"{prefix}{name}"] for name in target.names] for row in answers]
        return np.array(rows, dtype=np.float64)

    if target.kind == "dimensions":
        scores = dimension_scores(columns("true_"), columns("predicted_"), target.names)
    else:
        said = [str(row["label"]).split(BETWEEN) for row in answers]
        truth = np.array([[float(name in own) for name in target.names] for own in said])
        scores = label_scores(truth, columns("p_"), target.names)
    value = scores[target.measure]
    return None if isnan(value) else value


def _table(result: Result, cells: Matrix, corpora: Sequence[str]) -> Table:
    """Return one experiment's corpora by corpora."""
    measure, is_share = result.target.measure, result.target.kind != "dimensions"
    columns = [Column("trained on")]
    for name in corpora:
        cell = Column(f"{name}, %", "percent", heat=True) if is_share else Column(name, "share")
        columns += [cell, Column(f"n of {name}", "count")]
    lines = [
        (by, *(value for name in corpora for value in of.get(name, (None, None))))
        for by, of in cells.items()
    ]
    chance = Column("", "percent" if is_share else "share").show(result.metrics["chance"])
    caption = f"{result.name}: {measure} on each corpus, by what it was trained on; chance {chance}"
    return Table(tuple(columns), lines, f"{caption} %" if is_share else caption)


def _all(
    results: Sequence[Result], matrices: Mapping[str, Matrix], corpora: Sequence[str]
) -> Table:
    """Return a row for each pair of corpora of each experiment."""
    columns = (
        Column("experiment"),
        Column("trained on"),
        Column("tested on"),
        Column("measured by"),
        Column("value", "share"),
        Column("videos", "count"),
        Column("chance", "share"),
    )
    lines = [
        (result.name, by, name, result.target.measure, *of[name], result.metrics["chance"])
        for result in results
        for by, of in matrices[result.name].items()
        for name in corpora
        if name in of
    ]
    return Table(columns, lines, "How well every experiment does, by corpus")


def _classes(rows: Sequence[tables.Row], corpora: Sequence[str]) -> Table:
    """Return what each corpus calls a class, and how many videos it has of it."""
    counts = Counter(
        (str(row["corpus"]), str(row["label"]), row.get("class", row["label"])) for row in rows
    )
    columns = (
        Column("corpus"),
        Column("its class"),
        Column("counts as"),
        Column("videos", "count"),
    )
    ordered = sorted(counts.items(), key=lambda pair: (corpora.index(pair[0][0]), pair[0][1]))
    lines = [(*names, count) for names, count in ordered]
    return Table(columns, lines, "Classes of each corpus; what counts as none is left out")
