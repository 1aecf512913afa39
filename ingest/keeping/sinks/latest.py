"""Which records of this run are the last of their document: a later one takes the place of an earlier one."""

from __future__ import annotations


class Latest:
    """Numbers the records of a run as they come, by what identifies them."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._next = 0
        self.replaced: set[int] = set()

    def add(self, key: str) -> int:
        """The number of a record that came now; one that came before under the same key is replaced."""
        before = self._numbers.get(key)
        if before is not None:
            self.replaced.add(before)
        number = self._numbers[key] = self._next
        self._next += 1
        return number

    def __contains__(self, key: object) -> bool:
        return key in self._numbers
