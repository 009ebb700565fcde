"""Which frames of a decoder's run can be relied on, told as short stories of frames and errors."""

from __future__ import annotations

from fractions import Fraction

import pytest

from amber_ray.errors import MediaError
from amber_ray.media.damage import LEAD, Run


def run(start: int = 10, end: int | None = 20, *, beginning: bool = False) -> Run:
    return Run("film.mp4", Fraction(start), None if end is None else Fraction(end), beginning=beginning)


def frame(of: Run, at: float, key: bool = False) -> bool:
    return of.frame(Fraction(at), Fraction(at) + Fraction(1, 24), key)


def test_after_a_seek_frames_count_from_the_first_key_frame() -> None:
    story = run()
    assert not frame(story, 8)
    assert frame(story, 9, key=True)
    assert frame(story, 10)
    assert story.tail == 10 + Fraction(1, 24)


def test_at_the_beginning_the_first_frame_need_not_be_a_key_frame() -> None:
    story = run(0, beginning=True)
    assert frame(story, 0)


def test_errors_before_the_key_frame_of_a_seek_are_expected() -> None:
    story = run()
    story.hit(Fraction(8), "broken")
    assert frame(story, 9, key=True)
    assert frame(story, 11)


def test_damage_inside_the_span_is_an_error_that_says_when_and_why() -> None:
    story = run()
    frame(story, 9, key=True)
    with pytest.raises(MediaError, match=r"'film\.mp4' is damaged at about 12\.50 s: bad data"):
        story.hit(Fraction(25, 2), "bad data")


def test_damage_behind_the_span_does_not_matter() -> None:
    story = run()
    frame(story, 9, key=True)
    story.hit(Fraction(20), "bad data")
    assert frame(story, 19)


def test_damage_before_the_span_matters_until_the_next_key_frame() -> None:
    story = run()
    frame(story, 8, key=True)
    story.hit(Fraction(17, 2), "bad data")
    assert not frame(story, 9)
    with pytest.raises(MediaError, match=r"8\.50 s"):
        frame(story, 10)


def test_damage_before_the_span_is_healed_by_a_key_frame_before_it() -> None:
    story = run()
    frame(story, 7, key=True)
    story.hit(Fraction(8), "bad data")
    assert frame(story, 9, key=True)
    assert frame(story, 10)


def test_a_key_frame_inside_the_span_does_not_hide_what_was_lost_before_it() -> None:
    story = run()
    frame(story, 8, key=True)
    story.hit(Fraction(9), "bad data")
    with pytest.raises(MediaError, match=r"9\.00 s"):
        frame(story, 12, key=True)


def test_damage_at_an_unknown_time_counts_where_the_film_was() -> None:
    story = run()
    frame(story, 11, key=True)
    with pytest.raises(MediaError, match=r"11\.04 s"):
        story.hit(None, None)


def test_an_undecodable_beginning_is_forgiven_up_to_a_bound() -> None:
    story = run(0, None, beginning=True)
    story.hit(Fraction(0), "bad data")
    assert frame(story, float(LEAD))
    late = run(0, None, beginning=True)
    late.hit(Fraction(0), "bad data")
    with pytest.raises(MediaError, match=r"0\.00 s"):
        frame(late, float(LEAD) + 1)
