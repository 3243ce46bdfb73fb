"""How much of what a group settled lately became dead letters: a partition of nearly nothing else has to stop."""

from collections import Counter

from aiokafka import TopicPartition

from streams.work import Work, key_of

WINDOW = 1000
SHARE = 0.95
"""When this share of a window of records was parked, the partition stops instead of draining into dead letters."""


class Poison:
    """The windows of a group's partitions."""

    def __init__(self) -> None:
        self._windows: dict[TopicPartition, list[int]] = {}  # records settled, and those of them that were parked

    def note(self, work: Work) -> dict[TopicPartition, str]:
        """Count what was committed; the partitions that must stop, and why. They stay so until they are forgotten."""
        must_stop = {}
        parked = Counter(key_of(letter) for letter in work.letters)
        for part in work.parts:
            window = self._windows.setdefault(part.key, [0, 0])
            window[0] += len(part.records) + part.repeats + part.unknown + parked[part.key]
            window[1] += parked[part.key]
            if window[0] < WINDOW:
                continue
            if window[1] >= SHARE * window[0]:
                must_stop[part.key] = f"{window[1]} of the last {window[0]} records were poison"
            else:
                self.forget(part.key)
        return must_stop

    def forget(self, key: TopicPartition) -> None:
        """Begin a new window."""
        self._windows.pop(key, None)
