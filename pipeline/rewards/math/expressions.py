r"""The tokens of one mathematical expression as a tree; what cannot be read in exactly one way is not read.

A tree is nested tuples: ("number", Fraction), ("name", "x_1"), (operator, operand …), and for sums, products and
definite integrals (sign, name, from, to, operand), and for a function of no known value ("of", name, argument …). The
grammar is the usual one of school and university; anything else
(limits, antiderivatives, words, `a/bc`) raises UnreadableError. Depth and size are bounded.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
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
_IN_ACCENTS = _NAMES | {"_", "'", "{", "}"}
_ACCENTS = words("vec overline overleftarrow hat widehat dot ddot tilde widetilde check breve mathring", "\\")
_FUNCTIONS = frozenset(("f", "F", r"\Phi", r"\Gamma", r"\zeta"))
_LONE = re.compile(r"-?[\d.]+|[A-Za-z](?:_\{\w\})?|\\[a-z]+")
_NO_FACTORS = words("rfloor rceil circ choose rangle end", "\\")
_OPENING = frozenset("([{")
_ENDS_OPERAND = frozenset("([") | FUNCTIONS - {r"\sqrt"}


class UnreadableError(Exception):
    """No expression, or one that can be read in several ways."""


class TooLargeError(ValueError):
    """More than is worth judging: too deep, too long, or a value beyond bounds."""


def expression(tokens: Sequence[Token], functions: set[str] | None = None) -> Tree:
    """The tree of `tokens`; `functions` are names that are functions, and those found are added. Raises
    UnreadableError, or TooLargeError."""
    if len(tokens) > MAX_TOKENS:
        raise TooLargeError(f"an expression of more than {MAX_TOKENS} signs is not read")
    reader = _Reader(tokens, set() if functions is None else functions)
    tree = reader.sum()
    if reader.index < len(reader.tokens):
        raise UnreadableError(f"{reader.next.text!r} is not expected")
    return tree


def readable(tokens: Sequence[Token], functions: set[str] | None = None) -> Tree | None:
    """`expression`, but None for what is unreadable."""
    try:
        return expression(tokens, functions)
    except UnreadableError:
        return None


def nodes(tree: Tree) -> Iterator[Tree]:
    """`tree`, and all trees that it is made of, each before its own parts."""
    yield tree
    for part in tree[1:]:
        if isinstance(part, tuple):
            yield from nodes(part)


def names_in(tree: Tree) -> set[str]:
    """The variables of `tree`, without those that a sum runs over, or that have these as an index."""
    if tree[0] == "name":
        return {tree[1]}
    names = {name for part in tree[1:] if isinstance(part, tuple) for name in names_in(part)}
    if tree[0] not in RANGES:
        return names
    return {name for name in names if name != tree[1] and tree[1] not in name.partition("_")[2]}


class _Reader:
    def __init__(self, tokens: Sequence[Token], functions: set[str]) -> None:
        self.tokens, self.functions = list(tokens), functions
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
        if token is _END or (texts and (token.text not in texts or token.kind == "word")):
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
            if sign := self.take("*", "/"):
                divided_by_name = sign.text == "/" and self.next.kind in ("letter", "command")
                tree = (sign.text, tree, self.signed())
            elif not self.begins_factor():
                return tree
            elif divided_by_name:
                raise UnreadableError("a product that can be read in two ways")
            else:
                tree = self.factors(tree)

    def factors(self, tree: Tree, ends: frozenset[str] = frozenset()) -> Tree:
        """`tree` times all that stands side by side with it, up to one of `ends`."""
        while self.begins_factor() and self.next.text not in ends:
            if self.next.kind == "number" and (ends or self.tokens[self.index - 1].kind == "number"):
                raise UnreadableError("two numbers side by side")
            tree = ("*", tree, self.power())
        return tree

    def signed(self) -> Tree:
        negative = False
        while sign := self.take("+", "-"):
            negative ^= sign.text == "-"
        tree = self.power()
        return ("-", tree) if negative else tree

    def begins_factor(self) -> bool:
        token = self.next
        if token.kind == "command":
            return token.text not in _NO_FACTORS
        if token.text == "|":
            return not self.bars or self.bars[-1] != self.depth
        return (token.kind in ("number", "letter") or token.text in ("(", "[", "{")) and not self.is_differential()

    def is_differential(self) -> bool:
        """Whether `dx` comes next, within an integral."""
        return self.next.text == "d" and "" in self.bound

    def power(self) -> Tree:
        """An atom with what is raised or set behind it."""
        tree = self.atom()
        while mark := self.take("^", "!"):
            if mark.text == "^":
                tree = self.raised(tree)
            elif self.next.text == "!":
                raise UnreadableError("a double factorial")
            else:
                tree = ("call", "factorial", tree)
        return tree

    def raised(self, base: Tree) -> Tree:
        if self.take(r"\circ"):
            return ("*", base, ("/", ("constant", r"\pi"), ("number", Fraction(180))))
        if self.next.text == "-":
            return ("^", base, self.signed())
        return ("^", base, self.power() if self.next.kind == "number" else self.atom())

    def group(self) -> Tree:
        """What stands between brackets that match."""
        return self.operands(1)[0]

    def operands(self, at_most: int = MAX_TOKENS) -> list[Tree]:
        """What stands between brackets that match, parted by commas."""
        opening = self.take()
        if opening is None or opening.text not in CLOSING:
            raise UnreadableError("brackets are missing")
        if opening.text == "|":
            self.bars.append(self.depth + 1)
        found = [self.sum()]
        while len(found) < at_most and self.take(","):
            found.append(self.sum())
        self.expect(CLOSING[opening.text])
        if opening.text == "|":
            self.bars.pop()
        return found

    def atom(self) -> Tree:
        token = self.next
        match token.kind, token.text:
            case "number", _:
                return self.number()
            case _, text if token.kind == "letter" or text in _NAMES:
                self.index += 1
                name = self.indexed(text)
                if name in CONSTANTS and name not in self.bound:
                    return ("constant", name)
                return self.applied(name) or ("name", name)
            case _, "(" | "[" | "{":
                return self.group()
            case _, text if text in _BARS:
                return ("call", _BARS[text], self.group())
            case "command", _:
                return self.command()
        raise UnreadableError(f"{token.text!r} is no value" if token is not _END else "it ends too early")

    def applied(self, name: str) -> Tree | None:
        """`name` as a function of what stands in brackets behind it: of a number or another name (`P(0)`, `x(t)`), of
        several arguments, and whatever it is where the name is one of a function; `x(x + 1)` is a product."""
        if self.next.text not in ("(", "["):
            return None
        start = self.index
        arguments = self.operands()
        inner = written(self.tokens[start + 1 : self.index - 1])  # `y(5)^{1/2}` is y times a root
        is_lone = inner != name and (inner == "0" or name[0].isupper() or self.next.text != "^")
        if "'" in name or len(arguments) > 1 or (is_lone and _LONE.fullmatch(inner)):
            self.functions.add(name)
        if name in self.functions or name in _FUNCTIONS:
            return ("of", ("name", name), *arguments)
        self.index = start
        return None

    def number(self) -> Tree:
        text = self.next.text
        if len(text) > MAX_DIGITS:
            raise TooLargeError(f"a number of more than {MAX_DIGITS} digits inside of an expression")
        self.index += 1
        if self.next.text == "_":
            return ("name", self.indexed(text))
        value, num_places = Fraction(Decimal(text)), len(text.partition(".")[2])
        if "." in text and self.take(r"\overline"):
            digits = written(self.braced())
            if not digits.isdecimal():
                raise UnreadableError("a period that is no digits")
            value += Fraction(int(digits), (10 ** len(digits) - 1) * 10**num_places)
        elif text.isdecimal():
            value += self.mixed()
        return ("number", value)

    def mixed(self) -> Fraction:
        r"""The fraction of a mixed number (`3\frac{1}{2}`, `3 1/2`), taken; 0 when there is none."""
        start, tree = self.index, Tree()
        match self.tokens[start : start + 3]:
            case [Token("number", top, True), Token(_, "/"), Token("number", bottom)]:
                tree, self.index = ("/", ("number", Fraction(top)), ("number", Fraction(bottom))), start + 3
            case [Token(_, r"\frac"), *_]:
                with contextlib.suppress(UnreadableError):
                    tree = self.command()
        match tree:
            case "/", ("number", top), ("number", bottom) if 0 < top < bottom:
                return Fraction(top / bottom)
        self.index = start
        return Fraction(0)

    def indexed(self, name: str) -> str:
        """`name` with its index and primes, which are taken."""
        if self.take("_"):
            name += f"_{{{written(self.braced())}}}"
        while self.take("'"):
            name += "'"
        return name

    def braced(self) -> list[Token]:
        """The tokens of a group, or the next one alone."""
        start, level = self.index, 0
        while token := self.take():
            level += (token.text == "{") - (token.text == "}")
            if level <= 0:
                return self.tokens[start : self.index] if token.text != "}" else self.tokens[start + 1 : self.index - 1]
        raise UnreadableError("a group that does not end")

    def argument(self) -> Tree:
        r"""One argument of a LaTeX command: a group, or a single sign (`\frac12`)."""
        token = self.next
        if token.kind == "number" and token.text.isdigit():
            parts = [token._replace(text=text, spaced=False) for text in (token.text[0], token.text[1:]) if text]
            self.tokens[self.index : self.index + 1] = parts
            self.index += 1
            return ("number", Fraction(int(token.text[0])))
        return self.group() if token.text == "{" else self.atom()

    def command(self) -> Tree:
        name = self.next.text
        self.index += 1
        match name:
            case r"\frac":
                return ("/", self.argument(), self.argument())
            case r"\binom":
                return ("call", "binomial", self.argument(), self.argument())
            case r"\sqrt":
                degree: Tree = self.group() if self.next.text == "[" else ("number", Fraction(2))
                return ("root", self.atom() if self.next.kind == "number" else self.argument(), degree)
            case _ if name in _ACCENTS:
                return self.accented(name)
            case _ if name in SUMS:
                return self.over_range(_OVER_RANGE[name])
            case _ if name in _OF_SEVERAL:
                return ("call", name[1:], *self.operands())
            case _ if name in FUNCTIONS:
                return self.function(name)
        raise UnreadableError(f"{name} is not read here")

    def over_range(self, kind: str) -> Tree:
        r"""What stands behind \sum, \prod or \int: bounds in either order, and what they are bounds of, up to the next
        + or -, or to `dx`."""
        name, bounds = "", dict[str, Tree]()
        while mark := self.take("_", "^"):
            if mark.text == "_" and kind != "int":
                self.expect("{")
                name = self.range_name()
                self.expect("=")
                bounds["_"] = self.sum()
                self.expect("}")
            else:
                bounds[mark.text] = self.argument()
        if bounds.keys() != {"_", "^"}:
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

    def accented(self, accent: str) -> Tree:
        r"""A name under an accent, as `\hat{x}_1` and `\overrightarrow{AB}`."""
        inner = self.braced()
        if not inner or any(token.kind != "letter" and token.text not in _IN_ACCENTS for token in inner):
            raise UnreadableError(f"{accent} of what is no name")
        is_plain = accent == r"\vec" and len(inner) == 1
        return ("name", self.indexed(written(inner) if is_plain else f"{accent}{{{written(inner)}}}"))

    def function(self, name: str) -> Tree:
        base = self.argument() if name == r"\log" and self.take("_") else None
        exponent = self.argument() if self.take("^") else None
        if exponent == ("-", ("number", Fraction(1))):
            name, exponent = f"\\arc{name[1:]}", None
            if name not in FUNCTIONS:
                raise UnreadableError(f"{name} is not read here")
        # Without brackets it is applied to all up to a sign, a bracket or another function: `\sin 2\pi x`.
        operand = self.group() if self.next.text in _OPENING else self.factors(self.power(), _ENDS_OPERAND)
        tree: Tree = ("call", name[1:], operand)
        if base is not None:
            tree = ("/", ("call", "ln", operand), ("call", "ln", base))
        return ("^", tree, exponent) if exponent is not None else tree
