"""Chainette's own command with our engines in place of its own: ``run``, ``run-yaml``, ..."""

from llmengine.integrations.chainette import install

if __name__ == "__main__":
    install()
    from chainette.cli import app

    app(prog_name="python -m llmengine.integrations.chainette")
