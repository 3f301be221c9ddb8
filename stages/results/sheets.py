"""Sheets: pictures side by side that the page embeds once, whichever experiments show them."""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stages.results import maps, pictures
from stages.results.attention import Values
from stages.results.page import Budget
from stages.results.pictures import Faces, NotHere


@dataclass(frozen=True)
class Sheet:
    """A file of pictures of one size, side by side.

    Attributes:
        number: of the sheet in the page, from 0.
        data: the file.
        kind: `image/webp`, `image/png`.
        count: how many pictures there are.
        size: width and height of one in pixels.
        frame: height and width of what it was made of.
    """

    number: int
    data: bytes
    kind: str
    count: int
    size: tuple[int, int]
    frame: tuple[int, int]

    @property
    def address(self) -> str:
        """The data URI."""
        return f"data:{self.kind};base64,{base64.b64encode(self.data).decode()}"


class Sheets:
    """The sheets of a page, each made and embedded once, as far as there is room.

    Attributes:
        faces: how faces are shown.
        embedded: the sheets, in the order of their numbers.
        missing: why pictures lack, each reason once.
        left_out: how many did not find room.
    """

    def __init__(self, faces: Faces, budget: Budget) -> None:
        """Start without a sheet; the bytes come from ``budget``."""
        self.faces = faces
        self.embedded: list[Sheet] = []
        self.missing: list[str] = []
        self.left_out = 0
        self._budget = budget
        self._known: dict[object, Sheet | None] = {}

    def pictures(self, view: str, video_id: str, rows: Sequence[int]) -> Sheet | None:
        """Return rows of a view as small pictures; None where they lack, or are not to be seen."""

        def made(number: int) -> Sheet:
            sprite = pictures.sprite(view, video_id, rows, self.faces)
            size, frame = sprite.size, sprite.frame
            return Sheet(number, sprite.data, pictures.KIND, len(rows), size, frame)

        return self._once((view, video_id, tuple(rows)), made)

    def still(self, view: str, video_id: str, row: int, height_px: int) -> Sheet | None:
        """Return one row of a view as a larger picture, likewise."""

        def made(number: int) -> Sheet:
            sprite = pictures.sprite(view, video_id, [row], self.faces, height_px)
            return Sheet(number, sprite.data, pictures.KIND, 1, sprite.size, sprite.frame)

        return self._once((view, video_id, row, height_px), made)

    def heat(self, shares: Values) -> Sheet | None:
        """Return maps in times an even share, (T, H, W), as pictures that lie over frames."""
        side = maps.TILE_PX

        def made(number: int) -> Sheet:
            return Sheet(number, maps.heat(shares), maps.KIND, len(shares), (side, side), (1, 1))

        return self._once(("heat", shares.shape, shares.tobytes()), made)

    def _once(self, key: object, made: Callable[[int], Sheet]) -> Sheet | None:
        if self.faces == "leave out":
            return None
        if key not in self._known:
            self._known[key] = self._embed(made)
        return self._known[key]

    def _embed(self, made: Callable[[int], Sheet]) -> Sheet | None:
        try:
            sheet = made(len(self.embedded))
        except NotHere as error:
            self.missing.append(str(error))
            return None
        if not self._budget.take(sheet.data):
            self.left_out += 1
            return None
        self.embedded.append(sheet)
        return sheet
