"""The label of a web function: the part of its hostname that names it. Pure.

A hostname is `<workspace>--<label>.<domain>`; its first part is one DNS label and so has at most 63 characters.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from zygo.errors import InvalidError

MAX_LENGTH = 63
_HASH_LENGTH = 6
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_DEV_SUFFIX = re.compile(r"[a-z0-9]{1,8}")


@dataclass(frozen=True)
class Label:
    """`text` is the label; `truncated` is true when the whole one had more than 63 characters."""

    text: str
    truncated: bool = False


def normalise(text: str) -> str:
    """`text` in lower case, with a dash for everything that a hostname cannot hold."""
    return re.sub(r"[^a-z0-9-]+", "-", text.lower()).strip("-") or "x"


def check(label: object, owner: str) -> str:
    """`label` when it is one as it stands. Raises InvalidError that shows a valid one otherwise."""
    if isinstance(label, str) and _LABEL.fullmatch(label) and len(label) <= MAX_LENGTH:
        return label
    if not isinstance(label, str) or not label:
        raise InvalidError(f"{owner}: label={label!r} is not a label. Give a text such as label='my-endpoint'.")
    reason = (
        f"has {len(label)} characters, at most {MAX_LENGTH} are possible"
        if len(label) > MAX_LENGTH
        else "has other characters than a-z, 0-9 and dashes inside"
    )
    mended = normalise(label)[:MAX_LENGTH].strip("-")
    raise InvalidError(f"{owner}: label={label!r} {reason}. Use label={mended!r}.")


def label(app: str, function: str, *, custom: str | None = None, dev_suffix: str = "", workspace: str = "") -> Label:
    """The label of one web function.

    Arguments:
        app, function: their names, in any case and with any characters.
        custom: what `label=` gave; it replaces `<app>-<function>`.
        dev_suffix: "dev" for an ephemeral app, "" for a deployed one; 1 to 8 characters a-z and 0-9.
        workspace: with it the text starts with `<workspace>--`, which is then part of the 63 characters.

    Raises InvalidError for a bad `custom` or `dev_suffix`.
    """
    if dev_suffix and not _DEV_SUFFIX.fullmatch(dev_suffix):
        raise InvalidError(f"dev suffix {dev_suffix!r} is not 1 to 8 characters a-z and 0-9. Use 'dev'.")
    name = check(custom, f"Function {function!r}") if custom is not None else normalise(f"{app}-{function}")
    text = f"{workspace}--{name}" if workspace else name
    if dev_suffix:
        text = f"{text}-{dev_suffix}"
    if len(text) <= MAX_LENGTH:
        return Label(text)
    digest = hashlib.sha256(text.encode()).hexdigest()[:_HASH_LENGTH]
    return Label(f"{text[: MAX_LENGTH - _HASH_LENGTH - 1].rstrip('-')}-{digest}", truncated=True)
