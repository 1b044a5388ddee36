r"""A mathematical answer as written by people and models, LaTeX or plain, as a flat list of tokens.

Layout (\left, \displaystyle, thin spaces, dollar signs of maths mode) is gone, unicode signs have become LaTeX's, and
what only differs in spelling (\dfrac and \frac, \leq and ≤) is one token. Words are kept apart from variables: a run of
letters is a word inside of \text, or when it looks like one. Linear in the length of the text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

Kind = Literal["number", "letter", "word", "command", "mark"]


def words(text: str, before: str = "") -> frozenset[str]:
    """The words of `text` as a set, each with `before` in front."""
    return frozenset(before + word for word in text.split())


class Token(NamedTuple):
    r"""`text` is canonical; `spaced`: a blank stands before it; `styled`: it stands inside of \text or a font's
    command."""

    kind: Kind
    text: str
    spaced: bool = False
    styled: bool = False


_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_SIGNS = {
    "\u2212": "-", "﹣": "-", "－": "-", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "∙": r"\cdot ", "÷": "/", "≤": r"\le ",
    "≥": r"\ge ", "⩽": r"\le ", "⩾": r"\ge ", "≠": r"\ne ", "≈": r"\approx ", "≡": r"\equiv ", "∞": r"\infty ", "∪": r"\cup ",
    "∩": r"\cap ", "∈": r"\in ", "√": r"\sqrt ", "∛": r"\sqrt[3]", "°": r"^\circ ", "º": r"^\circ ", "±": r"\pm ", "∓": r"\mp ",
    "′": "'", "’": "'", "∅": r"\emptyset ", "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "∠": r"\angle ", "△": r"\triangle ",
    "⟨": r"\langle ", "⟩": r"\rangle ", "⌊": r"\lfloor ", "⌋": r"\rfloor ", "⌈": r"\lceil ", "⌉": r"\rceil ", "¢": r"\text{cents}",
    "∑": r"\sum ", "∫": r"\int ", "∏": r"\prod ", "∖": r"\setminus ", "∴": " ", "…": r"\ldots ", "％": "%", "\u2044": "/",
    "\u200b": "", "\u2060": "", "\ufeff": "", "\u00a0": "~", "\u2009": r"\,", "\u202f": r"\,", "–": "\u2013", "—": "\u2014",
}  # fmt: skip
_GREEK = {chr(code): unicodedata.name(chr(code)).rpartition(" ")[2].lower() for code in range(0x3B1, 0x3CA)}
_SIGNS |= {sign: rf"\{'lambda' if name == 'lamda' else name} " for sign, name in _GREEK.items()}
NUMBERS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)
_ESCAPED = "[dt]?frac|left|right|sqrt|text|math[a-z]+|pi|infty|cdot|times|circ|cup|[lg]eq?|begin|end"
_REWRITTEN: tuple[tuple[str | None, str, str | Callable[[re.Match[str]], str]], ...] = (
    # What has to be in the text (None: what is not ASCII), a pattern, and what it becomes, in this order.
    ("\\\\", rf"(?<!\\)\\\\(?=(?:{_ESCAPED})(?![a-z]))", r"\\"),  # escaped twice
    ("quad", r"\\(q?quad)(?=[A-Za-z])", r"\\\1 "),
    ("", r"\b[AaPp]\.\s?[Mm]\b\.?|(?:(?<=\d)|(?<=\d ))[AP]M\b", lambda found: found[0][0].lower() + "m"),
    ("\u2013", r"(?:^|(?<=[(\[{,=]))\s*\u2013(?=\s*[\d\\.])", "-"),
    ("pmod", r"\\pmod\s*(?:\{([^{}]*)\}|(\w))", lambda found: rf"(\bmod {found[1] or found[2]})"),
    ("color", r"\\(?:text)?color(?:\[\w{1,9}\])?\{[\w!.-]{1,30}\}", " "),
    (",", r"(?<![\d.,])(\d{1,9})\{,\}(\d{1,2}|\d{4,9})(?!\{,|[\d.,])", r"\1.\2"),
    ("choose", r"\{\s*(\w{1,9})\s*\\choose\s*(\w{1,9})\s*\}", r"\\binom{\1}{\2}"),
    ("^", r"\^\s*\{\s*\\circ\s*\}", r"^\\circ "),
    (
        "^",
        r"\^\s*(?:\{\s*((?:\\prime\s*|')+)\}|((?:\\prime(?![A-Za-z])\s*)+))",
        lambda found: "'" * len(re.findall(r"\\prime|'", found[0])),
    ),
    ("underline", r"\^\s*\{\s*\\underline", r"^{\\falling"),
    # Derivatives, bases and unit vectors.
    (
        "frac",
        r"\\[dt]?frac\s*\{\s*((d|\\Delta)(?:\^\{?\d\}?)?\s*[A-Za-z][^{}]{0,6})\}\s*\{\s*(\2\s*[A-Za-z](?:\^\{?\d\}?)?)\s*\}",
        r"D_{\1/\3}",
    ),
    ("_", r"\(([0-9A-F]{1,20})\)_", r"\1_"),
    ("_", r"_\{\((\d{1,2})\)\}", r"_{\1}"),
    ("_", rf"_\{{\\text\s*\{{({'|'.join(NUMBERS[2:11])})\}}\}}", lambda found: f"_{{{NUMBERS.index(found[1])}}}"),
    ("base", r"(?<=\d)\s?\(base (\d{1,2})\)", r"_{\1}"),
    (
        "\\",
        r"\\(?:mathbf|boldsymbol|bm|vec|hat|widehat)\s*(?:\{\s*(?:\\mathbf\s*)?\\?\{?([ijk])\}?(?:math)?\s*\}|([ijk])(?![A-Za-z]))",
        r"\\hat{\1\2}",
    ),
    ("angle", r"\\(angle|measuredangle|triangle)\s*\{\s*([A-Za-z]{1,4})\s*\}", r"\\\1 \2"),
    (
        "C_",
        r"(?:\{\})?[_^](?:\{(\w{1,9})\}|(\d))\s*C_(?:\{(\w{1,9})\}|(\w))",
        lambda found: rf"\binom{{{found[1] or found[2]}}}{{{found[3] or found[4]}}}",
    ),
    ("\\\\", r"\\\\\s*\[\s*-?[\d.]+\s*(?:pt|em|ex|mm|cm)\s*\]", r"\\\\ "),
    (
        None,
        "[¼-¾⅐-⅞]",
        lambda found: r" \frac{{{}}}{{{}}}".format(*unicodedata.normalize("NFKC", found[0]).split("\u2044")),
    ),
    (None, "[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+", lambda found: f"^{{{found[0].translate(_SUPERSCRIPTS)}}}"),
    (None, "[₀₁₂₃₄₅₆₇₈₉]+", lambda found: f"_{{{found[0].translate(_SUBSCRIPTS)}}}"),
    (None, "|".join(map(re.escape, _SIGNS)), lambda found: _SIGNS[found[0]]),
)
_REWRITES = tuple((needed, re.compile(pattern), by) for needed, pattern, by in _REWRITTEN)
_ALIGNED = re.compile(r"\\(?:begin|end)\{(?:aligned|align\*?|equation\*?|gathered|split)\}")
_THIN = r" ?\{, ?\}|(?:\\!)?,\\!\s*|\\[,!;: ]|~"
_GROUPED = re.compile(rf"(?<![\d.,])\d{{1,3}}(?:(?:{_THIN})\d{{3}})+(?!\d)")
_COMMAS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?!\d|,\d)")
_BLANKS = re.compile(r"(?<![\d.,/])(?<![\d.,/] )\d{1,3}(?: \d{3})+(?![\d/]| \d)")

_TOKEN = re.compile(
    r"(?P<blank>(?:\s|~|\\[,;:! \n])+)"
    r"|(?P<number>\d+\.(?=\\overline|\\bar)|\d+(?:\.\d+)?(?:[eE][+-]?\d{1,5}(?![\d.A-Za-z]))?|\.\d+)"
    r"|(?P<command>\\[A-Za-z]+\*?)|(?P<letters>[^\W\d_]+)|(?P<mark>\\.|\*\*|<=|>=|!=|.)",
    re.DOTALL,
)
_LAYOUT = words(
    "left right big Big bigg Bigg bigl Bigl biggl Biggl bigr Bigr biggr Biggr displaystyle textstyle limits "
    "mathstrut therefore bf rm it tiny small normalsize large Large LARGE huge Huge quad qquad space hfill "
    "hspace hskip thinspace nobreak mathopen mathclose mathord",
    "\\",
)
_TEXTS = words("text textbf textit textrm textsf texttt textup mbox hbox emph textnormal textsc", "\\")
_FONTS = words("mathrm mathbf mathit mathsf mathtt boldsymbol bm operatorname underline", "\\")
_SAME = {
    r"\dfrac": r"\frac", r"\tfrac": r"\frac", r"\cfrac": r"\frac", r"\dbinom": r"\binom", r"\tbinom": r"\binom", r"\leq": "<=",
    r"\le": "<=", r"\leqslant": "<=", r"\geq": ">=", r"\ge": ">=", r"\geqslant": ">=", r"\lt": "<", r"\gt": ">", r"\ne": "!=",
    r"\neq": "!=", r"\times": "*", r"\cdot": "*", r"\ast": "*", "**": "^", r"\div": "/", r"\varnothing": r"\emptyset",
    r"\lbrace": r"\{", r"\rbrace": r"\}", r"\lbrack": "[", r"\rbrack": "]", r"\lparen": "(", r"\rparen": ")", r"\vert": "|",
    r"\lvert": "|", r"\rvert": "|", r"\ldots": "...", r"\dots": "...", r"\cdots": "...", r"\colon": ":", r"\%": "%", r"\#": "#",
    r"\&": "&", r"\_": "_", r"\cup": "∪", r"\cap": "∩", r"\in": "∈", r"\pm": "±", r"\mp": "∓", r"\approx": "≈", r"\simeq": "≈",
    r"\equiv": "≡", r"\setminus": "∖", r"\backslash": "∖", r"\epsilon": r"\varepsilon", r"\varphi": r"\phi", r"\prime": "'",
    r"\textdollar": r"\$", r"\euro": "€", r"\pounds": "£", r"\land": "and", r"\lor": "or", r"\mod": "mod", r"\overrightarrow": r"\vec",
    r"\bmod": "mod", r"\bar": r"\overline",
}  # fmt: skip
FUNCTIONS = words(
    "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln lg exp sqrt gcd lcm max min", "\\"
)
_PLAIN = {name[1:]: name for name in FUNCTIONS} | {
    "asin": r"\arcsin", "acos": r"\arccos", "atan": r"\arctan", "pi": r"\pi", "infinity": r"\infty", "inf": r"\infty",
    "theta": r"\theta", "alpha": r"\alpha", "beta": r"\beta", "gamma": r"\gamma", "lambda": r"\lambda", "choose": r"\choose",
}  # fmt: skip
SHORT_UNITS = words("cm mm km kg mg ml mL ft lb oz hr Hz kJ kW mi yd pm am th st nd rd Pa mA nm in")
SHORT_WORDS = words("or and is of to at on no not if by per an as he we so be up it")
_CAPITAL_WORDS = words("YES NO TRUE DNE USD US GCD LCM ODD EVEN NONE ALL")
_CONSECUTIVE = "abcdefghijklmnopqrstuvwxyz"


def plain(text: str, commas_group: bool = True) -> str:
    """`text` with LaTeX for unicode signs and without thousands separators. A comma is one only when `commas_group`."""
    for needed, pattern, by in _REWRITES:
        if not text.isascii() if needed is None else needed in text:
            text = pattern.sub(by, text)
    if _ALIGNED.search(text):
        text = _ALIGNED.sub(" ", text).replace("&", " ")
    text = unicodedata.normalize("NFKC", text)
    text = _GROUPED.sub(lambda found: re.sub(r"\D", "", found[0]), text)
    text = _BLANKS.sub(lambda found: found[0].replace(" ", ""), text)
    # Inside of brackets a comma separates, unless blanks show which ones do.
    if commas_group and (", " in text or not re.search(r"[(\[]|\\\{|\\lbrace", text)):
        text = _COMMAS.sub(lambda found: found[0].replace(",", ""), text)
    return text


def tokens_of(text: str, commas_group: bool = True) -> list[Token]:
    """The tokens of `text`."""
    raw = list(_TOKEN.finditer(_without_maths_mode(plain(text, commas_group))))
    closing = _closing(raw)
    found: list[Token] = []
    styles: list[tuple[int, str]] = []  # where the \text or font that stands open ends, and its command
    spaced, index = False, 0
    while index < len(raw):
        if styles and index == styles[-1][0]:
            styles.pop()
            index += 1
            continue
        kind, text = raw[index].lastgroup, raw[index][0]
        style = styles[-1][1] if styles else ""
        index += 1
        if kind == "blank":
            spaced = True
            continue
        if text in _TEXTS or text in _FONTS:
            while index < len(raw) and raw[index].lastgroup == "blank":
                index += 1
            if index in closing:
                styles.append((closing[index], text))
                index += 1
            spaced = spaced or text in _TEXTS
            continue
        if kind == "command" and text in _LAYOUT:
            if text in (r"\left", r"\right") and index < len(raw) and raw[index][0] == ".":
                index += 1
            spaced = spaced or text in (r"\quad", r"\qquad", r"\space")
            continue
        for its_kind, its_text in _tokens(kind or "mark", text, style):
            found.append(Token(its_kind, its_text, spaced, bool(style)))
            spaced = False
    return found


def _closing(raw: Sequence[re.Match[str]]) -> dict[int, int]:
    """Where each group of braces that is closed ends, by where it begins."""
    found, open_braces = {}, []
    for index, token in enumerate(raw):
        if token[0] == "{":
            open_braces.append(index)
        elif token[0] == "}" and open_braces:
            found[open_braces.pop()] = index
    return found


def _without_maths_mode(text: str) -> str:
    r"""Without $…$, \(…\) and \[…\]; a dollar sign that opens nothing is the currency."""
    before, *parts = re.split(r"(?<!\\)\$", re.sub(r"(?<!\\)\\[()\[\]]", " ", text))
    return " ".join([rf"{before}\${parts[0]}", *parts[1:]] if len(parts) % 2 else [before, *parts])


def _tokens(kind: str, text: str, style: str) -> list[tuple[Kind, str]]:
    """Kinds and texts of what one match of _TOKEN stands for."""
    if kind == "number":
        return [("number", text)]
    if kind == "letters":
        return _letters(text, style)
    text = _SAME.get(text, text)
    if text in ("and", "or", "mod"):
        return [("word", text)]
    return [("command" if kind == "command" and text.startswith("\\") else "mark", text)]


def _letters(text: str, style: str) -> list[tuple[Kind, str]]:
    """A run of letters: a function or constant, a word, or variables side by side."""
    if style in _TEXTS:
        return [("word", text)]
    if any(char >= ("\u0400" if len(text) > 1 else "\u3040") for char in text):
        return [("word", text)]  # of another script
    if text in _PLAIN:
        return [("command", _PLAIN[text])]
    if len(text) == 1:
        return [("letter", text)]
    if text[:-1] in ("sin", "cos", "tan", "ln", "log") and text not in ("sing", "tank", "tang", "sink", "tans"):
        return [("command", _PLAIN[text[:-1]]), ("letter", text[-1])]
    is_figure = text.isupper() and len(text) <= 4 and text not in _CAPITAL_WORDS  # points: ABC
    is_long = len(text) >= 3 and text not in _CONSECUTIVE and not is_figure
    if text in SHORT_UNITS or text in _CAPITAL_WORDS or text.lower() in SHORT_WORDS or is_long or style:
        return [("word", text)]
    return [("letter", letter) for letter in text]


def written(tokens: Sequence[Token]) -> str:
    """One text for what differs only in blanks, in the case of words, and in the braces of a short index or
    exponent."""
    parts: list[str] = []
    before = Token("mark", "")
    for token in tokens:
        text = token.text.lower() if token.kind == "word" and len(token.text) > 1 else token.text
        if before.text in ("^", "_") and text != "{":
            text = f"{{{text}}}"
            token = Token("mark", "}")
        elif {before.kind, token.kind} <= {"word", "number"} or (before.kind == "command" and text[0].isalnum()):
            text = " " + text
        parts.append(text)
        before = token
    return "".join(parts)
