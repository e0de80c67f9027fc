"""Everything that is wrong with a system is told at once, each with its line and a hint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graph.catalog import load_catalog
from graph.compile import topological_order
from graph.errors import NotFound, SpecError
from graph.spec import KINDS, MAX_NODES, find_system, system_files
from graph.validate import check_files, load_system
from tests.unit.graph.worlds import CATALOG, FULL, read

BASE = """system: s
nodes:
  see:    {kind: encoder, modality: image, type: clip_vision}
  see_in: {kind: input_projector, type: linear, from: see}
  think:  {kind: backbone, type: decoder, from: see_in}
"""


def told(text: str) -> list[str]:
    return [str(problem) for problem in read(text)[1]]


def test_the_full_system_and_the_bundled_ones_are_right() -> None:
    assert told(FULL) == []
    assert told(BASE) == []
    files = system_files()
    assert {"next-gpt", "llava-1.5"} <= set(files)
    assert check_files(files.values()) == []
    for name, path in files.items():
        assert load_system(path).name == name


def test_typo_cycle_and_dangling_input_are_told_in_one_go() -> None:
    text = """system: broken
nodes:
  see:     {kind: encoder, modality: image, type: clip_visoin}
  see_in:  {kind: input_projector, type: linear, from: [see, mix]}
  mix:     {kind: input_projector, type: mlp, from: see_in}
  think:   {kind: backbone, type: decoder, from: [mix, hear_in], lorra: true}
