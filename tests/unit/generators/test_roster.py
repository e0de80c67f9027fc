"""Who joins, who waits, who leaves."""

from __future__ import annotations

import random

from services.generators.roster import Roster


def test_first_come_first_served_within_a_priority() -> None:
    roster: Roster[str] = Roster(2)
    for name, priority in (("a", 0), ("b", 0), ("c", 0), ("urgent", 5), ("idle", -5)):
        roster.wait(name, "shape", priority)
    order = []
    while roster:
        joined = roster.join()
        order += joined
        for name in joined:
            roster.leave(name)
    assert order == ["urgent", "a", "b", "c", "idle"]


def test_there_is_room_for_so_many_of_all_shapes_together() -> None:
    roster: Roster[int] = Roster(3)
    for member in range(5):
        roster.wait(member, member % 2, 0)
    assert roster.join() == [0, 1, 2]
    assert (roster.working, roster.waiting) == (3, 2)
    assert sorted(map(sorted, roster.groups())) == [[0, 2], [1]]
    assert roster.join() == []
    roster.leave(1)
    assert roster.join() == [3]
    assert sorted(map(sorted, roster.groups())) == [[0, 2], [3]]


def test_those_who_are_over_are_dropped_wherever_they_are() -> None:
    roster: Roster[int] = Roster(2)
    for member in range(6):
        roster.wait(member, "shape", 0)
    roster.join()
    assert sorted(roster.drop(lambda member: member % 2 == 1)) == [1, 3, 5]
    assert roster.groups() == [[0]]
    assert roster.join() == [2]
    roster.leave(2)
    roster.leave(2)
    assert roster.join() == [4]


def test_nobody_is_lost_or_served_twice() -> None:
    draw = random.Random(1)
    roster: Roster[int] = Roster(4)
    waiting, working, ended, number = set(), set(), set(), 0
    for _ in range(3_000):
        action = draw.random()
        if action < 0.4:
            roster.wait(number, draw.randrange(3), draw.randrange(-2, 3))
            waiting.add(number)
            number += 1
        elif action < 0.8:
            joined = set(roster.join())
            assert joined <= waiting
            waiting, working = waiting - joined, working | joined
        elif working:
            member = draw.choice(sorted(working))
            roster.leave(member)
            working.remove(member)
            ended.add(member)
        else:
            doomed = {member for member in waiting | working if draw.random() < 0.2}
            assert set(roster.drop(doomed.__contains__)) == doomed
            waiting, working, ended = waiting - doomed, working - doomed, ended | doomed
        assert (roster.waiting, roster.working) == (len(waiting), len(working))
        assert roster.working <= 4
    assert waiting | working | ended == set(range(number))
    roster.clear()
    assert not roster
