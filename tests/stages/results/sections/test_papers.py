from pathlib import Path

import pytest

import heads
from stages.results.sections import papers
from tests.modules import put
from tests.stages.results.made_page import FACE, Text, inputs_of, page_of, table_rows
from tests.stages.results.made_results import FACE_AND_CONTEXT, write_result


def test_a_broken_head_has_no_tables_and_the_page_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(monkeypatch, tmp_path / "room", heads, "rdam", "REFERENCE = (")
    references, broken = heads.references()
    inputs = inputs_of(write_result(tmp_path, "caan"), broken=broken, references=references)
    text = Text(page_of(inputs, papers))
    assert "CAAN, Table 2: HEIV" in text
    assert "Left out: the tables of head 'rdam': heads/rdam.py cannot be read: Syn" in text


def test_the_papers_numbers_stand_beside_ours(tmp_path: Path) -> None:
    result = write_result(tmp_path, "one", params={"score_layers": 1})
    page = page_of(inputs_of(result), papers)
    rows = {name: cells for name, *cells in table_rows(page, "paper-caan-table-2-heiv")}
    mean, std = (100 * result.metrics["accuracy"][name] for name in ("mean", "std"))
    paper, ours, _interval, experiment = rows["fusion, 1FC"]
    assert (paper, ours, experiment) == ("50.4", f"{mean:.1f} ± {std:.1f}", "one")
    assert rows["fusion, 2FC"] == ["51.1", "–", "–", "–"]
    assert "Not comparable" not in page.partition("table-paper-caan-table-2-heiv")[0]


def test_another_data_set_is_called_not_comparable(tmp_path: Path) -> None:
    result = write_result(tmp_path, "caan")
    page = page_of(inputs_of(result, dataset="ekman-6"), papers)
    before, _, after = page.partition("Not comparable: ")
    assert after.startswith("HEIV, VideoEmotion-8 in the papers, ekman-6 here")
    assert "paper-caan-table-6-ekman-6" in before and "paper-caan-table-2-heiv" not in before
    assert "here" in after and "paper-caan-table-2-heiv" in after
    unnamed = Text(page_of(inputs_of(result, dataset=None), papers))
    assert "in the papers, unnamed videos (index.dataset) here" in unnamed


def test_a_papers_classes_stand_beside_ours(tmp_path: Path) -> None:
    classes = ["anger", "disgust", "fear", "joy", "sadness", "surprise"]
    roles = {"audio": "resnet18_mfcc/pooled"}
    result = write_result(tmp_path, "sound", head="vaanet", roles=roles, classes=classes)
    page = page_of(inputs_of(result, dataset="Ekman-6"), papers)
    assert page.count("Class by class") == 1  # of Table 4; Table 3 has eight classes
    paper, ours = table_rows(page, "paper-vaanet-table-4-ekman-6-classes")
    assert paper[1:] == ["paper", "32.4", "14.1", "38.5", "28.1", "63.9", "46.5"]
    assert ours[1:] == ["sound", *(f"{100 * float(row['recall']):.1f}" for row in result.per_class)]


def test_experiments_of_one_row_are_told_apart_by_what_they_read(tmp_path: Path) -> None:
    one = write_result(tmp_path, "one", head="pooling", roles=FACE)
    other = write_result(tmp_path, "two", head="pooling", roles={"face": "resnet50/pooled"})
    text = Text(page_of(inputs_of(one, other, dataset="MHED"), papers))
    assert "one: vggface/fc6" in text and "two: resnet50/pooled" in text
    assert "one: vggface/fc6" not in Text(page_of(inputs_of(one, dataset="MHED"), papers))


def test_rows_that_were_not_trained_alike_are_told(tmp_path: Path) -> None:
    caan = write_result(tmp_path, "caan")
    face = write_result(tmp_path, "face", head="pooling", roles=FACE_AND_CONTEXT)
    assert "Not trained alike" not in page_of(inputs_of(caan, face), papers)
    caan.about["training"] |= {"optimiser": "sgd", "epochs": 200}
    face.about["training"] |= {"optimiser": "adam"}
    text = Text(page_of(inputs_of(caan, face), papers))
    assert 'compared: caan: optimiser "sgd"; face: optimiser "adam".' in text


def test_an_experiment_that_no_paper_has_leaves_the_section_out(tmp_path: Path) -> None:
    roles = {"sound": "vggish/embedding"}
    result = write_result(tmp_path, "sound", head="pooling", roles=roles)
    assert papers.section(inputs_of(result)) is None
