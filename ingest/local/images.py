"""Images of a request: data URL to checked bytes. Nothing is fetched from anywhere."""

from __future__ import annotations

import binascii
import io
import re
from dataclasses import dataclass

from ingest.errors import ConfigError
from ingest.local.numbers import RequestLimits
from ingest.local.refusal import Refusal, invalid

try:
    from PIL import Image
except ImportError as error:  # pragma: no cover - Pillow is a dependency of ingest itself
    raise ConfigError("the local engine needs Pillow; run: pip install 'ingest[local]'") from error

_DATA_URL = re.compile(r"data:([^;,]*);base64,")


@dataclass(frozen=True, slots=True)
class ImagePart:
    """An image as it was sent, checked to be decodable. `detail` and the pixel limits are the part's own wishes."""

    data: bytes
    media_type: str
    width_px: int
    height_px: int
    detail: str | None = None
    min_pixels: int | None = None
    max_pixels: int | None = None


def decode_data_url(url: object, max_bytes: int, kind: str = "image") -> tuple[bytes, str]:
    """Bytes and declared media type of a base64 data URL; raises a 400 Refusal for anything else.

    `kind` is image, video or file: the word in messages and in the parameter to blame.
    """
    param = f"{kind}_url"
    code = "InvalidImageURL" if kind == "image" else "InvalidParameter"
    if not isinstance(url, str) or not url:
        raise Refusal(400, f"{code}.EmptyURL", f"The {kind} URL is empty.", param)
    if url[:8].lower().startswith(("http://", "https://")):
        raise invalid(param, f"the local engine fetches nothing; send the {kind} as data:<type>;base64,<data>")
    match = _DATA_URL.match(url)
    if match is None:
        message = f"The {kind} URL is neither http(s) nor a base64 data URL."
        raise Refusal(400, f"{code}.InvalidFormat", message, param)
    return decode_base64(url[match.end() :], max_bytes, kind), match[1]


def decode_base64(text: str, max_bytes: int, kind: str = "image") -> bytes:
    """The bytes of base64 text, at most `max_bytes` of them; raises a 400 Refusal otherwise."""
    if len(text) * 3 // 4 > max_bytes + 2:
        raise invalid(f"{kind}_url", f"the {kind} is larger than {max_bytes} bytes")
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except (binascii.Error, ValueError) as error:
        raise invalid(f"{kind}_url", f"the {kind} is not valid base64 ({error})") from error


def inspect_image(data: bytes, media_type: str, limits: RequestLimits, param: str = "image_url") -> tuple[int, int]:
    """Width and height in pixels of an image within the documented limits; raises a 400 Refusal otherwise.

    The declared media type must be that of the bytes, and the pixels must decode.
    """
    if len(data) > limits.max_image_bytes:
        raise invalid(param, f"the image has {len(data)} bytes, more than {limits.max_image_bytes}")
    found, width, height, problem = _look_at(data, limits)
    if problem and not found:
        raise invalid(param, f"the bytes cannot be decoded as an image ({problem})")
    actual = limits.image_media_types.get(found)
    if actual is None:
        raise invalid(param, f"the image format {found} is not supported")
    if actual != media_type:
        raise invalid(param, f"the image is declared as {media_type!r} but its bytes are {actual}")
    _check_size(width, height, limits, param)
    if problem:
        raise invalid(param, f"the {actual} image is damaged and cannot be decoded ({problem})")
    return width, height


def _check_size(width: int, height: int, limits: RequestLimits, param: str) -> None:
    size = f"the image is {width} x {height} pixels"
    if min(width, height) < limits.min_side_px:
        raise invalid(param, f"{size}; each side must have at least {limits.min_side_px}")
    if not limits.min_pixels <= width * height <= limits.max_pixels:
        raise invalid(param, f"{size}; its area must be between {limits.min_pixels} and {limits.max_pixels}")
    if max(width, height) > limits.max_aspect_ratio * min(width, height):
        raise invalid(param, f"{size}; its sides differ by more than {limits.max_aspect_ratio} to 1")


def _look_at(data: bytes, limits: RequestLimits) -> tuple[str, int, int, str]:
    """Format name, width, height and what is wrong ("" when it decodes); no pixels are made above the allowed area."""
    name, width, height = "", 0, 0
    Image.init()
    formats = [known for known in limits.image_media_types if known in Image.OPEN]
    try:
        with Image.open(io.BytesIO(data), formats=formats) as image:
            name, (width, height) = image.format or "", image.size
            if width * height <= limits.max_pixels:
                # A JPEG is decoded at an eighth of its size: enough to find damage, many times faster.
                image.draft(None, (width // 8, height // 8))
                image.load()
    except Exception as error:  # Pillow's decoders raise many kinds: OSError, SyntaxError, struct.error, EOFError
        return name, width, height, str(error)[:200] or type(error).__name__
    return name, width, height, ""
