"""Write tiny GGUF models that llama.cpp really loads and runs, with the standard library only.

A parrot is a llama network whose output matrix is a bigram table: embeddings are one-hot, attention
and feed-forward weights are zero, so the last token alone decides the next one. It answers the same
words at any temperature up to 1, in a file of 2 MB, at thousands of tokens a second.

    parrot(path)              "Hello from the tiny test model."
    endless(path)             " la la la …" until max_tokens or a stop; `ballast_mib` makes it slow
    thinker(path)             thinks "The user wants an answer.", then says "It is 42!"
    tool_caller(path)         calls get_weather(city="Paris"); after its result: "It is sunny now."
    embedder(path)            mean-pooled bytes: similar text, similar vectors
    big(path, gib)            a parrot with dead weight, to watch a slow load (a sparse file)
    random_model(path)        a real two-layer llama that talks rubbish
    truncated(path), corrupt(path)    damaged files

    python -m tests.tinygguf parrot out.gguf
"""

import array
import random
import struct
import sys
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

U32, F32_KV, BOOL, STRING, ARRAY = 4, 6, 7, 8, 9
INT32 = 5
F32 = 0
ALIGN = 32

CHATML = (
    "{% for m in messages %}"
    "{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
THINKING = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' }}"
    "{% if m['role'] == 'assistant' and m.get('reasoning_content') %}"
    "{{ '<think>\\n' + m['reasoning_content'] + '\\n</think>\\n\\n' }}{% endif %}"
    "{{ m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
TOOLS = (
    "{%- if tools %}{{- '<|im_start|>system\\n# Tools\\n<tools>' }}"
    "{%- for tool in tools %}{{- '\\n' }}{{- tool | tojson }}{%- endfor %}"
    "{{- '\\n</tools>\\nFor each call return a json object within <tool_call></tool_call>:\\n"
    '<tool_call>\\n{"name": <function-name>, "arguments": <args-json-object>}\\n</tool_call>'
    "<|im_end|>\\n' }}{%- endif %}"
    "{%- for m in messages %}{%- if m.role == 'assistant' %}{{- '<|im_start|>assistant\\n' }}"
    "{%- if m.content %}{{- m.content }}{%- endif %}"
    "{%- for c in m.tool_calls or [] %}{%- if c.function %}{%- set c = c.function %}{%- endif %}"
    "{%- if not loop.first or m.content %}{{- '\\n' }}{%- endif %}"
    '{{- \'<tool_call>\\n{"name": "\' + c.name + \'", "arguments": \' }}'
    "{{- c.arguments if c.arguments is string else (c.arguments | tojson) }}"
    "{{- '}\\n</tool_call>' }}{%- endfor %}{{- '<|im_end|>\\n' }}"
    "{%- elif m.role == 'tool' %}"
    "{{- '<|im_start|>user\\n<tool_response>\\n' + m.content + '\\n</tool_response><|im_end|>\\n' }}"
    "{%- else %}{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{%- endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{%- if messages and messages[-1].role == 'tool' %}"
    "{{- '<|im_start|>assistant\\r' }}{%- else %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
    "{%- endif %}"
)

HELLO = ("Hello", " from", " the", " tiny", " test", " model", ".")
HELLO_TEXT = "".join(HELLO)


class Tensor(NamedTuple):
    """`dims` with the fastest first; `data` is bytes, or a number of zero bytes."""

    name: str
    dims: tuple[int, ...]
    data: bytes | int


def parrot(
    path: Path,
    pieces: Sequence[str] = HELLO,
    *,
    name: str = "parrot",
    template: str = CHATML,
    context: int = 4096,
    loop: bool = False,
    ballast_mib: int = 0,
    after_tool: Sequence[str] = (),
    extra: Sequence[bytes] = (),
) -> Path:
    """Says `pieces` one by one, each a token; every piece only once, because the chain is a bigram.

    `loop` starts over instead of ending. `ballast_mib` adds zero weights that cost time to load and
    to run. `after_tool` is said instead when the prompt ends with a carriage return.
    """
    pieces, after_tool = tuple(pieces), tuple(after_tool)
    said = pieces + after_tool
    if len(set(said)) != len(said):
        raise ValueError("every piece only once: the chain is a bigram")
    tokens, types = _vocabulary(p for p in said if len(p.encode()) > 1)
    ids = [tokens.index(_spell(p)) for p in pieces]
    end = 2
    chain = dict(pairwise([tokens.index(_SPELLING[10]), *ids, ids[0] if loop else end]))
    if after_tool:
        second = [tokens.index(_spell(p)) for p in after_tool]
        chain |= dict(pairwise([tokens.index(_SPELLING[13]), *second, end]))
    width = (len(tokens) + 31) // 32 * 32
    layers, hidden = _ballast(width, ballast_mib)
    table = bytearray(4 * width * len(tokens))
    one_hot = bytearray(4 * width * len(tokens))
    for token in range(len(tokens)):
        struct.pack_into("<f", one_hot, 4 * (token * width + token), 1.0)
        # The norm makes the hidden value sqrt(width), about 17, so the logit is about 50. An
        # unknown context starts the sentence.
        following = chain.get(token, ids[0])
        struct.pack_into("<f", table, 4 * (following * width + token), 3.0)
    tensors = [
        Tensor("token_embd.weight", (width, len(tokens)), bytes(one_hot)),
        Tensor("output_norm.weight", (width,), _floats([1.0] * width)),
        Tensor("output.weight", (width, len(tokens)), bytes(table)),
    ]
    for layer in range(layers):
        tensors += _layer(layer, width, hidden)
    head = _metadata(name, tokens, types, width, layers, width // 32, hidden, context, template)
    return _write(path, [*head, *extra], tensors)


def endless(path: Path, *, ballast_mib: int = 0, name: str = "endless") -> Path:
    """Talks until max_tokens, the end of its context, or a stop."""
    return parrot(path, (" la", " le", " lu"), loop=True, ballast_mib=ballast_mib, name=name)


def thinker(path: Path) -> Path:
    """`reasoning_content` "The user wants an answer.", then "It is 42!"."""
    thought = ("<think>\n", "The user", " wants an answer", ".", "\n</think>\n\n")
    return parrot(path, (*thought, "It is", " 42", "!"), name="thinker", template=THINKING)


def tool_caller(path: Path) -> Path:
    """Calls get_weather(city="Paris"); once a tool has answered, says "It is sunny now."."""
    call = (
        "<tool_call>\n",
        '{"name": "get_weather", ',
        '"arguments": {"city": ',
        '"Paris"}}',
        "\n</tool_call>",
    )
    return parrot(
        path, call, name="tool-caller", template=TOOLS, after_tool=("It is sunny", " now.")
    )


def embedder(path: Path) -> Path:
    """288 dimensions, a bag of bytes."""
    pooling = _entry("llama.pooling_type", U32, 1)
    return parrot(path, ("x1",), name="tiny-embed", extra=[pooling])


def big(path: Path, gib: float = 1.0) -> Path:
    """A parrot of this size. The file is sparse: it takes no room on disk, but does in memory."""
    return parrot(path, name="big", ballast_mib=int(gib * 1024))


def random_model(path: Path, *, layers: int = 2, width: int = 64, seed: int = 0) -> Path:
    """Every weight is random, but the same for the same seed."""
    source = random.Random(seed)
    tokens, types = _vocabulary(())
    hidden = width * 3

    def noise(rows: int, columns: int) -> bytes:
        return _floats(source.gauss(0, rows**-0.5) for _ in range(rows * columns))

    tensors = [
        Tensor("token_embd.weight", (width, len(tokens)), noise(width, len(tokens))),
        Tensor("output_norm.weight", (width,), _floats([1.0] * width)),
    ]
    for layer in range(layers):
        tensors += [
            t._replace(data=noise(t.dims[0], t.dims[1])) if len(t.dims) == 2 else t
            for t in _layer(layer, width, hidden)
        ]
    heads = max(1, width // 32)
    head = _metadata("random", tokens, types, width, layers, heads, hidden, 2048, CHATML)
    return _write(path, head, tensors)


def truncated(path: Path) -> Path:
    """A parrot whose download broke off: the header is whole, half of the weights are missing."""
    parrot(path, name="truncated")
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    return path


def corrupt(path: Path) -> Path:
    """Not a GGUF file at all, in spite of its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(random.Random(0).randbytes(100_000))
    return path


def _ballast(width: int, mib: int) -> tuple[int, int]:
    """Layers and hidden size that add up to about this much."""
    if not mib:
        return 1, 32
    # Wide layers: few of them, so that the KV cache stays small beside the weights.
    hidden = min(16384, max(32, mib * 2**20 // (12 * width) // 32 * 32))
    return max(1, round(mib * 2**20 / (12 * width * hidden))), hidden


def _layer(number: int, width: int, hidden: int) -> list[Tensor]:
    """Zero matrices behind norms of one: the residual stream passes unchanged."""
    ones = _floats([1.0] * width)
    shapes = {f"attn_{part}": (width, width) for part in ("q", "k", "v", "output")}
    shapes |= {
        "ffn_gate": (width, hidden),
        "ffn_up": (width, hidden),
        "ffn_down": (hidden, width),
    }
    return [
        Tensor(f"blk.{number}.attn_norm.weight", (width,), ones),
        Tensor(f"blk.{number}.ffn_norm.weight", (width,), ones),
        *(
            Tensor(f"blk.{number}.{name}.weight", dims, 4 * dims[0] * dims[1])
            for name, dims in shapes.items()
        ),
    ]


def _metadata(
    name: str,
    tokens: list[str],
    types: list[int],
    width: int,
    layers: int,
    heads: int,
    hidden: int,
    context: int,
    template: str,
) -> list[bytes]:
    """Every key llama.cpp asks of a llama network with a byte-level vocabulary."""
    space = _SPELLING[32]
    return [
        _entry("general.architecture", STRING, "llama"),
        _entry("general.name", STRING, name),
        _entry("general.license", STRING, "CC0-1.0"),
        _entry("general.file_type", U32, 0),
        _entry("llama.block_count", U32, layers),
        _entry("llama.context_length", U32, context),
        _entry("llama.embedding_length", U32, width),
        _entry("llama.feed_forward_length", U32, hidden),
        _entry("llama.attention.head_count", U32, heads),
        _entry("llama.attention.head_count_kv", U32, heads),
        _entry("llama.rope.dimension_count", U32, width // heads),
        _entry("llama.attention.layer_norm_rms_epsilon", F32_KV, 1e-5),
        _entry("llama.vocab_size", U32, len(tokens)),
        _entry("tokenizer.ggml.model", STRING, "gpt2"),
        _entry("tokenizer.ggml.pre", STRING, "smollm"),
        _array("tokenizer.ggml.tokens", STRING, tokens),
        _array("tokenizer.ggml.token_type", INT32, types),
        _array("tokenizer.ggml.merges", STRING, [f"{space} {space}"]),
        _entry("tokenizer.ggml.bos_token_id", U32, 1),
        _entry("tokenizer.ggml.eos_token_id", U32, 2),
        _entry("tokenizer.ggml.padding_token_id", U32, 0),
        _entry("tokenizer.ggml.add_bos_token", BOOL, False),
        _entry("tokenizer.chat_template", STRING, template),
    ]


def _write(path: Path, metadata: Sequence[bytes], tensors: Sequence[Tensor]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    infos, offset = [], 0
    for tensor in tensors:
        dims = struct.pack(f"<I{len(tensor.dims)}Q", len(tensor.dims), *tensor.dims)
        infos.append(_text(tensor.name) + dims + struct.pack("<IQ", F32, offset))
        size = tensor.data if isinstance(tensor.data, int) else len(tensor.data)
        offset += (size + ALIGN - 1) // ALIGN * ALIGN
    with path.open("wb") as file:
        file.write(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata)))
        file.write(b"".join(metadata) + b"".join(infos))
        file.write(bytes(-file.tell() % ALIGN))
        for tensor in tensors:
            if isinstance(tensor.data, int):
                file.seek(tensor.data, 1)
            else:
                file.write(tensor.data)
            file.seek(-file.tell() % ALIGN, 1)
        file.truncate(file.tell())
    return path


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def _entry(key: str, kind: int, value: str | float | bool) -> bytes:
    head = _text(key) + struct.pack("<I", kind)
    if isinstance(value, str):
        return head + _text(value)
    return head + struct.pack({U32: "<I", F32_KV: "<f", BOOL: "<?"}[kind], value)


def _array(key: str, kind: int, values: Sequence[str] | Sequence[int]) -> bytes:
    head = _text(key) + struct.pack("<IIQ", ARRAY, kind, len(values))
    if kind == STRING:
        return head + b"".join(_text(str(value)) for value in values)
    return head + struct.pack(f"<{len(values)}i", *values)


def _floats(values: Iterable[float]) -> bytes:
    return array.array("f", values).tobytes()


def _spellings() -> dict[int, str]:
    """GPT-2's printable stand-ins for the 256 bytes, which spell the tokens of its vocabulary."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spellings = {byte: chr(byte) for byte in printable}
    for byte in range(256):
        if byte not in spellings:
            spellings[byte] = chr(256 + len(spellings) - len(printable))
    return spellings


_SPELLING = _spellings()


def _spell(text: str) -> str:
    return "".join(_SPELLING[byte] for byte in text.encode())


def _vocabulary(pieces: Iterable[str]) -> tuple[list[str], list[int]]:
    """Chat marks, 256 bytes, and whole pieces, which only the model emits."""
    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    plain = [_SPELLING[byte] for byte in range(256)] + [_spell(piece) for piece in pieces]
    return marks + plain, [3] * len(marks) + [1] * len(plain)


if __name__ == "__main__":
    made = globals()[sys.argv[1]](Path(sys.argv[2]), *map(float, sys.argv[3:]))
    sys.stdout.write(f"{made} {made.stat().st_size} bytes\n")
