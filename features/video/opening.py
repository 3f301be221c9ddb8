"""Opening a video file whose content is not to be trusted: what is let in, and how much."""

import errno
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import av
import av.container
import av.error
import av.logging

CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,mpeg,mpegts,mpegvideo,asf,ogg,h264,hevc,ivf,"
    "nut,rm,dv,mxf,gif,wtv,vob,dvd,wav,mp3,aac,flac"
)
"""FFmpeg's names of the containers that are opened (sound files only to say what they lack)."""

MAX_PIXELS = 8192 * 8192
"""Frames larger than this are refused before a frame buffer is asked for."""

MAX_PIXEL_ASPECT = 16.0
"""Width over height of a pixel, or height over width; anamorphic films have up to 2."""

MEMORY_BYTES = 6 << 30
"""What the process may take besides what it has while a file is read, where the system can
limit it (Linux): a header of a kilobyte can ask for an index of gigabytes."""


class VideoError(ValueError):
    """A video cannot be used; the message is the reason that its row shows."""


@contextmanager
def bounded() -> Iterator[None]:
    """Limit the memory while a file is read; what FFmpeg and the limit say is a VideoError.

    Errors of the operating system that FFmpeg hands on are no errors of the machine: a damaged
    file gives them too.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    taken = _data_bytes()
    if taken is not None:
        wanted = [taken + MEMORY_BYTES, *(n for n in (soft, hard) if n != resource.RLIM_INFINITY)]
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_DATA, (min(wanted), hard))
    try:
        yield
    except MemoryError as error:
        raise VideoError(f"it needs more than {MEMORY_BYTES >> 30} GiB of memory") from error
    except av.error.FFmpegError as error:
        if error.errno == errno.ENOMEM:
            raise VideoError(f"it needs more than {MEMORY_BYTES >> 30} GiB of memory") from error
        raise VideoError(f"cannot be read to its end: {words(error)}") from error
    finally:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _data_bytes() -> int | None:
    """Return the memory of this process that RLIMIT_DATA counts, None where nothing tells."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[5])
    except OSError:
        return None
    return pages * resource.getpagesize()


def opened(path: Path) -> av.container.InputContainer:
    """Open a video; what is not one, or no ordinary one, is a VideoError."""
    if not path.is_file():
        raise VideoError("no such file")
    if path.stat().st_size == 0:
        raise VideoError("empty file")
    try:
        return av.open(
            str(path),
            mode="r",
            metadata_errors="ignore",
            options={
                "protocol_whitelist": "file",
                "format_whitelist": CONTAINERS,
                "max_pixels": str(MAX_PIXELS),
            },
        )
    except (av.error.FFmpegError, ValueError, UnicodeError) as error:
        raise VideoError(f"cannot be opened: {words(error)}") from error


def words(error: BaseException) -> str:
    """Return what an error of FFmpeg says."""
    return getattr(error, "strerror", None) or str(error)


def video_stream(container: av.container.InputContainer) -> av.VideoStream:
    """Return the first picture stream that is no cover picture."""
    for stream in container.streams.video:
        if stream.disposition & av.stream.Disposition.attached_pic:
            continue
        if stream.codec_context is None:
            raise VideoError("there is no decoder for its pictures")
        if not stream.width or not stream.height:
            raise VideoError("the picture stream has no size")
        if stream.width * stream.height > MAX_PIXELS:
            raise VideoError(f"frames of {stream.width}x{stream.height} are too large")
        return stream
    raise VideoError("no video stream")


def audio_stream(container: av.container.InputContainer) -> av.AudioStream | None:
    """Return the first sound track, None where there is none or no decoder for it."""
    audio = container.streams.audio
    return audio[0] if audio and audio[0].codec_context else None


def pixel_aspect(video: av.VideoStream) -> float:
    """Return the width of a pixel over its height."""
    aspect = float(video.sample_aspect_ratio or 1)
    if not 1 / MAX_PIXEL_ASPECT <= aspect <= MAX_PIXEL_ASPECT:
        raise VideoError(f"pixels {aspect:g} times as wide as high are no picture")
    return aspect
