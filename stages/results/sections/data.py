"""Data: what the videos are, what is missing in them, and what no stage could use."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean, median
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from features.cache import tables
from stages.engine.paths import VIEWS, index_of, indices
from stages.results import figures
from stages.results.extracted import Extracted, extracted
from stages.results.failures import Failure, failures
from stages.results.page import Inputs, Section
from stages.results.table import Column, Table, one_line

TITLE = "Data"

MOST_VALUES = 5
"""Values of a property that have a line of their own: the commonest."""

MOST_CLASSES = 40
"""Classes of the figure: the largest."""

MOST_REASONS = 12
"""Lines of failures on the page; tables/failures has all."""

LONGEST_NAME = 24
"""Letters of a class's name in a figure."""


def section(inputs: Inputs) -> Section:
    """Return the section."""
    usable = [row for row in inputs.videos if row["status"] == "ok"]
    faces, lacking = _faces()
    poses = [
        each
        for each in map(extracted, inputs.backbones)
        if each and any("K" in feature.axes for feature in each.features)
    ]
    groups = _grouped(failures(indices()))
    shown = {
        "data-classes": _classes(inputs.videos),
    }
    if usable and all(row.get("file", "") is None for row in usable):
        lacking.append("The data set has features alone: there are no files to say anything of.")
    else:
        shown |= {"data-missing": _missing(usable, faces, poses), "data-files": _files(usable)}
    drawn: dict[str, Figure] = {}
    durations = _known(usable, "duration_s")
    if durations and max(durations) > 1.01 * min(durations):  # else the table says it
        drawn["durations"] = _durations(usable)
    if faces:
        drawn["faces-found"] = _faces_found(list(faces.values()))
    if groups:
        shown["failures"] = _failures(groups)
    content: dict[str, Any] = {
        "lacking": lacking,
        "usable": len(usable),
        "videos": len(inputs.videos),
        "failures": [(group[0], len(group)) for group in groups[:MOST_REASONS]],
        "more_failures": max(0, len(groups) - MOST_REASONS),
        "figures": list(drawn),
        "tables": [name for name, table in shown.items() if table.rows],
    }
    kept = {name: shown[name] for name in content["tables"]}
    return Section(TITLE, "data.html", content, kept, drawn)


def _faces() -> tuple[dict[str, float], list[str]]:
    """Return video -> share of its rows with a face, and what is to be pulled."""
    path = index_of(VIEWS / "faces")
    if not path.is_file():
        return {}, [f"{path} is not here, so faces are not counted: dvc pull faces"]
    rows = tables.read(path, ["video_id", "status", "rows", "rows_with_face"])
    return {
        str(row["video_id"]): _number(row["rows_with_face"]) / max(1.0, _number(row["rows"]))
        for row in rows
        if row["status"] == "ok"
    }, []


def _number(value: object) -> float:
    return float(str(value))


def _by_class(rows: Iterable[tables.Row]) -> dict[str, list[tables.Row]]:
    classes: dict[str, list[tables.Row]] = defaultdict(list)
    for row in rows:
        classes[str(row["label"])].append(row)
    return dict(sorted(classes.items()))


def _known(rows: Iterable[tables.Row], column: str) -> list[float]:
    return [_number(row[column]) for row in rows if row.get(column) is not None]


# ------------------------------------------------------------------------------------- tables


def _classes(rows: Sequence[tables.Row]) -> Table:
    """Return the classes, how the runs divide them, and how long their videos are."""
    runs = [name for name in rows[0] if name.startswith("split_")]
    mean = "" if len(runs) == 1 else f", mean of {len(runs)} runs"
    columns = (
        Column("class"),
        Column("videos", "count"),
        Column("not usable", "count"),
        Column(f"train{mean}", "number"),
        Column(f"test{mean}", "number"),
        Column("seconds, median", "number"),
        Column("minutes in all", "number"),
    )
    classes = {name: _class(name, members, runs) for name, members in _by_class(rows).items()}
    return Table(columns, [*classes.values(), _class("all", rows, runs)], "Classes of the data set")


def _class(name: str, rows: Sequence[tables.Row], runs: Sequence[str]) -> tuple[Any, ...]:
    durations = _known((row for row in rows if row["status"] == "ok"), "duration_s")
    sides = ([sum(row[run] == side for row in rows) for run in runs] for side in ("train", "test"))
    return (
        name,
        len(rows),
        sum(row["status"] != "ok" for row in rows),
        *(fmean(counts) if counts else None for counts in sides),
        round(median(durations), 3) if durations else None,
        round(sum(durations) / 60, 3) if durations else None,
    )


def _missing(
    rows: Sequence[tables.Row], faces: dict[str, float], poses: Sequence[Extracted]
) -> Table:
    """Return how many videos of each class lack sound, a face or a pose."""
    columns = [Column("class"), Column("usable", "count"), Column("no sound", "count")]
    counts: list[Callable[[Sequence[tables.Row]], float | int | None]] = [
        len,
        lambda rows: sum(row.get("audio_codec") is None for row in rows),
    ]
    if faces:
        columns += [Column("no face", "count"), Column("rows with a face, %", "percent")]
        counts += [
            lambda rows: sum(not share for share in _of(rows, faces)),
            lambda rows: fmean(_of(rows, faces)) if _of(rows, faces) else None,
        ]
    for pose in poses:
        found = {str(row["video_id"]): _number(row["rows_valid"] or 0) for row in pose.rows}
        columns.append(Column(f"no pose ({pose.backbone})", "count"))
        counts.append(lambda rows, found=found: sum(not rows_ for rows_ in _of(rows, found)))  # type: ignore[misc]
    classes = [*_by_class(rows).items(), ("all", rows)]
    lines = [(name, *(count(members) for count in counts)) for name, members in classes]
    return Table(tuple(columns), lines, "Usable videos that lack something, by class")


