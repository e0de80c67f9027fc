from __future__ import annotations

from services.gateway import sessions
from services.gateway.sessions import Sessions

OLD, NEW = {"think": "v1"}, {"think": "v2"}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def always(_: object) -> bool:
    return True


def never(_: object) -> bool:
    return False


def test_a_request_of_its_own_runs_the_live_set() -> None:
    assert Sessions().pin("me", "", "s", NEW, always) == (NEW, False)


def test_a_session_keeps_its_versions_while_they_are_resident() -> None:
    held = Sessions()
    assert held.pin("me", "a", "s", OLD, always) == (OLD, False)
    assert held.pin("me", "a", "s", NEW, always) == (OLD, False)
    assert held.pin("me", "b", "s", NEW, always) == (NEW, False)


def test_a_session_moves_on_when_its_versions_are_gone_and_says_so() -> None:
    held = Sessions()
    held.pin("me", "a", "s", OLD, always)
    assert held.pin("me", "a", "s", NEW, never) == (NEW, True)
    assert held.pin("me", "a", "s", NEW, never) == (NEW, False)


def test_sessions_belong_to_their_owner_and_system() -> None:
    held = Sessions()
    held.pin("me", "a", "s", OLD, always)
    assert held.pin("you", "a", "s", NEW, always) == (NEW, False)
    assert held.pin("me", "a", "other", NEW, always) == (NEW, False)


def test_what_is_returned_can_be_changed_without_harm() -> None:
    held = Sessions()
    versions, _ = held.pin("me", "a", "s", OLD, always)
    versions["think"] = "mine"
    assert held.pin("me", "a", "s", OLD, always) == (OLD, False)


def test_sessions_are_forgotten_when_they_are_old() -> None:
    clock = Clock()
    held = Sessions(clock)
    held.pin("me", "a", "s", OLD, always)
    clock.now = sessions.KEEP_S / 2
    held.pin("me", "b", "s", OLD, always)
    clock.now = sessions.KEEP_S + 1
    held.pin("me", "c", "s", NEW, always)
    assert len(held) == 2
    assert held.pin("me", "a", "s", NEW, always) == (NEW, False)
    assert held.pin("me", "b", "s", NEW, always) == (OLD, False)


def test_the_number_of_sessions_is_bounded() -> None:
    held = Sessions()
    for number in range(sessions.MAX_SESSIONS + 10):
        held.pin("me", str(number), "s", OLD, always)
    assert len(held) == sessions.MAX_SESSIONS
