r"""An answer's tokens read into a shape: a value, a list, an interval, an equation …

What cannot be read in one way is None, and then only its text counts. Nothing is computed here but the order of two
bounds, and whether a chain of equations holds.
"""

from __future__ import annotations

import itertools
import re
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
CHOICES = frozenset("ABCDEFGH")
_EQUALS = words("is are equals was equal")
_JOINERS = frozenset((",", ";", "∪", "and", "or"))
_TRAIL = frozenset((".", ",", ";", ":", "\\", "✅", "✓", "✔", r"\checkmark", r"\\"))
_LEAD = words(
    "the final our correct so solution solutions answer answers result option choice is are a an total of exactly only "
    "about approximately roughly just therefore thus hence indeed simply then clearly"
)
_ARTICLES = words("a an the")
_GOES_ON = _JOINERS | SIGNS | {"^", "/", "|", "&", r"\\"}
_NO_SOLUTION = frozenset(("no solution", "no solutions", "no solution exists", "no solutions exist", "empty set"))
_SUBJECT = re.compile(r"^(?:it|series|integral|limit|sequence) (?=diverges|converges|does not exist)")
_NOT_EVALUATED = words("int iint oint lim det partial sup inf", "\\")
_REALS = frozenset((r"\mathbb{R}", "all real numbers", "all reals"))
_REALS_WITHOUT = tuple(written(tokens_of(rf"\mathbb{{R}} {sign} \{{")) for sign in (r"\setminus", "-"))


def bare(tokens: Tokens) -> list[Token]:
    """`tokens` without the words that announce an answer, and without what ends its sentence."""
    texts = ((token.text.lower() if len(token.text) > 1 else token.text) * (token.kind == "word") for token in tokens)
    kept = tokens[sum(1 for _ in itertools.takewhile(_LEAD.__contains__, texts)) :]
    if 0 < len(kept) < len(tokens) and kept[0].text == ":":
        kept = kept[1:]
    elif not kept or kept[0].text in SIGNS:
        kept = tokens
    end = next((number for number in range(len(kept), 0, -1) if kept[number - 1].text not in _TRAIL), 0)
    return [*kept[:end]]


def shape_of(tokens: Tokens) -> Shape | None:
    """The shape of an answer; None when it has none that is understood."""
    tokens = bare(tokens)
    if tokens and tokens[0].text == "]":  # ]2, 5[ as in French
        tokens = [tokens[0]._replace(text="("), *tokens[1:]]
    if tokens and tokens[-1].text == "[":
        tokens = [*tokens[:-1], tokens[-1]._replace(text=")")]
    return _choice(tokens) or _listing(tokens)


def _choice(tokens: Tokens) -> Choice | None:
    opened = bool(tokens) and tokens[0].text == "("
    letter, mark = [*(token.text for token in tokens[opened : opened + 2]), "", ""][:2]
    closed = mark in ((")",) if opened else (")", ".", ":"))
    rest = tokens[opened + 1 + closed :]
    if letter.upper() not in CHOICES or (not closed if opened else letter.islower()):
        return None
    if rest and (not closed or letter.islower() or rest[0].text.lower() in _GOES_ON or _hedges(rest)):
        return None
    return Choice(letter.upper(), shape_of(rest) if rest else None, is_marked=len(tokens) > 1)


def _hedges(tokens: Tokens) -> bool:
    """Whether another choice begins (`D.`, `D)`, `(D)`, `D` alone), or "or" offers one."""
    texts = [token.text for token in tokens]
    texts = texts[1:] if texts[0] == "(" else texts
    is_letter = bool(texts) and texts[0] in CHOICES and (len(texts) == 1 or texts[1] in (")", ".", ":"))
    return is_letter or any(token.kind == "word" and token.text.lower() == "or" for token in tokens)


