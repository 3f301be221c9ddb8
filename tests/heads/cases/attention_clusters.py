from tests.heads.cases import Case

FACE, SCENE, IMAGE = {"face": (16,)}, {"scene": (5,)}, {"image": (4,)}
WEIGHTS = ("face_weights", "scene_weights")

CASES = {
    "face": Case(FACE, normalised=("face_weights",)),
    "three": Case(FACE | SCENE | IMAGE, normalised=(*WEIGHTS, "image_weights")),
    "sigmoid": Case(FACE | SCENE, {"activation": "sigmoid"}, WEIGHTS),
    "original": Case(FACE | SCENE, {"units": 3, "shifting": True}),
    "one shifted": Case(FACE | SCENE, {"shifting": True}, WEIGHTS),
    "map": Case(FACE | {"image_map": (7, 2, 2)}, {"units": 2}),
}
