"""Text as tokens, the levels of columns: characters, words, or byte pairs.

Characters, and words between blanks, are the levels themselves, so that a schema says all there is to know of them. Byte pairs (Sennrich, Haddow
and Birch, 2016) are learnt and read by the library ``tokenizers``, whose description stands in the schema. The tokens of a text are either the steps of a
sequence, in one column, or stand side by side in a row (:class:`~probgen.data.groups.Tokens`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np

from probgen.data.schema import Column, Schema, Text
from probgen.errors import CapabilityError, DataError, SchemaError
from probgen.whole import check_whole

__all__ = [
    "END",
    "UNKNOWN",
    "as_texts",
    "coded_texts",
    "codes_of",
    "joined",
    "text_schema",
    "vocabulary",
    "written",
]

END, UNKNOWN = "<end>", "<unk>"  # levels that are no characters
BYTES = 256


def as_texts(texts: Any) -> list[str]:
    """One text or several, as a list.

    Raises:
        DataError: no text at all, one that is empty, or something else among them.

    Example:
        >>> as_texts("abc")
        ['abc']
    """
    found = [texts] if isinstance(texts, str) else list(texts)
    if not found:
        raise DataError("There is no text; give at least one.")
    for number, text in enumerate(found):
        if not isinstance(text, str):
            raise DataError(
                f"Text {number}: expected a string, got {text!r} ({type(text).__name__}); convert or drop it."
            )
        if not text:
            raise DataError(f"Text {number} is empty; drop it.")
    return found


def text_schema(texts: list[str], tokens: str | int, name: str, rare: int, end: bool) -> Schema:
    """One column of the tokens of these texts.

    Args:
        texts: from which characters or byte pairs are learnt.
        tokens: "characters", "words", or how many byte pairs.
        name: of the column.
        rare: characters, or words, that come fewer times are one unknown symbol.
        end: whether a last token says that a text ends.
    """
    levels, tokenizer = vocabulary(texts, tokens, rare)
    levels = (*levels, *([END] if end else []))
    if len(levels) < 2:
        raise DataError(f"The texts have the one token {levels[0]!r}; there is nothing to learn from them.")
    return Schema((Column(name, "categorical", levels=levels),), text=Text(name, tokenizer))


def vocabulary(texts: list[str], tokens: str | int, rare: int) -> tuple[tuple[str, ...], str]:
    """Tokens in the order of their codes, and how texts are cut into them: see :class:`~probgen.data.groups.Text`."""
    check_whole("rare", rare, 0, SchemaError)
    if tokens == "characters":
        return counted(texts, rare), ""
    if tokens == "words":
        return counted(map(str.split, texts), rare), "words"
    if isinstance(tokens, str) or rare:
        raise SchemaError(
            "tokens must be 'characters', 'words' or a number of byte pairs (which have no rare ones), got"
            f" {tokens!r} and rare={rare}."
        )
    return byte_pairs(texts, check_whole("tokens", tokens, BYTES, SchemaError))


def counted(texts: Iterable[Iterable[str]], rare: int) -> tuple[str, ...]:
    """The tokens of some texts in order; an unknown one where some are rare."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    if END in counts:
        raise DataError(f"A text has the word {END!r}, which says that texts end; write it in another way.")
    kept = sorted(token for token, times in counts.items() if times >= rare and not (rare and token == UNKNOWN))
    if not counts:
        raise DataError("The texts have no token, only blanks; give at least one.")
    if not kept:
        raise DataError(f"Each of the {len(counts)} tokens comes fewer than {rare} times; take a smaller rare.")
    return (*kept, UNKNOWN) if rare else tuple(kept)


def byte_pairs(texts: list[str], size: int) -> tuple[tuple[str, ...], str]:
    """Tokens in the order of their codes, and the tokenizer's description."""
    library = tokenizers()
    made = library.Tokenizer(library.models.BPE())
    made.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = library.decoders.ByteLevel()
    alphabet = sorted(library.pre_tokenizers.ByteLevel.alphabet())
    trainer = library.trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(texts, trainer)
    codes = made.get_vocab()
    return tuple(sorted(codes, key=codes.__getitem__)), made.to_str()


def tokenizers() -> Any:
    """The library of byte pairs."""
    try:
        import tokenizers as library
    except ImportError as error:
        raise CapabilityError(
            "Byte pairs need the library 'tokenizers': pip install 'probgen[text]', or take tokens='characters'."
        ) from error
    return library


@lru_cache(maxsize=8)
def tokenizer_of(description: str) -> Any:
    """From its description."""
    return tokenizers().Tokenizer.from_str(description)


