"""Results: what an experiment leaves, written by train and read by report.

``<experiment>.json`` holds the few numbers that ``dvc metrics`` and ``dvc exp show`` show.
In the folder ``<experiment>``:

``scores.json``
    all numbers over the runs: what `heads.training.metrics.over_runs` gives, chance, videos.
``about.json``
    head, settings, where the features came from, the paper's numbers, videos left out.
``predictions.parquet``
    a row a run and test video, with the probability of every class or label, or what was told of
    every dimension.
``attention.parquet``
    a row for each weight that the head gave: to a row of a test video (``row``, ``pts_s``), as a
    number (``value``) or a map (``map``, flattened, of the shape ``shape``), or to a role.
``per_class.csv``, ``curves.csv``, ``confusion.csv``
    scores of each class, training curves, and label beside prediction (for ``dvc plots``).
``runs.parquet`` and ``runs/``
    the items, two files a run: answers and checkpoint; of a search a file a trial, in
    ``runs/trials/<run>/``, and ``runs/search.json``: every trial with its score, the chosen one of
    each run (`heads.training.search.record`).
"""

import csv
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import heads
from features.cache import arrays, tables
from heads import Head, Reported
from heads.training.scores import measured_of
from heads.training.targets import Target, of_stated
from stages.engine.progress import reason

ATTENTION = {
    "video_id": pa.string(),
    "run": pa.string(),
    "name": pa.string(),
    "role": pa.string(),
    "row": pa.int32(),
    "pts_s": pa.float64(),
    "value": pa.float32(),
    "map": pa.list_(pa.float32()),
    "shape": pa.list_(pa.int32()),
}

SEARCH = Path("runs") / "search.json"
"""In an experiment's folder."""

CURVES = ("run", "epoch", "phase", "loss", "training", "validation")
"""Columns of `curves.csv`; the last two are the target's measure."""

DECIMALS = 6
"""Of the numbers in text files; the array files have them whole."""


Answers = dict[str, dict[str, arrays.Array]]
"""Run -> the arrays of its `.h5`, see `heads.training.run.run_arrays`."""


@dataclass(frozen=True)
class Result:
    """What one experiment left; its attention may be large, see `stages.results.attention`.

    Attributes:
        name: of the experiment.
        folder: where the files lie.
        metrics: `scores.json`.
        about: `about.json`.
        predictions: rows with run, video_id, label and predicted; of dimensions with true_<name>
            and predicted_<name> of each.
        curves: rows of `curves.csv`, as text.
        per_class: rows of `per_class.csv`, as text.
        search: what `search.json` has; empty where nothing was searched.
    """

    name: str
    folder: Path
    metrics: dict[str, Any]
    about: dict[str, Any]
    predictions: list[tables.Row]
    curves: list[dict[str, str]]
    per_class: list[dict[str, str]]
    search: dict[str, Any] = field(default_factory=dict)

    @property
    def target(self) -> Target:
        """What was told."""
        return of_stated(self.about)

    @property
    def runs(self) -> list[str]:
        """Names of the runs, in order."""
        return list(self.about["splits"])


def read_result(results: Path, name: str) -> Result:
    """Read one experiment's results.

    Raises:
        ValueError: the experiment has none, or a file is not what it should be.
    """
    folder = results / name
    try:
        metrics = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        search = json.loads((folder / SEARCH).read_bytes()) if about.get("search") else {}
        curves, per_class = (_read_csv(folder / f"{kind}.csv") for kind in ("curves", "per_class"))
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{folder}: expected the results of train@{name}, found: {reason(error)}; run "
            f"`dvc repro train@{name}`, or `dvc pull train@{name}` if someone else has"
        ) from error
    columns = _schema(of_stated(about)).names
    predictions = tables.read(folder / "predictions.parquet", columns)
    return Result(name, folder, metrics, about, predictions, curves, per_class, search)


def is_row(
    head: Head, reported: Reported, roles: Collection[str], params: Mapping[str, object]
) -> bool:
    """Tell whether an experiment of that head, with these roles and params, is the paper's row.

    A null stands for what the head makes of it, in the row as in the experiment. `params` may come
    from the head or from `about.json`.

    Raises:
        ValueError: params that the head does not take.
    """
    # A role's map belongs to the role.
    if set(reported.roles) != {role.removesuffix("_map") for role in roles}:
        return False
    ours, theirs = (
        asdict(heads.resolve(heads.validate(head, values), roles))
        for values in (params, {**params, **reported.params})
    )
    return rounded(ours) == rounded(theirs)


def paper_rows(
    head: Head, roles: Collection[str], params: Mapping[str, object]
) -> list[dict[str, object]]:
    """Return the papers' rows that an experiment is, each a `Reported`: `paper` of `about.json`."""
    return [asdict(row) for row in head.REFERENCE if is_row(head, row, roles, params)]


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write ``content`` with its numbers rounded to ``DECIMALS``."""
    text = json.dumps(rounded(content), indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def write_scores(folder: Path, scores: Mapping[str, Any]) -> None:
    """Write all of an experiment's scores into its folder, and beside it those that DVC shows.

    Their names say what they measure: accuracy of classes, mAP of labels, CCC of dimensions.
    Accuracies are shares, not per cent.
    """
    write_json(folder / "scores.json", scores)
    first, *others = measured_of(scores)
    low, high = interval(scores[first])
    shown = {
        first: scores[first]["mean"],
        f"{first}_low": low,
        f"{first}_high": high,
        **{name: scores[name]["mean"] for name in others},
        "settings_tried": scores["settings_tried"],
    }
    write_json(folder.with_name(f"{folder.name}.json"), shown)


def interval(score: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Return the 95 % interval of a score that is shown; two None where there is none.

    Over several runs it is the corrected one, of a single run the bootstrap's over its test videos.
    """
    kind = "corrected" if score["runs"] > 1 else "bootstrap"
    return score.get(f"ci95_{kind}_low"), score.get(f"ci95_{kind}_high")


