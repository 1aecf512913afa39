"""The main language of a text, told from its script and its most common small words."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources

_SAMPLE_CHARS = 40_000
_WORD = re.compile(r"[^\W\d_]+")
# Letters of each script as a share of all letters from which the script decides.
_SCRIPT_SHARE = 0.3
_SCRIPTS = (
    ("ja", re.compile(r"[\u3040-\u30ff]")),
    ("ko", re.compile(r"[\uac00-\ud7af]")),
    ("zh", re.compile(r"[\u3400-\u9fff]")),
    ("el", re.compile(r"[\u0370-\u03ff]")),
    ("he", re.compile(r"[\u0590-\u05ff]")),
    ("ar", re.compile(r"[\u0600-\u06ff\ufb50-\ufdff\ufe70-\ufeff]")),
    ("hi", re.compile(r"[\u0900-\u097f]")),
    ("th", re.compile(r"[\u0e00-\u0e7f]")),
    ("ru", re.compile(r"[\u0400-\u04ff]")),
)
_UKRAINIAN = re.compile(r"[іїєґ]", re.IGNORECASE)
_PERSIAN = re.compile(r"[پچژگ]")
# Kana make a text Japanese though most of its letters may be Chinese ones.
_KANA_SHARE = 0.08
# Small words as a share of all words below which a text is in no known language, and the lead over the next one.
_MIN_SHARE = 0.08
_MIN_HITS = 4
_LEAD = 1.15


def detect_language(text: str) -> tuple[str, float] | None:
    """ISO 639-1 code of the text's language and how sure that is (0..1); None when it cannot be told."""
    sample = text[:_SAMPLE_CHARS]
    by_script = _by_script(sample)
    if by_script:
        return by_script, 0.9
    words = [word.lower() for word in _WORD.findall(sample)]
    counts: Counter[str] = Counter()
    for word in words:
        for code in _languages_of().get(word, ()):
            counts[code] += 1
    if not counts:
        return None
    (best, hits), *others = counts.most_common(2)
    rival = others[0][1] if others else 0
    share = hits / len(words)
    if hits < _MIN_HITS or share < _MIN_SHARE or hits < _LEAD * rival:
        return None
    return best, min(0.95, 0.5 + share)


def language_names(code: str) -> tuple[str, ...]:
    """Names of a language, English first."""
    return tuple(_table()["names"].get(code, ()))


def _by_script(sample: str) -> str | None:
    letters = sum(character.isalpha() for character in sample)
    if letters < 10:
        return None
    shares = {code: len(pattern.findall(sample)) / letters for code, pattern in _SCRIPTS}
    if shares["ja"] >= _KANA_SHARE:
        return "ja"
    best = max(shares, key=lambda code: shares[code])
    if shares[best] < _SCRIPT_SHARE:
        return None
    if best == "ru" and len(_UKRAINIAN.findall(sample)) > 0.01 * letters:
        return "uk"
    if best == "ar" and len(_PERSIAN.findall(sample)) > 0.01 * letters:
        return "fa"
    return best


@lru_cache(maxsize=1)
def _table() -> Mapping[str, Mapping[str, list[str]]]:
    text = resources.files("ingest.local.filler.vocabulary").joinpath("languages.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


@lru_cache(maxsize=1)
def _languages_of() -> Mapping[str, tuple[str, ...]]:
    languages: dict[str, list[str]] = {}
    for code, words in _table()["stop_words"].items():
        for word in str(words).split():
            languages.setdefault(word, []).append(code)
    return {word: tuple(codes) for word, codes in languages.items()}
