"""From frames that were looked at to the parts of a document: repeats across spans dropped, intervals laid, subtitles
put at their times, frames gathered on sheets."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ingest.errors import Unreadable
from ingest.reading import Probed, Spool
from ingest.reading.grids import on_sheets
from ingest.reading.sampling import tile
from ingest.reading.video.likeness import compare, read_look
from ingest.reading.video.subtitles import Cue, pauses, texts_of
from ingest.types import Moment, Part, Problem, Rendering, TextStats

_FACTS_FILE = "facts.json"


@dataclass(frozen=True, slots=True)
class Facts:
    """What settling and sending need to know of a video beside its frames."""

    duration_s: float
    declared_s: float
    is_cut_off: bool
    cues: tuple[Cue, ...]

    def save(self, spool: Spool) -> None:
        """Put them where the next worker finds them."""
        (spool.folder / _FACTS_FILE).write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, spool: Spool) -> Facts | None:
        """Those that `save` left; None when the spool has gone."""
        try:
            data = json.loads((spool.folder / _FACTS_FILE).read_text(encoding="utf-8"))
        except OSError:
            return None
        data["cues"] = tuple(Cue(**cue) for cue in data["cues"])
        return cls(**data)


def look_path(spool: Spool, stamp: int) -> Path:
    """Where the first and the last kept frame of a span are for comparison."""
    return spool.folder / f"{stamp}.look"


def settle(
    name: str, probed: Sequence[Probed], facts: Facts, rendering: Rendering, sheet: int, spool: Spool
) -> tuple[Part, ...]:
    """The parts, numbered, with intervals from 0 to the end.

    Raises Unreadable when not one frame could be decoded.
    """
    kept = list(_without_repeats(probed, spool))
    if all(each.part.error is not None for each in kept):
        first = next((each.part.error.message for each in kept if each.part.error is not None), name)
        raise Unreadable(f"{name} has no frames that can be decoded: export or download it again ({first})")
    times = [each.part.moments[0].timestamp_s for each in kept]
    intervals = tile(times, facts.duration_s)
    speaks_again = pauses(facts.cues)
    parts = []
    for index, (each, (start_s, end_s)) in enumerate(zip(kept, intervals, strict=True)):
        moment = replace(each.part.moments[0], start_s=start_s, end_s=end_s)
        is_break = index > 0 and (each.is_cut or any(start_s <= time < end_s for time in speaks_again))
        error = each.part.error and replace(each.part.error, part_index=index)
        parts.append(replace(each.part, index=index, moments=(moment,), is_break=is_break, error=error))
    if sheet > 1:
        parts = list(on_sheets(parts, sheet, rendering))
    parts = _with_subtitles(parts, facts.cues)
    if facts.is_cut_off:
        parts.append(_missing(name, len(parts), facts, parts))
    return tuple(parts)


def part_texts(parts: Sequence[Part], cues: Sequence[Cue]) -> list[str]:
    """The subtitles of each part."""
    return texts_of([(part.moments[0].start_s, part.moments[-1].end_s) for part in parts], cues)


def _without_repeats(probed: Sequence[Probed], spool: Spool) -> Iterator[Probed]:
    """Compare neighbours of which both left a look: the last kept frame of a span and the first of the next."""
    before: Probed | None = None
    for each in probed:
        if each.part.error is not None:
            yield each
            continue
        if before is not None:
            paths = [look_path(spool, probe.part.moments[0].pts) for probe in (before, each)]
            if all(path.exists() for path in paths):
                difference = compare(read_look(paths[0]), read_look(paths[1]))
                if difference.is_repeat:
                    continue  # what follows is compared with the frame that stays
                each = replace(each, is_cut=each.is_cut or difference.is_cut(stood_still=False))
        before = each
        yield each


def _with_subtitles(parts: Sequence[Part], cues: Sequence[Cue]) -> list[Part]:
    found = []
    for part, text in zip(parts, part_texts(parts, cues), strict=True):
        if text and part.error is None:
            key = hashlib.sha256(text.encode()).hexdigest()[:16]
            part = replace(part, mode="both", text=TextStats.of(text), text_key=key)
        found.append(part)
    return found


def _missing(name: str, index: int, facts: Facts, parts: Sequence[Part]) -> Part:
    """The end of a video that was cut off: a part that cannot be read, so that the record does not pass for whole."""
    told = (
        f"{name} is cut off: {facts.duration_s:.1f} s of the {facts.declared_s:.1f} s it declares are there;"
        " export or download it again"
    )
    last = parts[-1].moments[-1]
    start_s, end_s = facts.duration_s, max(facts.declared_s, facts.duration_s)
    moment = Moment(last.pts, last.time_base_num, last.time_base_den, start_s, start_s, end_s)
    return Part(index, "frame", "image", moments=(moment,), error=Problem("reading", Unreadable.code, told, index))
