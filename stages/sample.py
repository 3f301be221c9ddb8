"""Make the built-in sample: a few clips a class, to see the pipeline work.

Reads: section `sample` of params.yaml, and the photograph that scikit-image ships. Where the
videos of `index.root` are others, there is nothing to make: the outputs are empty.
Writes: `<label>/<name>.mp4` in a folder, and a JSON file that says which frames and modalities of
each clip show its class. Tests read that file; no stage does.

    python -m stages.sample
"""

import json
import multiprocessing
import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from features.cache.store import replacing
from sample.names import LABELS
from stages.engine.children import uninterrupted
from stages.engine.outputs import EMPTY, say_empty
from stages.engine.params import Sample
from stages.engine.paths import SAMPLE, TRUTH, has_sample
from stages.engine.progress import StageRun
from stages.engine.start import launch, start

if TYPE_CHECKING:  # it draws with SciPy and OpenCV: who has videos of his own waits for neither
    from sample.clips import Plan

CLIP = re.compile(r"clip\d{2,}\.mp4")


def plan_sample(seed: int, clips_per_class: int, seconds: float) -> list["Plan"]:
    """Plan all clips, ordered by label and number."""
    from sample.clips import plan_clip

    numbers = range(1, clips_per_class + 1)
    return [plan_clip(seed, label, number, seconds) for label in LABELS for number in numbers]


def write_clip(plan: "Plan", folder: Path) -> Path:
    """Encode a clip to `<folder>/<label>/<name>.mp4` and return that path."""
    from sample.clips import encode_clip

    target = clip_path(plan, folder)
    with replacing(target) as unfinished:
        encode_clip(plan, unfinished)
    return target


def write_truth(truth: Mapping[str, object], path: Path) -> None:
    """Write what each clip shows, `clips`, by `video_id`; frames count from 0, without `stop`."""
    with replacing(path) as unfinished:
        unfinished.write_text(json.dumps(truth, indent=1) + "\n", encoding="utf-8")


def clip_path(plan: "Plan", folder: Path) -> Path:
    """Return where a clip lies."""
    return folder / f"{plan.video_id}.mp4"


def remove_others(plans: Sequence["Plan"], folder: Path) -> None:
    """Remove the clips of an earlier, larger sample; leaves whatever this stage did not make."""
    wanted = {clip_path(plan, folder) for plan in plans}
    for label in LABELS:
        for path in sorted((folder / label).glob("*.mp4")):
            if CLIP.fullmatch(path.name) and path not in wanted:
                path.unlink()


def make(params: Sample, run: StageRun) -> None:
    """Make the clips and their truth."""
    import cv2

    from sample.clips import FPS, NOTICE

    plans = plan_sample(params.seed, params.clips_per_class, params.seconds)
    workers = min(os.cpu_count() or 1, len(plans))
    spawn = multiprocessing.get_context("spawn")  # no fork of a process that holds threads
    with ProcessPoolExecutor(workers, spawn, cv2.setNumThreads, (1,)) as pool:
        with uninterrupted():
            written = pool.map(partial(write_clip, folder=SAMPLE), plans)
        for _ in run.track(written, total=len(plans), unit="clips"):
            run.count(items=1, computed=1)
    remove_others(plans, SAMPLE)
    (SAMPLE / EMPTY).unlink(missing_ok=True)
    clips = {plan.video_id: plan.describe() for plan in plans}
    write_truth({"about": NOTICE, "fps": FPS, "clips": clips}, TRUTH)


def main() -> None:
    """Make the sample clips, if any are asked for."""
    params = start("sample")
    with StageRun("sample") as run:
        if has_sample(Path(params.index.root)):
            return make(params.sample, run)
        remove_others([], SAMPLE)
        say_empty(SAMPLE, f"index.root of params.yaml is {params.index.root}")
        write_truth({"clips": {}}, TRUTH)
        run.note(f"not made: index.root is {params.index.root}")


if __name__ == "__main__":
    launch(main)
