"""An API server in memory, as far as the apply room sees one; every list is one atomic value."""

import copy

from modelwright_operator.kube.faults import Conflict, Gone
from modelwright_operator.kube.resources import object_reference


class FakeApi:
    """Stands in for ApiClient: objects, versions, ownership of one manager, faults on demand."""

    def __init__(self, *objects):
        self.version = 100
        self.objects = {}
        self.log = []
        self.faults = {}
        self.rewrite = lambda _obj: None
        for obj in objects:
            self._store(copy.deepcopy(obj))

    def writes(self):
        return [entry for entry in self.log if entry[0] != "get"]

    def fail(self, verb, *faults):
        """The next requests of this verb end like this; None lets one through."""
        self.faults.setdefault(verb, []).extend(faults)

    async def get(self, kind, namespace, name):
        self._enter("get", kind, name)
        return copy.deepcopy(self.objects.get((kind, namespace, name)))

    async def apply(self, manifest, *, force=False, subresource=None):
        ref = object_reference(manifest)
        verb = "apply" if subresource is None else f"apply/{subresource}"
        self._enter(verb, ref.kind, ref.name, force)
        live = self.objects.get((ref.kind, ref.namespace, ref.name))
        if live is None:
            if subresource:
                raise Gone("not found", code=404)
            live = {"metadata": {"uid": f"uid-{ref.name}-{self.version}"}}
        elif not _is_pinned_to(manifest, live):
            raise Conflict("the object has been modified", code=409)
        self._merge(live, manifest, subresource or "")
        self.rewrite(live)
        return self._store(live)

    async def create(self, manifest):
        ref = object_reference(manifest)
        self._enter("create", ref.kind, ref.name)
        if (ref.kind, ref.namespace, ref.name) in self.objects:
            raise Conflict("exists", code=409)
        return self._store(copy.deepcopy(manifest))

    async def patch(self, ref, body):
        self._enter("patch", ref.kind, ref.name)
        live = self.objects[ref.kind, ref.namespace, ref.name]
        live.update(body)
        return self._store(live)

    async def delete(self, ref, *, resource_version=None, propagation="Background"):
        self._enter("delete", ref.kind, ref.name)
        key = (ref.kind, ref.namespace, ref.name)
        live = self.objects.get(key)
        if live is None:
            raise Gone("not found", code=404)
        metadata = live["metadata"]
        if ref.uid != metadata["uid"] or resource_version != metadata["resourceVersion"]:
            raise Conflict("precondition failed", code=409)
        if metadata.get("finalizers"):
            metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
            return self._store(live)
        del self.objects[key]
        return {"kind": "Status", "status": "Success"}

    def _enter(self, verb, kind, name, *details):
        self.log.append((verb, kind, name, *details))
        pending = self.faults.get(verb)
        fault = pending.pop(0) if pending else None
        if fault is not None:
            raise fault

    def _merge(self, live, manifest, subresource):
        entries = live["metadata"].get("managedFields", [])
        others = [entry for entry in entries if entry.get("subresource", "") != subresource]
        body = copy.deepcopy(dict(manifest))
        own = _fields({k: v for k, v in body.items() if k not in ("apiVersion", "kind")})
        metadata = own.get("f:metadata", {})
        for name in ("f:name", "f:namespace", "f:resourceVersion"):
            metadata.pop(name, None)
        if not metadata:
            own.pop("f:metadata", None)
        if not subresource:
            live["metadata"]["generation"] = live["metadata"].get("generation", 0) + 1
        _update(live, body)
        entry = {
            "manager": "modelwright",
            "operation": "Apply",
            "apiVersion": manifest["apiVersion"],
            "fieldsV1": own,
        }
        if subresource:
            entry["subresource"] = subresource
        live["metadata"]["managedFields"] = [*others, entry]

    def _store(self, obj):
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        ref = object_reference(obj)
        self.objects[ref.kind, ref.namespace, ref.name] = obj
        return copy.deepcopy(obj)


def _is_pinned_to(manifest, live):
    version = manifest["metadata"].get("resourceVersion")
    return version in (None, live["metadata"]["resourceVersion"])


def _fields(value):
    if isinstance(value, dict):
        return {f"f:{key}": _fields(item) for key, item in value.items()}
    return {}


def _update(live, body):
    for key, value in body.items():
        if isinstance(value, dict):
            _update(live.setdefault(key, {}), value)
        else:
            live[key] = value
