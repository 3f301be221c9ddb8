"""Starts the command, with the code of the project that it is asked about.

Backbones and heads are the project's own files, and keys are hashes of its code: a command that
was installed from another clone, or before an edit, would speak of other code than `dvc repro`
runs. So where the working folder has the command's code, that is what runs.

    python -m affectline status
"""

import importlib
import sys
from pathlib import Path


def main() -> None:
    """Run the command."""
    here = Path.cwd()
    own = here / "affectline"
    if (here / "dvc.yaml").is_file() and (own / "cli.py").is_file():
        if not own.samefile(Path(__file__).parent):
            sys.path.insert(0, str(here))
            del sys.modules["affectline"]  # the installed one: below, the project's is imported
    importlib.import_module("affectline.cli").app(prog_name="affectline")


if __name__ == "__main__":
    main()
