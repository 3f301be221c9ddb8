"""The `affectline` command, and what a project has made for Python: `affectline.open()`.

No stage imports it.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the command starts without pandas
    from affectline.project import Project

__all__ = ["open"]


def open(path: str = ".", rev: str | None = None, remote: str | None = None) -> "Project":
    """Open a project to read what it has made.

    Args:
        path: a clone, or the address of a git repository, which is then read without a clone.
        rev: a commit, branch or tag; None for what lies in the clone, or for the repository's
            default branch.
        remote: name of the DVC remote to read from; None for the project's default.

    Raises:
        ValueError: there is no such project.
    """
    from affectline.project import open_project

    return open_project(path, rev, remote)
