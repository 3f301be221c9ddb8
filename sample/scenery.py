"""The backgrounds of the sample: a plain room, and a drawn moving scene for each class.

A scene is a function of the time in seconds that returns float32 (HEIGHT_PX, WIDTH_PX, 3), RGB in
0..255. `build_scene` draws what does not move once; all chance is in the generator it is given.
"""

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Picture = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]
Scene = Callable[[float], Array]

WIDTH_PX, HEIGHT_PX = 320, 240
NEUTRAL = "neutral"
LIGHT_PX, LIGHT_RGB = 64, (255, 250, 226)  # radius and colour of the spotlight


def build_scene(kind: str, rng: np.random.Generator) -> Scene:
    """Build the scene of a class, or of "neutral".

    Raises:
        ValueError: no scene has that name.
    """
    if kind not in _SCENES:
        raise ValueError(f"no scene is called {kind!r}; there are: {', '.join(_SCENES)}")
    return _SCENES[kind](rng)


def shine(behind: Array, centre_x: float, centre_y: float) -> Array:
    """Lay a spotlight on a background: a disc of warm white about a point."""
    y, x = np.ogrid[:HEIGHT_PX, :WIDTH_PX]
    reach = np.hypot(x - np.float32(centre_x), y - np.float32(centre_y))
    share = np.clip((LIGHT_PX - reach) / 10 + 0.5, 0, 1)[..., None]
    colour = np.array(LIGHT_RGB, dtype=np.float32)
    return np.asarray(behind + share * (colour - behind), dtype=np.float32)


def _room(rng: np.random.Generator) -> Scene:
    """A wall in some pale colour, a picture on it, a shelf: nothing moves."""
    wall = np.array([128, 122, 116]) + rng.uniform(-3, 3) + rng.uniform(-2, 2, 3)
    picture = _shade_down(wall * 1.08, wall * 0.84)
    centre_x = rng.integers(140, 180)
    x = np.arange(WIDTH_PX) - centre_x
    picture *= (1.06 - 0.16 * (x / WIDTH_PX) ** 2)[None, :, None].astype(np.float32)
    canvas = _to_picture(picture)
    left, top = int(rng.integers(10, 19)), int(rng.integers(32, 43))
    frame, sky, land = (118, 96, 76), (214, 212, 204), (150, 158, 156)
    _rectangle(canvas, (left, top), (left + 66, top + 50), _jitter(frame, 6, rng))
    _rectangle(canvas, (left + 5, top + 5), (left + 61, top + 45), _jitter(sky, 6, rng))
    _rectangle(canvas, (left + 5, top + 28), (left + 61, top + 45), _jitter(land, 6, rng))
    shelf_y = int(rng.integers(158, 167))
    _rectangle(canvas, (0, shelf_y), (WIDTH_PX, shelf_y + 4), _jitter((140, 118, 98), 6, rng))
    _rectangle(canvas, (0, shelf_y + 5), (WIDTH_PX, shelf_y + 9), _jitter((160, 154, 146), 6, rng))
    still = canvas.astype(np.float32)
    return lambda time_s: still.copy()


def _meadow(rng: np.random.Generator) -> Scene:
    """Joy: sun, hills and flowers, balloons that rise."""
    canvas = _to_picture(_shade_down((84, 168, 240), (214, 238, 252)))
    sun_x, sun_y = int(rng.choice([50, 270]) + rng.integers(-20, 21)), int(rng.integers(34, 56))
    glow = _glow(sun_x, sun_y, 60)[..., None]
    canvas = _to_picture(canvas + glow * (np.array([255, 246, 170]) - canvas))
    _disc(canvas, (sun_x, sun_y), 21, (255, 236, 110))
    for level, colour in ((150, (150, 206, 96)), (176, (112, 186, 76)), (202, (78, 160, 60))):
        _hill(canvas, level, 10, _jitter(colour, 8, rng), rng)
    for _ in range(70):
        spot = (int(rng.integers(0, WIDTH_PX)), int(rng.integers(206, HEIGHT_PX)))
        _disc(canvas, spot, 2, _pick(((255, 90, 120), (255, 220, 70), (250, 250, 250)), rng))
    start = rng.uniform((0, 0), (WIDTH_PX, HEIGHT_PX + 60), (9, 2))
    rise_px_s, phase = rng.uniform(18, 40, 9), rng.uniform(0, 2 * np.pi, 9)
    bright = ((236, 64, 72), (255, 170, 40), (70, 120, 236), (180, 80, 210), (250, 214, 60))
    colours = [_pick(bright, rng) for _ in range(9)]

    def draw(time_s: float) -> Array:
        picture = canvas.copy()
        for (x, y), speed, shift, colour in zip(start, rise_px_s, phase, colours, strict=True):
            at_x = x + 5 * np.sin(1.7 * time_s + shift)
            at_y = (y - speed * time_s) % (HEIGHT_PX + 60) - 30
            _line(picture, (at_x, at_y + 12), (at_x + 2 * np.sin(3 * time_s), at_y + 34), (90,) * 3)
            _oval(picture, (at_x, at_y), (10, 13), colour)
            _oval(picture, (at_x - 3, at_y - 5), (2, 3), (255, 255, 255))
        return picture.astype(np.float32)

    return draw


