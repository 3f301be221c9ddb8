import dataclasses
from collections.abc import Iterator, Mapping
from itertools import count
from threading import Barrier, Semaphore
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from features.networks.extraction import (
    BATCH,
    ExtractionError,
    Passage,
    Piece,
    extract,
    forward_of,
    through,
)
from features.waveform import Waveform
from tests.conftest import waveform


class Brightness(nn.Module):
    """Gives each frame's mean, times ``gain``, and its mean colour."""

    gain = 1.0

    def forward(self, frames: Tensor) -> dict[str, Tensor]:
        mean = frames.float().mean(dim=(1, 2, 3))
        return {"level": mean[:, None] * self.gain, "colour": frames.float().mean(dim=(2, 3))}


@dataclasses.dataclass(frozen=True)
class Options:
    gain: float = 1.0


def toy(**more: object) -> ModuleType:
    return SimpleNamespace(  # type: ignore[return-value]
        __name__="features.backbones.toy",
        FEATURES={"level": (1,), "colour": (3,)},
        Options=Options,
        preprocess=lambda frames, options: torch.from_numpy(frames).permute(0, 3, 1, 2),
        **more,
    )


def frames_view(rows: int, valid: int) -> dict[str, np.ndarray]:
    frames = np.random.default_rng(0).integers(0, 256, (rows, 4, 6, 3), np.uint8)
    shown = np.arange(rows) < valid
    return {
        "frames": frames * shown[:, None, None, None],
        "index": np.where(shown, np.arange(rows), -1),
        "pts_s": np.where(shown, np.arange(rows) / 10, np.nan),
        "valid": shown,
    }


def test_each_row_gets_its_own_frames_feature_also_past_a_batch() -> None:
    view = frames_view(BATCH * 2 + 3, BATCH * 2 + 1)
    found = extract(toy(DTYPES={"level": "float32"}), Brightness(), view, Options())
    shown = view["valid"]
    np.testing.assert_allclose(
        found["level"][shown, 0], view["frames"][shown].mean(axis=(1, 2, 3)), rtol=1e-5
    )
    assert (found["level"].dtype, found["colour"].dtype) == (np.float32, np.float16)
    np.testing.assert_array_equal(found["valid"], shown)
    assert not found["colour"][~shown].any()


def test_a_network_may_say_that_a_row_failed() -> None:
    class Picky(Brightness):
        def forward(self, frames: Tensor) -> dict[str, Tensor]:
            return {**super().forward(frames), "valid": torch.arange(len(frames)) % 2 == 0}

    found = extract(toy(), Picky(), frames_view(6, 5), Options())
    assert list(found["valid"]) == [True, False, True, False, True, False]


def test_a_snippet_has_the_number_and_the_time_of_its_first_frame() -> None:
    single = frames_view(6, 4)
    view = {"valid": single["valid"]}
    view |= {name: np.stack([single[name], single[name] + 5], 1) for name in ("index", "pts_s")}
    view["frames"] = single["frames"][:, None].repeat(2, axis=1)  # T L H W C
    module = toy()
    module.preprocess = lambda frames, options: torch.from_numpy(frames[:, 1]).permute(0, 3, 1, 2)
    found = extract(module, Brightness(), view, Options())
    np.testing.assert_array_equal(found["index"], single["index"])
    np.testing.assert_array_equal(found["pts_s"], single["pts_s"])


def test_a_clip_without_a_valid_row_gives_zeros_and_no_valid_row() -> None:
    found = extract(toy(), Brightness(), frames_view(4, 0), Options())
    assert found["level"].shape == (4, 1)
    assert not found["valid"].any()


def test_sound_brings_its_own_rows() -> None:
    module = toy()
    module.FEATURES = {"level": (1,)}
    seen: list[int] = []

    def seconds(sound: Waveform, options: Options) -> Iterator[tuple[Tensor, np.ndarray]]:
        for number, block in enumerate(sound.blocks):
            yield torch.from_numpy(block).reshape(1, 1, 1, -1), np.array([float(number)])

    class Counting(Brightness):
        def forward(self, rows: Tensor) -> dict[str, Tensor]:
            seen.append(len(rows))
            return super().forward(rows)

    module.preprocess = seconds
    wave = np.repeat(np.arange(2 * BATCH + 1, dtype=np.float32), 8)
    sound = dataclasses.replace(waveform(wave, 8, block=8), start_s=1.4)
    found = extract(module, Counting(), sound, Options())
    np.testing.assert_array_equal(found["level"][:, 0], np.arange(2 * BATCH + 1))
    np.testing.assert_allclose(found["pts_s"], np.arange(2 * BATCH + 1) + 1.4)
    assert seen == [BATCH, BATCH, BATCH]  # the last is filled up

    def never(*_: object) -> None:
        raise AssertionError("a video without sound has nothing to preprocess")

    module.preprocess = never
    silent = extract(module, Brightness(), waveform(wave[:0], 8), Options())
    assert silent["level"].shape == (0, 1)


