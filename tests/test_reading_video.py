"""Videos: what is kept, at which times, how it looks, and what is refused."""

from __future__ import annotations

import asyncio
import io
import json
from dataclasses import replace
from fractions import Fraction
from functools import cache
from itertools import pairwise
from pathlib import Path

import av
import pytest
from PIL import Image, ImageDraw

from ingest.config import ReadingSettings
from ingest.errors import SourceError, TooLarge, Unreadable
from ingest.reading import DEFAULT_RENDERING, Spool
from ingest.reading.discover import discover
from ingest.reading.video import EXTRACTOR
from ingest.reading.workers import Workers
from ingest.types import Document, Loaded, Rendering, Text, Video
from ingest.types import Image as Sent
from tests.reading_samples import describe_file
from tests.video_samples import encode_video, hold, make_moving, make_slide, make_sound

_RENDERING = DEFAULT_RENDERING
_ONE = ReadingSettings(fps=1.0)


def _open(path: Path, data: bytes | None = None, settings: ReadingSettings = _ONE) -> Document:
    return EXTRACTOR.open(describe_file(path, data), settings)


def _load(document: Document, settings: ReadingSettings = _ONE, rendering: Rendering = _RENDERING) -> list[Loaded]:
    return list(EXTRACTOR.load(document, document.parts, rendering, settings))


def _picture(loaded: Loaded) -> Image.Image:
    image = loaded.contents[-1]
    assert isinstance(image, Sent)
    picture = Image.open(io.BytesIO(image.data)).convert("RGB")
    assert picture.size == (image.width_px, image.height_px) == (loaded.part.width_px, loaded.part.height_px)
    return picture


def _times(document: Document) -> list[float]:
    return [round(moment.timestamp_s, 3) for part in document.parts for moment in part.moments]


def _assert_tiles(document: Document, duration_s: float) -> None:
    moments = [moment for part in document.parts for moment in part.moments]
    assert moments[0].start_s == 0.0
    assert moments[-1].end_s == pytest.approx(duration_s)
    assert all(before.end_s == after.start_s for before, after in pairwise(moments))
    assert all(moment.start_s <= moment.timestamp_s < moment.end_s for moment in moments)


def test_slides_are_sent_once_and_small_changes_survive(tmp_path: Path) -> None:
    """Twenty seconds of a slide are one image; a line that appears on it is another."""
    states = (
        (7.0, make_slide("Results", "Revenue 310", size=(640, 360))),
        (6.0, make_slide("Results", "Revenue 370", size=(640, 360))),
        (5.0, make_slide("Results", "Revenue 370", note="a pale remark", size=(640, 360))),
        (6.0, make_slide("Outlook", "Growth", "Risks", size=(640, 360))),
    )
    for number, quality in enumerate(("20", "32")):
        document = _open(tmp_path / f"{number}.mp4", encode_video(hold(*states), crf=quality, g="50"))
        assert _times(document) == [0, 7, 13, 18]
        _assert_tiles(document, 24.0)
        assert document.parts[3].is_break
        assert document.medium == "video"


def test_a_long_static_video_sends_about_one_frame_for_each_slide(tmp_path: Path) -> None:
    """Ten minutes of slides must not cost ten minutes of frames."""
    slides = [
        (60.0, make_slide(f"Part {number}", f"Fact {number * 7}", f"Figure {number + 3}")) for number in range(10)
    ]
    data = encode_video(hold(*slides, rate=2), rate=2, crf="30", g="50")
    for fps in ("auto", 0.2, 2.0):
        document = _open(tmp_path / "talk.mp4", data, ReadingSettings(fps=fps))
        assert 10 <= len(document.parts) <= 12
        _assert_tiles(document, 600.0)


def test_every_screen_of_a_scrolling_recording_is_kept(tmp_path: Path) -> None:
    """Text that scrolls by looks alike from afar, and each screen of it is different."""
    page = make_slide("Log", *(f"{line:03d} entry {line * line % 997}" for line in range(60)), size=(320, 180))
    tall = Image.new("RGB", (320, 1200), "white")
    pen = ImageDraw.Draw(tall)
    for line in range(80):
        pen.text((10, line * 15), f"{line:03d} entry {line * line % 997} of {page.width}", fill="black")
    screens = [(1.0, tall.crop((0, top, 320, top + 180))) for top in range(0, 1000, 60)]
    document = _open(tmp_path / "scroll.mp4", encode_video(hold(*screens), crf="28"), ReadingSettings(fps=2.0))
    seen = {int(time) for time in _times(document)}
    assert seen == set(range(len(screens)))
    assert len(document.parts) <= len(screens) * 1.2


