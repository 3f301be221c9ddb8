"""The card of an export: README.md beside the numbers, which says what they are.

All of it is read from what the files say of themselves, and from params.yaml.
"""

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import yaml

from affectline.formats import Array
from affectline.project import FeatureArrays, Project
from features import backbones
from stages.engine.progress import in_a_line

SHOWN = 20
"""Videos without the feature that the card lists; videos.csv has all."""

LAYOUTS = {
    "npy": (
        "`features/` has a .npy file a video, (T, …); `valid/`, `pts_s/` and `index/` have the "
        "same of its rows. videos.csv says whose file is whose.",
        'rows = numpy.load("features/000000-….npy")  # a name of the column `file`',
    ),
    "parquet": (
        "`features.parquet` has a row a row of a video; `features` is a tensor of Arrow, a list of "
        "all its numbers for readers that do not know it.",
        'table = pyarrow.parquet.read_table("features.parquet")\n'
        'rows = table["features"].chunk(0).to_numpy_ndarray()',
    ),
    "webdataset": (
        "Shards have a sample a video: `<key>.features.npy`, `.valid.npy`, `.pts_s.npy`, "
        "`.index.npy`, and `.json` with its id, label and splits. videos.csv has each video's "
        "`shard` and `key`.",
        'for sample in webdataset.WebDataset("shard-000000.tar", shardshuffle=False).decode():\n'
        '    rows, about = sample["features.npy"], sample["json"]',
    ),
    "huggingface": (
        "A data set of `datasets`, a row a video: id, label, splits, and its arrays as lists.",
        'dataset = datasets.load_from_disk(".").with_format("numpy")\n'
        'rows = dataset[0]["features"]',
    ),
    "csv": (
        "`features.csv` has a line a row of a video; its numbers are `features_0`, `features_1`, "
        "…, as short as they can be written and still be read as the same.",
        'rows = pandas.read_csv("features.csv").filter(regex="^features_")',
    ),
}
"""Format -> what lies where, and how it is read."""


@dataclass
class Counts:
    """What is learned of the files while they are read.

    Attributes:
        files: how many.
        shape: of a row.
        dtype: of its numbers.
        about: what the first file says of itself.
        weights: what the files say of their weights, each once.
        software: package -> versions that made the files.
        rows: video_id -> rows, valid rows.
        axes: of the feature, `T D`.
    """

    files: int = 0
    shape: tuple[int, ...] = ()
    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.float16))
    about: Mapping[str, Any] = field(default_factory=dict)
    weights: list[Mapping[str, Any]] = field(default_factory=list)
    software: dict[str, set[str]] = field(default_factory=dict)
    rows: dict[str, tuple[int, int]] = field(default_factory=dict)
    axes: str = ""

    def take(
        self, feature: str, arrays: Mapping[str, Array], about: Mapping[str, Any], video_id: str
    ) -> None:
        """Count a file."""
        if not self.files:
            self.shape, self.dtype = arrays[feature].shape[1:], arrays[feature].dtype
            self.about, self.axes = about, str(about["axes"][feature])
        self.files += 1
        self.rows[video_id] = (len(arrays["valid"]), int(np.count_nonzero(arrays["valid"])))
        if about["weights"] not in self.weights:
            self.weights.append(about["weights"])
        for package, version in about["software"].items():
            self.software.setdefault(package, set()).add(str(version))


def card(project: Project, source: str, kind: str, features: FeatureArrays, counts: Counts) -> str:
    """Return the card, Markdown.

    Args:
        project: that the features are of.
        source: `<backbone>/<feature>`.
        kind: the format.
        features: of all videos.
        counts: of those that are exported.
    """
    layout, code = LAYOUTS[kind]
    parts = [
        f"# {source}",
        _numbers(source, counts),
        f"## Files\n\n{layout} videos.csv has a line for every video: label, splits, rows.",
        f"```python\n{code}\n```",
        f"## Weights\n\n{_weights(counts.weights, features.pretrained)}",
        f"## How they were made\n\n{_made(counts.about)}",
        f"```yaml\n{_settings(project, counts.about)}```",
        f"Software: {_software(counts.software)}.",
        f"## Videos\n\n{_videos(project, features)}",
    ]
    return "\n\n".join(parts) + "\n"


