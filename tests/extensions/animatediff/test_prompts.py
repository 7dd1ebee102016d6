"""Prompts that travel: how they are read, and where each frame is between two of them."""

from __future__ import annotations

import pytest
import torch

from extensions.animatediff.conditioning import moved, slerp
from extensions.animatediff.travel import Between, positions, read_travel
from webui.core.errors import InvalidRequest
from webui.diffusion.guidance import PromptConds, TimedCond, WeightedSchedule


def test_a_prompt_of_frames_has_a_head_keys_and_a_tail() -> None:
    travel = read_travel("masterpiece\nbest quality\n0: a cat\n8: a dog\nnight\nstars")
    assert travel is not None
    assert travel.prompts(16)[0] == "masterpiece, best quality, a cat, night, stars"
    assert travel.prompts(16)[7:9] == (
        "masterpiece, best quality, a cat, night, stars",
        "masterpiece, best quality, a dog, night, stars",
    )


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("0: a cat", "a cat"),
        ("head,\n0: a cat\n4: b", "head, a cat"),
        ("4: late\n", "late"),
        ("2: b\n0: a", "a"),
        ("0:\n3: x\ntail", "tail"),
        ("0: a\n0: again", "again"),
        ("0: a\ntail\n4: not a key any more", "a, tail, 4: not a key any more"),
    ],
)
def test_the_first_frames_prompt(text: str, first: str) -> None:
    travel = read_travel(text)
    assert travel is not None
    assert travel.prompts(8)[0] == first


@pytest.mark.parametrize("text", ["a cat", "a cat\na dog", "12:30 at night", "a cat, 0: zero", ""])
def test_other_prompts_are_left_alone(text: str) -> None:
    assert read_travel(text) is None


def test_a_key_beyond_the_clip_is_told() -> None:
    travel = read_travel("0: a\n16: b")
    assert travel is not None
    with pytest.raises(InvalidRequest, match="frame 16 .* beyond the clip, whose last frame is 15"):
        travel.prompts(16)


def test_frames_lie_between_their_keys() -> None:
    open_ended = positions([0, 8], 16, loops=False)
    assert open_ended[4] == Between(0, 8, 0.5)
    assert {place.share for place in open_ended[8:]} == {0.0}
    assert [place.before for place in open_ended[8:]] == [8] * 8
    looped = positions([0, 8], 16, loops=True)
    assert [place.share for place in looped[8:]] == [number / 8 for number in range(8)]
    assert looped[12] == Between(8, 0, 0.5)
    late = positions([4, 8], 16, loops=False)
    assert late[0] == Between(4, 4, 0.0)
    round_the_end = positions([4, 8], 16, loops=True)
    assert round_the_end[0] == Between(8, 4, 8 / 12)


def test_the_way_between_vectors_is_an_arc() -> None:
    low, high = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0])
    for share, wanted in ((0.25, (0.923880, 0.765367)), (0.5, (0.707107, 1.414214)), (0.75, (0.382683, 1.847759))):
        torch.testing.assert_close(slerp(low, high, share), torch.tensor(wanted), atol=1e-5, rtol=0)
    nearly = torch.tensor([1.0, 0.01])
    torch.testing.assert_close(slerp(low, nearly, 0.5), torch.tensor([1.0, 0.005]))
    assert torch.isfinite(slerp(torch.zeros(2), high, 0.5)).all()


def cond(*entries: tuple[int, torch.Tensor], parts: int = 1) -> tuple[WeightedSchedule, ...]:
    schedule = tuple(TimedCond(end, vectors, vectors[0]) for end, vectors in entries)
    return (WeightedSchedule(1.0, schedule),) * parts


def test_prompt_editing_and_lengths_of_both_keys_are_kept() -> None:
    a, b, c = torch.randn(3, 77, 4)
    long = torch.cat([c, c])
    conds = PromptConds((cond((4, a), (8, b)), cond((2, c), (8, long)), cond((8, a))), ((), (), ()))
    way = (Between(0, 1, 0.5), Between(1, 1, 0.0), Between(2, 2, 0.0))
    schedule = moved(conds, way).positive[0][0].schedule
    assert [entry.end_step for entry in schedule] == [2, 4, 8]
    torch.testing.assert_close(schedule[0].vectors, slerp(a, c, 0.5))
    torch.testing.assert_close(schedule[0].pooled, slerp(a[0], c[0], 0.5))
    assert len(schedule[2].vectors) == 154
    uneven = PromptConds((cond((8, a)), cond((8, b), parts=2)), ((), ()))
    with pytest.raises(InvalidRequest, match="joined by AND"):
        moved(uneven, (Between(0, 1, 0.5), Between(1, 1, 0.0)))
