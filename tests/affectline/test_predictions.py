from collections.abc import Mapping
from dataclasses import replace

from affectline.predictions import Moment, Prediction, answer_of, csv_rows, told
from heads.training.targets import Target, of_classes

CLASSES = of_classes(["fear", "joy"])

ANSWER = Prediction(
    "a.mp4",
    sha256="0" * 64,
    predicted="joy",
    probabilities={"fear": 0.25, "joy": 0.75},
    spread={"fear": 0.125, "joy": 0.125},
    runs={"split_00": {}, "split_01": {}},
    lacking={"sound": "no sound"},
    moments=(Moment("scores", "face", 2, 1.25, 0.5),),
    trained_on_in=("split_01",),
)


def test_a_person_is_told_the_likeliest_the_moments_and_what_to_know() -> None:
    assert told(CLASSES, ANSWER) == (
        "a.mp4",
        "joy 75 ± 12 %, fear 25 ± 12 %",
        "face: 1.2 s (0.50)",
        "sound: no sound; trained on in split_01",
    )
    broken = Prediction("b.mp4", "empty file")
    assert told(CLASSES, broken) == ("b.mp4", "none", "", "empty file")


def test_a_csv_has_a_row_a_video_and_two_columns_a_class() -> None:
    columns, rows = csv_rows(CLASSES, [ANSWER, Prediction("b.mp4", "empty file")])
    named: list[Mapping[str, object]] = [dict(zip(columns, row, strict=True)) for row in rows]
    assert (named[0]["p_joy"], named[0]["spread_joy"], named[0]["runs"]) == (0.75, 0.125, 2)
    assert named[0]["moments"] == "face 1.250 s 0.5000" and named[0]["reason"] == ""
    assert (named[1]["p_joy"], named[1]["reason"], named[1]["runs"]) == ("", "empty file", 0)


def test_labels_and_dimensions_are_said_as_what_they_are() -> None:
    several = Prediction(
        "a.mp4",
        predicted="joy|calm",
        probabilities={"joy": 0.8, "fear": 0.2, "calm": 0.6},
        spread={"joy": 0.1, "fear": 0.0, "calm": None},
    )
    labels = Target("labels", ("joy", "fear", "calm"))
    assert answer_of(labels, several) == "joy 80 ± 10 %, calm 60 %"
    one = replace(several, predicted="joy")
    assert answer_of(labels, one) == "joy 80 ± 10 %", "those that are answered, no others"
    none = replace(several, predicted="", probabilities={"joy": 0.1, "fear": 0.4, "calm": 0.3})
    assert answer_of(labels, none) == "none of the labels; fear 40 ± 0 %"
    numbers = Prediction(
        "b.mp4",
        estimates={"valence": 3.25, "arousal": 5.0},
        spread={"valence": 0.5, "arousal": None},
    )
    target = Target("dimensions", ("valence", "arousal"), (1, 9))
    assert answer_of(target, numbers) == "valence 3.25 ± 0.50, arousal 5.00"
    columns, (row, empty) = csv_rows(target, [numbers, Prediction("c.mp4", "empty file")])
    assert columns[:5] == [
        "video", "predicted_valence", "predicted_arousal", "spread_valence", "spread_arousal"
    ]  # fmt: skip
    assert row[:5] == ["b.mp4", 3.25, 5.0, 0.5, ""]
    assert empty[:5] == ["c.mp4", "", "", "", ""]
