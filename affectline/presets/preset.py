"""The protocols of the papers: a data set's folder and split file become a CSV and params.yaml.

This is the command `affectline preset`, no stage.
"""

import difflib
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml
from ruamel.yaml.comments import CommentedMap

from affectline.params_text import flow, parse, unparse
from affectline.presets import stills
from affectline.presets.experiments import (
    Bindings,
    Planned,
    Preset,
    PresetError,
    choose,
    load_bindings,
    load_preset,
    of_imported,
    plan_experiments,
    reported,
)
from affectline.presets.folder import (
    GROUP,
    File,
    Row,
    by_name,
    by_subset,
    draw,
    join,
    read_folder,
    write_remarks,
    write_rows,
)
from affectline.presets.split_files import PARTS, Remark, read_lists, spellings
from features import backbones
from features.cache.store import replacing
from features.video.listing import EXTENSIONS, list_videos
from stages.engine.params import Backbone, Params, load_params
from stages.engine.paths import PARAMS

DATA = Path("data")

_SEED = 0
"""Of the split that is drawn where a data set has an official one and no file gives it."""


# ------------------------------------------------------------------------------ params.yaml


def fill(
    text: str,
    index: Mapping[str, object],
    experiments: Sequence[Planned],
    bindings: Bindings,
    source: str,
    keep: bool,
    alone: bool = False,
) -> str:
    """Return params.yaml with this index section, these experiments and the backbones they read.

    The views get the papers' rows, as params.yaml comes with the sample's. Comments and everything
    else stay as they are. A backbone that stands there as a comment is uncommented, one that does
    not stand there is added.

    Args:
        text: params.yaml.
        index: keys of the section `index` to set.
        experiments: what to write under `experiments`.
        bindings: the backbones' blocks, and the views' rows.
        source: of the backbones that the experiments read: `pretrained` or `seeded`.
        keep: keep the experiments that are there.
        alone: the data set has features alone: backbones that are not imported are taken out.

    Raises:
        PresetError: a backbone of that name is there and is another.
    """
    needed = _needed(experiments)
    active = yaml.safe_load(text)["backbones"]
    for name in needed:
        if name not in active:
            text = re.sub(rf"^#(  {name}: \{{.*\}})[ \t]*$", r"\1", text, count=1, flags=re.M)
    tree = parse(text)
    _set_index(tree["index"], index)
    for name, view in bindings.views.model_dump(exclude_unset=True).items():
        tree["decode"]["views"][name].update(view)
    for name in [n for n, block in active.items() if alone and block["source"] != "imported"]:
        del tree["backbones"][name]
    for name in needed:
        _set_backbone(tree["backbones"], name, bindings.backbones[name], source)
    blocks = CommentedMap(tree["experiments"] if keep else {})
    for planned in experiments:
        blocks[planned.name] = _block(planned)
    tree["experiments"] = blocks
    return unparse(tree)


def _needed(experiments: Iterable[Planned]) -> list[str]:
    sources = (feature for planned in experiments for feature in planned.roles.values())
    return list(dict.fromkeys(source.partition("/")[0] for source in sources))


def _set_index(section: CommentedMap, index: Mapping[str, object]) -> None:
    for key, value in index.items():
        if isinstance(value, Mapping) and isinstance(section.get(key), CommentedMap):
            for name in [name for name in section[key] if name not in value]:
                del section[key][name]
            section[key].update(value)
        elif key in section:
            section[key] = value
        elif value is not None:
            section.insert(1, key, value)


def _set_backbone(blocks: CommentedMap, name: str, wanted: Backbone, source: str) -> None:
    if wanted.source == "imported":
        return  # it stands there as it was imported
    if source == "seeded" and not backbones.load(wanted.module).WEIGHTS.can_seed:
        source = "pretrained"
    if name in blocks:
        block = blocks[name]
        reads = (block.get("module"), block.get("view"))
        if reads != (wanted.module, wanted.view):
            raise PresetError(
                f"{PARAMS}: expected backbones.{name} to be {wanted.module} on the view "
                f"{wanted.view}, found {reads[0]} on {reads[1]}: give yours another name"
            )
        block["source"] = source
        return
    given = wanted.model_dump(exclude_unset=True) | {"source": source}
    order = ("module", "view", "source")
    blocks[name] = flow({**{key: given[key] for key in order}, **given})


def _block(planned: Planned) -> CommentedMap:
    """Return the block of an experiment, its inner mappings on one line each."""
    return CommentedMap(
        {k: flow(v) if isinstance(v, dict) else v for k, v in planned.block().items()}
    )


# --------------------------------------------------------------------------------- the plan