@pytest.mark.parametrize(
    ("gain", "words"), [(float("nan"), "not finite"), (1e4, "too large for float16")]
)
def test_numbers_that_cannot_be_kept_are_refused(gain: float, words: str) -> None:
    network = Brightness()
    network.gain = gain
    with pytest.raises(ExtractionError, match=words):
        extract(toy(), network, frames_view(4, 4), Options())


def test_what_is_too_large_is_kept_as_the_reason_says() -> None:
    network, view = Brightness(), frames_view(4, 3)
    network.gain = 1e4
    with pytest.raises(ExtractionError, match=r"`dtypes: {level: float32}`"):
        extract(toy(), network, view, Options())
    found = extract(toy(), network, view, Options(), dtypes={"level": "float32"})
    assert (found["level"].dtype, found["colour"].dtype) == (np.float32, np.float16)
    expected = view["frames"][:3].mean(axis=(1, 2, 3)) * 1e4
    np.testing.assert_allclose(found["level"][:3, 0], expected, rtol=1e-6)


def test_what_a_module_keeps_in_float32_may_be_halved() -> None:
    module = toy(DTYPES={"level": "float32"})
    found = extract(module, Brightness(), frames_view(2, 2), Options(), dtypes={"level": "float16"})
    assert found["level"].dtype == np.float16


def test_a_dtype_of_what_is_no_feature_is_refused() -> None:
    with pytest.raises(ValueError, match=r"dtypes of toy: unknown fc9 \(features are colour, lev"):
        extract(toy(), Brightness(), frames_view(2, 2), Options(), dtypes={"fc9": "float32"})


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_network_runs_in_the_precision_that_was_asked_for(precision: str) -> None:
    seen: list[tuple[bool, torch.dtype]] = []

    class Watching(Brightness):
        def forward(self, frames: Tensor) -> dict[str, Tensor]:
            on = torch.is_autocast_enabled("cpu")
            seen.append((on, torch.get_autocast_dtype("cpu") if on else torch.float32))
            return super().forward(frames)

    extract(toy(), Watching(), frames_view(BATCH + 1, BATCH + 1), Options(), precision=precision)
    assert seen == [(precision == "bfloat16", getattr(torch, precision))] * 2


def test_products_in_bfloat16_are_rounded_as_bfloat16_is() -> None:
    class Product(nn.Module):
        def forward(self, frames: Tensor) -> dict[str, Tensor]:
            mean = frames.float().mean(dim=(2, 3))
            return {"level": mean @ torch.full((3, 1), 0.3), "colour": mean}

    view = frames_view(2, 2)
    whole = extract(toy(), Product(), view, Options(), dtypes={"level": "float32"})["level"]
    half = extract(
        toy(), Product(), view, Options(), dtypes={"level": "float32"}, precision="bfloat16"
    )["level"]
    assert half.dtype == np.float32
    np.testing.assert_allclose(half, whole, rtol=2**-6)
    assert (half != whole).all()
    np.testing.assert_array_equal(half, torch.from_numpy(half).bfloat16().float().numpy())


def test_a_network_that_breaks_its_promise_is_named() -> None:
    module = toy()
    module.FEATURES = {"level": (2,)}
    with pytest.raises(ExtractionError, match=r"level: the network gave \(4, 1\)"):
        extract(module, Brightness(), frames_view(4, 4), Options())


# ------------------------------------------------------------------------- shared batches

Views = list[dict[str, np.ndarray]]


def pieces(views: Views, module: ModuleType) -> Iterator[Piece]:
    for view in views:
        passage = Passage(module, Options())
        for part in passage.inputs(view):
            yield passage, part
        yield passage, None


def views_of(*counts: int) -> Views:
    """Return videos of 24 rows, of which so many are valid, each with frames of its own."""
    views = [frames_view(24, count) for count in counts]
    for number, view in enumerate(views):
        view["frames"] = np.roll(view["frames"], number, axis=2)
    return views


