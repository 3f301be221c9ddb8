import json
import os
import types
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from features.cache import digests
from features.cache.keys import file_sha256
from features.weights import file as weights_file
from features.weights.file import (
    check_keys,
    load,
    metadata,
    remembered_sha256,
    tensors_sha256,
    write,
    write_pretrained,
    write_seeded,
)
from features.weights.record import Source, Weights, WeightsError, weights_of

FACTS = {"name": "a", "source": "b", "pretrained": "true"}


def small() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4, 5))


def state(module: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in module.state_dict().items()}


def test_the_same_content_is_the_same_bytes(tmp_path: Path) -> None:
    facts = {name: name for name in "name source sha256 licence pretrained seed notice".split()}
    tensors = {"b": torch.ones(3), "a": torch.zeros(2, dtype=torch.uint8)}
    sums = set()
    for number in range(20):  # the order of a hash table differs from one file to the next
        path = tmp_path / f"{number}.safetensors"
        write(path, dict(reversed(tensors.items())) if number % 2 else tensors, facts)
        sums.add(file_sha256(path))
    assert len(sums) == 1
    assert metadata(path) == facts
    torch.testing.assert_close(load_file(path), tensors)


def test_text_of_any_script_survives_in_the_metadata(tmp_path: Path) -> None:
    facts = {**FACTS, "licence": 'öffentlich, "frei" © 日本\n'}
    write(tmp_path / "a.safetensors", {}, facts)
    assert metadata(tmp_path / "a.safetensors") == facts


def test_a_file_of_weights_may_be_read_by_others(tmp_path: Path) -> None:
    write(tmp_path / "a.safetensors", {}, FACTS)
    assert (tmp_path / "a.safetensors").stat().st_mode & 0o444 == 0o444


def test_nothing_partial_remains_when_writing_fails(tmp_path: Path) -> None:
    shared = torch.ones(4)
    with pytest.raises(RuntimeError):
        write(tmp_path / "a.safetensors", {"a": shared, "b": shared}, FACTS)
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------ seeded


def test_a_seeded_file_is_small_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_seeded(path, "vgg16", 7)
    facts = metadata(path)
    assert path.stat().st_size < 1000
    assert (facts["source"], facts["pretrained"], facts["seed"]) == ("seeded", "false", "7")


def test_a_seed_gives_one_network_whatever_was_drawn_before(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_seeded(path, "a", 7)
    torch.manual_seed(1)
    one = state(load(path, small()))
    torch.manual_seed(2)
    torch.rand(5)
    other = state(load(path, small()))
    torch.testing.assert_close(one, other, rtol=0, atol=0)
    write_seeded(path, "a", 8)
    assert not torch.equal(state(load(path, small()))["0.weight"], one["0.weight"])


def test_loading_a_seeded_network_leaves_the_callers_draws_alone(tmp_path: Path) -> None:
    write_seeded(tmp_path / "a.safetensors", "a", 7)
    module = small()
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    load(tmp_path / "a.safetensors", module)
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)


# -------------------------------------------------------------------------------- pretrained


def test_a_network_gets_the_weights_of_its_file(tmp_path: Path) -> None:
    path, module = tmp_path / "a.safetensors", small()
    weights = Weights(licence="MIT", sources=(), notice="for research")
    write_pretrained(path, "a", weights, state(module), "http://x/a.pth", "ab" * 32)
    loaded = load(path, small())
    torch.testing.assert_close(state(loaded), state(module), rtol=0, atol=0)
    assert not loaded.training
    facts = metadata(path)
    assert facts["pretrained"] == "true"
    assert (facts["licence"], facts["notice"]) == ("MIT", "for research")
    assert (facts["source"], facts["sha256"]) == ("http://x/a.pth", "ab" * 32)


def test_a_model_of_bytes_fills_an_empty_buffer(tmp_path: Path) -> None:
    module = nn.Module()
    module.register_buffer("model", torch.empty(0, dtype=torch.uint8))
    content = torch.arange(10, dtype=torch.uint8)
    write(tmp_path / "a.safetensors", {"model": content}, FACTS)
    loaded = load(tmp_path / "a.safetensors", module)
    assert torch.equal(loaded.get_buffer("model"), content)


def test_channels_last_survives_loading(tmp_path: Path) -> None:
    write(tmp_path / "a.safetensors", state(small()), FACTS)
    module = small().to(memory_format=torch.channels_last)
    load(tmp_path / "a.safetensors", module)
    weight = dict(module.named_parameters())["0.weight"]
    assert weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"0.bias": None}, r"key 0.bias: expected shape \(4,\), found none"),
        ({"extra": torch.ones(2)}, r"key extra: expected no such key, found shape \(2,\)"),
        ({"3.bias": torch.ones(6)}, r"key 3.bias: expected shape \(5,\), found \(6,\)"),
    ],
)
def test_weights_of_another_network_are_refused_by_key(
    tmp_path: Path, change: dict[str, torch.Tensor | None], message: str
) -> None:
    tensors = {
        key: value for key, value in {**state(small()), **change}.items() if value is not None
    }
    path = tmp_path / "a.safetensors"
    write(path, tensors, FACTS)
    with pytest.raises(WeightsError, match=message) as caught:
        load(path, small())
    assert str(path) in str(caught.value)


