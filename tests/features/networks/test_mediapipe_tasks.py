import os

import pytest
import torch

from features.networks.mediapipe_tasks import base_options, quiet

NOISE = (
    b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n"
    b"WARNING: Logging before InitGoogle() is written to STDERR\n"
    b"W0000 00:00:1795221491.292327    8715 inference_feedback_manager.cc:121] Disabling\n"
    b"I0000 00:00:1795221491.292327    8715 task_runner.cc:85] GPU support is not available\n"
)


def test_noise_is_held_back_and_the_rest_comes_through(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet():
        os.write(2, b"E0000 00:00:1795221491.3 8715 graph.cc:1] it failed\n" + NOISE)
        os.write(2, b"somebody else's line\n")
    os.write(2, b"INFO: after\n")
    assert capfd.readouterr().err.splitlines() == [
        "E0000 00:00:1795221491.3 8715 graph.cc:1] it failed",
        "somebody else's line",
        "INFO: after",
    ]


def test_an_error_inside_is_raised_and_standard_error_restored(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(RuntimeError, match="broken"), quiet(), quiet():
        os.write(2, NOISE + b"the reason\n")
        raise RuntimeError("broken")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "the reason\nafter\n"


def test_no_certificate_authority_is_trusted_so_that_nothing_is_sent() -> None:
    options = base_options(torch.ones(4, dtype=torch.uint8)).to_ctypes()
    assert options.ca_bundle_path == os.devnull.encode()
    assert options.model_asset_buffer_count == 4


def test_a_module_without_weights_is_told_so() -> None:
    with pytest.raises(ValueError, match="no weights before"):
        base_options(torch.empty(0, dtype=torch.uint8))
