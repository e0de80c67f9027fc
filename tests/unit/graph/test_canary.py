from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph.canary import Canary, parse_share
from graph.errors import InvalidRequest

names = st.text(max_size=20)
shares = st.floats(0.0, 1.0)


@given(names, names, names.filter(bool), st.lists(names), shares)
def test_a_session_is_answered_alike_whoever_is_asked(
    rollout: str, owner: str, session: str, requests: list[str], share: float
) -> None:
    answers = {Canary(rollout, share).takes(owner, session, request) for request in ["", *requests]}
    assert len(answers) == 1


@given(names, names, names, names, shares, shares)
def test_a_raised_share_gives_nobody_back(
    rollout: str, owner: str, session: str, request: str, one: float, other: float
) -> None:
    low, high = sorted((one, other))
    assert Canary(rollout, high).takes(owner, session, request) >= Canary(rollout, low).takes(owner, session, request)


@given(names, names, names, names)
def test_none_and_all(rollout: str, owner: str, session: str, request: str) -> None:
    assert not Canary(rollout, 0.0).takes(owner, session, request)
    assert Canary(rollout, 1.0).takes(owner, session, request)


@pytest.mark.parametrize("share", [0.01, 0.05, 0.5])
def test_the_share_is_kept(share: float) -> None:
    count = 20_000
    canary = Canary("rollout", share)
    by_session = sum(canary.takes("me", f"session-{number}", "same") for number in range(count))
    by_request = sum(canary.takes("me", "", f"request-{number}") for number in range(count))
    print(f"figure: share {share:.0%}: {by_session / count:.2%} of sessions, {by_request / count:.2%} of requests")
    spread = 4 * (share * (1 - share) / count) ** 0.5
    assert by_session / count == pytest.approx(share, abs=spread)
    assert by_request / count == pytest.approx(share, abs=spread)


def test_others_are_the_first_of_the_next_rollout() -> None:
    first, second = Canary("a", 0.5), Canary("b", 0.5)
    both = sum(first.takes("", str(n), "") and second.takes("", str(n), "") for n in range(4_000))
    assert both / 4_000 == pytest.approx(0.25, abs=0.04)


def test_owners_are_kept_apart() -> None:
    canary = Canary("r", 0.5)
    answers = {(canary.takes("a", f"bc{n}", ""), canary.takes("ab", f"c{n}", "")) for n in range(200)}
    assert len(answers) == 4


@pytest.mark.parametrize(("text", "share"), [("5%", 0.05), ("0.05", 0.05), ("100%", 1.0), ("1", 1.0), ("0.5%", 0.005)])
def test_shares_as_people_write_them(text: str, share: float) -> None:
    assert parse_share(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["", "%", "0", "0%", "101%", "1.5", "-5%", "nan", "inf", "five"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="--canary"):
        parse_share(text)


def test_shares_beyond_one_are_refused() -> None:
    with pytest.raises(InvalidRequest):
        Canary("r", 1.1)
