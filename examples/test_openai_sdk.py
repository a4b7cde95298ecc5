"""Test a real model with the official OpenAI SDK, by the address of the engine."""

from openai import OpenAI


def test_the_model_answers(embedded_engine):
    client = OpenAI(base_url=embedded_engine.base_url, api_key="none")
    answer = client.chat.completions.create(
        model=embedded_engine.model,
        messages=[{"role": "user", "content": "Say hello."}],
        max_tokens=8,
    )
    assert answer.choices[0].message.content
