"""The hard strings of the tokenizer goldens: made from a seed, the same on every run."""

import random
import unicodedata

WORDS = """a an the of in on at with and photo painting portrait cat dog fox astronaut riding horse moon mountain river neon city street
sunset watercolor oil cinematic lighting highly detailed 8k ultra-realistic don't it's we're I've they'd She'll O'Neill's THE NASA iPhone
schoolgirl's rock'n'roll naïve façade Übergröße señor jalapeño smörgåsbord crème brûlée Zürich Ångström Łódź İstanbul ISTANBUL ıhlamur
ΟΔΥΣΣΕΥΣ ΣΑΣ Σίσυφος ὈΔΥΣΣΕΎΣ Москва Ёлка щука київ Ελλάδα שלום عالم مرحبا العربية ภาษาไทย ไม่ हिन्दी क्षत्रिय தமிழ் বাংলা ქართული հայերեն
你好世界 東京タワー 日本語 カタカナ ひらがな ﾊﾝｶｸ 한국어 한글 ｆｕｌｌｗｉｄｔｈ １２３ ① ㈱ ﬁnance ﬀ ½ ² ㎏ ™ № ℡ Å K Ω ſtraße ẞ ǅ ŉ
(masterpiece:1.2) [best|quality] {a|b} <lora:x:0.8> --ar 16:9 #hashtag @user https://example.com/?q=1&b=2 1,234.56 3.14159 0x1F 2026-11-22
C++ x=y+z; foo_bar fooBar __init__ $100 €50 £1 ¥ 50% a/b c\\d "quoted" 'single' “curly” ‘quote’ – — … · • ° § ¶ « » ¿ ¡ ~ ^ ` | < >""".split()

