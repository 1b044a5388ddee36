r"""Each kind of right answer that earned nothing, and of wrong answer that was paid, once: by a table, and by
expressions that are equal, or unequal, by construction."""

import random

import pytest

from pipeline.rewards.math.equality import same_answer
from pipeline.rewards.math.expressions import TooLargeError

SAME = {
    "a letter that is no unit": [
        ("g + 3", "3 + g"),
        ("5 h - 2 s", "-2s + 5h"),
        (r"\frac{1}{4} W", r"\frac{W}{4}"),
        ("A = 6l", "6 l"),
        ("8 L", "8L"),
    ],
    "a digit behind a factor": [
        ("(k+2)3^{k}", r"3^k \cdot (k+2)"),
        ("y5", "5y"),
        ("(a-1)4", "4(a-1)"),
        (r"\sqrt{7}3", r"3\sqrt7"),
        (r"\pi 6", r"6\pi"),
    ],
    "real far out only": [
        (r"\sqrt{t-11}+2", r"2+\sqrt{t-11}"),
        (r"\frac{1}{\sqrt{-u-9}}", "(-u-9)^{-1/2}"),
        (r"\arccos(x+13)", r"\arccos(13+x)"),
    ],
    "what rounding leaves of zero": [
        (r"\sin(\pi) + \sin(\pi)", r"\sin(\pi) - (-\sin(\pi)) + 2 - 2"),
        ("0", r"\sin(3\pi)"),
        ("0", r"\sqrt{2}\sqrt{3} - \sqrt{6}"),
    ],
    "whole numbers": [
        (r"\lfloor \frac{m}{2} \rfloor + \lceil \frac{m}{2} \rceil", "m"),
        (r"\lceil \frac{k}{3} \rceil", r"\lfloor \frac{k+2}{3} \rfloor"),
        ("(-1)^{k+1}", r"-\cos(k\pi)"),
    ],
    "text or letters": [
        (r"\text{BDE}", "BDE"),
        ("KLM", r"\mathrm{KLM}"),
        (r"\text{(T)}", "T"),
        (r"\angle PQR", r"\angle{PQR}"),
        (r"\text{7 R 2}", "7 R 2"),
    ],
    "a product that is no function": [
        ("m(m+2)", "m^2+2m"),
        ("P(1+r)", "P+Pr"),
        ("3a(a-b)", "3a^2-3ab"),
        ("f(y+1)", "f(1+y)"),
        (r"8n\sqrt{5}", "8n(5)^{1/2}"),
        ("P(0)e^{-kt}", r"\frac{P(0)}{e^{kt}}"),
        (r"\frac{90!}{88!}", "8010"),
        (r"2^{900}\sqrt{2}", "2^{900.5}"),
    ],
    "bases": [
        ("(211)_{5}", "211_5"),
        ("211_5", "211_{(5)}"),
        ("211_5", "211 (base 5)"),
        ("210_4", r"210_{\text{four}}"),
    ],
    "numbers in words": [("7", r"\text{seven}"), ("12", "twelve")],
    "choices side by side": [("A,C", "AC"), ("A,C", "(A), (C)"), ("A, B, D", "ABD")],
    "unit vectors": [
        (r"2\mathbf{i}-5\mathbf{j}", r"2\hat{i}-5\hat j"),
        (r"2\mathbf i-5\mathbf j", r"2\vec i-5\vec{j}"),
        (r"2\mathbf i-5\mathbf j", r"2\hat{\mathbf{i}}-5\hat{\mathbf j}"),
        (r"2\mathbf{i}-5\mathbf{j}", r"2\hat{\imath}-5\hat{\jmath}"),
    ],
    "what is said of a series": [(r"\text{diverges}", "The series diverges"), ("DNE", "The limit does not exist")],
    "bars as a factor": [("5|y|", "|5y|"), ("|a|4", "4|a|"), ("|x||y|", "|xy|"), ("2|x-1|+|x|", "|x|+2|1-x|")],
    "ratios": [("S_{1}:S_{2}=3:8", "3:8"), (r"\frac{AM}{MC}=\frac{2}{9}", r"\frac{2}{9}"), ("AE:EB=5:2", "5:2")],
    "approximations": [
        ("14", r"y\approx14"),
        (r"\Delta v\approx 3a", "3a"),
        (r"\sqrt{2}", r"\sqrt{2} \approx 1.41"),
        ("250", r"250 \approx 300"),
    ],
    "assignments": [
        ("a=1,b=3;a=4,b=9", "(1,3),(4,9)"),
        ("Solution is: $m=6$", "6"),
        ("Solution is: $[x=1-s, y=2s]$", "x=1-s, y=2s"),
        ("[u=2, v=7]", "v=7, u=2"),
        (r"a>1, b\le 4", r"b\le 4, a>1"),
    ],
    "regions": [(r"\{t|1\le t<6\}", "[1,6)"), (r"\{x \in \mathbb{R} : x > 3\}", r"(3,\infty)"), ("2<g(x)<5", "(2,5)")],
    "cases": [
        (
            r"\begin{cases} 2x & x\ge 1 \\ x-3 & \text{if } x<1\end{cases}",
            r"\begin{cases} -3+x & \text{for } x<1, \\ 2x & x \ge 1\end{cases}",
        )
    ],
    "accents and primes": [
        (r"\overrightarrow{u}+2\hat{v}_1", r"2\hat{v}_1+\overrightarrow{u}"),
        (r"\alpha^{\prime} t", r"t\alpha'"),
        (r"71^\circ 5'", r"71^{\circ} 5^{\prime}"),
    ],
    "commands": [(r"$40$ km", r"40\textnormal{ km}"), ("{}_{6}C_{2}", "15"), ("^{7}C_{3}", "35")],
    "indexed values": [("x_1=2, x_2=9", "9, 2"), ("x_1=2, x_2=9", "x = 2, 9"), ("x_1=2, x_2=9", "x_2=2, x_1=9")],
    "sums, products, integrals": [
        (r"\frac{m(m+1)}{2}", r"\sum_{i=1}^{m} i"),
        (r"\sum_{r=0}^{p} r", r"\frac{p(p+1)}{2}"),
        ("65", r"1+\sum_{k=0}^{5} 2^k + 1"),
        (r"\sum_{j=0}^n \binom{n}{j}^2", r"\binom{2n}{n}"),
        (r"\frac{\pi^2}{6}", r"\sum_{n=1}^{\infty} \frac{1}{n^2}"),
        (r"\ln 2", r"\sum_{k=1}^\infty \frac{(-1)^{k+1}}{k}"),
        ("e^x", r"\sum_{n=0}^{\infty} \frac{x^n}{n!}"),
        ("n!", r"\prod_{k=1}^{n} k"),
        (r"\frac{x^4}{4}", r"\int_0^x t^3 \, dt"),
        (r"\sqrt{\pi}", r"\int_{-\infty}^{\infty} e^{-u^2} du"),
        (r"1-\frac{1}{e}", r"\int_0^1 \exp(-y) \mathrm{d}y"),
        (r"\frac{1001!}{999!}", "1001000"),
    ],
    "of several": [("6", r"\gcd(18, 24)"), (r"\lcm(4,6)", "12"), ("-1", r"\min\{3,-1\}"), ("3", r"\lg 1000")],
    "twice escaped": [(r"\frac{2}{7}", r"\\frac{2}{7}"), (r"(2, \sqrt{3})", r"\\left(2, \\sqrt{3}\\right)")],
    "a decimal comma": [("10002.75", "10002,75"), ("1000.5", "1000,5 m"), ("0.125", "0,125")],
    "values without their names": [("PQ=4, RS=9", "4, 9"), ("z=1, a=2", "1, 2")],
    "names with an index that runs": [(r"\sum_{k=1}^{n} a_k b_{n-k}", r"\sum_{k=1}^{n} b_{n-k} a_k")],
    "a decimal comma in braces": [("3.5", "3{,}5"), ("1234", "1{,}234")],
    "colours and ticks": [("8", r"\textcolor{red}{8}"), ("8", r"\color{blue}8"), ("8", r"8 \checkmark")],
    "a binomial by its infix": [("35", r"{7 \choose 3}")],
    "vectors": [
        (r"\begin{pmatrix} 4 \\ -1 \end{pmatrix}", "(4, -1)"),
        (r"\langle 4, -1 \rangle", r"\begin{bmatrix} 4 \\ -1 \end{bmatrix}"),
        ("(4, -1)", r"\left\langle 4, -1 \right\rangle"),
    ],
    "a number times a matrix": [
        (r"\begin{pmatrix} 3 & 0 \\ 6 & 9 \end{pmatrix}", r"3\begin{pmatrix} 1 & 0 \\ 2 & 3 \end{pmatrix}"),
        (r"\frac{1}{2} \begin{bmatrix} x \\ 1 \end{bmatrix}", r"\begin{bmatrix} x/2 \\ 0.5 \end{bmatrix}"),
        (r"\begin{pmatrix} -1 & 2 \end{pmatrix}", r"-\begin{pmatrix} 1 & -2 \end{pmatrix}"),
    ],
    "a system that is solved": [("(7, -2)", r"\begin{cases} x = 7 \\ y = -2 \end{cases}")],
    "bounds by bars": [("(-4,4)", "|x|<4"), (r"(-\infty,-4]\cup[4,\infty)", r"|t| \ge 4"), (r"[-4,4]", r"4 \ge |x|")],
    "all but one": [(r"x \ne 3", r"\mathbb{R} - \{3\}")],
    "the name of a size, a limit": [
        ("9", r"|S| = 9"),
        ("4", r"\lim_{h \to 0} \frac{(2+h)^2-4}{h} = 4"),
        ("9", r"\int_0^3 x^2 \, dx = 9"),
    ],
    "units in another script": [
        ("42", "42\u4e2a"),
        ("42 \u0441\u043c", "42"),
        ("7", "7 \u044f\u0431\u043b\u043e\u043a"),
    ],
    "one value, twice": [("1/4", "1/4 or 0.25")],
    "a chain that holds": [
        ("10", "x = 2 \\cdot 5 = 10"),
        ("25\\%", "p = 1/4 = 25\\%"),
        ("7", "x = y = 7"),
        ("600", "d = 60 cm = 600 mm"),
    ],
}
OTHER = {
    "a function is no factor": [
        ("N(0)2^{t}", "N(0)3^{t}"),
        ("y(0)+v(0)t", "v(0)t"),
        ("S(0)^2 + a", "a"),
        ("f(3z)", "3f(z)"),
        ("G(u)-G(v)", "G(u-v)"),
        ("3T(n/3)+1", "T(n)+1"),
        (r"2-\Phi(4)", r"2-4\Phi(1)"),
        ("E(Y^2)", "E(Y)^2"),
        ("g'(2)", "2g'(1)"),
    ],
    "a derivative is no quotient": [
        (r"\frac{dz}{du}", r"\frac{z}{u}"),
        (r"\frac{dN}{dt}=rN", r"\frac{N}{t}=rN"),
        (r"\frac{\Delta s}{\Delta t}", r"\frac{s}{t}"),
        (r"\frac{d^2 s}{dt^2}", r"\frac{ds}{t^2}"),
    ],
    "large values to the last digit": [
        ("90!+1", "90!+2"),
        (r"\binom{900}{300}", r"\binom{900}{300}-1"),
        (r"1+\frac{1}{95!}", "1"),
        (r"5^{400}+\sqrt{3}", "5^{400}"),
        (r"\sqrt{5}", r"\sqrt{5}+e^{-500}"),
    ],
    "what is beyond bounds, where gold is a number": [
        ("6", "(10^8)!"),
        ("6", r"\sum_{k=1}^{10^{11}} k"),
        ("1/2", r"\binom{10^8}{10^7}"),
        ("6", "7^{7^{7^{7}}}"),
    ],
    "another base, word, choice or vector": [
        ("211_5", "211_6"),
        ("211", "211_5"),
        ("8", r"\text{seven}"),
        ("A,C", "ACD"),
        ("A,C", "CD"),
        (r"2\mathbf i-5\mathbf j", r"2\hat i+5\hat j"),
        (r"\text{diverges}", "The series converges"),
    ],
    "sets within sets": [(r"\emptyset", r"\{\emptyset\}"), (r"\{3,4\}", r"\{\{3\},\{4\}\}")],
    "a fractional part, a falling power": [("y", r"\{y\}"), ("k^3", r"k^{\underline{3}}")],
    "rounding to whole numbers": [
        (r"\lfloor\frac{3k-1}{7}\rfloor", r"\lfloor\frac{3k-1}{8}\rfloor"),
        (r"\lceil\frac{m}{3}\rceil", r"\lfloor\frac{m}{3}\rfloor+1"),
        (r"\lfloor x\rfloor+1", r"\lceil x\rceil"),
        (r"\lfloor x\rfloor", "x"),
        (r"\lfloor\log_3 n\rfloor+1", r"\lceil\log_3 n\rceil"),
        (r"\lfloor n^2/1000 \rfloor", "0"),
    ],
    "small values": [
        (r"\frac{1}{150!}", r"\frac{1}{151!}"),
        ("e^{-600}", "e^{-601}"),
        (r"\frac{\sqrt5}{3^{400}}", r"\frac{\sqrt5}{3^{401}}"),
        ("0", r"\frac{1}{300!}"),
    ],
    "several equations": [
        (r"y=\frac{x}{2-x} \quad y=3x", r"y=\frac{x}{5-x} \quad y=3x"),
        ("a=4 \\text{ for } b=9", "a=5 \\text{ for } b=9"),
        ("It is the line $3x-y=0$", "It is the line $3x+y=0$"),
        ("x = 8 \\text{ is a solution}", "x = 9 \\text{ is a solution}"),
    ],
    "an approximation that is none": [("1.5", r"1.5 \approx 4.2"), ("4.2", r"1.5 \approx 4.2")],
    "the unit behind an approximation": [
        (r"\frac{40}{7} \approx 5.7 \text{ km}", r"\frac{40}{7} \approx 5.7 \text{ mi}")
    ],
    "a chain that does not hold": [("5", "3 = 5"), ("5", "x = 3 = 5"), ("6", "x = 2+3 = 6"), ("9", "4+4 = 9")],
    "every choice": [("A", "(A)(B)(C)"), ("C", "(A)(B)(C)"), ("B", "(B)(D)")],
    "the power of a unit": [(r"12\text{ units}^2", r"12\text{ units}^3"), (r"12\text{ units}^2", r"12\text{ cm}^3")],
    "an identity plus a constant": [
        (r"\sin^2 x = 1-\cos^2 x + K", r"\sin^2 x = 1-\cos^2 x - K"),
        ("2x = x + x + c", "2x = x + x - 3c"),
    ],
    "the index of a name": [("a_{1}=4, a_{2}=-6", "a_{1}=4, a_{5}=-6"), ("a_{1}=4, a_{2}=-6", "a_{3}=4, a_{2}=-6")],
    "words behind a formula": [("g(x)=x-2 where x is any integer", "g(x)=x-3 where x is any integer")],
    "sums, products, integrals": [
        (r"\frac{m(m+1)}{2}", r"\sum_{i=1}^{m+1} i"),
        (r"\frac{\pi^2}{6}", r"\sum_{n=2}^{\infty} \frac{1}{n^2}"),
        ("1", r"\sum_{k=1}^{\infty} \frac{1}{k}"),
        ("n!", r"\prod_{k=1}^{n} (k+1)"),
        (r"n a_{k}", r"\sum_{k=1}^{n} a_{k}"),
        (r"\frac{x^4}{4}", r"\int_0^x t^4 dt"),
        ("1", r"\int_0^1 \frac{1}{t} dt"),
        ("y^2", r"\int 2y dy"),
        ("-1", r"\sum_{k=0}^{\infty} 2^k"),
        (r"\frac{1}{2}", r"\sum_{k=0}^{\infty} (-1)^k"),
        ("7", r"s = \sum_{k=1}^{3} k = 7"),
    ],
    "a comma that parts": [("1.234", "1,234"), ("3.5", "3, 5"), ("1,5", "1.5")],
    "an equation to be solved": [("x=2", "3x=6"), ("t=4", "t-1=3"), ("n = -1", "n^2 + 2n + 1 = 0")],
    "values in another order": [("PQ=4, RS=9", "9, 4")],
    "two choices": [("C", "(C)/(D)"), ("C", "C. D."), ("C", "C) D)"), ("C", "C: D"), ("A", "(A) | (B)")],
    "the order of points": [("ABC", "ACB"), (r"PQRS", "PSRQ")],
    "two numbers that are no decimal": [
        ("2.25", "2,25"),
        ("3.5", "3,5 cm"),
        ("3.5", "(3,5)"),
        ("3.5", r"\{3,5\}"),
        ("1.234", "1{,}234"),
        ("3.05", "3,5"),
    ],
    "another vector": [
        (r"\begin{pmatrix} 4 \\ -1 \end{pmatrix}", "(-1, 4)"),
        (r"\begin{pmatrix} 4 \\ -1 \end{pmatrix}", "(4, -1, 0)"),
        (r"\begin{pmatrix} 4 & 0 \\ -1 & 0 \end{pmatrix}", "(4, -1)"),
    ],
    "another factor of a matrix": [
        (r"\begin{pmatrix} 3 & 0 \\ 6 & 9 \end{pmatrix}", r"2\begin{pmatrix} 1 & 0 \\ 2 & 3 \end{pmatrix}"),
        (r"\begin{pmatrix} 3 & 4 \\ 5 & 6 \end{pmatrix}", r"2+\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}"),
        (r"\begin{vmatrix} 2 & 4 \\ 6 & 8 \end{vmatrix}", r"2\begin{vmatrix} 1 & 2 \\ 3 & 4 \end{vmatrix}"),
    ],
    "other bounds by bars": [("(-4,4)", r"|x| \le 4"), ("(-4,4)", "|x|>4"), ("(-4,4)", "|x|<-4"), ("4", "|x| = 4")],
    "an angle in another measure": [
        (r"\frac{\pi}{6}", r"30^\circ"),
        (r"\frac{\pi}{6}", r"60^\circ"),
        ("30", r"\frac{\pi}{6}"),
        ("30^\\circ", "0.5236"),
    ],
    "two values": [("5", "5 or 6"), ("6", "5 or 6"), ("5", "5, 5")],
}


