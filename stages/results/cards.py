"""A card a video: what an experiment saw of it, what it weighed, and what it answered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stages.results import maps
from stages.results.attention import Answer, RoleWeights, RowWeights, Values, Weights
from stages.results.chosen import Choice
from stages.results.files import Result
from stages.results.hearing import KIND, LONGEST_S, Heard, heard
from stages.results.page import Budget, Sound
from stages.results.pictures import Faces, NotHere
from stages.results.planted import Clip, Planted, planted_rows, planted_stretches, shows
from stages.results.sheets import Sheet, Sheets
from stages.results.sight import Box, seen_box
from stages.results.strips import POSES, Asked, Source, Strip, rows_of, same_frames, strip, written

SOUND = "sound"
"""The view without pictures."""

LARGE_PX = 224
"""Height of the picture that relations are drawn on."""

QUERY, KEY = "_relation_query", "_relation_key"
"""Ends of the names of RDAM's B and C."""


@dataclass(frozen=True)
class Stretch:
    """A row of the sound: where it lies, in per cent of the sound, and its weight.

    Attributes:
        left: its start.
        width: of it.
        share: of its weight in the video's largest, 0..100.
        weight: in words.
        is_planted: whether the sample's class is heard in it.
        time: its start, in words.
    """

    left: float
    width: float
    share: float
    weight: str
    is_planted: bool
    time: str


@dataclass(frozen=True)
class Wave:
    """The sound of a video with the attention over it.

    Attributes:
        attentions: role and name of what is weighed -> stretches.
        path: the wave form as an SVG path in 1000 x 100; empty where the sound is not here.
        end: its length, in words.
        player: the sound itself; None where it is not to be heard, lacks, or stands elsewhere.
        number: of the video's player in the page, which one card has; None where there is none.
        alt: what is shown, in words.
        facts: more of it.
    """

    attentions: Mapping[str, tuple[Stretch, ...]]
    path: str
    end: str
    player: Sound | None
    number: int | None
    alt: str
    facts: tuple[str, ...]


@dataclass(frozen=True)
class Related:
    """A larger picture with its map and the strongest relations of its regions.

    Attributes:
        role: whose picture.
        sheet: the picture.
        heat: the map of where; None where the head has none.
        box: where in the picture the regions lie.
        relations: the strongest first.
        alt: what it shows, in words.
        time: of the picture, in words.
    """

    role: str
    sheet: Sheet
    heat: Sheet | None
    box: Box
    relations: tuple[maps.Relation, ...]
    alt: str
    time: str


@dataclass(frozen=True)
class Card:
    """A video.

    Attributes:
        choice: the answer and why it is shown.
        strips: of the roles that have pictures.
        waves: of those that are heard.
        related: pictures with relations.
        roles: name of what is weighed -> role -> weight.
        planted_roles: those that show the class, of the sample alone.
    """

    choice: Choice
    strips: tuple[Strip, ...]
    waves: tuple[Wave, ...]
    related: tuple[Related, ...]
    roles: Mapping[str, Mapping[str, float]]
    planted_roles: frozenset[str]


class Sounds:
    """The sounds of videos, each read and embedded once; the bytes come from a budget.

    Attributes:
        missing: why sounds lack, each reason once.
        left_out: players without room.
        players: video_id -> number of its player in the page.
    """

    def __init__(self, faces: Faces, budget: Budget) -> None:
        """Start without a sound; where faces are left out there are no players."""
        self.missing: list[str] = []
        self.left_out = 0
        self.players: dict[str, int] = {}
        self._budget = budget
        self._has_players = faces != "leave out"
        self._known: dict[str, Heard | None] = {}

    def heard(self, video_id: str) -> tuple[Heard | None, Sound | None]:
        """Return a video's sound, and the first time its player; None where there is none."""
        if video_id in self._known:
            return self._known[video_id], None
        try:
            found = heard(video_id)
        except NotHere as error:
            self.missing.append(str(error))
            found = None
        self._known[video_id] = found
        if found is None or not self._has_players:
            return found, None
        if not self._budget.take(found.played):
            self.left_out += 1
            return found, None
        self.players[video_id] = len(self.players)
        return found, Sound(found.played, KIND, f"Sound of {video_id}")


