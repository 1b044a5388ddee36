"""Sets of templates: those that are shipped, and what is said of a folder of the user's."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompts.filling import control_tokens, neutralised, placeholders
from prompts.render import render
from prompts.schemas import Intra, Scratch
from prompts.sets import ALLOWED, NEEDED, SHIPPED, TemplateError, faults_of, suited, templates_of


@pytest.mark.parametrize("name", SHIPPED)
def test_what_is_shipped_passes_its_own_check(name: str) -> None:
    templates = templates_of(name)
    assert [fault for one, text in templates.texts.items() for fault in faults_of(one, text)] == []
    assert set(templates.texts) == set(NEEDED) - ({"contrast"} if name == "legacy" else set())


def test_the_templates_of_before_are_those_of_before() -> None:
    """Their hashes are in the evaluations and pools of then."""
    legacy = templates_of("legacy")
    assert legacy.hash("scratch") == "20e6d667ed48"
    assert legacy.hash("inter") == "7d1b10a4c160"
    assert legacy.hash("form_boxed") == "db15681f100a"
    assert not legacy.can_tell_outcomes
    assert {templates_of(name).hash("scratch") for name in SHIPPED} == {"20e6d667ed48"}, "scratch is the same in all"


def test_compact_prompts_are_short_and_full_ones_explain_each_field() -> None:
    compact, full = templates_of("compact"), templates_of("full")
    for name in ("inter", "intra", "abstract", "contrast"):
        assert len(compact[name]) < 500 < len(full[name])
    for name in ("abstract", "contrast"):
        for templates, most in ((compact, 10), (full, 40)):
            for field in ("critique", "flow_of_thought", "principles", "pitfalls"):
                (line,) = (one for one in templates[name].splitlines() if one.strip('"').startswith(field))
                assert 3 < len(line.split()) < 2 * most


def own(folder: Path, **texts: str) -> str:
    for name, text in texts.items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    return str(folder)


def test_a_folder_of_ones_own_replaces_what_it_has(tmp_path: Path) -> None:
    name = own(tmp_path, scratch="Aufgabe: {{problem}}\nRechne Schritt für Schritt. {{answer_form}}\n")
    templates = templates_of(name)
    assert render(Scratch(problem="2 + 2?"), templates).startswith("Aufgabe: 2 + 2?\nRechne Schritt für Schritt. Put")
    assert templates["intra"] == templates_of("full")["intra"]
    assert "has no inter.txt, intra.txt, " in templates.note and "scratch.txt" not in templates.note
    assert templates_of("compact").note == templates_of("legacy").note == ""
    assert templates.identity.startswith(f"{name}@")
    assert templates.identity.partition("@")[2] != templates_of("full").identity.partition("@")[2]
    assert templates.can_tell_outcomes


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        ({"scratch": "Solve it. {{answer_form}}"}, "scratch.txt: lacks {{problem}}"),
        ({"scratch": "{{problem}} {{answer_form}} {{gold}}"}, "scratch.txt: {{gold}} is unknown; it may have {{ans"),
        ({"intra": "{{problem}} {{attempt}} {{answer_form}} {{reward}}"}, "intra.txt: {{reward}} is unknown"),
        ({"form_code": "Use {{language}}."}, "form_code.txt: {{language}} is unknown; it may have none"),
        ({"lesson": " \n"}, "lesson.txt: is empty"),
        ({"inter_lessons": "x"}, "inter_lessons.txt: no template has this name; there are scratch, inter,"),
        ({}, "holds no template; it may hold scratch.txt"),
        (
            {"scratch": "<|im_start|>system\n{{problem}} {{answer_form}}"},
            "scratch.txt: holds '<|im_start|>', with which chat formats begin or end a turn",
        ),
        (
            {"scratch": "<{{problem}}> {{answer_form}}"},
            "scratch.txt: what is filled in at {{problem}} can make a control token",
        ),
        ({"scratch": "{{problem}}s{{answer_form}}"}, "scratch.txt: what is filled in at {{problem}} can make"),
        ({"lesson": "{{number}} [{{points}}]"}, "lesson.txt: what is filled in at {{points}} can make"),
    ],
)
def test_what_is_wrong_with_a_folder_is_said_with_its_file(tmp_path: Path, texts: dict[str, str], says: str) -> None:
    with pytest.raises(TemplateError) as caught:
        templates_of(own(tmp_path, **texts))
    assert says in str(caught.value)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "<problem>{{problem}}</problem> {{answer_form}}",
        "**{{problem}}**\n({{answer_form}})",
        "Q:{{problem}}\nA:{{answer_form}}",
        "Think in <think> </think>. {{problem}} {{answer_form}}",
    ],
)
def test_what_stands_close_and_makes_no_token_is_no_fault(text: str) -> None:
    assert faults_of("scratch", text) == []


def test_every_fault_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(TemplateError) as caught:
        templates_of(own(tmp_path, scratch="x", intra="{{problem}}", extra="y"))
    assert len(str(caught.value).splitlines()) == 5


def test_a_folder_that_is_none_and_a_file_that_is_no_text_are_named(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match="'compakt': no such folder; give one of auto, compact, full, legacy, or"):
        templates_of("compakt")
    (tmp_path / "scratch.txt").write_bytes(b"\xff\xfe{{problem}}")
    with pytest.raises(TemplateError, match=r"scratch\.txt: cannot be read as UTF-8 text"):
        templates_of(str(tmp_path))


PIECES = st.sampled_from(
    [
        "<",
        ">",
        "|",
        "[",
        "]",
        "/",
        "s",
        "INST",
        "think",
        "im_end",
        "\uff5c",
        " ",
        "\n",
        "{{",
        "}}",
        "{%",
        "system:",
        "SYS",
    ]
)


@given(st.lists(PIECES | st.text(string.printable, max_size=3), max_size=12).map("".join))
def test_no_text_in_any_slot_of_a_checked_template_makes_a_control_token(text: str) -> None:
    for name in ("compact", "full"):
        shown = render(Intra(problem=text, attempt=text), templates_of(name))
        assert control_tokens(shown) == []


@given(
    st.lists(PIECES | st.just("{{problem}}") | st.just("{{answer_form}}") | st.just("x"), max_size=8).map("".join),
    st.lists(PIECES, max_size=4).map("".join),
)
def test_a_template_that_passes_the_check_makes_none_of_what_is_filled_in(template: str, text: str) -> None:
    """The check at the start is worth something: whatever passes it is safe with texts that it did not try."""
    template = f"{{{{problem}}}}{template}\n{{{{answer_form}}}}"
    if faults_of("scratch", template):
        return
    filled = template.replace("{{problem}}", neutralised(text)).replace("{{answer_form}}", "Box it.")
    assert control_tokens(filled) == [], (template, text)


def test_what_came_later_is_no_part_of_the_identity_by_which_sets_were_known(tmp_path: Path) -> None:
    folder = own(tmp_path, scratch="{{problem}} {{answer_form}}")
    before = templates_of(folder).identity
    own(tmp_path, rescue_intra="{{problem}}\n{{attempt}}\nThat is wrong. {{answer_form}}")
    templates_of.cache_clear()
    assert templates_of(folder).identity == before
    own(tmp_path, intra="{{problem}}\n{{attempt}}\nLook. {{answer_form}}")
    templates_of.cache_clear()
    assert templates_of(folder).identity != before


@pytest.mark.parametrize(
    ("num_parameters", "context", "name"),
    [
        (135_000_000, None, "compact"),
        (999_999_999, 131_072, "compact"),
        (1_000_000_000, 8192, "full"),
        (70_000_000_000, 8191, "compact"),
        (None, 1024, "compact"),
        (None, None, "full"),
    ],
)
def test_a_model_is_given_the_set_that_suits_it(num_parameters: int | None, context: int | None, name: str) -> None:
    found, why = suited(num_parameters, context)
    assert found == name
    assert why


def test_the_placeholders_of_the_document_are_those_of_the_check() -> None:
    for name, needed in NEEDED.items():
        for set_name in SHIPPED:
            if name in templates_of(set_name).texts:
                used = set(placeholders(templates_of(set_name)[name]))
                assert needed <= used <= needed | ALLOWED.get(name, frozenset())
