"""report: one HTML page with the experiments beside each other and beside the papers.

Reads the index and each experiment's results; writes a page that needs no network, and beside it
its tables (CSV, Markdown, LaTeX) and figures (SVG, PNG).

    python -m stages.report
"""

from pathlib import Path

import heads
from features.cache import tables
from stages.engine.outputs import fresh_outputs
from stages.engine.paths import INDEX, REPORT, RESULTS, index_of
from stages.engine.progress import StageRun, told
from stages.engine.start import launch, start
from stages.results.chosen import check_videos
from stages.results.closing import say_closing
from stages.results.files import read_result
from stages.results.page import MB, PICTURES_SHARE, Budget, Inputs, files
from stages.results.sections import sections
from stages.results.summary import summary


def main() -> None:
    """Write the page."""
    params = start("report")
    root, dataset = Path(params.index.root), params.index.dataset
    columns = ["video_id", "label", "status", "reason"]
    with told():
        videos = tables.read(index_of(INDEX), columns)
        check_videos(params.report.videos, videos)
        results = [read_result(RESULTS, name) for name in params.experiments]
    with StageRun("report") as run:
        references, broken = heads.references()
        for line in broken:
            run.note(f"the papers' tables of one head are left out: {line}")
        pictures = Budget(PICTURES_SHARE * params.report.max_mb * MB)
        inputs = Inputs(
            params.report,
            root,
            dataset,
            videos,
            results,
            broken,
            pictures,
            references,
            params.backbones,
            params.index.splits,
        )
        parts = sections(inputs)
        made = files(inputs, summary(inputs), parts)
        if (size_mb := len(made["index.html"]) / MB) > params.report.max_mb:
            run.note(
                f"the page takes {size_mb:.1f} MB without any figure, of report.max_mb "
                f"{params.report.max_mb:g}: its tables are that large"
            )
        with fresh_outputs(REPORT.parent, run) as partial:
            for name, data in made.items():
                path = partial / REPORT.name / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
        run.count(items=1, computed=1)
    say_closing(root, results)


if __name__ == "__main__":
    launch(main)
