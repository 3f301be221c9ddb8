"""params.yaml: its schema, read and checked whole before any stage works.

Every stage uses its own section only, yet checks the whole file, so that a typing error in the
last section ends the first stage and not the last.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, UnionType
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from features.options import axes_of, dtypes_of, near, options_of, views_of
from features.video.views import View
from stages.engine.paths import PARAMS
from stages.engine.search import Search
from stages.engine.section import A_NAME, Count, Name, Section, Seed, Share
from stages.engine.splits import Splits

LARGEST_VALUES = 100_000
"""Most values in the file, its aliases written out: nine lines of them can mean a milliard."""


LONGEST_VALUE = 80
"""Characters of a wrong value that a message shows."""


class ParamsError(ValueError):
    """params.yaml asks for something that cannot be; the message says where and what may be."""


class Ray(Section):
    """The Ray cluster that works where ``engine.executor`` is ``ray``.

    Attributes:
        address: of a running one, ``auto`` finds it on this machine; null starts one here.
        actors: processes that work; 0 takes as many as the nodes have room for.
        cpus: of each.
        gpus: of each; a share of one lets several use it.
    """

    address: str | None = None
    actors: Annotated[int, Field(ge=0)] = 0
    cpus: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    gpus: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0


class Slurm(Section):
    """The jobs that work where ``engine.executor`` is ``slurm``.

    Attributes:
        cluster: ``slurm``; ``local``: processes of this machine in place of jobs; ``auto``: local
            where there is no Slurm.
        jobs: how many work at once, the width of the array.
        partition: of Slurm; null is its default.
        cpus: of each job.
        gpus: of each job; it runs one network, so more GPUs are more jobs.
        memory_gib: of each job; null is Slurm's default.
        time_min: a job's limit in minutes; what it was at is done by the next.
        options: others of sbatch, ``{account: lab, qos: long}``.
    """

    cluster: Literal["auto", "slurm", "local"] = "auto"
    jobs: Count = 4
    partition: str | None = None
    cpus: Count = 1
    gpus: Annotated[int, Field(ge=0, le=1)] = 0
    memory_gib: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    time_min: Count = 240
    options: dict[str, str | int] = {}


class Engine(Section):
    """How this machine runs the stages: in no key, and DVC does not watch it.

    Device and threads do move numbers: threads by what float16 rounds, at most 0.4 % of those that
    are stored (docs/reproducibility.md). Machines that differ in them share what they make.

    Attributes:
        workers: processes for index, decode, faces and, on a CPU, runs of train; 0 takes one a
            core, in train one a run's ``threads``.
        time_limit_s: a video that takes longer in one stage is given up.
        device: where networks run; ``auto`` takes a GPU where there is one.
        devices: of the GPUs, ``all``, or their numbers: each has a process of its own.
        executor: what items are worked on by: ``local``, processes of this machine, or ``ray``, or
            ``slurm``.
        ray: that cluster.
        slurm: those jobs.
        runtime: what computes float32 networks on a CPU: ``torch``, ``openvino``, or ``auto``, the
            faster for each network by a trial that is remembered; on a GPU ``auto`` launches a
            network as a CUDA graph where that is faster and the same to the bit.
        cache_gib: of features that training keeps in memory, GiB, for all its processes together;
            the rest is read again in each epoch. Null takes half of the memory that is free.
    """

    workers: Annotated[int, Field(ge=0)] = 0
    time_limit_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 600.0
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: Literal["all"] | Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] = (
        "all"
    )
    executor: Literal["local", "ray", "slurm"] = "local"
    ray: Ray = Ray()
    slurm: Slurm = Slurm()
    runtime: Literal["auto", "torch", "openvino"] = "auto"
    cache_gib: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None

    @property
    def here(self) -> "Engine":
        """This machine's workers alone, whatever else is asked for."""
        return self.model_copy(update={"executor": "local"})

    @property
    def gpus_elsewhere(self) -> float | None:
        """How many GPUs each worker has where the executor starts them; None: they work here."""
        return {"local": None, "ray": self.ray.gpus, "slurm": self.slurm.gpus}[self.executor]


