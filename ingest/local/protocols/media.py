"""Content parts beside text, from the fields any protocol gives: images, video, documents."""

from __future__ import annotations

from ingest.local.clips import VideoPart, inspect_video
from ingest.local.contract import Terms, TextPart
from ingest.local.fields import Fields
from ingest.local.files import FilePart, inspect_pdf
from ingest.local.images import ImagePart, decode_base64, decode_data_url, inspect_image
from ingest.local.numbers import ServedModel
from ingest.local.refusal import Refusal, invalid, missing


def read_text(fields: Fields) -> TextPart:
    """A part with a `text` field."""
    text = fields.values.get("text")
    if not isinstance(text, str):
        raise invalid(f"{fields.path}text", "a string is expected")
    return TextPart(text)


def read_image(fields: Fields, url: object, model: ServedModel, terms: Terms) -> ImagePart:
    """An image from a data URL; `fields` may hold `detail` and `image_pixel_limit`."""
    refuse_file_id(fields)
    detail = fields.values.get("detail")
    if detail is not None and detail not in (*model.numbers.detail, "auto"):
        raise Refusal(400, "InvalidArgumentError.InvalidImageDetail", "The image detail is not known.", "detail")
    low, high = _read_pixel_limit(fields, model)
    data, media_type = decode_data_url(url, terms.limits.max_image_bytes, "image")
    width, height = inspect_image(data, media_type, terms.limits)
    return ImagePart(data, media_type, width, height, None if detail == "auto" else detail, low, high)


def read_image_source(source: Fields, terms: Terms) -> ImagePart:
    """An image from a `source` object of the messages protocol."""
    kind = source.choice("type", {"base64", "url"})
    if kind == "url":
        data, media_type = decode_data_url(source.values.get("url"), terms.limits.max_image_bytes, "image")
    elif kind == "base64":
        media_type = source.string("media_type") or ""
        data = decode_base64(_text(source, "data"), terms.limits.max_image_bytes, "image")
    else:
        raise missing(f"{source.path}type")
    width, height = inspect_image(data, media_type, terms.limits)
    return ImagePart(data, media_type, width, height)


def read_video(fields: Fields, url: object, model: ServedModel, terms: Terms) -> VideoPart:
    """A video from a data URL; `fields` may hold `fps`."""
    if not terms.counts_video:
        raise invalid(fields.path.rstrip("."), "the local engine reads frames, not clips; send frames as images")
    refuse_file_id(fields)
    rule = model.numbers.video
    fps = fields.number("fps", rule.min_fps, rule.max_fps)
    data, media_type = decode_data_url(url, terms.limits.max_video_bytes, "video")
    return inspect_video(data, media_type, terms.limits, fps)


def read_file(fields: Fields, terms: Terms) -> FilePart:
    """A PDF from `file_data` (a data URL) and `filename`."""
    refuse_file_id(fields)
    if fields.has("file_url"):
        raise invalid(f"{fields.path}file_url", "the local engine fetches nothing; send the file as `file_data`")
    name = fields.string("filename")
    if not fields.has("file_data"):
        raise missing(f"{fields.path}file_data")
    if not name:
        raise missing(f"{fields.path}filename")
    data, media_type = decode_data_url(fields.values["file_data"], terms.limits.max_file_bytes, "file")
    return inspect_pdf(data, media_type, name)


def read_document_source(source: Fields, name: str, terms: Terms) -> FilePart | TextPart:
    """A document from a `source` object of the messages protocol: base64 PDF, or plain text."""
    kind = source.choice("type", {"base64", "text", "url"})
    if kind == "text":
        return TextPart(_text(source, "data"))
    if kind == "url":
        raise invalid(f"{source.path}url", "the local engine fetches nothing; send the file as base64")
    if kind is None:
        raise missing(f"{source.path}type")
    data = decode_base64(_text(source, "data"), terms.limits.max_file_bytes, "file")
    return inspect_pdf(data, source.string("media_type") or "", name)


def refuse_file_id(fields: Fields) -> None:
    """Raises a 400 Refusal for a part that names an uploaded file."""
    if fields.has("file_id"):
        raise invalid(f"{fields.path}file_id", "files are not kept here; send the bytes as a data URL")


def _text(fields: Fields, name: str) -> str:
    value = fields.string(name)
    if not value:
        raise missing(f"{fields.path}{name}")
    return value


def _read_pixel_limit(fields: Fields, model: ServedModel) -> tuple[int | None, int | None]:
    limit = fields.mapping("image_pixel_limit")
    if limit is None:
        return None, None
    numbers = model.numbers
    try:
        low = limit.integer("min_pixels", numbers.min_pixels, numbers.max_pixels)
        high = limit.integer("max_pixels", numbers.min_pixels, numbers.max_pixels)
    except Refusal as error:
        raise Refusal(400, "InvalidArgumentError.InvalidPixelLimit", error.message, error.param) from error
    if low is not None and high is not None and low > high:
        message = "`min_pixels` is larger than `max_pixels`."
        raise Refusal(400, "InvalidArgumentError.InvalidPixelLimit", message, f"{limit.path}min_pixels")
    return low, high