@pytest.mark.parametrize(("gold", "answer"), [pair for pairs in SAME.values() for pair in pairs])
def test_what_is_one_answer_in_two_forms(gold: str, answer: str) -> None:
    assert same_answer(gold, answer) and same_answer(answer, answer)


@pytest.mark.parametrize(("gold", "answer"), [pair for pairs in OTHER.values() for pair in pairs])
def test_what_is_another_answer(gold: str, answer: str) -> None:
    assert not same_answer(gold, answer)


SLOW = r"\sum_{n=1}^{\infty} \frac{1}{n^{1.001}}"


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("x", SLOW),
        (", ".join("0123456789"), ", ".join([SLOW] * 10)),
        (r"\sum_{k=1}^{\infty} \frac{1}{k^{x^2+3}}", r"\sum_{n=1}^{\infty} \frac{1}{n^{x^2+3}}"),
    ],
)
def test_what_takes_seconds_many_times_over_is_not_judged(gold: str, answer: str) -> None:
    with pytest.raises(TooLargeError, match="too slowly"):
        same_answer(gold, answer)
    assert same_answer("e^n", r"\sum_{k=0}^{\infty} \frac{n^k}{k!}")  # the next verdict has its own


LEAVES = ("x", "m", "h", "N", "2", "7", r"\sqrt{3}", r"\pi", r"\frac{1}{3}")


