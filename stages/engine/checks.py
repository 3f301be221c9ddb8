"""Checks before work: the machine's libraries, and params.yaml against the code that it names.

The schema (:mod:`stages.engine.params`) knows keys and types. What only the modules know is checked
here: that a backbone and a head exist, what options they take, which features they give.
"""

import ctypes.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from features.cache import claims
from features.cache.arrays import ArrayFileError
from features.cache.store import store_root
from features.cache.tables import TableError
from heads import Head
from stages.engine import checked
from stages.engine.device import device_of
from stages.engine.dvc_lock import DVC, needs_git, read_deps
from stages.engine.params import Backbone, Experiment, Params, ParamsError, read_yaml
from stages.engine.paths import INDEX, PARAMS, PIPELINE, index_of
from stages.engine.progress import MEND, fail, reason, told
from stages.engine.start import check_watched, stage_modules, stage_names

NOT_RUN = (
    f"{index_of(INDEX)}: not made yet; `dvc repro` makes it, `dvc pull` brings what others have run"
)
"""What a command says that asks for what stages have made."""

SYSTEM_LIBRARIES = {
    "GL": "libgl1",
    "EGL": "libegl1",
    "GLESv2": "libgles2",
    "glib-2.0": "libglib2.0-0",
}
"""Shared libraries that MediaPipe and OpenCV link to, and Debian's packages that have them."""


class SystemLibraryError(OSError):
    """A shared library of the system is missing; the message says how to install it."""


def check_system() -> None:
    """Check that the system has the libraries that the packages do not carry.

    Raises:
        SystemLibraryError: some are missing.
    """
    if not sys.platform.startswith("linux"):
        return
    missing = [name for name in SYSTEM_LIBRARIES if ctypes.util.find_library(name) is None]
    if missing:
        packages = " ".join(SYSTEM_LIBRARIES[name] for name in missing)
        raise SystemLibraryError(
            f"MediaPipe and OpenCV need {', '.join(f'lib{name}' for name in missing)}, which this "
            f"system lacks. On Debian or Ubuntu: sudo apt-get install {packages}"
        )


def check_modules(params: Params) -> None:
    """Check the names and options in params.yaml against the modules they mean.

    Raises:
        ParamsError: with one line for each thing that is wrong.
    """
    _raise(_backbones(params) + _features(params) + _heads(params))


def _raise(wrong: list[str]) -> None:
    if wrong:
        raise ParamsError("\n".join(f"{PARAMS}: {line}" for line in wrong))


def _backbones(params: Params) -> list[str]:
    from features import backbones  # torch is slow to import; the schema comes first

    wrong = _detector(params)
    for name, block in params.backbones.items():
        where = f"backbones.{name}"
        try:
            module = backbones.load(block.module)
        except ValueError as error:
            wrong.append(f"{where}: {error}")
            continue
        try:
            block.choices(where, module)
        except ParamsError as error:
            wrong.append(str(error))
            continue
        if block.source == "seeded" and not module.WEIGHTS.can_seed:
            wrong.append(f"{where}.source: found 'seeded', {block.module} can only be pretrained")
        elif block.source == "seeded" and block.file is not None:
            wrong.append(f"{where}.file: found {block.file!r}, which source: seeded does not read")
    return wrong


def _detector(params: Params) -> list[str]:
    from features import detectors

    block = params.faces.detector
    try:
        module = detectors.load(block.module)
        detectors.complete_options(block.module, block.options, params.faces.min_score)
    except ValueError as error:
        return [f"faces.detector: {error}"]
    if block.source == "seeded" and not module.WEIGHTS.can_seed:
        return [f"faces.detector.source: found 'seeded', {block.module} can only be pretrained"]
    return []


def _features(params: Params) -> list[str]:
    """Check that each role's backbone gives the feature that the role names."""
    from features import backbones

    wrong = []
    for name, experiment in params.experiments.items():
        for role, source in experiment.roles.items():
            backbone, feature = source.split("/")
            try:
                module = backbones.load(params.backbones[backbone].module)
            except ValueError:  # told where the backbones are checked
                continue
            known = _known_features(module, params.backbones[backbone])
            if feature not in known:
                where = f"experiments.{name}.roles.{role}"
                wrong.append(f"{where}: found {source!r}, {backbone} gives {known}")
    return wrong


def _known_features(module: ModuleType, block: Backbone) -> list[str]:
    from features.options import features_of, options_of

    try:
        return sorted(features_of(module, options_of(module, block.options)))
    except ValueError:  # of the options, told likewise
        return sorted(module.FEATURES)


def _heads(params: Params) -> list[str]:
    import heads
    from heads.training.settings import training_of

    wrong = []
    common: dict[str, Any] | None = params.train
    try:
        training_of(params.train)
    except ValueError as error:
        wrong.append(f"train: {error}")
        common = None  # told once, and not for each experiment again
    for name, experiment in params.experiments.items():
        where = f"experiments.{name}"
        wrong += _training(f"{where}.train", params, experiment, common)
        try:
            head = heads.load(experiment.head)
        except ValueError as error:
            wrong.append(f"{where}.head: {error}")
            continue
        try:
            heads.validate(head, experiment.overrides)
        except ValueError as error:
            wrong.append(f"{where}.with: {error}")
        else:
            wrong += _search(f"{where}.search.space", head, experiment, common)
        for role in experiment.roles:
            if head.ROLES is not None and role not in head.ROLES:
                where = f"experiments.{name}.roles.{role}"
                wrong.append(f"{where}: {experiment.head} knows the roles {sorted(head.ROLES)}")
        startable = heads.starts(head)
        for role, backbone in experiment.weights.items():
            where = f"experiments.{name}.weights.{role}"
            module = params.backbones[backbone].module
            if role not in startable:
                wrong.append(f"{where}: {experiment.head} starts {sorted(startable)} from weights")
            elif module != startable[role]:
                wrong.append(f"{where}: found the network {module!r}, expected {startable[role]!r}")
    return wrong


