"""The routes that vLLM's server adds to OpenAI's: tokenizer, metrics, batches of conversations."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from llmengine.mock.bodies import chat_request
from llmengine.mock.chat import FINGERPRINT, TokenDetails, choice
from llmengine.mock.json_fields import integer, items
from llmengine.mock.model import generate
from llmengine.mock.text import tokenize as pieces_of
from llmengine.mock.usage import TokenCounts
from llmengine.mock.wire import JSONAnswer, TextAnswer, new_id

if TYPE_CHECKING:
    from llmengine.mock.json_fields import Body
    from llmengine.mock.service import Service
    from llmengine.mock.wire import MockAnswer
    from llmengine.types.wire import ChatCompletion


def tokenize(body: Body, service: Service) -> MockAnswer:
    """The token ids of a text, or of messages with the tokens of the chat template."""
    prompt = body.get("prompt")
    pieces = pieces_of(prompt) if isinstance(prompt, str) else chat_request(body).pieces
    ids = service.token_ids(pieces)
    return JSONAnswer(
        {
            "count": len(ids),
            "max_model_len": service.context_length,
            "tokens": ids,
            "token_strs": list(pieces) if body.get("return_token_strs") is True else None,
        }
    )


def detokenize(body: Body, service: Service) -> MockAnswer:
    """The text of token ids that this server has returned."""
    ids = [i for item in items(body.get("tokens")) if (i := integer(item)) is not None]
    return JSONAnswer({"prompt": service.text_of(ids)})


def metrics(body: Body, service: Service) -> MockAnswer:
    """How many answers the server is writing, and how many requests wait, as Prometheus' text."""
    gauges = {"running": service.slots.taken, "waiting": service.slots.waiting}
    lines = [
        f"# TYPE vllm:num_requests_{name} gauge\n"
        f'vllm:num_requests_{name}{{model_name="{service.model}"}} {value}.0\n'
        for name, value in gauges.items()
    ]
    return TextAnswer("".join(lines))


def chat_batch(body: Body, service: Service) -> MockAnswer:
    """Answer each conversation with one choice; the usage is the sum for all of them."""
    bodies = [{**body, "messages": m, "n": 1} for m in items(body.get("messages"))]
    requests = [service.with_token_limit(chat_request(one)) for one in bodies]
    scripted = map(service.next_reply, bodies)
    answers = [generate(*pair)[0] for pair in zip(requests, scripted, strict=True)]
    details = TokenDetails.of(body, service)
    completion: ChatCompletion = {
        "id": new_id("chatcmpl-"),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": service.model_name(body),
        "choices": [choice(index, a, details) for index, a in enumerate(answers)],
        "usage": TokenCounts.of(sum(r.prompt_tokens for r in requests), answers).as_usage,
        "system_fingerprint": FINGERPRINT,
    }
    return JSONAnswer(completion)
