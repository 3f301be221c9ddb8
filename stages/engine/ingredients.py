"""What the key of each stage's items is the hash of: the one place that says it.

The stages make keys of these to know what is current; `affectline explain` and `status` make the
same without running a stage.

An ingredient ``input`` is the content of the item that is read, not its key: where a change of the
code leaves the frames as they were, decode makes them anew and nothing after it.

An ingredient ``code`` is all that the stage's ``compute`` reaches by name, and what it takes from
the module that params.yaml names: the names below, as far as the module has them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from features.cache.keys import code_fingerprint, defined, item_key
from features.video.views import View
from stages.engine.params import Backbone, Faces

Ingredients = dict[str, object]

BACKBONE = ("Options", "FEATURES", "features", "AXES", "axes", "DTYPES", "preprocess", "build")
"""Names of a backbone's module that make its features, :mod:`features.backbones`."""

DETECTOR = ("Options", "LANDMARKS", "build")
"""Names of a detector's module that find its faces, :mod:`features.detectors`."""

HEAD = ("Params", "ROLES", "ALIGNED", "build")
"""Names of a head's module that train and test it, :mod:`heads`."""


def of_headers(video_sha256: str) -> Ingredients:
    """Return what a video's row in the index is made of."""
    return {
        "stage": "index",
        "video": video_sha256,
        "code": code_fingerprint("stages.index.compute"),
    }


def of_view(video_sha256: str, name: str, view: View | None, seed: int) -> Ingredients:
    """Return what a decoded view is made of; ``view`` is None for the sound."""
    return {
        "stage": "decode",
        "video": video_sha256,
        "view": asdict(view) if view else name,
        "seed": seed,
        "code": code_fingerprint(
            "stages.decode._write_frames" if view else "stages.decode._write_sound"
        ),
    }


def of_faces(
    faces: Faces, options: Mapping[str, object], weights_sha256: str, content: str
) -> Ingredients:
    """Return what a video's faces are made of; ``options`` are all the detector's."""
    return {
        "stage": "faces",
        "detector": faces.detector.module,
        "options": dict(options),
        "weights": weights_sha256,
        "params": faces.model_dump(exclude={"detector", "min_score"}),
        "code": code_fingerprint(
            "stages.faces.compute",
            *defined(f"features.detectors.{faces.detector.module}", DETECTOR),
        ),
        "input": content,
    }


def of_features(
    backbone: Backbone,
    options: Mapping[str, object],
    dtypes: Mapping[str, str],
    weights_sha256: str,
    content: str,
) -> Ingredients:
    """Return what a video's features are made of; ``options`` and ``dtypes`` are complete."""
    return {
        "stage": "extract",
        "module": backbone.module,
        "options": dict(options),
        "precision": backbone.precision,
        "dtypes": dict(dtypes),
        "weights": weights_sha256,
        "code": code_fingerprint(
            "stages.extract.compute",
            "stages.extract.computed_together",
            *defined(f"features.backbones.{backbone.module}", BACKBONE),
        ),
        "view": backbone.view,
        "input": content,
    }


def of_imported(
    options: Mapping[str, object],
    dtypes: Mapping[str, str],
    facts: Mapping[str, str],
    content: str,
) -> Ingredients:
    """Return what a video's imported features are made of.

    Args:
        options: shape and axes of a row.
        dtypes: of what is stored.
        facts: what the file of imported arrays says of itself.
        content: sha256 of what was imported of the video.
    """
    return {
        "stage": "extract",
        "module": "imported",
        "options": dict(options),
        "dtypes": dict(dtypes),
        **{name: facts[name] for name in ("origin", "licence")},
        "code": code_fingerprint("stages.engine.imported.copy"),
        "view": "none",
        "input": content,
    }


def of_imported_file(sha256: str) -> Ingredients:
    """Return what a file of imported arrays is made of: its name has the first digits of this."""
    return {"stage": "weights", "imported": sha256}


def of_weights(
    name: str,
    shapes: Mapping[str, Sequence[int]],
    sources: Sequence[tuple[str, str, Sequence[str]]],
    terms: tuple[str, str],
    fresh: Mapping[str, int],
) -> Ingredients:
    """Return what a network's file of pretrained weights is made of.

    Args:
        name: of the network.
        shapes: of its tensors.
        sources: of each file its origin, its checksum and the definitions that make tensors of it.
        terms: licence and notice.
        fresh: tensors that no file holds -> the seed that they are drawn from.
    """
    drawing = ["features.weights.seeding.drawn"] if fresh else []
    return {
        "stage": "weights",
        "name": name,
        "shapes": {key: list(shape) for key, shape in shapes.items()},
        "sources": [
            [origin, sha256, item_key({"code": code_fingerprint(*code)})]
            for origin, sha256, code in sources
        ],
        "terms": list(terms),
        "fresh": dict(fresh),
        "code": code_fingerprint("features.weights.file.write_pretrained", *drawing),
    }


def code_of_run(head: str) -> dict[str, str]:
    """Return the fingerprint of the code that trains and tests a head."""
    return code_fingerprint("stages.train.compute", *defined(f"heads.{head}", HEAD))


def code_of_trial(head: str) -> dict[str, str]:
    """Return the fingerprint of the code that tries settings of a head."""
    return code_fingerprint("stages.train.compute_trial", *defined(f"heads.{head}", HEAD))


def code_of_answer(head: str) -> dict[str, str]:
    """Return the fingerprint of the code by which a trained head answers: no part of training."""
    return code_fingerprint(
        "heads.training.answer.answer",
        "heads.training.data.Features",
        "heads.training.data.collate",
        "heads.training.standardise.build_network",
        *defined(f"heads.{head}", HEAD),
    )