def _of(rows: Iterable[tables.Row], values: dict[str, float]) -> list[float]:
    return [values[str(row["video_id"])] for row in rows if row["video_id"] in values]


_PROPERTIES: dict[str, Callable[[tables.Row], object]] = {
    "resolution": lambda row: f"{row['width']} × {row['height']}",
    "frames a second": lambda row: None if row["fps"] is None else f"{_number(row['fps']):.4g}",
    "pictures": lambda row: row["video_codec"],
    "interlaced": lambda row: (
        None if row["interlaced"] is None else "yes" if row["interlaced"] else "no"
    ),
    "container": lambda row: row["container"],
    "sound": lambda row: row["audio_codec"],
    "sound, Hz": lambda row: row["sample_rate_hz"],
    "channels": lambda row: row["channels"],
}


def _files(rows: Sequence[tables.Row]) -> Table:
    """Return the commonest values of what the files' headers say."""
    lines: list[tuple[str, str, int]] = []
    for name, value_of in _PROPERTIES.items():
        counts = Counter(str(value_of(row) or "none") for row in rows if "width" in row)
        common = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
        lines += [(name, value, count) for value, count in common[:MOST_VALUES]]
        if rest := common[MOST_VALUES:]:
            lines.append((name, f"{len(rest)} other values", sum(count for _, count in rest)))
    columns = (Column("property"), Column("value"), Column("videos", "count"))
    return Table(columns, lines, "What the usable files are, by their headers")


def _grouped(found: Sequence[Failure]) -> list[list[Failure]]:
    """Return failures whose reasons differ in names and numbers alone together, most first."""
    groups: dict[tuple[str, str], list[Failure]] = defaultdict(list)
    for failure in found:
        name = failure.video_id.rpartition("/")[2]
        reason = failure.reason.replace(failure.video_id, "…").replace(name, "…")
        groups[failure.first_failed_in, re.sub(r"\d+([.,]\d+)*", "#", reason)].append(failure)
    return sorted(groups.values(), key=lambda group: -len(group))


def _failures(groups: Sequence[Sequence[Failure]]) -> Table:
    columns = (Column("first failed in"), Column("video"), Column("reason"))
    lines = [
        (failure.first_failed_in, failure.video_id, one_line(failure.reason))
        for group in groups
        for failure in group
    ]
    return Table(columns, lines, "Videos that a stage could not use")


# ------------------------------------------------------------------------------------ figures


def _durations(rows: Sequence[tables.Row]) -> Figure:
    """Return the durations of each class's videos: median, quartiles, 5 and 95 %, the others."""
    largest = sorted(_by_class(rows).items(), key=lambda pair: (-len(pair[1]), pair[0]))
    classes = {name: _known(members, "duration_s") for name, members in largest[:MOST_CLASSES]}
    classes = {name: classes[name] for name in sorted(classes) if classes[name]}
    times = [time_s for members in classes.values() for time_s in members]
    alt = (
        f"Durations of {len(times)} videos by class: {min(times):.3g} to {max(times):.3g} s, "
        f"in the median {median(times):.3g} s"
    )
    figure = figures.new(alt, height_in=0.6 + 0.2 * len(classes))
    axes = figure.subplots()
    ink = {"color": figures.INK}
    axes.boxplot(
        list(classes.values()),
        orientation="horizontal",
        whis=(5, 95),
        widths=0.55,
        flierprops={"marker": ".", "markersize": 2, "markeredgecolor": figures.INK},
        medianprops={"color": figures.PALETTE[1], "linewidth": 1.6},
        boxprops=ink,
        whiskerprops=ink,
        capprops=ink,
    )
    axes.set_yticks(range(1, len(classes) + 1), [short(name) for name in classes])
    axes.invert_yaxis()
    if min(times) > 0 and max(times) > 30 * min(times):
        axes.set_xscale("log")
    else:
        axes.set_xlim(left=0, right=1.05 * max(times) or 1)
    axes.set_xlabel("duration, s")
    return figure


def _faces_found(shares: Sequence[float]) -> Figure:
    """Return in how many videos a face was found in which share of the rows."""
    whole = sum(share == 1 for share in shares)
    alt = (
        f"Share of a video's rows that have a face: all of them in {whole} of {len(shares)} "
        f"videos, none in {sum(share == 0 for share in shares)}"
    )
    figure = figures.new(alt, height_in=1.8)
    axes = figure.subplots()
    axes.hist([100 * share for share in shares], range(0, 101, 10), color=figures.PALETTE[0])
    axes.set_xlabel("rows of a video that have a face, %")
    axes.set_ylabel("videos")
    axes.set_xlim(0, 100)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def short(name: str) -> str:
    """Return a name for a figure: one line, not too long."""
    text = one_line(name)
    return text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 1]}…"
