import json
from pathlib import Path

import pytest

from affectline.explain import Explained, Explanation, as_tree
from affectline.plan import Link, Recorded, changes
from features.cache.keys import canonical
from stages.engine.progress import answers
from tests.stages.engine.test_progress import HOSTILE, SHOWN


def test_what_json_says_alike_has_not_changed() -> None:
    made_of = {"options": {"keep": ("res5",), "size": 1}, "axes": ("T", "D")}
    assert list(changes(json.loads(canonical(made_of)), made_of)) == []
    other = made_of | {"options": {"keep": ("res4",), "size": 1}}
    assert list(changes(json.loads(canonical(made_of)), other)) == [
        ("options.keep", ["res5"], ("res4",))
    ]


def test_long_paths_are_told_whole_and_hostile_names_as_they_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = Path("data/features/vgg16", "a_long_label" * 10)
    made_of = {
        "stage": "extract",
        "options": {"keep": ("a", "b")},
        "code": {"features.x": "f" * 16},
    }
    link = Link(
        HOSTILE, "extract@vgg16", folder.parent, folder / HOSTILE.replace("/", ":"), made_of
    )
    found = Recorded("stale", reason=HOSTILE, attributes={"software": {"torch": HOSTILE}})
    video = dict.fromkeys(("width", "height", "fps", "duration_s", "video_codec", "audio_codec"), 1)
    video |= {"video_id": HOSTILE, "file": HOSTILE, "container": HOSTILE}
    changed = [("options.keep", ["a"], ("a", "b")), ("seed", None, HOSTILE)]
    part = Explained(link, found, changed, "c" * 64)
    answers.print(as_tree(Explanation(video, "vgg16", [part], {}, False, HOSTILE)))
    said = capsys.readouterr().out
    assert f"{folder}/{SHOWN.replace('/', ':')}" in said
    assert 'changed options.keep: was ["a"], is ["a","b"]\n' in said
    assert f"torch {SHOWN} (here " in said and f"{SHOWN} × vgg16: {SHOWN}\n" in said
    assert {c for c in said if not c.isprintable()} == {"\n"}
