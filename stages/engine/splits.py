"""``index.splits`` of params.yaml: by which protocol videos train and test."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from stages.engine.section import Section, Seed

Kind = Literal["holdout", "kfold", "leave_one_group_out", "predefined", "cross_corpus"]

Column = Annotated[str, Field(min_length=1)]

KEYS: Mapping[Kind, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "holdout": (("runs", "test_share", "seed"), ("groups",)),
    "kfold": (("folds", "seed"), ("groups",)),
    "leave_one_group_out": (("groups",), ()),
    "predefined": ((), ("groups",)),
    "cross_corpus": (("corpus",), ("groups", "train", "map")),
}
"""Kind -> the keys that it needs, and those that it may have."""


class Splits(Section):
    """How the runs divide the videos; docs/protocols.md has an example of each kind.

    Attributes:
        kind: ``holdout`` draws a share of each class that tests, in each of several runs; ``kfold``
            has each video tested once; ``leave_one_group_out`` has a run a group; ``predefined``
            takes the columns ``split``, or ``split_00`` and so on, of the CSV; ``cross_corpus``
            tests on another corpus than it trains on. Without it: as the CSV has them, else
            ``holdout``.
        runs: of ``holdout``.
        test_share: of ``holdout``, the share that tests.
        folds: of ``kfold``.
        seed: of what is drawn.
        groups: column of the CSV (speaker, film, session) of which no value may train and test in
            the same run; validation videos are held out by it too.
        corpus: column of the CSV that names the corpus of a video.
        train: of ``cross_corpus``: a corpus is tested by what ``others`` have trained, all of them
            together, or by what ``each`` of them has.
        map: corpus -> its name of a class -> that of all corpora, null to leave it out; other
            classes keep their names.
    """

    kind: Kind | None = None
    runs: Annotated[int, Field(ge=1, le=1000)] = 1
    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.3
    folds: Annotated[int, Field(ge=2, le=1000)] = 2
    seed: Seed = 0
    groups: Column | None = None
    corpus: Column | None = None
    train: Literal["others", "each"] = "others"
    map: dict[str, dict[str, str | None]] = {}

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that the CSV must have beside path and label."""
        return tuple(name for name in (self.groups, self.corpus) if name is not None)

    @model_validator(mode="after")
    def _has_the_keys_of_its_kind(self) -> "Splits":
        needed, allowed = KEYS[self.kind or "holdout"]
        given = self.model_fields_set - {"kind"}
        wrong = [f"{name}: missing" for name in needed if name not in given]
        wrong += [f"{name}: not of this kind" for name in sorted(given - {*needed, *allowed})]
        if wrong:
            takes = ", ".join([*needed, *(f"[{name}]" for name in allowed)])
            raise ValueError(
                f"{'; '.join(wrong)}; {self.kind or 'without a kind it'} takes {takes}"
            )
        if self.groups is not None and self.groups == self.corpus:
            raise ValueError(
                f"groups: found {self.groups!r}, which is the corpus; name the column of speakers, "
                "films or sessions, or none"
            )
        return self
