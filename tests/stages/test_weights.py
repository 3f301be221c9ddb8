import hashlib
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from features.backbones import blazepose, vggish
from features.weights import Companion, Source, Weights, Wheel, load, metadata
from stages.weights import main
from tests.features.conftest import Site, content, site  # noqa: F401

ROOT = Path(__file__).parents[2]
OUT = Path("data/weights/a.safetensors")


class Small(nn.Module):
    """Stands for VGGish: the same kinds of keys, a few bytes."""

    def __init__(self, options: vggish.Options) -> None:
        super().__init__()
        self.features = nn.Linear(2, 3)
        if options.pca:
            self.pca = vggish.Pca()


def small_tensors() -> dict[str, torch.Tensor]:
    return {"features.weight": torch.ones(3, 2), "features.bias": torch.zeros(3)}


@pytest.fixture(autouse=True)
def project(in_folder: Path) -> Iterator[Path]:
    """Work in a folder that has the project's params.yaml."""
    shutil.copy(ROOT / "params.yaml", in_folder)
    yield in_folder


def change(name: str, **values: object) -> None:
    """Change the block of a backbone in params.yaml."""
    path = Path("params.yaml")
    params = yaml.safe_load(path.read_text())
    params["backbones"][name].update(values)
    path.write_text(yaml.safe_dump(params))