def _rain(rng: np.random.Generator) -> Scene:
    """Sadness: a grey town in the rain."""
    canvas = _to_picture(_shade_down((92, 104, 122), (58, 68, 84)))
    for colour, low, high in (((78, 88, 104), 70, 130), ((56, 64, 78), 110, 170)):
        x = -10
        while x < WIDTH_PX:
            width = int(rng.integers(24, 50))
            top = int(rng.integers(low, high))
            _rectangle(canvas, (x, top), (x + width, HEIGHT_PX), _jitter(colour, 5, rng))
            x += width + int(rng.integers(0, 6))
    canvas = _to_picture(cv2.GaussianBlur(canvas, (0, 0), 2.0))
    drops = rng.uniform((0, 0), (WIDTH_PX + 60, HEIGHT_PX + 40), (90, 2))
    fall_px_s, length_px = rng.uniform(260, 380, 90), rng.uniform(9, 18, 90)

    def draw(time_s: float) -> Array:
        picture = canvas.copy()
        for (x, y), speed, length in zip(drops, fall_px_s, length_px, strict=True):
            at_y = (y + speed * time_s) % (HEIGHT_PX + 40) - 20
            at_x = x - 0.15 * at_y
            _line(picture, (at_x, at_y), (at_x - 0.15 * length, at_y + length), (148, 164, 186))
        return picture.astype(np.float32)

    return draw


def _fire(rng: np.random.Generator) -> Scene:
    """Anger: flames that run up the picture."""
    slow, fast = _noise(rng, 22), _noise(rng, 11)
    slow_px_s, fast_px_s = rng.uniform(90, 120), rng.uniform(170, 210)
    height = np.linspace(0, 1, HEIGHT_PX, dtype=np.float32)[:, None]  # 0 at the top
    stops = np.array([0.0, 0.3, 0.55, 0.8, 1.0])
    ramp = np.array([(34, 6, 8), (120, 14, 10), (214, 52, 14), (250, 140, 30), (255, 226, 120)])

    def draw(time_s: float) -> Array:
        heat = 0.6 * _scroll(slow, slow_px_s * time_s) + 0.4 * _scroll(fast, fast_px_s * time_s)
        heat = np.clip(heat * (0.35 + 1.0 * height) + 0.25 * (height - 0.4), 0, 1)
        channels = [np.interp(heat, stops, ramp[:, c]) for c in range(3)]
        return np.stack(channels, axis=2).astype(np.float32)

    return draw


def _night(rng: np.random.Generator) -> Scene:
    """Fear: bare trees under the moon, fog, and eyes that blink."""
    canvas = _to_picture(_shade_down((8, 10, 26), (26, 34, 58)))
    moon = (int(rng.choice([46, 274]) + rng.integers(-16, 17)), int(rng.integers(34, 60)))
    glow = 0.6 * _glow(*moon, 44)[..., None]
    canvas = _to_picture(canvas + glow * (np.array([176, 190, 214]) - canvas))
    _disc(canvas, moon, 17, (222, 226, 222))
    for x in (12, 60, 108, 214, 262, 308):
        foot = (x + float(rng.uniform(-14, 14)), HEIGHT_PX - 4.0)
        _grow(canvas, foot, float(rng.uniform(46, 64)), -np.pi / 2, 7.0, rng)
    mist = np.asarray(cv2.resize(_noise(rng, 30), (2 * WIDTH_PX, HEIGHT_PX)), dtype=np.float32)
    low = np.clip((np.arange(HEIGHT_PX) - 120) / 120, 0, 1)[:, None].astype(np.float32)
    eyes = [(int(rng.integers(10, 90)), int(rng.integers(120, 180)), rng.uniform(0, 2))]
    eyes.append((int(rng.integers(230, 306)), int(rng.integers(120, 180)), rng.uniform(0, 2)))
    drift_px_s = rng.uniform(20, 40)

    def draw(time_s: float) -> Array:
        picture = canvas.copy()
        for x, y, shift in eyes:
            if (time_s + shift) % 1.6 > 0.25:
                _oval(picture, (x, y), (3, 2), (250, 210, 60))
                _oval(picture, (x + 10, y), (3, 2), (250, 210, 60))
        offset_px = round(drift_px_s * time_s) % WIDTH_PX
        fog = (0.75 * low * mist[:, offset_px : offset_px + WIDTH_PX])[..., None]
        return np.asarray(picture + fog * (np.array([108, 120, 146]) - picture), dtype=np.float32)

    return draw


