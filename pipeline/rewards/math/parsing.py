r"""An answer's tokens read into a shape: a value, a list, an interval, an equation …

What cannot be read in one way is None, and then only its text counts. Nothing is computed here but the order of two
bounds.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction

from pipeline.rewards.math import units
from pipeline.rewards.math.answer_types import (
    Assigned,
    Choice,
    Group,
    Listing,
    Matrix,
    NamedValue,
    Relation,
    Shape,
    Tokens,
    Value,
    Words,
)
from pipeline.rewards.math.evaluation import is_less, same_value
from pipeline.rewards.math.expressions import expression, readable
from pipeline.rewards.math.matrices import BRACKETS, matrix
from pipeline.rewards.math.names import (
    NEGATIONS,
    OPENING,
    depths,
    is_constant,
    is_variable,
    name_of,
    split,
    variables,
)
from pipeline.rewards.math.tokens import Token, tokens_of, words, written

SIGNS = frozenset(("=", "!=", "<", ">", "<=", ">=", "≈", "≡", "∈"))
_EQUALS = words("is are equals was equal")
_JOINERS = frozenset((",", ";", "∪", "and", "or"))
_ARTICLES = words("a an the")
_GOES_ON = _JOINERS | SIGNS | {"^", "/", "|", "&", r"\\"}
_NO_SOLUTION = frozenset(("no solution", "no solutions", "no solution exists", "no solutions exist", "empty set"))
_INFINITY = tokens_of(r"\infty")
_MINUS_INFINITY = tokens_of(r"-\infty")
_CHOICES = frozenset("ABCDEFGH")
_NOT_EVALUATED = words("int iint oint lim det partial sup inf", "\\")
_REALS_WITHOUT = tuple(written(tokens_of(rf"\mathbb{{R}} {sign} \{{")) for sign in (r"\setminus", "-"))


def shape_of(tokens: Tokens) -> Shape | None:
    """The shape of an answer; None when it has none that is understood."""
    if tokens and (tokens[0].text == "]" or tokens[-1].text == "["):  # ]2, 5[ as in French
        first = tokens[0]._replace(text="(") if tokens[0].text == "]" else tokens[0]
        last = tokens[-1]._replace(text=")") if tokens[-1].text == "[" else tokens[-1]
        tokens = [first, *tokens[1:-1], last]
    return _choice(tokens) or _listing(tokens)


def _choice(tokens: Tokens) -> Choice | None:
    rest = [*itertools.dropwhile(lambda token: token.text.lower() in ("option", "choice", "answer"), tokens)]
    opened = bool(rest) and rest[0].text == "("
    rest = rest[opened:]
    if (
        not rest
        or rest[0].kind not in ("letter", "word")
        or len(rest[0].text) != 1
        or rest[0].text.upper() not in _CHOICES
    ):
        return None
    letter, rest = rest[0].text, rest[1:]
    if opened and len(rest) > 3 and (rest[1].text, rest[3].text) == ("(", ")") and rest[2].text.upper() in _CHOICES:
        return None  # (A)(B) chooses both
    closed = bool(rest) and rest[0].text in ((")",) if opened else (")", ".", ":"))
    rest = rest[closed:]
    goes_on = bool(rest) and (not closed or letter.islower() or rest[0].text.lower() in _GOES_ON)
    hedges = any(token.kind == "word" and token.text.lower() == "or" for token in rest) or _is_letter(rest)
    if (not closed if opened else letter.islower()) or goes_on or hedges:
        return None
    return Choice(letter.upper(), shape_of(rest) if rest else None, is_marked=len(tokens) > 1)


def _is_letter(tokens: Tokens) -> bool:
    """Whether another choice's letter begins: `D.`, `D)`, `(D)`, `D` alone."""
    texts = [token.text for token in tokens[:3]]
    texts = texts[1:] if texts[:1] == ["("] else texts
    return bool(texts) and texts[0] in _CHOICES and (len(texts) == 1 or texts[1] in (")", ".", ":"))


