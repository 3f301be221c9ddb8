"""Does attention find what it should? Features with a planted signal, and no pictures.

Each scenario plants the class in a known few of many places: frames, modalities, regions, a pair
of regions, segments, a group of channels. What is planted also carries a mark, one direction that
says "I matter" and nothing of the class, as the frames that matter look different in a real video.
Everything else is noise, or misleads: it shows a class that is drawn without a look at the label.
Rows are absent at random and hold NaN then; in the scenario of modalities whole modalities are.

    python benchmarks/planted.py [--seeds 10] [--quick] [--only NAME] [--markdown FILE]

Every head is trained by `heads.training.loop.train_run`, as the stage does, on new data for each
seed. A row of the table is one head in one scenario, of one of these kinds:

- baseline: mean pooling;
- mechanism: a paper's attention. It must beat its own ablation, the same network without that
  attention, by 15 points (paired t-test over seeds, p < 0.01), and its weights must rank what was
  planted before the rest: an area under the ROC curve (AUC) of 0.95, the mean over videos (over
  maps, for an attention over regions or channels), then over seeds;
- ablation: that network;
- literal: an equation as the paper prints it, where the head takes another reading by default.
  It is held against the same two limits, and its verdict says whether it meets them;
- rival: other heads, and other readings, for comparison.

No row may be worse than chance. The exit status is 1 where a mechanism or a row fails.
"""

import json
import math
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from signals import (
    EMOTIONS,
    MODALITIES,
    PAIRS,
    InMemory,
    Plant,
    Planted,
    Truth,
    plant_channels,
    plant_frames,
    plant_modalities,
    plant_regions,
    plant_relation,
    plant_segments,
)

import heads
from heads import Attention, Rows
from heads.training.data import Sample
from heads.training.loop import run_seed, train_run
from heads.training.metrics import paired_difference
from heads.training.run import Run
from heads.training.settings import Training

Kind = Literal["baseline", "ablation", "mechanism", "literal", "rival"]

MIN_GAIN = 0.15
MAX_P = 0.01
MIN_AUC = 0.95
QUICK_SEEDS = 2


# --- Who looks for it ---


