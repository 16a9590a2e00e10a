"""Secret: environment variables for containers, kept out of the code."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

from zygo.errors import InvalidError
from zygo.model import SecretUse
from zygo.sdk import context
from zygo.sdk.parameters import check_env, check_name
from zygo.sdk.sources import WatchRoot, watch_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class ResolvedSecret:
    """The values of a secret, and the files they came from."""

    values: Mapping[str, str] = field(default_factory=dict, repr=False)
    watch: tuple[WatchRoot, ...] = ()


class Secret:
    """Environment variables for functions: `secrets=[...]` of an App or a function.

    Values are read on this machine when the app is served or deployed, those of a named one on the server; in a container
    they are already in the environment, and the object holds nothing.
    """

    def __init__(self, origin: str, read: Callable[[], ResolvedSecret], use: SecretUse | None = None) -> None:
        self._origin = origin
        self.use = use
        """Which secret of the server's is meant; None for values that are read here."""
        self._read = read
        self._resolved: ResolvedSecret | None = None

    def __repr__(self) -> str:
        return f"Secret.{self._origin}"

    @classmethod
    def from_dict(cls, env_dict: Mapping[str, str | None] | None = None) -> Secret:
        """A secret with these values; names with None are left out. Raises InvalidError for what is not text."""
        values = check_env("Secret.from_dict()", {} if env_dict is None else env_dict)
        return cls("from_dict(...)", lambda: ResolvedSecret(values))

    @classmethod
    def from_dotenv(cls, path: str | os.PathLike[str] | None = None, *, filename: str = ".env") -> Secret:
        """The values of a .env file.

        Arguments:
            path: the file, or a file or directory from which to search upwards; the working directory unless given.
            filename: the name to search for.

        A missing file is reported as InvalidError when the app is served or deployed.
        """
        start = os.path.abspath(os.fspath(path)) if path is not None else None
        working = None if start else _working_directory()
        return cls(
            f"from_dotenv({'' if path is None else repr(str(path))})", lambda: _dotenv(start or working, filename)
        )

    @classmethod
    def from_local_environ(cls, env_keys: Sequence[str]) -> Secret:
        """These variables of this machine's environment; empty in a container.

        Raises InvalidError when one is not set, when the app is served or deployed.
        """
        if isinstance(env_keys, str):
            raise InvalidError(f"Secret.from_local_environ() takes a list: from_local_environ([{env_keys!r}]).")
        keys = tuple(env_keys)
        return cls(f"from_local_environ({list(keys)})", lambda: _environ(keys))

    @classmethod
    def from_name(
        cls, name: str, *, environment_name: str | None = None, required_keys: Sequence[str] = (), client: Any = None
    ) -> Secret:
        """The secret that `zygo secret create NAME ...` made on the server. Asks nobody before the app is served or deployed;
        when it is not there then, or lacks one of `required_keys`, that is refused.

        Arguments:
            environment_name: of the environment that it is in; else the app's.
            client: there for programs that give it.
        """
        check_name("Secret", name)
        if environment_name is not None and (not isinstance(environment_name, str) or not environment_name):
            raise InvalidError(f"environment_name={environment_name!r} is not the name of an environment.")
        if isinstance(required_keys, str) or not all(isinstance(key, str) for key in required_keys):
            raise InvalidError(f"Secret.from_name({name!r}): required_keys= takes a list of names.")
        use = SecretUse(name, environment_name or "", tuple(required_keys))
        return cls(f"from_name({name!r})", ResolvedSecret, use)

    def update(self, env_dict: Mapping[str, str | None]) -> None:
        """Merge further values in; they win. Raises InvalidError for what is not text."""
        more = check_env("Secret.update()", env_dict)
        if self.use is not None:
            raise InvalidError(
                f"{self!r} is kept by the server: update() does not apply. Use `zygo secret create {self.use.name} --force`, or "
                f"a second one: secrets=[..., zygo.Secret.from_dict(...)]."
            )
        read = self._read
        self._resolved = None

        def merged() -> ResolvedSecret:
            base = read()
            return ResolvedSecret({**base.values, **more}, base.watch)

        self._read = merged

    def resolve(self) -> ResolvedSecret:
        """The values, read once. Empty in a container."""
        if not context.is_local():
            return ResolvedSecret()
        if self._resolved is None:
            self._resolved = self._read()
        return self._resolved


