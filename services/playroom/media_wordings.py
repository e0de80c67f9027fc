"""How questions about sounds and films are worded, and those about several media: trained wordings, two kept out.

Slots: `{sound}` a word for the sound, `{film}` one for the film, `{many}` events in the plural (`beeps`).
"""

from __future__ import annotations

from typing import Final

from services.playroom.wordings import Wordings

SOUND_WORDS: Final = ("sound", "audio", "recording", "clip")
FILM_WORDS: Final = ("film", "video", "clip", "movie")

SOUND_CAPTION: Final = Wordings(
    trained=(
        "what is this?",
        "what do you hear?",
        "what can you hear?",
        "what is in this {sound}?",
        "what is to be heard here?",
        "describe this {sound}",
        "describe the {sound}",
        "describe what you hear",
        "write a caption for this {sound}",
        "caption this {sound}",
        "tell me what you hear",
        "which sounds are these?",
        "write a description of the {sound}",
        "write a description of what you hear",
        "give me a caption for the {sound}",
        "give me the words for this {sound}",
        "give me in words what you hear",
        "say what you hear",
        "say what is in the {sound}",
        "say in words what this {sound} is",
        "tell me what can be heard here",
        "what can be heard in the {sound}?",
    ),
    kept_out=("give me a description of the {sound}", "say what can be heard"),
)

SOUND_QUESTIONS: Final[dict[str, Wordings]] = {
    "events": Wordings(
        trained=(
            "how many {many} are there?",
            "how many {many} do you hear?",
            "how many {many} can you hear?",
            "how many {many} are in the {sound}?",
            "how many {many}?",
            "what is the number of {many}?",
            "count the {many}",
            "tell me how many {many} there are",
            "how often does it sound?",
        ),
        kept_out=("give me the number of {many}", "can you count the {many}?"),
    ),
    "pitch": Wordings(
        trained=(
            "which pitch does the {sound} have?",
            "what pitch does the {sound} have?",
            "what is the pitch of the {sound}?",
            "which pitch is it?",
            "which pitch do you hear?",
            "is it low, middle or high?",
            "how high is the {sound}?",
            "tell me the pitch",
            "name the pitch of the {sound}",
        ),
        kept_out=("the {sound} is of what pitch?", "can you tell me which pitch it has?"),
    ),
    "timbre": Wordings(
        trained=(
            "which kind of sound is it?",
            "what kind of sound is this?",
            "what kind of sound do you hear?",
            "which timbre is it?",
            "what timbre does the {sound} have?",
            "what is the timbre of the {sound}?",
            "is it a beep, a buzz, a chime or a hiss?",
            "tell me the timbre",
            "name the kind of sound",
        ),
        kept_out=("the {sound} is of what kind?", "can you tell me the timbre of the {sound}?"),
    ),
}

FILM_CAPTION: Final = Wordings(
    trained=(
        "what is this?",
        "what happens in this {film}?",
        "what happens here?",
        "what do you see in the {film}?",
        "what does this {film} show?",
        "describe this {film}",
        "describe the {film}",
        "describe what happens",
        "write a caption for this {film}",
        "caption this {film}",
        "tell me what happens",
        "what is going on in the {film}?",
        "write a description of the {film}",
        "write a description of what happens",
        "give me a caption for the {film}",
        "give me the words for this {film}",
        "give me in words what happens",
        "say what happens in the {film}",
        "say what you see in this {film}",
        "say in words what the {film} shows",
        "tell me what this {film} shows",
        "what can be seen in the {film}?",
    ),
    kept_out=("give me a description of the {film}", "say what this {film} shows"),
)