def _swamp(rng: np.random.Generator) -> Scene:
    """Disgust: slime that drips from above, bubbles in a green pond."""
    canvas = _to_picture(_shade_down((150, 152, 70), (84, 94, 34)))
    blotches = cv2.resize(_noise(rng, 26), (WIDTH_PX, HEIGHT_PX))[..., None]
    canvas = _to_picture(canvas * (0.75 + 0.5 * blotches))
    _hill(canvas, 186, 5, (70, 84, 26), rng)
    columns = np.linspace(-4, WIDTH_PX + 4, 15) + rng.uniform(-6, 6, 15)
    length_px, drip_px_s = rng.uniform(16, 70, 15), rng.uniform(4, 16, 15)
    width_px = rng.uniform(6, 11, 15)
    bubbles = rng.uniform((0, 0), (WIDTH_PX, 110), (16, 2))
    rise_px_s, radius_px = rng.uniform(14, 34, 16), rng.uniform(3, 9, 16)

    def draw(time_s: float) -> Array:
        picture = canvas.copy()
        for (x, y), speed, radius in zip(bubbles, rise_px_s, radius_px, strict=True):
            centre = (x, HEIGHT_PX + 10 - (y + speed * time_s) % 110)
            _oval(picture, centre, (radius, radius), (128, 146, 48))
            shine = (centre[0] - radius / 3, centre[1] - radius / 3)
            _oval(picture, shine, (1.6, 1.6), (226, 236, 160))
        for x, length, speed, width in zip(columns, length_px, drip_px_s, width_px, strict=True):
            end = length + speed * time_s
            _rectangle(picture, (x - width, -4), (x + width, end), (112, 138, 22))
            _oval(picture, (x, end), (width, 1.4 * width), (112, 138, 22))
            _line(picture, (x - width / 2, 2), (x - width / 2, end), (188, 208, 78))
        _rectangle(picture, (0, 0), (WIDTH_PX, 14), (112, 138, 22))
        return picture.astype(np.float32)

    return draw


def _burst(rng: np.random.Generator) -> Scene:
    """Surprise: rays that turn, rings that grow, confetti that flies outwards."""
    centre_x, centre_y = rng.uniform(120, 200), rng.uniform(80, 130)
    y, x = np.mgrid[:HEIGHT_PX, :WIDTH_PX].astype(np.float32)
    angle = np.arctan2(y - centre_y, x - centre_x)
    distance = np.hypot(y - centre_y, x - centre_x)
    turn_rad_s = rng.choice([-1, 1]) * rng.uniform(0.5, 0.9)
    first, second = np.array([252, 214, 56]), np.array([232, 62, 152])
    heading, speed_px_s = rng.uniform(0, 2 * np.pi, 60), rng.uniform(90, 170, 60)
    delay_s = rng.uniform(0, 1.6, 60)
    bright = ((255, 255, 255), (60, 200, 236), (90, 230, 110), (255, 120, 40))
    colours = [_pick(bright, rng) for _ in range(60)]

    def draw(time_s: float) -> Array:
        ray = np.clip(6 * np.sin(9 * (angle + turn_rad_s * time_s)) + 0.5, 0, 1)
        ring = np.clip(1 - np.abs(distance - 220 * (time_s % 0.8) / 0.8) / 7, 0, 1)[..., None]
        light = first + ray[..., None] * (second - first)
        picture = _to_picture(light + ring * (255 - light))
        for way, speed, delay, colour in zip(heading, speed_px_s, delay_s, colours, strict=True):
            reach = speed * ((time_s + delay) % 1.6)
            end = (centre_x + reach * np.cos(way), centre_y + reach * np.sin(way))
            _oval(picture, end, (4, 2.5), colour, float(np.degrees(way + 5 * time_s)))
        return picture.astype(np.float32)

    return draw


_SCENES: dict[str, Callable[[np.random.Generator], Scene]] = {
    NEUTRAL: _room,
    "anger": _fire,
    "disgust": _swamp,
    "fear": _night,
    "joy": _meadow,
    "sadness": _rain,
    "surprise": _burst,
}


SHIFT_BITS = 3  # OpenCV draws at eighths of a pixel, so that slow things move smoothly


def _eighths(x: float, y: float) -> tuple[int, int]:
    return round(float(x) * 2**SHIFT_BITS), round(float(y) * 2**SHIFT_BITS)


def _line(canvas: Picture, start: tuple[float, float], end: tuple[float, float], c: Colour) -> None:
    cv2.line(canvas, _eighths(*start), _eighths(*end), c, 1, cv2.LINE_AA, SHIFT_BITS)


