from tests.heads.cases import Case

VISUAL, AUDIO = {"visual": (6, 2, 2)}, {"audio": (5,)}
# The suite tries 40 rows by default: here no more than there are segments.
SEGMENTS = {"segments": 6, "audio_segments": 8}
ROWS = (1, 2, 6)
SMALL = SEGMENTS | {"conv0": 8, "audio_fc": 8}
PAPER = SEGMENTS | {"form": "paper"}

CASES = {
    "both": Case(VISUAL | AUDIO, SMALL, ordered=True, rows=ROWS),
    "visual": Case(VISUAL, SMALL, ordered=True, rows=ROWS),
    "visual of two time steps": Case(
        {"visual": (6, 2, 3, 2)}, SMALL | {"conv0": 0}, ordered=True, rows=ROWS
    ),
    "audio": Case(AUDIO, SMALL, ordered=True, rows=ROWS),
    "spatial alone": Case(
        VISUAL, SMALL | {"channel": False, "temporal": False, "penalty": 0}, rows=ROWS
    ),
    "no temporal attention": Case(
        VISUAL | AUDIO, SMALL | {"temporal": False, "audio_temporal": False}, rows=ROWS
    ),
    # A row of zeros adds nothing to eqs. 8 to 11, and nor does an absent one.
    "paper": Case(VISUAL | AUDIO, PAPER, ordered=True, rows=ROWS, absent=False),
    # ReLU(conv0) and a ReLU without bias switch whole videos off; this one cannot.
    "paper with conv0": Case(
        VISUAL,
        PAPER | {"conv0": 8, "rescale": True, "temporal": False},
        rows=ROWS,
        absent=False,
    ),
    # ResNet-18 has no smaller size: a few steps are enough for it.
    "mfcc": Case(
        VISUAL | {"audio": (8, 4)}, SMALL, ordered=True, rows=ROWS, steps=60, learning_rate=0.003
    ),
}
