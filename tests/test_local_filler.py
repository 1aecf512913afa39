"""The rule-based filler: what it reads from documents of several languages, and that it keeps to any schema."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from ingest.local.filler import Filled, fill
from ingest.local.filler.codes import find_iban, find_id, find_tax_id
from ingest.local.filler.dates import find_dates, find_times, prefers_month_first
from ingest.local.filler.numbers import decimal_mark, detect_currency, find_numbers, parse_number
from ingest.local.page import Page
from ingest.local.reader import read_text

RECIPES = Path(__file__).resolve().parent.parent / "pipelines" / "recipes"

GERMAN = """\
Malerbetrieb Sonnenschein GmbH · Gartenweg 3 · 04109 Leipzig

Frau
Erika Musterfrau
Lindenallee 17
04277 Leipzig

Rechnung Nr. 2024/17                                Leipzig, den 12.05.2024
Kundennummer: 4711

Pos  Menge  Einheit  Bezeichnung                              EP         GP
1    35     m²       Wandflächen streichen, zweimal          8,50     297,50
2    12     m        Sockelleisten lackieren                 4,20      50,40
                     Farbton nach Absprache
3    1       psch    Anfahrt                              1.025,00  1.025,00

                                          Summe netto               1.372,90 €
                                          zzgl. 19 % MwSt.            260,85 €
                                          Rechnungsbetrag           1.633,75 €

Bitte überweisen Sie den Betrag bis zum 26.05.2024 auf das Konto
IBAN DE44 5001 0517 5407 3249 31 bei der Hausbank.
USt-IdNr.: DE123456789"""

FRENCH = """\
                                  FACTURE
Atelier Durand SARL
8 impasse des Lilas
31000 Toulouse
SIRET 552 100 554 00013 - TVA intracommunautaire : FR40552100554

                                                  Facturé à :
                                                  Mairie de Blagnac
                                                  1 place des Arts
                                                  31700 Blagnac

Facture N° : 2024-118
Date : 2 avril 2024
Date d'échéance : 2 mai 2024

Réf        Désignation                 Qté    P.U. HT     TVA      Total HT
PX12       Panneau mélaminé            10     132,50 €    20%    1 325,00 €
MO         Main d'oeuvre                6      45,00 €    10%      270,00 €

                                       Total HT                  1 595,00 €
                                       TVA 20%                     265,00 €
                                       TVA 10%                      27,00 €
                                       Total TTC                 1 887,00 €
                                       Acompte                     200,00 €
                                       Net à payer               1 687,00 €
Règlement à 30 jours par virement"""

SPANISH = """\
Suministros Levante, S.L.                                   Factura: A-00981
C/ Mayor, 45                                                Fecha: 07/06/2024
46001 Valencia
NIF: B12345674

Cliente: Talleres Pérez e Hijos
Avda. de la Constitución 102
12003 Castellón
CIF: A87654321

Cantidad   Concepto                         Precio      Dto.     Importe
      6    Aceite motor 5W30               24,90 €      10%      134,46 €
      2    Filtro habitáculo               12,35 €                24,70 €

Base imponible    IVA 21%    Total
    159,16 €      33,42 €    192,58 €

Forma de pago: transferencia a 60 días"""

AMERICAN = """\
INVOICE

Blue Heron Consulting, LLC                            Invoice #: BH-2041
225 Elm Street, Suite 400                             Invoice Date: 03/05/2024
Portland, OR 97204                                    Due Date: 03/20/2024

BILL TO:                                SHIP TO:
Acme Widgets, Inc.                      Acme Warehouse
Attn: Accounts Payable                  9 Dock Road
1200 Industrial Pkwy                    Tacoma, WA 98402
Seattle, WA 98101

DATE        ACTIVITY                 QTY       RATE        AMOUNT
02/12/2024  Process review             8     150.00      1,200.00
02/14/2024  Workshop                   4     175.00        700.00
            Two trainers on site

                                            SUBTOTAL     1,900.00
                                            SALES TAX 8%   152.00
                                            TOTAL       $2,052.00"""

DUTCH = """\
Van der Meulen Techniek B.V.                                   FACTUUR
Industrieweg 14
3542 AD Utrecht
KvK: 12345678   BTW: NL123456789B01   IBAN: NL91ABNA0417164300

Factuur aan
Bakkerij De Korenaar                    Factuurnummer    F-2024-0031
Dorpsstraat 8                           Factuurdatum     03-02-2024
1234 AB Ommen                           Vervaldatum      04-03-2024

