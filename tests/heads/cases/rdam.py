from tests.heads.cases import Case

FACE, FRAME = {"face": (6, 3, 4)}, {"frame": (5, 2, 3)}
SMALL = {"channels": 8, "feature": 7, "score_hidden": 5, "fusion": 9}
FACE_SCORES, FRAME_SCORES = "face_frame_scores", "frame_frame_scores"

CASES = {
    "both": Case(FACE | FRAME, SMALL, (FACE_SCORES, FRAME_SCORES)),
    "face": Case(FACE, SMALL | {"frame_activation": "softmax"}, (FACE_SCORES,)),
    "frame": Case(FRAME, SMALL | {"frame_activation": "softplus"}, (FRAME_SCORES,)),
    "location": Case(FACE, SMALL | {"attention": "location"}, (FACE_SCORES,)),
    "relation": Case(FACE, SMALL | {"attention": "relation"}, (FACE_SCORES,)),
    "average": Case(FRAME, SMALL | {"attention": "none", "frame_attention": False}),
    "as written": Case(
        FACE | FRAME,
        SMALL | {"location_rescale": False, "pool": "none", "score_relu": False, "fusion": None},
        (FACE_SCORES, FRAME_SCORES),
    ),
}
