"""Checks before work: the machine's libraries, and params.yaml against the code that it names.

The schema (:mod:`stages.params`) knows keys and types. What only the modules know is checked
here: that a backbone and a head exist, what options they take, which features they give.
"""

import ctypes.util
import sys
from pathlib import Path

import yaml

from stages.params import Backbone, Params, ParamsError

SYSTEM_LIBRARIES = {
    "GL": "libgl1",
    "EGL": "libegl1",
    "GLESv2": "libgles2",
    "glib-2.0": "libglib2.0-0",
}
"""Shared libraries that MediaPipe and OpenCV link to, and Debian's packages that have them."""


class SystemLibraryError(RuntimeError):
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


def check_experiments(params: Params) -> None:
    """Check only what stands under ``train`` and ``experiments``; errors as above."""
    _raise(_heads(params))


def _raise(wrong: list[str]) -> None:
    if wrong:
        raise ParamsError("\n".join(f"params.yaml: {line}" for line in wrong))


def _backbones(params: Params) -> list[str]:
    from features import backbones  # torch is slow to import; the schema comes first
    from features.options import axes_of, dtypes_of, options_of, views_of

    wrong = _detector(params)
    for name, block in params.backbones.items():
        where = f"backbones.{name}"
        try:
            module = backbones.load(block.module)
            options = options_of(module, block.options)
            axes_of(module, options)
            dtypes_of(module, options, block.dtypes)
        except ValueError as error:
            wrong.append(f"{where}: {error}")
            continue
        if block.view not in views_of(module):
            known = " or ".join(views_of(module))
            wrong.append(f"{where}.view: found {block.view!r}, {block.module} reads {known}")
        if block.source == "seeded" and not module.WEIGHTS.can_seed:
            wrong.append(f"{where}.source: found 'seeded', {block.module} can only be pretrained")
    return wrong


def _detector(params: Params) -> list[str]:
    from stages.faces import detector_module, detector_options

    block = params.faces.detector
    try:
        module = detector_module(block.module)
        detector_options(params.faces)
    except ModuleNotFoundError:
        return [f"faces.detector.module: found {block.module!r}, expected blazeface or retinaface"]
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
            block = params.backbones[backbone]
            if block.module in backbones.names():
                known = _known_features(block)
                if feature not in known:
                    where = f"experiments.{name}.roles.{role}"
                    wrong.append(f"{where}: found {source!r}, {backbone} gives {known}")
    return wrong


def _known_features(block: Backbone) -> list[str]:
    from features import backbones
    from features.options import features_of, options_of

    module = backbones.load(block.module)
    try:
        return sorted(features_of(module, options_of(module, block.options)))
    except ValueError:  # told where the backbones are checked
        return sorted(module.FEATURES)


def _heads(params: Params) -> list[str]:
    import heads
    from heads.training import training_of

    wrong = []
    try:
        training_of(params.train)
    except ValueError as error:
        wrong.append(f"train: {error}")
    for name, experiment in params.experiments.items():
        try:
            head = heads.load(experiment.head)
            heads.validate(head, experiment.overrides)
            training_of(params.train | experiment.train)
        except ValueError as error:
            wrong.append(f"experiments.{name}: {error}")
            continue
        for role in experiment.roles:
            if head.ROLES is not None and role not in head.ROLES:
                where = f"experiments.{name}.roles.{role}"
                wrong.append(f"{where}: {experiment.head} knows the roles {sorted(head.ROLES)}")
    return wrong


def check_pipeline(params: Params, path: Path = Path("dvc.yaml")) -> None:
    """Check that dvc.yaml makes training wait for the backbones of params.yaml, and no others.

    DVC cannot repeat a dependency for each entry of params.yaml, so that list is written out.

    Raises:
        ParamsError: with the lines to add or remove.
    """
    if not path.is_file():
        return
    listed = yaml.safe_load(path.read_text(encoding="utf-8"))["stages"]["train"]["do"]["deps"]
    wanted = {f"data/features/{name}.parquet" for name in params.backbones}
    found = {dep for dep in listed if dep.startswith("data/features/")}
    lines = [f"add the line `- {dep}`" for dep in sorted(wanted - found)]
    lines += [f"remove the line `- {dep}`" for dep in sorted(found - wanted)]
    if lines:
        raise ParamsError(
            f"{path}: the deps of train do not fit the backbones of params.yaml: "
            f"{'; '.join(lines)} (or run `affectline sync`)"
        )


def check_all(params: Params) -> None:
    """Run every check; errors as above."""
    check_pipeline(params)
    check_system()
    check_modules(params)