Omschrijving                                   Aantal    Prijs       BTW       Bedrag
Onderhoud oven                                  2,5 uur   € 65,00     21%     € 162,50

                                           Subtotaal                          € 162,50
                                           BTW 21%                             € 34,13
                                           Totaal te voldoen                  € 196,63"""

RECEIPT = """\
        CORNER MARKET LTD
         14 Mill Lane
         Leeds LS9 6XD
   VAT Reg No: GB 096634922

Receipt #: 283069
15/01/2021  17:57

Bananas                 20.40
   3 x 6.80
Scone                   14.18
   2 x 7.09
Oat milk 1 L             3.07
                       -------
TOTAL                  £37.65
CASH                   £40.00
CHANGE                  £2.35
incl. VAT 20%            6.28"""


def pages(*texts: str) -> list[Page]:
    return [read_text(number, text) for number, text in enumerate(texts, 1)]


def filled(recipe: str, *texts: str) -> Any:
    schema = json.loads((RECIPES / recipe / "schema.json").read_text(encoding="utf-8"))
    result = fill(schema, pages(*texts))
    assert not list(Draft202012Validator(schema).iter_errors(result.data))
    return result.data


def leaf(schema: dict[str, Any], *texts: str) -> Any:
    return fill({"type": "object", "properties": {"it": schema}}, pages(*texts)).data["it"]


def test_german_invoice() -> None:
    """A letter with the sender's line over the address window is the commonest German form."""
    data = filled("invoices", GERMAN)
    assert data["invoice_number"] == "2024/17"
    assert (data["invoice_date"], data["due_date"]) == ("2024-05-12", "2024-05-26")
    assert data["customer_number"] == "4711"
    assert data["seller"] == {
        "name": "Malerbetrieb Sonnenschein GmbH",
        "address": "Gartenweg 3, 04109 Leipzig",
        "tax_id": "DE123456789",
    }
    assert data["buyer"]["name"] == "Erika Musterfrau"
    assert data["buyer"]["address"] == "Lindenallee 17, 04277 Leipzig"
    assert (data["net_amount"], data["tax_amount"], data["gross_amount"]) == (1372.9, 260.85, 1633.75)
    assert data["taxes"] == [{"rate": 19, "basis": 1372.9, "amount": 260.85}]
    assert data["iban"] == "DE44500105175407324931"
    assert [item["amount"] for item in data["line_items"]] == [297.5, 50.4, 1025]
    assert data["line_items"][1]["description"] == "Sockelleisten lackieren Farbton nach Absprache"
    assert data["line_items"][2]["unit"] == "psch"


def test_french_invoice() -> None:
    """Spaces group thousands, two rates are taxed, and an advance parts the total from what is due."""
    data = filled("invoices", FRENCH)
    assert (data["invoice_number"], data["invoice_date"], data["due_date"]) == ("2024-118", "2024-04-02", "2024-05-02")
    assert data["seller"]["name"] == "Atelier Durand SARL"
    assert data["seller"]["address"] == "8 impasse des Lilas, 31000 Toulouse"
    assert data["seller"]["tax_id"] == "FR40552100554"
    assert data["buyer"]["name"] == "Mairie de Blagnac"
    assert (data["net_amount"], data["gross_amount"], data["amount_due"]) == (1595, 1887, 1687)
    assert data["tax_amount"] is None, "the sum of both taxes is not printed"
    assert [(tax["rate"], tax["amount"]) for tax in data["taxes"]] == [(20, 265), (10, 27)]
    assert data["line_items"][0]["item_number"] == "PX12"
    assert data["line_items"][0]["amount"] == 1325


def test_spanish_invoice_with_totals_in_columns() -> None:
    """Totals printed below their labels must not be taken for a table of taxes."""
    data = filled("invoices", SPANISH)
    assert (data["net_amount"], data["tax_amount"], data["gross_amount"]) == (159.16, 33.42, 192.58)
    assert (data["seller"]["tax_id"], data["buyer"]["tax_id"]) == ("B12345674", "A87654321")
    assert data["taxes"] == [{"rate": 21, "basis": 159.16, "amount": 33.42}]
    assert [item["description"] for item in data["line_items"]] == ["Aceite motor 5W30", "Filtro habitáculo"]


def test_american_invoice_reads_month_first() -> None:
    """One date with a day above twelve settles the order of the others."""
    data = filled("invoices", AMERICAN)
    assert (data["invoice_date"], data["due_date"]) == ("2024-03-05", "2024-03-20")
    assert data["currency"] == "USD"
    assert data["buyer"]["address"] == "1200 Industrial Pkwy, Seattle, WA 98101"
    assert data["line_items"][1]["description"] == "Workshop Two trainers on site"