@dataclass(frozen=True)
class Entry:
    """A head in a scenario.

    Attributes:
        name: of the row, unique in its scenario.
        kind: see this module.
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


# --- Whether they find it ---


@dataclass(frozen=True)
class Outcome:
    """One head, one seed: accuracy, AUC of its attention (None without one), seconds it took."""

    accuracy: float
    auc: float | None
    seconds: float


@dataclass(frozen=True)
class Finding:
    """A row of the table; the lists go over seeds.

    `gain` and `p` compare with the row `beats`, `gain_pooling` and `p_pooling` with mean pooling;
    p is 0 where all seeds have the same difference, for there is no doubt left.
    """

    scenario: str
    name: str
    kind: Kind
    accuracies: list[float]
    aucs: list[float]
    seconds: float
    chance: float
    beats: str | None
    gain: float | None
    p: float | None
    gain_pooling: float | None
    p_pooling: float | None
    verdict: str
    failed: bool


def rank_auc(weights: NDArray[np.floating], planted: Truth) -> float:
    """Return the share of pairs, planted and not, of which the planted has the larger weight.

    Equal weights count half. NaN where everything is planted, or nothing.
    """
    ours, others = weights[planted], weights[~planted]
    if not len(ours) or not len(others):
        return math.nan
    above = ours[:, None] > others
    return float((above + 0.5 * (ours[:, None] == others)).mean())


def attention_auc(
    weights: NDArray[np.float32],
    of: Attention,
    roles: Mapping[str, str],
    sample: Sample,
    truth: Mapping[str, Truth],
) -> float:
    """Return the AUC of one video's attention, over what is really there.

    Args:
        weights: (T, ...) or (M,), as `Run` has them.
        of: what they weigh.
        roles: role of the head -> role that was planted.
        sample: the video.
        truth: of the video, see `Planted`.

    Returns:
        Over rows the AUC of the video; over maps, or groups of channels, the mean over its rows.
    """
    if not isinstance(of, Rows):
        sources = [roles[role] for role in of.roles]
        real = np.array([sample.mask[source].any() for source in sources])
        planted = np.array([truth[source].any() for source in sources])
        return rank_auc(weights[real], planted[real])
    source = roles[of.role]
    planted, real = truth[source], sample.mask[source]
    # What a group of channels weighs is the sum over its channels.
    weights = weights.reshape(*planted.shape, -1).sum(axis=-1)
    if planted.ndim == 1:
        return rank_auc(weights[real], planted[real])
    return float(
        np.mean([rank_auc(weights[video], planted[video]) for video in np.flatnonzero(real)])
    )


def run_entry(scenario: Scenario, entry: Entry, planted: Planted, seed: int) -> tuple[Outcome, Run]:
    """Train one head of a scenario on planted videos, and see what it found in the others."""
    started = time.perf_counter()
    head = heads.load(entry.head)
    run = train_run(
        head,
        heads.validate(head, entry.params),
        scenario.training,
        InMemory(planted.samples, entry.roles),
        range(scenario.train),
        range(scenario.train, len(planted.samples)),
        scenario.classes,
        seed,
    )
    seconds = time.perf_counter() - started
    auc = None
    if entry.attention is not None:
        of = run.weighed[entry.attention]
        videos = range(scenario.train, len(planted.samples))
        aucs = [
            attention_auc(weights, of, entry.roles, planted.samples[video], planted.truth[video])
            for video, weights in zip(videos, run.attention[entry.attention], strict=True)
        ]
        auc = float(np.nanmean(aucs))
    accuracy = float(np.mean(run.predicted == run.labels))
    return Outcome(accuracy, auc, seconds), run


def run_scenario(name: str, seed: int) -> dict[str, Outcome]:
    """Return row -> outcome of one scenario with one seed: new videos, the same for all rows."""
    torch.set_num_threads(1)
    scenario = scenarios()[name]
    own_seed = run_seed(seed, f"planted/{name}")
    draw = np.random.default_rng(own_seed)
    planted = scenario.plant(draw, scenario.train + scenario.test)
    return {e.name: run_entry(scenario, e, planted, own_seed)[0] for e in scenario.entries}


def compare(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """Return mean of the differences first - second and p of the paired t-test; 0 without spread.

    Seeds have videos of their own, so the test needs no correction for shared ones.
    """
    difference = paired_difference(first, second, test_per_train=0)
    mean, p = difference["mean"], difference["p"]
    return float(mean or 0.0), 0.0 if p is None else float(p)


def judge(scenario: Scenario, runs: Sequence[Mapping[str, Outcome]]) -> list[Finding]:
    """Return the rows of a scenario's table from the outcomes of its seeds, at least two."""
    accuracies = {e.name: [run[e.name].accuracy for run in runs] for e in scenario.entries}
    chance = 1 / len(scenario.classes)
    findings = []
    for entry in scenario.entries:
        own = accuracies[entry.name]
        aucs = [auc for run in runs if (auc := run[entry.name].auc) is not None]
        gain, p = compare(own, accuracies[entry.beats]) if entry.beats else (None, None)
        gain_pooling, p_pooling = (
            (None, None) if entry.kind == "baseline" else compare(own, accuracies["pooling"])
        )
        missed = []
        if gain is not None and p is not None and (gain < MIN_GAIN or p >= MAX_P):
            missed.append("gain")
        if aucs and entry.ranks and np.mean(aucs) < MIN_AUC:
            missed.append("AUC")
        against_chance, p_chance = compare(own, [chance] * len(own))
        verdict = ""
        if entry.kind in ("mechanism", "literal"):
            verdict = f"misses {' and '.join(missed)}" if missed else "holds"
        below = against_chance < 0 and p_chance < MAX_P
        if below:
            verdict = "below chance"
        findings.append(
            Finding(
                scenario.name,
                entry.name,
                entry.kind,
                own,
                aucs,
                float(np.mean([run[entry.name].seconds for run in runs])),
                chance,
                entry.beats,
                gain,
                p,
                gain_pooling,
                p_pooling,
                verdict,
                below or (entry.kind == "mechanism" and bool(missed)),
            )
        )
    return findings


def run_all(names: Sequence[str], seeds: int, workers: int) -> list[Finding]:
    """Return the rows of all tables; each scenario and seed is a task of its own."""
    tasks = [(name, seed) for name in names for seed in range(seeds)]
    outcomes: dict[tuple[str, int], dict[str, Outcome]] = {}
    progress = Console(stderr=True)
    if workers == 1:
        for name, seed in track(tasks, "planted", console=progress, transient=True):
            outcomes[name, seed] = run_scenario(name, seed)
    else:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            waiting = {pool.submit(run_scenario, *task): task for task in tasks}
            done = as_completed(waiting)
            for future in track(
                done, "planted", total=len(tasks), console=progress, transient=True
            ):
                outcomes[waiting[future]] = future.result()
    every = scenarios()
    return [
        finding
        for name in names
        for finding in judge(every[name], [outcomes[name, seed] for seed in range(seeds)])
    ]


