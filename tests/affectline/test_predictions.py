from collections.abc import Mapping

from affectline.predictions import Moment, Prediction, csv_rows, told

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
    assert told(ANSWER) == (
        "a.mp4",
        "joy 75 ± 12 %, fear 25 ± 12 %",
        "face: 1.2 s (0.50)",
        "sound: no sound; trained on in split_01",
    )
    assert told(Prediction("b.mp4", "empty file")) == ("b.mp4", "none", "", "empty file")


def test_a_csv_has_a_row_a_video_and_two_columns_a_class() -> None:
    columns, rows = csv_rows(["fear", "joy"], [ANSWER, Prediction("b.mp4", "empty file")])
    named: list[Mapping[str, object]] = [dict(zip(columns, row, strict=True)) for row in rows]
    assert (named[0]["p_joy"], named[0]["spread_joy"], named[0]["runs"]) == (0.75, 0.125, 2)
    assert named[0]["moments"] == "face 1.250 s 0.5000" and named[0]["reason"] == ""
    assert (named[1]["p_joy"], named[1]["reason"], named[1]["runs"]) == ("", "empty file", 0)
