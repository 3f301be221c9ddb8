"""A trained head to give away: a folder with which a colleague without the data can predict.

It holds checkpoints, settings, checksums and sources of the backbones' weights, and a card in
words; no features, no frames, no names of videos. `affectline.published` reads it.
"""

import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from affectline.card import commit
from affectline.published import (
    CARD,
    MODEL,
    RUNS,
    Published,
    Settings,
    Weights,
    file_of,
    plain,
)
from affectline.trained import Trained, networks, of_experiment, pulled
from features import backbones
from features.cache import tables
from features.cache.keys import file_sha256
from features.cache.store import replacing
from features.weights.file import metadata, tensors_sha256
from heads.training.scores import measured_of
from heads.training.targets import Target, chosen, labels_of, names_of, read_targets
from stages.engine.items import software
from stages.engine.params import Params
from stages.engine.paths import INDEX, RESULTS, has_sample, index_of, weights_file
from stages.engine.progress import in_a_line
from stages.results.files import Result, interval, read_result
from stages.results.scores import skew_of
from stages.weights import DETECTOR

TEMPLATES = Path(__file__).parent / "templates"


def publish(params: Params, name: str, wanted: Sequence[str], out: Path) -> Trained:
    """Write what an experiment trained into a new folder.

    Args:
        params: params.yaml.
        name: of the experiment.
        wanted: runs; all where none is named.
        out: the folder; it must not exist, or be empty.

    Raises:
        ValueError: it cannot be shown that this project makes the features that were trained on.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out}: expected a folder to make, found one that is not empty")
    trained = of_experiment(params, name, wanted)
    if lacking := [*trained.unproven, *(file for file in [index_of(INDEX)] if not file.is_file())]:
        raise ValueError(
            f"experiment {name}: {lacking[0]} is not here, and without it nothing shows what the "
            f"features were made of; {pulled(lacking)} brings it"
        )
    with replacing(out) as unfinished:
        try:
            (unfinished / RUNS).mkdir(parents=True)
            for run, checkpoint in trained.runs.items():
                shutil.copyfile(checkpoint.file, unfinished / file_of(run))
            published = _published(trained, unfinished)
            text = json.dumps(published.model_dump(mode="json"), indent=2, sort_keys=True)
            (unfinished / MODEL).write_text(text + "\n", encoding="utf-8")
            (unfinished / CARD).write_text(_card(trained, published), encoding="utf-8")
            if out.is_dir():
                out.rmdir()
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
    return trained


def _published(trained: Trained, folder: Path) -> Published:
    params = trained.params
    files = {name: weights_file(name) for name in networks(params)}
    faces = params.faces.model_copy(update={"detector": plain(params.faces.detector)})
    return Published(
        format=1,
        name=trained.name,
        runs={run: file_sha256(folder / file_of(run)) for run in trained.runs},
        settings=Settings(
            decode=params.decode,
            faces=faces,
            backbones={name: plain(block) for name, block in params.backbones.items()},
        ),
        made_of={stage: dict(ingredients) for stage, ingredients in trained.made_of.items()},
        weights={
            name: Weights(tensors=tensors_sha256(file), facts=metadata(file))
            for name, file in files.items()
        },
        commit=commit(),
        software=software(),
    )


# ------------------------------------------------------------------------------------ card


def _card(trained: Trained, published: Published) -> str:
    """Return the card of a published head, Markdown: what is known of it, in words."""
    engine = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    engine.filters["plain"] = _plain
    params = trained.params
    result = read_result(RESULTS, trained.name)
    videos, counts = _counts(trained.target)
    root = Path(params.index.root)
    return engine.get_template("model_card.md").render(
        name=trained.name,
        head=trained.stated["head"],
        target=trained.target,
        roles=trained.roles,
        runs=list(trained.runs),
        training=trained.stated["training"],
        search=result.about.get("search"),
        chosen={run: result.search["runs"][run]["settings"] for run in trained.runs}
        if result.search
        else {},
        is_sample=has_sample(root),
        dataset=params.index.dataset,
        videos=videos,
        counts=counts,
        missing=len(result.about["missing"]),
        splits=_splits(result, list(trained.runs)),
        all_runs=result.runs,
        scores=result.metrics,
        interval=interval(result.metrics[measured_of(result.metrics)[0]]),
        skew=str(skew_of(result) or "") if trained.target.kind == "class" else "",
        per_class=result.per_class,
        networks=[_network(name, params, published) for name in networks(params)],
        pretrained=trained.stated["pretrained"],
        published=published,
        files={str(file_of(run)): digest for run, digest in published.runs.items()},
    )


def _plain(text: object) -> str:
    """Return other people's text as one cell or line of Markdown, without markup of theirs."""
    line = in_a_line(str(text))
    return "".join(f"\\{sign}" if sign in r"\`*_[]<>|#" else sign for sign in line)


def _counts(target: Target) -> tuple[int, dict[str, int]]:
    """Return how many videos can be used, and class, or label, -> how many of them have it.

    Of several corpora it is about the classes that all have. Nothing is counted of dimensions.
    """
    index = index_of(INDEX)
    rows = [row for row in tables.read(index, ["label", "status"]) if row["status"] == "ok"]
    rows = [row for row in rows if row.get("class", "") is not None]
    declared = read_targets(index)
    is_first = not declared or declared[0].name == target.name
    if target.kind == "class" and is_first and rows and "class" in rows[0]:
        return len(rows), dict(sorted(Counter(str(row["class"]) for row in rows).items()))
    if target.kind == "dimensions":
        return len(rows), {}
    known, labels = labels_of(rows, chosen(index, declared, target.name))
    names = (name for label in labels.values() for name in names_of(known, label))
    return len(rows), dict(sorted(Counter(names).items()))


def _splits(result: Result, runs: Sequence[str]) -> dict[str, Mapping[str, int]]:
    """Return run -> how many videos train and test it, of those that are published."""
    splits: dict[str, Mapping[str, int]] = result.about["splits"]
    return {run: splits[run] for run in runs}


def _network(name: str, params: Params, published: Published) -> dict[str, Any]:
    """Return what the card says of a network and its weights."""
    block = params.faces.detector if name == DETECTOR else params.backbones[name]
    is_detector = name == DETECTOR
    return {
        "name": name,
        "title": "face detector" if is_detector else backbones.describe(block.module).title,
        "module": block.module,
        "view": "segments" if is_detector else params.backbones[name].view,
        "tensors": published.weights[name].tensors,
        "facts": published.weights[name].facts,
    }
