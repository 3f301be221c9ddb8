"""Where a video's features come from: the whole chain, and which ingredient is not current."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.text import Text
from rich.tree import Tree

from affectline.plan import Link, Plan, Recorded, changes, recorded
from features.cache import tables
from features.cache.keys import canonical, file_sha256
from features.weights.file import metadata
from features.weights.record import WeightsError
from stages.engine.checks import NOT_RUN
from stages.engine.items import software
from stages.engine.kit import SOFTWARE
from stages.engine.params import Params
from stages.engine.paths import INDEX, index_of, weights_file
from stages.engine.progress import in_a_line, styled

SHORT = 12
"""Digits of a key or checksum that a person is shown."""


@dataclass(frozen=True)
class Explained:
    """A link beside what lies in the outputs, and the differences.

    Attributes:
        link: the item as it would be made now.
        found: what lies in the outputs.
        changed: ingredient, what it was, what it is.
        content: what the item holds, None where it has yet to be made.
    """

    link: Link
    found: Recorded
    changed: list[tuple[str, Any, Any]]
    content: str | None


@dataclass(frozen=True)
class Explanation:
    """The chain that leads to a video's features.

    Attributes:
        video: its row in the index.
        backbone: name of the backbone.
        links: in the order of the flow, up to the first whose key is not known: weights are not
            here, or what it is made of has yet to be made.
        weights: network -> what its weights file says of itself.
        is_current: `dvc repro` would compute nothing for it.
        verdict: that in words.
    """

    video: tables.Row
    backbone: str
    links: list[Explained]
    weights: dict[str, dict[str, str]]
    is_current: bool
    verdict: str


def explain(params: Params, video_id: str, backbone: str) -> Explanation:
    """Return where the features of a video come from.

    Raises:
        ValueError: no such video in the index, or no such backbone.
    """
    if backbone not in params.backbones:
        raise ValueError(
            f"{backbone}: expected a backbone of params.yaml: {', '.join(params.backbones)}"
        )
    if not index_of(INDEX).is_file():
        raise ValueError(NOT_RUN)
    plan = Plan(params)
    rows = plan.rows(INDEX)
    if video_id not in rows:
        near = [name for name in rows if name.endswith(f"/{video_id.rpartition('/')[2]}")]
        hint = f"; did you mean {', '.join(near[:3])}?" if near else ""
        raise ValueError(
            f"{video_id}: expected a video of the index, <label>/<name>, found none{hint}"
        )
    video = rows[video_id]
    location = _location(params, video)
    sha256 = file_sha256(location) if location.is_file() else str(video["sha256"])
    links = []
    for link in plan.chain(video_id, sha256, backbone):
        record = recorded(link, plan.rows(link.output).get(video_id))
        was = record.ingredients
        if link.stage == "index" and video["sha256"] != sha256:
            was = {**link.ingredients, "video": video["sha256"]}
        changed = list(changes(was, link.ingredients)) if was else []
        links.append(Explained(link, record, changed, plan.content(link)))
    networks = [backbone, *(["detector"] if params.backbones[backbone].view == "faces" else [])]
    weights = {name: _weights(name) for name in networks}
    is_current = links[-1].link.stage.startswith("extract") and all(
        part.found.state == "current" for part in links
    )
    return Explanation(
        video, backbone, links, weights, is_current, _verdict(links, weights, is_current)
    )


def _location(params: Params, video: tables.Row) -> Path:
    root = Path(params.index.root)
    return (root if root.is_dir() else root.parent) / str(video["file"])


def _weights(name: str) -> dict[str, str]:
    try:
        return metadata(weights_file(name))
    except WeightsError as error:
        return {"missing": str(error)}


def _verdict(
    links: list[Explained], weights: Mapping[str, Mapping[str, str]], is_current: bool
) -> str:
    if is_current:
        return "current: dvc repro would compute nothing for it"
    for part in links:
        stage, record = part.link.stage, part.found
        own = [name for name, _was, _now in part.changed if name != "input"]
        if record.state == "failed":
            return f"failed in {stage}: {record.reason}"
        if record.state == "damaged":
            return f"damaged: {record.reason}"
        if own:
            return f"not current: {', '.join(own)} of {stage} changed"
        if record.state == "stale":
            return f"not current: {stage} was made of something else"
        if record.state == "missing":
            where = "in the store, linked by dvc repro" if record.in_store else "not made yet"
            return f"{stage}: not in the output; {where}"
    lacking = [name for name, facts in weights.items() if "missing" in facts]
    return f"the weights of {', '.join(lacking)} are not here: dvc repro {_stage_of(lacking[0])}"


def _stage_of(network: str) -> str:
    return "detector" if network == "detector" else f"weights@{network}"


def as_record(explanation: Explanation) -> dict[str, Any]:
    """Return an explanation as JSON values."""
    return {
        "video": {name: value for name, value in explanation.video.items() if value is not None},
        "backbone": explanation.backbone,
        "is_current": explanation.is_current,
        "verdict": explanation.verdict,
        "weights": explanation.weights,
        "software_now": software(),
        "links": [
            {
                "stage": part.link.stage,
                "file": str(part.link.file),
                "key": part.link.key,
                "content": part.content,
                "state": part.found.state,
                "found_key": part.found.key,
                "reason": part.found.reason,
                "in_store": part.found.in_store,
                "ingredients": part.link.ingredients,
                "changed": [
                    {"ingredient": name, "was": was, "now": now} for name, was, now in part.changed
                ],
                "software": part.found.attributes.get("software"),
            }
            for part in explanation.links
        ],
    }


COLOURS = {"current": "green", "stale": "yellow", "missing": "yellow"}


def as_tree(explanation: Explanation) -> Tree:
    """Return an explanation for a person: the features on top, below each what it is made of."""
    video = explanation.video
    name = f"{video['video_id']} × {explanation.backbone}"
    tree = Tree(_line((name, "bold"), f": {explanation.verdict}"))
    place, told = tree, Text()
    last = explanation.links[-1].link.stage
    if explanation.links[-1].content is None and not last.startswith("extract"):
        place = place.add(_line(f"what comes after {last} is known when that is made"))
    for part in reversed(explanation.links):
        link, record = part.link, part.found
        state = (record.state, COLOURS.get(record.state, "red"))
        content = f" content {part.content[:SHORT]}" if part.content else ""
        key = f" key {link.key[:SHORT]}{content}  {link.file}"
        place = place.add(_line((link.stage, "bold"), " ", state, key))
        for name, value in link.ingredients.items():
            if name not in ("stage", "input", "code"):
                place.add(_line(f"{name}: {_told(name, value, explanation, link)}"))
        code = link.ingredients["code"]
        assert isinstance(code, dict)
        modules = sorted({name.rpartition(".")[0] for name in code})
        place.add(_line(f"code: {len(code)} definitions of {', '.join(modules)}"))
        for name, was, now in part.changed:
            place.add(_line(("changed", "yellow"), f" {name}: was {_short(was)}, is {_short(now)}"))
        if record.reason:
            place.add(_line((record.reason, "red")))
        versions = _versions(record.attributes.get("software"))
        if versions and versions != told:
            told = versions
            place.add(versions)
    if video["file"] is None:
        place.add(_line(("video", "bold"), " none: the data set has features alone"))
        return tree
    size = f"{video['width']}×{video['height']}, {video['fps']} fps, {video['duration_s']} s"
    place.add(
        _line(
            ("video", "bold"),
            f" {video['file']}  {video['container']}, {video['video_codec']}, {size}, "
            f"sound {video['audio_codec'] or 'none'}",
        )
    )
    return tree


def _line(*parts: str | tuple[str, str]) -> Text:
    return styled(
        *(
            in_a_line(part) if isinstance(part, str) else (in_a_line(part[0]), part[1])
            for part in parts
        )
    )


def _told(name: str, value: object, explanation: Explanation, link: Link) -> str:
    if name == "weights":
        known = explanation.weights["detector" if link.stage == "faces" else explanation.backbone]
        if "missing" not in known:
            seed = f", seed {known['seed']}" if known.get("source") == "seeded" else ""
            licence = f", licence {known['licence']}" if known.get("licence") else ""
            return f"{known['source']}{seed}{licence} (sha256 {str(value)[:SHORT]})"
    if isinstance(value, dict):
        return ", ".join(f"{key} {part}" for key, part in value.items()) or "none"
    text = str(value)
    return text[:SHORT] if name == "video" else text


def _versions(made_with: object) -> Text:
    """Say what made a file, and where this machine's versions differ (they are in no key)."""
    if not isinstance(made_with, dict):
        return Text()
    here = software()
    parts: list[str | tuple[str, str]] = []
    for name in SOFTWARE:
        if name in made_with:
            parts.append(f"{', ' if parts else 'made with '}{name} {made_with[name]}")
            if here[name] != made_with[name]:
                parts.append((f" (here {here[name]})", "yellow"))
    return _line(*parts)


def _short(value: object) -> str:
    if value is None:
        return "nothing"
    text = value if isinstance(value, str) else canonical(value)
    return text[:SHORT] if len(text) in (16, 64) else text