def _listing(tokens: Tokens) -> Shape | None:
    joined = zip(tokens, [*tokens[1:], Token("mark", "")], strict=False)  # ", and" is one joiner
    tokens = [one for one, two in joined if one.text not in (",", ";") or two.text.lower() not in ("and", "or")]
    parts, joiners = split(tokens, _JOINERS)
    if len(parts) == 1:
        return _single(parts[0])
    if {",", ";"} <= {*joiners} or {",", "or"} <= {*joiners}:
        solutions = [_listing(part) for part in split(tokens, frozenset((";", "or")))[0] if part]
        if all(isinstance(solution, Assigned) for solution in solutions):
            return Listing(tuple(solutions))
    shapes = [_single(part) for part in parts]
    named = [shape for shape in shapes if isinstance(shape, NamedValue)]
    if None in shapes:
        return None
    if named and len(named) == len(shapes):
        return _all_named(named, joiners)
    if not named:
        return _flat(shapes)
    is_first = named == shapes[:1] and named[0].is_name and not named[0].is_region
    return named[0]._replace(value=_flat([named[0].value, *shapes[1:]])) if is_first else None


def _flat(shapes: Sequence[Shape | None]) -> Listing:
    items: list[Shape | None] = []
    for shape in shapes:
        items += shape.items if isinstance(shape, Listing) else [shape]
    return Listing(tuple(items))


def _all_named(named: Sequence[NamedValue], marks: Sequence[str]) -> Shape | None:
    names = {each.name: each for each in named}
    if len(names) == 1 and all(each.is_region for each in named):
        return _regions(named, marks)
    if not all(each.is_name for each in named):
        return None
    is_indexed = len({name.partition("_")[0] for name in names}) == 1 and all("_" in name for name in names)
    if len(names) == 1 or is_indexed:
        return named[0]._replace(name=", ".join(sorted(names)), value=_flat([each.value for each in named]))
    return Assigned({name: each.value for name, each in names.items()}) if len(names) == len(named) else None


def _regions(named: Sequence[NamedValue], marks: Sequence[str]) -> Shape | None:
    """Inequalities of one name: joined by "or" a union, else what is between two of them."""
    values = [each.value for each in named]
    if {*marks} <= {"or", "∪"}:
        return named[0]._replace(value=_flat(values))
    for one, two in itertools.permutations(values, 2):
        match one, two:
            case Group(opening, _, (Value() as low, top)), Group(_, closing, (bottom, Value() as high)):
                is_between = (bottom, top) == _LINE and is_less(expression(low.tokens), expression(high.tokens))
                if is_between and len(values) == 2:
                    return named[0]._replace(value=Group(opening, closing, (low, high)))
    return None


def _single(tokens: Tokens) -> Shape | None:
    if not tokens:
        return None
    sides, signs = split(tokens, SIGNS | _EQUALS | ({":"} if tokens[0].kind == "word" else set()))
    if signs:
        return _relation(Relation(tuple(sides), tuple(sign if sign in SIGNS else "=" for sign in signs)))
    if whole := _real_line(tokens):
        return whole
    texts = [token.text for token in tokens]
    if texts[0] in OPENING or texts[0] == "|" or r"\begin" in texts:
        shape = matrix(tokens, _single, _all_named) or _group(tokens)
        if shape is not None:
            return shape
    if num_signs := texts.count("±") + texts.count("∓"):
        return _both_signs(tokens) if num_signs == 1 else None
    if r"\emptyset" in texts:
        return Words(r"\emptyset") if len(tokens) == 1 else None
    if tokens[0].kind == "word" and not any(token.kind == "number" for token in tokens):
        return _words(tokens)
    if quantity := units.split(tokens):
        return Value(tokens, quantity)
    hedges = any(token.kind == "word" and token.text.lower() in NEGATIONS for token in tokens)
    return None if hedges else _words(tokens)


def _words(tokens: Tokens) -> Words:
    kept = [token for token in tokens if token.text.lower() not in _ARTICLES or token.kind != "word"]
    text = _SUBJECT.sub("", written(kept or tokens).strip(" .").lower()).replace("dne", "does not exist")
    return Words(r"\emptyset" if text in _NO_SOLUTION else text)


def _both_signs(tokens: Tokens) -> Listing:
    versions = [
        [token._replace(kind="mark", text=signs[token.text]) if token.text in signs else token for token in tokens]
        for signs in ({"±": "+", "∓": "-"}, {"±": "-", "∓": "+"})
    ]
    return _flat([_single(version) for version in versions])


def _bound(tokens: Tokens) -> Value:
    return Value(tokens, units.Quantity(tokens))


