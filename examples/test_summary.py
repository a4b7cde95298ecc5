"""Test an application with the mock server."""

from llmengine import SamplingParams


def summarise(engine, text):
    prompt = f"Summarise in one sentence: {text}"
    return engine.generate([prompt], SamplingParams(max_tokens=20))[0].outputs[0].text


def test_summary_is_short(mock_engine):
    assert len(summarise(mock_engine, "a long story").split()) <= 20
