"""Schemas as users write them: other words and languages, vague names with telling descriptions, lists."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from ingest.local.filler import fill
from ingest.local.page import Page
from ingest.local.reader import read_text

RECIPES = Path(__file__).resolve().parent.parent / "pipelines" / "recipes"

INVOICE = """\
Bexcombe Tools Ltd
4 Quarry Hill
Leeds LS9 6XD
VAT No. GB 417 2093 55

Billed to:
Harrow Media LLP
9 Mill Lane
Bristol BS3 9TR

Invoice
Invoice no.: 2024-118        Invoice date: 12 March 2024
Due date: 11 April 2024

Item no.   Description            Qty    Unit price    VAT %     Amount
A-100      Steel hammer             4         12.50      20       50.00
A-205      Cordless drill           1        130.00      20      130.00
B-300      Safety manual            2         10.00       5       20.00

                                         Net total     200.00
                                         VAT            37.00
                                         Total         237.00 GBP
"""

RECEIPT = """\
Bäckerei Sommer
Hauptstraße 5
50667 Köln
Bon-Nr. 4711     03.05.2024 09:12
Brezel                      2,40
Kaffee                      3,10
2 x 1,50
Croissant                   3,00
SUMME EUR                   8,50
Bar gegeben                10,00
Rückgeld                    1,50
"""


def pages(*texts: str) -> list[Page]:
    return [read_text(number, text) for number, text in enumerate(texts, 1)]


def ask(properties: dict[str, Any], *texts: str) -> Any:
    """The data for an object with these properties."""
    return fill({"type": "object", "properties": properties}, pages(*texts)).data


def rows(properties: dict[str, Any], *texts: str) -> Any:
    """The data for an array of objects with these properties."""
    return ask({"lines": {"type": "array", "items": {"type": "object", "properties": properties}}}, *texts)["lines"]


STRING, NUMBER = {"type": ["string", "null"]}, {"type": ["number", "null"]}


def string(description: str) -> dict[str, Any]:
    return {**STRING, "description": description}


def number(description: str) -> dict[str, Any]:
    return {**NUMBER, "description": description}


def test_an_explicit_description_decides_what_a_vague_name_means() -> None:
    """A user who writes `price: Amount of the line` must not get the unit price."""
    found = rows(
        {
            "what": string("Name of the goods"),
            "count": number("Quantity"),
            "price": number("Amount of the line"),
            "item": string("Article number or SKU"),
            "rate": number("VAT rate in percent"),
        },
        INVOICE,
    )
    assert found[0] == {"what": "Steel hammer", "count": 4, "price": 50, "item": "A-100", "rate": 20}


def test_descriptions_name_totals_parties_and_dates() -> None:
    """Names such as `a` or `who` say nothing; their descriptions say everything."""
    data = ask(
        {
            "a": string("The invoice number"),
            "b": string("Date when the invoice was issued"),
            "c": string("Date by which the invoice must be paid"),
            "total": number("Net total before tax"),
            "amount": number("Amount of VAT charged"),
            "value": number("Total including VAT"),
            "who": string("Name of the seller"),
            "whom": string("Name of the customer being billed"),
            "id": string("VAT number of the supplier"),
        },
        INVOICE,
    )
    assert data == {
        "a": "2024-118",
        "b": "2024-03-12",
        "c": "2024-04-11",
        "total": 200,
        "amount": 37,
        "value": 237,
        "who": "Bexcombe Tools Ltd",
        "whom": "Harrow Media LLP",
        "id": "GB 417 2093 55",
    }


@pytest.mark.parametrize(
    ("name", "node", "value"),
    [
        ("vat", NUMBER, 37),
        ("vat_amt", NUMBER, 37),
        ("net_amt", NUMBER, 200),
        ("excl_vat", NUMBER, 200),
        ("incl_vat", NUMBER, 237),
        ("tot_amt", NUMBER, 237),
        ("gesamtbetrag", STRING, "237"),
        ("montantTTC", NUMBER, 237),
        ("inv_dt", STRING, "2024-03-12"),
        ("faelligkeitsdatum", STRING, "2024-04-11"),
        ("waehrung", STRING, "GBP"),
        ("cust_name", STRING, "Harrow Media LLP"),
        ("Rechnungsempfaenger", STRING, "Harrow Media LLP"),
        ("kundenadresse", STRING, "9 Mill Lane, Bristol BS3 9TR"),
        ("kind", {"enum": ["invoice", "receipt", "credit_note"]}, "invoice"),
        ("numberOfItems", {"type": "integer"}, 3),
        ("taxRates", {"type": "array", "items": {"type": "number"}}, [20, 5]),
        (
            "itemNames",
            {"type": "array", "items": {"type": "string"}},
            ["Steel hammer", "Cordless drill", "Safety manual"],
        ),
        ("vat_rate", NUMBER, None),
        ("store_number", STRING, None),
        ("seller_due_date", STRING, "2024-04-11"),
    ],
)
def test_names_in_other_words(name: str, node: dict[str, Any], value: Any) -> None:
    """Abbreviations, other languages, umlauts spelled out, types that settle what a word means, lists of a column."""
    assert ask({name: node}, INVOICE)[name] == value


def test_parent_says_whose_company_is_asked_for() -> None:
    """`company` means a seller by itself but the buyer below `receiver`."""
    node = {"type": "object", "properties": {"company": STRING, "zip": STRING}}
    assert ask({"receiver": node}, INVOICE)["receiver"] == {"company": "Harrow Media LLP", "zip": "BS3 9TR"}


def test_ways_of_paying_fit_the_options_of_the_schema() -> None:
    """A receipt prints `Bar gegeben`; a schema asks for `cash`."""
    node = {"enum": ["cash", "card", "other", None]}
    assert ask({"payment": {**node, "description": "Payment method"}}, RECEIPT)["payment"] == "cash"
    assert ask({"payment_method": node}, RECEIPT.replace("Bar gegeben", "EC-Karte   "))["payment_method"] == "card"


def test_price_alone_on_a_receipt_is_what_the_line_comes_to() -> None:
    """With neither amount nor quantity asked for, prices must add up to the total."""
    found = rows({"product": STRING, "price": NUMBER}, RECEIPT)
    assert [row["price"] for row in found] == [2.4, 3.1, 3]


def test_rows_at_the_foot_of_a_page_are_not_its_running_foot() -> None:
    """A note printed near the foot of two pages must not take the row above it out of the table."""
    head = "Item no.   Description            Qty    Unit price     Amount\n"
    foot = "Bexcombe Tools Ltd   VAT No. GB 417 2093 55\n"
    body = [
        "".join(f"A-{page}{n:02}      Steel hammer             4         12.50       50.00\n" for n in range(14))
        for page in range(3)
    ]
    note = "           Crate included\n"
    extra = "C-{}      Safety manual            2         10.00       20.00\n"
    first = head + body[0] + note + extra.format(900) + foot
    second = head + body[1] + extra.format(901) + note + extra.format(902) + extra.format(903) + foot
    third = head + body[2] + extra.format(904) + note + foot
    found = rows({"item_number": STRING, "quantity": NUMBER, "amount": NUMBER}, first, second, third)
    assert len(found) == 3 * 14 + 5


def test_cells_that_ran_into_the_next_column_are_parted() -> None:
    """A rate printed close to the amount still belongs to its own column."""
    text = (
        "Description            Qty    Price    VAT  Amount (EUR)\n"
        "Steel hammer             4    12.50   20 %         50.00\n"
        "Cordless drill           1   130.00         20 % 130.00\n"
    )
    found = rows({"description": STRING, "quantity": NUMBER, "tax_rate": NUMBER, "amount": NUMBER}, text)
    assert [(row["tax_rate"], row["amount"]) for row in found] == [(20, 50), (20, 130)]


def test_title_of_an_invoice_is_the_word_for_it() -> None:
    """The first line of an invoice is a company or a street, never its title."""
    assert ask({"title": STRING}, INVOICE)["title"] == "Invoice"


@pytest.mark.parametrize(
    "text",
    [
        "1-" * 50000,
        "A" * 200000,
        "Aa-" * 60000,
        "1- " * 40000,
        "(a)" * 60000,
        "é" * 200000,
        "a " * 100000,
        "A. " * 60000,
    ],
    ids=["dashes", "capitals", "names", "bullets", "brackets", "accents", "letters", "initials"],
)
def test_a_line_without_end_is_read_in_bounded_time(text: str) -> None:
    """Words longer than any print has made searches for names take minutes."""
    start = time.process_time()
    for recipe in ("receipts", "generic", "contracts"):
        fill(json.loads((RECIPES / recipe / "schema.json").read_text(encoding="utf-8")), pages(text))
    assert time.process_time() - start < 6
