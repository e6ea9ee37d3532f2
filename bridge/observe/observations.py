"""Durations in buckets, for histograms. One thread observes; other threads may read."""

from bisect import bisect_left

# Upper bounds in seconds. PUBACK takes milliseconds; a message that waits on disk may take hours.
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)
SHORT = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Observations:
    """Counts durations in seconds by bucket. The last bucket takes what is above all bounds."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.total = 0.0
        self._counts = [0] * (len(bounds) + 1)

    def observe(self, seconds: float) -> None:
        self._counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds

    def cumulative(self) -> tuple[int, ...]:
        """For each bound how many durations were at most so long; at last the number of all."""
        sums = []
        so_far = 0
        for count in self._counts:
            so_far += count
            sums.append(so_far)
        return tuple(sums)
