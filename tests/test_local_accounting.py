"""The local engine's own count of tokens and money, against figures worked out by hand from the published rules."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ingest.errors import ConfigError
from ingest.local import reader
from ingest.local.accounting import Accounting, PrefixCache, Tokenizer, Usage, billed, count_image, price
from ingest.local.contract import Terms
from ingest.local.images import ImagePart
from ingest.local.numbers import load_limits, load_models, load_numbers
from ingest.local.protocols.chat import read_request
from ingest.local.server import create_app
from tests.local_calls import image_bytes, image_part, post, request, schema_format

SEED = load_numbers("seed-2.0")


def image(width_px: int, height_px: int, **wishes: Any) -> ImagePart:
    """An image of this size; its bytes do not matter for counting."""
    return ImagePart(b"", "image/png", width_px, height_px, **wishes)


@pytest.mark.parametrize(
    ("width_px", "height_px", "detail", "tokens"),
    [
        (20, 20, None, 1280),
        (6000, 6000, "high", 1280),
        (420, 420, "low", 100),
        (42, 42, "low", 1),
        (20, 20, "low", 1),
        (421, 420, "low", 101),  # 176,820 / 1764 = 100.24
        (1264, 1787, "low", 1280),
        (3000, 3000, "low", 1280),
        (1000, 1000, "xhigh", 1280),
        (2000, 2000, "xhigh", 2268),  # 4,000,000 / 1764 = 2267.6
        (2528, 3573, "xhigh", 5120),
        (6000, 6000, "xhigh", 5120),
    ],
)
def test_image_tokens_follow_the_published_table(
    width_px: int, height_px: int, detail: str | None, tokens: int
) -> None:
    """Images are nearly the whole bill; at `high` even an icon costs 1280."""
    assert count_image(image(width_px, height_px), SEED, detail) == tokens


def test_older_generations_count_by_their_own_rules() -> None:
    """Pixels per token and bounds changed twice; the profile alone must say so."""
    assert count_image(image(1000, 1000), load_numbers("seed-1.6"), None) == 1276  # low: 1,000,000 / 784
    assert count_image(image(3000, 3000), load_numbers("seed-1.6"), "high") == 5120
    assert count_image(image(1000, 1000), load_numbers("seed-1.8"), None) == 567  # high: 1,000,000 / 1764
    with pytest.raises(ConfigError, match=r"seed-2\.0"):
        load_numbers("seed-3.0")


def test_wishes_of_a_part_count_only_where_they_reach_the_model() -> None:
    """It is not verified that the gateway passes `detail` on, so the dear reading is billed."""
    part = image(420, 420, detail="low", max_pixels=88_200)
    assert count_image(part, SEED, None) == 1280
    assert count_image(part, load_numbers("seed-1.8"), "high") == 50
    assert count_image(image(420, 420, detail="low"), load_numbers("seed-1.8"), "high") == 100


@pytest.mark.parametrize(
    ("input_tokens", "output_tokens", "usd"),
    [
        (0, 0, "0"),
        (100_000, 10_000, "0.1009"),  # 0.063 + 0.0379
        (127_999, 0, "0.08063937"),
        (128_000, 0, "0.16128"),
        (200_000, 10_000, "0.3278"),  # 0.252 + 0.0758: every token at the dear tier
    ],
)
def test_price_doubles_at_128000_for_the_whole_request(input_tokens: int, output_tokens: int, usd: str) -> None:
    """One token too many doubles the bill of all the others."""
    usage = Usage(input_tokens, output_tokens)
    assert price(usage, SEED) == Decimal(usd)
    models = load_models(("seed-2-0-pro",))
    assert billed(usage, models["seed-2-0-pro"]) == (Decimal(usd), Decimal(usd))
    assert billed(usage, models["local-ocr-rules"]) == (Decimal(0), Decimal(usd))


def test_input_tokens_are_the_sum_of_all_that_was_sent() -> None:
    """Text, images, schema and overhead all count: 128 a request, 8 a message, 4 a part."""
    tokenizer = Tokenizer()
    assert tokenizer.count("hello world") == 2
    body = request("hello world", image_part(image_bytes()), enable_thinking=False)
    body["messages"].insert(0, {"role": "system", "content": "hello world"})
    app = create_app()
    usage = post(app, body).json()["usage"]
    assert usage["prompt_tokens"] == 128 + 2 * 8 + 3 * 4 + 2 + 2 + 1280
    low = post(app, body | {"image_detail": "low"}).json()["usage"]
    assert low["prompt_tokens"] == usage["prompt_tokens"] - 1280 + 154  # 900 x 300 / 1764 = 153.1
    schema = {"type": "object", "properties": {}}
    more = post(app, body | {"response_format": schema_format(schema)}).json()["usage"]
    told = {"name": "record", "schema": schema, "strict": True}
    assert more["prompt_tokens"] == usage["prompt_tokens"] + tokenizer.count(json.dumps(told))


def test_default_system_message_counts_when_none_is_sent() -> None:
    """The gateway puts its own in front, so leaving it out saves nothing."""
    app = create_app()
    without = post(app, request("hello world")).json()["usage"]["prompt_tokens"]
    body = request("hello world")
    body["messages"].insert(0, {"role": "developer", "content": "You are a helpful assistant."})
    assert post(app, body).json()["usage"]["prompt_tokens"] == without


def test_input_over_the_window_is_refused_with_the_documented_words() -> None:
    """Clients recognise an overflow by its message and then split the chunk."""
    app = create_app(models=["seed-2-0-pro"])
    overhead = 128 + 8 + 4 + 8 + 4 + Tokenizer().count("You are a helpful assistant.")
    fits, over = (
        post(app, request("one " * (224_000 - overhead - 1 + extra), model="seed-2-0-pro", enable_thinking=False))
        for extra in (0, 1)
    )
    assert fits.status_code == 200
    assert fits.json()["usage"]["prompt_tokens"] == 224_000
    assert over.status_code == 400
    assert "Total tokens of image and text exceed max message tokens." in over.json()["error"]["message"]
    first, second = app.state.accounting.entries
    assert first.cost_usd == Decimal("0.28224") + first.output_tokens * Decimal("7.58") / 1_000_000
    assert second.cost_usd == 0


def test_answer_ends_where_the_window_does() -> None:
    """Input and output share one window, whatever max_tokens asks for."""
    app = create_app()
    text = "one " * 223_000
    response = post(app, request(text, max_tokens=65_536, enable_thinking=False)).json()
    assert response["choices"][0]["finish_reason"] == "length"
    assert response["usage"]["total_tokens"] == 256_000


def test_long_texts_are_counted_whole() -> None:
    """Counting goes piece by piece; nothing may be lost between the pieces, and special words are plain text."""
    tokenizer = Tokenizer()
    assert tokenizer.count("one two " * 400_000) == pytest.approx(800_000, rel=0.01)
    assert tokenizer.count("<|endoftext|>") > 1
    assert tokenizer.cut("one two three", 2) == ("one two", 2, True)
    assert tokenizer.cut("one two three", 3) == ("one two three", 3, False)
    assert tokenizer.cut("one two three", 0) == ("", 0, True)


def test_ledger_adds_up_and_tells_what_was_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The referee's books are the second opinion on every bill, so they hold refused calls too."""
    monkeypatch.setattr(reader, "read_image", lambda number, data, is_context=False: reader.read_text(number, ""))
    app = create_app(models=["seed-2-0-pro"], ledger_path=tmp_path / "ledger.jsonl")
    post(app, request("words", image_part(image_bytes()), model="seed-2-0-pro"))
    post(app, request("words", model="seed-2-0-pro", max_tokens=0))
    post(app, request("words"))
    accounting: Accounting = app.state.accounting
    entries = list(accounting.entries)
    assert [(entry.number, entry.status, entry.code) for entry in entries] == [
        (1, 200, "stop"),
        (2, 400, "InvalidParameter"),
        (3, 200, "stop"),
    ]
    assert entries[0].pages_read == 2
    assert entries[2].cost_usd == 0 < entries[2].list_cost_usd
    assert accounting.cost_usd == entries[0].cost_usd > 0
    assert accounting.list_cost_usd == entries[0].list_cost_usd + entries[2].list_cost_usd
    lines = [json.loads(line) for line in (tmp_path / "ledger.jsonl").read_text().splitlines()]
    assert [Decimal(line["cost_usd"]) for line in lines] == [entry.cost_usd for entry in entries]
    assert "words" not in json.dumps(lines)


