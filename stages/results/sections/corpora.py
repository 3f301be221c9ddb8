"""Corpora: what heads that one corpus has trained know of another."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from features.cache import tables
from stages.results.files import Result
from stages.results.page import Inputs, Section
from stages.results.scores import chosen
from stages.results.table import Column, Table

TITLE = "Corpora"

OTHERS = "all others"
"""What trained a run, where that is several corpora."""

Cell = tuple[float, int]
"""Accuracy in 0..1 and number of test videos."""

Matrix = Mapping[str, Mapping[str, Cell]]
"""Corpus that has trained, or `OTHERS` -> corpus that is tested -> what came out."""


def section(inputs: Inputs) -> Section | None:
    """Return the section; None where the videos are not crossed by corpus."""
    usable = [row for row in inputs.videos if row["status"] == "ok"]
    if not usable or "corpus" not in usable[0]:
        return None
    corpora = sorted({str(row["corpus"]) for row in usable})
    matrices = {result.name: matrix(result, usable) for result in inputs.results}
    shown = {f"corpora-of-{result.name}": _table(result, matrices[result.name], corpora)
             for result in chosen(inputs.results)}  # fmt: skip
    content = {
        "experiments": {
            result.name: f"corpora-of-{result.name}" for result in chosen(inputs.results)
        },
        "more": len(inputs.results) - len(shown),
        "left_out": sum(row.get("class", "") is None for row in usable),
        "videos": len(usable),
    }
    shown["corpora"] = _all(inputs.results, matrices, corpora)
    shown["corpora-classes"] = _classes(usable, corpora)
    return Section(TITLE, "corpora.html", content, shown)


def matrix(result: Result, rows: Sequence[tables.Row]) -> Matrix:
    """Return the accuracy of a result by the corpus that trained and the one that was tested.

    Args:
        result: of an experiment.
        rows: usable ones of the index, with ``corpus``.
    """
    corpus = {str(row["video_id"]): str(row["corpus"]) for row in rows}
    trained = {
        run: {str(row["corpus"]) for row in rows if row.get(run) == "train"} for run in result.runs
    }
    right: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for answer in result.predictions:
        by = trained[str(answer["run"])]
        name = next(iter(by)) if len(by) == 1 else OTHERS
        right[name][corpus[str(answer["video_id"])]].append(answer["label"] == answer["predicted"])
    return {
        by: {of: (sum(answers) / len(answers), len(answers)) for of, answers in cells.items()}
        for by, cells in sorted(right.items())
    }


def _table(result: Result, cells: Matrix, corpora: Sequence[str]) -> Table:
    """Return one experiment's corpora by corpora."""
    columns = [Column("trained on")]
    for name in corpora:
        columns += [Column(f"{name}, %", "percent", heat=True), Column(f"n of {name}", "count")]
    lines = [
        (by, *(value for name in corpora for value in of.get(name, (None, None))))
        for by, of in cells.items()
    ]
    chance = result.metrics["chance"]
    caption = f"{result.name}: accuracy on each corpus, by what it was trained on; chance"
    return Table(tuple(columns), lines, f"{caption} {100 * chance:.1f} %")


def _all(
    results: Sequence[Result], matrices: Mapping[str, Matrix], corpora: Sequence[str]
) -> Table:
    """Return a row for each pair of corpora of each experiment."""
    columns = (
        Column("experiment"),
        Column("trained on"),
        Column("tested on"),
        Column("accuracy, %", "percent"),
        Column("videos", "count"),
        Column("chance, %", "percent"),
    )
    lines = [
        (result.name, by, name, *of[name], result.metrics["chance"])
        for result in results
        for by, of in matrices[result.name].items()
        for name in corpora
        if name in of
    ]
    return Table(columns, lines, "Accuracy of every experiment by corpus")


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
