import os
import pickle
import sys
import time
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from features.sources import pickles
from features.sources.pickles import PickleError, nested, open_apart


class Runs:
    """A pickle that runs this Python code when it is opened."""

    def __init__(self, code: str) -> None:
        self.code = code

    def __reduce__(self) -> tuple[object, ...]:
        return exec, (self.code,)


def checkpoint(path: Path, code: str = "", **more: object) -> Path:
    torch.save({"weight": torch.ones(2), "runs": Runs(code), **more}, path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "apart"
    made.mkdir()
    return made


def opened(path: Path, folder: Path) -> dict[str, torch.Tensor]:
    return load_file(open_apart(path, folder))


def test_code_in_a_pickle_runs_in_another_process_and_only_tensors_come_back(
    tmp_path: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SECRET", "of the caller")
    mark = tmp_path / "mark"
    facts = "os.getpid(), os.getcwd(), os.environ.get('SECRET'), 'features' in sys.modules"
    code = f"import os, sys; print('x'); open({str(mark)!r}, 'w').write(repr(({facts})))"
    found = opened(checkpoint(tmp_path / "a.pth", code), folder)
    assert list(found) == ["weight"]
    pid, where, secret, knows_us = eval(mark.read_text())
    assert pid != os.getpid()
    assert Path(where).resolve() == folder.resolve()
    assert secret is None
    assert not knows_us
    assert capfd.readouterr() == ("", "")


def test_nested_mappings_and_numpy_arrays_come_back_without_the_rest(
    tmp_path: Path, folder: Path
) -> None:
    content = {
        "arch": "resnet18",
        "epoch": np.float64(3),
        "state_dict": OrderedDict({"module.fc.weight": torch.ones(2, 3).t()}),
        "pca_means": np.arange(3.0),
        "optimizer": {"state": {0: torch.ones(1)}},
        "objects": np.array([{}], object),
    }
    torch.save(content, tmp_path / "a.pth.tar")
    found = nested(opened(tmp_path / "a.pth.tar", folder))
    assert set(found) == {"state_dict", "pca_means"}
    inner = found["state_dict"]
    assert isinstance(inner, dict)
    assert torch.equal(inner["module.fc.weight"], torch.ones(3, 2))


def test_a_whole_module_gives_its_state(tmp_path: Path, folder: Path) -> None:
    module = nn.Linear(2, 3)
    torch.save(module, tmp_path / "a.pth")
    torch.testing.assert_close(opened(tmp_path / "a.pth", folder), dict(module.state_dict()))


def test_tensors_that_share_memory_come_back_each_with_its_own(
    tmp_path: Path, folder: Path
) -> None:
    shared = torch.arange(4.0)
    torch.save({"a": shared, "b": shared[1:], "runs": Runs("")}, tmp_path / "a.pth")
    assert opened(tmp_path / "a.pth", folder)["b"].tolist() == [1, 2, 3]


def test_a_plain_pickle_of_python_2_is_read_as_latin_1(tmp_path: Path, folder: Path) -> None:
    array = pickle.dumps(np.arange(3.0), protocol=2).removeprefix(b"\x80\x02").removesuffix(b".")
    # a dict {'caf\xe9': 1, 'w': array} as Python 2 wrote it: byte strings, no encoding
    python2 = b"\x80\x02}(U\x04caf\xe9K\x01U\x01w" + array + b"u."
    (tmp_path / "a.pkl").write_bytes(python2)
    assert opened(tmp_path / "a.pkl", folder)["w"].tolist() == [0, 1, 2]


# ------------------------------------------------------------------------------- failures


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise OSError('not today')", "a.pth: it cannot be opened: OSError: not today"),
        ("import os; os._exit(7)", "a.pth: it cannot be opened: status 7"),
    ],
)
def test_a_pickle_that_cannot_be_opened_says_why(
    tmp_path: Path, folder: Path, code: str, message: str
) -> None:
    with pytest.raises(PickleError, match=message):
        open_apart(checkpoint(tmp_path / "a.pth", code), folder)


def test_a_pickle_without_tensors_is_refused(tmp_path: Path, folder: Path) -> None:
    torch.save({"epoch": 3, "runs": Runs("")}, tmp_path / "a.pth")
    with pytest.raises(PickleError, match="no tensors in it"):
        open_apart(tmp_path / "a.pth", folder)


def test_what_is_put_in_the_place_of_the_tensors_is_not_followed(
    tmp_path: Path, folder: Path
) -> None:
    code = "import os; os.mkfifo('tensors.safetensors'); os._exit(0)"
    with pytest.raises(PickleError, match="no tensors"):
        open_apart(checkpoint(tmp_path / "a.pth", code), folder)


def test_a_process_that_takes_too_long_is_ended_with_all_it_started(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark, script = tmp_path / "pids", tmp_path / "slow.py"
    script.write_text(
        "import os, subprocess, time\n"
        "child = subprocess.Popen(['sleep', '600'])\n"
        f"open({str(mark)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        "time.sleep(600)"
    )
    monkeypatch.setattr(pickles, "__file__", str(script))
    start = time.monotonic()
    with pytest.raises(PickleError, match="took more than 2 s"):
        open_apart(tmp_path / "a.pth", folder, time_limit_s=2)
    assert time.monotonic() - start < 300
    pids = [int(pid) for pid in mark.read_text().split()]
    while any(map(is_running, pids)) and time.monotonic() - start < 300:
        time.sleep(0.01)  # a process ends some time after its signal
    assert not any(map(is_running, pids))


def is_running(pid: int) -> bool:
    """Tell whether a process lives; one that waits for its parent's notice does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit memory so")
@pytest.mark.parametrize("code", ["x = bytes(2 << 30)", "open('big', 'wb').truncate(2 << 30)"])
def test_memory_and_disk_are_limited(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    script = tmp_path / "small.py"
    text = Path(pickles.__file__).read_text()
    script.write_text(text.replace("MEMORY_BYTES = 4 << 30", "MEMORY_BYTES = 1 << 30"))
    assert script.read_text() != text
    monkeypatch.setattr(pickles, "__file__", str(script))
    with pytest.raises(PickleError, match="cannot be opened"):
        open_apart(checkpoint(tmp_path / "a.pth", code), folder)


def test_keys_that_no_mapping_has_are_refused() -> None:
    with pytest.raises(PickleError, match="both a tensor and a mapping"):
        nested({"a": torch.ones(1), "a/b": torch.ones(1)})