def test_dutch_invoice() -> None:
    """A language whose words stand in the vocabulary needs no other rule."""
    data = filled("invoices", DUTCH)
    assert data["invoice_number"] == "F-2024-0031"
    assert (data["gross_amount"], data["currency"]) == (196.63, "EUR")
    assert data["line_items"][0]["quantity"] == 2.5
    assert data["line_items"][0]["unit"] == "uur"
    assert data["buyer"]["address"] == "Dorpsstraat 8, 1234 AB Ommen"


def test_receipt_without_a_heading() -> None:
    """Till receipts have no column headings; quantity and price stand below the goods."""
    data = filled("receipts", RECEIPT)
    assert (data["company"], data["address"]) == ("CORNER MARKET LTD", "14 Mill Lane, Leeds LS9 6XD")
    assert (data["date"], data["time"], data["currency"]) == ("2021-01-15", "17:57", "GBP")
    assert (data["total"], data["paid"], data["change"], data["payment_method"]) == (37.65, 40, 2.35, "CASH")
    assert data["tax_amount"] == 6.28
    assert [(i["description"], i["quantity"], i["amount"]) for i in data["items"]] == [
        ("Bananas", 3, 20.4),
        ("Scone", 2, 14.18),
        ("Oat milk 1 L", None, 3.07),
    ]


def test_table_over_pages_without_carried_sums() -> None:
    """Carried sums and repeated headings are no positions, and rows of a page without a heading are not lost."""
    head = "Pos.  Beschreibung                   Anzahl    Einzelpreis      Gesamt"
    carried = "Übertrag                              900,00"
    first = f"{head}\n1     Wartung                             2         450,00      900,00\n{carried}"
    second = f"{head}\n{carried}\n2     Montage                             1         120,00      120,00"
    total = "                        Summe netto     1.050,00"
    third = f"3     Fahrt                               3          10,00       30,00\n\n{total}"
    items = filled("invoices", first, second, third)["line_items"]
    assert [(item["position"], item["amount"]) for item in items] == [("1", 900), ("2", 120), ("3", 30)]


def test_context_pages_lend_their_heading_but_no_values() -> None:
    """A page sent for context is reported by another call; repeating its rows would double them."""
    head = "Pos.  Description                    Qty       Unit price       Amount"
    rows = [
        "1     Service                             2         450.00      900.00",
        "2     Fitting                             1         120.00      120.00",
        "3     Travel                              3          10.00       30.00",
    ]
    before = read_text(1, f"Invoice no: X-17\n{head}\n{rows[0]}", is_context=True)
    page = read_text(2, "\n".join(rows[1:]))
    schema = json.loads((RECIPES / "invoices" / "schema.json").read_text(encoding="utf-8"))
    data = fill(schema, [before, page]).data
    assert [item["position"] for item in data["line_items"]] == ["2", "3"]
    assert data["invoice_number"] is None


def test_other_names_for_the_same_things() -> None:
    """Schemas name things their own way, in any language and spelling."""
    schema = {
        "type": "object",
        "properties": {
            "rechnungsnummer": {"type": "string"},
            "invoiceDate": {"type": "string", "format": "date"},
            "totalAmount": {"type": "number"},
            "gesamtbetrag": {"type": "string"},
            "supplier": {
                "type": "object",
                "properties": {"companyName": {"type": "string"}, "zip": {"type": "string"}},
            },
            "customer_address": {"type": "string"},
            "positionen": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"bezeichnung": {"type": "string"}, "menge": {"type": "integer"}},
                },
            },
        },
    }
    data = fill(schema, pages(GERMAN)).data
    assert data["rechnungsnummer"] == "2024/17"
    assert data["invoiceDate"] == "2024-05-12"
    assert data["totalAmount"] == 1633.75
    assert data["supplier"] == {"companyName": "Malerbetrieb Sonnenschein GmbH", "zip": "04109"}
    assert data["customer_address"] == "Lindenallee 17, 04277 Leipzig"
    assert [row["menge"] for row in data["positionen"]] == [35, 12, 1]


def test_unknown_fields_are_found_by_their_own_words() -> None:
    """A field no vocabulary knows is looked up as the label it is named after."""
    text = "Machine type:  Kettle 3000\nNumber of blades   12\nIn stock: yes\nMax load (kg)   1,250.5"
    assert leaf({"type": "string", "title": "Machine type"}, text) == "Kettle 3000"
    schema = {"type": "object", "properties": {"number_of_blades": {"type": "integer"}, "inStock": {"type": "boolean"}}}
    assert fill(schema, pages(text)).data == {"number_of_blades": 12, "inStock": True}


