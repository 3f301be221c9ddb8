"""What was found right is not checked again while params.yaml, dvc.yaml and the code are the same.

To check params.yaml against the networks that it names, these are imported, and torch with them:
of the start of the first stage that is two thirds. What is remembered belongs to a machine and a
clone; to lose it costs time only.
"""

import hashlib
import json
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from features.cache import keys
from features.cache.claims import host
from features.cache.store import replacing, store_root
from stages.engine.params import Params
from stages.engine.paths import PIPELINE


def is_known(params: Params) -> bool:
    """Tell whether all was right when it was last checked, and is the same now."""
    try:
        record = json.loads(_path().read_text(encoding="utf-8"))
        return bool(record == _record(params, map(Path, record["files"])))
    except (OSError, ValueError, TypeError, KeyError):
        return False


def remember(params: Params, modules: Iterable[str]) -> None:
    """Remember that all is right, as far as the store can be written.

    Args:
        params: that was checked.
        modules: of the project, all that any stage imports.
    """
    files = (keys.module_path(name) for name in modules)
    with suppress(OSError), replacing(_path()) as partial:
        partial.write_text(json.dumps(_record(params, files)), encoding="utf-8")


def _record(params: Params, files: Iterable[Path]) -> dict[str, object]:
    """Return what the checks depend on: a module that is new at the top may hide an installed one.

    Raises:
        OSError: a file is not there.
    """
    return {
        "params": params.model_dump_json(),
        "pipeline": keys.file_sha256(PIPELINE) if PIPELINE.is_file() else None,
        "python": [sys.prefix, sys.version],
        "top": sorted(path.name for path in keys.PROJECT.iterdir() if path.suffix in ("", ".py")),
        "files": {str(path): keys.file_sha256(path) for path in sorted(files)},
    }


def _path() -> Path:
    clone = hashlib.sha256(str(keys.PROJECT).encode()).hexdigest()[:16]
    return store_root() / "checked" / f"{host()}-{clone}.json"
