"""Answers to new videos: what is said of each, for a person and as a table."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from heads.training.targets import BETWEEN, Target

LIKELIEST = 3
"""Of the classes, those that a person is told."""


@dataclass(frozen=True)
class Moment:
    """A row that decided: of one attention one of those with the most weight.

    Attributes:
        attention: name of the head's output.
        role: whose row.
        row: its number.
        time_s: when it is shown or begins to be heard, seconds.
        weight: the mean over the runs.
    """

    attention: str
    role: str
    row: int
    time_s: float
    weight: float


@dataclass(frozen=True)
class Prediction:
    """What the runs answer of one video.

    Attributes:
        file: as it was given.
        reason: why there is no answer; None where there is one.
        sha256: of the file, None where it cannot be read.
        predicted: the class with the largest mean probability; the labels whose is at least 0.5,
            with | between them; None of dimensions.
        probabilities: class, or label, -> mean over the runs.
        estimates: dimension -> mean over the runs, in its unit.
        spread: class, label or dimension -> standard deviation over the runs, None of a single run.
        runs: run -> class, label or dimension -> probability, or estimate.
        rows: role -> how many rows the head saw, of how many.
        lacking: what it had to do without, by role.
        moments: the rows that decided.
        trained_on_in: runs that were trained on this very video: no test of anything.
    """

    file: str
    reason: str | None = None
    sha256: str | None = None
    predicted: str | None = None
    probabilities: Mapping[str, float] | None = None
    estimates: Mapping[str, float] | None = None
    spread: Mapping[str, float | None] | None = None
    runs: Mapping[str, Mapping[str, float]] | None = None
    rows: Mapping[str, tuple[int, int]] | None = None
    lacking: Mapping[str, str] | None = None
    moments: Sequence[Moment] = ()
    trained_on_in: Sequence[str] = ()


def csv_rows(
    target: Target, predictions: Iterable[Prediction]
) -> tuple[list[str], list[list[object]]]:
    """Return the columns and rows of a CSV: a row a video, a probability and its spread a class.

    Of labels likewise; of dimensions a number each, and its spread.
    """
    is_of_numbers = target.kind == "dimensions"
    columns = ["video"] if is_of_numbers else ["video", "predicted"]
    columns += [f"{'predicted' if is_of_numbers else 'p'}_{name}" for name in target.names]
    columns += [f"spread_{name}" for name in target.names]
    columns += ["runs", "lacking", "moments", "trained_on_in", "sha256", "reason"]
    rows: list[list[object]] = []
    for each in predictions:
        values = (each.estimates if is_of_numbers else each.probabilities) or {}
        spread = each.spread or {}
        moments = "; ".join(f"{m.role} {m.time_s:.3f} s {m.weight:.4f}" for m in each.moments)
        lacking = "; ".join(f"{role}: {what}" for role, what in (each.lacking or {}).items())
        rows.append(
            [
                each.file,
                *([] if is_of_numbers else [each.predicted or ""]),
                *(values.get(name, "") for name in target.names),
                *("" if spread.get(name) is None else spread[name] for name in target.names),
                len(each.runs or {}),
                lacking,
                moments,
                " ".join(each.trained_on_in),
                each.sha256 or "",
                each.reason or "",
            ]
        )
    return columns, rows


def told(target: Target, prediction: Prediction) -> tuple[str, str, str, str]:
    """Return a prediction for a person: file, answer with chances, moments, what to know."""
    if prediction.reason is not None:
        return prediction.file, "none", "", prediction.reason
    by_attention = Counter((m.attention, m.role) for m in prediction.moments)
    moments = [
        f"{role}: "
        + ", ".join(
            f"{m.time_s:.1f} s ({m.weight:.2f})"
            for m in prediction.moments
            if (m.attention, m.role) == (attention, role)
        )
        for attention, role in by_attention
    ]
    notes = [f"{role}: {what}" for role, what in (prediction.lacking or {}).items()]
    if prediction.trained_on_in:
        notes.append(f"trained on in {', '.join(prediction.trained_on_in)}")
    answer = answer_of(target, prediction)
    return prediction.file, answer, "\n".join(moments), "; ".join(notes)


def answer_of(target: Target, prediction: Prediction) -> str:
    """Return what is answered: the likeliest classes, the labels and no others, or the numbers."""
    spread = prediction.spread or {}
    if prediction.estimates is not None:
        return ", ".join(
            f"{name} {value:.2f}{_spread(spread[name], 1, '.2f')}"
            for name, value in prediction.estimates.items()
        )
    chances = prediction.probabilities or {}
    ranked = sorted(chances, key=lambda name: -chances[name])
    parts = {
        name: f"{name} {100 * chances[name]:.0f}{_spread(spread[name], 100, '.0f')} %"
        for name in ranked
    }
    if target.kind == "class":
        return ", ".join([*parts.values()][:LIKELIEST])
    answered = labels_of(prediction)
    if not answered:
        return f"none of the labels; {parts[ranked[0]]}"
    return ", ".join(text for name, text in parts.items() if name in answered)


def labels_of(prediction: Prediction) -> list[str]:
    """Return the labels that are answered, none where there are none."""
    return prediction.predicted.split(BETWEEN) if prediction.predicted else []


def _spread(value: float | None, unit: float, form: str) -> str:
    return "" if value is None else f" ± {unit * value:{form}}"