def test_nothing_is_invented() -> None:
    """Fields a page does not speak of stay null, whatever the page says."""
    text = "Dear all,\n\nplease find the minutes of our meeting. We agreed on the colour of the shed.\n\nKind regards"
    data = filled("invoices", text)
    assert {key: value for key, value in data.items() if value not in (None, [])} == {
        "seller": {"name": None, "address": None, "tax_id": None},
        "buyer": {"name": None, "address": None, "tax_id": None},
    }


def test_evidence_is_filled_beside_values() -> None:
    """Page and printed words let the caller check where a value comes from."""
    wrapped = {
        "anyOf": [
            {"type": "null"},
            {
                "type": "object",
                "properties": {
                    "_page": {"type": "integer"},
                    "_quote": {"type": ["string", "null"]},
                    "value": {"type": ["number", "null"]},
                },
                "required": ["_page", "_quote", "value"],
                "additionalProperties": False,
            },
        ]
    }
    item = {
        "type": "object",
        "properties": {
            "_page": {"type": ["integer", "null"]},
            "_quote": {"type": ["string", "null"]},
            "description": {"type": ["string", "null"]},
            "amount": {"type": ["number", "null"]},
        },
        "required": ["_page", "_quote", "description", "amount"],
        "additionalProperties": False,
    }
    schema = {
        "type": "object",
        "properties": {"gross_amount": wrapped, "prepaid": wrapped, "line_items": {"type": "array", "items": item}},
        "required": ["gross_amount", "prepaid", "line_items"],
        "additionalProperties": False,
    }
    result = fill(schema, [read_text(4, GERMAN)])
    assert result.data["gross_amount"] == {"_page": 4, "_quote": "Rechnungsbetrag 1.633,75 €", "value": 1633.75}
    assert result.data["prepaid"] is None
    assert result.data["line_items"][0]["_page"] == 4
    assert "Wandflächen" in result.data["line_items"][0]["_quote"]
    assert result.labels["/gross_amount/value"] == "Rechnungsbetrag"
    assert 0.5 < result.confidence["/gross_amount/value"] <= 1


ODD_SCHEMAS: Sequence[Any] = (
    {},
    {"type": "string"},
    {"type": "array", "items": {"type": "string"}},
    {"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
    {"not": {"type": "null"}},
    {"oneOf": [{"type": "string"}, {"type": "number"}]},
    {
        "allOf": [
            {"properties": {"a": {"type": "string"}}},
            {"properties": {"total": {"type": "number"}}, "required": ["total"]},
        ]
    },
    {"type": "object", "required": ["nowhere"], "properties": {}},
    {
        "type": "object",
        "properties": {"kind": {"enum": ["invoice", "receipt"]}, "seven": {"const": 7}},
        "required": ["kind", "seven"],
    },
    {
        "type": "object",
        "properties": {"n": {"type": "integer", "exclusiveMinimum": 3}, "s": {"type": "string", "minLength": 2}},
        "required": ["n", "s"],
    },
    {
        "type": "object",
        "properties": {
            "items": {
                "type": "array",
                "minItems": 5,
                "items": {"type": "object", "properties": {"amount": {"type": "string"}}, "required": ["amount"]},
            }
        },
        "required": ["items"],
    },
    {
        "$defs": {
            "node": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
                },
                "required": ["name", "children"],
                "additionalProperties": False,
            }
        },
        "$ref": "#/$defs/node",
    },
    {"type": "object", "properties": {"x": {"type": "array", "prefixItems": [{"type": "string"}], "items": False}}},
)


@pytest.mark.parametrize("schema", ODD_SCHEMAS, ids=lambda schema: json.dumps(schema)[:40])
@pytest.mark.parametrize("text", ["", "hello", GERMAN], ids=["empty", "word", "invoice"])
def test_any_schema_gets_data_that_conforms(schema: Any, text: str) -> None:
    """A caller brings the schema; an answer that does not fit it is worth nothing."""
    assert not list(Draft202012Validator(schema).iter_errors(fill(schema, pages(text)).data))


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"type": 5},
        {"$ref": "http://nowhere.example/x"},
        {"properties": {"a": None, "b": 3}},
        {"properties": []},
    ],
    ids=str,
)
def test_broken_schemas_do_not_crash(schema: Any) -> None:
    """A schema that is none must not take the server down."""
    assert isinstance(fill(schema, pages(GERMAN)), Filled)


