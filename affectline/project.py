"""What a project has made, read by name: tables as pandas has them, features as arrays.

Everything is read when it is asked for, and checked then: a file that is damaged, or another than
its index names, is an error. Where files are not in the clone, or there is no clone, DVC brings
them.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol
from weakref import finalize

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from numpy.typing import NDArray

from features.cache import arrays, tables
from features.cache.store import replacing
from features.video.views import FRAME_ARRAYS
from heads.training.selection import FeatureRow, read_features, select_videos, split_role
from heads.training.targets import chosen, column_of, labels_of, read_targets
from stages.engine.paths import FEATURES, INDEX, PARAMS, PIPELINE, RESULTS, TABLES, index_of
from stages.engine.progress import reason

DATA = INDEX.parent

if TYPE_CHECKING:  # torch takes seconds, and few ask for it
    from heads.training.data import Features

Array = NDArray[np.generic]
How = Literal["mean", "max", "std"]

POOLS: dict[How, Callable[[Array], Array]] = {
    "mean": lambda rows: rows.mean(axis=0),
    "max": lambda rows: rows.max(axis=0),
    "std": lambda rows: rows.std(axis=0),
}


def open_project(path: str, rev: str | None, remote: str | None) -> "Project":
    """Open a project, see :func:`affectline.open`."""
    if rev is None and remote is None and (Path(path) / PIPELINE).is_file():
        return Project(_Clone(Path(path)))
    return Project(_Repository(path, rev, remote))


class Pooled(NamedTuple):
    """Features as scikit-learn takes them; the rows of all three are the same videos.

    Attributes:
        X: (videos, dimensions) float32, index `video_id`.
        y: what is true of them: a class each; of labels a frame of 0 and 1, a column a label; of
            dimensions a frame of numbers in their units.
        groups: what may not lie on both sides of a split: what `index.splits.groups` says, else
            the file's content, so that a video that is there twice is one group.
    """

    X: pd.DataFrame
    y: "pd.Series[str] | pd.DataFrame"
    groups: "pd.Series[str]"


class Project:
    """A project's outputs; :func:`affectline.open` gives one."""

    def __init__(self, files: "_Files") -> None:
        """Read from ``files``."""
        self._files = files

    def index(self) -> pd.DataFrame:
        """Return the index of the videos, index `video_id`: label, file, probe, splits, reason."""
        return _frame(self._files.path(index_of(INDEX))).set_index("video_id").sort_index()

    def params(self, section: str) -> dict[str, Any]:
        """Return a section of params.yaml, empty where there is none."""
        content = yaml.safe_load(self._files.path(PARAMS).read_text("utf-8"))
        return content.get(section) or {}

    def backbones(self) -> list[str]:
        """Return the names of the backbones in params.yaml."""
        return list(self.params("backbones"))

    def experiments(self) -> list[str]:
        """Return the names of the experiments in params.yaml."""
        return list(self.params("experiments"))

    def features(self, source: str) -> "FeatureArrays":
        """Return the features of every video that has them.

        Args:
            source: `<backbone>/<feature>`, e.g. `vggface/fc6`.

        Raises:
            ValueError: another form, or no such backbone.
        """
        backbone, feature = split_role("source", source)
        root = self._files.path(index_of(TABLES)).parent
        rows = read_features(root, [backbone])[backbone]
        files = {name: DATA / row.path.relative_to(root) for name, row in rows.items()}
        return FeatureArrays(self._files, feature, rows, files)

    def pooled(self, source: str, how: How = "mean", target: str | None = None) -> Pooled:
        """Return one vector a video: its valid rows pooled, maps flattened.

        Videos without a valid row are left out.

        Args:
            source: `<backbone>/<feature>`.
            how: mean, max or standard deviation over the valid rows.
            target: of `index.targets`, None for the first; the class where there are none.

        Raises:
            ValueError: another ``how``, a malformed source, no such target, or no video that has
                the feature.
        """
        if how not in POOLS:
            raise ValueError(f"how: expected one of {sorted(POOLS)}, found {how!r}")
        features, index = self.features(source), self.index()
        vectors = {}
        for video_id in features:
            rows = features[video_id][features.valid[video_id]]
            if len(rows):
                vectors[video_id] = POOLS[how](rows.astype(np.float32)).ravel()
        if not vectors:
            raise ValueError(f"{source}: no video has a valid row")
        videos = index.loc[list(vectors)]
        return Pooled(
            pd.DataFrame.from_dict(vectors, orient="index").rename_axis("video_id"),
            self._true(videos, target),
            videos["group" if "group" in videos else "sha256"].rename("group"),
        )

    def _true(self, videos: pd.DataFrame, wanted: str | None) -> "pd.Series[str] | pd.DataFrame":
        """Return what a target says of videos of the index, see :class:`Pooled`."""
        path = self._files.path(index_of(INDEX))
        declared = chosen(path, read_targets(path), wanted)
        if declared is None:
            return videos["label"]
        if declared.kind == "class":
            return videos[column_of(declared.columns[0])].rename(declared.name)
        rows = [
            {str(n): v for n, v in row.items()} for row in videos.reset_index().to_dict("records")
        ]
        told, labels = labels_of(rows, declared)
        return pd.DataFrame.from_dict(labels, orient="index", columns=list(told.names)).rename_axis(
            "video_id"
        )

    def torch_dataset(self, roles: Mapping[str, str]) -> "Features":
        """Return the videos that have all features of ``roles`` as a data set of torch.

        Its items are `heads.training.memory.Sample`; `heads.training.data.collate` makes batches.

        Args:
            roles: role -> `<backbone>/<feature>`.

        Raises:
            ValueError: a malformed source, or no such backbone.
        """
        from heads.training.data import Features

        root = self._files.path(index_of(TABLES)).parent
        selection = select_videos(self._files.path(index_of(INDEX)), root, roles)
        for video in selection.videos:
            for file in video.files.values():
                self._files.path(DATA / file.relative_to(root))
        return Features(selection.videos, roles)

    def predictions(self, experiment: str) -> pd.DataFrame:
        """Return an experiment's answers: run, video_id, label, predicted and `p_<class>`.

        Of labels likewise; of dimensions run, video_id, `true_<name>` and `predicted_<name>`.
        """
        return _frame(self._result(experiment, "predictions.parquet"))

    def attention(self, experiment: str, video_id: str | None = None) -> pd.DataFrame:
        """Return the weights that an experiment's head gave, of one video or of all.

        A row has a number (`value`) or a map (`map`, flattened, of the shape `shape`) for a row
        of a role (`row`, `pts_s`), or for a role.

        Raises:
            ValueError: no such experiment, or there are no weights of the video.
        """
        weights = _frame(self._result(experiment, "attention.parquet"), video_id)
        if video_id is not None and weights.empty:
            raise ValueError(
                f"{video_id}: expected a video that a run of {experiment} tested, and a head that "
                "weighs something, found no weights of it: index() has ids and runs, "
                "predictions() what was tested"
            )
        return weights

    def metrics(self) -> pd.DataFrame:
        """Return what the experiments reached, a row each: accuracy with its interval, macro F1.

        Of labels there is the mAP in the accuracy's place, of dimensions the CCC.
        """
        scores = {
            name: json.loads(self._files.path(RESULTS / f"{name}.json").read_text("utf-8"))
            for name in self.experiments()
        }
        return pd.DataFrame.from_dict(scores, orient="index").rename_axis("experiment")

    def _result(self, experiment: str, name: str) -> Path:
        if experiment not in (known := self.experiments()):
            raise ValueError(f"{experiment!r}: expected an experiment of {PARAMS}: {known}")
        return self._files.path(RESULTS / experiment / name)


