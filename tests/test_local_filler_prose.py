"""What the local engine tells from running text: agreements, papers, any document."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from ingest.local.filler import fill
from ingest.local.page import Line, Page, Segment, Token
from ingest.local.reader import read_text

TEXT = {"type": ["string", "null"]}
PARTIES = {
    "type": "array",
    "items": {"type": "object", "properties": {"name": TEXT, "role": TEXT, "address": TEXT}},
}
CONTRACT = {
    "type": "object",
    "properties": {
        "title": TEXT,
        "parties": PARTIES,
        "effective_date": TEXT,
        "term": TEXT,
        "notice_period": TEXT,
        "governing_law": TEXT,
        "automatic_renewal": {"type": ["boolean", "null"]},
    },
}
ENGLISH = """\
                         SUPPLY AGREEMENT

This Supply Agreement (the "Agreement") is made and entered into as of this 5th day of June, 2018, by and
between Brindle Mills, Inc., a Delaware corporation with its principal office at 12 Harrow Road, Dover, DE 19901
(the "Supplier"), and Odo Ferrant (the "Customer").

1. Supply
The Supplier shall deliver flour to the Customer within ten (10) days of each order.

2. Term
This Agreement runs for three (3) years from its date. Either party may terminate this Agreement by giving ninety
(90) days' written notice. This Agreement shall renew automatically unless notice is given.

3. Governing Law
This Agreement shall be governed by the laws of the State of New York. The parties agree to this Agreement."""
GERMAN = """\
Dienstleistungsvertrag

zwischen der Kornblum Technik GmbH, Hafenweg 3, 20457 Hamburg (nachfolgend „Auftragnehmer“),
und der Saatgut Lohmann eG, Am Markt 1, 38100 Braunschweig (nachfolgend „Auftraggeber“).

§ 1 Laufzeit
Der Vertrag beginnt am 3. Mai 2021. Er verlängert sich jeweils um ein Jahr, wenn er nicht mit einer Frist von
drei Monaten gekündigt wird. Die Parteien und der Auftragnehmer sowie der Auftraggeber halten diesen Vertrag ein.

§ 2 Recht
Es gilt deutsches Recht."""
FRENCH = """\
Contrat de prestation de services

Entre les soussignés :
La société Durand et Fils SARL, au capital de 10 000 euros, dont le siège social est situé 12 rue des Lilas,
69003 Lyon, ci-après dénommée « le Prestataire »,
d'une part,
et
La société Mairie Bleue SAS, dont le siège social est 4 place Bellecour, 69002 Lyon, ci-après « le Client »,
d'autre part.
Il a été convenu ce qui suit. Les parties signent le présent contrat. Les parties appliquent le présent contrat.
Le présent contrat est soumis au droit français."""
SPANISH = """\
CONTRATO DE ARRENDAMIENTO

