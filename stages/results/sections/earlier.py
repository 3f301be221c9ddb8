"""The report's sections: each takes what it shows and returns HTML, empty where there is none."""

import html
from collections.abc import Sequence
from typing import Any

from features.cache import tables
from stages.results.attention import read_attention
from stages.results.files import Result
from stages.results.sections import earlier_figures as figures


def attention(results: Sequence[Result]) -> str:
    """Return what each experiment's head attends to."""
    shown, without = [], []
    for result in results:
        kinds = read_attention(result)
        if not kinds:
            without.append(html.escape(result.name))
        shown += [(result.name, figures.attention(weights)) for weights in kinds]
    if not shown:
        return ""
    legend = (
        "The deeper the blue, the more weight: in sheets and tables from none to the largest of "
    )
    legend += "the line (of the table), in maps between the two numbers. Grey: no such row, or one "
    legend += "that has no weight."
    if without:
        legend += f" No attention: {', '.join(without)}."
    return f"{figures.panels(shown)}<p><small>{legend}</small></p>"


# --------------------------------------------------------------------------------- origin


def sources(results: Sequence[Result]) -> str:
    """Return where the features came from, a row a backbone."""
    sources: dict[str, Any] = {}
    for result in results:
        sources |= result.about["features"]
    head = [(name, False) for name in ("backbone", "weights", "licence", "input", "code")]
    rows = []
    for backbone, origin in sources.items():
        weights = origin["weights"]
        name = str(weights["source"])
        rows.append(
            (
                f"<b>{html.escape(backbone)}</b>",
                html.escape(f"{name}, seed {weights['seed']}" if name == "seeded" else name),
                html.escape(str(weights["licence"]) or "none needed"),
                html.escape(str(origin["view"])),
                f"<code>{origin['code'][:12]}</code>",
            )
        )
    return figures.table(head, rows, "cards")


def failed(rows: Sequence[tables.Row]) -> str:
    """Return the videos that no stage could use, each with its reason."""
    if not rows:
        return ""
    cells = [(html.escape(str(row["video_id"])), html.escape(str(row["reason"]))) for row in rows]
    return figures.table([("video", False), ("reason", False)], cells)
