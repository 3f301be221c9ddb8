from tests.heads.cases import Case

FACE, CONTEXT = {"face": (6,)}, {"context": (5,)}
SMALL = {"embedding": 8, "hidden": 8}

CASES = {
    "face": Case(FACE, SMALL),
    "map": Case({"context_map": (3, 4, 4)}, SMALL),
    "three": Case(FACE | CONTEXT | {"sound": (4,)}, SMALL),
    "features": Case(FACE | CONTEXT, SMALL | {"pool": "features"}),
}
