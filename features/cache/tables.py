"""Tables: Parquet files of plain rows, and CSV for people, the same bytes every time."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath

import pyarrow as pa
import pyarrow.parquet as pq

from features.cache.store import replacing

Row = dict[str, object]

LARGEST_ROWS = 5_000_000
"""Most rows of a table that is read: a small file can declare as many as it likes."""


class TableError(ValueError):
    """A table file is not what it says or lacks a column."""


def write(path: Path, rows: Iterable[Mapping[str, object]], schema: pa.Schema) -> None:
    """Write ``rows`` to a Parquet file with exactly the columns of ``schema``.

    The file appears under its name only when it is whole.
    """
    write_table(path, pa.Table.from_pylist([dict(row) for row in rows], schema=schema))


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table to a Parquet file, which appears under its name only when it is whole."""
    with replacing(path) as partial:
        pq.write_table(table, partial, compression="zstd")


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a CSV file: UTF-8, a line of the columns' names, then a line a row.

    The file appears under its name only when it is whole.
    """
    with replacing(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def read(path: Path, columns: Sequence[str] = ()) -> list[Row]:
    """Read all rows; ``columns`` are those that must be there.

    Raises:
        TableError: no such file, not Parquet, too many rows, a column is missing, or the column
            ``path`` leads out of the table's folder.
    """
    try:
        with pq.ParquetFile(path) as file:  # pq.read_table would import pandas
            if (rows := file.metadata.num_rows) > LARGEST_ROWS:
                raise TableError(f"{path}: expected at most {LARGEST_ROWS:,} rows, found {rows:,}")
            table = file.read()
    except FileNotFoundError:
        raise TableError(f"{path}: expected a Parquet file, found none") from None
    except (OSError, pa.ArrowException) as error:
        raise TableError(f"{path}: expected a Parquet file, found: {error}") from error
    missing = sorted(set(columns) - set(table.column_names))
    if missing:
        raise TableError(f"{path}: expected the columns {missing}, found {table.column_names}")
    rows_read: list[Row] = table.to_pylist()
    strange = [row["path"] for row in rows_read if "path" in row and _leads_out(row["path"])]
    if strange:
        raise TableError(f"{path}: expected paths below its folder, found {strange[0]!r}")
    return rows_read


def read_metadata(path: Path) -> dict[str, str]:
    """Return what a Parquet file says of itself beside its columns.

    Raises:
        TableError: no such file, or not Parquet.
    """
    try:
        said = pq.read_schema(path).metadata or {}
    except (OSError, pa.ArrowException) as error:
        raise TableError(f"{path}: expected a Parquet file, found: {error}") from error
    return {name.decode(): text.decode(errors="replace") for name, text in said.items()}


def _leads_out(path: object) -> bool:
    """Tell whether a path of a table is none below the table's folder; none at all is right."""
    if path is None:
        return False
    return not isinstance(path, str) or path.startswith("/") or ".." in PurePath(path).parts
