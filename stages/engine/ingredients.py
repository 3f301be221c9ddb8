"""What the key of each stage's items is the hash of: the one place that says it.

The stages make keys of these to know what is current; `affectline explain` and `status` make the
same without running a stage. An ingredient ``input`` is the key of the item that is read.
"""

from collections.abc import Mapping
from dataclasses import asdict

from features.cache.keys import code_fingerprint
from features.video.views import View
from stages.engine.params import Backbone, Faces

Ingredients = dict[str, object]


def of_headers(video_sha256: str) -> Ingredients:
    """Return what a video's row in the index is made of."""
    return {
        "stage": "index",
        "video": video_sha256,
        "code": code_fingerprint("features.video.decode"),
    }


def of_view(video_sha256: str, name: str, view: View | None, seed: int) -> Ingredients:
    """Return what a decoded view is made of; ``view`` is None for the sound."""
    return {
        "stage": "decode",
        "video": video_sha256,
        "view": asdict(view) if view else name,
        "seed": seed,
        "code": code_fingerprint("features.video.decode" if view else "features.video.sound"),
    }


def of_faces(
    faces: Faces, options: Mapping[str, object], weights_sha256: str, input_key: str
) -> Ingredients:
    """Return what a video's faces are made of; ``options`` are all the detector's."""
    return {
        "stage": "faces",
        "detector": faces.detector.module,
        "options": dict(options),
        "weights": weights_sha256,
        "params": faces.model_dump(exclude={"detector", "min_score"}),
        "code": code_fingerprint("features.faces", f"features.{faces.detector.module}"),
        "input": input_key,
    }


def of_features(
    backbone: Backbone,
    options: Mapping[str, object],
    dtypes: Mapping[str, str],
    weights_sha256: str,
    input_key: str,
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
            "features.networks.extraction", f"features.backbones.{backbone.module}"
        ),
        "view": backbone.view,
        "input": input_key,
    }
