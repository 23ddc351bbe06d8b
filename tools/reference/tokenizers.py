"""Tokenizer fixtures and goldens, from huggingface/tokenizers, transformers and sentencepiece.

    python tools/reference/tokenizers.py fixtures --clip-merges bpe_simple_vocab_16e6.txt.gz --qwen DIR
    python tools/reference/tokenizers.py goldens
    python tools/reference/tokenizers.py ids DIR OUT.json

`fixtures` writes small tokenizers under packages/encoders/test/goldens/tokenizers: CLIP's own merges (the file ships in the open_clip_torch
wheel, MIT), Qwen3's tokenizer cut down to part of its merges (DIR holds its tokenizer.json and tokenizer_config.json, Apache-2.0), and a T5-shaped
unigram model trained here with the nmt_nfkc character map. `goldens` encodes the hard strings with them. `ids` encodes the same strings with any
tokenizer repository, for tokenizers-compare.ts.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path = [p for p in sys.path if Path(p or ".").resolve() != HERE]  # this file's name would shadow the package `tokenizers`

import argparse  # noqa: E402
import base64  # noqa: E402
import gzip  # noqa: E402
import io  # noqa: E402
import json  # noqa: E402
import struct  # noqa: E402
import zlib  # noqa: E402

import tokenizers  # noqa: E402
import transformers  # noqa: E402

sys.path.append(str(HERE))
from tokenizers_strings import FIXED, strings  # noqa: E402

OUT = HERE.parent.parent / "packages/encoders/test/goldens/tokenizers"
CLIP_MERGES = 49152 - 256 - 2
QWEN_MERGES = 14_000
T5_PIECES = 3_000


def write_gz(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=9, mtime=0, filename="") as f:
        f.write(data)
    path.write_bytes(buffer.getvalue())


def compact(value) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def byte_characters() -> list:
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(len(others))]


# Fixtures -----------------------------------------------------------------------------------------------------------


def clip_files(merges: list) -> dict:
    """vocab.json and merges.txt as OpenAI's CLIP derives them from its merges."""
    tokens = byte_characters()
    tokens += [t + "</w>" for t in tokens] + ["".join(m.split()) for m in merges] + ["<|startoftext|>", "<|endoftext|>"]
    special = lambda content, normalized: dict(content=content, lstrip=False, normalized=normalized, rstrip=False, single_word=False, special=True)
    config = {
        "added_tokens_decoder": {"49406": special("<|startoftext|>", True), "49407": special("<|endoftext|>", False)},
        "bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>", "unk_token": "<|endoftext|>",
        "model_max_length": 77, "tokenizer_class": "CLIPTokenizer",
    }
    return {"vocab.json": {t: i for i, t in enumerate(tokens)}, "merges.txt": "#version: 0.2\n" + "\n".join(merges) + "\n", "tokenizer_config.json": config}


def clip_fixture(merges_gz: Path) -> None:
    lines = gzip.decompress(merges_gz.read_bytes()).decode().split("\n")[1 : CLIP_MERGES + 1]
    write_gz(OUT / "clip/merges.txt.gz", ("#version: 0.2\n" + "\n".join(lines) + "\n").encode())
    (OUT / "clip/tokenizer_config.json").write_text(json.dumps(clip_files(lines)["tokenizer_config.json"], indent=1) + "\n")


def load_clip_fixture(directory: Path) -> None:
    merges = gzip.decompress((OUT / "clip/merges.txt.gz").read_bytes()).decode().rstrip("\n").split("\n")[1:]
    for name, value in clip_files(merges).items():
        (directory / name).write_text(value if isinstance(value, str) else json.dumps(value))


def qwen_fixture(source: Path) -> None:
    """Keeps the first merges and those that the frequent words of the strings need; ids stay those of the full tokenizer."""
    full = json.loads((source / "tokenizer.json").read_text())
    merges = [m.split(" ") if isinstance(m, str) else m for m in full["model"]["merges"]]
    made_by = {a + b: i for i, (a, b) in enumerate(merges)}
    keep = set(range(QWEN_MERGES))
    used = tokenizers.Tokenizer.from_file(str(source / "tokenizer.json"))
    prompts = [s for s in [*FIXED, *strings()[1500:2400], "user", "assistant", "system"] if len(s) < 400]
    todo = [t for s in prompts for t in used.encode(s).tokens]
    while todo:
        i = made_by.get(todo.pop())
        if i is not None and i not in keep:
            keep.add(i)
            todo += merges[i]
    kept = [merges[i] for i in sorted(keep)]
    vocab = full["model"]["vocab"]
    tokens = [t for t in vocab if len(t) == 1] + [a + b for a, b in kept]
    full["model"]["vocab"] = {t: vocab[t] for t in sorted(set(tokens), key=vocab.get)}
    full["model"]["merges"] = [" ".join(m) for m in kept]
    write_gz(OUT / "qwen/tokenizer.json.gz", compact(full))
    (OUT / "qwen/tokenizer_config.json").write_text((source / "tokenizer_config.json").read_text())


