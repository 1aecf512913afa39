"""Documents that are no local files: anything fsspec reads. The one module that knows fsspec.

Only what the caller names is reached. A URL may hold a password or a signed query; whatever leaves this module for
people to see is masked, and texts of drivers' errors, which repeat URLs, never leave it.
"""

from __future__ import annotations

import contextlib
import glob
import os
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import PurePosixPath
from typing import Any, BinaryIO, TypeVar
from urllib.parse import unquote, urlsplit
from weakref import WeakKeyDictionary

from ingest.config import FindingSettings
from ingest.errors import ConfigError, IngestError, Unreadable

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_WEB = ("http", "https")
# What `pip install 'ingest[EXTRA]'` brings the driver of a scheme.
_EXTRAS = {
    **dict.fromkeys(("s3", "s3a"), "s3"),
    **dict.fromkeys(("gs", "gcs"), "gcs"),
    **dict.fromkeys(("az", "abfs", "abfss", "adl"), "azure"),
    **dict.fromkeys(_WEB, "http"),
}
# Names that stores give to a file's tag and to its time of change.
_TAGS = ("ETag", "etag", "content_md5", "md5Hash", "CRC")
_TIMES = ("LastModified", "last_modified", "updated", "mtime", "created", "Last-Modified", "date_time")
_IDLE_S = 60.0
"""How long a store may be silent."""

# An archive that is a store closes with its last reference: it has to live as long as the files in it are read.
_STORES: WeakKeyDictionary[BinaryIO, Any] = WeakKeyDictionary()

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Remote:
    """A file in a store. `url` may hold secrets and is never shown; `uri` is the same without them.

    `size_bytes` and `modified_s` (seconds since 1970) are None until, or unless, the store tells them; `fingerprint` is
    the store's own tag, else size and time of change.
    """

    url: str = field(repr=False)
    uri: str
    size_bytes: int | None = None
    modified_s: float | None = None
    fingerprint: str | None = None


def is_url(text: str) -> bool:
    """Whether a text names something beyond the local file system, or inside a file by a chain (`zip::a.zip`)."""
    return (bool(_SCHEME.match(text)) and not text.lower().startswith("file://")) or "::" in text


def mask(url: str) -> str:
    """A URL without user, password, query and fragment, as it may be shown."""
    return "::".join(_mask_link(link) for link in url.split("::"))


def _mask_link(link: str) -> str:
    scheme, mark, rest = link.partition("://")
    if not mark:
        return link
    rest = re.split(r"[?#]", rest, maxsplit=1)[0] if scheme.lower() in _WEB else rest
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def join(base: str, relative: str) -> str:
    """The URL of a path relative to the folder that `base`, a file, stands in."""
    first, chained, rest = base.partition("::")
    scheme, mark, path = first.partition("://")
    path = re.split(r"[?#]", path, maxsplit=1)[0] if scheme.lower() in _WEB else path
    joined = posixpath.normpath(posixpath.join(posixpath.dirname(path), relative))
    return f"{scheme}{mark}{joined}{chained}{rest}"


def expand(url: str, settings: FindingSettings) -> Iterator[tuple[Remote, PurePosixPath]]:
    """The files that a URL names: a file, a folder with all below it, or a pattern; with names relative to it.

    Folders are listed one at a time, each sorted. A web address is one file, since folders there are only pages.

    Raises ConfigError when it does not exist, may not be listed, or no driver reads it.
    """
    url = _normal(url)
    if url.partition("://")[0].lower() in _WEB:
        _told(url, lambda: _connect(url, settings))
        yield Remote(url, mask(url)), PurePosixPath(web_name(url))
        return
    fs, path = _told(url, lambda: _connect(url, settings))
    _told(url, fs.invalidate_cache)  # drivers remember what they have seen; what is named is looked at anew
    info = _told(url, lambda: _info(fs, path))
    if info is None and glob.has_magic(path):
        yield from _match(fs, path, url)
    elif info is None:
        raise ConfigError(f"{mask(url)} does not exist: check the address")
    elif info.get("type") == "directory":
        yield from _walk(fs, path, url)
    else:
        yield _remote(url, path, path, info), PurePosixPath(posixpath.basename(path.rstrip("/")))