class Counting(Brightness):
    """Notes the rows of each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def forward(self, frames: Tensor) -> dict[str, Tensor]:
        self.seen.append(len(frames))
        return super().forward(frames)


def test_videos_with_few_rows_share_batches_of_one_size() -> None:
    """A row of 24 videos with 1 to 24 valid rows costs what one of 24 full ones costs."""
    few, full = Counting(), Counting()
    views = views_of(*range(1, 25))
    passages = list(through(pieces(views, toy()), forward_of(few), BATCH))
    list(through(pieces(views_of(*[24] * 24), toy()), forward_of(full), BATCH))
    assert few.seen == [BATCH] * (300 // BATCH) and full.seen == [BATCH] * (576 // BATCH)
    for passage, view in zip(passages, views, strict=True):
        together, alone = passage.arrays(), extract(toy(), Brightness(), view, Options())
        for name, array in alone.items():
            np.testing.assert_array_equal(together[name], array)


def test_a_video_without_rows_comes_in_its_turn() -> None:
    views = views_of(2, 0, BATCH - 2, 0, 1)
    done = [
        p.arrays()["valid"].sum()
        for p in through(pieces(views, toy()), forward_of(Brightness()), BATCH)
    ]
    assert done == [2, 0, BATCH - 2, 0, 1]


def test_what_is_held_is_computed_where_nothing_follows_for_a_while() -> None:
    first, second = pieces(views_of(2), toy()), pieces(views_of(3), toy())
    network = Counting()
    passages = through([*first, None, None, *second], forward_of(network), BATCH)
    one = next(passages)
    assert one is not None and one.arrays()["valid"].sum() == 2
    assert network.seen == [BATCH]
    assert [next(passages), next(passages)] == [None, None]
    other = next(passages)
    assert other is not None and other.arrays()["valid"].sum() == 3


def test_rows_of_another_size_are_no_part_of_the_batch() -> None:
    views = views_of(2, 3)
    views[1]["frames"] = views[1]["frames"].repeat(2, axis=1)
    whole = list(through(pieces(views, toy()), forward_of(Brightness()), BATCH))
    for passage, view in zip(whole, views, strict=True):
        expected = view["frames"][view["valid"]].mean(axis=(1, 2, 3))
        found = passage.arrays({"level": "float32"})["level"][view["valid"], 0]
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_video_that_the_network_fails_on_costs_itself_alone() -> None:
    class Picky(Brightness):
        def forward(self, frames: Tensor) -> dict[str, Tensor]:
            if (frames == 255).all(dim=(1, 2, 3)).any():
                raise ValueError("too bright")
            return super().forward(frames)

    views = views_of(5, 4, 8)
    views[1]["frames"][1] = 255
    one, bright, other = through(pieces(views, toy()), forward_of(Picky()), BATCH)
    with pytest.raises(ValueError, match="too bright"):
        bright.arrays()
    for passage, view in ((one, views[0]), (other, views[2])):
        expected = extract(toy(), Brightness(), view, Options())["colour"]
        np.testing.assert_array_equal(passage.arrays()["colour"], expected)


def test_a_backbone_that_uses_one_core_computes_no_filling() -> None:
    network = Counting()
    extract(toy(ONE_CORE=True), network, frames_view(4, 3), Options())
    assert network.seen == [1, 1, 1]


def test_batches_side_by_side_give_each_video_its_own_rows_in_their_order() -> None:
    """Two batches wait for each other in the network, the second of two is always done first."""
    views = views_of(BATCH, 5, 24, 0, BATCH - 5, 24, 24)  # 96 rows: eight batches
    both, done = Barrier(2), Semaphore(0)
    alone = forward_of(Brightness())
    begun = count()

    def forward(rows: Tensor) -> Mapping[str, Tensor]:
        number = next(begun)
        both.wait(timeout=9)
        if number % 2 == 0:
            assert done.acquire(timeout=9)
        outputs = alone(rows)
        if number % 2:
            done.release()
        return outputs

    passages = list(through(pieces(views, toy()), forward, BATCH, lambda: 2))
    assert next(begun) == 8
    for passage, view in zip(passages, views, strict=True):
        expected = extract(toy(), Brightness(), view, Options())
        for name, array in expected.items():
            np.testing.assert_array_equal(passage.arrays()[name], array)


def test_what_fails_beside_another_batch_costs_its_video_alone() -> None:
    views = views_of(BATCH, BATCH, BATCH)
    views[1]["frames"][:] = 255
    alone = forward_of(Brightness())

    def forward(rows: Tensor) -> Mapping[str, Tensor]:
        if (rows == 255).all():
            raise ValueError("too bright")
        return alone(rows)

    one, bright, other = through(pieces(views, toy()), forward, BATCH, lambda: 2)
    with pytest.raises(ValueError, match="too bright"):
        bright.arrays()
    assert one.arrays()["valid"].sum() == other.arrays()["valid"].sum() == BATCH