def _listing(tokens: Tokens) -> Shape | None:
    parts, joiners = split(tokens, _JOINERS)
    if len(parts) == 1:
        return _single(parts[0])
    if {",", ";"} <= set(joiners) or {",", "or"} <= set(joiners):
        solutions = [_listing(part) for part in split(tokens, frozenset((";", "or")))[0] if part]
        if all(isinstance(solution, Assigned) for solution in solutions):
            return Listing(tuple(solutions))
    kept: list[list[Token]] = []
    marks: list[str] = []
    for part, mark in zip(parts, [*joiners, ""], strict=True):
        if not part and marks and marks[-1] in (",", ";") and mark in ("and", "or"):
            marks[-1] = mark  # ", and"
        else:
            kept.append(part)
            marks.append(mark)
    shapes = [_single(part) for part in kept]
    if any(shape is None for shape in shapes):
        return None
    named = [shape for shape in shapes if isinstance(shape, NamedValue)]
    if not named:
        return _flat(shapes)
    if len(named) == len(shapes):
        return _all_named(named, marks[:-1])
    if len(named) == 1 and named[0] is shapes[0] and named[0].is_name and not named[0].region:
        return named[0]._replace(value=_flat([named[0].value, *shapes[1:]]))
    return None


def _flat(shapes: Sequence[Shape | None]) -> Listing:
    items: list[Shape | None] = []
    for shape in shapes:
        items += shape.items if isinstance(shape, Listing) else [shape]
    return Listing(tuple(items))


def _all_named(named: Sequence[NamedValue], marks: Sequence[str]) -> Shape | None:
    names = [each.name for each in named]
    if len(set(names)) == 1 and all(each.region for each in named):
        return _regions(named, marks)
    if any(not each.is_name for each in named) or (any(each.region for each in named) and len(set(names)) < len(names)):
        return None
    is_indexed = len({name.partition("_")[0] for name in names}) == 1 and all("_" in name for name in names)
    if len(set(names)) == 1 or is_indexed:
        name = names[0] if len(set(names)) == 1 else ", ".join(sorted(names))
        return named[0]._replace(name=name, value=_flat([each.value for each in named]))
    if len(set(names)) == len(names):
        return Assigned({each.name: each.value for each in named})
    return None


def _regions(named: Sequence[NamedValue], marks: Sequence[str]) -> Shape | None:
    """Inequalities of one name: joined by "or" a union, else what is between two of them."""
    if set(marks) <= {"or", "∪"}:
        return named[0]._replace(value=_flat([each.value for each in named]))
    groups = [each.value for each in named if isinstance(each.value, Group)]
    if len(groups) != 2 or len(named) != 2:
        return None
    low, high = groups if groups[0].closing == ")" and groups[0].items[1] == _bound(_INFINITY) else reversed(groups)
    ends = (low.items[1], high.items[0], low.items[0], high.items[1])
    if ends[:2] != (_bound(_INFINITY), _bound(_MINUS_INFINITY)):
        return None
    bounds = [expression(end.tokens) for end in ends[2:] if isinstance(end, Value)]
    if len(bounds) != 2 or not is_less(*bounds):
        return None
    return named[0]._replace(value=Group(low.opening, high.closing, ends[2:]))


def _single(tokens: Tokens) -> Shape | None:
    if not tokens:
        return None
    sides, signs = split(tokens, SIGNS | _EQUALS | {":"} if tokens[0].kind == "word" else SIGNS | _EQUALS)
    signs = ["=" if sign in _EQUALS or sign == ":" else sign for sign in signs]
    if signs:
        return _relation(Relation(tuple(sides), tuple(signs)))
    if whole := _real_line(tokens):
        return whole
    if [tokens[0].text, tokens[-1].text, len(tokens)] == ["(", ")", 3] and tokens[1].kind in ("letter", "word"):
        return _single(tokens[1:2])
    if tokens[0].text in OPENING or tokens[0].text == "|" or r"\begin" in (token.text for token in tokens):
        if (rows := matrix(tokens, _single, _all_named)) is not None:
            return rows
        if (group := _group(tokens)) is not None:
            return group
    num_signs = sum(token.text in ("±", "∓") for token in tokens)
    if num_signs:
        return _both_signs(tokens) if num_signs == 1 else None
    if any(token.text == r"\emptyset" for token in tokens):
        return Words(r"\emptyset") if len(tokens) == 1 else None
    if tokens[0].kind == "word" and not any(token.kind == "number" for token in tokens):
        return _words(tokens)
    quantity = units.split(tokens)
    if quantity is None and not any(token.kind == "word" and token.text.lower() in NEGATIONS for token in tokens):
        return _words(tokens)
    return Value(tokens, quantity) if quantity else None


def _words(tokens: Tokens) -> Words:
    kept = [token for token in tokens if token.text.lower() not in _ARTICLES or token.kind != "word"]
    text = written(kept or tokens).strip(" .").lower()
    return Words(r"\emptyset" if text in _NO_SOLUTION else text)


