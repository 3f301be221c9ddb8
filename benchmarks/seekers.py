"""What is planted, and which heads look for it with which settings: the rows of planted.py."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from signals import (
    EMOTIONS,
    MODALITIES,
    PAIRS,
    Plant,
    plant_channels,
    plant_frames,
    plant_modalities,
    plant_regions,
    plant_relation,
    plant_segments,
)

from heads.training.settings import Training

Kind = Literal["baseline", "ablation", "mechanism", "literal", "rival"]


@dataclass(frozen=True)
class Entry:
    """A head in a scenario.

    Attributes:
        name: of the row, unique in its scenario.
        kind: see benchmarks/planted.py.
        head: a head.
        roles: role of the head -> role that was planted.
        params: what differs from the head's defaults.
        beats: name of the row that it is compared with, besides `pooling`.
        attention: its attention output that is compared with what was planted.
        ranks: that output must rank what was planted, for the verdict.
    """

    name: str
    kind: Kind
    head: str
    roles: Mapping[str, str]
    params: Mapping[str, object]
    beats: str | None = None
    attention: str | None = None
    ranks: bool = True


@dataclass(frozen=True)
class Scenario:
    """Something planted, and the heads that look for it.

    Attributes:
        name: what it is called.
        says: what is planted.
        plant: makes the videos.
        train: number of training videos.
        training: settings of every head in it.
        entries: the heads; the first is `pooling`.
        classes: of the videos.
        test: number of test videos.
    """

    name: str
    says: str
    plant: Plant
    train: int
    training: Training
    entries: Sequence[Entry]
    classes: tuple[str, ...] = EMOTIONS
    test: int = 200


Params = dict[str, object]

# Networks are as small as the features: 16 to 64 neurons where the papers have 512 to 4096.
POOLING: Params = {"embedding": 32, "hidden": 32}
CAAN: Params = {"embedding": 32, "fusion": 64, "feature": 32}
CAAN |= {"score_hidden": [32, 16], "score_channels": 16}
HAMF: Params = {"local_channels": 16, "local_hidden": 32, "frame_hidden": 32}
HAMF |= {"global_hidden": [32, 16], "hidden": 32, "dropout": 0.0}
RDAM: Params = {"channels": 32, "feature": 32, "score_hidden": 16}
MMF: Params = {"width": 32, "layers": 1, "feedforward": 64, "dropout": 0.0, "groups": 4}
MMF |= {"fusion": 32, "hidden": 32}
VAANET: Params = {"conv0": 0, "audio_fc": 0, "spatial": False, "channel": False}
VAANET |= {"temporal": False, "audio_temporal": False}
NEXTVLAD: Params = {"projection": 32, "groups": 4, "hidden": 32, "dropout": 0.0}
CLUSTERS: Params = {"units": 8, "shifting": True}
CONTEXT: Params = {"embedding": 32, "fusion": 64, "hidden": 32}
QUALITY: Params = {"embedding": 32, "channels": 16}
LSTM: Params = {"units": 32, "dropout": 0.0}

NO_HINGE: Params = {"triplet_hinge": False, "triplet_normalise": False}
NO_VIDEO_LOSS: Params = {"video_weight": 0.0}


def _settings(epochs: int, learning_rate: float, weight_decay: float = 0.0) -> Training:
    return Training(
        epochs=epochs,
        batch_videos=16,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        threads=1,
    )


def _pooling(*roles: str, **params: object) -> Entry:
    # Over one role, whatever its name, pooling is the same network.
    return Entry("pooling", "baseline", "pooling", {r: r for r in roles}, POOLING | params)


def _caan(name: str, kind: Kind, roles: Mapping[str, str], **params: object) -> Entry:
    return Entry(name, kind, "caan", roles, CAAN | params, "pooling", "frame_scores")


def _hamf_local(
    name: str, kind: Kind, roles: Mapping[str, str], beats: str | None, **params: object
) -> Entry:
    weights = "face_scores" if beats else None
    return Entry(name, kind, "hamf", roles, HAMF | params, beats, weights)


def _hamf_global(name: str, kind: Kind, **params: object) -> Entry:
    roles = {name: name for name in MODALITIES}
    own = HAMF | {"local_attention": "none"} | params
    attends = own.get("global_attention") != "none"
    none = "hamf no global"
    beats, weights = (none, "modality_scores") if attends else (None, None)
    return Entry(name, kind, "hamf", roles, own, beats, weights)


def _rdam_frames(name: str, kind: Kind, **params: object) -> Entry:
    own = RDAM | {"attention": "none"} | params
    attends = own.get("frame_attention", True)
    beats, weights = ("rdam no frames", "face_frame_scores") if attends else (None, None)
    return Entry(name, kind, "rdam", {"face": "row_cell"}, own, beats, weights)


def _rdam_regions(name: str, kind: Kind, weights: str | None, **params: object) -> Entry:
    own = RDAM | {"frame_attention": False} | params
    beats = "rdam no regions" if weights else None
    return Entry(name, kind, "rdam", {"face": "map"}, own, beats, weights)


def _vaanet(attention: str, roles: Mapping[str, str], kind: Kind, **size: object) -> list[Entry]:
    """Return VAANet with one attention, without, and as its equations have it."""
    without, own = f"vaanet no {attention}", VAANET | size
    on, paper = {attention: True}, {"form": "paper"}
    name = f"vaanet {attention}" if own.get("rescale") is None else f"vaanet {attention}, no scale"
    return [
        Entry(name, kind, "vaanet", roles, own | on, without, attention),
        Entry(without, "ablation", "vaanet", roles, own),
        Entry(
            f"vaanet {attention} (eqs.)",
            "literal",
            "vaanet",
            roles,
            own | on | paper,
            without,
            attention,
        ),
    ]


def _rival(head: str, roles: Mapping[str, str], params: Params, weights: str | None) -> Entry:
    return Entry(head, "rival", head, roles, params, "pooling", weights)


def _frames_entries() -> list[Entry]:
    row = {"face": "row"}
    none = "hamf no local"
    return [
        _pooling("row"),
        _caan("caan", "mechanism", row),
        _caan("caan softmax", "rival", row, score_activation="softmax"),
        _caan("caan eqs. 3, 4 (no sigmoid)", "literal", row, score_activation="literal"),
        _caan("caan triplets without bound", "literal", row, **NO_HINGE),
        _caan("caan without video loss", "literal", row, **NO_VIDEO_LOSS),
        _hamf_local("hamf local", "mechanism", row, none),
        _hamf_local(none, "ablation", row, None, local_attention="none"),
        _hamf_local("hamf eq. 4 (no division)", "literal", row, none, frame_normalise="none"),
        _hamf_local("hamf eq. 1 (no bound)", "literal", row, none, **NO_HINGE),
        _hamf_local("hamf without video loss", "literal", row, none, **NO_VIDEO_LOSS),
        _rdam_frames("rdam frames", "mechanism"),
        _rdam_frames("rdam no frames", "ablation", frame_attention=False),
        _rdam_frames("rdam eqs. 10, 11 (no sigmoid)", "literal", frame_activation="literal"),
        # MMF has no switch for what it weighs rows with, and shows no weights.
        Entry("mmf", "mechanism", "mmf", {"visual": "row"}, MMF, "pooling", None),
        _rival("quality_aware", row, QUALITY, "quality"),
        _rival("attention_clusters", row, CLUSTERS, None),
        _rival("nextvlad", row, NEXTVLAD, "face_weights"),
        _rival("lstm", row, LSTM, None),
    ]


def _frames_map_entries() -> list[Entry]:
    row, both = {"face": "row"}, {"face": "row", "face_map": "row_map"}
    none = "hamf no local"
    return [
        _pooling("row"),
        _caan("caan", "mechanism", both),
        _caan("caan without map", "rival", row),
        _hamf_local("hamf local", "mechanism", both, none),
        _hamf_local(none, "ablation", row, None, local_attention="none"),
        _hamf_local("hamf eq. 3 as printed", "literal", both, none, literal_eq3=True),
        _rival("quality_aware", both, QUALITY, "quality"),
    ]


def _modalities_entries() -> list[Entry]:
    three = {name: name for name in MODALITIES}
    named = dict(zip(("visual", "audio", "skeleton"), MODALITIES, strict=True))
    streams = dict(zip(("face", "context", "image"), MODALITIES, strict=True))
    return [
        _pooling(*MODALITIES, pooled="features"),
        *(_hamf_global(f"hamf {g}", "mechanism", global_attention=g) for g in ("G1", "G2", "G3")),
        _hamf_global("hamf no global", "ablation", global_attention="none"),
        _hamf_global("hamf eqs. 7, 8 (no softmax)", "literal", modality_normalise="none"),
        _hamf_global("hamf eq. 9 (product)", "literal", fusion="product"),
        _hamf_global("hamf shared weights", "rival", global_shared="all"),
        _hamf_global("hamf local and global", "rival", local_attention="L1"),
        _hamf_global("hamf MF", "rival", global_attention="none", fusion="concat"),
        _rival("mmf", named, MMF, None),
        _rival("nextvlad", three, NEXTVLAD, None),
        _rival("attention_clusters", three, CLUSTERS, None),
        _rival("context_fusion", three, CONTEXT, None),
        _rival("two_stream", streams, {"fusion": 32}, None),
        _rival("lstm", three, LSTM, None),
    ]


def _hierarchy_entries() -> list[Entry]:
    local: Params = {"local_attention": "L1"}
    rows = [
        _hamf_global("hamf", "rival", **local),
        _hamf_global("hamf joint", "rival", **local, training="joint"),
        _hamf_global("hamf no local", "rival"),
        _hamf_global("hamf no global", "ablation", **local, global_attention="none"),
    ]
    return [
        _pooling(*MODALITIES, pooled="features"),
        *rows,
        _hamf_global("hamf neither", "ablation", global_attention="none"),
    ]


def _location_entries(places: int) -> list[Entry]:
    literal, weights = f"rdam eq. 3 ({places} times smaller)", "face_location"
    location: Params = {"attention": "location"}
    return [
        _pooling("map"),
        _rdam_regions("rdam location", "mechanism", weights, **location),
        _rdam_regions("rdam no regions", "ablation", None, attention="none"),
        _rdam_regions(literal, "literal", weights, **location, location_rescale=False),
    ]


def _relation_entries() -> list[Entry]:
    relation, location = "face_relation", "face_location"
    return [
        _pooling("map"),
        _rdam_regions("rdam relation", "mechanism", relation, attention="relation"),
        _rdam_regions("rdam no regions", "ablation", None, attention="none"),
        _rdam_regions("rdam location", "rival", location, attention="location"),
        _rdam_regions("rdam dual", "rival", relation, attention="dual"),
    ]


def scenarios() -> dict[str, Scenario]:
    """Return every scenario by name."""
    visual, audio = {"visual": "map"}, {"audio": "row"}
    frames_map = partial(plant_frames, marked_map=(8, 5, 5))
    hierarchy = partial(plant_modalities, frames=12, planted=2, mark=3.0, signal=3.0)
    wide = partial(plant_regions, frames=2, area=28, planted=24, misleading=160, size=8)
    places = partial(plant_regions, frames=5, area=4, planted=1, misleading=6, mark=5.0)
    sound = partial(plant_frames, frames=16, misleading=7, mark=5.0)
    slow, fast = _settings(40, 3e-3), _settings(40, 1e-2, 1e-3)
    # VAANet's 16 x 16 matrices over places take more videos: with 400, 3 seeds of 10 find nothing.
    matrices = _settings(30, 1e-2, 1e-3)
    regions = [
        *_location_entries(49),
        *(
            _rdam_regions(f"rdam {name}", "rival", f"face_{weights}", attention=name)
            for name, weights in (("relation", "relation"), ("dual", "location"))
        ),
        *_vaanet("spatial", visual, "rival", segments=3)[:2],
    ]
    known = [
        Scenario("frames", "2 of 24 frames", plant_frames, 200, slow, _frames_entries()),
        Scenario(
            "frames_map",
            "2 of 24 frames, the mark in the map beside the row",
            frames_map,
            200,
            slow,
            _frames_map_entries(),
        ),
        Scenario(
            "modalities", "1 of 3 modalities", plant_modalities, 200, slow, _modalities_entries()
        ),
        Scenario(
            "hierarchy",
            "2 of 12 frames of 1 of 3 modalities",
            hierarchy,
            400,
            _settings(15, 3e-3),
            _hierarchy_entries(),
        ),
        Scenario("regions", "3 of 49 regions", plant_regions, 240, slow, regions),
        Scenario(
            "regions_784",
            "24 of 784 regions, RDAM's map of 28 x 28",
            wide,
            200,
            _settings(20, 3e-3),
            _location_entries(784),
        ),
        Scenario(
            "relation",
            "which 2 of 4 things are in the frame, neither alone tells",
            plant_relation,
            600,
            _settings(25, 1e-2),
            _relation_entries(),
            EMOTIONS[: len(PAIRS)],
        ),
        Scenario(
            "places",
            "1 of 16 regions, VAANet's map of 4 x 4",
            places,
            800,
            matrices,
            [
                _pooling("map"),
                *_vaanet("spatial", visual, "mechanism", segments=5),
                _vaanet("spatial", visual, "rival", segments=5, rescale=False)[0],
            ],
        ),
        Scenario(
            "segments",
            "1 of 10 segments",
            plant_segments,
            400,
            fast,
            [_pooling("map"), *_vaanet("temporal", visual, "mechanism", segments=10)],
        ),
        Scenario(
            "sound",
            "2 of 16 segments of the sound",
            sound,
            800,
            matrices,
            [
                _pooling("row"),
                *_vaanet("audio_temporal", audio, "mechanism", audio_segments=16),
            ],
        ),
        Scenario(
            "channels",
            "1 of 4 groups of channels",
            plant_channels,
            400,
            slow,
            [_pooling("map"), *_vaanet("channel", visual, "mechanism", segments=6)],
        ),
    ]
    return {scenario.name: scenario for scenario in known}