def t5_text() -> list:
    from pydoc_data.topics import topics

    prose = [line.strip() for key in sorted(topics) for line in topics[key].splitlines() if line.strip()]
    return prose + [s for s in strings()[1500:2400] if s.strip()] * 2


def t5_fixture() -> None:
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(t5_text()), model_writer=model, vocab_size=T5_PIECES, model_type="unigram", normalization_rule_name="nmt_nfkc",
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, character_coverage=1.0, num_threads=1, minloglevel=2,
    )
    write_gz(OUT / "t5/spiece.model.gz", model.getvalue())


def t5_json(model: bytes, form: str) -> dict:
    """tokenizer.json of a spiece.model: `released` has the steps of FLUX.1's tokenizer_2/tokenizer.json, `current` those of transformers 5."""
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(model)
    vocab = [[p.piece, p.score] for p in proto.pieces] + [[f"<extra_id_{99 - i}>", 0.0] for i in range(100)]
    special = lambda i: dict(id=i, content=vocab[i][0], single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
    charsmap = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(proto.normalizer_spec.precompiled_charsmap).decode()}
    steps = [charsmap, {"type": "Strip", "strip_left": False, "strip_right": True}, {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "\u2581"}]
    meta = {"type": "Metaspace", "replacement": "\u2581"}
    released = {"normalizer": {"type": "Sequence", "normalizers": steps}, "pre_tokenizer": {**meta, "add_prefix_space": True, "prepend_scheme": "first"}}
    split = [{"type": "WhitespaceSplit"}, {**meta, "prepend_scheme": "always", "split": True}]
    current = {"normalizer": charsmap, "pre_tokenizer": {"type": "Sequence", "pretokenizers": split}}
    end = {"SpecialToken": {"id": "</s>", "type_id": 0}}
    text = lambda name, kind: {"Sequence": {"id": name, "type_id": kind}}
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [special(i) for i in [0, 1, 2, *range(len(vocab) - 100, len(vocab))]],
        **(released if form == "released" else current),
        "post_processor": {"type": "TemplateProcessing", "single": [text("A", 0), end], "pair": [text("A", 0), end, text("B", 0), end],
                           "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}}},
        "decoder": {**meta, "add_prefix_space": True, "prepend_scheme": "always"},
        "model": {"type": "Unigram", "unk_id": 2, "vocab": vocab, "byte_fallback": False},
    }


# Goldens ------------------------------------------------------------------------------------------------------------


def checksum(ids: list) -> int:
    return zlib.crc32(struct.pack(f"<{len(ids)}i", *ids))


def golden(tokenizer, texts: list, shapes: list) -> dict:
    """CRC-32 of every id list, whole ids of the short fixed cases, decoded texts, and encodings cut and padded as pipelines do."""
    encode = lambda text: tokenizer(text).input_ids
    every = [encode(text) for text in texts]
    shown = [i for i in range(len(FIXED)) if len(texts[i]) < 60]
    shaped = []
    for length in shapes:
        rows = tokenizer(texts, max_length=length, truncation=True, padding="max_length")
        sums = [checksum(ids) for ids in rows.input_ids]
        shaped.append({"maxLength": length, "crc": sums, "maskSum": [sum(mask) for mask in rows.attention_mask]})
    decoded = [tokenizer.backend_tokenizer.decode(ids, skip_special_tokens=True) for ids in every[:1200]]
    return {
        "versions": {"tokenizers": tokenizers.__version__, "transformers": transformers.__version__},
        "crc": [checksum(ids) for ids in every], "lengths": [len(ids) for ids in every],
        "ids": {str(i): every[i] for i in shown}, "shaped": shaped, "decodedCrc": [zlib.crc32(text.encode()) for text in decoded],
    }


def from_file(path: Path, **specials):
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizers.Tokenizer.from_file(str(path)), **specials)


def chats(tokenizer) -> list:
    prompts = ["", "A red fox in the snow", "\nnewline first", " a ", "<think>x</think>", "a<|im_end|>b", "{{ braces }}", "{% raw %}", "é\n\n", "漢字 😀", "</think>"]
    render = lambda p, t: tokenizer.apply_chat_template([{"role": "user", "content": p}], tokenize=False, add_generation_prompt=True, enable_thinking=t)
    cases = [{"prompt": p, "enableThinking": t, "text": render(p, t)} for p in prompts for t in (True, False)]
    return [{**c, "ids": tokenizer(c["text"], max_length=512, truncation=True).input_ids} for c in cases]


