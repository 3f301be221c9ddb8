"""The parity table: made from tests/parity/, checked against its bounds, kept in PARITY.md.

`AFFECTLINE_WRITE_PARITY=1 pytest tests/test_parity.py` writes PARITY.md anew.
"""

import importlib
import os
import pkgutil
from pathlib import Path

import numpy as np
import pytest

from features import backbones
from tests import parity
from tests.parity import Certificate

pytestmark = pytest.mark.slow

TABLE = Path(__file__).parents[1] / "PARITY.md"

LARGEST = 1e-4
"""Largest relative difference in float32: other kernels sum in another order."""

LARGEST_STORED = 2e-3
"""The same as stored: float16 has 11 bits."""

HEAD = f"""# Parity

Each backbone's numbers beside those of an independent oracle, from the same weights (seeded,
unless the input says otherwise) and the same input. Largest absolute difference, largest
difference relative to the largest value (bound: {LARGEST:g} in float32, {LARGEST_STORED:g} as
stored in float16), cosine.
`tests/test_parity.py` makes this table, and writes it anew with `AFFECTLINE_WRITE_PARITY=1` set and
`AFFECTLINE_WEIGHTS` naming a folder with the pose model. Last digits differ between machines.

| backbone | compared | oracle | input | float32: abs, rel | cosine | stored: rel |
|---|---|---|---|---|---|---|
"""

MODULES = sorted(module.name for module in pkgutil.iter_modules(parity.__path__))
found: dict[str, list[Certificate]] = {}


@pytest.mark.parametrize("name", MODULES)
def test_a_backbone_gives_its_oracles_numbers(name: str) -> None:
    found[name] = list(importlib.import_module(f"tests.parity.{name}").certificates())
    for certificate in found[name]:
        where = f"{name} {certificate.feature} beside {certificate.oracle}"
        assert certificate.ours.shape == certificate.reference.shape, where
        assert certificate.reference.size and certificate.reference.std() > 0, where
        _, relative, cosine = certificate.differences(certificate.ours)
        assert relative <= LARGEST and cosine > 0.99999, (where, relative, cosine)
        _, relative, cosine = certificate.differences(certificate.ours.astype(np.float16))
        assert relative <= LARGEST_STORED and cosine > 0.9999, (where, relative, cosine)


def row(certificate: Certificate) -> str:
    absolute, relative, cosine = certificate.differences(certificate.ours)
    _, stored, _ = certificate.differences(certificate.ours.astype(np.float16))
    cells = (
        f"`{certificate.backbone}`",
        f"`{certificate.feature}`",
        certificate.oracle,
        certificate.input,
        f"{absolute:.1e}, {relative:.1e}",
        f"{cosine:.7f}",
        f"{stored:.1e}",
    )
    return f"| {' | '.join(cells)} |"


def test_every_backbone_has_a_certificate_and_a_row_in_the_table() -> None:
    assert set(backbones.names()) <= set(MODULES)
    rows = [row(certificate) for name in MODULES for certificate in found.get(name, [])]
    if os.environ.get("AFFECTLINE_WRITE_PARITY"):
        TABLE.write_text(HEAD + "\n".join(rows) + "\n", encoding="utf-8")
    listed = [line.split(" | ")[:4] for line in TABLE.read_text(encoding="utf-8").splitlines()]
    for line in rows:
        assert line.split(" | ")[:4] in listed, f"PARITY.md lacks {line}; write it anew"
