"""Does the built-in sample show what it is made to show? The project's own stages, seed by seed.

For each seed the project is copied, `sample.seed` is set, `dvc repro` makes the sample and trains
what params.yaml has, and the results are held against what was planted:

- each modality alone is above chance on the test videos that show their class in it: the corrected
  resampled t-test over the runs (`heads.training.metrics`), one-sided, p < 0.01;
- the fusion is 10 points or more above the best of them, over all test videos;
- the attention is 10 points or more above its own ablation;
- its weights rank the frames in which a video shows its class before the others of that video: an
  area under the ROC curve (AUC) of 0.8 or more, the mean over test videos and runs.

    python benchmarks/learnable.py [--seed 0 --seed 1] [--folder FOLDER] [--markdown FILE]

Settings were chosen on other seeds than params.yaml comes with, for its test videos choose nothing.
The exit status is 1 where a seed misses something. A copy that lies in the folder from a run before
is used again, so that only what has changed is computed.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
import yaml
from planted import rank_auc
from rich.console import Console
from rich.table import Table

from features.cache import tables
from heads.training.metrics import paired_difference

PROJECT = Path(__file__).parents[1]

ALONE = {"face": "face_average", "scene": "scene_average", "sound": "sound_average"}
"""Modality -> the experiment that has it alone."""
FUSION, ATTENTION, ABLATION = "fusion_average", "caan", "caan_average"
SEEN = {"face", "scene"}
"""Modalities of the frames that the attention weighs, with one weight for both."""

MAX_P, MIN_GAIN, MIN_AUC = 0.01, 0.1 - 1e-9, 0.8  # accuracies are sums of shares, rounded


@dataclass(frozen=True)
class Check:
    """One criterion with one seed: a number, the least or most it may be, and whether it holds."""

    seed: int
    name: str
    says: str
    holds: bool


@dataclass(frozen=True)
class Outcome:
    """What one seed gave; accuracies in 0..1.

    Attributes:
        seed: of the sample.
        accuracy: experiment -> mean over the runs.
        checks: the criteria.
        seconds: of `dvc repro`; 0 stages ran where all was there.
        cpu_seconds: of its processes, user and system.
        stages: how many ran.
    """

    seed: int
    accuracy: dict[str, float]
    checks: list[Check]
    seconds: float
    cpu_seconds: float
    stages: int


def copy_project(root: Path) -> None:
    """Copy what git knows of the project, with what is not yet committed, into a new repository."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=PROJECT,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (PROJECT / name).is_file() and name != "dvc.lock":
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, root / name)
    if not (root / ".git").exists():
        subprocess.run(["git", "init", "-q"], cwd=root, check=True)


