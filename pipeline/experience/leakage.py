r"""Finds lessons that state an answer to their problem, the gold one or an attempt's, in whatever format, or hold lines
of a program.

An answer is given away when it is stated as one (boxed, "answer is", "#### 7", "= 7", "the total is 7", "which gives 7"
at the end of a sentence or line), or held anywhere when it is three or more digits or words long (docs/design.md). A
small number that is merely mentioned is none. Nothing here knows whether the trajectory was right. Time is bounded: it
runs in the event loop, so few short values are compared, and none by computer algebra.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator

from pipeline.rewards.extraction import boxed
from pipeline.rewards.math import fraction_of, plain, same_quickly

MAX_STATEMENTS = 24
MAX_TEXT = 20_000
MIN_DIGITS = MIN_WORDS = 3
MIN_CODE_CHARS = 20
"""Of consecutive lines of a program, without blanks: `else: return False` is no solution."""
MIN_BODY_CHARS = 8
MAX_VALUE = 200

_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")
_STATES = re.compile(
    r"\b(?:answers?|results?|solutions?)\b(?: (?:to|for|of)\b[^.:=\n]{0,40}?)?[\s*_]*"
    r"(?:(?:is|was|are|were|equals|becomes|must be|should be|will be|comes (?:out )?to|turns out to "
    r"be)\b|:|=)[\s*_]*:?|####",
    re.IGNORECASE,
)
"""What stands behind it is stated as the answer."""
_COMES_TO = re.compile(
    r"=|\u2248|\\approx\b|->|\u2192|\\to\b|\b(?:equals|gives|yields|totals|leaves|obtains?|(?:we|you) "
    r"(?:get|have|find|obtain)|"
    r"to get|results? in|(?:comes|adds|amounts) (?:up |out )?to|arrives? at|"
    r"(?:total|sum|product|difference|quotient|remainder|value|count|number|amount|output|outcome|probability|area|perimeter|volume|length|"
    r"average|mean|median)\b[^.!?\n=]{0,40}?\b(?:is|was|are|becomes|must be|should be|comes to))\b",
    re.IGNORECASE,
)
"""What stands behind it at the end of a sentence or line is stated as well."""
_CONDITION = re.compile(r"\b(?:if|when|whenever|unless|until|while|whether|where)\s+(?:\w+ ){0,3}$", re.IGNORECASE)
_CHOOSES = re.compile(r"\b(?:choose|pick|select)\s+(?:the )?(?:option|choice|answer)?\s*(?=\(?[A-H]\b)", re.IGNORECASE)
_END = re.compile(r"[.!?](?=\s|$|[)\"'*`])|[;\n]")
_SPAN = re.compile(
    r"-?\\[dt]?frac\{[^{}]{1,20}\}\{[^{}]{1,20}\}|\$[^$\n]{1,80}\$|[(\[][^()\[\]\n]{1,80}[)\]]|"
    r"(?<![\w.])-?\d+(?:\.\d+)?(?:/\d+(?:\.\d+)?)?(?:\s?\\?%)?"
)
_VALUE = re.compile(
    r"[\s*_:]*(?:(?:exactly|only|just|simply|then|now|therefore|thus|hence|indeed|actually|instead|still|also|really|"
    r"about|approximately|roughly|around|either|maybe|perhaps|possibly|probably|likely|equal to|given by|option|choice|"
    r"a total of|\$?\\approx|\$?\u2248)[\s,:*_]+)*"
    r"(?P<value>(?:[-+\u2212\u00b1(\[{|\u221a\d\u00bc-\u00be\u2150-\u215e\u03c0\u20ac\u00a3$]|\\[A-Za-z$({\[]|[A-Za-z]\s?=|"
    r"[A-H](?![\w'])|(?:yes|no|true|false|even|odd|none)\b|[A-Z][a-z]+\b).*)",
    re.DOTALL,
)
"""What a statement's value can begin with, behind words that change nothing."""
_VALUE_END = re.compile(
    r"[*\s]*(?:,\s*(?:because|since|which|where|as|so|not|but|instead|and not|that is|i\.e)\b|,\s*or\b(?=[^\d\\]*$)|"
    r"\s(?:because|since|instead|rather than|not|when|if|but|where)\b|;|\u2014|\s\()",
    re.IGNORECASE,
)
_COMPARES = re.compile(
    r"\d[\s$]*(?:times|%? (?:less|more|fewer|greater|larger|smaller|higher|lower)|digits?|decimals?|significant)\b",
    re.IGNORECASE,
)
"""A number that says by how much, and not how many."""
_GOES_ON = re.compile(r"\b(?:as|of|for|in|on|from|to|with|when|if)\b|(?:\b[A-Za-z]{2,}\W+){3}")
_FONT = re.compile(r"\\(?:text|mathrm|textbf|mathbf|textit)\w*\s*\{([^{}]*)\}")
_COMMENT = re.compile(r"(?:^|\s)#.*")


def gives_answer_away(lesson_text: str, answer: str) -> bool:
    """Whether a lesson states the gold answer, or holds one that is long; its format does not matter."""
    lesson_text = lesson_text[:MAX_TEXT]
    return bool(_comparable(answer)) and (
        _quotes(_comparable(lesson_text), _comparable(answer))
        or any(_says(answer, value) for value in _first(_stated(lesson_text)))
        or any(_says(answer, value) for value in _first(_long_values(lesson_text, answer)))
    )


