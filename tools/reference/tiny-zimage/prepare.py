"""Step 1: pictures on white at 64x64, captions, and a tokenizer trained on them. Needs `npm install` in this folder first."""

import json
import random
from collections import Counter

from PIL import Image
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from paths import DATA, HERE, MODEL, NAMES, SIZE

PACKAGES = HERE / "node_modules"
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
# The split of Qwen2's tokenizer (tokenizer.json of Qwen/Qwen3-4B).
SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
TEMPLATES = [
    "the {}", "an emoji of {a}", "an emoji of {}", "{} emoji", "a 3d icon of {a}", "a picture of {a}", "a photo of {a}",
    "a drawing of {a}", "a cute {}", "{a} on a white background", "{a}, 3d render",
]


def with_article(name: str) -> str:
    return ("an " if name[0] in "aeiou" else "a ") + name


def read_emoji() -> list[dict]:
    """Hexcode and keywords of every trained emoji, in the order of names.txt."""
    data = json.loads((PACKAGES / "emojibase-data/en/data.json").read_text())
    library = json.loads((PACKAGES / "emojilib/dist/emoji-en-US.json").read_text())
    by_emoji = {entry["emoji"]: entry for entry in data}
    found = []
    for name, emoji in NAMES:
        entry = by_emoji[emoji]
        words = [word.replace("_", " ").lower() for word in library.get(emoji, [])]
        tags = [tag.lower() for tag in entry.get("tags", []) + words]
        found.append({"name": name, "hex": entry["hexcode"].lower(), "tags": [t for t in dict.fromkeys(tags) if t != name and t.isascii()]})
    return found


def captions(emoji: dict, uses: Counter) -> list[tuple[str, float]]:
    """Captions of one emoji with their weights: the name most, then templates, keyword lists, and keywords only it has."""
    name, tags = emoji["name"], emoji["tags"]
    result = [(name, 6.0), (with_article(name), 3.0)]
    result += [(template.format(name, a=with_article(name)), 1.0) for template in TEMPLATES]
    pick = random.Random(name)
    for _ in range(3 if tags else 0):
        result.append((", ".join([name, *pick.sample(tags, min(len(tags), pick.randint(1, 3)))]), 0.7))
    own = [tag for tag in tags if uses[tag] == 1 and 3 <= len(tag) <= 18][:4]
    for tag in own:
        result += [(tag, 0.5), (with_article(tag), 0.25)]
    return result


def picture(hexcode: str) -> bytes:
    """RGB bytes of one emoji on white."""
    folder = PACKAGES / "@lobehub/fluent-emoji-3d/assets"
    names = [hexcode, hexcode.replace("-fe0f", ""), hexcode + "-fe0f"]
    path = next(folder / f"{name}.webp" for name in names if (folder / f"{name}.webp").exists())
    image = Image.open(path).convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB").resize((SIZE, SIZE), Image.Resampling.LANCZOS).tobytes()


def train_tokenizer(texts: list[str], vocabulary: int = 1600) -> Tokenizer:
    """Byte-level BPE in the form of Qwen2's tokenizer; special tokens take the last ids."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(SPLIT), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=vocabulary - len(SPECIAL), initial_alphabet=alphabet))
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    return tokenizer


def main() -> None:
    DATA.mkdir(exist_ok=True)
    emoji = read_emoji()
    uses = Counter(tag for one in emoji for tag in {*one["tags"], one["name"]})
    all_captions = [captions(one, uses) for one in emoji]
    (DATA / "captions.json").write_text(json.dumps(all_captions))
    (DATA / "pictures.bin").write_bytes(b"".join(picture(one["hex"]) for one in emoji))
    texts = [text for group in all_captions for text, weight in group for _ in range(max(1, int(weight * 4)))]
    tokenizer = train_tokenizer(texts + ["user\n", "assistant\n", "\n"] * 1000)
    (DATA / "tokenizer").mkdir(exist_ok=True)
    tokenizer.save(str(DATA / "tokenizer/tokenizer.json"))
    (DATA / "tokenizer/tokenizer_config.json").write_text((MODEL / "tokenizer/tokenizer_config.json").read_text())
    tokenizer.model.save(str(DATA / "tokenizer"))
    print(f"{len(emoji)} pictures, {sum(map(len, all_captions))} captions, {tokenizer.get_vocab_size()} tokens")


if __name__ == "__main__":
    main()