def sources(result: Result) -> dict[str, Source]:
    """Return what each role of an experiment reads, but for maps that stand beside a role."""
    found = {}
    for role, feature in result.about["roles"].items():
        backbone = feature.split("/")[0]
        origin = result.about["features"][backbone]
        module, options = str(origin.get("module", "")), dict(origin.get("options", {}))
        found[role] = Source(role, str(origin["view"]), backbone, module, options)
    return {
        role: source
        for role, source in found.items()
        if not (role.endswith("_map") and role.removesuffix("_map") in found)
    }


def card(
    result: Result,
    weights: Weights,
    choice: Choice,
    sheets: Sheets,
    sounds: Sounds,
    clip: Clip | None,
) -> Card:
    """Return the card of a video.

    Args:
        result: of the experiment.
        weights: what its head weighed.
        choice: the video.
        sheets: where pictures are kept.
        sounds: likewise sounds.
        clip: what is planted in it, of the sample alone.
    """
    known = sources(result)
    by_role: dict[str, list[RowWeights]] = {role: [] for role in known}
    for attention in weights.rows:
        if choice.answer in attention.pts_s:
            by_role.setdefault(attention.role, []).append(attention)
    strips, related = [], []
    for role, attentions in by_role.items():
        source = known.get(role)
        if source is None or source.view == SOUND:
            continue
        if not attentions and source.module not in POSES:
            continue
        asked = Asked(choice.answer, sheets, _planted(clip, source, attentions, choice.answer))
        beside = _beside(source, known, by_role, choice.answer[1]) if attentions else []
        if drawn := strip(asked, source, attentions, beside):
            strips.append(drawn)
        sheets.missing += asked.missing
        related += _related(asked, source, attentions)
    heard_roles = {r: a for r, a in by_role.items() if a and r in known and known[r].view == SOUND}
    waves = [_wave(choice.answer, heard_roles, sounds, clip)] if heard_roles else []
    roles = {
        of_roles.name: of_roles.weights[choice.answer]
        for of_roles in weights.roles
        if choice.answer in of_roles.weights
    }
    planted = frozenset(r for r, s in known.items() if clip and shows(clip, s.view))
    return Card(choice, tuple(strips), tuple(waves), tuple(related), roles, planted)


def _planted(
    clip: Clip | None, source: Source, attentions: Sequence[RowWeights], answer: Answer
) -> dict[str, Planted]:
    """Return view -> which of its rows are planted; nothing where that is not known."""
    if clip is None or not attentions:
        return {}
    try:
        rows = rows_of(source.view, answer[1], attentions[0].pts_s[answer])
    except NotHere:
        return {}
    return {source.view: planted_rows(clip, source.view, rows)}


def _beside(
    source: Source,
    known: Mapping[str, Source],
    by_role: Mapping[str, Sequence[RowWeights]],
    video_id: str,
) -> list[Source]:
    """Return the roles that the weights of a role stand for too, a view each."""
    others: dict[str, Source] = {}
    for role, other in known.items():
        is_free = not by_role[role] and other.view not in (source.view, SOUND)
        if is_free and other.module not in POSES and other.view not in others:
            if same_frames(source.view, other.view, video_id):
                others[other.view] = other
    return list(others.values())


# ------------------------------------------------------------------------------ relations


def _related(asked: Asked, source: Source, attentions: Sequence[RowWeights]) -> list[Related]:
    """Return the picture with the most weight and the relations in it, where there are any."""
    answer = asked.answer
    named = {attention.name: attention for attention in attentions}
    query = next((a for name, a in named.items() if name.endswith(QUERY)), None)
    if query is None or (key := named.get(query.name.removesuffix(QUERY) + KEY)) is None:
        return []
    try:
        rows = rows_of(source.view, answer[1], query.pts_s[answer])
    except NotHere:
        return []  # the strip has said so
    if not rows.valid.any():
        return []
    over_rows = next((a.weights[answer] for a in attentions if answer in a.weights), None)
    row = int(np.argmax(np.where(rows.valid, 0 if over_rows is None else over_rows, -np.inf)))
    sheet = asked.sheets.still(source.view, answer[1], row, LARGE_PX)
    box = seen_box(source.module, source.options, *sheet.frame) if sheet else None
    if sheet is None or box is None:
        return []
    strongest = tuple(maps.relations(query.maps[answer][row], key.maps[answer][row]))
    location = next((a for a in attentions if a.name.endswith("_location")), None)
    heat = None
    if location is not None:
        heat = asked.sheets.heat(maps.even_shares(location.maps[answer][row : row + 1]))
    alt = (
        f"{answer[1]}, {source.role} at {rows.time_s[row]:.1f} s, with the {len(strongest)} "
        "strongest relations of its regions"
    )
    time = f"{rows.time_s[row]:.1f} s"
    return [Related(source.role, sheet, heat, box, strongest, alt, time)]