def look(remote: Remote, settings: FindingSettings) -> Remote:
    """The same file with what the store tells of it. Raises Unreadable when it is not there or not to be had."""

    def work() -> Remote:
        fs, path = _connect(remote.url, settings)
        fs.invalidate_cache(path)
        return _known(remote, fs.info(path))

    return _read(remote, work)


def connect(remote: Remote, settings: FindingSettings) -> BinaryIO:
    """The file opened for reading from its beginning. Raises Unreadable when it cannot be."""

    def work() -> BinaryIO:
        fs, path = _connect(remote.url, settings)
        opened: BinaryIO = fs.open(path, "rb", **({} if remote.url[:4].lower() == "http" else {"cache_type": "none"}))
        _STORES[opened] = fs
        return opened

    return _read(remote, work)


def read(remote: Remote, file: BinaryIO, size_bytes: int) -> bytes:
    """The next bytes of an open file, b"" at its end. Raises Unreadable when they do not come."""
    return _read(remote, lambda: file.read(size_bytes))


class Passing(Unreadable):
    """A store failed in a way that may pass: another try may help."""


def web_name(url: str) -> str:
    """A name for what a web address holds: the last step of its path, else the host."""
    parts = urlsplit(url)
    return unquote(posixpath.basename(parts.path.rstrip("/"))) or parts.hostname or "_"


def full_name(url: str) -> PurePosixPath:
    """Bucket or host and path of a URL: a name that does not depend on what else is ingested."""
    shown = mask(_normal(url)).partition("::")[0].partition("://")[2]
    return PurePosixPath(unquote(shown) if url[:4].lower() == "http" else shown)


def _normal(url: str) -> str:
    """`zip://a.zip` is short for all of the archive, which fsspec writes as `zip::a.zip`."""
    if url.startswith("zip://") and "::" not in url:
        return f"zip::{url[6:]}"
    return url


def _connect(url: str, settings: FindingSettings) -> tuple[Any, str]:
    """The file system of a URL and the path in it. Raises ConfigError without its driver."""
    import fsspec.core

    try:
        return fsspec.core.url_to_fs(_normal(url), **_options(url, settings))  # type: ignore[no-any-return]
    except ImportError as error:
        scheme = next((link for link in _schemes(url) if link in _EXTRAS), "")
        way = f"pip install 'ingest[{_EXTRAS[scheme]}]'" if scheme else "install its fsspec driver"
        raise ConfigError(f"{mask(url)}: the package that reads {scheme or 'it'} is not installed: {way}") from error
    except ValueError as error:
        raise ConfigError(f"{mask(url)} is no address that can be read: {_reason(error)}") from None


def _schemes(url: str) -> list[str]:
    return [link.partition("://")[0].lower() for link in url.split("::")]


def _options(url: str, settings: FindingSettings) -> dict[str, Any]:
    """Bounds on silence and on the whole, in the words of each driver that has such."""
    schemes, options = set(_schemes(url)), dict[str, Any]()
    if schemes & set(_WEB):
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=settings.fetch_timeout_s, sock_connect=_IDLE_S, sock_read=_IDLE_S)
        options |= {scheme: {"client_kwargs": {"timeout": timeout}} for scheme in schemes & set(_WEB)}
    for scheme in schemes & {"s3", "s3a"}:
        idle_s = min(_IDLE_S, settings.fetch_timeout_s)
        options[scheme] = {"config_kwargs": {"connect_timeout": idle_s, "read_timeout": idle_s}}
    return options


def _info(fs: Any, path: str) -> Mapping[str, Any] | None:
    try:
        found: Mapping[str, Any] = fs.info(path)
    except FileNotFoundError:
        return None
    return found


def _walk(fs: Any, folder: str, url: str) -> Iterator[tuple[Remote, PurePosixPath]]:
    pending = [folder.rstrip("/")]
    while pending:
        current = pending.pop()
        entries = _told(url, lambda at=current: fs.ls(at, detail=True))  # type: ignore[misc]
        below: list[str] = []
        for info in sorted(entries, key=lambda info: str(info["name"])):
            path = str(info["name"]).rstrip("/")
            relative = posixpath.relpath(path.lstrip("/"), folder.strip("/") or ".")
            if path == current or posixpath.basename(path).startswith("."):
                continue
            if info.get("type") == "directory":
                below.append(path)
            elif info.get("type", "file") == "file":
                yield _remote(url, folder, path, info), PurePosixPath(relative)
        pending.extend(reversed(below))


