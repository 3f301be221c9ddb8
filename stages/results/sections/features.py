"""Feature cards: what each backbone is, what it gives here, and how to read it."""

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from features import backbones
from stages.engine.params import Backbone
from stages.results import figures
from stages.results.extracted import (
    Extracted,
    Feature,
    Values,
    extracted,
    measured_means,
    standardised,
)
from stages.results.files import Result
from stages.results.page import Inputs, Section
from stages.results.sections.data import short
from stages.results.table import Column, Table

TITLE = "Feature cards"

MOST_POINTS = 300
"""Videos of a projection, picked by the hash of their names where there are more: of more the marks
lie upon each other, and each is a file of features to read."""

MARKERS = ("o", "^", "s", "D", "v", "P", "X")
"""One more than there are colours, so that 42 classes differ."""

MIB = 1 << 20


@dataclass(frozen=True)
class Card:
    """What the page says of a backbone.

    Attributes:
        name: in params.yaml.
        module: its file in features/backbones.
        said: what that file says of itself.
        facts: term -> description.
        parity: rows of parity.csv.
        code: three lines of Python that read a file; None where none is here.
        figure: name of its projection; None where there is none.
        projected: what it is a projection of.
        lacking: what is not here and the command that brings it; empty where nothing lacks.
    """

    name: str
    module: str
    said: backbones.Description
    facts: Mapping[str, str]
    parity: Sequence[Mapping[str, str]]
    code: str | None
    figure: str | None
    projected: str
    lacking: str

    @property
    def furthest(self) -> str:
        """The largest difference from an oracle in float32."""
        return max((row["relative"] for row in self.parity), key=float)

    @property
    def furthest_stored(self) -> str:
        """The largest difference from an oracle as stored."""
        return max((row["stored_relative"] for row in self.parity), key=float)


def section(inputs: Inputs) -> Section | None:
    """Return the section; None where no backbone is named."""
    if not inputs.backbones:
        return None
    readers = _readers(inputs.results)
    names = sorted(inputs.backbones, key=lambda name: name not in {b for b, _ in readers})
    parity = _parity()
    labels = {str(row["video_id"]): str(row["label"]) for row in inputs.videos}
    here = {name: extracted(name) for name in names}
    drawn: dict[str, Figure] = {}
    cards = []
    for name in names:
        block, found = inputs.backbones[name], here[name]
        feature = _read_first(found, readers)
        figure = _projection(found, feature, labels) if found and feature else None
        if figure:
            drawn[f"projection-{name}"] = figure
        cards.append(
            Card(
                name,
                block.module,
                backbones.describe(block.module),
                _facts(block, found, inputs.results, name),
                parity.get(block.module, ()),
                _code(found, feature) if found and feature else None,
                f"projection-{name}" if figure else None,
                feature.name if feature else "",
                _lacking(name, found),
            )
        )
    shown = {"backbones": _backbones(inputs.backbones, here, parity)}
    if any(found and found.features for found in here.values()):
        shown["features"] = _features(here, readers)
    content = {"cards": cards, "tables": list(shown)}
    return Section(TITLE, "features.html", content, shown, drawn)


def _readers(results: Sequence[Result]) -> dict[tuple[str, str], list[str]]:
    """Return (backbone, feature) -> the experiments that read it."""
    readers: dict[tuple[str, str], list[str]] = defaultdict(list)
    for result in results:
        for source in dict.fromkeys(result.about["roles"].values()):
            backbone, _, feature = source.partition("/")
            readers[backbone, feature].append(result.name)
    return readers


def _parity() -> dict[str, list[dict[str, str]]]:
    """Return module -> its rows of parity.csv."""
    with backbones.PARITY.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    by_module: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        by_module[row["network"]].append(row)
    return by_module


