"""What stands in a piece of Python, by its syntax tree: the same in every version of Python.

Nothing here knows of the project: :mod:`features.cache.keys` follows the names.
"""

import ast
import symtable
from collections.abc import Iterator

Node = ast.AST

IMPORTERS = ("import_module", "__import__")
"""Functions that import by name."""

COMPREHENSIONS = ("listcomp", "setcomp", "dictcomp", "genexpr")
"""What symbol tables call the scopes of comprehensions."""


def is_text(statement: ast.stmt) -> bool:
    """Tell whether a statement is a bare string: a docstring, or one below a constant."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def is_script(statement: ast.stmt) -> bool:
    """Tell whether a statement is ``if __name__ == "__main__"``: not run on import."""
    return (
        isinstance(statement, ast.If)
        and isinstance(statement.test, ast.Compare)
        and isinstance(statement.test.left, ast.Name)
        and statement.test.left.id == "__name__"
    )


def defined_names(statement: ast.stmt) -> list[str]:
    """Return the names that a statement at the top of a module defines."""
    names = {}
    waiting: list[ast.AST] = [statement]
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names[node.name] = True
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names[node.id] = True
        elif not isinstance(node, (ast.Lambda, ast.comprehension)):
            waiting.extend(ast.iter_child_nodes(node))
    return list(names)


def statements(node: Node) -> Iterator[Node]:
    """Yield the statements of a module, those within others too, and of these no expression."""
    for name in ("body", "orelse", "finalbody", "handlers", "cases"):
        for part in getattr(node, name, ()):
            yield part
            yield from statements(part)


def imported_by_name(call: ast.Call) -> str | None:
    """Return the module of ``importlib.import_module("a.b")``, None for any other call."""
    called = call.func.attr if isinstance(call.func, ast.Attribute) else None
    called = call.func.id if isinstance(call.func, ast.Name) else called
    if called not in IMPORTERS or not call.args:
        return None
    name = call.args[0]
    return name.value if isinstance(name, ast.Constant) and isinstance(name.value, str) else None


def global_names(statement: ast.stmt) -> set[str]:
    """Return the names of a statement that are not local in all its functions.

    A comprehension at the top has names of its own in Python 3.11 and the module's from 3.12 on:
    they count as global in both.
    """
    top = symtable.symtable(ast.unparse(statement), "<statement>", "exec")
    used = {symbol.get_name() for symbol in top.get_symbols()}
    scopes = [(scope, True) for scope in top.get_children()]
    for scope, is_outermost in scopes:  # grows while it is walked
        outermost = is_outermost and scope.get_name() in COMPREHENSIONS
        for symbol in scope.get_symbols():
            if outermost or symbol.is_global() or symbol.is_imported():
                used.add(symbol.get_name())
        scopes.extend((inner, outermost) for inner in scope.get_children())
    return used


def _parts(node: Node) -> Iterator[tuple[str, object]]:
    """Yield the fields of a node that can make a number, the same in every version of Python.

    Left out: docstrings, the wording of errors, annotations of functions, what is empty.
    """
    if isinstance(node, ast.Raise):
        error = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        yield "exc", error
        return
    left_out = {"ctx", "kind", "type_comment", "type_params"}
    if isinstance(node, ast.Assert):
        left_out.add("msg")
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        left_out.add("returns")
    if isinstance(node, ast.arg):
        left_out.add("annotation")
    for name, value in ast.iter_fields(node):
        if name in left_out or value is None or value == []:
            continue
        if isinstance(node, ast.JoinedStr):
            yield name, _joined(value)
        elif name == "body" and isinstance(value, list):
            yield name, [part for part in value if not is_text(part)]
        else:
            yield name, value


def _joined(values: list[ast.expr]) -> list[ast.expr]:
    """Return the parts of an f-string, texts beside each other as one: versions differ there."""
    joined: list[ast.expr] = []
    for value in values:
        if isinstance(value, ast.Constant) and value.value == "":
            continue
        last = joined[-1] if joined else None
        if isinstance(value, ast.Constant) and isinstance(last, ast.Constant):
            joined[-1] = ast.Constant(str(last.value) + str(value.value))
        else:
            joined.append(value)
    return joined


def counting(node: Node) -> Iterator[Node]:
    """Yield a node and all below it that can make a number."""
    yield node
    for _name, value in _parts(node):
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, ast.AST):
                yield from counting(part)


def dump(value: object) -> str:
    """Return a node of the syntax tree as text, without its imports."""
    if isinstance(value, list):
        kept = [part for part in value if not isinstance(part, (ast.Import, ast.ImportFrom))]
        return f"[{','.join(dump(part) for part in kept)}]"
    if isinstance(value, ast.AST):
        fields = ",".join(f"{name}={dump(part)}" for name, part in _parts(value))
        return f"{type(value).__name__}({fields})"
    return repr(value)
