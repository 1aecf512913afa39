"""The document schema as typed columns: what each kind of schema becomes, and that no value is lost on the way."""

from __future__ import annotations

import datetime
import json
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, WithJsonSchema

import ingest
from ingest.errors import ConfigError
from ingest.keeping.sinks.columns import Column, Type, columns_of
from ingest.keeping.sinks.rows import Layout, layout_of
from ingest.recipes import recipe_names
from ingest.record import RecipeInfo
from ingest.types import JsonObject
from tests.sink_samples import record, write

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install 'ingest[arrow]'")

LINE = {"type": "object", "properties": {"v": {"type": "integer"}}}
NODE = {"type": "object", "properties": {"v": {"type": "integer"}, "kids": {"items": {"$ref": "#/$defs/Node"}}}}

TYPES = [
    ({"type": "string"}, "string"),
    ({"type": ["integer", "null"]}, "int64"),
    ({"type": "number"}, "double"),
    ({"type": ["integer", "number"]}, "double"),
    ({"type": "number", "multipleOf": 0.01}, "decimal128(38, 2)"),
    ({"type": "number", "multipleOf": 0.25}, "decimal128(38, 2)"),
    ({"type": "number", "multipleOf": 10}, "decimal128(38, 0)"),
    ({"type": "boolean"}, "bool"),
    ({"type": "string", "format": "date"}, "date32[day]"),
    ({"type": "string", "format": "date-time"}, "timestamp[us, tz=UTC]"),
    ({"type": "string", "format": "time"}, "time64[us]"),
    ({"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]}, "date32[day]"),
    ({"anyOf": [{"type": "string", "format": "date"}, {"type": "string"}]}, "string"),
    ({"enum": ["a", "b", None]}, "string"),
    ({"const": 3}, "int64"),
    ({"allOf": [{"type": "number"}, {"type": "integer"}]}, "int64"),
    ({"$ref": "#/$defs/Day"}, "date32[day]"),
    ({"$ref": "#/$defs/Day", "description": "with words beside"}, "date32[day]"),
    ({"type": "array", "items": {"type": "integer"}}, "list<item: int64>"),
    ({"type": "object", "properties": {"x": {"type": "boolean"}}}, "struct<x: bool>"),
    ({"oneOf": [{"properties": {"x": {"const": 1}}}, {"properties": {"x": {"const": 2}, "y": {"type": "string"}}}]},
     "struct<x: int64, y: string>"),
    # What has no one type is JSON text.
    ({"type": ["string", "integer"]}, "string"),
    ({"type": "object", "additionalProperties": {"type": "number"}}, "string"),
    ({"type": "array"}, "string"),
    ({"type": "array", "prefixItems": [{"type": "integer"}], "items": {"type": "string"}}, "string"),
    ({}, "string"),
    (True, "string"),
    ({"$ref": "#/$defs/Node"}, "struct<v: int64, kids: list<item: string>>"),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "expected"), TYPES, ids=[json.dumps(schema) for schema, _ in TYPES])
def test_a_schema_becomes_the_column_type_a_reader_expects(schema: Any, expected: str) -> None:
    """A date that arrives as text has to be parsed by everybody again."""
    day = {"type": "string", "format": "date"}
    root = {"type": "object", "properties": {"it": schema}, "$defs": {"Day": day, "Node": NODE}}
    assert str(ingest.records_to_arrow([], root).schema.field("it").type) == expected


def test_references_that_lead_nowhere_are_told() -> None:
    """A typing error in a $ref must not become a traceback, nor a column of nothing."""
    with pytest.raises(ConfigError, match="nowhere"):
        columns_of({"type": "object", "properties": {"a": {"$ref": "#/$defs/nowhere"}}})
    with pytest.raises(ConfigError, match="object with properties"):
        columns_of({"type": "array", "items": {"type": "string"}})


def test_names_stay_apart_without_regard_to_case_and_from_the_own_columns() -> None:
    """DuckDB and SQL know no difference between Total and total, and one must not hide the other."""
    names = ("total", "Total", "TOTAL", "_status", "_number", "_Evidence", "", "\0")
    found = columns_of({"properties": {name: {"type": "string"} for name in names}}, reserved=("_status", "_evidence"))
    folded = [column.name.casefold() for column in found]
    assert len(set(folded)) == len(names)
    assert not {"_status", "_evidence"} & set(folded)
    assert found[0].name == "total"
    grown = columns_of({"properties": {name: {"type": "string"} for name in ("TOTAL", "x", "total")}})
    assert {c.key: c.name for c in grown}["TOTAL"] == {c.key: c.name for c in found}["TOTAL"]


FITS = [
    ("integer", 3.0, 3),
    ("integer", True, None),
    ("integer", 2**63, None),
    ("integer", 1.5, None),
    ("number", 2**53 + 1, None),
    ("number", 10**400, None),
    ("number", float("nan"), None),
    ("number", float("inf"), None),
    ("text", 5, None),
    ("boolean", 1, None),
    ("date", "2024-02-29", datetime.date(2024, 2, 29)),
    ("date", "2023-02-29", None),
    ("date", "20240229", None),
    ("date", "2024-W09-4", None),
    ("timestamp", "2024-02-29T23:30:00-01:00", datetime.datetime(2024, 3, 1, 0, 30, tzinfo=datetime.UTC)),
    ("timestamp", "2024-02-29T23:30:00.5Z", datetime.datetime(2024, 2, 29, 23, 30, 0, 500_000, datetime.UTC)),
    ("timestamp", "2024-02-29T23:30:00.1234567Z", None),
    ("timestamp", "2024-02-29T23:30:00", None),
    ("timestamp", "0001-01-01T00:00:00+05:00", None),
    ("time", "10:00:00", datetime.time(10)),
    ("time", "10:00:00Z", datetime.time(10)),
    ("time", "10:00:00+02:00", None),
]


@pytest.mark.parametrize(("kind", "value", "expected"), FITS, ids=[f"{kind} {value!r}"[:40] for kind, value, _ in FITS])
def test_a_value_fits_exactly_or_is_kept_beside(kind: Any, value: Any, expected: Any) -> None:
    """A rounded number or a shifted time is a wrong value; one that is set apart can still be read."""
    row = Layout((Column("x", "x", Type(kind)),)).row(record("a", {"x": value}))
    assert row["x"] == expected
    assert type(row["x"]) is type(expected)
    if expected is None:
        assert set(json.loads(row["_unfit"])) == {"/x"}
    else:
        assert row["_unfit"] is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (12.1, "12.10"),
        (1e20, "1" + "0" * 20 + ".00"),
        (-0.01, "-0.01"),
        (0.1 + 0.2, None),
        (1e37, None),
        (12.345, None),
    ],
)
def test_amounts_keep_their_cents(value: float, expected: str | None) -> None:
    """Sums over cents must come out to the cent."""
    row = Layout((Column("x", "x", Type("decimal", 2)),)).row(record("a", {"x": value}))
    assert row["x"] == (None if expected is None else Decimal(expected))
    assert (row["_unfit"] is None) == (expected is not None)


