"""The program in a model's answer. Pure functions of text.

Fenced blocks first (`fenced`), by their signs alone; only where an answer has none is Python's parser asked which of
its lines are code. That parser is not proof against hostile text, so `extract_code` belongs into a process that may
die; `code_of` asks no parser.
"""

from __future__ import annotations

import ast
import itertools
import re
import textwrap
from collections.abc import Iterator

from pipeline.text import strip_think

MAX_CLOSINGS = 30
"""Fences that a block may hold in its docstrings."""
MAX_SCANNED = 1000
MAX_BLOCKS = 50
MAX_PARSED = 200_000
"""Characters of an answer without fences that the parser is given."""

USUAL_MODULES = ("bisect", "collections", "functools", "heapq", "itertools", "math", "random", "re", "string", "sys")
USUAL_NAMES = {
    "typing": ("Any", "Callable", "Deque", "Dict", "Iterable", "Iterator", "List", "Optional", "Set", "Tuple", "Union"),
    "collections": ("Counter", "OrderedDict", "defaultdict", "deque"),
    "functools": ("cache", "cmp_to_key", "lru_cache", "reduce"),
    "itertools": (
        "accumulate",
        "chain",
        "combinations",
        "groupby",
        "pairwise",
        "permutations",
        "product",
        "zip_longest",
    ),
    "heapq": ("heapify", "heappop", "heappush", "heappushpop", "heapreplace", "nlargest", "nsmallest"),
    "bisect": ("bisect_left", "bisect_right", "insort"),
    "math": ("ceil", "comb", "floor", "gcd", "inf", "isqrt", "lcm", "log2", "sqrt"),
}

_FENCE = re.compile(
    r"^(?P<before>[^\n`]*?)(?P<sign>`{3,}|~{3,})[ \t]*\{?\.?(?P<language>[\w+.-]*)\}?(?P<more>[^\n`]*)$", re.MULTILINE
)
_PYTHON = re.compile(r"(?:i?python|py)[\d.]*|pycon|python-repl|")
_QUOTE = re.compile(r"#[^\n]*|(?P<triple>\"\"\"|''')|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'")
_NAMES = re.compile(
    r"^(?:(?:async[ \t]+)?def[ \t]+(?P<function>\w+)|class[ \t]+(?P<class>\w+)|"
    r"(?P<variables>\w+(?:[ \t]*,[ \t]*\w+)*)[ \t]*(?::[^=\n]{1,200})?=(?!=)|"
    r"(?:from[ \t]+[\w.]+[ \t]+)?import[ \t]+(?P<imports>\([^)]*\)|[^\n;#]*))",
    re.MULTILINE,
)
_IMPORTED = re.compile(r"(\w+)(?:\.\w+)*(?:\s+as\s+(\w+))?")
_FUTURE = re.compile(r"^from[ \t]+__future__[ \t]+import[ \t]+(?:\([^)]*\)|[^\n;#]*)[^\n]*\n?", re.MULTILINE)
_PROMPT_SIGN = re.compile(r"^[ \t]*(?:>>>|\.\.\.)(?: |$)(.*)$", re.MULTILINE)
_CONTINUES = re.compile(r"[ \t]|(?:else|elif|except|finally|case)\b|[)\]}]")
_STARTS = re.compile(
    r"@|(?:async|def|class|import|from|if|for|while|try|with)\b|[A-Za-z_][\w.\[\], '\"]*[-+*/%|&^]?=|[A-Za-z_]\w*[ "
    r"\t]*:[^=\n]+="
)


def code_blocks(text: str) -> list[str]:
    """What stands in fences named Python or nothing, in order; one that never closes runs to the end."""
    return [code for code in _blocks(text) if code.strip()]


def code_of(text: str) -> str:
    """All that looks like code in `text`, fenced or not, without asking a parser."""
    blocks = code_blocks(text)
    if blocks:
        return "\n".join(blocks)
    lines = text.splitlines()
    return "\n".join(line for line in lines if line[:1].isspace() or _STARTS.match(line))


def _blocks(text: str) -> Iterator[str]:
    """The content of each fenced block that is named Python or nothing."""
    text = text.replace("\r\n", "\n")
    fences = list(_FENCE.finditer(text))
    number = 0
    while number < len(fences):
        opening = fences[number]
        if not _opens(opening):
            number += 1
            continue
        closing = _closing(text, fences, number)
        end = len(text) if closing is None else _content_end(fences[closing])
        if _is_python(opening):
            yield _content(text[opening.end() + 1 : end], opening)
        if closing is None:
            return
        # A fence with a language both ends the block before, which somebody forgot to close, and begins one.
        number = closing if fences[closing]["language"] else closing + 1


