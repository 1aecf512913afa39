"""What a job would cost with one setting changed: computed from the descriptors at hand, nothing is read again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass, field, replace

from ingest.config import FPS_BOUNDS, Config
from ingest.engine.assembly import NO_TEXT_LAYER, sum_of_plans
from ingest.engine.blueprint import Blueprint
from ingest.engine.opening import Opened
from ingest.engine.quotes import missing_of, quote_document
from ingest.engine.session import Session
from ingest.errors import ConfigError
from ingest.reading.grids import as_cell, on_sheets
from ingest.record import Choice, PlanRow
from ingest.types import Chunk, Document, Estimate, EvidenceMode, PageMode, Part, Problem, Rendering, TextStats

_ANSWER_LENGTH: dict[EvidenceMode, float] = {"none": 0.6, "part": 1.0, "quote": 2.0}
"""Length of an answer by the evidence asked for: a value takes some 8 tokens alone, 14 with its page, and up to 15
words more with a quote."""

_SHEET = 4
"""Frames of the contact sheet that is offered."""

_FIGURES = (
    "requests",
    "dear_requests",
    "input_tokens_expected",
    "input_tokens_safe",
    "output_tokens_expected",
    "output_tokens_ceiling",
    "cost_usd_expected",
    "cost_usd_ceiling",
)


@dataclass(slots=True)
class _Variant:
    """One other setting: the option, what it makes of a document (None when nothing of it changes), and the plans."""

    name: str
    blueprint: Blueprint
    change: Callable[[Document], Document | None]
    note: str = ""
    answer_length: float = 1.0
    rows: list[PlanRow] = field(default_factory=list)
    changed: int = 0


class Choices:
    """Prices a job under other settings, document by document, while its plan is made."""

    def __init__(self, blueprint: Blueprint) -> None:
        self._variants = list(_variants(blueprint))

    def add(self, session: Session, opened: Opened, row: PlanRow, chunks: tuple[Chunk, ...]) -> None:
        """Take one document, its plan and its chunks under the present settings."""
        document = opened.document
        for variant in self._variants:
            changed = None if document is None else variant.change(document)
            if changed is None:
                variant.rows.append(row)
            else:
                variant.changed += 1
                variant.rows.append(_quote(session, variant, changed, chunks if changed is document else None))

    def compared(self, rows: Sequence[PlanRow]) -> Iterator[Choice]:
        """The choices that would change something, each beside the plan as it is."""
        present = sum_of_plans(rows)
        for variant in self._variants:
            total = sum_of_plans(variant.rows)
            difference = None
            if total.cost_usd_expected is not None and present.cost_usd_expected is not None:
                difference = total.cost_usd_expected - present.cost_usd_expected
            if variant.changed:
                figures = {name: getattr(total, name) for name in _FIGURES}
                yield Choice(name=variant.name, difference_usd=difference, note=variant.note, **figures)


def _quote(session: Session, variant: _Variant, document: Document, chunks: tuple[Chunk, ...] | None) -> PlanRow:
    """The plan of a document under other settings; chunks of the same parts are taken as they are."""
    blueprint, calibration = variant.blueprint, session.calibration

    def is_answered(chunk: Chunk) -> bool:
        return session.has_answer(blueprint.key(document, chunk))

    chunks = blueprint.layout(document, calibration).chunks if chunks is None else chunks
    if variant.answer_length != 1.0:
        chunks = tuple(replace(chunk, answer=_scaled(chunk.answer, variant.answer_length)) for chunk in chunks)
    missing = [missing_of(chunk, is_answered) for chunk in chunks]
    return quote_document(blueprint, document, chunks, calibration, missing)


def _variants(present: Blueprint) -> Iterator[_Variant]:
    config = present.config
    for name, section, update, change, note, length in _settings(config, present.rendering):
        changed = config.model_copy(update={section: getattr(config, section).model_copy(update=update)})
        try:
            yield _Variant(name, Blueprint(changed, None if "evidence" in update else present), change, note, length)
        except ConfigError:
            continue  # these settings leave no room for a page: no choice


def _settings(
    config: Config, rendering: Rendering
) -> Iterator[tuple[str, str, dict[str, object], Callable[[Document], Document | None], str, float]]:
    """Option, section, values, what it makes of a document, a note, and the length of answers."""
    reading, asking, profile = config.reading, config.asking, config.profile
    if reading.pages != "text":
        yield "--pages text", "reading", {"pages": "text"}, _as_text, "pages without text are left out", 1.0
    if reading.pages != "image":
        yield "--pages image", "reading", {"pages": "image"}, _as_images, "", 1.0
    if reading.pages != "both":
        yield "--pages both", "reading", {"pages": "both"}, _as_both, "", 1.0
    if "low" in profile.images and (asking.image_detail or profile.default_detail) != "low":
        low: dict[str, object] = {"image_detail": "low"}
        # Frames of a video have a detail of their own unless one is asked for.
        is_for_frames = (asking.image_detail or profile.frames.detail) != "low"
        change = _with_any_images if is_for_frames else _with_images
        yield "--image-detail low", "asking", low, change, "images smaller than a page", 1.0
    if reading.fps == "auto" or reading.fps / 2 >= FPS_BOUNDS[0]:
        name = "--fps, half of it" if reading.fps == "auto" else f"--fps {reading.fps / 2:g}"
        yield name, "reading", {}, _half_the_frames, "every second frame is counted", 1.0
    if reading.contact_sheet == 1:
        note = f"{_SHEET} frames share the pixels of one: for pictures, not for small print"
        yield f"--contact-sheet {_SHEET}", "reading", {"contact_sheet": _SHEET}, _on_sheets(rendering), note, 1.0
    thinking = not asking.enable_thinking
    update: dict[str, object] = {"enable_thinking": thinking, "reasoning_effort": None}
    note = "reasoning as long as the answer is assumed" if thinking else ""
    if profile.quirks.thinking:
        yield "--thinking" if thinking else "--no-thinking", "asking", update, _same, note, 1.0
    for mode, length in _ANSWER_LENGTH.items():
        if mode != asking.evidence:
            relative = length / _ANSWER_LENGTH[asking.evidence]
            told = f"answers {relative:.1f} times as long are assumed"
            yield f"--evidence {mode}", "asking", {"evidence": mode}, _same, told, relative


def _scaled(answer: Estimate, factor: float) -> Estimate:
    return Estimate(round(answer.expected * factor), round(answer.safe * factor))


def _same(document: Document) -> Document:
    return document


def _with_images(document: Document) -> Document | None:
    return None if document.medium == "video" else _with_any_images(document)


def _with_any_images(document: Document) -> Document | None:
    # A copy: what an image takes depends on the detail, so the chunks may differ.
    return replace(document) if any(part.mode in ("image", "both") for part in document.parts) else None


def _as_text(document: Document) -> Document | None:
    """Pages as text; those without any are left out."""
    return _with_pages(document, lambda part: _with_layer(part, "text"))


def _as_images(document: Document) -> Document | None:
    return _with_pages(document, lambda part: replace(part, mode="image", text=TextStats()))


def _as_both(document: Document) -> Document | None:
    """Pages as both; those without text as images."""
    return _with_pages(document, lambda part: _with_layer(part, "both") or replace(part, mode="image"))


def _with_layer(part: Part, mode: PageMode) -> Part | None:
    """A page sent with the text of its layer; None when it has none. A blank one has an empty one, as text alone."""
    layer = part.unsent if part.mode == "image" else part.text
    if layer is None or (mode == "both" and not layer.chars):
        return None
    return replace(part, mode=mode, text=layer)


def _with_pages(document: Document, change: Callable[[Part], Part | None]) -> Document | None:
    """The document with its pages changed, those that would not be sent marked so; photographs are what they are.

    None when nothing changes: videos, files handed over whole, pages that are as wanted.
    """
    if document.medium != "pages" or any(part.mode == "native" for part in document.parts):
        return None
    parts: list[Part] = []
    problems = [problem for problem in document.problems if problem.code != NO_TEXT_LAYER]
    for part in document.parts:
        changed = part if part.width_px or part.error else change(part)
        parts.append(changed or replace(part, mode="text"))
        if changed is None:
            problems.append(Problem("reading", NO_TEXT_LAYER, "", part.index))
    return None if tuple(parts) == document.parts else replace(document, parts=tuple(parts), problems=tuple(problems))


def _half_the_frames(document: Document) -> Document | None:
    frames = [part for part in document.parts if part.kind == "frame"]
    if len(frames) < 2:
        return None
    left_out = {part.index for part in frames[1::2]}
    return replace(document, parts=tuple(part for part in document.parts if part.index not in left_out))


def _on_sheets(rendering: Rendering) -> Callable[[Document], Document | None]:
    """Frames gathered on contact sheets, with their subtitles."""

    def change(document: Document) -> Document | None:
        if sum(part.kind == "frame" and part.error is None for part in document.parts) < 2:
            return None
        spoken = {part.moments[0].pts: part.text for part in document.parts if part.moments}
        cells = [part if part.error else as_cell(part, _SHEET, rendering) for part in document.parts]
        sheets = []
        for sheet in on_sheets(cells, _SHEET, rendering):
            counts = zip(*(astuple(spoken[moment.pts]) for moment in sheet.moments), strict=True)
            text = TextStats(*map(sum, counts))
            mode: PageMode = "both" if text.chars else "image"
            sheets.append(sheet if sheet.error else replace(sheet, mode=mode, text=text))
        return replace(document, parts=tuple(sheets))

    return change