_LINE = _bound(tokens_of(r"-\infty")), _bound(tokens_of(r"\infty"))


def _real_line(tokens: Tokens) -> Shape | None:
    r"""\mathbb{R}, perhaps without one number."""
    text = written(tokens)
    if text in _REALS:
        return Group("(", ")", _LINE)
    if text.startswith(_REALS_WITHOUT) and text.endswith(r"\}") and "," not in text:
        end = next(number for number, token in enumerate(tokens) if token.text == r"\{")
        return _outside("(", *[_bound(tokens[end + 1 : -1])] * 2)
    return None


def _outside(opening: str, low: Value, high: Value) -> Listing:
    """What is below `low` or above `high`, with these where `opening` is [."""
    closing = "]" if opening == "[" else ")"
    return Listing((Group("(", closing, (_LINE[0], low)), Group(opening, ")", (high, _LINE[1]))))


def _group(tokens: Tokens) -> Shape | None:
    """Several items in brackets that end where the tokens end."""
    levels = depths(tokens)
    if 0 in levels[:-1] or levels[-1] != 0:
        return None
    opening, closing, inner = tokens[0].text, tokens[-1].text, tokens[1:-1]
    if opening == r"\langle":
        opening, closing = "(", ")"
    if opening == r"\{" and not inner:
        return Words(r"\emptyset")
    if opening == "{":
        return _listing(inner)
    if opening == r"\{" and (region := _builder(inner)):
        return region
    parts, _ = split(inner, frozenset((",", ";")))
    if len(parts) == 1 and opening != r"\{":
        return _single(inner) if opening == "(" and [token.kind for token in inner] in (["letter"], ["word"]) else None
    items = tuple(_single(part) for part in parts)
    if opening == r"\{":
        return Group(opening, closing, _flat(items).items)
    named = [item for item in items if isinstance(item, NamedValue)]
    if len(named) == len(items):
        return _all_named(named, [","])
    rows = [item.items for item in items if isinstance(item, Group) and opening == item.opening == "["]
    return Matrix(tuple(rows), bars=False) if len(rows) == len(items) else Group(opening, closing, items)


def _builder(inner: Tokens) -> Shape | None:
    r"""The region of `\{x | -2 < x\}`; None for any other set."""
    parts, _ = split(inner, frozenset(("|", ":", r"\mid")))
    if len(parts) != 2 or not all(parts):
        return None
    name, condition = split(parts[0], frozenset("∈"))[0][0], _listing(parts[1])
    return condition if isinstance(condition, NamedValue) and condition.name == written(name) else None


def _relation(relation: Relation) -> Shape | None:
    sides, signs = [*relation.sides], relation.signs
    if "≈" in signs:
        cut = signs.index("≈")
        if not sides[0]:
            return _single(sides[1])
        if cut == 0 and not is_constant(sides[0]):
            return _relation(Relation(relation.sides[:2], ("=",)))
        if not _is_rounded(sides[cut], sides[-1]):
            return None
        sides[cut] = [*sides[cut], *_unit_of(sides[-1], sides[cut])]
        exact = _relation(Relation(tuple(sides[: cut + 1]), signs[:cut])) if cut else _single(sides[0])
        return _with_rounded(exact, _single(sides[-1]))
    if not all(relation.sides):
        return None
    if {*signs} == {"="}:
        return _equation(relation)
    if signs == ("∈",):
        name = name_of(sides[0])
        return NamedValue(name, True, _listing(sides[1]), relation) if name else None
    return _inequality(relation) or relation


def _with_rounded(shape: Shape | None, rounded: Shape | None) -> Shape | None:
    if isinstance(shape, NamedValue):
        return shape._replace(value=_with_rounded(shape.value, rounded))
    return shape._replace(rounded=rounded) if isinstance(shape, Value) else shape


def _unit_of(rounded: Tokens, exact: Tokens) -> Tokens:
    """The unit that is written behind the rounded value alone."""
    one, two = units.split(rounded), units.split(exact)
    is_missing = one is not None and two is not None and one.unit and not two.unit
    return rounded[len(one.tokens) :] if one is not None and is_missing else []


