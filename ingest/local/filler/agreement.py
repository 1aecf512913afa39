"""What an agreement says of itself: kind, dates, term, notice, law and courts, money, duties."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property, lru_cache

from ingest.local.filler.agreement_parties import ContractParty, Opening, read_opening, read_parties
from ingest.local.filler.clauses import (
    Statement,
    duration_pattern,
    headed,
    matching,
    pattern,
    read_statements,
    shorten,
    words,
)
from ingest.local.filler.dates import FoundDate, find_dates
from ingest.local.filler.found import Found
from ingest.local.filler.language import detect_language
from ingest.local.filler.numbers import find_numbers
from ingest.local.filler.running import Running

_CLAUSE_CHARS = 500
_DUTY_CHARS = 320
_MAX_DUTIES = 30
# How near a date stands to the word that says what day it is, in characters.
_DATE_REACH = 90
# A document speaks as an agreement where it calls itself one this often.
_MIN_MENTIONS = 4
_MENTION = re.compile(
    r"\b(?:this|the) (?:agreement|contract|lease)\b|\bthe part(?:y|ies)\b|\bdieser? (?:vertrags?"
    r"|vereinbarung)\b|\b(?:vertrags)?parteien\b|\bauftrag(?:nehmer|geber)\b|"
    r"\b(?:le présent|du présent|présent) contrat\b|\bles parties\b|\b(?:el|del|este|presente) contrato\b"
    r"|\blas partes\b",
    re.IGNORECASE,
)
_LAW_OF = re.compile(
    r"\blaws?\s+(?:and regulations\s+)?(?:of|in force in)\s+(?:the\s+)?(?:(?:State|Commonwealth|Province"
    r"|Republic|Federal Republic|Kingdom)(?:\s+and\s+\w+)?\s+of\s+)?(?:the\s+)?"
    r"(?P<place>[A-Z][\w’'-]+(?:\s+(?:and|of|the|&)\s+[A-Z][\w’'-]+|\s+[A-Z][\w’'-]+){0,4})"
)
_STATE_LAW = re.compile(
    r"\b(?:with|by|under|to)\s+(?:the\s+)?(?P<place>[A-Z][a-z]+(?:\s[A-Z][a-z]+)?)\s+(?:state\s+)?law\b"
)
_LAW_OTHER = re.compile(
    r"\b(?:Rechts?|Gesetze[n]?)\s+der\s+(?P<de>(?:Bundesrepublik\s+"
    r"|Republik\s+)?(?:[A-ZÄÖÜ]\w+)(?:\s[A-ZÄÖÜ]\w+)?)|\b(?:leyes|legislación|ley)\s+(?:vigente\s+)?(?:de"
    r"|en)\s+(?:la\s+|los\s+|el\s+)?(?P<es>[A-ZÁÉÍÓÚ]\w+(?:\s(?:de\s)?[A-ZÁÉÍÓÚ]\w+)*)|"
    r"\b(?:lois?|droit)\s+(?:en vigueur\s+)?(?:de\s+la\s+|de\s+l['’]|du\s+|en\s+)(?P<fr>[A-ZÉÈ]\w+)"
    r"|\bwetten van\s+(?P<nl>[A-Z]\w+)"
)
_GOVERNED = re.compile(
    r"govern|constru|interpret|in accordance with|subject to|\bgilt\b|\bgelten\b|unterlieg|recht\b|\brégi\b"
    r"|soumis|applicable|\brige\b|\bregir|somet|interpretar|regolat|beheerst",
    re.IGNORECASE,
)
_COURT = re.compile(
    r"(?P<court>(?:\b[Tt]he\s+)?(?:(?:[Ss]tate|[Ff]ederal|[Cc]ompetent|[Uu]nited [Ss]tates|[Dd]istrict"
    r"|[Ss]uperior|[Cc]ivil|[Pp]rovincial)\b[\w\s,/]{0,40})?\b[Cc]ourts?\s+(?:sitting\s+|located\s+"
    r"|situated\s+)?(?:in|of|for|within)\s+(?:the\s+)?[A-Z][^.;()]{2,90}?)"
    r"(?=\s+(?:shall|will|have|has|for|and each|and the part|in any|over|with respect|or any|to resolve"
    r"|which)\b|,\s+(?:and|which|have|shall)\b|[.;()]|$)"
)
_GERICHTSSTAND = re.compile(
    r"Gerichtsstand\b[^.;]{0,120}?\b(?:ist|wird|:)\s+(?:der\s+Sitz\s+|das\s+)?(?P<place>[A-ZÄÖÜ][^.;,]{2,60})"
)
_TRIBUNAL = re.compile(
    r"(?P<court>\b(?:(?:[Tt]ribunal|[Tt]ribunaux|[Jj]uzgados(?: y [Tt]ribunales)?"
    r"|[Tt]ribunales)\b)[^.;,]{3,80})"
)
_ARBITRATION = re.compile(
    r"(?P<court>\b(?:binding )?(?:arbitration|Schiedsgericht\w*|arbitraje|arbitrage)\b[^.;]{0,120})", re.IGNORECASE
)
_RECITALS = re.compile(
    r"\bwhereas\b|\brecitals\b|\bwitnesseth\b|\bbackground\n|\bexponen\b|\bmanifiestan\b|\bpréambule\b"
    r"|\bpräambel\b|\bvorbemerkung",
    re.IGNORECASE,
)
_NO_DUTY = re.compile(
    r"^(?:whereas|in witness|now,? therefore)\b|\b(?:shall|will|must) (?:mean|include|be deemed|be construed"
    r"|have the right|be entitled|survive|be governed|not be (?:deemed|construed|liable))\b|"
    r"\b(?:acknowledges?|understands?|recogni[sz]es?|warrants?|represents?)\b(?!.{0,40}\bagrees? to\b)"
    r"|\b(?:haftet|haften|berechtigt|kann|können|bleibt|gilt|gelten|peut|peuvent|puede|pueden|podrá|podrán)\b"
    r"|\bnot obliged\b|\bis liable\b",
    re.IGNORECASE,
)
_GOVERNED_BY = re.compile(
    r"(?:\b(?:of|by|to|from|with|for|upon|between|and|against|des|von|durch|an|de|du|del|par|por|al?|au|con"
    r"|avec)\s+(?:the\s+|la\s+|el\s+|der\s+|dem\s+|l['’])?|[-])$",
    re.IGNORECASE,
)
# How far a party stands before the verb that obliges it, in characters.
_SUBJECT_REACH = 60


class Agreement:
    """The clauses of an agreement and what they settle, each found when first asked for."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self.view = running.view

    @cached_property
    def is_one(self) -> bool:
        """Whether the document speaks as an agreement."""
        return len(_MENTION.findall(self.view.text[:60_000])) >= _MIN_MENTIONS

    @cached_property
    def opening(self) -> Opening | None:
        """The beginning of the agreement."""
        return read_opening(self.running)

    @cached_property
    def parties(self) -> list[ContractParty]:
        """The parties in printed order."""
        return read_parties(self.opening) if self.opening else []

    @cached_property
    def statements(self) -> tuple[Statement, ...]:
        """The sentences with number and heading of their clauses."""
        return read_statements(self.running)

    def kind(self, title: str | None) -> str | None:
        """The kind of contract as the vocabulary names it, by the title, else by the opening."""
        for text in (title or "", self.opening.text[:600] if self.opening else ""):
            for kind in words()["kinds"]:
                if text and pattern("kinds", kind).search(text):
                    return str(kind)
        return None

    def effective_date(self) -> Found | None:
        """The day from which the agreement applies: stated as such, else its date."""
        opening = self.opening
        dates = self._opening_dates()
        if opening:
            for date in dates:
                before = opening.text[max(0, date.start - _DATE_REACH) : date.start]
                last = list(pattern("date", "effective").finditer(before))
                if last and not find_dates(before[last[-1].end() :]):
                    return Found(self._iso(date), opening.row_at(date.start), last[-1][0], 0.85)
        for statement in self.statements:
            begun = self._date_after(
                statement, "begins", bool(pattern("subject", "agreement").search(statement.text[:120]))
            )
            if begun:
                return begun
        return self._made_date() or self._defined_date()

    def _defined_date(self) -> Found | None:
        """The date a clause defines as the effective date."""
        for statement in self.statements:
            for match in re.finditer(r"effective date", statement.text, re.IGNORECASE):
                for date in find_dates(statement.text):
                    if -_DATE_REACH < date.start - match.start() < _DATE_REACH:
                        return Found(self._iso(date), statement.row, match[0], 0.6)
        return None

    def _made_date(self) -> Found | None:
        """The date the opening says the agreement was made."""
        opening = self.opening
        if opening is None:
            return None
        for date in self._opening_dates():
            before = opening.text[max(0, date.start - _DATE_REACH) : date.start]
            after = opening.text[date.end : date.end + 40]
            if pattern("date", "made").search(before) or re.search(r"effective date", after, re.IGNORECASE):
                return Found(self._iso(date), opening.row_at(date.start), None, 0.75)
        return None

    def _opening_dates(self) -> list[FoundDate]:
        """Dates of the opening before its first clause, earlier ones first."""
        if self.opening is None:
            return []
        text = self.opening.text[:2600]
        recitals = _RECITALS.search(text)
        return find_dates(text[: recitals.start()] if recitals else text)

    def expiration_date(self) -> Found | None:
        """The day on which the agreement ends, where that day is printed."""
        for statement in self.statements:
            if pattern("subject", "agreement").search(statement.text[:160]):
                found = self._date_after(statement, "ends", True)
                if found:
                    return found
        return None

    def _date_after(self, statement: Statement, key: str, is_about: bool) -> Found | None:
        """The date after a word of the vocabulary in a statement, nothing between them but a few words."""
        if not is_about or not any(c.isdigit() for c in statement.text):
            return None
        dates = find_dates(statement.text)
        for match in pattern("date", key).finditer(statement.text) if dates else ():
            start = match.start() if key == "begins" else match.end()
            for date in dates:
                if 0 <= date.start - start <= _DATE_REACH:
                    return Found(self._iso(date), statement.row, match[0], 0.75)
        return None

    def term(self) -> Found | None:
        """How long the agreement runs: the length as printed, else the words that tell its end."""
        candidates = [*matching(self.statements, "term")]
        candidates.extend(s for s in headed(self.statements, "term") if s not in candidates)
        avoided = pattern("topics", "term", "avoid")
        for statement in candidates[:20]:
            for match in duration_pattern().finditer(statement.text):
                near = statement.text[max(0, match.start() - 60) : match.end() + 40]
                if not re.search(
                    r"\bnotice\b|\bfrist\b|préavis|preaviso|\bwithin\b|\binnerhalb\b|verlänger|renew",
                    near,
                    re.IGNORECASE,
                ):
                    return Found(shorten(match[0], 160), statement.row, statement.heading, 0.7)
            if (
                find_dates(statement.text)
                and pattern("date", "ends").search(statement.text)
                and not avoided.search(statement.text)
            ):
                return Found(shorten(statement.text, 240), statement.row, statement.heading, 0.6)
        return self._indefinite(candidates)

    def _indefinite(self, candidates: list[Statement]) -> Found | None:
        for statement in candidates[:20]:
            if re.search(
                r"until terminated|indefinite|unbestimmte|indéterminée|indefinid|until such time",
                statement.text,
                re.IGNORECASE,
            ):
                return Found(shorten(statement.text, 240), statement.row, statement.heading, 0.55)
        return None

    def notice_period(self) -> Found | None:
        """The time of notice for ending the agreement, as printed."""
        about = pattern("topics", "notice", "words")
        for statement in matching(self.statements, "notice"):
            places = [(match.start() + match.end()) / 2 for match in about.finditer(statement.text)]
            near: list[tuple[float, str]] = []
            for match in duration_pattern().finditer(statement.text):
                distance = min(abs(place - match.start()) for place in places)
                if distance < 80:
                    near.append((distance, match[0][: len(match[0]) - len(match["tail"] or "")].strip("'’ ,")))
            if near:
                return Found(min(near)[1], statement.row, statement.heading, 0.7)
        return None

    def confidentiality_period(self) -> Found | None:
        """How long the duty of confidence lasts, as printed."""
        for statement in matching(self.statements, "confidentiality"):
            about = pattern("topics", "confidentiality", "words")
            heading = statement.heading or ""
            for match in duration_pattern().finditer(statement.text):
                before = statement.text[max(0, match.start() - 160) : match.start()]
                lasts = pattern("topics", "confidentiality", "with").search(
                    statement.text[max(0, match.start() - 80) : match.end() + 60]
                )
                is_short = re.search(r"\bdays?|tag|jours?|días?", match[0], re.IGNORECASE)
                if (
                    lasts
                    and not is_short
                    and (about.search(before) or about.search(heading) or about.search(statement.text[:100]))
                ):
                    return Found(shorten(match[0], 160), statement.row, statement.heading, 0.65)
        return None

    def governing_law(self) -> Found | None:
        """The country or state whose law governs."""
        for statement in self.statements:
            text = statement.text
            if not _GOVERNED.search(text):
                continue
            place = _law_place(text)
            if place:
                return Found(place, statement.row, statement.heading, 0.85)
        return None

    def jurisdiction(self) -> Found | None:
        """The courts, or the arbitration, that decide disputes."""
        candidates = list(matching(self.statements, "jurisdiction"))
        for statement in candidates:
            german = _GERICHTSSTAND.search(statement.text)
            match = _COURT.search(statement.text) or _TRIBUNAL.search(statement.text)
            if german or match:
                text = german["place"] if german else match["court"] if match else ""
                return Found(shorten(text.strip(" ,"), 200), statement.row, statement.heading, 0.7)
        for statement in candidates:
            match = _ARBITRATION.search(statement.text)
            if match:
                return Found(shorten(match["court"].strip(" ,"), 200), statement.row, statement.heading, 0.55)
        return None

    def contract_value(self) -> Found | None:
        """The price, fee or rent agreed."""
        for statement in matching(self.statements, "value"):
            keyword = pattern("topics", "value", "words").search(statement.text)
            for number in find_numbers(statement.text, self.view.decimal):
                near = keyword is not None and abs(number.start - keyword.end()) < 120
                if near and number.currency and number.value >= 10:
                    return Found(number.value, statement.row, keyword[0] if keyword else None, 0.6)
        return None

    def clause(self, topic: str, limit: int = _CLAUSE_CHARS, count: int = 2) -> Found | None:
        """Up to `count` statements about a topic in their own words: those of one clause, kept together."""
        statements = list(matching(self.statements, topic))
        first = next((s for s in statements if _is_headed(s, topic)), statements[0] if statements else None)
        if first is None:
            return None
        chosen = [first]
        for statement in statements:
            same = statement.heading == first.heading and statement is not first
            if same and len(chosen) < count and sum(len(s.text) for s in chosen) + len(statement.text) < limit:
                chosen.append(statement)
        return Found(shorten(" ".join(s.text for s in chosen), limit), first.row, first.heading, 0.6)

    def automatic_renewal(self) -> Found | None:
        """Whether the agreement renews itself; nothing when it does not say."""
        for statement in matching(self.statements, "renewal"):
            if pattern("topics", "renewal", "none").search(statement.text):
                return Found(False, statement.row, statement.heading, 0.65)
            if pattern("topics", "renewal", "automatic").search(statement.text):
                return Found(True, statement.row, statement.heading, 0.7)
        return None

    def duties(self) -> Iterator[dict[str, Found]]:
        """What the parties must do or leave undone: party, obligation, deadline, clause."""
        roles = self._roles()
        last: tuple[str | None, str] | None = None
        count = 0
        for statement in self.statements:
            party = None if _NO_DUTY.search(statement.text[:400]) else self._obliged(statement, roles, last)
            if party is None:
                continue
            last = (statement.number, party)
            yield self._duty(statement, party)
            count += 1
            if count >= _MAX_DUTIES:
                return

    def _obliged(
        self, statement: Statement, roles: list[tuple[re.Pattern[str], str]], last: tuple[str | None, str] | None
    ) -> str | None:
        """The party a statement obliges, `both` for all of them, None when it is no duty."""
        modal = pattern("modal", "duty").search(statement.text)
        if modal is None:
            # Duties in the present tense, as German and French print them: the party stands at the beginning.
            return self._subject(statement.text[:70], roles) if self._is_plain and len(statement.text) > 30 else None
        if modal.start() > 260:
            return None
        subject = statement.text[: modal.start()].rstrip()
        party = self._subject(subject or statement.text[modal.end() : modal.end() + 60], roles)
        if (
            party
            or last is None
            or not re.search(r"(?:^|,\s)(?:it|he|she|er|sie|il|elle|ésta?)$", subject, re.IGNORECASE)
        ):
            return party
        return last[1] if (statement.number or "").split(".")[0] == (last[0] or "").split(".")[0] else None

    @cached_property
    def _is_plain(self) -> bool:
        """Whether the language prints duties in the present tense."""
        found = detect_language(self.view.text)
        return found is not None and found[0] != "en"

    def _duty(self, statement: Statement, party: str) -> dict[str, Found]:
        record = {
            "party": Found(party, statement.row, None, 0.6),
            "obligation": Found(shorten(statement.text, _DUTY_CHARS), statement.row, None, 0.6),
        }
        deadline = pattern("modal", "deadline").search(statement.text)
        if deadline:
            record["deadline"] = Found(shorten(deadline[0].strip(" ,"), 120), statement.row, None, 0.55)
        if statement.number:
            record["clause"] = Found(statement.number, statement.row, None, 0.7)
        return record

    def _roles(self) -> list[tuple[re.Pattern[str], str]]:
        """What sentences call the parties: roles and names, and defined terms for either of them."""
        names = [party.role or party.name for party in self.parties]
        names.extend(party.name for party in self.parties if party.role)
        names.extend(words()["modal"]["roles"])
        unique = list(dict.fromkeys(name for name in names if len(name) >= 3))
        return [(re.compile(rf"(?<![\w-]){re.escape(name)}(?![\w'’-])"), name) for name in unique]

    def _subject(self, text: str, roles: list[tuple[re.Pattern[str], str]]) -> str | None:
        """The party that stands last before a verb and is its subject, `both` for all of them."""
        found = [(match.end(), "both") for match in pattern("modal", "both").finditer(text)]
        for matcher, name in roles:
            free = (
                m for m in matcher.finditer(text) if not _GOVERNED_BY.search(text[max(0, m.start() - 16) : m.start()])
            )
            found.extend((match.end(), name) for match in free)
        near = [place for place in found if len(text) - place[0] <= _SUBJECT_REACH]
        return max(near)[1] if near else None

    def _iso(self, date: FoundDate) -> str:
        return date.resolve(self.view.month_first).isoformat()


