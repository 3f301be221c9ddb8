import ast
import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import packages_distributions, version
from pathlib import Path

import av
import numpy as np
import pytest

from features.cache import arrays, claims
from features.cache.keys import item_key
from features.cache.store import ItemStore, store_root
from features.video.opening import VideoError
from stages.engine.items import describe, item_path, merge_reasons, run_items
from stages.engine.kit import SOFTWARE
from stages.engine.progress import StageRun
from stages.engine.trouble import PartlyFailed
from stages.engine.workers import Item, Work, Workers
from tests.conftest import HANGING_S, heed_ctrl_c


def item(name: str, number: int, *, label: str = "joy") -> Item:
    key = item_key({"n": number})
    return Item(f"{label}/{name}", {key: item_path(f"{label}/{name}")}, number)


def compute(task: object, outputs: Mapping[str, Path]) -> dict[str, float]:
    """Write the task's number; negative numbers are videos with troubles of their own."""
    if task == -1:
        raise VideoError("no video stream")
    if task == -2:
        time.sleep(60)
    if task == -3:
        os._exit(9)
    if task == -4:
        raise OSError(errno.ENOSPC, "No space left on device")
    if task == -5:
        raise KeyError("bug")
    if task == -6:
        Path("child").write_text(str(os.getpid()))
        time.sleep(60)
    for key, path in outputs.items():
        arrays.write(path, {"n": np.array([task])}, {"key": key})
    return {"frames_decoded": 2}


def numbers(out: Path) -> dict[str, int]:
    files = sorted(out.rglob("*.h5"))
    return {f.relative_to(out).as_posix(): arrays.read(f)[0]["n"].item() for f in files}


@pytest.mark.parametrize("pool", [Workers(0), Workers(2)])
def test_items_are_computed_once_and_then_reused(in_folder: Path, pool: Workers) -> None:
    items = [item("a", 1), item("b's 100%", 2), item("ü", 3)]
    for out, computed in (("one", 3), ("two", 0)):
        run = StageRun("toy")
        assert not any(run_items(run, Work(items, compute, pool), Path(out)).values())
        assert numbers(Path(out)) == {"joy/a.h5": 1, "joy/b's 100%.h5": 2, "joy/ü.h5": 3}
        assert (run.counts["computed"], run.counts["reused"]) == (computed, 3 - computed)
        assert run.counts["frames_decoded"] == 2 * computed
    one, two = Path("one/joy/a.h5"), Path("two/joy/a.h5")
    assert one.stat().st_ino == two.stat().st_ino


def test_one_video_more_costs_one_video(in_folder: Path) -> None:
    items = [item("a", 1), item("b", 2)]
    run_items(StageRun("toy"), Work(items, compute, Workers(0)), Path("one"))
    run = StageRun("toy")
    run_items(run, Work([*items, item("c", 3)], compute, Workers(0)), Path("two"))
    assert (run.counts["computed"], run.counts["reused"]) == (1, 2)


def test_the_same_video_under_two_names_is_computed_once(in_folder: Path) -> None:
    run = StageRun("toy")
    run_items(
        run, Work([item("a", 1), item("a", 1, label="fear")], compute, Workers(2)), Path("out")
    )
    assert numbers(Path("out")) == {"fear/a.h5": 1, "joy/a.h5": 1}
    assert (run.counts["computed"], run.counts["reused"]) == (1, 1)


def test_a_bad_video_is_a_reason_and_the_rest_goes_on(in_folder: Path) -> None:
    run = StageRun("toy")
    items = [item("bad", -1), item("crash", -3), item("bug", -5), item("good", 1)]
    outcome = run_items(run, Work(items, compute, Workers(2)), Path("out"))
    assert outcome["joy/bad"] == {"joy/bad.h5": "no video stream"}
    assert "died" in outcome["joy/crash"]["joy/crash.h5"]
    assert outcome["joy/bug"] == {"joy/bug.h5": "KeyError: 'bug'"}
    assert outcome["joy/good"] == {}
    assert numbers(Path("out")) == {"joy/good.h5": 1}
    assert (run.counts["failed"], run.counts["computed"]) == (3, 1)