def _match(fs: Any, pattern: str, url: str) -> Iterator[tuple[Remote, PurePosixPath]]:
    fixed = posixpath.dirname(pattern[: re.search(r"[*?\[]", pattern).start()])  # type: ignore[union-attr]
    hits: dict[str, Mapping[str, Any]] = _told(url, lambda: fs.glob(pattern, detail=True))
    files = sorted((path, info) for path, info in hits.items() if info.get("type", "file") == "file")
    if not files:
        raise ConfigError(f"nothing matches the pattern {mask(url)}: check it, and quote it in a shell")
    for path, info in files:
        relative = posixpath.relpath(path.lstrip("/"), fixed.strip("/") or ".")
        yield _remote(url, pattern, path, info), PurePosixPath(relative)


def _remote(url: str, root: str, path: str, info: Mapping[str, Any]) -> Remote:
    """A file found below a URL, with a URL of its own: that of the root with the path in its place."""
    own = url
    if path != root:
        first, chained, rest = url.partition("::")
        scheme, mark, _ = first.partition("://")
        own = f"{scheme if mark else first}://{path.lstrip('/') if chained else path}{chained}{rest}"
    return _known(Remote(own, mask(own)), info)


def _known(remote: Remote, info: Mapping[str, Any]) -> Remote:
    size = info.get("size")
    modified = next((_seconds(info[name]) for name in _TIMES if info.get(name) is not None), None)
    tag = next((str(info[name]).strip('"') for name in _TAGS if info.get(name)), None)
    if tag is None and modified is not None:
        tag = f"{size}-{modified!r}"
    # Some web servers tell a size of 0, or none, of what they make up as they go.
    known = int(size) if isinstance(size, int) and size >= 0 else None
    return replace(remote, size_bytes=known, modified_s=modified, fingerprint=None if tag is None else f"store:{tag}")


def _seconds(value: object) -> float | None:
    if isinstance(value, datetime):
        return value.timestamp()
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, tuple):
        with contextlib.suppress(ValueError, TypeError):
            return datetime(*value).timestamp()
        return None
    for read_text in (datetime.fromisoformat, parsedate_to_datetime):
        with contextlib.suppress(ValueError, TypeError):
            return read_text(str(value)).timestamp()
    return None


def _told(url: str, work: Callable[[], _T]) -> _T:
    """The result of asking a store about what the caller named; failing is the caller's to put right."""
    try:
        return work()
    except IngestError:
        raise
    except FileNotFoundError:
        raise ConfigError(f"{mask(url)} does not exist: check the address") from None
    except Exception as error:
        raise ConfigError(f"{mask(url)} cannot be listed: {_reason(error)}") from None


def _read(remote: Remote, work: Callable[[], _T]) -> _T:
    """The result of reading a file; failing costs this file."""
    try:
        return work()
    except IngestError:
        raise
    except FileNotFoundError:
        raise Unreadable(f"{remote.uri} does not exist, or has vanished: check the address") from None
    except PermissionError:
        raise Unreadable(f"{remote.uri} may not be read: check the credentials") from None
    except Exception as error:
        kind = Unreadable if (_status(error) or 500) < 500 and _status(error) not in (408, 429) else Passing
        raise kind(f"{remote.uri} cannot be fetched: {_reason(error)}") from None


def _status(error: BaseException) -> int | None:
    status = getattr(error, "status", None)
    return status if isinstance(status, int) else None


def _reason(error: BaseException) -> str:
    """What went wrong in words that cannot hold a URL: the kind of error and its number."""
    if isinstance(error, TimeoutError):
        return "the store did not answer in time"
    if isinstance(error, PermissionError):
        return "access is denied; check the credentials"
    if (status := _status(error)) is not None:
        return f"the server answered {status}"
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)
    code = getattr(error, "response", None)
    if isinstance(code, Mapping) and isinstance(code.get("Error"), Mapping):
        return f"the store answered {code['Error'].get('Code')}"
    return type(error).__name__
