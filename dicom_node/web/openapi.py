"""The tables of addresses and actions -> an OpenAPI 3.1 document, so that it cannot say other than what is answered."""

from __future__ import annotations

import dataclasses
import re
import types
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from . import actions, cohort
from .routes import API, BLOBS, SCREENS

PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean"}
PROBLEM = {"type": "object", "properties": {"error": {"type": "string"}, "status": {"type": "integer"}}}
UPLOADED = {
    "type": "object",
    "properties": {
        **{name: {"type": "integer"} for name in ("stored", "same", "other", "refused")},
        "reasons": {"type": "array", "items": {"type": "object"}},
    },
}


def document() -> dict[str, Any]:
    """Return the document."""
    schemas: dict[str, Any] = {"Problem": PROBLEM, "Uploaded": UPLOADED}
    paths: dict[str, Any] = {}
    for screen in SCREENS:
        found = schema_of(get_type_hints(screen.read)["return"], schemas)
        parameters = [*_in_path(screen.path), *({**_text(name), "in": "query"} for name in screen.query)]
        paths[API + screen.path] = {
            "get": _operation(screen.summary, screen.role, parameters, "application/json", found)
        }
    for blob in BLOBS:
        one = _operation(blob.summary, blob.role, _in_path(blob.path), blob.media_type, {})
        paths[API + blob.path] = {"get": one}
    for name, action in actions.ACTIONS.items():
        done = schema_of(actions.Done, schemas)
        one = _operation(action.question, action.role, [], "application/json", done)
        values = {value: {"type": "string"} for value in action.values}
        body = {"type": "object", "properties": values, "required": list(action.values)}
        paths[f"{API}/actions/{name}"] = {"post": {**one, **_body("application/json", body)}}
    paths |= _sent(schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "vq-dicom-node", "version": version("vq-dicom-node")},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _sent(schemas: dict[str, Any]) -> dict[str, Any]:
    """Return the paths that take files."""
    found: dict[str, Any] = {}
    upload = _operation("Store DICOM files and zip archives of them.", "operator", [], "application/json", {
        "$ref": "#/components/schemas/Uploaded"
    })  # fmt: skip
    found[API + "/upload"] = {"post": {**upload, **_body("multipart/form-data", {"type": "object"})}}
    imported = schema_of(cohort.Imported, schemas)
    table = _operation("Keep the DLCO of a table.", "operator", [], "application/json", imported)
    found[API + "/cohort/dlco"] = {"post": {**table, **_body("text/csv", {"type": "string"})}}
    own = _operation("This document.", "viewer", [], "application/json", {"type": "object"})
    found[API + "/openapi.json"] = {"get": own}
    for path in ("/dicom-web/studies", "/dicom-web/studies/{study}"):
        stow = _operation(
            "Store instances (PS3.18 10.5).", "operator", _in_path(path), "application/dicom+json", {}
        )
        kind = 'multipart/related; type="application/dicom"'
        found[path] = {"post": {**stow, **_body(kind, {"type": "string", "format": "binary"})}}
    return found


def schema_of(kind: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a type, putting those of dataclasses into `schemas`."""
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        name = f"{kind.__module__.rpartition('.')[2].title()}{kind.__name__}"
        if name not in schemas:
            schemas[name] = {}  # before its parts, which may hold it again
            hints = get_type_hints(kind)
            parts = {key: schema_of(hint, schemas) for key, hint in hints.items()}
            schemas[name] = {
                "type": "object", "properties": parts, "required": list(parts), "additionalProperties": False
            }  # fmt: skip
        return {"$ref": f"#/components/schemas/{name}"}
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is tuple:
        return {"type": "array", "items": schema_of(arguments[0], schemas)}
    if origin in (dict, Mapping):
        return {"type": "object", "additionalProperties": schema_of(arguments[1], schemas)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [schema_of(one, schemas) for one in arguments]}
    if origin is Literal:
        return {"enum": list(arguments)}
    return {"type": "null"} if kind is type(None) else {"type": PLAIN[kind]}


def _operation(
    summary: str, role: str, parameters: list[dict[str, Any]], media_type: str, schema: Any
) -> dict[str, Any]:
    problem = {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        "summary": summary,
        "description": f"Needs the role {role}.",
        "parameters": parameters,
        "responses": {
            "200": {"description": "Done.", "content": {media_type: {"schema": schema}}},
            "default": {"description": "Why not, in one sentence.", "content": problem},
        },
    }


def _in_path(path: str) -> list[dict[str, Any]]:
    return [{**_text(name), "in": "path", "required": True} for name in re.findall(r"\{(\w+)\}", path)]


def _text(name: str) -> dict[str, Any]:
    return {"name": name, "schema": {"type": "string"}}


def _body(media_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {media_type: {"schema": schema}}}}
