import multiprocessing
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features import backbones
from features.cache import keys
from features.cache import store as cache
from features.cache.keys import canonical, code_fingerprint, item_key
from features.cache.store import ItemStore, replacing

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.floats(allow_nan=False).filter(lambda x: abs(x) != float("inf")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), values, max_size=5))
def test_a_key_does_not_depend_on_the_order_of_the_ingredients(made_of: dict[str, object]) -> None:
    turned = dict(reversed(made_of.items()))
    assert item_key(made_of) == item_key(turned)


@given(st.dictionaries(st.text(), values, max_size=4), st.text(), values, values)
def test_a_changed_ingredient_changes_the_key(
    made_of: dict[str, object], name: str, one: object, other: object
) -> None:
    same = canonical(one) == canonical(other)
    assert (item_key({**made_of, name: one}) == item_key({**made_of, name: other})) == same


def test_a_key_refuses_what_json_cannot_say() -> None:
    with pytest.raises(ValueError):
        item_key({"share": float("nan")})


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of two modules, ``features.a`` importing ``features.b``."""
    monkeypatch.setattr(keys, "PROJECT", tmp_path)
    (tmp_path / "features").mkdir()
    (tmp_path / "features" / "a.py").write_text("import os\nfrom features.b import f\nx = f(2)\n")
    (tmp_path / "features" / "b.py").write_text("def f(n):\n    return n * 2\n")
    return tmp_path


def fingerprint(name: str = "features.a") -> str:
    keys._parse.cache_clear()
    keys._imports.cache_clear()
    keys._tree_hash.cache_clear()
    return code_fingerprint(name)


def test_comments_docstrings_and_layout_cost_nothing(project: Path) -> None:
    before = fingerprint()
    (project / "features" / "b.py").write_text(
        '"""What it does."""\n\n\ndef f(n):  # doubles\n    """Double."""\n\n    return (n * 2)\n'
    )
    assert fingerprint() == before


def test_a_changed_formula_counts_also_in_an_imported_module(project: Path) -> None:
    before = fingerprint()
    (project / "features" / "b.py").write_text("def f(n):\n    return n * 3\n")
    assert fingerprint() != before


def test_another_module_counts_for_nothing(project: Path) -> None:
    before = fingerprint()
    (project / "features" / "c.py").write_text("y = 1\n")
    assert fingerprint() == before


def test_bookkeeping_is_no_part_of_a_fingerprint(project: Path) -> None:
    (project / "features" / "a.py").write_text("from features.cache import store\nx = 1\n")
    (project / "features" / "cache.py").write_text("y = 1\n")
    before = fingerprint()
    (project / "features" / "cache.py").write_text("y = 2\n")
    assert fingerprint() == before


@pytest.mark.parametrize(
    ("old", "new"), [("MEAN = (0.485", "MEAN = (0.5"), ("CROP_PX = 224", "CROP_PX = 256")]
)
def test_another_preparation_for_imagenet_counts_for_every_backbone_that_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str
) -> None:
    """In a copy of the project: no module with numbers of its own may pass for bookkeeping."""

    def fingerprints() -> dict[str, dict[str, str]]:
        return {name: fingerprint(f"features.backbones.{name}") for name in backbones.names()}

    shutil.copytree(keys.PROJECT / "features", tmp_path / "features")
    monkeypatch.setattr(keys, "PROJECT", tmp_path)
    before = fingerprints()
    source = tmp_path / "features" / "imagenet.py"
    assert source.read_text().count(old) == 1
    source.write_text(source.read_text().replace(old, new))
    after = fingerprints()
    changed = {name for name in before if after[name] != before[name]}
    # vggface imports vgg16, and with it what vgg16 imports
    assert changed == {"vgg16", "places365_vgg16", "resnet50", "swin", "vggface"}


def test_a_module_that_is_not_there_is_named(project: Path) -> None:
    with pytest.raises(ModuleNotFoundError, match="features.nothing"):
        fingerprint("features.nothing")


def test_an_item_comes_out_of_the_store_as_it_went_in(tmp_path: Path) -> None:
    store = ItemStore(tmp_path / "store")
    key = item_key({"n": 1})
    with store.staging() as folder:
        (folder / "x.h5").write_bytes(b"whole")
        store.add(key, folder / "x.h5")
    assert store.has(key, ".h5")
    assert store.path(key, ".h5").read_bytes() == b"whole"
    assert not os.access(store.path(key, ".h5"), os.W_OK) or os.getuid() == 0


def test_unfinished_files_leave_no_trace(tmp_path: Path) -> None:
    store = ItemStore(tmp_path / "store")
    with pytest.raises(RuntimeError), store.staging() as folder:
        (folder / "x.h5").write_bytes(b"half")
        raise RuntimeError
    assert not list((tmp_path / "store").rglob("*.h5"))


def test_an_output_is_a_hard_link_and_a_copy_across_file_systems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x")
    cache.link_or_copy(source, tmp_path / "a" / "linked")
    assert (tmp_path / "a" / "linked").stat().st_ino == source.stat().st_ino

    def no_link(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", no_link)
    cache.link_or_copy(source, tmp_path / "b" / "copied")
    assert (tmp_path / "b" / "copied").read_bytes() == b"x"
    assert (tmp_path / "b" / "copied").stat().st_ino != source.stat().st_ino


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), replacing(tmp_path / "out") as partial:
        partial.write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def _add(root: Path, key: str, number: int) -> None:
    store = ItemStore(root)
    for _ in range(20):
        with store.staging() as folder:
            (folder / "x.h5").write_bytes(b"same" * 1000)
            store.add(key, folder / "x.h5")


def test_two_processes_may_add_the_same_item_at_once(tmp_path: Path) -> None:
    key = item_key({"n": 1})
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_add, args=(tmp_path, key, n)) for n in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert ItemStore(tmp_path).path(key, ".h5").read_bytes() == b"same" * 1000


def test_the_store_lies_in_the_project_or_where_one_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AFFECTLINE_STORE", raising=False)
    assert cache.store_root() == tmp_path / ".store"
    monkeypatch.setenv("AFFECTLINE_STORE", "../shared")
    assert cache.store_root() == tmp_path / "../shared"
    monkeypatch.setenv("AFFECTLINE_STORE", "/disk/store")
    assert cache.store_root() == Path("/disk/store")


@pytest.mark.parametrize("copy", ["tmpx", "standalone/tmpx", "tmpx/inner"])
def test_an_experiment_that_runs_apart_has_the_store_of_its_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copy: str
) -> None:
    workspace = tmp_path / ".dvc" / "tmp" / "exps" / copy
    workspace.mkdir(parents=True)
    monkeypatch.chdir(workspace)
    monkeypatch.delenv("AFFECTLINE_STORE", raising=False)
    assert cache.store_root() == tmp_path / ".store"
    monkeypatch.setenv("AFFECTLINE_STORE", "here")
    assert cache.store_root() == tmp_path / "here"