def write_tables(folder: Path, answers: Answers, target: Target) -> None:
    """Write the predictions, the attention and the files for plots below ``folder``.

    Confusion is of classes alone: of labels and dimensions that file has no rows.
    """
    predictions: list[tables.Row] = []
    attention: list[tables.Row] = []
    curves: list[Sequence[object]] = []
    for run, answer in answers.items():
        predictions += _prediction_rows(run, answer, target)
        attention += _attention_rows(run, answer)
        measures = ("loss", target.measure, "validation")
        numbers = (answer[f"epoch_{name}"].tolist() for name in measures)
        for epoch, (phase, *values) in enumerate(
            zip(answer["epoch_phase"].tolist(), *numbers, strict=True), start=1
        ):
            written = ("" if isnan(value) else round(value, DECIMALS) for value in values)
            curves.append((run, epoch, phase.decode(), *written))
    tables.write(folder / "predictions.parquet", predictions, _schema(target))
    tables.write(folder / "attention.parquet", attention, pa.schema(list(ATTENTION.items())))
    tables.write_csv(folder / "curves.csv", CURVES, curves)
    is_class = target.kind == "class"
    pairs = [(row["label"], row["predicted"]) for row in predictions if is_class]
    tables.write_csv(folder / "confusion.csv", ("actual", "predicted"), pairs)


def write_per_class(folder: Path, scores: Mapping[str, Mapping[str, float]]) -> None:
    """Write class (or label) -> precision, recall, f1, means over runs, as a CSV in ``folder``."""
    rows = [
        (name, *(round(score[kind], DECIMALS) for kind in ("precision", "recall", "f1")))
        for name, score in scores.items()
    ]
    tables.write_csv(folder / "per_class.csv", ("class", "precision", "recall", "f1"), rows)


def _schema(target: Target) -> pa.Schema:
    """Return the columns of `predictions.parquet`."""
    columns = {"run": pa.string(), "video_id": pa.string()}
    if target.kind == "dimensions":
        columns |= {f"true_{name}": pa.float64() for name in target.names}
        columns |= {f"predicted_{name}": pa.float32() for name in target.names}
    else:
        columns |= {"label": pa.string(), "predicted": pa.string()}
        columns |= {f"p_{name}": pa.float32() for name in target.names}
    return pa.schema(list(columns.items()))


def _prediction_rows(
    run: str, answer: Mapping[str, arrays.Array], target: Target
) -> list[tables.Row]:
    """Return a row a video: what is true of it, and what was told."""
    is_of_numbers = target.kind == "dimensions"
    truth = answer["label"].tolist()
    given = answer["estimates" if is_of_numbers else "probabilities"].tolist()
    rows: list[tables.Row] = []
    for number, video_id in enumerate(answer["video_id"].tolist()):
        row: tables.Row = {"run": run, "video_id": video_id.decode()}
        values = zip(target.names, given[number], strict=True)
        if is_of_numbers:
            row |= {f"true_{n}": v for n, v in zip(target.names, truth[number], strict=True)}
            row |= {f"predicted_{name}": value for name, value in values}
        else:
            row["label"] = target.told(truth[number])
            row["predicted"] = target.told(answer["predicted"][number].tolist())
            row |= {f"p_{name}": chance for name, chance in values}
        rows.append(row)
    return rows


def _attention_rows(run: str, answer: Mapping[str, arrays.Array]) -> list[tables.Row]:
    rows: list[tables.Row] = []
    videos = [name.decode() for name in answer["video_id"].tolist()]
    for name in (key.partition(":")[2] for key in answer if key.startswith("attention:")):
        weights = answer[f"attention:{name}"]
        common = {**dict.fromkeys(ATTENTION), "run": run, "name": name}
        if f"roles:{name}" in answer:
            roles = [role.decode() for role in answer[f"roles:{name}"].tolist()]
            for video_id, values in zip(videos, weights.tolist(), strict=True):
                weight = {**common, "video_id": video_id}
                rows += [
                    {**weight, "role": role, "value": value}
                    for role, value in zip(roles, values, strict=True)
                ]
            continue
        common["role"] = role = answer[f"role:{name}"][0].decode()
        ends = np.cumsum(answer[f"rows:{role}"])[:-1]
        parts = zip(
            videos, np.split(weights, ends), np.split(answer[f"pts_s:{role}"], ends), strict=True
        )
        for video_id, values, times_s in parts:
            for row, (value, pts_s) in enumerate(zip(values, times_s.tolist(), strict=True)):
                cell = {**common, "video_id": video_id, "row": row, "pts_s": pts_s}
                if value.ndim:
                    shape = list(value.shape)
                    rows.append({**cell, "map": value.ravel(), "shape": shape})
                else:
                    rows.append({**cell, "value": float(value)})
    return rows


def _read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def rounded(content: Mapping[str, object]) -> object:
    """Return what reading gives of content that was written as JSON."""
    return json.loads(json.dumps(content), parse_float=lambda text: round(float(text), DECIMALS))
