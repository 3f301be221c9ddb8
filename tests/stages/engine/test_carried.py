from dataclasses import dataclass
from functools import partial
from pathlib import Path

from stages.engine.carried import files_of, moved


@dataclass(frozen=True)
class Network:
    weights: Path
    name: str = "vgg16"


@dataclass(frozen=True)
class Task:
    network: Network
    files: dict[str, Path]
    others: tuple[object, ...] = ()


def test_files_are_found_wherever_they_are_named_and_moved_there(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a", "b", "c")]
    for path in paths:
        path.touch()
    a, b, c = paths
    task = Task(Network(a), {"face": b}, (1, [partial(Path.stat, c), tmp_path, Path("nowhere")]))
    assert files_of(task) == {a, b, c}
    assert files_of({("key",): task}) == {a, b, c}
    there = {path: Path("elsewhere") / path.name for path in paths}
    found = moved(task, there)
    assert (found.network, found.files) == (Network(there[a]), {"face": there[b]})
    ((function, *rest),) = found.others[1:]
    assert function.args == (there[c],) and rest == [tmp_path, Path("nowhere")]
    assert task.network.weights == a


def test_what_names_no_file_that_moves_is_the_same_object(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    network = Network(tmp_path / "a")
    task = Task(network, {"face": Path("b")})
    found = moved(task, {Path("b"): Path("c")})
    assert found.network is network and found.others is task.others
    assert moved(task, {}) is task
