"""The report's sections: each takes what it shows and returns HTML, empty where there is none."""

import html
from collections.abc import Sequence
from typing import Any

from features.cache import tables
from stages.results.files import Result
from stages.results.sections import earlier_figures as figures


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