class Target(Section):
    """What is to be told of a video, docs/labels.md.

    Attributes:
        kind: ``class`` is one of several classes, ``labels`` any number of ``names``,
            ``dimensions`` numbers in ``range``.
        columns: of the CSV; a class or labels have one, dimensions one each.
        names: of the labels.
        range: lowest and highest value of the dimensions.
    """

    kind: Literal["class", "labels", "dimensions"]
    columns: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]
    names: list[Annotated[str, Field(min_length=1)]] = []
    range: (
        Annotated[
            list[Annotated[float, Field(allow_inf_nan=False)]], Field(min_length=2, max_length=2)
        ]
        | None
    ) = None

    @model_validator(mode="after")
    def _fits(self) -> "Target":
        if self.kind != "dimensions" and len(self.columns) != 1:
            raise ValueError(f"columns: expected one of kind {self.kind}, found {self.columns}")
        taken = [
            name for name in self.columns if name in ("path", "video_id") or name[:5] == "split"
        ]
        if taken or (self.kind != "class" and "label" in self.columns):
            raise ValueError(
                f"columns: expected some of the {self.kind}' own, found {self.columns}: path, "
                "video_id and split say something else, and label is one of several classes"
            )
        if (self.kind == "labels") != bool(self.names):
            raise ValueError("names: expected those of the labels, and of labels alone")
        if (self.kind == "dimensions") != (self.range is not None):
            raise ValueError("range: expected [lowest, highest] of dimensions, and of them alone")
        if self.range and self.range[0] >= self.range[1]:
            raise ValueError(f"range: expected [lowest, highest], found {self.range}")
        odd = [name for name in self.names if "|" in name or name.strip() != name]
        if odd or len(set(self.names)) < len(self.names):
            raise ValueError(
                f"names: expected each once, without | and without space around, found {self.names}"
            )
        return self


class Sample(Section):
    """The built-in sample: seed, clips a class, seconds a clip."""

    seed: Seed
    clips_per_class: Count
    seconds: Annotated[float, Field(ge=1, le=60)]


class Index(Section):
    """Where the videos are, and what they are called.

    Attributes:
        root: a folder ``<label>/<name>.<ext>``, or a CSV ``path,label[,split]``; of features alone
            ``video_id,label[,split]``.
        dataset: name of the data set, as the report shows it.
        splits: which videos train and which test.
        targets: name -> what is told of a video, of columns of the CSV; the first is what
            experiments tell that name none. None at all is the class that ``label`` says.
    """

    root: Annotated[str, Field(min_length=1)]
    dataset: str | None = None
    splits: Splits
    targets: dict[Name, Target] = {}

    @model_validator(mode="after")
    def _has_each_column_once(self) -> "Index":
        columns = [column for target in self.targets.values() for column in target.columns]
        if twice := [column for column in columns if columns.count(column) > 1]:
            raise ValueError(f"targets: expected each column in one, found {twice[0]!r} in several")
        if self.splits.map and self.targets and next(iter(self.targets.values())).kind != "class":
            raise ValueError("splits.map: expected none, as the first of the targets is no class")
        return self


class ViewParams(Section):
    """A view, see :class:`features.video.views.View`."""

    sampling: Literal["segments", "uniform", "snippets"]
    count: Annotated[int, Field(ge=1, le=10_000)]
    max_short_side: Annotated[int, Field(ge=32, le=8192)]
    length: Annotated[int, Field(ge=1, le=1024)] = 1

    def view(self) -> View:
        """Return the library's form."""
        return View(self.sampling, self.count, self.max_short_side, self.length)

    @model_validator(mode="after")
    def _fits(self) -> "ViewParams":
        self.view()  # checks what the fields together may be
        return self


