"""The clips of the sample: what happens in each (the plan), drawn, sounded and encoded.

All chance comes from (seed, label, number), so more clips a class leave the earlier ones as they
are. The plan is the truth about a clip.

A clip shows its class in some modalities only (face, scene, sound), so that a fusion knows more
than one of them. It shows it in some frames only; the rest is neutral or, in face and scene, a
cutaway: it shows another class. What tells one from the other is a spotlight behind the person, and
it says nothing of the class: so a mean over the frames mixes classes up, and an attention need not.
All this is drawn for random networks, which see colours and textures and no expression.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import av
import av.codec.context
import numpy as np
import numpy.typing as npt
from av.audio.stream import AudioStream
from av.video.stream import VideoStream

from sample import portrait, scenery, sound
from sample.names import LABELS, clip_id

FPS = 12
NOTICE = (
    "affectline sample, not data: one public-domain photograph (NASA, Eileen Collins) warped by "
    "formula, drawn scenes and synthetic sound"
)

# Which modalities clip 1, 2, 3, ... of each class uses: of six clips face and scene are in four
# each, so that either has much to learn and lacks some, and the sound is in two.
MODALITIES: tuple[tuple[str, ...], ...] = (
    ("face", "scene"),
    ("face", "sound"),
    ("scene",),
    ("face",),
    ("scene", "sound"),
    ("face", "scene"),
)
ABSENT_EVERY, ABSENT_FIRST = 6, 5  # in clips 5, 11, 17, ... the person enters late or leaves early
OWN_SHARE, OTHER_SHARE = (0.36, 0.44), (0.16, 0.22)  # of a clip's frames: its class, another one
RAMP_S = 0.02  # the sound of a class fades in and out within its interval
WALK_S = 0.6  # from the edge of the picture to the person's place, and nearly at rest
WALK_PX, REST_PX = 44.0, 12.0  # a frame; distance in which the walk comes to rest
CRF = 26  # x264's constant quality
SOUND_BITS_S = 64_000
GRAINS = 8  # different noise pictures of a clip

_PLAN, _LOOK, _ROOM, _SCENE, _HUM, _FIGURE, _GRAIN = range(7)  # random streams of a clip


@dataclass(frozen=True)
class Interval:
    """Frames from `start` up to but not including `stop`."""

    start: int
    stop: int

    def __contains__(self, frame: int) -> bool:
        """Tell whether it has the frame."""
        return self.start <= frame < self.stop

    def describe(self) -> dict[str, float]:
        """Return the interval in frames and in seconds."""
        return {
            "start_frame": self.start,
            "stop_frame": self.stop,
            "start_s": self.start / FPS,
            "stop_s": self.stop / FPS,
        }


@dataclass(frozen=True)
class Cutaway:
    """An interval in which the picture shows another class, `label`, without the spotlight."""

    label: str
    interval: Interval

    def describe(self) -> dict[str, object]:
        """Return the class and the interval in frames and in seconds."""
        return {"label": self.label, **self.interval.describe()}


@dataclass(frozen=True)
class Plan:
    """What happens in a clip.

    seed, label, number: the clip; number is 1 for the first of a class.
    frames: its length.
    modalities: which of face, scene and sound show the class.
    intervals: when they do.
    cutaways: what shows another class in the meantime; no two of all these overlap.
    face_absent: frames in which the middle of the face is outside the picture, or None.
    """

    seed: int
    label: str
    number: int
    frames: int
    modalities: tuple[str, ...]
    intervals: tuple[Interval, ...]
    cutaways: tuple[Cutaway, ...]
    face_absent: Interval | None

    @property
    def video_id(self) -> str:
        """Return `<label>/<name>`; names repeat across labels, as they do in real data."""
        return clip_id(self.label, self.number)

    def describe(self) -> dict[str, object]:
        """Return the truth about the clip, to be written as JSON."""
        return {
            "modalities": list(self.modalities),
            "intervals": [interval.describe() for interval in self.intervals],
            "cutaways": [cutaway.describe() for cutaway in self.cutaways],
            "face_absent": self.face_absent.describe() if self.face_absent else None,
        }


def plan_clip(seed: int, label: str, number: int, seconds: float) -> Plan:
    """Decide what happens in a clip.

    Raises:
        ValueError: the label is none of LABELS.
    """
    if label not in LABELS:
        raise ValueError(f"no class is called {label!r}; there are: {', '.join(LABELS)}")
    rng = _chance(seed, label, number, _PLAN)
    frames = round(seconds * FPS)
    first, last = 0, frames
    absent = None
    if number % ABSENT_EVERY == ABSENT_FIRST % ABSENT_EVERY:
        length = round(frames * rng.uniform(0.18, 0.28))
        walk = min(round(WALK_S * FPS), (frames - length) // 3)
        if rng.random() < 0.5:
            absent, first = Interval(0, length), length + walk
        else:
            absent, last = Interval(frames - length, frames), frames - length - walk
    intervals, others = _place_intervals(first, last, rng)
    wrong = [other for other in LABELS if other != label]
    return Plan(
        seed=seed,
        label=label,
        number=number,
        frames=frames,
        modalities=MODALITIES[(number - 1) % len(MODALITIES)],
        intervals=intervals,
        cutaways=tuple(Cutaway(str(rng.choice(wrong)), other) for other in others),
        face_absent=absent,
    )


def draw_frames(plan: Plan) -> Iterator[npt.NDArray[np.uint8]]:
    """Draw the frames of a clip one after another, uint8 (240, 320, 3) RGB."""
    draw = _prepare(plan)
    for frame in range(plan.frames):
        yield draw(frame)


def _prepare(plan: Plan) -> Callable[[int], npt.NDArray[np.uint8]]:
    """Build what the frames of a clip share, and return what draws one of them by its number."""
    person = _load_portrait()
    room = scenery.build_scene(scenery.NEUTRAL, _stream(plan, _ROOM))
    labels = {plan.label, *(cutaway.label for cutaway in plan.cutaways)}
    scenes = {label: scenery.build_scene(label, _stream(plan, _SCENE)) for label in labels}
    look = _draw_look(plan)
    grain_rng = _stream(plan, _GRAIN)
    size = (scenery.HEIGHT_PX, scenery.WIDTH_PX, 1)
    grains = grain_rng.normal(0, look.grain, (GRAINS, *size)).astype(np.float32)
    order = grain_rng.integers(0, GRAINS, plan.frames)

    def draw(frame: int) -> npt.NDArray[np.uint8]:
        is_own = any(frame in part for part in plan.intervals)
        others = [cutaway.label for cutaway in plan.cutaways if frame in cutaway.interval]
        label = others[0] if others else plan.label
        is_neutral = not (is_own or others)
        stance = look.stances[frame]
        is_room = is_neutral or "scene" not in plan.modalities
        behind = (room if is_room else scenes[label])(frame / FPS)
        if is_own:
            behind = scenery.shine(behind, stance.face_x, stance.face_y)
        drawn = portrait.draw_person(
            person,
            label,
            0.0 if is_neutral or "face" not in plan.modalities else 1.0,
            stance,
            scenery.WIDTH_PX,
            scenery.HEIGHT_PX,
        )
        picture = drawn[..., :3] + (1 - drawn[..., 3:] / np.float32(255)) * behind
        picture = picture * look.gain[frame] + grains[order[frame]]
        return np.asarray(np.clip(picture + 0.5, 0, 255), dtype=np.uint8)

    return draw


def make_track(plan: Plan) -> npt.NDArray[np.float32]:
    """Make the sound of a clip, float32 mono (samples,) in [-1, 1] at sound.SAMPLE_RATE_HZ."""
    per_frame = sound.SAMPLE_RATE_HZ // FPS
    track = sound.make_sound(sound.NEUTRAL, plan.frames * per_frame, _stream(plan, _HUM))
    if "sound" not in plan.modalities:
        return track
    rng = _stream(plan, _FIGURE)
    ramp = round(RAMP_S * sound.SAMPLE_RATE_HZ)
    for part in plan.intervals:
        start, stop = part.start * per_frame, part.stop * per_frame
        figure = sound.make_sound(plan.label, stop - start, rng)
        edge = np.minimum(np.arange(stop - start), np.arange(stop - start)[::-1])
        track[start:stop] += figure * np.clip(edge / ramp, 0, 1).astype(np.float32)
    return np.clip(track, -1, 1)


def encode_clip(plan: Plan, path: Path) -> None:
    """Draw, sound and encode a clip: H.264 and AAC in MP4, the same bytes each time."""
    options = {"fflags": "+bitexact", "movflags": "+faststart"}
    with av.open(str(path), "w", format="mp4", options=options) as container:
        container.metadata["comment"] = NOTICE
        video = container.add_stream("libx264", rate=FPS)
        video.width, video.height, video.pix_fmt = scenery.WIDTH_PX, scenery.HEIGHT_PX, "yuv420p"
        # The same bytes each time: the number of threads changes what x264 decides, and its
        # macroblock tree (core 165, AVX-512) reads memory that it never wrote.
        video.options = {"crf": str(CRF), "preset": "fast", "threads": "1", "mbtree": "0"}
        voice = container.add_stream("aac", rate=sound.SAMPLE_RATE_HZ, layout="mono")
        voice.bit_rate = SOUND_BITS_S
        for stream in (video, voice):
            stream.codec_context.flags |= av.codec.context.Flags.bitexact
        _encode_frames(container, video, plan)
        _encode_track(container, voice, plan)


def _encode_frames(
    container: av.container.OutputContainer, stream: VideoStream, plan: Plan
) -> None:
    for number, picture in enumerate(draw_frames(plan)):
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts = number
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def _encode_track(container: av.container.OutputContainer, stream: AudioStream, plan: Plan) -> None:
    frame = av.AudioFrame.from_ndarray(make_track(plan)[None], format="fltp", layout="mono")
    frame.sample_rate, frame.pts = sound.SAMPLE_RATE_HZ, 0
    container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def _place_intervals(
    first: int, last: int, rng: np.random.Generator
) -> tuple[tuple[Interval, ...], tuple[Interval, ...]]:
    """Place the intervals of the class and those of cutaways into the frames first..last.

    Each kind gets its share of these frames, in one piece or two, in any order.
    """
    pieces = []  # length, and whether it is the class's
    for is_own, share in ((True, OWN_SHARE), (False, OTHER_SHARE)):
        wanted = round((last - first) * rng.uniform(*share))
        part = (
            wanted if wanted < FPS or rng.random() < 0.5 else round(wanted * rng.uniform(0.4, 0.6))
        )
        pieces += [(length, is_own) for length in (part, wanted - part) if length]
    spare = last - first - sum(length for length, _ in pieces)
    gaps = rng.multinomial(spare, [1 / (len(pieces) + 1)] * (len(pieces) + 1))
    places: dict[bool, list[Interval]] = {True: [], False: []}
    start = first
    for gap, number in zip(gaps, rng.permutation(len(pieces)), strict=False):
        length, is_own = pieces[number]
        start += int(gap)
        places[is_own].append(Interval(start, start + length))
        start += length
    return tuple(places[True]), tuple(places[False])


@dataclass(frozen=True)
class _Look:
    """What varies from clip to clip whatever the class.

    stances: where the person stands in each frame; gain: brightness of each frame, about 1;
    grain: standard deviation of the noise, of 255.
    """

    stances: list[portrait.Stance]
    gain: npt.NDArray[np.float32]
    grain: float


def _draw_look(plan: Plan) -> _Look:
    rng = _stream(plan, _LOOK)
    time_s = np.arange(plan.frames) / FPS
    face_x = rng.uniform(150, 170) + rng.uniform(2, 6) * _sway(time_s, rng)
    face_y = rng.uniform(88, 96) + rng.uniform(1, 3) * _sway(time_s, rng)
    scale = rng.uniform(0.63, 0.67) * (1 + rng.uniform(0.01, 0.03) * _sway(time_s, rng))
    angle_deg = rng.uniform(-1.5, 1.5) + rng.uniform(0.5, 2.0) * _sway(time_s, rng)
    gain = rng.uniform(0.98, 1.02) * (1 + 0.01 * _sway(time_s, rng))
    side = int(rng.choice([-1, 1]))
    if plan.face_absent:
        face_x = _walk(face_x, plan.face_absent, side)
    return _Look(
        stances=[
            portrait.Stance(*(float(value) for value in row))
            for row in zip(face_x, face_y, scale, angle_deg, strict=True)
        ],
        gain=gain.astype(np.float32),
        grain=float(rng.uniform(1.2, 1.8)),
    )


def _sway(time_s: npt.NDArray[np.float64], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return a slow wave in [-1, 1]."""
    turns = rng.uniform(0.15, 0.45) * time_s + rng.random()
    return np.asarray(np.sin(2 * np.pi * turns), dtype=np.float64)


def _walk(face_x: npt.NDArray[np.float64], absent: Interval, side: int) -> npt.NDArray[np.float64]:
    """Move the person so that the face crosses the edge of the picture as `absent` says.

    side: -1 for the left edge, 1 for the right one.
    """
    frame = np.arange(len(face_x))
    if absent.start == 0:
        edge_frame, outside = absent.stop - 1, absent.stop - 0.5 - frame
    else:
        edge_frame, outside = absent.start, frame - absent.start + 0.5
    edge_px = scenery.WIDTH_PX - face_x[edge_frame] if side > 0 else face_x[edge_frame]
    away_px = REST_PX * np.logaddexp(0, (outside * WALK_PX + edge_px) / REST_PX)
    return np.asarray(face_x + side * away_px, dtype=np.float64)


def _stream(plan: Plan, stream: int) -> np.random.Generator:
    return _chance(plan.seed, plan.label, plan.number, stream)


def _chance(seed: int, label: str, number: int, stream: int) -> np.random.Generator:
    """Return one of the random streams of a clip; they do not depend on each other."""
    return np.random.default_rng([seed, LABELS.index(label), number, stream])


@lru_cache(maxsize=1)
def _load_portrait() -> portrait.Portrait:
    return portrait.load_portrait()
