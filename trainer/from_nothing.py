"""A small language model from nothing: `python -m trainer.from_nothing --pairs PAIRS.jsonl --out DIR [--seed N]`.

A byte-level tokenizer, trained on the texts, and a Llama of 2 million parameters, which learns to copy
(`trainer.copying`) and is then trained on the texts as `trainer.sft` trains: TRL's SFTTrainer, but the loss is on the
prompts as well. It is for studies of mechanism on a CPU, and speaks the language of its texts only. Prints one line
per step, and at the end one JSON line; `--out` appears whole or not at all."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.runtime.computing import ENVIRONMENT

os.environ.update(ENVIRONMENT | dict(os.environ))

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from pipeline.config import Config
from pipeline.config.sft import SftSection
from pipeline.runtime.child_process import end_with_parent
from trainer.arguments import set_threads
from trainer.copying import NUM_STEPS, begin_copying, practise_copying
from trainer.disk import exit_status
from trainer.memory import keep_freed_memory
from trainer.sft import read_pairs, train, written_whole

BEGIN, END = "<|im_start|>", "<|im_end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
VOCABULARY_SIZE = 1024
FIRST_LETTER = r" [b-df-hj-np-tv-z](?=[aeiou][b-df-hj-np-tv-z]\b)"
"""A word of three letters like an operator's name is two tokens: none is known as a whole, and new ones are made of the
same tokens."""
MAX_POSITIONS = 2048
SHAPE = {"hidden_size": 192, "num_hidden_layers": 4, "intermediate_size": 528, "num_attention_heads": 6}
INITIAL_SPREAD = 0.06
"""Standard deviation of the first weights, near one over the square root of the hidden size."""
TRAINING = SftSection(batch_size=16, learning_rate=2e-3, num_tokens_per_micro_batch=6400, num_epochs=1)
# Copying is learned from the prompts.
OTHERS = {"completion_only_loss": False, "adam_beta2": 0.98}


def tokenizer_of(texts: Iterator[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of `texts`: any text is tokens of it, each digit is one."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.Split(Regex(FIRST_LETTER), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [AddedToken(token, special=True) for token in (BEGIN, END)]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END, pad_token=END, bos_token=BEGIN, model_max_length=MAX_POSITIONS
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def untrained(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """A Llama with random weights in float32, embeddings tied, that begins to copy."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=MAX_POSITIONS,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        attention_bias=True,
        initializer_range=INITIAL_SPREAD,
        **SHAPE,
    )
    model = LlamaForCausalLM(config)
    begin_copying(model)
    return model


def run(pairs_file: Path, out: Path, seed: int) -> None:
    """The command. Raises UserError for what the user can mend."""
    config = Config(sft=TRAINING.model_copy(update={"seed": seed}))
    pairs = read_pairs(pairs_file)
    set_threads(config)
    tokenizer = tokenizer_of(_texts(pairs))
    model = untrained(tokenizer, seed)

    def log(line: str) -> None:
        print(line, flush=True)

    def work(folder: Path) -> dict[str, Any]:
        # Never longer than what it prepares for.
        num_steps = min(NUM_STEPS, len(pairs) // config.sft.batch_size)
        practise_copying(model, config.sft.learning_rate, seed, num_steps, log)
        report = train(config, model, tokenizer, pairs, folder, log, **OTHERS)
        return {**report, "num_parameters": model.num_parameters()}

    report = written_whole(model, tokenizer, out, work)
    print(json.dumps(report), flush=True)


def _texts(pairs: list[dict[str, Any]]) -> Iterator[str]:
    for pair in pairs:
        for message in (*pair["prompt"], *pair["completion"]):
            yield message["content"]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m trainer.from_nothing", description="Train a small language model from nothing."
    )
    parser.add_argument("--pairs", type=Path, required=True, help="JSONL with `messages` on each line")
    parser.add_argument("--out", type=Path, required=True, help="folder for the model")
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights and of the order (default 0)")
    options = parser.parse_args(arguments)
    end_with_parent()
    keep_freed_memory()
    return exit_status(lambda: run(options.pairs, options.out, options.seed), options.out.parent)


if __name__ == "__main__":
    sys.exit(main())
