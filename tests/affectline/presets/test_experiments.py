from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import heads
from affectline.presets import experiments
from affectline.presets.experiments import (
    Bindings,
    Planned,
    Preset,
    PresetError,
    choose,
    load_bindings,
    load_preset,
    names,
    plan_experiments,
    reported,
)
from features import backbones
from features.options import features_of, options_of
from heads import Reported
from stages.engine.params import Params
from stages.results.files import is_row

PROJECT = Path(__file__).parents[3]
PARAMS = Params.model_validate(yaml.safe_load((PROJECT / "params.yaml").read_text()))

BLOCK = {"module": "vgg16", "view": "segments", "source": "pretrained"}


def preset(**changes: Any) -> Preset:
    raw: dict[str, Any] = {
        "title": "MHED",
        "classes": {"joy": 2, "fear": None},
        "split": {"train": 1, "test": 1},
    }
    return Preset.model_validate({**raw, **changes})


def bindings(*rules: dict[str, Any], **protocols: dict[str, Any]) -> Bindings:
    first = {"roles": {"face": "v/fc6", "context": "w/fc6"}, "maps": {"face": "v/pool5"}}
    raw = {"backbones": {"v": BLOCK, "w": BLOCK}, "stand_ins": {}, "rules": [first, *rules]}
    raw["views"] = load_bindings().views
    ours = {"train": {}, "notes": ()}
    papers = ("CAAN", "HAMF", "VAANet")
    told = {paper: {**ours, **protocols.get(paper, {})} for paper in papers}
    return Bindings.model_validate({**raw, "protocols": told})


def said(name: str = "ours", *roles: str, **changes: Any) -> Reported:
    row = {"paper": "CAAN", "table": "Table 2", "data": "MHED", "accuracy": 0.5, **changes}
    return Reported(name=name, roles=roles or ("face",), **row)


def plan(
    *rows: tuple[str, Reported],
    rules: tuple[dict[str, Any], ...] = (),
    of: Preset | None = None,
    epochs: int | None = None,
    **protocols: dict[str, Any],
) -> tuple[list[Planned], list[str]]:
    told = bindings(*rules, **protocols)
    return plan_experiments(of or preset(), rows, told, PARAMS, 30, epochs)


# ----------------------------------------------------------------------------------- files


def test_the_files_of_the_project_are_right() -> None:
    assert {"ve8", "ekman6", "mhed", "heiv", "sfew", "caer", "own"} == set(names())
    totals = {
        name: sum(count or 0 for count in load_preset(name).classes.values()) for name in names()
    }
    assert totals["ve8"] == 1101 and totals["ekman6"] == 1637 and totals["mhed"] == 1066
    for name in ("ekman6", "mhed"):
        split = load_preset(name).split
        assert split is not None and split.train + split.test == totals[name]


def test_every_table_of_a_head_is_of_a_data_set_that_has_a_preset() -> None:
    titles = {load_preset(name).title for name in names()}
    assert {row.data for _, row in reported()} <= titles


def test_the_bindings_name_features_that_there_are() -> None:
    found = load_bindings()
    assert set(found.stand_ins) <= set(found.rules[0].roles)
    for rule in found.rules:
        for source in (*rule.roles.values(), *rule.maps.values()):
            name, _, feature = source.partition("/")
            module = backbones.load(found.backbones[name].module)
            assert feature in features_of(module, options_of(module, found.backbones[name].options))


def test_the_blocks_are_those_that_params_yaml_has_or_has_as_comments() -> None:
    text = (PROJECT / "params.yaml").read_text()
    for name, block in load_bindings().backbones.items():
        lines = [
            line.strip("# ") for line in text.splitlines() if line.strip("# ").startswith(name)
        ]
        written = [yaml.safe_load(line)[name] for line in lines if line.startswith(f"{name}: ")]
        for other in written:
            given = block.model_dump(exclude_unset=True)
            assert {**given, "source": None} == {**other, "source": None}


def test_an_unknown_preset_or_paper_lists_the_known_ones() -> None:
    with pytest.raises(PresetError, match="unknown preset 've9': expected one of caer, ekman6"):
        load_preset("ve9")
    with pytest.raises(PresetError, match="unknown preset 'bindings'"):
        load_preset("bindings")
    with pytest.raises(PresetError, match="unknown paper 'resnet': expected one of CAAN"):
        reported("resnet")
    assert {row.paper for _, row in reported("caan")} == {"CAAN"}


