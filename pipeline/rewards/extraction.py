r"""The final answer of a response: its last \boxed{…}, `#### x`, <answer>x</answer> or closing sentence that states
one.

The last statement counts, if what follows lets it stand (`pipeline.rewards.retraction`). Boxes that are joined
(`\boxed{2} or \boxed{5}`) are one answer with two values. All functions are pure and linear in the length of the text,
so hostile text costs no more than long text.
"""

from __future__ import annotations

import itertools
import re
from typing import NamedTuple

from pipeline.rewards.remarks import TURN_ENDS
from pipeline.rewards.retraction import after

_BOX_OR_BRACE = re.compile(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)
_HASHES = re.compile(r"^[ \t]*####[ \t]*(\S.*)$", re.MULTILINE)
_HEADING = re.compile(
    r"(?:\*\*)?(?:(?:the )?(?:final "
    r")?answer|step|conclusion|solution|result|verification|explanation|summary|part|case|check)\b"
    r"[^\n]{0,80}?(?::(?:\*\*)?|$)[ \t]*",
    re.IGNORECASE,
)
_TAG = re.compile(r"<answer>|</answer>", re.IGNORECASE)
_ANSWERED = re.compile(r"</answer>|\b(?:the|final) answer is\b[^\n]*", re.IGNORECASE)
_BLANK = r"(?:\s|\$|\\[()\[\],;:! ]|\\q?quad\b|\*)*"
_NAME = r"(?:\\?[A-Za-z]+(?:_\{?\w{1,4}\}?)?\s*=)?"
_JOINED = re.compile(
    rf"{_BLANK}(?:[,;&]|\\text\s*\{{\s*(?:and|or)\s*\}}|and\b|or\b)+{_BLANK}(?:and\b|or\b)?{_BLANK}{_NAME}{_BLANK}"
)
_NAMED_BEFORE = re.compile(r"(?:^|[\s$(\[])(\\?[A-Za-z](?:_\{?\w{1,4}\}?)?\s*=\s*)\$?\s*$")
_FACTOR_BEFORE = re.compile(r"(?<=[=$])\s*[-\u2212]\s*$|[\d.]*\d\Z|(?:\\pm|\u00b1)\s*$")
_FACTOR_AFTER = re.compile(
    r"\s*\\?%|[\s$]*(?:million|billion|thousand|hundred|dozen)\b|[A-Za-z](?![A-Za-z])|\\pi\b|\s*\^(?!\s*\{?\\circ)\{?[^\s$]{1,20}"
    r"|\s*\\(?:times|cdot|pi|sqrt)\b[^$\n]{1,40}|(?:\\[,;! "
    r"]|\s|~)*\\(?:text|mathrm)\s*\{(?!\s*(?:is|are|and|or|which)\b)[A-Za-z/ ]{1,20}\}"
    r"(?:\^\{?\d\}?)?"
)
MAX_GAP = 60
MAX_LINE = 4000

