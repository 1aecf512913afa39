"""The engine's own count of tokens and money, and its ledger of every request.

It shares nothing with the estimator of the pipeline, so that a wrong figure on either side shows.
"""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.util
import json
import math
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from ingest.errors import ConfigError, OutputError
from ingest.local.clips import VideoPart, count_video
from ingest.local.contract import Ask, Part, TextPart
from ingest.local.files import FilePart
from ingest.local.images import ImagePart
from ingest.local.numbers import Numbers, ServedModel, default_system_message, load_table, text_encoding
from ingest.local.refusal import Refusal

_MILLION = Decimal(1_000_000)
# Counting holds the interpreter's lock; longer texts are counted in pieces so that other threads get their turn.
_PIECE_CHARACTERS = 1_000_000
_KEPT_ENTRIES = 10_000
_BINDINGS = "bpe_openai._bindings"
KINDS = ("text", "image", "video", "file")


class _Encoder(Protocol):
    def count(self, text: str) -> int: ...

    def encode(self, text: str) -> list[int]: ...

    def decode(self, tokens: list[int]) -> str: ...


@cache
def _load_encoder(name: str) -> _Encoder:
    """The byte-pair encoder of the `bpe-openai` wheel, whose vocabulary lies inside it.

    Only the compiled module is loaded: the package around it reads every vocabulary a second time (half a second),
    warns of its own deprecated calls, and refuses texts of a million characters.
    """
    module = sys.modules.get(_BINDINGS)
    if module is None:
        package = importlib.util.find_spec("bpe_openai")
        folders = package.submodule_search_locations if package else None
        spec = importlib.machinery.PathFinder.find_spec(_BINDINGS, folders) if folders else None
        if spec is None or spec.loader is None:
            raise ConfigError("the local engine needs bpe-openai; run: pip install 'ingest[local]'")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.modules[_BINDINGS] = module
    encoder: _Encoder = module.tokenizer_for_encoding(name)
    return encoder


