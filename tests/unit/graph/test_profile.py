"""Profiles say where components run; typos never become defaults."""

from __future__ import annotations

from pathlib import Path

import pytest

from graph.errors import NotFound, SpecError
from graph.problems import Report
from graph.profile import Profile, Replicas, check_profile, load_profile, read_profile
from graph.yaml_lines import parse_yaml
from tests.unit.graph.worlds import FULL, read

TEXT = """profile: test
defaults: {dtype: bfloat16, threads: 2}
components:
  encoder: {cpus: 0.5, replicas: 2}
  see: {cpus: 0.25}
  full.see: {device: "cuda:1", gpus: 0.5}
  llava-1.5.think: {address: "10.0.0.1:6000"}
weights: {full: /a, think/lora: org/b, llava-1.5.think: /c}
port_range: [100, 200]
gateway: {port: 0, default_system: full}
"""


def profile_of(text: str) -> tuple[Profile, list[str]]:
    report = Report("p.yaml")
    located = parse_yaml(text, report)
    assert located is not None
    profile = read_profile(located, report)
    return profile, [str(problem) for problem in report.in_order()]


def test_the_more_precise_entry_wins_key_by_key() -> None:
    profile, problems = profile_of(TEXT)
    assert problems == []
    see = profile.settings_for("full", "see", "encoder")
    assert (see.dtype, see.threads, see.cpus, see.device, see.gpus) == ("bfloat16", 2, 0.25, "cuda:1", 0.5)
    assert see.replicas == Replicas(2, 2)
    hear = profile.settings_for("full", "hear", "encoder")
    assert (hear.cpus, hear.device) == (0.5, "cpu")
    assert profile.settings_for("llava-1.5", "think", "backbone").address == "10.0.0.1:6000"
    assert profile.settings_for("full", "think", "backbone").address == ""
    assert profile.port_range == (100, 200)


def test_weights_are_looked_up_from_precise_to_general() -> None:
    profile, _ = profile_of(TEXT)
    assert profile.weights_for("llava-1.5", "think") == "/c"
    assert profile.weights_for("full", "think") == "/a"
    assert profile.weights_for("full", "think/lora") == "org/b"
    assert profile.weights_for("other", "see") == ""


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("profile: test", "profil: test", 1, "unknown key 'profil' (did you mean 'profile'?)"),
        ("dtype: bfloat16", "dtype: bfloat", 2, "unknown dtype 'bfloat' (did you mean 'bfloat16'?)"),
        ("threads: 2", "thread: 2", 2, "unknown key 'thread' (did you mean 'threads'?)"),
        ("replicas: 2", "replicas: {min: 3, max: 1}", 4, "max 1 is less than min 3"),
        ("replicas: 2", "replicas: 0", 4, "a whole number from 1 to 10000"),
        ("cpus: 0.25", "cpus: -1", 5, "a number from 0 to 4096 expected, found -1"),
        ('"cuda:1"', "gpu", 6, "cpu, cuda or cuda:N expected, found 'gpu'"),
        ('"10.0.0.1:6000"', "somewhere", 7, "host:port expected"),
        ("[100, 200]", "[200, 100]", 9, "first ≤ last"),
        ("[100, 200]", "100", 9, "[first, last] expected"),
        ("port: 0", "prot: 0", 10, "unknown key 'prot' (did you mean 'port'?)"),
        ("see: {cpus: 0.25}", "see: fast", 5, "a mapping expected, found 'fast'"),
    ],
)
def test_mistakes_are_told(old: str, new: str, line: int, words: str) -> None:
    assert old in TEXT
    _, problems = profile_of(TEXT.replace(old, new, 1))
    assert any(words in problem and problem.startswith(f"p.yaml:{line}:") for problem in problems), problems


def test_entries_must_name_something() -> None:
    profile, _ = profile_of(TEXT.replace("  see:", "  seee:").replace("full.see", "full.sea").replace("/lora", "/lara"))
    spec, _ = read(FULL)
    problems = [str(problem) for problem in check_profile(profile, [spec])]
    assert problems == [
        "p.yaml:5: components: nothing is called 'seee' (did you mean 'see'?)",
        "p.yaml:6: components: nothing is called 'full.sea' (did you mean 'full.see'?)",
        "p.yaml:8: weights: nothing is called 'think/lara' (did you mean 'think/lora'?)",
    ]
    foreign, _ = profile_of("profile: p\ncomponents: {zzz: {cpus: 1}}\ngateway: {inline_media_bytes: 262144}\n")
    (problem,) = check_profile(foreign, [spec])
    assert problem.hint == "if it is of a system of yours, check its file too"


def test_bundled_profiles_load() -> None:
    local, elastic = load_profile("local"), load_profile("elastic")
    assert local.settings_for("next-gpt", "see", "encoder").replicas.fixed
    assert elastic.settings_for("next-gpt", "see", "encoder").replicas == Replicas(0, 3)
    assert elastic.settings_for("next-gpt", "think", "backbone").replicas.min == 1
    assert local.gateway.host == "127.0.0.1"


def test_profiles_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="did you mean 'local'"):
        load_profile("locall")
    empty = tmp_path / "empty.yaml"
    empty.write_text("")
    with pytest.raises(SpecError, match="empty"):
        load_profile(str(empty))
