"""A hint at the language of texts: by script, else by the most frequent small words."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

LOOK_AT = 2_000
READ_CHARACTERS = 500
LEAST_WORDS = 20
_SCRIPTS = {
    "HIRAGANA": "ja",
    "KATAKANA": "ja",
    "HANGUL": "ko",
    "CJK": "zh",
    "GREEK": "el",
    "HEBREW": "he",
    "THAI": "th",
    "DEVANAGARI": "hi",
    "BENGALI": "bn",
    "TAMIL": "ta",
    "GEORGIAN": "ka",
    "ARMENIAN": "hy",
}
_SMALL_WORDS = {
    "en": "the and of to in is that it was for with this but not you are have be on as they he his from",
    "de": "der die das und ist nicht ein eine zu den mit auf ich es sich auch von dem für im werden sie wird",
    "fr": "le la les et est des une un que pas pour dans qui il elle sur ce je ne vous au du avec plus",
    "es": "el la los las y es que de un una en no por con para se del su lo como más pero está muy",
    "it": "il la di che è e non un una per con sono del della le gli si come ma anche questo più nel",
    "pt": "o a os as que de é não um uma para com do da em no na se por mais como mas foi muito são",
    "nl": "de het een en van is dat niet op te zijn voor met die ik je ook aan er maar wordt bij naar",
    "sv": "och att det som är en på för av inte med den till jag har ett om var men så han från vi",
    "da": "og det at er en på for ikke af med den til jeg har som et var men han vi der fra blev også",
    "no": "og det er en på for ikke av med den til jeg har som et var men han vi fra ble også etter",
    "fi": "ja on ei se että hän oli ovat mutta myös kun niin kuin joka olen ole tämä sen mitä minä",
    "pl": "i w nie na się że do to jest z o jak ale co po tak od za przez był dla już może tylko",
    "cs": "a je se na že v to s i do o za by ale jako jsem jsou tak pro byl jeho nebo také když která",
    "ro": "și de în la nu este un o cu pe că din care mai pentru a sunt sau fi ca dar au prin fost",
    "hu": "a az és hogy nem is egy ez van volt de meg csak már mint még ha fel azt vagy lesz kell",
    "tr": "ve bir bu da de için ile çok ne olarak gibi daha var o ama en kadar değil olan sonra ben",
    "id": "dan yang di ini itu dengan untuk tidak dari ke dalam adalah akan pada saya ada juga karena bisa",
    "vi": "và của là không có được cho các một những trong với này người khi đã để từ cũng như tôi nhưng",
    "ru": "и в не на что я с он как это по но из у за то все она так его от для мы был вы же бы",
    "uk": "і в не на що я з він як це по але із у за та все вона так його від для ми був ви же є",
    "bg": "и в не на че се е да за с от по са като той но това ще си има са аз вие тя при най",
    "ar": "في من على أن إلى هذا التي عن مع لا ما كان هو كل بعد هذه الذي ذلك قد لم و",
    "fa": "و در به از که این را با است برای آن یک می تا هم ها خود بر شد ما",
}
_WORDS = {code: frozenset(words.split()) for code, words in _SMALL_WORDS.items()}
_WORD = re.compile(r"[^\W\d_]+")


def language_of(texts: Sequence[str]) -> str | None:
    """An ISO 639-1 code; `None` where it cannot be told, as with code, lists of names or a mixture."""
    sample = [t[:READ_CHARACTERS] for t in texts[:: max(1, len(texts) // LOOK_AT)]]
    script = _script(sample)
    if script is not None:
        return script
    words = Counter(w for t in sample for w in _WORD.findall(t.casefold()))
    total = words.total()
    if total < LEAST_WORDS:
        return None
    shares = sorted(((sum(words[w] for w in small) / total, code) for code, small in _WORDS.items()), reverse=True)
    (first, code), (second, _) = shares[:2]
    return code if first >= 0.08 and first >= 1.15 * second else None


def _script(sample: Sequence[str]) -> str | None:
    """The language that a script belongs to alone."""
    letters = Counter(c for t in sample for c in t if ord(c) > 0x36F and c.isalpha())
    everything = sum(c.isalpha() for t in sample for c in t)
    if letters.total() < 0.3 * max(everything, 1):
        return None
    by_script: Counter[str] = Counter()
    for character, n in letters.most_common(500):
        by_script[_SCRIPTS.get(unicodedata.name(character, "").split(" ")[0], "")] += n
    if by_script["ja"] > 0.1 * letters.total():  # Japanese writes Chinese characters too
        return "ja"
    code, n = by_script.most_common(1)[0]
    return code if code and n > 0.5 * letters.total() else None
