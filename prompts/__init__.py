"""What models are asked, and the formats in which they are asked to answer.

Templates come in sets (`prompts.templates`): `compact` for models of a hundred million parameters, `full` for large
ones, `legacy` (of runs before the other two), or a folder of the user's. Rollouts, SFT and evaluation render by the
same code, `prompts.render`. The formats are the same in `compact` and `full`:

**Lessons shown** (inter), numbered from 1, each headed by the problem that it was drawn from ("another problem" where
that is not known); as many `Do` and `Avoid` lines as there are principles and pitfalls:

    Lesson 1 (from: What is 7 - 3 + 2?)
    - Idea: Keep a running total.
    - Do: Add from left to right.
    - Avoid: Losing a minus sign.

**Answer under lessons**: an analysis block, what the problem is about and one line for each lesson in their
order, then a solution that reads complete without the block (it mentions no lesson):

    <analysis>
    The problem is about sums.
    Lesson 1 is about sums. It applies: add from left to right.
    Lesson 2 is about fractions. It does not apply.
    </analysis>
    4 - 8 = -4
    -4 + 2 = -2
    \\boxed{-2}

**Answer after an earlier attempt** (intra): the same block around the critique, whose last line is `Verdict: right.` or
`Verdict: wrong.`, then a whole solution that does not mention the attempt:

    <analysis>
    4 - 8 = -4 is right.
    -4 + 2 = 2 is wrong: it is -2.
    Verdict: wrong.
    </analysis>
    4 - 8 = -4
    …

The block opens the reply, or follows the `<think>` section of a model that has one: `<analysis>` comes first and
`</analysis>` stands on a line of its own, so that x + what follows the block is a text of its own.
`prompts.analysis.end_of_analysis` finds the character where the solution begins; an answer from scratch has no block.
Attempts that are shown again or summarised are shown without theirs.

**Lesson asked for** (abstract): one JSON object, keys in this order, without blanks between its parts when SFT writes
it. The critique comes first, so that the entry follows from it; it is stored and never shown to a reader:

    {"critique": "…", "flow_of_thought": "…", "principles": ["…"], "pitfalls": ["…"]}

`critique`: which steps of this attempt hold and which fail, and why. `flow_of_thought`: the method that this attempt
used, in general words. `principles`: what to do in problems of this kind. `pitfalls`: what goes wrong in them, [] where
nothing did. Neither the attempt's answer nor the true one may stand in the last three.
"""
