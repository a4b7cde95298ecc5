"""The mock server with one rule broken: its answers have no ``created``.

python examples/forgetful_server.py --port 8123
llmengine verify --url http://127.0.0.1:8123 --check chat.basic
"""

from argparse import ArgumentParser

from llmengine.mock import Behaviour, MockServer


def forget(body, call):
    """Remove the field from the JSON body of an answer."""
    body.pop("created", None)
    return body


if __name__ == "__main__":
    parser = ArgumentParser(description="A mock server that breaks one rule.")
    parser.add_argument("--port", type=int, default=0)
    port = parser.parse_args().port
    with MockServer(port=port, behaviour=Behaviour("no created", reply=forget)) as server:
        print(server.base_url, flush=True)
        server.wait()
