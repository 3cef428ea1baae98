"""What a process can be told, and what it says when it cannot use it."""

from __future__ import annotations

import ast
import re
from operator import attrgetter
from pathlib import Path

import msgspec
import pytest

from shared.configuration import KEYS, RENAMED, VARIABLES, load
from shared.contracts.services import SERVICES
from shared.settings import READS, Core, Nats, Settings, SettingsError, listed, reads, variable

ROOT = Path(__file__).resolve().parents[2]


def refused(environ: dict[str, str], process: str | None = None) -> str:
    with pytest.raises(SettingsError) as error:
        load(environ, process=process)
    return str(error.value)


def config(tmp_path: Path, text: str) -> dict[str, str]:
    path = tmp_path / "swarm.toml"
    path.write_text(text)
    return {"SWARM_CONFIG": str(path)}


def test_without_a_word_the_defaults_hold() -> None:
    assert Settings() == load({})


def test_the_environment_goes_before_the_file_and_a_secret_may_be_in_one_of_its_own(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hush\n")
    told = config(tmp_path, 'data_dir = "d"\n[placement]\nshards = 8\nlease_ttl_s = 5\n[s3]\naccess_key = "me"\n')
    settings = load({**told, "SWARM_PLACEMENT_SHARDS": "16", "SWARM_S3_SECRET_KEY_FILE": str(secret)})
    assert ("d", 16, 5, "me", "hush") == (
        settings.data_dir,
        settings.placement.shards,
        settings.placement.lease_ttl_s,
        settings.s3.access_key,
        settings.s3.secret_key,
    )


def test_a_secret_is_the_same_from_the_environment_as_from_a_file_that_ends_with_a_line() -> None:
    assert load({"SWARM_MODEL_API_KEY": "hush\n"}).model.api_key == "hush"
    assert load({"SWARM_MODEL_NAME": "as it is "}).model.name == "as it is "


def test_keys_of_the_api_are_in_the_file_or_in_one_of_their_own(tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text('[[keys]]\nsha256 = "b"\nprincipal = "bob"\nscopes = ["read"]\n')
    told = config(
        tmp_path, '[[http.keys]]\nsha256 = "a"\nprincipal = "ada"\nscopes = []\n[global]\ntokens_per_minute = 2000001\n'
    )
    assert ["ada"] == [key.principal for key in load(told).http.keys]
    assert 2_000_001 == load(told).global_.tokens_per_minute
    assert ["bob"] == [key.principal for key in load({**told, "SWARM_HTTP_KEYS_FILE": str(keys)}).http.keys]


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("HTTP_PORT", "abc", "`int`"),
        ("HTTP_PORT", "70000", "<= 65535"),
        ("HTTP_PORT", "", "`int`"),
        ("HTTP_BURST", "0", ">= 1"),
        ("GOVERNOR_MAX_ROOTS", "0", ">= 1"),
        ("SWARM_TOKENS_PER_MINUTE", "-5", ">= 0"),
        ("REQUIRE_SYNC_ALWAYS", "yes", "`bool`"),
        ("PLACEMENT_SHARDS", "0", ">= 1"),
        ("PLACEMENT_LEASE_TTL_S", "-1", ">= 1"),
        ("GRACE_S", "nan", ">= 0"),
        ("GOVERNOR_RECONCILE_EVERY_S", "0", "> 0"),
        ("APPROVAL_TTL_S", "inf", "<= 1000000000"),
        ("THINKER", "modle", "'rules' or 'model'"),
        ("LOG_FORMAT", "jsno", "'json' or 'console'"),
        ("INSTANCE", "a.b c>", "letters, digits"),
        ("KILL_SWITCH_FILE", "stop", "the whole path"),
    ],
)
def test_a_value_that_cannot_be_used_is_named_with_what_would_do(name: str, value: str, wanted: str) -> None:
    said = refused({f"SWARM_{name}": value})
    assert said.startswith(f"SWARM_{name}={value!r}") and wanted in said


def test_a_limit_of_a_swarm_above_the_whole_meshs_is_refused() -> None:
    for what in ("TOKENS", "COMPUTE_MS", "ACTIONS"):
        assert f"SWARM_SWARM_{what}_PER_MINUTE" in refused({f"SWARM_SWARM_{what}_PER_MINUTE": "9000000"})


def test_a_file_that_is_missing_a_folder_or_no_text_is_named(tmp_path: Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    for name in ("SWARM_CONFIG", "SWARM_S3_SECRET_KEY_FILE", "SWARM_HTTP_KEYS_FILE"):
        for path in (binary, tmp_path, tmp_path / "missing"):
            assert refused({name: str(path)}).startswith(f"{name}={path}: ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('nats_ulr = "nats://x"', "there is no setting 'nats_ulr'; docs"),
        ('nats_url = "nats://x"', "there is no setting 'nats_url', it is 'url' of [nats]; docs"),
        ("shards = 8", "there is no setting 'shards', it is 'shards' of [placement]; docs"),
        ('[http]\nallow = "x:1"', "there is no setting 'http.allow'; docs"),
        ('[sensor]\nallow = "x:1"', "there is no setting 'sensor'; docs"),
        ("http = 3", "there is no setting 'http'; docs"),
    ],
)
@pytest.mark.parametrize("process", [None, *READS])
def test_a_name_nobody_knows_is_refused_by_all(tmp_path: Path, text: str, said: str, process: str | None) -> None:
    told = config(tmp_path, text)
    assert refused(told, process).startswith(f"SWARM_CONFIG={told['SWARM_CONFIG']}: {said}")


