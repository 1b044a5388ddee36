r"""The tokens of one mathematical expression as a tree; what cannot be read in exactly one way is not read.

A tree is nested tuples: ("number", Fraction), ("name", "x_1"), (operator, operand …), and for sums, products and
definite integrals (sign, name, from, to, operand). The grammar is the usual one of school and university; anything else
(limits, antiderivatives, words, `a/bc`) raises UnreadableError. Depth and size are bounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

from pipeline.rewards.math.tokens import FUNCTIONS, Token, words, written

Tree = tuple[Any, ...]

MAX_DEPTH = 60
MAX_TOKENS = 2000
MAX_DIGITS = 4000
MAX_RANGES = 8
CONSTANTS = frozenset((r"\pi", r"\infty", "e", "i"))
CLOSING = {"(": ")", "[": "]", "{": "}", "|": "|", r"\{": r"\}", r"\lfloor": r"\rfloor", r"\lceil": r"\rceil"}
_OF_SEVERAL = words("gcd lcm max min", "\\")
_OVER_RANGE = {r"\sum": "sum", r"\prod": "prod", r"\int": "int"}
SUMS, RANGES = frozenset(_OVER_RANGE), frozenset(_OVER_RANGE.values())
_BARS = {"|": "abs", r"\lfloor": "floor", r"\lceil": "ceil"}
_END = Token("mark", "")
_NAMES = words(
    "alpha beta gamma delta varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma tau "
    "upsilon phi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega ell hbar pi infty",
    "\\",
)
_ACCENTS = words("vec overline overleftarrow hat widehat dot ddot tilde widetilde check breve mathring", "\\")


class UnreadableError(Exception):
    """No expression, or one that can be read in several ways."""


class TooLargeError(ValueError):
    """More than is worth judging: too deep, too long, or a value beyond bounds."""


def expression(tokens: Sequence[Token]) -> Tree:
    """The tree of `tokens`. Raises UnreadableError, or TooLargeError."""
    if len(tokens) > MAX_TOKENS:
        raise TooLargeError(f"an expression of more than {MAX_TOKENS} signs is not read")
    reader = _Reader(tokens)
    tree = reader.sum()
    if reader.index < len(reader.tokens):
        raise UnreadableError(f"{reader.next.text!r} is not expected")
    return tree


def readable(tokens: Sequence[Token]) -> Tree | None:
    """`expression`, but None for what is unreadable."""
    try:
        return expression(tokens)
    except UnreadableError:
        return None


def names_in(tree: Tree) -> set[str]:
    """The variables of `tree`, without those that a sum runs over, or that have these as an index."""
    if tree[0] == "name":
        return {tree[1]}
    names = {name for part in tree[1:] if isinstance(part, tuple) for name in names_in(part)}
    if tree[0] not in RANGES:
        return names
    return {name for name in names if name != tree[1] and tree[1] not in name.partition("_")[2]}


class _Reader:
    def __init__(self, tokens: Sequence[Token]) -> None:
        self.tokens = list(tokens)
        self.index = 0
        self.depth = 0
        self.bars: list[int] = []
        """How many brackets are open around each | that is open."""
        self.bound: list[str] = []
        """Names that sums around run over; "" for an integral, whose name comes last."""

    @property
    def next(self) -> Token:
        return self.tokens[self.index] if self.index < len(self.tokens) else _END

    def take(self, *texts: str) -> Token | None:
        """The next token when it is one of `texts` (any, when none are given)."""
        token = self.next
        if token is _END or (texts and token.text not in texts) or (texts and token.kind == "word"):
            return None
        self.index += 1
        return token

    def expect(self, text: str) -> None:
        if self.take(text) is None:
            raise UnreadableError(f"{text!r} is missing")

    def sum(self) -> Tree:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise TooLargeError(f"nested deeper than {MAX_DEPTH} levels")
        tree = self.product()
        while sign := self.take("+", "-"):
            term = self.product()
            tree = ("+", tree, term if sign.text == "+" else ("-", term))
        self.depth -= 1
        return tree

    def product(self) -> Tree:
        tree, divided_by_name = self.signed(), False
        while True:
            if self.take("*"):
                tree, divided_by_name = ("*", tree, self.signed()), False
            elif self.take("/"):
                is_name = self.next.kind in ("letter", "command")
                tree, divided_by_name = ("/", tree, self.signed()), is_name
            elif self.begins_factor():
                if divided_by_name or (self.next.kind == "number" and self.tokens[self.index - 1].kind == "number"):
                    raise UnreadableError("a product that can be read in two ways")
                tree = ("*", tree, self.power())
            else:
                return tree

    def signed(self) -> Tree:
        negative = False
        while sign := self.take("+", "-"):
            negative ^= sign.text == "-"
        tree = self.power()
        return ("-", tree) if negative else tree

    def begins_factor(self) -> bool:
        token = self.next
        if self.is_differential():
            return False
        if token.kind in ("number", "letter"):
            return True
        if token.kind == "command":
            return token.text not in (r"\rfloor", r"\rceil", r"\circ", r"\choose", r"\rangle", r"\end")
        return token.text in ("(", "[", "{") or (token.text == "|" and not self.closes_bar())

    def is_differential(self) -> bool:
        """Whether `dx` comes next, within an integral."""
        return self.next.text == "d" and "" in self.bound

    def closes_bar(self) -> bool:
        return bool(self.bars) and self.bars[-1] == self.depth

    def power(self) -> Tree:
        """An atom with what is raised or set behind it."""
        tree = self.atom()
        while True:
            if self.take("^"):
                tree = self.raised(tree)
            elif self.take("!"):
                if self.next.text == "!":
                    raise UnreadableError("a double factorial")
                tree = ("call", "factorial", tree)
            else:
                return tree

    def raised(self, base: Tree) -> Tree:
        if self.take(r"\circ") or self.group_is(r"\circ"):
            return ("*", base, ("/", ("constant", r"\pi"), ("number", Fraction(180))))
        if self.next.text == "-":
            return ("^", base, self.signed())
        if self.next.text == "{":
            return ("^", base, self.group())
        return ("^", base, self.power() if self.next.kind == "number" else self.atom())

    def group_is(self, text: str) -> bool:
        """Whether `{text}` comes next; it is taken then."""
        found = [token.text for token in self.tokens[self.index : self.index + 3]] == ["{", text, "}"]
        self.index += 3 * found
        return found

    def group(self) -> Tree:
        """What stands between brackets that match."""
        opening = self.take()
        if opening is None or opening.text not in CLOSING:
            raise UnreadableError("brackets are missing")
        if opening.text == "|":
            self.bars.append(self.depth + 1)
        tree = self.sum()
        self.expect(CLOSING[opening.text])
        if opening.text == "|":
            self.bars.pop()
        return tree

    def atom(self) -> Tree:
        token = self.next
        match token.kind, token.text:
            case "number", _:
                return self.number()
            case "letter", _:
                return self.name()
            case _, text if text in _NAMES:
                return self.name()
            case _, "(" | "[" | "{":
                return self.group()
            case _, text if text in _BARS:
                return ("call", _BARS[text], self.group())
            case "command", _:
                return self.command()
        raise UnreadableError(f"{token.text!r} is no value" if token is not _END else "it ends too early")

    def number(self) -> Tree:
        token = self.tokens[self.index]
        if len(token.text) > MAX_DIGITS:
            raise TooLargeError(f"a number of more than {MAX_DIGITS} digits inside of an expression")
        self.index += 1
        value = Fraction(Decimal(token.text))
        if self.next.text == r"\overline" and "." in token.text:
            return ("number", value + self.repeating(len(token.text.partition(".")[2])))
        if self.next.text == "_":
            return ("name", token.text + self.subscript())
        if "." in token.text or "e" in token.text.lower():
            return ("number", value)
        return ("number", value + self.mixed())

    def repeating(self, num_before: int) -> Fraction:
        self.index += 1
        self.expect("{")
        digits = self.take()
        if digits is None or not digits.text.isdigit():
            raise UnreadableError("a period that is no digits")
        self.expect("}")
        return Fraction(int(digits.text), (10 ** len(digits.text) - 1) * 10**num_before)

    def mixed(self) -> Fraction:
        r"""The fraction of a mixed number (`3\frac{1}{2}`, `3 1/2`), taken; 0 when there is none."""
        rest = [token.text for token in self.tokens[self.index : self.index + 7]]
        if rest[:1] == [r"\frac"]:
            start = self.index
            self.index += 1
            try:
                top, bottom = self.argument(), self.argument()
            except UnreadableError:
                top = bottom = ("",)
            if top[0] == bottom[0] == "number" and 0 < top[1] < bottom[1]:
                return Fraction(top[1] / bottom[1])
            self.index = start
        elif len(rest) >= 3 and rest[0].isdigit() and rest[1] == "/" and rest[2].isdigit() and self.next.spaced:
            first, second = int(rest[0][:MAX_DIGITS]), int(rest[2][:MAX_DIGITS])
            if 0 < first < second:
                self.index += 3
                return Fraction(first, second)
        return Fraction(0)

    def name(self) -> Tree:
        text = self.tokens[self.index].text
        self.index += 1
        if self.next.text == "_":
            text += self.subscript()
        while self.take("'"):
            text += "'"
        return ("constant", text) if text in CONSTANTS and text not in self.bound else ("name", text)

    def subscript(self) -> str:
        self.expect("_")
        if self.next.text != "{":
            token = self.take()
            if token is None:
                raise UnreadableError("an index is missing")
            return f"_{{{token.text}}}"
        start = self.index
        level = 0
        while token := self.take():
            level += (token.text == "{") - (token.text == "}")
            if level == 0:
                return "_" + written(self.tokens[start : self.index])
        raise UnreadableError("an index that does not end")

    def argument(self) -> Tree:
        r"""One argument of a LaTeX command: a group, or a single sign (`\frac12`)."""
        token = self.next
        if token.text == "{":
            return self.group()
        if token.kind == "number" and token.text.isdigit():
            self.tokens[self.index] = token._replace(text=token.text[1:], spaced=False)
            if len(token.text) == 1:
                self.index += 1
            return ("number", Fraction(int(token.text[0])))
        return self.atom()

    def command(self) -> Tree:
        name = self.next.text
        self.index += 1
        match name:
            case r"\frac":
                return ("/", self.argument(), self.argument())
            case r"\binom":
                return ("call", "binomial", self.argument(), self.argument())
            case _ if name in _ACCENTS:
                return self.accented(name)
            case r"\sqrt":
                degree: Tree = self.group() if self.next.text == "[" else ("number", Fraction(2))
                return ("root", self.atom() if self.next.kind == "number" else self.argument(), degree)
            case _ if name in SUMS:
                return self.over_range(_OVER_RANGE[name])
            case _ if name in _OF_SEVERAL:
                return ("call", name[1:], *self.several())
        if name not in FUNCTIONS:
            raise UnreadableError(f"{name} is not read here")
        return self.function(name)

    def several(self) -> list[Tree]:
        """Operands in brackets, parted by commas."""
        opening = self.take("(", r"\{", "[")
        if opening is None:
            raise UnreadableError("brackets are missing")
        operands = [self.sum()]
        while self.take(","):
            operands.append(self.sum())
        self.expect(CLOSING[opening.text])
        return operands

    def over_range(self, kind: str) -> Tree:
        r"""What stands behind \sum, \prod or \int: bounds in either order, and what they are bounds of, up to the next
        + or -, or to `dx`."""
        name, bounds = "", dict[str, Tree]()
        while mark := self.take("_", "^"):
            is_named = mark.text == "_" and kind != "int"
            if is_named:
                self.expect("{")
                name = self.range_name()
                self.expect("=")
            bounds[mark.text] = self.sum() if is_named else self.argument()
            if is_named:
                self.expect("}")
        if bounds.keys() != {"_", "^"} or (kind != "int") != bool(name):
            raise UnreadableError("bounds are missing")
        if len(self.bound) >= MAX_RANGES:
            raise TooLargeError(f"more than {MAX_RANGES} sums within one another")
        self.bound.append(name)
        if kind == "int":
            operand = ("number", Fraction(1)) if self.is_differential() else self.sum()
            self.expect("d")
            name = self.range_name()
        else:
            operand = self.product()
        self.bound.pop()
        if any(name in names_in(bound) for bound in bounds.values()):
            raise UnreadableError("a sum over a range that it changes")
        return (kind, name, bounds["_"], bounds["^"], operand)

    def range_name(self) -> str:
        token = self.take()
        if token is None or not (token.kind == "letter" or token.text in _NAMES):
            raise UnreadableError("the name that a sum runs over is missing")
        return token.text

    def accented(self, name: str) -> Tree:
        r"""A name under an accent, as `\hat{x}_1` and `\overrightarrow{AB}`."""
        start = self.index
        if self.next.text != "{":
            self.index += 1
        else:
            while self.index < len(self.tokens) and self.tokens[self.index].text != "}":
                self.index += 1
            self.index += 1
        inner = [token for token in self.tokens[start : self.index] if token.text not in ("{", "}")]
        if not inner or any(token.kind != "letter" and token.text not in _NAMES | {"_", "'"} for token in inner):
            raise UnreadableError(f"{name} of what is no name")
        is_plain = name == r"\vec" and len(inner) == 1
        text = (written(inner) if is_plain else f"{name}{{{written(inner)}}}") + (
            self.subscript() if self.next.text == "_" else ""
        )
        while self.take("'"):
            text += "'"
        return ("name", text)

    def function(self, name: str) -> Tree:
        base: Tree | None = None
        exponent: Tree | None = None
        if name == r"\log" and self.take("_"):
            base = self.argument()
        if self.take("^"):
            exponent = self.argument()
        if exponent == ("-", ("number", Fraction(1))):
            name, exponent = f"\\arc{name[1:]}", None
            if name not in FUNCTIONS:
                raise UnreadableError(f"{name} is not read here")
        operand = self.group() if self.next.text in ("(", "[", "{") else self.operand()
        tree: Tree = ("call", name[1:], operand)
        if base is not None:
            tree = ("/", ("call", "ln", operand), ("call", "ln", base))
        return ("^", tree, exponent) if exponent is not None else tree

    def operand(self) -> Tree:
        r"""What a function without brackets is applied to: `\sin 2\pi x`, up to a sign, a bracket or another
        function."""
        tree = self.power()
        while self.begins_factor() and self.next.text not in ("(", "[", *FUNCTIONS - {r"\sqrt"}):
            if self.next.kind == "number":
                raise UnreadableError("two numbers side by side")
            tree = ("*", tree, self.power())
        return tree
