# SPDX-License-Identifier: MulanPSL-2.0
"""Texts in a syntax tree, as templates: "cannot start {0}: {1}"."""

import ast
from collections.abc import Iterator


def messages(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.JoinedStr):
        yield _template(node)
        for part in node.values:
            yield from messages(part) if isinstance(part, ast.FormattedValue) else ()
        return
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    for child in ast.iter_child_nodes(node):
        is_docstring = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
        if not is_docstring:
            yield from messages(child)


def _template(text: ast.JoinedStr) -> str:
    numbers = iter(range(len(text.values)))
    return "".join(
        str(part.value) if isinstance(part, ast.Constant) else f"{{{next(numbers)}}}"
        for part in text.values
    )


def messages_at_the_top(node: ast.expr) -> Iterator[str]:
    """One, or those that it is chosen of."""
    match node:
        case ast.JoinedStr():
            yield _template(node)
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp(body=one, orelse=other):
            yield from messages_at_the_top(one)
            yield from messages_at_the_top(other)
        case _:
            pass


def with_constants(tree: ast.Module) -> ast.Module:
    """Names of texts of the module itself, replaced by the texts."""
    texts = {
        target.id: value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(value := node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name) and isinstance(value.value, str)
    }

    class Replacing(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.expr:
            is_read = isinstance(node.ctx, ast.Load)
            return texts.get(node.id, node) if is_read else node

    replaced = Replacing().visit(tree)
    assert isinstance(replaced, ast.Module)
    return replaced