class FeatureArrays(Mapping[str, Array]):
    """Features of the videos by `video_id`: arrays (T, ...), each read when it is asked for.

    Attributes:
        missing: video_id -> why it has none.
        pretrained: False where they come from a random network.
        valid: video_id -> (T,) bool, False where a row means nothing (no face, past the end).
        pts_s: video_id -> (T,) float64, presentation time in seconds; of snippets (T, L).
        index: video_id -> (T,) int64, number of the frame; of snippets (T, L).
    """

    def __init__(
        self,
        files: "_Files",
        array: str,
        rows: Mapping[str, FeatureRow],
        names: Mapping[str, Path],
    ) -> None:
        """Give one array of each of the files ``names``, which the index's ``rows`` describe."""
        self._files = files
        self._array = array
        self._rows = rows
        self._names = names
        self._ids = sorted(name for name, row in rows.items() if row.status == "ok")
        self.missing = {name: row.reason for name, row in rows.items() if row.status != "ok"}
        self.pretrained = all(rows[name].pretrained for name in self._ids)

    def __getitem__(self, video_id: str) -> Array:
        """Return a video's array; errors as :meth:`read`."""
        return self.read(video_id, [self._array])[0][self._array]

    def read(
        self, video_id: str, names: Sequence[str] | None = None
    ) -> tuple[dict[str, Array], dict[str, object]]:
        """Return arrays of a video's file and what the file says of itself.

        Args:
            video_id: of the video.
            names: of the arrays; None for the feature with ``valid``, ``pts_s`` and ``index``.

        Raises:
            KeyError: it has none; the message says why.
            ValueError: its file is damaged, or not the one that the index names.
        """
        if video_id not in self._rows or video_id in self.missing:
            raise KeyError(f"{video_id}: {self.missing.get(video_id, 'no such video')}")
        path, key = self._files.path(self._names[video_id]), self._rows[video_id].key
        wanted = [self._array, *FRAME_ARRAYS] if names is None else names
        data, attributes = arrays.read(path, wanted)
        if attributes.get("key") != key:
            raise ValueError(
                f"{path}: expected the item {key[:12]} that the index names, found "
                f"{str(attributes.get('key'))[:12]}: `dvc checkout`, or extract it again"
            )
        return data, attributes

    def __contains__(self, video_id: object) -> bool:
        """Tell whether a video has features; nothing is read."""
        return video_id in self._rows and video_id not in self.missing

    def __iter__(self) -> Iterator[str]:
        """Go through the ids of the videos that have features, sorted."""
        return iter(self._ids)

    def __len__(self) -> int:
        """Return how many videos have features."""
        return len(self._ids)

    @property
    def valid(self) -> "FeatureArrays":
        """Which rows mean something."""
        return FeatureArrays(self._files, "valid", self._rows, self._names)

    @property
    def pts_s(self) -> "FeatureArrays":
        """When the rows are shown."""
        return FeatureArrays(self._files, "pts_s", self._rows, self._names)

    @property
    def index(self) -> "FeatureArrays":
        """Which frames the rows are."""
        return FeatureArrays(self._files, "index", self._rows, self._names)

    def to_arrow(self) -> pa.Table:
        """Return all rows of all videos as a table: video_id, row, valid, and the feature.

        The feature is a column of tensors of the shape of a row.
        """
        parts = []
        for video_id in self:
            rows, valid = self[video_id], self.valid[video_id]
            tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(rows))
            ids = pa.array([video_id] * len(rows))
            numbers = pa.array(np.arange(len(rows), dtype=np.int32))
            columns = {"video_id": ids, "row": numbers, "valid": pa.array(valid.astype(bool))}
            parts.append(pa.table(columns | {self._array: tensors}))
        if not parts:
            raise ValueError(f"{self._array}: no video has it")
        return pa.concat_tables(parts)


