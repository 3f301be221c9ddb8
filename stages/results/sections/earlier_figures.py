"""Tables of the report's earlier sections, as HTML."""

from collections.abc import Iterable, Sequence


def table(head: Sequence[tuple[str, bool]], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    """Return a table; ``head`` is (name, whether its column holds numbers), all of it is HTML.

    A table of the kind `cards` becomes a card a row on a phone.
    """
    kinds = [" class=n" if number else "" for _, number in head]
    names = ["" if "<" in name else f' data-is="{name}"' for name, _ in head]
    first = "".join(f"<th{kind}>{name}</th>" for kind, (name, _) in zip(kinds, head, strict=True))
    body = "".join(
        "<tr>"
        + "".join(
            f"<td{k}{is_}>{cell}</td>" for k, is_, cell in zip(kinds, names, row, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    return f'<div class=scroll><table class="{kind}"><tr>{first}</tr>{body}</table></div>'
