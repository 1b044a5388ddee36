"""A copy of what a problem asks to compute earns nothing; other answers that are equal do."""

import random

import pytest

from pipeline.config.rollout import RewardSection
from pipeline.rewards.math import is_echo, same_answer
from pipeline.rewards.scoring import Scoring
from pipeline.types import Label, Problem, Task

ECHOES = [
    ("What is 12 + 5?", "17", "12 + 5"),
    ("What is 12 + 5?", "17", "x = 5 + 12"),
    ("What is 12 + 5?", "17", r"(12 + 5) \cdot 1 + 0"),
    ("Was ist $3 \\cdot 4$?", "12", r"4 \times 3"),
    ("Berechne 6 / 8.", r"\frac{3}{4}", r"\frac{6}{8}"),
    ("Calculate -5.97 - -3.", "-2.97", "-5.97 + 3"),
    ("Compute $\\sqrt{72}$.", r"6\sqrt{2}", r"\sqrt{72}"),
    ("Compute $\\sum_{k=1}^{9} k$.", "45", r"\sum_{k=1}^{9} k"),
    ("Find $\\gcd(12, 18)$.", "6", r"\gcd(12, 18)"),
    ("Expand $(x+1)^2$.", "x^2+2x+1", "(1+x)^2"),
    ("Factor $x^2 - 9$.", "(x-3)(x+3)", "x^2-9"),
    ("Solve $5x + 2 = 17$ for x.", "x = 3", "5x + 2 = 17"),
    ("Solve the equation $3u + 2v = 7$ for $v$.", r"v = \frac{7 - 3u}{2}", "3u + 2v = 7"),
    ("Solve $2x > 4$.", "x > 2", "2x > 4"),
    ("\u8ba1\u7b97 12+5\u3002", "17", "5 + 12"),
    ("What is 12 + 5 (in metres)?", "17", "12 + 5"),
    (
        r"Compute $2 \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}$.",
        r"\begin{pmatrix} 2 & 4 \\ 6 & 8 \end{pmatrix}",
        r"2\begin{pmatrix}1&2\\3&4\end{pmatrix}",
    ),
    (r"Write $\frac{4\pi}{3}$ in degrees.", r"240^\circ", r"4\pi/3"),
    ("Write 64 as a power of 2.", "2^6", "64"),
    ("Write $\\frac{3}{8}$ as a decimal.", "0.375", r"\frac{3}{8}"),
    ("Express $0.\\overline{5}$ as a fraction.", r"\frac{5}{9}", r"0.\overline{5}"),
]
ANSWERS = [
    ("What is 12 + 5?", "17", "17"),
    ("What is 12 + 5?", "17", "12 + 5 = 17"),
    ("What is 12 + 5?", "17", "17.0"),
    ("Simplify $x + 1$.", "x + 1", "1 + x"),
    ("Simplify $2x$.", "2x", r"x \cdot 2"),
    ("Factor $x^2 - 9$.", "(x-3)(x+3)", "(x+3)(x-3)"),
    ("It is red with probability 3/4, of 8 balls. How likely is that?", "0.75", "3/4"),
    ("Which is larger, $2^{30}$ or $3^{20}$?", "3^{20}", "3^{20}"),
    ("Find a line through $z = x + 2y$.", "x + 2y = z", "z = x + 2y"),
    ("Solve $2x = 6$.", "3", r"\frac{6}{2}"),
    ("", "17", "12 + 5"),
    (
        r"Transpose $\begin{pmatrix} 1 & 2 \\ 2 & 4 \end{pmatrix}$.",
        r"\begin{bmatrix} 1 & 2 \\ 2 & 4 \end{bmatrix}",
        r"\begin{pmatrix} 1 & 2 \\ 2 & 4 \end{pmatrix}",
    ),
    ("Of 64 balls 2 are red. How many balls are there?", "64", "2^6"),
]


@pytest.mark.parametrize(("problem", "gold", "answer"), ECHOES)
def test_an_echo_is_known(problem: str, gold: str, answer: str) -> None:
    assert is_echo(problem, gold, answer)


@pytest.mark.parametrize(("problem", "gold", "answer"), ANSWERS)
def test_an_answer_is_no_echo(problem: str, gold: str, answer: str) -> None:
    assert same_answer(gold, answer) and not is_echo(problem, gold, answer)


@pytest.mark.parametrize("seed", range(40))
def test_sums_and_products_of_numbers_have_to_be_computed(seed: int) -> None:
    rng = random.Random(seed)
    numbers = [str(rng.randint(2, 99)) for _ in range(rng.randint(2, 5))]
    signs = [rng.choice("+-*") for _ in numbers]
    text = "".join(f" {sign} {number}" for sign, number in zip(signs, numbers, strict=True))[3:]
    value = str(eval(text))
    assert is_echo(f"Calculate {text}.", value, text) and is_echo(f"Calculate {text}.", value, f"({text})")
    assert not is_echo(f"Calculate {text}.", value, value)


def test_it_earns_nothing_unless_the_setting_says_so() -> None:
    task = Task(problem=Problem(id="", text="What is 12 + 5?"), label=Label(problem_id="", answer="17"))
    for refuse, score in ((True, 0.0), (False, 1.0)):
        for scorer in ("math", "auto"):
            scoring = Scoring(RewardSection(scorer=scorer, refuse_echo=refuse))
            (echo, answer) = scoring.verdicts([("\\boxed{12 + 5}", task), ("\\boxed{17}", task)])
            assert (echo.score, answer.score) == (score, 1.0)
    assert "without computing" in next(Scoring(RewardSection(scorer="math")).verdicts([("\\boxed{5+12}", task)])).text
