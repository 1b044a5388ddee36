r"""Decides whether two expressions are equal: exactly for rational numbers, else by their values to 150 digits.

Expressions with variables are compared at fixed points, positive and negative, wherever both have a real value. No
tolerance is given to rounded decimals: 0.333333 is not 1/3. Series and integrals are summed up numerically, at two
precisions, which have to agree, and compared to 24 digits. Values beyond 2^±200,000, and sums, series and integrals of
more terms than one verdict may spend, raise TooLargeError instead of being computed.
"""

from __future__ import annotations

import math
import operator
import random
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import lru_cache, partial
from typing import Any

import mpmath

from pipeline.rewards.math.expressions import RANGES, TooLargeError, Tree, names_in, nodes, readable
from pipeline.rewards.math.tokens import Token, written

MIN_BITS, MAX_BITS = 100, 200_000
MAX_FACTORIAL = 10_000
NUM_POINTS, NUM_FURTHER, NUM_OF_SUMS = 8, 100, 16
"""Points near 0, further out, and these of what has sums."""
MAX_WORK = 40_000
"""Parts of expressions that are evaluated at all further points together."""
MAX_TERMS, TERM_OF_SERIES, UNSETTLED = 12_000, 3, 4_000
"""Terms of sums and integrals that one verdict may spend, what one of a series counts as, and a series without a
value."""
_spent, _widest = [0], [0]
_FAR, _VANISHING = 3000, 1 / 30
"""Where the terms of a series are looked at, and how small they have to be there."""
_DIGITS, _FEW_DIGITS = 150, 30
_CONTEXT = mpmath.MPContext()
_CONTEXT.dps = _DIGITS
_CONSTANTS = {"e": _CONTEXT.e, "i": _CONTEXT.j, r"\pi": _CONTEXT.pi, r"\infty": _CONTEXT.inf}
_WHOLE = frozenset("ijklmnpqKMN")
"""Letters that stand for whole numbers where they are rounded."""


def begin_verdict() -> None:
    """Forgets what the verdict before has spent."""
    _spent[0] = 0


def _spend(terms: int) -> None:
    _spent[0] += terms
    if _spent[0] > MAX_TERMS:
        raise TooLargeError("sums of too many terms, or series that converge too slowly")


