"""Derives the lengths that a configuration leaves open (none) from the model, the problems and the memory here.

Invariants: a length that is given stays; what is derived fits the model's context, and one micro-batch of it the
learner's memory, by an estimate that errs upwards; the same machine, model and problems give the same lengths. Pure but
for `Memory.here`."""

from __future__ import annotations

from typing import NamedTuple

from pipeline.config import Config
from pipeline.config.experience import SHOWN_CHARS
from pipeline.config.rollout import USUAL_COMPLETION
from pipeline.config.sft import USUAL_MICRO_BATCH
from pipeline.preflight.model_facts import ModelFacts
from pipeline.runtime.hardware import free_memory, gpu_memory, gpus
from pipeline.sft.worked_solutions import solve
from pipeline.types import Task
from prompts.sets import templates_of

OPEN_LENGTHS = frozenset(
    {
        *("rollout.sampling.max_tokens", "eval.max_tokens", "abstraction.max_tokens", "servers.max_model_len"),
        *("reflection.max_attempt_chars", "abstraction.max_trajectory_chars"),
        *("sft.max_length", "sft.num_tokens_per_micro_batch"),
    }
)
"""The settings that are derived here where they are none."""
TEMPLATE_TOKENS, ROLE_TOKENS = 192, 64
"""Of what stands around a problem, at least: system message, template, roles, the form of the answer; and what of it is
in no template."""
MOST_CHARS_PER_TOKEN, LEAST_CHARS_PER_TOKEN = 6, 3
"""Of what models write: few texts have more, few have less."""
LEAST_COMPLETION = 64
STEP = 16
"""Lengths are multiples of it."""
PROCESS_BYTES = 2 * 2**30
"""Libraries and buffers of each process that computes."""
USED_SHARE = 0.8
"""Of the free memory: estimates err, and others live here too."""
SERVER_SHARE = 0.9
"""Of a GPU, vLLM's default."""
_BYTES = {"float32": 4, "auto": 4, "bfloat16": 2, "float16": 2}


class Memory(NamedTuple):
    """Bytes for the learner's states and activations, and for the key-value cache of one server."""

    learner: float
    cache: float

    @classmethod
    def here(cls, config: Config, facts: ModelFacts) -> Memory:
        """What this machine has free, less what the servers of the run will take of it."""
        servers, weights = config.servers, (facts.num_parameters or 0) * _BYTES[config.servers.dtype]
        if gpu := gpu_memory():
            of_servers = SERVER_SHARE * gpu * servers.tensor_parallel_size - weights
            shares = len(gpus()) < 2 and not config.endpoints
            return cls((1 - SERVER_SHARE if shares else USED_SHARE) * gpu, of_servers)
        cache = servers.kv_cache_gib * 2**30
        num_servers = 0 if config.endpoints else servers.num_servers
        taken = num_servers * (weights + cache + PROCESS_BYTES) + PROCESS_BYTES
        return cls(USED_SHARE * free_memory() - taken, cache)


class Length(NamedTuple):
    """A derived setting, and why it is what it is."""

    setting: str
    value: int
    why: str

    def __str__(self) -> str:
        return f"{self.setting} = {self.value}: {self.why}"


def context_of(config: Config, facts: ModelFacts, served: int | None) -> int | None:
    """The most tokens of prompt and answer, by the model, the endpoints that run already and the servers' setting; None
    where none of them says."""
    return min(filter(None, (facts.context, served, config.servers.max_model_len)), default=None)


