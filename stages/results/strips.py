"""A video as an experiment saw it: its rows in order, each with its picture and its weight.

A strip has no HTML: templates/attention.html draws it, `stages.results.plates` a figure of it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from features.cache import arrays
from stages.engine.items import item_path
from stages.engine.paths import FEATURES
from stages.results import maps
from stages.results.attention import Answer, RowWeights, Values
from stages.results.pictures import NotHere, Rows, groups, pictured, read_rows
from stages.results.sheets import Sheet, Sheets
from stages.results.sight import Box, seen_box

SHOWN_AS = {"faces": "face crops", "snippets": "snippets", "none": "rows"}
"""View -> what is seen in it, where that is not `FRAMES`."""

FRAMES = "frames"

UNSEEN = "none"
"""The view of imported arrays, of which there are no pictures."""

POSES = ("blazepose",)
"""Modules of backbones whose `landmarks` are shares of the frame's width and height."""

JOINTS = (
    (8, 5), (5, 0), (0, 2), (2, 7), (9, 10), (11, 12), (11, 13), (13, 15), (12, 14), (14, 16),
    (11, 23), (12, 24), (23, 24), (23, 25), (25, 27), (24, 26), (26, 28),
)  # fmt: skip
"""Landmarks of BlazePose that a line joins: ears, eyes, nose, mouth, arms, trunk, legs."""

LINE_CELLS = 12
"""Most cells in a line of the page."""

LEAST_VISIBLE = 0.5
"""Visibility of a landmark below which its lines are left out."""


@dataclass(frozen=True)
class Source:
    """What a role of an experiment reads.

    Attributes:
        role: its name.
        view: of the backbone.
        backbone: its name in params.yaml.
        module: its module, empty where the results do not say.
        options: of the module.
    """

    role: str
    view: str
    backbone: str
    module: str
    options: Mapping[str, object]


@dataclass(frozen=True)
class Bar:
    """The weight of a row.

    Attributes:
        share: of the video's largest, 0..1.
        is_seen: whether the networks saw the row; else there is no such frame or face.
        is_planted: whether the sample shows its class in it.
    """

    share: float
    is_seen: bool
    is_planted: bool


@dataclass(frozen=True)
class Cell:
    """A few neighbouring rows under one picture; one row where a video has few.

    Attributes:
        bars: of the rows; none where nothing is weighed.
        pictures: of each layer the number of the picture in its sheet, None where there is none.
        heat: number of the map in the strip's heat sheet, or None.
        pose: lines of the skeleton as an SVG path, in thousandths of the picture; may be empty.
        time: of the picture, in words.
        weight: of the one row, in words; empty where there are several, or none.
        is_planted: whether the pictured row is planted.
    """

    bars: tuple[Bar, ...]
    pictures: tuple[int | None, ...]
    heat: int | None
    pose: str
    time: str
    weight: str
    is_planted: bool


@dataclass(frozen=True)
class Layer:
    """One line of pictures of a strip.

    Attributes:
        role: whose they are.
        shown_as: what they show, in words.
        sheet: the pictures; None where there are none to show.
    """

    role: str
    shown_as: str
    sheet: Sheet | None


