"""Chat templates: render a prompt, and check that the template keeps its text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from llmrec.errors import ModelError
from llmrec.metered_jinja import FAILURES
from llmrec.records import Prompt

Turn: TypeAlias = Mapping[str, object]
_PROBE = Prompt("Mention Quokkas only once.", "Do Wombats graze at Dawn?")
_REPLY = "Surely Kestrels hover."
_THINKING = re.compile(
    r"(<\|?|\[)([\w:]{0,40}(?:think|thought|reason)\w{0,40})(\|?>|\])", re.IGNORECASE
)
"""The tag that opens a thinking block."""


@dataclass(frozen=True)
class ChatTemplate:
    """A model's chat template.

    Args:
        name: The model's, for messages.
        apply: Renders turns; the flag asks for the beginning of the answer.
    """

    name: str
    apply: Callable[[Sequence[Turn], bool], str]

    def render(self, prompt: Prompt) -> str:
        """A prompt as text, up to where the answer begins.

        A template that refuses or ignores the system turn gets its text in the user's turn.

        Raises:
            ModelError: The template cannot be rendered, or loses text of the prompt.
        """
        text = self._rendered(prompt)[0]
        before, after = self._beginning
        return text.removesuffix(before) + after if text.endswith(before) else text

    @cached_property
    def turn_end(self) -> str:
        """The text that the template puts after an assistant's turn."""
        return self._after_user(_REPLY).partition(_REPLY)[2].lstrip()

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What the template does to a prompt that its author may not expect."""
        try:
            text, moved = self._rendered(_PROBE)
            alone, _ = self._rendered(Prompt("", _PROBE.user))
        except ModelError as error:
            return (f"{error.message} Only plain-text templates can be used.",)
        before, after = self._beginning
        notes = ["has no system turn: system text goes into the user's turn"] * moved
        for role, part in (("system", _PROBE.system), ("user", _PROBE.user)):
            if part not in text:
                notes.append(f"changes the {role} text: {part!r} is not in the prompt as written")
            elif text.count(part) > 1:
                notes.append(f"repeats the {role} text")
        if self._header and self._header in _until(_PROBE.user, alone):
            notes.append("inserts an empty assistant turn before the user's")
        blank = _until(_PROBE.user, text.replace(_PROBE.system, "", 1))
        system_header = not moved and _until(_PROBE.system, text).strip()
        if system_header and blank == _until(_PROBE.user, alone):
            notes.append("inserts an empty system turn where a prompt has no system text")
        if before != after:
            notes.append(f"ends a prompt with {before!r}; {after!r} is used instead")
        return tuple(f"The chat template of {self.name} {note}." for note in notes)

    @cached_property
    def _beginning(self) -> tuple[str, str]:
        """What the template writes between a user's text and the answer, and what is used."""
        asked = self._after_user()
        answered, found, _ = self._after_user(_REPLY).partition(_REPLY)
        answered = answered.rstrip(" ")  # a word's own token has the space in front
        if not found:
            return asked, _closed(asked)
        if answered.startswith(asked.rstrip()) and len(answered.rstrip()) > len(asked):
            # The template writes no beginning of the answer, or not all of it.
            return asked, answered
        if asked.startswith(answered):
            added = asked[len(answered) :]
            if self._header and self._header in added:
                return asked, answered  # without an empty assistant turn
        return asked, _closed(asked)

    @cached_property
    def _header(self) -> str:
        """What opens an assistant's turn; empty if nothing does."""
        answered = self._after_user(_REPLY).partition(_REPLY)[0]
        return answered.removeprefix(self._after_user(answer=False)).strip().partition("\n")[0]

    def _after_user(self, reply: str = "", *, answer: bool = True) -> str:
        """What the template writes after the user's text of the probe; empty if it fails."""
        turns: list[Turn] = [{"role": "user", "content": _PROBE.user}]
        if reply:
            turns.append({"role": "assistant", "content": reply})
        try:
            text = self.apply(turns, answer and not reply)
        except FAILURES:
            return ""
        ends = [match.end() for match in re.finditer(re.escape(_PROBE.user), text, re.IGNORECASE)]
        return text[ends[-1] :] if ends else ""

    def _rendered(self, prompt: Prompt) -> tuple[str, bool]:
        """The text of the first form of a prompt that keeps it, and whether that moved text."""
        fault = ""
        for place, turns in enumerate(_turns(prompt)):
            try:
                text = self.apply(turns, True)
            except FAILURES as error:
                fault = fault or f"cannot be rendered: {error}"
                continue
            if place > 1 and "'type': 'text'" in text:  # a Python list, as it is
                continue
            lost = [part for part in (prompt.system, prompt.user) if not _holds(text, part)]
            if not lost:
                return text, place % 2 == 1
            fault = f"loses text of the prompt: {lost[-1].strip()[:60]!r}"
        raise ModelError(
            f"The chat template of {self.name} {fault}.",
            hint="Take another model, or a plain-text template.",
        )


def _turns(prompt: Prompt) -> Iterator[list[Turn]]:
    """Forms of a prompt: with a system turn or in one turn, as texts or as lists of parts."""
    whole = "\n\n".join(part for part in (prompt.system, prompt.user) if part)
    turns = [("system", prompt.system), ("user", prompt.user)]
    forms = ([turn for turn in turns if turn[1] or turn[0] == "user"], [("user", whole)])
    for parts in (False, True):
        for form in forms:
            yield [
                {"role": role, "content": [{"type": "text", "text": text}] if parts else text}
                for role, text in form
            ]


def _holds(text: str, part: str) -> bool:
    """Whether a text holds another, whatever happened to its case and white space."""
    return part.strip() in text or _plain(part) in _plain(text)


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def _until(part: str, text: str) -> str:
    return re.split(re.escape(part), text, maxsplit=1, flags=re.IGNORECASE)[0]


def _closed(text: str) -> str:
    """A text with its last thinking block closed."""
    opened = [*_THINKING.finditer(text)]
    if not opened:
        return text
    left, name, right = opened[-1].groups()
    ended = name.replace("START", "END") if "START" in name else f"/{name}"
    closing = f"{left}{ended}{right}"
    if closing in text[opened[-1].end() :]:
        return text
    return f"{text.rstrip()}\n\n{closing}\n\n"
