import json

import extract_loop
import pytest
from extract_loop import app
from typer.testing import CliRunner

pytestmark = pytest.mark.slow  # a network over a few seconds of sound


def test_the_loop_is_measured_beside_the_bare_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extract_loop, "SOUND_S", 4)
    monkeypatch.setenv("AFFECTLINE_STORE", "")  # the benchmark sets its own, undone after
    arguments = ["--only=vggish", "--videos=2", "--repeat=1", "--runtime=torch", "--json"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    (found,) = json.loads(done.stdout)["loops"]
    assert (found["runtime"], found["batches"]) == ("torch", 1)  # twice four rows, in one batch
    assert found["loop"] > 0 and found["few"] > 0 and 0 <= found["waits"] < 1