def same_value(gold: Sequence[Token], answer: Sequence[Token]) -> bool:
    """Whether two expressions are equal wherever both are defined. Raises TooLargeError."""
    if written(gold) == written(answer):
        return True
    functions = set[str]()
    first, second = readable(gold, functions), readable(answer, functions)
    if functions:  # what is one on one side is one on the other
        first, second = readable(gold, functions), readable(answer, functions)
    if first is None or second is None:
        return False
    exact = rational(first)
    try:
        other = rational(second)
        return _agree(first, second, _near) if exact is None or other is None else exact == other
    except TooLargeError:
        if exact is not None and _spent[0] <= MAX_TERMS:
            return False  # one value left to compute that is beyond bounds, where gold is computed
        raise


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
    enough of these were, or where something is rounded to whole numbers."""
    parts = [*_parts(first), *_parts(second)]
    is_limit = "int" in parts or (r"\infty" in parts and not RANGES.isdisjoint(parts))
    with _CONTEXT.workdps(_FEW_DIGITS if is_limit else _DIGITS):
        names = names_in(first) | names_in(second)
        if not names:
            _widest[0] = 0
            for times in range(1 if is_limit else 2):  # once more with the digits that what is large or small takes
                _CONTEXT.prec += times * _widest[0]
                one, two = _value(first, {}), _value(second, {})
                is_same = one is not None and two is not None and compare(one, two)
                if not is_same or _widest[0] < MIN_BITS:
                    break
            return is_same
        whole = _names_of_ends(first) | _names_of_ends(second)
        if not {"floor", "ceil", "sum", "prod"}.isdisjoint(parts):
            whole |= {name for name in names if name[0] in _WHOLE}
        is_stepped = bool(whole or "floor" in parts or "ceil" in parts)
        num_further = NUM_OF_SUMS if RANGES & {*parts} else min(NUM_FURTHER, MAX_WORK // len(parts))
        num_compared = 0
        for number in range(NUM_POINTS + num_further):
            if number >= NUM_POINTS and num_compared >= 4 and not is_stepped:
                break
            point = {name: _coordinate(name, number, name in whole, len(names) == 1) for name in names}
            one, two = _value(first, point), _value(second, point)
            if number < NUM_POINTS and not is_limit and (one is None) != (two is None):
                return False
            if one is None or two is None or ("i" not in parts and (one.imag != 0 or two.imag != 0)):
                continue
            if not compare(one, two):
                return False
            num_compared += 1
        return num_compared >= 2


def _parts(tree: Tree) -> Iterator[str]:
    """What `tree` is made of: signs, functions, constants."""
    return (node[1] if node[0] in ("call", "constant") else node[0] for node in nodes(tree))


def _names_of_ends(tree: Tree) -> set[str]:
    """The names in the bounds of sums and products, which are whole numbers."""
    ends = (end for kind, *parts in nodes(tree) if kind in ("sum", "prod") for end in parts[1:3])
    return set[str]().union(*map(names_in, ends))


@lru_cache(maxsize=4096)
def _coordinate(name: str, number: int, is_whole: bool = False, is_only: bool = False) -> Any:
    """Where `name` is put at point `number`: fixed, of no pattern, the first ones near 0, a quarter of them between 0
    and 1. Further out each other one is whole, on both sides of 0, the last of them near powers of 2. `is_whole`:
    whole numbers from 1 on. In no order where `name` is not the only one."""
    rng = random.Random(zlib.crc32(f"{name} {number}".encode()))
    fraction = _CONTEXT.mpf(rng.getrandbits(60)) / 2**60
    if number < NUM_POINTS and not is_whole:
        value = fraction + (number % 4 > 0) * (1 + number % 3)
        return value if number < 4 or rng.random() < 0.5 else -value
    steps = (number + 1 if is_whole else number // 4) if is_only else rng.randint(1, 24)
    if number >= NUM_FURTHER:
        steps = 2 ** rng.randint(5, 12) + rng.choice((-1, 0, 0, 1))
    value = _CONTEXT.mpf(steps) + (0 if is_whole or number % 2 else fraction)
    return value if is_whole or (number % 4 < 2 if is_only else rng.random() < 0.5) else -value


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
    kind, *parts = tree
    if kind == "number":
        return Fraction(parts[0])
    if kind == "call":
        kind, *parts = parts
    if kind not in _EXACT:
        return None
    values = [value for part in parts if (value := rational(part)) is not None]
    if len(values) < len(parts):
        return None
    try:
        value = _EXACT[kind](*values)
    except ZeroDivisionError:
        return None
    if value is not None and max(value.numerator.bit_length(), value.denominator.bit_length()) > 4 * MAX_BITS:
        raise TooLargeError("a number beyond what is worth computing")
    return value


def _whole_power(base: Fraction, exponent: Fraction) -> Fraction | None:
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if exponent.denominator != 1 or not (base or exponent > 0):
        return None
    if abs(base) not in (0, 1) and abs(exponent) * bits > MAX_BITS:
        raise TooLargeError("a power beyond what is worth computing")
    return Fraction(base ** int(exponent))


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
    """The value of `tree`, its size within bounds, which the ends of an integral need not be. Raises ArithmeticError
    when there is none."""
    match tree:
        case "number", value:
            return _CONTEXT.mpf(value.numerator) / value.denominator
        case "name", name:  # x_k within a sum over k is another value for each k
            return point[name] if name in point else _coordinate(f"{name} {[*point.items()]}", 0)
        case "constant", name:
            return _CONSTANTS[name] * 1
        case "of", ("name", name), *operands:
            values = [_CONTEXT.nstr(_evaluate(operand, point), _FEW_DIGITS) for operand in operands]
            return _coordinate(f"{name} {point.get(name)} {values}", 0)
        case "call", name, *operands:
            value = _call(name, [_evaluate(operand, point) for operand in operands])
        case "sum" | "prod" | "int", *_:
            value = _over_range(tree, point)
        case kind, *operands:
            value = _OPERATORS[kind](*(_evaluate(operand, point) for operand in operands))
    if _CONTEXT.dps >= _DIGITS and _CONTEXT.isfinite(value) and value != 0:
        _widest[0] = max(_widest[0], abs(_CONTEXT.mag(value)))
        if _widest[0] > MAX_BITS:
            raise TooLargeError("a value beyond what is worth computing")
    return value


def _over_range(tree: Tree, point: Mapping[str, Any]) -> Any:
    """The value of a sum, product or integral."""
    kind, name, low, high, operand = tree
    ends = [_evaluate(low, point), _evaluate(high, point)]
    around = {other: value for other, value in point.items() if name not in other.partition("_")[2]}
    is_series = kind != "int" and not all(map(_CONTEXT.isfinite, ends))

    def term(value: Any) -> Any:
        _spend(TERM_OF_SERIES if is_series else 1)
        return _evaluate(operand, {**around, name: value})

    if is_series or kind == "int":
        return _limit(kind, term, ends)
    if not all(map(_CONTEXT.isint, ends)) or (num := int(_CONTEXT.re(ends[1] - ends[0])) + 1) < 0:
        raise ArithmeticError("a sum that ends between two terms, or goes backwards")
    if num > MAX_TERMS:
        raise TooLargeError("a sum of too many terms")
    terms = (term(ends[0] + number) for number in range(num))
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
                _spend(UNSETTLED if kind != "int" else 0)
                raise ArithmeticError("it does not converge")
    return found[-1]


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
    if not all(_CONTEXT.isfinite(each) for each in operands):
        raise ArithmeticError(f"{name} of what is not finite")
    most = MAX_FACTORIAL if name in ("factorial", "binomial") else MAX_BITS
    if name not in _CALLS and any(abs(each) > most for each in operands):
        raise TooLargeError(f"{name} of a value beyond what is worth computing")
    return (_CALLS.get(name) or getattr(_CONTEXT, name.replace("arc", "a")))(*operands)


def _of_whole(function: Callable[..., int], *operands: Any) -> Any:
    if not all(_CONTEXT.isint(each) for each in operands):
        raise ArithmeticError("a divisor of what is not whole")
    return _CONTEXT.mpf(function(*(int(_CONTEXT.re(each)) for each in operands)))


def _of_ordered(function: Callable[..., Any], *operands: Any) -> Any:
    if any(_CONTEXT.im(each) for each in operands):
        raise ArithmeticError("the largest of what has no order")
    return function(operands, key=_CONTEXT.re)


def _stepped(function: Callable[[Any], Any], operand: Any) -> Any:
    nearest = _CONTEXT.nint(operand)  # what rounding left of a whole number is that number
    return nearest if abs(operand - nearest) < _rounding(2) else function(operand)


def _log(operand: Any) -> Any:
    if operand == 0:
        raise ArithmeticError("the logarithm of 0")
    return _CONTEXT.log(operand)


def _exactly(function: Callable[..., int], *operands: Fraction) -> Fraction | None:
    if any(each.denominator != 1 or each < 0 for each in operands):
        return None
    if max(operands) > MAX_FACTORIAL:
        raise TooLargeError("a factorial beyond what is worth computing")
    return Fraction(function(*map(int, operands)))


_EXACT: dict[str, Callable[..., Any]] = {
    "factorial": partial(_exactly, math.factorial),
    "binomial": partial(_exactly, math.comb),
    "+": operator.add,
    "-": operator.neg,
    "*": operator.mul,
    "/": operator.truediv,
    "^": _whole_power,
}
_OPERATORS = _EXACT | {"^": _power, "root": _root}
_CALLS: dict[str, Callable[..., Any]] = {
    "abs": abs,
    "exp": lambda operand: _power(_CONTEXT.e * 1, operand),
    "ln": _log,
    "log": lambda operand: _log(operand) * 31 / 97,  # its base is not known: the same unknown factor wherever it stands
    "lg": lambda operand: _log(operand) / _CONTEXT.ln10,
    "floor": partial(_stepped, _CONTEXT.floor),
    "ceil": partial(_stepped, _CONTEXT.ceil),
    "gcd": partial(_of_whole, math.gcd),
    "lcm": partial(_of_whole, math.lcm),
    "max": partial(_of_ordered, max),
    "min": partial(_of_ordered, min),
}