class DecodeViews(Section):
    """The views that hold frames; ``sound`` and ``faces`` have nothing to choose here."""

    segments: ViewParams
    uniform: ViewParams
    snippets: ViewParams


class Decode(Section):
    """Decoding: seed of the random instants, and the views."""

    seed: Seed
    views: DecodeViews


class Model(Section):
    """A network and where its weights come from.

    Attributes:
        module: the file in features/backbones/ (or features/, for a detector).
        source: ``seeded``: a random network made from ``seed``; ``pretrained``: real weights;
            ``imported``: arrays from elsewhere, of the module of that name alone.
        seed: seed of a seeded network.
        file: path of a weights file that you have, instead of a download.
        trust_pickle: open the weights even if that can run code of theirs; think twice.
        options: the module's own options.
    """

    module: Name
    source: Literal["seeded", "pretrained", "imported"]
    seed: Seed = 0
    file: str | None = None
    trust_pickle: bool = False
    options: dict[str, Any] = {}

    @model_validator(mode="after")
    def _is_imported_or_not(self) -> "Model":
        if (self.source == "imported") != (self.module == "imported"):
            raise ValueError(
                f"found source {self.source} and module {self.module}, expected both to be "
                "imported, or neither; `affectline import` writes such a block"
            )
        if self.source == "imported" and self.file is None:
            raise ValueError("file: missing; `affectline import` writes it")
        return self


class Backbone(Model):
    """A backbone: a network and how it is used.

    Attributes:
        view: the view that it reads, ``none`` of imported arrays; it stands here so that DVC knows
            it too.
        precision: of products and convolutions; ``bfloat16`` is faster where the machine has it,
            ``tf32`` on GPUs alone, which have it.
        dtypes: feature -> the dtype that it is stored in, where it is to be another than usual.
    """

    view: Literal["segments", "uniform", "snippets", "sound", "faces", "none"]
    precision: Literal["float32", "bfloat16", "tf32"] = "float32"
    dtypes: dict[str, Literal["float16", "float32"]] = {}

    def choices(self, where: str, module: ModuleType) -> tuple[Any, dict[str, str]]:
        """Return the network's Options and the dtype of each of its features, as chosen here.

        Args:
            where: this block in params.yaml, ``backbones.vgg16``.
            module: the one that it names.

        Raises:
            ParamsError: a choice that the module does not offer.
        """
        if self.view not in views_of(module):
            known = " or ".join(views_of(module))
            raise ParamsError(f"{where}.view: found {self.view!r}, {self.module} reads {known}")
        try:
            options = options_of(module, self.options)
            axes_of(module, options)
            return options, dtypes_of(module, options, self.dtypes)
        except ValueError as error:
            raise ParamsError(f"{where}: {error}") from None


class Faces(Section):
    """Faces: which detector, what counts as one, and how it is cut out.

    Attributes:
        detector: the detector's network.
        min_score: detections below this score are dropped.
        min_overlap: least intersection over union that joins two detections into a track.
        max_gap: rows that a track may miss before it ends.
        cut: tracks end where two neighbouring rows differ in colour by more than this, see
            :func:`features.faces.shots`; None: cuts are not looked for.
        align: ``crop`` cuts the square around the box; ``similarity`` turns the face upright, its
            middle where the landmarks have it.
        margin: added on each side of the square, as a share of the face box's longer side.
    """

    detector: Model
    min_score: Share
    min_overlap: Share
    max_gap: Annotated[int, Field(ge=0)]
    cut: Share | None
    align: Literal["crop", "similarity"]
    margin: Annotated[float, Field(ge=0, le=2)]