# ---------------------------------------------------------------------------------- sound


def _wave(
    answer: Answer,
    roles: Mapping[str, Sequence[RowWeights]],
    sounds: Sounds,
    clip: Clip | None,
) -> Wave:
    """Return the sound of a video with the attention of all roles that hear it."""
    found, player = sounds.heard(answer[1])
    number = sounds.players.get(answer[1])
    stretches: dict[str, tuple[Stretch, ...]] = {}
    facts, alt = [], [f"{answer[1]}, its sound"]
    for role, attentions in roles.items():
        for attention in attentions:
            if answer not in attention.weights:
                continue
            weights, starts = attention.weights[answer], attention.pts_s[answer]
            if not len(weights):
                continue
            name = f"{role}: {attention.name}"
            stretches[name] = _stretches(weights, starts, found, clip)
            alt.append(f"{role} has most weight at {starts[int(np.argmax(weights))]:.1f} s")
            if (np.diff(starts) < 0).any():
                facts.append(
                    f"The sound is shorter than the {len(starts)} rows of {role}, which start it "
                    "again: they stand in their order, not in time."
                )
    if player and found and found.seconds > LONGEST_S:
        facts.append(f"The player has the first {LONGEST_S:.0f} s.")
    end = f"{found.start_s + found.seconds:.1f} s" if found else ""
    path = _path(found) if found else ""
    return Wave(stretches, path, end, player, number, ", ".join(alt), tuple(facts))


def row_seconds(starts_s: Values) -> float | None:
    """Return how long a row of sound is; None where the sound starts again, or there is one row."""
    steps = np.diff(starts_s)
    return float(np.median(steps)) if len(steps) and steps.min() > 0 else None


def _stretches(
    weights: Values, starts_s: Values, found: Heard | None, clip: Clip | None
) -> tuple[Stretch, ...]:
    """Return the rows of a sound on its time line, or side by side where they have none."""
    largest = max(float(weights.max(initial=0)), 1e-12)
    shares = 100 * np.clip(weights / largest, 0, 1)
    length = row_seconds(starts_s)
    planted = np.zeros(len(weights), bool)
    if found is None or (length is None and len(weights) > 1):
        lefts, widths = 100 * np.arange(len(weights)) / len(weights), 100 / len(weights)
    else:
        length = found.seconds if length is None else length
        lefts = 100 * (starts_s - found.start_s) / found.seconds
        widths = 100 * length / found.seconds
    if clip is not None and length is not None:
        planted = planted_stretches(clip, starts_s, length)
    return tuple(
        Stretch(
            round(float(left), 2),
            round(float(min(widths, 100 - left)), 2),
            round(float(share), 1),
            written(float(weight), largest),
            bool(is_planted),
            f"{start:.1f} s",
        )
        for left, share, weight, is_planted, start in zip(
            lefts, shares, weights, planted, starts_s, strict=True
        )
    )


def _path(found: Heard) -> str:
    """Return the wave form as a closed path: the largest samples there, the smallest back."""
    loudest = max(float(np.abs(found.low).max()), float(found.high.max()), 1e-6)
    places = np.rint(np.linspace(0, 1000, len(found.high))).astype(int)
    tops = np.rint(50 - 48 * found.high / loudest).astype(int)
    bottoms = np.rint(50 - 48 * found.low / loudest).astype(int)
    there = [f"{x} {y}" for x, y in zip(places, tops, strict=True)]
    back = [f"{x} {y}" for x, y in zip(places[::-1], bottoms[::-1], strict=True)]
    return f"M{'L'.join([*there, *back])}Z"


def mean_roles(
    weights: RoleWeights, parts: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, float]]:
    """Return part of the videos -> role -> mean weight over the answers.

    Args:
        weights: of every answer.
        parts: video_id -> those that it is in: its class, each of its labels.
    """
    cells: dict[str, dict[str, list[float]]] = {}
    for (_, video_id), shares in weights.weights.items():
        for role, share in shares.items():
            for part in parts[video_id]:
                cells.setdefault(part, {}).setdefault(role, []).append(share)
    return {
        part: {role: float(np.mean(values)) for role, values in by_role.items()}
        for part, by_role in sorted(cells.items())
    }