def _is_python(opening: re.Match[str]) -> bool:
    return _PYTHON.fullmatch(opening["language"].lower()) is not None


def _opens(fence: re.Match[str]) -> bool:
    """Whether a fence can begin a block: alone on its line, behind a list's mark or a quote's, or with a language
    behind a sentence."""
    is_alone = re.fullmatch(r"[ \t]*(?:(?:[-*+>]|\d{1,3}[.)])[ \t]+)*", fence["before"]) is not None
    return is_alone or (bool(fence["language"]) and not fence["more"].strip())


def _closing(text: str, fences: list[re.Match[str]], opening: int) -> int | None:
    """The number of the fence that ends the block: the first of its kind and length or longer, but one outside of
    docstrings where there is such."""
    sign = fences[opening]["sign"]
    last = min(len(fences), opening + MAX_SCANNED)
    matching = (
        number
        for number in range(opening + 1, last)
        if fences[number]["sign"].startswith(sign) and not fences[number]["more"].strip()
    )
    first: int | None = None
    checked, quote = fences[opening].end() + 1, ""
    for number in itertools.islice(matching, MAX_CLOSINGS):
        first = number if first is None else first
        end = _content_end(fences[number])
        quote = _open_quote(text[checked:end], quote)
        checked = end
        if not quote or not _is_python(fences[opening]):
            return number
    return first


def _open_quote(code: str, quote: str) -> str:
    """The triple quote that is open at the end of `code`, which began inside of `quote`; "" for none."""
    position = 0
    while True:
        if quote:
            end = code.find(quote, position)
            if end < 0:
                return quote
            position, quote = end + 3, ""
        found = _QUOTE.search(code, position)
        if found is None:
            return ""
        position, quote = found.end(), found["triple"] or ""


def _content_end(closing: re.Match[str]) -> int:
    """Where the content before a closing fence ends; code on the fence's own line belongs to it."""
    before = closing["before"]
    return closing.end("before") if before.strip() and not closing["language"] else closing.start()


def _content(code: str, opening: re.Match[str]) -> str:
    """Without the indentation of the opening fence, quote marks, and a console's signs."""
    indent = len(opening["before"]) if not opening["language"] or not re.search(r"\w{2}", opening["before"]) else 0
    if indent:
        code = re.sub(rf"^(?:[ \t]|>[ \t]?){{1,{indent}}}", "", code, flags=re.MULTILINE)
    if re.match(r"\s*>>> ", code):
        code = "".join(f"{line}\n" for line in _PROMPT_SIGN.findall(code))
    return code


def defines(code: str, name: str) -> bool:
    """Whether `code` has `name` at its top level, as far as a look at the lines tells."""
    word = re.escape(name)
    pattern = rf"^(?:(?:async[ \t]+)?def[ \t]+{word}\b|class[ \t]+{word}\b|{word}[ \t]*(?::[^=\n]{{1,200}})?=)"
    return bool(name) and re.search(pattern, code, re.MULTILINE) is not None


def extract_code(text: str, entry_point: str = "") -> str | None:
    """The code that `text` answers with: its last fenced block, but rather the last that defines `entry_point` (an
    example of use often follows), with those that define what it uses. Without fences the whole text, or
    what of it is code. None if there is none."""
    if "<think>" in text or "</think>" in text:  # not always: stripping would cost a completion its indentation
        text = strip_think(text)
    blocks = [_levelled(block, entry_point) for block in code_blocks(text)]
    if blocks:
        numbers = range(len(blocks))
        chosen = next((number for number in reversed(numbers) if defines(blocks[number], entry_point)), numbers[-1])
        code = blocks[chosen]
        return _with_needed(blocks[:chosen], code, blocks[chosen + 1 :]) if defines(code, entry_point) else code
    if not text.strip() or any(_opens(fence) for fence in _FENCE.finditer(text)):
        return None
    return _listing(text, entry_point)


def _levelled(code: str, entry_point: str) -> str:
    """`code`, moved to the left when only that puts the function on its top level."""
    if defines(code, entry_point):
        return code
    dedented = textwrap.dedent(code)
    return dedented if defines(dedented, entry_point) else code


def _with_needed(earlier: list[str], code: str, later: list[str]) -> str:
    """`code` with those blocks around it that define a name that it, or one of these, uses and does not bind. Of
    `later` ones, which may be examples of use, only functions and classes count."""
    whole = code
    for block in reversed(earlier[-MAX_BLOCKS:]):
        if _needs(whole, _names(block)):
            whole = f"{block.rstrip()}\n{whole}"
    for block in later[:MAX_BLOCKS]:
        if _needs(whole, _names(block, only_definitions=True)):
            whole = f"{whole.rstrip()}\n{block}"
    return whole