@pytest.mark.parametrize("pool", [Workers(0), Workers(2)])
def test_of_an_item_that_fails_in_part_the_rest_is_kept(in_folder: Path, pool: Workers) -> None:
    run = StageRun("toy")
    keys = {name: item_key({"view": name}) for name in ("s", "u")}
    both = Item("joy/a", {key: f"{name}/joy/a.h5" for name, key in keys.items()}, keys["s"])
    outcome = run_items(run, Work([both, item("b", 1)], half, pool), Path("out"))
    assert outcome == {"joy/a": {"s/joy/a.h5": "too long"}, "joy/b": {}}
    assert numbers(Path("out")) == {"joy/b.h5": 0, "u/joy/a.h5": 0}
    assert (run.counts["computed"], run.counts["failed"]) == (1, 1)
    rows = [{"video_id": f"joy/{name}", "reason": None} for name in "ab"]
    for folder, reasons in (
        ("s/", ["too long", None]),
        ("u/", [None] * 2),
        ("", ["too long", None]),
    ):
        assert [row["reason"] for row in merge_reasons(rows, outcome, folder)] == reasons


def half(task: object, outputs: Mapping[str, Path]) -> dict[str, float]:
    """Write all files but the one whose key is the task."""
    for key, path in outputs.items():
        if key != task:
            arrays.write(path, {"n": np.array([0])}, {"key": key})
    if task in outputs:
        raise PartlyFailed({str(task): "too long"})
    return {}


def test_a_video_that_hangs_is_given_up(in_folder: Path) -> None:
    items = [item("hang", -2), item("good", 1)]
    outcome = run_items(StageRun("toy"), Work(items, compute, Workers(2, 2.0)), Path("out"))
    assert outcome["joy/hang"] == {"joy/hang.h5": "given up after 2 s (engine.time_limit_s)"}
    assert outcome["joy/good"] == {}


def test_a_full_disk_ends_the_stage_and_keeps_what_was_done(in_folder: Path) -> None:
    items = [item("a", 1), item("full", -4)]
    with pytest.raises(OSError, match="No space left"):
        run_items(StageRun("toy"), Work(items, compute, Workers(0)), Path("out"))
    assert ItemStore(store_root()).has(item_key({"n": 1}), ".h5")


def test_only_the_missing_files_of_an_item_are_asked_for(in_folder: Path) -> None:
    one, two = item_key({"n": 1}), item_key({"n": 2})
    run_items(
        StageRun("toy"),
        Work([Item("joy/a", {one: "s/joy/a.h5"}, 1)], compute, Workers(0)),
        Path("x"),
    )
    asked: list[set[str]] = []

    def spy(task: object, outputs: Mapping[str, Path]) -> dict[str, float]:
        asked.append(set(outputs))
        return compute(task, outputs)

    both = Item("joy/a", {one: "s/joy/a.h5", two: "u/joy/a.h5"}, 2)
    run_items(StageRun("toy"), Work([both], spy, Workers(0)), Path("y"))
    assert asked == [{two}]
    assert numbers(Path("y")) == {"s/joy/a.h5": 1, "u/joy/a.h5": 2}


def in_a_process_of_its_own(out: str, pool: Workers) -> None:
    """Bring twelve items into ``out`` and leave the counts beside it."""
    run = StageRun("toy")
    items = [item(f"v{number}", number) for number in range(12)]
    run_items(run, Work(items, slowly, pool), Path(out))
    Path(f"{out}.counts").write_text(f"{run.counts['computed']} {run.counts['reused']}")


def slowly(task: object, outputs: Mapping[str, Path]) -> dict[str, float]:
    time.sleep(0.05)  # long enough that both processes are at work at once
    return compute(task, outputs)


@pytest.mark.parametrize("pool", [Workers(0), Workers(2)])
def test_processes_that_share_a_store_share_the_work(in_folder: Path, pool: Workers) -> None:
    context = multiprocessing.get_context("spawn")
    both = [
        context.Process(target=in_a_process_of_its_own, args=(out, pool)) for out in ("one", "two")
    ]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    counts = [Path(f"{out}.counts").read_text().split() for out in ("one", "two")]
    assert sum(int(computed) for computed, _reused in counts) == 12
    assert sum(int(reused) for _computed, reused in counts) == 12
    assert numbers(Path("one")) == numbers(Path("two")) and len(numbers(Path("one"))) == 12
    assert not list((in_folder / ".store/claims").iterdir())
    assert not list((in_folder / ".store/unfinished").iterdir())