@dataclass(frozen=True)
class Plan:
    """What `affectline preset` is about to write, and to say.

    Attributes:
        preset: the data set.
        params: params.yaml before.
        text: params.yaml after.
        table: the CSV, None where `index` reads the folder or a CSV of the user's.
        rows: of the CSV; for own data none.
        remarks: what does not fit, a row each of the file beside the CSV.
        experiments: of params.yaml.
        left_out: rows of the papers' tables that cannot run, and why.
        notes: what a person should know.
    """

    preset: Preset
    params: Params
    text: str
    table: Path | None
    rows: list[Row]
    remarks: list[Remark]
    experiments: list[Planned]
    left_out: list[str]
    notes: list[str]

    @property
    def remarks_file(self) -> Path | None:
        """Return where the remarks go: beside the CSV."""
        return self.table and self.table.with_suffix(".remarks.csv")

    def counts(self) -> list[tuple[str, str, int, str]]:
        """Return class, videos as published, videos here, and how many train / test in run 1."""
        here = Counter(row.label for row in self.rows)
        classes = self.preset.classes or dict.fromkeys(sorted(here))
        parts = Counter((row.label, row.splits[0]) for row in self.rows if row.splits)
        lines = [
            (
                label,
                "?" if published is None else str(published),
                here[label],
                " / ".join(str(parts[label, part]) for part in PARTS) if parts else "drawn",
            )
            for label, published in classes.items()
        ]
        known = [count for count in classes.values() if count is not None]
        totals = [sum(n for (_, p), n in parts.items() if p == part) for part in PARTS]
        total = " / ".join(map(str, totals)) if parts else "drawn"
        return [*lines, ("all", str(sum(known)) if known else "?", len(self.rows), total)]

    def changes(self) -> Iterable[str]:
        """Return the lines of params.yaml that change, as `diff -u` shows them."""
        before = PARAMS.read_text(encoding="utf-8")
        a, b = (text.splitlines(keepends=True) for text in (before, self.text))
        return difflib.unified_diff(a, b, f"{PARAMS}", f"{PARAMS} after")

    def write(self) -> None:
        """Write the CSV, the remarks and params.yaml, which is checked first.

        Raises:
            ParamsError: params.yaml would be wrong.
        """
        with replacing(PARAMS) as partial:
            partial.write_text(self.text, encoding="utf-8")
            load_params(partial)
            if self.table is not None and self.remarks_file is not None:
                write_rows(self.table, self.rows, self._shown)
                write_remarks(self.remarks_file, self.remarks)

    def _shown(self, path: Path) -> str:
        """Return a path as it stands in the CSV, where paths count from the CSV."""
        assert self.table is not None
        return str(path) if path.is_absolute() else os.path.relpath(path, self.table.parent)


@dataclass(frozen=True)
class Choices:
    """What a person chooses beside the preset; see `affectline preset --help`."""

    splits: Path | None = None
    paper: str | None = None
    out: Path | None = None
    source: Literal["pretrained", "seeded"] = "pretrained"
    epochs: int | None = None
    keep: bool = False
    groups: str | None = None


def make_plan(name: str, root: Path, choices: Choices, dry_run: bool = False) -> Plan:
    """Read the folder and the split file and return what to write.

    Args:
        name: of the preset.
        root: folder of the data set; for own data folder or CSV.
        choices: the options.
        dry_run: write nothing at all, also no videos of still images.

    Raises:
        ValueError: what is wrong, in any of them.
    """
    preset, bindings, params = load_preset(name), load_bindings(), load_params()
    if choices.groups is not None and (preset.classes or choices.splits):
        raise PresetError("--groups: expected with videos of your own, of which the runs are drawn")
    notes = list(preset.notes)
    table: Path | None = None
    rows: list[Row] = []
    remarks: list[Remark] = []
    alone = False
    if preset.classes:
        table = choices.out or DATA / f"{name}.csv"
        rows, remarks = read_data(preset, root, choices.splits, table, notes, dry_run)
        videos = [row.splits for row in rows]
    elif choices.groups is not None:
        table = choices.out or DATA / f"{name}.csv"
        rows = by_name(root, choices.groups)
        videos = [row.splits for row in rows]
        notes.append(f"{len({row.group for row in rows})} groups, by their names")
    elif choices.splits or choices.out:
        raise PresetError(
            f"{name}: expected no split file and no CSV to write: put the splits into a CSV "
            "path,label,split and name it with --root"
        )
    else:
        listed = list_videos(root)[0]
        videos = [video.splits for video in listed]
        alone = all(video.location is None for video in listed)
    index: dict[str, object] = {"root": str(table or root), "dataset": preset.title}
    drawn = preset.splits is not None and not any(part for splits in videos for part in splits)
    chosen_before = params.index.splits.kind is not None or params.index.splits.groups is not None
    stays = chosen_before and table is None and Path(params.index.root) == root
    if stays:
        notes.append("index.splits stays as it is")
    elif chosen_before and not drawn:
        index["splits"] = {"kind": "predefined"}
    if preset.splits is not None and drawn:
        grouped = {} if choices.groups is None else {"groups": GROUP}
        if not stays:
            index["splits"] = preset.splits.model_dump(exclude_unset=True) | grouped
        trained = round(len(videos) * (1 - preset.splits.test_share))
    else:
        trained = sum(bool(splits) and splits[0] == "train" for splits in videos)
    known = reported(choices.paper)
    if alone:
        bindings = of_imported(bindings, params)
        known = [(head, row) for head, row in known if {*row.roles} <= {*bindings.rules[0].roles}]
    chosen = choose(preset, known)
    experiments, left_out = plan_experiments(
        preset, chosen, bindings, params, max(trained, 1), choices.epochs
    )
    if not experiments:
        raise PresetError(
            f"{name}: no row of a table can be run"
            + (f" with the paper {choices.paper}" if choices.paper else "")
            + (f": {'; '.join(left_out)}" if left_out else "")
        )
    text = PARAMS.read_text(encoding="utf-8")
    filled = fill(text, index, experiments, bindings, choices.source, choices.keep, alone)
    notes += _notes(preset, params, experiments, bindings, choices, alone)
    return Plan(preset, params, filled, table, rows, remarks, experiments, left_out, notes)