@pytest.mark.parametrize(
    "changes",
    [
        {"splits": {"runs": 2, "test_share": 0.3, "seed": 0}},
        {"split": None},
        {"positive": ["joy"]},
        {"positive": ["joy"], "negative": ["fear", "anger"]},
        {"colour": "red"},
        {"split": None, "subsets": {"train": "validation"}},
    ],
)
def test_a_preset_that_is_wrong_names_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    raw = {"title": "A", "classes": {"joy": 1, "fear": 2}, "split": {"train": 1, "test": 2}}
    (tmp_path / "a.yaml").write_text(yaml.safe_dump({**raw, **changes}))
    monkeypatch.setattr(experiments, "PRESETS", tmp_path)
    with pytest.raises(PresetError, match=r"a\.yaml: "):
        load_preset("a")


# -------------------------------------------------------------------------------- choosing


def test_the_rows_about_the_data_set_are_chosen() -> None:
    here, there = said("here"), said("there", data="HEIV")
    assert choose(preset(), [("caan", here), ("caan", there)]) == [("caan", here)]


def test_without_a_row_about_it_the_fullest_of_each_head_and_paper_is_chosen() -> None:
    single, both = said("face", accuracy=0.9), said("both", "face", "context", accuracy=0.4)
    better, other = said("better", "face", "context"), said("other", paper="HAMF")
    rows = [("caan", single), ("caan", both), ("caan", better), ("pooling", other)]
    assert choose(preset(title=None), rows) == [("caan", better), ("pooling", other)]
    assert choose(preset(title=None, papers=["HAMF"]), rows) == [("pooling", other)]
    assert choose(preset(title=None, heads=["caan"]), rows) == [("caan", better)]


# -------------------------------------------------------------------------------- planning


def test_a_row_becomes_an_experiment() -> None:
    row = said("VS+VCW, 2FC", "face", "context", params={"score_layers": 2})
    (planned,), left_out = plan(("caan", row))
    assert left_out == []
    assert planned.name == "caan_t2_vs_vcw_2fc"
    assert planned.block() == {
        "head": "caan",
        "roles": {"face": "v/fc6", "context": "w/fc6"},
        "with": {"score_layers": 2},
    }
    assert planned.reported() == "CAAN, MHED, Table 2: 50.00"


def test_weights_that_a_head_starts_from_go_with_their_role() -> None:
    rule = {
        "head": "vaanet",
        "roles": {"audio": "sound/mfcc", "visual": "r/conv5"},
        "weights": {"audio": "sound"},
    }
    rows = [said("a", "audio", "visual"), said("b", "visual")]
    (both, alone), _ = plan(*(("vaanet", row) for row in rows), rules=(rule,))
    assert both.block()["weights"] == {"audio": "sound"}
    assert "weights" not in alone.block()


def test_the_sound_of_vaanet_is_trained_with_its_head_from_imagenets_weights() -> None:
    rows = reported("vaanet")
    found, _ = plan_experiments(
        load_preset("ve8"), rows, load_bindings(), PARAMS, training_videos=100
    )
    blocks = [planned.block() for planned in found if planned.head == "vaanet"]
    assert any("audio" in planned.roles for planned in found)
    for block in blocks:
        roles = block["roles"]
        assert isinstance(roles, dict)
        assert block.get("weights", {}) == ({"audio": "resnet18_mfcc"} if "audio" in roles else {})
        assert roles.get("audio", "resnet18_mfcc/mfcc") == "resnet18_mfcc/mfcc"


def test_a_row_whose_features_are_not_here_is_left_out_and_told() -> None:
    found, left_out = plan(("pooling", said("e", "face", "event")), ("pooling", said("f")))
    assert [planned.name for planned in found] == ["caan_t2_f"]
    assert left_out == ["CAAN, Table 2, e (pooling): no feature for event"]


def test_rows_that_are_the_same_network_are_one_experiment() -> None:
    rows = [said("a"), said("b", table="Table 3", params={"score_layers": None})]
    (planned,), _ = plan(*(("caan", row) for row in rows))
    assert planned.name == "caan_t2_a" and planned.rows == tuple(rows)


def test_rows_of_one_name_are_two_experiments() -> None:
    rows = [("caan", said("a")), ("pooling", said("a")), ("pooling", said("a", "context"))]
    found, _ = plan(*rows)
    assert [planned.name for planned in found] == ["caan_t2_a", "caan_t2_a_pooling"] + [
        "caan_t2_a_pooling_2"
    ]


def test_an_experiment_on_other_data_has_the_name_of_its_head() -> None:
    rows = [("caan", said("a", data="HEIV")), ("pooling", said("b", data="HEIV"))]
    assert [planned.name for planned in plan(*rows)[0]] == ["caan", "pooling_caan"]


