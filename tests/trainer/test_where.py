"""The expressions of --where against Python's own evaluation, row by row; and everything else refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dad_datasets.errors import UserError
from dad_trainer.reading.where import columns_of, keep

NUMBERS = ("label", "confidence")
SCHEMA = pa.schema(
    [
        ("label", pa.int32()),
        ("confidence", pa.float32()),
        ("status", pa.string()),
        ("flip", pa.bool_()),
        ("canvas_sha256", pa.binary(32)),
    ]
)


class Unknown:
    """A null as `keep` documents it: no comparison with it holds, and arithmetic with it gives it again."""

    def _no(self, other: object) -> bool:
        return False

    def _unknown(self, *others: object) -> Unknown:
        return self

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _no
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __neg__ = _unknown
    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        return False


UNKNOWN = Unknown()


@dataclass(frozen=True)
class Text:
    """An expression, and the same for Python's eval, which knows neither nulls in `not in` nor division by zero."""

    ours: str
    python: str


def same(text: str) -> Text:
    return Text(text, text)


def joined(*parts: Text | str) -> Text:
    texts = [same(part) if isinstance(part, str) else part for part in parts]
    return Text("".join(part.ours for part in texts), "".join(part.python for part in texts))


def divide(left: float | Unknown, right: float | Unknown) -> float | Unknown:
    if isinstance(left, Unknown) or isinstance(right, Unknown) or right == 0:
        return UNKNOWN
    return left / right


def not_in(value: object, options: tuple[object, ...]) -> bool:
    return not isinstance(value, Unknown) and value not in options


number_constants = st.one_of(st.integers(0, 5), st.floats(0, 1e300), st.sampled_from([0.5, 2**53, 1e-300])).map(repr)
string_constants = st.sampled_from(["", "ok", "failed", "clean_only", "ü'\"\\", "\U0001f600"]).map(repr)


def _arithmetic(numbers: st.SearchStrategy[Text]) -> st.SearchStrategy[Text]:
    def combine(left: Text, sign: str, right: Text) -> Text:
        if sign == "/":
            return Text(f"({left.ours} / {right.ours})", f"divide({left.python}, {right.python})")
        return joined("(", left, f" {sign} ", right, ")")

    return st.one_of(
        st.builds(combine, numbers, st.sampled_from("+-*/"), numbers), numbers.map(lambda n: joined("(-", n, ")"))
    )


def _listed(value: Text, options: list[str], negated: bool) -> Text:
    listed = f"({', '.join(options)},)"
    if negated:
        return Text(f"{value.ours} not in {listed}", f"not_in({value.python}, {listed})")
    return joined(value, f" in {listed}")


def _comparisons(values: st.SearchStrategy[Text], constants: st.SearchStrategy[str]) -> st.SearchStrategy[Text]:
    signs = st.sampled_from(["<", "<=", ">", ">=", "==", "!="])
    chain = st.builds(
        lambda first, rest: joined(first, *(part for sign, value in rest for part in (f" {sign} ", value))),
        values,
        st.lists(st.tuples(signs, values), min_size=1, max_size=3),
    )
    return st.one_of(chain, st.builds(_listed, values, st.lists(constants, min_size=1, max_size=3), st.booleans()))


# As in the columns, every number is a float to Python too, or its integers would be exact beyond 2^53.
numbers = st.recursive(
    st.one_of(st.sampled_from(NUMBERS).map(same), number_constants.map(lambda c: Text(c, f"float({c})"))),
    _arithmetic,
    max_leaves=5,
)
strings = st.one_of(st.just(same("status")), string_constants.map(same))
leaves = st.one_of(
    _comparisons(numbers, number_constants),
    _comparisons(strings, string_constants),
    st.sampled_from(["flip", "True", "False", "flip == True", "flip != False"]).map(same),
)
conditions = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(lambda a, op, b: joined("(", a, f" {op} ", b, ")"), inner, st.sampled_from(["and", "or"]), inner),
        inner.map(lambda c: joined("not (", c, ")")),
    ),
    max_leaves=6,
)
rows = st.fixed_dictionaries(
    {
        "label": st.none() | st.integers(-3, 5),
        "confidence": st.none() | st.floats(0, 2, width=32) | st.sampled_from([0.0, float("inf"), float("nan")]),
        "status": st.none() | st.sampled_from(["", "ok", "failed", "ü'\"\\"]),
        "flip": st.none() | st.booleans(),
    }
)


def evaluate(text: Text, row: dict[str, Any]) -> bool:
    known = {name: UNKNOWN if value is None else value for name, value in row.items()}
    if row["label"] is not None:
        known["label"] = float(row["label"])
    return bool(eval(text.python, {"divide": divide, "not_in": not_in, "float": float} | known))


@settings(deadline=None, max_examples=150)
@given(condition=conditions, cells=st.lists(rows, max_size=6))
def test_keeps_what_python_keeps(condition: Text, cells: list[dict[str, Any]]) -> None:
    table = pa.Table.from_pylist(cells, schema=SCHEMA)
    assert keep(condition.ours, table).tolist() == [evaluate(condition, row) for row in cells]
    used = set(columns_of(condition.ours))
    assert used == {name for name in SCHEMA.names if name in condition.ours}


