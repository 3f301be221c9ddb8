from collections.abc import Callable
from pathlib import Path

import librosa
import numpy as np
import pytest
import torch
import torchvision
from numpy.typing import NDArray
from torch import nn

from features.backbones import resnet18_mfcc
from features.backbones.resnet18_mfcc import Options, taken
from features.networks.extraction import extract
from features.options import features_of
from features.weights.file import check_keys, fresh_tensors, load, metadata, write_pretrained
from features.weights.record import WeightsError
from tests.conftest import waveform
from tests.features.sources.made_files import canonical

Network = Callable[[str], nn.Module]

HOP_S = 512 / 44_100

DEFAULTS = Options()


def noise(seconds: float, rate_hz: int = 44_100) -> NDArray[np.float32]:
    return np.random.default_rng(0).uniform(-0.5, 0.5, round(seconds * rate_hz)).astype(np.float32)


def mfcc(samples: NDArray[np.float32], rate_hz: int) -> NDArray[np.float32]:
    """Return the MFCC of all frames of a sound."""
    return resnet18_mfcc.mfcc(waveform(samples, rate_hz), 0, 1 << 40)


def preprocess(
    samples: NDArray[np.float32], rate_hz: int, options: Options = DEFAULTS
) -> tuple[torch.Tensor, NDArray[np.float64]]:
    ((rows, start_s),) = resnet18_mfcc.preprocess(waveform(samples, rate_hz), options)
    return rows, start_s