def term(rng: random.Random, depth: int = 2) -> str:
    """A random expression in letters that are units as well, with bars, brackets, sums, products and squares."""
    if depth == 0 or rng.random() < 0.2:
        return rng.choice(LEAVES)
    one, two = term(rng, depth - 1), term(rng, depth - 1)
    forms = (
        rf"\left({one} + {two}\right)", rf"\left({one} - {two}\right)", rf"{one} \cdot {two}", rf"\left|{one}\right|",
        rf"\left({one}\right)^2", rf"\left|{one}\right|\left({two}\right)",
    )  # fmt: skip
    return rng.choice(forms)


@pytest.mark.parametrize("seed", range(60))
def test_random_expressions_in_another_order_are_equal_and_changed_ones_are_not(seed: int) -> None:
    rng = random.Random(seed)
    one, two, by = term(rng), term(rng), rng.randint(2, 9)
    whole = f"{one} + {two}"
    assert same_answer(whole, f"{two} + {one}")
    assert same_answer(whole, rf"\frac{{{by}\left({two}\right) + {by}\left({one}\right)}}{{{by}}}")
    assert not same_answer(whole, rf"{one} + {two} + \frac{{1}}{{{by}}}")
    assert not same_answer(rf"{whole} + x", rf"{two} + {one} + {by}x")


@pytest.mark.parametrize("seed", range(60))
def test_the_ceiling_is_the_floor_of_more_and_not_of_as_much(seed: int) -> None:
    rng = random.Random(seed)
    factor, by, more = rng.randint(1, 9), rng.randint(2, 12), rng.randint(0, 11)
    more = by - 1 if rng.random() < 0.5 else more
    is_same = all(-(-factor * n // by) == (factor * n + more) // by for n in range(1, 200))
    ceiling, floor = (
        rf"\lceil \frac{{{factor}n}}{{{by}}} \rceil",
        rf"\lfloor \frac{{{factor}n + {more}}}{{{by}}} \rfloor",
    )
    assert same_answer(ceiling, floor) == is_same
