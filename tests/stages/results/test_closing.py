from pathlib import Path

import pytest

from stages.engine import progress
from stages.results import closing as module
from stages.results.closing import closing, say_closing
from tests.stages.results.made_results import write_result

SAMPLE, OWN = Path("data/sample"), Path("data/raw")


def said(root: Path, *results: object) -> list[str]:
    return [line.plain for line in closing(root, results)]  # type: ignore[arg-type]


def test_the_sample_ends_in_five_lines_that_do_not_boast(in_folder: Path) -> None:
    worse = write_result(in_folder, "worse", accuracy=0.3, pretrained=False, seed=1)
    best = write_result(in_folder, "best", accuracy=0.9, pretrained=False)
    accuracy = best.metrics["accuracy"]
    assert accuracy["mean"] > worse.metrics["accuracy"]["mean"]
    low, high = accuracy["ci95_corrected_low"], accuracy["ci95_corrected_high"]
    assert low < accuracy["mean"] < high
    assert said(SAMPLE, worse, best) == [
        f"best:   best, accuracy {accuracy['mean']:.1%}, 95 % interval {low:.1%} to {high:.1%} "
        "over 3 runs, the best of 2 experiments",
        "chance: 33.3%; always the commonest class: 33.3%",
        "note:   the built-in sample and random networks: this shows the pipeline at work, and "
        "nothing about emotion",
        "page:   report/index.html",
        "next:   affectline compare best worse; your own videos (docs/own-videos.md); real "
        "networks (source: pretrained in params.yaml)",
    ]


def test_of_ones_own_videos_with_real_networks_nothing_is_taken_back(in_folder: Path) -> None:
    alone = write_result(in_folder, "alone", runs=1)
    best, _chance, page, steps = said(OWN, alone)
    accuracy = alone.metrics["accuracy"]
    low, high = accuracy["ci95_bootstrap_low"], accuracy["ci95_bootstrap_high"]
    assert low < accuracy["mean"] < high
    assert best == (
        f"best:   alone, accuracy {accuracy['mean']:.1%}, 95 % interval {low:.1%} to {high:.1%} "
        "over its test videos"
    )
    assert page == "page:   report/index.html"
    assert steps == "next:   docs/reading-the-results.md says how sure these numbers are"


def test_one_seeded_experiment_is_told_and_what_cannot_be_compared_is_not_proposed(
    in_folder: Path,
) -> None:
    best = write_result(in_folder, "best", accuracy=0.9)
    fewer = write_result(
        in_folder, "fewer", accuracy=0.6, pretrained=False, skip=["anger/v0000"], seed=1
    )
    last = write_result(in_folder, "last", accuracy=0.2, seed=2)
    lines = said(OWN, best, fewer, last)
    assert "note:   random networks: this shows the pipeline at work" in lines[2]
    assert lines[-1].startswith("next:   affectline compare best last; real networks")


def test_on_a_terminal_the_page_is_a_link_and_in_a_log_a_path(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result = write_result(in_folder, "only")
    say_closing(OWN, [result])
    assert "\x1b" not in capsys.readouterr().err
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr(module, "console", progress._Plain(stderr=True))
    say_closing(OWN, [result])
    address = (in_folder / "report" / "index.html").as_uri()
    assert f";{address}\x1b\\report/index.html\x1b]8;;\x1b\\" in capsys.readouterr().err


def test_experiments_that_were_not_searched_alike_are_not_ranked_without_a_word(
    in_folder: Path,
) -> None:
    results = [write_result(in_folder, "a", tried=9), write_result(in_folder, "b", seed=1)]
    assert "note:   not ranked alike: 9 settings were tried of a; 1 setting was tried of b" in said(
        OWN, *results
    )
