"""Attention out of the table: every weight where it belongs, maps of the videos shown alone."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.cache import tables
from heads import Roles, Rows
from stages.results import attention
from stages.results.attention import read_attention
from tests.stages.results.made_results import write_result

KINDS = {
    "frame_scores": (Rows("face"), ()),
    "regions": (Rows("face"), (2, 3)),
    "units": (Rows("face"), (5,)),
    "modality_scores": (Roles(("face", "context")), (2,)),
}
SHOWN = {("split_00", "joy/v0001"), ("split_01", "joy/v1004")}


def test_every_weight_is_the_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "BATCH_ROWS", 7)  # videos are cut into pieces
    result = write_result(tmp_path, "caan", videos=6, runs=2, rows=4, attention=KINDS)
    weights = read_attention(result, SHOWN)
    table = tables.read(result.folder / "attention.parquet")
    by_name = {found.name: found for found in weights.rows}
    assert set(by_name) == {"frame_scores", "regions", "units"}
    for name, shape in (("frame_scores", ()), ("regions", (2, 3)), ("units", (5,))):
        for run, video in SHOWN:
            rows = [r for r in table if (r["name"], r["run"], r["video_id"]) == (name, run, video)]
            found = by_name[name]
            field = "map" if shape else "value"
            wanted = np.array([row[field] for row in rows], float).reshape(4, *shape)
            got = found.maps if shape else found.weights
            np.testing.assert_array_equal(got[run, video], wanted)
            assert found.pts_s[run, video].tolist() == [row["pts_s"] for row in rows]
    assert {*by_name["regions"].maps} == {*by_name["frame_scores"].weights} == SHOWN
    units = by_name["units"]
    for answer in SHOWN:
        np.testing.assert_allclose(units.weights[answer], units.maps[answer].sum(axis=1))
    (roles,) = weights.roles
    assert len(roles.weights) == 2 * 6
    assert sum(roles.weights["split_01", "joy/v1004"].values()) == pytest.approx(1)


def test_of_other_videos_the_rows_are_kept_where_asked_for_and_no_map_ever(tmp_path: Path) -> None:
    result = write_result(tmp_path, "caan", videos=6, runs=2, rows=4, attention=KINDS)
    by_name = {found.name: found for found in read_attention(result, SHOWN, every_row=True).rows}
    assert len(by_name["frame_scores"].weights) == len(by_name["units"].weights) == 2 * 6
    assert set(by_name["regions"].maps) == set(by_name["units"].maps) == SHOWN
    table = tables.read(result.folder / "attention.parquet")
    sums = [
        np.sum(r["map"]) for r in table if r["video_id"] == "joy/v0004" and r["name"] == "units"
    ]
    np.testing.assert_allclose(by_name["units"].weights["split_00", "joy/v0004"], sums, rtol=1e-6)


def test_a_video_shown_in_one_run_is_not_read_of_another(tmp_path: Path) -> None:
    kinds = {"regions": KINDS["regions"], "frame_scores": KINDS["frame_scores"]}
    result = write_result(tmp_path, "caan", runs=2, attention=kinds)
    shown = {("split_00", "joy/v0001"), ("split_01", "anger/v1000")}
    for found in read_attention(result, shown).rows:
        assert set(found.pts_s) == shown


def test_a_map_of_a_video_shown_in_another_run_adds_nothing(tmp_path: Path) -> None:
    result = write_result(tmp_path, "caan", runs=2, attention={"regions": KINDS["regions"]})
    table = pq.read_table(result.folder / "attention.parquet")
    runs = pa.array(["split_00", "split_01"] * (len(table) // 2))  # each tested every video
    place = table.column_names.index("run")
    pq.write_table(table.set_column(place, "run", runs), result.folder / "attention.parquet")
    shown = {("split_00", "joy/v0001"), ("split_01", "anger/v1000")}
    (found,) = read_attention(result, shown, every_row=True).rows
    assert set(found.pts_s) == shown and found.weights == {}


def test_channels_whose_sums_are_even_say_nothing_of_rows(
    tmp_path: Path,
) -> None:
    result = write_result(tmp_path, "caan", videos=3, runs=1, attention={"units": KINDS["units"]})
    path = result.folder / "attention.parquet"
    table = pq.read_table(path)
    even = [
        (np.array(values) / max(sum(values), 1e-9)).astype(np.float32).tolist()
        for values in table["map"].to_pylist()
    ]
    place, field = table.column_names.index("map"), table.schema.field("map")
    pq.write_table(table.set_column(place, field, pa.array(even, field.type)), path)
    (found,) = read_attention(result, {("split_00", "joy/v0001")}, every_row=True).rows
    assert found.weights == {} and len(found.maps) == 1


def test_a_table_that_is_none_is_told(tmp_path: Path) -> None:
    result = write_result(tmp_path, "caan", attention=KINDS)
    path = result.folder / "attention.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["shape"]), path)
    with pytest.raises(tables.TableError, match=r"attention\.parquet: .*shape.*train again"):
        read_attention(result, SHOWN)
    path.write_bytes(b"no table")
    with pytest.raises(tables.TableError, match="expected a Parquet file"):
        read_attention(result, SHOWN)


def test_a_head_without_attention_has_none(tmp_path: Path) -> None:
    weights = read_attention(write_result(tmp_path, "caan"), SHOWN)
    assert (weights.rows, weights.roles) == ([], [])
