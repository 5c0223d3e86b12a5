"""The syntax of `--where`: the few nodes of Python's that it may consist of; everything else is refused, quoted."""

from __future__ import annotations

import ast
import math
from collections.abc import Sequence

from dad_datasets.errors import UserError

MAX_CHARACTERS = 10_000
"""Enough for `label in (...)` with two hundred classes, ten times over."""

MAX_DEPTH = 50
"""Of nested operators: far below what would exhaust Python's stack."""

LARGEST_INTEGER = 2**53
"""Numbers are compared as float64, which holds every integer up to here."""

SYNTAX = "columns, numbers, strings, True, False, comparisons, in (...), and, or, not, + - * /"

_COMPARISONS = (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq, ast.In, ast.NotIn)
_ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.Div)


def parse(expression: str) -> ast.expr:
    """The syntax tree of `expression`, made of allowed nodes alone. UserError quoting what is not allowed."""
    if len(expression) > MAX_CHARACTERS:
        raise UserError(f"where: has {len(expression):,} characters; at most {MAX_CHARACTERS:,} are allowed")
    text = expression.strip()
    try:
        tree = ast.parse(text, mode="eval").body
    except SyntaxError as error:
        raise UserError(f"where: {quoted(text)} is not an expression: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError):  # null bytes, lone surrogates, what overflows the parser's stack
        raise UserError(f"where: {quoted(text)} cannot be parsed") from None
    _check(tree, text, depth=0)
    return tree


def source_of(node: ast.expr, text: str) -> str:
    """The part of `text` that `node` was parsed from, quoted."""
    return quoted(ast.get_source_segment(text.strip(), node) or text)


def quoted(text: str) -> str:
    """`text` in quotation marks, cut where it is long."""
    return f'"{text if len(text) <= 80 else text[:77] + "..."}"'


def _check(node: ast.expr, text: str, *, depth: int) -> None:
    """UserError unless `node` and all below it are allowed."""
    if depth > MAX_DEPTH:
        raise UserError(f"where: {quoted(text)} is nested deeper than {MAX_DEPTH} operators")
    for operand in _operands(node, text):
        _check(operand, text, depth=depth + 1)


def _operands(node: ast.expr, text: str) -> Sequence[ast.expr]:
    match node:
        case ast.Name():
            return ()
        case ast.Constant(value=value) if _is_allowed(value):
            return ()
        case ast.BoolOp(values=values):
            return values
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            return (operand,)
        case ast.BinOp(left=left, right=right, op=op) if isinstance(op, _ARITHMETIC):
            return (left, right)
        case ast.Compare(ops=ops) if all(isinstance(op, _COMPARISONS) for op in ops):
            return _compared(node, text)
    raise UserError(f"where: {source_of(node, text)} cannot be used; allowed: {SYNTAX}")


def _compared(node: ast.Compare, text: str) -> Sequence[ast.expr]:
    """What is compared. Right of `in`, which must come last, stands a list of constants; elsewhere none may."""
    operands = [node.left]
    for place, (op, right) in enumerate(zip(node.ops, node.comparators, strict=True)):
        if not isinstance(op, ast.In | ast.NotIn):
            operands.append(right)
        elif place == len(node.ops) - 1 and isinstance(right, ast.Tuple | ast.List) and _is_constant_list(right.elts):
            operands.extend(right.elts)
        else:
            raise UserError(
                f"where: {source_of(right, text)} cannot stand right of in there; "
                "expected constants in brackets, such as (1, 2) or ['ok'], and nothing compared with them"
            )
    return operands


def _is_constant_list(elements: Sequence[ast.expr]) -> bool:
    unsigned = [e.operand if isinstance(e, ast.UnaryOp) and isinstance(e.op, ast.USub) else e for e in elements]
    return bool(unsigned) and all(isinstance(element, ast.Constant) for element in unsigned)


def _is_allowed(value: object) -> bool:
    match value:
        case bool():
            return True
        case int():
            return value <= LARGEST_INTEGER
        case float():
            return math.isfinite(value)
        case str():
            return not any("\ud800" <= character <= "\udfff" for character in value)  # half a character: no column's
    return False