@pytest.mark.parametrize("pool", [Workers(0, 0.5), Workers(2, 0.5)])
def test_an_item_that_another_process_is_stuck_with_is_computed_in_the_end(
    in_folder: Path, pool: Workers, capsys: pytest.CaptureFixture[str]
) -> None:
    claim = claims.take(store_root() / "claims" / item_key({"n": 1}))
    assert claim is not None
    items = [item("a", 1), item("b", 2)]
    pool = Workers(pool.processes, 5.0) if pool.processes else pool
    assert not any(run_items(StageRun("toy"), Work(items, compute, pool), Path("out")).values())
    claim.release()
    assert numbers(Path("out")) == {"joy/a.h5": 1, "joy/b.h5": 2}
    assert "stuck" in capsys.readouterr().err


def hang(folder: str) -> None:
    os.chdir(folder)
    run_items(StageRun("toy"), Work([item("a", -6)], compute, Workers(1)), Path("out"))


def test_children_end_with_a_killed_stage_and_the_next_run_sweeps_what_is_left(
    in_folder: Path,
) -> None:
    stage = multiprocessing.get_context("spawn").Process(target=hang, args=(str(in_folder),))
    stage.start()
    until(lambda: Path("child").is_file() and Path("child").read_text() != "")
    child = int(Path("child").read_text())
    assert stage.pid is not None
    os.kill(stage.pid, signal.SIGKILL)
    stage.join()
    until(lambda: not is_running(child))
    assert list((in_folder / ".store/unfinished").iterdir())
    run_items(StageRun("toy"), Work([item("b", 2)], compute, Workers(0)), Path("out"))
    assert not list((in_folder / ".store/unfinished").iterdir())


def until(is_so: Callable[[], bool], limit_s: float = HANGING_S) -> None:
    """Wait until something is so."""
    end = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    """Tell whether a process runs; one that has ended and waits to be collected does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.parametrize("video_id", ["a", "../a", "a/..", "a/b/c", "/a", "a/", "a/b\0"])
def test_no_id_leads_out_of_the_folder(video_id: str) -> None:
    with pytest.raises(ValueError, match="expected <label>/<name>"):
        item_path(video_id)


def test_an_earlier_failure_keeps_its_reason() -> None:
    rows = [{"video_id": "a/a", "reason": "early"}, {"video_id": "a/b", "reason": None}]
    merged = merge_reasons(rows, {"a/b": {"a/b.h5": "late"}})
    assert [(row["status"], row["reason"]) for row in merged] == [
        ("failed", "early"),
        ("failed", "late"),
    ]


INTERRUPTED = """
import os, pathlib, signal, sys, time
from stages.engine.progress import StageRun
from stages.engine.items import run_items
from stages.engine.workers import Item, Work, Workers
from features.cache import arrays

def compute(task, outputs):
    if task == 2:
        pathlib.Path("begun").write_text(str(signal.pthread_sigmask(signal.SIG_BLOCK, ())))
        while True:
            time.sleep(1)
    for key, path in outputs.items():
        path.write_bytes(b"made")
    return {}

if __name__ == "__main__":
    with StageRun("toy") as run:
        items = [Item(f"joy/{n}", {str(n) * 64: f"joy/{n}.bin"}, n) for n in range(4)]
        work = Work(items, compute, Workers(int(sys.argv[1])))
        run_items(run, work, pathlib.Path("out"))
