import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from features.cache import tables
from features.cache.tables import TableError

SCHEMA = pa.schema([("video_id", pa.string()), ("rows", pa.int32())])


def test_rows_come_back_and_what_is_not_said_is_null(tmp_path: Path) -> None:
    tables.write(tmp_path / "t.parquet", [{"video_id": "joy/ü%'"}, {"rows": 3}], SCHEMA)
    assert tables.read(tmp_path / "t.parquet") == [
        {"video_id": "joy/ü%'", "rows": None},
        {"video_id": None, "rows": 3},
    ]


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        tables.write(tmp_path / name, [{"video_id": "x", "rows": 1}], SCHEMA)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_missing_column_or_file_is_named(tmp_path: Path) -> None:
    tables.write(tmp_path / "t.parquet", [], SCHEMA)
    with pytest.raises(TableError, match=r"expected the columns \['label'\]"):
        tables.read(tmp_path / "t.parquet", ["label", "rows"])
    (tmp_path / "bad.parquet").write_text("no")
    for name in ("bad.parquet", "none.parquet"):
        with pytest.raises(TableError, match=f"{name}: expected a Parquet file"):
            tables.read(tmp_path / name)


def test_a_table_is_read_without_pandas(tmp_path: Path) -> None:
    """It takes a third of a second of each stage's start."""
    tables.write(tmp_path / "a.parquet", [{"a": 1}], pa.schema({"a": pa.int64()}))
    code = (
        "import sys; from pathlib import Path; from features.cache import tables; "
        f"print(tables.read(Path({str(tmp_path / 'a.parquet')!r})), 'pandas' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[{'a': 1}] False"
