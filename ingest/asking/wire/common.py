"""What the protocols share: content as data URLs, counts, the gateway's own fields, words of the local engine."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator

from ingest.errors import ConfigError, Disconnected
from ingest.profile import Profile
from ingest.types import File, Image, Json, JsonObject, PageWords, Request, Video, Word

TOOL_DESCRIPTION = "Hands over the data extracted from the document."


def to_base64(content: Image | Video | File) -> str:
    """The bytes of a content part as base64 text."""
    return base64.b64encode(content.data).decode("ascii")


def data_url(content: Image | Video | File) -> str:
    """The bytes of a content part as a data URL; the service wants the media type in lower case."""
    return f"data:{content.media_type.lower()};base64,{to_base64(content)}"


def detail_of(request: Request, profile: Profile) -> str:
    """The detail of all images of a request."""
    return str(request.parameters.get("image_detail") or profile.default_detail)


def fps_of(request: Request, video: Video) -> float:
    """The rate at which the model samples a video: the request's own, else the part's."""
    return float(request.parameters.get("video_fps") or video.fps)


def check(request: Request) -> None:
    """Raise ConfigError for settings that exclude one another.

    The service refuses a schema together with explicit caching, and an effort with thinking off; it would say so only
    after the whole body was uploaded.
    """
    given = request.parameters
    if given.get("enable_caching") and request.rung != "prompt":
        raise ConfigError(
            "enable_caching cannot be used with a schema: the service refuses the combination; leave it out"
        )
    effort = given.get("reasoning_effort")
    if effort and not given.get("enable_thinking"):
        raise ConfigError(f"reasoning_effort {effort} needs enable_thinking: the service refuses one without the other")


def refuse(request: Request, protocol: str, names: Iterable[str]) -> None:
    """Raise ConfigError when the request sets a parameter that the protocol has no field for."""
    for name in names:
        if request.parameters.get(name):
            raise ConfigError(f"the {protocol} protocol has no {name}: leave it out, or use --protocol chat")


def max_tokens(request: Request, profile: Profile) -> int:
    """The output limit: always sent, since the server's own default cuts off larger tables."""
    return int(request.parameters.get("max_tokens") or profile.default_output_tokens)


def gateway_fields(request: Request, profile: Profile) -> JsonObject:
    """Fields of the gateway's own, the same on every protocol, as far as this endpoint takes them."""
    given, quirks = request.parameters, profile.quirks
    sent: JsonObject = {}
    if quirks.thinking:
        sent["enable_thinking"] = bool(given.get("enable_thinking", False))
        if given.get("reasoning_effort"):
            sent["reasoning_effort"] = given["reasoning_effort"]
    # Whether the top-level value or the part's own wins is not documented: both are sent, and equal.
    if quirks.image_detail and any(isinstance(content, Image) for content in request.contents):
        sent["image_detail"] = detail_of(request, profile)
    videos = [content for content in request.contents if isinstance(content, Video)]
    if quirks.video_fps and videos:
        sent["video_fps"] = fps_of(request, videos[0])
    for name in ("enable_web_search", "enable_caching"):
        if given.get(name):
            sent[name] = True
    if quirks.disable_formatting:
        sent["disable_formatting"] = True
    return sent


def comma_stop(stop: Iterable[str]) -> str:
    """Stop words as the gateway takes them: one string, separated by commas.

    Raises ConfigError for a word that holds a comma: it would arrive as two.
    """
    words = list(stop)
    for word in words:
        if "," in word:
            raise ConfigError(f"stop {word!r} holds a comma, which the gateway reads as two stops: use another word")
    return ",".join(words)


def read_event(data: str) -> JsonObject:
    """The JSON object of an event. Raises Disconnected when it is none: a damaged stream is no answer."""
    try:
        value = json.loads(data, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise Disconnected("the stream was damaged on its way: an event is not JSON") from error
    if not isinstance(value, dict):
        raise Disconnected("the stream was damaged on its way: an event is not a JSON object")
    return value


def _refuse_constant(name: str) -> Json:
    raise ValueError(f"{name} is not JSON")


def join(pieces: Iterable[str]) -> str:
    """The pieces of a text; a character may have come as two halves (surrogates) in two events."""
    text = "".join(pieces)
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def first(items: Json) -> JsonObject:
    """The first item of a list when it is an object, else an empty one."""
    return items[0] if isinstance(items, list) and items and isinstance(items[0], dict) else {}


def objects(items: Json) -> Iterator[JsonObject]:
    """The objects of a list; anything else is passed over."""
    yield from (item for item in (items if isinstance(items, list) else ()) if isinstance(item, dict))


def as_object(value: Json) -> JsonObject:
    """The value when it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def as_text(value: Json) -> str:
    """The value when it is text, else nothing."""
    return value if isinstance(value, str) else ""


def as_json_text(value: Json) -> str:
    """Arguments of a tool: text as it came, anything else as JSON text."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def count(value: Json) -> int:
    """Tokens a server names; what no server can have counted is none."""
    return int(value) if isinstance(value, int | float) and 0 < value < 1e12 else 0


def page_words(pages: Json) -> Iterable[PageWords]:
    """Words the local engine read from images; entries of another form are passed over."""
    for page in objects(pages):
        number, time_s = page.get("page"), page.get("time_s")
        if not isinstance(page.get("words"), list):
            continue
        words = tuple(word for entry in page["words"] for word in _word(entry))
        if isinstance(number, int):
            yield PageWords(number, words)
        elif isinstance(time_s, int | float):
            yield PageWords(None, words, float(time_s))


def _word(entry: Json) -> Iterable[Word]:
    if not isinstance(entry, list) or len(entry) != 5:
        return
    *box, text = entry
    if isinstance(text, str) and all(isinstance(side, int | float) for side in box):
        x0, y0, x1, y1 = (float(side) for side in box)
        yield Word(text, (x0, y0, x1, y1))
