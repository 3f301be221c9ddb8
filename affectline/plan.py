"""What `dvc repro` would make of each video, known without running it: the keys, stage by stage.

The keys come from params.yaml, the code and the weights as they are now; what lies in the outputs
is compared with them. Nothing is computed, and no array is read. A key holds the content of the
item before it: where that has yet to be made, the key is not known yet.
"""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from features import backbones, detectors
from features.cache import tables
from features.cache.arrays import ArrayFileError, content_sha256, read_attributes
from features.cache.keys import canonical, item_key
from features.cache.store import ItemStore, store_root
from features.options import dtypes_of, options_of
from features.weights.file import remembered_sha256, tensors_sha256, write_seeded
from features.weights.imported import Imported
from stages.decode import wanted_views
from stages.engine import imported
from stages.engine.ingredients import Ingredients, of_faces, of_features, of_headers, of_view
from stages.engine.items import item_path
from stages.engine.params import Model, Params
from stages.engine.paths import FEATURES, INDEX, VIEWS, index_of, weights_file

State = Literal["current", "stale", "missing", "damaged", "failed", "unknown"]


@dataclass(frozen=True)
class Link:
    """One item of a video's chain, as it would be made now.

    Attributes:
        video_id: of the video.
        stage: as in dvc.yaml, ``extract@vgg16``.
        output: folder of the stage's files; its index is ``<output>.parquet``.
        file: where the item lies or would lie.
        ingredients: what it would be made of.
    """

    video_id: str
    stage: str
    output: Path
    file: Path
    ingredients: Ingredients

    @cached_property
    def key(self) -> str:
        """The item's key."""
        return item_key(self.ingredients)


@dataclass(frozen=True)
class Plan:
    """Everything but the videos that keys are made of, read once."""

    params: Params
    weights: dict[str, str | None] = field(default_factory=dict)
    options: dict[str, Ingredients] = field(default_factory=dict)
    dtypes: dict[str, dict[str, str]] = field(default_factory=dict)
    rows_by_output: dict[Path, dict[str, tables.Row]] = field(default_factory=dict)
    contents: dict[str, dict[str, str]] = field(default_factory=dict)

    def rows(self, output: Path) -> dict[str, tables.Row]:
        """Return video id -> row of an output's index, empty where there is none."""
        if output not in self.rows_by_output:
            index = index_of(output)
            rows = tables.read(index) if index.is_file() else []
            self.rows_by_output[output] = {str(row["video_id"]): row for row in rows}
        return self.rows_by_output[output]

    def content(self, link: Link) -> str | None:
        """Return what an item of arrays holds, None where it has yet to be made or is damaged."""
        row = self.rows(link.output).get(link.video_id)
        if row is not None and row.get("key") == link.key and row.get("content"):
            return str(row["content"])
        file = ItemStore(store_root()).path(link.key, link.file.suffix)
        try:
            return content_sha256(file) if file.is_file() else None
        except ArrayFileError:
            return None

    def weights_sha256(self, name: str, block: Model) -> str | None:
        """Return the hash of a network's weights as `dvc repro` would leave it.

        A seeded one is known from its seed. A pretrained one is taken as it is on disk; None where
        there is none.
        """
        if name not in self.weights:
            path = weights_file(name)
            if block.source == "seeded":
                with tempfile.TemporaryDirectory() as folder:
                    made = Path(folder, path.name)
                    write_seeded(made, name, block.seed)
                    self.weights[name] = tensors_sha256(made)
            else:
                there = path.is_file()
                self.weights[name] = remembered_sha256(path, store_root()) if there else None
        return self.weights[name]

    @cached_property
    def views(self) -> dict[str, Any]:
        """Return the views that the enabled backbones read."""
        return wanted_views(self.params)

    def chain(self, video_id: str, sha256: str, backbone: str) -> list[Link]:
        """Return the items that lead to a video's features, the video's headers first.

        The chain ends before a link whose key is not known: its weights are not here, or what it
        is made of has yet to be made.
        """
        block = self.params.backbones[backbone]
        links = [self.headers(video_id, sha256)]
        if block.source == "imported":
            link = self.imported(video_id, backbone)
            return links if link is None else [*links, link]
        name = "segments" if block.view == "faces" else block.view
        links.append(self.view(video_id, sha256, name))
        if block.view == "faces":
            faces = self.faces(links[-1])
            if faces is None:
                return links
            links.append(faces)
        features = self.features(links[-1], backbone)
        return links if features is None else [*links, features]

    def headers(self, video_id: str, sha256: str) -> Link:
        """Return the video's item of index."""
        file = INDEX / item_path(video_id, ".json")
        return Link(video_id, "index", INDEX, file, of_headers(sha256))

    def view(self, video_id: str, sha256: str, name: str) -> Link:
        """Return the video's item of decode for one view."""
        made_of = of_view(sha256, name, self.views[name], self.params.decode.seed)
        folder = VIEWS / name
        return Link(video_id, "decode", folder, folder / item_path(video_id), made_of)

    def faces(self, view: Link) -> Link | None:
        """Return the item of faces made of a view, None where its key is not known."""
        faces = self.params.faces
        weights = self.weights_sha256("detector", faces.detector)
        content = self.content(view)
        if weights is None or content is None:
            return None
        if "detector" not in self.options:
            block = faces.detector
            options = detectors.complete_options(block.module, block.options, faces.min_score)
            self.options["detector"] = asdict(options)
        made_of = of_faces(faces, self.options["detector"], weights, content)
        folder = VIEWS / "faces"
        return Link(view.video_id, "faces", folder, folder / item_path(view.video_id), made_of)

    def features(self, view: Link, backbone: str) -> Link | None:
        """Return the features made of a view, None where their key is not known."""
        block = self.params.backbones[backbone]
        weights = self.weights_sha256(backbone, block)
        content = self.content(view)
        if weights is None or content is None:
            return None
        if backbone not in self.options:
            module = backbones.load(block.module)
            options = options_of(module, block.options)
            self.options[backbone] = asdict(options)
            self.dtypes[backbone] = dtypes_of(module, options, block.dtypes)
        made_of = of_features(
            block, self.options[backbone], self.dtypes[backbone], weights, content
        )
        folder = FEATURES / backbone
        path = folder / item_path(view.video_id)
        return Link(view.video_id, f"extract@{backbone}", folder, path, made_of)

    def imported(self, video_id: str, backbone: str) -> Link | None:
        """Return a video's imported features, None where nothing of it is here to be taken."""
        file = weights_file(backbone)
        if backbone not in self.contents:
            self.contents[backbone] = Imported(file).videos if file.is_file() else {}
        content = self.contents[backbone].get(video_id)
        if content is None:
            return None
        made_of = imported.ingredients(self.params, backbone, content)
        folder = FEATURES / backbone
        return Link(video_id, f"extract@{backbone}", folder, folder / item_path(video_id), made_of)