def _both_signs(tokens: Tokens) -> Listing:
    versions = [
        [token._replace(kind="mark", text=signs[token.text]) if token.text in signs else token for token in tokens]
        for signs in ({"±": "+", "∓": "-"}, {"±": "-", "∓": "+"})
    ]
    return _flat([_single(version) for version in versions])


def _real_line(tokens: Tokens) -> Shape | None:
    r"""\mathbb{R}, perhaps without one number."""
    text = written(tokens)
    if text in (r"\mathbb{R}", "all real numbers", "all reals"):
        return Group("(", ")", (_bound(_MINUS_INFINITY), _bound(_INFINITY)))
    if text.startswith(_REALS_WITHOUT) and text.endswith(r"\}") and "," not in text:
        end = next(number for number, token in enumerate(tokens) if token.text == r"\{")
        return _without(tokens[end + 1 : -1])
    return None


def _without(number: Tokens) -> Listing:
    below = Group("(", ")", (_bound(_MINUS_INFINITY), _bound(number)))
    return Listing((below, Group("(", ")", (_bound(number), _bound(_INFINITY)))))


def _bound(tokens: Tokens) -> Value:
    return Value(tokens, units.Quantity(tokens))


def _group(tokens: Tokens) -> Shape | None:
    """Several items in brackets that end where the tokens end."""
    levels = depths(tokens)
    if 0 in levels[:-1] or levels[-1] != 0:
        return None
    opening, closing = tokens[0].text, tokens[-1].text
    if (opening, closing) == (r"\langle", r"\rangle"):
        opening, closing = "(", ")"
    inner = tokens[1:-1]
    if opening == r"\{" and not inner:
        return Words(r"\emptyset")
    if opening == r"\{" and (region := _builder(inner)):
        return region
    parts, _ = split(inner, frozenset((",", ";")))
    if opening == "{":
        return _listing(inner)
    if len(parts) == 1 and opening != r"\{":
        return None
    items = tuple(_single(part) for part in parts)
    if opening == r"\{":
        items = _flat(items).items
    named = [item for item in items if isinstance(item, NamedValue)]
    if opening in ("(", "[") and len(named) == len(items):
        return _all_named(named, [","])
    if opening == "[" and all(isinstance(item, Group) and item.opening == "[" for item in items):
        return Matrix(tuple(item.items for item in items if isinstance(item, Group)), bars=False)
    return Group(opening, closing, items)


def _builder(inner: Tokens) -> Shape | None:
    r"""The region of `\{x | -2 < x\}`; None for any other set."""
    parts, _ = split(inner, frozenset(("|", ":", r"\mid")))
    if len(parts) != 2 or not all(parts):
        return None
    name, condition = split(parts[0], frozenset("∈"))[0][0], _listing(parts[1])
    return condition if isinstance(condition, NamedValue) and condition.name == written(name) else None


def _relation(relation: Relation) -> Shape | None:
    sides, signs = list(relation.sides), list(relation.signs)
    rounded: Shape | None = None
    if "≈" in signs:
        cut = signs.index("≈")
        if set(signs[cut:]) != {"≈"}:
            return None
        if cut == 0 and (not sides[0] or not is_constant(sides[0])):
            sides, signs = sides[:2], ["="]
            if not sides[0]:
                return _single(sides[1])
        else:
            if not _is_rounded(sides[cut], sides[-1]):
                return None
            rounded = _single(sides[-1])
            sides, signs = sides[: cut + 1], signs[:cut]
        relation = Relation(tuple(sides), tuple(signs))
    if not signs:
        return _with_rounded(_single(sides[0]), rounded)
    if not all(sides):
        return None
    if set(signs) == {"="}:
        return _equation(relation, rounded)
    if signs == ["∈"]:
        name = name_of(sides[0])
        return NamedValue(sides[0], name, True, _listing(sides[1]), relation) if name else None
    return _inequality(relation) or relation


def _is_rounded(exact: Tokens, rounded: Tokens) -> bool:
    """Whether two values that are said to be about equal are, to a unit of the last digit written; True where that
    cannot be told."""
    one, two = units.split(exact), units.split(rounded)
    if one is None or two is None or (one.unit and two.unit and one.unit != two.unit):
        return True
    if not (is_constant(one.tokens) and is_constant(two.tokens)):
        return True
    digits = two.tokens[-1].text if two.tokens[-1].kind == "number" and len(two.tokens) <= 2 else ""
    places = len(digits.partition(".")[2]) if "." in digits else len(digits.rstrip("0")) - len(digits)
    value = expression(two.tokens)
    bound = ("number", Fraction(10) ** -places) if digits else ("/", ("call", "abs", value), ("number", Fraction(20)))
    difference = ("call", "abs", ("+", value, ("-", expression(one.tokens))))
    return is_less(difference, bound)