def test_scenes_between_sampled_frames_are_represented(tmp_path: Path) -> None:
    """At a frame in five seconds, a scene of three seconds would be missed."""
    scenes = [(seconds, make_slide(f"Scene {seconds}", size=(320, 180))) for seconds in (6.0, 3.0, 7.0)]
    coloured = [
        (seconds, Image.blend(slide, Image.new("RGB", slide.size, colour), 0.7))
        for (seconds, slide), colour in zip(scenes, ("red", "green", "blue"), strict=True)
    ]
    document = _open(tmp_path / "a.mp4", encode_video(hold(*coloured)), ReadingSettings(fps=0.2))
    assert any(6.0 <= time < 9.0 for time in _times(document))


def test_variable_rates_keep_exact_stamps(tmp_path: Path) -> None:
    """Screen recordings write a frame when something changes; times must not be counted from a rate."""
    stamps = [0, 40, 900, 2000, 2010, 5200, 8000, 8040]
    data = encode_video(make_moving(8), stamps=stamps, container="matroska")
    document = _open(tmp_path / "a.mkv", data, ReadingSettings(fps=5.0))
    assert set(_times(document)) <= {stamp / 1000 for stamp in stamps}
    assert {0.0, 0.9, 2.0, 5.2, 8.0} <= set(_times(document))
    for part in document.parts:
        (moment,) = part.moments
        assert moment.timestamp_s == pytest.approx(moment.pts * moment.time_base_num / moment.time_base_den)


@pytest.mark.parametrize(
    ("container", "stamps"), [("mpegts", range(5_000, 9_000, 100)), ("matroska", range(700, 4_700, 100))]
)
def test_videos_that_start_late_start_at_zero(tmp_path: Path, container: str, stamps: range) -> None:
    """Pieces of broadcasts carry the clock of the broadcast."""
    data = encode_video(make_moving(40), container, stamps=list(stamps))
    document = _open(tmp_path / "a.bin", data)
    assert _times(document) == [0, 1, 2, 3]
    assert document.parts[0].moments[0].pts > 0
    assert all(each.error is None for each in _load(document))


@pytest.mark.parametrize(("rotation", "corner"), [(0, (5, 5)), (90, (5, -5)), (180, (-5, -5)), (-90, (-5, 5))])
def test_rotation_is_applied(tmp_path: Path, rotation: int, corner: tuple[int, int]) -> None:
    """Phones write sideways pictures with a note; text on its side is not read."""
    picture = Image.new("RGB", (160, 96), "white")
    picture.paste("red", (0, 0, 40, 24))
    document = _open(tmp_path / "a.mp4", encode_video([picture] * 5, rotation=rotation))
    shown = _picture(_load(document)[0])
    assert shown.size == ((96, 160) if rotation % 180 else (160, 96))
    red, green, _ = shown.getpixel((corner[0] % shown.width, corner[1] % shown.height))
    assert red > 200
    assert green < 60


def test_pixels_that_are_not_square_are_made_so(tmp_path: Path) -> None:
    """Anamorphic recordings look squeezed otherwise."""
    document = _open(tmp_path / "a.mkv", encode_video(make_moving(5, (144, 96)), "matroska", aspect=Fraction(4, 3)))
    assert _picture(_load(document)[0]).size == (192, 96)


def test_ten_bits_become_eight_and_colours_stay(tmp_path: Path) -> None:
    """Cameras record ten bits; JPEG holds eight."""
    bars = Image.new("RGB", (160, 96))
    for at, colour in enumerate(((200, 30, 40), (30, 160, 60), (40, 60, 190), (230, 230, 230))):
        bars.paste(colour, (at * 40, 0, at * 40 + 40, 96))
    document = _open(tmp_path / "a.mkv", encode_video([bars] * 3, "matroska", "libx265", pixel_format="yuv420p10le"))
    shown = _picture(_load(document)[0])
    for at in range(4):
        wanted, got = bars.getpixel((at * 40 + 20, 48)), shown.getpixel((at * 40 + 20, 48))
        assert all(abs(one - other) < 14 for one, other in zip(wanted, got, strict=True))


