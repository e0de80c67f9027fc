"""A small random LLaVA checkpoint in Hugging Face format, prompts for it, and what transformers answers to them.

Random, but with spreads chosen so that answers depend on every part of the prompt, pictures above all. Tokens
spell printable ASCII, so that equal texts mean equal tokens.
"""

from __future__ import annotations

import io
import random
import string
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

NEW_TOKENS = 16
IMAGE_SIDE, PATCH = 48, 12
BOS, EOS, PAD, IMAGE = "<s>", "</s>", "<pad>", "<image>"
# LLaVA 1.5's own.
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] != 'system' %}{{ message['role'].upper() + ': '}}{% endif %}"
    "{# Render all images first #}{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}"
    "{{ '<image>\n' }}{% endfor %}{# Render all text next #}{% if message['role'] != 'assistant' %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] + ' '}}"
    "{% endfor %}{% else %}{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{% generation %}{{ content['text'] + ' '}}{% endgeneration %}{% endfor %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
WORDS = (  # noqa: SIM905 - reads better than a list of strings
    "what is in the picture between left and right of a red blue green circle square star how many does it "
    "show tell me about this one that other please describe compare changed look again why where who"
).split()


@dataclass(frozen=True)
class Turn:
    """One turn: texts and pictures in order."""

    role: str
    parts: tuple[str | Image.Image, ...]


@dataclass(frozen=True)
class Case:
    """One conversation, ending with the user's turn."""

    turns: tuple[Turn, ...]

    @property
    def pictures(self) -> list[Image.Image]:
        """Its pictures in order."""
        return [part for turn in self.turns for part in turn.parts if isinstance(part, Image.Image)]

    def with_other_pictures(self, draw: random.Random) -> Case:
        """The same words about other pictures of the same sizes."""
        turns = tuple(
            replace(turn, parts=tuple(p if isinstance(p, str) else picture(draw, p.size) for p in turn.parts))
            for turn in self.turns
        )
        return Case(turns)


def picture(draw: random.Random, size: tuple[int, int]) -> Image.Image:
    """A picture of colored boxes on a gradient."""
    width, height = size
    down, across = np.mgrid[0:height, 0:width]
    base = np.stack([draw.randrange(256) + draw.uniform(-2, 2) * across + draw.uniform(-2, 2) * down] * 3, -1)
    pixels = (base + [draw.randrange(200) for _ in range(3)]) % 256
    for _ in range(draw.randrange(1, 6)):
        x, y = draw.randrange(width), draw.randrange(height)
        wide, high = draw.randrange(1, width + 1), draw.randrange(1, height + 1)
        pixels[y : y + high, x : x + wide] = [draw.randrange(256) for _ in range(3)]
    return Image.fromarray(pixels.astype(np.uint8))