"""
"""A stage that computes two items and is then at work on the third until it is ended."""


@pytest.mark.parametrize("processes", [0, 1])
def test_ctrl_c_says_what_is_done_and_loses_none_of_it(in_folder: Path, processes: int) -> None:
    Path("toy.py").write_text(INTERRUPTED)
    project = str(Path(__file__).parents[3])
    stage = subprocess.Popen(
        [sys.executable, "toy.py", str(processes)],
        env=os.environ | {"PYTHONPATH": project},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a terminal sends Ctrl-C to the whole group
        preexec_fn=heed_ctrl_c,
    )
    while not (Path("begun").is_file() and Path("begun").read_text()):
        assert stage.poll() is None, stage.communicate()[1]
    os.killpg(stage.pid, signal.SIGINT)
    said = stage.communicate()[1]
    assert said == "toy: interrupted: 2 done, run again, nothing is lost\n"
    assert stage.returncode == 130
    assert [ItemStore(store_root()).has(str(n) * 64, ".bin") for n in range(4)] == [
        True, True, False, False,
    ]  # fmt: skip
    assert json.loads(Path("logs/toy.json").read_text())["ok"] is False
    if processes:  # blocked from birth: it cannot tell where it was while it starts
        assert "SIGINT" in Path("begun").read_text()


MAKES_NO_NUMBER = {
    "filelock",
    "flatbuffers",
    "hdf5plugin",
    "pyarrow",
    "pydantic",
    "requests",
    "safetensors",
    "urllib3",
}
"""Distributions that carry, check, fetch or show numbers."""

ONE_MODULE = {"cv2": "opencv-contrib-python"}
"""Modules that several distributions bring."""


def third_party(folder: Path) -> set[str]:
    """Return the distributions whose modules the files below a folder import, at any place."""
    names = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.partition(".")[0])
    known = packages_distributions()
    found = names - sys.stdlib_module_names
    return {ONE_MODULE.get(name, known[name][0].lower()) for name in found if name in known}


def test_every_library_that_makes_numbers_stands_in_array_files() -> None:
    project = Path(__file__).parents[3]
    used = third_party(project / "features") | third_party(project / "heads")
    used -= {"affectline", "retinaface-pytorch", "scikit-learn"}  # by torch; scores of a test
    assert used - MAKES_NO_NUMBER <= set(SOFTWARE)
    assert {"torch", "av", "pillow", "soxr", "librosa", "scipy", "mediapipe"} <= used
    software = describe("k", {}, {})["software"]
    assert isinstance(software, dict)
    assert {name: software[name] for name in SOFTWARE} == {n: version(n) for n in SOFTWARE}


def recorded(imports: str, **environment: str) -> dict[str, str]:
    """Return what an array file says of the software in a process that has some modules."""
    code = f"{imports}\nimport json, sys\nfrom stages.engine.items import software\n"
    code += "print(json.dumps(software() | {'has torch': str('torch' in sys.modules)}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[3],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    software: dict[str, str] = json.loads(done.stdout)
    return software


def test_array_files_name_what_their_stage_uses_whatever_else_is_loaded() -> None:
    assert "av" in sys.modules and pytest.importorskip("torch")
    decoded = describe("k", {"stage": "decode"}, {})["software"]
    extracted = describe("k", {"stage": "extract"}, {})["software"]
    handed = {"torch": "2", "torch threads": "8", "libswscale": "9", "librosa": "1"}
    named = describe("k", {"stage": "extract"}, {}, software=handed)["software"]
    assert isinstance(decoded, dict) and isinstance(extracted, dict)
    assert "libavcodec" in decoded and "torch threads" not in decoded
    assert "libavcodec" not in extracted and "torch threads" in extracted
    assert named == {"torch": "2", "torch threads": "8", "librosa": "1"}
    assert {"torch", "librosa"} <= decoded.keys() & extracted.keys()


def test_array_files_name_ffmpeg_where_it_decodes_and_import_no_torch_for_it() -> None:
    software = recorded("import av")
    major, minor, micro = av.library_versions["libavcodec"]
    assert software["libavcodec"] == f"{major}.{minor}.{micro}"
    assert set(av.library_versions) <= set(software)
    assert software["has torch"] == "False" and "torch cpu" not in software


def test_array_files_name_the_processors_part_in_torch() -> None:
    software = recorded("import torch; torch.set_num_threads(3)", ATEN_CPU_CAPABILITY="default")
    assert (software["torch cpu"], software["torch threads"]) == ("DEFAULT", "3")
    assert "libavcodec" not in software