def _numbers(source: str, counts: Counts) -> str:
    backbone, _, feature = source.partition("/")
    module = str(counts.about["ingredients"]["module"])
    title = backbones.describe(module).title
    total, valid = (sum(row[place] for row in counts.rows.values()) for place in (0, 1))
    return (
        f"The feature `{feature}` of the backbone `{backbone}` ({in_a_line(title)}), of "
        f"{counts.files} videos: {total} rows, {valid} of them valid.\n\n"
        f"- A video has an array of axes `{counts.axes}`, shape (T, "
        f"{', '.join(map(str, counts.shape))}), {counts.dtype}; T may differ from video to video.\n"
        "- `pts_s`: when a row is shown, seconds of presentation time in its video, NaN where that "
        "is not known; `index`: the number of its frame, or of the row where it is of sound.\n"
        "- `valid`: whether a row means anything. Rows that are not valid (no face, no person, "
        "past the end of the video) hold zeros, which stand for nothing: leave them out."
    )


def _weights(found: Sequence[Mapping[str, Any]], pretrained: bool) -> str:
    if any(facts.get("source") == "imported" for facts in found):
        kind = "Imported: what made these numbers is known by the words below alone."
    elif pretrained:
        kind = "Trained elsewhere; their licence is that of the weights below."
    else:
        kind = "**Random**: the network was never trained, and no meaning lies in these numbers."
    lines = [
        f"- {name}: {in_a_line(str(facts[name]))}"
        for facts in found
        for name in ("source", "origin", "sha256", "licence", "notice", "seed")
        if facts.get(name)
    ]
    return "\n".join([kind, "", *lines])


def _made(about: Mapping[str, Any]) -> str:
    made_of = about["ingredients"]
    says = backbones.describe(str(made_of["module"]))
    revision = commit()
    lines = [
        f"By affectline, from the view `{made_of['view']}`. {in_a_line(says.reads)}".rstrip(),
        f"The project's commit: {revision}."
        if revision
        else "The project is in no git repository.",
    ]
    return " ".join(lines)


def _settings(project: Project, about: Mapping[str, Any]) -> str:
    """Return what was chosen, as YAML: of the backbone, and of the view that it reads."""
    made_of = about["ingredients"]
    left_out = ("stage", "input", "code", "weights")
    settings: dict[str, Any] = {
        "backbone": {name: value for name, value in made_of.items() if name not in left_out}
    }
    view = str(made_of["view"])
    decode = project.params("decode")
    frames = "segments" if view == "faces" else view
    if chosen := decode.get("views", {}).get(frames):
        settings["view"] = {**chosen, "seed": decode["seed"]}
    if view == "faces":
        settings["faces"] = project.params("faces")
    return str(yaml.safe_dump(settings, sort_keys=True, allow_unicode=True))


def commit() -> str:
    """Return the commit of the working folder, and whether files differ from it."""
    done = [
        subprocess.run(["git", *words], capture_output=True, text=True, check=False)
        for words in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
    ]
    if done[0].returncode:
        return ""
    return done[0].stdout.strip() + (" and changes that are not in it" if done[1].stdout else "")


def _software(found: Mapping[str, set[str]]) -> str:
    return ", ".join(
        f"{name} {' and '.join(sorted(versions))}" for name, versions in sorted(found.items())
    )


def _videos(project: Project, features: FeatureArrays) -> str:
    index = project.index()
    data = project.params("index").get("dataset") or "no name is given to the data set"
    lacking = {
        str(name): features.missing.get(str(name), "not in the index of the features")
        for name in index.index
        if name not in features
    }
    labels = index.loc[list(features), "label"].value_counts().sort_index()
    lines = [
        f"Data: {in_a_line(str(data))}. {len(features)} of {len(index)} videos have the feature: "
        + ", ".join(f"{in_a_line(str(label))} {count}" for label, count in labels.items())
        + ".",
    ]
    if lacking:
        lines += ["", "These have none (videos.csv has all):", ""]
        lines += [f"- {in_a_line(f'{n}: {why}')}" for n, why in [*lacking.items()][:SHOWN]]
    if len(lacking) > SHOWN:
        lines.append(f"- and {len(lacking) - SHOWN} more")
    return "\n".join(lines)
