"""What a command spent its time on."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass
class Clock:
    """Seconds by what they were spent on."""

    seconds: dict[str, float] = field(default_factory=dict)
    last: float = field(default_factory=time.perf_counter)

    def took(self, what: str) -> None:
        """Count the time since the last call."""
        now = time.perf_counter()
        self.seconds[what] = now - self.last
        self.last = now
