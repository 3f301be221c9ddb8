"""The content of a data set's files: its hash, by which copies and absent files are known."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from features.cache import tables
from features.cache.digests import Digests
from features.video.listing import NO_FILE, Video

_EMPTY = hashlib.sha256().hexdigest()
"""Of a file without content, which has a reason of its own."""


def hash_videos(
    known: Digests, videos: Sequence[Video], elsewhere: Mapping[str, tables.Row]
) -> dict[Video, str | None]:
    """Return each video and its content's sha256; None, and a problem, where it has none.

    A video that is no file, of which there are features alone, counts by its id.

    A file that lies in another class too has a problem, and so have its copies: which of the
    classes is right is for a person to say.

    Args:
        known: digests of files that have not changed.
        videos: of the data set.
        elsewhere: by file the rows (``sha256``) of videos that are known but not here.
    """
    with ThreadPoolExecutor() as threads:  # hashing leaves Python's lock
        hashed = dict(threads.map(lambda video: _hash(known, video), videos))
    return _with_copies(_with_absent(hashed, elsewhere))


def _hash(known: Digests, video: Video) -> tuple[Video, str | None]:
    """Return the video with its content's hash, or with the reason why it has none."""
    if video.problem:
        return video, None
    if video.location is None:
        return video, hashlib.sha256(video.video_id.encode()).hexdigest()
    try:
        return video, known.sha256(video.location)
    except OSError as error:
        return replace(video, problem=f"cannot be read: {error.strerror}"), None


def _with_absent(
    hashed: Mapping[Video, str | None], elsewhere: Mapping[str, tables.Row]
) -> dict[Video, str | None]:
    """Return the videos with their hashes, those too that are not here but known elsewhere."""
    complete = {}
    for video, digest in hashed.items():
        row = elsewhere.get(video.file) if video.problem == NO_FILE else None
        if row is not None:
            video, digest = replace(video, problem=None), str(row["sha256"])
        complete[video] = digest
    return complete


def _with_copies(hashed: Mapping[Video, str | None]) -> dict[Video, str | None]:
    """Return the videos with their hashes, with a problem where a file is in another class too."""
    members: dict[str | None, list[Video]] = defaultdict(list)
    for video, digest in hashed.items():
        members[digest].append(video)
    checked = {}
    for video, digest in hashed.items():
        copies = members[digest] if digest not in (None, _EMPTY) else []
        others = [other.video_id for other in copies if other.label != video.label]
        if others:
            problem = (
                f"same file as {', '.join(others)}, of another class; keep the one that is right"
            )
            video = replace(video, problem=problem)
        checked[video] = digest
    return checked