def _read_first(
    found: Extracted | None, readers: Mapping[tuple[str, str], Sequence[str]]
) -> Feature | None:
    """Return the feature that most experiments read; a vector before a map, a small one first."""
    if found is None or not found.features:
        return None
    return min(
        found.features,
        key=lambda feature: (
            -len(readers.get((found.backbone, feature.name), ())),
            len(feature.shape),
            feature.measured,
        ),
    )


def _lacking(name: str, found: Extracted | None) -> str:
    if found is None:
        return f"Its features are not here: dvc pull extract@{name} brings them."
    usable = sum(row["status"] == "ok" for row in found.rows)
    if lost := usable - len(found.files):
        return f"{lost} of {usable} files are not here: dvc pull extract@{name} brings them."
    return ""


# -------------------------------------------------------------------------------------- facts


def _weights(
    name: str, found: Extracted | None, results: Sequence[Result] = ()
) -> Mapping[str, Any]:
    """Return what the features, or else an experiment that read them, say of the weights."""
    if found and found.about:
        weights: Mapping[str, Any] = found.about["weights"]
        return weights
    for result in results:
        if name in result.about["features"]:
            known: Mapping[str, Any] = result.about["features"][name]["weights"]
            return known
    return {}


def _source(weights: Mapping[str, Any]) -> str:
    """Return where weights come from, in words; empty where that is not known."""
    if not weights:
        return ""
    if weights["source"] == "seeded":
        return f"random, drawn from seed {weights['seed']}: the network was never trained"
    if weights["source"] == "imported":
        return f"imported, made elsewhere; origin: {weights.get('origin', 'unknown')}"
    drawn = f", some layers drawn from seed {weights['seed']}" if weights.get("fresh") else ""
    return f"pretrained, {weights['source']}{drawn}"


def _facts(
    block: Backbone, found: Extracted | None, results: Sequence[Result], name: str
) -> dict[str, str]:
    weights = _weights(name, found, results)
    about = found.about if found else {}
    options = about["ingredients"].get("options", {}) if about else block.options
    facts = {
        "weights": _source(weights) or f"{block.source}, as params.yaml has it",
        "sha256": str(weights.get("sha256", "")),
        "licence": str(weights.get("licence", "")),
        "notice": str(weights.get("notice", "")) if weights.get("source") != "seeded" else "",
        "view": block.view,
        "options": ", ".join(f"{key} {value}" for key, value in options.items()),
        "precision": block.precision,
        "computed on": str(about.get("device", "")),
    }
    if found and found.files:
        each = found.size_bytes / len(found.files) / MIB
        facts["on disk"] = (
            f"{len(found.files)} files, {found.size_bytes / MIB:.1f} MiB, {each:.2g} MiB a video"
        )
    return {term: text for term, text in facts.items() if text}


def _backbones(
    blocks: Mapping[str, Backbone],
    here: Mapping[str, Extracted | None],
    parity: Mapping[str, Sequence[Mapping[str, str]]],
) -> Table:
    columns = (
        Column("backbone"),
        Column("module"),
        Column("view"),
        Column("weights"),
        Column("licence"),
        Column("files", "count"),
        Column("MiB", "number"),
        Column("furthest from an oracle", "number"),
    )
    rows = []
    for name, found in here.items():
        block, weights = blocks[name], _weights(name, found)
        compared = [float(row["relative"]) for row in parity.get(block.module, ())]
        rows.append(
            (
                name,
                block.module,
                block.view,
                block.source,
                weights.get("licence") or None,
                len(found.files) if found else None,
                round(found.size_bytes / MIB, 3) if found else None,
                max(compared) if compared else None,
            )
        )
    caption = (
        "Backbones; the largest difference from an independent oracle is a share of the largest "
        "value, in float32"
    )
    return Table(columns, rows, caption)