class Tokenizer:
    """Counts and cuts text in tokens of a public byte-pair encoding.

    `skew` multiplies what media of a kind (text, image, video, file) count for, as if another tokenizer were at work;
    tests of calibration use it. Raises ConfigError for an unknown kind or a factor that is not above 0.
    """

    def __init__(self, encoding: str | None = None, skew: Mapping[str, float] | None = None) -> None:
        self._encoder = _load_encoder(encoding or text_encoding())
        self._skew = dict(skew or {})
        if not set(self._skew) <= set(KINDS) or any(factor <= 0 for factor in self._skew.values()):
            raise ConfigError(f"skew takes a factor above 0 for each of {', '.join(KINDS)}, not {self._skew}")

    def count(self, text: str) -> int:
        """Number of tokens of a text."""
        if len(text) <= _PIECE_CHARACTERS:
            return self.skewed("text", self._encoder.count(text))
        pieces = (text[at : at + _PIECE_CHARACTERS] for at in range(0, len(text), _PIECE_CHARACTERS))
        return self.skewed("text", sum(self._encoder.count(piece) for piece in pieces))

    def skewed(self, kind: str, tokens: int) -> int:
        """The tokens times the factor of their kind, rounded up."""
        factor = self._skew.get(kind)
        return tokens if factor is None else math.ceil(round(tokens * factor, 6))

    def cut(self, text: str, max_tokens: int) -> tuple[str, int, bool]:
        """At most `max_tokens` tokens of the text, how many that are, and whether something was cut off.

        A character of several tokens is never cut in half: the answer ends before it.
        """
        tokens = self._encoder.encode(text)
        counted = self.skewed("text", len(tokens))
        if counted <= max_tokens:
            return text, counted, False
        most = min(int(max_tokens / self._skew.get("text", 1.0)), len(tokens))
        for shorter in range(most, -1, -1):
            try:
                return self._encoder.decode(tokens[:shorter]), max_tokens, True
            except ValueError:
                continue
        return "", max_tokens, True


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request. `output_tokens` includes `reasoning_tokens`, `input_tokens` includes `cached_tokens`."""

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int = 0


def count_image(image: ImagePart, numbers: Numbers, request_detail: str | None) -> int:
    """Tokens of an image: its pixels over pixels per token, rounded up, kept within the level of detail's bounds.

    The request-wide level counts; the part's own wishes only where the profile says that they reach the model.
    """
    detail = request_detail or numbers.default_detail
    if numbers.detail_per_part and image.detail is not None:
        detail = image.detail
    rule = numbers.detail[detail]
    area = image.width_px * image.height_px
    low, high = rule.min_tokens, rule.max_tokens
    if numbers.detail_per_part and (image.min_pixels is not None or image.max_pixels is not None):
        area = max(min(area, image.max_pixels or numbers.max_pixels), image.min_pixels or numbers.min_pixels)
        low, high = 1, numbers.max_pixels // rule.pixels_per_token
    return min(max(-(-area // rule.pixels_per_token), low), high)


def count_file(file: FilePart, numbers: Numbers, request_detail: str | None) -> int:
    """Tokens of a document: each page is an image."""
    pages = (ImagePart(b"", "image/png", width, height) for width, height in file.page_sizes_px)
    return sum(count_image(page, numbers, request_detail) for page in pages)


def count_part(part: Part, ask: Ask, tokenizer: Tokenizer) -> tuple[str, int]:
    """The kind of a part, and its tokens."""
    numbers = ask.model.numbers
    if isinstance(part, TextPart):
        return "text", tokenizer.count(part.text)
    if isinstance(part, ImagePart):
        return "image", tokenizer.skewed("image", count_image(part, numbers, ask.image_detail))
    if isinstance(part, VideoPart):
        fps = ask.video_fps or part.fps or numbers.video.default_fps
        return "video", tokenizer.skewed("video", count_video(part, fps, numbers.video))
    return "file", tokenizer.skewed("file", count_file(part, numbers, ask.image_detail))


def count_input(ask: Ask, tokenizer: Tokenizer) -> Mapping[str, int]:
    """Input tokens of a request by kind, and what the service adds under "overhead".

    Raises a 400 Refusal when they pass the model's limit.
    """
    numbers = ask.model.numbers
    counted = dict.fromkeys((*KINDS, "overhead"), 0)
    counted["overhead"] = numbers.tokens_per_request
    counted["text"] = sum(tokenizer.count(json.dumps(value, ensure_ascii=False)) for value in ask.form_text)
    if not any(message.role in ("system", "developer") for message in ask.messages):
        counted["overhead"] += numbers.tokens_per_message + numbers.tokens_per_part
        counted["text"] += tokenizer.count(default_system_message())
    for message in ask.messages:
        counted["overhead"] += numbers.tokens_per_message + numbers.tokens_per_part * len(message.parts)
        counted["text"] += tokenizer.count(message.tool_text) if message.tool_text else 0
        for part in message.parts:
            kind, tokens = count_part(part, ask, tokenizer)
            counted[kind] += tokens
    total = sum(counted.values())
    if total > numbers.max_input_tokens:
        raise Refusal(
            400,
            "OutofContextError",
            f"Total tokens of image and text exceed max message tokens. ({total} > {numbers.max_input_tokens})",
            "messages",
        )
    return counted


def price(usage: Usage, numbers: Numbers) -> Decimal:
    """Price in USD: every token of the request at the tier of its input length. Cached tokens get no discount."""
    for tier in numbers.tiers:
        if usage.input_tokens < tier.below_input_tokens:
            spent = usage.input_tokens * tier.input_usd_per_million + usage.output_tokens * tier.output_usd_per_million
            return spent / _MILLION
    raise ValueError(f"no price for {usage.input_tokens} input tokens")


@dataclass(frozen=True, slots=True)
class Entry:
    """One request as the engine saw it.

    `request_id` stands in the answer's `x-request-id`, `client_request_id` is what the caller sent under
    `x-client-request-id`. `cost_usd` is billed (0 for a free model), `list_cost_usd` what the real service would
    charge. `code` is the error code, or the finish reason of an answer; `fault` the injected one; `was_delivered` tells
    whether the whole answer went out. `input_by_kind` splits the input tokens.
    """

    number: int
    request_id: str
    client_request_id: str
    at_unix_s: float
    endpoint: str
    model: str
    is_streamed: bool
    status: int
    code: str
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    input_by_kind: Mapping[str, int]
    cost_usd: Decimal
    list_cost_usd: Decimal
    pages_read: int
    pages_by_ocr: int
    request_sha256: str
    fault: str
    was_delivered: bool
    duration_s: float

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; money as strings so that no digit is lost."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {key: str(value) if isinstance(value, Decimal) else value for key, value in values.items()}


class Accounting:
    """The ledger of requests: the last ten thousand in memory, all of them in a JSONL file when a path is given.

    Raises OutputError when the file cannot be written.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.entries: deque[Entry] = deque(maxlen=_KEPT_ENTRIES)
        self._path = path
        if path is not None:
            _make_folder(path)
            _append(path, "")
        self._lock = threading.Lock()
        self._totals = {"requests": 0, "input_tokens": 0, "output_tokens": 0}
        self._cost_usd = Decimal(0)
        self._list_cost_usd = Decimal(0)

    @property
    def cost_usd(self) -> Decimal:
        """Everything billed so far."""
        return self._cost_usd

    @property
    def list_cost_usd(self) -> Decimal:
        """What the real service would have charged so far."""
        return self._list_cost_usd

    def next_number(self) -> int:
        """Counts one more request; numbers start at 1."""
        with self._lock:
            self._totals["requests"] += 1
            return self._totals["requests"]

    def record(self, entry: Entry) -> None:
        """Books a request that ended."""
        with self._lock:
            self.entries.append(entry)
            self._totals["input_tokens"] += entry.input_tokens
            self._totals["output_tokens"] += entry.output_tokens
            self._cost_usd += entry.cost_usd
            self._list_cost_usd += entry.list_cost_usd
            if self._path is not None:
                _append(self._path, json.dumps(entry.to_json()) + "\n")

    def to_json(self) -> dict[str, Any]:
        """Totals and the kept entries, oldest first."""
        with self._lock:
            totals: dict[str, Any] = dict(self._totals)
            totals |= {"cost_usd": str(self._cost_usd), "list_cost_usd": str(self._list_cost_usd)}
            return {"object": "list", "totals": totals, "data": [entry.to_json() for entry in self.entries]}


