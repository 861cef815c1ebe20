"""What pydantic finds wrong with a file, in words for whoever edited it."""

from __future__ import annotations

from pydantic import ValidationError

_PLAIN = {
    "model_type": "expected an object in braces",
    "dict_type": "expected an object in braces",
    "list_type": "expected a list",
    "tuple_type": "expected a list",
    "is_instance_of": "expected a text",
}
"""What pydantic says in terms of Python."""


def first_fault(error: ValidationError) -> str:
    """The first of what is wrong: where, with dots between the names, and what; one line."""
    found = error.errors(include_url=False)[0]
    place = ".".join(map(str, found["loc"]))
    said = str(found["ctx"]["error"]) if found["type"] == "value_error" else _PLAIN.get(found["type"], found["msg"])
    return f"{place + ': ' if place else ''}{said[0].lower()}{said[1:]}"
