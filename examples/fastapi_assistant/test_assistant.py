"""Test the assistant through its HTTP interface: with a mock, and with a recorded server."""

import json

import pytest
from assistant import app
from fastapi.testclient import TestClient

from llmengine.mock import Fault, MockReply


@pytest.fixture
def ask(monkeypatch):
    """Return a function that asks the assistant a question and returns the events."""

    def ask(question, base_url, model="mock"):
        monkeypatch.setenv("OPENAI_BASE_URL", base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "unused")
        monkeypatch.setenv("ASSISTANT_MODEL", model)
        with TestClient(app) as client:
            answer = client.post("/ask", json={"question": question})
        return [json.loads(line.removeprefix("data: ")) for line in answer.text.split("\n\n")[:-1]]

    return ask


def text(events):
    return "".join(event.get("text", "") for event in events)


def look_up(city):
    return MockReply(tool_calls=[{"name": "get_weather", "arguments": {"city": city}}])


def test_the_weather_is_looked_up(ask, mock_server):
    mock_server.when(contains="coat in Oslo", tool="get_weather").reply(look_up("Oslo"))
    mock_server.when(contains="-3 °C, snow").reply("Yes, it is -3 °C and it snows.")

    first, *parts = ask("Do I need a coat in Oslo?", mock_server.base_url)

    assert first == {"lookup": "Oslo"}
    assert text(parts) == "Yes, it is -3 °C and it snows."
    assert len(parts) > 3  # an event for each part that the model sends


def test_two_cities_are_looked_up(ask, mock_server):
    both = MockReply(tool_calls=look_up("Oslo").tool_calls + look_up("Lima").tool_calls)
    mock_server.when(contains="warmer").reply(both)
    mock_server.when(contains="17 °C, fog").reply("It is warmer in Lima.")

    events = ask("Is it warmer in Oslo or in Lima?", mock_server.base_url)

    assert events[:2] == [{"lookup": "Oslo"}, {"lookup": "Lima"}]
    assert text(events) == "It is warmer in Lima."


def test_the_model_is_told_that_a_city_is_unknown(ask, mock_server):
    mock_server.when(contains="weather in Atlantis").reply(look_up("Atlantis"))
    mock_server.when(contains="no weather is known for Atlantis").reply("I do not know.")

    assert text(ask("How is the weather in Atlantis?", mock_server.base_url)) == "I do not know."


def test_a_busy_server_is_asked_again(ask, mock_server):
    mock_server.when().reply(Fault(status=429, retry_after=0), "It snows.")

    assert text(ask("How is the weather in Oslo?", mock_server.base_url)) == "It snows."


def test_an_answer_that_is_cut_off_ends_with_an_error(ask, mock_server):
    mock_server.when().reply(MockReply("It snows in all of Norway.", fault=Fault(cut_after=4)))

    *parts, last = ask("How is the weather in Oslo?", mock_server.base_url)

    assert text(parts).startswith("It snows")
    assert last == {"error": "the answer is not complete, please ask again"}


@pytest.mark.parametrize("city", ["Oslo", "Paris"])
def test_model(ask, engine, city):
    first, *parts = ask(f"How is the weather in {city}?", engine.base_url, engine.model)

    assert first == {"lookup": city}
    assert "°C" in text(parts)
