"""What a video's headers say."""

from dataclasses import dataclass
from pathlib import Path

import av
import av.container
import av.error
import av.logging

from features.video.opening import audio_stream, bounded, opened, video_stream

_FIELDS = {0: None, 1: False}
"""FFmpeg's order of fields: unknown, none; what is more names one."""


@dataclass(frozen=True)
class Probe:
    """What a video's headers say; ``None`` where they do not.

    ``interlaced``: that its frames are two fields each; MPEG-4 says it in each frame only.
    """

    container: str
    video_codec: str
    width: int
    height: int
    interlaced: bool | None
    duration_s: float | None
    fps: float | None
    frames_stated: int | None
    audio_codec: str | None
    sample_rate_hz: int | None
    channels: int | None


def probe(path: Path) -> Probe:
    """Read a video's headers.

    Raises:
        VideoError: unreadable, empty, not a video, or no picture stream.
    """
    with bounded(), opened(path) as container:
        video = video_stream(container)
        audio = audio_stream(container)
        duration_s = container.duration / av.time_base if container.duration else None
        return Probe(
            container=container.format.name,
            video_codec=video.codec_context.name,
            width=video.width,
            height=video.height,
            interlaced=_FIELDS.get(video.codec_context.field_order, True),
            duration_s=duration_s,
            fps=float(video.average_rate) if video.average_rate else None,
            frames_stated=video.frames or None,
            audio_codec=audio.codec_context.name if audio else None,
            sample_rate_hz=audio.rate if audio else None,
            channels=audio.channels if audio else None,
        )
