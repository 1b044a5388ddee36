"""`Config`, the sections of all settings in one, with the checks across them.

Unknown keys are errors. Seconds end in `_s`, counts begin with `num_`. The resolved configuration is written into each
run folder, and the learner and the servers read it from there. This module imports nothing heavier than pydantic."""

from __future__ import annotations

from pydantic import Field, model_validator

from pipeline.config.base import Section
from pipeline.config.endpoints import EndpointSettings, RequestsSection
from pipeline.config.evaluation import EvalSection
from pipeline.config.experience import AbstractionSection, FeedbackSection, PoolSection, ReflectionSection
from pipeline.config.learner import LearnerSection
from pipeline.config.operations import OperationsSection
from pipeline.config.problems import ProblemsSection
from pipeline.config.rollout import RewardSection, RolloutSection
from pipeline.config.run import RunSection
from pipeline.config.servers import ModelSection, ServersSection
from pipeline.config.sft import SftSection
from prompts.schemas import LessonSizes


class Config(Section):
    """One run. `train --help-all` lists every field; a recipe sets some, over another one or the defaults."""

    recipe: str = Field(
        "quickstart",
        description='Name of the recipe that this configuration began with; a file says it by extends = "NAME".',
    )
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
        """`servers.canary_tolerance`, or what the servers' arithmetic explains; that of endpoints running elsewhere is
        not known."""
        if self.servers.canary_tolerance is not None:
            return self.servers.canary_tolerance
        return 0.02 if self.servers.dtype == "float32" and not self.endpoints else 0.25

    @property
    def server_patience_s(self) -> float:
        """Longest that new weights wait for a server that does not take them: one of ours starts again, others may be
        away."""
        return self.requests.max_outage_s if self.endpoints else self.servers.startup_timeout_s

    @property
    def longest_answer(self) -> int:
        """`eval.max_tokens`, or as long as a rollout may be."""
        return self.eval.max_tokens or self.rollout.sampling.longest

    def ratio_at(self, step: int) -> float:
        """p_t: how likely a prompt of `step` is feedback-aware."""
        return self.feedback.ratio_at(step, self.learner.num_steps)

    @property
    def retrieves(self) -> bool:
        """Whether any prompt of the run may show lessons (inter, rescue_inter)."""
        return self.feedback.rescue == "lesson" or (self._is_feedback_aware and self.feedback.intra_share < 1)

    @property
    def reflects(self) -> bool:
        """Whether any prompt of the run may show an earlier attempt (intra)."""
        return self._is_feedback_aware and self.feedback.intra_share > 0

    @property
    def has_contexts(self) -> bool:
        """Whether any prompt of the run may show anything beside its problem."""
        return self._is_feedback_aware or self.feedback.rescue != "off"

    @property
    def _is_feedback_aware(self) -> bool:
        return any(map(self.ratio_at, range(self.learner.num_steps)))

    @property
    def lesson_sizes(self) -> LessonSizes:
        """How long the parts of a lesson may be."""
        return self.abstraction.sizes(self.rollout.templates)

    @property
    def longest_lesson(self) -> int:
        """`abstraction.max_tokens`, or what the sizes of a lesson allow."""
        return self.abstraction.max_tokens or self.lesson_sizes.reply_tokens

    @property
    def named_endpoints(self) -> tuple[EndpointSettings, ...]:
        """The endpoints that this configuration names: the policy's, the summarizer's, the judge's or embedder's, the
        teacher's, those of judges that give rewards."""
        judges = (judge.endpoint for judge in self.reward.judges)
        others = dict.fromkeys(
            (self.abstraction.endpoint, self.feedback.similarity_endpoint, self.sft.teacher, *judges)
        )
        return (*self.endpoints, *(endpoint for endpoint in others if endpoint))

    @property
    def patient_as_eval(self) -> Config:
        """The same for a command that its user waits for: a lost endpoint is given up after `eval.max_outage_s`."""
        requests = self.requests.model_copy(update={"max_outage_s": self.eval.max_outage_s})
        return self.model_copy(update={"requests": requests})

    @model_validator(mode="after")
    def _fields_agree(self) -> Config:
        sft = self.sft
        if sft.enabled is True and not (sft.num_pairs or sft.teacher or sft.pairs_file):
            raise ValueError(
                "sft.num_pairs = 0 leaves nothing to train on; name an sft.teacher or an sft.pairs_file, or set "
                "sft.enabled = false"
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
        if self.rollout.paired_groups and self.feedback.rescue != "off":
            raise ValueError(
                f"feedback.rescue = {self.feedback.rescue!r} samples a scratch group again under a context, which "
                "the pairs of rollout.paired_groups have anyway; set feedback.rescue = 'off', or leave out the pairs"
            )
        if self.rollout.num_problems_per_step % (self.rollout.slots_per_problem * self.learner.num_processes):
            raise ValueError(
                "rollout.paired_groups gives each problem two groups, which one process trains: 2 times "
                f"learner.num_processes = {self.learner.num_processes} must divide rollout.num_problems_per_step = "
                f"{self.rollout.num_problems_per_step}"
            )
        if self.eval.num_problems > self.problems.num_heldout:
            raise ValueError(
                f"eval.num_problems = {self.eval.num_problems} exceeds problems.num_heldout = "
                f"{self.problems.num_heldout}"
            )
        if self.sft.respond_share + self.sft.inspect_share > 1.0:
            raise ValueError("sft.respond_share + sft.inspect_share exceeds 1; the rest is the share that summarises")
        if self.rollout.sampling.temperature == 0:
            raise ValueError(
                "rollout.sampling.temperature = 0 gives a group of identical rollouts; use a value above 0"
            )
        return self