def test_a_process_is_not_ended_by_what_others_are_told(tmp_path: Path) -> None:
    told = config(tmp_path, '[http]\nport = "abc"\n[placement]\nshards = 8\n')
    told |= {"SWARM_MODEL_TIMEOUT_S": "soon", "SWARM_S3_SECRET_KEY_FILE": "/not/there", "SWARM_FOUR_EYES": "false"}
    assert 8 == load(told, process="governor").placement.shards
    assert 4096 == load(told, process="governor").http.port
    assert "SWARM_HTTP_PORT" in refused({"SWARM_CONFIG": told["SWARM_CONFIG"]}, "gateway")
    assert "SWARM_CORE_SECRET_FILE=/not/there" in refused({"SWARM_CORE_SECRET_FILE": "/not/there"}, "policy_gate")


@pytest.mark.parametrize("old", RENAMED)
def test_a_name_that_is_no_more_is_refused_with_the_one_it_has_now(old: str) -> None:
    for name in (f"SWARM_{old}", f"SWARM_{old}_FILE"):
        assert f"SWARM_{old} is no more: it is {variable(RENAMED[old])} now" == refused({name: "1"})
    assert RENAMED[old] in KEYS and f"SWARM_{old}" not in VARIABLES


@pytest.mark.parametrize(
    ("process", "environ", "said"),
    [
        ("policy_gate", {}, "SWARM_VERDICT_SEED_FILE is not set; the gate signs"),
        ("actuator", {}, "SWARM_VERDICT_ROOT is not set; by it it is known"),
        ("memory_compactor", {}, "SWARM_S3_ENDPOINT is not set; it is the host:port"),
        ("persona_runner", {"SWARM_THINKER": "model"}, "SWARM_MODEL_URL is not set; SWARM_THINKER=model needs it"),
    ],
)
def test_what_a_service_cannot_do_without_is_asked_for(process: str, environ: dict[str, str], said: str) -> None:
    assert refused(environ, process).startswith(said)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ('[s3]\nsecret_key = ["hush"]', "S3_SECRET_KEY"),
        ('[http]\nkeys = [{ token = "hush" }]', "HTTP_KEYS"),
        ("[model]\napi_key = 4711", "MODEL_API_KEY"),
        ('[nats]\nurl = ["nats://me:hush@h"]', "NATS_URL"),
    ],
)
def test_what_may_be_a_secret_is_not_said(tmp_path: Path, line: str, name: str) -> None:
    said = refused(config(tmp_path, line))
    assert said.startswith(f"SWARM_{name}: ") and "hush" not in said and "4711" not in said


def test_settings_do_not_show_what_is_in_them() -> None:
    shown = repr(Settings(core=Core(secret="hush"))) + repr(Core(secret="hush"))
    assert "hush" not in shown


def test_a_list_is_separated_by_commas_and_no_empty_item_counts() -> None:
    assert ("a", "b") == listed(" a,,b , ")


def test_every_default_is_one_that_may_be_given() -> None:
    assert Settings() == msgspec.convert(msgspec.to_builtins(Settings()), Settings)
    assert all(attrgetter(name.replace("global.", "global_."))(Settings()) == key.default for name, key in KEYS.items())


def test_every_service_has_its_row_and_every_setting_somebody_who_reads_it() -> None:
    assert {*SERVICES, "bootstrap", "bucket", "keys", "supervisor"} == set(READS)
    assert [] == [key for key in KEYS if not any(reads(process, key) for process in READS)]
    known = {*KEYS, *(key.partition(".")[0] for key in KEYS)}
    assert [] == [row for rows in READS.values() for row in rows if row not in known]


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_uses_no_setting_it_is_not_told(service: str) -> None:
    used = set()
    for path in sorted((ROOT / "services" / service).glob("*.py")) + sorted(
        (ROOT / "shared" / "runtime").rglob("*.py")
    ):
        for node in ast.walk(ast.parse(path.read_text())):
            key = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
            key = (
                key.removeprefix("self.")
                .removeprefix("service.")
                .removeprefix("settings.")
                .replace("global_", "global")
            )
            if key in KEYS:
                used.add(key)
    assert len(used) > 5
    of_a_runner = {"placement.serves"}  # which the runtime asks of everybody, and others have not
    assert [] == sorted(key for key in used - of_a_runner if not reads(service, key))


def test_dedup_ids_are_keyed_with_what_core_shares_else_with_the_process_own_seed(tmp_path: Path) -> None:
    seed = tmp_path / "runner.nk"
    seed.write_text("SUA")
    nats = Nats(seed_file=str(seed))
    shared, own = Settings(core=Core(secret="s"), nats=nats), Settings(nats=nats)
    assert shared.dedup_key() == Settings(core=Core(secret="s")).dedup_key()
    assert len({shared.dedup_key(), own.dedup_key(), Settings().dedup_key()}) == 3


def test_nothing_that_is_told_names_a_setting_that_is_no_more() -> None:
    old = re.compile(rf"\bSWARM_({'|'.join(RENAMED)})(_FILE)?\b")
    folders = ("deploy", "docs", "proto", "scripts", "services", "shared")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    files += [ROOT / name for name in ("README.md", "compose.yaml", ".env.example")]
    kinds = {".py", ".md", ".yaml", ".json", ".toml", ".example", ""}
    said = {
        path.relative_to(ROOT).as_posix()
        for path in files
        if path.suffix in kinds and old.search(path.read_text("utf-8", "ignore"))
    }
    assert len(files) > 200 and said <= {"docs/settings.md"}