@pytest.fixture
def published(site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Site:  # noqa: F811
    """Publish the weights of a small VGGish, of whose checksum the first digits are known."""
    torch.save(small_tensors(), tmp_path / "made.pth")
    np.savez(tmp_path / "made.npz", pca_eigen_vectors=2 * np.eye(128), pca_means=np.ones((128, 1)))
    body, pca = (tmp_path / "made.pth").read_bytes(), (tmp_path / "made.npz").read_bytes()
    url, pca_url = site.serve("/v.pth", content(body)), site.serve("/pca.npz", content(pca))
    digits = hashlib.sha256(body).hexdigest()[:8]
    weights = Weights(
        licence="MIT",
        notice="tell everybody",
        sources=(Source(url, digits, None, "torchvggish"),),
        companions=(Companion("pca.", (Source(pca_url, None, None, "vggish_pca"),)),),
    )
    monkeypatch.setattr(vggish, "WEIGHTS", weights)
    monkeypatch.setattr(vggish, "build", lambda options: Small(options).eval())
    return site


def told(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


def failure(where: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Run the stage, which has to fail without a file, and return what it tells."""
    with pytest.raises(SystemExit) as caught:
        main(where, OUT)
    assert caught.value.code == 1
    assert not OUT.exists()
    return told(capsys)


def test_a_seeded_network_needs_no_download() -> None:
    change("vgg16", seed=5)
    main("backbones.vgg16", OUT)
    facts = metadata(OUT)
    assert (facts["name"], facts["seed"], facts["pretrained"]) == ("vgg16", "5", "false")


def test_pretrained_weights_are_downloaded_once_converted_and_pinned(
    published: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    change("vggish", source="pretrained")
    main("backbones.vggish", OUT)
    first = OUT.read_bytes()
    facts = metadata(OUT)
    assert facts["pretrained"] == "true"
    assert facts["source"] == published.address + "/v.pth"
    assert "tell everybody" in told(capsys)
    assert facts["sha256"] in Path("weights.lock.json").read_text()
    main("backbones.vggish", OUT)
    assert OUT.read_bytes() == first
    assert len(published.requests) == 1
    loaded = load(OUT, Small(vggish.Options()))
    torch.testing.assert_close(loaded.state_dict(), small_tensors())


def test_a_companion_is_downloaded_where_the_options_ask_for_it(published: Site) -> None:
    change("vggish", source="pretrained", options={"pca": True})
    main("backbones.vggish", OUT)
    found = load(OUT, Small(vggish.Options(pca=True))).state_dict()
    torch.testing.assert_close(found["pca.eigen_vectors"], 2 * torch.eye(128))
    assert metadata(OUT)["source"].split() == [
        published.address + "/v.pth",
        published.address + "/pca.npz",
    ]


def test_a_file_of_ones_own_is_read_instead_and_its_folder_not_told(
    published: Site, tmp_path: Path
) -> None:
    change("vggish", source="pretrained", file=str(tmp_path / "made.pth"))
    main("backbones.vggish", OUT)
    assert metadata(OUT)["source"] == "made.pth"
    assert published.requests == []


def test_a_companion_may_lie_beside_ones_own_file(published: Site, tmp_path: Path) -> None:
    shutil.copy(tmp_path / "made.npz", tmp_path / "pca.npz")
    change("vggish", source="pretrained", file=str(tmp_path / "made.pth"), options={"pca": True})
    main("backbones.vggish", OUT)
    assert metadata(OUT)["source"] == "made.pth pca.npz"
    assert published.requests == []


def test_a_file_made_by_this_stage_is_read_too(published: Site, tmp_path: Path) -> None:
    change("vggish", source="pretrained")
    main("backbones.vggish", OUT)
    OUT.rename(tmp_path / "from a colleague.safetensors")
    change("vggish", file=str(tmp_path / "from a colleague.safetensors"))
    main("backbones.vggish", OUT)
    torch.testing.assert_close(load(OUT, Small(vggish.Options())).state_dict(), small_tensors())


def test_a_package_of_ones_own_is_unpacked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = b"\x1c\x00\x00\x00TFL3 and more"
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as archive:
        archive.writestr("in/a.tflite", model)
    wheel = Wheel("a==1", (("in/a.tflite", hashlib.sha256(model).hexdigest()),), "tflite")
    monkeypatch.setattr(blazepose, "WEIGHTS", Weights("MIT", (wheel,), can_seed=False))
    change("blazepose", file=str(tmp_path / "a.whl"))
    main("backbones.blazepose", OUT)
    assert load(OUT, blazepose.build()).get_buffer("model").numpy().tobytes() == model


# --------------------------------------------------------------------------------- refusals


def test_where_nothing_can_be_had_the_way_by_hand_is_told(
    published: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    published.replies.clear()
    change("vggish", source="pretrained")
    text = failure("backbones.vggish", capsys)
    assert f"{published.address}/v.pth: HTTP 404" in text
    assert f"by hand from {published.address}/v.pth" in text
    assert "set `file` of backbones.vggish in params.yaml" in text


def test_weights_of_another_network_are_refused(
    published: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"features.weight": torch.ones(9, 9)}, tmp_path / "other.pth")
    change("vggish", source="pretrained", file=str(tmp_path / "other.pth"))
    text = failure("backbones.vggish", capsys)
    assert "other.pth" in text
    assert "key features.weight: expected shape (3, 2), found (9, 9)" in text


def test_a_missing_file_of_ones_own_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    change("vgg16", source="pretrained", file="no/such.pth")
    assert "no/such.pth: no such file" in failure("backbones.vgg16", capsys)


def test_a_file_of_an_unknown_kind_lists_the_known_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.h5").write_bytes(b"")
    change("vgg16", source="pretrained", file=str(tmp_path / "a.h5"))
    assert ".pth or .safetensors" in failure("backbones.vgg16", capsys)


def test_a_finished_model_cannot_be_seeded(capsys: pytest.CaptureFixture[str]) -> None:
    change("blazepose", source="seeded")
    text = failure("backbones.blazepose", capsys)
    assert "backbones.blazepose.source: found seeded" in text


def test_a_seeded_network_with_a_file_is_a_contradiction(
    capsys: pytest.CaptureFixture[str],
) -> None:
    change("vgg16", file="a.pth")
    assert "source: seeded reads no file" in failure("backbones.vgg16", capsys)


@pytest.mark.parametrize("where", ["backbones.vgg17", "vgg16", "faces"])
def test_an_unknown_block_lists_the_known_ones(
    where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = failure(where, capsys)
    assert f"{where}: expected one of faces.detector, backbones.vggface" in text


def test_an_unknown_module_lists_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    change("vgg16", module="vgg17")
    assert "expected one of blazepose" in failure("backbones.vgg16", capsys)


def test_an_unknown_detector_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    path = Path("params.yaml")
    path.write_text(path.read_text().replace("module: blazeface", "module: blazenose"))
    assert "found 'blazenose'" in failure("faces.detector", capsys)


def test_an_unknown_option_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    change("vggish", options={"pcaa": True})
    assert "unknown options ['pcaa']" in failure("backbones.vggish", capsys)
