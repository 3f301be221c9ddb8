from pathlib import Path

import pytest

from stages.engine.paths import has_sample


@pytest.mark.parametrize(
    ("root", "wanted"),
    [
        ("data/sample", True),
        ("./data/sample/", True),
        ("data/../data/sample/joy", True),
        ("data/sample2", False),
        ("data", False),
        ("lists/sample.csv", True),
        ("lists/own.csv", False),
        ("lists/broken.csv", False),
        ("nothing", False),
    ],
)
def test_the_sample_is_made_where_the_data_set_has_clips_of_it(
    in_folder: Path, root: str, wanted: bool
) -> None:
    Path("lists").mkdir()
    Path("lists/sample.csv").write_text("path,label\na.mp4,joy\n../data/sample/joy/b.mp4,joy\n")
    Path("lists/own.csv").write_text("path,label\ndata/sample/joy/b.mp4,joy\n")
    Path("lists/broken.csv").write_bytes(b"path\n\xff\n")
    assert has_sample(Path(root)) == wanted
    assert has_sample(in_folder / root) == wanted
