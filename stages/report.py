"""report: one HTML page with the experiments beside each other and beside the papers.

Reads the index and each experiment's results; writes a page that needs no network.

    python -m stages.report
"""

import html
from collections.abc import Sequence
from pathlib import Path

from features.cache import tables
from stages.engine.outputs import fresh_outputs
from stages.engine.paths import INDEX, REPORT, RESULTS, SAMPLE, index_of
from stages.engine.progress import StageRun, told
from stages.engine.start import launch, start
from stages.results import figures, sections
from stages.results.compare import paper_tables
from stages.results.files import Result, read_result

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1c2733; max-width: 68rem;
       margin: 2.5rem auto; padding: 0 1.25rem; overflow-wrap: break-word; }
h1 { font-size: 1.7rem; margin-bottom: .2rem; } h2 { font-size: 1.25rem; margin: 2.8rem 0 .6rem; }
p.lead { color: #54616d; margin-top: 0; } p { max-width: 46rem; } small { color: #54616d; }
.void { background: #fff4d6; border-left: 4px solid #d99a00; padding: .7rem 1rem; }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; font-size: .92rem; } a { color: #2b6ca3; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { text-align: left; padding: .4rem .7rem .4rem 0; border-bottom: 1px solid #dde3e8;
         vertical-align: top; }
th { color: #54616d; font-weight: 600; } td.n, th.n { text-align: right; white-space: nowrap; }
td.n { font-variant-numeric: tabular-nums; } code { font-size: .86em; }
details { margin: .5rem 0; } summary { cursor: pointer; color: #2b6ca3; }
pre { font-size: .78rem; white-space: pre-wrap; }
footer { color: #54616d; font-size: .85rem; margin-top: 3rem; }
@media (max-width: 44rem) {
  table.cards tr:first-child { display: none; } table.cards tr { display: block;
    padding: .6rem 0; border-bottom: 1px solid #dde3e8; }
  table.cards td { display: flex; justify-content: space-between; gap: 1rem; border: 0;
    padding: .12rem 0; } table.cards td[data-is]::before { content: attr(data-is); color: #54616d; }
  table.cards td:first-child::before { content: none; } .strip { flex: 1; }
}
"""


def main() -> None:
    """Write the page."""
    params = start("report")
    root, dataset = Path(params.index.root), params.index.dataset
    columns = ["video_id", "label", "status", "reason"]
    with told():
        videos = tables.read(index_of(INDEX), columns)
        results = [read_result(RESULTS, name) for name in params.experiments]
    import heads  # slow, with torch: what lacks has been told by now

    with StageRun("report") as run:
        _heads, broken = heads.loadable()
        for line in broken:
            run.note(f"the papers' tables of one head are left out: {line}")
        page = render(params.report.title, root, dataset, videos, results, broken)
        with fresh_outputs(REPORT.parent, run) as partial:
            (partial / REPORT.name).mkdir()
            (partial / REPORT.name / "index.html").write_text(page, encoding="utf-8")
        run.count(items=1, computed=1)
        run.note(f"open {REPORT / 'index.html'}")


# ----------------------------------------------------------------------------------- page


def render(
    title: str,
    root: Path,
    dataset: str | None,
    videos: Sequence[tables.Row],
    results: Sequence[Result],
    broken: Sequence[str] = (),
) -> str:
    """Return the page as HTML.

    Args:
        title: of the page.
        root: where the videos came from.
        dataset: their name, as the papers call it; None where they have none.
        videos: rows of the index.
        results: at least one; the others are compared with the first.
        broken: what is wrong with heads that cannot be loaded.
    """
    labels = sorted({str(row["label"]) for row in videos})
    failed = [row for row in videos if row["status"] == "failed"]
    runs = max(len(result.runs) for result in results)
    content = {
        "Accuracy": sections.accuracy(results),
        "Differences": sections.differences(results),
        "Beside the papers": sections.papers(paper_tables(results), dataset, broken),
        "Classes": sections.classes(results),
        "Confusion": sections.confusion(results),
        "Training": sections.training(results),
        "Attention": sections.attention(results),
        "Features": sections.sources(results) + sections.settings(results),
        "Videos not usable": sections.failed(failed),
    }
    kept = {name: shown for name, shown in content.items() if shown}
    title = html.escape(title)
    parts = [
        f"<h1>{title}</h1>",
        f"<p class=lead>{len(videos)} videos of {html.escape(dataset or str(root))}, {len(labels)} "
        f"classes ({html.escape(', '.join(labels))}), {runs} run{'s' if runs > 1 else ''}, "
        f"{len(failed)} videos not usable</p>",
        *_void(root, results),
        f"<nav>{''.join(f'<a href=#{_anchor(name)}>{name}</a>' for name in kept)}</nav>",
        *(
            f"<section id={_anchor(name)}><h2>{name}</h2>{shown}</section>"
            for name, shown in kept.items()
        ),
        _footer(results),
    ]
    head = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>"
        '<meta name=viewport content="width=device-width, initial-scale=1">'
    )
    return f"{head}<style>{STYLE}{figures.STYLE}</style><body>{''.join(parts)}</body></html>\n"


def _anchor(name: str) -> str:
    return name.lower().replace(" ", "-")


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
        f"<p class=void><b>These numbers show that the pipeline works, and nothing about "
        f"emotion:</b> {html.escape('; '.join(reasons))}.</p>"
    ]


def _footer(results: Sequence[Result]) -> str:
    software: dict[str, str] = {}
    for result in results:
        for origin in result.about["features"].values():
            software |= origin["software"]
    used = ", ".join(f"{name} {version}" for name, version in sorted(software.items()))
    return (
        "<footer>Every feature file says what went into it: <code>affectline show &lt;file&gt;"
        f"</code>.<br>{html.escape(used)}</footer>"
    )


if __name__ == "__main__":
    launch(main)