def reproduce(root: Path, seed: int) -> tuple[float, float, int]:
    """Run `dvc repro` with a seed of the sample; return seconds, CPU seconds, stages that ran."""
    path = root / "params.yaml"
    params = yaml.safe_load(path.read_text())
    params["sample"]["seed"] = seed
    path.write_text(yaml.safe_dump(params, sort_keys=False))
    commands = Path(sys.executable).parent
    own = {"PATH": f"{commands}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(root)}
    before, started = _cpu_seconds(), time.monotonic()
    done = subprocess.run(
        [commands / "dvc", "repro"],
        cwd=root,
        env=os.environ | own,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise typer.BadParameter(f"dvc repro in {root}:\n{done.stdout}{done.stderr}")
    ran = done.stdout.count("Running stage")
    return time.monotonic() - started, _cpu_seconds() - before, ran


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def judge(root: Path, seed: int) -> tuple[dict[str, float], list[Check]]:
    """Return experiment -> accuracy, and the criteria, from the results of a project."""
    clips = json.loads((root / "data/sample_truth.json").read_text())["clips"]
    names = [*ALONE.values(), FUSION, ATTENTION, ABLATION]
    metrics = {
        name: json.loads((root / f"results/{name}/scores.json").read_text()) for name in names
    }
    accuracy = {name: float(found["accuracy"]["mean"]) for name, found in metrics.items()}
    checks = [
        _above_chance(root, seed, modality, name, clips, metrics[name]["chance"])
        for modality, name in ALONE.items()
    ]
    best = max(ALONE.values(), key=accuracy.__getitem__)
    for name, first, second in (("fusion", FUSION, best), ("attention", ATTENTION, ABLATION)):
        gain = accuracy[first] - accuracy[second]
        says = f"{first} {100 * gain:+.1f} points over {second}"
        checks.append(Check(seed, name, says, gain >= MIN_GAIN))
    aucs = attention_aucs(root, clips)
    says = f"AUC {np.mean(aucs):.2f} over {len(aucs)} videos"
    checks.append(Check(seed, "weights", says, bool(np.mean(aucs) >= MIN_AUC)))
    return accuracy, checks


def _above_chance(
    root: Path, seed: int, modality: str, name: str, clips: Mapping[str, Any], chance: float
) -> Check:
    """Compare with chance over the videos that show their class in a modality."""
    rights = defaultdict(list)
    columns = ("run", "video_id", "label", "predicted")
    for row in tables.read(root / f"results/{name}/predictions.parquet", columns):
        if modality in clips[str(row["video_id"])]["modalities"]:
            rights[row["run"]].append(row["label"] == row["predicted"])
    runs = [float(np.mean(right)) for right in rights.values()]
    splits = json.loads((root / f"results/{name}/about.json").read_text())["splits"].values()
    ratio = float(np.mean([split["test"] / split["train"] for split in splits]))
    found = paired_difference(runs, [chance] * len(runs), ratio)
    mean, p = float(found["mean"] or 0.0), found["p"]
    one_sided = 0.0 if p is None else p / 2 if mean > 0 else 1 - p / 2
    says = f"{100 * np.mean(runs):.1f} % where it shows the class, p = {one_sided:.2g}"
    return Check(seed, f"{modality} alone", says, one_sided < MAX_P)


def attention_aucs(root: Path, clips: Mapping[str, Any]) -> list[float]:
    """Return the AUC of each run and test video whose face or scene shows its class.

    Videos whose rows all show it, or none, have none.
    """
    weights: dict[tuple[str, str], list[tuple[float, bool]]] = defaultdict(list)
    columns = ("run", "video_id", "row", "pts_s", "value")
    for row in tables.read(root / f"results/{ATTENTION}/attention.parquet", columns):
        clip = clips[str(row["video_id"])]
        if row["row"] is None or SEEN.isdisjoint(clip["modalities"]):
            continue
        at_s = float(str(row["pts_s"]))
        planted = any(part["start_s"] <= at_s < part["stop_s"] for part in clip["intervals"])
        weights[str(row["run"]), str(row["video_id"])].append((float(str(row["value"])), planted))
    aucs = []
    for pairs in weights.values():
        values, planted = np.array([v for v, _ in pairs]), np.array([p for _, p in pairs])
        if planted.any() and not planted.all():
            aucs.append(rank_auc(values, planted))
    return aucs


def as_markdown(outcomes: Sequence[Outcome]) -> str:
    """Return the accuracies and the criteria as two tables."""
    names = list(outcomes[0].accuracy)
    lines = ["| seed | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for found in outcomes:
        cells = [f"{100 * found.accuracy[name]:.1f}" for name in names]
        lines.append(f"| {found.seed} | " + " | ".join(cells) + " |")
    lines += ["", "| seed | criterion | found | holds |", "|---|---|---|---|"]
    for check in (check for found in outcomes for check in found.checks):
        holds = "yes" if check.holds else "no"
        lines.append(f"| {check.seed} | {check.name} | {check.says} | {holds} |")
    return "\n".join(lines) + "\n"


def main(
    seed: Annotated[list[int] | None, typer.Option(help="Of the sample; may be repeated.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Copies of the project, kept.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Every number.")] = None,
    markdown_file: Annotated[Path | None, typer.Option("--markdown", help="The tables.")] = None,
) -> None:
    """Make the sample, train on it, and hold the results against what was planted."""
    console = Console()
    outcomes = []
    with ExitStack() as stack:
        place = folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for number in seed or (0, 1):
            root = place.resolve() / f"seed{number}"
            copy_project(root)
            cost = reproduce(root, number)
            outcomes.append(Outcome(number, *judge(root, number), *cost))
            console.print(f"seed {number}: {cost[2]} stages, {cost[0]:.0f} s, {cost[1]:.0f} CPU s")
    table = Table("seed", "criterion", "found", "holds")
    for check in (check for found in outcomes for check in found.checks):
        style = None if check.holds else "red"
        table.add_row(str(check.seed), check.name, check.says, str(check.holds), style=style)
    console.print(table)
    for found in outcomes:
        shown = ", ".join(f"{name} {100 * mean:.1f}" for name, mean in found.accuracy.items())
        console.print(f"seed {found.seed}: {shown}", soft_wrap=True, highlight=False)
    if json_file is not None:
        json_file.write_text(json.dumps([asdict(found) for found in outcomes], indent=1) + "\n")
    if markdown_file is not None:
        markdown_file.write_text(as_markdown(outcomes))
    if not all(check.holds for found in outcomes for check in found.checks):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
