"""Which rung of the ladder is asked on: strict schema, forced tool, schema in the prompt."""

from __future__ import annotations

from collections.abc import Callable

from ingest.types import Rung

# Answers looked at before a rung is trusted; some models take a schema and ignore it (200, any text).
_TRIAL = 8
_STRAYS = 3
# After so many answers on a lower rung the one above is tried again: gateways learn.
_PROBE_EVERY = 200


class Rungs:
    """The rung in use, and what is known of the others. A rung leaves the ladder when it is refused or ignored."""

    def __init__(
        self, ladder: tuple[Rung, ...], remembered: Rung | None = None, remember: Callable[[Rung], None] | None = None
    ) -> None:
        """`remembered` is the rung that worked last time; `remember` is told of each rung that works."""
        self._ladder = ladder
        self._lost: set[Rung] = set()
        self._remembered = remembered if remembered in ladder else None
        self._remember = remember or (lambda rung: None)
        self._told = self._remembered
        self._fits: dict[Rung, int] = {}
        self._strays: dict[Rung, int] = {}
        self._since_probe = 0

    @property
    def current(self) -> Rung:
        """The rung to ask on: the one that worked last time, else the best that is left."""
        if self._remembered is not None:
            return self._remembered
        return self._left()[0]

    def refused(self, rung: Rung) -> bool:
        """The endpoint refused this rung; False when no other is left.

        A remembered rung that is refused says that the endpoint has changed: all others are tried from the top.
        """
        return self._lose(rung)

    def is_on_trial(self, rung: Rung) -> bool:
        """Whether it still matters if answers on this rung fit the schema."""
        return self._fits.get(rung, 0) < _TRIAL

    def answered(self, rung: Rung, is_fitting: bool = True) -> None:
        """An answer came on this rung, and did or did not fit the schema."""
        counts = self._fits if is_fitting else self._strays
        counts[rung] = counts.get(rung, 0) + 1
        if not is_fitting:
            if self._strays[rung] >= _STRAYS and self._strays[rung] > self._fits.get(rung, 0) and self._below(rung):
                self._lose(rung)
            return
        if rung == self.current and rung != self._told:
            self._told = rung
            self._remember(rung)
        self._since_probe += 1
        if self._since_probe >= _PROBE_EVERY and rung != self._ladder[0]:
            # A refusal costs nothing, and brings the next call back here.
            self._lost, self._strays, self._fits = set(), {}, {}
            self._remembered, self._since_probe = None, 0

    def _lose(self, rung: Rung) -> bool:
        if not [other for other in self._left() if other != rung]:
            return False
        self._lost.add(rung)
        if rung == self._remembered:
            self._remembered = None
        return True

    def _left(self) -> list[Rung]:
        return [rung for rung in self._ladder if rung not in self._lost]

    def _below(self, rung: Rung) -> bool:
        return any(other in self._left() for other in self._ladder[self._ladder.index(rung) + 1 :])
