"""tables: the indices of all backbones' features as one table.

Train depends on this one file: DVC can pull it by its path, which it cannot do with a folder that
holds outputs of several stages. An index that is not here, because only some were pulled, is read
from DVC's cache or its remote, and nothing else of that backbone.

    python -m stages.tables
"""

from pathlib import Path

import pyarrow as pa

from features.cache import tables
from stages.engine.outputs import fresh_outputs
from stages.engine.paths import FEATURES, TABLES, index_of
from stages.engine.previous import previous_file
from stages.engine.progress import StageRun, fail
from stages.engine.start import launch, start

COLUMNS = {
    "backbone": pa.string(),
    "video_id": pa.string(),
    "status": pa.string(),
    "reason": pa.string(),
    "key": pa.string(),
    "content": pa.string(),
    "path": pa.string(),
    "pretrained": pa.bool_(),
}
"""What train asks of an index; ``path`` lies below the folder of the backbone's features."""


def main() -> None:
    """Write the table."""
    params = start("tables")
    with StageRun("tables") as run:
        rows: list[tables.Row] = []
        for backbone in params.backbones:
            index = _index(backbone, run)
            for row in tables.read(index, [name for name in COLUMNS if name != "backbone"]):
                named = {"backbone": backbone, **row}
                rows.append({name: named[name] for name in COLUMNS})
        with fresh_outputs(TABLES.parent, run) as partial:
            name = index_of(TABLES).name
            tables.write(partial / name, rows, pa.schema(list(COLUMNS.items())))
        run.count(items=len(params.backbones), computed=len(params.backbones))


def _index(backbone: str, run: StageRun) -> Path:
    """Return where a backbone's index lies: here, or in DVC's cache."""
    index = index_of(FEATURES / backbone)
    if index.is_file():
        return index
    stage = f"extract@{backbone}"
    kept = previous_file(stage, index, run.note)
    if kept is None:
        raise fail(
            f"{run.name}: {index} is neither here nor in DVC's cache or its remote: "
            f"`dvc pull {stage}`, or compute it with `dvc repro {stage}`"
        )
    return kept


if __name__ == "__main__":
    launch(main)