def test_a_null_that_stands_for_the_value_of_another_row_is_the_same_network() -> None:
    alone = [said("1FC", params={"score_layers": 1}), said("own", params={"score_layers": None})]
    both = [
        said(name, "face", "context", params={"score_layers": layers})
        for name, layers in (("1FC, both", 1), ("3FC, both", 3), ("own, both", None))
    ]
    found, _ = plan(*(("caan", row) for row in (*alone, *both)))
    assert [[row.name for row in planned.rows] for planned in found] == [
        ["1FC", "own"],
        ["1FC, both"],
        ["3FC, both", "own, both"],
    ]
    locals_ = [said(str(of), params={"local_attention": of}) for of in ("L1", "L2", None)]
    found, _ = plan(*(("hamf", row) for row in locals_))
    assert [[row.name for row in planned.rows] for planned in found] == [["L1"], ["L2", "None"]]
    forms = [said(str(of), "visual", params={"rescale": of}) for of in (True, False, None)]
    visual = {"roles": {"visual": "v/pool5"}}
    found, _ = plan(*(("vaanet", row) for row in forms), rules=(visual,))
    assert [[r.name for r in planned.rows] for planned in found] == [["True", "None"], ["False"]]


def test_a_network_that_two_papers_train_differently_is_two_experiments() -> None:
    rows = [("caan", said("a")), ("caan", said("b", paper="HAMF"))]
    assert len(plan(*rows)[0]) == 1
    found, _ = plan(*rows, HAMF={"train": {"epochs": 3}})
    assert [planned.train for planned in found] == [{}, {"epochs": 3}]
    assert len(plan(*rows, HAMF={"train": {"epochs": PARAMS.train["epochs"]}})[0]) == 1


@pytest.mark.parametrize("name", names())
def test_no_network_of_a_preset_trains_twice(name: str) -> None:
    of = load_preset(name)
    found, left_out = plan_experiments(
        of, choose(of, reported()), load_bindings(), PARAMS, training_videos=600
    )
    assert left_out == []
    networks = [
        (
            planned.head,
            frozenset(planned.roles.items()),
            # What null stands for shows in the network: its parameters, by name and shape.
            repr(sorted((k, str(v)) for k, v in weights_of(planned, of).items())),
            repr(sorted(planned.overrides.items())) if planned.head in ("rdam", "vaanet") else "",
            str(planned.train),
        )
        for planned in found
    ]
    assert len(set(networks)) == len(networks)


def weights_of(planned: Planned, of: Preset) -> dict[str, object]:
    module, bound = heads.load(planned.head), load_bindings()
    shapes = {}
    for role, source in planned.roles.items():
        name, _, feature = source.partition("/")
        network = backbones.load(bound.backbones[name].module)
        options = options_of(network, bound.backbones[name].options)
        shapes[role] = features_of(network, options)[feature]
    classes = tuple(of.classes) or ("joy", "fear")
    with torch.device("meta"):
        built = module.build(heads.validate(module, planned.overrides), shapes, classes)
    return {key: value.shape for key, value in built.named_parameters()}


@pytest.mark.parametrize("name", ["ekman6", "heiv", "mhed", "sfew", "ve8"])
def test_the_report_shows_an_experiment_in_the_rows_that_it_was_planned_for(name: str) -> None:
    of = load_preset(name)
    planned, _ = plan_experiments(of, choose(of, reported()), load_bindings(), PARAMS, 600)
    for one in planned:
        module = heads.load(one.head)
        params = {**vars(module.Params()), **one.overrides}
        shown = [
            row
            for row in module.REFERENCE
            if row.data == of.title and is_row(module, row, one.roles, params)
        ]
        # The same head may stand there twice: as another paper trains it, or on other features.
        twins = [
            other
            for other in planned
            if (other.head, set(other.roles)) == (one.head, set(one.roles))
            and (other.train, other.roles) != (one.train, one.roles)
        ]
        wanted = [row for plan in (one, *twins) for row in plan.rows]
        assert sorted(shown, key=repr) == sorted(wanted, key=repr), one.name