def gives_solution_away(lesson_text: str, answers: Iterable[str], programs: Iterable[str] = ()) -> bool:
    """Whether a lesson states one of `answers` (the gold ones, and those of the trajectories), or holds lines of one of
    the trajectories' `programs`."""
    return any(gives_answer_away(lesson_text, answer) for answer in answers) or any(
        gives_program_away(lesson_text, program) for program in programs
    )


def gives_program_away(lesson_text: str, program: str) -> bool:
    """Whether a lesson holds two consecutive lines of `program`, or all of its only function's body, whatever the
    layout."""
    lines = _code_lines(program)
    text = _dense(lesson_text)
    body = [line for line in lines if not line.startswith(("def", "asyncdef", "import", "from", "@", "class"))]
    whole = "".join(body)
    if len(whole) >= MIN_BODY_CHARS and whole in text:
        return True
    pairs = ("".join(pair) for pair in itertools.pairwise(lines))
    return any(len(pair) >= MIN_CODE_CHARS and pair in text for pair in pairs)


def _first(values: Iterator[str]) -> Iterator[str]:
    seen: set[str] = set()
    for value in values:
        if len(seen) == MAX_STATEMENTS:
            return
        if value not in seen:
            seen.add(value)
            yield value


def _says(answer: str, value: str) -> bool:
    if len(value) > 2 * len(answer) + 40:  # a sentence that goes on
        return False
    numbers = fraction_of(answer), fraction_of(value)
    if None not in numbers:
        return numbers[0] == numbers[1]
    return same_quickly(answer, value) or same_quickly(value, answer)


def _stated(text: str) -> Iterator[str]:
    """What `text` states as an answer, each in the readings that its end allows."""
    yield from boxed(text)
    for found in (*_STATES.finditer(text), *_CHOOSES.finditer(text)):
        clause = _clause(text, found.end())
        if value := _value_at(clause):
            yield value
            yield value.partition(",")[0]
    for found in _COMES_TO.finditer(text):
        if _CONDITION.search(text[max(0, found.start() - 60) : found.start()]):
            continue
        clause = _clause(text, found.end())
        if (value := _value_at(clause)) and not _GOES_ON.search(value):
            yield value


def _value_at(text: str) -> str | None:
    """The value that `text` begins with, up to the end of its clause; None when it begins with none."""
    found = _VALUE.match(text[: 2 * MAX_VALUE])
    if not found or _COMPARES.match(found["value"]):
        return None
    value = found["value"]
    end = _VALUE_END.search(value)
    value = (value[: end.start()] if end else value).strip("*_ \n").rstrip(".,;:!?*_ ")
    if value.count("$") % 2 and value.endswith("$"):
        value = value[:-1]  # of a formula whose beginning was cut off
    return value if 0 < len(value) <= MAX_VALUE else None


def _clause(text: str, start: int) -> str:
    end = _END.search(text, start, start + 200)
    return text[start : end.start() if end else start + 200]


def _long_values(text: str, answer: str) -> Iterator[str]:
    """Values of three or more digits anywhere in `text`, for an answer of as many."""
    if _num_digits(answer) >= MIN_DIGITS:
        for found in _SPAN.finditer(plain(text)):
            if _num_digits(found[0]) >= MIN_DIGITS:
                yield found[0]


def _num_digits(text: str) -> int:
    return sum(map(str.isdigit, text))


def _quotes(text: str, gold: str) -> bool:
    """Whether `text` states or holds `gold` as it is written. Both are comparable texts."""
    token = re.escape(gold).replace(r"\ ", r"\s+") + (r"(?:\.0+)?" if _NUMBER.fullmatch(gold) else "")
    quoted = rf"[\s$*`\"'(]*{token}(?![\w]|[.,]\d| (?:times|more|less|fewer|greater)\b)"
    if re.search(rf"(?:{_STATES.pattern}){quoted}", text):
        return True
    if re.search(rf"(?:=|\bequals\b){quoted}[\s$*`\"')\]]*?(?:[.;!?]|\n|$)", text):
        return True
    is_long = _num_digits(gold) >= MIN_DIGITS or len(gold.split()) >= MIN_WORDS
    return is_long and re.search(rf"(?<!\w)(?<!\d[.,]){token}(?![\w]|[.,]\d)", text) is not None


def _comparable(text: str) -> str:
    """Lower case, one kind of minus, no fonts and thousands separators, runs of blanks as one; line breaks stay."""
    text = _FONT.sub(r"\1", unicodedata.normalize("NFKC", text)).replace("\u2212", "-").lower()
    return re.sub(r"[^\S\n]+", " ", re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)).strip()


def _code_lines(program: str) -> list[str]:
    """The lines of `program` that do something, without blanks and comments."""
    dense = (_dense(_COMMENT.sub("", line)) for line in program.splitlines())
    return [line for line in dense if line and not line.startswith(('"', "'"))]


def _dense(code: str) -> str:
    return re.sub(r"\s+", "", code).lower()
