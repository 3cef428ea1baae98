"""A bundle of Cedar policies with its schema and its golden decisions, behind a wrapper that denies whenever it is unsure.

Theory of operation. Cedar evaluates every policy; a `forbid` whose evaluation errors is *skipped*, so a missing attribute, a
value of the wrong type or an unknown entity can turn a deny into an Allow. Hence the rule here: permit only when Cedar says Allow
**and** reports no errors **and** names at least one policy that has an `@id`. Everything else is a deny.

A bundle is a folder: `*.cedar` (each policy with a unique `@id`), `schema.cedarschema`, `golden.json` and `golden-*.json`, and perhaps
`bundle.json` (`{"revoke": true}`). Those of `BUNDLES` are picked by name; what they have in common is a link. Loading parses once
(handles are kept: 0.1 ms a decision against 1.4 ms when text is parsed again), validates the policies strictly against
the schema, and runs the golden decisions: a bundle that decides one of them differently is refused. `version` is SHA-256 over all of it.

A bundle is stored under its version, and what is found there is that bundle or none, whoever may write to the store.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from shared.policy.asking import Asked, of_action, of_read
from shared.policy.types import PolicyDecision, PolicyRequest, ReadRequest

if TYPE_CHECKING:  # a command that only names a bundle should not load Cedar, which takes 0.1 s
    import cedarpy

    from shared.policy.memo import Memo

BUNDLES = Path(__file__).with_name("bundles")
DEFAULT = "reports"
DEFAULT_BUNDLE = BUNDLES / DEFAULT
SCHEMA_FILE = "schema.cedarschema"
GOLDEN_FILE = "golden.json"
MORE_GOLDEN = "golden-*.json"
OPTIONS_FILE = "bundle.json"
MAX_BYTES = 512 * 1024
_OF_MEMORY = re.compile(r'^\s*action[^;{}]*"memory\.read"', re.MULTILINE)
Contents = Mapping[str, bytes]
"""The files of a bundle by name."""


class BadBundle(Exception):
    """The bundle cannot be used; the message says which file, which policy or which golden decision."""


class BundleOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`revoke`: with this bundle, what was authorised under earlier ones is void, instead of good to its expiry."""

    revoke: bool = False