def _training(
    where: str, params: Params, experiment: Experiment, common: dict[str, Any] | None
) -> list[str]:
    """Check an experiment's own settings of training, and that they fit what it tells."""
    from features.options import check_names
    from heads.training.settings import Training, training_of

    try:
        check_names(Training, experiment.train, "training")
        if common is None:
            return []
        weights = training_of(common | experiment.train).class_weights
    except ValueError as error:
        return [f"{where}: {error}"]
    targets = params.index.targets
    name = experiment.target or next(iter(targets), None)
    if name is None or targets[name].kind == "class" or weights == "none":
        return []
    return [
        f"{where}: class_weights: {weights} is of classes, and {name} is of kind "
        f"{targets[name].kind}: write train: {{class_weights: none}} in the experiment"
    ]


def _search(
    where: str, head: Head, experiment: Experiment, common: dict[str, Any] | None
) -> list[str]:
    """Check that the head takes every trial: values may fit one by one, and not together."""
    from heads.training.settings import draw, settings_of

    search = experiment.search
    if search is None or common is None:
        return []
    try:
        for drawn in draw(search.drawn_from, search.tries, search.seed):
            settings_of(head, experiment.overrides, common | experiment.train, drawn)
    except ValueError as error:
        return [f"{where}: {error}"]
    return []


def check_all(params: Params) -> None:
    """Check everything that no stage can work without; errors as above.

    Raises:
        DeviceError: this machine has no ``engine.device``.
    """
    check_system()
    if params.engine.device != "auto":  # which is there everywhere
        device_of(params.engine)
    if not checked.is_known(params):
        check_modules(params)
        check_watched(params, stage_names(params))
        checked.remember(params, stage_modules(params))


# ---------------------------------------------------------------------------- before a run


def check_store() -> None:
    """Check that the store can be written, as a stage that computes something must.

    Raises:
        ParamsError: it cannot.
    """
    try:
        with claims.scratch(store_root() / "unfinished"):
            pass
    except OSError as error:
        raise ParamsError(
            f"the store {store_root()} cannot be written: {reason(error)}. Give it room and "
            "rights, or name another folder in AFFECTLINE_STORE"
        ) from None


def check_dvc() -> None:
    """Check that DVC can work here: it needs its settings, and git unless they say otherwise.

    Raises:
        ParamsError: it cannot.
    """
    if not DVC.is_dir():
        raise ParamsError(f"{DVC}: expected DVC's settings, found none; `git checkout {DVC}`")
    here = Path.cwd()
    is_in_git = any((folder / ".git").exists() for folder in (here, *here.parents))
    if not is_in_git and needs_git():
        raise ParamsError(
            f"{here}: expected a git repository, found none, as in an archive that was downloaded; "
            "`git clone` it, or `git init`"
        )


def check_root(params: Params) -> str | None:
    """Check that the videos are here, or that a stage makes them.

    Returns:
        What a person should know where they are absent, and have been indexed elsewhere.

    Raises:
        ParamsError: they are not.
    """
    root = Path(params.index.root)
    if root.exists() or any(out == root or out in root.parents for out in _outputs()):
        return None
    if root.with_name(f"{root.name}.dvc").is_file():
        raise ParamsError(f"{root}: the videos are not here; `dvc pull {root}` brings them")
    if root in read_deps("index"):
        return (
            f"the videos of {root} are not here: `dvc repro --pull` takes what was made of them, "
            "`dvc repro --pull --allow-missing train` trains on it"
        )
    raise ParamsError(
        f"{PARAMS}: index.root: found nothing at {root}, expected a folder <label>/<name>.<ext> "
        "or a CSV path,label[,split]"
    )


def _outputs() -> Iterator[Path]:
    """Yield what the stages of dvc.yaml put out, but for stages of a ``foreach``."""
    stages = read_yaml(PIPELINE).get("stages") or {}
    for block in stages.values():
        for out in block.get("outs", ()):
            yield Path(next(iter(out)) if isinstance(out, dict) else out)


def check_project() -> None:
    """Check that the working folder is a project.

    Raises:
        ParamsError: it is none; it names the project above it, if there is one.
    """
    here = Path.cwd()
    above = [folder for folder in here.parents if _is_project(folder)]
    if not _is_project(here):
        to_do = f"`cd {above[0]}`" if above else "go to its folder, or clone one"
        raise ParamsError(
            f"{here}: expected a project of affectline, a folder with {PARAMS} and {PIPELINE}, "
            f"found neither; {to_do} and run this again"
        )


def _is_project(folder: Path) -> bool:
    return (folder / PARAMS).is_file() or (folder / PIPELINE).is_file()


@contextmanager
def in_project() -> Iterator[None]:
    """Do a command's work in a project; what is wrong is told in a line, and ends it."""
    with told():
        check_project()
        try:
            yield
        except (ArrayFileError, TableError) as error:  # of the store or an output
            raise fail(f"{error}. {MEND}") from None