@dataclass(frozen=True)
class Recorded:
    """What lies in the outputs for a link.

    Attributes:
        state: of the file beside what would be made now; ``failed``: a row with a reason.
        key: of what lies there.
        ingredients: what that was made of, where the file says so.
        reason: of a failure, or what is wrong with the file.
        in_store: the item as it would be made lies in the store: linking it costs nothing.
        attributes: of the file.
    """

    state: State
    key: str | None = None
    ingredients: Mapping[str, Any] = field(default_factory=dict)
    reason: str | None = None
    in_store: bool = False
    attributes: Mapping[str, Any] = field(default_factory=dict)


def recorded(link: Link, row: tables.Row | None) -> Recorded:
    """Return what lies in the outputs for a link.

    Args:
        link: the item as it would be made now.
        row: the video's row in the index of that output, None where it has none.
    """
    store = ItemStore(store_root())
    suffix = link.file.suffix
    in_store = store.has(link.key, suffix)
    if row is not None and row.get("status") == "failed":
        return Recorded("failed", reason=str(row["reason"]), in_store=in_store)
    if suffix == ".json":  # headers say nothing of themselves: their row has the key
        key = None if row is None or not link.file.is_file() else str(row["key"])
        state: State = "missing" if key is None else "current" if key == link.key else "stale"
        return Recorded(state, key, in_store=in_store)
    if not link.file.is_file():
        return Recorded("missing", in_store=in_store)
    try:
        attributes = read_attributes(link.file)
    except ArrayFileError as error:
        return Recorded("damaged", reason=str(error), in_store=in_store)
    key = str(attributes["key"])
    made_of = attributes["ingredients"]
    assert isinstance(made_of, dict)
    state = "current" if key == link.key else "stale"
    return Recorded(state, key, made_of, None, in_store, attributes)


def changes(was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield (ingredient, what it was, what it is now) where they differ, `code.features.video`."""
    for name in sorted({*was, *now}):
        before, after = was.get(name), now.get(name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from ((f"{name}.{part}", b, a) for part, b, a in changes(before, after))
        elif canonical(before) != canonical(after):  # JSON, as keys are: it knows no tuples
            yield name, before, after