class Experiment(Section):
    """An experiment: a head, its features by role, its settings, what differs in training.

    Attributes:
        head: its name.
        roles: role -> feature.
        weights: role -> backbone, where the head trains a network itself: it starts from this
            backbone's weights.
        target: what is told, one of ``index.targets``; null for the first.
        overrides: of the head's hyper-parameters.
        train: of the training.
        search: which settings are searched, each run for itself.
    """

    head: Name
    roles: Annotated[dict[Name, str], Field(min_length=1)]
    weights: dict[Name, Name] = {}
    target: Name | None = None
    overrides: dict[str, Any] = Field(default={}, alias="with")
    train: dict[str, Any] = {}
    search: Search | None = None


class Report(Section):
    """The page.

    Attributes:
        title: of the page.
        videos: ids of videos that are shown besides those that the page chooses.
        faces: ``show`` them, ``blur`` them, or ``leave out`` every picture with people, for a page
            that leaves the house.
        max_mb: most of the page in MB (10^6 bytes); past it fewer pictures are shown.
    """

    title: str
    videos: list[Annotated[str, Field(min_length=1)]] = []
    faces: Literal["show", "blur", "leave out"] = "show"
    max_mb: Annotated[float, Field(ge=1, le=1000)] = 10.0


class Params(Section):
    """The whole of params.yaml."""

    max_failed: Share
    engine: Engine
    sample: Sample
    index: Index
    decode: Decode
    faces: Faces
    backbones: Annotated[dict[Name, Backbone], Field(min_length=1)]
    train: dict[str, Any]
    experiments: Annotated[dict[Name, Experiment], Field(min_length=1)]
    report: Report

    @property
    def reads_faces(self) -> bool:
        """Whether a backbone reads the view ``faces``."""
        return any(block.view == "faces" for block in self.backbones.values())

    @model_validator(mode="after")
    def _names_are_known(self) -> "Params":
        for name, experiment in self.experiments.items():
            if experiment.target not in {None, *self.index.targets}:
                raise ValueError(
                    f"experiments.{name}.target: found {experiment.target!r}, expected one of "
                    f"index.targets, {sorted(self.index.targets)}"
                )
            for role, source in experiment.roles.items():
                where = f"experiments.{name}.roles.{role}"
                if not re.fullmatch(r"[a-z][a-z0-9_]*/[a-z][a-z0-9_]*", source):
                    raise ValueError(
                        f"{where}: found {source!r}, expected <backbone>/<feature>, "
                        "e.g. vggface/fc6"
                    )
                self._check_backbone(where, source.split("/")[0])
            for role, backbone in experiment.weights.items():
                where = f"experiments.{name}.weights.{role}"
                if role not in experiment.roles:
                    raise ValueError(
                        f"{where}: found the role {role!r}, expected one of the experiment's "
                        f"roles {sorted(experiment.roles)}"
                    )
                self._check_backbone(where, backbone)
        return self

    def _check_backbone(self, where: str, backbone: str) -> None:
        if backbone not in self.backbones:
            raise ValueError(
                f"{where}: found the backbone {backbone!r}, "
                f"expected one of {sorted(self.backbones)}"
            )