def _oval(
    canvas: Picture,
    centre: tuple[float, float],
    axes: tuple[float, float],
    colour: Colour,
    angle_deg: float = 0.0,
) -> None:
    """Fill an ellipse; axes are half widths in pixels."""
    middle, half = _eighths(*centre), _eighths(*axes)
    cv2.ellipse(canvas, middle, half, angle_deg, 0, 360, colour, -1, cv2.LINE_AA, SHIFT_BITS)


def _disc(canvas: Picture, centre: tuple[int, int], radius_px: int, colour: Colour) -> None:
    cv2.circle(canvas, centre, radius_px, colour, -1, cv2.LINE_AA)


def _rectangle(
    canvas: Picture, corner: tuple[float, float], opposite: tuple[float, float], colour: Colour
) -> None:
    cv2.rectangle(canvas, _eighths(*corner), _eighths(*opposite), colour, -1, 8, SHIFT_BITS)


def _hill(
    canvas: Picture, level_px: int, swing_px: int, colour: Colour, rng: np.random.Generator
) -> None:
    """Fill everything below a wavy line."""
    x = np.arange(0, WIDTH_PX + 8, 8)
    waves = np.sin(x / 60 + rng.uniform(0, 6.28)) + 0.5 * np.sin(x / 27 + rng.uniform(0, 6.28))
    ridge = np.stack([x, level_px + swing_px * waves], axis=1)
    shape = np.concatenate([ridge, [[WIDTH_PX + 8, HEIGHT_PX], [0, HEIGHT_PX]]])
    cv2.fillPoly(canvas, [np.round(shape).astype(np.int32)], colour, cv2.LINE_AA)


def _grow(
    canvas: Picture,
    foot: tuple[float, float],
    length_px: float,
    heading_rad: float,
    width_px: float,
    rng: np.random.Generator,
) -> None:
    """Draw a bare tree, branch by branch."""
    if length_px < 6:
        return
    tip = (foot[0] + length_px * np.cos(heading_rad), foot[1] + length_px * np.sin(heading_rad))
    width = max(1, round(width_px))
    cv2.line(canvas, _eighths(*foot), _eighths(*tip), (5, 6, 12), width, cv2.LINE_AA, SHIFT_BITS)
    for side in (-1, 1):
        turn = side * float(rng.uniform(0.25, 0.6))
        _grow(canvas, tip, length_px * 0.72, heading_rad + turn, width_px * 0.66, rng)


def _shade_down(top: npt.ArrayLike, bottom: npt.ArrayLike) -> Array:
    """Return a picture that goes from one colour at the top to another at the bottom."""
    share = np.linspace(0, 1, HEIGHT_PX)[:, None, None]
    column = (1 - share) * np.asarray(top) + share * np.asarray(bottom)
    return np.repeat(column, WIDTH_PX, axis=1).astype(np.float32)


def _glow(centre_x: int, centre_y: int, radius_px: float) -> Array:
    """Return float32 (H, W), 1 at the centre and e**-1 a radius away."""
    y, x = np.mgrid[:HEIGHT_PX, :WIDTH_PX]
    reach = np.hypot(x - centre_x, y - centre_y) / radius_px
    return np.asarray(np.exp(-(reach**2)), dtype=np.float32)


def _noise(rng: np.random.Generator, grain_px: int) -> Array:
    """Return smooth noise, float32 (2 * HEIGHT_PX, WIDTH_PX) in 0..1, no seam bottom to top."""
    coarse = rng.random((2 * HEIGHT_PX // grain_px, WIDTH_PX // grain_px + 3), dtype=np.float32)
    coarse = np.concatenate([coarse, coarse[:2]])
    fine = cv2.resize(coarse, None, fx=grain_px, fy=grain_px, interpolation=cv2.INTER_CUBIC)
    height = (coarse.shape[0] - 2) * grain_px
    seamless = fine[grain_px // 2 : grain_px // 2 + height, grain_px : grain_px + WIDTH_PX]
    seamless = cv2.resize(seamless, (WIDTH_PX, 2 * HEIGHT_PX))
    return np.asarray(np.clip(seamless, 0, 1), dtype=np.float32)


def _scroll(noise: Array, offset_px: float) -> Array:
    """Return the HEIGHT_PX rows of the noise that begin at an offset, moving upwards."""
    return np.roll(noise, -round(offset_px), axis=0)[:HEIGHT_PX]


def _jitter(colour: Colour, by: int, rng: np.random.Generator) -> Colour:
    red, green, blue = (int(np.clip(c + rng.integers(-by, by + 1), 0, 255)) for c in colour)
    return red, green, blue


def _pick(colours: tuple[Colour, ...], rng: np.random.Generator) -> Colour:
    return colours[int(rng.integers(len(colours)))]


def _to_picture(values: npt.NDArray[np.generic]) -> Picture:
    return np.asarray(np.clip(values, 0, 255), dtype=np.uint8)
