from tests.heads.cases import Case

FACE, CONTEXT = {"face": (6,)}, {"context": (5,)}
SMALL = {
    "embedding": 8,
    "fusion": 12,
    "feature": 7,
    "score_hidden": [6, 5],
    "score_channels": 4,
}
SCORES = ("frame_scores",)

CASES = {
    "both": Case(FACE | CONTEXT, SMALL, SCORES),
    "all frames": Case(FACE | CONTEXT, SMALL | {"frames": "all"}, SCORES),
    "score from r": Case(
        FACE | CONTEXT, SMALL | {"score_input": "r", "fusion_layer": False}, SCORES
    ),
    "face": Case(FACE, SMALL, SCORES),
    "context": Case(CONTEXT, SMALL | {"score_layers": 2}, SCORES),
    "face and map": Case(FACE | {"face_map": (3, 4, 4)}, SMALL | {"score_layers": 2}, SCORES),
}
