from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.control.difference import MOST_LINES, Wanted, difference
from services.registry.records import KnownArtifact, KnownSystem, VersionSet

slots = st.dictionaries(st.sampled_from(["see", "see_in", "think", "think/lora"]), st.sampled_from(["a", "b", "c"]))
files = st.lists(st.sampled_from(["system: s", "nodes:", "  see: {}", ""]), max_size=5).map("\n".join)


def known(live: dict[str, str], system_yaml: str = "", profile_yaml: str = "") -> KnownSystem:
    return KnownSystem("s", system_yaml, profile_yaml, {"live": VersionSet(1, live)})


def artifact(version: str, config_hash: str = "h") -> KnownArtifact:
    return KnownArtifact(version, "encoder", "x", config_hash, 0.0)


@given(slots, slots, files, files)
def test_what_is_said_to_change_leads_to_what_is_asked_for(
    before: dict[str, str], after: dict[str, str], now: str, then: str
) -> None:
    found = difference(known(before, now), Wanted("s", then, "", after), {})
    reached = {slot: version for slot, version in {**before, **found.changes}.items() if version}
    assert reached == after
    assert found.empty == (before == after and now.splitlines() == then.splitlines())
    assert difference(known(after, then), Wanted("s", then, "", after), {}).empty, "once is enough"


def test_it_is_told_line_by_line() -> None:
    artifacts = {version: artifact(version) for version in ("a", "b")} | {"c": artifact("c", "another")}
    wanted = Wanted("s", "system: s\nsource: x", "", {"see": "b", "think": "c", "hear": "a"})
    found = difference(known({"see": "a", "think": "a", "play": "a"}, "system: s"), wanted, artifacts)
    assert found.lines() == [
        "system s: changed", "+ hear: a", "- play: a", "~ see: a → b (loaded beside it)",
        "~ think: a → c (a new component beside it)",
        "--- s.yaml now", "+++ s.yaml asked for", "@@ -1 +1,2 @@", " system: s", "+source: x",
    ]  # fmt: skip
    assert difference(known({"see": "a"}), Wanted("s", "", "", {"see": "a"}), {}).lines() == [
        "system s: nothing to change"
    ]


def test_a_system_that_does_not_run_is_new() -> None:
    found = difference(None, Wanted("s", "", "", {"see": "a"}), {})
    assert (found.new, found.empty, found.changes) == (True, False, {"see": "a"})
    assert found.lines()[0] == "system s: new"


def test_long_files_are_cut_short() -> None:
    found = difference(None, Wanted("s", "\n".join(map(str, range(1_000))), "", {"see": "a"}), {})
    assert len(found.file_lines) == MOST_LINES
    assert found.file_lines[-1] == f"… and {1_003 - MOST_LINES + 1} lines more"
