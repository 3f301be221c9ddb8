from pathlib import Path

import numpy as np
import pytest
from storage import FILTERS, Count, measure


@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_gives_back_what_it_packs_and_its_size_is_of_float32(
    tmp_path: Path, name: str
) -> None:
    array = np.zeros((3, 512), np.float16)
    array[1] = np.random.default_rng(0).normal(size=512)
    count = measure(array, FILTERS[name], 1, tmp_path / "array.h5")
    total = Count()
    for _ in range(2):
        total.add(count, 1.5)
    size = total.result("all", name).size
    assert size == pytest.approx(count.packed / (4 * array.size))
    assert size == 0.5 if name == "none" else size < 0.5
