"""Answers that are meant to stall a verifier, fill its memory or break its reader, by name: 300 or more, all
different."""

from __future__ import annotations

from collections.abc import Callable

# Each takes a size, so that one trap makes several answers.
TRAPS: dict[str, Callable[[int], str]] = {
    "open parentheses": lambda n: "(" * n + "5",
    "nested parentheses": lambda n: "(" * n + "5" + ")" * n,
    "nested braces": lambda n: "{" * n + "5" + "}" * n,
    "nested square brackets": lambda n: "[" * n + "5" + "]" * n,
    "nested sets": lambda n: "\\{" * n + "5" + "\\}" * n,
    "nested lists": lambda n: "(" * n + "5" + ",1)" * n,
    "nested fractions": lambda n: "\\frac{1}{" * n + "5" + "}" * n,
    "nested roots": lambda n: "\\sqrt{" * n + "5" + "}" * n,
    "nested text": lambda n: "\\text{" * n + "5" + "}" * n,
    "nested sines": lambda n: "\\sin(" * n + "5" + ")" * n,
    "nested bars": lambda n: "|" * n + "5" + "|" * n,
    "nested floors": lambda n: "\\lfloor " * n + "5" + "\\rfloor " * n,
    "tower of nines": lambda n: "9^{" * n + "9" + "}" * n,
    "tower of letters": lambda n: "x^{" * n + "x" + "}" * n,
    "unbraced tower": lambda n: "^".join(["9"] * n),
    "long sum": lambda n: "+".join(["1"] * n),
    "long sum of letters": lambda n: "+".join(f"x_{{{k}}}" for k in range(n)),
    "long product": lambda n: "*".join(["7"] * n),
    "implicit product": lambda n: "(x+1)" * n,
    "many signs": lambda n: "-" * (2 * n + 1) + "7",
    "many factorials": lambda n: "7" + "!" * n,
    "many primes": lambda n: "f" + "'" * n,
    "digits": lambda n: "9" * n,
    "decimals": lambda n: "0." + "3" * n,
    "digits in an expression": lambda n: "x+" + "9" * n,
    "grouped digits": lambda n: ",".join(["123"] * n),
    "thin spaces": lambda n: "\\,".join(["123"] * n),
    "list": lambda n: ",".join(str(k) for k in range(n)),
    "list of pairs": lambda n: ",".join(f"({k},{k})" for k in range(n)),
    "list of equations": lambda n: ",".join(f"x_{{{k}}}={k}" for k in range(n)),
    "alternatives": lambda n: " or ".join(f"x={k}" for k in range(n)),
    "union": lambda n: "\\cup".join(f"({k},{k + 1})" for k in range(n)),
    "inequalities": lambda n: "<".join("x" * n),
    "equations": lambda n: "=".join("x" * n),
    "plus and minus": lambda n: "\\pm 1" * n,
    "matrix": lambda n: "\\begin{pmatrix}" + "\\\\".join(["1&" * n + "1"] * n) + "\\end{pmatrix}",
    "determinant": lambda n: "\\det\\begin{pmatrix}" + "\\\\".join(["x&" * n + "1"] * (n + 1)) + "\\end{pmatrix}",
    "unfinished matrices": lambda n: "\\begin{pmatrix}" * n,
    "blanks": lambda n: "5" + " " * n + "x",
    "tabs and stars": lambda n: "answer" + "\t* " * n + "5",
    "dollars": lambda n: "$" * n + "5",
    "backslashes": lambda n: "\\" * n + "5",
    "carets": lambda n: "2" + "^" * n,
    "percent signs": lambda n: "5" + "%" * n,
    "degrees": lambda n: "5" + "^\\circ" * n,
    "units": lambda n: "5" + "\\text{ cm}" * n,
    "words": lambda n: "ten " * n,
    "commas": lambda n: "," * n,
    "dots": lambda n: "5" + "." * n,
    "zero width": lambda n: "5" + "\u200b" * n + "5",
    "combining marks": lambda n: "x" + "\u0301" * n,
    "ligatures": lambda n: "\ufdfa" * n,
    "superscripts": lambda n: "2" + "⁹" * n,
    "fractions of one sign": lambda n: "½" * n,
    "right to left": lambda n: "\u202e5" * n,
    "null bytes": lambda n: "5\x00" * n,
    "chosen letters": lambda n: "A) " * n,
    "subscripts": lambda n: "x" + "_{x" * n + "}" * n,
    "logarithms": lambda n: "\\log_{2}" * n + "5",
    "sums of sums": lambda n: "\\sum_{k=1}^{99}" * n + "k",
    "integrals of integrals": lambda n: "\\int_0^1 " * n + "x" + " dx" * n,
}
SIZES = (30, 1000, 5000, 100_000)

