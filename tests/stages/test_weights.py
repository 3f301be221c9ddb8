import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import nn

from affectline.weights import Standing, survey
from features import backbones
from features.backbones import blazepose, vggish
from features.cache import keys
from features.cache.store import store_root
from features.sources import readers
from features.sources.obtain import read_pins
from features.weights.file import load, metadata, write_pretrained, write_unused
from features.weights.record import ByHand, Companion, Source, Weights, WeightsError, Wheel
from stages.engine import start
from stages.engine.params import load_params
from stages.engine.paths import weights_file
from stages.weights import main
from tests.features.conftest import Site, content, site  # noqa: F401
from tests.features.sources.made_files import Bomb
from tests.modules import put
from tests.papers import papers_params

ROOT = Path(__file__).parents[2]
OUT = weights_file("vggish")


class Small(nn.Module):
    """Stands for VGGish: the same kinds of keys, a few bytes."""

    def __init__(self, options: vggish.Options) -> None:
        super().__init__()
        self.features = nn.Linear(2, 3)
        if options.pca:
            self.pca = vggish.Pca()
        self.new = nn.Linear(2, 2, bias=False) if options.relu else None


def small_tensors() -> dict[str, torch.Tensor]:
    return {"features.weight": torch.ones(3, 2), "features.bias": torch.zeros(3)}


@pytest.fixture(autouse=True)
def project(in_folder: Path) -> Iterator[Path]:
    """Work in a folder that has the project's params.yaml."""
    Path("params.yaml").write_text(papers_params())
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
        sources=(Source(url, digits, None),),
        companions=(
            Companion("pca.", (Source(pca_url, None, None, vggish.convert_pca, "numpy"),)),
        ),
    )
    monkeypatch.setattr(vggish, "WEIGHTS", weights)
    monkeypatch.delattr(vggish, "weights", raising=False)
    monkeypatch.setattr(vggish, "build", lambda options: Small(options).eval())
    return site


