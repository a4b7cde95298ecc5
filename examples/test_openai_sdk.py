"""A user's own test: any client of any SDK is pointed at a real model by its address."""

from openai import OpenAI


def test_the_model_answers(embedded_engine):
    client = OpenAI(base_url=embedded_engine.base_url, api_key="none")
    answer = client.chat.completions.create(
        model=embedded_engine.model,
        messages=[{"role": "user", "content": "Say hello."}],
        max_tokens=8,
    )
    assert answer.choices[0].message.content
