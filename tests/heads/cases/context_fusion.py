from tests.heads.cases import Case

EVENT, OBJECT, SCENE = {"event": (6,)}, {"object": (5,)}, {"scene": (4,)}
SMALL = {"embedding": 8, "fusion": 12, "hidden": 7}

CASES = {
    "three": Case(EVENT | OBJECT | SCENE, SMALL),
    "max": Case(EVENT | OBJECT, SMALL | {"pool": "max"}),
    "fusion layer alone": Case(EVENT | OBJECT, SMALL | {"embedding": None, "hidden": None}),
    "map": Case(EVENT | {"scene_map": (6, 2, 2)}, SMALL),
}