def test_failed_and_filtered_calls_are_billed_for_their_input() -> None:
    """The safe reading of the terms: what was taken in is paid for, what was turned away is not."""
    app = create_app(models=["seed-2-0-pro"], faults=["server_error", "rate_limited", "content_filter"])
    statuses = [post(app, request("words", model="seed-2-0-pro")).status_code for _ in range(3)]
    assert statuses == [502, 429, 200]
    failed, limited, filtered = app.state.accounting.entries
    assert failed.cost_usd == failed.input_tokens * Decimal("0.63") / 1_000_000 > 0
    assert limited.cost_usd == 0
    assert filtered.code == "content_filter"
    assert filtered.cost_usd > failed.cost_usd


def test_repeated_prefixes_are_cached_for_ten_minutes() -> None:
    """Only the unchanged beginning counts, from 1024 tokens, and not for ever."""
    tokenizer, terms, now = Tokenizer(), Terms(load_models(), load_limits()), [0.0]
    cache = PrefixCache(clock=lambda: now[0])

    def cached(*texts: str) -> int:
        return cache.cached_tokens(read_request(request(*texts), terms), tokenizer)

    stable = "one " * 1500
    assert cached(stable, "a") == 0
    assert cached(stable, "b") == tokenizer.count(stable)
    assert cached("b", stable) == 0
    assert cached("short", "a") == cached("short", "a") == 0
    now[0] = 601.0
    assert cached(stable, "a") == 0
    app = create_app(caches_prefixes=True)
    seen = [post(app, request(stable)).json()["usage"]["prompt_tokens_details"]["cached_tokens"] for _ in range(2)]
    assert seen == [0, tokenizer.count(stable)]


