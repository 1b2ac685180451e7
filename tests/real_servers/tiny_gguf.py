"""Writes a LLaMA with random weights as a GGUF of half a megabyte: `python tiny_gguf.py FILE`.

It speaks gibberish, but its strings close and its answers end: one dimension of every embedding is
the same number, which no layer touches, so a column of the output matrix is a bias for each token.
"""

import sys

import gguf
import numpy as np

LAYERS, WIDE, HEADS, INNER, CONTEXT = 2, 64, 4, 128, 8192
CONSTANT = 4.0
# In logits. The others have a spread of about one.
BIASES = {
    '"': 3.0,
    "}": 1.0,
    "]": 1.0,
    "<|im_end|>": 0.5,
    "<tool_call>": 1.0,
    "</tool_call>": 1.0,
    "<|im_start|>": -9.0,
    "<unk>": -9.0,
    "<s>": -9.0,
    "</s>": -9.0,
}
BYTE_BIAS = -9.0  # a byte alone is seldom a character

TEMPLATE = """\
{%- if tools %}<|im_start|>system
Tools: {% for tool in tools %}{{ tool | tojson }}{% endfor %}
<tool_call>{"name": name, "arguments": object}</tool_call><|im_end|>
{% endif %}
{%- for message in messages %}<|im_start|>{{ message.role }}
{% if message.content %}{{ message.content }}{% endif %}
{%- for call in message.tool_calls or [] %}{% set f = call.function %}
<tool_call>{"name": "{{ f.name }}", "arguments": {{ f.arguments | tojson }}}</tool_call>
{%- endfor %}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def vocabulary():
    """(text, type) of every token: bytes, ASCII, some longer characters, the words of a turn."""
    kinds = gguf.TokenType
    yield "<unk>", kinds.UNKNOWN
    yield from ((each, kinds.CONTROL) for each in ("<s>", "</s>"))
    yield from ((f"<0x{byte:02X}>", kinds.BYTE) for byte in range(256))
    yield from ((chr(code).replace(" ", "▁"), kinds.NORMAL) for code in range(0x20, 0x7F))
    yield from ((each, kinds.NORMAL) for each in "\näöüßéèñçøåλπΩЖшя中文字日本語한글★→€😀🎉")
    yield from ((each, kinds.CONTROL) for each in ("<|im_start|>", "<|im_end|>"))
    yield from ((each, kinds.USER_DEFINED) for each in ("<tool_call>", "</tool_call>"))


def tensors(tokens, chance):
    """The name and the numbers of every weight."""

    def some(rows, columns, spread):
        return chance.normal(0, spread, (rows, columns)).astype(np.float32)

    def untouched(rows, columns, spread):
        weights = some(rows, columns, spread)
        weights[0] = 0  # nothing is added to the constant dimension
        return weights

    one = np.ones(WIDE, np.float32)
    embedding, output = some(len(tokens), WIDE, 1), some(len(tokens), WIDE, 0.15)
    embedding[:, 0] = CONSTANT
    scale = np.sqrt((CONSTANT**2 + WIDE) / WIDE) / CONSTANT  # undoes the norm before the output
    output[:, 0] = [scale * bias(*token) for token in tokens]
    yield "token_embd.weight", embedding
    yield "output_norm.weight", one
    yield "output.weight", output
    for layer in range(LAYERS):
        name = f"blk.{layer}."
        yield name + "attn_norm.weight", one
        yield name + "ffn_norm.weight", one
        for part in ("q", "k", "v"):
            yield name + f"attn_{part}.weight", some(WIDE, WIDE, 0.12)
        yield name + "attn_output.weight", untouched(WIDE, WIDE, 0.05)
        yield name + "ffn_gate.weight", some(INNER, WIDE, 0.12)
        yield name + "ffn_up.weight", some(INNER, WIDE, 0.12)
        yield name + "ffn_down.weight", untouched(WIDE, INNER, 0.05)


def bias(text, kind):
    """How much more likely than others a token is, in logits."""
    return BYTE_BIAS if kind == gguf.TokenType.BYTE else BIASES.get(text, 0.0)


def write(path):
    """Write the model; the same bytes each time."""
    tokens = list(vocabulary())
    places = {text: place for place, (text, _) in enumerate(tokens)}
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_block_count(LAYERS)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDE)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDE // HEADS)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_token_list([text for text, _ in tokens])
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types([int(kind) for _, kind in tokens])
    writer.add_unk_token_id(places["<unk>"])
    writer.add_bos_token_id(places["<s>"])
    writer.add_eos_token_id(places["<|im_end|>"])
    writer.add_add_bos_token(False)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(TEMPLATE)
    for name, weights in tensors(tokens, np.random.default_rng(7)):
        writer.add_tensor(name, weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    write(sys.argv[1])