De una parte, D. Juan Pérez Gómez, con domicilio en calle Mayor 5, 28013 Madrid (en adelante, el "Arrendador").
De otra parte, Inmuebles del Sur, S.L., con domicilio social en Avenida de la Luz 3, 41001 Sevilla, en adelante
"el Arrendatario".
EXPONEN
Las partes firman el presente contrato. Las partes cumplen el presente contrato.
El presente contrato se rige por la legislación española."""


def data_of(schema: dict[str, Any], *texts: str, first_number: int = 1) -> Any:
    """The data the filler gives for pages of these texts."""
    pages = [read_text(number, text) for number, text in enumerate(texts, first_number)]
    data = fill(schema, pages).data
    Draft202012Validator(schema).validate(data)
    return data


def as_ocr(page: Page) -> Page:
    """The page as OCR gives it: in pixels, ten to a character and twenty to a line."""

    def token(t: Token) -> Token:
        return Token(t.text, t.x0 * 10, t.y0 * 20, t.x1 * 10, t.y1 * 20)

    lines = tuple(
        Line.of([Segment.of([token(t) for t in segment.tokens]) for segment in line.segments]) for line in page.lines
    )
    return replace(
        page,
        width=page.width * 10,
        height=page.height * 20,
        lines=lines,
        origin="ocr",
        char_width=10.0,
        line_height=20.0,
    )


def test_an_agreement_gives_its_parties_dates_and_terms() -> None:
    """Contracts are one of the shipped recipes; these fields are why users run it."""
    data = data_of(CONTRACT, ENGLISH)
    assert data["title"] == "SUPPLY AGREEMENT"
    assert [(party["name"], party["role"]) for party in data["parties"]] == [
        ("Brindle Mills, Inc.", "Supplier"),
        ("Odo Ferrant", "Customer"),
    ]
    assert data["parties"][0]["address"] == "12 Harrow Road, Dover, DE 19901"
    assert data["effective_date"] == "2018-06-05"
    assert data["term"].startswith("three (3) years")
    assert data["notice_period"] == "ninety (90) days"
    assert data["governing_law"] == "New York"
    assert data["automatic_renewal"] is True


@pytest.mark.parametrize(
    ("text", "names", "roles", "law"),
    [
        (GERMAN, ["Kornblum Technik GmbH", "Saatgut Lohmann eG"], ["Auftragnehmer", "Auftraggeber"], "Deutschland"),
        (FRENCH, ["Durand et Fils SARL", "Mairie Bleue SAS"], ["Prestataire", "Client"], "France"),
        (SPANISH, ["Juan Pérez Gómez", "Inmuebles del Sur, S.L."], ["Arrendador", "Arrendatario"], "España"),
    ],
)
def test_agreements_of_other_languages_are_read(text: str, names: list[str], roles: list[str], law: str) -> None:
    """The rules promise four languages; a rule for English alone would leave these empty."""
    data = data_of(CONTRACT, text)
    assert [party["name"] for party in data["parties"]] == names
    assert [party["role"] for party in data["parties"]] == roles
    assert data["governing_law"] == law


def test_a_page_read_by_ocr_says_the_same_as_its_text() -> None:
    """Scans reach the same rules in pixels; a rule that counts characters would fail on them."""
    pages = [as_ocr(read_text(1, ENGLISH))]
    assert fill(CONTRACT, pages).data == data_of(CONTRACT, ENGLISH)


def test_later_pages_alone_give_no_title_and_no_parties() -> None:
    """A long contract comes in chunks: those without its beginning must not guess what stands there."""
    later = "12. Notices\nThe Supplier shall send notices. " + "This Agreement binds the parties. " * 4
    data = data_of(CONTRACT, later, first_number=31)
    assert data["title"] is None
    assert data["parties"] == []


def test_evidence_names_the_page_where_the_value_stands() -> None:
    """A reader checks a value on the page the record names."""
    law = {"type": "object", "properties": {"_page": {"type": "integer"}, "value": {"type": "string"}}}
    schema = {"type": "object", "properties": {"governing_law": {"anyOf": [{"type": "null"}, law]}}}
    head, tail = ENGLISH.split("3. Governing Law")
    assert data_of(schema, head, "3. Governing Law" + tail)["governing_law"] == {"_page": 2, "value": "New York"}


def test_signatures_side_by_side_are_kept_apart() -> None:
    """Two blocks stand beside one another on most signature pages; their lines must not mix."""
    signed = """
IN WITNESS WHEREOF the parties have signed this Agreement.

BRINDLE MILLS, INC.                                ODO FERRANT

By:                                                By:
Name:  Petra Brindle                               Name:  Odo Ferrant
Title:  President                                  Title:  Owner
Date:  June 5, 2018                                Date:  June 7, 2018"""
    entry = {"type": "object", "properties": {"name": TEXT, "title": TEXT, "date": TEXT}}
    schema = {"type": "object", "properties": {"signatures": {"type": "array", "items": entry}, "signing_date": TEXT}}
    data = data_of(schema, ENGLISH, signed)
    assert data["signatures"] == [
        {"name": "Petra Brindle", "title": "President", "date": "2018-06-05"},
        {"name": "Odo Ferrant", "title": "Owner", "date": "2018-06-07"},
    ]
    assert data["signing_date"] == "2018-06-07"


def paper_text() -> str:
    """A page of a paper in two columns."""
    left = [
        "1 Introduction",
        *(f"Mud dries at rate number {n} in open sheds and so" for n in range(12)),
        "2 Methods",
        "We weighed trays every hour with a good scale.",
    ]
    right = [
        *(f"the right column goes on with words number {n}" for n in range(10)),
        "References",
        "[1] A. Roe (2001). On mud. Mud Letters 3, 1-9.",
        "[2] B. Poe and C. Doe (2004). On sand and",
        "gravel. Sand Letters 4, 2-8.",
    ]
    rows = [f"{a:<58}{b}".rstrip() for a, b in zip(left, [*right, ""], strict=True)]
    head = [
        "                    Drying of Marsh Mud",
        "              Ada Fernsby1     Tom Kessel2",
        "             1 Northmere University   2 Institute of Soil",
        "",
        "                         Abstract",
        "Dikes are often raised with mud dredged nearby, which must dry before it bears any load; we meas-",
        "ured how it dries and report the rates in detail for three kinds of mud.",
        "Keywords: mud; dike construction",
        "",
    ]
    return "\n".join([*head, *rows])


def test_a_paper_in_two_columns_is_read_column_by_column() -> None:
    """Laid-out text puts columns side by side; read line by line, abstract, sections and references are garbled."""
    person = {"type": "object", "properties": {"name": TEXT, "affiliation": TEXT}}
    section = {"type": "object", "properties": {"number": TEXT, "heading": TEXT}}
    work = {"type": "object", "properties": {"label": TEXT, "title": TEXT, "year": {"type": ["integer", "null"]}}}
    schema = {
        "type": "object",
        "properties": {
            "title": TEXT,
            "abstract": TEXT,
            "keywords": {"type": "array", "items": {"type": "string"}},
            "authors": {"type": "array", "items": person},
            "sections": {"type": "array", "items": section},
            "references": {"type": "array", "items": work},
        },
    }
    data = data_of(schema, paper_text())
    assert data["title"] == "Drying of Marsh Mud"
    assert "we measured how it dries" in data["abstract"]
    assert data["keywords"] == ["mud", "dike construction"]
    assert [author["name"] for author in data["authors"]] == ["Ada Fernsby", "Tom Kessel"]
    assert data["authors"][1]["affiliation"] == "Institute of Soil"
    assert data["sections"] == [{"number": "1", "heading": "Introduction"}, {"number": "2", "heading": "Methods"}]
    assert data["references"] == [
        {"label": "1", "title": "On mud", "year": 2001},
        {"label": "2", "title": "On sand and gravel", "year": 2004},
    ]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("The committee sets the fees for the season and meets again in June.", "en"),
        ("Der Ausschuss setzt die Gebühren für die Saison fest und tagt wieder im Juni mit den Gästen.", "de"),
        ("Le comité fixe les droits pour la saison et se réunit dans une salle de la mairie.", "fr"),
        ("El comité fija las tarifas para la temporada y se reúne de nuevo en una sala del puerto.", "es"),
        ("委员会规定了本季度的费用，并将于六月再次开会。", "zh"),
        ("Комитет устанавливает сборы на сезон и собирается снова.", "ru"),
        ("12 345 678 90", None),
    ],
)
def test_the_language_is_told(text: str, code: str | None) -> None:
    """Language is asked of every document; a wrong code is worse than none."""
    assert data_of({"type": "object", "properties": {"language": TEXT}}, text)["language"] == code


def test_a_document_gives_facts_tables_and_people() -> None:
    """The generic recipe must say something useful of a document no other recipe knows."""
    fact = {"type": "object", "properties": {"label": TEXT, "value": TEXT}}
    person = {"type": "object", "properties": {"name": TEXT, "role": TEXT}}
    cells = {"type": "object", "properties": {"cells": {"type": "array", "items": TEXT}}}
    table = {
        "type": "object",
        "properties": {
            "columns": {"type": "array", "items": {"type": "string"}},
            "rows": {"type": "array", "items": cells},
        },
    }
    schema = {
        "type": "object",
        "properties": {
            "title": TEXT,
            "document_type": TEXT,
            "date": TEXT,
            "reference_number": TEXT,
            "key_facts": {"type": "array", "items": fact},
            "people": {"type": "array", "items": person},
            "tables": {"type": "array", "items": table},
        },
    }
    text = """\