def lengths(
    config: Config, facts: ModelFacts, memory: Memory, tasks: list[Task], served: int | None = None
) -> list[Length]:
    """Every length that `config` leaves open; `served` is the longest that endpoints which run already take."""
    found = []
    context = context_of(config, facts, served)
    prompt = facts.longest(task.problem.text for task in tasks) + _template_tokens(config, facts)
    solution = facts.longest(solved.text for task in tasks if (solved := solve(task)))
    completion = config.rollout.sampling.max_tokens
    if completion is None:
        length = _completion(config, facts, memory, prompt, solution, context)
        found.append(length)
        completion = length.value
    if config.eval.max_tokens is None:
        found.append(Length("eval.max_tokens", completion, "as long as a rollout"))
    lesson = config.longest_lesson
    if config.abstraction.max_tokens is None and config.abstraction.enabled:
        lesson = _floor(min(lesson, (context or lesson * 4) // 4))
        found.append(Length("abstraction.max_tokens", lesson, "the longest lesson that its sizes allow"))
    left = context and context - prompt
    if config.reflection.max_attempt_chars is None:
        found.append(_shown("reflection.max_attempt_chars", SHOWN_CHARS, completion, left and left - completion))
    if config.abstraction.max_trajectory_chars is None and config.abstraction.enabled:
        found.append(_shown("abstraction.max_trajectory_chars", 2 * SHOWN_CHARS, completion, left and left - lesson))
    longest = max(completion, config.eval.max_tokens or 0)
    # A prompt shows lessons or an earlier attempt; a summarizer is shown a whole trajectory.
    of_lesson = config.lesson_sizes.lesson_tokens + config.feedback.max_source_chars // LEAST_CHARS_PER_TOKEN
    shown = max(config.feedback.num_lessons * of_lesson, completion)
    if config.servers.max_model_len is None and not config.endpoints:
        found.append(_model_len(config, facts, memory, prompt, shown + max(longest, lesson)))
    if config.sft.enabled:
        found += _sft(config, facts, memory, prompt, max(solution, completion))
    return found


def with_lengths(config: Config, found: list[Length]) -> Config:
    """`config` with what was derived in place of none."""
    values = config.model_dump(mode="json")
    for setting, value, _ in found:
        *path, name = setting.split(".")
        table = values
        for part in path:
            table = table[part]
        table[name] = value
    return Config.model_validate(values)


def _completion(
    config: Config, facts: ModelFacts, memory: Memory, prompt: int, solution: int, context: int | None
) -> Length:
    wanted, why = USUAL_COMPLETION, "what most answers fit in, for no problem has a worked solution"
    if solution:
        wanted, why = max(LEAST_COMPLETION, 2 * solution), f"twice the longest worked solution ({solution} tokens)"
    if context:
        # A few problems that are longer than half of it must not shorten all others: they are trimmed.
        prompt = min(prompt, context // 2)
        # Half of what is left: a prompt may show an attempt that is as long.
        if (context - prompt) // 2 < wanted:
            wanted, why = (context - prompt) // 2, f"half of what prompts of {prompt} tokens leave of {context}"
    if (most := _most_tokens(config, facts, memory)) is not None:
        learner, group = config.learner, config.rollout.group_size
        num_groups = learner.num_groups_per_micro_batch * learner.num_views
        of_prompts = num_groups * prompt * (1 if config.learner.share_prefix else group)
        if (fitting := (most - of_prompts) // (num_groups * group)) < wanted:
            remedy = "learner.gradient_checkpointing or a smaller rollout.group_size allows more"
            held = f"what {num_groups} x {group} rollouts at once may have in {memory.learner / 2**30:.1f} GiB"
            wanted, why = fitting, f"{held}; {remedy}"
    return Length("rollout.sampling.max_tokens", max(LEAST_COMPLETION, _floor(wanted)), why)


def _template_tokens(config: Config, facts: ModelFacts) -> int:
    return max(TEMPLATE_TOKENS, facts.longest(templates_of(config.rollout.templates).texts.values()) + ROLE_TOKENS)


def _shown(setting: str, least: int, completion: int, left: int | None) -> Length:
    """Characters of an attempt that a prompt shows: a whole completion's, as far as `left` tokens hold them."""
    wanted, why = max(least, MOST_CHARS_PER_TOKEN * completion), "a whole completion"
    if left is not None and (held := max(0, LEAST_CHARS_PER_TOKEN * left)) < wanted:
        wanted, why = max(least, held), f"what the context holds beside prompt and reply, at least {least}"
    return Length(setting, wanted, why)


def _model_len(config: Config, facts: ModelFacts, memory: Memory, prompt: int, beside: int) -> Length:
    wanted, why = _ceil(prompt + beside), f"a prompt of {prompt} tokens, what it may show, and a completion"
    if facts.kv_values:
        cached = int(memory.cache // (facts.kv_values * _BYTES[config.servers.dtype]))
        if cached < wanted:
            wanted, why = _floor(cached), f"what a key-value cache of {memory.cache / 2**30:.1f} GiB holds"
    if facts.context and facts.context < wanted:
        wanted, why = facts.context, "the model's context"
    return Length("servers.max_model_len", max(LEAST_COMPLETION, wanted), why)


def _sft(config: Config, facts: ModelFacts, memory: Memory, prompt: int, answer: int) -> list[Length]:
    found, most = [], _most_tokens(config, facts, memory, sft=True)
    if config.sft.max_length is None:
        answer = max(answer, config.sft.teacher_max_tokens if config.sft.teacher else 0)
        wanted, why = _ceil(prompt + 2 * answer), "a problem, an attempt and an answer"
        if facts.context and (facts.context < wanted or config.sft.pairs_file):
            wanted, why = facts.context, "the model's context"
        if most is not None and most < wanted:
            wanted, why = _floor(most), f"what {memory.learner / 2**30:.1f} GiB hold in training"
        found.append(Length("sft.max_length", max(LEAST_COMPLETION, wanted), why))
    if config.sft.num_tokens_per_micro_batch is None:
        size = USUAL_MICRO_BATCH if most is None else max(LEAST_COMPLETION, min(USUAL_MICRO_BATCH, _floor(most)))
        why = f"at most {USUAL_MICRO_BATCH}, and what memory allows"
        found.append(Length("sft.num_tokens_per_micro_batch", size, why))
    return found


def _most_tokens(config: Config, facts: ModelFacts, memory: Memory, *, sft: bool = False) -> int | None:
    """Tokens that forward and backward of the learner have memory for at once; None where the model's files do not
    say."""
    if facts.num_parameters is None or facts.layer_values is None or facts.num_layers is None:
        return None
    learner = config.learner
    num_copies = 4  # weights, gradients, Adam's two moments, in float32
    if not sft and learner.lora.rank:
        num_copies = 1
    elif not sft and learner.max_kl_coef > 0:
        num_copies = 5
    layers = facts.num_layers
    kept = layers * facts.layer_values
    if learner.gradient_checkpointing == "cheap":
        kept = kept * 6 // 10
    elif learner.gradient_checkpointing:
        kept = facts.layer_values + kept // 10
    left = memory.learner - num_copies * 4 * facts.num_parameters
    return max(0, int(left // (4 * kept)))


def _floor(length: int) -> int:
    return length // STEP * STEP


def _ceil(length: int) -> int:
    return -(-length // STEP) * STEP
