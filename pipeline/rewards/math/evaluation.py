r"""Decides whether two expressions are equal: exactly for rational numbers, else by their values to 150 digits.

Expressions with variables are compared at fixed points, positive and negative, wherever both have a real value. No
tolerance is given to rounded decimals: 0.333333 is not 1/3. Series and integrals are summed up numerically, at two
precisions, which have to agree, and compared to 24 digits. Values beyond 2^±200,000 and sums of more than 3,000 terms
raise TooLargeError instead of being computed.
"""

from __future__ import annotations

import builtins
import math
import operator
import random
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any

import mpmath

from pipeline.rewards.math.expressions import RANGES, TooLargeError, Tree, UnreadableError, expression, names_in
from pipeline.rewards.math.tokens import Token, written

MAX_BITS = 200_000
MAX_FACTORIAL = 10_000
NUM_POINTS = 8
NUM_FURTHER = 100
NUM_OF_SUMS = 24
MAX_TERMS = 3_000
TERMS_OF_A_LIMIT = 300
"""What a series or an integral counts as, within other sums."""
MAX_TERMS_OF_SERIES, MAX_UNSETTLED = 4_000, 2
"""Terms that the series of one verdict are asked for, and series that may end without a value: each takes a second."""
_spent = Counter[str]()
"""What the verdict has spent of these."""
_FAR, _VANISHING = 3000, 1 / 30
"""Where the terms of a series are looked at, and how small they have to be there."""
_DIGITS, _FEW_DIGITS = 150, 30
_CONTEXT = mpmath.MPContext()
_CONTEXT.dps = _DIGITS
_CONSTANTS = {"e": _CONTEXT.e, "i": _CONTEXT.j, r"\pi": _CONTEXT.pi, r"\infty": _CONTEXT.inf}
_WHOLE = frozenset("ijklmnpqKMN")
"""Letters that stand for whole numbers where they are rounded."""
MAX_WORK = 40_000
"""Parts of expressions that are evaluated at all further points together."""


def begin_verdict() -> None:
    """Forgets what the verdict before has spent."""
    _spent.clear()


def _spend(what: str, at_most: int, by: int) -> None:
    _spent[what] += by
    if _spent[what] > at_most:
        raise TooLargeError("series that converge too slowly")


def same_value(gold: Sequence[Token], answer: Sequence[Token]) -> bool:
    """Whether two expressions are equal wherever both are defined. Raises TooLargeError."""
    if written(gold) == written(answer):
        return True
    try:
        return same_tree(expression(gold), expression(answer))
    except UnreadableError:
        return False


def same_tree(first: Tree, second: Tree) -> bool:
    """Whether two trees are equal wherever both are defined."""
    exact, other = rational(first), rational(second)
    if exact is not None and other is not None:
        return exact == other
    return _agree(first, second, _near)


def proportional(first: Tree, second: Tree, positive: bool = False) -> bool:
    """Whether one is a constant (positive) multiple of the other, and neither is zero."""
    ratios = []

    def compare(one: Any, two: Any) -> bool:
        if one == 0 or two == 0:
            return False
        ratios.append(one / two)
        return _near(ratios[0], ratios[-1]) and (not positive or (ratios[-1].imag == 0 and ratios[-1].real > 0))

    names = names_in(first)
    is_same = bool(names and names == names_in(second) and _agree(first, second, compare))
    return is_same and all(_depends(first, names, name) for name in names)


def _depends(tree: Tree, names: set[str], name: str) -> bool:
    """Whether the value of `tree` changes with `name`: an identity plus C is no equation of x."""
    for number in range(3):
        point = {each: _coordinate(each, number) for each in names}
        one, two = _value(tree, point), _value(tree, point | {name: _coordinate(name, number + 4)})
        if one is None or two is None or not _near(one, two):
            return True
    return False


def is_less(first: Tree, second: Tree) -> bool:
    """Whether the value of `first` is below that of `second`; False when either has no real value."""
    one, two = (_value(tree, {}) for tree in (first, second))
    return one is not None and two is not None and one.imag == two.imag == 0 and bool(one.real < two.real)


