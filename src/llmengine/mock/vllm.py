"""Routes that vLLM's server has besides OpenAI's: the tokenizer, and batches of conversations."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from llmengine.mock.bodies import chat_ask
from llmengine.mock.chat import FINGERPRINT, Shown, choice_of, top_logprobs, usage_of, wants_ids
from llmengine.mock.json_fields import integer, items
from llmengine.mock.model import answer
from llmengine.mock.text import tokenize as pieces_of
from llmengine.mock.wire import Whole, new_id

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON
    from llmengine.mock.service import Service
    from llmengine.mock.wire import MockAnswer


def tokenize(body: JSON, service: Service) -> MockAnswer:
    """The token ids of a text, or of messages with the tokens of the chat template."""
    is_text = isinstance(body.get("prompt"), str)
    pieces = pieces_of(body["prompt"]) if is_text else chat_ask(body).pieces
    ids = service.token_ids(pieces)
    return Whole(
        {
            "count": len(ids),
            "max_model_len": service.context_length,
            "tokens": ids,
            "token_strs": list(pieces) if body.get("return_token_strs") is True else None,
        }
    )


def detokenize(body: JSON, service: Service) -> MockAnswer:
    """The text of token ids that this server has given out."""
    ids = [i for item in items(body.get("tokens")) if (i := integer(item)) is not None]
    return Whole({"prompt": service.text_of(ids)})


def chat_batch(body: JSON, service: Service) -> MockAnswer:
    """Answer several conversations with one choice each; the usage is their sum."""
    asks = [
        service.fitted(chat_ask({**body, "messages": messages, "n": 1}))
        for messages in items(body.get("messages"))
    ]
    said = [answer(ask, service.next_reply())[0] for ask in asks]
    show = Shown(top_logprobs(body), service.token_ids if wants_ids(body) else None)
    return Whole(
        {
            "id": new_id("chatcmpl-"),
            "object": "chat.completion",
            "created": int(time.time()),
            "model": service.echo(body),
            "choices": [choice_of(place, one, show) for place, one in enumerate(said)],
            "usage": usage_of(sum(ask.prompt_tokens for ask in asks), said),
            "system_fingerprint": FINGERPRINT,
        }
    )