def test_what_the_schema_does_not_name_is_kept_beside() -> None:
    """An answer with one property more is no reason to lose it."""
    layout = layout_of({"properties": {"a": {"properties": {"b": {"type": "string"}}}, "list": {"items": LINE}}})
    value = {"a": {"b": "x", "c/d": 1}, "e": [1], "list": [{"v": 1, "w": None}, "text"]}
    assert json.loads(layout.row(record("n", value))["_unfit"]) == {
        "/a/c~1d": 1,
        "/e": [1],
        "/list/0/w": None,
        "/list/1": "text",
    }


# Schemas and values that know nothing of one another: whatever a model answers, the row stands.
_names = st.one_of(st.sampled_from(["a", "b", "A", "_status", "value"]), st.text(max_size=3))
_json = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.integers(-(10**400), 10**400),
        st.floats(),
        st.text(),
        st.characters(categories=["Cs"]),
        st.dates().map(str),
        st.datetimes(timezones=st.just(datetime.UTC)).map(datetime.datetime.isoformat),
        st.times().map(str),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names, inner, max_size=3),
    max_leaves=8,
)
_leaf = st.sampled_from([schema for schema, _ in TYPES if "$ref" not in json.dumps(schema)])
_schemas = st.recursive(
    _leaf,
    lambda inner: st.one_of(
        st.builds(lambda item: {"type": ["array", "null"], "items": item}, inner),
        st.builds(lambda them: {"type": "object", "properties": them}, st.dictionaries(_names, inner, max_size=4)),
        st.builds(lambda them: {"anyOf": them}, st.lists(inner, min_size=1, max_size=2)),
    ),
    max_leaves=6,
)
_documents = st.dictionaries(_names, _schemas, min_size=1, max_size=4)


@given(properties=_documents, values=st.data())
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_value_is_lost_whatever_the_schema(properties: JsonObject, values: st.DataObject) -> None:
    """Every leaf of the data is in its column, or in `_unfit`, and Arrow takes every row."""
    value = values.draw(st.dictionaries(st.sampled_from(sorted(properties)) | _names, _json, max_size=4))
    schema = {"type": "object", "properties": properties}
    row = ingest.records_to_arrow([record("a", value)], schema).to_pylist()[0]
    unfit = json.loads(row["_unfit"] or "{}")
    layout = layout_of(schema)
    fitted = {key: item for key, item in row.items() if not key.startswith("_") or key not in _OWN}
    _check_held(value, Type("struct", columns=layout.data), fitted, "", unfit)


_OWN = frozenset(column.name for column in layout_of({"properties": {"a": {}}}).columns) - {"a"}