def added_token_cases(model: bytes, scratch: Path) -> dict:
    """Ids of a T5 tokenizer whose first sentinels carry the matching rules that the released tokenizers leave unused."""
    rules = [{"lstrip": True}, {"rstrip": True}, {"single_word": True}, {"lstrip": True, "rstrip": True}, {"normalized": True, "special": False}]
    definition = t5_json(model, "released")
    names = [f"<extra_id_{i}>" for i in range(len(rules))]
    for token in definition["added_tokens"]:
        if token["content"] in names:
            token.update(rules[names.index(token["content"])])
    path = scratch / "rules.json"
    path.write_bytes(compact(definition))
    frames = ["{}", " {} ", "a{}b", "a {} b", "a  {}  b", "\u00a0{}\u0085\ufeff", "a\n{}\tb", "{}{}", "{} {}", "(_{}_)", "({})", "\u0301{}\u0301", "1{}", "{}<extra_id_9>{}"]
    mixed = ["<extra_id_0> <extra_id_3> <extra_id_1>", "<extra_id_1>  <extra_id_0>", "\uff1cextra_id_4\uff1e", "a \uff1cextra_id_4\uff1e b<extra_id_2> <extra_id_2>."]
    texts = [frame.replace("{}", name) for name in names for frame in frames] + mixed
    tokenizer = tokenizers.Tokenizer.from_file(str(path))
    return {"rules": dict(zip(names, rules)), "cases": [{"text": t, "ids": tokenizer.encode(t).ids} for t in texts]}


def without_holes(definition: dict) -> dict:
    """Fills the ids the cut-down vocabulary lacks with tokens no merge makes: `tokenizers` would renumber the added tokens otherwise."""
    vocab = definition["model"]["vocab"]
    taken = set(vocab.values())
    first_added = min(token["id"] for token in definition["added_tokens"])
    vocab.update({f" hole {i}": i for i in range(first_added) if i not in taken})
    return definition


def goldens() -> None:
    import tempfile

    texts = strings()
    write_gz(OUT / "strings.json.gz", compact(texts))
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        (scratch / "clip").mkdir()
        load_clip_fixture(scratch / "clip")
        clip = transformers.AutoTokenizer.from_pretrained(scratch / "clip")
        write_gz(OUT / "clip/golden.json.gz", compact(golden(clip, texts, [77])))
        (scratch / "qwen").mkdir()
        (scratch / "qwen/tokenizer.json").write_bytes(compact(without_holes(json.loads(gzip.decompress((OUT / "qwen/tokenizer.json.gz").read_bytes())))))
        qwen = from_file(scratch / "qwen/tokenizer.json", pad_token="<|endoftext|>")
        qwen.chat_template = json.loads((OUT / "qwen/tokenizer_config.json").read_text())["chat_template"]
        write_gz(OUT / "qwen/golden.json.gz", compact({**golden(qwen, texts, [512]), "chats": chats(qwen)}))
        model = gzip.decompress((OUT / "t5/spiece.model.gz").read_bytes())
        write_gz(OUT / "t5/added-tokens.json.gz", compact(added_token_cases(model, scratch)))
        for form in ("released", "current"):
            (scratch / f"{form}.json").write_bytes(compact(t5_json(model, form)))
            t5 = from_file(scratch / f"{form}.json", pad_token="<pad>")
            write_gz(OUT / f"t5/golden-{form}.json.gz", compact(golden(t5, texts, [256, 512])))


def ids(directory: Path, out: Path, as_written: bool) -> None:
    path = directory / "tokenizer.json"
    tokenizer = from_file(path) if as_written else transformers.AutoTokenizer.from_pretrained(directory)
    out.write_bytes(compact([{"text": t, "ids": tokenizer(t).input_ids} for t in strings()]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    fixtures = commands.add_parser("fixtures")
    fixtures.add_argument("--clip-merges", type=Path)
    fixtures.add_argument("--qwen", type=Path)
    commands.add_parser("goldens")
    one = commands.add_parser("ids")
    one.add_argument("directory", type=Path)
    one.add_argument("out", type=Path)
    one.add_argument("--as-written", action="store_true", help="run tokenizer.json itself, not the class transformers rebuilds from it")
    args = parser.parse_args()
    if args.command == "goldens":
        goldens()
    elif args.command == "ids":
        ids(args.directory, args.out, args.as_written)
    else:
        if args.clip_merges:
            clip_fixture(args.clip_merges)
        if args.qwen:
            qwen_fixture(args.qwen)
        t5_fixture()


if __name__ == "__main__":
    main()