@pytest.mark.parametrize(("transfer", "white"), [(16, 148), (18, 191)], ids=["PQ", "HLG"])
def test_hdr_looks_as_on_an_ordinary_screen(tmp_path: Path, transfer: int, white: int) -> None:
    """Phones record HDR: taken as it is, paper is grey and what stands on it pale.

    `white` is the code value of paper, 203 cd/m² (ITU-R BT.2408, table 1: 58 % in PQ, 75 % in HLG).
    """
    bars = Image.new("RGB", (160, 96), "black")
    for at, level in enumerate((0, white // 2, white, 255)):
        bars.paste((level, level, level), (at * 40, 0, at * 40 + 40, 96))
    data = encode_video([bars] * 3, "matroska", "libx265", pixel_format="yuv420p10le", transfer=transfer)
    shown = _picture(_load(_open(tmp_path / "a.mkv", data))[0]).convert("L")
    black, shadow, paper, lamp = (shown.getpixel((at * 40 + 20, 48)) for at in range(4))
    assert black < 12
    assert 25 < shadow < 110
    assert 195 < paper < 245
    assert paper < lamp


def test_interlaced_pictures_have_no_comb(tmp_path: Path) -> None:
    """The two halves of a broadcast picture are taken at different times; text in motion tears apart."""
    fields = [Image.new("L", (160, 96), 255) for _ in range(2)]
    for field, left in zip(fields, (40, 60), strict=True):
        ImageDraw.Draw(field).rectangle((left, 0, left + 30, 96), fill=0)
    woven = fields[0].copy()
    for row in range(1, 96, 2):
        woven.paste(fields[1].crop((0, row, 160, row + 1)), (0, row))
    data = encode_video([woven.convert("RGB")] * 3, "matroska", crf="12", **{"x264-params": "tff=1"})
    shown = _picture(_load(_open(tmp_path / "a.mkv", data))[0]).convert("L")
    column = [shown.getpixel((45, row)) for row in range(10, 80)]
    assert sum(abs(above - below) for above, below in pairwise(column)) / len(column) < 60


def test_frames_fit_their_budget_and_are_never_enlarged(tmp_path: Path) -> None:
    """A frame above its budget costs more than was planned."""
    data = encode_video(make_moving(12, (640, 360)))
    small = Rendering(400_000, 700_000, 15, 150.0, 80, frame_max_pixels=64 * 1764)
    document = EXTRACTOR.open(describe_file(tmp_path / "a.mp4", data), _ONE, small)
    assert all(_picture(each).width * _picture(each).height <= 64 * 1764 for each in _load(document, rendering=small))
    assert _picture(_load(_open(tmp_path / "a.mp4"))[0]).size == (640, 360)


def test_a_video_cut_off_is_delivered_as_far_as_it_goes_and_not_as_whole(tmp_path: Path) -> None:
    """Half a recording must not pass for the recording."""
    (tmp_path / "whole.mp4").write_bytes(encode_video(make_moving(200), g="20"))
    with av.open(str(tmp_path / "whole.mp4")) as source:
        faststart = {"movflags": "faststart"}
        with av.open(str(tmp_path / "front.mp4"), "w", "mp4", container_options=faststart) as output:
            stream = output.add_stream_from_template(source.streams.video[0])
            for packet in source.demux():
                if packet.dts is not None:
                    packet.stream = stream
                    output.mux(packet)
    data = (tmp_path / "front.mp4").read_bytes()
    avi = encode_video(make_moving(200), "avi", "mpeg4", g="20")
    flv = encode_video(make_moving(200), "flv", "flv", g="20")
    mkv = encode_video(make_moving(200), "matroska", g="20")
    for name, video in (("a.mp4", data), ("a.mkv", mkv), ("a.avi", avi), ("a.flv", flv)):
        cut = video[: len(video) * 6 // 10]
        document = _open(tmp_path / name, cut)
        *frames, missing = document.parts
        assert len(frames) >= 5
        assert all(part.error is None for part in frames)
        assert missing.error is not None
        assert "cut off" in missing.error.message
        _assert_tiles(document, 20.0)
        loaded = _load(document)
        assert [each.error is None for each in loaded] == [True] * len(frames) + [False]


def test_one_frame_is_a_video(tmp_path: Path) -> None:
    """A clip of one frame has a length, and is read."""
    document = _open(tmp_path / "a.mp4", encode_video(make_moving(1)))
    assert len(document.parts) == 1
    _assert_tiles(document, 0.1)


def test_what_has_no_picture_is_refused_with_advice(tmp_path: Path) -> None:
    """The record says what is wrong with the file and what to do."""
    with pytest.raises(Unreadable, match=r"a\.mp4 has no video stream, only sound"):
        _open(tmp_path / "a.mp4", make_sound())
    whole = encode_video(make_moving(30), "matroska")
    with pytest.raises(SourceError, match=r"b\.mkv"):
        _open(tmp_path / "b.mkv", whole[:600])
    with pytest.raises(TooLarge, match="more than the limit of 3: give a lower --fps"):
        _open(tmp_path / "c.mkv", whole, ReadingSettings(fps=5.0, max_frames=3))
    with pytest.raises(TooLarge, match="max_pixels"):
        _open(tmp_path / "c.mkv", whole, ReadingSettings(max_pixels=100))
    with pytest.raises(Unreadable, match="no video stream 7: set video_stream to one of 0"):
        _open(tmp_path / "c.mkv", whole, ReadingSettings(video_stream=7))


def test_subtitles_inside_stand_at_their_times(tmp_path: Path) -> None:
    """What is said belongs to what is shown; nothing is said twice."""
    said = [(0.5, 1.5, "Good morning"), (1.6, 2.4, "and welcome"), (8.0, 9.0, "Thank you")]
    data = encode_video(make_moving(100), "matroska", subtitles=said)
    document = _open(tmp_path / "a.mkv", data)
    texts = {
        part.index: each.contents[0].text
        for part, each in zip(document.parts, _load(document), strict=True)
        if part.mode == "both" and isinstance(each.contents[0], Text)
    }
    assert texts == {0: "Good morning", 1: "and welcome", 8: "Thank you"}
    assert [document.parts[index].is_break for index in (1, 8)] == [False, True]
    silent = ReadingSettings(fps=1.0, subtitles=False)
    assert all(part.mode == "image" for part in _open(tmp_path / "a.mkv", None, silent).parts)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("talk.srt", "1\r\n00:00:02,000 --> 00:00:03,000\r\n<i>Größe</i> und Maß\r\n".encode("cp1252")),
        ("talk.de.srt", "1\n00:00:02,000 --> 00:00:03,000\nGröße und Maß\n".encode("utf-16")),
        ("talk.vtt", "WEBVTT\n\n00:02.000 --> 00:03.000 align:start\nGröße und Maß\n".encode()),
    ],
)
def test_subtitles_beside_are_read_and_are_no_document(tmp_path: Path, name: str, data: bytes) -> None:
    """People keep subtitles beside the video, in the encodings of their editors."""
    (tmp_path / "talk.mp4").write_bytes(encode_video(make_moving(50)))
    (tmp_path / name).write_bytes(data)
    (tmp_path / "other.srt").write_bytes(data)
    assert [found.name for found in discover([tmp_path])] == ["other.srt", "talk.mp4"]
    document = _open(tmp_path / "talk.mp4")
    loaded = _load(document)[2]
    assert loaded.contents[0] == Text("Größe und Maß")
    (tmp_path / name).write_bytes(
        data.replace(b"und", b"oder").replace("und".encode("utf-16-le"), "mit".encode("utf-16-le"))
    )
    changed = EXTRACTOR.open(document.source, ReadingSettings(fps=1.0, video_stream=0))
    assert changed.parts[2].key != document.parts[2].key
    assert changed.parts[3].key == document.parts[3].key


def test_contact_sheets_show_frames_with_their_times(tmp_path: Path) -> None:
    """Several frames at the price of one image, each still with its own moment."""
    settings = ReadingSettings(fps=1.0, contact_sheet=4)
    document = _open(tmp_path / "a.mp4", encode_video(make_moving(100, (640, 360))), settings)
    assert [len(part.moments) for part in document.parts] == [4, 4, 2]
    _assert_tiles(document, 10.0)
    for each in _load(document, settings):
        picture = _picture(each)
        assert picture.width * picture.height <= 640 * 360
    sheet = _picture(_load(document, settings)[0]).convert("L")
    assert sheet.width * sheet.height > 0.8 * 640 * 360
    assert sheet.crop((4, 4, 60, 30)).getextrema()[0] < 110
    flat = replace(_RENDERING, frame_free_pixels=_RENDERING.frame_max_pixels)
    first = EXTRACTOR.open(document.source, settings, flat).parts[0]
    assert 4 * 640 * 360 < first.width_px * first.height_px <= flat.frame_max_pixels


def test_clips_tile_the_video_and_can_be_played(tmp_path: Path) -> None:
    """A model that takes video gets files it can open, each under its limit."""
    settings = ReadingSettings(video="native")
    data = encode_video(make_moving(300, (320, 180)), g="20")
    rendering = Rendering(400_000, 700_000, 15, 150.0, 80, clip_max_bytes=len(data) // 3, clip_max_s=12.0, clip_fps=2.0)
    for name, video in (("a.mp4", data), ("b.mkv", encode_video(make_moving(300), "matroska", "mpeg4"))):
        document = EXTRACTOR.open(describe_file(tmp_path / name, video), settings, rendering)
        assert {part.kind for part in document.parts} == {"clip"}
        _assert_tiles(document, 30.0)
        total_s = 0.0
        for each in _load(document, settings, rendering):
            (clip,) = each.contents
            assert isinstance(clip, Video)
            assert (clip.media_type, clip.fps) == ("video/mp4", 2.0)
            assert len(clip.data) <= rendering.clip_max_bytes
            assert clip.duration_s <= 12.1
            with av.open(io.BytesIO(clip.data)) as container:
                frames = [frame.pts * frame.time_base for frame in container.decode(video=0)]
            assert frames[0] == 0
            assert float(frames[-1]) == pytest.approx(clip.duration_s, abs=0.35)
            total_s += clip.duration_s
        assert total_s == pytest.approx(30.0)


def test_workers_find_the_same_parts_and_decode_kept_frames_once(tmp_path: Path) -> None:
    """Parts depend on the file, not on how many workers share it; frames wait on disk for their sending."""
    source = describe_file(tmp_path / "a.mp4", encode_video(make_moving(400, (96, 64)), rate=5, g="25"))

    async def read(workers: int, spool_bytes: int) -> tuple[Document, tuple[Loaded, ...]]:
        settings = ReadingSettings(fps=2.0, workers=workers, spool_bytes=spool_bytes)
        async with Workers(settings) as pool:
            document = await pool.open(source, _RENDERING)
            if spool_bytes:
                folder = Path(pool._spools.find(source, _RENDERING).folder)  # type: ignore[union-attr]
                assert len(list(folder.glob("*.jpg"))) == len(document.parts)
            loaded = await pool.load(document, document.parts, _RENDERING)
        assert not spool_bytes or not folder.exists()
        return document, loaded

    one = asyncio.run(read(1, 0))
    assert one == asyncio.run(read(2, 100_000_000))
    assert len(one[0].parts) > 100
    assert one[0] == EXTRACTOR.open(source, ReadingSettings(fps=2.0), _RENDERING)
    assert not any(each.error for each in one[1])


def test_a_worker_that_dies_over_a_video_leaves_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame that hangs its decoder is one bad frame: here every look takes too long, and the file is refused."""
    source = describe_file(tmp_path / "a.mp4", encode_video(make_moving(60)))

    async def read() -> Document:
        async with Workers(ReadingSettings(fps=5.0, call_timeout_s=0.001)) as pool:
            return await pool.open(source, _RENDERING)

    with pytest.raises(TooLarge, match="call_timeout_s"):
        asyncio.run(read())


def test_nothing_is_decoded_that_no_frame_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long videos at low rates are read in seconds because most of them is passed over."""
    from ingest.reading.video import decoding

    fed: list[int] = []
    original = decoding.Decoder._decoded

    def count(self: decoding.Decoder, packet: av.Packet | None) -> list[av.VideoFrame]:
        fed.append(1 if packet is not None else 0)
        return original(self, packet)

    monkeypatch.setattr(decoding.Decoder, "_decoded", count)
    data = encode_video(make_moving(1500, (96, 64)), rate=25, g="50", sc_threshold="0")
    document = _open(tmp_path / "a.mp4", data, ReadingSettings(fps=0.2))
    assert len(document.parts) >= 12
    assert sum(fed) <= 60


@pytest.fixture
def truth(corpus: Path) -> dict[int, list[float]]:
    """Times of all frames of the two streams of a file, from its publishers."""
    name = "video/torchcodec-nasa_13013.stream{}.frames.json"
    return {
        index: [float(frame["pts_time"]) for frame in json.loads((corpus / name.format(index)).read_text())]
        for index in (0, 3)
    }


@pytest.mark.corpus
@pytest.mark.parametrize("fps", [0.2, 0.5, 1.0, 2.5, 5.0])
def test_both_streams_of_a_file_give_the_frames_at_their_times(
    corpus: Path, tmp_path: Path, truth: dict[int, list[float]], fps: float
) -> None:
    """The frame sent as that of a time is the frame shown at that time, in the stream that was asked for."""
    path = corpus / "video/torchcodec-nasa_13013.mp4"
    sizes = {0: (320, 180), 3: (480, 270)}
    for index, times in truth.items():
        settings = ReadingSettings(fps=fps, video_stream=index)
        document = _open(path, None, settings)
        frames = _thumbnails(path, index)
        for each in _load(document, settings):
            (moment,) = each.part.moments
            assert min(abs(moment.timestamp_s - time) for time in times) < 1e-5
            assert _picture(each).size == sizes[index]
            got = _picture(each).resize((16, 9)).tobytes()
            difference = sum(abs(one - other) for one, other in zip(frames[moment.pts], got, strict=True))
            assert difference / (16 * 9 * 3) < 4
        if fps > 0.5:
            wanted = [position / fps for position in range(int(times[-1] * fps))]
            assert all(min(abs(time - goal) for time in times) <= 0.0201 for goal in wanted)
    assert _open(path).parts[0].width_px == 480


@cache
def _thumbnails(path: Path, index: int) -> dict[int, bytes]:
    with av.open(str(path)) as container:
        frames = container.decode(container.streams[index])
        return {frame.pts: frame.to_image().resize((16, 9)).tobytes() for frame in frames}


@pytest.mark.corpus
def test_every_video_ends_as_the_catalogue_expects(corpus: Path) -> None:
    """Containers and clocks of every kind: delivered whole, in part with the bad frame named, or refused."""
    items = [item for item in json.loads((corpus / "catalog.json").read_text())["items"] if item["kind"] == "video"]
    settings = ReadingSettings(fps=5.0, call_timeout_s=30)

    async def main() -> list[tuple[Document, tuple[Loaded, ...]] | SourceError]:
        async with Workers(settings) as pool:

            async def read(name: str) -> tuple[Document, tuple[Loaded, ...]] | SourceError:
                try:
                    document = await pool.open(describe_file(corpus / name), _RENDERING)
                    return document, await pool.load(document, document.parts, _RENDERING)
                except SourceError as error:
                    return error

            return await asyncio.gather(*(read(item["file"]) for item in items))

    for item, outcome in zip(items, asyncio.run(main()), strict=True):
        expected, name = item["expected"], item["file"]
        if isinstance(outcome, SourceError):
            assert expected.startswith("clean_error"), (name, outcome.message)
            assert Path(name).name in outcome.message
            continue
        document, loaded = outcome
        problems = [*document.problems, *(each.error for each in loaded if each.error is not None)]
        assert expected in ("ok", "ok_partial"), (name, expected)
        assert bool(problems) == (expected == "ok_partial"), (name, problems)
        first_s = item["measured"]["last_pts_s"] - item["measured"]["first_pts_s"]
        assert document.parts[-1].moments[-1].end_s >= first_s - 0.01, name


def test_a_damaged_frame_is_named_and_not_shown(tmp_path: Path) -> None:
    """A smeared picture must not pass for what was filmed: the record is partial, and says where."""
    data = bytearray(encode_video(make_moving(60), g="60", bf="0"))
    (tmp_path / "a.mp4").write_bytes(data)
    with av.open(str(tmp_path / "a.mp4")) as container:
        broken = next(packet for packet in container.demux(video=0) if packet.pts * packet.time_base >= 3.0)
    data[broken.pos : broken.pos + 4] = b"\xff\xff\xff\xff"
    document = _open(tmp_path / "a.mp4", bytes(data))
    (bad,) = [part for part in document.parts if part.error is not None]
    assert bad.moments[0].timestamp_s == pytest.approx(3.0)
    assert "a.mp4: the frame at 3.00 s cannot be decoded" in (bad.error.message if bad.error else "")
    _assert_tiles(document, 6.0)


def test_a_spool_that_vanished_is_decoded_again(tmp_path: Path) -> None:
    """Temporary folders get cleaned by others; a run must not end for it."""
    document = _open(tmp_path / "a.mp4", encode_video(make_moving(30)))
    spool = Spool(tmp_path / "gone", keeps_frames=False)
    again = list(EXTRACTOR.fetch(document, document.parts, _RENDERING, _ONE, spool))
    assert again == _load(document)