def test_every_decoder_has_one_media_type() -> None:
    """A format without its media type in the data file would be refused although documented."""
    types = load_limits().image_media_types
    assert {"JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "JPEG2000"} <= set(types)
    assert all(value == value.lower() and value.startswith("image/") for value in types.values())


def test_skew_changes_the_count_of_one_kind_everywhere() -> None:
    """Calibration is tested against a counter that is wrong on purpose: usage, limit and bill must be so alike."""
    body = request("hello world " * 50, image_part(image_bytes()), model="seed-2-0-pro", enable_thinking=False)
    plain, skewed = (create_app(models=["seed-2-0-pro"], skew=skew) for skew in (None, {"text": 1.5, "image": 0.8}))
    usage = [post(app, body).json()["usage"] for app in (plain, skewed)]
    first, second = plain.state.accounting.entries[-1], skewed.state.accounting.entries[-1]
    assert second.input_by_kind["image"] == 1024
    assert second.input_by_kind["overhead"] == first.input_by_kind["overhead"]
    assert second.input_by_kind["text"] == pytest.approx(first.input_by_kind["text"] * 1.5, abs=3)
    assert second.input_tokens == usage[1]["prompt_tokens"] == sum(second.input_by_kind.values())
    assert usage[1]["completion_tokens"] == pytest.approx(usage[0]["completion_tokens"] * 1.5, abs=1)
    assert second.cost_usd != first.cost_usd
    over = create_app(skew={"text": 2.0})
    assert post(over, request("one " * 120_000)).status_code == 400
    for wrong in ({"sound": 1.0}, {"text": 0.0}):
        with pytest.raises(ConfigError):
            create_app(skew=wrong)


def test_skewed_answers_are_cut_by_the_skewed_count() -> None:
    """`max_tokens` is counted by the same rule as everything else."""
    app = create_app(skew={"text": 2.0})
    answer = post(app, request("one " * 100, max_tokens=20, enable_thinking=False)).json()
    assert answer["usage"]["completion_tokens"] == 20
    assert len(answer["choices"][0]["message"]["content"].split()) == 10


def test_entries_can_be_matched_with_the_callers_own_report(tmp_path: Path) -> None:
    """The second opinion is of use only when both sides speak of the same call, and never holds a key or a word."""
    app = create_app(models=["seed-2-0-pro"], api_keys=["sesame"], ledger_path=tmp_path / "ledger.jsonl")
    headers = {"authorization": "Bearer sesame", "x-client-request-id": "call-7"}
    answer = post(app, request("Zebra", model="seed-2-0-pro"), headers=headers)
    post(app, request("Zebra"), headers={"authorization": "Bearer wrong-key"})
    lines = [json.loads(line) for line in (tmp_path / "ledger.jsonl").read_text().splitlines()]
    assert lines[0]["request_id"] == answer.headers["x-request-id"]
    assert lines[0]["client_request_id"] == answer.headers["x-client-request-id"] == "call-7"
    assert Decimal(answer.headers["x-cost-usd"]) == Decimal(lines[0]["cost_usd"]) > 0
    assert lines[0]["was_delivered"] is True
    assert [line["code"] for line in lines] == ["stop", "invalid_api_key"]
    text = (tmp_path / "ledger.jsonl").read_text()
    assert not [word for word in ("sesame", "wrong-key", "Zebra") if word in text]
