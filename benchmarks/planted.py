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
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from seekers import Entry, Kind, Scenario, scenarios
from signals import InMemory, Planted, Truth

import heads
from heads import Attention, Rows
from heads.training.loop import run_seed, train_run
from heads.training.memory import Sample
from heads.training.metrics import paired_difference
from heads.training.run import Run
from heads.training.targets import of_classes

MIN_GAIN = 0.15
MAX_P = 0.01
MIN_AUC = 0.95
QUICK_SEEDS = 2


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
        of_classes(scenario.classes),
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
