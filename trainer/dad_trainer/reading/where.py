"""`--where`: which records to keep, an expression over the index's columns that is evaluated without running code."""

from __future__ import annotations

import ast
import difflib
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dad_datasets.errors import UserError
from dad_trainer.reading.where_syntax import parse, source_of

Kind = Literal["number", "string", "condition"]

Cells: TypeAlias = pa.ChunkedArray | pa.Scalar
"""A column of the table's length, or one scalar for all rows; nulls stand for unknown."""

_COMPARISONS = {
    ast.Lt: "less",
    ast.LtE: "less_equal",
    ast.Gt: "greater",
    ast.GtE: "greater_equal",
    ast.Eq: "equal",
    ast.NotEq: "not_equal",
}
_ARITHMETIC = {ast.Add: "add", ast.Sub: "subtract", ast.Mult: "multiply"}


def columns_of(expression: str) -> tuple[str, ...]:
    """The names that `expression` uses, sorted. UserError where it is not of the allowed syntax."""
    return tuple(sorted({node.id for node in ast.walk(parse(expression)) if isinstance(node, ast.Name)}))


def keep(expression: str, table: pa.Table) -> npt.NDArray[np.bool_]:
    """For each row of `table`, whether `expression` holds: bool [rows].

    Numbers are compared as float64. A comparison with a null in it is False, and `!=` and `not in` are comparisons; so
    is one with a division by zero, and a null condition. `not` turns that into True: `not x > 1` keeps the rows
    without x, `x <= 1` does not. UserError where the expression is not of the allowed syntax, names no column of
    `table`, or mixes kinds.
    """
    condition = _Evaluation(expression, table).condition(parse(expression))
    if isinstance(condition, pa.Scalar):
        return np.full(len(table), condition.as_py())
    kept: npt.NDArray[np.bool_] = condition.to_numpy()
    return kept


@dataclass(frozen=True)
class _Value:
    kind: Kind
    cells: Cells


@dataclass(frozen=True)
class _Evaluation:
    """One expression over one table; the nodes are those that `parse` lets through."""

    expression: str
    table: pa.Table

    def condition(self, node: ast.expr) -> Cells:
        """Without nulls: what is unknown is not so."""
        return pc.fill_null(self._of_kind(node, "condition"), False)

    def _of_kind(self, node: ast.expr, kind: Kind) -> Cells:
        value = self._value(node)
        if value.kind != kind:
            raise UserError(f"where: {source_of(node, self.expression)} is a {value.kind}; a {kind} is expected there")
        return value.cells

    def _value(self, node: ast.expr) -> _Value:
        match node:
            case ast.Constant(value=bool(value)):
                return _Value("condition", pa.scalar(value))
            case ast.Constant(value=str(value)):
                return _Value("string", pa.scalar(value))
            case ast.Constant(value=value):
                return _Value("number", pa.scalar(value, pa.float64()))
            case ast.Name(id=name):
                return self._column(name)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return _Value("condition", pc.invert(self.condition(operand)))
            case ast.UnaryOp(operand=operand):
                return _Value("number", pc.negate(self._of_kind(operand, "number")))
            case ast.BinOp():
                return _Value("number", self._arithmetic(node))
            case ast.BoolOp(op=op, values=values):
                combine = pc.and_ if isinstance(op, ast.And) else pc.or_
                return _Value("condition", reduce(combine, map(self.condition, values)))
            case ast.Compare():
                return _Value("condition", self._comparison(node))
        raise AssertionError(f"{type(node).__name__} is no node of the syntax")

    def _column(self, name: str) -> _Value:
        allowed = [field.name for field in self.table.schema if _kind_of(field.type) is not None]
        if name not in allowed:
            close = difflib.get_close_matches(name, allowed, n=2)
            hint = f"did you mean {' or '.join(close)}? The" if close else "the"
            raise UserError(f"where: {name} is not a column to filter by; {hint} columns are {', '.join(allowed)}")
        cells = self.table[name]
        kind = _kind_of(cells.type)
        assert kind is not None
        return _Value(kind, pc.cast(cells, pa.float64(), safe=False) if kind == "number" else cells)

    def _arithmetic(self, node: ast.BinOp) -> Cells:
        left, right = self._of_kind(node.left, "number"), self._of_kind(node.right, "number")
        if isinstance(node.op, ast.Div):  # Python refuses to divide by zero, arrow gives infinity: here it is unknown
            return pc.if_else(pc.equal(right, 0.0), pa.scalar(None, pa.float64()), pc.divide(left, right))
        return pc.call_function(_ARITHMETIC[type(node.op)], [left, right])

    def _comparison(self, node: ast.Compare) -> Cells:
        """`a < b < c` is `a < b and b < c`, as in Python."""
        pairs = zip(pairwise([node.left, *node.comparators]), node.ops, strict=True)
        return reduce(pc.and_, (self._compared(left, op, right) for (left, right), op in pairs))

    def _compared(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> Cells:
        value = self._value(left)
        if isinstance(right, ast.Tuple | ast.List):
            equal = [pc.equal(value.cells, self._of_kind(constant, value.kind)) for constant in right.elts]
            found = reduce(pc.or_, equal)
            return pc.fill_null(pc.invert(found) if isinstance(op, ast.NotIn) else found, False)
        compared = pc.call_function(_COMPARISONS[type(op)], [value.cells, self._of_kind(right, value.kind)])
        return pc.fill_null(compared, False)


def _kind_of(column: pa.DataType) -> Kind | None:
    if pa.types.is_boolean(column):
        return "condition"
    if pa.types.is_integer(column) or pa.types.is_floating(column):
        return "number"
    return "string" if pa.types.is_string(column) or pa.types.is_large_string(column) else None