def _check_held(value: Any, kind: Type, fitted: Any, pointer: str, unfit: JsonObject) -> None:
    """A value stands in its column, or beside."""
    if pointer in unfit or value is None:
        return
    assert fitted is not None, f"{pointer} is lost"
    if kind.kind == "struct":
        names = {column.key: column for column in kind.columns}
        for key, item in value.items():
            below = f"{pointer}/{_as_kept(key).replace('~', '~0').replace('/', '~1')}"
            if key in names:
                _check_held(item, names[key].type, fitted[names[key].name], below, unfit)
            else:
                assert below in unfit
    elif kind.item is not None:
        for index, item in enumerate(value):
            _check_held(item, kind.item, fitted[index], f"{pointer}/{index}", unfit)
    elif kind.kind == "decimal":
        assert float(fitted) == value
    elif kind.kind in ("text", "integer", "number", "boolean"):
        assert fitted == value
    elif kind.kind == "date":
        assert fitted.isoformat() == value


def _as_kept(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def test_every_recipe_of_ours_has_a_table() -> None:
    """A recipe that only works with JSON files would surprise whoever adds --to."""
    for name in recipe_names():
        schema = ingest.load_recipe(name).document_schema
        assert set(schema["properties"]) <= set(ingest.records_to_arrow([], schema).schema.names), name


class Line(BaseModel):
    """A line of a bill."""

    label: str
    amount: float


class Bill(BaseModel):
    """A bill as a class."""

    day: datetime.date
    total: Annotated[Decimal, WithJsonSchema({"type": "number", "multipleOf": 0.01})]
    paid: bool = False
    lines: list[Line] = []


def invoice(fixtures_folder: Path) -> ingest.Record[Any]:
    """A record of the invoices recipe: the truth about one of the fixtures."""
    path = sorted((fixtures_folder / "truth" / "invoices").glob("*.truth.json"))[0]
    recipe = ingest.load_recipe("invoices")
    info = RecipeInfo(name="invoices", schema_sha256=recipe.schema_sha256, instructions_sha256="")
    return record("i.pdf", json.loads(path.read_text())["truth"]).model_copy(update={"recipe": info})


def test_pandas_polars_and_duckdb_find_typed_columns(fixtures_folder: Path, tmp_path: Path) -> None:
    """Whoever reads the file sees dates, numbers and lists of structs, without a schema at hand."""
    pandas = pytest.importorskip("pandas")
    polars = pytest.importorskip("polars")
    duckdb = pytest.importorskip("duckdb")
    made = invoice(fixtures_folder)
    path = tmp_path / "out.parquet"
    write(str(path), [made], ingest.load_recipe("invoices"))
    data = made.data
    assert data is not None

    frame = pandas.read_parquet(path, dtype_backend="pyarrow")
    assert str(frame.dtypes["invoice_date"]) == "date32[day][pyarrow]"
    assert str(frame.dtypes["gross_amount"]) == "double[pyarrow]"
    assert frame["line_items"][0][0]["amount"] == data["line_items"][0]["amount"]
    assert frame["invoice_date"][0].isoformat() == data["invoice_date"]

    table = polars.read_parquet(path)
    assert table.schema["invoice_date"] == polars.Date
    assert table.schema["seller"].to_schema()["name"] == polars.String
    assert table.explode("line_items").unnest("line_items")["amount"].to_list() == [
        line["amount"] for line in data["line_items"]
    ]

    line = "SELECT invoice_date, unnest(line_items, recursive := true) FROM read_parquet(?)"
    with duckdb.connect() as connection:
        found = connection.execute(line, [str(path)])
        assert str(found.description[0][1]) == "DATE"
        assert len(found.fetchall()) == len(data["line_items"])
        total = connection.execute("SELECT sum(gross_amount) FROM read_parquet(?)", [str(path)]).fetchone()
        assert total == (data["gross_amount"],)


def test_records_become_frames(fixtures_folder: Path) -> None:
    """In a notebook nobody wants to go through a file; records of a recipe or a class tell their own types."""
    pandas = pytest.importorskip("pandas")
    polars = pytest.importorskip("polars")
    made = invoice(fixtures_folder)
    assert ingest.to_polars([made]).schema["invoice_date"] == polars.Date
    assert isinstance(ingest.to_pandas([made]), pandas.DataFrame)
    with pytest.raises(ConfigError, match="schema="):
        ingest.records_to_arrow([record("a", {"x": 1})])

    bill = Bill(day=datetime.date(2024, 2, 29), total=Decimal("12.10"), lines=[Line(label="x", amount=1)])
    table = ingest.records_to_arrow([record("a.pdf", None).model_copy(update={"data": bill})])
    assert str(table.schema.field("lines").type) == "list<item: struct<label: string, amount: double>>"
    (row,) = table.to_pylist()
    assert (row["day"], row["total"], row["_unfit"]) == (bill.day, bill.total, None)