def _leads_to(side: Tokens, last: Tokens) -> bool:
    """Whether a side of a chain of equations is a name, or the value that the chain ends with."""
    if name_of(side) or written(side) == written(last) or any(token.text in _NOT_EVALUATED for token in side):
        return True
    one, two = units.split(side), units.split(last)
    if one is None or two is None:
        return False
    is_converted = (one.unit and two.unit) or units.PERCENT in (one.unit, two.unit)
    if one.unit != two.unit and is_converted and is_constant(one.tokens) and is_constant(two.tokens):
        return True
    is_group = side[0].text in OPENING and last[0].text in OPENING and readable(side) is None
    return is_group or same_value(one.tokens, two.tokens)


def _with_rounded(shape: Shape | None, rounded: Shape | None) -> Shape | None:
    return shape._replace(rounded=rounded) if isinstance(shape, Value) else shape


def _equation(relation: Relation, rounded: Shape | None) -> Shape | None:
    left, right = relation.sides[0], relation.sides[-1]
    if not name_of(left) and name_of(right) and len(relation.sides) == 2 and is_constant(left):
        left, right = right, left
    if not all(_leads_to(side, right) for side in relation.sides[1:-1]):
        return relation
    if name := name_of(left):
        return NamedValue(left, name, True, _with_rounded(_single(right), rounded), relation)
    letters, kinds = variables(left), {token.kind for token in left}
    is_sum_of_names = len(letters) >= 2 and not kinds & {"word", "number"}
    is_function_of_name = len(letters) == 1 and "number" not in kinds and left[0].kind == "command"
    if left[0].text in _NOT_EVALUATED and is_constant(right):
        return NamedValue(left, written(left), False, _with_rounded(_single(right), rounded), relation)
    is_computed = not letters and "word" not in kinds and (not is_constant(left) or _leads_to(left, right))
    if is_sum_of_names or (is_function_of_name and left[0].text != r"\sqrt") or is_computed:
        return NamedValue(left, written(left), False, _with_rounded(_single(right), rounded), relation)
    return relation


def _inequality(relation: Relation) -> NamedValue | None:
    """A region of one name, as an interval; None for any other inequality."""
    if relation.signs == ("!=",) and is_variable(relation.sides[0]) and is_constant(relation.sides[1]):
        name = relation.sides[0]
        return NamedValue(name, written(name), True, _without(relation.sides[1]), relation, region=True)
    rising = relation.turned() if set(relation.signs) <= {">", ">="} else relation
    if not set(rising.signs) <= {"<", "<="} or len(rising.signs) > 2:
        return None
    sides, signs = rising.sides, rising.signs
    if len(sides) == 2 and (bounded := _bounded(sides, signs)) is not None:
        name = next(side for side in sides if side[0].text == "|")[1:-1]
        return NamedValue(name, written(name), True, bounded, relation, region=True)
    if len(sides) == 3:
        low, name, high = sides
        closed = (signs[0] == "<=", signs[1] == "<=")
    elif name_of(sides[0]):
        low, name, high = _MINUS_INFINITY, *sides
        closed = (False, signs[0] == "<=")
    else:
        low, name, high = *sides, _INFINITY
        closed = (signs[0] == "<=", False)
    if not name_of(name) or not is_constant(low) or not is_constant(high):
        return None
    group = Group("[" if closed[0] else "(", "]" if closed[1] else ")", (_bound(low), _bound(high)))
    return NamedValue(name, written(name), True, group, relation, region=True)


def _bounded(sides: Sequence[Tokens], signs: Sequence[str]) -> Shape | None:
    """The region of `|x| < 3` or `3 < |x|`; None for what has no such bars, or a bound that is not positive."""
    within = sides[0][0].text == "|"
    bars, bound = sides if within else reversed(sides)
    if [bars[0].text, bars[-1].text] != ["|", "|"] or not is_variable(bars[1:-1]) or not is_constant(bound):
        return None
    if not is_less(("number", Fraction(0)), expression(bound)):
        return None
    low, high = _bound([Token("mark", "-"), *BRACKETS[:1], *bound, *BRACKETS[1:]]), _bound(bound)
    opening, closing = ("[", "]") if signs[0] == "<=" else ("(", ")")
    if within:
        return Group(opening, closing, (low, high))
    return Listing(
        (Group("(", closing, (_bound(_MINUS_INFINITY), low)), Group(opening, ")", (high, _bound(_INFINITY))))
    )