def png(image: Image.Image) -> bytes:
    """A picture as a file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def make_cases(count: int, seed: int = 0) -> list[Case]:
    """Conversations with 0, 1 and 3 pictures, in turn; every fifth has several turns."""
    draw = random.Random(seed)
    cases: list[Case] = []
    for index in range(count):
        parts: list[str | Image.Image] = []
        for _ in range((0, 1, 3)[index % 3]):
            if draw.random() < 0.5:
                parts.append(_words(draw))
            size = draw.choice([(48, 48), (100, 60), (37, 90), (336, 200), (20, 20), (64, 48), (49, 131)])
            parts.append(picture(draw, size))
        parts.append(_words(draw) + "?")
        turns = [Turn("user", tuple(parts))]
        if index % 5 == 4:
            turns += [Turn("assistant", (_words(draw),)), Turn("user", (_words(draw),))]
        cases.append(Case(tuple(turns)))
    return cases


def _words(draw: random.Random) -> str:
    return " ".join(draw.choice(WORDS) for _ in range(draw.randrange(2, 9)))


def make_checkpoint(path: Path, seed: int = 0) -> None:
    """Write the checkpoint: config, weights, tokenizer, processor, chat template."""
    from transformers import LlavaForConditionalGeneration

    processor = _processor()
    torch.manual_seed(seed)
    model = LlavaForConditionalGeneration(_config(processor))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim >= 2:
                spread = 1.6 if "vision_tower" in name or "projector" in name else 1.2
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * spread / _fan_in(parameter) ** 0.5)
    model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    model.save_pretrained(path)
    processor.save_pretrained(path)


def _fan_in(parameter: torch.Tensor) -> int:
    return int(parameter[0].numel())


def _config(processor: Any) -> Any:
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig

    tokenizer = processor.tokenizer
    vision = CLIPVisionConfig(
        hidden_size=48, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4, image_size=IMAGE_SIDE,
        patch_size=PATCH, projection_dim=32,
    )  # fmt: skip
    text = LlamaConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=len(tokenizer), max_position_embeddings=512, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return LlavaConfig(
        vision_config=vision.to_dict(),
        text_config=text.to_dict(),
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE),
        image_seq_length=(IMAGE_SIDE // PATCH) ** 2,
    )


def _processor() -> Any:
    from transformers import CLIPImageProcessorPil, LlavaProcessor

    side = {"height": IMAGE_SIDE, "width": IMAGE_SIDE}
    return LlavaProcessor(
        image_processor=CLIPImageProcessorPil(size={"shortest_edge": IMAGE_SIDE}, crop_size=side),
        tokenizer=_tokenizer(),
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        image_token=IMAGE,
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from tokenizers import decoders as tokenizer_decoders
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizer_decoders.ByteLevel()
    printable = [character for character in string.printable if character not in "\t\r\v\f"]
    lines = [" ".join(WORDS), " ".join(reversed(WORDS)), "USER: ASSISTANT: ", *printable]
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=[PAD, BOS, EOS, IMAGE], show_progress=False)
    tokenizer.train_from_iterator(lines, trainer)
    begin = tokenizer.token_to_id(BOS)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, begin)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS, pad_token=PAD,
        extra_special_tokens={"image_token": IMAGE},
    )  # fmt: skip


class Reference:
    """transformers' own LLaVA, in this process.

    Args:
        path: The checkpoint.
    """

    def __init__(self, path: Path) -> None:
        from transformers import AutoProcessor, LlavaForConditionalGeneration

        self.processor: Any = AutoProcessor.from_pretrained(path)
        self.model: Any = LlavaForConditionalGeneration.from_pretrained(path, dtype=torch.float32).eval()

    def inputs(self, case: Case) -> Any:
        """What the processor makes of a case."""
        messages = [{"role": turn.role, "content": [_part(part) for part in turn.parts]} for turn in case.turns]
        prompt = self.processor.apply_chat_template(messages, add_generation_prompt=True)
        return self.processor(text=prompt, images=case.pictures or None, return_tensors="pt")

    def answer(self, case: Case, new_tokens: int = NEW_TOKENS) -> list[int]:
        """Greedy tokens, the end token left out."""
        inputs = self.inputs(case)
        with torch.inference_mode():
            out = self.model.generate(**inputs, do_sample=False, max_new_tokens=new_tokens)
        ids: list[int] = out[0, inputs["input_ids"].shape[1] :].tolist()
        eos = self.processor.tokenizer.eos_token_id
        return ids[: ids.index(eos)] if eos in ids else ids

    def text(self, ids: Sequence[int]) -> str:
        """The text of tokens, control tokens left out."""
        return str(self.processor.tokenizer.decode(ids, skip_special_tokens=True))


def _part(part: str | Image.Image) -> dict[str, str]:
    return {"type": "text", "text": part} if isinstance(part, str) else {"type": "image"}


def changed_share(reference: Reference, cases: Sequence[Case], seed: int = 1) -> float:
    """Share of the cases with pictures whose answer changes when the pictures are exchanged."""
    draw = random.Random(seed)
    with_pictures = [case for case in cases if case.pictures]
    changed = sum(reference.answer(case) != reference.answer(case.with_other_pictures(draw)) for case in with_pictures)
    return changed / len(with_pictures)
