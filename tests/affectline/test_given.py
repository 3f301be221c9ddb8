from pathlib import Path

import pytest

from affectline.given import videos_at
from features.video.listing import NO_FILE


def test_files_folders_and_lists_are_taken_in_their_order(in_folder: Path) -> None:
    for name in ("a/2.mp4", "a/1.MKV", "a/b/3.avi", "a/.hidden/4.mp4", "a/notes.md", "5.bin"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    Path("list.txt").write_text("a/2.mp4\n\n  nowhere.mp4  \n")
    videos = videos_at([Path("5.bin"), Path("a"), Path("list.txt")])
    assert [video.file for video in videos] == [
        "5.bin",
        "a/1.MKV",
        "a/2.mp4",
        "a/b/3.avi",
        "a/2.mp4",
        "nowhere.mp4",
    ]
    assert [video.problem for video in videos] == [None] * 5 + [NO_FILE]
    assert len({video.video_id for video in videos}) == 6


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("list.csv", b"file,label\na.mp4,joy\n", "column path"),
        ("list.txt", b"\xff\xfe\n", "UTF-8"),
        ("list.txt", b"a\0b.mp4\n", "found 'a"),
        ("list.txt", b"\n", "found none"),
    ],
)
def test_a_list_that_is_none_says_what_is_wrong(
    in_folder: Path, name: str, content: bytes, message: str
) -> None:
    Path(name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        videos_at([Path(name)])
