"""Names and passwords, and the pause after wrong ones."""

from __future__ import annotations

import pytest

from webui.services.logins import (
    FORGOTTEN,
    LONGEST,
    OF_A_NAME,
    OF_AN_ADDRESS,
    REMEMBERED,
    Backoff,
    Logins,
    TooManyTries,
)


class Clock:
    """A clock that stands until it is set."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_only_known_pairs_enter_in_either_encoding(clock: Clock) -> None:
    logins = Logins([("anna", "pa:ss"), ("bob", "ünï"), ("yuki", "雪")], clock)
    assert logins.user(b"anna:pa:ss", "a") == "anna"
    assert logins.user("bob:ünï".encode(), "a") == "bob"
    assert logins.user("bob:ünï".encode("latin-1"), "a") == "bob"
    assert logins.user("yuki:雪".encode(), "a") == "yuki"
    for wrong in (b"anna:", b"anna", b"", b":", b"anna:pa:ss ", b"ANNA:pa:ss", "anna:ünï".encode(), b"\xff:\0"):
        assert logins.user(wrong, "a") is None


def test_the_pause_grows_ends_and_is_the_same_for_right_passwords(clock: Clock) -> None:
    logins = Logins([("anna", "right")], clock)
    for _ in range(OF_AN_ADDRESS):
        assert logins.user(b"anna:wrong", "a") is None
    pauses = []
    for _ in range(8):
        with pytest.raises(TooManyTries) as refused:
            logins.user(b"anna:right", "a")
        pauses.append(refused.value.seconds)
        clock.now += refused.value.seconds
        assert logins.user(b"x:wrong", "a") is None
    assert pauses == [1, 2, 4, 8, 16, 32, LONGEST, LONGEST]
    assert logins.user(b"anna:right", "b") == "anna"  # from elsewhere
    clock.now += LONGEST
    assert logins.user(b"anna:right", "a") == "anna"
    assert logins.user(b"anna:wrong", "a") is None
    assert logins.user(b"anna:right", "a") == "anna"


def test_a_name_is_guarded_against_guesses_from_many_addresses(clock: Clock) -> None:
    logins = Logins([("anna", "right"), ("bob", "other")], clock)
    for number in range(OF_A_NAME):
        assert logins.user(b"anna:wrong", f"address {number}") is None
    with pytest.raises(TooManyTries):
        logins.user(b"anna:right", "a new address")
    assert logins.user(b"bob:other", "a new address") == "bob"


def test_ones_own_login_gives_no_further_guesses_at_another_name(clock: Clock) -> None:
    logins = Logins([("anna", "right"), ("bob", "other")], clock)
    for _ in range(OF_A_NAME):
        assert logins.user(b"bob:other", "a") == "bob"
        assert logins.user(b"anna:wrong", "a") is None
    assert logins.user(b"bob:other", "a") == "bob"
    with pytest.raises(TooManyTries):
        logins.user(b"anna:wrong", "a")


def test_failures_are_forgotten_and_never_fill_the_memory(clock: Clock) -> None:
    backoff = Backoff(1, clock)
    backoff.failed("a")
    clock.now += FORGOTTEN
    backoff.failed("a")
    assert backoff.wait("a") == 1
    for number in range(REMEMBERED):
        backoff.failed(str(number))
    assert backoff.wait("a") == 0


def test_without_credentials_nobody_is_asked() -> None:
    assert not Logins([]).required
