r"""The final answer of a response: its last \boxed{…}, `#### x`, <answer>x</answer> or "answer is x", else the value
that its last line ends with.

The last mark counts: a correction is another mark. Values that are joined (`\boxed{2} or \boxed{5}`, `\boxed{2} or 5`)
are one answer with two values. All functions are pure and linear in the length of the text,
so hostile text costs no more than long text.
"""

from __future__ import annotations

import itertools
import re
from collections import deque
from typing import NamedTuple

_BOX_OR_BRACE = re.compile(r"\\{1,2}(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)
_HASHES = re.compile(r"^[ \t]*####[ \t]*(\S.*)$", re.MULTILINE)
_HEADING = re.compile(
    r"^(?:\*\*)?(?:(?:the )?(?:final )?answer|step|conclusion|solution|result|verification|explanation|summary|part"
    r"|case|check)\b[^\n]{0,80}?(?::(?:\*\*)?|$)[ \t]*",
    re.IGNORECASE,
)
_TAGGED = re.compile(r"<answer>((?:(?!<answer>).)*?)</answer>", re.IGNORECASE | re.DOTALL)
_BLANK = r"(?:\s|\$|\\[()\[\],;:! ]|\\q?quad\b|\*)*"
_INDEX = r"(?:_\{?\w{1,4}\}?)?"
_JOINING_TEXT = re.compile(r"\\text\s*\{[^{}]{0,40}\b(and|or)\s*\}")
_JOINED = re.compile(
    rf"{_BLANK}(?:[,;&]|{_JOINING_TEXT.pattern}|and\b|or\b)+{_BLANK}(?:and\b|or\b)?{_BLANK}"
    rf"(?:\\?[A-Za-z]+{_INDEX}\s*=)?{_BLANK}"
)
_NAMED_BEFORE = re.compile(rf"(?:^|[\s$(\[])(\\?[A-Za-z]{_INDEX}\s*=\s*)\$?\s*$")
_FACTOR_BEFORE = re.compile(r"(?<=[=$])\s*[-\u2212]\s*$|(?<![^\s([])[-\u2212]$|[\d.]*\d\Z|(?:\\pm|\u00b1)\s*$")
_FACTOR_AFTER = re.compile(
    r"\s*\\?%|[\s$]*(?:million|billion|thousand|hundred|dozen)\b|[A-Za-z](?![A-Za-z])|\\pi\b|\s*\^(?!\s*\{?\\circ)\{?[^\s$]{1,20}"
    r"|\s*\\(?:times|cdot|pi|sqrt)\b[^$\n]{1,40}"
    r"|(?:\\[,;! ]|\s|~)*\\(?:text|mathrm)\s*\{(?!\s*(?:is|are|and|or|which)\b)[A-Za-z/ ]{1,20}\}(?:\^\{?\d\}?)?"
)
MAX_GAP, MAX_BEFORE, MAX_LINE, MAX_STATEMENTS, MAX_LEAD = 60, 300, 1000, 20, 3

_SPEAKER = r"\n[ \t]{0,4}(?:Human|User|Assistant|Question|Problem|Q|Instruction)\b ?\d{0,4}:"
_TURN_ENDS = re.compile(
    rf"<\|(?:im_end|im_start|endoftext|end_of_text|eot_id)\|>|</s>|{_SPEAKER}|<\|[^|<>\s]{{1,30}}\|>(?=\s*\w{{0,12}}\s*\Z)"
)
"""Where a model goes on with a conversation or an exercise of its own making."""
MAX_LAST_WORD = 16

# What marks an answer, in a few languages: the word and what binds it to the value.
_STATES = re.compile(
    r"(?:\b(?:answers?|ans|solutions?|results?|option|choice|antwort|r\u00e9ponse|respuesta|risposta|resposta|\u043e\u0442\u0432\u0435\u0442)\b|\u7b54\u6848|\u7b54\u3048|\uc815\ub2f5|\ub2f5|\u0627\u0644\u062c\u0648\u0627\u0628|\u0627\u0644\u0625\u062c\u0627\u0628\u0629)"
    r"(?: (?:to|for|of)\b[^.:=\n]{0,60}?)?(?: (?:corre[ct]?ta?|correcte|corretta|esatta|finale?))?[ \t*_]*"
    r"(?:\b(?:is|are|equals|must be|should be|ist|lautet|est|es)\b[ \t]*:?"
    r"|[:=\n\uff1a\u662f\u306f\u00e8\u00e9\uc740\u9009]|\u0647\u0648|\u0647\u064a)[\s*_]*"
    r"(?:(?:option|choice|la opci[\u00f3o]n|l['\u2019]option|a op\u00e7\u00e3o|l['\u2019]opzione)\s+)?"
    r"|\bist (?:also |somit |daher )?die (?:richtige |endg\u00fcltige )?antwort[ \t]+"
    r"|(?:\u6545|\u5e94|\u5e94\u8be5)\u9009(?:\u62e9)?[ \t]*[:\uff1a]?[ \t]*|^\u7b54[:\uff1a][ \t]*",
    re.IGNORECASE | re.MULTILINE,
)
_VALUE_BEGINS = re.compile(
    r"[-+\u2212\u2013\u00b1$\u20ac\u00a3(\[{\\\d\u221a\u03c0\u00bc-\u00be|]|[A-Za-z]\s?=|[A-H]\b(?!['\u2019])"
)
_SENTENCE_END = re.compile(
    r"[\u3002\uff0e]|[ \t]?(?:\u3067\u3059|\uc785\ub2c8\ub2e4)|[.!?][*_$)]*(?=\s+[A-Z\d\"(\\$*]|\s*$)"
    r"|,\s*(?:not|because|since|which|where|so|as|that is|i\.e\.)\s|\s\(?(?:because|since)\s"
    r"|\s\((?:that is|i\.e\.)[,\s]|\s[\u2013\u2014]\s(?!or\b)(?=[A-Za-z]{2})"
)
_CHOICE_MARK = re.compile(r"(?:^|[\s(*]?)[A-H]\.\s+[-$\\\d]")
_SPAN = re.compile(
    r"(?<!\\)\$\$?((?:[^$\\]|\\.){1,500})\$\$?|\*\*([^*]{1,500})\*\*|`([^`]{1,500})`|\\[(\[](.{1,500}?)\\[)\]]",
    re.DOTALL,
)
_NUMBER = r"(?:(?:[$\u20ac\u00a3]|\\\$)\s?)?[-\u2212]?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:[/:]\d+)*(?:\s?\\?%)?"
_NUMBER += r"|[(\[{][^()\[\]{}]{1,60}[)\]}]"
_LATIN = r"0-9A-Za-z\u00c0-\u04ff"
_ITEM = rf"(?:\\?[A-Za-z]{_INDEX}\s?=\s?)?(?:{_NUMBER})"
_NAMED = rf"\\?[A-Za-z]{_INDEX}(?:\([^\s()=]{{1,20}}\))?\s?[=<>\u2264\u2265\u2260]\s?"
_LAST_VALUE = re.compile(
    rf"(?:(?<![{_LATIN}_\\^{{.,/*+-])(?<![/*+-] )(?P<named>{_NAMED}(?:{_NUMBER})(?:(?:,|,? and|,? or) {_ITEM})*)|"
    r"(?:\b(?:is|are|was|were|equals|is equal to|ist|sind|est|sont|es|son)\b"
    r"|['\u2019]s\b|(?<!\d):|:(?=\s)|(?<=[A-Za-z]{2})\s*[=\u2248]|[\uff1a\u662f\u306f])[\s*_]*"
    rf"(?P<value>(?:[\d(][\d.,()+*/\u00d7\u00f7\u00b7\u2212 -]{{1,60}}=\s?)?{_ITEM}(?:(?:,|,? and|,? or) {_ITEM})*)|"
    r"(?:(?:^|\s)(?P<sign>(?:[$\u20ac\u00a3]|\\\$)\s?\d[\d,]*(?:\.\d+)?|\d[\d,]*(?:\.\d+)?\s?\\?%)))"
    r"(?P<unit>(?:\s?[^\W\d_\u2200-\u22ff][^\s=<>]*+|\u20ac|\$|\u00b0[CF]?){0,6})[.!*\s\u3002]*\Z"
)
"""A value that a line ends with, behind its name or what says that it is one."""
_BARE = re.compile(rf"(?:{_VALUE_BEGINS.pattern}|{_NAMED})[^=\n]*")
_SAID_OF = re.compile(
    r"\b(?:not?|n't|or|than|least|most|more|less|fewer|about|nearly|almost|over|under|between|twice|half|double|times|each|per"
    r"|step|page|line|problem|question|equation|see)"
    r"\b|[=<>≈≤≥]",
    re.IGNORECASE,
)
_WORD = re.compile(r"(?<![\\A-Za-z{])[A-Za-z]{3,}")
_DENIED = r"(?i:\b(?:not|incorrect\w*|wrong|false|falsch\w*|faux|errad[ao])\b|\u9519|\u043d\u0435\u0432\u0435\u0440)"
_CHOSEN_AFTER = re.compile(
    rf"(?![^:\uff1a]*{_DENIED})(?:[^\W\d_]{{1,20}} ){{0,2}}[^\W\d_]{{1,20}} ?[:\uff1a]\s*(\(?[A-H]\)?)[.\s\u3002]*"
)
"""A choice behind a word or two of whatever language."""
_ALSO = re.compile(
    rf"{_BLANK}\(?(?:(?:\\text\s*\{{\s*or\s*\}}|\b(?:or|oder|ou|\u0438\u043b\u0438)\b|\u6216|/)"
    rf"{_BLANK}(?:[a-z]{{2,12}} )?(?P<either>{_ITEM}|\\[^\s,;$]{{1,60}})"
    rf"|(?:,|&|and\b){_BLANK}(?P<both>{_ITEM}|\\[^\s,;$]{{1,60}})[\s$.)!*]*$)",
    re.MULTILINE,
)
"""A second value beside a box, which makes two values of the answer."""
_OR_BEFORE = re.compile(
    r"(?:\b(?:or|alternative(?:ly)?|otherwise|option|else)\b[\s\w:,.*$(#]{0,30}|/[\s*$(]*|[\s*$]*)\Z", re.IGNORECASE
)
"""What offers a second answer before its mark, or nothing but blanks."""
_HTML = re.compile(r"</?(?:strong|b|p|div|span|em|i|h\d)>", re.IGNORECASE)
_JSON = re.compile(r'\{(?:[^{}]{0,500},)?\s*"(?:final_)?answer"\s*:\s*"?([^{}"\n]{1,60}?)"?\s*\}')
_CHOICE = re.compile(r"\(?[A-H]\)?")
_UNBRACED = re.compile(
    r"(\\(?:boxed|fbox))(?:\s*(-?\d+(?:[.,]\d+)*|\\[dt]?frac\{[^{}]{1,60}\}\{[^{}]{1,60}\})|\s+([A-Za-z])(?![A-Za-z]))"
)


BOX, HASHES, TAGS = r"the last \boxed{…}", "the last line `#### …`", "the last <answer>…</answer>"
STATEMENT, LAST_VALUE = "a statement of the answer", "the value that the last line ends with"


class Conclusion(NamedTuple):
    """The answer of a text, None where there is none, the mark that it was found by, where that ends and begins."""

    answer: str | None
    mark: str = ""
    end: int = 0
    start: int = 0


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
    return cleaned(conclusion(text) or "") or None


def cleaned(answer: str) -> str:
    """`answer` without what only decorates it: spaces, $…$, **…**, `…`, and the full stop of its sentence."""
    return answer.strip().strip("$*`\"' \t").rstrip(".,;:").strip("$*`\"' \t").replace("\u2212", "-")


def conclusion(text: str) -> str | None:
    """The answer that `text` ends with, as written; None when there is none."""
    return concluded(text).answer


def concluded(text: str) -> Conclusion:
    """The answer that `text` ends with, as written, and by which mark.

    Of all that is marked as the answer the last one counts, in whatever language the rest is written. Where nothing
    is, it is the value that the last line ends with. Where a model that has answered goes on with a question of its
    own making, what it answers to that does not count."""
    if "</" in text:
        text = _HTML.sub("", text)
    if 'answer"' in text:
        text = _JSON.sub(r"<answer>\1</answer>", text)
    text = _UNBRACED.sub(lambda box: f"{box[1]}{{{box[2] or box[3]}}}", text)
    for turn in itertools.islice(_TURN_ENDS.finditer(text), MAX_STATEMENTS):
        before, is_end = text[: turn.start()], len(text) - turn.end() <= MAX_LAST_WORD
        found = _conclusion(before)
        if found.answer is not None and (found.mark != LAST_VALUE or before.endswith("\n") or is_end):
            return found
    return _conclusion(text)


def _conclusion(text: str) -> Conclusion:
    found = _marked(text)
    if found.end:
        return _with_one_before(text, found)
    value = _last_value(text)
    return Conclusion(value, "" if value is None else LAST_VALUE)


def _with_one_before(text: str, found: Conclusion) -> Conclusion:
    """`found`, with another answer right before it: one with "or" between them or nothing is not taken back."""
    between = next(_OR_BEFORE.finditer(text, max(0, found.start - MAX_GAP), found.start))  # it may be empty
    offers = bool(between[0].strip(" \n$*"))
    if not offers and found.mark == STATEMENT:
        return found
    before = text[max(0, between.start() - MAX_BEFORE) : between.start()]
    other = _marked(before)
    if not other.end or before[other.end :].strip("}*_.) \t\n$") or not (offers or other.mark == found.mark):
        return found
    answers = {cleaned(each.answer or "") for each in (found, other)}
    is_choice = len({_CHOICE.fullmatch(answer) is None for answer in answers}) == 2  # the letter of a value
    return found if len(answers) == 1 or is_choice else found._replace(answer=f"{other.answer} or {found.answer}")


def _marked(text: str) -> Conclusion:
    marked = max(_boxed(text), _hashed(text), _tagged(text), key=lambda found: found.end)
    return _stated(text, marked.end) or marked


def _is_empty(answer: str) -> bool:
    return not answer.strip("$*`\"' \t\n.,;:!")


def _boxed(text: str) -> Conclusion:
    """The last box that holds something, with those that are joined to it, and the factors that stand at it."""
    chain = deque[Box]()
    for box in reversed(boxes(text)):
        # Sliced one by one: contents of nested boxes would add up to the square of the text.
        if not chain and _is_empty(text[box.inner : box.end]):
            continue
        if chain:
            gap = text[box.end + 1 : chain[0].start]
            is_other = not gap.strip(" $") and text[box.inner : box.end] != text[chain[0].inner : chain[0].end]
            if box.end > chain[0].start or len(gap) > MAX_GAP or not (is_other or _JOINED.fullmatch(gap)):
                break
        chain.appendleft(box)
    if not chain:
        return Conclusion(None)
    before, end = text[max(0, chain[0].start - 40) : chain[0].start], chain[-1].end + 1
    name = _NAMED_BEFORE.search(before) if len(chain) > 1 else None
    answer = name[1] if name else (factor[0] if (factor := _FACTOR_BEFORE.search(before)) else "")
    answer += text[chain[0].inner : chain[0].end].strip()
    for box, following in itertools.pairwise(chain):
        gap = text[box.end + 1 : following.start]
        answer += (gap if gap.strip(" $") else ", ") + text[following.inner : following.end].strip()
    if len(chain) > 1:
        answer = _JOINING_TEXT.sub(r" \1 ", answer.replace("$", ""))
    if factor := _FACTOR_AFTER.match(text, end):
        answer += factor[0].replace("$", "")
    if also := _ALSO.match(text, end):
        answer += f" or {also['either'] or also['both']}"
    return Conclusion(answer, BOX, end, chain[0].start)


def _hashed(text: str) -> Conclusion:
    """The last line `#### x`; a heading of that level counts only for what stands behind its colon."""
    for found in reversed(list(_HASHES.finditer(text))):
        if not _is_empty(answer := _HEADING.sub("", found[1], 1)):
            return Conclusion(None) if "\\boxed" in answer else Conclusion(answer, HASHES, found.end(), found.start())
    return Conclusion(None)


def _tagged(text: str) -> Conclusion:
    found = next((tag for tag in reversed(list(_TAGGED.finditer(text))) if tag[1].strip()), None)
    if found is None or "\\boxed" in found[1]:
        return Conclusion(None)
    return Conclusion(found[1].strip(), TAGS, found.end(), found.start())


def _stated(text: str, start: int) -> Conclusion | None:
    """The last sentence after `start` that names its value the answer. Behind a marked answer it has to begin with that
    and say no more: other sentences speak of checks, of parts, and of what others think."""
    for found in itertools.islice(reversed(list(_STATES.finditer(text, start))), MAX_STATEMENTS):
        begin = found.end()
        if (span := _SPAN.match(text, begin)) and "\n" in span[0]:
            return Conclusion(next(filter(None, span.groups())).strip(), STATEMENT, span.end(), found.start())
        line = text[begin : begin + MAX_LINE].partition("\n")[0].lstrip("} ")
        ends = _SENTENCE_END.finditer(line, span.end() - begin if span else 0)  # \! in a formula ends no sentence
        end = next((end for end in ends if not _CHOICE_MARK.match(line, end.start() - 1)), None)
        answer = line[: end.start()] if end else line
        if "\\boxed" in answer or (end and end[0][0] == "?") or _is_empty(answer):
            continue
        if start == 0 and not _VALUE_BEGINS.match(answer):
            answer = _last_value(answer) or _only_number(answer) or answer
        lead = re.split(r"[.!?;:]\s|\n", text[max(start, found.start() - MAX_GAP) : found.start()])[-1]
        if re.search(rf"{_DENIED}\s*\Z", lead):
            continue
        if start == 0 or (len(lead.split()) <= MAX_LEAD and _is_bare(answer)):
            return Conclusion(answer, STATEMENT, begin + len(answer), found.start())
    return None


def _last_value(text: str) -> str | None:
    """The value of the last line: all of it, its only formula or bold text, or the number that it ends with."""
    text = text.rstrip(" \n.").removesuffix("\n```").rstrip(" \n.\u3002")
    start = text.rfind("$$", 0, -2) if text.endswith("$$") else text.rfind("\\[") if text.endswith("\\]") else -1
    line = (text[start:] if start >= 0 else text.rpartition("\n")[2])[-MAX_LINE:].strip()
    if "\\boxed" in line or line.endswith("?"):
        return None
    spans = list(_SPAN.finditer(line))
    valued = [span for span in spans if re.search(r"\d|\\", span[0][1:-1]) or len(span[0]) > len(line) - 3]
    alone = len(valued) == 1 and not re.search(r"\d", line[: valued[0].start()] + line[valued[0].end() :])
    if alone or (valued and not line[valued[-1].end() :].strip("*!\u3002 ")):
        value = next(filter(None, valued[-1].groups())).strip()
        return None if re.search(r"\bor[\s$*]*$", line[: valued[-1].start()]) else value
    if _is_bare(line):
        return line
    if chosen := _CHOSEN_AFTER.fullmatch(line):
        return chosen[1]
    if found := _LAST_VALUE.search(line):
        return f"{found['named'] or found['value'] or found['sign']} {found['unit'].strip(' .!*')}".strip()
    return None


def _only_number(text: str) -> str | None:
    """The number of a sentence that has one, unless it says something of it."""
    numbers = re.findall(rf"(?<![{_LATIN}_.,/\\^-])(?:{_NUMBER})(?![{_LATIN}_/^])", text)
    return numbers[0] if len(numbers) == 1 and not _SAID_OF.search(text) and "\\" not in text else None


def _is_bare(text: str) -> bool:
    """Whether `text` is a value with a unit at most."""
    text = text.strip("$*` ")
    return _BARE.fullmatch(text) is not None and len(_WORD.findall(text)) <= 2