def _agree(first: Tree, second: Tree, compare: Callable[[Any, Any], bool]) -> bool:
    """Whether `compare` holds wherever both are real, at two points at least: near 0, then further out, where not
    enough of these were. What rounds to whole numbers is compared at both kinds of points, whole ones first."""
    parts = [*_parts(first), *_parts(second)]
    is_limit = "int" in parts or (r"\infty" in parts and not RANGES.isdisjoint(parts))
    with _CONTEXT.workdps(_FEW_DIGITS if is_limit else _CONTEXT.dps):
        return _agree_at_points(first, second, compare, {*parts}, min(NUM_FURTHER, MAX_WORK // len(parts)), is_limit)


def _agree_at_points(
    first: Tree, second: Tree, compare: Callable[[Any, Any], bool], parts: set[str], num_further: int, is_limit: bool
) -> bool:
    names = names_in(first) | names_in(second)
    if not names:
        one, two = _value(first, {}), _value(second, {})
        return one is not None and two is not None and compare(one, two)
    ends = _names_of_ends(first) | _names_of_ends(second)
    whole = {name for name in names if parts & {"floor", "ceil", "sum", "prod"} and name[0] in _WHOLE} | ends
    is_stepped = bool(whole or parts & {"floor", "ceil"})
    if parts & RANGES:
        num_further = NUM_OF_SUMS
    num_near = NUM_POINTS if whole != names else 0
    num_compared = 0
    for number in range(num_near + num_further):
        is_near = number < num_near
        if not is_near and num_compared >= 2 and not is_stepped:
            break
        if is_near:
            point = {name: _coordinate(name, number) for name in names - ends} | {
                name: _further(name, number, True, len(names) == 1) for name in ends
            }
        else:
            point = {name: _further(name, number - num_near, name in whole, len(names) == 1) for name in names}
        one, two = _value(first, point), _value(second, point)
        if is_near and not is_limit and (one is None) != (two is None):
            return False
        if one is None or two is None or ("i" not in parts and (one.imag != 0 or two.imag != 0)):
            continue
        if not compare(one, two):
            return False
        num_compared += 1
    return num_compared >= 2


def _parts(tree: Tree) -> Iterator[str]:
    """What `tree` is made of: signs, functions, constants."""
    yield tree[1] if tree[0] in ("call", "constant") else tree[0]
    for part in tree[1:]:
        if isinstance(part, tuple):
            yield from _parts(part)


def _names_of_ends(tree: Tree) -> set[str]:
    """The names in the bounds of sums and products, which are whole numbers."""
    own = names_in(tree[2]) | names_in(tree[3]) if tree[0] in ("sum", "prod") else set()
    return own.union(*(_names_of_ends(part) for part in tree[1:] if isinstance(part, tuple)))


@lru_cache(maxsize=4096)
def _coordinate(name: str, number: int) -> Any:
    """Where `name` is put at point `number`: fixed, of no pattern, a quarter of them between 0 and 1."""
    rng = random.Random(zlib.crc32(f"{name} {number}".encode()))
    value = _CONTEXT.mpf(rng.getrandbits(60)) / 2**60 + (number % 4 > 0) * (1 + number % 3)
    return value if number < 4 or rng.random() < 0.5 else -value


@lru_cache(maxsize=4096)
def _further(name: str, number: int, is_whole: bool, is_only: bool) -> Any:
    """The same further out: at whole numbers from 1 on, the last of them near powers of 2, or in steps on both sides of
    0; in no order where `name` is not the only one."""
    rng = random.Random(zlib.crc32(f"{name} further {number}".encode()))
    if is_whole or number % 2:
        steps = number + 1 if is_whole else (number + 1) // 2
        value = steps if is_only else rng.randint(1, 24)
        if number >= NUM_FURTHER - 8:
            value = 2 ** rng.randint(5, 12) + rng.choice((-1, 0, 0, 1))
        return _CONTEXT.mpf(value if is_whole or rng.random() < 0.7 else -value)
    value = _CONTEXT.mpf(rng.getrandbits(60)) / 2**60 + number // 4
    is_right = number % 4 == 0 if is_only else rng.random() < 0.5
    return value if is_right else -value


def _near(one: Any, two: Any) -> bool:
    one, two = _CONTEXT.mpc(one), _CONTEXT.mpc(two)
    if not (_CONTEXT.isfinite(one) and _CONTEXT.isfinite(two)):
        return bool(one == two)
    return bool(abs(one - two) <= _rounding(4) * max(abs(one), abs(two)))


def _rounding(fifths: int) -> Any:
    """What counts as nothing: with four fifths of the digits beside a value, with two beside 1 (what rounding may have
    left of zero)."""
    return _CONTEXT.ldexp(1, -_CONTEXT.prec * fifths // 5)


def rational(tree: Tree) -> Fraction | None:
    """The value of `tree` when it is made of whole numbers by + - * / and whole powers; None otherwise."""
    kind = tree[0]
    if kind == "number":
        return Fraction(tree[1])
    if kind not in ("+", "-", "*", "/", "^"):
        return None
    values = [rational(part) for part in tree[1:]]
    match kind, [value for value in values if value is not None]:  # too few for any case, if a part has no value
        case "-", [value]:
            return -value
        case "+", [one, two]:
            return one + two
        case "*", [one, two]:
            return _bounded(one * two)
        case "/", [one, two] if two:
            return one / two
        case "^", [base, exponent] if exponent.denominator == 1 and (base or exponent > 0):
            bits = max(base.numerator.bit_length(), base.denominator.bit_length())
            if abs(base) not in (0, 1) and abs(exponent) * bits > MAX_BITS:
                raise TooLargeError("a power beyond what is worth computing")
            return base ** int(exponent)
    return None


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > 4 * MAX_BITS:
        raise TooLargeError("a number beyond what is worth computing")
    return value


def _value(tree: Tree, point: Mapping[str, Any]) -> Any:
    """The complex value of `tree` at `point`, real when the imaginary part is what rounding leaves; None where it has
    none."""
    try:
        value = _CONTEXT.mpc(_evaluate(tree, point))
        if value != 0 and _CONTEXT.isfinite(value) and abs(value) < _rounding(2):
            with _CONTEXT.workdps(2 * _CONTEXT.dps):
                again = _CONTEXT.mpc(_evaluate(tree, point))
                value = again if abs(again) > _rounding(1) * abs(value) else again * 0
    except ArithmeticError:
        return None
    if _CONTEXT.isfinite(value) and abs(value.imag) <= _rounding(4) * abs(value.real):
        return _CONTEXT.mpc(value.real)
    return None if _CONTEXT.isnan(value) else value


def _evaluate(tree: Tree, point: Mapping[str, Any]) -> Any:
    """The value of `tree`. Raises ArithmeticError when there is none."""
    match tree:
        case "number", value:
            return _CONTEXT.mpf(value.numerator) / value.denominator
        case "name", name:  # x_k within a sum over k is another value for each k
            return point[name] if name in point else _coordinate(f"{name} {[*point.items()]}", 0)
        case "constant", name:
            return _CONSTANTS[name] * 1
        case "call", name, *operands:
            return _checked(_call(name, [_evaluate(operand, point) for operand in operands]))
        case "-", operand:
            return -_evaluate(operand, point)
        case "sum" | "prod" | "int", *_:
            return _checked(_over_range(tree, point))
    kind, one, two = tree[0], _evaluate(tree[1], point), _evaluate(tree[2], point)
    return one + two if kind == "+" else _checked(_BINARY[kind](one, two))


def _over_range(tree: Tree, point: Mapping[str, Any]) -> Any:
    """The value of a sum, product or integral. The number of terms that all sums around it have is kept in `point`, as
    the value of ""."""
    kind, name, low, high, operand = tree
    ends = [_evaluate(low, point), _evaluate(high, point)]
    is_limit = kind == "int" or not all(map(_CONTEXT.isfinite, ends))
    if not is_limit and not all(map(_CONTEXT.isint, ends)):
        raise ArithmeticError("a sum that ends between two terms")
    first, last = (0, TERMS_OF_A_LIMIT) if is_limit else (int(_CONTEXT.re(end)) for end in ends)
    num_terms = (last - first + 1) * point.get("", 1)
    if num_terms > MAX_TERMS:
        raise TooLargeError(f"a sum of more than {MAX_TERMS} terms")
    if last < first - 1:
        raise ArithmeticError("a sum that goes backwards")

    around = {other: value for other, value in point.items() if name not in other.partition("_")[2]} | {"": num_terms}

    def term(value: Any) -> Any:
        _spend("terms", MAX_TERMS_OF_SERIES, by=is_limit and kind != "int")
        return _evaluate(operand, {**around, name: value})

    if is_limit:
        return _limit(kind, term, ends)
    terms = (term(_CONTEXT.mpf(number)) for number in range(first, last + 1))
    return sum(terms, _CONTEXT.mpf(0)) if kind == "sum" else math.prod(terms, start=_CONTEXT.mpf(1))


def _limit(kind: str, term: Callable[[Any], Any], ends: list[Any]) -> Any:
    """The value that two precisions agree on. The terms of a series have to vanish: the methods that add them up give a
    value to some that diverge."""
    for end in ends if kind != "int" else ():
        far = abs(term(_CONTEXT.sign(end) * _FAR) - (kind == "prod")) if _CONTEXT.isinf(end) else 0
        if far > _VANISHING:
            raise ArithmeticError("it does not converge")
    found = []
    for digits in (_FEW_DIGITS * 2 // 3, _FEW_DIGITS):
        with _CONTEXT.workdps(digits):
            try:
                if kind == "int":
                    value, error = _CONTEXT.quad(term, ends, error=True)
                else:
                    value, error = {"sum": _CONTEXT.nsum, "prod": _CONTEXT.nprod}[kind](term, ends), 0
            except mpmath.libmp.NoConvergence as problem:
                raise ArithmeticError("it does not converge") from problem
            found.append(value)
            if abs(found[0] - value) + error > _rounding(2) * max(1, abs(value)):
                _spend("unsettled", MAX_UNSETTLED, by=kind != "int")
                raise ArithmeticError("it does not converge")
    return found[-1]


def _checked(value: Any) -> Any:
    """`value`, when its size is within bounds, which the ends of an integral need not be."""
    if _CONTEXT.dps >= _DIGITS and _CONTEXT.isfinite(value) and value != 0 and abs(_CONTEXT.mag(value)) > MAX_BITS:
        raise TooLargeError("a value beyond what is worth computing")
    return value


def _power(base: Any, exponent: Any) -> Any:
    if base == 0:
        if _CONTEXT.re(exponent) <= 0:
            raise ArithmeticError("0 raised to what is not positive")
        return base * 0
    if _CONTEXT.isfinite(base) and _CONTEXT.isfinite(exponent):
        if abs(exponent) * abs(_CONTEXT.log(base)) > MAX_BITS:
            if _CONTEXT.dps < _DIGITS and _CONTEXT.re(exponent * _CONTEXT.log(base)) < 0:
                return _CONTEXT.mpf(0)  # what a series or an integral does not need
            raise TooLargeError("a power beyond what is worth computing")
        if _CONTEXT.im(exponent) == 0 and _CONTEXT.isint(_CONTEXT.re(exponent)):
            exponent = int(_CONTEXT.re(exponent))
    return base**exponent


def _root(radicand: Any, degree: Any) -> Any:
    is_odd = _CONTEXT.im(degree) == 0 and _CONTEXT.isint(degree) and int(_CONTEXT.re(degree)) % 2 == 1
    if is_odd and _CONTEXT.im(radicand) == 0 and _CONTEXT.re(radicand) < 0:
        return -_power(-radicand, 1 / _CONTEXT.mpf(degree))
    return _CONTEXT.sqrt(radicand) if degree == 2 else _power(radicand, 1 / degree)


def _call(name: str, operands: list[Any]) -> Any:
    operand = operands[0]
    if not all(_CONTEXT.isfinite(each) for each in operands):
        raise ArithmeticError(f"{name} of what is not finite")
    match name:
        case "factorial" | "binomial":
            if any(abs(each) > MAX_FACTORIAL for each in operands):
                raise TooLargeError(f"a {name} beyond what is worth computing")
            return getattr(_CONTEXT, name)(*operands)
        case "gcd" | "lcm" if all(_CONTEXT.isint(each) for each in operands):
            return _CONTEXT.mpf(getattr(math, name)(*(int(_CONTEXT.re(each)) for each in operands)))
        case "max" | "min" if not any(_CONTEXT.im(each) for each in operands):
            return getattr(builtins, name)(operands, key=_CONTEXT.re)
        case "gcd" | "lcm" | "max" | "min":
            raise ArithmeticError(f"the {name} of what has none")
        case "abs":
            return abs(operand)
        case "exp":
            return _power(_CONTEXT.e * 1, operand)
        case "floor" | "ceil":
            nearest = _CONTEXT.nint(operand)  # what rounding left of a whole number is that number
            return nearest if abs(operand - nearest) < _rounding(2) else getattr(_CONTEXT, name)(operand)
        case "ln" | "log" | "lg":
            if operand == 0:
                raise ArithmeticError("the logarithm of 0")
            # The base of a bare log is not known: the same unknown factor wherever it stands.
            return _CONTEXT.log(operand) * {"ln": 1, "log": _CONTEXT.mpf(31) / 97}.get(name, 1 / _CONTEXT.ln10)
    if abs(operand) > MAX_BITS:
        raise TooLargeError(f"{name} of a value beyond what is worth computing")
    return getattr(_CONTEXT, name.replace("arc", "a"))(operand)


_BINARY: dict[str, Callable[[Any, Any], Any]] = {"*": operator.mul, "/": operator.truediv, "^": _power, "root": _root}
