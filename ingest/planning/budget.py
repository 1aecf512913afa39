"""The limit on money: the most a call can cost is set aside before it is sent, and what it did cost booked after.

Nothing here depends on how good the estimates of `tokens.py` are: a limit holds by bounds, not by forecasts.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections import defaultdict, deque
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Protocol

from ingest.errors import BudgetReached
from ingest.planning.pricing import cost_usd, tier_of
from ingest.profile import Profile
from ingest.types import Bill, Content, File, Image, Request, Text, Usage, Video

_MILLION = Decimal(1_000_000)
_COUNTER_MARGIN = 1.2
"""How much more than our bound a server may count of anything: its counter is not ours to know."""

_WRAPPING_BYTES = 1_024
"""What protocols write around a prompt that a template may put before the model: roles, names of tools and formats."""


@dataclass(frozen=True, slots=True)
class WorstCase:
    """The most a call can take. `cost_usd` is None when the profile has no price."""

    input_tokens: int
    output_tokens: int
    cost_usd: Decimal | None


def worst_case(request: Request, profile: Profile) -> WorstCase:
    """The most that one try of `request` can be billed, whatever becomes of it.

    Input. A byte-level tokenizer gives at most one token per byte of UTF-8, so text, schema and instructions count
    their bytes; images count the most the profile knows for the detail asked for or the server's own, since the wish
    may not arrive; clips and files likewise. All of it is raised by a fifth, for a server that counts otherwise than
    it says. A request that the model's window cannot hold is refused, not billed, which caps the bound.

    Output. `max_tokens` is always sent and caps the answer; with thinking on, the profile's longest reasoning comes on
    top, or the whole window when the profile does not say.

    Price. The dearest of the tiers that input up to the bound can fall into; no discount for cached input.
    """
    bound = math.ceil(_COUNTER_MARGIN * (_fixed_tokens(request, profile) + _content_tokens(request, profile)))
    input_tokens = min(bound, profile.window_tokens)
    output_tokens = int(request.parameters["max_tokens"])
    if request.parameters.get("enable_thinking"):
        output_tokens += profile.max_reasoning_tokens or profile.window_tokens
    output_tokens = min(output_tokens, profile.window_tokens)
    return WorstCase(input_tokens, output_tokens, _dearest(profile, input_tokens, output_tokens))


def bill_of(profile: Profile, usage: Usage) -> Bill | None:
    """What an answered call cost by kind of token; None when the profile has no price.

    Cached input gets no discount: none is published, and what is cached still counts for the tier (model-facts §7).
    """
    tier = tier_of(profile, usage.input_tokens)
    if tier is None:
        return None
    cached = min(usage.cached_tokens, usage.input_tokens)
    reasoning = min(usage.reasoning_tokens, usage.output_tokens)
    in_usd, out_usd = tier.input_usd_per_million / _MILLION, tier.output_usd_per_million / _MILLION
    return Bill(
        tier=tier.max_input_tokens,
        input_usd=(usage.input_tokens - cached) * in_usd,
        cached_usd=cached * in_usd,
        output_usd=(usage.output_tokens - reasoning) * out_usd,
        reasoning_usd=reasoning * out_usd,
    )


def least_cost_usd(profile: Profile, input_tokens: int, max_tokens: int) -> Decimal:
    """What must at least be set aside for a call with so much input and such an output limit; 0 without a price."""
    return cost_usd(profile, input_tokens, max_tokens) or Decimal(0)


def _fixed_tokens(request: Request, profile: Profile) -> int:
    overhead = profile.overhead
    schema = json.dumps(request.schema, ensure_ascii=False)
    text_bytes = _size(request.system) + _size(schema) + _size(request.schema_name) + _WRAPPING_BYTES
    # System and user message, and one more that a server may put in front.
    parts = len(request.contents) + 3
    if request.parameters.get("enable_web_search"):
        # What a search brings in is not ours to bound.
        text_bytes += profile.window_tokens
    return overhead.per_request + 3 * overhead.per_message + parts * overhead.per_part + text_bytes


def _content_tokens(request: Request, profile: Profile) -> int:
    return sum(_most_tokens(content, request, profile) for content in request.contents)


def _most_tokens(content: Content, request: Request, profile: Profile) -> int:
    detail = str(request.parameters.get("image_detail") or profile.default_detail)
    match content:
        case Text():
            return _size(content.text)
        case Image():
            return _image_tokens(profile, detail)
        case Video():
            return _video_tokens(content, profile, float(request.parameters.get("video_fps") or content.fps))
        case File():
            per_page = max(profile.files.tokens_per_page if profile.files else 0, _image_tokens(profile, detail))
            return _size(content.name) + content.pages * (per_page + 2 * profile.overhead.per_part)


def _image_tokens(profile: Profile, detail: str) -> int:
    rules = [rule for name, rule in profile.images.items() if name in (detail, profile.default_detail)]
    return max(math.ceil(rule.max_tokens * (1 + rule.margin)) for rule in rules)


def _video_tokens(video: Video, profile: Profile, fps: float) -> int:
    """Every frame that the rate can give, at the most tokens of a frame within the budget, with its time as text.

    A rate that does not arrive leaves the server's own.
    """
    rule = profile.video
    if rule is None:
        return profile.window_tokens
    least, most = rule.frames
    frames = min(max(math.ceil(video.duration_s * max(fps, rule.default_fps)) + 1, least), most)
    low, high = rule.tokens_per_frame
    per_frame = min(max(math.ceil(rule.budget_tokens / frames), low), high)
    return frames * (per_frame + profile.frames.timestamp_tokens[1] + 2 * profile.overhead.per_part)


def _dearest(profile: Profile, input_tokens: int, output_tokens: int) -> Decimal | None:
    """The highest price among all inputs up to `input_tokens`: at the bound itself, and at the end of each tier."""
    ends = [tier.max_input_tokens for tier in profile.tiers if tier.max_input_tokens < input_tokens]
    costs = [cost_usd(profile, tokens, output_tokens) for tokens in (*ends, input_tokens)]
    known = [cost for cost in costs if cost is not None]
    return max(known, default=None)


def _size(text: str) -> int:
    return len(text.encode("utf-8", "replace"))


@dataclass(slots=True)
class _Account:
    """One limit: what is spent, what is set aside for calls under way, and who waits for their end."""

    limit_usd: Decimal | None
    spent_usd: Decimal = Decimal(0)
    held_usd: Decimal = Decimal(0)
    holds: int = 0
    waiters: deque[asyncio.Future[None]] = field(default_factory=deque)

    def takes(self, amount_usd: Decimal) -> bool:
        """Whether the limit holds even if this and everything under way costs its worst."""
        return self.limit_usd is None or self.spent_usd + self.held_usd + amount_usd <= self.limit_usd

    def hold(self, amount_usd: Decimal) -> None:
        """Set money aside."""
        self.held_usd += amount_usd
        self.holds += 1

    def settle(self, held_usd: Decimal, booked_usd: Decimal) -> None:
        """Book what was spent of what was set aside, and wake those who wait."""
        self.held_usd -= held_usd
        self.spent_usd += booked_usd
        self.holds -= 1
        while self.waiters:
            waiter = self.waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)


@dataclass(frozen=True, slots=True)
class Hold:
    """Money set aside for one try of a call of a document."""

    document: str
    amount_usd: Decimal


class Purse(Protocol):
    """Who money is asked of before each try: `Budget` here, or what stands for that of another process."""

    async def hold(self, document: str, worst_usd: Decimal | None) -> Hold:
        """Set aside the most that a try can cost (see `Budget.hold`). Raises BudgetReached."""

    def settle(self, hold: Hold, booked_usd: Decimal | None) -> None:
        """Book what a try cost of what was set aside."""

    def check(self, document: str, least_usd: Decimal) -> None:
        """Raise BudgetReached when a call that costs at least so much can never be sent, as far as is known here."""


class Budget:
    """The limits on money of a run and of each document in it, shared by everything that sends. One event loop only.

    `max_tokens` of a call is never lowered to fit what is left: a shorter answer would be another answer, cut off where
    the full one was not, and would have to be bought again. Who has little money left gets more for it with a smaller
    `max_tokens` of his own.
    """

    def __init__(self, limit_usd: Decimal | None = None, document_limit_usd: Decimal | None = None) -> None:
        self._run = _Account(limit_usd)
        self._limits_documents = document_limit_usd is not None
        self._documents: defaultdict[str, _Account] = defaultdict(lambda: _Account(document_limit_usd))

    @property
    def spent_usd(self) -> Decimal:
        """Booked so far, calls that died without usage at their worst case."""
        return self._run.spent_usd

    def spent_on(self, document: str) -> tuple[Decimal, Decimal]:
        """Booked so far by the run, and for a document of it."""
        return self._run.spent_usd, self._documents[document].spent_usd

    def learn(self, document: str, spent_usd: tuple[Decimal, Decimal]) -> None:
        """Take over what `spent_on` told elsewhere: it only grows, so that an old word never says too much."""
        for account, amount_usd in zip((self._run, self._documents[document]), spent_usd, strict=True):
            account.spent_usd = max(account.spent_usd, amount_usd)

    async def hold(self, document: str, worst_usd: Decimal | None) -> Hold:
        """Set aside the most that a try can cost. A price that is not known counts nothing: it has no limit.

        Waits for calls under way while their end may make room. Raises BudgetReached when nothing is under way and the
        try could still pass a limit.
        """
        amount_usd = worst_usd or Decimal(0)
        accounts = self._accounts(document)
        while True:
            full = next((account for account in accounts if not account.takes(amount_usd)), None)
            if full is None:
                for account in accounts:
                    account.hold(amount_usd)
                return Hold(document, amount_usd)
            if not full.holds:
                raise self._reached(full, amount_usd)
            waiter = asyncio.get_running_loop().create_future()
            full.waiters.append(waiter)
            await waiter

    def settle(self, hold: Hold, booked_usd: Decimal | None) -> None:
        """Book what a try cost: by its usage, or all that was set aside when it died without."""
        for account in self._accounts(hold.document):
            account.settle(hold.amount_usd, booked_usd or Decimal(0))

    def check(self, document: str, least_usd: Decimal) -> None:
        """Raise BudgetReached when a call that costs at least so much can never be sent.

        Its content then need not be made.
        """
        for account in self._accounts(document):
            if account.limit_usd is not None and account.spent_usd + least_usd > account.limit_usd:
                raise self._reached(account, least_usd)

    def _accounts(self, document: str) -> tuple[_Account, ...]:
        """The run's account, and the document's where it has a limit: nobody looks at it otherwise."""
        return (self._run, self._documents[document]) if self._limits_documents else (self._run,)

    def _reached(self, account: _Account, amount_usd: Decimal) -> BudgetReached:
        limit_usd = account.limit_usd or Decimal(0)
        whose, flag = (
            ("this run", "--max-cost") if account is self._run else ("one document", "--max-cost-per-document")
        )
        told = f"the limit of ${limit_usd:f} for {whose} could be passed: ${_short(account.spent_usd)} is spent"
        advice = "lower --max-tokens" if amount_usd > limit_usd else f"raise {flag}"
        other = f"raise {flag}" if amount_usd > limit_usd else "run again"
        return BudgetReached(f"{told}, and the next call may cost up to ${_short(amount_usd)}; {advice}, or {other}")


def _short(amount_usd: Decimal) -> str:
    """Dollars to a hundredth of a cent, never rounded to less than they are."""
    return f"{amount_usd.quantize(Decimal('0.0001'), rounding='ROUND_UP'):f}"
