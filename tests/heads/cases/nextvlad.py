from tests.heads.cases import Case

FACE, CONTEXT = {"face": (6,)}, {"context": (5,)}
SMALL = {
    "projection": 8,
    "groups": 4,
    "clusters": 3,
    "hidden": 16,
    "reduction": 2,
    "dropout": 0.0,
}

CASES = {
    "face": Case(FACE, SMALL),
    "map": Case({"context_map": (3, 4, 4)}, SMALL),
    "three": Case(FACE | CONTEXT | {"skeleton": (3, 2)}, SMALL),
    "no projection": Case(FACE | {"sound": (4,)}, SMALL | {"projection": None}),
}
