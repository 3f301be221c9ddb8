import threading
from pathlib import Path

import pytest

from features.cache import claims
from stages.engine.outputs import check_failures, fresh_outputs, write_index
from stages.engine.progress import StageRun


def test_outputs_take_their_places_only_when_all_went_well(in_folder: Path) -> None:
    Path("data/old").mkdir(parents=True)
    Path("data/new").mkdir()
    Path("data/new/stale").touch()
    with pytest.raises(RuntimeError), fresh_outputs(Path("data"), StageRun("toy")) as partial:
        (partial / "new").mkdir()
        raise RuntimeError
    assert Path("data/new/stale").exists()
    with fresh_outputs(Path("data"), StageRun("toy")) as partial:
        (partial / "new").mkdir()
        (partial / "new" / "fresh").touch()
    assert sorted(p.as_posix() for p in Path("data").rglob("*")) == [
        "data/new",
        "data/new/fresh",
        "data/old",
    ]


def test_one_process_at_a_time_writes_the_outputs(
    in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    claim = claims.take(Path("data/.toy.busy.tmp"))
    assert claim is not None
    threading.Timer(0.3, claim.release).start()
    with fresh_outputs(Path("data"), StageRun("toy")) as partial:
        (partial / "new").touch()
    assert "waiting for another process" in capsys.readouterr().err
    assert [path.name for path in Path("data").iterdir()] == ["new"]


def test_too_many_failures_end_the_stage_with_the_reasons(
    in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"video_id": f"a/{n}", "status": "ok", "reason": None} for n in range(4)]
    rows.append({"video_id": "a/bad", "status": "failed", "reason": "empty file"})
    check_failures(StageRun("toy"), rows, 0.2)
    with pytest.raises(SystemExit):
        check_failures(StageRun("toy"), rows, 0.1)
    said = capsys.readouterr().err
    assert "a/bad" in said and "empty file" in said and "max_failed" in said


@pytest.mark.parametrize(
    ("reasons", "why"),
    [([], "no backbone of params.yaml reads it"), (["cut off"], "no video could be used")],
)
def test_a_folder_without_items_says_so_as_dvc_warns_of_an_empty_one(
    in_folder: Path, reasons: list[str], why: str
) -> None:
    rows = [
        {"video_id": "a/b", "label": "a", "status": "failed", "reason": reason}
        for reason in reasons
    ]
    write_index(Path("view.parquet"), Path("view"), rows, {}, {})
    (note,) = Path("view").iterdir()
    assert note.read_text() == f"Nothing is here: {why}, see view.parquet.\n"
