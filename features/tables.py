"""Tables: Parquet files of plain rows, the same bytes every time."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from features.cache import replacing

Row = dict[str, object]


class TableError(ValueError):
    """A table file is not what it says or lacks a column."""


def write(path: Path, rows: Iterable[Mapping[str, object]], schema: pa.Schema) -> None:
    """Write ``rows`` to a Parquet file with exactly the columns of ``schema``.

    The file appears under its name only when it is whole.
    """
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=schema)
    with replacing(path) as partial:
        pq.write_table(table, partial, compression="zstd")


def read(path: Path, columns: Sequence[str] = ()) -> list[Row]:
    """Read all rows; ``columns`` are those that must be there.

    Raises:
        TableError: no such file, not Parquet, or a column is missing.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise TableError(f"{path}: expected a Parquet file, found: {error}") from error
    missing = sorted(set(columns) - set(table.column_names))
    if missing:
        raise TableError(f"{path}: expected the columns {missing}, found {table.column_names}")
    return list(table.to_pylist())
