r"""Decides, from what follows a final answer, whether the response lets it stand, takes it back or replaces it.

| what follows | the answer is then |
|---|---|
| "the (final …) answer is X", "X is correct", "actually, X", "it should be X" | X, unless said again or rounded |
| it is called wrong ("that is wrong", "18 is incorrect") or withdrawn ("scratch that", "I made a mistake") | none |
| a doubt ("wait", "hold on", "hmm", "no,") | none, until it is confirmed ("yes", "it checks out") or comes out again |
| all else: checks, explanations, other options, others' mistakes, other quantities ("the result is") | as it was |

What is imagined ("if …", "a common mistake", "students think") says nothing of the answer, nor does "the answer is" in
a check, an explanation or a note. Time is bounded: of a long text only the end is read, and few values are compared.
"""

from __future__ import annotations

import re
from typing import Literal

from pipeline.rewards import remarks

MAX_REST = 20_000
MAX_SENTENCES = 300
MAX_SENTENCE = 1000
MAX_VALUE = 200
MAX_COMPARED = 50
"""Values that are compared with the answer; what a text states beyond these is taken to differ from it."""

_BLANKS = re.compile(r"[ \t\r\f\v]+")
_SENTENCE_END = re.compile(r"(?<=[.!?;])[*_)\"'$\]]*\s+|\n")
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
_GOES_ON = re.compile(r"(?![\s$*_)}\\\]]{0,20}(?:[.!?\n:]|$))")

Standing = Literal["stands", "announced", "doubted", "withdrawn"]


def after(answer: str, rest: str) -> str | None:
    """The answer at the end of a response that stated `answer` and went on with `rest`; None when there is none any
    more."""
    turn = remarks.NEXT_TURN.search(rest)
    rest = rest[: turn.start()] if turn else rest
    return _Reading(answer).read(rest) if rest.strip() else answer


class _Reading:
    """How it stands with the answer, sentence by sentence."""

    def __init__(self, answer: str) -> None:
        self.answer = answer
        self.standing: Standing = "stands"
        self.num_compared = 0

    def read(self, rest: str) -> str | None:
        before = ""
        for number, (sentence, aside) in enumerate(_sentences(rest)):
            is_subject = number == 0 and _GOES_ON.match(rest) is not None
            if is_subject:
                sentence = f"it {sentence.lstrip('$*_)} ')}"
            if not self._states(sentence, aside):
                nearby = number == 0 or self.standing != "stands" or not remarks.IMAGINED.search(before)
                self._judges(sentence, before, nearby, is_subject)
            before = sentence
        return self.answer if self.standing in ("stands", "announced") else None

    def _states(self, sentence: str, aside: bool) -> bool:
        """Whether `sentence` states an answer, which is taken over, or denies one."""
        if denied := remarks.IS_NOT.search(sentence):
            value = value_at(sentence[denied.end() :])
            if value and not _imagined(sentence[: denied.start()]) and self._says_again(value):
                self.standing = "withdrawn"
            return True
        for found in _last(remarks.ANSWER_IS, sentence):
            value = value_at(sentence[found.end() :])
            if value and not _imagined(sentence[: found.start()]) and (found["sure"] or not aside):
                return self._becomes(value)
        for found in _last(remarks.IS_ANSWER, sentence):
            value = value_at(found["value"] or found["letter"])
            if value and not _imagined(sentence[: found.start()]) and not self._mentioned(sentence[: found.end()]):
                return self._becomes(value)
        for pattern in (remarks.CORRECTS, remarks.SHOULD_BE):
            correction = pattern.search(sentence)
            value = value_at(sentence[correction.end() :]) if correction else None
            if correction and value and not _imagined(sentence[: correction.start()]):
                if pattern is remarks.CORRECTS and len(_WORD.findall(value)) > 1:
                    continue  # a sentence that goes on, and no value
                return self._becomes(value)
        return False

    def _becomes(self, value: str) -> bool:
        """`value` is the answer now; False where it is of another kind, so that it says nothing of the answer."""
        if self._says_again(value):
            self.standing = "stands"
            return True
        is_choice = remarks.CHOICE.fullmatch(value) is not None
        if is_choice != (remarks.CHOICE.fullmatch(self.answer) is not None):
            return False
        if not is_choice and not re.search(r"[\d\\\u03c0=]", value) and not remarks.WORDS.fullmatch(self.answer):
            return False
        self.answer, self.standing = value, "stands"
        return True

    def _judges(self, sentence: str, before: str, nearby: bool, is_subject: bool) -> None:
        """What a sentence that states no answer makes of the one that there is."""
        if self._takes_back(sentence, nearby, is_subject):
            self.standing = "withdrawn"
            return
        doubt = remarks.DOUBTS.search(sentence)
        if doubt and doubt["no"] and before.endswith("?"):
            doubt = None  # the answer to a question
        rest = sentence[doubt.end() :] if doubt else sentence
        result = self._result(rest)
        if self.standing != "withdrawn":
            if doubt:
                self.standing = "announced" if remarks.ANNOUNCES.search(rest) else "doubted"
            elif remarks.ACTUALLY.search(sentence) and result == "another":
                self.standing = "doubted"
        if self.standing in ("stands", "withdrawn") or sentence.rstrip("*_) ").endswith("?"):
            return
        said = remarks.ANNOUNCES.sub(" ", rest)
        if result == "same" or (remarks.CONFIRMS.search(said) and not remarks.DENIES.search(said)):
            self.standing = "stands"
        elif result == "another":
            self.standing = "doubted"

    def _takes_back(self, sentence: str, nearby: bool, is_subject: bool) -> bool:
        """Whether `sentence` withdraws the answer, calls it wrong, or offers another one beside it."""
        if found := remarks.WITHDRAWN.search(sentence):
            ahead = sentence[: found.start()]
            if not _imagined(ahead) and not remarks.DENIES.search(ahead):
                return True
        for found in remarks.CALLED_WRONG.finditer(sentence):
            ahead = sentence[: found.start()]
            is_named = " " in found["subject"] and not found["subject"].endswith("value")
            if is_subject or ((nearby or is_named) and not _imagined(ahead) and not remarks.DENIES.search(ahead)):
                return True
        if any(remarks.IS_WRONG.match(sentence, end) for end in self._mentioned(sentence)):
            return True
        if found := remarks.COULD_BE.search(sentence):
            value = value_at(sentence[found.end() :])
            return value is not None and not _imagined(sentence[: found.start()]) and not self._says_again(value)
        return False

    def _mentioned(self, sentence: str) -> list[int]:
        """Where the answer, as it was written, ends in `sentence`."""
        plain = self.answer.strip("$* .")
        if not 0 < len(plain) <= 50:
            return []
        whole = rf"(?<![\w.,\u2212-]){re.escape(plain)}(?![\w]|[.,]\d)[$*)]*"
        return [found.end() for found in re.finditer(whole, sentence)]

    def _result(self, sentence: str) -> Literal["same", "another", ""]:
        """Whether the last value that `sentence` comes to is the answer."""
        found = next(iter(_last(remarks.RESULT, sentence)), None)
        value = value_at(found["value"]) if found else None
        if not value or not re.search(r"[\d\\]", value):
            return ""
        return "same" if self._says_again(value) else "another"

    def _says_again(self, value: str) -> bool:
        from pipeline.rewards.math import says_again

        self.num_compared += 1
        return self.num_compared <= MAX_COMPARED and says_again(self.answer, value)