_STATES = re.compile(
    r"\b(?:answers?|ans|solutions?|result|option|choice)\b(?: (?:to|for|of)\b[^.:=\n]{0,60}?)?[ \t*_]*"
    r"(?:\b(?:is|are|equals)\b[ \t]*:?|:|=)[ \t*_]*",
    re.IGNORECASE,
)
_STATES_AT_END = re.compile(
    r"(?:\b(?:answers?|solutions?|result)\b[^\n]{0,60}?(?:\b(?:is|are)\b)?|\b(?:therefore|thus|hence|so|is|are|get|have)\b)[\s:*_,#$]*$",
    re.IGNORECASE,
)
_ONLY_HEADING = re.compile(r"[\s#*_>]*(?:the )?(?:final )?(?:answer|result|solution)(?: is)?[\s:*_]*", re.IGNORECASE)
_CONCLUDES = re.compile(
    r"(?:^|[.!?]\s+)[\s*_]*(?:so|therefore|thus|hence|consequently|finally|in conclusion|in total|\u2234)\b[,:]?\s*",
    re.IGNORECASE,
)
_LAST_VERB = re.compile(r"(?:\b(?:is|are|equals)\b|(?<![<>!\\])=|\u2248)[\s*_:]*", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?][*_$)]*(?=\s+[A-Z\d\"(\\$*]|\s*$)")
_CHOICE_MARK = re.compile(r"(?:^|[\s(*]?)[A-H]\.\s+[-$\\\d]")
_CLAUSE_END = re.compile(r",\s*(?:because|since|which|where|as|so|i\.e\.)\s|\s(?:because|since)\s", re.IGNORECASE)
_OBJECTS = re.compile(
    r"\b(?:but|however|not|either|or|maybe|perhaps|might|could|possibly|unclear|cannot|unknown)\b|n't\b|\?", re.I
)
_DOUBTS = re.compile(
    r"\b(?:not|either|maybe|perhaps|might|could|possibly|unclear|cannot|unknown|if|between)\b|n't\b|\?", re.I
)
_FAREWELL = re.compile(r"[\s*_]*(?:i hope|hope (?:this|that|it)|let me know|feel free|</?s>|<\|)[^\n]*", re.IGNORECASE)
_ONE_VALUE = re.compile(
    r"(?<![\w\\^{.,/*+=<>])(?:\$\s?|\\\$)?[-\u2212]?\d[\d,]*(?:\.\d+)?(?:/\d+)?%?(?!\w|[.,]\d|!|\s*(?:[-+*/^=<>{(]|\\(?![)\]])))"
)
_COMPARES = re.compile(
    r"\b(?:less|more|fewer|greater|than|least|most|under|over|above|below|about|up "
    r"to|half|nearly|almost|around|approximately|"
    r"except|without|twice|double|triple|times|need|remains to|first|assum\w+|suppose|let|try)\b",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"[\s*]*[A-Z][a-z]+ [a-z]+")
_SPAN = re.compile(r"(?:\$\$?([^$]{1,500})\$\$?|\*\*([^*]{1,500})\*\*|\\\((.{1,500}?)\\\))[.\s]*", re.DOTALL)
_SIGN = r"(?:=|[<>\u2264\u2265\u2260\u2208]|\\(?:le|ge|leq|geq|ne|neq|in|lt|gt)\b)"
_VARIABLE_IS = re.compile(rf"(?<![\w\\^}}/+*-])(?<![/+*-] )\\?[A-Za-z](?:_\{{?\w{{1,4}}\}}?)?\s*{_SIGN}")
_COMPARISON = re.compile(r"[<>=\u2264\u2265\u2260\u2248]|\\(?:le|ge|leq|geq|ne|neq|lt|gt|approx)\b")
_PROSE = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
_REMARK = re.compile(r"\s(?:is|are) (?:the|our|an?|indeed|also)\b", re.IGNORECASE)
_SHORT_VALUE = re.compile(
    r"[-+\u2212$€£(\[{\\\d√¼-¾][^=\n]{0,100}|(?:(?:^|,? (?:and|or) |, "
    r"?)\\?[A-Za-z](?:_\{?\w{1,4}\}?)?\s*=[^=\n]{1,80}?)+|\(?[A-H]\)?\.?"
)
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{3,}")


class _Statement(NamedTuple):
    """A statement, and where it ends."""

    answer: str
    end: int


class Box(NamedTuple):
    """Where a box begins, and where its content does and ends."""

    start: int
    inner: int
    end: int


def boxes(text: str) -> list[Box]:
    r"""Every closed \boxed{…}, in the order in which they open. Braces balance; an unclosed box is left out."""
    found: list[Box] = []
    open_braces: list[tuple[int, int, bool]] = []
    for token in _BOX_OR_BRACE.finditer(text):
        if token[0] == "}":
            if open_braces:
                start, inner, is_box = open_braces.pop()
                if is_box:
                    found.append(Box(start, inner, token.start()))
        elif token[0][-1] == "{" and token[0] != "\\{":
            open_braces.append((token.start(), token.end(), token[0] != "{"))
    return sorted(found)


def boxed(text: str) -> list[str]:
    r"""Contents of every closed \boxed{…}, in the order in which they open."""
    return [text[box.inner : box.end] for box in boxes(text)]


def extract_answer(text: str) -> str | None:
    """`conclusion` without what decorates it; None when there is none, or an empty one."""
    answer = conclusion(text)
    return cleaned(answer) or None if answer is not None else None


def cleaned(answer: str) -> str:
    """`answer` without what only decorates it: spaces, $…$, **…**, `…`, and the full stop of its sentence."""
    return answer.strip().strip("$*`\"' \t").rstrip(".,;:").strip("$*`\"' \t").replace("\u2212", "-")


def conclusion(text: str) -> str | None:
    """The answer that `text` ends with, as written; None when there is none."""
    text = _own(text)
    candidates = [found for found in (_boxed(text), _hashed(text), _tagged(text)) if found is not None]
    if not candidates:
        return _stated(text)
    last = max(candidates, key=lambda found: found.end)
    return after(last.answer, text[last.end :])


def _own(text: str) -> str:
    """`text` up to where a model that has answered asks itself the next question: what it answers to that is no answer
    to ours."""
    if not TURN_ENDS.search(text):
        return text
    ends = [found.end() for found in itertools.islice(_ANSWERED.finditer(text), 1)]
    ends += [box.end for box in boxes(text)[:1]]
    ends += [line.end() for line in _HASHES.finditer(text) if not _HEADING.match(line[1])][:1]
    turn = TURN_ENDS.search(text, min(ends)) if ends else None
    return text[: turn.start()] if turn else text


def _boxed(text: str) -> _Statement | None:
    """The last box that holds something, with those that are joined to it."""
    chain: list[Box] = []
    for box in reversed(boxes(text)):
        if not chain:
            # Sliced one by one: contents of nested boxes would add up to the square of the text.
            if text[box.inner : box.end].strip("$*`\"' \t\n.,;:!"):
                chain.append(box)
            continue
        gap = text[box.end + 1 : min(chain[-1].start, box.end + 2 + MAX_GAP)]
        if box.end > chain[-1].start or len(gap) > MAX_GAP or not _JOINED.fullmatch(gap):
            break
        chain.append(box)
    if not chain:
        return None
    chain.reverse()
    first, last = chain[0], chain[-1]
    before = text[max(0, first.start - 40) : first.start]
    parts = [text[first.inner : first.end].strip()]
    if len(chain) > 1 and (name := _NAMED_BEFORE.search(before)):
        parts.insert(0, name[1])
    elif factor := _FACTOR_BEFORE.search(before):
        parts.insert(0, factor[0])
    for box, following in itertools.pairwise(chain):
        parts += [text[box.end + 1 : following.start], text[following.inner : following.end].strip()]
    answer = "".join(parts).replace("$", "") if len(chain) > 1 else "".join(parts)
    if factor := _FACTOR_AFTER.match(text, last.end + 1):
        answer += factor[0].replace("$", "")
    return _Statement(answer, last.end + 1)


def _hashed(text: str) -> _Statement | None:
    """The last line `#### x`; a heading of that level counts only for what stands behind its colon."""
    for found in reversed(list(_HASHES.finditer(text))):
        answer = found[1]
        if heading := _HEADING.match(answer):
            answer = answer[heading.end() :]
        if answer.strip("*`\"' \t.,;:!"):
            return None if "\\boxed" in answer else _Statement(answer, found.end())
    return None


def _tagged(text: str) -> _Statement | None:
    tags = list(_TAG.finditer(text))
    for opening, closing in zip(reversed(tags[:-1]), reversed(tags[1:]), strict=True):
        answer = text[opening.end() : closing.start()].strip()
        if opening[0][1] != "/" and closing[0][1] == "/" and answer:
            return None if "\\boxed" in answer else _Statement(answer, closing.end())
    return None


def _stated(text: str) -> str | None:
    """What the last line, or the formula that is the last paragraph, states as the answer."""
    lines = text.rstrip().split("\n")
    while len(lines) > 1 and (not lines[-1].strip() or _FAREWELL.fullmatch(lines[-1])):
        lines.pop()
    body = "\n".join(lines).rstrip()
    formula = _closing_formula(body)
    if formula is not None:
        return formula
    lines = body.rsplit("\n", 200)
    last = lines[-1][-MAX_LINE:]
    before = next((line for line in reversed(lines[:-1]) if line.strip()), "")
    if "\\boxed" in last:
        return None
    for found in reversed(list(_STATES.finditer(last))):
        statement = _first_sentence(last[found.end() :].lstrip("} "))
        return _only_value(statement) or statement if statement and _SENTENCE.match(statement) else statement
    if (
        before
        and len(before) < 200
        and (_ONLY_HEADING.fullmatch(before) or (_STATES.search(before + " ") and before.rstrip()[-1] in ":*"))
    ):
        return _first_sentence(last.strip())
    for found in reversed(list(_CONCLUDES.finditer(last))):
        return _concluded(last[found.end() :])
    return _bare(last.strip())


def _closing_formula(body: str) -> str | None:
    """The content of the display at the end of `body`, when the words before it announce the answer."""
    for opening, closing in (("$$", "$$"), ("\\[", "\\]")):
        trimmed = body.rstrip(". \n")
        if not trimmed.endswith(closing):
            continue
        start = trimmed.rfind(opening, 0, len(trimmed) - 2)
        content = trimmed[start + 2 : -2].strip() if start >= 0 else ""
        lead = body[:start].rstrip()[-200:].rpartition("\n")[2]
        if content and "\\boxed" not in content and _STATES_AT_END.search(lead):
            return content.rstrip(".,")
    return None


def _first_sentence(text: str) -> str | None:
    """The statement at the start of `text`, when what follows does not take it back."""
    text = text.strip()
    end = next(
        (end for end in _SENTENCE_END.finditer(text) if not _CHOICE_MARK.match(text, max(0, end.start() - 2))), None
    )
    statement, rest = (text[: end.start()], text[end.end() :]) if end else (text, "")
    if _OBJECTS.search(rest) or (end and end[0][0] == "?"):
        return None
    if clause := _CLAUSE_END.search(statement):
        statement = statement[: clause.start()]
    return after(statement, "\n" + rest) if statement.strip("$*`\"' \t.,;:!") else None


def _concluded(text: str) -> str | None:
    """The value of a sentence that begins with "so" or "therefore": behind its last verb, or the only number in it."""
    sentence = _first_sentence(text)
    if sentence is None or _DOUBTS.search(sentence):
        return None
    if variable := _VARIABLE_IS.search(sentence):
        answer = sentence[variable.start() :]
        remark = _REMARK.search(answer)
        return _without_closing_dollar(answer[: remark.start()] if remark else answer)
    if value := _bold_value(sentence):
        return value
    verbs = list(_LAST_VERB.finditer(sentence))
    if verbs:
        answer = sentence[verbs[-1].end() :]
        if "=" in verbs[-1][0]:
            start = next((verb.end() for verb in reversed(verbs) if "=" not in verb[0]), 0)
            left, _, right = sentence[start:].partition("=")
            left = _PROSE.split(left)[-1]
            answer = f"{left}={right}" if left.strip("$ *(:,") else right
        if re.match(r"[\s$*]*(?:\\?[a-zA-Z]{0,8}\s*)?\S*[\d\\]", answer) and len(answer) < 200:
            return _without_closing_dollar(answer)
    return _only_value(sentence)


def _without_closing_dollar(answer: str) -> str:
    """Without the end of a formula whose beginning was cut off; a dollar sign left alone would be a currency."""
    at_end = answer.rstrip(" .*")
    return at_end[:-1] if at_end.endswith("$") and answer.count("$") % 2 else answer


def _bold_value(sentence: str) -> str | None:
    bold = re.findall(r"\*\*([^*]+)\*\*", sentence)
    is_value = len(bold) == 1 and re.search(r"\d|\\", bold[0])
    return bold[0] if is_value and not re.search(r"\bor\b", sentence) and not _COMPARES.search(sentence) else None


def _only_value(sentence: str) -> str | None:
    """The bold value of a sentence, or the only number in it; None where words bound or change it."""
    if _COMPARES.search(sentence) or _DOUBTS.search(sentence) or _COMPARISON.search(sentence):
        return None
    values = _ONE_VALUE.findall(sentence)
    return _bold_value(sentence) or (values[0] if len(values) == 1 and len(re.findall(r"\d+", sentence)) <= 2 else None)


def _bare(line: str) -> str | None:
    """A last line that is nothing but a formula, bold text or a value."""
    if found := _SPAN.fullmatch(line):
        line = next(group for group in found.groups() if group is not None).strip()
        return line if "=" not in line or _VARIABLE_IS.match(line) else None
    return line if _SHORT_VALUE.fullmatch(line) and len(_WORD.findall(line)) <= 2 and not _DOUBTS.search(line) else None