class _Loader(yaml.SafeLoader):
    """YAML 1.1, and numbers such as 1e-5, which YAML 1.2 has, and so DVC."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+\Z"),
    list("-+.0123456789"),
)


def load_params(path: Path = PARAMS) -> Params:
    """Read and check params.yaml.

    Raises:
        ParamsError: with one line for each thing that is wrong.
    """
    raw = read_yaml(path)
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        lines = [_line(item, raw) for item in error.errors()]
        raise ParamsError("\n".join(f"{path}: {line}" for line in lines)) from None


def read_yaml(path: Path) -> dict[Any, Any]:
    """Read a file of YAML that has keys and values, each key once.

    Raises:
        ParamsError: no such file, no YAML, a key that stands twice, too many values.
    """
    try:
        loader = _Loader(path.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        repeated = [] if node is None else list(_repeated(loader, node))
        raw = None if node is None or repeated else loader.construct_document(node)
        values = _count(raw, {})
    except FileNotFoundError:
        raise ParamsError(f"{path}: no such file here; run from the project's root") from None
    except OSError as error:
        raise ParamsError(f"{path}: cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a number, or nesting, too long
        text = " ".join(str(error).split())
        raise ParamsError(f"{path}: expected YAML, found: {text}") from error
    if repeated:
        raise ParamsError("\n".join(f"{path}: {line}" for line in repeated))
    if values > LARGEST_VALUES:
        raise ParamsError(f"{path}: expected at most {LARGEST_VALUES:,} values, found {values:,}")
    if not isinstance(raw, dict):
        raise ParamsError(f"{path}: expected keys and values, found {type(raw).__name__}")
    return raw


def _repeated(loader: yaml.SafeLoader, top: yaml.Node) -> Iterator[str]:
    """Yield a line for each key that stands twice in its place: YAML would keep the last alone."""
    waiting, visited = [("", top)], {id(top)}
    while waiting:
        above, node = waiting.pop()
        parts = node.value if isinstance(node, yaml.CollectionNode) else ()
        lines: dict[object, int] = {}
        for number, part in enumerate(parts):
            where, inner = f"{above}{number}.", part
            if isinstance(node, yaml.MappingNode):
                key, inner = part
                if not isinstance(key, yaml.ScalarNode):
                    continue  # refused when it is read
                where, line = f"{above}{key.value}.", key.start_mark.line + 1
                is_merge = key.tag == "tag:yaml.org,2002:merge"  # `<<`, which is no value
                name = key.value if is_merge else loader.construct_object(key)
                if name in lines:
                    yield (
                        f"{where[:-1]}: found twice, in line {lines[name]} and in line {line}, of "
                        "which one alone would count; rename or remove one"
                    )
                lines[name] = line
            if id(inner) not in visited:  # an alias is the node that it means
                visited.add(id(inner))
                waiting.append((where, inner))


def _count(value: object, known: dict[int, int]) -> int:
    """Return how many values ``value`` has with aliases written out; each is visited once."""
    if id(value) not in known:
        parts = list(value.values()) if isinstance(value, dict) else value
        inner = parts if isinstance(parts, list) else []
        known[id(value)] = 1 + sum(_count(part, known) for part in inner)
    return known[id(value)]


def _line(item: Any, raw: object) -> str:
    where = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        return f"{where}: unknown key{_known_keys(item['loc'])}"
    if item["type"] == "missing":
        return f"{where}: missing; {item['msg'].lower()}"
    if item["type"] == "string_pattern_mismatch":
        place = where.removesuffix(".[key]")
        return f"{place}: found {item['input']!r}, expected {A_NAME}"
    if item["type"] == "value_error":
        text = str(item["ctx"]["error"])
        return f"{where}: {text}" if where else text
    value = repr(item["input"])
    shown = value if len(value) <= LONGEST_VALUE else f"{value[:LONGEST_VALUE]} …"
    return f"{where}: found {shown}; {item['msg'].replace('Input', 'it', 1)}"


def _known_keys(location: tuple[Any, ...]) -> str:
    """Say which keys are allowed where the unknown one stands, the likeliest first."""
    model: Any = Params
    for part in location[:-1]:
        if isinstance(model, UnionType):  # a section, or null
            model = next((each for each in model.__args__ if _is_section(each)), None)
        if isinstance(model, type) and issubclass(model, BaseModel):
            by_name = {f.alias or n: f.annotation for n, f in model.model_fields.items()}
            model = by_name.get(part)
        else:  # dict[Name, Section]
            model = next((a for a in getattr(model, "__args__", ()) if _is_section(a)), None)
    if isinstance(model, UnionType):
        model = next((each for each in model.__args__ if _is_section(each)), None)
    if not _is_section(model):
        return "; it is not allowed here"
    known = [f.alias or n for n, f in model.model_fields.items()]
    return f"{near(location[-1], known)}; allowed: {', '.join(known)}"


def _is_section(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, BaseModel)
