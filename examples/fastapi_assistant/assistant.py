"""An assistant that looks up the weather and streams its answer as server-sent events.

The OpenAI SDK reads OPENAI_BASE_URL and OPENAI_API_KEY; ASSISTANT_MODEL is the name of the model.

    uvicorn assistant:app
"""

import json
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from openai import AsyncOpenAI, pydantic_function_tool
from pydantic import BaseModel, Field

WEATHER = {"Oslo": "-3 °C, snow", "Paris": "21 °C, sunny", "Lima": "17 °C, fog"}
SYSTEM = "You tell people the weather in one short sentence. Always look it up first."
MAX_ROUNDS = 4  # calls of the model per question

log = logging.getLogger(__name__)


class GetWeather(BaseModel):
    """The weather in a city at this moment."""

    city: str = Field(description="The name of the city in English")

    def run(self) -> str:
        """Return what the model is told."""
        return WEATHER.get(self.city, f"no weather is known for {self.city}")


class Question(BaseModel):
    """The body of a request."""

    question: str = Field(min_length=1, max_length=2000)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """Keep one client, and so its connections, for all requests."""
    model = os.environ["ASSISTANT_MODEL"]
    async with AsyncOpenAI() as client:
        yield {"client": client, "model": model}


app = FastAPI(lifespan=lifespan)


@app.post("/ask")
async def ask(question: Question, request: Request) -> StreamingResponse:
    """Answer a question; each event is a JSON object with ``text``, ``lookup`` or ``error``."""
    events = answer(request.state.client, request.state.model, question.question)
    return StreamingResponse(events, media_type="text/event-stream")


async def answer(client: AsyncOpenAI, model: str, question: str) -> AsyncIterator[str]:
    """Call the model, and the tool as often as the model wants, until it has answered."""
    messages: list[Any] = [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": question},
    ]
    try:
        for _ in range(MAX_ROUNDS):
            async with client.chat.completions.stream(
                model=model,
                messages=messages,
                tools=[pydantic_function_tool(GetWeather, name="get_weather")],
                temperature=0,
            ) as stream:
                async for event in stream:
                    if event.type == "content.delta" and event.delta:
                        yield sse(text=event.delta)
                message = (await stream.get_final_completion()).choices[0].message
            if not message.tool_calls:
                return
            calls = [sent(call) for call in message.tool_calls]
            messages.append({"role": "assistant", "tool_calls": calls})
            for call in message.tool_calls:
                weather = call.function.parsed_arguments
                yield sse(lookup=weather.city)
                messages.append({"role": "tool", "tool_call_id": call.id, "content": weather.run()})
        yield sse(error="the model did not come to an answer")
    except Exception:  # the status was sent before, so an event has to say it
        log.exception("a question was not answered")
        yield sse(error="the answer is not complete, please ask again")


def sent(call: Any) -> dict[str, Any]:
    """Return a call as the next request has it, without what the SDK has added."""
    function = {"name": call.function.name, "arguments": call.function.arguments}
    return {"id": call.id, "type": "function", "function": function}


def sse(**event: str) -> str:
    """Return a server-sent event."""
    return f"data: {json.dumps(event, ensure_ascii=False)}\n\n"
