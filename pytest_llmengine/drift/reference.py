"""The reference of the weights tier: a vLLM in this process with the weights that are expected.

It samples answers with a seed, and judges the tokens that a server sampled with the same seed. For
this it computes the log-probabilities at each position after the server's own tokens, and asks
vLLM's sampler with the noise of that position. So nothing of vLLM's sampler is written again here.
It is asked with the likeliest `TOP` tokens and the server's. If the reference would choose another
one, the margin is smaller than it should be, so this never accuses a server.
"""

from __future__ import annotations

from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

from llmengine.vllm_local.session import load_llm
from pytest_llmengine.drift.answers import DriftError
from pytest_llmengine.drift.token_scores import TOP, AnswerScore, TokenScore, margin_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from llmengine.vllm_local.vllm_objects import VLLMLogprob


def _options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of ``vllm.LLM``, with sampling values that do not come from the model."""
    given = {name: value for name, value in options.items() if name != "tool_call_parser"}
    return {"generation_config": "vllm", **given}


class VLLMReference:
    """A ``vllm.LLM`` that samples answers and judges those of others."""

    def __init__(self, model: str, options: Mapping[str, Any]) -> None:
        self._llm = load_llm(model, _options(options))
        self._vocabulary = self._llm.model_config.get_vocab_size()

    def answers(
        self, prompts: Sequence[str], seed: int, max_tokens: int, load: int
    ) -> list[tuple[int, ...]]:
        """The token ids of one answer per prompt, so many at a time."""
        from vllm import SamplingParams  # noqa: PLC0415 - optional, and seconds to import

        params = SamplingParams(temperature=1, max_tokens=max_tokens, seed=seed)
        outputs: list[Any] = []
        for start in range(0, len(prompts), load):
            chats = [[{"role": "user", "content": p}] for p in prompts[start : start + load]]
            outputs += self._llm.chat(chats, params, use_tqdm=False)
        return [tuple(output.outputs[0].token_ids) for output in outputs]

    def scores(
        self, prompts: Sequence[str], seed: int, answers: Sequence[tuple[int, ...]]
    ) -> list[AnswerScore]:
        """The scores of answers that were sampled with this seed; computed in one batch."""
        from vllm import SamplingParams  # noqa: PLC0415 - as above

        params = SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=TOP, detokenize=False)
        if unknown := [i for ids in answers for i in ids if i >= self._vocabulary]:
            raise DriftError(
                f"the server sampled token {unknown[0]}, and the reference has only "
                f"{self._vocabulary} tokens: it has another model"
            )
        starts = [self._prompt_ids(prompt) for prompt in prompts]
        whole = [
            {"prompt_token_ids": [*start, *ids]} for start, ids in zip(starts, answers, strict=True)
        ]
        outputs = self._llm.generate(whole, params, use_tqdm=False)
        return [
            AnswerScore.of(self._judged(seed, ids, output.prompt_logprobs[len(start) :]))
            for ids, start, output in zip(answers, starts, outputs, strict=True)
        ]

    def close(self) -> None:
        """Release the model."""
        self._llm.llm_engine.engine_core.shutdown()

    def prompt_tokens(self, prompt: str) -> int:
        """The number of tokens of a prompt, those of the chat template included."""
        return len(self._prompt_ids(prompt))

    def _prompt_ids(self, prompt: str) -> list[int]:
        ids = self._llm.get_tokenizer().apply_chat_template(
            [{"role": "user", "content": prompt}], add_generation_prompt=True, return_dict=False
        )
        return list(ids)

    def _judged(
        self, seed: int, ids: Sequence[int], positions: Sequence[Mapping[int, VLLMLogprob]]
    ) -> Iterator[TokenScore]:
        noise = _Noise(seed, self._vocabulary)
        for token, position in zip(ids, positions, strict=True):
            chances = {other: found.logprob for other, found in position.items()}
            margin = margin_of(partial(noise.chooses, token, chances))
            yield TokenScore.of(token, chances, margin)
            noise.advance()


class _Noise:
    """The noise of vLLM's sampler under a seed, position by position."""

    def __init__(self, seed: int, vocabulary: int) -> None:
        import torch  # noqa: PLC0415 - as above
        from vllm.platforms import current_platform  # noqa: PLC0415 - as above
        from vllm.v1.sample.ops.topk_topp_sampler import TopKTopPSampler  # noqa: PLC0415 - as above

        current_platform.import_kernels()
        device = current_platform.device_type
        self._sampler = TopKTopPSampler()
        self._generator = torch.Generator(device).manual_seed(seed)
        self._state = self._generator.get_state()
        self._row = torch.full((1, vocabulary), -inf, device=device)

    def chooses(self, token: int, chances: Mapping[int, float], addition: float) -> bool:
        """Whether vLLM samples this token here, if its log-probability is so much higher."""
        row = self._row.clone()
        row[0, list(chances)] = row.new_tensor(list(chances.values()))
        row[0, token] += addition
        self._generator.set_state(self._state)
        chosen, _ = self._sampler(row, {0: self._generator}, None, None)
        return int(chosen) == token

    def advance(self) -> None:
        """Go on to the next position; each sampled token takes one draw from the generator."""
        self._state = self._generator.get_state()
