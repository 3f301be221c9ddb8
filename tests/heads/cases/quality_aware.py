from tests.heads.cases import Case

IMAGE, MAP = {"image": (16,)}, {"image_map": (3, 4, 4)}
SMALL = {"embedding": 8, "channels": 4}
QUALITY = ("quality",)

CASES = {
    "row": Case(IMAGE, SMALL, QUALITY),
    "map": Case(IMAGE | MAP, SMALL, QUALITY),
    "not embedded": Case(IMAGE | MAP, SMALL | {"embedding": None, "mining": "hard"}, QUALITY),
    "papers losses": Case(IMAGE, SMALL | {"video_weight": 0.0}, QUALITY),
}
