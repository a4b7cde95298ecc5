"""Two requests to a model, the second one a stream; the folder mock has their recording."""


def test_hello(engine):
    answer = engine.generate("Say hello.")[0].outputs[0].text
    assert "".join(delta.text for delta in engine.stream(f"Go on: {answer}"))