# --- The table ---

COLUMNS = (
    "scenario",
    "row",
    "kind",
    "accuracy",
    "over its ablation",
    "over pooling",
    "AUC",
    "s/run",
    "verdict",
)


def cells(finding: Finding) -> tuple[str, ...]:
    """Return a row of the table, in the order of `COLUMNS`."""
    spread = np.std(finding.accuracies, ddof=1)
    return (
        finding.scenario,
        finding.name,
        finding.kind,
        f"{100 * np.mean(finding.accuracies):.1f} ± {100 * spread:.1f}",
        _difference(finding.gain, finding.p),
        _difference(finding.gain_pooling, finding.p_pooling),
        f"{np.mean(finding.aucs):.3f}" if finding.aucs else "",
        f"{finding.seconds:.1f}",
        finding.verdict,
    )


def _difference(gain: float | None, p: float | None) -> str:
    if gain is None or p is None:
        return ""
    return f"{100 * gain:+.1f} ({'p < 0.001' if p < 0.001 else f'p = {p:.3f}'})"


def notes(names: Iterable[str], seeds: int, seconds: float) -> list[str]:
    """Return what the table does not say: what is planted, chance, and how heads were trained."""
    every = scenarios()
    lines = [
        f"{name}: {s.says}; {len(s.classes)} classes, chance {100 / len(s.classes):.1f}; "
        f"{s.train} training and {s.test} test videos, {s.training.epochs} epochs a phase, "
        f"batches of {s.training.batch_videos}, Adam {s.training.learning_rate:g}, weight decay "
        f"{s.training.weight_decay:g}, standardise {s.training.standardise}"
        for name, s in ((name, every[name]) for name in names)
    ]
    return [*lines, f"{seeds} seeds, {seconds / 60:.1f} minutes, torch {torch.__version__}"]


def as_markdown(findings: Sequence[Finding], remarks: Sequence[str]) -> str:
    """Return the table and its notes as Markdown."""
    rows = [COLUMNS, ("---",) * len(COLUMNS), *(cells(finding) for finding in findings)]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return table + "\n\n" + "\n".join(f"- {line}" for line in remarks) + "\n"


def main(
    seeds: Annotated[int, typer.Option(min=2, help="New videos and weights for each.")] = 10,
    quick: Annotated[bool, typer.Option(help=f"{QUICK_SEEDS} seeds, and no verdict.")] = False,
    only: Annotated[list[str] | None, typer.Option(help="A scenario; may be repeated.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes of one thread each.")] = (
        os.cpu_count() or 1
    ),
    json_file: Annotated[Path | None, typer.Option("--json", help="Every number.")] = None,
    markdown_file: Annotated[Path | None, typer.Option("--markdown", help="The table.")] = None,
) -> None:
    """Plant signals, train the heads, and print what they found."""
    names = only or list(scenarios())
    unknown = sorted(set(names) - set(scenarios()))
    if unknown:
        raise typer.BadParameter(f"no scenario {unknown}: expected some of {list(scenarios())}")
    started = time.perf_counter()
    seeds = QUICK_SEEDS if quick else seeds
    findings = run_all(names, seeds, workers)
    if quick:
        findings = [replace(finding, verdict="", failed=False) for finding in findings]
    remarks = notes(names, seeds, time.perf_counter() - started)
    console = Console()
    if not console.is_terminal:
        console.width = 160
    table = Table(*COLUMNS)
    for finding in findings:
        table.add_row(*cells(finding), style="red" if finding.failed else None)
    console.print(table)
    for line in remarks:
        console.print(line, soft_wrap=True, highlight=False)
    if json_file is not None:
        rows = [asdict(finding) for finding in findings]
        json_file.write_text(json.dumps({"rows": rows, "notes": remarks}, indent=1) + "\n")
    if markdown_file is not None:
        markdown_file.write_text(as_markdown(findings, remarks))
    failed = [f"{finding.scenario}: {finding.name}" for finding in findings if finding.failed]
    if failed:
        console.print(f"failed: {'; '.join(failed)}")
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
