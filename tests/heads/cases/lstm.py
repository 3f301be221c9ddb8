from tests.heads.cases import Case

FACE, MOTION = {"face": (6,)}, {"motion": (5,)}
SMALL = {"units": 8, "dropout": 0.0}
WEIGHTS = ("role_weights",)

CASES = {
    "face": Case(FACE, SMALL, ordered=True),
    "map": Case({"face_map": (3, 4, 4)}, SMALL, ordered=True),
    "both": Case(FACE | MOTION, SMALL, WEIGHTS, ordered=True),
    "joint": Case(FACE | MOTION, SMALL | {"training": "joint"}, WEIGHTS, ordered=True),
    "logits": Case(FACE | MOTION, SMALL | {"scores": "logits"}, WEIGHTS, ordered=True),
    "mean over time": Case(
        FACE | MOTION | {"skeleton": (3, 2)}, SMALL | {"read": "mean"}, WEIGHTS, ordered=True
    ),
    "fixed weights": Case(
        FACE | MOTION, SMALL | {"weights": {"face": 2.0, "motion": 1.0}}, ordered=True
    ),
}
