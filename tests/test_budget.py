"""Limits on money hold by bounds: what a call can cost at most, and what may be under way at once."""

from __future__ import annotations

import asyncio
import random
from decimal import Decimal

import pytest

from ingest.asking.wire import load_wire
from ingest.errors import BudgetReached, ConfigError
from ingest.local.server import create_app
from ingest.planning.budget import Budget, bill_of, worst_case
from ingest.planning.pricing import cost_usd
from ingest.profile import Profile, load_profile
from ingest.types import Content, Image, Request, Rung, Text, Usage, Video
from tests.local_calls import TOTAL, call, image_bytes

PROFILE = load_profile("seed-2-0-pro")
CENT = Decimal("0.01")
SKEW = {"text": 1.2, "image": 1.2, "video": 1.2, "file": 1.2}
_ALPHABETS = {
    "words": "the total of this invoice amounts to ",
    "digits": "0123456789.,:;-/%$",
    "marks": "{}[]()<>|\\~`^\"'*#@!?_=+&",
    "scripts": "請求書合計税込株式会社한글صفحةकखगЖЩЪ",
    "emoji": "🧾👩‍👩‍👧‍👦🏳️‍🌈𝔘𝔫𝔦𝄞",
    "rare": "\u0a95\u13a0\ua500\U00010400\U0001e900\ufeff\u200d\x07\x1b",
}


def request(contents: tuple[Content, ...], rung: Rung = "json_schema", **parameters: object) -> Request:
    """A request as the engine makes it."""
    given = {"max_tokens": 1_000, "enable_thinking": False, "image_detail": "high"} | parameters
    return Request("k", PROFILE.model, "Extract.", contents, TOTAL, "record", rung, given)


def counted(sent: Request, protocol: str) -> Usage:
    """What the independent engine counts, a fifth above its own counter for everything."""
    app = create_app(models=[PROFILE.model], skew=SKEW)
    wire = load_wire(protocol)
    made = wire.encode(sent, PROFILE)
    response = call(app, "POST", f"/v1/{made.path.lstrip('/')}", json=made.body)
    assert response.status_code == 200, response.text
    return wire.usage(response.json())


@pytest.mark.parametrize("alphabet", sorted(_ALPHABETS))
@pytest.mark.parametrize(("protocol", "rung"), [("chat", "json_schema"), ("responses", "tool"), ("messages", "prompt")])
def test_no_text_costs_more_than_its_bound(alphabet: str, protocol: str, rung: Rung) -> None:
    """Text made to be counted badly must not slip past the limit."""
    dice = random.Random(alphabet)
    texts = tuple(Text("".join(dice.choices(_ALPHABETS[alphabet], k=length))) for length in (1, 40, 700))
    sent = request(texts, rung)
    usage, worst = counted(sent, protocol), worst_case(sent, PROFILE)
    assert usage.input_tokens <= worst.input_tokens
    assert usage.output_tokens <= worst.output_tokens
    assert worst.cost_usd is not None
    assert cost_usd(PROFILE, usage.input_tokens, usage.output_tokens) <= worst.cost_usd  # type: ignore[operator]


@pytest.mark.parametrize("detail", ["low", "high", "xhigh"])
def test_no_image_costs_more_than_its_bound(detail: str) -> None:
    """Whatever detail reaches the model."""
    size = (1_000, 700)
    images = tuple(Image(image_bytes("Total 5", size), "image/png", *size) for _ in range(2))
    sent = request((Text("<document>"), *images, Text("</document>")), image_detail=detail)
    app = create_app(models=[PROFILE.model], skew=SKEW, faults=["server_error"])
    call(app, "POST", "/v1/chat/completions", json=load_wire("chat").encode(sent, PROFILE).body)
    (entry,) = app.state.accounting.entries
    assert 2 * 500 < entry.input_tokens <= worst_case(sent, PROFILE).input_tokens


def test_the_worst_case_takes_the_dear_tier_reasoning_and_searches_into_account() -> None:
    """Each of them multiplies a bill."""
    small, long = worst_case(request((Text("a"),)), PROFILE), worst_case(request((Text("a" * 150_000),)), PROFILE)
    assert long.cost_usd == cost_usd(PROFILE, long.input_tokens, 1_000)
    assert long.input_tokens > 128_000
    thinking = worst_case(request((Text("a"),), enable_thinking=True), PROFILE)
    assert thinking.output_tokens == 1_000 + PROFILE.max_reasoning_tokens
    assert worst_case(request((Text("a"),), enable_web_search=True), PROFILE).input_tokens == PROFILE.window_tokens
    assert small.input_tokens < 5_000
    clip = worst_case(request((Video(b"", "video/mp4", 600.0, 1.0),)), PROFILE)
    assert 81_920 < clip.input_tokens < 128_000


