"""A team: clones that share a git repository and a DVC remote, and nothing else."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from tests.clones import Clone

OBJECT = re.compile(r"[0-9a-f]{32}(\.dir)?")

VIDEO_STAGES = ("index", "decode", "faces", "extract@faces_toy", "extract@frames_toy")


def track_videos(clone: Clone) -> None:
    """Give data/raw to DVC, as a user does who may share the videos."""
    clone.run("dvc", "add", "data/raw")


def add_remote(clone: Clone, url: str, **settings: str) -> None:
    """Name the team's remote in git; what belongs to a person goes to config.local."""
    clone.run("dvc", "remote", "add", "--force", "--default", "team", url)
    # Without it DVC keeps, as checked, what a download that broke off has left.
    clone.run("dvc", "remote", "modify", "team", "verify", "true")
    clone.commit("remote")
    log_in(clone, **settings)


def log_in(clone: Clone, **settings: str) -> None:
    for name, value in settings.items():
        clone.run("dvc", "remote", "modify", "--local", "team", name, value)


def join(clone: Clone, root: Path, **settings: str) -> Clone:
    """Return a second clone: what git has, and how to reach the remote."""
    clone.run("git", "clone", "-q", str(clone.root), str(root))
    second = Clone(root)
    log_in(second, **settings)
    return second


def bring_commits(clone: Clone, other: Clone) -> None:
    """Pull the other's commits with git."""
    clone.run("git", "pull", "-q", "--ff-only", str(other.root), "HEAD")


def objects(folder: Path) -> set[str]:
    """Return the names of the objects in a remote's folder or in a cache; no unfinished ones."""
    names = (path.parent.name + path.name for path in folder.glob("files/md5/??/*"))
    return {name for name in names if OBJECT.fullmatch(name)}


def cache(clone: Clone) -> Path:
    return clone.root / ".dvc" / "cache"


def named_by(clone: Clone, *outputs: str) -> set[str]:
    """Return the objects that dvc.lock and data/raw.dvc name: all, or those of `outputs`.

    An output may also be a folder above several. What lies in a folder is read from its listing in
    the clone's cache.
    """
    lock = yaml.safe_load((clone.root / "dvc.lock").read_text())
    outs = [out for stage in lock["stages"].values() for out in stage["outs"]]
    tracked = clone.root / "data" / "raw.dvc"
    if tracked.is_file():
        outs += [out | {"path": "data/raw"} for out in yaml.safe_load(tracked.read_text())["outs"]]
    found = set()
    for out in outs:
        above = {out["path"], *map(str, Path(out["path"]).parents)}
        if outputs and not above & set(outputs):
            continue
        found.add(out["md5"])
        if out["md5"].endswith(".dir"):
            listing = cache(clone) / "files" / "md5" / out["md5"][:2] / out["md5"][2:]
            found |= {entry["md5"] for entry in json.loads(listing.read_text())}
    return found


def counts(clone: Clone, stages: Sequence[str] = VIDEO_STAGES) -> dict[str, tuple[int, ...]]:
    """Return stage -> items computed, reused, failed in its last run."""
    logs = {stage: clone.log(stage) for stage in stages}
    return {
        stage: tuple(log[name] for name in ("computed", "reused", "failed"))
        for stage, log in logs.items()
    }