def add_up(secrets: Sequence[Secret], env: Mapping[str, str]) -> tuple[dict[str, str], tuple[SecretUse, ...]]:
    """What `secrets=` and `env=` of a function come to: the values that are known here, and what the server adds to them.

    A later secret wins over an earlier one, and `env` over all of them.
    """
    values: dict[str, str] = {}
    uses: list[SecretUse] = []
    for secret in secrets:
        if secret.use is not None:
            uses.append(replace(secret.use, over=tuple(sorted(values))))
            continue
        own = secret.resolve().values
        values.update(own)
        uses = [replace(use, over=tuple(key for key in use.over if key not in own)) for use in uses]
    values.update(env)
    uses = [replace(use, over=tuple(key for key in use.over if key not in env)) for use in uses]
    return values, tuple(uses)


def _working_directory() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # deleted
        return None


def _environ(keys: tuple[str, ...]) -> ResolvedSecret:
    missing = [key for key in keys if key not in os.environ]
    if missing:
        raise InvalidError(
            f"Secret.from_local_environ(): {', '.join(missing)} not set in this environment. "
            f"Set it before the command: {missing[0]}=... zygo serve FILE."
        )
    return ResolvedSecret({key: os.environ[key] for key in keys})


def _dotenv(start: str | None, filename: str) -> ResolvedSecret:
    if start is not None and os.path.isfile(start) and Path(start).suffix != ".py":
        return _read_dotenv(start)
    first = start if start and os.path.isdir(start) else os.path.dirname(start) if start else None
    directory = first
    while directory:
        candidate = os.path.join(directory, filename)
        if os.path.isfile(candidate):
            return _read_dotenv(candidate)
        above = os.path.dirname(directory)
        directory = above if above != directory else None
    raise InvalidError(
        f"Secret.from_dotenv(): there is no {filename} in {first or 'the working directory'} or above it. "
        f"Make one with lines NAME=value, or pass its path: from_dotenv('path/to/{filename}')."
    )


def _read_dotenv(path: str) -> ResolvedSecret:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidError(f"Secret.from_dotenv(): {path} cannot be read: {error}.") from None
    return ResolvedSecret(check_env(path, parse_dotenv(text)), tuple(watch_file(path)))


_ASSIGNMENT = re.compile(
    r"""^[ \t]*(?:export[ \t]+)?(?P<name>[A-Za-z_][A-Za-z0-9_.-]*)[ \t]*
        (?:=[ \t]*(?P<value>'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|[^\r\n]*?))?[ \t]*(?:(?<=\s)\#[^\r\n]*)?$""",
    re.MULTILINE | re.VERBOSE | re.DOTALL,
)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", '"': '"', "'": "'", "$": "$"}
_REFERENCE = re.compile(r"\$\{(?P<name>[^}:]+)(?::-(?P<default>[^}]*))?\}")


def parse_dotenv(text: str) -> dict[str, str]:
    """The assignments of a .env file: `export`, comments, quotes over several lines and `${NAME:-default}` included."""
    values: dict[str, str] = {}
    for match in _ASSIGNMENT.finditer(text):
        raw = match["value"]
        if raw is None:
            continue
        if raw[:1] == "'" and raw[-1:] == "'" and len(raw) > 1:
            values[match["name"]] = re.sub(r"\\(['\\])", r"\1", raw[1:-1])
            continue
        if raw[:1] == '"' and raw[-1:] == '"' and len(raw) > 1:
            raw = re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[0]), raw[1:-1], flags=re.DOTALL)
        else:
            raw = re.split(r"\s+#", raw, maxsplit=1)[0].strip()
        values[match["name"]] = _REFERENCE.sub(
            lambda m: values.get(m["name"], os.environ.get(m["name"], m["default"] or "")), raw
        )
    return values