FILM_QUESTIONS: Final[dict[str, Wordings]] = {
    "thing": Wordings(
        trained=(
            "what moves?",
            "what is moving?",
            "what moves in the {film}?",
            "what is it that moves?",
            "which object moves?",
            "which object is moving in this {film}?",
            "tell me what moves",
            "name the object that moves",
            "what do you see moving?",
            "what can you see move?",
            "say what moves",
            "say which object moves in the {film}",
            "what can you see moving?",
            "what can be seen to move?",
            "tell me what moves in the {film}",
            "tell me what can be seen to move",
            "what is seen moving in this {film}?",
        ),
        kept_out=("what can be seen moving?", "say what moves in the {film}"),
    ),
    "color": Wordings(
        trained=(
            "what color is the object?",
            "what is the color of the object?",
            "which color does the object have?",
            "which color is it?",
            "in this {film}, what color is the object?",
            "what color does the object in the {film} have?",
            "tell me the color of the object",
            "name the color of the object",
        ),
        kept_out=("the object is of what color?", "can you tell me what color the object is?"),
    ),
    "shape": Wordings(
        trained=(
            "what shape is the object?",
            "what is the shape of the object?",
            "which shape does the object have?",
            "which shape is it?",
            "in this {film}, what shape is the object?",
            "what shape does the object in the {film} have?",
            "tell me the shape of the object",
            "name the shape of the object",
        ),
        kept_out=("the object is of what shape?", "can you tell me what shape the object is?"),
    ),
    "way": Wordings(
        trained=(
            "which way does it move?",
            "which way does the object move?",
            "which way does it go?",
            "in which direction does it move?",
            "in which direction is it moving?",
            "where does the object move?",
            "what is the direction of the motion?",
            "tell me which way it moves",
        ),
        kept_out=("it moves which way?", "can you tell me the direction?"),
    ),
}

SAME_NUMBER: Final = Wordings(
    trained=(
        "is the number of objects the number of {many}?",
        "is the number of {many} the number of objects?",
        "are there as many objects as {many}?",
        "are there as many {many} as objects?",
        "is the number of objects and {many} the same?",
        "do you see as many objects as you hear {many}?",
        "do the number of objects and the number of {many} agree?",
        "does the number of {many} match the objects?",
        "are the objects as many as the {many}?",
        "as many objects as {many}?",
        "is there one of the {many} for each object?",
        "do the objects and the {many} have the same number?",
        "is there the same number of objects and {many}?",
        "are the numbers of objects and {many} the same?",
    ),
    kept_out=("are the {many} as many as the objects?", "do you hear as many {many} as you see objects?"),
)

WRITE_DOWN: Final = Wordings(
    trained=(
        "write down what was said",
        "write down what is said",
        "what was said?",
        "what is being said?",
        "what do they say?",
        "transcribe this",
        "transcribe the speech",
        "write down the words",
        "which words do you hear?",
        "put it into writing",
        "put the words into writing",
        "put what is said into words",
        "put down what was said",
        "write what was said",
        "write out the words",
        "write down what was spoken",
        "what was spoken?",
        "what were the words?",
        "tell me the words",
        "tell me what was said",
        "tell me the words that you hear",
        "give me the words that were said",
    ),
    kept_out=("put what was said into writing", "tell me the words that were spoken"),
)

IT: Final[dict[str, Wordings]] = {
    "color": Wordings(
        trained=(
            "what color is it?",
            "which color is it?",
            "what is its color?",
            "which color does it have?",
            "tell me its color",
            "and what color is it?",
        ),
        kept_out=("it is of what color?", "can you tell me what color it is?"),
    ),
    "shape": Wordings(
        trained=(
            "what shape is it?",
            "which shape is it?",
            "what is its shape?",
            "which shape does it have?",
            "tell me its shape",
            "and what shape is it?",
        ),
        kept_out=("it is of what shape?", "can you tell me what shape it is?"),
    ),
    "size": Wordings(
        trained=(
            "what size is it?",
            "is it small or large?",
            "what is its size?",
            "how large is it?",
            "tell me its size",
            "and what size is it?",
        ),
        kept_out=("it is of what size?", "can you tell me what size it is?"),
    ),
    "place": Wordings(
        trained=(
            "where is it?",
            "at which place is it?",
            "what is its place?",
            "tell me where it is",
            "in which place is it?",
            "and where is it?",
        ),
        kept_out=("it is where?", "can you tell me where it is?"),
    ),
    "pitch": Wordings(
        trained=(
            "what pitch is it?",
            "which pitch does it have?",
            "what is its pitch?",
            "is it low, middle or high?",
            "tell me its pitch",
            "and how high is it?",
        ),
        kept_out=("it is of what pitch?", "can you tell me what pitch it has?"),
    ),
    "timbre": Wordings(
        trained=(
            "what kind of sound is it?",
            "which timbre does it have?",
            "what is its timbre?",
            "is it a beep, a buzz, a chime or a hiss?",
            "tell me its timbre",
            "and what kind of sound is it?",
        ),
        kept_out=("it is of what timbre?", "can you tell me what kind of sound it is?"),
    ),
    "way": FILM_QUESTIONS["way"],
}
"""Questions in which `it` is what was handed in last."""
