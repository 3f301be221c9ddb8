from tests.heads.cases import Case

FACE, CONTEXT, SCENE = {"face": (6,)}, {"context": (5,)}, {"scene": (4,)}
SMALL = {"fusion": 12}

CASES = {
    "two": Case(FACE | CONTEXT, SMALL),
    "three": Case(FACE | CONTEXT | SCENE, SMALL),
    "frames": Case(FACE | CONTEXT, SMALL | {"loss": "frame"}),
    "map": Case({"person": (6, 2, 2)} | CONTEXT, SMALL),
}