def _is_headed(statement: Statement, topic: str) -> bool:
    return bool(statement.heading and pattern("topics", topic, "heading").search(statement.heading))


@lru_cache(maxsize=1)
def _adjectives() -> tuple[tuple[re.Pattern[str], str], ...]:
    nouns = r"(?:Recht|Rechts|Rechte|law|laws|droit|loi|legislación|ley|leyes|derecho|legge|diritto|recht)"
    return tuple(
        (re.compile(rf"\b{adjective}\s+{nouns}\b|\b{nouns}\s+(?:común\s+)?{adjective}\b", re.IGNORECASE), country)
        for adjective, country in words()["laws"]["pairs"]
    )


def _law_place(text: str) -> str | None:
    """The country or state named as that of the law."""
    match = _LAW_OF.search(text)
    if match and not re.match(r"(?:Conflicts?|Laws?|Such|Any)\b", match["place"]):
        return match["place"]
    other = _LAW_OTHER.search(text)
    if other:
        place = next(group for group in other.groups() if group)
        return re.sub(r"^(?:Bundesrepublik|Republik)\s+", "", place)
    for matcher, country in _adjectives():
        if matcher.search(text):
            return country
    match = _STATE_LAW.search(text)
    return (
        match["place"] if match and match["place"] not in ("Applicable", "Federal", "State", "Common", "The") else None
    )
