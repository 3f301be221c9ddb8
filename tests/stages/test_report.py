import re
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
import yaml

from features.cache import tables
from features.cache.keys import PROJECT
from stages import report
from tests.stages.results.made_page import ATTENTION, FACE, VIDEOS
from tests.stages.results.made_results import write_result


def section(page: str, name: str) -> str:
    found = re.search(rf'<section id="{name}"[^>]*>(.*?)</section>', page, re.S)
    assert found, name
    return found[1]


# ---------------------------------------------------------------------------------- stage


@pytest.fixture
def project(in_folder: Path) -> Path:
    """A folder with params.yaml of two experiments, their results and an index."""
    raw = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    raw["backbones"] = {
        "vggface": {"module": "vggface", "view": "faces", "source": "seeded", "seed": 1},
        "vgg16": {"module": "vgg16", "view": "segments", "source": "seeded", "seed": 2},
    }
    raw["experiments"] = {
        "caan": {"head": "caan", "roles": {"face": "vggface/fc6", "context": "vgg16/fc6"}},
        "face": {"head": "pooling", "roles": FACE},
    }
    Path("params.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    write_result(Path("results"), "caan", attention=ATTENTION)
    write_result(Path("results"), "face", head="pooling", roles=FACE, seed=1)
    schema = pa.schema([(name, pa.string()) for name in VIDEOS[0]])
    tables.write(Path("data/index.parquet"), VIDEOS, schema)
    return in_folder


def run() -> None:
    report.main()


def test_the_stage_writes_the_same_page_each_time_and_says_where(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run()
    assert "\npage:   report/index.html\n" in capsys.readouterr().err
    page = Path("report/index.html").read_bytes()
    run()
    assert Path("report/index.html").read_bytes() == page
    assert sorted(path.name for path in Path("report").iterdir()) == [
        "figures",
        "index.html",
        "tables",
    ]


def test_a_page_that_is_larger_than_it_may_be_is_told(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    raw["report"] |= {"max_mb": 1, "title": "long " * 150_000}
    Path("params.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    run()
    said = " ".join(capsys.readouterr().err.split())
    assert "the page takes 1." in said and "of report.max_mb 1" in said
    page = Path("report/index.html").read_text(encoding="utf-8")
    assert "<svg" not in page and "larger than" in page
    assert Path("report/figures/accuracy.svg").is_file()


def test_an_experiment_without_results_ends_the_stage(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree("results/face")
    with pytest.raises(SystemExit):
        run()
    assert "results/face: expected the results of train@face" in capsys.readouterr().err


def test_a_video_asked_for_that_there_is_not_ends_the_stage_with_a_line(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    raw["report"]["videos"] = [str(VIDEOS[0]["video_id"]), "joy/nine"]
    Path("params.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    with pytest.raises(SystemExit):
        run()
    told = capsys.readouterr().err
    assert "report.videos: expected ids of videos" in told and "found joy/nine" in told
    assert not Path("report").exists()
