from pathlib import Path

import pyarrow as pa
import pytest
import yaml

from features.cache import tables as cache
from features.cache.keys import PROJECT
from stages import extract, tables
from stages.engine.outputs import INDEX

BLOCK = {"module": "resnet50", "view": "segments", "source": "seeded", "seed": 1}
SCHEMA = pa.schema([*INDEX.items(), *extract.COLUMNS.items()])


def rows(name: str) -> list[cache.Row]:
    """Return an index of two videos, of which one has failed."""
    good = {"status": "ok", "key": name[0] * 64, "content": name[1] * 64, "path": "joy/a.h5"}
    good |= {"rows": 3, "rows_valid": 2, "pretrained": True}
    bad = {"status": "failed", "reason": "empty file"}
    return [
        {"video_id": f"joy/{which}", "label": "joy", **dict.fromkeys(SCHEMA.names[3:]), **row}
        for which, row in (("a", good), ("b", bad))
    ]


@pytest.fixture
def project(in_folder: Path) -> Path:
    """A folder with two backbones, each with its index."""
    params = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    params["backbones"] = {"swin": BLOCK, "mine": BLOCK}
    params["experiments"] = {"one": {"head": "pooling", "roles": {"face": "mine/pooled"}}}
    Path("params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    for name in ("swin", "mine", "removed"):
        cache.write(Path(f"data/tables/{name}.parquet"), rows(name), SCHEMA)
    return in_folder


def gathered() -> list[cache.Row]:
    return cache.read(Path("data/tables.parquet"))


def test_the_table_has_each_row_of_each_backbone_in_params_yaml(project: Path) -> None:
    tables.main()
    written = gathered()
    assert [(row["backbone"], row["video_id"]) for row in written] == [
        (name, f"joy/{video}") for name in ("swin", "mine") for video in ("a", "b")
    ]
    for row, index in zip(written, rows("swin") + rows("mine"), strict=True):
        assert {name: row[name] for name in tables.COLUMNS if name != "backbone"} == {
            name: index[name] for name in tables.COLUMNS if name != "backbone"
        }
    first = Path("data/tables.parquet").read_bytes()
    tables.main()
    assert Path("data/tables.parquet").read_bytes() == first


def test_an_index_that_is_not_here_is_the_one_of_the_last_output(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables.main()
    wanted = Path("data/tables.parquet").read_bytes()
    index = Path("data/tables/mine.parquet")
    index.rename("cached")
    last = {("extract@mine", index): Path("cached")}
    monkeypatch.setattr(tables, "previous_file", lambda stage, path, note: last[stage, path])
    tables.main()
    assert Path("data/tables.parquet").read_bytes() == wanted
    assert not index.exists(), "the output is another stage's"


def test_an_index_that_is_nowhere_ends_the_stage_in_a_line_that_says_what_to_do(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("data/tables/mine.parquet").unlink()
    with pytest.raises(SystemExit):
        tables.main()
    told = " ".join(capsys.readouterr().err.split())
    assert "tables: data/tables/mine.parquet is neither here nor in DVC's cache" in told
    assert "`dvc pull extract@mine`, or compute it with `dvc repro extract@mine`" in told
    assert not Path("data/tables.parquet").exists()
