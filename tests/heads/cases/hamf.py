from tests.heads.cases import Case

FACE, SCENE, IMAGE = {"face": (6,)}, {"scene": (6,)}, {"image": (6,)}
MAPS = {"face_map": (3, 4, 4), "scene_map": (2, 3, 3), "image_map": (3, 4, 4)}
THREE = FACE | SCENE | IMAGE
SMALL = {
    "local_channels": 4,
    "local_hidden": 5,
    "frame_hidden": 7,
    "global_hidden": [6, 5],
    "hidden": 12,
    "dropout": 0.0,
}
FACES, MODALITIES = ("face_scores",), ("modality_scores",)
ALL = ("face_scores", "image_scores", "scene_scores", "modality_scores")

CASES = {
    "three with maps": Case(THREE | MAPS, SMALL, ALL),
    "three": Case(THREE, SMALL, ALL),
    "joint": Case(THREE, SMALL | {"training": "joint"}, ALL),
    "face and map": Case(FACE | {"face_map": (3, 4, 4)}, SMALL, FACES),
    "face": Case(FACE, SMALL | {"local_attention": "L3"}, FACES),
    "sizes of their own": Case(
        FACE | {"face_map": (3, 4, 4), "sound": (4,)},
        SMALL | {"local_attention": {"face": "L1", "sound": "L3"}, "global_attention": "G3"},
        (*FACES, *MODALITIES),
    ),
    "shared by all": Case(
        THREE, SMALL | {"global_shared": "all", "frame_normalise": "softmax"}, ALL
    ),
    # A mean of six dimensions takes longer to tell 16 random videos apart.
    "no attention": Case(
        THREE, SMALL | {"local_attention": "none", "global_attention": "none"}, steps=400
    ),
    "concatenated averages": Case(
        THREE, SMALL | {"local_attention": "none", "global_attention": "none", "fusion": "concat"}
    ),
    "local only": Case(THREE, SMALL | {"global_attention": "none"}, ALL[:3]),
    "global only": Case(THREE, SMALL | {"local_attention": "none"}, MODALITIES),
    # As printed, a row of zeros adds as little to the sum of eq. 4 as a row that is not there.
    "literal": Case(
        THREE,
        SMALL
        | {
            "literal_eq3": True,
            "frame_normalise": "none",
            "modality_normalise": "none",
            "video_weight": 0.0,
            "frame_weight": 0.0,
            "global_shared": "biases",
            "global_attention": "G1",
        },
        absent=False,
    ),
    "product": Case(THREE, SMALL | {"fusion": "product", "mining": "hard"}, ALL),
}
