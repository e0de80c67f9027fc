"""How requests are worded that make one medium from another: trained wordings, and two kept out of training.

What asks for a medium by a description is worded in `sentences`. Slots: `{it}` what the request is about, `{x}` the
new value, `{verb}` and `{way}` a motion (`move left`, `moving left`), `{first}` and `{second}` requests to join.
"""

from __future__ import annotations

from typing import Final

from services.playroom.wordings import Wordings

RECOLOR: Final = Wordings(
    trained=(
        "make {it} {x}",
        "color {it} {x}",
        "paint {it} {x}",
        "turn {it} {x}",
        "change the color to {x}",
        "i want {it} {x}",
        "make the color {x}",
        "please make {it} {x}",
        "can you make {it} {x}?",
        "would you make {it} {x}?",
        "could you paint {it} {x}?",
        "could you color {it} {x}?",
        "could you turn {it} {x}?",
        "can you change the color to {x}?",
    ),
    kept_out=("could you make {it} {x}?", "change the color of {it} to {x}"),
)
RESIZE: Final = Wordings(
    trained=(
        "make {it} {x}",
        "turn {it} {x}",
        "change the size to {x}",
        "i want {it} {x}",
        "make the size {x}",
        "please make {it} {x}",
        "can you make {it} {x}?",
        "would you make {it} {x}?",
        "could you turn {it} {x}?",
        "can you change the size to {x}?",
    ),
    kept_out=("could you make {it} {x}?", "change the size of {it} to {x}"),
)
RESHAPE: Final = Wordings(
    trained=(
        "make {it} {x}",
        "turn {it} into {x}",
        "change the shape to {x}",
        "i want {it} to be {x}",
        "make the shape {x}",
        "please make {it} {x}",
        "can you make {it} {x}?",
        "would you make {it} {x}?",
        "could you turn {it} into {x}?",
        "can you change the shape to {x}?",
    ),
    kept_out=("could you make {it} {x}?", "change the shape of {it} to {x}"),
)
BACKGROUND: Final = Wordings(
    trained=(
        "make the background {x}",
        "color the background {x}",
        "paint the background {x}",
        "turn the background {x}",
        "change the background to {x}",
        "put {it} on a {x} background",
        "i want a {x} background",
        "please make the background {x}",
        "can you make the background {x}?",
        "would you make the background {x}?",
        "could you paint the background {x}?",
        "could you change the background to {x}?",
        "could you put {it} on a {x} background?",
        "can you give a {x} background?",
    ),
    kept_out=("could you make the background {x}?", "give {it} a {x} background"),
)
PUT: Final = Wordings(
    trained=(
        "put {it} at the {x}",
        "place {it} at the {x}",
        "set {it} at the {x}",
        "bring {it} to the {x}",
        "i want {it} at the {x}",
        "put {it} in the {x}",
        "please put {it} at the {x}",
        "can you put {it} at the {x}?",
        "would you put {it} at the {x}?",
        "could you place {it} at the {x}?",
        "could you bring {it} to the {x}?",
        "change the place to the {x}",
    ),
    kept_out=("could you put {it} at the {x}?", "change the place of {it} to the {x}"),
)
MOVE: Final = Wordings(
    trained=(
        "make {it} {verb}",
        "let {it} {verb}",
        "please make {it} {verb}",
        "animate {it} {way}",
        "film {it} {way}",
        "show me a clip of {it} {way}",
        "make a film of {it} {way}",
        "i want to see {it} {verb}",
        "can you make {it} {verb}?",
        "would you make {it} {verb}?",
        "could you let {it} {verb}?",
        "could you animate {it} {way}?",
        "can you film {it} {way}?",
        "i want a film of {it} {way}",
        "i want a video of {it} {way}",
        "give me a clip of {it} {way}",
    ),
    kept_out=("could you make {it} {verb}?", "i want a clip of {it} {way}"),
)
AGAIN: Final = Wordings(
    trained=(
        "play {it} again",
        "let me hear {it} again",
        "please play {it} again",
        "play {it} once more",
        "repeat {it}",
        "again",
        "once more",
        "can you play {it} again?",
        "would you play {it} again?",
        "could you repeat {it}?",
        "can i hear {it} again?",
        "may i hear {it} once more?",
        "could you play {it} once more?",
    ),
    kept_out=("could you play {it} again?", "may i hear {it} again?"),
)
STEP: Final = Wordings(
    trained=(
        "{x}",
        "play {it} {x}",
        "make {it} {x}",
        "let me hear {it} {x}",
        "please play {it} {x}",
        "one step {x}",
        "the same but {x}",
        "can you play {it} {x}?",
        "would you play {it} {x}?",
        "can i hear {it} {x}?",
        "could i hear {it} {x}?",
        "could you make {it} {x}?",
    ),
    kept_out=("could you play {it} {x}?", "may i hear {it} {x}?"),
)
"""One step of pitch, `higher` or `lower`."""
BACKWARDS: Final = Wordings(
    trained=(
        "play {it} backwards",
        "show {it} backwards",
        "run {it} backwards",
        "please play {it} backwards",
        "let me see {it} backwards",
        "film {it} backwards",
        "reverse {it}",
        "show me a clip of {it} backwards",
        "can you play {it} backwards?",
        "would you play {it} backwards?",
        "could you show {it} backwards?",
        "could you run {it} backwards?",
        "i want a film of {it} backwards",
        "can i see {it} backwards?",
    ),
    kept_out=("could you play {it} backwards?", "i want a clip of {it} backwards"),
)
AND: Final = Wordings(
    trained=(
        "{first} and {second}",
        "{first} and then {second}",
        "{first}, then {second}",
        "{first} and also {second}",
        "{first} and after that {second}",
        "{first} and with that {second}",
        "{first}. then {second}",
        "{first}, and then {second}",
        "{first}, and also {second}",
        "{first}, after that {second}",
    ),
    kept_out=("{first}, and with it {second}", "{first}. after that {second}"),
)
"""Several requests in one."""
THREE_FACTS: Final = Wordings(
    trained=(
        "{first} and then tell me three facts about {it}",
        "{first} and tell me three facts about {it}",
        "{first}, then tell me three facts about {it}",
        "{first} and say three things about {it}",
        "{first} and give me three facts about {it}",
        "{first} and then name three facts about {it}",
        "{first}. then tell me three facts about {it}",
        "{first} and say three facts about {it}",
        "{first} and then give me three facts about {it}",
        "{first}, then say three things about {it}",
    ),
    kept_out=("{first}. after that tell me three facts about {it}", "{first} and then say three facts about {it}"),
)
DO_AS_SAID: Final = Wordings(
    trained=(
        "do what is said",
        "do what was said",
        "do what you hear",
        "do as they say",
        "please do what is said",
        "listen and do it",
        "can you do what is said?",
        "could you do as they say?",
        "would you do what was said?",
        "please do as they say",
        "could you do what you hear?",
        "could you listen and do it?",
        "i want you to do what is said",
        "can you do as they say?",
        "do as is said",
    ),
    kept_out=("could you do what is said?", "do as you are told"),
)
"""Goes with speech; it may stand alone as well."""
