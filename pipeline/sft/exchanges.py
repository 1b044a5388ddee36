"""One SFT pair's two sides: what a prompt shows, and what the model should answer, which the prompt decides.

| skill | shown | target |
|---|---|---|
| respond-scratch | a problem | the usual solution; of an operator a guess |
| respond-inter | lessons, of which one, none or a wrong one applies | remarks, the solution by what applies |
| inspect | an attempt, right, wrong or cut off | each step checked, a verdict, then a whole solution |
| summarise | such an attempt | what holds in it, the way that it took, where it went wrong |

The formats are those of `prompts`."""

from __future__ import annotations

import random

from pipeline.config import Config
from pipeline.sft.critiques import critique
from pipeline.sft.grounds import Ground, Material
from pipeline.sft.lessons import Shown, summary, wrong
from pipeline.sft.methods import AT_ONCE, Method
from pipeline.sft.worked_solutions import Solution, answer_only, cut_off, with_mistake
from prompts.analysis import block
from prompts.schemas import Abstract, Inter, Intra, PromptInput, Scratch

APPLIES, NONE, WRONG = 0.5, 0.3, 0.2
"""How often one of the lessons tells the way, none does, or one is wrong."""
WRONG_AMONG_OTHERS = 0.2
CUT_SHARE = 0.25
"""Of the wrong attempts, those that end before their answer."""


class Exchange:
    """Draws the sides of one pair about `material`."""

    def __init__(self, config: Config, ground: Ground, material: Material, rng: random.Random) -> None:
        self._config = config
        self._ground = ground
        self._material = material
        self._rng = rng

    def of(self, skill: str) -> tuple[PromptInput, str]:
        problem = self._material.task.problem
        kind, _, sort = skill.partition("-")
        if skill == "respond-scratch":
            return Scratch(problem=problem.text, form=problem.form), self._unaided().text
        if kind == "respond":
            return self._under_lessons()
        method, solution = self._way()
        if kind == "inspect" and self._shows_no_steps():
            attempt = answer_only(self._material.task)
            attempt = with_mistake(attempt, self._rng) if sort == "wrong" else attempt
        else:
            attempt = self._attempt(solution, sort == "wrong")
        if kind == "inspect":
            shown = Intra(problem=problem.text, attempt=attempt.attempt, form=problem.form)
            return shown, block(critique(attempt, solution)) + solution.text
        assert method is not None
        shown_trajectory = Abstract(problem=problem.text, trajectory=attempt.attempt)
        found = summary(method, attempt, solution, self._rng)
        most = self._config.lesson_sizes.critique
        return shown_trajectory, found.model_copy(update={"critique": found.critique[:most]}).reply

    def _under_lessons(self) -> tuple[PromptInput, str]:
        """Lessons, and the answer that they decide."""
        problem, rng = self._material.task.problem, self._rng
        solution, shown = self._unaided(), list[Shown]()
        kind = rng.choices(("applies", "none", "wrong"), (APPLIES if self._material.ways else 0, NONE, WRONG))[0]
        if kind == "applies":
            method, solution = self._way(may_be_bare=True)
            assert method is not None
            shown.append(self._ground.applicable(method, self._material.source, rng))
            solution = self._ground.following(solution, shown[0].lesson)
        elif kind == "wrong":
            shown.append(wrong(rng))
        num = rng.randint(1, self._config.feedback.num_lessons)
        while len(shown) < num:
            is_wrong = kind == "applies" and rng.random() < WRONG_AMONG_OTHERS
            shown.append(wrong(rng) if is_wrong else self._ground.foreign(self._material, rng))
        followed = shown[0] if kind == "applies" else None
        rng.shuffle(shown)
        value = Inter(
            problem=problem.text,
            lessons=tuple(one.lesson for one in shown),
            sources=tuple(one.source for one in shown),
            form=problem.form,
        )
        # What a verdict rests on stands before it: a small model cannot compare without having said what.
        remarks = [f"The problem is about {method.topic}." for method, _ in self._material.ways[:1]]
        remarks += [f"Lesson {number} {one.remark}" for number, one in enumerate(shown, 1)]
        remarks += self._ground.conclusion(self._material, solution, shown.index(followed) + 1 if followed else None)
        return value, block("\n".join(remarks)) + solution.text

    def _way(self, *, may_be_bare: bool = False) -> tuple[Method | None, Solution]:
        """One of the ways to solve the problem; to give the result at once is one where the recipe has such answers."""
        ways = list[tuple[Method | None, Solution]](self._material.ways or ((None, self._material.solution),))
        if may_be_bare and self._material.task.problem.family == "chain_sum" and self._config.sft.answer_only_share:
            ways.append((AT_ONCE, answer_only(self._material.task)))
        return self._rng.choice(ways)

    def _unaided(self) -> Solution:
        if self._material.task.problem.form == "boxed" and self._shows_no_steps():
            return answer_only(self._material.task)
        return self._ground.unaided(self._material, self._rng)

    def _attempt(self, solution: Solution, is_wrong: bool) -> Solution:
        if not is_wrong:
            return solution
        if len(solution.steps) > 1 and not solution.prose and self._rng.random() < CUT_SHARE:
            return cut_off(solution, self._rng)
        return with_mistake(solution, self._rng)

    def _shows_no_steps(self) -> bool:
        """Whether this answer is one that shows no steps. Nothing is drawn where the recipe wants none of them."""
        share = self._config.sft.answer_only_share if self._material.is_determined else 0.0
        return share > 0 and self._rng.random() < share