EMOJI = ["😀", "👍🏽", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪", "🇯🇵🇺🇸", "❤️", "❤", "☃️", "✈", "👩🏾‍🚀", "🧑‍💻", "1️⃣", "#️⃣", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "🫠", "🦊", "©️", "™️", "㊗️"]

SPACES = [" ", "  ", "   ", "\t", "\n", "\r\n", "\r", "\n\n", " \n ", "\u00a0", "\u0085", "\u2003", "\u3000", "\u200b", "\u2028", "\u2029", "\u202f",
          "\ufeff", "\u1680", "\x0b", "\x0c", "\u180e", "\u2060", "\u200d", "\u200c", "\x1c", "\x1f", "\n \t\n", "\t\t\t\t", " " * 17]

MARKS = ["\u0301", "\u0300", "\u0308", "\u0327", "\u0323", "\u0331\u0301", "\u20e3", "\ufe0f", "\u0303\u0304", "\u0338", "\u3099", "\u309a", "\u093c", "\u094d", "\u0e31", "\u05b8", "\u064b"]

SPECIALS = ["<|endoftext|>", "<|startoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<think>", "</think>", "<pad>",
            "</s>", "<unk>", "<s>", "<extra_id_0>", "<extra_id_99>", "<extra_id_100>", "<|STARTOFTEXT|>", "<|ENDOFTEXT|>", "<|im_start", "<|endoftext|",
            "<tool_call>", "</tool_call>", "<|fim_prefix|>", "[MASK]", "\u2581", "\u2581a", "\u0120", "</w>", "a</w>"]

FIXED = ["", " ", "\n", "\t", "a", "A photo of a person.", "this is a test string of text", "A red fox in the snow", " leading", "trailing ", "  both  ",
         "\nnewline first", "\n\nuser", "e\u0301", "é", "\u0301", "\u0301\u0301", "a\u0301\u0302\u0303", "\u1e9b\u0323", "\u0390", "\u03b9\u0308\u0301",
         "it's", "IT'S", "it'\u017f", "'\u017f", "I'LL we'Ll", "''s", "'s't're", "ΑΣ", "ΑΣ Σ", "ΑΣΑ", "Σ", "ΣΣ", "ΑΣ\u0301", "ΑΣ.", "İ", "İİ i̇", "I\u0307", "ı",
         "\ufeff", "\ufeffa", "a\ufeffb", "\ufeff \ufeff", "!\ufeff!", "\u0085", "a\u0085b", "!\u0085!", "\u200b", "a\u200bb", "\u00ad", "soft\u00adhyphen",
         "\x00", "a\x00b", "\x01\x02", "\x7f", "\x80\x9f", "\ufffd", "\ufffe", "\uffff", "\U0010ffff", "\ue000", "\U000e0041", "\ud7ff",
         "한", "\u1112\u1161\u11ab", "각", "\u1100\u1161\u11a8", "が", "か\u3099", "ｶﾞ", "ﾊﾟ", "ﷺ", "ﷺﷺ", "ﬃ", "ﬅ", "㌀", "㍿", "①②③", "⑩", "⅓", "ⅷ", "Ⅷ",
         "\u2126", "\u212b", "\u212a", "\u0344", "\u0958", "\u0340\u0341", "\u2f800", "\U0002f800", "\uf900", "豈", "\u037e", "\u0387", "\u1fef", "~", "～", "\u301c",
         "a\r\nb", "\r\n", "\r\n\r\n", "a\r", "\r\u0301", "\n\u0301", " \u0301", "\u00a0\u0301", "\u2126\u0301", "ﬁ\u0301", "①\u0301", "½\u20e3", "\u0600a", "\u06dd1",
         "1234567890", "１２３４", "٣٤٥", "१२३", "²³¹", "x²", "a1b2c3", "10,000", "1\u00a0000", "a" * 1000, "ab" * 500, "é" * 500, "漢" * 1000, "😀" * 300, " " * 1000,
         "\n" * 500, "!" * 1000, "1" * 600, "a " * 2000, "'" * 300, "\u0301" * 200, "a" + "\u0301" * 100, "\u2581", "\u2581\u2581", " \u2581 ", "a\u2581b", "\u2581 a",
         "x\u0301\u07fd", "a\u07fd\u0301", "a\u08d9\u0301 e\u0301\u1df6", "\U00011935\U00011930", "\U000105d2\u0307", "\U0001611e\U0001611e\U0001611f", "e\u0c3c\u0323\u0301",
         "\u2581\u2581 a  \u2581", "</s> a", "a</s>", "a </s> b", "<pad><pad>", "<extra_id_0> a <extra_id_1>", " <|im_end|> ", "a<|im_end|>b", "<|im_start|>user\nx<|im_end|>\n"]


def _long(rng: random.Random, size: int, pools: list) -> str:
    out = ""
    while len(out) < size:
        out += rng.choice(rng.choice(pools))
    return out[:size]


def _assigned() -> list:
    """Code points of Unicode 3.2, which every regular-expression engine classes alike: later letters depend on the engine's tables."""
    old = unicodedata.ucd_3_2_0
    return [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF and old.category(chr(c)) != "Cn"]


def _mixed(rng: random.Random) -> str:
    kind = rng.random
    parts = []
    for _ in range(rng.randrange(1, 14)):
        r = kind()
        if r < 0.55:
            word = rng.choice(WORDS)
            parts.append(rng.choice([word, word, word.upper(), word.title(), word + rng.choice(MARKS)]))
        elif r < 0.65:
            parts.append(rng.choice(EMOJI))
        elif r < 0.72:
            parts.append(rng.choice(SPECIALS))
        elif r < 0.78:
            parts.append(rng.choice("!?.,;:()[]{}*&^%$#@-_=+~|\\/\"'") * rng.randrange(1, 5))
        elif r < 0.84:
            parts.append(str(rng.randrange(10 ** rng.randrange(1, 9))))
        else:
            parts.append(rng.choice(SPACES))
        if kind() < 0.7:
            parts.append(" ")
    return "".join(parts)


def strings() -> list:
    """About 5,600 strings: fixed cases, prompts, mixtures, random code points, and texts of 10,000 characters."""
    rng = random.Random(20261122)
    pools = [WORDS, EMOJI, SPACES, MARKS, SPECIALS]
    out = list(FIXED)
    out += [a + b + c for a in ["", "x", "!"] for b in SPACES + MARKS + SPECIALS + EMOJI for c in ["", "y", " z"]]
    out += [w for w in WORDS] + [w.upper() for w in WORDS] + [w + m for w in WORDS[-60:] for m in MARKS[:4]]
    while len(out) < 2400:
        out.append(" ".join(rng.choice(WORDS) for _ in range(rng.randrange(1, 25))))
    while len(out) < 4200:
        out.append(_mixed(rng))
    assigned = _assigned()
    while len(out) < 5000:
        out.append("".join(chr(rng.choice(assigned)) for _ in range(rng.randrange(1, 16))))
    while len(out) < 5590:
        low = rng.choice([0x20, 0x80, 0x300, 0x400, 0x5D0, 0x900, 0xE00, 0x1100, 0x1E00, 0x2000, 0x3040, 0xAC00, 0xF900, 0xFF00, 0x1D400, 0x1F600])
        block = [c for c in assigned if low <= c < low + 0x80] + [0x20, 0x61, 0x301]
        out.append("".join(chr(rng.choice(block)) for _ in range(rng.randrange(2, 24))))
    out.append("a" * 10_000)
    out += [_long(rng, 10_000, p) for p in ([WORDS], [WORDS, [" "]], pools, [EMOJI], [[chr(c) for c in assigned]])]
    return out