def _sentences(rest: str) -> list[tuple[str, bool]]:
    """Sentences, and whether they belong to an aside: a check, an explanation, a note."""
    text = "\n".join(_BLANKS.sub(" ", line).strip() for line in rest[-MAX_REST:].split("\n"))
    text = remarks.ANNOUNCED.sub(lambda found: f"{found[1] or found[2]} is ", text)
    aside = is_section = False
    found: list[tuple[str, bool]] = []
    for paragraph in re.split(r"\n{2,}", text):
        heading = remarks.HEADING.fullmatch(paragraph.strip())
        if heading or not is_section:
            aside = remarks.ASIDE.match(paragraph) is not None
            is_section = aside and heading is not None
        found += [(part[:MAX_SENTENCE].strip(), aside) for part in _SENTENCE_END.split(paragraph) if part.strip()]
    return found[-MAX_SENTENCES:]


def _last(pattern: re.Pattern[str], sentence: str) -> list[re.Match[str]]:
    """The last few matches, the last one first."""
    return list(pattern.finditer(sentence))[:-6:-1]


def _imagined(ahead: str) -> bool:
    """Whether what leads up to a statement makes it one of a case that is not, or of somebody else."""
    thought = remarks.SO.match(ahead)
    return remarks.IMAGINED.search(ahead, thought.end() if thought else 0) is not None


def value_at(text: str) -> str | None:
    """The value that `text` begins with, up to the end of its clause; None when it begins with none."""
    found = remarks.VALUE.match(text[: 2 * MAX_VALUE])
    if not found or remarks.COMPARES.match(found["value"]):
        return None
    value = found["value"]
    end = remarks.VALUE_END.search(value)
    value = (value[: end.start()] if end else value).strip("*_ \n").rstrip(".,;:!?*_ ")
    if value.count("$") % 2 and value.endswith("$"):
        value = value[:-1]  # of a formula whose beginning was cut off
    return value if 0 < len(value) <= MAX_VALUE else None