@dataclass(frozen=True)
class Strip:
    """The rows of a role in order of time.

    Attributes:
        role: its name.
        attention: name of what is weighed; empty where nothing is.
        layers: lines of pictures, at least one.
        cells: in order of time.
        heat: the sheet of maps; None where there are none.
        box: where in a picture they lie.
        alt: what the strip shows, in words.
        facts: more of it, in words.
    """

    role: str
    attention: str
    layers: tuple[Layer, ...]
    cells: tuple[Cell, ...]
    heat: Sheet | None
    box: Box | None
    alt: str
    facts: tuple[str, ...]

    @property
    def line(self) -> int:
        """How many cells stand in a line where there is room: in lines of about the same length."""
        lines = -(-len(self.cells) // LINE_CELLS)
        return -(-len(self.cells) // lines)

    @property
    def is_bare(self) -> bool:
        """Whether it has no picture: its bars stand closer together."""
        return not any(layer.sheet for layer in self.layers)


@dataclass(frozen=True)
class Asked:
    """Of which video a strip is asked for, and what is known of it.

    Attributes:
        answer: the run and the video.
        sheets: where pictures are kept.
        planted: view -> (T,) which rows are planted; empty where nothing is known of that.
        missing: reasons why pictures lack are added here.
    """

    answer: Answer
    sheets: Sheets
    planted: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    @property
    def video_id(self) -> str:
        """The video."""
        return self.answer[1]


def rows_of(view: str, video_id: str, pts_s: Values) -> Rows:
    """Return which frames the rows of a view are.

    Args:
        view: its name.
        video_id: of the video.
        pts_s: (T,) times of the rows when the experiment ran.

    Raises:
        NotHere: its file is missing, damaged, or has other rows than the experiment saw.
    """
    rows = read_rows(view, video_id)
    starts = rows.pts_s if rows.pts_s.ndim == 1 else rows.pts_s[:, 0]
    if starts.shape != pts_s.shape or not np.allclose(starts, pts_s, equal_nan=True):
        raise NotHere(f"data/views/{view}: other rows of {video_id} than the experiment saw")
    return rows


def unseen_rows(pts_s: Values, weights: Values | None) -> Rows:
    """Return the rows of a video of which no file is here: what has no weight counts as masked.

    So does what has no time, unless none has one: arrays made elsewhere may lack them.
    """
    is_timed = np.isfinite(pts_s)
    valid = is_timed if is_timed.any() else np.ones_like(is_timed)
    if weights is not None:
        valid = valid & (weights != 0)
    return Rows(np.full(len(pts_s), -1, np.int64), pts_s, valid)


def strip(
    asked: Asked,
    source: Source,
    attentions: Sequence[RowWeights],
    beside: Sequence[Source] = (),
) -> Strip | None:
    """Return the strip of a role; None where it has no row, and nothing to show.

    Args:
        asked: of which video.
        source: the role.
        attentions: over its rows; of a pose that nothing weighs none.
        beside: roles of the same frames that have no attention of their own.
    """
    answer, video_id = asked.answer, asked.video_id
    weighed = next((a for a in attentions if answer in a.weights), None)
    mapped = next((a for a in attentions if _is_over_regions(a, answer)), None)
    first = weighed or mapped
    weights = weighed.weights[answer] if weighed else None
    try:
        if first:
            rows = rows_of(source.view, video_id, first.pts_s[answer])
        else:
            rows = read_rows(source.view, video_id)
    except NotHere as error:
        if source.view != UNSEEN:
            asked.missing.append(str(error))
        if not first:
            return None
        rows = unseen_rows(first.pts_s[answer], weights)
    is_here = bool((rows.index >= 0).any())
    parts = groups(rows)
    if not parts:
        return None
    chosen = [pictured(rows, part) for part in parts]
    layers = [_layer(asked, source, rows, chosen, is_here)]
    layers += [_layer(asked, other, *_beside(other, video_id, rows, parts)) for other in beside]
    heat, box = None, None
    if mapped and is_here:
        heat, box = _heat(asked, source, mapped, layers[0][0], chosen)
    poses = _poses(source, video_id, rows) if asked.sheets.faces != "leave out" else {}
    planted = asked.planted.get(source.view)
    return Strip(
        source.role,
        first.name if first else "",
        tuple(layer for layer, _ in layers),
        _cells(
            rows, parts, chosen, weights, [places for _, places in layers], heat, poses, planted
        ),
        heat,
        box,
        _alt(video_id, source, rows, weights, planted),
        (
            *_facts(rows, weights, parts),
            *_of_maps(rows, attentions, answer, mapped if heat else None),
        ),
    )


def _is_over_regions(attention: RowWeights, answer: Answer) -> bool:
    """Tell whether an attention has a map of regions a row; of RDAM's B and C is none."""
    is_factor = attention.name.endswith(("_relation_query", "_relation_key"))
    return answer in attention.maps and attention.maps[answer].ndim > 2 and not is_factor


Places = list[int | None]


def _layer(
    asked: Asked, source: Source, rows: Rows, chosen: Sequence[int | None], is_here: bool
) -> tuple[Layer, Places]:
    """Return a line of pictures, and of each cell the number of its picture."""
    shown = [row for row in chosen if row is not None]
    sheet = asked.sheets.pictures(source.view, asked.video_id, shown) if shown and is_here else None
    places: Places = [None] * len(chosen)
    if sheet:
        numbers = {row: number for number, row in enumerate(shown)}
        places = [None if row is None else numbers[row] for row in chosen]
    return Layer(source.role, SHOWN_AS.get(source.view, FRAMES), sheet), places


def _beside(
    source: Source, video_id: str, rows: Rows, parts: Sequence[Sequence[int]]
) -> tuple[Rows, list[int | None], bool]:
    """Return what `_layer` reads of a role that has the same frames."""
    other = read_rows(source.view, video_id)
    return other, [pictured(other, part) for part in parts], True


def same_frames(first: str, second: str, video_id: str) -> bool:
    """Tell whether two views of a video have the same frames, row by row; both must be here."""
    try:
        rows, others = read_rows(first, video_id), read_rows(second, video_id)
    except NotHere:
        return False
    return np.array_equal(rows.index, others.index)


def _heat(
    asked: Asked,
    source: Source,
    mapped: RowWeights,
    layer: Layer,
    chosen: Sequence[int | None],
) -> tuple[Sheet | None, Box | None]:
    """Return the maps of the pictured rows, and where in a picture they lie."""
    if layer.sheet is None:
        return None, None
    box = seen_box(source.module, source.options, *layer.sheet.frame)
    if box is None:
        return None, None
    shares = maps.even_shares(maps.planes(mapped.maps[asked.answer]))
    return asked.sheets.heat(shares[[row for row in chosen if row is not None]]), box


def _poses(source: Source, video_id: str, rows: Rows) -> dict[int, str]:
    """Return row -> its skeleton; nothing where the role is none, or its features are not here."""
    if source.module not in POSES:
        return {}
    path = FEATURES / source.backbone / item_path(video_id)
    try:
        found, _ = arrays.read(path, ("landmarks", "visibility", "valid", "index"))
    except arrays.ArrayFileError:
        return {}
    if not np.array_equal(found["index"], rows.index):
        return {}
    return {
        int(row): _lines(found["landmarks"][row, :, :2], found["visibility"][row])
        for row in np.flatnonzero(found["valid"])
    }


def _lines(points: NDArray[np.generic], visible: NDArray[np.generic]) -> str:
    """Return the skeleton of a row as an SVG path, in thousandths of the picture."""
    places = np.rint(1000 * np.clip(points.astype(np.float64), -0.5, 1.5)).astype(int).tolist()
    seen = visible.astype(np.float64) >= LEAST_VISIBLE
    return "".join(
        f"M{places[a][0]} {places[a][1]}L{places[b][0]} {places[b][1]}"
        for a, b in JOINTS
        if seen[a] and seen[b]
    )


def _cells(
    rows: Rows,
    parts: Sequence[Sequence[int]],
    chosen: Sequence[int | None],
    weights: Values | None,
    layers: Sequence[Places],
    heat: Sheet | None,
    poses: Mapping[int, str],
    planted: NDArray[np.bool_] | None,
) -> tuple[Cell, ...]:
    marked = np.zeros(len(rows.valid), bool) if planted is None else planted
    largest = 0.0 if weights is None else float(weights[rows.valid].max(initial=0))
    numbers = {row: n for n, row in enumerate(row for row in chosen if row is not None)}
    cells = []
    for at, (part, row) in enumerate(zip(parts, chosen, strict=True)):
        bars: list[Bar] = []
        if weights is not None:
            shares = np.clip(weights[part] / largest, 0, 1) if largest > 0 else np.zeros(len(part))
            bars = [
                Bar(round(float(share), 3), bool(rows.valid[each]), bool(marked[each]))
                for each, share in zip(part, shares, strict=True)
            ]
        middle = part[len(part) // 2] if row is None else row
        has_number = weights is not None and len(part) == 1 and row is not None
        cells.append(
            Cell(
                tuple(bars),
                tuple(places[at] for places in layers),
                numbers.get(row) if heat and row is not None else None,
                poses.get(middle, ""),
                _place(rows, middle),
                written(float(weights[row]), largest) if has_number and weights is not None else "",
                bool(marked[middle]),
            )
        )
    return tuple(cells)


def _place(rows: Rows, row: int) -> str:
    """Return the time of a row, or its number, from 1, where it has none."""
    time_s = rows.time_s[row]
    return f"{time_s:.1f} s" if np.isfinite(time_s) else f"#{row + 1}"


def written(weight: float, largest: float) -> str:
    """Return a weight in words, so that the largest of its video has two digits or more."""
    decimals = 2 if largest >= 0.1 or largest <= 0 else min(1 - int(np.floor(np.log10(largest))), 6)
    return f"{weight:.{decimals}f}".replace("-", "−")


def _of_maps(
    rows: Rows, attentions: Sequence[RowWeights], answer: Answer, drawn: RowWeights | None
) -> Iterator[str]:
    """Say what the colour of maps means, and over how much weights of channels or units spread."""
    for attention in attentions:
        if answer not in attention.maps or not rows.valid.any():
            continue
        found = attention.maps[answer][rows.valid]
        if attention is drawn:
            most = maps.even_shares(maps.planes(found)).max()
            yield f"Colour: {attention.name}, at most {most:.1f} times an even share."
        elif found.ndim == 2 and found.min() >= 0:
            squares = np.square(found).sum(axis=1)
            worth = np.divide(found.sum(axis=1) ** 2, squares, where=squares > 0, out=squares * 0)
            yield f"{attention.name}: worth {worth.mean():.1f} of {found.shape[1]} a row."


def _alt(
    video_id: str,
    source: Source,
    rows: Rows,
    weights: Values | None,
    planted: NDArray[np.bool_] | None,
) -> str:
    """Say what a strip shows: `joy/clip01, frames of context, 0.0 to 4.0 s, most weight ...`."""
    times = rows.time_s
    known = times[np.isfinite(times)]
    parts = [f"{video_id}, {SHOWN_AS.get(source.view, FRAMES)} of {source.role}"]
    if len(known):
        parts.append(f"{known[0]:.1f} to {known[-1]:.1f} s")
    if weights is not None and rows.valid.any():
        most = int(np.argmax(np.where(rows.valid, weights, -np.inf)))
        weight = written(float(weights[most]), float(weights[most]))
        parts.append(f"most weight, {weight}, at {_place(rows, most)}")
    if planted is not None:
        shown = times[planted & rows.valid]
        at = f"from {shown[0]:.1f} to {shown[-1]:.1f} s" if len(shown) else "in none of them"
        parts.append(f"{len(shown)} rows planted" + (f", {at}" if len(shown) else ""))
    return ", ".join(parts)


def _facts(rows: Rows, weights: Values | None, parts: Sequence[Sequence[int]]) -> tuple[str, ...]:
    """Say over how many rows the weights spread, and what a picture stands for."""
    facts = []
    if weights is not None and (given := weights[rows.valid]).size and given.min() >= 0:
        squares = float(np.square(given).sum())
        if squares > 0:
            worth = given.sum() ** 2 / squares
            facts.append(f"The weights are worth {worth:.1f} of {len(given)} rows.")
    if len(parts[0]) > 1:
        facts.append(f"A picture stands for {len(parts[0])} rows, of which it is the middle one.")
    return tuple(facts)