def read_data(
    preset: Preset,
    root: Path,
    splits: Path | None,
    table: Path,
    notes: list[str],
    dry_run: bool,
) -> tuple[list[Row], list[Remark]]:
    """Return the rows of the CSV and the remarks; says in `notes` where the split comes from.

    Raises:
        ProtocolError: the folder or the split file cannot be used.
    """
    classes = spellings(preset.classes)
    subsets = frozenset(preset.subsets or ())
    extensions = stills.EXTENSIONS if preset.stills else EXTENSIONS
    files, remarks = read_folder(root, classes, subsets, extensions)
    if preset.stills and not dry_run:
        files, more = stills.wrap(files, table.with_suffix(""))
        remarks += more
    if splits is not None:
        rows, more = join(files, read_lists(splits, classes), root)
        return rows, [*remarks, *more]
    rows = _rows(preset, files, notes)
    return rows, remarks


def _rows(preset: Preset, files: Sequence[File], notes: list[str]) -> list[Row]:
    """Return the rows where no split file is given."""
    if preset.subsets is not None:
        return by_subset(files, preset.subsets)
    if preset.split is not None:
        size = preset.split.train + preset.split.test
        rows = draw(files, round(len(files) * preset.split.test / size), _SEED)
        test = sum(row.splits == ("test",) for row in rows)
        notes.append(
            f"the split is drawn per class ({len(rows) - test} train, {test} test, seed {_SEED}) "
            "and is not the official one, which --splits would name"
        )
        return rows
    notes.append("the runs are drawn per class and are not the official ones, which --splits names")
    return [Row(file.path, file.label, ()) for file in files]


def _notes(
    preset: Preset,
    params: Params,
    experiments: Sequence[Planned],
    bindings: Bindings,
    choices: Choices,
    alone: bool,
) -> list[str]:
    notes = []
    used = {role for planned in experiments for role in planned.roles}
    notes += [f"{role}: {why}" for role, why in bindings.stand_ins.items() if role in used]
    papers = sorted({row.paper for planned in experiments for row in planned.rows})
    notes += [f"{paper}: {note}" for paper in papers for note in bindings.protocol(paper).notes]
    if choices.epochs is not None:
        notes.append(f"every experiment trains {choices.epochs} epochs a phase, whatever its paper")
    if not any(row.data == preset.title for planned in experiments for row in planned.rows):
        what = "your data" if preset.title is None else f"{preset.title} that the heads know"
        notes.append(f"no table is about {what}: these are the heads' fullest experiments")
    removed = [name for name in params.experiments if name not in {p.name for p in experiments}]
    if removed and not choices.keep:
        notes.append(f"taken out of experiments: {', '.join(removed)} (--keep keeps them)")
    kept = params.experiments.values() if choices.keep else ()
    read = {*_needed(experiments)} | {s.partition("/")[0] for e in kept for s in e.roles.values()}
    idle = [name for name in params.backbones if name not in read]
    if alone:
        gone = [name for name, b in params.backbones.items() if b.source != "imported"]
        if gone:
            notes.append(f"taken out of backbones, as there are no videos: {', '.join(gone)}")
    elif idle:
        notes.append(
            f"no experiment reads {', '.join(idle)}: comment them out under backbones to save time"
        )
    return notes
