"""Chainette's own commands (``run``, ``run-yaml``, ...), run on our engines."""

from llmengine.integrations.chainette import install

if __name__ == "__main__":
    install()
    from chainette.cli import app

    app(prog_name="python -m llmengine.integrations.chainette")
