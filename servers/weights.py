"""Turn the cached GGUF file of SmolLM2-135M into the form that a server reads.

    python servers/weights.py q8_0 SOURCE TARGET      another GGUF file, for servers without Q4_1
    python servers/weights.py folder SOURCE TARGET    a folder for transformers and vLLM

Instead of q8_0, it may be any form that gguf can write: f32, f16, bf16, q4_0, q5_0, q5_1.
It runs in the environment of the server. All forms need gguf; the folder also needs torch,
safetensors and transformers.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, LlamaFileType
from gguf.quants import dequantize, quantize

# Names of layers in a GGUF file, and in a folder of transformers.
_LAYERS = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
_OTHERS = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
}
_CONTROL_TOKEN = 3


_FILE_TYPES = {
    "f32": LlamaFileType.ALL_F32,
    "f16": LlamaFileType.MOSTLY_F16,
    "bf16": LlamaFileType.MOSTLY_BF16,
    "q4_0": LlamaFileType.MOSTLY_Q4_0,
    "q5_0": LlamaFileType.MOSTLY_Q5_0,
    "q5_1": LlamaFileType.MOSTLY_Q5_1,
    "q8_0": LlamaFileType.MOSTLY_Q8_0,
}


def write_gguf(form: str, source: Path, target: Path) -> None:
    """Write a GGUF file with the same fields and tensors, the quantised ones in this form."""
    wanted = GGMLQuantizationType[form.upper()]
    reader = GGUFReader(source)
    writer = GGUFWriter(target, _fields(reader)["general.architecture"])
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        value = int(_FILE_TYPES[form]) if name == "general.file_type" else field.contents()
        kind = field.types[0]
        inner = field.types[-1] if kind is GGUFValueType.ARRAY else None
        writer.add_key_value(name, value, kind, sub_type=inner)
    for tensor in reader.tensors:
        data = np.array(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        if tensor.tensor_type is GGMLQuantizationType.F32:
            writer.add_tensor(tensor.name, data)
            continue
        writer.add_tensor(tensor.name, quantize(data, wanted), raw_dtype=wanted)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_folder(source: Path, target: Path) -> None:
    """Write a folder with weights of 32 bits, a tokenizer and the chat template."""
    import torch  # noqa: PLC0415 - only this form needs it
    from safetensors.torch import save_file  # noqa: PLC0415

    target.mkdir(parents=True)
    reader = GGUFReader(source)
    fields = _fields(reader)
    tensors = {}
    for tensor in reader.tensors:
        weights = np.array(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        name = _OTHERS.get(tensor.name)
        if name is None:
            _, number, layer, _ = tensor.name.split(".")
            name = f"model.layers.{number}.{_LAYERS[layer]}.weight"
            heads = {"attn_q": "head_count", "attn_k": "head_count_kv"}.get(layer)
            if heads:
                weights = _unpermuted(weights, fields[f"llama.attention.{heads}"])
        tensors[name] = torch.from_numpy(np.ascontiguousarray(weights))
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    _write_config(fields, target)
    _write_tokenizer(fields, target)


def _fields(reader: GGUFReader) -> dict[str, Any]:
    return {name: field.contents() for name, field in reader.fields.items()}


def _unpermuted(weights: Any, heads: int) -> Any:
    """Rows in transformers' order: llama.cpp interleaves the two halves of each head."""
    rows, columns = weights.shape
    pairs = weights.reshape(heads, rows // heads // 2, 2, columns)
    return pairs.swapaxes(1, 2).reshape(rows, columns)


def _write_config(fields: dict[str, Any], target: Path) -> None:
    from transformers import LlamaConfig  # noqa: PLC0415

    width, heads = fields["llama.embedding_length"], fields["llama.attention.head_count"]
    LlamaConfig(
        architectures=["LlamaForCausalLM"],
        vocab_size=fields["llama.vocab_size"],
        hidden_size=width,
        intermediate_size=fields["llama.feed_forward_length"],
        num_hidden_layers=fields["llama.block_count"],
        num_attention_heads=heads,
        num_key_value_heads=fields["llama.attention.head_count_kv"],
        head_dim=width // heads,
        max_position_embeddings=fields["llama.context_length"],
        rms_norm_eps=fields["llama.attention.layer_norm_rms_epsilon"],
        rope_parameters={
            "rope_type": "default",
            "rope_theta": float(fields["llama.rope.freq_base"]),
        },
        tie_word_embeddings=True,
        bos_token_id=fields["tokenizer.ggml.bos_token_id"],
        eos_token_id=fields["tokenizer.ggml.eos_token_id"],
        pad_token_id=fields["tokenizer.ggml.padding_token_id"],
        dtype="float32",
    ).save_pretrained(target)
    # A chat ends with <|im_end|>, a text with <|endoftext|>.
    ends = {"bos_token_id": 1, "eos_token_id": [2, 0], "pad_token_id": 2}
    (target / "generation_config.json").write_text(json.dumps(ends), encoding="utf-8")


def _write_tokenizer(fields: dict[str, Any], target: Path) -> None:
    from tokenizers import (  # noqa: PLC0415
        AddedToken,
        Tokenizer,
        decoders,
        models,
        pre_tokenizers,
        processors,
    )
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415

    tokens = fields["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({text: i for i, text in enumerate(tokens)}, merges))
    digits = pre_tokenizers.Digits(individual_digits=True)
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, letters])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    kinds = zip(tokens, fields["tokenizer.ggml.token_type"], strict=True)
    special = [text for text, kind in kinds if kind == _CONTROL_TOKEN]
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        unk_token="<|endoftext|>",
        pad_token="<|im_end|>",
        model_max_length=fields["llama.context_length"],
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = fields["tokenizer.chat_template"]
    fast.save_pretrained(target)


if __name__ == "__main__":
    form, source, target = sys.argv[1:]
    if form == "folder":
        write_folder(Path(source), Path(target))
    else:
        write_gguf(form, Path(source), Path(target))