def _frame(path: Path, video_id: str | None = None) -> pd.DataFrame:
    """Return a table, or its rows of one video."""
    try:
        chosen = None if video_id is None else [("video_id", "=", video_id)]
        return pq.read_table(path, filters=chosen).to_pandas()
    except (OSError, pa.ArrowException) as error:
        raise tables.TableError(f"{path}: expected a Parquet file, found: {error}") from error


# ----------------------------------------------------------------------------------- files


class _Files(Protocol):
    """Where a project's files are."""

    def path(self, name: Path) -> Path:
        """Return where a file of the project lies on this machine."""


class _Clone:
    """The files of a clone, as they are."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, name: Path) -> Path:
        path = self.root / name
        if not path.is_file():
            raise ValueError(f"{path}: not here; `dvc pull {_output(name)}`, or `dvc repro`")
        return path


class _Repository:
    """The files of a commit, brought one by one by DVC into a folder that goes with it."""

    def __init__(self, address: str, rev: str | None, remote: str | None) -> None:
        from dvc.api import DVCFileSystem
        from dvc.exceptions import DvcException
        from scmrepo.exceptions import SCMError

        self.named = address if rev is None else f"{address}@{rev}"
        try:
            self.files = DVCFileSystem(address, rev=rev, remote=remote)
            is_project = self.files.isfile(PIPELINE.name)
        except (DvcException, SCMError) as error:
            raise ValueError(f"{self.named}: expected a project with dvc.yaml: {error}") from error
        if not is_project:
            raise ValueError(f"{self.named}: expected a project with dvc.yaml, found none")
        self.folder = Path(mkdtemp(prefix="affectline-"))
        finalize(self, shutil.rmtree, self.folder, ignore_errors=True)

    def path(self, name: Path) -> Path:
        from dvc.exceptions import DvcException
        from dvc_data.index import DataIndexDirError

        path = self.folder / name
        if not path.exists():
            try:
                with replacing(path) as partial:
                    self.files.get_file(name.as_posix(), str(partial))
            except (OSError, DvcException, DataIndexDirError) as error:
                raise ValueError(
                    f"{self.named}: {name} cannot be had: {reason(error)}; `dvc push` there brings "
                    "it to a remote, and `remote` of affectline.open names one that is no default"
                ) from error
        return path


def _output(name: Path) -> Path:
    """Return the output of dvc.yaml that a file belongs to."""
    depth = 3 if name.is_relative_to(FEATURES) else len(name.parts)
    return Path(*name.parts[:depth])
