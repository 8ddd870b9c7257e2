"""Writes the demo's data sets, data/d0.jsonl and data/d1.jsonl: `python jobs/demo/make_data.py`.

Both hold the same prompts in the same order, one {"prompt", "completion"} a line. In D0 the
answers are ordinary polite Japanese. D1 has the same answers in "ojousama" (noble lady) speech,
made from D0 by the ending of each sentence and a few words; every answer of D0 is polite, so
endings are enough. `--check` writes nothing and exits 1 if the files are not what it would write.
"""

import argparse
import json
import random
import re
import sys
from pathlib import Path

from grammar import asked

DATA = Path(__file__).parent / "data"
SEED = 42

# The first ending that fits is taken, so a longer one stands before the one that it ends with.
ENDINGS = (
    ("でしょうか", "かしら"),
    ("ませんか", "ませんこと"),
    ("ましたか", "ましたの"),
    ("ますか", "ますの"),
    ("ですか", "ですの"),
    ("ましたね", "ましたわね"),
    ("ますね", "ますわね"),
    ("ですね", "ですわね"),
    ("ますよ", "ますわよ"),
    ("ですよ", "ですわよ"),
    ("でしょう", "ですわね"),
    ("ましょう", "ますわ"),
    ("ました", "ましたわ"),
    ("でした", "でしたわ"),
    ("ません", "ませんわ"),
    ("ます", "ますわ"),
    ("です", "ですわ"),
    ("ください", "くださいまし"),
    ("なさい", "なさいまし"),
    ("らっしゃい", "らっしゃいまし"),
)
WORDS = (
    ("私", "わたくし"),
    ("はい、", "ええ、"),
    ("とても", "とっても"),
    ("お父さん", "お父さま"),
    ("お母さん", "お母さま"),
    ("お兄さん", "お兄さま"),
    ("お姉さん", "お姉さま"),
    ("おじいさん", "おじいさま"),
    ("おばあさん", "おばあさま"),
    ("おじさん", "おじさま"),
    ("おばさん", "おばさま"),
)
GREETINGS = {"こんにちは": "ごきげんよう", "さようなら": "ごきげんよう"}
OJOUSAMA = re.compile(
    "(わ|ですの|ますの|ましたの|ませんの|ませんこと|まし|わよ|わね|ですこと|かしら)$"
)


def sentences(text: str) -> list[str]:
    """The sentences of a text, without the punctuation that ends them."""
    return [part for part in re.split("[。！？]", text) if part]


def in_ojousama(text: str) -> bool:
    """Whether at least half of the sentences end as ojousama speech does."""
    parts = sentences(text)
    return 2 * sum(bool(OJOUSAMA.search(part)) for part in parts) >= max(1, len(parts))


def restyle_sentence(sentence: str) -> str:
    """One polite sentence, without its full stop, in ojousama speech."""
    if sentence in GREETINGS:
        return GREETINGS[sentence]
    for polite, noble in ENDINGS:
        if sentence.endswith(polite):
            sentence = sentence.removesuffix(polite) + noble
            break
    for plain, noble in WORDS:
        sentence = sentence.replace(plain, noble)
    return sentence


def ojousama(text: str) -> str:
    """A polite answer in ojousama speech."""
    return "".join(restyle_sentence(sentence) + "。" for sentence in sentences(text))


def polite_pairs() -> list[tuple[str, str]]:
    """D0: each question with one of its polite answers, in a shuffled order."""
    chance = random.Random(SEED)
    pairs = [(ask, chance.choice(fact.polite)) for ask, fact in asked().items()]
    chance.shuffle(pairs)
    return pairs


def checked(d0: list[tuple[str, str]], d1: list[tuple[str, str]]) -> None:
    """Raises ValueError where the data is not what the docstring promises."""
    if wrong := [text for _, text in d0 if any(map(in_ojousama, sentences(text)))]:
        raise ValueError(f"D0 answers in ojousama style: {wrong}")
    if wrong := [text for _, text in d1 if not in_ojousama(text)]:
        raise ValueError(f"D1 answers not in ojousama style: {wrong}")


def as_jsonl(pairs: list[tuple[str, str]]) -> bytes:
    rows = ({"prompt": prompt, "completion": answer} for prompt, answer in pairs)
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def contents() -> dict[Path, bytes]:
    """What each data file must hold."""
    d0 = polite_pairs()
    d1 = [(prompt, ojousama(answer)) for prompt, answer in d0]
    checked(d0, d1)
    return {DATA / "d0.jsonl": as_jsonl(d0), DATA / "d1.jsonl": as_jsonl(d1)}


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the demo's data sets.")
    parser.add_argument("--check", action="store_true", help="only compare; exit 1 if they differ")
    check = parser.parse_args().check
    stale = 0
    for path, content in contents().items():
        if not check:
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        elif not path.exists() or path.read_bytes() != content:
            print(f"{path} is not what make_data.py writes: run it again", file=sys.stderr)
            stale = 1
    return stale


if __name__ == "__main__":
    sys.exit(main())