def told(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


def failure(network: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Run the stage, which has to fail without a file, and return what it tells."""
    with pytest.raises(SystemExit) as caught:
        main(network)
    assert caught.value.code == 1
    assert not weights_file(network).exists()
    return told(capsys)


def test_a_seeded_network_needs_no_download() -> None:
    change("vgg16", seed=5)
    main("vgg16")
    facts = metadata(weights_file("vgg16"))
    assert (facts["name"], facts["seed"], facts["pretrained"]) == ("vgg16", "5", "false")


def test_pretrained_weights_are_downloaded_once_converted_and_pinned(
    published: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    change("vggish", source="pretrained")
    main("vggish")
    first = OUT.read_bytes()
    facts = metadata(OUT)
    assert facts["pretrained"] == "true"
    assert facts["source"] == published.address + "/v.pth"
    assert "tell everybody" in told(capsys)
    assert facts["sha256"] in Path("weights.lock.json").read_text()
    main("vggish")
    assert OUT.read_bytes() == first
    assert len(published.requests) == 1
    loaded = load(OUT, Small(vggish.Options()))
    torch.testing.assert_close(loaded.state_dict(), small_tensors())


def test_a_companion_is_downloaded_where_the_options_ask_for_it(published: Site) -> None:
    change("vggish", source="pretrained", options={"pca": True})
    main("vggish")
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
    main("vggish")
    assert metadata(OUT)["source"] == "made.pth"
    assert published.requests == []


def test_of_a_file_of_ones_own_what_was_dropped_is_told(
    published: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = {f"module.{key}": value for key, value in small_tensors().items()}
    classifier = {f"module.fc.{n}.bias": torch.ones(7) for n in range(12)}
    torch.save({"epoch": 3, "state_dict": tensors | classifier}, tmp_path / "mine.pth")
    change("vggish", source="pretrained", file=str(tmp_path / "mine.pth"))
    for _ in range(2):  # also where it was made before
        main("vggish")
        said = told(capsys)
        assert "dropped, as this network has no such layers: module.fc.0.bias, module" in said
        assert "and 4 more" in said
    assert metadata(OUT)["dropped"] == " ".join(sorted(classifier))
    torch.testing.assert_close(load(OUT, Small(vggish.Options())).state_dict(), small_tensors())


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"features.weight": torch.ones(3, 2)}, "key features.bias: expected shape (3,), found n"),
        ({**small_tensors(), "features.bias": torch.ones(4)}, "expected shape (3,), found (4,)"),
        ({**small_tensors(), "layer.bias": torch.ones(4)}, "key layer.bias: expected no such key"),
    ],
)
def test_of_a_file_of_ones_own_what_does_not_fit_is_named(
    published: Site,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    tensors: dict[str, torch.Tensor],
    words: str,
) -> None:
    torch.save(tensors, tmp_path / "mine.pth")
    change("vggish", source="pretrained", file=str(tmp_path / "mine.pth"))
    assert words in failure("vggish", capsys)


def test_a_companion_may_lie_beside_ones_own_file(published: Site, tmp_path: Path) -> None:
    shutil.copy(tmp_path / "made.npz", tmp_path / "pca.npz")
    change("vggish", source="pretrained", file=str(tmp_path / "made.pth"), options={"pca": True})
    main("vggish")
    assert metadata(OUT)["source"] == "made.pth pca.npz"
    assert published.requests == []


def test_a_file_made_by_this_stage_is_read_too(published: Site, tmp_path: Path) -> None:
    change("vggish", source="pretrained")
    main("vggish")
    OUT.rename(tmp_path / "from a colleague.safetensors")
    change("vggish", file=str(tmp_path / "from a colleague.safetensors"))
    main("vggish")
    torch.testing.assert_close(load(OUT, Small(vggish.Options())).state_dict(), small_tensors())


def test_a_package_of_ones_own_is_unpacked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = b"\x1c\x00\x00\x00TFL3 and more"
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as archive:
        archive.writestr("in/a.tflite", model)
    wheel = Wheel("a==1", (("in/a.tflite", hashlib.sha256(model).hexdigest()),), reader="tflite")
    weights = Weights("MIT", (wheel,), can_seed=False)
    monkeypatch.setattr(blazepose, "WEIGHTS", weights)
    monkeypatch.setattr(blazepose, "weights", lambda options: weights, raising=False)
    change("blazepose", file=str(tmp_path / "a.whl"))
    main("blazepose")
    assert (
        load(weights_file("blazepose"), blazepose.build()).get_buffer("model").numpy().tobytes()
        == model
    )


# --------------------------------------------------------------------------------- the store


def counts(kind: str) -> tuple[int, int]:
    """Return how many items the last run computed and reused, as its log says."""
    log = json.loads(Path(f"logs/weights@{kind}.json").read_text())
    return log["computed"], log["reused"]


def test_what_was_converted_once_is_linked_when_its_output_was_removed(
    published: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    change("vggish", source="pretrained")
    main("vggish")
    assert counts("vggish") == (1, 0)
    first = OUT.read_bytes()
    OUT.unlink()
    monkeypatch.setattr(readers, "converted", None)
    for _ in range(2):  # the second time the output is there
        main("vggish")
        assert counts("vggish") == (0, 1)
        assert OUT.read_bytes() == first
    assert [path.name for path in OUT.parent.iterdir()] == [OUT.name]


def test_other_options_or_another_file_are_converted(published: Site, tmp_path: Path) -> None:
    change("vggish", source="pretrained")
    main("vggish")
    change("vggish", options={"pca": True})
    main("vggish")
    assert counts("vggish") == (1, 0)
    torch.save({**small_tensors(), "features.bias": torch.ones(3)}, tmp_path / "mine.pth")
    change("vggish", options={}, file=str(tmp_path / "mine.pth"))
    main("vggish")
    assert counts("vggish") == (1, 0)
    assert load(OUT, Small(vggish.Options())).state_dict()["features.bias"].sum() == 3


def test_a_layer_that_no_file_holds_is_drawn_from_the_seed(
    published: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = dataclasses.replace(vggish.WEIGHTS, fresh=("new.weight",))
    monkeypatch.setattr(vggish, "WEIGHTS", weights)
    drawn = {}
    for seed in (1, 2, 1):
        change("vggish", source="pretrained", seed=seed, options={"relu": True})
        main("vggish")
        new = load(OUT, Small(vggish.Options(relu=True))).state_dict()["new.weight"]
        assert torch.equal(drawn.setdefault(seed, new), new)
    assert not torch.equal(drawn[1], drawn[2])
    assert (metadata(OUT)["fresh"], metadata(OUT)["seed"]) == ("new.weight", "1")


def test_weights_that_depend_on_options_are_those_of_the_block(
    published: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_size = {False: Weights("small's", ()), True: vggish.WEIGHTS}
    monkeypatch.setattr(vggish, "weights", lambda options: by_size[options.pca], raising=False)
    change("vggish", source="pretrained", options={"pca": True})
    main("vggish")
    assert metadata(OUT)["licence"] == "MIT"


# ------------------------------------------------------------------------- what to be wary of


def unknown(site: Site, monkeypatch: pytest.MonkeyPatch) -> Source:  # noqa: F811
    """Publish the same weights without any checksum."""
    source = Source(site.address + "/v.pth", None, None)
    monkeypatch.setattr(vggish, "WEIGHTS", Weights("MIT", (source,)))
    change("vggish", source="pretrained")
    return source


def test_a_file_without_checksum_is_pinned_when_it_has_proved_to_be_weights(
    published: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = unknown(published, monkeypatch)
    main("vggish")
    assert read_pins(Path("weights.lock.json")) == {source.url: metadata(OUT)["sha256"]}
    main("vggish")
    assert counts("vggish") == (0, 1)
    assert len(published.requests) == 1


def test_a_file_without_checksum_that_is_no_weights_is_not_pinned(
    published: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unknown(published, monkeypatch)
    good = published.replies["/v.pth"]
    published.serve("/v.pth", content(b"half of a fi"))
    for _ in range(2):
        text = failure("vggish", capsys)
        assert "v.pth: expected a PyTorch checkpoint" in text
    assert len(published.requests) == 1
    assert not Path("weights.lock.json").exists()
    (waiting,) = store_root().glob("sources/unfinished/*/v.pth")
    assert f"To download it again, remove {waiting}" in text
    waiting.unlink()
    published.replies["/v.pth"] = good
    main("vggish")
    assert Path("weights.lock.json").exists()


def test_a_pickle_of_ones_own_is_opened_only_with_the_word(
    published: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mark, path = tmp_path / "mark", tmp_path / "mine.pth"
    torch.save({**small_tensors(), "bomb": Bomb(mark)}, path)
    change("vggish", source="pretrained", file=str(path))
    assert "trust_pickle: true" in failure("vggish", capsys)
    assert not mark.exists()
    change("vggish", trust_pickle=True)
    main("vggish")
    assert mark.is_dir()
    torch.testing.assert_close(load(OUT, Small(vggish.Options())).state_dict(), small_tensors())


def test_a_damaged_file_that_the_team_has_pinned_is_refused(
    published: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change("vggish", source="pretrained")
    main("vggish")
    OUT.unlink()
    (tmp_path / "v.pth").write_bytes((tmp_path / "made.pth").read_bytes()[:-9])
    change("vggish", file=str(tmp_path / "v.pth"))
    assert "It is damaged or another" in failure("vggish", capsys)


def test_what_is_to_be_said_of_a_file_is_told_and_kept(
    published: Site,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    by_hand = ByHand("https://a.invalid", "hand.pth", notice="not verified")
    weights = dataclasses.replace(vggish.WEIGHTS, sources=(*vggish.WEIGHTS.sources, by_hand))
    monkeypatch.setattr(vggish, "WEIGHTS", weights)
    (tmp_path / "made.pth").rename(tmp_path / "hand.pth")
    change("vggish", source="pretrained", file=str(tmp_path / "hand.pth"))
    main("vggish")
    assert "tell everybody. not verified" in told(capsys)
    assert metadata(OUT)["notice"] == "tell everybody. not verified"


def test_weights_to_be_had_by_hand_only_say_which_file_and_where(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    by_hand = ByHand("https://drive.invalid/folder", "a-kinetics.pth")
    monkeypatch.setattr(vggish, "WEIGHTS", Weights("MIT", (by_hand,)))
    change("vggish", source="pretrained")
    text = failure("vggish", capsys)
    assert "by hand from https://drive.invalid/folder (a-kinetics.pth)" in text
    assert "set `file` of backbones.vggish in params.yaml" in text


# ------------------------------------------------------------------------------ how things are


def standing(network: str) -> Standing:
    return {row.network: row for row in survey(load_params())}[network]


def test_the_survey_follows_a_download_from_nothing_to_weights(published: Site) -> None:
    change("vggish", source="pretrained")
    network = "backbones.vggish"
    before = standing(network)
    assert (before.source, before.file, before.checksum) == ("address", "v.pth", "prefix")
    assert (before.has_source, before.is_made) == (False, False)
    assert before.to_do == f"dvc repro weights@vggish, which downloads {before.origin}"
    assert (before.licence, before.notice) == ("MIT", "tell everybody")
    main("vggish")
    after = standing(network)
    assert (after.checksum, after.has_source, after.is_made, after.to_do) == (
        ("pinned", True, True, "")
    )
    OUT.unlink()
    assert standing(network).to_do == "dvc repro weights@vggish"
    assert len(published.requests) == 1


def test_the_survey_knows_a_seed_from_another(published: Site) -> None:
    change("vgg16", seed=5)
    main("vgg16")
    assert standing("backbones.vgg16").is_made
    change("vgg16", seed=6)
    assert standing("backbones.vgg16").to_do == "dvc repro weights@vgg16"
    assert standing("backbones.vgg16").file == "seed 6"


def test_the_survey_looks_for_ones_own_file(published: Site, tmp_path: Path) -> None:
    change("vggish", source="pretrained", file="mine/v.pth")
    found = standing("backbones.vggish")
    assert (found.source, found.file, found.checksum) == ("file", "v.pth", "prefix")
    assert "no such file: mine/v.pth" in found.to_do
    change("vggish", file=str(tmp_path / "made.pth"))
    found = standing("backbones.vggish")
    assert (found.checksum, found.has_source) == ("none", True)
    assert found.to_do == "dvc repro weights@vggish"


def test_the_survey_says_what_is_to_be_had_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    by_hand = ByHand("https://drive.invalid/folder", "a-kinetics.pth")
    monkeypatch.setattr(vggish, "WEIGHTS", Weights("MIT", (by_hand,)))
    change("vggish", source="pretrained")
    found = standing("backbones.vggish")
    assert (found.source, found.file) == ("by hand", "a-kinetics.pth")
    assert found.to_do.startswith("get https://drive.invalid/folder (a-kinetics.pth)")


def test_the_detectors_weights_stay_where_only_backbones_have_changed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_arguments: object) -> None:
        raise WeightsError("a source was looked for")

    before, changed = tmp_path / "cached", {"backbones"}
    monkeypatch.setattr("stages.weights.gather", refuse)
    monkeypatch.setattr("stages.weights.previous_file", lambda *_: before)
    monkeypatch.setattr("stages.weights.changed_deps", lambda _: changed)
    write_pretrained(before, "detector", Weights("MIT", ()), small_tensors(), "a", "b")
    main("detector")
    assert weights_file("detector").read_bytes() == before.read_bytes()
    weights_file("detector").unlink()
    changed.add("features/sources/readers.py")
    assert "a source was looked for" in failure("detector", capsys)
    changed.remove("features/sources/readers.py")
    write_unused(before, "detector")  # until now nobody has read faces
    assert "a source was looked for" in failure("detector", capsys)


def test_a_detector_whose_faces_nobody_reads_needs_no_weights(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.weights.gather", None)  # it would look for a source
    path = Path("params.yaml")
    params = yaml.safe_load(path.read_text())
    params["backbones"] = {"vggish": params["backbones"]["vggish"]}
    params["experiments"] = {"e": {"head": "pooling", "roles": {"sound": "vggish/embedding"}}}
    path.write_text(yaml.safe_dump(params))
    main("detector")
    facts = metadata(weights_file("detector"))
    assert (facts["source"], facts["pretrained"]) == ("none", "false")
    assert "weights@detector: no backbone of params.yaml reads faces" in told(capsys)
    assert "faces.detector" not in {row.network for row in survey(load_params())}


def test_the_survey_begins_with_the_detector() -> None:
    assert survey(load_params())[0].network == "faces.detector"
    assert "dvc repro detector" in survey(load_params())[0].to_do


# --------------------------------------------------------------------------------- refusals


def test_where_nothing_can_be_had_the_way_by_hand_is_told(
    published: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    published.replies.clear()
    change("vggish", source="pretrained")
    text = failure("vggish", capsys)
    assert f"{published.address}/v.pth: HTTP 404" in text
    assert f"by hand from {published.address}/v.pth" in text
    assert "set `file` of backbones.vggish in params.yaml" in text


def test_weights_of_another_network_are_refused(
    published: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"features.weight": torch.ones(9, 9)}, tmp_path / "other.pth")
    change("vggish", source="pretrained", file=str(tmp_path / "other.pth"))
    text = failure("vggish", capsys)
    assert "other.pth" in text
    assert "key features.weight: expected shape (3, 2), found (9, 9)" in text


def test_a_missing_file_of_ones_own_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    change("vgg16", source="pretrained", file="no/such.pth")
    assert "no/such.pth: no such file" in failure("vgg16", capsys)


def test_a_file_of_an_unknown_kind_lists_the_known_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.h5").write_bytes(b"")
    change("vgg16", source="pretrained", file=str(tmp_path / "a.h5"))
    assert ".pth or .safetensors" in failure("vgg16", capsys)


def test_a_finished_model_cannot_be_seeded(capsys: pytest.CaptureFixture[str]) -> None:
    change("blazepose", source="seeded")
    text = failure("blazepose", capsys)
    assert "backbones.blazepose.source: found seeded" in text


def test_a_seeded_network_with_a_file_is_a_contradiction(
    capsys: pytest.CaptureFixture[str],
) -> None:
    change("vgg16", file="a.pth")
    assert "source: seeded reads no file" in failure("vgg16", capsys)


@pytest.mark.parametrize("name", ["vgg17", "backbones.vgg16", "faces"])
def test_an_unknown_name_lists_the_known_ones(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = failure(name, capsys)
    assert (
        f"{name!r}: expected one of backbones in params.yaml: resnet_faces, resnet_frames" in text
    )


def test_an_unknown_module_lists_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    change("vgg16", module="vgg17")
    assert "expected one of blazepose" in failure("vgg16", capsys)


def test_an_unknown_detector_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    path = Path("params.yaml")
    path.write_text(path.read_text().replace("module: blazeface", "module: blazenose"))
    assert "'blazenose': expected one of blazeface" in failure("detector", capsys)


def test_an_unknown_option_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    change("vggish", options={"pcaa": True})
    assert "options of vggish: unknown pcaa" in failure("vggish", capsys)


# ------------------------------------------------------------------- a network in a file of its own

TOY = '''
from dataclasses import dataclass

import torch
from torch import nn

from features.weights.naming import without
from features.weights.record import Source, Weights

VIEW = "segments"
FEATURES = {"mean": (3,)}


def convert(tensors):
    """Give the published tensors our keys; kernels lie there (in, out)."""
    kernels = without(tensors, "head")
    return {"layer.weight": kernels["dense.kernel"].T.contiguous(), "layer.bias": kernels["b"]}


WEIGHTS = Weights("MIT", (Source("ADDRESS", None, None, convert),))


@dataclass(frozen=True)
class Options:
    pass


def preprocess(frames, options):
    return torch.from_numpy(frames).float().mean((1, 2))


class Toy(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 3)


def build(options=Options()):
    return Toy().eval()
'''


@pytest.fixture
def toy(
    site: Site,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """Put the one file of a backbone into a copy of the project, and its block in params.yaml."""
    for package in ("features", "stages"):
        shutil.copytree(ROOT / package, tmp_path / "project" / package, ignore=NO_CACHES)
    shutil.copy(ROOT / "dvc.yaml", Path.cwd())
    monkeypatch.setattr(keys, "PROJECT", tmp_path / "project")
    monkeypatch.setattr(start, "PROJECT", tmp_path / "project")
    for remembered in (keys._source, keys._definition, keys._fingerprint):
        remembered.cache_clear()
    tensors = {"dense.kernel": torch.arange(6.0).view(2, 3), "b": torch.ones(3)}
    torch.save({**tensors, "head.bias": torch.ones(9)}, tmp_path / "toy.pth")
    address = site.serve("/toy.pth", content((tmp_path / "toy.pth").read_bytes()))
    room = tmp_path / "project" / "features" / "backbones"
    put(monkeypatch, room, backbones, "toy", TOY.replace("ADDRESS", address))
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["backbones"]["toy"] = {"module": "toy", "view": "segments", "source": "pretrained"}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    return room / "toy.py"


NO_CACHES = shutil.ignore_patterns("__pycache__")


def test_a_new_backbone_is_one_file_with_its_own_conversion_and_one_block(
    toy: Path,
    site: Site,  # noqa: F811
) -> None:
    main("toy")
    expected = {
        "layer.weight": torch.tensor([[0.0, 3], [1, 4], [2, 5]]),
        "layer.bias": torch.ones(3),
    }
    network = backbones.load("toy").build()
    torch.testing.assert_close(load(weights_file("toy"), network).state_dict(), expected)
    facts = metadata(weights_file("toy"))
    assert (facts["source"], facts["licence"]) == (f"{site.address}/toy.pth", "MIT")
    assert counts("toy") == (1, 0)
    weights_file("toy").unlink()
    edit_toy(
        toy, "return torch.from_numpy(frames).float()", "return torch.from_numpy(frames).half()"
    )
    main("toy")
    assert counts("toy") == (0, 1)  # of the preprocessing the weights know nothing
    edit_toy(toy, 'kernels["b"]}', '2 * kernels["b"]}')
    main("toy")
    assert counts("toy") == (1, 0)
    assert len(site.requests) == 1


def edit_toy(path: Path, old: str, new: str) -> None:
    assert path.read_text().count(old) == 1
    path.write_text(path.read_text().replace(old, new))
    keys._source.cache_clear()
    keys._definition.cache_clear()
    keys._fingerprint.cache_clear()


def test_a_published_file_that_is_another_than_expected_is_named(
    toy: Path,
    site: Site,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    torch.save({"layer.weight": torch.ones(2)}, tmp_path / "other.pth")
    site.serve("/toy.pth", content((tmp_path / "other.pth").read_bytes()))
    said = failure("toy", capsys)
    assert "toy.pth: features.backbones.toy.convert expects other tensors" in said
    assert "KeyError: 'dense.kernel'" in said


@pytest.mark.parametrize("section", ["vgg16", "detector"])
def test_a_seeded_network_is_made_without_torch(section: str) -> None:
    path = Path("params.yaml")
    params = yaml.safe_load(path.read_text())
    params["faces"]["detector"] = {"module": "retinaface", "source": "seeded", "seed": 3}
    params["backbones"]["vgg16"] = {"module": "vgg16", "view": "segments", "source": "seeded"}
    path.write_text(yaml.safe_dump(params))
    code = (
        "import sys; from stages.weights import main; main(sys.argv[1]); "
        "print(sorted({'torch', 'mediapipe', 'librosa', 'requests'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, section],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
    assert metadata(weights_file(section))["source"] == "seeded"


def test_the_bytes_of_a_seeded_file_are_those_of_the_library(tmp_path: Path) -> None:
    change("vgg16", seed=5)
    main("vgg16")
    facts = metadata(weights_file("vgg16"))
    save_file({}, tmp_path / "theirs.safetensors", facts)
    ours, theirs = (
        weights_file("vgg16").read_bytes(),
        (tmp_path / "theirs.safetensors").read_bytes(),
    )
    assert (len(ours), json.loads(ours[8:])) == (len(theirs), json.loads(theirs[8:]))
