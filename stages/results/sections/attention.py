"""Attention over what was seen: for telling videos of each class what the head looked at.

Of labels and dimensions likewise: telling videos of each.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from heads.training.targets import BETWEEN, Kind, Target
from stages.results.attention import Answer, Weights, read_attention
from stages.results.cards import SOUND, Card, Sounds, card, mean_roles, row_seconds, sources
from stages.results.chosen import ASKED, Choice, choose
from stages.results.files import Result
from stages.results.page import Inputs, Section
from stages.results.pictures import NotHere, Rows
from stages.results.planted import (
    Clip,
    planted_rows,
    planted_stretches,
    ranking,
    read_truth,
    shows,
    video_auc,
)
from stages.results.plates import plate
from stages.results.sheets import Sheet, Sheets
from stages.results.strips import POSES, Source, rows_of
from stages.results.table import Column, Table
from stages.results.told import by_kind, drawn_of

TITLE = "Attention"

MOST_EXPERIMENTS = 12
"""With pictures; of the others it is said that they have none."""

FEWEST_VIDEOS, MOST_VIDEOS = 3, 24
"""Of an experiment, besides those asked for."""

CARDS_PER_MB = 16
"""Of all experiments together, by the size that the page may have."""


@dataclass(frozen=True)
class Shown:
    """An experiment with its cards.

    Attributes:
        name: of the experiment.
        head: its head.
        cards: in the order of the page.
        roles: names of its tables of mean weights of roles.
        figure: name of its figure; empty where it has none.
    """

    name: str
    head: str
    cards: tuple[Card, ...]
    roles: tuple[str, ...]
    figure: str


@dataclass(frozen=True)
class Content:
    """What the template reads.

    Attributes:
        shown: experiments with cards.
        sheets: the pictures that they share.
        run: whose test videos are shown.
        runs: how many there are.
        kinds: of the targets that are told.
        is_planted: whether rows are marked that the sample planted.
        faces: how faces are shown.
        notes: what is not shown, and why.
        without: experiments whose heads weigh nothing.
    """

    shown: tuple[Shown, ...]
    sheets: tuple[Sheet, ...]
    run: str
    runs: int
    kinds: tuple[Kind, ...]
    is_planted: bool
    faces: str
    notes: tuple[str, ...]
    without: tuple[str, ...]

    @property
    def has_heat(self) -> bool:
        """Whether a map lies over a picture."""
        return any(strip.heat for one in self.shown for card in one.cards for strip in card.strips)


@dataclass(frozen=True)
class _Experiment:
    result: Result
    choices: tuple[Choice, ...]
    weights: Weights


def section(inputs: Inputs) -> Section | None:
    """Return the section; None where no head weighs anything."""
    clips = read_truth() if inputs.is_sample else {}
    results = [result for of in by_kind(inputs.results) for result in of]
    most = _most_cards(inputs, len(results))
    read = [_read(inputs, result, most, bool(clips)) for result in results]
    with_any = [one for one in read if _has_any(one)]
    if not with_any:
        return None
    sheets, sounds = (
        Sheets(inputs.settings.faces, inputs.pictures),
        Sounds(inputs.settings.faces, inputs.pictures),
    )
    drawn = {result.name for result in drawn_of([one.result for one in with_any], MOST_EXPERIMENTS)}
    pictured = [one for one in with_any if one.result.name in drawn]
    cards = _cards(pictured, sheets, sounds, clips)
    tables = _tables(with_any, pictured, clips)
    figures = {}
    shown = []
    for one in pictured:
        name = one.result.name
        own = _in_order(one, cards[name])
        figure = f"attention {name}"
        if line := plate(name, own):
            figures[figure] = line
        of_roles = tuple(_roles_table(one))
        head = str(one.result.about["head"])
        shown.append(Shown(name, head, own, of_roles, figure if line else ""))
    content = Content(
        tuple(shown),
        tuple(sheets.embedded),
        pictured[0].result.runs[0],
        len(pictured[0].result.runs),
        tuple(dict.fromkeys(one.result.target.kind for one in pictured)),
        bool(clips),
        inputs.settings.faces,
        tuple(_notes(inputs, with_any, pictured, sheets, sounds)),
        tuple(one.result.name for one in read if not _has_any(one)),
    )
    return Section(TITLE, "attention.html", content, tables, figures)


def _most_cards(inputs: Inputs, experiments: int) -> int:
    """Return how many videos of an experiment the page may have."""
    cards = int(CARDS_PER_MB * inputs.settings.max_mb)
    each = cards // min(experiments, MOST_EXPERIMENTS)
    return min(max(each, FEWEST_VIDEOS), MOST_VIDEOS) + len(inputs.settings.videos)


def _read(inputs: Inputs, result: Result, most: int, every_row: bool) -> _Experiment:
    choices = tuple(choose(result, inputs.settings.videos, most))
    shown = {choice.answer for choice in choices}
    return _Experiment(result, choices, read_attention(result, shown, every_row=every_row))


def _has_any(one: _Experiment) -> bool:
    """Tell whether there is a weight to show, or a skeleton."""
    poses = any(source.module in POSES for source in sources(one.result).values())
    return bool(one.weights.rows or one.weights.roles or poses)


def _cards(
    experiments: Sequence[_Experiment], sheets: Sheets, sounds: Sounds, clips: Mapping[str, Clip]
) -> dict[str, dict[Answer, Card]]:
    """Return experiment -> answer -> its card.

    They are made by turns, so that where room runs out every experiment has its first ones.
    """
    cards: dict[str, dict[Answer, Card]] = {one.result.name: {} for one in experiments}
    for turn in range(max(len(one.choices) for one in experiments)):
        for one in experiments:
            if turn < len(one.choices):
                choice = one.choices[turn]
                made = card(
                    one.result, one.weights, choice, sheets, sounds, clips.get(choice.answer[1])
                )
                cards[one.result.name][choice.answer] = made
    return cards


def _in_order(one: _Experiment, cards: Mapping[Answer, Card]) -> tuple[Card, ...]:
    """Return the cards as the page has them: those asked for, then name by name."""
    names = list(one.result.target.names)

    def place(choice: Choice) -> tuple[bool, int]:
        return choice.why != ASKED, names.index(choice.of) if choice.why != ASKED else 0

    return tuple(cards[choice.answer] for choice in sorted(one.choices, key=place))


# -------------------------------------------------------------------------------- tables


def _tables(
    experiments: Sequence[_Experiment], pictured: Sequence[_Experiment], clips: Mapping[str, Clip]
) -> dict[str, Table]:
    tables: dict[str, Table] = {}
    if clips and (rows := [row for one in experiments for row in _rankings(one, clips)]):
        columns = (
            Column("experiment"),
            Column("weighs"),
            Column("attention"),
            Column("AUC", "share"),
            Column("95 % from", "share"),
            Column("to", "share"),
            Column("videos", "count"),
        )
        caption = "Do the weights rank what was planted? AUC, mean over the test videos"
        tables["attention AUC"] = Table(columns, rows, caption)
    for one in pictured:
        tables |= _roles_table(one)
    tables["attention videos"] = Table(
        (
            Column("experiment"),
            Column("video"),
            Column("run"),
            Column("true"),
            Column("answer"),
            Column("probability", "percent"),
            Column("why"),
        ),
        [
            (one.result.name, c.answer[1], c.answer[0], c.label, c.predicted, p, c.why)
            for one in pictured
            for c in one.choices
            for p in [c.chances.get(c.predicted)]
        ],
        "Videos whose attention the page shows",
    )
    return tables


def _roles_table(one: _Experiment) -> dict[str, Table]:
    """Return the mean weight of each role by what is true; nothing where roles are not weighed."""
    target = one.result.target
    parts = {str(row["video_id"]): _parts(target, row) for row in one.result.predictions}
    tables = {}
    for number, of_roles in enumerate(one.weights.roles):
        means = mean_roles(of_roles, parts)
        roles = list(next(iter(means.values())))
        name = f"attention {one.result.name}{f' {number + 1}' if number else ''}"
        first = "true class" if target.kind == "class" else "true"
        tables[name] = Table(
            (Column(first), *(Column(f"{role}, %", "percent") for role in roles)),
            [(label, *(shares[role] for role in roles)) for label, shares in means.items()],
            f"{of_roles.name}: mean weight of each role, all test videos of all runs",
        )
    return tables


def _parts(target: Target, row: Mapping[str, object]) -> list[str]:
    """Return the class of a video, its labels, or on which side of the middle its values lie."""
    if target.kind != "dimensions":
        return str(row["label"]).split(BETWEEN) if row["label"] else ["none"]
    middle = sum(target.range or (0.0, 0.0)) / 2
    above = {name: float(str(row[f"true_{name}"])) > middle for name in target.names}
    return [f"{name} {'above' if above[name] else 'to'} {middle:g}" for name in target.names]


def _rankings(one: _Experiment, clips: Mapping[str, Clip]) -> Iterator[tuple[object, ...]]:
    """Yield a row of the table of AUCs for each attention over rows, and over roles."""
    known = sources(one.result)
    name = one.result.name
    rows: dict[tuple[str, str], Rows | None] = {}
    for attention in one.weights.rows:
        source = known.get(attention.role.removesuffix("_map"))
        if source is None or not attention.weights:
            continue
        aucs: dict[str, list[float | None]] = {}
        for answer, weights in attention.weights.items():
            if clip := clips.get(answer[1]):
                auc = _row_auc(source, clip, answer, weights, attention.pts_s[answer], rows)
                aucs.setdefault(answer[1], []).append(auc)
        if found := ranking(aucs):
            yield (name, f"rows of {attention.role}", attention.name, found.auc, found.low,
                   found.high, found.videos)  # fmt: skip
    for of_roles in one.weights.roles:
        aucs = {}
        for answer, shares in of_roles.weights.items():
            if clip := clips.get(answer[1]):
                aucs.setdefault(answer[1], []).append(_role_auc(known, clip, shares))
        if found := ranking(aucs):
            yield name, "roles", of_roles.name, found.auc, found.low, found.high, found.videos


def _row_auc(
    source: Source,
    clip: Clip,
    answer: Answer,
    weights: np.ndarray,
    pts_s: np.ndarray,
    known: dict[tuple[str, str], Rows | None],
) -> float | None:
    """Return the AUC of a video's rows; None where it has none, or its view is not here."""
    if source.view == SOUND:
        seconds = row_seconds(pts_s)
        if seconds is None:
            return None
        return video_auc(weights, planted_stretches(clip, pts_s, seconds))
    key = (source.view, answer[1])
    if key not in known:
        try:
            known[key] = rows_of(source.view, answer[1], pts_s)
        except NotHere:
            known[key] = None
    rows = known[key]
    if rows is None:
        return None
    return video_auc(weights[rows.valid], planted_rows(clip, source.view, rows)[rows.valid])


