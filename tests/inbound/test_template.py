"""Templates always give a valid name, and never a reserved one, whatever a stranger's request holds."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookbrook.core.channel import check_name
from hookbrook.errors import Invalid
from hookbrook.inbound.request import Request
from hookbrook.inbound.template import MAX_PARTS, MAX_TEMPLATE_LENGTH, Template, clean_name

DOCUMENT: dict[str, Any] = {
    "headers": {"x-github-event": "push"},
    "query": {"room": "42"},
    "body": {
        "repository": {"full_name": "octocat/hello-world"},
        "number": 7,
        "ratio": 0.5,
        "draft": False,
        "title": "Zoë & co",
        "empty": "",
        "list": [1],
        "evil": "hookbrook.reset",
        "long": "x" * 300,
    },
}


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("stripe", "stripe"),
        ("github.{body.repository.full_name}", "github.octocat/hello-world"),
        ("{headers.x-github-event}", "push"),
        ('{headers."x-github-event"}', "push"),
        ("{ headers.x-github-event }.{body.number}", "push.7"),
        ("room:{query.room}", "room:42"),
        ("{body.ratio}-{body.draft}", "0.5-false"),
        ("{body.title}", "Zo----co"),
        ("{join('/', [headers.\"x-github-event\", query.room])}", "push/42"),
        ("{body.{a: repository}.a.full_name}", "octocat/hello-world"),
        ("{body.missing || '}'}", "-"),
        ("{body.missing}", "unknown"),
        ("a.{body.empty}.b", "a.unknown.b"),
        ("{body.list}", "unknown"),
        ("{body.repository}", "unknown"),
        ("{sum(body.title)}", "unknown"),
        ("{body.evil}", "_hookbrook.reset"),
        ("hook{body.missing || 'brook.x'}", "_hookbrook.x"),
    ],
)
def test_a_template_gives(template: str, name: str) -> None:
    assert Template.compile(template).render(DOCUMENT) == name


def test_the_fallback_can_be_said() -> None:
    assert Template.compile("{body.missing}", missing="message").render(DOCUMENT) == "message"


def test_long_values_stay_apart_when_they_are_cut() -> None:
    template = Template.compile("c.{body.long}")
    names = {template.render({"body": {"long": "x" * length}}) for length in (250, 300, 301)}
    assert len(names) == 3
    assert all(len(name) == 200 and name.startswith("c.xxx") for name in names)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a b",
        "{",
        "{body",
        "{body.}",
        "}",
        "a{}",
        "hookbrook.x",
        "hookbrook.{body.x}",
        "é",
        "a" * (MAX_TEMPLATE_LENGTH + 1),
        "{a}" * (MAX_PARTS + 1),
        "{body.'}",
    ],
)
def test_what_could_not_give_a_name_is_refused_when_it_is_set(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        Template.compile(text, field="channel")
    assert caught.value.errors[0].field == "channel"


def test_a_template_sees_its_event_and_no_credentials() -> None:
    request = Request(
        method="POST",
        headers=[(b"Authorization", b"Bearer secret"), (b"Cookie", b"a=secret"), (b"X-A", b"1"), (b"x-a", b"2")],
        query=b"a=%20b&a=c&d",
        body=b'{"n":1}',
    )
    assert request.document == {"headers": {"x-a": "1, 2"}, "query": {"a": " b", "d": ""}, "body": {"n": 1}}
    assert "secret" not in Template.compile("{to_string(@)}").render(request.document)


def test_work_at_the_door_is_bounded() -> None:
    document = {"body": {"list": list(range(100_000))}}
    assert Template.compile("{to_string(length(body.list[*].[@,@]))}").render(document) == "unknown"


@given(text=st.text(max_size=400))
def test_any_text_becomes_a_valid_unreserved_name(text: str) -> None:
    check_name("channel", clean_name(text))


@given(value=st.sampled_from(["hookbrook.", "HookBrook.", "hook", "brook.", "."]) | st.text(max_size=5), more=st.text())
def test_no_body_produces_a_reserved_name(value: str, more: str) -> None:
    for template in ("{body.a}{body.b}", "hook{body.a}{body.b}", "{body.a}.x"):
        check_name("channel", Template.compile(template).render({"body": {"a": value, "b": more}}))


@given(text=st.text(alphabet="{}[]()'\"`\\.*@&|ab ", max_size=30), body=st.dictionaries(st.text("ab"), st.text()))
def test_any_template_is_refused_at_once_or_always_gives_a_name(text: str, body: dict[str, str]) -> None:
    try:
        template = Template.compile(text)
    except Invalid:
        return
    check_name("channel", template.render({"headers": {}, "query": {}, "body": body}))


def test_a_dot_in_front_comes_only_with_a_value() -> None:
    template = Template.compile("{headers.x-event}{.body.action}")
    assert template.render({"headers": {"x-event": "pull"}, "body": {"action": "opened"}}) == "pull.opened"
    bodies: list[object] = [{}, {"action": None}, {"action": ""}, {"action": []}, None, []]
    for body in bodies:
        assert template.render({"headers": {"x-event": "push"}, "body": body}) == "push"
    assert Template.compile("{.body.a}").render({"body": {}}) == "unknown"
