"""The parity table: made from tests/parity/, checked against its bounds, kept in parity.csv.

`AFFECTLINE_WRITE_PARITY=1 pytest tests/test_parity.py` writes the table anew, and PARITY.md, which
shows it.
"""

import csv
import importlib
import os
import pkgutil
from pathlib import Path

import numpy as np
import pytest

from features import backbones
from features.cache import tables
from tests import parity
from tests.parity import Certificate

TABLE = Path(backbones.__file__).with_name("parity.csv")
SHOWN = Path(__file__).parents[1] / "PARITY.md"

COLUMNS = (
    "network",
    "compared",
    "oracle",
    "input",
    "absolute",
    "relative",
    "cosine",
    "stored_relative",
)

LARGEST = 1e-4
"""Largest relative difference in float32: other kernels sum in another order."""

LARGEST_STORED = 2e-3
"""The same as stored: float16 has 11 bits."""

HEAD = f"""# Parity

Each backbone's numbers beside those of an independent oracle, from the same weights (seeded,
unless the input says otherwise) and the same input. Largest absolute difference, largest
difference relative to the largest value (bound: {LARGEST:g} in float32, {LARGEST_STORED:g} as
stored in float16), cosine.
Where the oracle is torch, the same network is computed by OpenVINO, the other runtime on a CPU.
`tests/test_parity.py` makes this table, which the report's feature cards read from
`features/backbones/parity.csv`, and writes both anew with `AFFECTLINE_WRITE_PARITY=1` set and
`AFFECTLINE_WEIGHTS` naming a folder with the pose model. Last digits differ between machines.

| backbone | compared | oracle | input | float32: abs, rel | cosine | stored: rel |
|---|---|---|---|---|---|---|
"""

MODULES = sorted(module.name for module in pkgutil.iter_modules(parity.__path__))
found: dict[str, list[Certificate]] = {}


@pytest.mark.slow
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


def row(certificate: Certificate) -> dict[str, str]:
    absolute, relative, cosine = certificate.differences(certificate.ours)
    _, stored, _ = certificate.differences(certificate.ours.astype(np.float16))
    return {
        "network": certificate.backbone,
        "compared": certificate.feature,
        "oracle": certificate.oracle,
        "input": certificate.input,
        "absolute": f"{absolute:.1e}",
        "relative": f"{relative:.1e}",
        "cosine": f"{cosine:.7f}",
        "stored_relative": f"{stored:.1e}",
    }


def read_table() -> list[dict[str, str]]:
    with TABLE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def markdown(rows: list[dict[str, str]]) -> str:
    lines = [
        f"| `{row['network']}` | `{row['compared']}` | {row['oracle']} | {row['input']} "
        f"| {row['absolute']}, {row['relative']} | {row['cosine']} | {row['stored_relative']} |\n"
        for row in rows
    ]
    return HEAD + "".join(lines)


@pytest.mark.slow
def test_every_backbone_has_a_certificate_and_a_row_in_the_table() -> None:
    assert set(backbones.names()) <= set(MODULES)
    rows = [row(certificate) for name in MODULES for certificate in found.get(name, [])]
    if os.environ.get("AFFECTLINE_WRITE_PARITY"):
        tables.write_csv(TABLE, COLUMNS, [list(each.values()) for each in rows])
        SHOWN.write_text(markdown(rows), encoding="utf-8")
    facts = COLUMNS[:4]
    listed = [[each[name] for name in facts] for each in read_table()]
    for each in rows:
        assert [each[name] for name in facts] in listed, f"{TABLE} lacks {each}; write it anew"


def test_parity_md_shows_the_table_and_nothing_else() -> None:
    assert SHOWN.read_text(encoding="utf-8") == markdown(read_table())