@settings(deadline=None)
@given(condition=conditions, cells=st.lists(rows, min_size=2, max_size=6), cut=st.integers(1, 5))
def test_chunks_make_no_difference(condition: Text, cells: list[dict[str, Any]], cut: int) -> None:
    table = pa.Table.from_pylist(cells, schema=SCHEMA)
    chunked = pa.concat_tables([table[:cut], table[cut:]])
    assert keep(condition.ours, chunked).tolist() == keep(condition.ours, table).tolist()


@pytest.mark.parametrize(
    ("expression", "kept"),
    [
        ("label > 1", [False, True, False]),
        ("label <= 1", [True, False, False]),
        ("not label > 1", [True, False, True]),
        ("label != 1", [False, True, False]),
        ("label not in (1, 7)", [False, True, False]),
        ("label / 0 > 1 or not label / 0 > 1", [True, True, True]),
        ("flip", [True, False, False]),
        ("not flip", [False, True, True]),
        ("  confidence == 0.5\n", [True, False, False]),
        ("1 < 2", [True, True, True]),
        ("label in [-1, 2]", [False, True, False]),
    ],
)
def test_what_nulls_do(expression: str, kept: list[bool]) -> None:
    columns = {"label": [1, 2, None], "confidence": [0.5, 0.25, None], "flip": [True, False, None]}
    table = pa.table(columns | {"status": ["ok", "ok", None], "canvas_sha256": [None] * 3}, schema=SCHEMA)
    assert keep(expression, table).tolist() == kept


@pytest.mark.parametrize(
    ("expression", "quoted"),
    [
        ("__import__('os').system('true')", "__import__('os').system('true')"),
        ("flip and label.real > 1", "label.real"),
        ("label[0] == 1", "label[0]"),
        ("[x for x in (1, 2)] == 1", "[x for x in (1, 2)]"),
        ("(lambda: 1)() == 1", "(lambda: 1)()"),
        ("(label := 3) == 3", "label := 3"),
        ("f'{label}' == '1'", "f'{label}'"),
        ("label ** 2 == 4", "label ** 2"),
        ("label % 2 == 0", "label % 2"),
        ("~label == 1", "~label"),
        ("label is None", "label is None"),
        ("label if flip else flip", "label if flip else flip"),
        ("status == b'ok'", "b'ok'"),
        ("label == 1j", "1j"),
        ("label == ...", "..."),
        ("label < 1e999", "1e999"),
        ("label < 9007199254740993", "9007199254740993"),
        (r"status == '\ud800'", r"'\ud800'"),
        ("(1, 2) == label", "(1, 2)"),
        ("label in ()", "()"),
        ("label in (1, label)", "(1, label)"),
        ("label in (1, [2])", "(1, [2])"),
        ("label in (1, 2) == flip", "(1, 2)"),
        ("status in 'ok'", "'ok'"),
        ("label == 1; flip", "label == 1; flip"),
        ("label = 1", "label = 1"),
        ("((label == 1", "((label == 1"),
        ("", ""),
        ("label == \0", "label == \0"),
        ("status == '\udc80'", "status == '\udc80'"),
    ],
)
def test_other_syntax_is_refused_and_quoted(expression: str, quoted: str) -> None:
    with pytest.raises(UserError) as refused:
        keep(expression, SCHEMA.empty_table())
    assert f'"{quoted}"' in str(refused.value)
    with pytest.raises(UserError):
        columns_of(expression)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("label", '"label" is a number; a condition is expected there'),
        ("label and flip", '"label" is a number'),
        ("not status", '"status" is a string'),
        ("status == 1", '"1" is a number; a string is expected there'),
        ("label < 'a'", "\"'a'\" is a string; a number"),
        ("flip == 1", '"1" is a number; a condition'),
        ("label in (1, 'a')", "\"'a'\" is a string; a number"),
        ("status + 'a' == 'b'", '"status" is a string; a number'),
        ("-flip < 0", '"flip" is a condition; a number'),
    ],
)
def test_kinds_are_not_mixed(expression: str, message: str) -> None:
    with pytest.raises(UserError) as refused:
        keep(expression, SCHEMA.empty_table())
    assert message in str(refused.value)


def test_an_unknown_column_is_named_with_the_nearest_and_all() -> None:
    with pytest.raises(UserError, match=r"lable is not .* did you mean label\? The columns are label, .*, flip$"):
        keep("lable == 1", SCHEMA.empty_table())
    with pytest.raises(UserError, match="canvas_sha256 is not a column to filter by"):
        keep("canvas_sha256 == 'a'", SCHEMA.empty_table())


@pytest.mark.parametrize(
    "expression", ["not " * 60 + "flip", "label" + "+label" * 60 + " > 1", "(" * 180 + "-" * 3000 + "1" + ")" * 180]
)
def test_depth_is_bounded(expression: str) -> None:
    with pytest.raises(UserError, match=r"nested deeper than 50 operators|cannot be parsed"):
        keep(expression, SCHEMA.empty_table())


def test_length_is_bounded() -> None:
    many = f"label in ({', '.join(map(str, range(1000)))})"
    assert not keep(many, SCHEMA.empty_table()).any()
    with pytest.raises(UserError, match=r"has 10,00\d characters; at most 10,000"):
        keep(f"label in ({'1,' * 5000})"[:10_000] + ")" * 5, SCHEMA.empty_table())


def test_columns_are_found_once_and_sorted() -> None:
    assert columns_of("flip and label == 1 and label in (1, 2)") == ("flip", "label")
    assert columns_of("True") == ()
