from tests.heads.cases import Case

VISUAL, AUDIO, SKELETON = {"visual": (7,)}, {"audio": (5,)}, {"skeleton": (4, 3)}
SMALL = {
    "width": 8,
    "layers": 1,
    "heads": 2,
    "feedforward": 12,
    "dropout": 0.0,
    "groups": 4,
    "clusters": 2,
    "fusion": 12,
    "reduction": 2,
    "hidden": 10,
}
CODE = {"layers": 2, "hidden": None, "clusters": 3}
SET = {"positions": "none"}

CASES = {
    "three": Case(VISUAL | AUDIO | SKELETON, SMALL, ordered=True),
    "as the code": Case(VISUAL | AUDIO | SKELETON, SMALL | CODE, ordered=True),
    "without places": Case(VISUAL | AUDIO | SKELETON, SMALL | SET),
    "no last norm": Case(VISUAL | AUDIO, SMALL | SET | {"final_norm": False}),
    "visual": Case(VISUAL, SMALL, ordered=True),
    "audio": Case(AUDIO, SMALL | SET),
    "skeleton": Case({"skeleton": (12,)}, SMALL | SET),
}
