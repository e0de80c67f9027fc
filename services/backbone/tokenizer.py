"""The byte-level tokenizer of a backbone: learnt merges, special, signal and reserved tokens, chat template."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD: Final = "<|pad|>"
BEGIN: Final = "<|begin|>"
END: Final = "<|end|>"
MEDIA: Final = "<|media|>"
MEDIA_BEGIN: Final = "<|media_begin|>"
MEDIA_END: Final = "<|media_end|>"
ROLES: Final = ("system", "user", "assistant")
MIN_RESERVED: Final = 512

# As LLaVA's own template does, media of a message come before its text, in their order: a question that is read
# after the picture can look for its answer while it is read, and a small decoder learns that twice as fast.
CHAT_TEMPLATE: Final = (
    "{{ '<|begin|>' }}"
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] if part['type'] != 'text' %}"
    "{{ '<|media_begin|><|media|><|media_end|>' }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}{% endif %}"
    "{{ '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def signal_tokens(signals: Mapping[str, int]) -> list[str]:
    """Names of the signal tokens of each modality, such as `<|image_0|>`."""
    return [f"<|{modality}_{i}|>" for modality, count in signals.items() for i in range(count)]


def train_tokenizer(lines: Iterable[str], vocabulary: int, signals: Mapping[str, int]) -> dict[str, bytes]:
    """Learns merges from lines of text, and fills the vocabulary up with reserved tokens.

    Returns:
        The tokenizer's files, by name.

    Raises:
        ValueError: The vocabulary leaves no room for enough reserved tokens.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    special = [PAD, BEGIN, END, *(f"<|{role}|>" for role in ROLES), MEDIA, MEDIA_BEGIN, MEDIA_END]
    special += signal_tokens(signals)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - MIN_RESERVED,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines, trainer)
    n_reserved = vocabulary - tokenizer.get_vocab_size()
    if n_reserved < MIN_RESERVED:
        raise ValueError(f"vocabulary of {vocabulary} leaves {n_reserved} reserved tokens, expected {MIN_RESERVED}")
    tokenizer.add_special_tokens(
        [AddedToken(f"<|reserved_{i}|>", special=True, normalized=False) for i in range(n_reserved)]
    )
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": PAD,
        "bos_token": BEGIN,
        "eos_token": END,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 2048,
        "chat_template": CHAT_TEMPLATE,
    }
    return {
        "tokenizer.json": tokenizer.to_str().encode(),
        "tokenizer_config.json": json.dumps(config, indent=1).encode(),
    }


def load_tokenizer(files: Mapping[str, bytes]) -> PreTrainedTokenizerFast:
    """Builds the tokenizer from the files of an artifact."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    config: dict[str, Any] = json.loads(files["tokenizer_config.json"])
    config.pop("tokenizer_class")
    backend = Tokenizer.from_str(files["tokenizer.json"].decode())
    return PreTrainedTokenizerFast(tokenizer_object=backend, **config)  # type: ignore[no-untyped-call]