@pytest.mark.parametrize(
    "text",
    [
        "1,000," * 20000,
        "Total: Invoice No: Date: VAT: " * 3000,
        "word " * 50000,
        "by and between " * 1500,
        "DE12 1234 " * 5000,
        "\n".join(f"{row} Item {row}  1  2.00  2.00" for row in range(3000)),
        "12.00  " * 4000 + "\n" + "Street 1 · 12345 Town · " * 2000,
    ],
    ids=["digits", "labels", "words", "between", "iban", "rows", "cells"],
)
def test_hostile_text_is_read_in_bounded_time(text: str) -> None:
    """Text comes from strangers' files; no line may make an expression run away."""
    schema = json.loads((RECIPES / "invoices" / "schema.json").read_text(encoding="utf-8"))
    start = time.perf_counter()
    fill(schema, pages(text))
    assert time.perf_counter() - start < 20


@pytest.mark.parametrize(
    ("text", "decimal", "value"),
    [
        ("1.234,56", ",", 1234.56),
        ("1,234.56", ".", 1234.56),
        ("1 234,56 €", ",", 1234.56),
        ("1'234.56", ".", 1234.56),
        ("1,23,456.78", ".", 123456.78),
        ("1.234", ",", 1234),
        ("1.234", ".", 1.234),
        ("0.025", ",", 0.025),
        ("-9,32", ",", -9.32),
        ("€ -9,32", ",", -9.32),
        ("1,269.12-", ".", -1269.12),
        ("(1,234.00)", ".", -1234),
        ("RM39.00", ".", 39),
        ("8.1 %", ".", 8.1),
        ("1.297.27", ",", 1297.27),
        ("2018-05-03", ".", None),
        ("A12", ".", None),
    ],
)
def test_numbers_of_all_notations(text: str, decimal: str, value: float | None) -> None:
    """An amount misread by its separators is wrong by a factor of a thousand."""
    assert parse_number(text, decimal) == value


def test_decimal_mark_and_currency_come_from_the_whole_document() -> None:
    """What `1.234` and `$` mean is told by the rest of the page."""
    assert decimal_mark(["12,50", "3,99", "1.000"]) == ","
    assert decimal_mark(["12.50"]) == "."
    assert detect_currency("Total 12,00 EUR") == "EUR"
    assert detect_currency("$ 8.20 ... Johor Bahru, Malaysia") == "MYR"
    assert detect_currency("SWIFT HELADEF1GEL") is None
    assert [number.currency for number in find_numbers("US$ 5.00 and 6.00 CHF")] == ["USD", "CHF"]


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("25/12/2018 8:13 PM", "2018-12-25"),
        ("2018/02/22", "2018-02-22"),
        ("2016-07-3113:48:37", "2016-07-31"),
        ("20180222", "2018-02-22"),
        ("7. Mai 2014", "2014-05-07"),
        ("1er janvier 2020", "2020-01-01"),
        ("5 de marzo de 2018", "2018-03-05"),
        ("19 april 2014", "2014-04-19"),
        ("March 5th, 2018", "2018-03-05"),
        ("03-MAR-18", "2018-03-03"),
        ("1st day of March, 2018", "2018-03-01"),
        ("01.05.14-31.05.14", "2014-05-01"),
    ],
)
def test_dates_of_all_notations(text: str, iso: str) -> None:
    """Dates leave as ISO whatever way they are printed."""
    assert find_dates(text)[0].resolve(month_first=False).isoformat() == iso


def test_no_date_in_phone_numbers_and_amounts() -> None:
    """A phone number taken for a date would date the document wrongly."""
    assert find_dates("Tel: +6 03 2026 6386") == []
    assert find_dates("1.234.567,89 12.03.") == []


def test_order_of_day_and_month_follows_the_evidence() -> None:
    """Ambiguous dates are read as the unambiguous ones beside them."""
    assert prefers_month_first(["03/20/2024", "03/05/2024"], american=False)
    assert not prefers_month_first(["20/03/2024", "03/05/2024"], american=True)


def test_times_in_24_hours() -> None:
    """Afternoon times of twelve-hour clocks move to the afternoon."""
    assert [value for _, _, value in find_times("8:13:39 PM, 09:05, 12:10 am")] == ["20:13:39", "09:05", "00:10"]


def test_codes() -> None:
    """Identifiers are cut where they end, and an IBAN is believed for its check digits."""
    assert find_iban("Konto DE44 5001 0517 5407 3249 31 Hausbank") == "DE44500105175407324931"
    assert find_iban("DE44 5001 0517 5407 3249 32") is None
    assert find_id("RE-2020/508 issued at 2020") == "RE-2020/508"
    assert find_id("(380)") is None
    assert find_tax_id("CHE-157.981.012 MWST   Page 1") == "CHE-157.981.012 MWST"
    assert find_tax_id("EIN 23-1051181") == "23-1051181"