VALUES = (
    "9^{9^{9}}", "9^{9^{9^{9}}}", "2^{10^{10}}", "10^{10^{100}}", "(-9)^{9^{9}}", "0.5^{-9^{9^9}}", "1000000000!",
    "(10^9)!", "99999!!", "(9!)!", "((9!)!)!", "\\binom{10^9}{10^8}", "\\binom{1000000}{500000}", "e^{e^{e^{e^{e}}}}",
    "\\exp(\\exp(\\exp(100)))", "\\sin(10^{10^{10}})", "\\cos(9^{9^9})", "\\tan(10^{300000})", "\\ln(\\ln(\\ln(0)))",
    "1/0", "0/0", "0^0", "\\frac{1}{0}", "0^{-1}", "\\infty-\\infty", "\\infty^{\\infty}", "\\frac{\\infty}{\\infty}",
    "\\sqrt[10^{100}]{2}", "\\sqrt[0]{2}", "\\log_1 5", "\\log_0 5", "\\arcsin(10^{99})", "1e99999", "1e-99999",
    "9e99999^9e99999", "\\lfloor 9^{9^9} \\rfloor", "\\sum_{k=1}^{10^{10}} k", "\\sum_{k=1}^{10^{9}} \\frac{1}{k}",
    "\\sum_{k=1}^{\\infty} \\frac{\\sin k}{k^3}", "\\sum_{k=1}^{10^7} \\sin(k^2)", "\\prod_{k=1}^{10^8} k",
    "\\prod_{k=1}^{10^6} (x+k)", "\\int_0^{\\infty} e^{-x^{x}} dx", "\\int_0^1 \\sin(\\sin(\\sin(\\sin x))) dx",
    "\\int x^x \\sin(x^x) dx", "\\int_0^1 \\frac{x^{99}}{1+x^{101}+e^x} dx",
    "\\int_{-\\infty}^{\\infty} e^{-x^4-x^2-\\sin x} dx", "\\int \\sqrt{1+x^3+x^5} dx",
    "\\int \\frac{dx}{x^{20}+x^7+1}", "\\int_0^1 \\int_0^1 e^{xy\\sin(xy)} dx dy",
    "\\lim_{x \\to 0} \\frac{\\sin(\\sin(x))-x^{x^{x}}}{x^{99}}",
    "\\lim_{n \\to \\infty} \\sum_{k=1}^{n} \\frac{k^k}{n^n}", "\\lim_{x \\to \\infty} x^{x^{x^{x}}}",
    "\\max(9^{9^9}, 1)", "\\gcd(9^{9^9}, 6)", "\\gcd(10^{5000}!, 7)", "\\sum_{k=1}^{5} 9^{9^{k}}",
    "\\sum_{k=0}^{99999} \\binom{99999}{k}", "\\det\\begin{pmatrix} a^{99} & b \\\\ c & 9^{9^9} \\end{pmatrix}",
    "(a+b+c+d+e+f)^{500}", "(x+1)^{100000}-(x+1)^{99999}", "\\sqrt{2}^{\\sqrt{2}^{\\sqrt{2}^{99}}}",
    "(1+\\sqrt{2})^{99999}", "(\\cos 1)^{10^{12}}", "x^{x^{x^{x^{x^{x}}}}}", "x!!!!!!!",
    "\\int_0^{10^{9}} \\lfloor x \\rfloor dx", "\\int e^{e^{e^x}} dx", "\\partial^{99} \\int \\sum \\prod",
    "\\sum_{n=1}^{\\infty} \\frac{1}{n^{n^{n}}}", "\\prod_{n=1}^{\\infty} (1-\\frac{1}{2^{n^n}})",
    "\\int_0^1 \\frac{\\ln(1+x^{2+\\sqrt3})}{1+x} dx",
)  # fmt: skip

RESPONSES: dict[str, Callable[[int], str]] = {
    "boxes": lambda n: "\\boxed{5}" * n,
    "joined boxes": lambda n: " or ".join(["\\boxed{5}"] * n),
    "nested boxes": lambda n: "\\boxed{" * n + "5" + "}" * n,
    "unclosed boxes": lambda n: "\\boxed{" * n,
    "empty boxes": lambda n: "\\boxed{}" * n,
    "closing braces": lambda n: "}" * n + "\\boxed{5",
    "hashes": lambda n: "#### \n" * n,
    "headings": lambda n: "#### Answer\n" * n,
    "tags": lambda n: "<answer>" * n + "</answer>" * n,
    "thoughts": lambda n: "<think>" * n + "</think>" * n,
    "statements": lambda n: "the answer is " * n,
    "answer with blanks": lambda n: "answer" + " " * n + "x",
    "so and blanks": lambda n: "." + " " * n + "so" + " " * n,
    "sentences": lambda n: "So 5. " * n,
    "one line of text": lambda n: "So it is x" + "x" * n,
    "lines": lambda n: "\n" * n + "answer: 5" + "\n " * n,
    "display": lambda n: "$$" * n + "5$$",
    "bold": lambda n: "**" * n + "5**",
    "withdrawals": lambda n: "\\boxed{5} wait, " * n,
    "afterthoughts": lambda n: "\\boxed{5}\n" + "Wait, the answer is 6. " * n,
    "values after a box": lambda n: "\\boxed{\\sqrt{2}}\n" + "The answer is \\sqrt{2.0000001}. " * (n // 10),
    "vast values after a box": lambda n: "\\boxed{5}\n" + "The answer is 9^{9^{9}}+9999!*\\sin(10^{9}). " * (n // 10),
    "sums after a box": lambda n: "\\boxed{5}\n" + "The answer is \\sum_{k=1}^{10^{9}} \\frac{1}{k}. " * (n // 10),
    "blank lines after a box": lambda n: "\\boxed{5}" + "\n " * n + "x",
    "claims after a box": lambda n: "\\boxed{5}\n" + "it is " * n,
    "dollars and letters": lambda n: "$a" * n + "$",
}


def hostile() -> dict[str, str]:
    """Whole responses: the traps in a box at several sizes, values beyond all bounds, and texts without end."""
    found = {value: f"The answer is $\\boxed{{{value}}}$." for value in VALUES}
    for name, trap in TRAPS.items():
        for size in SIZES:
            if name in ("matrix", "determinant"):
                size = min(size, 300) + size % 7
            found[f"{name}, {size}"] = f"The answer is $\\boxed{{{trap(size)}}}$."
    for name, response in RESPONSES.items():
        for size in (1000, 200_000):
            found[f"{name}, {size}"] = response(size)
    return found
