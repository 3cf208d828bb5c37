"""Words and marks of a text, for formats that are written in blocks."""

from __future__ import annotations

import re

from probgen.errors import DataError

__all__ = ["Tokens", "in_quotes", "quoted"]


class Tokens:
    """The words of a text one after the other; quoted ones are one word, comments are passed over.

    Args:
        text: to be read.
        marks: characters that are words by themselves.
        comments: regular expressions of what is passed over.
    """

    def __init__(self, text: str, marks: str, *comments: str) -> None:
        closed = re.escape(marks)
        pattern = "|".join(
            [
                *(f"(?:{c})" for c in comments),
                r'"(?P<text>[^"]*)"',
                f"(?P<mark>[{closed}])",
                rf'(?P<word>[^\s"{closed}]+)',
            ]
        )
        self.words: list[str] = []
        self.places: list[int] = []  # where each begins
        self.plain: list[bool] = []  # no quotes around it
        for found in re.finditer(pattern, text, re.DOTALL):
            if found.lastgroup is not None:
                self.words.append(found[found.lastgroup])
                self.places.append(found.start())
                self.plain.append(found.lastgroup != "text")
        self.text, self.at = text, 0

    def __bool__(self) -> bool:
        return self.at < len(self.words)

    def error(self, message: str) -> DataError:
        """A message with the line of the word that was taken last."""
        place = self.places[min(max(self.at - 1, 0), len(self.places) - 1)] if self.places else 0
        return DataError(f"line {self.text.count(chr(10), 0, place) + 1}: {message}")

    def is_next(self, word: str) -> bool:
        """True where the next word is this one."""
        return bool(self) and self.plain[self.at] and self.words[self.at] == word

    def take(self, *expected: str) -> str:
        """The next word, which must be one of those expected, if any are."""
        if not self:
            raise self.error(f"the text ends where {' or '.join(map(repr, expected)) or 'a word'} is expected")
        self.at += 1
        word = self.words[self.at - 1]
        if expected and word not in expected:
            raise self.error(f"expected {' or '.join(map(repr, expected))}, found {word!r}")
        return word

    def comes(self, word: str, before: str) -> bool:
        """True where this mark stands before the next one of another."""
        at = self.at
        while at < len(self.words) and not (self.plain[at] and self.words[at] in (word, before)):
            at += 1
        return at < len(self.words) and self.words[at] == word

    def until(self, *ends: str, without: str = "") -> list[str]:
        """The words before the next of these marks, which is passed over, as are other marks in between."""
        start = self.at
        while self and not (self.words[self.at] in ends and self.plain[self.at]):
            self.at += 1
        taken = range(start, self.at)
        found = [self.words[at] for at in taken if not (self.plain[at] and self.words[at] in without)]
        if not self:
            raise self.error(f"the text ends before {' or '.join(map(repr, ends))}")
        self.at += 1
        return found

    def names(self, end: str) -> list[str]:
        """Names up to a mark: between commas where there are any, else one a word."""
        if not self.comes(",", before=end):
            return self.until(end)
        names = []
        while self.comes(",", before=end):
            names.append(self.until(","))
        return [" ".join(name) for name in [*names, self.until(end)] if name]

    def numbers(self, end: str) -> list[float]:
        """Numbers up to a mark, with commas between them or not."""
        words = self.until(end, without=",")
        try:
            return [float(word) for word in words]
        except ValueError as error:
            raise self.error(f"expected numbers ({error})") from None

    def skip_block(self) -> None:
        """Everything up to the end of a block, the blocks in it included."""
        self.until("{")
        depth = 1
        while depth:
            self.until("{", "}")
            depth += 1 if self.words[self.at - 1] == "{" else -1


def in_quotes(name: object) -> str:
    """A name as one word, whatever stands in it.

    Raises:
        DataError: a quotation mark does.
    """
    text = str(name)
    if '"' in text:
        raise DataError(f"the name {text!r} has a quotation mark in it, which this format cannot hold; rename it")
    return f'"{text}"'


def quoted(name: object, marks: str, *comments: str) -> str:
    """A name as one word, in quotes only where it needs them.

    Args:
        name: any without a quotation mark.
        marks: characters that are words by themselves.
        comments: what comments begin with.
    """
    text, safe = str(name), in_quotes(name)
    bare = text and not re.search(rf"[\s{re.escape(marks)}]", text) and not any(begin in text for begin in comments)
    return text if bare else safe
