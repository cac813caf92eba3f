"""A small model of server-side apply: what the API server stores and what it writes down.

Follows structured-merge-diff for one manager: `fieldsV1` of an applied configuration, and the live
object that comes of it, with defaults and canonical spellings filled in.
"""

import copy
import json

ATOMIC = "atomic"
SET = "set"

# A schema node: None (scalar), ATOMIC, SET, {"field": node} for maps, or ("keys", {...}) for lists
# that are maps by key.


def fields_of(value, schema):
    """`fieldsV1` below a value."""
    if schema is None or schema == ATOMIC:
        return {}
    if schema == SET:
        return {f"v:{json.dumps(item)}": {} for item in value}
    if isinstance(schema, tuple):
        keys, item_schema = schema
        out = {}
        for item in value:
            key = {name: item[name] for name in keys}
            out["k:" + json.dumps(key, sort_keys=True)] = {".": {}, **fields_of(item, item_schema)}
        return out
    return {f"f:{name}": fields_of(item, schema.get(name, ATOMIC)) for name, item in value.items()}


def live_of(desired, fields, *, manager="modelwright", subresource=""):
    """The stored object after one apply of `desired`."""
    live = copy.deepcopy(desired)
    entry = {
        "manager": manager,
        "operation": "Apply",
        "apiVersion": desired["apiVersion"],
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
    }
    if subresource:
        entry["subresource"] = subresource
    live["metadata"]["managedFields"] = [entry]
    return live