def test_only_the_first_of_many_wrong_keys_are_listed() -> None:
    with pytest.raises(WeightsError, match="and 15 more"):
        check_keys({}, {f"k{n}": torch.ones(1) for n in range(20)}, "a.pth")


def test_bytes_do_not_fit_where_numbers_are_expected() -> None:
    with pytest.raises(WeightsError, match="key model"):
        check_keys({"model": torch.ones(3)}, {"model": torch.empty(0, dtype=torch.uint8)}, "a.pth")


# ------------------------------------------------------------------------------- other files


@pytest.mark.parametrize("content", [None, b"", b"no safetensors", b"\xff" * 16])
def test_what_is_no_weights_file_is_refused_by_name(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "a.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match="a.safetensors: expected a weights file"):
        metadata(path)


def test_a_safetensors_file_of_others_is_not_taken_for_ours(tmp_path: Path) -> None:
    header = json.dumps({"__metadata__": {"format": "pt"}}).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(WeightsError, match="metadata has no name, pretrained, source"):
        load(path, small())


@pytest.mark.parametrize("url", ["file:///etc/a.pth", "ftp://x/a.pth", "a.pth", "https://x/"])
def test_a_source_needs_an_address_of_the_web_with_a_files_name(url: str) -> None:
    with pytest.raises(ValueError, match="expected http"):
        Source(url, None, None)


def test_the_name_of_a_file_does_not_include_what_is_asked_of_the_server() -> None:
    assert Source("https://x/b/a.pth?download=1#top", None, None).filename == "a.pth"


def test_weights_may_depend_on_options() -> None:
    fixed, chosen = Weights("MIT", ()), Weights("BSD", ())
    module = types.ModuleType("one")
    module.WEIGHTS = fixed  # type: ignore[attr-defined]
    assert weights_of(module, "small") is fixed
    module.weights = {"small": chosen}.get  # type: ignore[attr-defined]
    assert weights_of(module, "small") is chosen


@pytest.mark.parametrize("sha256", ["abc", "X" * 64, "a" * 65, ""])
def test_a_source_needs_a_checksum_of_the_right_form(sha256: str) -> None:
    with pytest.raises(ValueError, match="hex digits"):
        Source("http://x/a.pth", sha256, None)


def test_what_a_file_gives_a_network_counts_and_not_where_it_is_from(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    given = {"w": torch.arange(6.0).reshape(2, 3), "b": torch.zeros(2)}

    def pretrained(tensors: dict[str, torch.Tensor], licence: str, source: str) -> str:
        write_pretrained(path, "net", Weights(licence, ()), tensors, source, "0" * 64)
        return tensors_sha256(path)

    def seeded(name: str, seed: int) -> str:
        write_seeded(path, name, seed)
        return tensors_sha256(path)

    before = pretrained(given, "MIT", "https://a.example/net.pth")
    assert pretrained(given, "BSD", "https://mirror.example/net.pth") == before
    others = [{**given, "b": torch.ones(2)}, {"v": given["w"], "b": given["b"]}]
    others.append({**given, "w": given["w"].reshape(3, 2)})
    others.append({**given, "b": torch.zeros(2, dtype=torch.int32)})
    assert len({before, *(pretrained(other, "MIT", "a") for other in others)}) == 5
    assert seeded("one", 1) == seeded("other", 1) != seeded("one", 2)


def test_a_file_is_hashed_once_while_it_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An edited one is hashed again, though it has its old size and date."""
    monkeypatch.setattr(digests, "SETTLED_NS", -(10**18))  # what is new is remembered at once
    path, hashed = tmp_path / "net.safetensors", []
    monkeypatch.setattr(
        weights_file,
        "tensors_sha256",
        lambda file: hashed.append(file) or tensors_sha256(file),  # type: ignore[func-returns-value]
    )
    write(path, {"w": torch.zeros(2)}, FACTS)
    before = [remembered_sha256(path, tmp_path / "store") for _ in range(3)]
    assert before == [tensors_sha256(path)] * 3 and len(hashed) == 1
    date = path.stat().st_mtime_ns
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(date, date))
    assert remembered_sha256(path, tmp_path / "store") == tensors_sha256(path) != before[0]
    with pytest.raises(WeightsError, match="none.safetensors: expected a weights file"):
        remembered_sha256(tmp_path / "none.safetensors", tmp_path / "store")
