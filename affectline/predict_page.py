"""A page with the answers to new videos: what the head saw of each, and what decided.

Cards, pictures and sounds are the report's, which reads views where a project has them: those of
the videos are laid out likewise, in a folder of its own, while the page is made.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from affectline.predict import Predicted
from affectline.predictions import Prediction, answer_of, labels_of
from affectline.publish import TEMPLATES
from affectline.trained import Trained
from features.cache.claims import scratch
from features.cache.store import ItemStore, link_or_copy, store_root
from stages.engine.items import item_path
from stages.engine.params import Backbone, Report
from stages.engine.paths import FEATURES, VIEWS
from stages.results import page
from stages.results.attention import Answer, RoleWeights, RowWeights, Values, Weights
from stages.results.cards import Card, Sounds, card
from stages.results.chosen import Choice
from stages.results.files import Result
from stages.results.page import MB, PICTURES_SHARE, Budget
from stages.results.sheets import Sheets

MEAN = "mean over the runs"
"""Stands for the run, where weights are the mean of several."""

STYLES = ("page.css", "attention.css")


def page_of(trained: Trained, predicted: Predicted) -> str:
    """Return the page, HTML in one file.

    Args:
        trained: what has answered.
        predicted: the answers, with weights; their items are in the store.
    """
    report = trained.params.report
    budget = Budget(PICTURES_SHARE * report.max_mb * MB)
    sheets, sounds = Sheets(report.faces, budget), Sounds(report.faces, budget)
    shown = list(zip(predicted.predictions, predicted.videos, strict=True))
    with scratch((store_root() / "unfinished").absolute()) as folder:
        _lay_out(predicted, trained.params.backbones, folder)
        with contextlib.chdir(folder):  # the report's parts count from a project's root
            cards = _cards(trained, predicted, shown, sheets, sounds)
    style = "\n".join((page.TEMPLATES / name).read_text(encoding="utf-8") for name in STYLES)
    return (
        page.engine(TEMPLATES)
        .get_template("prediction.html")
        .render(
            name=trained.name,
            head=trained.stated["head"],
            target=trained.target,
            runs=list(trained.runs),
            remarks=trained.remarks,
            settings=report,
            predictions=predicted.predictions,
            labels={each.file: ", ".join(labels_of(each)) for each in predicted.predictions},
            cards=cards,
            is_anything_shown=any(map(_shows, cards.values())),
            sheets=sheets.embedded,
            notes=_notes(report, sheets, sounds),
            style=Markup(style),
        )
    )


def _lay_out(predicted: Predicted, networks: Mapping[str, Backbone], folder: Path) -> None:
    """Link the videos' views and features from the store, as a project has them."""
    store = ItemStore(store_root())
    for name, keys in predicted.items.items():
        place = folder / (FEATURES if name in networks else VIEWS) / name
        for video_id, key in keys.items():
            file = store.path(key, ".h5")
            if file.is_file():
                link_or_copy(file.absolute(), place / item_path(video_id))


def _cards(
    trained: Trained,
    predicted: Predicted,
    shown: Sequence[tuple[Prediction, str]],
    sheets: Sheets,
    sounds: Sounds,
) -> dict[str, Card]:
    """Return file -> card, of the videos that have an answer."""
    features = {
        name: {"module": block.module, "options": block.options, "view": block.view}
        for name, block in trained.params.backbones.items()
    }
    about: dict[str, Any] = {"roles": trained.roles, "features": features}
    result = Result(trained.name, Path(), {}, about, [], [], [])
    cards = {}
    for each, video_id in shown:
        if each.reason is None and each.file not in cards:
            notes = "; ".join(f"{role}: {what}" for role, what in (each.lacking or {}).items())
            is_class = trained.target.kind == "class"
            answer = str(each.predicted) if is_class else answer_of(trained.target, each)
            chances = each.probabilities or {}
            detail = f"{100 * chances[answer]:.0f} %" if is_class else ""
            choice = Choice((MEAN, video_id), "", answer, chances, notes, detail=detail)
            weights = _mean(predicted.weights[video_id], list(trained.runs))
            cards[each.file] = card(result, weights, choice, sheets, sounds, None)
    return cards


def _shows(card: Card) -> bool:
    """Tell whether there is anything on a card but the answer."""
    return bool(card.strips or card.waves or card.related or card.roles)


def _mean(weights: Weights, runs: Sequence[str]) -> Weights:
    """Return what the runs weighed on average."""

    def over_runs(values: Mapping[Answer, Values]) -> dict[Answer, Values]:
        return _averaged(values, runs, lambda given: np.mean(given, axis=0))

    rows = [
        RowWeights(
            each.name,
            each.role,
            over_runs(each.weights),
            over_runs(each.maps),
            _averaged(each.pts_s, runs, lambda given: given[0]),
        )
        for each in weights.rows
    ]
    roles = [
        RoleWeights(
            each.name,
            _averaged(
                each.weights,
                runs,
                lambda given: {r: float(np.mean([one[r] for one in given])) for r in given[0]},
            ),
        )
        for each in weights.roles
    ]
    return Weights(rows, roles)


def _averaged(
    values: Mapping[Answer, Any], runs: Sequence[str], mean: Callable[[list[Any]], Any]
) -> dict[Answer, Any]:
    videos = dict.fromkeys(video_id for _, video_id in values)
    return {
        (MEAN, video_id): mean([values[run, video_id] for run in runs if (run, video_id) in values])
        for video_id in videos
    }


def _notes(report: Report, sheets: Sheets, sounds: Sounds) -> list[str]:
    """Return what the page does not show, and why."""
    notes = []
    if report.faces != "leave out":
        notes += [f"Not here: {line}." for line in dict.fromkeys(sheets.missing + sounds.missing)]
    if report.faces == "leave out":
        notes.append("Pictures and sounds are left out (report.faces): bars stand alone.")
    if report.faces == "blur":
        notes.append("Faces are blurred, and frames in which it is not known where they are.")
    if sheets.left_out or sounds.left_out:
        notes.append(
            f"{sheets.left_out} strips of pictures and {sounds.left_out} sounds are not shown: the "
            f"page may have {report.max_mb:g} MB (report.max_mb)."
        )
    return notes