def _make_folder(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"the local engine cannot write its ledger {path}: {error.strerror}") from error


def _append(path: Path, line: str) -> None:
    try:
        with path.open("ab", buffering=0) as file:
            file.write(line.encode())
    except OSError as error:
        raise OutputError(f"the local engine cannot write its ledger {path}: {error.strerror}") from error


def billed(usage: Usage, model: ServedModel) -> tuple[Decimal, Decimal]:
    """What a request costs under its model id, and its list price, in USD."""
    listed = price(usage, model.numbers)
    return (Decimal(0) if model.is_free else listed), listed


class PrefixCache:
    """Repeated beginnings of requests: how many input tokens a request shares with one of the last ten minutes.

    A prefix ends after a message's part, and counts from a least number of tokens.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        rule = load_table("cache")
        self._min_tokens = rule["min_tokens"]
        self._kept_s = rule["kept_s"]
        self._clock = clock
        self._seen: dict[bytes, float] = {}
        self._lock = threading.Lock()

    def cached_tokens(self, ask: Ask, tokenizer: Tokenizer) -> int:
        """Tokens of the longest known prefix; the request's own prefixes are known from now on."""
        prefixes = self._prefixes(ask, tokenizer)
        now = self._clock()
        with self._lock:
            self._seen = {key: at for key, at in self._seen.items() if now - at < self._kept_s}
            known = [tokens for key, tokens in prefixes.items() if key in self._seen]
            self._seen.update(dict.fromkeys(prefixes, now))
        return max(known, default=0)

    def _prefixes(self, ask: Ask, tokenizer: Tokenizer) -> Mapping[bytes, int]:
        digest = hashlib.sha256(ask.model.id.encode())
        tokens = 0
        prefixes: dict[bytes, int] = {}
        for message in ask.messages:
            digest.update(b"\0" + message.role.encode())
            for part in message.parts:
                data = part.text.encode() if isinstance(part, TextPart) else part.data
                digest.update(b"\1" + len(data).to_bytes(8) + data)
                tokens += count_part(part, ask, tokenizer)[1]
                if tokens >= self._min_tokens:
                    prefixes[digest.digest()] = tokens
        return prefixes
