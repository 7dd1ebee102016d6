"""The seed of each diffusion, by the behaviour that was chosen."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

LARGEST = 2**32 - 1


@dataclass(frozen=True)
class Seeds:
    """Where a run of seeds stands.

    seed: of the diffusion to come. start: of the animation; random ones are drawn from it, so that a resumed run draws
    the same. count: of seeds behind it.
    """

    seed: int
    behavior: str
    start: int
    repeats: int = 1
    count: int = 0

    def following(self, scheduled: int = -1) -> Seeds:
        """After one more diffusion. scheduled: what the seed schedule says; -1 is random."""
        count = self.count + 1
        match self.behavior:
            case "iter":
                seed = self.seed + (1 if (count - 1) % self.repeats == 0 else 0)
            case "ladder":
                seed = self.seed + (2 if count % 2 else -1)
            case "alternate":
                seed = self.seed + (1 if count % 2 else -1)
            case "fixed":
                seed = self.seed
            case "schedule" if scheduled != -1:
                seed = scheduled
            case _:
                seed = drawn_seed(self.start, count)
        return replace(self, seed=seed, count=count)


def drawn_seed(start: int, *place: object) -> int:
    """The random seed that belongs to a place in the animation that begins with the seed `start`."""
    return random.Random(repr((start, *place))).randint(0, LARGEST)
