from tests.heads.cases import Case

FACE, CONTEXT, SOUND = {"face": (6,)}, {"context": (5,)}, {"sound": (4,)}
SMALL = {"embedding": 8, "hidden": 8}

CASES = {
    "face": Case(FACE, SMALL),
    "map": Case({"context_map": (8, 2, 2)}, SMALL, learning_rate=0.03),
    "three": Case(FACE | CONTEXT | SOUND, SMALL),
    "features": Case(FACE | CONTEXT, SMALL | {"pooled": "features"}),
    "not embedded": Case(FACE | CONTEXT | SOUND, SMALL | {"embedding": None}),
    "max": Case(FACE | CONTEXT, SMALL | {"pool": "max"}),
}
