"""Makes a model for vLLM's tests: ``python tests/vllm_local/make_model.py FOLDER``.

It is SmolLM2-135M-Instruct from the GGUF file that the embedded engine runs, in the form that
vLLM loads. Needs what vLLM brings, and the packages gguf and accelerate.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
from transformers import AutoModelForCausalLM, AutoTokenizer

from llmengine.embedded.models import resolve

END_OF_TEXT, END_OF_TURN = 0, 2


def make_model(folder: Path) -> None:
    """Write the weights as float32, the tokenizer and the chat template into the folder."""
    gguf = resolve("smollm2-135m")
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    # The file has only the name of this rule, "smollm", which transformers does not know.
    tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
        [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
    )
    tokenizer.save_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32
    )
    # Otherwise the model still counts as quantized and cannot be saved.
    model.hf_quantizer = None
    del model.config.quantization_config
    model.generation_config.eos_token_id = [END_OF_TURN, END_OF_TEXT]
    model.save_pretrained(folder)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"{__doc__}")
    make_model(Path(sys.argv[1]))
