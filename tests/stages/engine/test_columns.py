from pathlib import Path

import pyarrow as pa
import pytest
import yaml

from features.cache import tables
from features.cache.keys import PROJECT
from features.video.listing import DataSetError, list_videos
from features.video.splits import add_drawn
from heads.training.targets import labels_of, metadata_of, read_targets
from stages.engine.columns import add_targets, check_searches, columns_of, declared, split_evenly
from stages.engine.params import Index, load_params
from stages.engine.search import Search
from tests.test_docs import blocks

INDEX = Index.model_validate(
    {
        "root": "v.csv",
        "splits": {"runs": 2, "test_share": 0.5, "seed": 0},
        "targets": {
            "affect": {"kind": "dimensions", "columns": ["valence"], "range": [1, 9]},
            "feelings": {"kind": "labels", "columns": ["feelings"], "names": ["joy", "fear"]},
            "emotion": {"kind": "class", "columns": ["label"]},
        },
    }
)


def rows_of(
    lines: list[str], index: Index = INDEX
) -> tuple[list[tables.Row], dict[str, pa.DataType]]:
    Path("v.csv").write_text("\n".join(["video_id,label,valence,feelings", *lines]) + "\n")
    videos, _ = list_videos(Path("v.csv"), columns_of(index))
    rows: list[tables.Row] = [
        {"video_id": v.video_id, "label": v.label, "status": "ok", "sha256": v.video_id}
        for v in videos
    ]
    return rows, add_targets(rows, videos, index)


def test_the_index_has_what_is_told_of_each_video(in_folder: Path) -> None:
    rows, added = rows_of(["a,calm,1.5,fear|joy", "b,calm,9,"])
    texts = dict.fromkeys(("video_id", "label", "status", "sha256"), pa.string())
    schema = pa.schema([*texts.items(), *added.items()], metadata_of(declared(INDEX)))
    tables.write(Path("index.parquet"), rows, schema)
    read = tables.read(Path("index.parquet"))
    told = {}
    for each in read_targets(Path("index.parquet")):
        target, labels = labels_of(read, each)
        told[target.name] = (target.names, target.range, labels)
    assert told == {
        "affect": (("valence",), (1, 9), {"calm/a": (1.5,), "calm/b": (9.0,)}),
        "feelings": (("joy", "fear"), None, {"calm/a": (1.0, 1.0), "calm/b": (0.0, 0.0)}),
        "emotion": (("calm",), None, {"calm/a": 0, "calm/b": 0}),
    }


def test_runs_are_even_over_the_first_target(in_folder: Path) -> None:
    rows, _ = rows_of([f"v{n:02d},calm,{1 + n / 3},{'joy' if n else 'fear'}" for n in range(20)])
    names = split_evenly(rows, INDEX, lambda each: add_drawn(each, runs=3, test_share=0.4, seed=0))
    assert names == ["split_00", "split_01", "split_02"]
    for name in names:
        quarters = [sum(row[name] == "test" for row in rows[5 * n : 5 * n + 5]) for n in range(4)]
        assert quarters == [2, 2, 2, 2], "of each quarter of the videos by valence"
    assert {row["label"] for row in rows} == {"calm"}


def test_a_label_that_no_video_has_is_an_error(in_folder: Path) -> None:
    with pytest.raises(DataSetError, match=r"targets\.feelings: .* none with fear: take it out"):
        rows_of(["a,calm,1.5,joy", "b,calm,9,"])


def test_the_csv_of_the_page_says_what_the_page_says(in_folder: Path) -> None:
    page = PROJECT / "docs/labels.md"
    settings = yaml.safe_load(blocks(page, "yaml")[0])
    index = Index.model_validate(
        settings["index"] | {"splits": {"runs": 1, "test_share": 0.3, "seed": 0}}
    )
    Path("v.csv").write_text(blocks(page, "csv")[0])
    videos, _ = list_videos(Path("v.csv"), columns_of(index))
    rows: list[tables.Row] = [{"video_id": v.video_id, "label": v.label} for v in videos]
    add_targets(rows, videos, index)
    numbers, feelings = (labels_of(rows, each) for each in declared(index))
    assert numbers[0].range == (1, 9) and numbers[1]["all/ana_2"] == (2.0, 8.25)
    assert feelings[0].names == ("fear", "joy", "surprise")
    assert feelings[1]["all/eva_1"] == (1, 0, 1) and feelings[1]["all/ben_1"] == (0, 0, 0)
    assert settings["experiments"]["several"]["target"] == "feelings"


@pytest.mark.parametrize("label", ["calm", "fear"])
def test_a_search_on_one_class_is_an_error_before_any_stage_works(
    in_folder: Path, label: str
) -> None:
    rows_of(["a,calm,1.5,fear|joy", f"b,{label},9,"])
    params = load_params(PROJECT / "params.yaml")
    search = Search.model_validate({"trials": 2, "space": {"hidden": {"choice": [8, 16]}}})
    blocks = {
        str(target): params.experiments["face_average"].model_copy(
            update={"search": search, "target": target}
        )
        for target in (None, "feelings", "emotion")
    }
    params = params.model_copy(update={"index": INDEX, "experiments": blocks})
    videos, _ = list_videos(Path("v.csv"), columns_of(INDEX))
    if label != "calm":
        check_searches(videos, params)
        return
    with pytest.raises(DataSetError, match=r"experiments\.emotion\.search: .* found 'calm' alone"):
        check_searches(videos, params)