@pytest.mark.parametrize("rate_hz", [44_100, 48_000, 16_000])
def test_mfcc_are_librosas_of_the_whole_sound(
    rate_hz: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resnet18_mfcc, "CHUNK", 100)  # several parts, the last one small
    sound = noise(3.5, rate_hz) * np.linspace(0, 1, round(3.5 * rate_hz), dtype=np.float32)
    resampled = librosa.resample(sound, orig_sr=rate_hz, target_sr=44_100, res_type="soxr_hq")
    expected = librosa.feature.mfcc(y=resampled, sr=44_100, n_mfcc=32).T
    found = mfcc(sound, rate_hz)
    assert found.shape == expected.shape == (1 + len(resampled) // 512, 32)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)


@pytest.mark.filterwarnings("ignore:n_fft=2048 is too large")
@pytest.mark.parametrize("samples", [1, 511, 512, 2047])
def test_a_sound_shorter_than_a_window_is_librosas_too(samples: int) -> None:
    sound = noise(1)[:samples]
    expected = librosa.feature.mfcc(y=sound, sr=44_100, n_mfcc=32).T
    np.testing.assert_allclose(mfcc(sound, 44_100), expected, rtol=0, atol=1e-3)


def test_a_short_sound_starts_again_and_again_in_both_readings() -> None:
    for pad in ("paper", "code"):
        found = taken(1500, Options(pad=pad))
        np.testing.assert_array_equal(found, np.tile(np.arange(1500), 3)[:4096])


def test_of_a_long_sound_the_paper_takes_the_middle_and_the_code_the_start() -> None:
    np.testing.assert_array_equal(taken(5001, Options(pad="paper")), np.arange(452, 4548))
    np.testing.assert_array_equal(taken(5001, Options(pad="code")), np.arange(4096))
    for pad in ("paper", "code"):
        np.testing.assert_array_equal(taken(4096, Options(pad=pad)), np.arange(4096))


def test_rows_are_segments_and_say_where_they_start_in_the_sound() -> None:
    rows, start_s = preprocess(noise(5), 44_100)
    whole = mfcc(noise(5), 44_100)
    assert rows.shape == (16, 1, 256, 32)
    for row in range(16):
        places = (256 * row + np.arange(256)) % len(whole)
        np.testing.assert_array_equal(rows[row, 0].numpy(), whole[places])
        assert start_s[row] == pytest.approx(places[0] * HOP_S)
    assert start_s.max() < 5


def test_a_long_sound_is_read_from_its_middle() -> None:
    rows, start_s = preprocess(noise(6), 44_100, Options(segments=2, frames=256))
    assert rows.shape == (2, 1, 128, 32)
    count = 1 + 6 * 44_100 // 512
    assert start_s.tolist() == pytest.approx([(count - 256) // 2 * HOP_S, (count // 2) * HOP_S])


def test_the_loudest_of_a_sound_counts_where_it_is_not_among_the_frames_taken() -> None:
    sound = noise(8) * np.float32(1e-5)
    sound[:20_000] = noise(8)[:20_000]
    rows, _ = preprocess(sound, 44_100, Options(segments=2, frames=256))
    whole = librosa.feature.mfcc(y=sound, sr=44_100, n_mfcc=32).T
    first = (len(whole) - 256) // 2
    expected = whole[first : first + 256].reshape(2, 1, 128, 32)
    np.testing.assert_allclose(rows.numpy(), expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("samples", [3343, 5014, 48_000])
def test_a_resampled_sound_is_as_long_as_librosas(samples: int) -> None:
    """Librosa rounds a length up and soxr to the nearest: of 3,343 samples 3,072, a frame more."""
    sound = noise(1, 48_000)[:samples]
    resampled = librosa.resample(sound, orig_sr=48_000, target_sr=44_100, res_type="soxr_hq")
    expected = librosa.feature.mfcc(y=resampled, sr=44_100, n_mfcc=32).T
    assert mfcc(sound, 48_000).shape == expected.shape
    np.testing.assert_allclose(mfcc(sound, 48_000), expected, rtol=0, atol=1e-3)


def test_options_say_how_many_rows_and_how_long() -> None:
    options = Options(segments=10, frames=2560, pad="code")
    assert features_of(resnet18_mfcc, options) == {"mfcc": (256, 32), "pooled": (512,)}
    assert resnet18_mfcc.features(Options(segments=8))["mfcc"] == (512, 32)
    assert preprocess(noise(0.2), 44_100, options)[0].shape == (10, 1, 256, 32)


@pytest.mark.parametrize("values", [{"segments": 10}, {"segments": 0}, {"frames": 0}])
def test_frames_that_cannot_be_shared_out_are_refused(values: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected frames to be a multiple of segments, found"):
        Options(**values)  # type: ignore[arg-type]


def test_an_unknown_way_of_padding_is_refused() -> None:
    with pytest.raises(ValueError, match="pad: expected one of paper, code, found 'zeros'"):
        Options(pad="zeros")  # type: ignore[arg-type]


@pytest.mark.parametrize("sound", [np.zeros((2, 9)), np.full(9, np.nan), np.full(9, np.inf)])
def test_what_is_no_sound_is_refused(sound: NDArray[np.float64]) -> None:
    with pytest.raises(ValueError, match="expected a mono waveform"):
        preprocess(sound.astype(np.float32), 44_100)


@pytest.mark.parametrize("samples", [0, 1])
def test_a_missing_sound_has_no_rows_and_the_shortest_has_all(
    samples: int, network: Network
) -> None:
    sound = waveform(np.full(samples, 0.1, np.float32), 8000)
    found = extract(resnet18_mfcc, network("resnet18_mfcc"), sound, Options())
    rows = 16 * samples
    assert found["mfcc"].shape == (rows, 256, 32)
    assert found["pooled"].shape == (rows, 512)
    assert found["valid"].all() and np.isfinite(found["pts_s"]).all()


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_silence_and_a_constant_have_finite_features(level: float, network: Network) -> None:
    sound = waveform(np.full(30_000, level, np.float32), 44_100)
    found = extract(resnet18_mfcc, network("resnet18_mfcc"), sound, Options())
    assert np.isfinite(found["mfcc"].astype(np.float32)).all()
    assert np.isfinite(found["pooled"].astype(np.float32)).all()
    if level == 0:
        assert found["mfcc"][0, 0, 0] == pytest.approx(-100 * 128**0.5, rel=1e-3)  # -100 dB, bands
        assert np.abs(found["mfcc"][..., 1:]).max() < 0.01


def test_keys_are_torchvisions_and_the_first_convolution_is_vaanets() -> None:
    with torch.device("meta"):
        ours = resnet18_mfcc.build().state_dict()
        theirs = torchvision.models.resnet18(weights=None).state_dict()
    shapes = {key: value.shape for key, value in theirs.items() if not key.startswith("fc.")}
    shapes["conv1.weight"] = torch.Size([64, 1, 7, 1])
    assert {key: value.shape for key, value in ours.items()} == shapes


def imagenet(folder: Path) -> dict[str, torch.Tensor]:
    """Return what the layout takes from a file like torchvision's."""
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), folder / "a.pth")
    return canonical(resnet18_mfcc.WEIGHTS.sources[0], folder / "a.pth")


def test_imagenets_weights_fill_all_but_the_first_convolution(tmp_path: Path) -> None:
    weights, found = resnet18_mfcc.WEIGHTS, imagenet(tmp_path)
    expected = resnet18_mfcc.build().state_dict()
    with pytest.raises(WeightsError, match="conv1.weight: expected shape"):
        check_keys(found, expected, "a.pth")
    fresh = fresh_tensors(weights, found, expected, 7)
    assert set(fresh) == {"conv1.weight"}
    path = tmp_path / "w.safetensors"
    write_pretrained(path, "b", weights, found | fresh, "a.pth", "0", fresh=fresh, seed=7)
    facts = metadata(path)
    assert (facts["pretrained"], facts["fresh"], facts["seed"]) == ("true", "conv1.weight", "7")
    assert "random" in facts["notice"]
    filled = load(path, resnet18_mfcc.build()).state_dict()
    torch.testing.assert_close(filled, found | fresh, rtol=0, atol=0)


def test_the_first_convolution_is_drawn_from_the_seed() -> None:
    expected = resnet18_mfcc.build().state_dict()
    draw = [
        fresh_tensors(resnet18_mfcc.WEIGHTS, {}, expected, seed)["conv1.weight"]
        for seed in (1, 1, 2)
    ]
    assert torch.equal(draw[0], draw[1])
    assert not torch.equal(draw[0], draw[2])
    assert draw[0].std().item() == pytest.approx((2 / 7) ** 0.5, rel=0.1)


def test_a_first_convolution_that_somebody_trained_is_kept() -> None:
    weights, expected = resnet18_mfcc.WEIGHTS, resnet18_mfcc.build().state_dict()
    assert fresh_tensors(weights, expected, expected, 1) == {}


@pytest.mark.weights
def test_torchvisions_file_fits(real_file: Callable[[str], Path]) -> None:
    path = real_file("resnet18-f37072fd.pth")
    expected = resnet18_mfcc.build().state_dict()
    found = canonical(resnet18_mfcc.WEIGHTS.sources[0], path)
    check_keys(
        found | fresh_tensors(resnet18_mfcc.WEIGHTS, found, expected, 0), expected, str(path)
    )
