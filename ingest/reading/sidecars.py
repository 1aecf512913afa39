"""Files that belong to a video beside them: subtitles."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

SUFFIXES = (".srt", ".vtt")

_VIDEO_SUFFIXES = frozenset(
    ".mp4 .m4v .mov .mkv .webm .avi .ts .m2ts .mts .mpg .mpeg .vob .wmv .asf .flv .f4v .3gp .3g2 .ogv .ogg .mxf".split()
)


def sidecars_of(video: Path) -> tuple[Path, ...]:
    """The subtitles of a video: `talk.srt` first, then `talk.LANGUAGE.srt` by name; `.srt` before `.vtt`."""
    try:
        names = sorted(entry.name for entry in video.parent.iterdir() if entry.suffix.lower() in SUFFIXES)
    except OSError:
        return ()
    found = [name for name in names if _stem(name, video.stem) is not None]
    found.sort(key=lambda name: (_stem(name, video.stem) != "", Path(name).suffix.lower() != ".srt", name))
    return tuple(video.parent / name for name in found)


def is_sidecar(path: Path) -> bool:
    """Whether a file is the subtitles of a video in the same folder."""
    return path.suffix.lower() in SUFFIXES and any(_videos_of(path))


def _videos_of(path: Path) -> Iterator[Path]:
    try:
        siblings = [entry for entry in path.parent.iterdir() if entry.suffix.lower() in _VIDEO_SUFFIXES]
    except OSError:
        return
    yield from (entry for entry in siblings if _stem(path.name, entry.stem) is not None)


def _stem(name: str, stem: str) -> str | None:
    """What stands between the stem of a video and the suffix of its subtitles: "" or a language such as `en-GB`."""
    own = Path(name).stem
    if own == stem:
        return ""
    language = own.removeprefix(f"{stem}.")
    is_short = own != language and 2 <= len(language) <= 20 and "." not in language and " " not in language
    return language if is_short else None
