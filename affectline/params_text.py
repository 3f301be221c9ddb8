"""params.yaml as a person has written it: changed in places, comments and order kept."""

import io
from collections.abc import Mapping

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError
from ruamel.yaml.representer import RoundTripRepresenter

from stages.engine.params import ParamsError
from stages.engine.paths import PARAMS


class _Representer(RoundTripRepresenter):
    """Writes null as `null`, and not as nothing."""


_Representer.add_representer(
    type(None), lambda writer, _: writer.represent_scalar("tag:yaml.org,2002:null", "null")
)


def _editor() -> YAML:
    editor = YAML()
    editor.preserve_quotes = True
    editor.width = 2**16
    editor.Representer = _Representer
    return editor


def parse(text: str) -> CommentedMap:
    """Return the tree of a text of params.yaml, to be changed.

    Raises:
        ParamsError: it is no YAML.
    """
    try:
        tree: CommentedMap = _editor().load(text)
    except YAMLError as error:
        raise ParamsError(f"{PARAMS}: expected YAML, found: {error}") from error
    return tree


def unparse(tree: CommentedMap) -> str:
    """Return the text of a tree."""
    out = io.StringIO()
    _editor().dump(tree, out)
    return out.getvalue()


def flow(values: Mapping[str, object]) -> CommentedMap:
    """Return values that stand on one line, `{a: 1, b: 2}`."""
    line = CommentedMap(values)
    line.fa.set_flow_style()
    return line