def test_a_tier_that_is_cheaper_beyond_its_step_does_not_lower_the_bound() -> None:
    """The bound is on the price, not on the tokens."""
    first, second = PROFILE.tiers
    odd: Profile = PROFILE.model_copy(
        update={"tiers": (first, second.model_copy(update={"input_usd_per_million": Decimal("0.01")}))}
    )
    sent = request((Text("a" * 150_000),))
    assert worst_case(sent, odd).cost_usd >= (cost_usd(odd, 127_999, 1_000) or 0)  # type: ignore[operator]
    assert worst_case(sent, PROFILE.model_copy(update={"tiers": ()})).cost_usd is None


def test_a_bill_by_kind_of_token_is_the_whole_price() -> None:
    """Rows that do not add up are not believed."""
    usage = Usage(130_001, 7_003, 2_001, 64_000)
    bill = bill_of(PROFILE, usage)
    assert bill is not None
    assert bill.total_usd == cost_usd(PROFILE, usage.input_tokens, usage.output_tokens)
    assert bill.tier == 224_000
    assert bill.reasoning_usd == 2_001 * Decimal("7.58") / 1_000_000


def test_calls_wait_for_those_under_way_and_give_up_only_when_nothing_is() -> None:
    """What a call under way gives back must not be lost to the next one."""

    async def play() -> list[str]:
        budget, told = Budget(3 * CENT), list[str]()
        first = await budget.hold("a", 2 * CENT)

        async def second() -> None:
            hold = await budget.hold("b", 2 * CENT)
            told.append("second")
            budget.settle(hold, 2 * CENT)

        task = asyncio.create_task(second())
        await asyncio.sleep(0)
        assert told == []
        budget.settle(first, CENT / 2)
        await task
        with pytest.raises(BudgetReached, match=r"limit of \$0.03 for this run .* \$0.0250 is spent"):
            await budget.hold("c", CENT)
        budget.settle(await budget.hold("c", CENT / 2), None)
        assert budget.spent_usd == Decimal("0.025")
        return told

    assert asyncio.run(play()) == ["second"]


def test_a_document_has_a_limit_of_its_own() -> None:
    """One huge file must not eat the money of the others."""

    async def play() -> None:
        budget = Budget(None, 2 * CENT)
        budget.settle(await budget.hold("a", 2 * CENT), 2 * CENT)
        with pytest.raises(BudgetReached, match="--max-cost-per-document"):
            await budget.hold("a", CENT)
        with pytest.raises(BudgetReached):
            budget.check("a", CENT)
        budget.check("b", CENT)
        await budget.hold("b", 2 * CENT)
        with pytest.raises(BudgetReached, match="lower --max-tokens"):
            await budget.hold("c", 3 * CENT)

    asyncio.run(play())


def test_random_loads_never_pass_the_limit() -> None:
    """At no moment may what is spent and what is under way be more than allowed."""

    async def play(seed: int) -> None:
        dice = random.Random(seed)
        limit = Decimal(dice.randint(1, 100)) / 100
        budget, out = Budget(limit), [Decimal(0)]

        async def work() -> None:
            for _ in range(10):
                worst = Decimal(dice.randint(1, 20)) / 100
                try:
                    hold = await budget.hold(f"{dice.randint(0, 3)}", worst)
                except BudgetReached:
                    return
                out[0] += worst
                assert budget.spent_usd + out[0] <= limit
                await asyncio.sleep(0)
                out[0] -= worst
                budget.settle(hold, worst * dice.choice((0, Decimal("0.3"), 1)))
                assert budget.spent_usd <= limit

        await asyncio.gather(*(work() for _ in range(16)))

    for seed in range(30):
        asyncio.run(play(seed))


def test_a_limit_without_prices_is_refused_before_anything_is_read() -> None:
    """A limit that cannot be kept must not look as if it were."""
    from ingest.config import Endpoint
    from ingest.recipes import build_config, recipe_from_schema

    free = PROFILE.model_copy(update={"tiers": ()})
    endpoint = Endpoint(base_url="http://localhost/v1")
    with pytest.raises(ConfigError, match="needs prices"):
        build_config(recipe_from_schema(TOTAL), free, endpoint, overrides={"budget": {"max_cost_usd": "1"}})
