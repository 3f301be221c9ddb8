"""report: one HTML page with the experiments beside each other and beside the papers.

Reads the index and each experiment's results; writes a page that needs no network, and beside it
its tables (CSV, Markdown, LaTeX) and figures (SVG, PNG).

    python -m stages.report
"""

from collections.abc import Sequence
from pathlib import Path

import heads
from features.cache import tables
from stages.engine.outputs import fresh_outputs
from stages.engine.paths import INDEX, REPORT, RESULTS, SAMPLE, index_of
from stages.engine.progress import StageRun, told
from stages.engine.start import launch, start
from stages.results.closing import say_closing
from stages.results.files import Result, read_result
from stages.results.page import MB, PICTURES_SHARE, Budget, Inputs, render, write
from stages.results.sections import sections


def main() -> None:
    """Write the page."""
    params = start("report")
    root, dataset = Path(params.index.root), params.index.dataset
    columns = ["video_id", "label", "status", "reason"]
    with told():
        videos = tables.read(index_of(INDEX), columns)
        results = [read_result(RESULTS, name) for name in params.experiments]
    with StageRun("report") as run:
        references, broken = heads.references()
        for line in broken:
            run.note(f"the papers' tables of one head are left out: {line}")
        pictures = Budget(PICTURES_SHARE * params.report.max_mb * MB)
        inputs = Inputs(params.report, root, dataset, videos, results, broken, pictures, references)
        parts = sections(inputs)
        page = render(inputs, summary(inputs), parts)
        with fresh_outputs(REPORT.parent, run) as partial:
            write(partial / REPORT.name, page, parts)
        run.count(items=1, computed=1)
    say_closing(root, results)


def summary(inputs: Inputs) -> dict[str, object]:
    """Return what the top and the end of the page say."""
    labels = sorted({str(row["label"]) for row in inputs.videos})
    failed = [row for row in inputs.videos if row["status"] == "failed"]
    runs = max(len(result.runs) for result in inputs.results)
    return {
        "lead": f"{len(inputs.videos)} videos of {inputs.dataset or inputs.root}, {len(labels)} "
        f"classes ({', '.join(labels)}), {runs} run{'s' if runs > 1 else ''}, "
        f"{len(failed)} videos not usable",
        "void": _void(inputs.root, inputs.results),
        "footer": _footer(inputs.results),
    }


def _void(root: Path, results: Sequence[Result]) -> list[str]:
    """Say what makes a comparison with published numbers void."""
    reasons = []
    if root == SAMPLE:
        reasons.append(
            "the videos are the built-in sample, one photograph warped and set to made-up scenes "
            "and sounds"
        )
    if not all(result.metrics["pretrained"] for result in results):
        reasons.append("some features come from seeded weights, networks that were never trained")
    if not reasons:
        return []
    return [
        "These numbers show that the pipeline works, and nothing about emotion: "
        f"{'; '.join(reasons)}."
    ]


def _footer(results: Sequence[Result]) -> str:
    software: dict[str, str] = {}
    for result in results:
        for origin in result.about["features"].values():
            software |= origin["software"]
    used = ", ".join(f"{name} {version}" for name, version in sorted(software.items()))
    return f"Every feature file says what went into it: affectline show <file>. {used}"


if __name__ == "__main__":
    launch(main)
