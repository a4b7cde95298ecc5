"""`llmengine contract list` and `explain`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmengine.contract.profile import load_profile, read_profile
from pytest_llmengine.contract.registry import Tier, catalogue, select

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_list_has_one_line_per_check(llmengine: Callable[..., Any]) -> None:
    """In a pipe every check is one line with id, level, tier and rule."""
    rows = llmengine("contract", "list").out.splitlines()[1:]
    assert [row.split()[0] for row in rows] == [check.id for check in select()]
    check = select()[0]
    assert rows[0].split(maxsplit=3)[1:3] == [check.level.value, check.tier.name.lower()]
    assert rows[0].rstrip().endswith(check.title)


def test_list_of_a_tier_leaves_deeper_ones_out(llmengine: Callable[..., Any]) -> None:
    """`--tier smoke` lists only the smoke tier."""
    rows = json.loads(llmengine("contract", "list", "--tier", "smoke", "--json").out)
    assert [row["id"] for row in rows] == [check.id for check in select(tier=Tier.SMOKE)]
    assert {row["tier"] for row in rows} == {"smoke"}


def test_list_as_json_says_all_about_a_check(llmengine: Callable[..., Any]) -> None:
    """The JSON has the rule, its source and what it needs."""
    rows = json.loads(llmengine("contract", "list", "--json").out)
    row = next(row for row in rows if row["id"] == "chat.basic.required_fields")
    assert row == {
        "id": "chat.basic.required_fields",
        "group": "chat.basic",
        "level": "required",
        "tier": "smoke",
        "rule": "A chat completion has id, object, created, model and choices.",
        "breaks": "Typed SDKs raise a validation error or hand out None where the type says that "
        "there is a value.",
        "since": "2026-11-21",
        "source": "openai-openapi: CreateChatCompletionResponse.required",
        "links": ["https://github.com/openai/openai-openapi/blob/f85dbe2/openapi.yaml#L33507"],
        "needs": [],
        "timing": False,
        "package": None,
    }


def test_explain_says_rule_source_and_mutants(llmengine: Callable[..., Any]) -> None:
    """The output has everything that is known about one check."""
    said = llmengine("contract", "explain", "chat.basic.required_fields").out
    assert said.startswith("chat.basic.required_fields\n")
    for part in (
        "A chat completion has id, object, created, model and choices.",
        "required: OpenAI's schema says so",
        "openai-openapi: CreateChatCompletionResponse.required",
        "no created",
    ):
        assert part in said


def test_explain_takes_the_start_of_several(llmengine: Callable[..., Any]) -> None:
    """A group's name explains all of its checks."""
    said = llmengine("contract", "explain", "chat.basic").out
    headings = [line.strip() for line in said.splitlines() if line and not line.startswith(" ")]
    assert headings == [check.id for check in select(ids=["chat.basic"])]


def test_explain_unknown_check_says_what_to_do(llmengine: Callable[..., Any]) -> None:
    """An id that does not exist is one line on standard error and status 2."""
    ran = llmengine("contract", "explain", "chat.nonsense")
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith("llmengine: no check or group is called 'chat.nonsense'")
    assert "`llmengine contract list` shows the checks, and the groups are auth, " in ran.err
    assert ran.err.count("\n") == 1


def test_error_of_a_misspelt_group_has_the_nearest(llmengine: Callable[..., Any]) -> None:
    """It suggests the name that was probably meant."""
    ran = llmengine("contract", "list", "--group", "completion")
    assert ran.status == 2
    assert "called 'completion' (did you mean 'completions'?)" in ran.err


GROUPS = list(dict.fromkeys(check.group for check in catalogue().values()))


@pytest.mark.parametrize("group", GROUPS)
def test_every_group_that_reports_print_selects_its_checks(
    llmengine: Callable[..., Any], group: str
) -> None:
    """A group is its own checks and those of the groups under it, whatever their ids are."""
    listed = json.loads(llmengine("contract", "list", "--group", group, "--json").out)
    under = {name for name in GROUPS if f"{name}.".startswith(f"{group}.")}
    assert {row["group"] for row in listed} == under
    every = catalogue().values()
    assert {row["id"] for row in listed} == {c.id for c in every if c.group in under}


def test_list_of_a_level(llmengine: Callable[..., Any]) -> None:
    """`--level` lists the rules of that level only."""
    rows = json.loads(llmengine("contract", "list", "--level", "required", "--json").out)
    assert {row["level"] for row in rows} == {"required"}
    assert len(rows) == sum(c.level.value == "required" for c in catalogue().values())


def test_profile_can_be_changed_and_given_back(
    llmengine: Callable[..., Any], tmp_path: Path
) -> None:
    """The printed file works with `verify --profile`, as it is and with an entry less."""
    shown = llmengine("contract", "profile", "vllm_api").out
    mine = tmp_path / "mine.toml"
    mine.write_text(shown, encoding="utf-8")

    assert read_profile(mine) == load_profile("vllm_api")


def test_profile_of_an_engine_without_one(llmengine: Callable[..., Any]) -> None:
    """The error lists the engines that have a profile."""
    ran = llmengine("contract", "profile", "olama")
    assert ran.status == 2
    assert "no profile is shipped for 'olama'; there are embedded, ollama_api, vllm_api" in ran.err