def coded_texts(texts: list[str], schema: Schema, end: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Codes ``(N, 1)`` of the tokens of all texts, one after another, and how many each has.

    Args:
        texts: to be read.
        schema: of text.
        end: say that they end, where the schema has a token for it.

    Raises:
        DataError: a character that the schema does not know.
        SchemaError: a schema of something else.
    """
    text, column = text_of(schema), schema[0]
    parts = codes_of(texts, column.levels, text.tokenizer)
    blank = [number for number, part in enumerate(parts) if not len(part)]
    if blank:
        raise DataError(f"Text {blank[0]} has no token, only blanks; drop it.")
    if end and column.levels[-1] == END:
        parts = [np.append(part, len(column.levels) - 1.0) for part in parts]
    return np.concatenate(parts)[:, None], np.array([len(part) for part in parts])


def text_of(schema: Schema) -> Text:
    """What a schema says of text."""
    if schema.text is None or schema.names != (schema.text.column,):
        raise SchemaError("The schema is not that of a text; make it with Table.from_text(texts).schema.")
    return schema.text


def codes_of(texts: list[str], levels: tuple, tokenizer: str) -> list[np.ndarray]:
    """Codes ``(T,)`` of the tokens of each text.

    Raises:
        DataError: a token that is no level.
    """
    if tokenizer == "words":
        return codes_of_words(texts, levels)
    return codes_of_pairs(texts, tokenizer) if tokenizer else codes_of_characters(texts, levels)


def codes_of_words(texts: list[str], levels: tuple) -> list[np.ndarray]:
    """Places of words among the levels."""
    known = {level: float(code) for code, level in enumerate(levels) if level != END}
    read = []
    for number, text in enumerate(texts):
        codes = [known.get(word, known.get(UNKNOWN)) for word in text.split()]
        if None in codes:
            word = text.split()[codes.index(None)]
            raise DataError(
                f"Text {number}, word {codes.index(None)}: {word!r} is none of the {len(known)} words that the model knows;"
                " replace it, or learn with rare=2, which has a token for unknown ones."
            )
        read.append(np.array(codes, dtype=np.float64))
    return read


def codes_of_characters(texts: list[str], levels: tuple) -> list[np.ndarray]:
    """Places of characters among the levels."""
    known = {level: code for code, level in enumerate(levels) if len(level) == 1}
    points = np.array(sorted(map(ord, known)))
    codes = np.array([known[chr(point)] for point in points], dtype=np.float64)
    return [found(number, one, points, codes, levels) for number, one in enumerate(texts)]


def found(number: int, text: str, points: np.ndarray, codes: np.ndarray, levels: tuple) -> np.ndarray:
    """Codes of one text's characters."""
    read = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    place = np.searchsorted(points, read).clip(0, len(points) - 1)
    unseen = points[place] != read
    if unseen.any() and UNKNOWN not in levels:
        first = int(unseen.argmax())
        raise DataError(
            f"Text {number}, character {first}: {text[first]!r} is none of the {len(points)} characters that the model knows"
            f" ({int(unseen.sum())} such); replace it, or learn with rare=2, which has a token for unknown ones."
        )
    return np.where(unseen, levels.index(UNKNOWN) if UNKNOWN in levels else -1, codes[place])


def codes_of_pairs(texts: list[str], description: str) -> list[np.ndarray]:
    """As a tokenizer reads them."""
    read = tokenizer_of(description).encode_batch(texts, add_special_tokens=False)
    return [np.array(one.ids, dtype=np.float64) for one in read]


def written(values: np.ndarray, lengths: np.ndarray, schema: Schema) -> list[str]:
    """Texts of codes ``(N, 1)``; unknown cells end a text, as its end does."""
    text, levels = text_of(schema), schema[0].levels
    made = []
    for codes in np.split(values[:, 0], np.cumsum(lengths)[:-1]):
        stop = np.isnan(codes) | (codes == len(levels) - 1) & (levels[-1] == END)
        kept = codes[: int(stop.argmax()) if stop.any() else len(codes)].astype(int)
        made.append(joined(kept, text.tokenizer, levels))
    return made


def joined(codes: np.ndarray, tokenizer: str, levels: tuple) -> str:
    """The text of some tokens."""
    if tokenizer == "words":
        return " ".join(levels[code] for code in codes)
    if tokenizer:
        return tokenizer_of(tokenizer).decode([int(code) for code in codes], skip_special_tokens=False)
    return "".join("\ufffd" if levels[code] == UNKNOWN else levels[code] for code in codes)