def _features(
    here: Mapping[str, Extracted | None], readers: Mapping[tuple[str, str], Sequence[str]]
) -> Table:
    columns = (
        Column("backbone"),
        Column("feature"),
        Column("a row"),
        Column("axes"),
        Column("stored as"),
        Column("read by"),
    )
    rows = [
        (
            name,
            feature.name,
            " × ".join(map(str, feature.shape)),
            feature.axes,
            feature.dtype,
            ", ".join(readers.get((name, feature.name), ())) or None,
        )
        for name, found in here.items()
        if found
        for feature in found.features
    ]
    return Table(columns, rows, "Features; rows are time, T, and the axes those of a row")


def _code(found: Extracted, feature: Feature) -> str:
    """Return three lines of Python that read the first file."""
    path = next(iter(found.files.values()))
    size = ", ".join(map(str, (found.rows_of_first, *feature.shape)))
    return (
        "import h5py, hdf5plugin\n"
        f"with h5py.File({path.as_posix()!r}) as file:\n"
        f'    rows = file["{feature.name}"][:][file["valid"][:]]  # ({size}) {feature.dtype}'
    )


# --------------------------------------------------------------------------------- projection


def _projection(found: Extracted, feature: Feature, labels: Mapping[str, str]) -> Figure | None:
    """Return each video's mean feature in two dimensions; None of fewer than three videos."""
    files = {video: path for video, path in found.files.items() if video in labels}
    total = len(files)
    if total > MOST_POINTS:
        picked = sorted(files, key=lambda name: sha256(name.encode()).digest())[:MOST_POINTS]
        files = {video: files[video] for video in sorted(picked)}
    videos, means = measured_means(files, feature, [])
    points, shares = projected(means)
    if points is None:
        return None
    classes = sorted({labels[video] for video in videos})
    some = f"{len(videos)} of {total}" if total > MOST_POINTS else f"{len(videos)}"
    alt = (
        f"Projection of {some} videos onto the first two principal components of "
        f"{found.backbone}/{feature.name}, by class: {len(classes)} classes"
    )
    figure = figures.new(alt, figures.COLUMN_IN, height_in=2.6 + 0.13 * -(-len(classes) // 3))
    axes = figure.subplots()
    for number, name in enumerate(classes):
        members = [at for at, video in enumerate(videos) if labels[video] == name]
        axes.plot(
            points[members, 0],
            points[members, 1],
            linestyle="none",
            marker=MARKERS[number % len(MARKERS)],
            color=figures.PALETTE[number % len(figures.PALETTE)],
            alpha=0.8,
            markeredgewidth=0,
            label=short(name),
        )
    axes.set_xlabel(f"first component, {100 * shares[0]:.0f} % of the variance")
    axes.set_ylabel(f"second, {100 * shares[1]:.0f} %")
    axes.set_xticks([])
    axes.set_yticks([])
    if len(classes) <= len(MARKERS) * len(figures.PALETTE):
        figure.legend(loc="outside lower center", ncols=3, columnspacing=0.8, handletextpad=0.1)
    return figure


def projected(means: Values) -> tuple[Values | None, tuple[float, float]]:
    """Return (N, D) in two dimensions, (N, 2), and each one's share of the variance.

    Numbers are standardised first, as training does. Of each component the number that weighs
    most is positive, so that the picture does not turn over from one machine to the next. None
    where fewer than three videos are there, or they differ in fewer than three numbers.
    """
    from sklearn.decomposition import PCA  # slow to import

    values = standardised(means)
    if min(values.shape) < 3:
        return None, (0.0, 0.0)
    model = PCA(2, svd_solver="arpack", random_state=0)
    points = model.fit_transform(values.astype(np.float64))
    largest = np.abs(model.components_).argmax(axis=1)
    signs = np.sign(model.components_[[0, 1], largest])
    first, second = model.explained_variance_ratio_
    scale = np.abs(points).max() or 1.0
    # four digits are a pixel's tenth: the last bits differ with the number of threads
    return np.round(points * signs / scale, 4).astype(np.float32), (float(first), float(second))