Minutes of the harbour committee

Date: 8 May 2024
Reference: HC-2024-05
Present: Fidelma Winter (chair), Barnaby Drum (harbour master).

Length           Day        Month
up to 6 m        €12        €190
6 to 10 m        €19        €310"""
    data = data_of(schema, text)
    assert data["title"] == "Minutes of the harbour committee"
    assert data["document_type"] == "minutes"
    assert data["date"] == "2024-05-08"
    assert data["reference_number"] == "HC-2024-05"
    assert {"label": "Date", "value": "8 May 2024"} in data["key_facts"]
    assert {"name": "Barnaby Drum", "role": "harbour master"} in data["people"]
    assert data["tables"] == [
        {
            "columns": ["Length", "Day", "Month"],
            "rows": [{"cells": ["up to 6 m", "€12", "€190"]}, {"cells": ["6 to 10 m", "€19", "€310"]}],
        }
    ]


HOSTILE: Sequence[str] = (
    "between " * 9000,
    "(" * 20000 + " between " + ")" * 20000,
    "This Agreement between the parties " * 1500,
    "The Company shall within thirty days " * 1500,
    "“”" * 10000 + " this agreement the parties this agreement the parties between A and B",
    "a@" * 20000,
    "References\n" + "\n".join(f'[{n}] A. Aa, B. Bb, "T' for n in range(1500)),
)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_is_answered_in_time(text: str) -> None:
    """One document must not hold the engine up for the others."""
    work = {"type": "object", "properties": {"title": TEXT}}
    members = {**CONTRACT["properties"], "summary": TEXT, "references": {"type": "array", "items": work}}  # type: ignore[dict-item]
    schema = {"type": "object", "properties": members}
    started = time.perf_counter()
    data_of(schema, text)
    assert time.perf_counter() - started < 5


@pytest.mark.corpus
def test_real_agreements_name_law_and_parties(corpus: Path) -> None:
    """Printed agreements vary more than drawn ones: most of these must give two parties and their law."""
    import pymupdf

    from ingest.reading.layout import layout_text
    from ingest.types import Word

    found = 0
    files = sorted((corpus / "contracts").glob("*.pdf"))
    for file in files:
        with pymupdf.open(file) as document:
            texts = [layout_text([Word(w[4], tuple(w[:4])) for w in page.get_text("words")]) for page in document]
        data = data_of(CONTRACT, *texts)
        found += bool(data["governing_law"]) and bool(data["parties"])
    assert found >= 0.8 * len(files)
