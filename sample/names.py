"""Which clips the sample has: known without drawing one, which takes seconds to import."""

LABELS = ("anger", "disgust", "fear", "joy", "sadness", "surprise")  # Ekman's six


def clip_id(label: str, number: int) -> str:
    """Return a clip's `video_id`, `<label>/<name>`; number is 1 for the first of a class."""
    return f"{label}/clip{number:02d}"


def clip_ids(clips_per_class: int) -> list[str]:
    """Return the `video_id` of each clip of a sample, by label and number."""
    return [clip_id(label, number) for label in LABELS for number in range(1, clips_per_class + 1)]