def _role_auc(known: Mapping[str, Source], clip: Clip, shares: Mapping[str, float]) -> float | None:
    """Return the AUC of the weights of a video's roles; a role that it lacks has none."""
    given = {role: share for role, share in shares.items() if share != 0}
    planted = [shows(clip, known[role].view) for role in given]
    return video_auc(np.array(list(given.values())), np.array(planted, bool))


# --------------------------------------------------------------------------------- notes


def _notes(
    inputs: Inputs,
    experiments: Sequence[_Experiment],
    pictured: Sequence[_Experiment],
    sheets: Sheets,
    sounds: Sounds,
) -> Iterator[str]:
    """Yield what the page does not show, and what would bring it."""
    missing = list(dict.fromkeys([*sheets.missing, *sounds.missing]))
    if missing and inputs.settings.faces != "leave out":
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        yield (
            f"Pictures or sounds are missing: {missing[0]}{more}. `dvc pull decode faces` brings "
            "the views, `dvc repro` makes them."
        )
    if sheets.left_out or sounds.left_out:
        mb = inputs.settings.max_mb
        yield (
            f"{sheets.left_out} strips of pictures and {sounds.left_out} sounds are not shown: the "
            f"page may have {mb:g} MB (report.max_mb)."
        )
    names = [one.result.name for one in pictured]
    if rest := [one.result.name for one in experiments if one.result.name not in names]:
        yield (
            f"Shown are the first experiment and the best of each target, {len(pictured)} of "
            f"{len(experiments)}, not {', '.join(rest)}."
        )
    for video in inputs.settings.videos:
        untested = [
            one.result.name
            for one in pictured
            if video not in {choice.answer[1] for choice in one.choices}
        ]
        if untested:
            yield f"No run of {', '.join(untested)} tested {video}, which report.videos asks for."