def test_a_row_of_several_papers_is_named_in_all_of_them() -> None:
    mhed, heiv, ekman6 = (load_preset(name) for name in ("mhed", "heiv", "ekman6"))
    tables = {}
    for of in (mhed, heiv, ekman6):
        found, _ = plan_experiments(of, choose(of, reported()), load_bindings(), PARAMS, 600)
        tables |= {(of.title, planned.name): planned.reported() for planned in found}
    assert (
        tables["MHED", "hamf_t3_face_l2"]
        == "HAMF, MHED, Table 3: 57.94; HAMF, MHED, Table 7: 57.94"
    )
    assert tables["MHED", "hamf_t8_quality_aware_network"] == (
        "HAMF, MHED, Table 8: 46.03; RDAM, MHED, Table 5: 46.03"
    )
    assert (
        tables["HEIV", "caan_t2_face_1fc"]
        == "CAAN, HEIV, Table 2: 48.89; CAAN, HEIV, Table 3: 48.89"
    )
    assert tables["Ekman-6", "caan_t6_caan"] == (
        "CAAN, Ekman-6, Table 6: 56.23; HAMF, Ekman-6, Table 9: 56.23"
    )


def test_the_later_rule_wins_key_by_key() -> None:
    rules = (
        {"head": "caan", "roles": {"face": "x/fc6"}},
        {"paper": "CAAN", "here": True, "roles": {"context": "y/fc6"}},
        {"paper": "CAAN", "here": False, "roles": {"face": "z/fc6"}},
        {"paper": "HAMF", "roles": {"face": "u/fc6"}},
    )
    found, _ = plan(
        ("caan", said("a", "face", "context")),
        ("pooling", said("c")),
        ("pooling", said("d", data="HEIV")),
        rules=rules,
    )
    assert [planned.roles for planned in found] == [
        {"face": "x/fc6", "context": "y/fc6"},
        {"face": "v/fc6"},
        {"face": "z/fc6"},
    ]


@pytest.mark.parametrize(
    ("use", "single", "both"),
    [("never", False, False), ("single", True, False), ("always", True, True)],
)
def test_a_role_has_its_map_beside_it_where_the_rule_says_so(
    use: str, single: bool, both: bool
) -> None:
    rows = [("pooling", said("a")), ("pooling", said("b", "face", "context"))]
    found, _ = plan(*rows, rules=({"use_maps": use},))
    assert [planned.roles.get("face_map") for planned in found] == [
        "v/pool5" if has else None for has in (single, both)
    ]
    assert all("context_map" not in planned.roles for planned in found)


def test_iterations_become_epochs_of_this_data_set() -> None:
    protocol = {"iterations": 10, "train": {"batch_videos": 20}}
    (planned,), _ = plan(("caan", said()), CAAN=protocol)
    assert planned.train == {"batch_videos": 20, "epochs": 5}  # two batches of 30 videos
    (planned,), _ = plan(("caan", said()), epochs=3, CAAN=protocol)
    assert planned.train["epochs"] == 3


def test_a_head_with_phases_trains_as_many_iterations_as_one_without() -> None:
    protocol = {"iterations": 24, "train": {"batch_videos": 10}}  # three batches of 30 videos
    joint = said("joint", paper="HAMF", params={"training": "joint"})
    rows = [("hamf", said("phases", paper="HAMF")), ("hamf", joint)]
    rows += [("pooling", said("none", paper="HAMF"))]
    found, _ = plan(*rows, HAMF=protocol)
    assert [planned.train["epochs"] for planned in found] == [4, 8, 8]


def test_all_rows_of_a_paper_train_alike_but_for_their_phases() -> None:
    for of in map(load_preset, names()):
        found, _ = plan_experiments(of, choose(of, reported()), load_bindings(), PARAMS, 600)
        settings: dict[str, dict[str, object]] = {}
        for planned in found:
            train = {key: value for key, value in planned.train.items() if key != "epochs"}
            assert settings.setdefault(planned.rows[0].paper, train) == train, planned.name


def test_a_paper_without_a_protocol_is_an_error() -> None:
    with pytest.raises(PresetError, match=r"bindings\.yaml: expected a protocol of MMF, found "):
        plan(("caan", said(paper="MMF")))


def test_a_loss_of_polarity_is_told_the_polarity_of_classes_that_it_does_not_know() -> None:
    rule = {"roles": {"visual": "v/pool5"}}
    row = ("vaanet", said("a", "visual", params={"penalty": 0.5}))
    polar = {"positive": ["Happy"], "negative": ["Sad"]}
    of = preset(classes={"Happy": 1, "Sad": 1}, **polar)
    (planned,), _ = plan(row, rules=(rule,), of=of)
    assert planned.overrides == {**polar, "penalty": 0.5}
    known = preset(positive=["joy"], negative=["fear"])
    (planned,), _ = plan(row, rules=(rule,), of=known)
    assert planned.overrides == {"penalty": 0.5}


def test_a_row_whose_params_the_head_does_not_take_is_an_error() -> None:
    with pytest.raises(ValueError, match="head 'caan': .*layers"):
        plan(("caan", said(params={"layers": 2})))