class Golden(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A decision the bundle must make, of an action or of a read of memory, and by which policies, when `policy_ids` are given."""

    name: str
    request: PolicyRequest | None = None
    read: ReadRequest | None = None
    allow: bool
    policy_ids: tuple[str, ...] | None = None


_GOLDEN = msgspec.json.Decoder(tuple[Golden, ...])


class Bundle:
    """One loaded, validated, immutable version of the policies."""

    def __init__(
        self,
        version: str,
        policies: cedarpy.PolicySet,
        schema: cedarpy.Schema,
        ids: dict[str, str],
        *,
        revokes: bool,
        of_memory: bool,
        golden: int,
        memo: Memo,
    ) -> None:
        self.version = version
        self.golden = golden
        self.revokes = revokes
        self._of_memory = of_memory
        self._memo = memo
        self._policies = policies
        self._schema = schema
        self._ids = ids  # Cedar's positional id → our @id

    @classmethod
    def load(cls, folder: Path) -> Bundle:
        """Read, validate and prove the bundle in `folder`. Raises `BadBundle`, nothing else."""
        return cls.of(read_folder(folder), str(folder))

    @classmethod
    def of(cls, contents: Contents, where: str) -> Bundle:
        """Validate and prove these files. Raises `BadBundle`, nothing else; `where` is for its message."""
        import cedarpy

        from shared.policy.memo import Memo  # it counts, and metrics take as long to load

        size = sum(map(len, contents.values()))
        if size > MAX_BYTES:
            raise BadBundle(f"{where}: {size} bytes, a bundle may have {MAX_BYTES}")
        try:
            cedar = "\n".join(contents[name].decode() for name in sorted(contents) if name.endswith(".cedar"))
            more = [contents[name] for name in sorted(contents) if fnmatch(name, MORE_GOLDEN)]
            golden = _GOLDEN.decode(contents[GOLDEN_FILE])
            more_golden = [case for text in more for case in _GOLDEN.decode(text)]
            options = msgspec.json.decode(contents.get(OPTIONS_FILE, b"{}"), type=BundleOptions)
            schema_text = contents[SCHEMA_FILE].decode()
            schema = cedarpy.Schema.from_str(schema_text)
            policies = cedarpy.PolicySet.from_str(cedar)
            validation = cedarpy.validate_policies(cedar, schema)
            as_json = cedarpy.policies_to_json_str(cedar)
            ids, memo = _policy_ids(as_json), Memo(as_json)
        except (KeyError, ValueError, TypeError) as error:  # msgspec's errors are ValueErrors
            raise BadBundle(f"{where}: {error}") from error
        if not validation.validation_passed:
            raise BadBundle(f"{where}: " + "; ".join(str(error) for error in validation.errors))
        if not golden:
            raise BadBundle(f"{where}: there are no golden decisions in {GOLDEN_FILE}, so nothing proves the bundle")
        of_memory = _OF_MEMORY.search(schema_text) is not None
        bundle = cls(
            version_of(contents),
            policies,
            schema,
            ids,
            revokes=options.revoke,
            of_memory=of_memory,
            golden=len(golden) + len(more_golden),
            memo=memo,
        )
        for case in (*golden, *more_golden):
            bundle._prove(case, where)
        return bundle

    def decide(self, request: PolicyRequest) -> PolicyDecision:
        """The decision; a deny whenever anything at all is in doubt. Never raises."""
        return self._decide(lambda: of_action(request))

    def read(self, request: ReadRequest) -> PolicyDecision:
        """As `decide`, of a read of memory. A bundle whose schema does not speak of memory leaves it private."""
        if not self._of_memory:
            return private(request, self.version)
        return self._decide(lambda: of_read(request))

    def _decide(self, asked: Callable[[], Asked]) -> PolicyDecision:
        import cedarpy

        try:
            query, entities = asked()
            key = self._memo.key(query, entities)
            if (decided := self._memo.get(key)) is not None:
                return decided
            known = cedarpy.Entities.from_json_str(json.dumps(entities), self._schema)
            answer = cedarpy.is_authorized(query, self._policies, known, self._schema)
            decision, diagnostics = answer.decision, answer.diagnostics
            errors, reasons = tuple(diagnostics.errors), list(diagnostics.reasons)
        except Exception as error:  # the one place where anything unforeseen must be a no
            return self._answer("policy_error", errors=(f"{type(error).__name__}: {error}"[:300],))
        decided = self._decided(decision, reasons, errors)
        self._memo.put(key, decided)
        return decided

    def _decided(self, decision: cedarpy.Decision, reasons: list[str], errors: tuple[str, ...]) -> PolicyDecision:
        """Permitted only on Allow, without errors and for a named reason."""
        import cedarpy

        ids = tuple(sorted(self._ids[reason] for reason in reasons if reason in self._ids))
        if errors or len(ids) != len(reasons) or decision not in (cedarpy.Decision.Allow, cedarpy.Decision.Deny):
            return self._answer("policy_error", ids, tuple(e[:300] for e in errors) or ("undecided",))
        if decision == cedarpy.Decision.Allow:
            return (
                self._answer("permitted", ids)
                if ids
                else self._answer("policy_error", errors=("allowed for no reason",))
            )
        return self._answer("policy_denied" if ids else "no_matching_permit", ids)

    def _answer(self, reason: str, ids: tuple[str, ...] = (), errors: tuple[str, ...] = ()) -> PolicyDecision:
        return PolicyDecision(
            allow=reason == "permitted",
            reason=reason,  # type: ignore[arg-type]
            policy_ids=ids,
            version=self.version,
            errors=errors,
        )

    def _prove(self, case: Golden, where: str) -> None:
        if (case.request is None) == (case.read is None):
            raise BadBundle(f"{where}: golden decision {case.name!r} needs either a `request` or a `read`")
        got = self.decide(case.request) if case.request is not None else self.read(case.read)  # type: ignore[arg-type]
        if got.allow != case.allow or (case.policy_ids is not None and set(got.policy_ids) != set(case.policy_ids)):
            wanted = f"allow={case.allow} by {case.policy_ids}"
            raise BadBundle(f"{where}: golden decision {case.name!r}: wanted {wanted}, got {got}")


def private(request: ReadRequest, version: str = "") -> PolicyDecision:
    """Where no policy speaks of memory: personas read their own, people with the scope `read` what they could always read."""
    allow = request.action == "memory.read" and (
        "read" in request.scopes if request.person else request.namespace == "own"
    )
    return PolicyDecision(allow=allow, reason="permitted" if allow else "no_matching_permit", version=version)


def read_folder(folder: Path) -> Contents:
    """Every file of the bundle in the folder, by name. Raises `BadBundle`."""
    files = [*folder.glob("*.cedar"), *folder.glob(MORE_GOLDEN), folder / SCHEMA_FILE, folder / GOLDEN_FILE]
    if (folder / OPTIONS_FILE).exists():
        files.append(folder / OPTIONS_FILE)
    try:
        return {file.name: file.read_bytes() for file in files}
    except OSError as error:
        raise BadBundle(f"{folder}: {error}") from error


def found(wanted: str) -> Path:
    """The folder of a bundle: a name among `BUNDLES`, or a path. Raises `BadBundle`, which says what there is."""
    if "/" not in wanted and (BUNDLES / wanted / SCHEMA_FILE).is_file():
        return BUNDLES / wanted
    if wanted and Path(wanted).is_dir():
        return Path(wanted)
    raise BadBundle(f"{wanted!r} is no folder and no bundle; there are {', '.join(names())}")


def beside(wanted: str) -> Path | None:
    """The folder of a shadow; what is written as a path may come and go. Raises `BadBundle` for a name nobody knows."""
    if not wanted:
        return None
    return Path(wanted) if "/" in wanted else found(wanted)


def names() -> tuple[str, ...]:
    """The bundles that can be picked by name."""
    return tuple(sorted(folder.name for folder in BUNDLES.iterdir() if (folder / SCHEMA_FILE).is_file()))


def about(folder: Path) -> str:
    """The first sentence of its policies."""
    return (folder / "gate.cedar").read_text().partition("\n")[0].removeprefix("// ")


def version_of(contents: Contents) -> str:
    """SHA-256 over names, lengths and bytes of all files."""
    digest = hashlib.sha256()
    for name, content in sorted(contents.items()):
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def packed(contents: Contents) -> bytes:
    """As a bundle is stored, under its version."""
    return msgspec.msgpack.encode(dict(sorted(contents.items())))


def unpacked(stored: bytes, version: str) -> Contents:
    """What was stored under the version. Raises `BadBundle` when it is anything else, whoever put it there."""
    try:
        contents = msgspec.msgpack.decode(stored, type=dict[str, bytes])
    except msgspec.MsgspecError as error:
        raise BadBundle(f"the bundle stored as {version[:12]} cannot be read: {error}") from error
    if version_of(contents) != version:
        raise BadBundle(f"what is stored as {version[:12]} is not that bundle")
    return contents


def _policy_ids(policies_json: str) -> dict[str, str]:
    """Cedar's positional policy id → the `@id` annotation. Raises `ValueError` for templates, and ids missing or doubled."""
    parsed = json.loads(policies_json)
    if parsed["templates"] or parsed.get("templateLinks"):
        raise ValueError("policy templates are not supported: write the policy out")
    ids: dict[str, str] = {}
    for position, policy in parsed["staticPolicies"].items():
        name = (policy.get("annotations") or {}).get("id")
        if not name or name in ids.values():
            raise ValueError(f"{position} needs an @id of its own; it has {name!r}")
        ids[position] = name
    return ids