def _is_rounded(exact: Tokens, rounded: Tokens) -> bool:
    """Whether two values that are said to be about equal are, to a unit of the last digit written; True where that
    cannot be told."""
    one, two = units.split(exact), units.split(rounded)
    if one is None or two is None or not (is_constant(one.tokens) and is_constant(two.tokens)):
        return True
    digits = two.tokens[-1].text if two.tokens[-1].kind == "number" and len(two.tokens) <= 2 else ""
    places = len(digits.partition(".")[2]) if "." in digits else len(digits.rstrip("0")) - len(digits)
    value = expression(two.tokens)
    bound = ("number", Fraction(10) ** -places) if digits else ("/", ("call", "abs", value), ("number", Fraction(20)))
    return is_less(("call", "abs", ("+", value, ("-", expression(one.tokens)))), bound)


def _equation(relation: Relation) -> Shape:
    if len(relation.sides) == 2 and is_constant(relation.sides[0]) and name_of(relation.sides[1]):
        relation = relation.turned()
    left, *between, right = relation.sides
    name = name_of(left)
    if all(_leads_to(side, right) for side in between) and (name or _is_computed(left, right)):
        return NamedValue(name or written(left), bool(name), _single(right), relation)
    return relation


def _leads_to(side: Tokens, last: Tokens) -> bool:
    """Whether a side of a chain of equations is a name, or the value that the chain ends with."""
    if name_of(side) or written(side) == written(last) or any(token.text in _NOT_EVALUATED for token in side):
        return True
    one, two = units.split(side), units.split(last)
    if one is None or two is None:
        return False
    is_converted = one.unit != two.unit and ((one.unit and two.unit) or units.PERCENT in (one.unit, two.unit))
    if is_converted and is_constant(one.tokens) and is_constant(two.tokens):
        return True
    is_group = side[0].text in OPENING and last[0].text in OPENING and readable(side) is None
    return is_group or same_value(one.tokens, two.tokens)


def _is_computed(left: Tokens, right: Tokens) -> bool:
    """Whether the left side of an equation says what the right one is the value of: several names, a function of one,
    or an expression without any that has this value."""
    letters, kinds = variables(left), {token.kind for token in left}
    if left[0].text in _NOT_EVALUATED and is_constant(right):
        return True
    if not letters:
        return "word" not in kinds and (not is_constant(left) or _leads_to(left, right))
    is_function = len(letters) == 1 and left[0].kind == "command" and left[0].text != r"\sqrt"
    return "number" not in kinds and (is_function or (len(letters) >= 2 and "word" not in kinds))


def _inequality(relation: Relation) -> NamedValue | None:
    """A region of one name, as an interval or two; None for any other inequality."""
    rising = relation.turned() if {*relation.signs} <= {">", ">="} else relation
    sides, signs = [*rising.sides], [*rising.signs]
    if not {*signs} <= {"<", "<="} and signs != ["!="]:
        return None
    if len(sides) == 2:
        is_above = not name_of(sides[0]) and sides[0][0].text != "|" and signs != ["!="]
        sides = [*sides, _LINE[1].tokens] if is_above else [_LINE[0].tokens, *sides]
        signs = [*signs, "<"] if is_above else ["<", *signs]
    if len(sides) != 3:
        return None
    low, name, high = sides
    opening, closing = "[" if signs[0] == "<=" else "(", "]" if signs[1] == "<=" else ")"
    bound = negative = high if low is _LINE[0].tokens else low
    is_size = (name[0].text, name[-1].text) == ("|", "|") and is_variable(name[1:-1])
    if not (is_size or name_of(name)) or not is_constant(low) or not is_constant(high):
        return None
    if is_size:
        name, negative = name[1:-1], [Token("mark", "-"), BRACKETS[0], *bound, BRACKETS[1]]
        if not is_less(("number", Fraction(0)), expression(bound)):
            return None
    value: Shape = Group(opening, closing, (_bound(low), _bound(high)))
    if signs[1] == "!=" or (is_size and bound is low):
        value = _outside(opening, _bound(negative), _bound(bound))
    elif is_size:
        value = Group("[" if closing == "]" else "(", closing, (_bound(negative), _bound(bound)))
    return NamedValue(written(name), True, value, relation)
