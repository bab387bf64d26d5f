"""Recipes: YAML files read into frozen dataclasses. An unknown key or a wrong type is an error with file and line."""

import dataclasses
import difflib
import hashlib
import json
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

Node = yaml.nodes.Node


class RecipeError(ValueError):
    """A recipe contains a mistake; the message names file, line and key."""


def read[T](path: Path, recipe: type[T], *, overrides: Sequence[str] = ()) -> T:
    """Read a YAML file into a dataclass; overrides are "a.b=c" with c in YAML, applied before anything is checked."""
    return parse(path.read_text(encoding="utf-8"), recipe, path=path, overrides=overrides)


def parse[T](text: str, recipe: type[T], *, path: Path, overrides: Sequence[str] = ()) -> T:
    """As `read`, for YAML text; path is the name that errors use for it."""
    try:
        document = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise RecipeError(f"{path}: expected YAML, got {error}") from error
    if document is None:
        document = yaml.MappingNode("tag:yaml.org,2002:map", [])
    for override in overrides:
        _override(document, override)
    built: T = _Reader(path).value(document, recipe, key="")
    return built


def fingerprint(recipe: Any) -> str:
    """sha256 in hex over every value of a recipe (a dataclass), the defaults included."""
    return hashlib.sha256(as_json(recipe).encode()).hexdigest()


def as_json(recipe: Any) -> str:
    """A recipe on one line, keys sorted."""
    return json.dumps(dataclasses.asdict(recipe), sort_keys=True)


def differences(ours: Any, theirs: Any) -> list[str]:
    """The values in which two recipes (dataclasses) differ, each as "a.b: 3, 4 there"."""
    one, other = (_flatten(dataclasses.asdict(recipe)) for recipe in (ours, theirs))
    keys = [key for key in {**one, **other} if one.get(key) != other.get(key)]
    return [f"{key}: {one.get(key, 'nothing')}, {other.get(key, 'nothing')} there" for key in keys]


def _flatten(value: Any, key: str = "") -> dict[str, Any]:
    """The values of nested dictionaries and lists by their dotted keys."""
    if not isinstance(value, dict | tuple | list):
        return {key: value}
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    return {k: v for name, child in pairs for k, v in _flatten(child, _join_key(key, str(name))).items()}


class _Reader:
    """Converts YAML nodes, which know their lines, into values of the expected types."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def value(self, node: Node, kind: Any, *, key: str) -> Any:
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            return self._dataclass(node, kind, key)
        if origin in (types.UnionType, typing.Union):
            if _is_null(node):
                return None
            return self.value(node, next(a for a in arguments if a is not type(None)), key=key)
        if origin is tuple:
            return self._tuple(node, arguments, key)
        if origin is dict:
            pairs = self._mapping(node, key)
            return {name: self.value(child, arguments[1], key=_join_key(key, name)) for name, child in pairs.items()}
        return self._scalar(node, kind, key)

    def _dataclass(self, node: Node, kind: type[Any], key: str) -> Any:
        fields = {field.name: field for field in dataclasses.fields(kind)}
        hints = typing.get_type_hints(kind)
        values = {}
        for name, child in self._mapping(node, key).items():
            if name not in fields:
                near = difflib.get_close_matches(name, fields, n=1)
                remedy = f"; did you mean {near[0]}?" if near else ""
                raise self._error(
                    child, _join_key(key, name), f"expected one of {', '.join(fields)}", "no such key", remedy
                )
            values[name] = self.value(child, hints[name], key=_join_key(key, name))
        for name, field in fields.items():
            required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
            if required and name not in values:
                raise self._error(node, _join_key(key, name), "expected a value", "nothing")
        try:
            return kind(**values)
        except RecipeError:
            raise
        except ValueError as error:
            raise RecipeError(f"{self._place(node)}: {_join_key(key, '')}{error}") from error

    def _mapping(self, node: Node, key: str) -> dict[str, Node]:
        if not isinstance(node, yaml.MappingNode):
            raise self._error(node, key, "expected keys and values", _describe(node))
        pairs: dict[str, Node] = {}
        for name, child in node.value:
            if name.value in pairs:
                raise self._error(name, _join_key(key, name.value), "expected once", "twice")
            pairs[name.value] = child
        return pairs

    def _tuple(self, node: Node, arguments: tuple[Any, ...], key: str) -> tuple[Any, ...]:
        if not isinstance(node, yaml.SequenceNode):
            raise self._error(node, key, "expected a list", _describe(node))
        if arguments[-1] is not Ellipsis and len(node.value) != len(arguments):
            raise self._error(node, key, f"expected {len(arguments)} values", str(len(node.value)))
        kinds = [arguments[0]] * len(node.value) if arguments[-1] is Ellipsis else arguments
        return tuple(
            self.value(child, kind, key=f"{key}[{i}]")
            for i, (child, kind) in enumerate(zip(node.value, kinds, strict=True))
        )

    def _scalar(self, node: Node, kind: Any, key: str) -> Any:
        value = yaml.safe_load(yaml.serialize(node)) if isinstance(node, yaml.ScalarNode) else None
        if kind is float and isinstance(value, str):
            value = _float_or_none(value)  # YAML 1.1 reads 1e-4 as text
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if kind is Path and isinstance(value, str):
            return Path(value)
        if type(value) is not kind:
            raise self._error(node, key, f"expected {_NAMES.get(kind, kind.__name__)}", _describe(node))
        return value

    def _error(self, node: Node, key: str, expected: str, got: str, remedy: str = "") -> RecipeError:
        return RecipeError(f"{self._place(node)}: {key or 'recipe'}: {expected}, got {got}{remedy}")

    def _place(self, node: Node) -> str:
        return f"{self.path}:{node.start_mark.line + 1}" if node.start_mark else "--set"


_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path"}


def _override(document: Node, override: str) -> None:
    """Set "a.b=c" in the document (which is changed), creating mappings along the way."""
    place, sign, text = override.partition("=")
    names = place.split(".")
    if not sign or not all(names):
        raise RecipeError(f"--set: expected KEY.KEY=VALUE, got {override!r}")
    value = yaml.compose(text, Loader=yaml.SafeLoader) or yaml.ScalarNode("tag:yaml.org,2002:null", "")
    _clear_lines(value)
    node = document
    for depth, name in enumerate(names):
        if not isinstance(node, yaml.MappingNode):
            raise RecipeError(f"--set {override}: expected keys below {'.'.join(names[:depth])}, got {_describe(node)}")
        kept = [pair for pair in node.value if pair[0].value != name]
        found = next((child for key, child in node.value if key.value == name), None)
        if depth == len(names) - 1:
            found = value
        elif found is None:
            found = yaml.MappingNode("tag:yaml.org,2002:map", [])
        node.value = [*kept, (yaml.ScalarNode("tag:yaml.org,2002:str", name), found)]
        node = found


def _clear_lines(node: Node) -> None:
    """Values from the command line have no line in the file."""
    node.start_mark = node.end_mark = None
    if isinstance(node, yaml.CollectionNode):
        for child in node.value:
            for part in child if isinstance(child, tuple) else (child,):
                _clear_lines(part)


def _join_key(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _describe(node: Node) -> str:
    if isinstance(node, yaml.MappingNode):
        return "keys and values"
    return "a list" if isinstance(node, yaml.SequenceNode) else repr(node.value)


def _is_null(node: Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _float_or_none(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