def _needs(code: str, names: set[str]) -> bool:
    """Whether `code` uses one of `names` and binds it nowhere, parameters and variables of its functions included."""
    used = names & set(re.findall(r"[^\W\d]\w*", code)) if names else names
    if not used:
        return False
    bound = _names(code) | set(re.findall(r"^[ \t]*(\w+)[ \t]*=(?!=)", code, re.MULTILINE))
    for several in re.findall(r"\bdef[ \t]+\w+[ \t]*\(([^)]*)\)|\blambda\b([^:\n]*):|\bfor\b([^:\n]*?)\bin\b", code):
        bound.update(re.findall(r"(?:^|,)\s*\(?\*{0,2}(\w+)", "".join(several)))
    return bool(used - bound)


def _names(code: str, only_definitions: bool = False) -> set[str]:
    """What `code` binds on its top level, as far as a look at the lines tells."""
    found: set[str] = set()
    for line in _NAMES.finditer(code):
        if only_definitions and not (line["function"] or line["class"]):
            continue
        if line["imports"] is not None:
            found.update(alias or name for name, alias in _IMPORTED.findall(line["imports"]))
        else:
            found.update(re.findall(r"\w+", line["function"] or line["class"] or line["variables"]))
    return found


def _listing(text: str, entry_point: str) -> str:
    """A program without fences: `text`, or where prose surrounds it, its statements. A completion is left as it is."""
    text = text.replace("\r\n", "\n")
    if not defines(text, entry_point):
        inner = re.search(rf"^([ \t]+)(?:async[ \t]+)?def[ \t]+{re.escape(entry_point)}\b", text, re.MULTILINE)
        if not entry_point or inner is None or not re.search(r"^\S", text[: inner.start()], re.MULTILINE):
            return text
        indented = (line for line in text.split("\n") if not line.strip() or line.startswith(inner[1]))
        text = "\n".join(line[len(inner[1]) :] for line in indented)
    if len(text) > MAX_PARSED or _statements(text) is not None:
        return text
    found = "".join(code for code in _chunks(text) if _is_code(code))
    return found if defines(found, entry_point) else text


def _chunks(text: str) -> Iterator[str]:
    """`text` cut before each line that begins a statement on the top level, or none."""
    chunk: list[str] = []
    for line in text.splitlines(keepends=True):
        goes_on = not line.strip() or _CONTINUES.match(line) or (chunk and chunk[-1].startswith("@"))
        if not goes_on and chunk:
            yield "".join(chunk)
            chunk = []
        chunk.append(line)
    yield "".join(chunk)


def _is_code(chunk: str) -> bool:
    """Whether a chunk is a statement that does something: "Note: this" and "Done" are Python, too."""
    found = _statements(chunk) if _STARTS.match(chunk) else None
    return found is not None and not any(
        isinstance(each, ast.Expr) or (isinstance(each, ast.AnnAssign) and each.value is None) for each in found
    )


def _statements(code: str) -> list[ast.stmt] | None:
    try:
        return ast.parse(code).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def as_program(code: str, prompt: str = "", entry_point: str = "") -> str:
    """`code` as a whole program. With a `prompt` that ends in the head of a function, as HumanEval's do: code that
    defines the function gets the imports and helpers that precede that head; other code is its body."""
    if not prompt:
        return _future_first(code)
    if defines(code, entry_point):
        word = re.escape(entry_point)
        head = re.search(rf"^(?:(?:async[ \t]+)?def|class)[ \t]+{word}\b", prompt, re.MULTILINE)
        return _future_first((prompt[: head.start()] if head else "") + code)
    return prompt + ("" if prompt.endswith("\n") else "\n") + _body(code)


def with_usual_names(program: str) -> str:
    """`program` with what those who ask for a `class Solution` have imported already, of it what it names."""
    words = set(re.findall(r"\w+", program))
    lines = [f"import {module}\n" for module in USUAL_MODULES if module in words]
    lines += [
        f"from {module} import {name}\n" for module, names in USUAL_NAMES.items() for name in names if name in words
    ]
    return _future_first("".join(lines) + program)


def _future_first(code: str) -> str:
    """`code` with its imports of __future__ at its top, the only place where Python takes them."""
    if "__future__" not in code:
        return code
    found = [line.strip() for line in _FUTURE.findall(code)]
    return "".join(f"{line}\n" for line in found) + _FUTURE.sub("", code)


def _body(code: str) -> str:
    """The indented lines that `code` begins with; what a base model goes on with after the function is left out."""
    lines = code.splitlines(keepends=True)
    for index, line in enumerate(lines):
        if line.strip() and not line[0].isspace() and any(before.strip() for before in lines[:index]):
            return "".join(lines[:index])
    return code
