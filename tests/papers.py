"""params.yaml with the papers' backbones, which stand there as comments."""

import re
from pathlib import Path

PARAMS = Path(__file__).parents[1] / "params.yaml"


def papers_params() -> str:
    """Return the text of params.yaml with every backbone that it names, the sample's as well."""
    return re.sub(r"^#(  \w+: \{module: .*\})$", r"\1", PARAMS.read_text(), flags=re.M)
