"""How questions are worded: for each kind wordings to train on, and two kept out of training.

Slots: `{the}` an object that is singled out (`the red circle`), `{a}` an object that may be there (`a red
circle`), `{many}` what is counted (`red circles`), `{pic}` a word for the picture, `{attribute}` of a comparison.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

PICTURE_WORDS: Final = ("picture", "image", "photo", "scene")
NEIGHBOR_SIDES: Final = ("left", "right", "above", "below")


@dataclass(frozen=True)
class Wordings:
    """Wordings of one meaning."""

    trained: tuple[str, ...]
    kept_out: tuple[str, str]


CAPTION: Final = Wordings(
    trained=(
        "what is this?",
        "what is in this {pic}?",
        "what do you see?",
        "what does this {pic} show?",
        "describe this {pic}",
        "describe the {pic}",
        "describe what you see",
        "describe this",
        "write a caption for this {pic}",
        "caption this {pic}",
        "tell me what is in the {pic}",
        "tell me what you see",
        "what is shown here?",
        "what can you see in the {pic}?",
        "what is on the {pic}?",
        "give a caption",
    ),
    kept_out=("give me a description of the {pic}", "say what this {pic} shows"),
)

QUESTIONS: Final[dict[str, Wordings]] = {
    "color": Wordings(
        trained=(
            "what color is {the}?",
            "what is the color of {the}?",
            "which color is {the}?",
            "which color does {the} have?",
            "what color does {the} have?",
            "tell me the color of {the}",
            "name the color of {the}",
            "{the}: what color?",
            "in this {pic}, what color is {the}?",
            "say which color {the} has",
        ),
        kept_out=("{the} is of what color?", "can you tell me what color {the} is?"),
    ),
    "shape": Wordings(
        trained=(
            "what shape is {the}?",
            "what is the shape of {the}?",
            "which shape is {the}?",
            "which shape does {the} have?",
            "what shape does {the} have?",
            "tell me the shape of {the}",
            "name the shape of {the}",
            "{the}: what shape?",
            "in this {pic}, what shape is {the}?",
            "say which shape {the} has",
        ),
        kept_out=("{the} is of what shape?", "can you tell me what shape {the} is?"),
    ),
    "size": Wordings(
        trained=(
            "what size is {the}?",
            "what is the size of {the}?",
            "which size is {the}?",
            "is {the} small or large?",
            "is {the} large or small?",
            "how large is {the}?",
            "how big is {the}?",
            "tell me the size of {the}",
            "which size does {the} have?",
            "in this {pic}, what size is {the}?",
            "name the size of {the}",
        ),
        kept_out=("{the} is of what size?", "can you tell me what size {the} is?"),
    ),
    "place": Wordings(
        trained=(
            "where is {the}?",
            "where in the {pic} is {the}?",
            "at which place is {the}?",
            "what is the place of {the}?",
            "tell me where {the} is",
            "in which place is {the}?",
            "what is the position of {the}?",
            "where can i find {the}?",
            "where do you see {the}?",
            "name the place of {the}",
        ),
        kept_out=("{the} is where?", "can you tell me where {the} is?"),
    ),
    "count": Wordings(
        trained=(
            "how many {many} are there?",
            "how many {many} do you see?",
            "how many {many} are in the {pic}?",
            "how many {many} does the {pic} show?",
            "what is the number of {many}?",
            "count the {many}",
            "tell me how many {many} there are",
            "how many {many}?",
            "how many {many} can you see?",
            "in this {pic}, how many {many} are there?",
        ),
        kept_out=("give me the number of {many}", "can you count the {many}?"),
    ),
    "exists": Wordings(
        trained=(
            "is there {a}?",
            "is there {a} in the {pic}?",
            "do you see {a}?",
            "does the {pic} show {a}?",
            "can you see {a}?",
            "does this {pic} have {a}?",
            "is {a} in the {pic}?",
            "is {a} there?",
            "tell me if there is {a}",
            "does this {pic} contain {a}?",
        ),
        kept_out=("can {a} be seen?", "would you say there is {a}?"),
    ),
    "left": Wordings(
        trained=(
            "what is left of {the}?",
            "what is to the left of {the}?",
            "which object is left of {the}?",
            "what do you see left of {the}?",
            "tell me what is left of {the}",
            "what can you see to the left of {the}?",
            "what is on the left of {the}?",
            "name the object left of {the}",
        ),
        kept_out=("left of {the}, what is there?", "what stands left of {the}?"),
    ),
    "right": Wordings(
        trained=(
            "what is right of {the}?",
            "what is to the right of {the}?",
            "which object is right of {the}?",
            "what do you see right of {the}?",
            "tell me what is right of {the}",
            "what can you see to the right of {the}?",
            "what is on the right of {the}?",
            "name the object right of {the}",
        ),
        kept_out=("right of {the}, what is there?", "what stands right of {the}?"),
    ),
    "above": Wordings(
        trained=(
            "what is above {the}?",
            "which object is above {the}?",
            "what do you see above {the}?",
            "tell me what is above {the}",
            "what can you see above {the}?",
            "what is over {the}?",
            "name the object above {the}",
            "what is right above {the}?",
        ),
        kept_out=("above {the}, what is there?", "what stands above {the}?"),
    ),
    "below": Wordings(
        trained=(
            "what is below {the}?",
            "which object is below {the}?",
            "what do you see below {the}?",
            "tell me what is below {the}",
            "what can you see below {the}?",
            "what is under {the}?",
            "name the object below {the}",
            "what is right below {the}?",
        ),
        kept_out=("below {the}, what is there?", "what stands below {the}?"),
    ),
    "compare": Wordings(
        trained=(
            "do the two objects have the same {attribute}?",
            "do both objects have the same {attribute}?",
            "are the two objects of the same {attribute}?",
            "do the objects have the same {attribute}?",
            "do the two have the same {attribute}?",
            "is the {attribute} of the two objects the same?",
            "have the two objects the same {attribute}?",
            "are both objects the same {attribute}?",
        ),
        kept_out=("is it the same {attribute} for both objects?", "do the two objects share their {attribute}?"),
    ),
    "background": Wordings(
        trained=(
            "what color is the background?",
            "what is the color of the background?",
            "which color does the background have?",
            "what is the background?",
            "which color is the background?",
            "tell me the color of the background",
            "what background does the {pic} have?",
            "name the background",
            "which background is it?",
            "tell me the background",
            "what is the background of the {pic}?",
        ),
        kept_out=("on what background is it?", "can you tell me what color the background is?"),
    ),
}

CHANGED: Final = Wordings(
    trained=(
        "what changed?",
        "what has changed?",
        "what is different?",
        "what is the difference?",
        "which attribute changed?",
        "tell me what changed",
        "what changed between the two?",
        "what did change?",
    ),
    kept_out=("what is not the same?", "say what has changed"),
)
