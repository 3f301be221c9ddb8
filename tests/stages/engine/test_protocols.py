import shutil
from pathlib import Path

import pytest
import yaml

from affectline import cli
from features.cache import tables
from features.cache.keys import PROJECT
from stages import index
from stages.engine.params import load_params
from stages.engine.protocols import count_runs
from stages.engine.workers import Workers
from tests.conftest import write_clip
from tests.test_docs import blocks, merged


@pytest.fixture
def project(in_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with the project's params.yaml and dvc.yaml, in one process."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(PROJECT / name, in_folder)
    monkeypatch.setattr(index, "workers", lambda _: Workers(0))
    return in_folder


def write(rows: list[dict[str, str]], **splits: object) -> None:
    """Write a CSV of features alone, and params.yaml that divides them so."""
    lines = [",".join(row.values()) for row in rows]
    Path("v.csv").write_text("\n".join([",".join(rows[0]), *lines]) + "\n")
    raw = yaml.safe_load((PROJECT / "params.yaml").read_text())
    raw["index"] |= {"root": "v.csv", "splits": splits}
    Path("params.yaml").write_text(yaml.safe_dump(raw))


def speakers(count: int = 4) -> list[dict[str, str]]:
    """Return rows of speakers with two videos of each class, and of what day they are."""
    return [
        {"video_id": f"s{n}_{take}", "label": label, "speaker": f"s{n}", "day": str(take)}
        for n in range(count)
        for label in ("joy", "fear")
        for take in range(2)
    ]


def run_index(capsys: pytest.CaptureFixture[str]) -> tuple[list[tables.Row], str]:
    """Return the index that the stage makes, and what it says."""
    index.main()
    return tables.read(Path("data/index.parquet")), " ".join(capsys.readouterr().err.split())


def test_a_column_of_the_csv_is_the_group_that_one_run_leaves_out(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(speakers(), kind="leave_one_group_out", groups="speaker")
    rows, said = run_index(capsys)
    assert {str(row["group"]) for row in rows} == {"s0", "s1", "s2", "s3"}
    for row in rows:
        runs = {name: side for name, side in row.items() if name.startswith("split_")}
        assert runs == {f"split_s{n}": "test" if row["group"] == f"s{n}" else "train"
                        for n in range(4)}  # fmt: skip
    assert "columns of v.csv that nothing reads: day" in said and "suggest" not in said
    before = Path("data/index.parquet").read_bytes()
    write(speakers()[::-1], kind="leave_one_group_out", groups="speaker")
    run_index(capsys)
    assert Path("data/index.parquet").read_bytes() == before, "whatever the order of the CSV"


def test_without_groups_the_index_is_as_it_was_and_names_that_suggest_them_are_told(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(speakers(), runs=2, test_share=0.34, seed=0)
    rows, said = run_index(capsys)
    assert [*rows[0]] == [*index.COLUMNS, "split_00", "split_01"]
    warning = "warning: names suggest 4 groups (s0, s1, s2, …) that the splits ignore: "
    assert warning in said and "index.splits.groups keeps them apart" in said
    monkeypatch.setattr("stages.engine.checks.check_dvc", lambda: None)
    cli.check()
    assert warning in " ".join(capsys.readouterr().out.split())
    write(speakers(), kind="holdout", runs=2, test_share=0.34, seed=0, groups="speaker")
    rows, said = run_index(capsys)
    assert "suggest" not in said
    for run in ("split_00", "split_01"):
        sides = {(row["group"], row[run]) for row in rows}
        assert len(sides) == 4 and sorted(str(side) for _, side in sides).count("test") == 1


def test_a_csv_s_own_runs_are_held_to_the_groups_or_left_where_others_are_asked_for(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = [row | {"split": "test" if row["speaker"] == "s1" else "train"} for row in speakers()]
    write(told, kind="predefined", groups="speaker")
    rows, said = run_index(capsys)
    assert {row["group"] for row in rows if row["split_00"] == "test"} == {"s1"}
    write(told, kind="kfold", folds=2, seed=0, groups="speaker")
    rows, said = run_index(capsys)
    assert "the split columns of v.csv are not used: the runs are kfold" in said
    assert "split_01" in rows[0]
    write([told[0] | {"split": "test"}, *told[1:]], kind="predefined", groups="speaker")
    with pytest.raises(SystemExit):
        run_index(capsys)
    assert "found both: s0 (3 train and 1 test in split_00)" in capsys.readouterr().err
    write(speakers(), kind="predefined")
    with pytest.raises(SystemExit):
        run_index(capsys)
    assert "index.splits.kind is predefined, found none" in capsys.readouterr().err


def test_corpora_are_crossed_and_what_has_no_counterpart_is_counted(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"a": ("joy", "fear"), "b": ("happy", "fear", "calm")}
    rows = [
        {"video_id": f"{corpus}{n}", "label": label, "source": corpus, "who": f"s{n}"}
        for corpus, labels in names.items()
        for label in labels
        for n in range(2)
    ]
    plan = {"kind": "cross_corpus", "corpus": "source", "map": {"b": {"happy": "joy"}}}
    write(rows, **plan, train="each", groups="who")
    made, said = run_index(capsys)
    assert "videos left out, as not every corpus has their class: 2 (b: calm 2)" in said
    by_id = {str(row["video_id"]): row for row in made}
    one = by_id["happy/b1"]
    assert (one["group"], one["corpus"], one["class"]) == ("b/s1", "b", "joy")
    assert (one["split_from_a"], one["split_from_b"]) == ("test", "train")
    assert by_id["calm/b0"]["class"] is None and by_id["calm/b0"]["split_from_a"] is None


WRONG = [
    ({"kind": "kfold", "folds": 3, "seed": 0, "groups": "actor"}, {},
     "v.csv: expected the column 'actor', which params.yaml names under index, found video_id, "
     "label, speaker, day"),
    ({"kind": "leave_one_group_out", "groups": "speaker"}, {"speaker": " "},
     "v.csv: column speaker: expected a value for every video, found none for fear/s1_0, joy/s1_0; "
     "a video that belongs to no other"),
    ({"kind": "kfold", "folds": 5, "seed": 0, "groups": "speaker"}, {},
     "v.csv: expected at least as many groups as folds, 5, found 4: s0, s1, s2, s3"),
]  # fmt: skip


@pytest.mark.parametrize(("splits", "changed", "words"), WRONG)
@pytest.mark.parametrize("command", [index.main, cli.check])
def test_what_cannot_be_divided_ends_the_stage_and_the_check_in_a_line(
    project: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: object,
    splits: dict[str, object],
    changed: dict[str, str],
    words: str,
) -> None:
    monkeypatch.setattr("stages.engine.checks.check_dvc", lambda: None)
    rows = [row | changed if row["video_id"] == "s1_0" else row for row in speakers()]
    write(rows, **splits)
    with pytest.raises(SystemExit):
        command()  # type: ignore[operator]
    assert words in " ".join(capsys.readouterr().err.split())
    assert not Path("data/index.parquet").exists()


def test_runs_are_counted_before_the_index_is_made(project: Path) -> None:
    plans: list[tuple[dict[str, object], int]] = [
        ({"kind": "kfold", "folds": 5, "seed": 0}, 5),
        ({"kind": "leave_one_group_out", "groups": "speaker"}, 4),
        ({"kind": "cross_corpus", "corpus": "day"}, 2),
        ({"runs": 7, "test_share": 0.3, "seed": 0}, 7),
    ]
    for splits, count in plans:
        write(speakers(), **splits)
        assert count_runs(load_params().index) == count
    told = [row | {"split_00": "train", "split_01": "test"} for row in speakers()]
    write(told, kind="predefined")
    assert count_runs(load_params().index) == 2


# ------------------------------------------------------------------ docs/protocols.md as it stands

PAGE = PROJECT / "docs/protocols.md"


def made(example: int, capsys: pytest.CaptureFixture[str]) -> tuple[list[tables.Row], str]:
    """Return the index of an example of the page, of clips made for it, and what the stage says."""
    csv, settings = blocks(PAGE, "csv")[example], yaml.safe_load(blocks(PAGE, "yaml")[example])
    table = Path(settings["index"]["root"])
    table.parent.mkdir(exist_ok=True)
    table.write_text(csv)
    for number, line in enumerate(csv.splitlines()[1:]):
        write_clip(table.parent / line.partition(",")[0], frames=2 + number)
    raw = merged(yaml.safe_load((PROJECT / "params.yaml").read_text()), settings)
    raw["index"]["splits"] = settings["index"]["splits"]
    Path("params.yaml").write_text(yaml.safe_dump(raw))
    return run_index(capsys)


def test_each_speaker_is_tested_by_a_run_that_has_not_heard_them(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, _ = made(0, capsys)
    tested = {(row["group"], name) for row in rows for name, side in row.items() if side == "test"}
    assert tested == {(name, f"split_{name}") for name in ("ana", "ben", "eva")}
    assert {"split_ana", "split_ben", "split_eva"} < set(rows[0])


def test_corpora_have_two_classes_in_common_and_test_each_other(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, said = made(1, capsys)
    assert "their class: 1 (ravdess: calm 1)" in said
    assert {row["class"] for row in rows} == {"joy", "fear", None}
    runs = sorted(name for name in rows[0] if name.startswith("split_"))
    assert runs == ["split_from_crema", "split_from_ravdess", "split_from_savee"]
    trained = {(row["corpus"], name) for row in rows for name in runs if row[name] == "train"}
    assert trained == {(name.removeprefix("split_from_"), name) for name in runs}


def test_dimensions_have_groups_and_corpora_too(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row | {"valence": str(n // 4)} for n, row in enumerate(speakers())]  # one a speaker
    plans: list[dict[str, object]] = [
        {"kind": "leave_one_group_out", "groups": "speaker"},
        {"kind": "cross_corpus", "corpus": "speaker"},
    ]
    for splits in plans:
        write(rows, **splits)
        raw = yaml.safe_load(Path("params.yaml").read_text())
        target = {"kind": "dimensions", "columns": ["valence"], "range": [0.0, 3.0]}
        raw["index"]["targets"] = {"feeling": target}
        Path("params.yaml").write_text(yaml.safe_dump(raw))
        made, _ = run_index(capsys)
        assert "class" not in made[0] and {row["label"] for row in made} == {"joy", "fear"}
        for row in made:
            runs = [row[f"split_s{n}"] for n in range(4)]
            assert sorted(map(str, runs)) == ["test", "train", "train", "train"]