"""
    assert told(text) == [
        "test.yaml:3: node 'see': unknown type 'clip_visoin' of encoder (did you mean 'clip_vision'?)",
        "test.yaml:4: cycle: see_in → mix → see_in (take 'mix' out of 'from' of 'see_in', or cut it elsewhere)",
        "test.yaml:6: node 'think': from: there is no node 'hear_in' (did you mean 'see_in'?)",
        "test.yaml:6: node 'think': unknown key 'lorra' (did you mean 'lora'?)",
    ]


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("system: s", "sytem: s", 1, "unknown key 'sytem' (did you mean 'system'?)"),
        ("system: s", "system: My System", 1, "a name of lower-case letters"),
        ("kind: encoder", "kind: encodr", 3, "unknown kind 'encodr' (did you mean 'encoder'?)"),
        ("kind: encoder, ", "", 3, "key 'kind' is missing"),
        ("modality: image, ", "", 3, "key 'modality' is missing"),
        ("modality: image", "modality: audio", 3, "type 'clip_vision' reads image and video, not audio"),
        ("modality: image", "modality: text", 3, "text is read and written by the backbone"),
        ("type: linear", "type: clip_vision", 4, "unknown type 'clip_vision' of input_projector (it is a type of enc"),
        ("from: see}", "from: se}", 4, "there is no node 'se' (did you mean 'see'?)"),
        ("from: see}", "from: [see, see]}", 4, "'see' comes twice"),
        ("from: see}", "from: {see: 1}}", 4, "a name or a list of names expected, found a mapping"),
        ("from: see_in", "from: see", 5, "backbone reads from an input_projector, 'see' is encoder (put an input_proj"),
        (", from: see}", "}", 4, "reads from nothing"),
        ("type: clip_vision}", "type: clip_vision, from: think}", 3, "encoders read what the request brings"),
        ("from: see_in}", "from: see_in, signals: {image: 4}}", 5, "no output projector reads 'image'"),
        ("from: see_in}", "from: see_in, frames: 4}", 5, "frames is for encoder nodes, this one is backbone"),
        (
            "type: clip_vision}",
            "type: clip_vision, frames: 4}",
            3,
            "frames are taken of a video, this node reads image",
        ),
        ("from: see_in}", "from: see_in, lora: yess}", 5, "true or false expected, found 'yess'"),
        ("from: see_in}", "from: see_in, signals: {image: 0}}", 5, "a whole number from 1 to 1024"),
        ("  think: ", "  Think: ", 5, "a name of lower-case letters"),
        ("  think:  {kind: backbone, type: decoder, from: see_in}\n", "", 2, "there is no backbone"),
        ("kind: backbone, type: decoder", "kind: agent, type: decoder", 5, "kind 'agent' cannot be served yet"),
        ("nodes:", "inputs: [text, audio]\nnodes:", 2, "'audio' is promised"),
        ("nodes:", "outputs: [text, image]\nnodes:", 2, "'image' is promised"),
        ("nodes:", "limits: {deadline_s: .nan}\nnodes:", 2, "a number from 0.001 to 86400"),
        ("nodes:", "default_sampling: {temperature: 3}\nnodes:", 2, "temperature: a number from 0 to 2"),
        ("from: see}", "from: see, options: {widht: 4}}", 4, "has no option 'widht'"),
        ("from: see}", "from: see, options: {input_width: big}}", 4, "a whole number expected, found 'big'"),
        ("from: see}", "from: see, weights: watch}", 4, "weights: there is no node 'watch'"),
        ("from: see}", "from: see, weights: think}", 4, "only nodes of the same type share weights"),
    ],
)
def test_one_mistake_is_told_with_its_line(old: str, new: str, line: int, words: str) -> None:
    assert old in BASE
    problems = told(BASE.replace(old, new, 1))
    matching = [problem for problem in problems if words in problem]
    assert matching, problems
    assert matching[0].startswith(f"test.yaml:{line}:")


@pytest.mark.parametrize("old", ["kind: encoder", "type: linear", "from: see}"])
def test_a_single_typo_is_a_single_problem(old: str) -> None:
    assert len(told(BASE.replace(old, old.rstrip("}")[:-1] + ("}" if old.endswith("}") else ""), 1))) == 1


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("signal: image}", "signal: imge}", "its backbone emits no 'imge' signals (did you mean 'image'?)"),
        ("modality: image, type: diffusion", "modality: video, type: diffusion", "video, but 'draw_out' reads ima"),
        ("modality: audio, type: tones", "modality: image, type: diffusion", "image is already made by 'draw'"),
        ("  play:     {kind: generator, modality: audio, type: tones, from: play_out}\n", "", "nothing reads from it"),
        ("type: linear, from: see}", "type: audio_only, from: see}", "reads audio, 'see' gives image"),
        ("from: hear}", "from: hear, options: {output_width: 9}}", None),
        ("type: tones,", "type: tones, options: {rate_hz: 0}, ", "at least 1 expected"),
        ("type: tones,", "type: tones, options: {gain: loud}, ", "a number expected"),
        ("type: tones,", "type: tones, options: {loop: 1}, ", "true or false expected"),
        ("type: tones,", "type: tones, options: {wave: saw}, ", "one of sine, square expected"),
        ("type: tones,", "type: tones, options: {wave: sine, rate_hz: 8, gain: 1, loop: true}, ", None),
        ("from: draw_out}", "from: think}", "put an output_projector between them"),
    ],
)
def test_the_output_half_is_checked(old: str, new: str, words: str | None) -> None:
    assert old in FULL
    problems = told(FULL.replace(old, new, 1))
    if words is None:
        assert problems == []
    else:
        assert any(words in problem for problem in problems), problems


def test_stated_widths_are_compared() -> None:
    text = BASE.replace("clip_vision}", "clip_vision, options: {output_width: 192}}").replace(
        "from: see}", "from: see, options: {input_width: 256}}"
    )
    assert told(text) == [
        "test.yaml:4: node 'see_in': input_width 256, but 'see' states output_width 192 (make them the same)"
    ]


def test_two_cycles_and_a_node_that_reads_itself() -> None:
    text = BASE + "".join(
        f"  {name}: {{kind: input_projector, type: mlp, from: {source}}}\n"
        for name, source in [("a", "b"), ("b", "a"), ("c", "d"), ("d", "c"), ("e", "e")]
    )
    cycles = [problem.split("(")[0] for problem in told(text) if "cycle" in problem]
    assert cycles == ["test.yaml:6: cycle: a → b → a ", "test.yaml:8: cycle: c → d → c ", "test.yaml:10: cycle: e → e "]


def test_files_of_every_sort_are_checked_together(tmp_path: Path) -> None:
    good, twin, profile, junk = (tmp_path / name for name in ("good.yaml", "twin.yaml", "p.yaml", "junk.yaml"))
    good.write_text(BASE)
    twin.write_text(BASE)
    profile.write_text("profile: p\ncomponents:\n  see: {cpu: 1}\n")
    junk.write_text("- a\n- list\n")
    problems = [str(problem) for problem in check_files([good, twin, profile, junk, tmp_path / "none.yaml"])]
    assert f"{twin}:1: system 's' is also in {good} (rename one)" in problems
    assert f"{profile}:3: profile file: components: see: unknown key 'cpu' (did you mean 'cpus'?)" in problems
    assert any(problem.startswith(f"{junk}:1: system file: a mapping expected, found a list") for problem in problems)
    assert any("No such file" in problem for problem in problems)


def test_loading_raises_with_every_problem(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(BASE.replace("linear", "linaer").replace("decoder", "decodr"))
    with pytest.raises(SpecError) as caught:
        load_system(path)
    assert len(caught.value.problems) == 2
    path.write_text("")
    with pytest.raises(SpecError, match="empty"):
        load_system(path)


def test_a_system_is_found_by_name_or_path() -> None:
    assert find_system("next-gpt").stem == "next-gpt"
    assert find_system("some/where.yaml") == Path("some/where.yaml")
    with pytest.raises(NotFound, match="did you mean 'next-gpt'"):
        find_system("nextgpt")


def test_long_chains_do_not_exhaust_the_stack() -> None:
    count = 1500
    lines = [f"  n{i}: {{kind: input_projector, type: mlp, from: n{(i + 1) % count}}}\n" for i in range(count)]
    problems = told("system: s\nnodes:\n" + "".join(lines))
    assert any(f"at most {MAX_NODES}" in problem for problem in problems)
    assert sum("cycle" in problem for problem in problems) == 1


def test_the_built_in_catalog_loads() -> None:
    assert ("backbone", "decoder") in load_catalog()


NAMES = st.sampled_from(["a", "b", "c", "d", "e", "f"])
NODES = st.fixed_dictionaries(
    {"kind": st.sampled_from([*KINDS, "encodr"]), "type": st.sampled_from([type for _, type in CATALOG])},
    optional={
        "from": st.lists(NAMES, max_size=3),
        "modality": st.sampled_from(["image", "audio", "text"]),
        "signal": st.sampled_from(["image", "audio"]),
        "signals": st.dictionaries(st.sampled_from(["image", "audio"]), st.integers(0, 9), max_size=2),
        "weights": NAMES,
        "frames": st.one_of(st.integers(-1, 9), st.sampled_from(["", "x", "8"])),
    },
)


@settings(deadline=None, derandomize=True, database=None)
@given(st.dictionaries(NAMES, NODES, max_size=6))
def test_any_graph_is_checked_without_a_traceback(nodes: dict[str, dict[str, object]]) -> None:
    spec, problems = read(json.dumps({"system": "s", "nodes": nodes}, ensure_ascii=True))
    order = topological_order(spec)
    cyclic = any("cycle" in problem.message for problem in problems)
    assert cyclic == (len(order) < len(spec.nodes))
    place = {name: index for index, name in enumerate(order)}
    for name in order:
        assert all(place[source] < place[name] for source in spec.nodes[name].inputs if source in spec.nodes)
